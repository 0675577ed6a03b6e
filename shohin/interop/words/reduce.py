"""What runs along dims: sums and their kin, positions of extremes, softmax, running sums."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from shohin.interop import layout
from shohin.interop.builder import Builder, Value
from shohin.interop.words import arrange
from shohin.nn import functional as F
from shohin.ops import index, math, move, reduce


def reduced(b: Builder, call: Callable[..., Any], x: Value, axes: Sequence[int] | None, keepdims: bool, **attrs: Any) -> Value:
    """``call(x, axis=, keepdims=)`` over foreign dims, all without ``axes``."""
    dims = sorted({arrange.axis_of(a, x.rank, "axes") for a in axes}) if axes is not None else list(range(x.rank))
    if not dims:
        return x
    order = x.order if keepdims else layout.drop(x.order, dims)
    at = tuple(sorted(x.order.index(d) for d in dims))
    return b.emit(call, [b.lay(x, x.order)], order, {"axis": at, "keepdims": keepdims, **attrs})


def position(b: Builder, f: Callable[..., Any], x: Value, axis: int, keepdims: bool, last: bool) -> Value:
    """Where the extreme of a dim stands; the last of equal ones with ``last``."""
    at = arrange.axis_of(axis, x.rank, "axis")
    order = x.order if keepdims else layout.drop(x.order, [at])
    attrs = {"f": f, "axis": x.order.index(at), "keepdims": keepdims, "last": last}
    return b.emit(_position, [b.lay(x, x.order)], order, attrs)


def _position(x: Any, f: Callable[..., Any], axis: int, keepdims: bool, last: bool) -> Any:
    if not last:
        return math.astype(f(x, axis=axis, keepdims=keepdims), "int64")
    return x.shape[axis] - 1 - math.astype(f(move.flip(x, axis=axis), axis=axis, keepdims=keepdims), "int64")


def along(b: Builder, f: Callable[..., Any], x: Value, axis: int, **attrs: Any) -> Value:
    """``f(x, axis=)`` that keeps the shape."""
    at = arrange.axis_of(axis, x.rank, "axis")
    return b.emit(f, [b.lay(x, x.order)], x.order, {"axis": x.order.index(at), **attrs})


def each(b: Builder, f: Callable[..., Any], x: Value) -> Value:
    """``f`` of each element."""
    return b.emit(f, [b.lay(x, x.order)], x.order)


def sorted_(b: Builder, x: Value, axis: int, count: int, largest: bool) -> tuple[Value, ...]:
    """The ``count`` first of a dim in order, the largest or smallest first, and where they stood."""
    at = x.order.index(arrange.axis_of(axis, x.rank, "axis"))
    return b.emit(_sorted, [b.lay(x, x.order)], (x.order, x.order), {"axis": at, "count": count, "largest": largest})


def _sorted(x: Any, axis: int, count: int, largest: bool) -> Any:
    places = index.argsort(x, axis=axis, descending=largest)
    places = move.slice_(places, (0,) * x.ndim, tuple(count if d == axis else n for d, n in enumerate(x.shape)))
    return index.take_along_axis(x, places, axis=axis), math.astype(places, "int64")


def over_rest(b: Builder, f: Callable[..., Any], x: Value, axis: int, **attrs: Any) -> Value:
    """``f`` along all dims from ``axis`` on, taken as one (the softmax of early versions)."""
    at = arrange.axis_of(axis, x.rank, "axis")
    rest = [d for d in range(at, x.rank) if x.shape[d] != 1]
    if len(rest) <= 1:
        return along(b, f, x, rest[0] if rest else at, **attrs)
    flat = arrange.shaped(b, x, (*x.shape[:at], -1))
    return arrange.shaped(b, along(b, f, flat, at, **attrs), x.shape)


SUM, MEAN, MAX = reduce.sum, reduce.mean, reduce.max


def sum_of_squares(x: Any, axis: Any, keepdims: bool) -> Any:
    return reduce.sum(x * x, axis=axis, keepdims=keepdims)


def l1(x: Any, axis: Any, keepdims: bool) -> Any:
    return reduce.sum(math.abs(x), axis=axis, keepdims=keepdims)


def l2(x: Any, axis: Any, keepdims: bool) -> Any:
    return math.sqrt(sum_of_squares(x, axis, keepdims))


def log_sum(x: Any, axis: Any, keepdims: bool) -> Any:
    return math.log(reduce.sum(x, axis=axis, keepdims=keepdims))


def log_sum_exp(x: Any, axis: Any, keepdims: bool) -> Any:
    """Stable: the largest is taken out."""
    top = F.stop_gradient(reduce.max(x, axis=axis, keepdims=True))
    total = math.log(reduce.sum(math.exp(x - top), axis=axis, keepdims=True)) + top
    return total if keepdims else move.squeeze(total, axis)


def running_sum(x: Any, axis: int, exclusive: bool, reverse: bool) -> Any:
    """``cumulative_sum``; ``exclusive`` leaves the element itself out, ``reverse`` runs from the end."""
    v = move.flip(x, axis=axis) if reverse else x
    total = math.astype(reduce.cumulative_sum(v, axis=axis), x.dtype)
    if exclusive:
        n = x.shape[axis]
        pairs = [(1, 0) if d == axis else (0, 0) for d in range(x.ndim)]
        total = move.pad(total, pairs)
        total = move.slice_(total, (0,) * x.ndim, tuple(n if d == axis else m for d, m in enumerate(total.shape)))
    return move.flip(total, axis=axis) if reverse else total


def normalized(x: Any, axis: int, p: int) -> Any:
    """``x / |x|_p`` along a dim; zero where the norm is."""
    norm = l1(x, axis, True) if p == 1 else l2(x, axis, True)
    zero = math.equal(norm, 0)
    return math.where(zero, math.zeros_like(x), x / math.where(zero, math.ones_like(norm), norm))


__all__ = ["MAX", "MEAN", "SUM", "along", "each", "l1", "l2", "log_sum", "log_sum_exp", "normalized", "over_rest", "position", "reduced", "running_sum", "sorted_", "sum_of_squares"]
