"""``Prune``: exact counts, n of m, and ramps that count optimizer updates inside a compiled step."""

from __future__ import annotations

import numpy as np
import pytest

import shohin as sh
from shohin import nn
from shohin.compress import Plan, Prune, Quantize, report
from shohin.compress.largest import largest
from shohin.compress.mask import STEPS
from shohin.compress.pattern import Pattern
from shohin.core.errors import PlanError

F32 = np.float32


def by_sorting(w, count):
    mask = np.zeros(w.size, bool)
    mask[np.argsort(-np.abs(w.reshape(-1)), kind="stable")[:count]] = True
    return mask.reshape(w.shape)


@pytest.mark.parametrize("wrap", [lambda f: f, sh.jit], ids=["eager", "jit"])
def test_the_largest_are_those_of_a_stable_sort(wrap):
    rng = np.random.default_rng(0)
    f = wrap(lambda w, n: largest(w, n))
    cases = [rng.normal(size=(7, 13)), rng.integers(-2, 3, (7, 13)), np.zeros((7, 13)), rng.normal(size=(7, 13)) * 10.0 ** rng.integers(-30, 30, (7, 13))]
    for w in (c.astype(F32) for c in cases):
        for count in (1, 2, 45, 90, 91):
            np.testing.assert_array_equal(f(w, np.int32(count)).numpy(), by_sorting(w, count))


def test_n_of_m_is_the_largest_of_each_group():
    w = np.random.default_rng(1).integers(-3, 4, (5, 16)).astype(F32)
    want = np.concatenate([np.stack([by_sorting(row, 3) for row in w[:, k : k + 8]]) for k in (0, 8)], 1)
    np.testing.assert_array_equal(Pattern.parse('3:8', 'a test').keep(np.abs(w), 5 / 8).numpy(), want)


def network():
    sh.seed(0)
    return nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8), nn.ReLU(), nn.Conv2d(8, 16, 1), nn.GlobalAvgPool(), nn.Linear(16, 4))


X = np.random.default_rng(0).normal(size=(8, 6, 6, 1)).astype(F32)
Y = np.arange(8) % 4


def loss(net, x, y):
    return nn.cross_entropy(net(x), y)


def step(net, opt, x, y):
    value, grads = sh.value_and_grad(loss)(net, x, y)
    opt.update(net, grads)
    return value


def zeros(net, k=4):
    return int((net[k].weight.numpy() == 0).sum())


def test_a_pattern_bounds_every_group_of_a_row():
    small = Plan([("*", Prune(0.5, pattern="4:8"))]).apply(network())
    for k in (0, 2, 4, 6):
        rows = small[k].weight.numpy().reshape(len(small[k].weight), -1) != 0
        for start in range(0, rows.shape[1], 8):
            group = rows[:, start : start + 8]
            assert (group.sum(1) == min(4, group.shape[1])).all()
    assert "50% zeros by magnitude, 4:8" in report(small)


@pytest.mark.parametrize("wrap", [lambda f: f, sh.jit], ids=["eager", "jit"])
@pytest.mark.parametrize("pattern", [None, "1:4"])
def test_a_ramp_counts_updates_and_ends_at_its_sparsity(wrap, pattern):
    begin, end, s = 2, 12, 0.75
    small = Plan([("*", Prune(s, pattern=pattern, ramp=(begin, end)))]).apply(network()).train()
    opt, run, found = sh.optim.sgd(0.1).init(small), wrap(step), []
    for n in range(1, 15):
        small(X)  # a forward pass is no update
        run(small, opt, X, Y)
        t = min(max(n - begin, 0) / (end - begin), 1)
        of = 128 if pattern is None else 4
        expected = int(np.floor(s * (1 - (1 - t) ** 3) * of + 1e-6)) * (128 // of)
        found.append((zeros(small), expected))
    assert all(a == b for a, b in found), found
    assert found[0][0] == 0 and 0 < found[4][0] < found[-1][0] == 96
    before = small[4].weight_mask.mask.numpy()
    run(small, opt, X, Y)
    np.testing.assert_array_equal(small[4].weight_mask.mask.numpy(), before)  # nothing moves after the end


def test_a_long_ramp_asks_in_steps_and_eager_is_jit():
    made = []
    for wrap in (lambda f: f, sh.jit):
        small = Plan([("*", Prune(0.5, ramp=(0, 5 * STEPS)))]).apply(network()).train()
        opt, run = sh.optim.sgd(0.1).init(small), wrap(step)
        counts = [[run(small, opt, X, Y), zeros(small)][1] for _ in range(16)]
        assert [n for n in range(1, 16) if counts[n] != counts[n - 1]] == [4, 9, 14]  # after updates 5, 10, 15
        made.append(counts)
    assert made[0] == made[1]


@pytest.mark.parametrize("straight", [True, False])
def test_only_straight_through_moves_what_the_mask_hides(straight):
    small = Plan([("*", Prune(0.5, straight=straight))]).apply(network()).train()
    behind = lambda: small.cells()["4.weight"].read().numpy()
    mask, before, dense = small[4].weight_mask.mask.numpy(), behind(), network()[4].weight.numpy()
    np.testing.assert_array_equal(small[4].weight.numpy(), np.where(mask, dense, 0))  # the forward value is exact
    sh.jit(step)(small, sh.optim.sgd(0.1).init(small), X, Y)
    assert (behind() != before)[mask].any() and (behind() != before)[~mask].any() == straight
    assert zeros(small) == 64


def test_a_ramp_resumes_and_quantizes(tmp_path):
    def fresh():
        plan = Plan([("*", Prune(0.75, ramp=(0, 8))), ("*", Quantize())])
        small = plan.apply(network(), calibration=X).train()
        return small, sh.optim.sgd(0.1).init(small), sh.jit(step)

    whole, opt, run = fresh()
    for _ in range(10):
        run(whole, opt, X, Y)
    half, opt, run = fresh()
    for _ in range(4):
        run(half, opt, X, Y)
    assert 0 < (half._net[4].weight.numpy() == 0).sum() < 96
    sh.save(half, tmp_path / "half.safetensors")
    other, opt, run = fresh()
    sh.load(tmp_path / "half.safetensors", other)
    for _ in range(6):
        run(other, opt, X, Y)
    for net in (whole, other):
        q = net.eval().quantized.constants["4/conv2d#0"]["q_w"].numpy()
        assert (q == 0).sum() >= 96
    a, b = (net.integers(X) for net in (whole, other))
    assert all(np.array_equal(a[k], b[k]) for k in a)
    same = sh.compare(whole, sh.export(whole, X[:1], device="host", to=tmp_path / "art"), X)
    assert same.differing == 0 and same.compared > 0


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Prune(0.5, pattern="1:4"), r"keeps 1 of 4, sparsity is 0\.5; write Prune\(0\.75, pattern='1:4'\)"),
        (lambda: Prune(0.5, pattern="4/8"), r"pattern is '4/8', expected n:m"),
        (lambda: Prune(0.5, pattern="8:8"), "0 < n < m"),
        (lambda: Prune(0.0), "expected a fraction between 0 and 1"),
        (lambda: Prune(0.5, ramp=(5, 2)), "begin < end"),
        (lambda: Prune(0.5, ramp=(0, 2.5)), "two counts of optimizer updates"),
    ],
)
def test_what_prune_refuses(make, text):
    with pytest.raises(PlanError, match=text):
        make()


def test_a_masked_float_network_takes_the_bytes_of_the_unmasked_one(tmp_path):
    net, x = nn.Sequential(nn.Conv2d(4, 24, 3), nn.ReLU(), nn.Conv2d(24, 32, 3)).eval(), np.zeros((1, 8, 8, 4), F32)
    small = Plan([("*", Prune(0.9))]).apply(net).eval()
    assert (small[2].weight.numpy() == 0).mean() > 0.89
    masked, plain = (sh.export(n, x, device="cortex-m55", to=tmp_path / str(k)) for k, n in enumerate((small, net)))
    assert masked.flash_bytes == plain.flash_bytes
