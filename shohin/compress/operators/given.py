"""Grids that a network brings along: of activations, whose steps end on them, and of weights (``docs/quantization.md``, Q14)."""

from __future__ import annotations

from typing import Any

from shohin.compress.walk import GIVEN, Walk, rule
from shohin.compress.weights import Reweighting
from shohin.core.graph import Node
from shohin.core.tensor import Tensor
from shohin.ops.grid import on_grid


@rule(GIVEN)
def given(w: Walk, node: Node) -> None:
    """What no step before it could end on: an input enters here; another grid is left for this one, unless they are equal."""
    fixed = w.given(node)
    x = node.operands[0]
    own = w.entered.get(x, w.ids[x])
    if w.values[own].grid is None:
        name = w.producer[x] if w.producer[x] not in w.observed else node.place
        w.fixed[name] = fixed
        own = w.entry(x, name, 8)
    elif w.fixed.get(w.values[own].grid or "") != fixed:
        w.fixed[node.place] = fixed
        own = w.regridded_to(x, node.place, 8)
    w.ids[node.results[0]], w.producer[node.results[0]] = own, w.producer[x]
    w.take(node)


class OnGrid(Reweighting):
    """A weight on the grid of its origin: one scale, or one an output channel, the first dim."""

    slot, kind, done = "integers", "grid", "on the grid of its file"

    def __init__(self, scale: tuple[float, ...]) -> None:
        self.scale = scale

    def forward(self, w: Any) -> Tensor:
        return on_grid(w, self.scale, low=-127)


__all__ = ["OnGrid", "given"]
