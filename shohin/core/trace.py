"""Staging: run a function on symbols and keep the ops as a graph, effects included.

``stage(f, inputs)`` is the one way from Python to a graph: jit, scan, cond, checkpoint, composites and
exports all use it. What the function reads from outside becomes an input (``captures``), what it writes to cells
an output (``writes``), so the graph is pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from shohin.core import interp
from shohin.core.cells import Cell
from shohin.core.graph import Graph, Node, Var
from shohin.core.interp import Frame, Level
from shohin.core.op import Aval, Op
from shohin.core.tensor import Constant, Tensor

Array = np.ndarray[Any, Any]


class Trace(Frame):
    """The frame of staging. ``capture_tensor`` and ``capture_cell`` may refuse what no argument reaches."""

    kind = "a trace"
    keeps_calls = True

    def __init__(self, parent: Frame, capture_tensor: Callable[[Tensor], None] | None = None,
                 capture_cell: Callable[[Cell], None] | None = None, capture_module: Callable[[Any], None] | None = None) -> None:  # fmt: skip
        super().__init__(parent)
        self.nodes: list[Node] = []
        self.consts: list[tuple[Var, Array]] = []
        self.tensors: dict[int, tuple[Tensor, Var]] = {}
        self.cells: dict[Cell, Var] = {}
        self._seen: dict[tuple[Any, ...], Tensor] = {}
        self.capture_tensor, self.capture_cell, self.capture_module = capture_tensor, capture_cell, capture_module

    def own(self, var: Var) -> Tensor:
        return interp.make(None, self, var, var.aval)  # type: ignore[arg-type]

    def input(self, aval: Aval) -> Tensor:
        return self.own(Var(aval.shape, aval.dtype))

    def var(self, tensor: Tensor) -> Var:
        """The symbol of a tensor; one of an outer level becomes an input."""
        if tensor.frame is self:
            return tensor.payload
        self.admit(tensor)
        if isinstance(tensor, Constant):
            return self.constant(tensor.data).payload
        if id(tensor) not in self.tensors:
            if self.capture_tensor is not None:
                self.capture_tensor(tensor)
            self.tensors[id(tensor)] = (tensor, Var(tensor.shape, tensor.dtype))
        return self.tensors[id(tensor)][1]

    def called(self, module: Any, born: Level) -> None:
        if not self.holds(born):
            if self.capture_module is not None:
                self.capture_module(module)
            super().called(module, born)

    def bind(self, op: Op, operands: Sequence[Tensor], attrs: Mapping[str, Any]) -> tuple[Tensor, ...]:
        variables = tuple(self.var(t) for t in operands)
        avals = op.infer([v.aval for v in variables], attrs)
        results = tuple(Var(a.shape, a.dtype) for a in avals)
        self.nodes.append(Node(op, variables, dict(attrs), results, self.place_of(op, attrs)))
        return tuple(self.own(v) for v in results)

    def place_of(self, op: Op, attrs: Mapping[str, Any]) -> str:
        at = interp.place()
        if at.startswith("="):
            return at[1:]
        base = f"{at}/{attrs.get('name', op.name) if op.kind == 'call' else op.name}"
        count = self.counts.get(base, 0)
        self.counts[base] = count + 1
        return f"{base}#{count}"

    def constant(self, array: Array) -> Tensor:
        key = (array.dtype, array.shape, array.tobytes()) if array.size <= 16 else (id(array),)
        if key not in self._seen:
            held = np.array(array)
            var = Var(held.shape, held.dtype)
            self.consts.append((var, held))
            self._seen[key] = self.own(var)
            if array.size > 16:
                return self._seen.pop(key)
        return self.own(self._seen[key].payload)

    def lift_cell(self, cell: Cell, value: Tensor) -> Tensor:
        if self.capture_cell is not None:
            self.capture_cell(cell)
        self.cells[cell] = Var(value.shape, value.dtype)
        return self.own(self.cells[cell])


@dataclass(frozen=True)
class Staged:
    """``graph.inputs`` are the given ones, then ``tensors``, then ``cells``; outputs are results, then ``writes``."""

    graph: Graph
    tensors: tuple[Tensor, ...]
    cells: tuple[Cell, ...]
    writes: tuple[Cell, ...]

    def operands(self) -> list[Tensor]:
        """The captured values, read at the level that is current now."""
        return [*self.tensors, *(interp.current().read(c) for c in self.cells)]

    def land(self, values: Sequence[Tensor]) -> None:
        """Write the results that belong to cells."""
        for cell, value in zip(self.writes, values, strict=True):
            interp.current().write(cell, value)


def stage(function: Callable[..., Sequence[Tensor]], avals: Sequence[Aval], names: Sequence[str] | None = None, *,
          capture_tensor: Callable[[Tensor], None] | None = None, capture_cell: Callable[[Cell], None] | None = None,
          capture_module: Callable[[Any], None] | None = None) -> Staged:  # fmt: skip
    """Trace ``function`` on inputs of ``avals``; it returns a flat list of tensors."""
    trace = Trace(interp.current(), capture_tensor, capture_cell, capture_module)
    with trace.inside():
        inputs = [trace.input(a) for a in avals]
        outputs = [trace.var(t) for t in function(*inputs)]
        written = [(c, trace.var(trace.now[c])) for c in trace.written if c not in trace.new]
    trace.open = False
    tensors = tuple(trace.tensors.values())
    extra = [f"captured{i}" for i in range(len(tensors))] + [_identifier(c.name, i) for i, c in enumerate(trace.cells)]
    graph = Graph(
        tuple(t.payload for t in inputs) + tuple(v for _, v in tensors) + tuple(trace.cells.values()),
        tuple(names or [f"x{i}" for i in range(len(avals))]) + tuple(extra),
        tuple(trace.consts),
        tuple(trace.nodes),
        (*outputs, *(v for _, v in written)),
    )
    return Staged(prune(graph), tuple(t for t, _ in tensors), tuple(trace.cells), tuple(c for c, _ in written))


def _identifier(name: str, index: int) -> str:
    return name.replace(" ", "_") if name else f"cell{index}"


def prune(graph: Graph) -> Graph:
    """Without nodes and constants that no output needs."""
    needed = set(graph.outputs)
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if any(v in needed for v in node.results):
            kept.append(node)
            needed.update(node.operands)
    consts = tuple((v, a) for v, a in graph.consts if v in needed)
    return Graph(graph.inputs, graph.names, consts, tuple(reversed(kept)), graph.outputs)


def run(graph: Graph, inputs: Sequence[Tensor], suffix: str = "") -> list[Tensor]:
    """Carry out a graph under the current interpreter, node by node, at the nodes' own places."""
    values: dict[Var, Tensor] = dict(zip(graph.inputs, inputs, strict=True))
    for var, array in graph.consts:
        values[var] = interp.current().constant(array)
    for node in graph.nodes:
        with interp.at(f"={node.place}{suffix}"):
            results = interp.bind(node.op, [values[v] for v in node.operands], node.attrs)
        values.update(zip(node.results, results, strict=True))
    return [values[v] for v in graph.outputs]
