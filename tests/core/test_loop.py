"""Loop-IR expressions: meaning, dtype, rewriting; nests in every order."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shohin.core import dtypes, loop, nest
from shohin.core.errors import IRError
from shohin.core.loop import Name
from shohin.core.nest import Acc, Buffer, Loop, Nest, Out

f32, i32 = dtypes.float32, dtypes.int32
X, Y = Name("x", f32), Name("y", f32)
I, J = Name("i", i32), Name("j", i32)
floats = st.floats(-100, 100, width=32)


@given(floats, floats)
def test_arithmetic_is_float32(a, b):
    a, b = np.float32(a), np.float32(b)
    env = {"x": a, "y": b}
    for expr, expected in [(X + Y, a + b), (X - 1, a - np.float32(1)), (2 * X * Y, np.float32(2) * a * b), (loop.minimum(X, Y), min(a, b)),
                           (abs(X), abs(a)), (loop.select(X < Y, X, Y), a if a < b else b), (-X, -a)]:  # fmt: skip
        found = loop.evaluate(expr, env)
        assert expr.dtype == f32 and np.asarray(found).dtype == np.float32
        assert found == expected


@given(st.integers(-(2**31), 2**31 - 1), st.integers(-(2**31), 2**31 - 1))
def test_integers_wrap_and_divide_as_python_does(a, b):
    env = {"i": np.int32(a), "j": np.int32(b)}
    assert int(loop.evaluate(I + J, env)) == (a + b + 2**31) % 2**32 - 2**31
    if b and (a, b) != (-(2**31), -1):
        assert int(loop.evaluate(I // J, env)) == a // b and int(loop.evaluate(I % J, env)) == a % b


def test_fma_rounds_once():
    a = np.float32(1 + 2**-12)
    once = loop.evaluate(loop.Fma(X, X, Y), {"x": a, "y": np.float32(-1)})
    twice = loop.evaluate(X * X + Y, {"x": a, "y": np.float32(-1)})
    assert once == np.float32(2**-11 + 2**-24) and once != twice


def test_clip_of_nan_is_the_lower_bound():
    assert loop.evaluate(loop.clip(X, 2, 6), {"x": np.float32(np.nan)}) == 2


@pytest.mark.parametrize(
    "value, even, trunc",
    [(2.5, 2, 2), (3.5, 4, 3), (-2.5, -2, -2), (-0.7, -1, 0), (300.0, 127, 127), (-300.0, -128, -128)],
)
def test_casts(value, even, trunc):
    env = {"x": np.float32(value)}
    assert int(loop.evaluate(loop.Cast(X, dtypes.int8, "even", True), env)) == even
    assert int(loop.evaluate(loop.Cast(X, dtypes.int8, "trunc", True), env)) == trunc


def test_a_guarded_load_reads_nothing_out_of_range():
    i = loop.Var("i")
    expr = loop.Load("b", (i - 1,), f32, i >= 1, -7)
    found = loop.evaluate(expr, {"b": np.float32([10, 20]), "i": np.arange(3, dtype=np.int32)})
    assert found.tolist() == [-7, 10, 20]


def test_requant():
    c = lambda v: loop.const(v, i32)
    expr = loop.Requant(I, loop.const(0.5, f32), c(3), c(-128), c(127), dtypes.int8)
    found = loop.evaluate(expr, {"i": np.int32([1, 3, 5, 1000, -1000])})
    assert found.tolist() == [3, 5, 5, 127, -128] and found.dtype == np.int8


def test_mixed_dtypes_need_a_cast():
    with pytest.raises(IRError, match="add: operands are float32 and int32; write a cast"):
        X + I
    assert (X + loop.cast(I, f32)).dtype == f32
    with pytest.raises(IRError, match="unknown unary operation 'sqr'"):
        loop.Un("sqr", X)
    with pytest.raises(IRError, match="loop.select"):
        if X > 0:
            pass


def test_substitute_and_transform():
    e = X * Y + X
    assert loop.substitute(e, {"x": Y}) == Y * Y + Y
    doubled = loop.transform(e, lambda n: n * 2 if n == X else None)
    assert loop.evaluate(doubled, {"x": np.float32(3), "y": np.float32(5)}) == 36
    assert [str(n) for n in loop.walk(X + Y)] == ["x", "y", "(x + y)"]
    assert str(loop.clip(X * 2, 0, 6)) == "min(max((x * 2.0), 0.0), 6.0)"


@pytest.mark.parametrize(
    "op", sorted(loop.UNARY - {"bitcast_u32", "bitcast_f32", "bitcast_u64", "bitcast_f64", "invert", "not"})
)
def test_every_unary_operation_has_a_meaning(op):
    found = loop.evaluate(loop.Un(op, X), {"x": np.float32([0.3, 0.9])})
    assert found.shape == (2,) and found.dtype == loop.Un(op, X).dtype


# ------------------------------------------------------------------------------------------------- nests


def reduce_nest(n, m, order, combiner="add", init=0.0):
    i, j = loop.Var("i"), loop.Var("j")
    acc = Acc(("s",), combiner, (loop.const(init, f32),), (loop.Load("x", (i, j), f32),), (f32,))
    return Nest((Loop("i", n),), (Loop("j", m),), (acc,), (Out("y", (i,), Name("s", f32)),), order, "t")


@given(
    st.integers(1, 3),
    st.integers(1, 70),
    st.sampled_from(nest.ORDERS),
    st.sampled_from([("add", 0.0), ("max", -np.inf), ("min", np.inf)]),
    st.integers(0, 9),
)
def test_every_order_folds_everything_once(n, m, order, combiner, seed):
    x = np.random.default_rng(seed).integers(-8, 9, (n, m)).astype(np.float32)
    arrays = {"x": x, "y": np.zeros(n, np.float32)}
    nest.evaluate(reduce_nest(n, m, order, *combiner), arrays)
    expected = {"add": x.sum(1), "max": x.max(1), "min": x.min(1)}[combiner[0]]
    np.testing.assert_array_equal(arrays["y"], expected)


def test_orders_are_what_the_design_says():
    """sequence left to right; lanes16 by i % 16 and the tree 8 4 2 1; chunks8 of ceil(n/8) in blocks of 32."""
    x = np.random.default_rng(0).uniform(-1, 1, (1, 600)).astype(np.float32)
    row = x[0]

    def run(order):
        arrays = {"x": x, "y": np.zeros(1, np.float32)}
        nest.evaluate(reduce_nest(1, 600, order), arrays)
        return arrays["y"][0]

    def fold(values):
        total = np.float32(0)
        for v in values:
            total = np.float32(total + v)
        return total

    lanes = [fold(row[k::16]) for k in range(16)]
    for width in (8, 4, 2, 1):
        lanes = [np.float32(lanes[k] + lanes[k + width]) for k in range(width)]
    chunks = [fold([fold(row[c : c + 75][b : b + 32]) for b in range(0, 75, 32)]) for c in range(0, 600, 75)]
    assert run("sequence") == fold(row) and run("lanes16") == lanes[0] and run("chunks8") == fold(chunks)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"order": "any"}, "order 'any' is none of"),
        ({"red": (Loop("i", 3),)}, "two loops have one name"),
        ({"outs": (Out("z", (loop.Var("i"),), Name("s", f32)),)}, "store to z does not fit"),
        ({"outs": (Out("y", (loop.Var("i"),), Name("t", f32)),)}, "name t is not bound"),
        ({"outs": (Out("y", (loop.Var("k"),), Name("s", f32)),)}, "k"),
        ({"outs": (Out("y", (loop.Var("i"),), loop.const(1, i32)),)}, "int32 is stored to y, which is float32"),
    ],
)
def test_the_verifier_of_nests(change, message):
    from dataclasses import replace

    buffers = {"x": Buffer("x", (2, 3), f32, "input"), "y": Buffer("y", (2,), f32, "output")}
    good = reduce_nest(2, 3, "sequence")
    nest.verify_nest(good, buffers)
    with pytest.raises(IRError, match=message):
        nest.verify_nest(replace(good, **change), buffers)
