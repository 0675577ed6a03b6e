"""Multiply-adds and bytes of a network's layers, counted in its graph: nothing is compiled.

Multiply-adds are the points of every contraction, taps in the padding included.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from shohin.compiler.passes import inline_calls
from shohin.core.graph import Graph, subgraphs
from shohin.core.module import Module
from shohin.core.op import Aval
from shohin.deploy.network import exported_graph


@dataclass(frozen=True, kw_only=True)
class Place:
    """One layer: its multiply-adds, the bytes of the constants that it reads, and those of its largest result."""

    place: str
    macs: int
    constants: int
    result: int


def places_of(net: Module, shape: tuple[int, ...]) -> tuple[Place, ...]:
    """The layers for an input of this shape (batch included), in the order of execution; a constant counts where it is first
    read. Nothing is compiled."""
    return layers_of(exported_graph(net, [Aval(shape, np.dtype(np.float32))]))


def macs_of(net: Module, shape: tuple[int, ...]) -> int:
    """Multiply-adds for an input of this shape (batch included)."""
    return sum(p.macs for p in places_of(net, shape))


def layers_of(graph: Graph) -> tuple[Place, ...]:
    """The layers of an exported graph."""
    found: dict[str, list[int]] = {}
    counted: set[int] = set()

    def visit(graph: Graph, times: int, outer: str) -> None:
        data = {v: a for v, a in graph.consts if a.size > 1}
        for node in graph.nodes:
            place = outer or node.place.partition("/")[0] or "(network)"
            row = found.setdefault(place, [0, 0, 0])
            for body in subgraphs(node):
                visit(body, times * int(node.attrs.get("length", 1)), place)
            if node.op.kind == "contraction":
                row[0] += times * prod(node.op.solve([v.shape for v in node.operands], node.attrs).extents.values())
            for v in node.operands:
                if v in data and id(data[v]) not in counted:
                    counted.add(id(data[v]))
                    row[1] += data[v].nbytes
            if any(v not in data for v in node.operands):
                row[2] = max([row[2], *(prod(v.shape) * v.dtype.itemsize for v in node.results)])

    visit(inline_calls(graph), 1, "")
    return tuple(Place(place=p, macs=m, constants=c, result=r) for p, (m, c, r) in found.items())


__all__ = ["Place", "layers_of", "macs_of", "places_of"]
