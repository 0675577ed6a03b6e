"""Channel groups follow from relations alone."""

from __future__ import annotations

import numpy as np

import shohin as sh
from shohin import nn


def x(*shape):
    return np.ones(shape, np.float32)


def groups(net, *inputs):
    """size -> the dims that go together, of every prunable group."""
    found = sh.channels(net)(*inputs)
    return [(g.size, {(s.path, s.dim) for s in g.slices}) for g in found.groups if g.prunable]


class Net(nn.Module):
    def __init__(self, forward, **layers):
        self._run = forward
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, *inputs):
        return self._run(self, *inputs)


def test_a_residual_ties():
    net = Net(
        lambda s, x: s.head((h := s.a(x)) + s.b(h)),
        a=nn.Conv2d(3, 8, 1),
        b=nn.Conv2d(8, 8, 3, padding=1),
        head=nn.Conv2d(8, 2, 1),
    )
    assert groups(net, x(1, 4, 4, 3)) == [
        (8, {("a.weight", 0), ("a.bias", 0), ("b.weight", 0), ("b.weight", 3), ("b.bias", 0), ("head.weight", 3)})
    ]


def test_a_concatenation_keeps_its_parts_apart():
    net = Net(
        lambda s, x: s.head(sh.concat([s.a(x), s.b(x)], axis=-1)),
        a=nn.Conv2d(3, 4, 1),
        b=nn.Conv2d(3, 6, 1),
        head=nn.Conv2d(10, 2, 1),
    )
    assert groups(net, x(1, 4, 4, 3)) == [
        (4, {("a.weight", 0), ("a.bias", 0), ("head.weight", 3)}),
        (6, {("b.weight", 0), ("b.bias", 0), ("head.weight", 3)}),
    ]
    found = sh.channels(net)(x(1, 4, 4, 3))
    last = [s for g in found.groups if g.size == 6 for s in g.slices][-1]
    assert last.index.tolist() == [-1] * 4 + list(range(6)) and last.reads


def test_a_sum_of_two_concatenations_is_cut_at_both_places():
    cat = lambda s, x: s.head(sh.concat([s.a(x), s.b(x)], axis=-1) + sh.concat([s.c(x), s.d(x)], axis=-1))
    net = Net(
        cat,
        a=nn.Conv2d(3, 4, 1),
        b=nn.Conv2d(3, 6, 1),
        c=nn.Conv2d(3, 7, 1),
        d=nn.Conv2d(3, 3, 1),
        head=nn.Conv2d(10, 2, 1),
    )
    assert [n for n, _ in groups(net, x(1, 4, 4, 3))] == [4, 3, 3]


def test_depthwise_grouped_and_a_grouped_convolution_after_a_concatenation():
    net = Net(
        lambda s, x: s.head(s.d(s.a(x))),
        a=nn.Conv2d(3, 8, 1),
        d=nn.DepthwiseConv2d(8, 3, padding=1),
        head=nn.Conv2d(8, 2, 1),
    )
    assert groups(net, x(1, 4, 4, 3)) == [
        (8, {("a.weight", 0), ("a.bias", 0), ("d.weight", 0), ("d.bias", 0), ("head.weight", 3)})
    ]
    net = Net(
        lambda s, x: s.head(s.g(sh.concat([s.a(x), s.b(x)], axis=-1))),
        a=nn.Conv2d(3, 8, 1),
        b=nn.Conv2d(3, 4, 1),
        g=nn.Conv2d(12, 6, 1, groups=3),
        head=nn.Conv2d(6, 2, 1),
    )
    found = groups(net, x(1, 4, 4, 3))
    assert [n for n, _ in found] == [2, 4, 2]  # groups of a; channels of each group; outputs of each
    assert ("g.weight", 3) in found[1][1] and ("a.weight", 0) in found[1][1] and ("b.weight", 0) in found[1][1]


def test_flatten_to_linear_and_batch_norm():
    net = Net(
        lambda s, x: s.fc(sh.flatten(s.n(s.a(x)), 1)), a=nn.Conv2d(1, 5, 3), n=nn.BatchNorm2d(5), fc=nn.Linear(20, 2)
    )
    (found,) = groups(net, x(1, 4, 4, 1))
    assert found[0] == 5 and ("fc.weight", 1) in found[1] and ("n.running_var", 0) in found[1]
    (group,) = (g for g in sh.channels(net)(x(1, 4, 4, 1)).groups if g.prunable)
    assert next(s for s in group.slices if s.path == "fc.weight").index.tolist() == list(range(5)) * 4


def test_slices_cut_apart_what_they_take():
    net = Net(lambda s, x: s.fc(sh.concat([(h := s.a(x))[:, 3:], h[:, :3]], axis=1)), a=nn.Linear(3, 8), fc=nn.Linear(8, 2))
    found = sh.channels(net)(x(1, 3))
    parts = [g for g in found.groups if g.prunable]
    assert [g.size for g in parts] == [3, 5] and found.sliced() == set(parts)
    read = [s for g in parts for s in g.slices if s.path == "fc.weight"]
    assert [s.index.tolist() for s in read] == [[-1] * 5 + [0, 1, 2], [0, 1, 2, 3, 4, -1, -1, -1]]


def test_heads_of_attention_go_whole():
    net = nn.Sequential(nn.Linear(6, 16), nn.MultiheadAttention(16, 2), nn.Linear(16, 2))
    sizes = [(g.size, g.fixed) for g in sh.channels(net)(x(1, 5, 6)).groups if any(s.path == "1.in_proj_weight" and s.dim == 0 for s in g.slices)]
    assert sizes[0] == (2, "") and sizes[1][0] == 8 and "without a weight" in sizes[1][1]


def test_what_cannot_go_says_why():
    net = Net(lambda s, x: s.fc(s.n(s.a(x))), a=nn.Linear(3, 8), n=nn.LayerNorm(8), fc=nn.Linear(8, 2))
    assert groups(net, x(1, 3)) == []
    assert "without a weight" in next(g.fixed for g in sh.channels(net)(x(1, 3)).groups if g.size == 8)
    net = Net(lambda s, x: s.fc(s.a(x)[:, ::2]), a=nn.Linear(3, 8), fc=nn.Linear(4, 2))
    assert groups(net, x(1, 3)) == []
    assert "a step of 2" in next(g.fixed for g in sh.channels(net)(x(1, 3)).groups if g.size == 8)
    net = Net(
        lambda s, x: s.fc(s.a(x) * sh.const(np.arange(8, dtype=np.float32))), a=nn.Linear(3, 8), fc=nn.Linear(8, 2)
    )
    assert "constant" in str(sh.channels(net)(x(1, 3)))


def test_a_traced_program_and_a_function_of_a_module():
    net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
    by_trace = sh.channels(sh.trace(net)(x(1, 3)))
    by_function = sh.channels(lambda net, x: sh.sum(net(x)))(net, x(1, 3))
    for found in (by_trace, by_function):
        assert [g.size for g in found.groups if g.prunable] == [8]
    assert [s.path for g in by_function.groups if g.prunable for s in g.slices] == ["0.weight", "0.bias", "2.weight"]


def test_training_ties_the_statistics_that_it_writes():
    net = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
    found = sh.channels(lambda net, x: net(x))(net, x(4, 3))
    assert ("1.running_mean", 0) in {(s.path, s.dim) for g in found.groups if g.size == 8 for s in g.slices}
