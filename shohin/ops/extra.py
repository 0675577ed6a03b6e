"""What the array API standard has beside the primitives: plain functions of them, and inspection of dtypes."""

from __future__ import annotations

import math as _math
from collections.abc import Sequence
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from shohin.core import dtypes, interp
from shohin.core.dtypes import DType
from shohin.core.errors import DtypeError, ShapeError
from shohin.core.tensor import Tensor, as_tensor
from shohin.ops import index, kinds, linear, math, move, reduce

# ------------------------------------------------------------------------------------------- elementwise


def tan(x: Any, /) -> Tensor:
    """``sin(x) / cos(x)``."""
    return math.sin(x) / math.cos(x)


def sinh(x: Any, /) -> Tensor:
    """``(e^x - e^-x) / 2``, without cancellation near 0."""
    x = as_tensor(x)
    return (math.expm1(x) - math.expm1(-x)) * 0.5


def cosh(x: Any, /) -> Tensor:
    """``(e^x + e^-x) / 2``."""
    x = as_tensor(x)
    return (math.exp(x) + math.exp(-x)) * 0.5


def asinh(x: Any, /) -> Tensor:
    """The inverse of ``sinh``: ``log(x + sqrt(x^2 + 1))``, without cancellation near 0 and without overflow."""
    x = as_tensor(x)
    size = math.abs(x)
    large = size > 1e4
    small = math.where(large, math.ones_like(size), size)
    square = small * small
    near = math.log1p(small + square / (1 + math.sqrt(square + 1)))
    far = math.log(math.where(large, size, math.ones_like(size))) + _math.log(2)
    return math.where(x < 0, -1.0, 1.0) * math.where(large, far, near)


def acosh(x: Any, /) -> Tensor:
    """The inverse of ``cosh`` for x >= 1."""
    t = as_tensor(x) - 1
    return math.log1p(t + math.sqrt(t * (t + 2)))


def atanh(x: Any, /) -> Tensor:
    """The inverse of ``tanh`` for -1 <= x <= 1."""
    x = as_tensor(x)
    return (math.log1p(x) - math.log1p(-x)) * 0.5


def atan(x: Any, /) -> Tensor:
    """The angle whose tangent is x, in radians."""
    x = as_tensor(x)
    return math.atan2(x, math.ones_like(x))


def asin(x: Any, /) -> Tensor:
    """The angle whose sine is x, in radians."""
    x = as_tensor(x)
    return math.atan2(x, math.sqrt((1 - x) * (1 + x)))


def acos(x: Any, /) -> Tensor:
    """The angle whose cosine is x, in radians."""
    x = as_tensor(x)
    return math.atan2(math.sqrt((1 - x) * (1 + x)), x)


def log2(x: Any, /) -> Tensor:
    """The logarithm to base 2."""
    return math.log(x) * (1 / _math.log(2))


def log10(x: Any, /) -> Tensor:
    """The logarithm to base 10."""
    return math.log(x) * (1 / _math.log(10))


def isinf(x: Any, /) -> Tensor:
    """Is the element plus or minus infinity?"""
    x = as_tensor(x)
    return math.logical_not(math.isfinite(x) | math.isnan(x))


def signbit(x: Any, /) -> Tensor:
    """Is the sign negative? True for -0.0, False for every NaN."""
    x = as_tensor(x)
    zero = math.equal(x, 0)
    return math.where(zero, 1 / math.where(zero, x, math.ones_like(x)), x) < 0


def copysign(x1: Any, x2: Any, /) -> Tensor:
    """The size of x1 with the sign of x2."""
    a, b = kinds.broadcast(*kinds.coerce(x1, x2))
    size = math.abs(a)
    return math.where(signbit(b), -size, size)


def hypot(x1: Any, x2: Any, /) -> Tensor:
    """``sqrt(x1^2 + x2^2)`` without overflow."""
    a, b = kinds.broadcast(*kinds.coerce(x1, x2))
    p, q = math.abs(a), math.abs(b)
    large, small = math.maximum(p, q), math.minimum(p, q)
    plain = math.logical_not(math.equal(large, 0) | isinf(large))
    ratio = math.where(plain, small, math.zeros_like(small)) / math.where(plain, large, math.ones_like(large))
    return math.where(isinf(p) | isinf(q), _math.inf, large * math.sqrt(1 + ratio * ratio))


def logaddexp(x1: Any, x2: Any, /) -> Tensor:
    """``log(e^x1 + e^x2)`` without overflow."""
    a, b = kinds.broadcast(*kinds.coerce(x1, x2))
    same = math.equal(a, b)
    gap = math.where(same, math.zeros_like(a), a - b)
    return math.maximum(a, b) + math.log1p(math.exp(-math.abs(gap)))


def positive(x: Any, /) -> Tensor:
    """``x``."""
    return as_tensor(x)


# ----------------------------------------------------------------------------------- shapes and positions


def broadcast_arrays(*arrays: Any) -> list[Tensor]:
    """Tensors of one shape; their dtypes stay."""
    return kinds.broadcast(*map(as_tensor, arrays))


def empty_like(x: Any, /, *, dtype: Any = None, device: Any = None) -> Tensor:
    """Zeros of the shape of ``x``."""
    return math.zeros_like(as_tensor(x), dtype=dtype)


def meshgrid(*arrays: Any, indexing: str = "xy") -> list[Tensor]:
    """Coordinates on a grid from one tensor a dim; ``xy`` exchanges the first two dims, ``ij`` does not."""
    if indexing not in ("xy", "ij"):
        raise ShapeError(f"meshgrid: indexing is {indexing!r}, expected 'xy' or 'ij'")
    tensors = [as_tensor(a) for a in arrays]
    if any(t.ndim != 1 for t in tensors):
        raise ShapeError(f"meshgrid: takes tensors of 1 dim, got shapes {', '.join(str(t.shape) for t in tensors)}")
    n = len(tensors)
    order = [1, 0, *range(2, n)] if indexing == "xy" and n > 1 else list(range(n))
    shape = tuple(tensors[k].shape[0] for k in order)
    place = lambda k: tuple(-1 if d == order.index(k) else 1 for d in range(n))
    return [move.broadcast_to(move.reshape(t, place(k)), shape) for k, t in enumerate(tensors)]


def tril(x: Any, /, *, k: int = 0) -> Tensor:
    """The last two dims with zeros above diagonal ``k``."""
    return _triangle(x, lambda rows, columns: columns - rows <= k, "tril")


def triu(x: Any, /, *, k: int = 0) -> Tensor:
    """The last two dims with zeros below diagonal ``k``."""
    return _triangle(x, lambda rows, columns: columns - rows >= k, "triu")


def _triangle(x: Any, keep: Any, name: str) -> Tensor:
    tensor = as_tensor(x)
    if tensor.ndim < 2:
        raise ShapeError(f"{name}: needs at least 2 dims, got {tensor.ndim}")
    mask = keep(*np.ogrid[: tensor.shape[-2], : tensor.shape[-1]])
    return math.where(interp.current().constant(np.asarray(mask)), tensor, math.zeros_like(tensor))


def unstack(x: Any, /, *, axis: int = 0) -> tuple[Tensor, ...]:
    """The tensors that lie along ``axis``, without that dim."""
    tensor = as_tensor(x)
    at = kinds.dim_of(axis, tensor.ndim, "unstack: axis")
    return tuple(index.getitem(tensor, (*(slice(None),) * at, i)) for i in range(tensor.shape[at]))


def repeat(x: Any, repeats: Any, /, *, axis: int | None = None) -> Tensor:
    """Each element ``repeats`` times along ``axis`` (flattened without it); ``repeats`` is concrete."""
    tensor = as_tensor(x)
    if axis is None:
        tensor, axis = move.flatten(tensor), 0
    at = kinds.dim_of(axis, tensor.ndim, "repeat: axis")
    counts = np.asarray(repeats)
    try:
        spots = np.repeat(np.arange(tensor.shape[at]), counts)
    except ValueError as error:
        raise ShapeError(
            f"repeat: repeats has shape {counts.shape} for an axis of {tensor.shape[at]}, or a negative entry"
        ) from error
    return index.take(tensor, interp.current().constant(spots.astype(np.int64)), axis=at)


def tile(x: Any, repetitions: Sequence[int], /) -> Tensor:
    """``x`` laid out side by side, ``repetitions`` times along each of the last dims."""
    tensor = as_tensor(x)
    times = (1,) * (tensor.ndim - len(repetitions)) + tuple(repetitions)
    shape = (1,) * (len(times) - tensor.ndim) + tensor.shape
    wide = move.reshape(tensor, tuple(n for s in shape for n in (1, s)))
    wide = move.broadcast_to(wide, tuple(n for t, s in zip(times, shape, strict=True) for n in (t, s)))
    return move.reshape(wide, tuple(t * s for t, s in zip(times, shape, strict=True)))


def diff(x: Any, /, *, axis: int = -1, n: int = 1) -> Tensor:
    """Differences of neighbours along ``axis``, ``n`` times."""
    tensor = as_tensor(x)
    at = kinds.dim_of(axis, tensor.ndim, "diff: axis")
    part = lambda t, s: index.getitem(t, (*(slice(None),) * at, s))
    for _ in range(n):
        tensor = part(tensor, slice(1, None)) - part(tensor, slice(None, -1))
    return tensor


def vecdot(x1: Any, x2: Any, /, *, axis: int = -1) -> Tensor:
    """The sum of products along ``axis``."""
    a, b = kinds.coerce(x1, x2)
    if not a.ndim or not b.ndim or a.shape[axis] != b.shape[axis]:
        raise ShapeError(f"vecdot: {a.shape} and {b.shape} have different extents along axis {axis}")
    last = lambda t: move.moveaxis(t, axis, -1)
    rows, columns = move.expand_dims(last(a), axis=-2), move.expand_dims(last(b), axis=-1)
    return move.squeeze(linear.matmul(rows, columns), (-2, -1))


def count_nonzero(x: Any, /, *, axis: Any = None, keepdims: bool = False) -> Tensor:
    """How many elements differ from zero, as int64."""
    tensor = math.astype(math.astype(as_tensor(x), dtypes.bool_), dtypes.int64)
    return reduce.sum(tensor, axis=axis, keepdims=keepdims)


def searchsorted(x1: Any, x2: Any, /, *, side: str = "left", sorter: Any = None) -> Tensor:
    """Where each element of x2 would stand in the sorted x1: how many are below (``left``), not above (``right``)."""
    if side not in ("left", "right"):
        raise ShapeError(f"searchsorted: side is {side!r}, expected 'left' or 'right'")
    a, b = kinds.coerce(x1, x2)
    if a.ndim != 1:
        raise ShapeError(f"searchsorted: the first tensor has {a.ndim} dims, expected 1")
    a = a if sorter is None else index.take(a, sorter, axis=0)
    wide = move.expand_dims(b, axis=-1)
    below = math.less(a, wide) if side == "left" else math.less_equal(a, wide)
    return reduce.sum(math.astype(below, dtypes.int64), axis=-1)


# ------------------------------------------------------------------- results whose shape depends on values


def nonzero(x: Any, /) -> tuple[Tensor, ...]:
    """Positions of the elements that differ from zero, one tensor a dim. Concrete values only: the count is a shape."""
    return tuple(move.asarray(i.astype(np.int64)) for i in np.nonzero(as_tensor(x).concrete()))


class UniqueAll(NamedTuple):
    values: Tensor
    indices: Tensor
    inverse_indices: Tensor
    counts: Tensor


class UniqueCounts(NamedTuple):
    values: Tensor
    counts: Tensor


class UniqueInverse(NamedTuple):
    values: Tensor
    inverse_indices: Tensor


def unique_all(x: Any, /) -> UniqueAll:
    """Distinct values in order, where each occurs first, which one stands at each place, how often. Concrete only."""
    array = as_tensor(x).concrete()
    values, first, inverse, counts = np.unique(
        array, return_index=True, return_inverse=True, return_counts=True, equal_nan=False
    )
    whole = lambda a: move.asarray(np.asarray(a, np.int64))
    return UniqueAll(move.asarray(values), whole(first), whole(inverse.reshape(array.shape)), whole(counts))


def unique_counts(x: Any, /) -> UniqueCounts:
    """Distinct values in order, and how often each occurs. Concrete only."""
    found = unique_all(x)
    return UniqueCounts(found.values, found.counts)


def unique_inverse(x: Any, /) -> UniqueInverse:
    """Distinct values in order, and which one stands at each place. Concrete only."""
    found = unique_all(x)
    return UniqueInverse(found.values, found.inverse_indices)


def unique_values(x: Any, /) -> Tensor:
    """Distinct values in order. Concrete only."""
    return unique_all(x).values


def _dtype(value: Any) -> DType:
    return value.dtype if isinstance(value, Tensor | np.ndarray | np.generic) else dtypes.as_dtype(value)


def finfo(type: Any, /) -> Any:
    """Limits of a floating-point dtype: ``bits, eps, max, min, smallest_normal, dtype``."""
    dtype = _dtype(type)
    if dtype not in dtypes.FLOATING | dtypes.COMPLEX:
        raise DtypeError(f"finfo: {dtype.name} is not floating-point; use iinfo")
    return ml_dtypes.finfo(dtype) if dtype == dtypes.bfloat16 else np.finfo(dtype)


def iinfo(type: Any, /) -> Any:
    """Limits of an integer dtype: ``bits, max, min, dtype``."""
    dtype = _dtype(type)
    if dtype not in dtypes.INTEGER:
        raise DtypeError(f"iinfo: {dtype.name} is not an integer dtype; use finfo")
    return ml_dtypes.iinfo(dtype)


def result_type(*arrays_and_dtypes: Any) -> DType:
    """The dtype that these promote to; Python numbers are weak."""
    pairs: list[tuple[DType, bool]] = []
    for v in arrays_and_dtypes:
        number = isinstance(v, bool | int | float | complex)
        pairs.append((dtypes.of_scalar(v), True) if number else (_dtype(v), isinstance(v, Tensor) and v.weak))
    return dtypes.promote(*pairs)


def can_cast(from_: Any, to: Any, /) -> bool:
    """Does promotion lead from one dtype to the other?"""
    target = dtypes.as_dtype(to)
    try:
        return dtypes.promote((_dtype(from_), False), (target, False)) == target
    except DtypeError:
        return False


_KINDS: dict[str, frozenset[DType]] = {
    "bool": frozenset({dtypes.bool_}), "signed integer": dtypes.SIGNED, "unsigned integer": dtypes.UNSIGNED,
    "integral": dtypes.INTEGER, "real floating": dtypes.FLOATING, "complex floating": dtypes.COMPLEX,
    "numeric": dtypes.NUMERIC | dtypes.COMPLEX,
}  # fmt: skip


def isdtype(dtype: Any, kind: Any) -> bool:
    """Is ``dtype`` of that kind (a dtype, a name such as "real floating", or a tuple of them)?"""
    found = dtypes.as_dtype(dtype)
    if isinstance(kind, tuple):
        return any(isdtype(found, k) for k in kind)
    if isinstance(kind, str) and kind in _KINDS:
        return found in _KINDS[kind]
    if isinstance(kind, str):
        raise DtypeError(f"isdtype: {kind!r} is none of {', '.join(_KINDS)}")
    return found == dtypes.as_dtype(kind)


__all__ = [
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atanh",
    "broadcast_arrays",
    "can_cast",
    "copysign",
    "cosh",
    "count_nonzero",
    "diff",
    "empty_like",
    "finfo",
    "hypot",
    "iinfo",
    "isdtype",
    "isinf",
    "log10",
    "log2",
    "logaddexp",
    "meshgrid",
    "nonzero",
    "positive",
    "repeat",
    "result_type",
    "searchsorted",
    "signbit",
    "sinh",
    "tan",
    "tile",
    "tril",
    "triu",
    "unique_all",
    "unique_counts",
    "unique_inverse",
    "unique_values",
    "unstack",
    "vecdot",
]
