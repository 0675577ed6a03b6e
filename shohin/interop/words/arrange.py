"""What moves elements. A transpose moves nothing: it gives the same memory another order; a reshape most often neither."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from shohin import nn
from shohin.core import dtypes
from shohin.core.cells import Param
from shohin.core.errors import ForeignError
from shohin.interop import layout
from shohin.interop.builder import Builder, Value, constant, identity, renamed, reshape
from shohin.interop.words.elementwise import aligned
from shohin.ops import extra, index, math, move

Pairs = Sequence[tuple[int, int]]


def axis_of(axis: int, rank: int, what: str) -> int:
    if not -rank <= axis < rank:
        raise ForeignError(f"{what}: axis {axis} is out of range for {rank} dims")
    return axis % rank


def transpose(b: Builder, x: Value, perm: Sequence[int]) -> Value:
    """Dim i of the result is dim ``perm[i]`` of x."""
    if sorted(perm) != list(range(x.rank)):
        raise ForeignError(f"perm {tuple(perm)} is not an order of {x.rank} dims")
    if x.data is not None:
        return replace(constant(np.transpose(x.data, perm), x.name), grid=None if x.grid is None else np.transpose(x.grid, perm))
    to = layout.inverse(perm)
    return renamed(x, tuple(x.shape[d] for d in perm), tuple(to[d] for d in x.order))


def shaped(b: Builder, x: Value, shape: Sequence[int]) -> Value:
    """x under another shape (one extent may be -1)."""
    wanted = list(shape)
    if wanted.count(-1) == 1:
        known = int(np.prod([n for n in wanted if n != -1], dtype=np.int64))
        if known <= 0 or x.size % known:
            raise ForeignError(f"{x.shape} cannot become {tuple(shape)}")
        wanted[wanted.index(-1)] = x.size // known
    if min(wanted, default=0) < 0 or int(np.prod(wanted, dtype=object)) != x.size:
        raise ForeignError(f"{x.shape} cannot become {tuple(shape)}: {x.size} elements")
    new = tuple(wanted)
    if x.data is not None:
        return constant(x.data.reshape(new), x.name)
    x = b.reshaped.get((x.key, x.shape, x.order), x)  # of a reshape the other is one of what it was of
    if new == x.shape:
        return x
    y = _reshaped(b, x, new)
    b.reshaped[y.key, y.shape, y.order] = x
    return y


def _reshaped(b: Builder, x: Value, new: layout.Shape) -> Value:
    found = layout.through_reshape(x.shape, x.order, new)
    if found is None:
        return b.emit(reshape, [b.plain(x)], layout.plain(len(new)), {"shape": new})
    split, moved, order, channels = found
    if moved != tuple(range(len(moved))):
        between = b.emit(reshape, [x], layout.plain(len(split)), {"shape": layout.opened(split, -1)}) if split != layout.stored(x.shape, x.order) else x
        x = b.emit(move.permute_dims, [between], layout.plain(len(split)), {"axes": moved})
    return b.emit(reshape, [x], order, {"shape": layout.opened(layout.stored(new, order), channels)})


def squeeze(b: Builder, x: Value, axes: Sequence[int] | None) -> Value:
    gone = [d for d, n in enumerate(x.shape) if n == 1] if axes is None else [axis_of(a, x.rank, "axes") for a in axes]
    if any(x.shape[d] != 1 for d in gone):
        raise ForeignError(f"dims {gone} of {x.shape} do not all have one element")
    return shaped(b, x, [n for d, n in enumerate(x.shape) if d not in gone])


def unsqueeze(b: Builder, x: Value, axes: Sequence[int]) -> Value:
    new = sorted(axis_of(a, x.rank + len(axes), "axes") for a in axes)
    shape = list(x.shape)
    for a in new:
        shape.insert(a, 1)
    return shaped(b, x, shape)


def expand(b: Builder, x: Value, shape: Sequence[int]) -> Value:
    """x stretched to ``shape``, to which it broadcasts."""
    try:
        wanted = np.broadcast_shapes(x.shape, tuple(shape))
    except ValueError as error:
        raise ForeignError(f"{x.shape} does not broadcast to {tuple(shape)}") from error
    if wanted == x.shape:
        return x
    order = (*range(len(wanted) - x.rank), *(d + len(wanted) - x.rank for d in x.order))
    trained = bool(x.name) and x.dtype in dtypes.FLOATING  # a class token, one for each example
    return b.emit(move.broadcast_to, [x], order, {"shape": layout.stored(wanted, order)}, fold=not trained)


def concat(b: Builder, xs: Sequence[Value], axis: int) -> Value:
    if len({x.rank for x in xs}) != 1:
        raise ForeignError(f"operands have shapes {', '.join(str(x.shape) for x in xs)}")
    made, order = aligned(b, list(xs))
    return b.emit(_concat, made, order, {"axis": order.index(axis_of(axis, xs[0].rank, "axis"))})


def _concat(*xs: Any, axis: int) -> Any:
    return move.concat(xs, axis=axis)


def box(b: Builder, x: Value, cuts: dict[int, tuple[int, int, int]]) -> Value:
    """Elements ``start, start + step ...`` before ``stop`` of some dims, by the rules of Python's slices; a step may be
    negative."""
    start, stop, step, flips = [0] * x.rank, list(x.shape), [1] * x.rank, []
    for axis, (first, last, by) in cuts.items():
        if by == 0:
            raise ForeignError(f"the step of axis {axis} is 0")
        n = x.shape[axis]
        begin, end, by = slice(first, None if by < 0 and last < -n else last, by).indices(n)
        count = len(range(begin, end, by))
        at = x.order.index(axis)
        if by < 0:
            flips.append(at)
            begin, by = begin + (count - 1) * by, -by
        start[at], stop[at], step[at] = (begin, begin + (count - 1) * by + 1, by) if count else (0, 0, 1)
    for at, axis in enumerate(x.order):
        if axis not in cuts:
            start[at], stop[at] = 0, x.shape[axis]
    v = b.lay(x, x.order)
    if any(start) or any(s != 1 for s in step) or stop != list(layout.stored(x.shape, x.order)):
        v = b.emit(move.slice_, [v], x.order, {"start": tuple(start), "stop": tuple(stop), "step": tuple(step)})
    return b.emit(move.flip, [v], x.order, {"axis": tuple(flips)}) if flips else v


def split(b: Builder, x: Value, axis: int, sizes: Sequence[int]) -> tuple[Value, ...]:
    at = axis_of(axis, x.rank, "axis")
    if sum(sizes) != x.shape[at] or min(sizes, default=0) < 0:
        raise ForeignError(f"sizes {tuple(sizes)} do not make up dim {at} of {x.shape}")
    ends = np.cumsum([0, *sizes]).tolist()
    return tuple(box(b, x, {at: (lo, hi, 1)}) for lo, hi in pairwise(ends))


def pad(b: Builder, x: Value, pairs: Pairs, mode: str = "constant", value: Any = 0) -> Value:
    """Elements around x; a negative number takes some away. ``mode``: constant, reflect, edge or wrap."""
    if any(lo < 0 or hi < 0 for lo, hi in pairs):
        x = box(b, x, {d: (max(-lo, 0), n - max(-hi, 0), 1) for d, (n, (lo, hi)) in enumerate(zip(x.shape, pairs))})
        pairs = [(max(lo, 0), max(hi, 0)) for lo, hi in pairs]
    if not any(map(any, pairs)):
        return x
    attrs = {"padding": tuple(pairs[d] for d in x.order), "value": value, "mode": mode}
    return b.emit(move.pad, [b.lay(x, x.order)], x.order, attrs)


def tile(b: Builder, x: Value, repeats: Sequence[int]) -> Value:
    if len(repeats) != x.rank or min(repeats, default=1) < 0:
        raise ForeignError(f"repeats {tuple(repeats)} do not fit {x.shape}")
    return b.emit(_tile, [b.lay(x, x.order)], x.order, {"repeats": tuple(repeats[d] for d in x.order)})


def _tile(x: Any, repeats: tuple[int, ...]) -> Any:
    return extra.tile(x, repeats)


def gather(b: Builder, x: Value, indices: Value, axis: int) -> Value:
    """Elements of a dim at given places, negative ones from its end; known places in even steps are a slice."""
    at = axis_of(axis, x.rank, "axis")
    n = x.shape[at]
    if indices.data is not None:
        places = np.where(indices.data < 0, indices.data + n, indices.data).astype(np.int64)
        if places.size and (places.min() < 0 or places.max() >= n):
            raise ForeignError(f"an index is out of range for dim {at} of {x.shape}")
        steps = np.unique(np.diff(places)) if places.ndim == 1 else np.array([0])
        if x.data is None and places.size == 1:
            v = box(b, x, {at: (int(places.reshape(-1)[0]), int(places.reshape(-1)[0]) + 1, 1)})
            return shaped(b, v, (*x.shape[:at], *places.shape, *x.shape[at + 1 :]))
        if x.data is None and len(steps) == 1 and steps[0] > 0:
            return box(b, x, {at: (int(places[0]), int(places[-1]) + 1, int(steps[0]))})
        indices = constant(places, indices.name)
    order = layout.plain(x.rank + indices.rank - 1)
    if x.data is not None and x.name and x.rank == 2 and x.dtype in dtypes.FLOATING and indices.data is None and at == 0:
        table = x.data
        path = b.new_layer("embedding", ("embedding", identity(x)), lambda: _embedding(table))
        return b.layer(path, [b.plain(indices)], order)
    return b.emit(_take, [b.plain(x), b.plain(indices)], order, {"axis": at, "size": n})


def _embedding(table: Any) -> nn.Embedding:
    layer = nn.Embedding(*table.shape)
    layer.weight = Param(table)
    return layer


def _take(x: Any, indices: Any, axis: int, size: int) -> Any:
    return index.take(x, _from_end(indices, size), axis=axis)


def _from_end(indices: Any, size: int) -> Any:
    return math.where(math.less(indices, 0), indices + size, indices)


def gather_elements(b: Builder, x: Value, indices: Value, axis: int) -> Value:
    """For each place of ``indices`` the element of x at that index of ``axis``; the other dims in step."""
    at = axis_of(axis, x.rank, "axis")
    if indices.rank != x.rank:
        raise ForeignError(f"indices have {indices.rank} dims, x {x.rank}")
    part = box(b, x, {d: (0, n, 1) for d, n in enumerate(indices.shape) if d != at and n != x.shape[d]})
    return b.emit(_along, [b.plain(part), b.plain(indices)], layout.plain(x.rank), {"axis": at, "size": x.shape[at]})


def _along(x: Any, indices: Any, axis: int, size: int) -> Any:
    return index.take_along_axis(x, _from_end(indices, size), axis=axis)


def depth_to_space(b: Builder, x: Value, block: int, columns_first: bool) -> Value:
    """(n, c, h, w) -> (n, c / block², h block, w block); the block's places are the outer part of c unless ``columns_first``."""
    n, c, h, w = x.shape
    if block < 1 or c % block**2:
        raise ForeignError(f"{c} channels do not divide by {block}²")
    inner = c // block**2
    cut = shaped(b, x, (n, inner, block, block, h, w) if columns_first else (n, block, block, inner, h, w))
    turned = transpose(b, cut, (0, 1, 4, 2, 5, 3) if columns_first else (0, 3, 4, 1, 5, 2))
    return shaped(b, turned, (n, inner, h * block, w * block))


def space_to_depth(b: Builder, x: Value, block: int, columns_first: bool) -> Value:
    """The inverse of ``depth_to_space``."""
    n, c, h, w = x.shape
    if block < 1 or h % block or w % block:
        raise ForeignError(f"{h} x {w} does not divide by {block}")
    cut = shaped(b, x, (n, c, h // block, block, w // block, block))
    return shaped(b, transpose(b, cut, (0, 1, 3, 5, 2, 4) if columns_first else (0, 3, 5, 1, 2, 4)), (n, c * block**2, h // block, w // block))


__all__ = [
    "axis_of", "box", "concat", "depth_to_space", "expand", "gather", "gather_elements", "pad", "shaped",
    "space_to_depth", "split", "squeeze", "tile", "transpose", "unsqueeze",
]  # fmt: skip
