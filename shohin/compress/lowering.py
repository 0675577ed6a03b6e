"""The integer program: the same steps, frozen, as a graph of int8 and int32 ops whose every range is proved.

This is what a device's compiler is given; NumPy's references of its ops give the same integers as ``integer.py`` and as
the network in Python. Contractions are the records on int8 operands that theirs name (``qconv2d``), which kernels claim.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from shohin.compress import definitions as d
from shohin.compress import intervals
from shohin.compress.definitions import Grid
from shohin.compress.extents import filled
from shohin.compress.integer import aval_of, stored
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
    Site,
    Step,
    Stored,
    Table,
    Whole,
    made,
    places_of,
)
from shohin.core import dtypes, interp
from shohin.core.errors import QuantizationError
from shohin.core.graph import Graph, verify
from shohin.core.op import Aval, get
from shohin.core.tensor import Tensor, as_tensor
from shohin.core.trace import stage
from shohin.ops import math, move, qlinear, quant

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Lowered:
    """``graph`` takes the inputs' integers (of ``input_grids``; None: an index, int32) and gives the outputs' (of
    ``output_grids``; None: positions).

    ``places`` names the outputs; ``ranges`` has the proved range of every integer value.
    """

    graph: Graph
    input_grids: tuple[Grid | None, ...]
    output_grids: tuple[Grid | None, ...]
    places: tuple[str, ...]
    ranges: intervals.Ranges

    def quantize(self, *inputs: Any) -> list[Array]:
        """int8 inputs from float32 ones, as the host does it (Q1)."""
        return [x if g is None else d.quantize(x, g) for x, g in zip(inputs, self.input_grids, strict=True)]

    def dequantize(self, outputs: Sequence[Array]) -> list[Array]:
        return [q if g is None else d.dequantize(q, g) for q, g in zip(outputs, self.output_grids, strict=True)]


def lower(net: Quantized, *avals: Aval, every: bool = False) -> Lowered:
    """The integer program of a frozen network for inputs of these shapes; ``every`` makes all places outputs.

    Raises:
        QuantizationError: a place stays float32, or a range cannot be proved; the message has the place.
    """
    program, _ = net.program(*map(aval_of, avals))
    left = [s.place for s in program.steps if isinstance(s, Float)]
    if left:
        places = ", ".join(left)
        raise QuantizationError(
            f"an integer program has integers only, but {places} stay float32; quantize these places"
        )
    grids, constants = net.grids(), stored(net)
    entered = {s.inputs[0]: s.output for s in program.steps if isinstance(s, Entry)}
    wanted = [k for s in program.steps if not isinstance(s, Entry) for k in made(s)] if every else list(program.outputs)

    def body(*inputs: Tensor) -> list[Tensor]:
        lowering = _Lowering(
            program, grids, constants, {entered.get(k, k): q for k, q in zip(program.inputs, inputs, strict=True)}
        )
        return lowering.run(wanted)

    grid = lambda k: None if (name := program.values[k].grid) is None else grids[name]
    into = [grid(entered[k]) if k in entered else None for k in program.inputs]
    graph = stage(body, [Aval(a.shape, dtypes.int32 if g is None else g.dtype) for a, g in zip(avals, into, strict=True)]).graph
    verify(graph)
    whole = lambda v: (int(np.iinfo(v.dtype).min), int(np.iinfo(v.dtype).max))
    ranges = intervals.prove(graph, [whole(v) if g is None else g.limits for v, g in zip(graph.inputs, into, strict=True)])
    place = places_of(program)
    out = tuple(g if (g := grid(k)) is not None and g.dtype == v.dtype else None for k, v in zip(wanted, graph.outputs, strict=True))
    return Lowered(graph, tuple(into), out, tuple(place[k] for k in wanted), ranges)


@dataclass
class _Lowering:
    program: Program
    grids: Mapping[str, Grid]
    constants: Mapping[str, Mapping[str, Array]]
    now: dict[int, Tensor]

    def run(self, wanted: Sequence[int]) -> list[Tensor]:
        for step in self.program.steps:
            if not isinstance(step, Entry):
                with interp.at(step.place.partition("/")[0]):
                    self.now.update(zip(made(step), self.whole(step) if isinstance(step, Whole) else [self.step(step)], strict=True))
        return [self.now[k] for k in wanted]

    def grid(self, value: int) -> Grid:
        name = self.program.values[value].grid
        assert name is not None
        return self.grids[name]

    def centred(self, value: int) -> Tensor:
        """int32 q - z."""
        return math.astype(self.now[value], dtypes.int32) - self.grid(value).z

    def close(self, step: Step, acc: Tensor, M: Array) -> Tensor:
        c = self.constants[step.place]
        g = self.grid(step.output)
        return quant.requant(acc, as_tensor(M), z=g.z, lo=int(c["lo"]), hi=int(c["hi"]), dtype=g.dtype)

    def whole(self, step: Whole) -> list[Tensor]:
        found = step.definition.integers(step, _Integers(self, step))
        return [math.astype(q, self.grid(k).dtype) for k, q in zip(step.outputs, found, strict=True)]

    def step(self, step: Step) -> Tensor:
        c = self.constants.get(step.place, {})
        match step:
            case Contract():
                acc = self.product(step, c["q_w"]) + as_tensor(c["q_b"])
                return move.reshape(self.close(step, acc, c["M"]), step.shape)
            case Add():
                parts = [self.centred(k) * int(c["m"][i]) for i, k in enumerate(step.inputs)]
                acc = parts[0]
                for part in parts[1:]:
                    acc = acc + part
                return self.close(step, acc, c["M"])
            case Mul():
                a, b = (self.centred(k) for k in step.inputs)
                return self.close(step, a * b, c["M"])
            case Pool():
                acc = interp.bind(step.op, [self.centred(step.inputs[0])], step.attrs)[0]
                return move.reshape(self.close(step, acc, c["M"]), step.shape)
            case Regrid():
                return self.close(step, self.centred(step.inputs[0]), c["M"])
            case Stored():
                return as_tensor(c["q"])
            case Concat():
                parts = [self.joined(step, k, c["M"][i]) for i, k in enumerate(step.inputs)]
                return move.concat(parts, axis=step.axis)
            case Table():
                return quant.lookup(self.now[step.inputs[0]], as_tensor(c["table"]))
            case Move():
                return self.moved(step)
            case _:
                raise TypeError(step.kind)

    def joined(self, step: Concat, value: int, M: Array) -> Tensor:
        """An operand on the concat's grid; one that stands on it already passes (M = 1)."""
        same = M == 1 and self.grid(value).z == self.grid(step.output).z and step.clamp is None
        return self.now[value] if same else self.close(step, self.centred(value), M)

    def product(self, step: Contract, w: Array) -> Tensor:
        q, z = self.now[step.inputs[0]], self.grid(step.inputs[0]).z
        if step.op is None:
            return self.centred(step.inputs[0]) * as_tensor(w.astype(np.int32))
        found = step.op.quant.integer and step.op.quant.integer(step.attrs)
        assert found, "the walk refused it"
        return interp.bind(get(found[0]), [q, as_tensor(w)], {**found[1], "zero": z})[0]

    def moved(self, step: Move) -> Tensor:
        g = self.grid(step.output)
        attrs = filled(step.op, step.attrs, g.z, g.limits)
        return interp.bind(step.op, [*(self.now[k] for k in step.inputs), *map(as_tensor, step.constants)], attrs)[0]


class _Integers(Site):
    """A step's integers as they are stored."""

    def __init__(self, lowering: _Lowering, step: Whole) -> None:
        self.lowering, self.step = lowering, step
        self.c = {name: as_tensor(a) for name, a in lowering.constants[step.place].items()}

    def q(self, k: int) -> Tensor:
        return self.lowering.now[self.step.inputs[k]]

    def centred(self, k: int) -> Tensor:
        return self.lowering.centred(self.step.inputs[k])

    def product(self, k: int, w: Tensor) -> Tensor:
        q = self.q(k)
        rows = qlinear.qmatmul(move.reshape(q, (-1, q.shape[-1])), w, zero=self.lowering.grid(self.step.inputs[k]).z)
        return move.reshape(rows, (*q.shape[:-1], w.shape[0]))

    def close(self, acc: Tensor, M: Any) -> Tensor:
        return self.lowering.close(self.step, acc, M)
