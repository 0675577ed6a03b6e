"""The functions of the array API standard against NumPy, eager and compiled; their derivatives by finite differences."""

# ruff: noqa: B023

import numpy as np
import pytest

import shohin as sh
from shohin.testing.numeric import slope

R = np.random.default_rng(0)
S = R.uniform(-0.9, 0.9, (3, 4)).astype(np.float32)
T = R.uniform(-3, 3, (3, 4)).astype(np.float32)
P = R.uniform(1.1, 3, (3, 4)).astype(np.float32)
I = R.integers(-4, 5, (3, 4))
V = np.sort(R.uniform(-2, 2, 6)).astype(np.float32)
B = T > 0

FLOATING = {
    "acos": (S,), "acosh": (P,), "asin": (S,), "asinh": (T,), "atan": (T,), "atanh": (S,), "cosh": (T,), "sinh": (T,), "tan": (S,),
    "log2": (P,), "log10": (P,), "hypot": (T, P), "logaddexp": (T, P), "copysign": (P, T), "square": (T,), "reciprocal": (P,),
    "exp": (S,), "expm1": (S,), "log": (P,), "log1p": (P,), "sqrt": (P,), "sin": (T,), "cos": (T,), "tanh": (T,), "atan2": (T, P),
    "add": (T, P), "subtract": (T, P), "multiply": (T, P), "divide": (T, P), "pow": (P, S), "maximum": (T, P), "minimum": (T, P),
    "abs": (T,), "negative": (T,), "remainder": (T, P),
}  # fmt: skip
NUMPY = {"acos": "arccos", "acosh": "arccosh", "asin": "arcsin", "asinh": "arcsinh", "atan": "arctan", "atanh": "arctanh", "atan2": "arctan2",
         "pow": "power", "bitwise_invert": "invert", "concat": "concatenate", "permute_dims": "transpose", "bitwise_left_shift": "left_shift",
         "bitwise_right_shift": "right_shift"}  # fmt: skip
EXACT = {
    "ceil": (T,), "floor": (T,), "trunc": (T,), "round": (T,), "sign": (T,), "isnan": (T,), "isfinite": (T,), "isinf": (T,), "signbit": (T,),
    "equal": (I, I.T[:3, :1] * 1), "less": (T, P), "greater_equal": (I, 0), "logical_and": (B, ~B), "logical_not": (B,), "bitwise_xor": (I, 3),
    "bitwise_left_shift": (abs(I), 2), "floor_divide": (I, 3), "positive": (T,),
}  # fmt: skip


def numpy_of(name):
    return getattr(np, NUMPY.get(name, name))


@pytest.mark.parametrize("name", FLOATING)
def test_functions(name):
    args = FLOATING[name]
    found = getattr(sh, name)(*map(sh.asarray, args))
    assert found.dtype == sh.float32
    np.testing.assert_allclose(found, numpy_of(name)(*(a.astype(np.float64) for a in args)), rtol=3e-6, atol=1e-6)


@pytest.mark.parametrize("name", FLOATING)
def test_derivatives(name):
    args = [a.astype(np.float64) for a in FLOATING[name]]
    for k, a in enumerate(args):
        if name == "copysign" and k == 1:
            continue  # a step
        f = lambda v, k=k: getattr(sh, name)(*(v if i == k else sh.asarray(b) for i, b in enumerate(args)))
        g = sh.grad(lambda v: f(v).sum())(sh.asarray(a))
        expected = slope(lambda t, a=a, k=k: numpy_of(name)(*(a + t if i == k else b for i, b in enumerate(args))))
        np.testing.assert_allclose(g, expected, rtol=1e-5, atol=1e-6)


def test_all_of_them_as_one_program():
    def everything(args):
        return [getattr(sh, n)(*a) for n, a in zip(FLOATING, args, strict=True)]

    args = [list(map(sh.asarray, FLOATING[n])) for n in FLOATING]
    for name, found in zip(FLOATING, sh.jit(everything)(args), strict=True):
        np.testing.assert_allclose(found, numpy_of(name)(*FLOATING[name]), rtol=5e-6, atol=2e-6, err_msg=name)


@pytest.mark.parametrize("name", EXACT)
def test_exact_functions(name):
    args = EXACT[name]
    found = getattr(sh, name)(*(sh.asarray(a) if isinstance(a, np.ndarray) else a for a in args))
    np.testing.assert_array_equal(found, numpy_of(name)(*args))


SPECIAL = np.float32([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-30, -1e-30, 3e38, 1.0, -1.0])


@pytest.mark.parametrize(
    "name", ["asinh", "atan", "cosh", "sinh", "isinf", "isnan", "isfinite", "exp", "log1p", "tanh", "sqrt", "abs"]
)
def test_special_values(name):
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(getattr(sh, name)(sh.asarray(SPECIAL)), numpy_of(name)(SPECIAL), rtol=3e-6)


@pytest.mark.parametrize("name", ["hypot", "copysign", "maximum", "minimum"])
def test_special_pairs(name):
    a, b = (x.ravel() for x in np.meshgrid(SPECIAL, SPECIAL))
    keep = ~np.isnan(b)  # the sign of a NaN is nobody's
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(
            getattr(sh, name)(sh.asarray(a[keep]), sh.asarray(b[keep])), numpy_of(name)(a[keep], b[keep]), rtol=3e-6
        )


X3 = R.integers(-3, 4, (2, 3, 4)).astype(np.float32)
CALLS = {
    "tril": (lambda x, n: n.tril(x, k=1), X3), "triu": (lambda x, n: n.triu(x, k=-1), X3), "repeat": (lambda x, n: n.repeat(x, 2, axis=1), X3),
    "repeat each": (lambda x, n: n.repeat(x, np.array([1, 0, 2]), axis=1), X3), "repeat flat": (lambda x, n: n.repeat(x, 3), X3),
    "tile": (lambda x, n: n.tile(x, (2, 1, 3)), X3), "tile short": (lambda x, n: n.tile(x, (2,)), X3), "tile long": (lambda x, n: n.tile(x, (2, 1, 1, 2)), X3),
    "diff": (lambda x, n: n.diff(x, n=2), X3), "diff axis": (lambda x, n: n.diff(x, axis=0), X3), "flip": (lambda x, n: n.flip(x, axis=(0, 2)), X3),
    "roll": (lambda x, n: n.roll(x, 2, axis=1), X3), "moveaxis": (lambda x, n: n.moveaxis(x, 0, 2), X3), "sum": (lambda x, n: n.sum(x, axis=(0, 2)), X3),
    "prod": (lambda x, n: n.prod(x, axis=1), X3), "mean": (lambda x, n: n.mean(x, axis=1, keepdims=True), X3), "var": (lambda x, n: n.var(x, axis=-1), X3),
    "std": (lambda x, n: n.std(x), X3), "max": (lambda x, n: n.max(x, axis=1), X3), "argmin": (lambda x, n: n.argmin(x, axis=2), X3),
    "argmax": (lambda x, n: n.argmax(x), X3), "any": (lambda x, n: n.any(x, axis=0), X3), "all": (lambda x, n: n.all(x, axis=2), X3),
    "sort": (lambda x, n: n.sort(x, axis=1), X3), "argsort": (lambda x, n: n.argsort(x, axis=-1, stable=True), X3), "stack": (lambda x, n: n.stack([x, x + 1], axis=-1), X3),
    "concat": (lambda x, n: n.concat([x, x * 2], axis=1), X3), "squeeze": (lambda x, n: n.squeeze(x[:1], 0), X3), "expand": (lambda x, n: n.expand_dims(x, axis=-1), X3),
    "tensordot": (lambda x, n: n.tensordot(x, x, axes=((0, 1), (0, 1))), X3), "matmul": (lambda x, n: n.matmul(x, n.permute_dims(x, (0, 2, 1))), X3),
    "cumulative_sum": (lambda x, n: n.cumulative_sum(x, axis=1), X3), "count_nonzero": (lambda x, n: n.count_nonzero(x, axis=1), X3),
    "clip": (lambda x, n: n.clip(x, -1, 2), X3), "where": (lambda x, n: n.where(x > 0, x, -2.0 * x), X3), "take": (lambda x, n: n.take(x, np.array([2, 0, 2]), axis=1), X3),
    "take_along_axis": (lambda x, n: n.take_along_axis(x, n.argsort(x, axis=1), axis=1), X3), "matrix_transpose": (lambda x, n: n.matrix_transpose(x), X3),
    "searchsorted": (lambda x, n: n.searchsorted(x, np.float32([-9, 0.1, 9, V[2]])), V), "right": (lambda x, n: n.searchsorted(x, V, side="right"), V),
    "vecdot": (lambda x, n: n.vecdot(x, x + 1), X3), "linspace": (lambda x, n: x * 0 + n.linspace(0, 1, 4, dtype=n.float32), X3),
    "zeros_like": (lambda x, n: n.zeros_like(x), X3), "full_like": (lambda x, n: n.full_like(x, 3), X3), "eye": (lambda x, n: x[0, :, :3] + n.eye(3, k=1, dtype=n.float32), X3),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_calls(name):
    f, x = CALLS[name]
    expected = f(x, np)
    found = f(sh.asarray(x), sh)
    assert found.shape == expected.shape and found.dtype.kind == expected.dtype.kind
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_all_calls_as_one_program():
    def everything(x, v):
        return [f(v if a is V else x, sh) for f, a in CALLS.values()]

    for (name, (f, x)), found in zip(CALLS.items(), sh.jit(everything)(X3, V), strict=True):
        np.testing.assert_allclose(found, f(x, np), rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    "name",
    [
        n
        for n in CALLS
        if n
        not in ("argmin", "argmax", "any", "all", "argsort", "count_nonzero", "searchsorted", "right", "std", "prod")
    ],
)
def test_derivatives_of_calls(name):
    """<grad of sum(w f(x)), v> is the slope of NumPy's f, along a direction that crosses no tie."""
    f, x = CALLS[name]
    x = x.astype(np.float64) + R.uniform(-0.2, 0.2, x.shape)
    f32 = lambda n: type("n", (), {"__getattr__": lambda self, a: getattr(n, "float64" if a == "float32" else a)})()
    w = R.uniform(-1, 1, f(x, f32(np)).shape)
    v = R.uniform(-1, 1, x.shape)
    g = sh.grad(lambda t: (f(t, f32(sh)) * w).sum())(sh.asarray(x))
    np.testing.assert_allclose(
        (g.numpy() * v).sum(), slope(lambda t: (f(x + t * v, f32(np)) * w).sum()), rtol=1e-6, atol=1e-7
    )


def test_prod_has_gradients_at_zeros():
    for row in ([2.0, 3.0, 4.0], [2.0, 0.0, 4.0], [0.0, 0.0, 4.0]):
        a = np.array(row)
        expected = [np.prod(np.delete(a, k)) for k in range(3)]
        np.testing.assert_allclose(sh.grad(lambda t: sh.prod(t))(sh.asarray(a)), expected)


def test_pow_has_gradients_at_zeros():
    f = lambda a, b: (a**b).sum()
    ga, gb = sh.grad(f, argnums=(0, 1))(sh.asarray([0.0, 0.0, 2.0]), sh.asarray([0.0, 2.0, 3.0]))
    assert ga.tolist() == [0, 0, 12] and gb.tolist()[:2] == [0, 0]
    third = sh.grad(lambda x: sh.grad(lambda x: sh.grad(lambda x: x**2)(x))(x))(sh.asarray(0.0))
    assert float(third) == 0


def test_results_whose_shape_depends_on_values():
    a = np.float32([3, 1, 3, 0, 1, 1])
    found, (values, first, inverse, counts) = (
        sh.unique_all(sh.asarray(a)),
        np.unique(a, return_index=True, return_inverse=True, return_counts=True),
    )
    for f, e in zip(found, (values, first, inverse, counts), strict=True):
        np.testing.assert_array_equal(f, e)
    assert sh.unique_values(sh.asarray(a)).tolist() == [0, 1, 3] and sh.unique_counts(
        sh.asarray(a)
    ).counts.tolist() == [1, 3, 2]
    assert sh.unique_inverse(sh.asarray(a)).inverse_indices.shape == (6,)
    for f, e in zip(sh.nonzero(sh.asarray(X3)), np.nonzero(X3), strict=True):
        np.testing.assert_array_equal(f, e)
    with pytest.raises(sh.TraceError):
        sh.jit(lambda x: sh.nonzero(x)[0])(X3)
    np.testing.assert_array_equal(sh.asarray(X3)[X3 > 0], X3[X3 > 0])


@pytest.mark.parametrize("indexing", ["xy", "ij"])
def test_meshgrid(indexing):
    arrays = [np.arange(n, dtype=np.float32) for n in (2, 3, 4)]
    for f, e in zip(sh.meshgrid(*arrays, indexing=indexing), np.meshgrid(*arrays, indexing=indexing), strict=True):
        np.testing.assert_array_equal(f, e)


def test_pieces():
    for k, part in enumerate(sh.unstack(sh.asarray(X3), axis=1)):
        np.testing.assert_array_equal(part, X3[:, k])
    a, b = sh.broadcast_arrays(sh.zeros((3, 1)), sh.ones(4))
    assert a.shape == b.shape == (3, 4)
    assert sh.empty_like(a, dtype=sh.int8).dtype == sh.int8


def test_dtypes():
    assert sh.result_type(sh.int8, sh.uint8) == sh.int16 and sh.result_type(sh.ones(2), 3) == sh.float32
    assert (
        sh.can_cast(sh.int8, sh.int32)
        and not sh.can_cast(sh.int32, sh.float32)
        and not sh.can_cast(sh.float64, sh.float32)
    )
    assert (
        sh.isdtype(sh.float16, "real floating")
        and sh.isdtype(sh.uint8, ("integral", sh.bool))
        and not sh.isdtype(sh.bool, "numeric")
    )
    assert sh.finfo(sh.float32).eps == np.finfo(np.float32).eps and float(sh.finfo(sh.bfloat16).eps) == 2**-7
    assert sh.iinfo(sh.int4).max == 7 and sh.iinfo(sh.uint8).max == 255
    for bad in (lambda: sh.finfo(sh.int8), lambda: sh.iinfo(sh.float32), lambda: sh.isdtype(sh.int8, "number")):
        with pytest.raises(sh.DtypeError, match="finfo|iinfo|none of"):
            bad()


def test_the_namespace_of_a_tensor():
    assert sh.ones(2).__array_namespace__() is sh
    assert sh.pi == np.pi and sh.newaxis is None


@pytest.mark.parametrize(
    "call, message",
    [(lambda: sh.tril(sh.ones(3)), "tril: needs at least 2 dims, got 1"), (lambda: sh.meshgrid(sh.ones((2, 2))), r"meshgrid: takes tensors of 1 dim"),
     (lambda: sh.repeat(sh.ones(3), np.array([1, 2])), r"repeat: repeats has shape \(2,\) for an axis of 3"), (lambda: sh.unstack(sh.ones(3), axis=1), "unstack: axis 1"),
     (lambda: sh.vecdot(sh.ones(3), sh.ones(4)), r"vecdot: \(3,\) and \(4,\)"), (lambda: sh.searchsorted(sh.ones((2, 2)), sh.ones(2)), "expected 1")],
)  # fmt: skip
def test_errors(call, message):
    with pytest.raises(sh.ShapeError, match=message):
        call()
