"""Masks by a score: patterns against NumPy, Wanda's rule, and PDP's soft mask, its gradient, its end."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import shohin as sh
from shohin import nn
from shohin.compress import PDP, Plan, Prune, Quantize, Wanda, report
from shohin.compress.largest import largest_in_rows
from shohin.compress.pattern import Pattern
from shohin.compress.pdp import OPEN, SoftMask
from shohin.compress.stats import Stats
from shohin.core.errors import PlanError
from shohin.testing import check_method

F32 = np.float32
X = np.random.default_rng(0).normal(size=(16, 6, 6, 2)).astype(F32)
Y = np.arange(16) % 4


def network():
    sh.seed(0)
    return nn.Sequential(nn.Conv2d(2, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 1), nn.GlobalAvgPool(), nn.Linear(16, 4))


def loss(net, x, y):
    return nn.cross_entropy(net(x), y)


def step(net, opt, x, y):
    value, grads = sh.value_and_grad(loss)(net, x, y)
    opt.update(net, grads)
    return value


def most(scores, count):
    """The rule, one row at a time."""
    marks = np.zeros(scores.shape, bool)
    for row, s in zip(marks, scores, strict=True):
        row[np.argsort(-s, kind="stable")[: max(count, 1)]] = True
    return marks


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 9), st.integers(1, 21), st.integers(1, 4), st.integers(1, 5), st.floats(0.05, 0.95), st.integers(0, 99))
def test_blocks_leave_as_a_whole(out, terms, a, b, sparsity, seed):
    s = np.abs(np.random.default_rng(seed).normal(size=(out, terms))).astype(F32)
    p, q = -(-out // a), -(-terms // b)
    blocks = [[np.sqrt(np.square(s[i * a : i * a + a, j * b : j * b + b]).mean(dtype=np.float64)) for j in range(q)] for i in range(p)]
    left = int(np.floor(sparsity * p * q + 1e-6))
    marks = Pattern(block=(a, b)).keep(s, sparsity).numpy()
    whole = np.array([[marks[i * a : i * a + a, j * b : j * b + b].all() for j in range(q)] for i in range(p)])
    none = np.array([[not marks[i * a : i * a + a, j * b : j * b + b].any() for j in range(q)] for i in range(p)])
    assert (whole | none).all() and none.sum() == min(left, p * q - 1)
    if none.any():
        assert np.max(np.array(blocks)[none]) <= np.min(np.array(blocks)[whole]) * (1 + 1e-5)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 6), st.integers(1, 40), st.integers(1, 40), st.integers(0, 99), st.booleans())
def test_the_largest_of_each_row(rows, n, count, seed, ties):
    rng = np.random.default_rng(seed)
    s = (rng.integers(0, 4, (rows, n)) if ties else np.abs(rng.normal(size=(rows, n)) * 10.0 ** rng.integers(-20, 20, (rows, 1)))).astype(F32)
    np.testing.assert_array_equal(largest_in_rows(s, min(count, n)).numpy(), most(s, min(count, n)))


@pytest.mark.parametrize("made", [PDP(0.5), Wanda(0.5, pattern="2:4"), Prune(0.5, pattern="4x1")], ids=str)
def test_they_are_methods(made):
    skip = ("amount",) if made == Prune(0.5, pattern="4x1") else ()  # blocks of a tensor: a layer's rows differ
    check_method(made, skip=(*skip, *(("ramp",) if isinstance(made, PDP) else ())))


def test_wanda_is_its_equation():
    net = network()
    small = Plan([("2", Wanda(0.75)), ("0", Wanda(0.5, pattern="3:6"))]).apply(net, calibration=X)
    h = nn.relu(net[0](X)).numpy()
    norm = lambda v: np.sqrt(np.square(v.astype(np.float64)).sum((0, 1, 2)))
    w = net[2].weight.numpy().reshape(16, 8)
    np.testing.assert_array_equal(small[2].weight.numpy().reshape(16, 8), np.where(most(np.abs(w) * norm(h).astype(F32), 2), w, 0))
    w = net[0].weight.numpy().reshape(8, 18)
    score = (np.abs(w) * np.tile(norm(X).astype(F32), 9)).reshape(-1, 6)
    np.testing.assert_array_equal(small[0].weight.numpy().reshape(-1, 6), np.where(most(score, 3), w.reshape(-1, 6), 0))
    assert "75% zeros by magnitude times input norm" in report(small)
    with pytest.raises(PlanError, match="Wanda needs calibration="):
        Plan([("2", Wanda(0.5))]).apply(net)


def soft(w, mask, tau):
    """A tensor's weights under PDP, in float64."""
    size = np.abs(w.astype(np.float64))
    t = (size[mask].min() + size[~mask].max()) / 2
    return w / (1 + np.exp(-(size**2 - t**2) / tau))


@pytest.mark.parametrize("wrap", [lambda f: f, sh.jit], ids=["eager", "jit"])
def test_pdp_is_its_equation_and_ends_hard(wrap):
    begin, end, s, tau = 2, 12, 0.75, 1e-2
    small = Plan([("*", PDP(s, ramp=(begin, end), temperature=tau))]).apply(network()).train()
    opt, run = sh.optim.sgd(0.1).init(small), wrap(step)
    for n in range(1, 15):
        run(small, opt, X, Y)
        w, mask, state = small.cells()["2.weight"].read().numpy(), small[2].weight_mask.mask.numpy(), small[2].weight_mask
        t = min(max(n - begin, 0) / (end - begin), 1)
        assert (~mask).sum() == np.floor(s * (1 - (1 - t) ** 3) * w.size + 1e-6)
        if begin < n < end:
            assert np.isclose(state.temperature.item(), tau * (1 - t)) and not (small[2].weight.numpy() == 0).any()
            np.testing.assert_array_equal(~mask, np.abs(w) <= np.sqrt(state.threshold.item()))  # in a short ramp at every update
            np.testing.assert_allclose(small[2].weight.numpy(), soft(w, mask, tau * (1 - t)), rtol=2e-4, atol=1e-7)
        else:
            assert state.temperature.item() == 0
            np.testing.assert_array_equal(small[2].weight.numpy(), np.where(mask, w, 0))
    assert (small[2].weight.numpy() == 0).mean() == s
    before = small[2].weight_mask.mask.numpy()
    run(small, opt, X, Y)
    np.testing.assert_array_equal(small[2].weight_mask.mask.numpy(), before)


@pytest.mark.parametrize("pattern", [None, "1:4", "2x3"])
def test_the_gradient_of_pdp_by_finite_differences(pattern):
    rng = np.random.default_rng(3)
    w, g = (rng.normal(size=(6, 12)).astype(F32) * 0.3 for _ in range(2))
    method = PDP(0.75, pattern=pattern, ramp=(0, 10), temperature=0.05)
    state = SoftMask(method, np.ones(w.shape, bool), Stats("PDP", {}))
    for _ in range(6):
        state.advance(sh.asarray(w))
    assert 0 < state.temperature.item() < 0.05 and (state.threshold.numpy() > OPEN).all()
    value = lambda w: sh.sum(state(w) * g)
    slope = sh.grad(value)(sh.asarray(w)).numpy()
    with np.errstate(all="ignore"):
        for k in rng.choice(w.size, 12, replace=False):
            by = np.zeros(w.size, F32)
            by[k] = 2e-3
            up, down = (float(value(sh.asarray(w + by.reshape(w.shape) * sign))) for sign in (1, -1))
            assert np.isclose(slope.reshape(-1)[k], (up - down) / 4e-3, rtol=2e-2, atol=2e-3)


def test_pdp_under_integers_ends_hard_and_is_the_same_everywhere(tmp_path):
    plan = Plan([("*", PDP(0.8, ramp=(0, 6), temperature=1e-3)), ("*", Quantize())])
    small = plan.apply(network(), calibration=X).train()
    opt, run, hidden = sh.optim.sgd(0.1).init(small), sh.jit(step), []
    for _ in range(8):
        hidden.append((small._net[2].weight_mask.mask.numpy(), small.cells()["2.weight"].read().numpy()))
        run(small, opt, X, Y)
    moved = hidden[4][1] != hidden[3][1]
    assert moved[~hidden[3][0]].any()  # what lies below the threshold learns too
    assert (small._net[2].weight.numpy() == 0).mean() >= 0.79
    sh.save(small, tmp_path / "net.safetensors")
    other = plan.apply(network(), calibration=X).train()
    sh.load(tmp_path / "net.safetensors", other)
    np.testing.assert_array_equal(other._net[2].weight.numpy(), small._net[2].weight.numpy())
    found = sh.compare(small.eval(), sh.export(small, X[:1], device="host", to=tmp_path / "a"), X)
    assert found.differing == 0 and found.compared > 0
    whole = sh.load(tmp_path / "net.safetensors")  # without its class
    assert sh.compare(whole, sh.export(whole, X[:1], device="host", to=tmp_path / "b"), X).differing == 0


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: PDP(0.5, straight=True), "PDP: straight=True asks for another gradient"),
        (lambda: PDP(0.5, temperature=0.0), "PDP: temperature is 0.0, expected a positive number"),
        (lambda: Wanda(0.5, pattern="1:4"), r"keeps 1 of 4, sparsity is 0\.5; write Wanda\(0\.75, pattern='1:4'\)"),
        (lambda: Prune(0.5, pattern="1x1"), "pattern is '1x1', expected n:m .* blocks"),
        (lambda: Prune(0.5, pattern="2:64"), "0 < n < m <= 32"),
    ],
)
def test_what_they_refuse(make, text):
    with pytest.raises(PlanError, match=text):
        make()
