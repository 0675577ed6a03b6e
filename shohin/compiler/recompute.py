"""Graph -> Graph: a value whose readers lie far apart is made again for the late ones, if what it comes from is kept anyway.

The activations of a forward pass wait for the backward pass. One that an elementwise chain makes of values that
wait too (a GELU of what its derivative reads as well, a normalization) need not: its chain runs once more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import prod

from shohin.compiler import derive
from shohin.core.graph import Graph, Node, Var

FAR = 64
"""Nodes between two readers from which the value does not wait."""
LARGE = 1 << 16
"""Elements from which memory counts."""
MOST = 16
"""Ops of a chain that is run again."""


def recompute(graph: Graph) -> Graph:
    """The last pass: what it parts, ``share`` would join."""
    return _Copies(graph).run()


@dataclass
class _Copies:
    graph: Graph

    def __post_init__(self) -> None:
        nodes = self.graph.nodes
        self.position = {n: i for i, n in enumerate(nodes)}
        self.made = {v: n for n in nodes for v in n.results}
        self.readers = {v: [self.position[u] for u in users] for v, users in self.graph.users().items()}
        for v in self.graph.outputs:
            self.readers.setdefault(v, []).append(len(nodes))

    def run(self) -> Graph:
        before: dict[int, list[Node]] = {}
        renamed: dict[int, dict[Var, Var]] = {}
        for node in self.graph.nodes:
            if not derive.is_pointwise(node) or node.op.kind in ("random", "storage"):
                continue
            v = node.results[0]
            at = self._late(v)
            if at is None or (chain := self._chain(v, at)) is None:
                continue
            fresh = {n.results[0]: Var(n.results[0].shape, n.results[0].dtype) for n in chain}
            before.setdefault(at, []).extend(_again(n, fresh) for n in chain)
            for p in self.readers[v]:
                if p >= at:
                    renamed.setdefault(p, {})[v] = fresh[v]
        nodes: list[Node] = []
        for i, node in enumerate(self.graph.nodes):
            nodes.extend(before.get(i, ()))
            names = renamed.get(i)
            nodes.append(node if names is None else Node(node.op, tuple(names.get(v, v) for v in node.operands), node.attrs, node.results, node.place))
        return Graph(self.graph.inputs, self.graph.names, self.graph.consts, tuple(nodes), self.graph.outputs)

    def _late(self, v: Var) -> int | None:
        """The first reader behind the widest gap, if a kernel or fold is among the late ones: elementwise readers compute
        what is cheap by themselves."""
        readers = sorted(self.readers.get(v, ()))
        if prod(v.shape) < LARGE or len(readers) < 2 or readers[-1] == len(self.graph.nodes):
            return None
        gap, at = max((b - a, b) for a, b in pairwise(readers))
        late = (self.graph.nodes[p] for p in readers if p >= at)
        return at if gap > FAR and any(n.op.kind == "contraction" for n in late) else None

    def _chain(self, v: Var, at: int) -> list[Node] | None:
        """The nodes that make ``v`` of what is alive at ``at``, in order."""
        found: dict[Node, None] = {}

        def visit(x: Var) -> bool:
            node = self.made.get(x)
            if node is None or (x is not v and (max(self.readers.get(x, (0,))) >= at or 8 * prod(x.shape) <= prod(v.shape))):
                return True
            if not derive.is_pointwise(node) or node.op.kind in ("random", "storage") or len(found) >= MOST:
                return False
            found[node] = None
            return all(map(visit, node.operands))

        return sorted(found, key=lambda n: self.position[n]) if visit(v) else None


def _again(node: Node, fresh: Mapping[Var, Var]) -> Node:
    operands = tuple(fresh.get(x, x) for x in node.operands)
    return Node(node.op, operands, node.attrs, (fresh[node.results[0]],), f"{node.place}'")


__all__ = ["recompute"]
