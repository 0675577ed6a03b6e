"""Graph -> Graph by what the ops mean: factors leave sums, reshapes sink below elementwise ops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shohin.core.dtypes import FLOATING
from shohin.core.graph import Graph, Node, Var
from shohin.core.op import Op
from shohin.core.trace import prune
from shohin.ops import kinds


class _Rewriting:
    """New nodes in the order of a graph's; ``made`` is who made a value, old or new."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.made = {v: node for node in graph.nodes for v in node.results}
        self.nodes: list[Node] = []

    def put(self, op: str | Op, place: str, operands: Sequence[Var], results: tuple[Var, ...] | None = None, **attrs: Any) -> Var:
        record = kinds.get(op) if isinstance(op, str) else op
        if results is None:
            (aval,) = record.infer([v.aval for v in operands], attrs)
            results = (Var(aval.shape, aval.dtype),)
        node = Node(record, tuple(operands), attrs, results, place)
        self.nodes.append(node)
        self.made[results[0]] = node
        return results[0]

    def maker(self, v: Var, name: str) -> Node | None:
        node = self.made.get(v)
        return node if node is not None and node.op.name == name else None

    def done(self) -> Graph:
        g = self.graph
        return prune(Graph(g.inputs, g.names, g.consts, tuple(self.nodes), g.outputs))


def factor_sums(graph: Graph) -> Graph:
    """A factor that is constant along a sum leaves it, and so does a minus sign: sum(-g s) is -s sum(g), which may then be a
    sum that somebody else asks for too (the gradients of a normalization)."""
    new = _Rewriting(graph)

    def factors(v: Var, axis: Sequence[int]) -> tuple[Var, Var | None, bool]:
        """``v`` as (what is left, a factor that is constant along ``axis``, is it negated)."""
        node = new.maker(v, "negative")
        if node is not None:
            left, factor, sign = factors(node.operands[0], axis)
            return left, factor, not sign
        node = new.maker(v, "multiply")
        for k in (0, 1) if node is not None else ():
            assert node is not None
            spread = new.maker(node.operands[k], "broadcast_to")
            if spread is not None:
                shape = (1,) * (len(v.shape) - len(spread.operands[0].shape)) + spread.operands[0].shape
                if all(shape[d] == 1 for d in axis):
                    return node.operands[1 - k], spread.operands[0], False
        return v, None, False

    for node in graph.nodes:
        axis = node.attrs["axis"] if node.op.name == "sum" and node.results[0].dtype in FLOATING else None
        left, factor, sign = factors(node.operands[0], axis) if axis is not None else (None, None, False)
        if left is None or (factor is None and not sign):
            new.nodes.append(node)
            continue
        total, shape = new.put("sum", node.place, (left,), axis=axis), node.results[0].shape
        if factor is not None:
            full = (1,) * (len(left.shape) - len(factor.shape)) + factor.shape
            kept = tuple(n for d, n in enumerate(full) if d not in node.attrs["axis"])
            factor = factor if factor.shape == kept else new.put("reshape", node.place, (factor,), shape=kept)
            factor = factor if kept == shape else new.put("broadcast_to", node.place, (factor,), shape=shape)
            total = new.put("multiply", node.place, (total, factor), None if sign else node.results)
        if sign:
            new.put("negative", node.place, (total,), node.results)
    return new.done()


def sink_reshapes(graph: Graph) -> Graph:
    """An elementwise op of a reshaped product is computed in the product's shape and reshaped after it, so that it can be the
    product's epilogue: bias, activation and residual of a linear layer on (..., features)."""
    new = _Rewriting(graph)
    under: dict[Var, Var] = {}

    def inside(x: Var, shape: tuple[int, ...], place: str) -> Var:
        """``x`` in the product's shape."""
        if x in under and under[x].shape == shape:
            return under[x]
        spread = new.maker(x, "broadcast_to")
        if spread is not None:
            source = spread.operands[0].shape
            if len(source) <= 1 or all(n == 1 for n in source[:-1]):
                row = source[-1:]
                if not row or (row[0] in (1, shape[-1]) and shape[-1] == x.shape[-1]):
                    vector = spread.operands[0] if source == row else new.put("reshape", place, spread.operands, shape=row)
                    return new.put("broadcast_to", place, (vector,), shape=shape)
        return new.put("reshape", place, (x,), shape=shape)

    for node in graph.nodes:
        v = node.results[0]
        first = next((under[x] for x in node.operands if x in under), None) if node.op.kind == "elementwise" else None
        if first is None:
            new.nodes.append(node)
            source = new.made.get(node.operands[0]) if node.op.name == "reshape" else None
            if source is not None and source.op.kind == "contraction":
                under[v] = node.operands[0]
            continue
        value = new.put(node.op, node.place, [inside(x, first.shape, node.place) for x in node.operands], **node.attrs)
        new.put("reshape", node.place, (value,), node.results, shape=v.shape)
        under[v] = value
    return new.done()


__all__ = ["factor_sums", "sink_reshapes"]
