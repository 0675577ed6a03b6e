"""Methods of one function: what their slots supply, statistics, and that ``check_method`` finds what is wrong."""

from __future__ import annotations

import numpy as np
import pytest

import shohin as sh
from shohin import nn
from shohin.compress import Palettize, Plan, Prune, Quantize, method
from shohin.compress.mask import Mask
from shohin.compress.stats import Stats
from shohin.core.errors import PlanError
from shohin.ops.activations import stop_gradient
from shohin.testing import check_method

RNG = np.random.default_rng(0)


@method(slot="mask", stats=("input_norm",))
def wanda(w, stats, *, sparsity):
    s = abs(w) * stats.input_norm
    return s > sh.quantile(s, sparsity, axis=-1, keepdims=True)


@method(slot="table", stats=("input_max",))
def weighted(w, stats, *, entries, power=1.0):
    """Quantiles of the weights, each as often as its input is large."""
    v, m = w.numpy(), stats.input_max.numpy() ** power
    order = np.argsort(v)
    total = np.cumsum(m[order]) / m.sum()
    return v[order][np.searchsorted(total, (np.arange(entries) + 0.5) / entries)]


@pytest.mark.parametrize("made", [wanda, weighted, Prune, Prune(0.75, pattern="2:8"), Prune(0.6, straight=True), Palettize(bits=3, group=4)], ids=str)
def test_good_methods_pass(made):
    report = check_method(made)
    assert {"shape", "determinism", "gradient", "round trip", "export"} <= set(report.passed), report
    if made in (wanda, Prune):
        assert {"amount", "idempotence", "ramp"} <= set(report.passed), report


def masks(rule):
    return method(slot="mask")(rule)


def tables(rule):
    return method(slot="table")(rule)


def wide(w, stats, *, sparsity):
    return abs(w)[:, :1] > 0


def floats(w, stats, *, sparsity):
    return abs(w)


def chance(w, stats, *, sparsity):
    return RNG.random(w.shape) > sparsity


def smallest(w, stats, *, sparsity):
    return abs(w) < sh.quantile(abs(w), 1 - sparsity, axis=-1, keepdims=True)


def few(w, stats, *, sparsity):
    return abs(w) > sh.quantile(abs(w), sparsity / 4, axis=-1, keepdims=True)


def in_numpy(w, stats, *, sparsity):
    size = np.abs(w.numpy())
    return size > np.quantile(size, sparsity, axis=-1, keepdims=True)


def silent(w, stats, *, sparsity):
    return abs(w) * stats.input_norm > 0.1


def one_short(w, stats, *, entries):
    return w[: entries - 1]


def infinite(w, stats, *, entries):
    return np.full(entries, np.inf, np.float32)


@pytest.mark.parametrize(
    ("made", "check", "text"),
    [
        (masks(wide), "shape", r"wide at stem.weight: the mask is bool\[16, 1\], expected bool\[16, 72\]"),
        (masks(floats), "shape", r"floats at stem.weight: the mask is float32\[16, 72\], expected bool"),
        (masks(chance), "determinism", "other weights; draw no random numbers"),
        (masks(smallest), "idempotence", "the masked weights have another mask"),
        (masks(few), "amount", "of the weights are 0, sparsity is 50%"),
        (masks(in_numpy), "ramp", "TraceError|no value|concrete|traced"),
        (masks(silent), "shape", r"silent reads stats.input_norm, which is not collected; write stats=\('input_norm',\)"),
        (tables(one_short), "shape", r"one_short at stem.weight: the values are float32\[3\], expected 4 finite floats"),
        (tables(infinite), "shape", "not all finite"),
    ],
    ids=lambda v: getattr(v, "__name__", None),
)  # fmt: skip
def test_check_method_finds_it(made, check, text):
    others = [c for c in ("shape", "determinism", "amount", "idempotence", "gradient", "ramp", "round trip", "export") if c != check]
    with pytest.raises(AssertionError, match=text) as error:
        check_method(made, skip=others)
    assert f"FAILED   {check}" in str(error.value)


def test_check_method_finds_a_shell_that_forgets_its_gradient_or_its_state(monkeypatch):
    """The checks of what slots supply fail when the slot is broken."""
    only = lambda check: [c for c in ("shape", "determinism", "amount", "idempotence", "gradient", "ramp", "round trip", "export") if c != check]
    with monkeypatch.context() as patch:
        patch.setattr(Mask, "forward", lambda self, w: sh.where(self.mask, stop_gradient(w), 0.0))
        with pytest.raises(AssertionError, match="the parameter gets no gradient"):
            check_method(Prune, skip=only("gradient"))
    with monkeypatch.context() as patch:
        patch.setattr(Mask, "forward", lambda self, w: sh.where(self.mask, w, w * 1e-20))
        with pytest.raises(AssertionError, match="a weight that stays has changed"):
            check_method(Prune, skip=only("shape"))


def test_what_cannot_be_declared_or_made():
    with pytest.raises(PlanError, match="unplaced: a method of a function fills one of the slots mask, table, not 'channels'"):

        @method(slot="channels")
        def unplaced(w, stats):
            return w

    with pytest.raises(PlanError, match=r"open\(w, sparsity\): write def open\(w, stats, \*, \.\.\.\)|options after the star"):

        @method(slot="mask")
        def open(w, sparsity):
            return w

        @method(slot="mask")
        def loose(w, stats, sparsity):
            return w

    with pytest.raises(PlanError, match="no statistic 'input_nrm'; there are input_norm, input_max"):

        @method(slot="mask", stats=("input_nrm",))
        def misspelt(w, stats):
            return w

    with pytest.raises(PlanError, match="sparsity is 1.5, expected a fraction"):
        wanda(sparsity=1.5)
    with pytest.raises(PlanError, match="ramp is .*expected two counts"):
        wanda(sparsity=0.5, ramp=(10, 10))
    with pytest.raises(PlanError, match="a ramp moves the argument 'sparsity'"):
        masks(lambda w, stats: abs(w) > 0.1)(ramp=(0, 5))
    with pytest.raises(PlanError, match="bits is 5"):
        weighted(bits=5)
    with pytest.raises(PlanError, match="wanda needs calibration="):
        Plan([("*", wanda(sparsity=0.5))]).apply(nn.Linear(3, 4))
    with pytest.raises(PlanError, match="no default for power; pass needy"):

        @method(slot="mask")
        def needy(w, stats, *, power):
            return w > power

        check_method(needy)
    with pytest.raises(PlanError, match="check_method takes a method on weights"):
        check_method(Quantize())
    with pytest.raises(PlanError, match="no check 'shapes'"):
        check_method(wanda, skip=("shapes",))


def seen(net, x, names=("input_norm", "input_max")):
    """What a method is told, by place of the weight."""
    found: list[Stats] = []

    @method(slot="mask", stats=names)
    def spy(w, stats):
        found.append(stats)
        return abs(w) >= 0

    small = Plan([("*", spy())]).apply(net, calibration=x)
    places = [f"{path}.weight" if path else "weight" for path, layer in small.modules().items() if hasattr(layer, "weight_mask")]
    return dict(zip(places, found, strict=True))


def test_statistics_of_inputs_are_those_of_numpy():
    class Net(nn.Module):
        def __init__(self):
            self.conv, self.grouped, self.fc = nn.Conv2d(4, 6, 3, padding=1), nn.Conv2d(6, 4, 3, stride=2, groups=2), nn.Linear(4, 4)

        def forward(self, x):
            return self.fc(self.fc(self.grouped(self.conv(x)).mean(axis=(1, 2))))

    net = Net()
    x = RNG.normal(size=(70, 7, 7, 4)).astype(np.float32)  # two batches
    found = seen(net, x)
    conv = net.conv(x).numpy()
    a = net.grouped(conv).numpy().mean((1, 2))
    b = net.fc(a).numpy()
    norm = lambda v: np.sqrt(np.square(v.reshape(-1, v.shape[-1]).astype(np.float64)).sum(0))
    np.testing.assert_allclose(found["conv.weight"].input_norm.numpy(), np.tile(norm(x), 9) * np.ones((6, 1)), rtol=1e-6)
    np.testing.assert_allclose(found["conv.weight"].input_max.numpy()[0], np.tile(np.abs(x).max((0, 1, 2)), 9))
    rows = np.stack([np.tile(norm(conv)[:3], 9)] * 2 + [np.tile(norm(conv)[3:], 9)] * 2)
    np.testing.assert_allclose(found["grouped.weight"].input_norm.numpy(), rows, rtol=1e-6)
    both = np.sqrt(norm(a) ** 2 + norm(b) ** 2)  # a layer that stands at two places
    np.testing.assert_allclose(found["fc.weight"].input_norm.numpy(), both * np.ones((4, 1)), rtol=1e-5)


def test_a_weight_without_input_channels_is_refused_with_its_place():
    class Net(nn.Module):
        def __init__(self):
            self.w = nn.Param(np.ones((4, 3), np.float32))

        def forward(self, x):
            return x @ self.w

    with pytest.raises(PlanError, match="no contraction reads w with its output channels first"):
        Plan([("*", wanda(sparsity=0.5))]).apply(Net(), calibration=np.ones((2, 4), np.float32))


def test_wanda_keeps_small_weights_of_loud_inputs():
    net = nn.Linear(4, 2)
    net.weight = np.float32([[1, -1, 0.5, 0.1], [0.1, 2, 0.2, 3]])
    x = np.ones((8, 4), np.float32) * np.float32([1, 1, 8, 100])
    small = Plan([("*", wanda(sparsity=0.5))]).apply(net, calibration=x)
    assert (small.weight.numpy() != 0).tolist() == [[False, False, True, True], [False, True, False, True]]
    assert "wanda(" in small.weight_mask.method.scheme and not hasattr(small.weight_mask, "count")
