"""``cost(net, device)(x)``: what a network takes on a device, exactly, with nothing run.

Multiply-adds are the points of every contraction (taps in the padding included). Flash and arena are those of the
artefact: its C is written and compiled for the device, a fraction of a second for a small network.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from shohin.compiler.passes import inline_calls
from shohin.compress.lowering import lower
from shohin.compress.palettize import pack_weights
from shohin.compress.quantized import Quantized
from shohin.core.errors import DeployError
from shohin.core.graph import Graph, subgraphs
from shohin.core.module import Module, mode
from shohin.core.op import Aval
from shohin.core.tensor import as_tensor
from shohin.deploy.export import export
from shohin.deploy.network import float_graph, one_each
from shohin.targets import get_target


@dataclass(frozen=True, kw_only=True)
class Place:
    """One layer: its multiply-adds, the bytes of the constants that it reads, and those of its largest result."""

    place: str
    macs: int
    constants: int
    result: int


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of one inference, batch 1. ``flash`` is code and constants, ``arena`` the planned peak of the activations."""

    device: str
    macs: int
    flash: int
    code: int
    constants: int
    arena: int
    places: tuple[Place, ...]

    def __str__(self) -> str:
        width = max([len(p.place) for p in self.places] + [5])
        lines = [f"{'place':{width}} {'multiply-adds':>14} {'constants':>10} {'result':>9}   bytes"]
        lines += [f"{p.place:{width}} {p.macs:>14,} {p.constants:>10,} {p.result:>9,}" for p in self.places]
        flash = f"flash {self.flash:,} bytes (code {self.code:,}, constants {self.constants:,})"
        lines.append(f"{self.device}: {self.macs:,} multiply-adds, {flash}, arena {self.arena:,} bytes")
        return "\n".join(lines)

    __repr__ = __str__


def cost(net: Module, device: str = "host") -> Callable[[Any], Cost]:
    """A function of an example batch (only its shape counts) that gives the cost on ``device``.

    >>> from shohin import nn
    >>> found = cost(nn.Linear(8, 4))(np.zeros((1, 8), np.float32))
    >>> found.macs, found.places[0].constants
    (32, 144)
    """
    target = get_target(device)

    def run(x: Any) -> Cost:
        examples = [as_tensor(e) for e in (x if isinstance(x, tuple) else (x,))]
        if len(examples) == 1 and len(examples[0].shape) < 2:
            raise DeployError(f"cost: the example has shape {examples[0].shape}, expected a batch of inputs")
        ones = one_each(e.aval for e in examples)
        with tempfile.TemporaryDirectory(prefix="shohin-cost-") as folder:
            art = export(net, tuple(np.zeros(a.shape, a.dtype) for a in ones), device=target.name, to=folder)
        places = _places(_graph(net, ones))
        s = art.sections
        return Cost(
            device=target.name,
            macs=sum(p.macs for p in places),
            flash=s.flash,
            code=s.text,
            constants=s.rodata + s.data,
            arena=art.arena_bytes,
            places=places,
        )

    return run


def places_of(net: Module, shape: tuple[int, ...]) -> tuple[Place, ...]:
    """The layers for an input of this shape (batch included), in the order of execution; a constant counts where it is first
    read. Nothing is compiled."""
    return _places(_graph(net, [Aval(shape, np.dtype(np.float32))]))


def _graph(net: Module, avals: Sequence[Aval]) -> Graph:
    with mode(net, training=False):
        if isinstance(net, Quantized):
            return pack_weights(lower(net, *avals).graph, net)
        return float_graph(net, avals)


def macs_of(net: Module, shape: tuple[int, ...]) -> int:
    """Multiply-adds for an input of this shape (batch included)."""
    return sum(p.macs for p in places_of(net, shape))


def _places(graph: Graph) -> tuple[Place, ...]:
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


__all__ = ["Cost", "Place", "cost", "macs_of", "places_of"]
