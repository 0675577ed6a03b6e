"""Pooling of (n, c, l) and (n, c, h, w), and resizing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np

from shohin.core import dtypes
from shohin.core.errors import ForeignError
from shohin.interop import layout
from shohin.interop.builder import Builder, Value
from shohin.interop.network import Step
from shohin.interop.words.reduce import reduced
from shohin.nn.resize import Along, resize
from shohin.ops import linear, math, move
from shohin.ops import reduce as reductions

Pairs = tuple[tuple[int, int], ...]


def windows(n: int, kernel: int, stride: int, pads: tuple[int, int], dilation: int, ceil: bool) -> tuple[int, int]:
    """How many windows a dim has, and how many elements past the padding the last one needs."""
    reach = dilation * (kernel - 1) + 1
    rest = n + sum(pads) - reach
    if rest < 0:
        raise ForeignError(f"a window of {reach} does not fit {n} elements with padding {pads}")
    count = (-(-rest // stride) if ceil else rest // stride) + 1
    if ceil and (count - 1) * stride >= n + pads[0]:
        count -= 1  # it would start beyond the input
    return count, max((count - 1) * stride + reach - n - sum(pads), 0)


def pool(b: Builder, x: Value, kind: str, *, kernel: Sequence[int], stride: Sequence[int], padding: Pairs, dilation: Sequence[int],
         ceil: bool, counts_padding: bool = False, power: int = 2) -> Value:  # fmt: skip
    """``kind``: max, mean, or norm (the norm of a window of degree ``power``)."""
    if x.rank not in (3, 4):
        raise ForeignError(f"x has shape {x.shape}; pooling has 1 or 2 spatial dims here")
    if min(*kernel, *stride, *dilation) < 1 or not len(kernel) == len(stride) == len(padding) == len(dilation) == x.rank - 2:
        raise ForeignError(f"kernel {tuple(kernel)}, strides {tuple(stride)}, padding {padding}, dilations {tuple(dilation)} do not fit {x.shape}")
    order = layout.channels_last(x.rank)
    extra = [windows(n, k, s, p, d, ceil)[1] for n, k, s, p, d in zip(x.shape[2:], kernel, stride, padding, dilation)]
    attrs = {"kernel": tuple(kernel), "stride": tuple(stride), "dilation": tuple(dilation)}
    if kind == "max":
        return b.emit(_pooled, [b.lay(x, order)], order, {**attrs, "f": _max, "padding": _longer(padding, extra)})
    if counts_padding:
        pads, more = padding, tuple((0, e) for e in extra)
    else:
        pads, more = ((0, 0),) * len(kernel), _longer(padding, extra)
    if kind == "mean":
        return b.emit(_pooled, [b.lay(x, order)], order, {**attrs, "f": _mean, "before": pads, "padding": more})
    return b.emit(_pooled, [b.lay(x, order)], order, {**attrs, "f": _norm, "p": power, "padding": _longer(padding, extra)})


def adaptive(b: Builder, x: Value, kind: str, size: Sequence[int | None]) -> Value:
    """The mean or maximum of ``size`` parts of each of the last dims (None: as many as there are): part i of o is from ``floor(i n / o)`` to
    ``ceil((i + 1) n / o)``."""
    dims = range(x.rank - len(size), x.rank)
    goals = {d: x.shape[d] if o is None else int(o) for d, o in zip(dims, size)}
    f = reductions.mean if kind == "mean" else reductions.max
    if all(o == 1 for o in goals.values()):
        return reduced(b, f, x, list(dims), True)
    if x.rank == len(size) + 2 and all(x.shape[d] % o == 0 for d, o in goals.items()):
        kernel = [x.shape[d] // o for d, o in goals.items()]
        one = (1,) * len(size)
        return pool(b, x, kind, kernel=kernel, stride=kernel, padding=((0, 0),) * len(size), dilation=one, ceil=False)
    for d, o in goals.items():
        if o != x.shape[d]:
            parts = tuple((i * x.shape[d] // o, -((i + 1) * -x.shape[d] // o)) for i in range(o))
            x = b.emit(_in_parts, [b.lay(x, x.order)], x.order, {"f": f, "axis": x.order.index(d), "parts": parts})
    return x


def _in_parts(x: Any, f: Callable[..., Any], axis: int, parts: Sequence[tuple[int, int]]) -> Any:
    bounds = lambda lo, hi: (tuple(lo if d == axis else 0 for d in range(x.ndim)), tuple(hi if d == axis else n for d, n in enumerate(x.shape)))
    return move.concat([f(move.slice_(x, *bounds(lo, hi)), axis=axis, keepdims=True) for lo, hi in parts], axis=axis)


def _longer(padding: Pairs, extra: Sequence[int]) -> Pairs:
    return tuple((lo, hi + e) for (lo, hi), e in zip(padding, extra))


def _pooled(x: Any, f: Callable[..., Any], kernel: Any, stride: Any, padding: Any, dilation: Any, **attrs: Any) -> Any:
    """``f`` of images; a series is one of height 1."""
    if x.ndim == 4:
        return f(x, kernel, stride, padding, dilation, **attrs)
    attrs = {k: ((0, 0), *v) if k == "before" else v for k, v in attrs.items()}
    y = f(move.expand_dims(x, axis=1), (1, *kernel), (1, *stride), ((0, 0), *padding), (1, *dilation), **attrs)
    return move.squeeze(y, 1)


def is_max(step: Step) -> bool:
    """Does it choose among elements?"""
    return step.call is _pooled and step.attrs["f"] is _max


def _max(x: Any, kernel: Any, stride: Any, padding: Any, dilation: Any) -> Any:
    if set(dilation) == {1}:
        return linear.max_pool2d(x, kernel, stride, padding)
    low = -float("inf") if x.dtype in dtypes.FLOATING else int(np.iinfo(x.dtype).min)
    wide = move.pad(x, ((0, 0), *padding, (0, 0)), value=low)
    return reduce(math.maximum, _taps(wide, kernel, stride, dilation))


def _mean(x: Any, kernel: Any, stride: Any, padding: Any, dilation: Any, before: Any) -> Any:
    x = move.pad(x, ((0, 0), *before, (0, 0)))
    if set(dilation) == {1}:
        return linear.avg_pool2d(x, kernel, stride, padding, count_include_pad=False)
    wide = ((0, 0), *padding, (0, 0))
    ones = move.pad(move.ones((1, *x.shape[1:3], 1), dtype=x.dtype), wide)
    total, count = (reduce(math.add, _taps(v, kernel, stride, dilation)) for v in (move.pad(x, wide), ones))
    return total / count


def _norm(x: Any, kernel: Any, stride: Any, padding: Any, dilation: Any, p: int) -> Any:
    wide = move.pad(x, ((0, 0), *padding, (0, 0)))
    total = reduce(math.add, (math.pow(math.abs(v), float(p)) for v in _taps(wide, kernel, stride, dilation)))
    return math.pow(total, 1 / p)


def _taps(x: Any, kernel: Any, stride: Any, dilation: Any) -> list[Any]:
    """One tensor for each place in the window."""
    counts = [(n - d * (k - 1) - 1) // s + 1 for n, k, s, d in zip(x.shape[1:3], kernel, stride, dilation)]
    found = []
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            at = (i * dilation[0], j * dilation[1])
            stop = [a + (m - 1) * s + 1 for a, m, s in zip(at, counts, stride)]
            found.append(move.slice_(x, (0, *at, 0), (x.shape[0], *stop, x.shape[3]), (1, *stride, 1)))
    return found


def resized(b: Builder, x: Value, to: Mapping[int, Along], **attrs: Any) -> Value:
    """Foreign dims resized."""
    if not to:
        return x
    along = tuple((x.order.index(d), a.size, a.scale, a.window) for d, a in sorted(to.items()))
    return b.emit(_resized, [b.lay(x, x.order)], x.order, {"along": along, **attrs})


def _resized(x: Any, along: Any, **attrs: Any) -> Any:
    return resize(x, {d: Along(size=size, scale=scale, window=window) for d, size, scale, window in along}, **attrs)


__all__ = ["adaptive", "pool", "resized", "windows"]
