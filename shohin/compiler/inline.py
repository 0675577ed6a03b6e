"""Graph -> Graph: calls replaced by their bodies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from shohin.core.graph import Graph, Node, Var
from shohin.core.trace import prune


def inline_calls(graph: Graph, keep: Callable[[Node], bool] = lambda node: False) -> Graph:
    """Every ``call`` replaced by its body, except those that ``keep`` wants (a kernel carries them out); of their results
    those that are operands are no longer results."""
    if not any(n.op.kind == "call" for n in graph.nodes):
        return graph
    consts = list(graph.consts)
    nodes: list[Node] = []
    values: dict[Var, Var] = {}

    def put(node: Node, rename: dict[Var, Var]) -> None:
        operands = tuple(rename.get(v, v) for v in node.operands)
        if node.op.kind != "call":
            nodes.append(Node(node.op, operands, node.attrs, tuple(fresh(v, rename) for v in node.results), node.place))
            return
        body: Graph = node.attrs["body"]
        if keep(node):
            own = [k for k, v in enumerate(body.outputs) if v not in body.inputs]
            rename.update((r, operands[body.inputs.index(v)]) for r, v in zip(node.results, body.outputs, strict=True) if v in body.inputs)
            attrs = {**node.attrs, "body": replace(body, outputs=tuple(body.outputs[k] for k in own))}
            nodes.append(Node(node.op, operands, attrs, tuple(fresh(node.results[k], rename) for k in own), node.place))
            return
        inner: dict[Var, Var] = dict(zip(body.inputs, operands, strict=True))
        for var, data in body.consts:
            consts.append((fresh(var, inner), data))
        for child in body.nodes:
            put(Node(child.op, child.operands, child.attrs, child.results, _within(node.place, child.place)), inner)
        for result, output in zip(node.results, body.outputs, strict=True):
            rename[result] = inner[output]

    def fresh(v: Var, rename: dict[Var, Var]) -> Var:
        if rename is values:
            return v
        rename[v] = Var(v.shape, v.dtype)
        return rename[v]

    for node in graph.nodes:
        put(node, values)
    return prune(Graph(graph.inputs, graph.names, tuple(consts), tuple(nodes), tuple(values.get(v, v) for v in graph.outputs)))


def _within(outer: str, inner: str) -> str:
    return f"{outer}{inner}" if inner.startswith("/") else f"{outer}/{inner}"


__all__ = ["inline_calls"]
