"""Calls that are carried out slice by slice: what lies between their steps is as large as one slice, and in cache.

A composite may declare ``slices=k``: every operand's and result's last ``k`` dims are one slice, and slices know
nothing of each other (attention: one head of one example). The body without its leading dims is lowered as a program
of its own; a kernel (``kernels/slices.py``) runs it once a slice. Sums are those of the body, and so are the bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

from shohin.compiler.inline import inline_calls
from shohin.core.graph import Graph, Node, Var
from shohin.core.op import Attr

INDEPENDENT = frozenset(("elementwise", "movement", "reduction", "contraction"))
"""Kinds of ops whose typed attributes say all about leading dims."""


@dataclass(frozen=True, eq=False)
class Slices:
    """``graph`` is of one slice of ``count``; ``moves`` says which inputs differ from slice to slice."""

    graph: Graph
    count: int
    moves: tuple[bool, ...]


def sliced(node: Node) -> Slices | None:
    """The slices of a call, or ``None``: it declares none, has only one, or its body looks across them."""
    if node.op.kind != "call":
        return None
    core = dict(node.attrs["config"]).get("slices")
    return None if core is None else _sliced(node.attrs["body"], core)


@lru_cache(maxsize=256)
def _sliced(graph: Graph, core: int) -> Slices | None:
    lead = max((v.shape[: len(v.shape) - core] for v in graph.inputs), key=len, default=())
    if prod(lead) < 2 or not graph.nodes:
        return None
    try:
        return _Cut(lead, core).run(inline_calls(graph))
    except _Crossing:
        return None


class _Crossing(Exception):
    """A value or an op that is not of one slice."""


class _Cut:
    def __init__(self, lead: tuple[int, ...], core: int) -> None:
        self.lead, self.core, self.cut = lead, core, len(lead)
        self.values: dict[Var, Var] = {}
        self.moving: set[Var] = set()

    def run(self, graph: Graph) -> Slices:
        for v in graph.inputs:
            head = v.shape[: self.cut] if len(v.shape) == self.cut + self.core else ()
            if head and head != self.lead and any(n != 1 for n in head):
                raise _Crossing
            self._take(v, bool(head))
        for v, _ in graph.consts:
            self._take(v, False)
        nodes = tuple(map(self._node, graph.nodes))
        if any(v not in self.moving for v in graph.outputs if v not in graph.inputs):
            raise _Crossing
        inner = Graph(
            tuple(self.values[v] for v in graph.inputs),
            graph.names,
            tuple((self.values[v], a) for v, a in graph.consts),
            nodes,
            tuple(self.values[v] for v in graph.outputs),
        )
        moves = tuple(v in self.moving and v.shape[: self.cut] == self.lead for v in graph.inputs)
        return Slices(inner, prod(self.lead), moves)

    def _take(self, v: Var, moving: bool) -> Var:
        if moving:
            self.moving.add(v)
        self.values[v] = Var(v.shape[self.cut :] if moving else v.shape, v.dtype)
        return self.values[v]

    def _node(self, node: Node) -> Node:
        moving = any(v in self.moving for v in node.operands)
        spread = not moving and node.op.kind == "movement" and self._spreads(node)
        if (moving or spread) and node.op.kind not in INDEPENDENT:
            raise _Crossing
        attrs = {k: self._attr(node.op.attrs[k], v) for k, v in node.attrs.items()} if moving or spread else node.attrs
        operands = tuple(self.values[v] for v in node.operands)
        results = tuple(self._take(v, moving or spread) for v in node.results)
        if (moving or spread) and tuple(node.op.infer([v.aval for v in operands], attrs)) != tuple(v.aval for v in results):
            raise _Crossing
        return Node(node.op, operands, attrs, results, node.place)

    def _spreads(self, node: Node) -> bool:
        """Does the op repeat a value that is the same for all slices over the leading dims?"""
        (v,), rank = node.results, max((len(x.shape) for x in node.operands), default=0)
        return rank + self.cut <= len(v.shape) and v.shape[: self.cut] == self.lead and "shape" in node.attrs

    def _attr(self, attr: Attr, value: Any) -> Any:
        """An attribute as it is without the leading dims."""
        k = self.cut
        if attr.type == "dim":
            return self._inner(value)
        if attr.type == "dims":
            return tuple(map(self._inner, value))
        if attr.type == "permutation":
            self._same(tuple(value[:k]), tuple(range(k)))
            return tuple(p - k for p in value[k:])
        if attr.type == "per_dim":
            self._same(tuple(value[:k]), (attr.neutral,) * k)
            return tuple(value[k:])
        if attr.type == "shape":
            if tuple(value[:k]) != self.lead:
                self._same(tuple(value[:k]), (1,) * k)
            return tuple(value[k:])
        return value

    def _inner(self, dim: int) -> int:
        if dim < self.cut:
            raise _Crossing
        return dim - self.cut

    def _same(self, a: Any, b: Any) -> None:
        if a != b:
            raise _Crossing


__all__ = ["Slices", "sliced"]
