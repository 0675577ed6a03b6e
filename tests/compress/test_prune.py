"""A pruned network is smaller, plain, and equal to the network with zeros where the channels were."""

from __future__ import annotations

import numpy as np
import pytest

import shohin as sh
from shohin import nn
from shohin.compress import Plan
from shohin.compress.prune import IMPORTANCE, PruneChannels, prune_channels, shrink
from shohin.core.errors import PlanError
from tests.compress.random_nets import Tied


def masked(net, found, kept):
    """A copy whose parameters are zero wherever a channel that goes has one."""
    copy = sh.copy(net)
    cells = copy.cells()
    for path, masks in found.masks(kept).items():
        array = cells[path].read().numpy().copy()
        for d, mask in enumerate(masks):
            array[(slice(None),) * d + (~mask,)] = 0
        cells[path].write(array)
    return copy


def awaken(net, rng):
    """Batch norms with statistics that are not 0 and 1."""
    for cell in net.cells(nn.Buffer).values():
        cell.write(rng.uniform(0.5, 1.5, cell.shape).astype(np.float32))
    return net.eval()


def check(net, x, rng, at_least=1):
    found = sh.channels(net)(x)
    kept = {}
    for g in found.groups:
        if g.prunable:
            mask = rng.random(g.size) < 0.6
            mask[rng.integers(g.size)] = True
            kept[g] = mask
    assert len(kept) >= at_least
    small = shrink(net, found, kept).eval()
    np.testing.assert_allclose(small(x).numpy(), masked(net, found, kept).eval()(x).numpy(), rtol=1e-4, atol=1e-5)
    size = lambda n: sum(c.read().size for c in n.cells().values())
    assert type(small) is type(net) and size(small) <= size(net)
    return small


class Branched(nn.Module):
    """Layers at random: plain, depthwise, grouped, batch norm, pooling, residual, concatenation."""

    def __init__(self, rng):
        self.plan, self.layers, shapes = [], [], [(8, 3)]
        for _ in range(int(rng.integers(4, 9))):
            kind = str(rng.choice(["conv", "depthwise", "grouped", "norm", "act", "pool", "add", "concat", "squeeze"]))
            a = int(rng.integers(len(shapes)))
            size, c = shapes[a]
            b = int(rng.choice([i for i, s in enumerate(shapes) if s[0] == size]))
            layer = None
            if kind == "conv":
                o, stride = int(rng.integers(2, 9)), int(rng.integers(1, 3)) if size > 2 else 1
                layer, new = nn.Conv2d(c, o, 3, stride=stride, padding=1), ((size - 1) // stride + 1, o)
            elif kind == "depthwise":
                m = int(rng.integers(1, 3))
                layer, new = nn.DepthwiseConv2d(c, 3, padding=1, multiplier=m), (size, m * c)
            elif kind == "grouped":
                g = int(rng.choice([g for g in range(1, c + 1) if c % g == 0]))
                layer, new = nn.Conv2d(c, g * 2, 1, groups=g), (size, g * 2)
            elif kind == "norm":
                layer, new = nn.BatchNorm2d(c), (size, c)
            elif kind == "act":
                layer, new = (nn.Hardswish, nn.ReLU, nn.Sigmoid)[int(rng.integers(3))](), (size, c)
            elif kind == "pool":
                if size < 4:
                    continue
                layer, new = (nn.MaxPool2d(2), nn.AvgPool2d(2))[int(rng.integers(2))], (size // 2, c)
            elif kind == "squeeze":
                layer, new = nn.SqueezeExcite(c), (size, c)
            elif kind == "add":
                layer, new = nn.Conv2d(shapes[b][1], c, 1), (size, c)
            else:
                new = (size, c + shapes[b][1])
            self.layers.append(layer if layer is not None else nn.Identity())
            self.plan.append((kind, a, b))
            shapes.append(new)
        size, c = shapes[-1]
        self.flat = bool(rng.integers(2))
        self.head = nn.Linear(size * size * c if self.flat else c, 4)
        self.live = {len(self.plan)}  # values that the last one needs
        for k in reversed(range(len(self.plan))):
            if k + 1 in self.live:
                kind, a, b = self.plan[k]
                self.live = {*self.live, a, *((b,) if kind in ("add", "concat") else ())}

    def forward(self, x):
        values = [x]
        for k, ((kind, a, b), layer) in enumerate(zip(self.plan, self.layers)):
            y = values[a]
            if k + 1 not in self.live:
                values.append(x)
                continue
            values.append(
                y + layer(values[b])
                if kind == "add"
                else sh.concat([y, values[b]], axis=-1)
                if kind == "concat"
                else layer(y)
            )
        y = values[-1]
        return self.head(sh.flatten(y, 1) if self.flat else y.mean(axis=(1, 2)))


@pytest.mark.parametrize("seed", range(50))
def test_random_branched_networks(seed):
    rng = np.random.default_rng(seed)
    sh.seed(seed)
    net = awaken(Branched(rng), rng)
    check(net, rng.standard_normal((2, 8, 8, 3)).astype(np.float32), rng, 0)


@pytest.mark.parametrize("seed", [pytest.param(k, marks=pytest.mark.slow if k >= 40 else ()) for k in range(200)])
def test_random_tied_networks(seed):
    rng = np.random.default_rng(1000 + seed)
    sh.seed(seed)
    net = awaken(Tied(rng), rng)
    check(net, rng.standard_normal((2, 6, 6, 3)).astype(np.float32), rng, 0)


class Awkward(nn.Module):
    def __init__(self):
        self.stem, self.deep, self.norm = (
            nn.Conv2d(3, 16, 3, padding=1),
            nn.DepthwiseConv2d(16, 3, padding=1),
            nn.BatchNorm2d(16),
        )
        self.res, self.side, self.squeeze = nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(16, 16, 1), nn.SqueezeExcite(32)
        self.grouped, self.fc = nn.Conv2d(32, 32, 3, padding=1, groups=4), nn.Linear(2 * 2 * 32, 10)

    def forward(self, x):
        x = nn.hardswish(self.norm(self.deep(self.stem(x))))
        x = x + self.res(x)
        x = sh.concat([nn.functional.max_pool2d(x, 2), nn.functional.avg_pool2d(self.side(x), 2)], axis=-1)
        return self.fc(sh.flatten(nn.functional.max_pool2d(nn.relu(self.grouped(self.squeeze(x))), 2), 1))


def test_the_awkward_network():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 8, 8, 3)).astype(np.float32)
    net = awaken(Awkward(), rng)
    check(net, x, rng, 4)
    small = prune_channels(net, x, 0.5)
    assert small.deep.groups == small.deep.in_channels == small.deep.out_channels == small.stem.out_channels
    assert small(x).shape == (2, 10) and sh.jit(lambda net, x: net(x))(small, x).shape == (2, 10)
    opt = sh.optim.sgd(0.1).init(small.train())
    before = small.fc.weight.numpy()
    _, grads = sh.value_and_grad(lambda net, x: sh.sum(net(x) * net(x)))(small, x)
    opt.update(small, grads)
    assert not np.array_equal(before, small.fc.weight.numpy())


def test_equal_numbers_that_become_different_ones_are_told_apart():
    """in_channels and out_channels are both 16 before, 3 and 5 after, also where the guess by order is wrong."""
    rng = np.random.default_rng(1)

    class Swapped(nn.Module):
        def __init__(self):
            self.out, self.into = 16, 16  # the other way round
            self.weight = nn.Param(rng.standard_normal((16, 16)).astype(np.float32))

        def forward(self, x):
            if x.shape[-1] != self.into:
                raise sh.ShapeError(f"x has {x.shape[-1]} channels, expected {self.into}")
            y = x @ self.weight.T
            return sh.reshape(y, (x.shape[0], self.out))

    net = nn.Sequential(nn.Linear(3, 16), Swapped(), nn.Linear(16, 2))
    found = sh.channels(net)(np.ones((2, 3), np.float32))
    a, b = (g for g in found.groups if g.prunable)
    small = shrink(net, found, {a: np.arange(16) < 3, b: np.arange(16) < 5})
    assert (small[1].into, small[1].out) == (3, 5) and small[1].weight.shape == (5, 3)


def test_a_number_in_python_is_an_error_with_its_place():
    class Fixed(nn.Module):
        def forward(self, x):
            return sh.reshape(x, (x.shape[0], 8))

    net = nn.Sequential(nn.Linear(3, 8), Fixed(), nn.Linear(8, 2))
    with pytest.raises(PlanError, match=r"1 keeps a number that stands for channels.*x\.shape"):
        prune_channels(net, np.ones((1, 3), np.float32), 0.5)


def test_in_a_plan():
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 2)
    )
    x = np.random.default_rng(0).standard_normal((4, 8, 8, 1)).astype(np.float32)
    small = Plan([("*", PruneChannels(0.25)), ("0", None)]).apply(net, calibration=x)
    assert [small[0].out_channels, small[2].in_channels, small[2].out_channels, small[5].in_features] == [8, 8, 6, 96]
    assert net[2].out_channels == 8
    with pytest.raises(PlanError, match="calibration="):
        Plan([("*", PruneChannels(0.25))]).apply(net)
    with pytest.raises(PlanError, match=r"ratio is 1\.0"):
        PruneChannels(1.0)
    with pytest.raises(PlanError, match="l7 is none of l1, l2|'l7' is none"):
        PruneChannels(0.5, importance="l7")


def test_ties_of_cells_stay_ties():
    net = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 6), nn.Linear(6, 8))
    net[2].weight = net[0].weight
    small = prune_channels(nn.Sequential(nn.Linear(3, 6), *net, nn.Linear(8, 2)), np.ones((1, 3), np.float32), 0.5)
    assert small[1].weight.shape == (4, 3) and small.aliases() == {"3.weight": "1.weight"}


def test_the_least_channels_go():
    net = nn.Sequential(nn.Linear(2, 4, bias=False), nn.Linear(4, 1, bias=False))
    net[0].weight = np.array([[1, 1], [5, 5], [0, 1], [3, 3]], np.float32)
    net[1].weight = np.array([[9, 1, 1, 1]], np.float32)
    small = prune_channels(net, np.ones((1, 2), np.float32), 0.5)
    np.testing.assert_array_equal(small[0].weight.numpy(), [[1, 1], [5, 5]])
    assert set(IMPORTANCE) == {"l1", "l2", "bn", "taylor"}
