"""Operators that move elements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from shohin.core import dtypes
from shohin.interop import layout
from shohin.interop.builder import Builder, Value, constant
from shohin.interop.foreign import Node
from shohin.interop.pytorch.table import operator, refuse, sizes, valued
from shohin.interop.words import arrange
from shohin.interop.words.elementwise import cast, elementwise
from shohin.ops import extra, math

FAR = 1 << 40
"""Beyond the end of any dim."""


@operator("view.default", "_unsafe_view.default", becomes="`sh.reshape`; most often no turn of dims")
def view(b: Builder, node: Node, x: Value, size: Sequence[int]) -> Value:
    return arrange.shaped(b, x, size)


@operator("permute.default", becomes="nothing: another order of the same memory")
def permute(b: Builder, node: Node, x: Value, dims: Sequence[int]) -> Value:
    return arrange.transpose(b, x, [arrange.axis_of(d, x.rank, "dims") for d in dims])


@operator("transpose.int", "t.default", becomes="nothing: another order of the same memory")
def transpose(b: Builder, node: Node, x: Value, dim0: int = 0, dim1: int = -1) -> Value:
    if x.rank < 2:
        return x
    order = list(range(x.rank))
    p, q = (arrange.axis_of(d, x.rank, "dim") for d in (dim0, dim1))
    order[p], order[q] = q, p
    return arrange.transpose(b, x, order)


@operator("squeeze.default", "squeeze.dim", "squeeze.dims", becomes="`sh.reshape`")
def squeeze(b: Builder, node: Node, x: Value, dim: Any = None) -> Value:
    if dim is None:
        return arrange.squeeze(b, x, None)
    dims = [arrange.axis_of(d, x.rank, "dim") for d in ((dim,) if isinstance(dim, int) else dim)]
    return arrange.squeeze(b, x, [d for d in dims if x.shape[d] == 1])


@operator("unsqueeze.default", becomes="`sh.reshape`")
def unsqueeze(b: Builder, node: Node, x: Value, dim: int) -> Value:
    return arrange.unsqueeze(b, x, [dim])


@operator("expand.default", becomes="`sh.broadcast_to`")
def expand(b: Builder, node: Node, x: Value, size: Sequence[int], implicit: bool = False) -> Value:
    wanted = list(size)
    own = [1] * (len(wanted) - x.rank) + list(x.shape)
    return arrange.expand(b, x, [n if w == -1 else w for w, n in zip(wanted, own)])


@operator("repeat.default", "tile.default", becomes="`sh.tile`")
def repeat(b: Builder, node: Node, x: Value, repeats: Sequence[int]) -> Value:
    rank = max(x.rank, len(repeats))
    wide = arrange.shaped(b, x, (*(1,) * (rank - x.rank), *x.shape))
    return arrange.tile(b, wide, (*(1,) * (rank - len(repeats)), *repeats))


@operator("repeat_interleave.self_int", becomes="`sh.broadcast_to` between two `sh.reshape`")
def repeat_interleave(b: Builder, node: Node, x: Value, repeats: int, dim: int | None = None, output_size: int | None = None) -> Value:
    x = arrange.shaped(b, x, (-1,)) if dim is None else x
    at = arrange.axis_of(dim or 0, x.rank, "dim")
    wide = arrange.unsqueeze(b, x, [at + 1])
    shape = (*x.shape[: at + 1], repeats, *x.shape[at + 1 :])
    return arrange.shaped(b, arrange.expand(b, wide, shape), (*x.shape[:at], x.shape[at] * repeats, *x.shape[at + 1 :]))


@operator("cat.default", becomes="`sh.concat`")
def cat(b: Builder, node: Node, xs: Sequence[Value], dim: int = 0) -> Value:
    some = [x for x in xs if x.shape != (0,)] or list(xs)
    return arrange.concat(b, some, dim) if len(some) > 1 else some[0]


@operator("stack.default", becomes="`sh.concat`")
def stack(b: Builder, node: Node, xs: Sequence[Value], dim: int = 0) -> Value:
    at = arrange.axis_of(dim, xs[0].rank + 1, "dim")
    return arrange.concat(b, [arrange.unsqueeze(b, x, [at]) for x in xs], at)


@operator("slice.Tensor", becomes="`x[start:stop:step]`")
def slice_(b: Builder, node: Node, x: Value, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> Value:
    return arrange.box(b, x, {arrange.axis_of(dim, x.rank, "dim"): (start or 0, FAR if end is None else end, step)})


@operator("select.int", becomes="`x[i]`")
def select(b: Builder, node: Node, x: Value, dim: int, index: int) -> Value:
    at = arrange.axis_of(dim, x.rank, "dim")
    refuse(not -x.shape[at] <= index < x.shape[at], f"index {index} is out of range for dim {at} of {x.shape}")
    start = index % x.shape[at]
    return arrange.squeeze(b, arrange.box(b, x, {at: (start, start + 1, 1)}), [at])


@operator("unbind.int", becomes="`x[i]`, one for each i")
def unbind(b: Builder, node: Node, x: Value, dim: int = 0) -> tuple[Value, ...]:
    return tuple(select(b, node, x, dim, k) for k in range(x.shape[dim]))


@operator("split.Tensor", "split_with_sizes.default", becomes="`x[start:stop]`, one for each part")
def split(b: Builder, node: Node, x: Value, parts: Any, dim: int = 0) -> tuple[Value, ...]:
    n = x.shape[dim]
    if not isinstance(parts, tuple):
        refuse(parts < 1, f"parts of {parts}")
        parts = tuple(min(parts, n - at) for at in range(0, n, parts))
    return arrange.split(b, x, dim, parts)


@operator("index_select.default", becomes="`sh.take`; known even steps: a slice")
def index_select(b: Builder, node: Node, x: Value, dim: int, index: Value) -> Value:
    return arrange.gather(b, x, index, dim)


@operator("gather.default", becomes="`sh.take_along_axis`")
def gather(b: Builder, node: Node, x: Value, dim: int, index: Value, sparse_grad: bool = False) -> Value:
    return arrange.gather_elements(b, x, index, dim)


@operator("index.Tensor", becomes="`sh.take`, of several dims by one index into all of them")
def index(b: Builder, node: Node, x: Value, indices: Sequence[Value | None]) -> Value:
    at = [d for d, i in enumerate(indices) if i is not None]
    refuse(any(i is not None and i.dtype == dtypes.bool_ for i in indices), "a mask picks a number of elements that depends on its values")
    refuse(at != list(range(at[0], at[-1] + 1)), "indices of dims that do not stand side by side have no counterpart here")
    known = [i for i in indices if i is not None]
    if len(at) == 1:
        return arrange.gather(b, x, known[0], at[0])
    total: Value | None = None
    for i, d in zip(known, at):
        n = x.shape[d]
        i = elementwise(b, _from_end, i, size=n)
        total = i if total is None else elementwise(b, math.add, elementwise(b, math.multiply, total, valued(n, i.dtype)), i)
    assert total is not None
    flat = arrange.shaped(b, x, (*x.shape[: at[0]], int(np.prod([x.shape[d] for d in at])), *x.shape[at[-1] + 1 :]))
    return arrange.gather(b, flat, total, at[0])


def _from_end(i: Any, size: int) -> Any:
    return math.where(math.less(i, 0), i + size, i)


@operator("flip.default", becomes="`sh.flip`")
def flip(b: Builder, node: Node, x: Value, dims: Sequence[int]) -> Value:
    return arrange.box(b, x, {arrange.axis_of(d, x.rank, "dims"): (-1, -FAR, -1) for d in dims})


@operator("roll.default", becomes="`sh.concat` of two slices")
def roll(b: Builder, node: Node, x: Value, shifts: Any, dims: Any = ()) -> Value:
    if not dims:
        return arrange.shaped(b, roll(b, node, arrange.shaped(b, x, (-1,)), shifts, (0,)), x.shape)
    for shift, d in zip(sizes(shifts, len(dims)), dims):
        at = arrange.axis_of(d, x.rank, "dims")
        cut = -shift % x.shape[at]
        if cut:
            x = arrange.concat(b, [arrange.box(b, x, {at: (cut, FAR, 1)}), arrange.box(b, x, {at: (0, cut, 1)})], at)
    return x


PADS = {"reflect": "reflect", "replicate": "edge", "circular": "wrap", "constant": "constant"}


@operator("pad.default", becomes="`sh.pad`")
def pad(b: Builder, node: Node, x: Value, pads: Sequence[int], mode: str = "constant", value: float | None = None) -> Value:
    pairs = [(0, 0)] * x.rank
    for k in range(len(pads) // 2):
        pairs[x.rank - 1 - k] = (pads[2 * k], pads[2 * k + 1])
    fill = 0 if value is None else value
    return arrange.pad(b, x, pairs, PADS[mode], float(fill) if x.dtype in dtypes.FLOATING else bool(fill) if x.dtype == dtypes.bool_ else int(fill))


@operator("constant_pad_nd.default", becomes="`sh.pad`")
def constant_pad(b: Builder, node: Node, x: Value, pads: Sequence[int], value: float = 0) -> Value:
    return pad(b, node, x, pads, "constant", value)


@operator("tril.default", "triu.default", becomes="`sh.tril`, `sh.triu`")
def triangle(b: Builder, node: Node, x: Value, diagonal: int = 0) -> Value:
    return b.emit(_triangle, [b.plain(x)], layout.plain(x.rank), {"k": diagonal, "upper": node.op == "triu.default"})


def _triangle(x: Any, k: int, upper: bool) -> Any:
    return (extra.triu if upper else extra.tril)(x, k=k)


@operator("one_hot.default", becomes="`sh.equal` with a row of numbers")
def one_hot(b: Builder, node: Node, x: Value, num_classes: int = -1) -> Value:
    refuse(num_classes < 1, "num_classes depends on the values; give it")
    row = constant(np.arange(num_classes, dtype=np.int64))
    return cast(b, elementwise(b, math.equal, arrange.unsqueeze(b, x, [x.rank]), row), dtypes.int64)


