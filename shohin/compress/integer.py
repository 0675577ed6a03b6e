"""The integer reference: the frozen network in NumPy, integers only, straight from the stored constants.

Contractions run in float64 BLAS, which is exact below 2^53 and ten times NumPy's int32; all else is int32 or int64. It
shares no code with the ops: windows are cut here, sums are made here, by the relation that the record states. It is what
the C builds are compared with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from shohin.compress import definitions as d
from shohin.compress.definitions import Grid
from shohin.compress.extents import filled
from shohin.compress.quantized import Quantized
from shohin.compress.steps import (
    Add,
    Concat,
    Contract,
    Entry,
    Float,
    Move,
    Mul,
    Pool,
    Program,
    Regrid,
    Step,
    Stored,
    Table,
    Whole,
    made,
    places_of,
)
from shohin.core.axes import Dim, Solved
from shohin.core.errors import QuantizationError
from shohin.core.op import Aval

Array = np.ndarray[Any, Any]


def integers(net: Quantized, *inputs: Any) -> dict[str, Array]:
    """int8 by place from float32 inputs, or from int8 ones that stand on the input's grid already."""
    arrays = [np.asarray(x) for x in inputs]
    program, _ = net.program(*(aval_of(a) for a in arrays))
    return Reference(program, net.grids(), stored(net)).run(arrays)


def aval_of(a: Any) -> Aval:
    """What the float network takes in place of ``a``: an index as it is, else float32."""
    return Aval(a.shape, np.dtype(a.dtype if a.dtype in (np.int32, np.int64) else np.float32))


def stored(net: Quantized) -> dict[str, dict[str, Array]]:
    """The frozen constants by place."""
    return {place: {n: v.numpy() for n, v in c.items()} for place, c in net.quantized.constants.items()}


class Reference:
    def __init__(
        self, program: Program, grids: Mapping[str, Grid], constants: Mapping[str, Mapping[str, Array]]
    ) -> None:
        self.program, self.grids, self.constants = program, grids, constants

    def run(self, inputs: Sequence[Array]) -> dict[str, Array]:
        self.now: dict[int, Array] = dict(zip(self.program.inputs, inputs, strict=True))
        found: dict[str, Array] = {}
        places = places_of(self.program)
        for step in self.program.steps:
            if isinstance(step, Float):
                raise QuantizationError(f"{step.place} stays float32; the integer reference has integers only")
            results = self.whole(step) if isinstance(step, Whole) else [self.step(step)]
            for value, q in zip(made(step), results, strict=True):
                found[places[value]] = self.now[value] = q
        return found

    def grid(self, value: int) -> Grid:
        name = self.program.values[value].grid
        assert name is not None
        return self.grids[name]

    def centred(self, value: int) -> Array:
        return self.now[value].astype(np.int32) - self.grid(value).z

    def close(self, step: Step, acc: Array, M: Array) -> Array:
        c = self.constants[step.place]
        g = self.grid(step.output)
        return d.requant(acc, M, g.z, int(c["lo"]), int(c["hi"])).astype(g.dtype)

    def whole(self, step: Whole) -> Sequence[Array]:
        x, y = ([g and self.grids[g] for g in map(self.program.grid, numbers)] for numbers in (step.inputs, step.outputs))
        found = step.definition.reference(step, [self.now[k] for k in step.inputs], self.constants[step.place], x, y)
        return [np.asarray(q, self.grid(k).dtype) for q, k in zip(found, step.outputs, strict=True)]

    def step(self, step: Step) -> Array:
        match step:
            case Entry():
                x = self.now[step.inputs[0]]
                return x if x.dtype == self.grid(step.output).dtype else d.quantize(x, self.grid(step.output))
            case Stored():
                return self.constants[step.place]["q"]
            case Regrid():
                return self.close(step, self.centred(step.inputs[0]), self.constants[step.place]["M"])
            case Contract():
                c = self.constants[step.place]
                x = self.centred(step.inputs[0]).astype(np.float64)
                acc = self.product(step, x, c["q_w"].astype(np.float64)).astype(np.int64) + c["q_b"]
                return self.close(step, acc, c["M"]).reshape(step.shape)
            case Add():
                c = self.constants[step.place]
                acc = sum(int(c["m"][i]) * self.centred(k) for i, k in enumerate(step.inputs))
                return self.close(step, np.asarray(acc), c["M"])
            case Mul():
                a, b = (self.centred(k) for k in step.inputs)
                return self.close(step, a * b, self.constants[step.place]["M"])
            case Pool():
                acc = self.pooled(step, self.centred(step.inputs[0]))
                return self.close(step, acc, self.constants[step.place]["M"]).reshape(step.shape)
            case Concat():
                M = self.constants[step.place]["M"]
                parts = [self.close(step, self.centred(k), M[i]) for i, k in enumerate(step.inputs)]
                return np.concatenate(parts, step.axis)
            case Table():
                return self.constants[step.place]["table"][self.now[step.inputs[0]].view(np.uint8)]
            case Move():
                return self.moved(step)
            case _:
                raise TypeError(step.kind)

    def product(self, step: Contract, x: Array, w: Array) -> Array:
        if step.op is None:
            return x * w
        w = np.moveaxis(w, 0, step.axis)
        return multiplied(step.op.solve((x.shape, w.shape), step.attrs), x, w)

    def pooled(self, step: Pool, x: Array) -> Array:
        return folded(step.op.solve((x.shape,), step.attrs), x.astype(np.int64), 0, np.sum)

    def moved(self, step: Move) -> Array:
        q, op = self.now[step.inputs[0]], step.op
        choose = {"max": np.max, "min": np.min}.get(op.combiner or "") if op.nest == "derived" else None
        if choose is not None:
            assert op.identity is not None
            return folded(op.solve((q.shape,), step.attrs), q, op.identity(q.dtype), choose)
        rest = (*(self.now[k] for k in step.inputs[1:]), *step.constants)
        g = self.grid(step.output)
        return np.asarray(op.numpy(q, *rest, **filled(op, step.attrs, g.z, g.limits)))


def axes_of(x: Array, dims: Sequence[Dim], extents: Mapping[str, int], fill: int) -> tuple[list[str], Array]:
    """A view of x with one dim for each axis of its relation, windows cut out of x with ``fill`` around it."""
    room = [sum((extents[a] - 1) * int(s) for a, s in zip(d.axes, d.strides, strict=False)) + 1 for d in dims]
    lead = [d.padding[0] if d.kind == "window" else 0 for d in dims]
    trail = [max(0, r - p - n) if d.kind == "window" else 0 for d, r, p, n in zip(dims, room, lead, x.shape, strict=True)]
    x = np.pad(x, list(zip(lead, trail, strict=True)), constant_values=fill)
    names: list[str] = []
    strides: list[int] = []
    for dim, step in zip(dims, x.strides, strict=True):
        for k, a in enumerate(dim.axes):
            names.append(a)
            times = int(dim.strides[k]) if dim.kind == "window" else prod(extents[b] for b in dim.axes[k + 1 :])
            strides.append(step * times)
    return names, np.lib.stride_tricks.as_strided(x, [extents[a] for a in names], strides, writeable=False)


def folded(relation: Solved, x: Array, fill: int, combine: Callable[..., Any]) -> Array:
    """``combine`` over the axes that the result does not have."""
    names, view = axes_of(x, relation.relation.operands[0], relation.extents, fill)
    y = combine(view, axis=tuple(names.index(a) for a in relation.reduced))
    return _result(relation, [a for a in names if a not in relation.reduced], y)


def multiplied(relation: Solved, x: Array, w: Array) -> Array:
    """The sum of products as one matrix product for each index that both operands have."""
    extents, summed = relation.extents, relation.reduced
    dims = relation.relation.operands
    xs, left = axes_of(x, dims[0], extents, 0)
    ws, right = axes_of(w, dims[1], extents, 0)
    both = [a for a in xs if a in ws and a not in summed]
    rows, cols = ([a for a in names if a not in summed and a not in both] for names in (xs, ws))
    left = left.transpose([xs.index(a) for a in (*both, *rows, *summed)])
    right = right.transpose([ws.index(a) for a in (*both, *summed, *cols)])
    size = lambda names: prod(extents[a] for a in names)
    y = left.reshape(size(both), size(rows), size(summed)) @ right.reshape(size(both), size(summed), size(cols))
    return _result(relation, [*both, *rows, *cols], y.reshape([extents[a] for a in (*both, *rows, *cols)]))


def _result(relation: Solved, names: Sequence[str], y: Array) -> Array:
    order = [a for d in relation.relation.results[0] for a in d.axes]
    return y.transpose([names.index(a) for a in order]).reshape(relation.results[0])
