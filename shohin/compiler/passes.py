"""Graph -> Graph: inline calls, fold constants, share equal nodes, drop dead ones. Each returns a verified-equal program."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from shohin.compiler.algebra import factor_sums, sink_reshapes
from shohin.compiler.inline import inline_calls
from shohin.compiler.recompute import recompute
from shohin.compiler.slice_kernel import KERNEL as SLICES
from shohin.compiler.slices import sliced
from shohin.core.graph import Graph, Node, Var
from shohin.core.trace import prune

Array = np.ndarray[Any, Any]
FOLD_LIMIT = 1 << 16
"""Elements up to which a node of constants is computed now; larger ones stay in the program (a broadcast is no data)."""


def fold_constants(graph: Graph) -> Graph:
    """Nodes whose operands are all small constants, computed by their reference where that is exact."""
    known: dict[Var, Array] = dict(graph.consts)
    consts = list(graph.consts)
    nodes: list[Node] = []
    for node in graph.nodes:
        small = sum(int(np.prod(v.shape)) for v in node.results) <= FOLD_LIMIT
        exact = node.op.tol.ulp <= 0 or node.op.kind == "generator"
        foldable = node.op.kind in ("elementwise", "movement", "indexing", "generator") and exact and small
        grows = node.operands and any(np.prod(r.shape) > 4 * max(np.prod(v.shape) for v in node.operands) for r in node.results)
        if not foldable or grows or not node.operands or any(v not in known for v in node.operands):
            nodes.append(node)
            continue
        with np.errstate(all="ignore"):
            out = node.op.numpy(*(known[v] for v in node.operands), **node.attrs)
        for v, a in zip(node.results, out if isinstance(out, tuple) else (out,), strict=True):
            known[v] = np.ascontiguousarray(np.asarray(a, v.dtype)).reshape(v.shape)
            consts.append((v, known[v]))
    return prune(Graph(graph.inputs, graph.names, tuple(consts), tuple(nodes), graph.outputs))


def share(graph: Graph) -> Graph:
    """Common subexpressions: nodes with the same op, operands and attributes are one."""
    values: dict[Var, Var] = {}
    seen: dict[Any, tuple[Var, ...]] = {}
    data: dict[Any, Var] = {}
    consts: list[tuple[Var, Array]] = []
    for v, a in graph.consts:
        key = (a.dtype.str, a.shape, a.tobytes()) if a.size <= FOLD_LIMIT else id(a)
        if key in data:
            values[v] = data[key]
        else:
            data[key] = v
            consts.append((v, a))
    nodes: list[Node] = []
    for node in graph.nodes:
        operands = tuple(values.get(v, v) for v in node.operands)
        key = (node.op.name, operands, _frozen(node.attrs))
        if node.op.kind != "control" and key in seen:
            values.update(zip(node.results, seen[key], strict=True))
            continue
        seen[key] = node.results
        nodes.append(node if operands == node.operands else Node(node.op, operands, node.attrs, node.results, node.place))
    return Graph(graph.inputs, graph.names, tuple(consts), tuple(nodes), tuple(values.get(v, v) for v in graph.outputs))


def _frozen(attrs: Any) -> Any:
    return tuple((k, id(v) if isinstance(v, Graph) else repr(v) if not isinstance(v, np.ndarray) else (v.dtype.str, v.tobytes())) for k, v in sorted(attrs.items()))


def simplify(graph: Graph) -> Graph:
    """Reshape of a reshape is one reshape, and one to the same shape is none."""
    made = {v: node for node in graph.nodes for v in node.results}
    nodes: list[Node] = []
    same: dict[Var, Var] = {}
    for node in graph.nodes:
        node = Node(node.op, tuple(same.get(v, v) for v in node.operands), node.attrs, node.results, node.place)
        if node.op.name == "reshape":
            inner = made.get(node.operands[0])
            if inner is not None and inner.op is node.op:
                node = Node(node.op, inner.operands, node.attrs, node.results, node.place)
            if node.operands[0].shape == node.results[0].shape:
                same[node.results[0]] = node.operands[0]
                continue
        for v in node.results:
            made[v] = node
        nodes.append(node)
    return prune(Graph(graph.inputs, graph.names, graph.consts, tuple(nodes), tuple(same.get(v, v) for v in graph.outputs)))


def inline(graph: Graph) -> Graph:
    """Every call but those that the kernel ``SLICES`` carries out slice by slice."""
    return inline_calls(graph, lambda node: sliced(node) is not None)


PASSES: Sequence[Callable[[Graph], Graph]] = (inline, fold_constants, share, sink_reshapes, simplify, factor_sums, share, prune, recompute)


def optimize(graph: Graph) -> Graph:
    """All passes in order."""
    for one in PASSES:
        graph = one(graph)
    return graph


__all__ = ["PASSES", "SLICES", "inline_calls", "optimize"]
