"""Indexing by values: take, its transpose scatter_add, and ``x[...]`` in terms of slices and take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from shohin.core import dtypes, interp, loop
from shohin.core.axes import Shape
from shohin.core.errors import ShapeError
from shohin.core.op import EXACT, NO_GRADIENT, Attr, Aval, Dtypes, Op, Quant, Sample, Tol, register
from shohin.core.tensor import Tensor, as_tensor
from shohin.ops import kinds, math, move
from shohin.ops.math import API

Attrs = Mapping[str, Any]
_INDEX = frozenset({dtypes.int32, dtypes.int64})


def _take_shape(operands: Sequence[Aval], axis: int, batch_dims: int) -> Sequence[Shape]:
    x, i = operands[0].shape, operands[1].shape
    if not batch_dims <= axis < len(x) or x[:batch_dims] != i[:batch_dims]:
        raise ShapeError(f"take: indices {i} of dim {axis} do not fit {x} with {batch_dims} batch dims")
    return [(*x[:axis], *i[batch_dims:], *x[axis + 1 :])]


def _take_numpy(x: Any, i: Any, axis: int, batch_dims: int) -> Any:
    n = x.shape[axis]
    if i.size and (i.min() < 0 or i.max() >= n):
        bad = int(i.min() if i.min() < 0 else i.max())
        raise IndexError(f"take: index {bad} is out of range for dim {axis} of extent {n}")
    if not batch_dims:
        return np.take(x, i, axis)
    batch = x.shape[:batch_dims]
    rows = [np.take(x[b], i[b], axis - batch_dims) for b in np.ndindex(batch)]
    return np.stack(rows).reshape(*batch, *rows[0].shape) if rows else np.zeros(_take_shape([Aval(x.shape, x.dtype), Aval(i.shape, i.dtype)], axis, batch_dims)[0], x.dtype)


def _take_nest(coords: Sequence[loop.Expr], load: Any, avals: Sequence[Aval], result: Aval, attrs: Attrs) -> loop.Expr:
    axis, b = attrs["axis"], attrs["batch_dims"]
    k = len(avals[1].shape) - b
    at = loop.clip(load(1, (*coords[:b], *coords[axis : axis + k])), 0, avals[0].shape[axis] - 1)
    return load(0, (*coords[:axis], loop.cast(at, dtypes.int32), *coords[axis + k :]))


_take = register(Op(
    name="take", kind="indexing", doc="Elements of dim ``axis`` at the given positions (clipped into range in compiled code, an error in eager).", source=API,
    operands=("x", "indices"), results=("y",), attrs={"axis": Attr(type="dim"), "batch_dims": Attr(type="static")},
    dtypes=Dtypes(accepted=(dtypes.ANY, _INDEX), same=False, result=lambda found, a: (found[0],), compute=lambda d: d, accumulator=lambda d: d),
    axes=None, shape=_take_shape, body=None, combiner=None, identity=None, order=None, pad=None, fin=None, numpy=_take_numpy,
    vjp=(lambda x, i, y, g, axis, batch_dims: interp.bind(_scatter_add, [g, i], {"axis": axis, "batch_dims": batch_dims, "shape": x.shape})[0], NO_GRADIENT),
    nest=_take_nest, batch=lambda operands, mask, size, attrs: _take_lanes(operands, mask, size, **attrs), alias=False, quant=Quant("share"), tol=EXACT, edges=(),
    samples=lambda rng: [Sample((rng.uniform(-1, 1, (5, 3)).astype(np.float32), rng.integers(0, 5, (2, 4))), {"axis": 0, "batch_dims": 0}),
                         Sample((rng.uniform(-1, 1, (2, 3, 4)).astype(np.float32), rng.integers(0, 4, (2, 5)).astype(np.int32)), {"axis": 2, "batch_dims": 1})],
))  # fmt: skip


def _scatter_shape(operands: Sequence[Aval], axis: int, batch_dims: int, shape: Shape) -> Sequence[Shape]:
    expected = _take_shape([Aval(shape, operands[0].dtype), operands[1]], axis, batch_dims)[0]
    if operands[0].shape != expected:
        raise ShapeError(f"scatter_add: updates have shape {operands[0].shape}, expected {expected}")
    return [shape]


def _scatter_numpy(g: Any, i: Any, axis: int, batch_dims: int, shape: Shape) -> Any:
    out = np.zeros(shape, g.dtype)
    for b in np.ndindex(shape[:batch_dims]):
        rows = np.moveaxis(out[b], axis - batch_dims, 0)
        k = i.ndim - batch_dims
        updates = np.moveaxis(g[b], range(axis - batch_dims, axis - batch_dims + k), range(k))
        np.add.at(rows, np.clip(i[b], 0, shape[axis] - 1), updates)
    return out


_scatter_add = register(Op(
    name="scatter_add", kind="indexing", doc="The transpose of take: updates added into zeros, in the order of the indices.", source="the transpose of take",
    operands=("g", "indices"), results=("y",), attrs={"axis": Attr(type="dim", operand=-1), "batch_dims": Attr(type="static"), "shape": Attr(type="shape", operand=-1)},
    dtypes=Dtypes(accepted=(dtypes.NUMERIC, _INDEX), same=False, result=lambda found, a: (found[0],), compute=kinds.compute_dtype, accumulator=kinds.compute_dtype),
    axes=None, shape=_scatter_shape, body=None, combiner="add", identity=lambda d: 0, order="sequence", pad=None, fin=None, numpy=_scatter_numpy,
    vjp=(lambda g, i, y, ct, axis, batch_dims, shape: interp.bind(_take, [ct, i], {"axis": axis, "batch_dims": batch_dims})[0], NO_GRADIENT),
    nest="scatter", batch=lambda operands, mask, size, attrs: _scatter_lanes(operands, mask, size, **attrs), alias=False, quant=Quant.refuse("a gradient runs in training only"), tol=Tol(64, 1e-6), edges=(),
    samples=lambda rng: [Sample((rng.uniform(-1, 1, (2, 4, 3)).astype(np.float32), rng.integers(0, 5, (2, 4))), {"axis": 0, "batch_dims": 0, "shape": (5, 3)}),
                         Sample((rng.uniform(-1, 1, (2, 3, 5)).astype(np.float32), rng.integers(0, 4, (2, 5)).astype(np.int32)), {"axis": 2, "batch_dims": 1, "shape": (2, 3, 4)})],
))  # fmt: skip


def _lanes(x: Tensor, batched: bool, size: int) -> Tensor:
    return x if batched else move.broadcast_to(move.expand_dims(x, axis=0), (size, *x.shape))


def _take_lanes(operands: Sequence[Tensor], mask: Sequence[bool], size: int, axis: int, batch_dims: int) -> list[Tensor]:
    x, i = operands
    if not mask[0] and batch_dims == 0:  # one table, many indices
        y = interp.bind(_take, [x, i], {"axis": axis, "batch_dims": 0})[0]
        return [move.moveaxis(y, axis, 0)]
    x, i = (_lanes(o, m, size) for o, m in zip(operands, mask, strict=True))
    return [interp.bind(_take, [x, i], {"axis": axis + 1, "batch_dims": batch_dims + 1})[0]]


def _scatter_lanes(operands: Sequence[Tensor], mask: Sequence[bool], size: int, axis: int, batch_dims: int, shape: Shape) -> list[Tensor]:
    g, i = (_lanes(o, m, size) for o, m in zip(operands, mask, strict=True))
    return [interp.bind(_scatter_add, [g, i], {"axis": axis + 1, "batch_dims": batch_dims + 1, "shape": (size, *shape)})[0]]


def take(x: Any, indices: Any, /, *, axis: int | None = None, batch_dims: int = 0) -> Tensor:
    """Elements of ``x`` along ``axis`` at integer positions; ``batch_dims`` leading dims go in step."""
    tensor, i = as_tensor(x), as_tensor(indices)
    if axis is None and tensor.ndim != 1:
        raise ShapeError(f"take: write the axis for a tensor of {tensor.ndim} dims")
    if i.dtype not in _INDEX:
        i = math.astype(i, dtypes.int64)
    return interp.bind(_take, [tensor, i], {"axis": kinds.dim_of(axis or 0, tensor.ndim, "take: axis"), "batch_dims": batch_dims})[0]


def one_hot(indices: Any, num_classes: int, dtype: Any = dtypes.float32) -> Tensor:
    """indices (...,) -> (..., num_classes): 1 at the index, else 0."""
    i = as_tensor(indices)
    return math.astype(math.equal(move.expand_dims(i, axis=-1), move.asarray(np.arange(num_classes, dtype=i.dtype))), dtype)


def take_along_axis(x: Any, indices: Any, /, *, axis: int = -1) -> Tensor:
    """For each position of ``indices`` the element of ``x`` at that index of ``axis``, the other dims in step."""
    tensor, i = as_tensor(x), as_tensor(indices)
    at = kinds.dim_of(axis, tensor.ndim, "take_along_axis: axis")
    if i.ndim != tensor.ndim:
        raise ShapeError(f"take_along_axis: indices have {i.ndim} dims, x {tensor.ndim}")
    order = [d for d in range(tensor.ndim) if d != at] + [at]
    back = [order.index(d) for d in range(tensor.ndim)]
    y = take(move.permute_dims(tensor, order), move.permute_dims(i, order), axis=tensor.ndim - 1, batch_dims=tensor.ndim - 1)
    return move.permute_dims(y, back)


# ----------------------------------------------------------------------------------------------- x[...]


def _normal(index: Any, ndim: int) -> list[Any]:
    items = list(index) if isinstance(index, tuple) else [index]
    used = sum(1 for i in items if i is not None and i is not Ellipsis)
    used += sum(max(as_tensor(i).ndim - 1, 0) for i in items if _is_array(i) and _dtype_of(i) == dtypes.bool_)
    if used > ndim:
        raise IndexError(f"too many indices: {used} for a tensor of {ndim} dims")
    if not any(i is Ellipsis for i in items):
        items.append(Ellipsis)
    at = next(k for k, i in enumerate(items) if i is Ellipsis)
    return items[:at] + [slice(None)] * (ndim - used) + items[at + 1 :]


def _is_array(i: Any) -> bool:
    return isinstance(i, Tensor | np.ndarray | list) or (isinstance(i, np.generic) and not isinstance(i, np.integer))


def _dtype_of(i: Any) -> Any:
    return as_tensor(i).dtype


def getitem(x: Tensor, index: Any) -> Tensor:
    """``x[index]``: integers, slices, None, ..., integer tensors (one, or several that broadcast), a concrete mask."""
    items = _normal(index, x.ndim)
    arrays = [i for i in items if _is_array(i)]
    if len(arrays) == 1 and _dtype_of(arrays[0]) == dtypes.bool_:
        mask = as_tensor(arrays[0]).concrete()
        k = next(j for j, i in enumerate(items) if _is_array(i))
        items[k : k + 1] = [as_tensor(np.asarray(n)) for n in np.nonzero(mask)]
    start, stop, step, flips, shape, picks = [], [], [], [], [], []
    dim = 0
    for i in items:
        if i is None:
            shape.append(1)
            continue
        n = x.shape[dim]
        if isinstance(i, slice):
            a, b, s = i.indices(n)
            count = len(range(a, b, s))
            if s < 0:
                flips.append(dim)
                a, s = a + (count - 1) * s, -s
            a, b = (0, 0) if count == 0 else (a, a + (count - 1) * s + 1)
            shape.append(count)
        elif _is_array(i):
            picks.append((dim, len(shape), as_tensor(i)))
            a, b, s = 0, n, 1
            shape.append(n)
        else:
            k = int(i.__index__())
            if not -n <= k < n:
                raise IndexError(f"index {k} is out of range for dim {dim} of extent {n}")
            a, b, s = k % n, k % n + 1, 1
        start.append(a)
        stop.append(b)
        step.append(s)
        dim += 1
    y = move.slice_(x, start, stop, step)
    if flips:
        y = move.flip(y, axis=flips)
    y = move.reshape(y, tuple(shape))
    return _pick(y, [(at, i) for _, at, i in picks]) if picks else y


def _pick(y: Tensor, picks: list[tuple[int, Tensor]]) -> Tensor:
    if len(picks) == 1:
        at, i = picks[0]
        return take(y, _wrapped(i, y.shape[at]), axis=at)
    dims = [at for at, _ in picks]
    indices = kinds.broadcast(*(_wrapped(i, y.shape[at]) for at, i in picks))
    rest = [d for d in range(y.ndim) if d not in dims]
    flat = indices[0]
    for (at, _), i in zip(picks[1:], indices[1:], strict=True):
        flat = flat * y.shape[at] + i
    merged = move.reshape(move.permute_dims(y, dims + rest), (prod(y.shape[d] for d in dims), *(y.shape[d] for d in rest)))
    out = take(merged, flat, axis=0)
    if dims == list(range(dims[0], dims[0] + len(dims))) and dims[0] > 0:  # adjacent: the indices' dims stand where they stood
        k = flat.ndim
        out = move.permute_dims(out, [*range(k, k + dims[0]), *range(k), *range(k + dims[0], out.ndim)])
    return out


def _wrapped(i: Tensor, n: int) -> Tensor:
    i = i if i.dtype in _INDEX else math.astype(i, dtypes.int64)
    return math.where(math.less(i, 0), i + n, i)


def setitem(x: Tensor, index: Any, value: Any) -> Tensor:
    """A tensor like ``x`` with ``value`` at ``index``: positions are found by indexing their numbers."""
    new = math.astype(as_tensor(value), x.dtype)
    items = index if isinstance(index, tuple) else (index,)
    if len(items) == 1 and _is_array(items[0]) and _dtype_of(items[0]) == dtypes.bool_ and as_tensor(items[0]).shape == x.shape and new.ndim == 0:
        return math.where(as_tensor(items[0]), new, x)
    numbers = move.asarray(np.arange(x.size, dtype=np.int64).reshape(x.shape))
    at = getitem(numbers, index)
    if at.size == 0:
        return x
    new = move.reshape(move.broadcast_to(new, at.shape), (-1,))
    spots = move.reshape(at, (-1,))
    attrs = {"axis": 0, "batch_dims": 0, "shape": (x.size,)}
    if not any(_is_array(i) for i in items):
        placed = interp.bind(_scatter_add, [_numeric(new), spots], attrs)[0]
        hit = interp.bind(_scatter_add, [move.ones(spots.shape, dtype=dtypes.int32), spots], attrs)[0]
    else:  # an index may occur twice: the last one wins, as in NumPy
        order = interp.bind(_last_of, [spots], {"size": x.size})[0]
        hit = order + 1
        placed = take(_numeric(new), math.maximum(order, 0), axis=0)
    return math.where(move.reshape(math.greater(hit, 0), x.shape), math.astype(move.reshape(placed, x.shape), x.dtype), x)


def _numeric(x: Tensor) -> Tensor:
    return math.astype(x, dtypes.int32) if x.dtype == dtypes.bool_ else x


def _last_numpy(i: Any, size: int) -> Any:
    out = np.full(size, -1, np.int64)
    for k, at in enumerate(i.tolist()):
        out[at] = k
    return out


_last_of = register(Op(
    name="last_occurrence", kind="indexing", doc="For each of ``size`` numbers where it occurs last in x, -1 if it does not.", source="numpy's rule for repeated indices",
    operands=("x",), results=("y",), attrs={"size": Attr(type="static")},
    dtypes=Dtypes(accepted=(_INDEX,), same=True, result=lambda found, a: (dtypes.int64,), compute=lambda d: d, accumulator=lambda d: d), axes=None,
    shape=lambda operands, size: [(size,)], body=None, combiner="max", identity=lambda d: -1, order="sequence", pad=None, fin=None, numpy=_last_numpy, vjp=(NO_GRADIENT,),
    nest="last", batch=None, alias=False, quant=Quant.refuse("positions have no grid"), tol=EXACT, samples=lambda rng: [Sample((rng.integers(0, 5, (7,)),), {"size": 5})], edges=(),
))  # fmt: skip

# ------------------------------------------------------------------------------------------------ order


def _argsort_numpy(x: Any, axis: int, descending: bool) -> Any:
    # float16 through float32 and always stable: NumPy's default sort is wrong for float16 on some machines
    wide = x.astype(np.float32) if x.dtype in (dtypes.float16, dtypes.bfloat16) else x
    if not descending:
        return np.argsort(wide, axis=axis, kind="stable").astype(np.int64)
    flipped = np.flip(wide, axis)
    return (x.shape[axis] - 1 - np.flip(np.argsort(flipped, axis=axis, kind="stable"), axis)).astype(np.int64)


_argsort = register(Op(
    name="argsort", kind="scan", doc="The order of elements along ``axis``, stable; NaN last.", source=API, operands=("x",), results=("i",),
    attrs={"axis": Attr(type="dim"), "descending": Attr(type="static")},
    dtypes=Dtypes(accepted=(dtypes.NUMERIC,), same=True, result=lambda found, a: (dtypes.int64,), compute=kinds.compute_dtype, accumulator=lambda d: d),
    axes=lambda shapes, a: "{0} -> {0}".format(" ".join(f"a{i}" + ("!" if i == a["axis"] else "") for i in range(len(shapes[0])))), shape=None, body=None, combiner=None,
    identity=None, order=None, pad=None, fin=None, numpy=_argsort_numpy, vjp=(NO_GRADIENT,), nest="rank", batch=None, alias=False, quant=Quant.refuse("an order has no grid"),
    tol=EXACT, samples=lambda rng: [Sample((rng.integers(0, 4, (3, 7)).astype(np.float32),), {"axis": 1, "descending": d}) for d in (False, True)], edges=(),
))  # fmt: skip


def argsort(x: Any, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """int64 positions that sort ``x`` along ``axis``; stable."""
    tensor = as_tensor(x)
    return interp.bind(_argsort, [tensor], {"axis": kinds.dim_of(axis, tensor.ndim, "argsort: axis"), "descending": descending})[0]


def sort(x: Any, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """``x`` sorted along ``axis``; differentiable."""
    return take_along_axis(x, argsort(x, axis=axis, descending=descending), axis=axis)


def quantile(x: Any, q: Any, /, *, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The value below which a fraction ``q`` lies, interpolated linearly between neighbours; q a number, or a tensor of one."""
    tensor = as_tensor(x)
    if not isinstance(q, Tensor) and not 0 <= q <= 1:
        raise ValueError(f"quantile: q is {q}, expected a number in [0, 1]")
    flat = tensor if axis is not None else move.reshape(tensor, (-1,))
    at = kinds.dim_of(axis or 0, flat.ndim, "quantile: axis")
    ordered, n = sort(flat, axis=at), flat.shape[at]
    spot = q * (n - 1)
    if isinstance(spot, Tensor):
        low = math.astype(math.floor(spot), dtypes.int32)
        high, part = math.minimum(low + 1, n - 1), math.astype(spot - math.floor(spot), tensor.dtype)
        index = lambda k: take(ordered, move.reshape(k, (1,)), axis=at)
    else:
        low = int(spot)
        high, part = min(low + 1, n - 1), spot - low
        index = lambda k: getitem(ordered, tuple(slice(k, k + 1) if d == at else slice(None) for d in range(ordered.ndim)))
    y = index(low) * (1 - part) + index(high) * part
    if keepdims:
        return y if axis is not None else move.reshape(y, (1,) * tensor.ndim)
    return move.squeeze(y, at)


__all__ = ["argsort", "one_hot", "quantile", "sort", "take", "take_along_axis"]
