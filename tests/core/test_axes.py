"""The relation of axes: parser, solver, transposition, by property."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shohin.core.axes import parse
from shohin.core.errors import RecordError, ShapeError
from shohin.ops import reference

TEXTS = [
    "n k, o k -> n o", "a b -> ", " -> ", "... c -> ... c", "(a b) -> a b | a=2", "n (h*2+k~pad.0) c, o k c -> n h o", "a! b -> a b",
    "n (h*stride.0+kh*dilation.0~padding.0) (w*stride.1+kw*dilation.1~padding.1) (g i), (g o) kh kw i -> n h w (g o) | g=groups",
    "(a0*2~[-1,0]) -> a0", "x 1 @1, j -> x j", "a, a -> ", "a0 a1, b -> a0 a1 b | b=3",
]  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_a_relation_prints_as_it_parses(text):
    relation = parse(text)
    assert parse(str(relation)) == relation


@pytest.mark.parametrize("text", ["a b", "a $ -> b", "(a) -> a", "a -> b | b", "a -> a |", "((a b) c) -> a"])
def test_what_cannot_be_read_is_an_error(text):
    with pytest.raises(RecordError):
        parse(text)


names = st.lists(st.sampled_from("abcdefg"), min_size=0, max_size=4, unique=True)
sizes = st.fixed_dictionaries({a: st.integers(1, 4) for a in "abcdefg"})


@given(names, names, sizes, st.data())
def test_contractions_are_einsum(left, right, extents, data):
    """Any two tensors of named axes, any result of them: solved shapes and sums are einsum's."""
    every = list(dict.fromkeys([*left, *right]))
    out = data.draw(st.permutations(data.draw(st.lists(st.sampled_from(every), unique=True)) if every else []))
    relation = parse(f"{' '.join(left)}, {' '.join(right)} -> {' '.join(out)}")
    shapes = [tuple(extents[a] for a in side) for side in (left, right)]
    solved = relation.solve(shapes)
    assert solved.results == (tuple(extents[a] for a in out),)
    assert set(solved.reduced) == set(every) - set(out)
    rng = np.random.default_rng(0)
    x, y = (rng.integers(-3, 4, s).astype(np.float64) for s in shapes)
    expected = np.einsum(f"{''.join(left)},{''.join(right)}->{''.join(out)}", x, y)
    np.testing.assert_allclose(reference.contract(solved, [x, y], np.dtype(np.float64)), expected)


@given(
    st.integers(1, 12), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.integers(0, 3), st.integers(0, 3)
)
def test_a_window_counts_like_a_loop(size, kernel, stride, dilation, lo, hi):
    """floor((D + lo + hi - span - 1) / stride) + 1, with remainders; too small is an error."""
    relation = parse("(h*s+k*d~pad), k -> h")
    attrs = {"s": stride, "d": dilation, "pad": (lo, hi)}
    span = (kernel - 1) * dilation
    starts = [h for h in range(0, size + lo + hi, stride) if h + span < size + lo + hi]
    if not starts:
        with pytest.raises(ShapeError, match="too small for a window"):
            relation.solve([(size,), (kernel,)], attrs)
    else:
        assert relation.solve([(size,), (kernel,)], attrs).results == ((len(starts),),)


@given(
    st.integers(1, 9), st.integers(1, 3), st.integers(1, 3), st.integers(0, 2), st.integers(0, 2), st.integers(0, 99)
)
def test_a_transpose_is_the_adjoint(size, kernel, stride, lo, hi, seed):
    """<conv(x, w), g> = <x, conv_dx(g, w)> = <w, conv_dw(x, g)>: the transposed relations compute the adjoint."""
    if size + lo + hi < kernel:
        return
    relation = parse("n (h*s+k~pad) c, o k c -> n h o")
    attrs = {"s": stride, "pad": (lo, hi)}
    rng = np.random.default_rng(seed)
    x, w = rng.normal(size=(2, size, 3)), rng.normal(size=(2, kernel, 3))
    solved = relation.solve([x.shape, w.shape], attrs)
    f64 = np.dtype(np.float64)
    y = reference.contract(solved, [x, w], f64)
    g = rng.normal(size=y.shape)
    dx = reference.contract(relation.transpose(0).solve([g.shape, w.shape], attrs, result=x.shape), [g, w], f64)
    dw = reference.contract(relation.transpose(1).solve([x.shape, g.shape], attrs, result=w.shape), [x, g], f64)
    assert dx.shape == x.shape and dw.shape == w.shape
    np.testing.assert_allclose([(dx * x).sum(), (dw * w).sum()], [(y * g).sum()] * 2, rtol=1e-9, atol=1e-9)


@given(names)
def test_transposing_twice_is_the_relation(axes):
    relation = parse(f"{' '.join(axes)} k, k j -> {' '.join(axes)} j")
    for operand in (0, 1):
        assert relation.transpose(operand).transpose(operand) == relation


@given(st.lists(st.integers(1, 3), max_size=4), st.lists(st.integers(1, 3), max_size=4))
def test_ellipsis_broadcasts_as_numpy(a, b):
    relation = parse("..., ... -> ...")
    try:
        expected = np.broadcast_shapes(a, b)
    except ValueError:
        with pytest.raises(ShapeError, match="do not broadcast"):
            relation.solve([tuple(a), tuple(b)])
        return
    assert relation.solve([tuple(a), tuple(b)]).results == (expected,)


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), st.booleans())
def test_products_divide(g, i, o, wrong):
    relation = parse("n (g i), (g o) i -> n (g o) | g=groups")
    shape = (2, g * i + wrong)
    if wrong and (g * i + 1) % g:
        with pytest.raises(ShapeError, match="multiple of|expected"):
            relation.solve([shape, (g * o, i)], {"groups": g}, "op")
    elif not wrong:
        assert relation.solve([shape, (g * o, i)], {"groups": g}).results == ((2, g * o),)


@pytest.mark.parametrize(
    "text, shapes, attrs, message",
    [
        ("n k, o k -> n o", [(2, 3), (4, 5)], {}, r"op: operand 1 dim 1 is 5, expected 3 \(k\)"),
        ("n k -> n", [(2,)], {}, r"op: operand 0 has 1 dims \(2,\), expected 2 \(n k\)"),
        ("a, b -> a b", [(2,)], {}, r"op: takes 2 operands, got 1"),
        ("(a b) -> a b", [(6,)], {}, r"op: operand 0 dim 0 is 6: the extents of \(a b\) cannot be told apart"),
        ("a 1 -> a", [(2, 3)], {}, r"op: operand 0 dim 1 is 3, expected 1"),
    ],
)
def test_errors_name_op_operand_dim_and_expectation(text, shapes, attrs, message):
    with pytest.raises(ShapeError, match=message):
        parse(text).solve(shapes, attrs, "op")


def test_an_attribute_that_the_op_does_not_have():
    with pytest.raises(RecordError, match="'stride'"):
        parse("(h*stride+k), k -> h").solve([(4,), (2,)], {}, "op")
