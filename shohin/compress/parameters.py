"""A traced network in two parts: what depends on its inputs, and what is computed from cells and constants alone.

The second part (weights, masks on weights, biases, statistics) becomes one graph of its own, ``Parameters``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from shohin.core.cells import Cell
from shohin.core.graph import Graph, Node, Var
from shohin.core.op import Aval
from shohin.core.tensor import Tensor
from shohin.core.trace import prune, stage
from shohin.ops.control import run_numpy

Array = np.ndarray[Any, Any]


def inline(graph: Graph, keep: Callable[[Node], bool]) -> Graph:
    """The graph with every call's body in place of the call, but those that ``keep`` wants."""
    nodes: list[Node] = []
    consts = list(graph.consts)
    same: dict[Var, Var] = {}

    def visit(inner: Graph, prefix: str) -> None:
        for node in inner.nodes:
            operands = tuple(same.get(v, v) for v in node.operands)
            place = f"{prefix}{node.place}"
            if node.op.kind != "call" or keep(node):
                nodes.append(Node(node.op, operands, node.attrs, node.results, place))
                continue
            body: Graph = node.attrs["body"]
            body = _fresh(body)
            consts.extend(body.consts)
            same.update(zip(body.inputs, operands, strict=True))
            visit(body, place)
            same.update((r, same.get(o, o)) for r, o in zip(node.results, body.outputs, strict=True))

    visit(graph, "")
    outputs = tuple(same.get(v, v) for v in graph.outputs)
    return Graph(graph.inputs, graph.names, tuple(consts), tuple(nodes), outputs)


def defined(graph: Graph) -> Graph:
    """The graph with ``Quant.instead`` in place of ops that have no definition of their own."""
    nodes: list[Node] = []
    consts = list(graph.consts)
    same: dict[Var, Var] = {}
    for node in graph.nodes:
        operands = tuple(same.get(v, v) for v in node.operands)
        body = _instead(node)
        if body is None:
            nodes.append(Node(node.op, operands, node.attrs, node.results, node.place))
            continue
        same.update(zip(body.inputs, operands, strict=True))
        consts.extend(body.consts)
        nodes.extend(Node(n.op, tuple(same.get(v, v) for v in n.operands), n.attrs, n.results, f"{node.place}{n.place}") for n in body.nodes)
        same.update((r, same.get(o, o)) for r, o in zip(node.results, body.outputs, strict=True))
    return Graph(graph.inputs, graph.names, tuple(consts), tuple(nodes), tuple(same.get(v, v) for v in graph.outputs))


def _instead(node: Node) -> Graph | None:
    instead = node.op.quant.instead
    if instead is None:
        return None
    found: list[bool] = []

    def run(*operands: Tensor) -> list[Tensor]:
        made = instead(operands, node.attrs)
        found.append(made is not None)
        return [] if made is None else [made]

    graph = stage(run, [Aval(v.shape, v.dtype) for v in node.operands]).graph
    return graph if found[0] else None


def _fresh(graph: Graph) -> Graph:
    """A copy with values of its own: one body may stand behind two calls."""
    new: dict[Var, Var] = {}
    at = lambda v: new.setdefault(v, Var(v.shape, v.dtype))
    inputs = tuple(map(at, graph.inputs))
    consts = tuple((at(v), a) for v, a in graph.consts)
    nodes = tuple(
        Node(n.op, tuple(map(at, n.operands)), n.attrs, tuple(map(at, n.results)), n.place) for n in graph.nodes
    )
    return Graph(inputs, graph.names, consts, nodes, tuple(map(at, graph.outputs)))


class Parameters:
    """The nodes of ``graph`` that no activation reaches; ``inputs`` are the network's, the rest belong to ``cells``."""

    def __init__(self, graph: Graph, inputs: Sequence[Var], cells: dict[Var, Cell]) -> None:
        self.graph, self.cell_of = graph, cells
        self.consts: dict[Var, Array] = dict(graph.consts)
        self.made: dict[Var, Node] = {v: n for n in graph.nodes for v in n.results}
        self.active: set[Var] = set(inputs)
        self.varying: set[Var] = set(cells)
        self.nodes: list[Node] = []
        for node in graph.nodes:
            if any(v in self.active for v in node.operands):
                self.active.update(node.results)
                continue
            self.nodes.append(node)
            if any(v in self.varying for v in node.operands):
                self.varying.update(node.results)
        self.wanted: list[Var] = []
        self.added: list[tuple[Var, Array]] = []

    def number(self, var: Var) -> int:
        """The place of a parameter among the outputs of ``program``."""
        if var not in self.wanted:
            self.wanted.append(var)
        return self.wanted.index(var)

    def add(self, data: Array) -> Var:
        """A constant of its own."""
        var = Var(data.shape, data.dtype)
        self.consts[var] = data
        self.added.append((var, data))
        return var

    def peel(self, var: Var) -> Var:
        """What a broadcast parameter was before it was stretched."""
        while var in self.made and self.made[var].op.quant.layout == "repeat":
            var = self.made[var].operands[0]
        return var

    def constant(self, var: Var) -> Array | None:
        """The data of a value that no cell and no activation reaches."""
        if var in self.active or var in self.varying:
            return None
        if var in self.consts:
            return self.consts[var]
        return run_numpy(prune(Graph((), (), self.graph.consts, tuple(self.nodes), (var,))), [])[0]

    def program(self) -> tuple[Graph, tuple[Cell, ...]]:
        """The graph from cells to the wanted parameters."""
        variables = tuple(self.cell_of)
        names = tuple(f"p{i}" for i in range(len(variables)))
        graph = Graph(variables, names, (*self.graph.consts, *self.added), tuple(self.nodes), tuple(self.wanted))
        return prune(graph), tuple(self.cell_of.values())
