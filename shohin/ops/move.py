"""Ops that move elements: reshape, transpose, broadcast, pad, slice, flip, concat; and those that make them: iota, constant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from shohin.core import dtypes, interp, loop
from shohin.core.axes import Shape
from shohin.core.errors import ShapeError
from shohin.core.op import Attr, Aval, Pad, Quant, Sample
from shohin.core.tensor import Tensor, as_tensor
from shohin.ops import reduce
from shohin.ops.kinds import BROADCAST, dim_of, generator, movement, names, normalize_axis
from shohin.ops.math import API, astype

Attrs = Mapping[str, Any]


def _f32(rng: np.random.Generator, *shape: int) -> Any:
    return rng.uniform(-1, 1, shape).astype(np.float32)


# ---------------------------------------------------------------------------------------------- reshape


def _reshape_axes(shapes: Sequence[Shape], attrs: Attrs) -> str:
    """The common refinement of both shapes where they nest; otherwise the op has no relation (``None`` below)."""
    text = refine(shapes[0], attrs["shape"])
    if text is None:
        raise ShapeError(f"reshape: {shapes[0]} and {attrs['shape']} do not nest")
    return text


def refine(a: Shape, b: Shape) -> str | None:
    """The relation of a reshape by common factors, if each dim of one is a product of dims of the other.

    >>> refine((2, 3, 4), (6, 4))
    'r0 r1 r2 -> (r0 r1) r2 | r0=2 r1=3 r2=4'
    """
    left: list[list[str]] = [[] for _ in a]
    right: list[list[str]] = [[] for _ in b]
    fixed: list[tuple[str, int]] = []
    i = j = 0
    rest_a = a[0] if a else 1
    rest_b = b[0] if b else 1
    while i < len(a) and j < len(b):
        small = min(rest_a, rest_b)
        if small == 0 or rest_a % small or rest_b % small:
            return None
        name = f"r{len(fixed)}"
        fixed.append((name, small))
        if small != 1 or (rest_a == 1 and rest_b == 1):
            left[i].append(name)
            right[j].append(name)
        elif rest_a == 1:
            fixed.pop()
            rest_b_keep = rest_b
            i += 1
            rest_a = a[i] if i < len(a) else 1
            rest_b = rest_b_keep
            continue
        else:
            fixed.pop()
            j += 1
            rest_b = b[j] if j < len(b) else 1
            continue
        rest_a, rest_b = rest_a // small, rest_b // small
        step_a, step_b = rest_a == 1, rest_b == 1
        if step_a:
            i += 1
            rest_a = a[i] if i < len(a) else 1
        if step_b:
            j += 1
            rest_b = b[j] if j < len(b) else 1
    if any(n != 1 for n in a[i:]) or any(n != 1 for n in b[j:]) or (i < len(a) and rest_a != 1) or (j < len(b) and rest_b != 1):
        return None
    spell = lambda dims: " ".join("1" if not d else d[0] if len(d) == 1 else f"({' '.join(d)})" for d in dims)
    tail = " | " + " ".join(f"{n}={v}" for n, v in fixed) if fixed else ""
    return f"{spell(left)} -> {spell(right)}{tail}"


def _reshape_nest(coords: Sequence[loop.Expr], load: Any, avals: Sequence[Aval], result: Aval, attrs: Attrs) -> loop.Expr:
    """Dims of one element come and go; else the row-major position, taken apart again, with divisions where shapes do not nest."""
    source = avals[0].shape
    if [n for n in source if n != 1] == [n for n in result.shape if n != 1]:
        real = iter([c for c, n in zip(coords, result.shape, strict=True) if n != 1])
        return load(0, tuple(loop.const(0, dtypes.int32) if n == 1 else next(real) for n in source))
    flat: loop.Expr = loop.const(0, dtypes.int32)
    for c, n in zip(coords, result.shape, strict=True):
        flat = flat * n + c
    index: list[loop.Expr] = []
    for n in reversed(source):
        index.append(flat % n)
        flat = flat // n
    return load(0, tuple(reversed(index)))


def _reshape_shape(operands: Sequence[Aval], shape: Shape) -> Sequence[Shape]:
    if prod(shape) != prod(operands[0].shape):
        raise ShapeError(f"reshape: {operands[0].shape} has {prod(operands[0].shape)} elements, {shape} has {prod(shape)}")
    return [shape]


_reshape = movement(
    "reshape", attrs={"shape": Attr(type="shape", operand=-1)}, axes=_reshape_axes, shape=_reshape_shape, numpy=lambda x, shape: x.reshape(shape),
    vjp=lambda x, y, g, shape: reshape(g, x.shape), nest=_reshape_nest, source=API, doc="The elements in the same order under another shape.", quant=Quant("share", layout="order"),
    samples=lambda rng: [Sample((_f32(rng, 2, 3, 4),), {"shape": (6, 4)}), Sample((_f32(rng, 6, 4),), {"shape": (8, 3)}), Sample((_f32(rng, 4),), {"shape": (1, 4, 1)})],
).op  # fmt: skip


def reshape(x: Any, /, *shape: Any, copy: bool | None = None) -> Tensor:
    """``x`` under another shape; one extent may be -1."""
    tensor = as_tensor(x)
    wanted = tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], list | tuple) else shape
    if wanted.count(-1) > 1:
        raise ShapeError(f"reshape: only one extent may be -1, got {wanted}")
    if -1 in wanted:
        known = prod(n for n in wanted if n != -1)
        if known == 0 or tensor.size % known:
            raise ShapeError(f"reshape: {tensor.shape} does not divide into {wanted}")
        wanted = tuple(tensor.size // known if n == -1 else n for n in wanted)
    wanted = tuple(int(n) for n in wanted)
    return tensor if wanted == tensor.shape else interp.bind(_reshape, [tensor], {"shape": wanted})[0]


# --------------------------------------------------------------------------------------------- transpose

_transpose = movement(
    "transpose", attrs={"axes": Attr(type="permutation")}, numpy=lambda x, axes: np.transpose(x, axes),
    axes=lambda shapes, a: f"{' '.join(names(len(shapes[0])))} -> {' '.join(f'a{i}' for i in a['axes'])}",
    vjp=lambda x, y, g, axes: permute_dims(g, tuple(int(i) for i in np.argsort(axes))), source=API, doc="The dims in another order.",
    samples=lambda rng: [Sample((_f32(rng, 2, 3, 4),), {"axes": (2, 0, 1)}), Sample((_f32(rng, 5, 3),), {"axes": (1, 0)})],
).op  # fmt: skip


def permute_dims(x: Any, /, axes: Sequence[int]) -> Tensor:
    """The dims of ``x`` in the order ``axes``."""
    tensor = as_tensor(x)
    order = tuple(dim_of(a, tensor.ndim, "permute_dims: axis") for a in axes)
    if sorted(order) != list(range(tensor.ndim)):
        raise ShapeError(f"permute_dims: {tuple(axes)} is not an order of {tensor.ndim} dims")
    return tensor if order == tuple(range(tensor.ndim)) else interp.bind(_transpose, [tensor], {"axes": order})[0]


def transpose(x: Any, /, *axes: Any) -> Tensor:
    """``permute_dims``; without axes the dims are reversed."""
    order = tuple(axes[0]) if len(axes) == 1 and isinstance(axes[0], list | tuple) else axes
    return permute_dims(x, order or tuple(reversed(range(as_tensor(x).ndim))))


def matrix_transpose(x: Any, /) -> Tensor:
    """The last two dims exchanged."""
    n = as_tensor(x).ndim
    if n < 2:
        raise ShapeError(f"matrix_transpose: needs at least 2 dims, got {n}")
    return permute_dims(x, (*range(n - 2), n - 1, n - 2))


def moveaxis(x: Any, source: Any, destination: Any, /) -> Tensor:
    """Dims moved to other positions, the others in order."""
    n = as_tensor(x).ndim
    src = [dim_of(s, n, "moveaxis: source") for s in ([source] if isinstance(source, int) else source)]
    dst = [dim_of(d, n, "moveaxis: destination") for d in ([destination] if isinstance(destination, int) else destination)]
    order = [i for i in range(n) if i not in src]
    for d, s in sorted(zip(dst, src, strict=True)):
        order.insert(d, s)
    return permute_dims(x, order)


# --------------------------------------------------------------------------------------------- broadcast


def _broadcast_axes(shapes: Sequence[Shape], attrs: Attrs) -> str:
    old, new = shapes[0], attrs["shape"]
    lead = len(new) - len(old)
    if lead < 0 or any(n not in (1, m) for n, m in zip(old, new[lead:], strict=True)):
        raise ShapeError(f"broadcast_to: {old} does not broadcast to {new}")
    dims = ["1" if n == 1 and m != 1 else f"a{lead + i}" for i, (n, m) in enumerate(zip(old, new[lead:], strict=True))]
    return f"{' '.join(dims)} -> {' '.join(names(len(new)))} | {' '.join(f'a{i}={n}' for i, n in enumerate(new))}" if new else " -> "


def _unbroadcast(x: Tensor, y: Tensor, g: Tensor, shape: Shape) -> Tensor:
    lead = len(shape) - x.ndim
    axis = tuple(range(lead)) + tuple(lead + i for i, n in enumerate(x.shape) if n == 1 and shape[lead + i] != 1)
    return reshape(reduce.sum(g, axis=axis), x.shape) if axis else g


def _broadcast_lanes(x: Tensor, size: int, shape: Shape) -> list[Tensor]:
    """One more leading dim: the lane's missing dims go between it and the lane's own."""
    padded = reshape(x, (size, *(1,) * (len(shape) - x.ndim + 1), *x.shape[1:]))
    return [broadcast_to(padded, (size, *shape))]


_broadcast = movement(
    "broadcast_to", attrs={"shape": Attr(type="shape", operand=-1)}, axes=_broadcast_axes, numpy=lambda x, shape: np.broadcast_to(x, shape),
    vjp=_unbroadcast, source=API, doc="Sizes of 1 and missing leading dims stretched.", quant=Quant("share", layout="repeat"), batch=lambda operands, mask, size, attrs: _broadcast_lanes(operands[0], size, attrs["shape"]),
    samples=lambda rng: [Sample((_f32(rng, 3, 1),), {"shape": (2, 3, 4)}), Sample((_f32(rng, 4),), {"shape": (3, 4)}), Sample((_f32(rng),), {"shape": (2, 2)})],
).op  # fmt: skip
BROADCAST.append(_broadcast)


def broadcast_to(x: Any, /, shape: Sequence[int]) -> Tensor:
    """``x`` stretched to ``shape``."""
    tensor, wanted = as_tensor(x), tuple(int(n) for n in shape)
    return tensor if tensor.shape == wanted else interp.bind(_broadcast, [tensor], {"shape": wanted})[0]


def expand_dims(x: Any, /, *, axis: int = 0) -> Tensor:
    """A dim of size 1 at ``axis``."""
    tensor = as_tensor(x)
    if not -tensor.ndim - 1 <= axis <= tensor.ndim:
        raise IndexError(f"expand_dims: axis {axis} is out of range for {tensor.ndim} dims")
    at = axis % (tensor.ndim + 1)
    return reshape(tensor, (*tensor.shape[:at], 1, *tensor.shape[at:]))


def squeeze(x: Any, /, axis: int | Sequence[int]) -> Tensor:
    """Without the dims ``axis``, which must have size 1."""
    tensor = as_tensor(x)
    drop = {dim_of(a, tensor.ndim, "squeeze: axis") for a in ((axis,) if isinstance(axis, int) else axis)}
    if any(tensor.shape[a] != 1 for a in drop):
        raise ShapeError(f"squeeze: dims {sorted(drop)} of {tensor.shape} are not all of size 1")
    return reshape(tensor, tuple(n for i, n in enumerate(tensor.shape) if i not in drop))


def flatten(x: Any, start: int = 0) -> Tensor:
    """Dims from ``start`` on as one."""
    tensor = as_tensor(x)
    return reshape(tensor, (*tensor.shape[:start], prod(tensor.shape[start:])))


# ------------------------------------------------------------------------------------------ pad and slice

_pad = movement(
    "pad", attrs={"padding": Attr(type="per_dim", neutral=(0, 0)), "value": Attr(type="static")},
    axes=lambda shapes, a: f"{' '.join(f'(a{i}~padding.{i})' for i in range(len(shapes[0])))} -> {' '.join(names(len(shapes[0])))}",
    numpy=lambda x, padding, value: np.pad(x, padding, constant_values=np.asarray(value).astype(x.dtype)), pad=Pad("value", "multiply"),
    vjp=lambda x, y, g, padding, value: _slice_op(g, tuple(lo for lo, _ in padding), tuple(lo + n for (lo, _), n in zip(padding, x.shape, strict=True))),
    source="numpy.pad, constant mode", doc="Elements of ``value`` around each dim.",
    samples=lambda rng: [Sample((_f32(rng, 3, 4),), {"padding": ((1, 2), (0, 3)), "value": 0.5})],
).op  # fmt: skip


def pad(x: Any, padding: Sequence[tuple[int, int]], value: float = 0.0, mode: str = "constant") -> Tensor:
    """``padding`` has a pair (before, after) for each dim. ``mode``: "constant" puts ``value`` there, "edge" the last element,
    "reflect" the elements mirrored at it, "wrap" those of the other end (as numpy.pad).

    >>> pad(asarray([1, 2, 3]), [(1, 2)], mode="reflect").tolist()
    [2, 1, 2, 3, 2, 1]
    """
    tensor = as_tensor(x)
    pairs = tuple((int(lo), int(hi)) for lo, hi in padding)
    if len(pairs) != tensor.ndim or any(n < 0 for pair in pairs for n in pair):
        raise ShapeError(f"pad: {pairs} is not a pair of sizes for each of {tensor.ndim} dims")
    if not any(map(any, pairs)):
        return tensor
    if mode == "constant":
        return interp.bind(_pad, [tensor], {"padding": pairs, "value": value})[0]
    if mode not in _AROUND:
        raise ValueError(f"pad: mode is {mode!r}, expected 'constant', {', '.join(map(repr, _AROUND))}")
    for axis, (lo, hi) in enumerate(pairs):
        if (lo or hi) and tensor.shape[axis] < 1 + (mode == "reflect"):
            raise ShapeError(f"pad: dim {axis} of {tensor.shape} has too few elements for mode {mode!r}")
        while lo or hi:  # what is asked for may be longer than what there is
            tensor, lo, hi = _AROUND[mode](tensor, axis, lo, hi)
    return tensor


def _cut(x: Tensor, axis: int, start: int, stop: int) -> Tensor:
    return _slice_op(x, tuple(start if i == axis else 0 for i in range(x.ndim)), tuple(stop if i == axis else n for i, n in enumerate(x.shape)))


def _edge(x: Tensor, axis: int, lo: int, hi: int) -> tuple[Tensor, int, int]:
    n = x.shape[axis]
    wide = lambda part, count: broadcast_to(part, tuple(count if i == axis else m for i, m in enumerate(x.shape)))
    return concat([wide(_cut(x, axis, 0, 1), lo), x, wide(_cut(x, axis, n - 1, n), hi)], axis=axis), 0, 0


def _reflect(x: Tensor, axis: int, lo: int, hi: int) -> tuple[Tensor, int, int]:
    n = x.shape[axis]
    a, b = min(lo, n - 1), min(hi, n - 1)
    parts = [flip(_cut(x, axis, 1, 1 + a), axis=axis), x, flip(_cut(x, axis, n - 1 - b, n - 1), axis=axis)]
    return concat(parts, axis=axis), lo - a, hi - b


def _wrap(x: Tensor, axis: int, lo: int, hi: int) -> tuple[Tensor, int, int]:
    n = x.shape[axis]
    a, b = min(lo, n), min(hi, n)
    return concat([_cut(x, axis, n - a, n), x, _cut(x, axis, 0, b)], axis=axis), lo - a, hi - b


_AROUND = {"edge": _edge, "reflect": _reflect, "wrap": _wrap}


def _slice_shape(operands: Sequence[Aval], start: Shape, stop: Shape, step: Shape) -> Sequence[Shape]:
    shape = operands[0].shape
    if not len(start) == len(stop) == len(step) == len(shape):
        raise ShapeError(f"slice: start {start}, stop {stop}, step {step} do not fit {len(shape)} dims")
    for a, b, s, n in zip(start, stop, step, shape, strict=True):
        if not (0 <= a <= b <= n and s >= 1):
            raise ShapeError(f"slice: {a}:{b}:{s} is out of range for a dim of {n}")
    return [tuple(-(-(b - a) // s) for a, b, s in zip(start, stop, step, strict=True))]


def _slice_nest(coords: Sequence[loop.Expr], load: Any, avals: Sequence[Aval], result: Aval, attrs: Attrs) -> loop.Expr:
    return load(0, tuple(c * s + a for c, s, a in zip(coords, attrs["step"], attrs["start"], strict=True)))


def _slice_axes(shapes: Sequence[Shape], attrs: Attrs) -> str:
    dims = []
    for i, (a, b, s, n) in enumerate(zip(attrs["start"], attrs["stop"], attrs["step"], shapes[0], strict=True)):
        whole = a == 0 and b == n and s == 1
        dims.append(f"a{i}" if whole else f"(a{i}*{s}~[{-a},{b - n}])")
    return f"{' '.join(dims)} -> {' '.join(names(len(shapes[0])))}"


_slice = movement(
    "slice", attrs={"start": Attr(type="per_dim", neutral=0), "stop": Attr(type="per_dim", neutral=None), "step": Attr(type="per_dim", neutral=1)},
    axes=_slice_axes, shape=_slice_shape, nest=_slice_nest, numpy=lambda x, start, stop, step: x[tuple(map(slice, start, stop, step))],
    vjp=lambda x, y, g, start, stop, step: _unslice(x, g, start, stop, step), source=API, doc="Elements start, start+step, ... below stop of each dim.",
    samples=lambda rng: [Sample((_f32(rng, 5, 6),), {"start": (1, 0), "stop": (5, 6), "step": (2, 3)})],
).op  # fmt: skip


def _slice_op(x: Tensor, start: Shape, stop: Shape, step: Shape | None = None) -> Tensor:
    step = step or (1,) * len(start)
    whole = all(a == 0 and b == n and s == 1 for a, b, s, n in zip(start, stop, step, x.shape, strict=True))
    return x if whole else interp.bind(_slice, [x], {"start": tuple(start), "stop": tuple(stop), "step": tuple(step)})[0]


def _unslice(x: Tensor, g: Tensor, start: Shape, stop: Shape, step: Shape) -> Tensor:
    """Zeros of the shape of ``x`` with ``g`` at the slice: spread by the step, then padded."""
    for i, s in enumerate(step):
        if s > 1 and g.shape[i] > 1:
            wide = reshape(g, (*g.shape[: i + 1], 1, *g.shape[i + 1 :]))
            wide = pad(wide, [(0, s - 1) if k == i + 1 else (0, 0) for k in range(wide.ndim)])
            g = reshape(wide, (*g.shape[:i], g.shape[i] * s, *g.shape[i + 1 :]))
            g = _slice_op(g, (0,) * g.ndim, tuple(n - (s - 1) if k == i else n for k, n in enumerate(g.shape)))
    return pad(g, [(a, n - a - m) for a, n, m in zip(start, x.shape, g.shape, strict=True)])


def slice_(x: Any, start: Sequence[int], stop: Sequence[int], step: Sequence[int] | None = None) -> Tensor:
    """A box of ``x``: one start, stop and (positive) step for each dim."""
    return _slice_op(as_tensor(x), tuple(start), tuple(stop), tuple(step) if step else None)


def _flip_nest(coords: Sequence[loop.Expr], load: Any, avals: Sequence[Aval], result: Aval, attrs: Attrs) -> loop.Expr:
    return load(0, tuple((n - 1) - c if i in attrs["axis"] else c for i, (c, n) in enumerate(zip(coords, result.shape, strict=True))))


_flip = movement(
    "flip", attrs={"axis": Attr(type="dims")}, axes=lambda shapes, a: f"{' '.join(n + ('!' if i in a['axis'] else '') for i, n in enumerate(names(len(shapes[0]))))} -> "
    f"{' '.join(n + ('!' if i in a['axis'] else '') for i, n in enumerate(names(len(shapes[0]))))}", nest=_flip_nest,
    numpy=lambda x, axis: np.flip(x, axis), vjp=lambda x, y, g, axis: flip(g, axis=axis), source=API, doc="The dims ``axis`` backwards.",
    samples=lambda rng: [Sample((_f32(rng, 3, 4, 2),), {"axis": (0, 2)})],
).op  # fmt: skip


def flip(x: Any, /, *, axis: int | Sequence[int] | None = None) -> Tensor:
    """``x`` with the dims ``axis`` (all without it) backwards."""
    tensor = as_tensor(x)
    return interp.bind(_flip, [tensor], {"axis": normalize_axis(axis, tensor.ndim)})[0]


def roll(x: Any, /, shift: int, *, axis: int) -> Tensor:
    """The elements of a dim moved by ``shift``, those that leave enter on the other side."""
    tensor = as_tensor(x)
    at = dim_of(axis, tensor.ndim, "roll: axis")
    n = tensor.shape[at]
    cut = -shift % n if n else 0
    box = lambda a, b: _slice_op(tensor, tuple(a if i == at else 0 for i in range(tensor.ndim)), tuple(b if i == at else m for i, m in enumerate(tensor.shape)))
    return concat([box(cut, n), box(0, cut)], axis=at) if cut else tensor


# ----------------------------------------------------------------------------------------------- concat


def _concat_shape(operands: Sequence[Aval], axis: int) -> Sequence[Shape]:
    first = operands[0].shape
    for k, o in enumerate(operands):
        if len(o.shape) != len(first) or any(i != axis and n != m for i, (n, m) in enumerate(zip(o.shape, first, strict=False))):
            raise ShapeError(f"concat: operand {k} has shape {o.shape}, which differs from {first} not only in dim {axis}")
    return [tuple(sum(o.shape[axis] for o in operands) if i == axis else n for i, n in enumerate(first))]


def _concat_nest(coords: Sequence[loop.Expr], load: Any, avals: Sequence[Aval], result: Aval, attrs: Attrs) -> loop.Expr:
    axis, value, start = attrs["axis"], None, result.shape[attrs["axis"]]
    for k in reversed(range(len(avals))):
        n = avals[k].shape[axis]
        start -= n
        here = coords[axis] - start
        inside = (here >= 0) & (here < n)
        index = tuple(here if i == axis else c for i, c in enumerate(coords))
        part = load(k, index, inside, 0)
        value = part if value is None else loop.select(inside, part, value)
    assert value is not None
    return value


def _concat_vjp(operands: Sequence[Tensor], results: Sequence[Tensor], cotangents: Sequence[Tensor], axis: int) -> list[Tensor]:
    g, found, start = cotangents[0], [], 0
    for x in operands:
        lo = tuple(start if i == axis else 0 for i in range(x.ndim))
        found.append(_slice_op(g, lo, tuple(a + n for a, n in zip(lo, x.shape, strict=True))))
        start += x.shape[axis]
    return found


_concat = movement(
    "concat", attrs={"axis": Attr(type="dim")}, operands=("*xs",), shape=_concat_shape, nest=_concat_nest, vjp=_concat_vjp,
    numpy=lambda *xs, axis: np.concatenate(xs, axis), source=API, doc="Tensors one after another along a dim.", quant=Quant("rule", rule="Q7 concat", interval=lambda r, attrs: (min(a for a, _ in r), max(b for _, b in r))),
    samples=lambda rng: [Sample((_f32(rng, 2, 3), _f32(rng, 2, 1), _f32(rng, 2, 4)), {"axis": 1}), Sample((_f32(rng, 2, 3), _f32(rng, 1, 3)), {"axis": 0})],
).op  # fmt: skip


def concat(arrays: Sequence[Any], /, *, axis: int | None = 0) -> Tensor:
    """Tensors joined along ``axis`` (flattened first when it is None)."""
    tensors = [as_tensor(a) for a in arrays]
    if not tensors:
        raise ShapeError("concat: needs at least one tensor")
    if axis is None:
        tensors, axis = [flatten(t) for t in tensors], 0
    at = dim_of(axis, tensors[0].ndim, "concat: axis")
    tensors = _promoted(tensors)
    return tensors[0] if len(tensors) == 1 else interp.bind(_concat, tensors, {"axis": at})[0]


def stack(arrays: Sequence[Any], /, *, axis: int = 0) -> Tensor:
    """Tensors of one shape joined along a new dim."""
    return concat([expand_dims(a, axis=axis) for a in arrays], axis=axis)


def _promoted(tensors: Sequence[Tensor]) -> list[Tensor]:
    dtype = dtypes.promote(*((t.dtype, t.weak) for t in tensors))
    return [astype(t, dtype) for t in tensors]


# ----------------------------------------------------------------------------------------------- making

_iota = generator(
    "iota", attrs={"shape": Attr(type="shape", operand=-1), "axis": Attr(type="dim", operand=-1), "dtype": Attr(type="dtype")},
    shape=lambda operands, shape, axis, dtype: [shape], dtype=lambda a: a["dtype"], source=API, doc="0, 1, 2 ... along ``axis``.",
    numpy=lambda shape, axis, dtype: np.broadcast_to(np.arange(shape[axis]).astype(dtype).reshape([-1 if i == axis else 1 for i in range(len(shape))]), shape),
    nest=lambda coords, load, avals, result, attrs: loop.cast(coords[attrs["axis"]], result.dtype),
    samples=lambda rng: [Sample((), {"shape": (3, 4), "axis": 1, "dtype": dtypes.int32})],
).op  # fmt: skip


def iota(shape: Sequence[int], axis: int = 0, dtype: Any = dtypes.int32) -> Tensor:
    """0, 1, 2 ... along ``axis`` of ``shape``."""
    return interp.bind(_iota, [], {"shape": tuple(shape), "axis": axis, "dtype": dtypes.as_dtype(dtype)})[0]


def asarray(obj: Any, /, *, dtype: Any = None, device: Any = None, copy: bool | None = None) -> Tensor:
    """A tensor of numbers, nested lists, or anything that NumPy reads. Python floats become float32.

    >>> asarray([1.0, 2.0]).dtype.name
    'float32'
    """
    if isinstance(obj, Tensor):
        out = obj if dtype is None else astype(obj, dtype)
        return interp.make(out.payload, out.frame, out.payload, out.aval) if copy else out
    array = np.asarray(obj)
    if array.dtype == object:
        raise TypeError(f"asarray: {type(obj).__name__} is not a regular array of numbers")
    if dtype is not None:
        array = array.astype(dtypes.as_dtype(dtype))
    elif not isinstance(obj, np.ndarray | np.generic) and array.dtype == np.float64:
        array = array.astype(np.float32)
    return interp.current().constant(np.array(array))


def full(shape: int | Sequence[int], fill_value: Any, *, dtype: Any = None, device: Any = None) -> Tensor:
    """``fill_value`` everywhere."""
    wanted = dtypes.of_scalar(fill_value) if dtype is None else dtypes.as_dtype(dtype)
    return broadcast_to(interp.current().constant(np.asarray(fill_value).astype(wanted)), (shape,) if isinstance(shape, int) else tuple(shape))


def zeros(shape: int | Sequence[int], *, dtype: Any = None, device: Any = None) -> Tensor:
    """Zeros, float32 unless ``dtype`` says otherwise."""
    return full(shape, 0, dtype=dtype or dtypes.float32)


def ones(shape: int | Sequence[int], *, dtype: Any = None, device: Any = None) -> Tensor:
    """Ones, float32 unless ``dtype`` says otherwise."""
    return full(shape, 1, dtype=dtype or dtypes.float32)


def empty(shape: int | Sequence[int], *, dtype: Any = None, device: Any = None) -> Tensor:
    """``zeros``: no memory here is left undefined."""
    return zeros(shape, dtype=dtype)


def arange(start: Any, /, stop: Any = None, step: Any = 1, *, dtype: Any = None, device: Any = None) -> Tensor:
    """``start, start + step ...`` below ``stop``."""
    if stop is None:
        start, stop = 0, start
    array = np.arange(start, stop, step)
    wanted = dtypes.as_dtype(dtype) if dtype is not None else dtypes.float32 if array.dtype.kind == "f" else dtypes.int64
    return interp.current().constant(array.astype(wanted))


def linspace(start: float, stop: float, /, num: int, *, dtype: Any = None, device: Any = None, endpoint: bool = True) -> Tensor:
    """``num`` values from ``start`` to ``stop``, evenly spaced."""
    return interp.current().constant(np.linspace(start, stop, num, endpoint=endpoint).astype(dtypes.as_dtype(dtype or dtypes.float32)))


def eye(n_rows: int, n_cols: int | None = None, /, *, k: int = 0, dtype: Any = None, device: Any = None) -> Tensor:
    """Ones on the diagonal ``k``."""
    return interp.current().constant(np.eye(n_rows, n_cols, k=k).astype(dtypes.as_dtype(dtype or dtypes.float32)))


__all__ = ["arange", "asarray", "broadcast_to", "concat", "empty", "expand_dims", "eye", "flatten", "flip", "full", "iota", "linspace", "matrix_transpose",
           "moveaxis", "ones", "pad", "permute_dims", "reshape", "roll", "slice_", "squeeze", "stack", "transpose", "zeros"]  # fmt: skip
