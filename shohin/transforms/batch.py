"""``vmap``: a function over lanes. One rule for all ops, from what their records say.

In order: the record's own ``batch``; an elementwise op takes one more dim; an op of any rank shifts its typed attributes
by one; an op of fixed rank absorbs the lanes into an axis of its relation; what is left runs lane by lane in a scan.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from shohin.core import dtypes, interp, trees
from shohin.core.axes import Dim, Relation
from shohin.core.cells import Cell
from shohin.core.errors import BatchError
from shohin.core.interp import Frame
from shohin.core.op import Aval, Op
from shohin.core.tensor import Tensor, as_tensor
from shohin.core.trace import stage
from shohin.ops import control, math, move, random, reduce
from shohin.transforms.arguments import modules_in

GRAPH_RULES: dict[str, Callable[..., tuple[list[Tensor], list[bool]]]] = {}
"""For ops that hold graphs, by name: (op, operands, mask, size, attrs) -> results and which of them are batched."""


class Batch(Frame):
    """``payload`` of its tensors: the parent's tensor with the lanes as dim 0."""

    kind = "vmap"
    online = True

    def __init__(self, parent: Frame, size: int, cells: Mapping[Cell, bool]) -> None:
        super().__init__(parent)
        self.size, self.batched = size, cells

    def wrap(self, value: Tensor) -> Tensor:
        return interp.make(None, self, value, Aval(value.shape[1:], value.dtype))  # type: ignore[arg-type]

    def peek(self, tensor: Tensor) -> Tensor:
        return tensor.payload

    def value(self, tensor: Tensor) -> Tensor:
        return tensor.payload if tensor.frame is self else self.admit(tensor)

    def lanes(self, tensor: Tensor) -> Tensor:
        """The parent's tensor with a lane dim, repeated if there is none."""
        return tensor.payload if tensor.frame is self else repeat(self.admit(tensor), self.size)

    def bind(self, op: Op, operands: Sequence[Tensor], attrs: Mapping[str, Any]) -> tuple[Tensor, ...]:
        mask = [t.frame is self for t in operands]
        values = [self.value(t) for t in operands]
        with self.outside():
            if not any(mask):
                return interp.bind(op, values, attrs)
            if op.name in GRAPH_RULES:
                results, batched = GRAPH_RULES[op.name](op, values, mask, self.size, attrs)
            else:
                results = batch_op(op, values, mask, self.size, attrs)
                batched = [True] * len(results)
        return tuple(self.wrap(r) if b else r for r, b in zip(results, batched, strict=True))

    def lift_cell(self, cell: Cell, value: Tensor) -> Tensor:
        if self.batched.get(cell):
            return self.wrap(value)
        if cell is random.default.key:  # every lane draws its own numbers; the counter stays one
            folded = batch_op(random._fold, [value, move.iota((self.size,), dtype=dtypes.uint32)], [False, True], self.size, {})
            return self.wrap(folded[0])
        return value

    def check_write(self, cell: Cell, value: Tensor) -> None:
        if value.frame is self and not self.batched.get(cell) and cell not in self.new and cell.join is None:
            raise BatchError(
                f"{cell} is one value for all lanes of vmap, and {interp.place() or 'the function'} writes another one in each lane. "
                "Batch it (in_axes={Param: None, Buffer: 0}), give the Buffer join='mean', or use evaluation mode"
            )

    def lower_born(self, cell: Cell, value: Tensor) -> Tensor:
        """With a lane dim: what the lanes return is an ensemble."""
        wide = self.lanes(value)
        cell._shape = wide.shape
        return wide

    def lower(self, cell: Cell, value: Tensor) -> Tensor:
        if self.batched.get(cell):
            return self.lanes(value)
        if value.frame is not self:
            return value
        joined = {"max": reduce.max, "mean": reduce.mean, "sum": reduce.sum}[cell.join or "max"](value.payload, axis=0)
        return math.astype(joined, cell.dtype)


def repeat(x: Tensor, size: int) -> Tensor:
    """``x`` for each lane."""
    return move.broadcast_to(move.expand_dims(x, axis=0), (size, *x.shape))


def batch_op(op: Op, operands: list[Tensor], mask: list[bool], size: int, attrs: Mapping[str, Any]) -> list[Tensor]:
    """Results with a leading lane dim."""
    if op.batch is not None:
        return op.batch(operands, mask, size, attrs)
    if op.kind == "elementwise" or callable(op.axes) or (op.axes is None and op.kind == "movement"):
        wide = [o if m else repeat(o, size) for o, m in zip(operands, mask, strict=True)]
        return list(interp.bind(op, wide, _shifted(op, attrs, size)))
    if isinstance(op.axes, str | Relation):
        absorbed = _absorb(op, operands, mask, size, attrs)
        if absorbed is not None:
            return absorbed
    return _lane_by_lane(op, operands, mask, size, attrs)


def _shifted(op: Op, attrs: Mapping[str, Any], size: int) -> dict[str, Any]:
    """Typed attributes of the op with one more dim in front."""
    out: dict[str, Any] = {}
    for name, value in attrs.items():
        match op.attrs[name].type:
            case "dim":
                out[name] = value + 1
            case "dims":
                out[name] = tuple(d + 1 for d in value)
            case "permutation":
                out[name] = (0, *(d + 1 for d in value))
            case "per_dim":
                neutral = op.attrs[name].neutral
                out[name] = (size if neutral is None else neutral, *value)
            case "shape":
                out[name] = (size, *value)
            case _:
                out[name] = value
    return out


def _absorb(op: Op, operands: list[Tensor], mask: list[bool], size: int, attrs: Mapping[str, Any]) -> list[Tensor] | None:
    """Merge the lanes into an axis that occurs in exactly the batched operands and in all results."""
    lane_shapes = [o.shape[1:] if m else o.shape for o, m in zip(operands, mask, strict=True)]
    solved = op.solve(lane_shapes, attrs)
    rel = op.relation(lane_shapes, attrs)
    axis = _carrier(rel, mask)
    if axis is None:
        return None
    merged = [_merge(o, dims, axis, solved.extents, size) if m else o for o, m, dims in zip(operands, mask, rel.operands, strict=True)]
    new = dict(attrs)
    for name, attr in op.attrs.items():
        if attr.type == "extent" and attr.axis == axis:
            new[name] = attrs[name] * size
        elif attr.type == "shape":
            new[name] = tuple(n * size if axis in d.axes else n for n, d in zip(attrs[name], rel.results[0], strict=True))
    results = interp.bind(op, merged, new)
    return [_split(r, dims, axis, solved.extents, size) for r, dims in zip(results, rel.results, strict=True)]


def _carrier(rel: Relation, mask: Sequence[bool]) -> str | None:
    def holds(dims: Sequence[Dim]) -> set[str]:
        return {a for d in dims if d.kind in ("axis", "product") and not d.whole for a in d.axes}

    windowed = {a for dims in (*rel.operands, *rel.results) for d in dims if d.kind == "window" or d.whole for a in d.axes}
    free = {a for a, _ in rel.fixed}
    extents_by_attr = {a for a, v in rel.fixed if isinstance(v, str)}
    for dims in rel.results:
        for a in (a for d in dims for a in d.axes):
            everywhere = all(a in holds(r) for r in rel.results)
            exact = all((a in {x for d in o for x in d.axes}) == m for o, m in zip(rel.operands, mask, strict=True))
            if everywhere and exact and a not in windowed and (a not in free or a in extents_by_attr):
                return a
    return None


def _merge(x: Tensor, dims: Sequence[Dim], axis: str, extents: Mapping[str, int], size: int) -> Tensor:
    """(lanes, ...) -> the lanes just outside ``axis`` in the dim that holds it."""
    at = next(i for i, d in enumerate(dims) if axis in d.axes)
    before = [extents[a] for a in dims[at].axes[: dims[at].axes.index(axis)]]
    outer = int(np.prod(before, dtype=np.int64))
    shape = x.shape[1:]
    inner = shape[at] // outer
    y = move.reshape(x, (size, *shape[:at], outer, inner, *shape[at + 1 :]))
    y = move.moveaxis(y, 0, at + 1)
    return move.reshape(y, (*shape[:at], size * shape[at], *shape[at + 1 :]))


def _split(y: Tensor, dims: Sequence[Dim], axis: str, extents: Mapping[str, int], size: int) -> Tensor:
    at = next(i for i, d in enumerate(dims) if axis in d.axes)
    outer = int(np.prod([extents[a] for a in dims[at].axes[: dims[at].axes.index(axis)]], dtype=np.int64))
    whole = y.shape[at] // size
    z = move.reshape(y, (*y.shape[:at], outer, size, whole // outer, *y.shape[at + 1 :]))
    z = move.moveaxis(z, at + 1, 0)
    return move.reshape(z, (size, *y.shape[:at], whole, *y.shape[at + 1 :]))


def _lane_by_lane(op: Op, operands: list[Tensor], mask: list[bool], size: int, attrs: Mapping[str, Any]) -> list[Tensor]:
    consts = [o for o, m in zip(operands, mask, strict=True) if not m]
    lanes = [o for o, m in zip(operands, mask, strict=True) if m]

    def one(*values: Tensor) -> Sequence[Tensor]:
        fixed, moving = iter(values[: len(consts)]), iter(values[len(consts) :])
        return interp.bind(op, [next(moving) if m else next(fixed) for m in mask], attrs)

    avals = [c.aval for c in consts] + [Aval(x.shape[1:], x.dtype) for x in lanes]
    body = stage(one, avals).graph
    return list(interp.bind(control.scan, [*consts, *lanes], {"body": body, "consts": len(consts), "carry": 0, "length": size, "reverse": False}))


# -------------------------------------------------------------------------------------------------- vmap


def vmap(f: Callable[..., Any], in_axes: Any = None, out_axes: Any = 0, *, size: int | None = None) -> Callable[..., Any]:
    """``f`` for each lane at once. Tensors are batched along dim 0 and modules are shared, unless ``in_axes`` says otherwise:
    one entry an argument, an integer, ``None`` or, for a module, ``{Param: 0, Buffer: None}`` (kind of cell -> axis).

    >>> vmap(lambda x: x * 2)(as_tensor([1.0, 2.0])).tolist()
    [2.0, 4.0]
    """

    def run(*args: Any, **keywords: Any) -> Any:
        axes = _axes(f, in_axes, args)
        sizes: dict[int, str] = {} if size is None else {size: "size="}
        cells: dict[Cell, bool] = {}
        for k, (a, axis) in enumerate(zip(args, axes, strict=True)):
            _sizes(a, axis, f"argument {k}", sizes, cells)
        if len(sizes) != 1:
            what = " and ".join(f"{n} ({w})" for n, w in sizes.items())
            raise BatchError(f"vmap: lanes disagree: {what}" if sizes else "vmap: no argument is batched; give size= or in_axes=")
        frame = Batch(interp.current(), next(iter(sizes)), cells)
        with frame.inside():
            result = f(*(_enter(frame, a, axis) for a, axis in zip(args, axes, strict=True)), **keywords)
            _check_cells(frame)
        out = _leave(frame, result, out_axes)
        frame.close()
        return out

    run.__name__ = getattr(f, "__name__", "f")
    return run


def _axes(f: Any, in_axes: Any, args: Sequence[Any]) -> list[Any]:
    if in_axes is None:
        return [None if modules_in(a) else 0 for a in args]
    if isinstance(in_axes, tuple | list):
        if len(in_axes) != len(args):
            raise BatchError(f"vmap: in_axes has {len(in_axes)} entries for {len(args)} arguments")
        return list(in_axes)
    return [in_axes] * len(args)


def _along(axis: Any, cell: Cell) -> Any:
    return next((v for k, v in axis.items() if isinstance(cell, k)), None) if isinstance(axis, dict) else axis


def _sizes(value: Any, axis: Any, where: str, sizes: dict[int, str], cells: dict[Cell, bool]) -> None:
    for module in modules_in(value):
        for path, cell in module.cells().items():
            along = _along(axis, cell)
            if along not in (None, 0):
                raise BatchError(f"vmap: {where}.{path}: cells are batched along axis 0 only")
            if cells.setdefault(cell, along == 0) != (along == 0):
                raise BatchError(f"vmap: {path} is reached by two arguments that disagree on whether it is batched")
            if along == 0:
                sizes.setdefault(cell.shape[0] if cell.shape else -1, f"{where}.{path}")
    if axis is None or modules_in(value):
        return
    for leaf in trees.flatten(value)[0]:
        shape = np.shape(leaf) if not isinstance(leaf, Tensor) else leaf.shape
        if not -len(shape) <= axis < len(shape):
            raise BatchError(f"vmap: {where} has shape {shape}, which has no axis {axis}; write in_axes with None for what is shared")
        sizes.setdefault(shape[axis], where)


def _enter(frame: Batch, value: Any, axis: Any) -> Any:
    if axis is None or modules_in(value):
        return value
    leaves, spec = trees.flatten(value)
    moved: list[Tensor] = []
    with frame.outside():
        moved = [move.moveaxis(as_tensor(t), axis, 0) for t in leaves]
    return trees.unflatten(spec, [frame.wrap(t) for t in moved])


def _leave(frame: Batch, result: Any, out_axes: Any) -> Any:
    with frame.outside():
        for module in modules_in(result):
            frame.hand_down(module.cells().values())
        leaves, spec = trees.flatten(result)
        if out_axes is None:
            if any(isinstance(t, Tensor) and t.frame is frame for t in leaves):
                raise BatchError("vmap: out_axes=None, but the result differs between lanes")
            return result
        out: list[Tensor] = []
        for t in leaves:
            lanes = frame.lanes(t if isinstance(t, Tensor) else as_tensor(t))
            out.append(lanes if out_axes == 0 else move.moveaxis(lanes, 0, out_axes))
    return trees.unflatten(spec, out)


def _check_cells(frame: Batch) -> None:
    for cell in frame.written:
        if cell not in frame.new:
            frame.check_write(cell, frame.now[cell])


__all__ = ["Batch", "batch_op", "vmap"]
