"""A pure graph over a piece of a sequence, as a step that remembers: what it would know of the past comes in and goes out as state.

Two things in a graph know the past. A window that reaches before the first element (padding at the front only) reads zeros where a
longer sequence has elements: those are its state, the last ones of its operand. A loop begins with constants where a longer one has
its carry. Nothing else is asked of an op, and none is known by name. Whether the steps are the sequence is not proved here: it is
false where an op looks ahead or over all of time, and ``deploy.streaming`` runs both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from shohin.core import interp
from shohin.core.graph import Graph, Node, Var
from shohin.core.op import Op
from shohin.core.tensor import Tensor
from shohin.core.trace import stage
from shohin.ops import control, move

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True)
class Stepwise:
    """``graph`` has the inputs, then the states, and the outputs, then the new states; ``first`` are the states before the first
    step, ``places`` whose they are."""

    graph: Graph
    first: tuple[Array, ...]
    places: tuple[str, ...]


def stepwise(graph: Graph) -> Stepwise:
    """The step of a graph whose inputs are a piece of a sequence; calls are inlined before."""
    found = _States(graph)
    count = len(graph.inputs)
    avals = [*(v.aval for v in graph.inputs), *(v.aval for v in found.vars)]
    staged = stage(lambda *values: found.run(values[:count], values[count:]), avals, [*graph.names, *(f"state{k}" for k in range(len(found.vars)))])
    return Stepwise(graph=staged.graph, first=tuple(found.first), places=tuple(found.places))


class _States:
    """The states of a graph, found in the order of its nodes, and the run of one step."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.maker = graph, {v: n for n in graph.nodes for v in n.results}
        self.known: dict[Var, Array | None] = {**dict.fromkeys(graph.inputs), **dict(graph.consts)}
        self.vars: list[Var] = []
        self.first: list[Array] = []
        self.places: list[str] = []
        self.windows: dict[Node, list[tuple[int, int, int]]] = {}  # (dim, elements before it, number of the state)
        self.loops: dict[Node, list[tuple[int, int]]] = {}  # (operand, number of the state)
        for node in graph.nodes:
            if node.op is control.scan:
                start = node.attrs["consts"]
                carries = range(start, start + node.attrs["carry"])
                self.loops[node] = [(k, self.add(node, a)) for k in carries if (a := self.value(node.operands[k])) is not None]
            elif (before := reaching_back(node)) and self.value(node.operands[0]) is None:
                x = node.operands[0]
                found = self.windows[node] = []
                shape = list(x.shape)
                for dim, size in before:
                    past = np.full([*shape[:dim], size, *shape[dim + 1 :]], _outside(node.op, node.attrs, x.dtype), x.dtype)
                    found.append((dim, size, self.add(node, past)))
                    shape[dim] += size

    def add(self, node: Node, first: Array) -> int:
        self.vars.append(Var(first.shape, first.dtype))
        self.first.append(first)
        self.places.append(node.place)
        return len(self.vars) - 1

    def value(self, var: Var) -> Array | None:
        """What is known without the inputs."""
        if var not in self.known:
            node = self.maker[var]
            operands = [self.value(v) for v in node.operands]
            results: Any = [None] * len(node.results)
            if all(a is not None for a in operands):
                made = node.op.numpy(*operands, **node.attrs)
                results = made if isinstance(made, tuple) else (made,)
            for v, a in zip(node.results, results, strict=True):
                self.known[v] = None if a is None else np.asarray(a, v.dtype)
        return self.known[var]

    def run(self, inputs: Sequence[Tensor], states: Sequence[Tensor]) -> list[Tensor]:
        values: dict[Var, Tensor] = dict(zip(self.graph.inputs, inputs, strict=True))
        values.update((v, interp.current().constant(a)) for v, a in self.graph.consts)
        new: dict[int, Tensor] = {}
        for node in self.graph.nodes:
            operands, attrs = [values[v] for v in node.operands], dict(node.attrs)
            with interp.at(f"={node.place}"):
                for dim, size, k in self.windows.get(node, ()):
                    operands[0] = x = move.concat([states[k], operands[0]], axis=dim)
                    start = [x.shape[d] - size if d == dim else 0 for d in range(x.ndim)]
                    new[k] = move.slice_(x, start, x.shape)
                    attrs = _without(node, attrs, dim)
                for operand, k in self.loops.get(node, ()):
                    operands[operand] = states[k]
                results = interp.bind(node.op, operands, attrs)
            new.update({k: results[operand - node.attrs["consts"]] for operand, k in self.loops.get(node, ())})
            values.update(zip(node.results, results, strict=True))
        return [*(values[v] for v in self.graph.outputs), *(new[k] for k in range(len(self.vars)))]


def reaching_back(node: Node) -> list[tuple[int, int]]:
    """(dim of the first operand, elements) where its windows reach before the first element and not past the last."""
    if node.op.axes is None or node.op.pad is None:
        return []
    dims = node.op.solve([v.shape for v in node.operands], node.attrs).relation.operands[0]
    return [(k, d.padding[0]) for k, d in enumerate(dims) if d.kind == "window" and d.pad is not None and d.padding[0] > 0 and d.padding[1] == 0]


def _outside(op: Op, attrs: Mapping[str, Any], dtype: np.dtype[Any]) -> Any:
    """What a window finds outside of its operand; of integers the nearest that there is."""
    assert op.pad is not None
    value = op.identity(dtype) if op.pad.value == "identity" else attrs[op.pad.value] if isinstance(op.pad.value, str) else op.pad.value
    return np.clip(value, np.iinfo(dtype).min, np.iinfo(dtype).max) if np.issubdtype(dtype, np.integer) else value


def _without(node: Node, attrs: Mapping[str, Any], dim: int) -> dict[str, Any]:
    """The attributes with no padding at ``dim``; the relation says which one that is."""
    written = node.op.relation([v.shape for v in node.operands], node.attrs).operands[0][dim].pad
    assert isinstance(written, str)
    name, _, index = written.partition(".")
    pads = list(attrs[name])
    pads[int(index)] = (0, 0)
    return {**attrs, name: tuple(pads)}


__all__ = ["Stepwise", "reaching_back", "stepwise"]
