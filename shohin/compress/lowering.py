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
from shohin.compress.integer import stored
from shohin.compress.quantized import Quantized
from shohin.compress.steps import Add, Concat, Contract, Entry, Float, Move, Mul, Pool, Program, Step, Table
from shohin.core import dtypes, interp
from shohin.core.errors import QuantizationError
from shohin.core.graph import Graph, verify
from shohin.core.op import Aval, get
from shohin.core.tensor import Tensor, as_tensor
from shohin.core.trace import stage
from shohin.ops import math, move, quant

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Lowered:
    """``graph`` takes the inputs' int8 and gives the outputs' (integers of ``output_grids``; None: positions).

    ``places`` names the outputs; ``ranges`` has the proved range of every integer value.
    """

    graph: Graph
    input_grids: tuple[Grid, ...]
    output_grids: tuple[Grid | None, ...]
    places: tuple[str, ...]
    ranges: intervals.Ranges

    def quantize(self, *inputs: Any) -> list[Array]:
        """int8 inputs from float32 ones, as the host does it (Q1)."""
        return [d.quantize(x, g) for x, g in zip(inputs, self.input_grids, strict=True)]

    def dequantize(self, outputs: Sequence[Array]) -> list[Array]:
        return [q if g is None else d.dequantize(q, g) for q, g in zip(outputs, self.output_grids, strict=True)]


def lower(net: Quantized, *avals: Aval, every: bool = False) -> Lowered:
    """The integer program of a frozen network for inputs of these shapes; ``every`` makes all places outputs.

    Raises:
        QuantizationError: a place stays float32, or a range cannot be proved; the message has the place.
    """
    program, _ = net.program(*(Aval(a.shape, np.dtype(np.float32)) for a in avals))
    left = [s.place for s in program.steps if isinstance(s, Float)]
    if left:
        places = ", ".join(left)
        raise QuantizationError(
            f"an integer program has integers only, but {places} stay float32; quantize these places"
        )
    grids, constants = net.grids(), stored(net)
    entered = {s.inputs[0]: s.output for s in program.steps if isinstance(s, Entry)}
    wanted = [s.output for s in program.steps if not isinstance(s, Entry)] if every else list(program.outputs)

    def body(*inputs: Tensor) -> list[Tensor]:
        lowering = _Lowering(
            program, grids, constants, {entered[k]: q for k, q in zip(program.inputs, inputs, strict=True)}
        )
        return lowering.run(wanted)

    graph = stage(body, [Aval(program.values[k].shape, dtypes.int8) for k in program.inputs]).graph
    verify(graph)
    ranges = intervals.prove(graph, [(-128, 127)] * len(graph.inputs))
    place = {s.output: s.place for s in program.steps}
    name = lambda k: program.values[k].grid
    out = tuple(grids[name(k)] if v.dtype == dtypes.int8 else None for k, v in zip(wanted, graph.outputs, strict=True))
    return Lowered(
        graph, tuple(grids[name(entered[k])] for k in program.inputs), out, tuple(place[k] for k in wanted), ranges
    )


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
                    self.now[step.output] = self.step(step)
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
        return quant.requant(acc, as_tensor(M), z=self.grid(step.output).z, lo=int(c["lo"]), hi=int(c["hi"]))

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
        attrs = filled(step.op, step.attrs, self.grid(step.output).z)
        return interp.bind(step.op, [self.now[step.inputs[0]], *(as_tensor(k) for k in step.constants)], attrs)[0]
