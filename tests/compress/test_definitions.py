"""docs/quantization.md, definition by definition, against arithmetic written out independently (fractions, loops, float64)."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shohin.compress import definitions as d
from shohin.compress.definitions import Grid
from shohin.core.errors import QuantizationError
from shohin.core.tensor import as_tensor
from shohin.ops import quant

f32 = np.float32
finite = st.floats(-1e6, 1e6, width=32)


def rounded(value: Fraction) -> int:
    """Half to even, exactly."""
    low = math.floor(value)
    rest = value - low
    return low + (rest > Fraction(1, 2) or (rest == Fraction(1, 2) and low % 2 == 1))


# ---------------------------------------------------------------------------------------------------- Q1


@given(finite, finite)
def test_a_grid_holds_zero_and_its_range(a, b):
    g = d.grid(min(a, b), max(a, b))
    assert g.s.dtype == np.float32 and 2.0**-40 <= g.s <= 2.0**40 and -128 <= g.z <= 127
    assert d.dequantize(d.quantize(f32(0), g), g) == 0
    for v in (a, b):
        assert abs(d.dequantize(d.quantize(f32(v), g), g) - f32(v)) <= g.s * f32(1.01)


@pytest.mark.parametrize(
    ("mn", "mx", "s", "z"),
    [(0, 0, 2.0**-40, -128), (0, 255, 1, -128), (-255, 0, 1, 127), (-128, 127, 1, 0), (3, 255, 1, -128),
     (-255, -3, 1, 127), (-1e-30, 1e-30, 2.0**-40, -128), (-3e38, 3e38, 2.0**40, 127), (-0.5, 254.5, 1, -128),
     (-1.5, 253.5, 1, -126)],
)  # fmt: skip
def test_grids_at_the_edges(mn, mx, s, z):
    g = d.grid(mn, mx)
    assert (float(g.s), g.z) == (s, z)


@pytest.mark.parametrize("bad", [(np.nan, 1), (0, np.nan), (-np.inf, 0), (0, np.inf)])
def test_a_range_that_is_not_finite_names_its_place(bad):
    with pytest.raises(QuantizationError, match="stem/conv2d#0 is not finite"):
        d.grid(*bad, "stem/conv2d#0")


def test_input_is_a_division_clamped_first():
    g = Grid(f32(0.1), 5)
    x = np.array([np.nan, np.inf, -np.inf, 1e30, -1e30, 0.05, 0.15, 0.25, 1e-45], np.float32)
    assert d.quantize(x, g).tolist() == [-128, 127, -128, 127, -128, 5, 7, 7, 5]
    # a reciprocal would differ: some x / s is a tie, x * (1 / s) is not
    s = f32(0.7)
    xs = (np.arange(1, 250, 2, dtype=np.float32) / f32(2)) * s
    assert (np.rint(xs / s) != np.rint(xs * (f32(1) / s))).any()


# ---------------------------------------------------------------------------------------------------- Q2


def by_hand(w, b, norm, s_x, s_y):
    """Q2 for one output channel, float32 operation by operation."""
    one = f32(1)
    if norm is None:
        k, b_eff = one, f32(b)
    else:
        gamma, beta, mu, var, eps = map(f32, norm)
        with np.errstate(all="ignore"):
            k = gamma / np.sqrt(var + eps)
        size = min(max(abs(k), f32(2.0**-40)), f32(2.0**40))
        k = -size if k < 0 else size
        b_eff = (f32(b) - mu) * k + beta
    top = max(abs(f32(v)) for v in w) / f32(127)
    need = abs(b_eff) / ((f32(s_x) * abs(k)) * f32(2.0**22))
    s_w = max(top, need, f32(2.0**-40))
    q_w = [int(np.rint(min(max(f32(v) / s_w, f32(-127)), f32(127)))) for v in w]
    t = (f32(s_x) * s_w) * k
    with np.errstate(all="ignore"):
        M = t / f32(s_y)
    M = f32(0) if abs(M) < 2.0**-40 else min(max(M, f32(-1024)), f32(1024))
    return q_w, int(np.rint(b_eff / t)), M


CHANNELS = {
    "ordinary": ([0.3, -0.7, 0.1], 0.2, (1.1, 0.3, 0.2, 0.9, 1e-5)),
    "no norm": ([0.3, -0.7, 0.1], -0.2, None),
    "zero row": ([0, 0, 0], 0.7, None),
    "zero row and bias": ([0, 0, 0], 0, None),
    "dead channel": ([0.3, -0.7, 0.1], 0.4, (0.0, 0.5, 0.2, 0.9, 1e-5)),
    "minus zero": ([0.3, -0.7, 0.1], 0.4, (-0.0, 0.5, 0.2, 0.9, 1e-5)),
    "negative gamma": ([0.3, -0.7, 0.1], 0.4, (-0.8, 0.5, 0.2, 0.9, 1e-5)),
    "no variance": ([0.3, -0.7, 0.1], 0.4, (0.8, 0.5, 0.2, 0.0, 0.0)),
    "huge bias": ([0.3, -0.7, 0.1], 1e6, None),
    "huge bias after norm": ([1e-8, 0, 0], -1e15, (0.1, 1e3, 5.0, 1e-3, 1e-5)),
    "tiny weights": ([1e-20, -1e-25, 0], 0, None),
    "large weights": ([2.0**45, -1, 0], 3, None),
}


@pytest.mark.parametrize("name", CHANNELS)
@pytest.mark.parametrize("s_x", [2.0**-40, 0.013, 2.0**40])
@pytest.mark.parametrize("s_y", [2.0**-40, 0.21, 2.0**40])
def test_constants_are_the_written_operations(name, s_x, s_y):
    w, b, norm = CHANNELS[name]
    one = np.asarray(w, np.float32)[None]
    c = d.contraction(one, np.full(1, b, np.float32), norm, s_x, s_y)
    q_w, q_b, M = by_hand(w, b, norm, s_x, s_y)
    assert (c.q_w[0].tolist(), c.q_b[0], c.M[0]) == (q_w, q_b, M)
    assert abs(int(c.q_b[0])) <= 2**22 + 2 and np.isfinite(c.M).all()
    assert c.M[0] == 0 or 2.0**-40 <= abs(c.M[0]) <= 1024


def test_widening_is_for_the_bias_alone():
    c = d.contraction(np.full((3, 4), 0.5, f32), np.array([0, 1e7, -1e7], f32), None, 0.01, 0.1)
    assert c.widened.tolist() == [False, True, True]
    assert (c.q_w[0] == 127).all() and (abs(c.q_w[1]) < 127).all() and abs(int(c.q_b[1])) == 2**22


@pytest.mark.parametrize(
    ("w", "b", "text"),
    [([[1, np.nan]], [0], "not finite"), ([[1, 2]], [np.inf], "not finite"), ([[1, 2]], [2.0**60], "2\\^60"),
     ([[1, 2.0**47]], [0], "127 \\* 2\\^40")],
)  # fmt: skip
def test_what_has_no_constants_is_refused(w, b, text):
    with pytest.raises(QuantizationError, match=f"a/b#0: .*{text}.*channel 0"):
        d.contraction(np.asarray(w, f32), np.asarray(b, f32), None, 0.1, 0.1, "a/b#0")


# ---------------------------------------------------------------------------------------------------- Q3


@settings(max_examples=300)
@given(st.integers(-(2**31), 2**31 - 1), st.floats(-1024, 1024, width=32), st.integers(-128, 127))
def test_requantization_in_fractions(acc, M, z):
    """float32(acc) * M rounded to float32, clamped by integers, half to even: with exact rational arithmetic."""
    a = Fraction(float(f32(np.int32(acc))))
    product = float(f32(float(a * Fraction(M))))  # 48 bits: the double is exact, one rounding follows
    value = min(max(Fraction(product), Fraction(-128 - z)), Fraction(127 - z))
    assert int(d.requant(np.int32(acc), f32(M), z)) == rounded(value) + z


def test_rounding_before_or_after_the_clamp_is_the_same_and_ties_go_to_even():
    acc = np.arange(-700, 700, dtype=np.int32)
    for M in (0.5, -0.5, 0.25, 1.5):
        first = d.requant(acc, f32(M), 3, -20, 100)
        after = np.clip(np.rint(acc.astype(f32) * f32(M)), -23, 97).astype(np.int32) + 3
        assert (first == after).all()
    assert d.requant(np.arange(-5, 6), f32(0.5), 0).tolist() == [-2, -2, -2, -1, 0, 0, 0, 1, 2, 2, 2]
    # z before the rounding would be another network: -0.5 + 1 rounds to 0, 1 + rhe(-0.5) is 1
    assert int(d.requant(np.int32(-1), f32(0.5), 1)) == 1


def test_the_op_is_the_definition():
    rng = np.random.default_rng(0)
    acc = rng.integers(-(2**31), 2**31, 5000).astype(np.int32)
    M = d.multiplier(np.ldexp(rng.normal(size=5000), rng.integers(-45, 12, 5000)).astype(f32))
    for z, lo, hi in ((0, -128, 127), (-128, -128, 127), (127, 0, 127), (-3, -3, 55)):
        assert (
            quant.requant(as_tensor(acc), as_tensor(M), z=z, lo=lo, hi=hi).numpy() == d.requant(acc, M, z, lo, hi)
        ).all()


@pytest.mark.parametrize("z", [-128, -7, 0, 127])
def test_bounds_of_clamps(z):
    g = Grid(f32(0.05), z)
    assert d.bounds(None, g) == (-128, 127)
    assert d.bounds((0.0, math.inf), g) == (z, 127)
    assert d.bounds((0.0, 6.0), g) == (z, min(z + 120, 127))
    assert d.bounds((-math.inf, 0.0), g) == (-128, z)
    assert d.bounds((-1e30, 1e30), g) == (-128, 127)
    assert d.bounds((0.025, 0.075), Grid(f32(0.05), 0)) == (0, 2)


def test_relu6_on_the_finest_grid():
    assert d.bounds((0.0, 6.0), Grid(f32(2.0**-40), -128)) == (-128, 127)


# ---------------------------------------------------------------------------------------------------- Q5


@settings(max_examples=60)
@given(st.integers(1, 12), st.integers(-128, 127), st.integers(0, 2**32 - 1))
def test_every_partial_sum_lies_within_the_proof(k, z, seed):
    rng = np.random.default_rng(seed)
    w, b = rng.integers(-127, 128, (1, k)), rng.integers(-1000, 1000, 1)
    low, high = -128 - z, 127 - z
    P, N = d.reach(w, b, low, high)
    terms = np.append(w[0] * rng.integers(low, high + 1, k), b)
    rng.shuffle(terms)
    running = np.cumsum(terms)
    assert running.max() <= P[0] and -running.min() <= N[0]
    best = np.append(np.where(w[0] > 0, w[0] * high, w[0] * low), max(int(b[0]), 0))
    assert np.maximum(best, 0).sum() == P[0]


def test_the_proof_ends_at_an_int32():
    w = np.full((2, 66_311), 127, np.int8)
    assert d.prove(w, np.zeros(2, np.int32), 0, 255, "a") == 66_311 * 127 * 255 < 2**31
    with pytest.raises(QuantizationError, match="fc/matmul#0: sums of output channel 1"):
        d.prove(w, np.array([0, 50_000], np.int32), 0, 255, "fc/matmul#0")


# ------------------------------------------------------------------------------------------------- Q7, Q8


def test_add_takes_the_largest_scale_as_unit():
    m, M = d.add_constants([0.5, 0.125, 2.0**-40], [1, -1, 1], 0.25)
    assert m.tolist() == [2**14, -(2**12), 0] and float(M) == 0.5 * 2.0**-14 / 0.25
    m, _ = d.add_constants([1.0, f32(1) / f32(3)], [1, 1], 1.0)
    assert m[1] == np.rint((f32(1) / f32(3)) * f32(16384))


def test_the_others_in_the_order_written():
    a, b, y = f32(0.013), f32(0.7), f32(0.031)
    assert d.mul_multiplier(a, b, y) == (a * b) / y
    assert d.pool_multiplier(a, y, [4, 9]).tolist() == [a / (y * f32(4)), a / (y * f32(9))]
    assert d.concat_multiplier(a, a) == 1
    for found in (d.mul_multiplier(2.0**40, 2.0**40, 2.0**-40), d.concat_multiplier(2.0**40, 2.0**-40)):
        assert found == 1024
    assert d.mul_multiplier(2.0**-40, 2.0**-40, 2.0**40) == 0


@pytest.mark.parametrize("z", [-128, 3, 127])
def test_tables_are_float64_of_float32_scales(z):
    x, y = Grid(f32(0.037), z), Grid(f32(0.02), -11)
    table = d.table(lambda v: v * np.minimum(np.maximum(v + 3, 0), 6) / 6, x, y)
    for q in (-128, -100, -1, 0, 1, 64, 127):
        v = float(x.s) * (q - z)
        f = v * min(max(v + 3, 0), 6) / 6
        assert table[q + 128] == int(np.rint(min(max(f / float(y.s), -117), 138))) - 11
    assert (d.by_code(table)[np.arange(-128, 128).astype(np.int8).view(np.uint8)] == table).all()


def test_a_table_of_what_is_not_defined():
    with np.errstate(all="ignore"):
        table = d.table(np.log, Grid(f32(0.1), 0), Grid(f32(0.1), 0))
    assert (
        table[:128].tolist() == [-128] * 128 and table[128] == -128 and table[138] == 0
    )  # log of what is not positive


def test_gain_keeps_the_sign_and_zero_is_positive():
    k = d.gain(np.array([0.0, -0.0, 1e-20, -1e-20, 3, -3, 1e20, -1e20], f32))
    small, large = 2.0**-40, 2.0**40
    assert k.tolist() == [small, small, small, -small, 3, -3, large, -large]
    assert (
        quant.bound_gain(as_tensor(np.array([0.0, -0.0, 1e-20, -1e-20, 3, -3, 1e20, -1e20], f32))).numpy() == k
    ).all()


def test_multipliers_have_no_subnormal_inf_or_nan():
    M = np.array([0, 1e-45, 2.0**-41, -(2.0**-40), 1024, 1025, -np.inf, np.inf], f32)
    expected = [0, 0, 0, -(2.0**-40), 1024, 1024, -1024, 1024]
    assert d.multiplier(M).tolist() == expected
    assert quant.bound_multiplier(as_tensor(M)).numpy().tolist() == expected
