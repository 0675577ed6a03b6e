"""Ranges and steps from calibration data: each choice against a search of its own."""

import numpy as np
import pytest

from shohin.compress import Plan, Quantize
from shohin.compress import definitions as d
from shohin.compress.ranges import Histogram, least_error, percentile, weight_steps
from shohin.core.errors import PlanError
from tests.compress.nets import images, trained


def histogram(x):
    h = Histogram.empty(float(x.min()), float(x.max()))
    h.add(x)
    return h


def error(x, low, high):
    g = d.grid(low, high)
    return float(np.square(d.dequantize(d.quantize(x, g), g) - x).mean())


def test_percentile_leaves_that_share_inside():
    x = np.random.default_rng(0).normal(size=100_000).astype(np.float32)
    low, high = percentile(histogram(x), 99.0, 8)
    assert abs(low - np.quantile(x, 0.005)) < 0.01 and abs(high - np.quantile(x, 0.995)) < 0.01
    whole = histogram(x)
    assert percentile(whole, 100, 8) == pytest.approx((whole.low, whole.high))


def test_the_least_error_range_beats_all_that_occurred_and_other_shares():
    x = np.random.default_rng(1).normal(size=50_000).astype(np.float32)
    x[:2] = 20, -15  # two values that are far out
    best = error(x, *least_error(histogram(x), 0, 8))
    assert best < 0.95 * error(x, x.min(), x.max())
    others = [error(x, a * x.min(), b * x.max()) for a in (0.1, 0.3, 0.6) for b in (0.1, 0.3, 0.6)]
    assert best <= 1.02 * min(others)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_weight_steps_have_the_least_error(bits):
    w = np.random.default_rng(bits).normal(size=(6, 50)).astype(np.float32)
    top = d.most(bits)
    cost = lambda row, s: np.square(np.clip(np.rint(row / s), -top, top) * s - row).sum()
    for row, s in zip(w, weight_steps(w, bits), strict=True):
        fine = min(cost(row, t) for t in np.linspace(0.02, 1, 2000) * np.abs(row).max() / top)
        assert cost(row, s) <= 1.05 * fine and cost(row, s) <= cost(row, np.abs(row).max() / top)


def test_a_plan_chooses_by_place_and_stores_its_steps():
    rules = [("*", Quantize()), ("wide", Quantize(w=4, calibrate="mse")), ("point", Quantize(calibrate="percentile", percentile=99.0))]
    plain, small = Plan([("*", Quantize())]).apply(trained(), images(48, 7)), Plan(rules).apply(trained(), images(48, 7))
    s = lambda net, place: net.grids()[place].s
    assert s(small, "point/conv2d#0") < s(plain, "point/conv2d#0") and s(small, "stem/conv2d#0") == s(plain, "stem/conv2d#0")
    assert list(small.quantized.step) == ["wide/conv2d#0"]
    np.testing.assert_array_equal(small.quantized.step["wide/conv2d#0"].numpy(), weight_steps(trained().wide.weight.numpy(), 4))


@pytest.mark.parametrize(("fields", "words"), [
    ({"calibrate": "best"}, "calibrate is 'best', expected one of minmax, percentile, mse"),
    ({"rounding": "up"}, "rounding is 'up', expected one of nearest, adaround"),
    ({"percentile": 30.0}, "percentile is 30.0"),
    ({"steps": 0}, "steps is 0"),
    ({"a": 4}, "activations of 8 or 16"),
])  # fmt: skip
def test_errors_say_what_is_expected(fields, words):
    with pytest.raises(PlanError, match=words):
        Quantize(**fields)
