"""Operators that move elements or tell shapes."""

from __future__ import annotations

from typing import Any

import numpy as np

from shohin.core import dtypes
from shohin.interop import layout
from shohin.interop.builder import Builder, Value, constant
from shohin.interop.foreign import Node
from shohin.interop.onnx.table import attr, dtype_of, needed, operator, refuse
from shohin.interop.words import arrange
from shohin.interop.words.reduce import along, running_sum, sorted_
from shohin.ops import extra, index, math, move


def axes_of(b: Builder, node: Node, axes: Value | None, name: str = "axes") -> tuple[int, ...] | None:
    """Axes as an operand (new versions) or an attribute (old ones)."""
    if axes is not None:
        return b.ints(axes, name)
    return attr(node, name, ()) if name in node.attrs else None


@operator("Shape", becomes="a constant")
def shape(b: Builder, node: Node, x: Value) -> Value:
    found = x.shape[slice(attr(node, "start", 0), node.attrs.get("end"))]
    return constant(np.asarray(found, np.int64))


@operator("Size", becomes="a constant")
def size(b: Builder, node: Node, x: Value) -> Value:
    return constant(np.asarray(x.size, np.int64))


@operator("Reshape", becomes="`sh.reshape`; most often no turn of dims")
def reshape(b: Builder, node: Node, x: Value, to: Value) -> Value:
    wanted = list(b.ints(to, "shape"))
    if not attr(node, "allowzero", 0):
        refuse(any(n == 0 and d >= x.rank for d, n in enumerate(wanted)), f"shape {wanted} copies a dim that {x.shape} does not have")
        wanted = [x.shape[d] if n == 0 else n for d, n in enumerate(wanted)]
    n, of_file = b.batch
    if of_file not in (0, n) and to.name and wanted and x.rank and x.shape[0] == n and wanted[0] == of_file:
        wanted[0] = n  # a file for one number of examples writes it down
    return arrange.shaped(b, x, wanted)


@operator("Flatten", becomes="`sh.reshape`")
def flatten(b: Builder, node: Node, x: Value) -> Value:
    axis = attr(node, "axis", 1)
    refuse(not -x.rank <= axis <= x.rank, f"axis {axis} is out of range for {x.shape}")
    axis = axis + x.rank if axis < 0 else axis
    return arrange.shaped(b, x, (int(np.prod(x.shape[:axis])), int(np.prod(x.shape[axis:]))))


@operator("Squeeze", becomes="`sh.reshape`")
def squeeze(b: Builder, node: Node, x: Value, axes: Value | None = None) -> Value:
    return arrange.squeeze(b, x, axes_of(b, node, axes))


@operator("Unsqueeze", becomes="`sh.reshape`")
def unsqueeze(b: Builder, node: Node, x: Value, axes: Value | None = None) -> Value:
    return arrange.unsqueeze(b, x, axes_of(b, node, axes) or ())


@operator("Transpose", becomes="nothing: another order of the same memory")
def transpose(b: Builder, node: Node, x: Value) -> Value:
    return arrange.transpose(b, x, attr(node, "perm", tuple(reversed(range(x.rank)))))


@operator("Expand", becomes="`sh.broadcast_to`")
def expand(b: Builder, node: Node, x: Value, to: Value) -> Value:
    return arrange.expand(b, x, b.ints(to, "shape"))


@operator("Concat", becomes="`sh.concat`")
def concat(b: Builder, node: Node, *xs: Value) -> Value:
    return arrange.concat(b, xs, needed(node, "axis"))


@operator("Slice", becomes="`x[start:stop:step]`")
def slice_(b: Builder, node: Node, x: Value, starts: Value | None = None, ends: Value | None = None, axes: Value | None = None,
           steps: Value | None = None) -> Value:  # fmt: skip
    first, last = (b.ints(v, n) if v is not None else attr(node, n, ()) for v, n in ((starts, "starts"), (ends, "ends")))
    dims = axes_of(b, node, axes) or tuple(range(len(first)))
    by = b.ints(steps, "steps") if steps is not None else (1,) * len(first)
    refuse(not len(first) == len(last) == len(dims) == len(by), f"starts {first}, ends {last}, axes {dims}, steps {by} do not fit")
    return arrange.box(b, x, {arrange.axis_of(a, x.rank, "axes"): cut for a, *cut in zip(dims, first, last, by)})  # type: ignore[misc]


@operator("Split", becomes="`x[start:stop]`, one for each part")
def split(b: Builder, node: Node, x: Value, sizes: Value | None = None) -> tuple[Value, ...]:
    axis = arrange.axis_of(attr(node, "axis", 0), x.rank, "axis")
    if sizes is not None:
        parts = b.ints(sizes, "split")
    elif "split" in node.attrs:
        parts = attr(node, "split", ())
    else:
        count, n = attr(node, "num_outputs", len(node.outputs)), x.shape[axis]
        refuse(not 0 < count <= 1 << 16, f"num_outputs is {count}")
        each = -(-n // count)
        parts = tuple(min(each, max(n - k * each, 0)) for k in range(count))
    return arrange.split(b, x, axis, parts)


@operator("Gather", becomes="`sh.take`; known even steps: a slice; rows of a known table: `nn.Embedding`")
def gather(b: Builder, node: Node, x: Value, indices: Value) -> Value:
    return arrange.gather(b, x, indices, attr(node, "axis", 0))


@operator("GatherElements", becomes="`sh.take_along_axis`")
def gather_elements(b: Builder, node: Node, x: Value, indices: Value) -> Value:
    return arrange.gather_elements(b, x, indices, attr(node, "axis", 0))


@operator("Pad", becomes="`sh.pad`")
def pad(b: Builder, node: Node, x: Value, pads: Value | None = None, value: Value | None = None, axes: Value | None = None) -> Value:
    sizes = b.ints(pads, "pads") if pads is not None else attr(node, "pads", ())
    dims = [arrange.axis_of(a, x.rank, "axes") for a in b.ints(axes, "axes")] if axes is not None else list(range(x.rank))
    refuse(len(sizes) != 2 * len(dims), f"pads {sizes} are not two for each of {len(dims)} dims")
    refuse(max(map(abs, sizes), default=0) > 1 << 24, f"pads {sizes} are taken for a damaged file")
    pairs = [(0, 0)] * x.rank
    for k, d in enumerate(dims):
        pairs[d] = (sizes[k], sizes[k + len(dims)])
    fill = b.number(value, "the value of Pad") if value is not None and value.size else attr(node, "value", 0.0)
    fill = fill if x.dtype in dtypes.FLOATING else int(fill) if x.dtype != dtypes.bool_ else bool(fill)
    return arrange.pad(b, x, pairs, attr(node, "mode", "constant"), fill)


@operator("Tile", becomes="`sh.tile`")
def tile(b: Builder, node: Node, x: Value, repeats: Value) -> Value:
    return arrange.tile(b, x, b.ints(repeats, "repeats"))


@operator("DepthToSpace", becomes="`sh.reshape`, one turn of dims")
def depth_to_space(b: Builder, node: Node, x: Value) -> Value:
    return arrange.depth_to_space(b, x, needed(node, "blocksize"), attr(node, "mode", "DCR") == "CRD")


@operator("SpaceToDepth", becomes="`sh.reshape`, one turn of dims")
def space_to_depth(b: Builder, node: Node, x: Value) -> Value:
    return arrange.space_to_depth(b, x, needed(node, "blocksize"), attr(node, "mode", "DCR") == "CRD")


@operator("ConstantOfShape", becomes="a constant")
def constant_of_shape(b: Builder, node: Node, to: Value) -> Value:
    value = np.asarray(node.attrs.get("value", np.zeros(1, np.float32))).reshape(-1)
    refuse(value.size != 1, f"value has {value.size} elements, expected one")
    return arrange.expand(b, constant(value[0]), b.ints(to, "the shape"))


@operator("Range", becomes="a constant")
def range_(b: Builder, node: Node, start: Value, limit: Value, delta: Value) -> Value:
    first, last, by = (b.number(v, n) for v, n in ((start, "start"), (limit, "limit"), (delta, "delta")))
    refuse(by == 0 or abs((last - first) / by) > 1 << 24, f"{first} to {last} by {by} is taken for a damaged file")
    return constant(np.arange(first, last, by).astype(start.dtype))


@operator("OneHot", becomes="`sh.one_hot`")
def one_hot(b: Builder, node: Node, indices: Value, depth: Value, values: Value) -> Value:
    count, axis = int(b.number(depth, "depth")), attr(node, "axis", -1)
    refuse(not 0 < count <= 1 << 20, f"depth is {count}")
    at = arrange.axis_of(axis, indices.rank + 1, "axis")
    order = layout.plain(indices.rank + 1)
    return b.emit(_one_hot, [b.plain(indices), b.plain(values)], order, {"count": count, "axis": at})


def _one_hot(indices: Any, values: Any, count: int, axis: int) -> Any:
    i = math.astype(indices, dtypes.int64)
    hot = index.one_hot(math.where(math.less(i, 0), i + count, i), count, dtypes.bool_)
    return move.moveaxis(math.where(hot, values[1], values[0]), -1, axis)


@operator("Trilu", becomes="`sh.triu`, `sh.tril`")
def trilu(b: Builder, node: Node, x: Value, k: Value | None = None) -> Value:
    by = 0 if k is None else int(b.number(k, "k"))
    upper = bool(attr(node, "upper", 1))
    return b.emit(_triangle, [b.plain(x)], layout.plain(x.rank), {"k": max(min(by, 1 << 20), -(1 << 20)), "upper": upper})


def _triangle(x: Any, k: int, upper: bool) -> Any:
    return (extra.triu if upper else extra.tril)(x, k=k)


@operator("EyeLike", becomes="a constant")
def eye_like(b: Builder, node: Node, x: Value) -> Value:
    refuse(x.rank != 2, f"x has shape {x.shape}, expected 2 dims")
    code = node.attrs.get("dtype")
    dtype = x.dtype if code is None else dtype_of(code)
    return constant(np.eye(*x.shape, k=attr(node, "k", 0)).astype(dtype))


@operator("TopK", becomes="`sh.argsort`, `sh.take_along_axis`")
def top_k(b: Builder, node: Node, x: Value, k: Value) -> tuple[Value, ...]:
    axis = arrange.axis_of(attr(node, "axis", -1), x.rank, "axis")
    count = int(b.number(k, "k"))
    refuse(not 0 <= count <= x.shape[axis], f"k is {count}, the dim has {x.shape[axis]} elements")
    return sorted_(b, x, axis, count, bool(attr(node, "largest", 1)))


@operator("NonZero", becomes="a constant")
def non_zero(b: Builder, node: Node, x: Value) -> Value:
    return constant(np.asarray(np.nonzero(b.array(x, "x")), np.int64))


@operator("ReverseSequence", becomes="`sh.take_along_axis`")
def reverse_sequence(b: Builder, node: Node, x: Value, lengths: Value) -> Value:
    time, batch = attr(node, "time_axis", 0), attr(node, "batch_axis", 1)
    sizes, n = b.ints(lengths, "sequence_lens"), x.shape[time]
    steps = np.arange(n)
    places = np.stack([np.where(steps < size, size - 1 - steps, steps) for size in sizes])
    turned = places if batch < time else places.T
    shape_ = [x.shape[d] if d in (time, batch) else 1 for d in range(x.rank)]
    full = np.broadcast_to(turned.reshape(shape_), x.shape).astype(np.int64)
    return arrange.gather_elements(b, x, constant(np.ascontiguousarray(full)), time)


@operator("CumSum", becomes="`sh.cumulative_sum`")
def cum_sum(b: Builder, node: Node, x: Value, axis: Value) -> Value:
    at = int(b.number(axis, "axis"))
    return along(b, running_sum, x, at, exclusive=bool(attr(node, "exclusive", 0)), reverse=bool(attr(node, "reverse", 0)))
