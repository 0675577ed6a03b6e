"""Folds over dims: sum, product, extremes and their positions, cumulative sum."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod as _product
from typing import Any

import numpy as np
from ml_dtypes import iinfo

from shohin.core import dtypes, interp
from shohin.core.axes import Shape
from shohin.core.errors import ShapeError
from shohin.core.op import EXACT, NO_GRADIENT, Attr, Dtypes, Op, Quant, Sample, Tol, register
from shohin.core.tensor import Tensor, as_tensor
from shohin.ops import kinds
from shohin.ops.kinds import Axis, Function, names, normalize_axis, reduced, reduction
from shohin.ops.math import API, astype, equal, ones_like, sqrt, where, zeros_like

Attrs = Mapping[str, Any]

def _spread(g: Tensor, shape: Shape, axis: tuple[int, ...]) -> Tensor:
    """A reduced value back over the dims that vanished."""
    kept = tuple(1 if i in axis else n for i, n in enumerate(shape))
    return interp.bind(kinds.BROADCAST[0], [_reshaped(g, kept)], {"shape": shape})[0] if kept != shape else _reshaped(g, kept)


def _reshaped(x: Tensor, shape: Shape) -> Tensor:
    return x if x.shape == shape else x.reshape(shape)


def _arg(f: Any) -> Any:
    return lambda x, axis: f(x, axis=axis)


_sum = reduction("sum", combiner="add", identity=lambda d: 0, numpy=lambda x, axis: np.sum(x, axis=axis, dtype=x.dtype), accepted=dtypes.NUMERIC,
                 vjp=lambda x, y, g, axis: _spread(g, x.shape, axis), quant=Quant("rule", rule="Q7 average pool"), tol=Tol(256, 1e-5), source=API, doc="The sum over ``axis``.").op  # fmt: skip
_prod = reduction("prod", combiner="mul", identity=lambda d: 1, numpy=lambda x, axis: np.prod(x, axis=axis, dtype=x.dtype), accepted=dtypes.NUMERIC,
                  vjp=lambda x, y, g, axis: _prod_vjp(x, y, g, axis), quant=Quant.refuse("a product has no integer definition"), tol=Tol(256), source=API, doc="The product over ``axis``.").op  # fmt: skip
_max = reduction("max", combiner="max", identity=lambda d: -np.inf if d in dtypes.FLOATING else int(iinfo(d).min), numpy=_arg(np.max), accepted=dtypes.NUMERIC,
                 vjp=lambda x, y, g, axis: _extreme_vjp(x, y, g, axis), quant=Quant("share"), tol=EXACT, source=API, doc="The largest over ``axis``; equal ones share the gradient.").op  # fmt: skip
_min = reduction("min", combiner="min", identity=lambda d: np.inf if d in dtypes.FLOATING else int(iinfo(d).max), numpy=_arg(np.min), accepted=dtypes.NUMERIC,
                 vjp=lambda x, y, g, axis: _extreme_vjp(x, y, g, axis), quant=Quant("share"), tol=EXACT, source=API, doc="The smallest over ``axis``; equal ones share the gradient.").op  # fmt: skip
_BOOL = frozenset({dtypes.bool_})
_any = reduction("any", combiner="or", identity=lambda d: False, numpy=_arg(np.any), accepted=_BOOL, vjp=NO_GRADIENT, quant=Quant.refuse("booleans have no grid"), tol=EXACT, source=API, doc="Is any element true?").op
_all = reduction("all", combiner="and", identity=lambda d: True, numpy=_arg(np.all), accepted=_BOOL, vjp=NO_GRADIENT, quant=Quant.refuse("booleans have no grid"), tol=EXACT, source=API, doc="Are all elements true?").op


def _prod_vjp(x: Tensor, y: Tensor, g: Tensor, axis: tuple[int, ...]) -> Tensor:
    """The product of the other elements: with one zero among them only the zero has a gradient, with two none has."""
    zero = equal(x, zeros_like(x))
    filled = where(zero, ones_like(x), x)
    others = _spread(g * interp.bind(_prod, [filled], {"axis": axis})[0], x.shape, axis) / filled
    zeros = _spread(interp.bind(_sum, [astype(zero, x.dtype)], {"axis": axis})[0], x.shape, axis)
    return where(equal(zeros - astype(zero, x.dtype), zeros_like(x)), others, zeros_like(x))


def _extreme_vjp(x: Tensor, y: Tensor, g: Tensor, axis: tuple[int, ...]) -> Tensor:
    hits = equal(x, _spread(y, x.shape, axis))
    count = interp.bind(_sum, [astype(hits, x.dtype)], {"axis": axis})[0]
    return where(hits, _spread(g / count, x.shape, axis), zeros_like(x))


def sum(x: Any, /, *, axis: Axis = None, dtype: Any = None, keepdims: bool = False) -> Tensor:
    """The sum over ``axis`` (all dims without it). Integers below 64 bits sum in int64 unless ``dtype`` says otherwise."""
    return reduced(_sum, _widened(x, dtype), axis, keepdims)


def prod(x: Any, /, *, axis: Axis = None, dtype: Any = None, keepdims: bool = False) -> Tensor:
    """The product over ``axis``."""
    return reduced(_prod, _widened(x, dtype), axis, keepdims)


def _widened(x: Any, dtype: Any) -> Tensor:
    tensor = as_tensor(x)
    if dtype is not None:
        return astype(tensor, dtype)
    if tensor.dtype in dtypes.SIGNED | {dtypes.bool_}:
        return astype(tensor, dtypes.int64)
    return astype(tensor, dtypes.uint64) if tensor.dtype in dtypes.UNSIGNED else tensor


def max(x: Any, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The largest element over ``axis``."""
    return reduced(_max, x, axis, keepdims)


def min(x: Any, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The smallest element over ``axis``."""
    return reduced(_min, x, axis, keepdims)


def any(x: Any, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Is any element true (nonzero)?"""
    return reduced(_any, astype(as_tensor(x), dtypes.bool_), axis, keepdims)


def all(x: Any, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Are all elements true (nonzero)?"""
    return reduced(_all, astype(as_tensor(x), dtypes.bool_), axis, keepdims)


def mean(x: Any, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The mean over ``axis``: the sum, then one product with 1/n."""
    tensor = as_tensor(x)
    dims = normalize_axis(axis, tensor.ndim, "mean: axis")
    count = _product(tensor.shape[d] for d in dims)
    return reduced(_sum, tensor, axis, keepdims) / count


def var(x: Any, /, *, axis: Axis = None, correction: float = 0.0, keepdims: bool = False) -> Tensor:
    """The variance over ``axis`` in two passes; divisor n - ``correction``."""
    tensor = as_tensor(x)
    dims = normalize_axis(axis, tensor.ndim, "var: axis")
    count = _product(tensor.shape[d] for d in dims)
    centred = tensor - mean(tensor, axis=dims, keepdims=True)
    return reduced(_sum, centred * centred, dims, keepdims) / (count - correction)


def _moments_vjp(x: Tensor, mean: Tensor, var: Tensor, g: Tensor, h: Tensor, axis: tuple[int, ...]) -> Tensor:
    count = _product(x.shape[d] for d in axis)
    away = x - _spread(mean, x.shape, axis)
    return _spread(g / count, x.shape, axis) + away * _spread(h * (2 / count), x.shape, axis)


_moments = register(Op(
    name="moments", kind="reduction", doc="Mean and biased variance over ``axis``, in one pass.", source="Chan, Golub and LeVeque 1979", operands=("x",), results=("mean", "var"),
    attrs={"axis": Attr(type="dims")},
    dtypes=Dtypes(accepted=(dtypes.FLOATING,), same=True, result=lambda found, attrs: (found[0], found[0]), compute=kinds.compute_dtype, accumulator=kinds.compute_dtype),
    axes=lambda shapes, a: "{0} -> {1}, {1}".format(" ".join(names(len(shapes[0]))), " ".join(n for i, n in enumerate(names(len(shapes[0]))) if i not in a["axis"])),
    shape=None, body=None, combiner="moments", identity=lambda d: 0, order=None, pad=None, fin=None,
    numpy=kinds.in_compute(lambda x, axis: (np.mean(x, axis=axis, dtype=x.dtype), np.var(x, axis=axis, dtype=x.dtype))), vjp=(_moments_vjp,),
    nest="moments", batch=None, alias=False, quant=Quant.refuse("statistics of a batch are training's; quantize in evaluation mode"), tol=Tol(256, 1e-5),
    samples=lambda rng: [Sample((rng.uniform(-2, 2, s).astype(np.float32),), {"axis": a}) for s, a in (((4, 5), (1,)), ((4, 5, 3), (0, 1)), ((37, 3), (0,)), ((3, 35), (0, 1)), ((7, 11, 9, 5), (0, 1, 2)))],
    edges=(),
))  # fmt: skip


def moments(x: Any, /, *, axis: Axis = None, keepdims: bool = False) -> tuple[Tensor, Tensor]:
    """(mean, biased variance) over ``axis``: what normalization asks for.

    >>> [t.tolist() for t in moments(as_tensor([[1.0], [3.0]]), axis=0)]
    [[2.0], [1.0]]
    """
    tensor = as_tensor(x)
    dims = normalize_axis(axis, tensor.ndim, "moments: axis")
    shape = tuple(1 if d in dims else n for d, n in enumerate(tensor.shape))
    found = interp.bind(_moments, [tensor], {"axis": dims})
    return (found[0].reshape(shape), found[1].reshape(shape)) if keepdims else (found[0], found[1])


def std(x: Any, /, *, axis: Axis = None, correction: float = 0.0, keepdims: bool = False) -> Tensor:
    """The square root of ``var``."""
    return sqrt(var(x, axis=axis, correction=correction, keepdims=keepdims))


# ----------------------------------------------------------------------------------------- positions, running sums


def _positions(name: str, numpy: Any, combiner: str) -> Function:
    op = register(Op(
        name=name, kind="reduction", doc=f"Where the {combiner} stands along ``axis``; the first of equal ones.", source=API, operands=("x",), results=("i",),
        attrs={"axis": Attr(type="dim")},
        dtypes=Dtypes(accepted=(dtypes.NUMERIC,), same=True, result=lambda found, attrs: (dtypes.int64,), compute=lambda d: d, accumulator=lambda d: d),
        axes=lambda shapes, a: f"{' '.join(f'a{i}' + ('!' if i == a['axis'] else '') for i in range(len(shapes[0])))} -> {' '.join(n for i, n in enumerate(names(len(shapes[0]))) if i != a['axis'])}",
        shape=None, body=lambda x: x, combiner=combiner, identity=lambda d: None, order="sequence", pad=None, fin=None, numpy=lambda x, axis: numpy(x, axis=axis).astype(np.int64),
        vjp=(NO_GRADIENT,), nest="arg", batch=None, alias=False, quant=Quant("share"), tol=EXACT,
        samples=lambda rng: [Sample((rng.uniform(-1, 1, (3, 7)).astype(np.float32),), {"axis": 1}), Sample((rng.integers(0, 3, (5, 2)).astype(np.int32),), {"axis": 0})], edges=(),
    ))  # fmt: skip
    return Function(op)


_argmax, _argmin = _positions("argmax", np.argmax, "max"), _positions("argmin", np.argmin, "min")


def _position(op: Function, x: Any, axis: int | None, keepdims: bool) -> Tensor:
    tensor = as_tensor(x)
    flat = tensor if axis is not None else tensor.reshape((-1,))
    at = kinds.dim_of(axis or 0, flat.ndim, f"{op.op.name}: axis")
    out = interp.bind(op.op, [flat], {"axis": at})[0]
    if not keepdims:
        return out
    return out.reshape(tuple(1 if axis is None or i == at else n for i, n in enumerate(tensor.shape)))


def argmax(x: Any, /, *, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """int64 position of the largest element; the first of equal ones."""
    return _position(_argmax, x, axis, keepdims)


def argmin(x: Any, /, *, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """int64 position of the smallest element; the first of equal ones."""
    return _position(_argmin, x, axis, keepdims)


def _cumsum_vjp(x: Tensor, y: Tensor, g: Tensor, axis: int) -> Tensor:
    total = _spread(interp.bind(_sum, [g], {"axis": (axis,)})[0], g.shape, (axis,))
    return total - interp.bind(_cumsum, [g], {"axis": axis})[0] + g


_cumsum = register(Op(
    name="cumsum", kind="scan", doc="The running sum along ``axis``, in order.", source=API, operands=("x",), results=("y",), attrs={"axis": Attr(type="dim")},
    dtypes=kinds.same_dtype(dtypes.NUMERIC, 1),
    axes=lambda shapes, a: "{0} -> {0}".format(" ".join(f"a{i}" + ("!" if i == a["axis"] else "") for i in range(len(shapes[0])))), shape=None, body=lambda x: x,
    combiner="add", identity=lambda d: 0, order="sequence", pad=None, fin=None, numpy=kinds.in_compute(lambda x, axis: np.cumsum(x, axis=axis, dtype=x.dtype)), vjp=(_cumsum_vjp,),
    nest="running", batch=None, alias=False, quant=Quant.refuse("a running sum has no integer definition yet"), tol=Tol(256, 1e-5),
    samples=lambda rng: [Sample((rng.uniform(-1, 1, (3, 7)).astype(np.float32),), {"axis": 1}), Sample((rng.uniform(-1, 1, (5, 2)).astype(np.float32),), {"axis": 0})], edges=(),
))  # fmt: skip


def cumulative_sum(x: Any, /, *, axis: int | None = None) -> Tensor:
    """The running sum along ``axis``."""
    tensor = as_tensor(x)
    if axis is None and tensor.ndim != 1:
        raise ShapeError(f"cumulative_sum: write the axis for a tensor of {tensor.ndim} dims")
    return interp.bind(_cumsum, [tensor], {"axis": kinds.dim_of(axis or 0, tensor.ndim, "cumulative_sum: axis")})[0]


__all__ = ["all", "any", "argmax", "argmin", "cumulative_sum", "max", "mean", "min", "moments", "prod", "std", "sum", "var"]
