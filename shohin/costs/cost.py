"""``cost(net, device)(x)``: what a network takes on a device, before any training and with nothing run.

Flash and arena are exact: its C is written and compiled for the device, a fraction of a second for a small network. Instructions
and milliseconds are a model's, step by step: what was observed of that very step, else a fit to steps of its kind (docs/cost.md).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from shohin.core.errors import DeployError
from shohin.core.graph import Graph
from shohin.core.module import Module
from shohin.core.tensor import as_tensor
from shohin.costs.observe import examples, places, program_of
from shohin.costs.table import Table
from shohin.costs.tables import board_table, host_table
from shohin.deploy.cost import Place, layers_of
from shohin.deploy.export import export
from shohin.deploy.network import exported_graph
from shohin.targets import get_target
from shohin.targets.target import Target


@dataclass(frozen=True, kw_only=True)
class Spent(Place):
    """A layer with what its steps take: ``instructions`` on the device, ``ms`` on this host; None where no table is there."""

    instructions: float | None = None
    ms: float | None = None


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of one inference, batch 1. ``flash`` is code and constants, ``arena`` the planned peak of the activations; ``instructions`` and ``ms``
    are modelled, None where there is no table for the device."""

    device: str
    macs: int
    flash: int
    code: int
    constants: int
    arena: int
    instructions: float | None
    ms: float | None
    places: tuple[Spent, ...]

    @property
    def flop(self) -> int:
        """Two a multiply-add."""
        return 2 * self.macs

    def __str__(self) -> str:
        width = max([len(p.place) for p in self.places] + [5])
        told = [(name, f) for name, f in (("instructions", "{:,.0f}"), ("ms", "{:.4f}")) if getattr(self, name) is not None]
        lines = [f"{'place':{width}} {'multiply-adds':>14} {'constants':>10} {'result':>9}" + "".join(f" {n:>13}" for n, _ in told)]
        for p in self.places:
            more = "".join(f" {f.format(getattr(p, n) or 0):>13}" for n, f in told)
            lines.append(f"{p.place:{width}} {p.macs:>14,} {p.constants:>10,} {p.result:>9,}{more}")
        flash = f"flash {self.flash:,} bytes (code {self.code:,}, constants {self.constants:,})"
        model = "".join(f", {f.format(getattr(self, n))} {n} (modelled)" for n, f in told)
        lines.append(f"{self.device}: {self.macs:,} multiply-adds, {flash}, arena {self.arena:,} bytes{model}")
        return "\n".join(lines)

    __repr__ = __str__


def cost(net: Module, device: str = "host", *, ms: bool = False) -> Callable[[Any], Cost]:
    """A function of an example batch (only its shape counts) that gives the cost on ``device``.

    ``ms``: measure this processor's kernels first where no table is there yet (a minute or two, once); else milliseconds are None then.

    >>> from shohin import nn
    >>> found = cost(nn.Linear(8, 4), "cortex-m55")(np.zeros((1, 8), np.float32))
    >>> found.macs, found.places[0].constants
    (32, 144)
    """
    target = get_target(device)

    def run(x: Any) -> Cost:
        xs = [as_tensor(e) for e in (x if isinstance(x, tuple) else (x,))]
        if len(xs) == 1 and len(xs[0].shape) < 2:
            raise DeployError(f"cost: the example has shape {xs[0].shape}, expected a batch of inputs")
        ones = examples(xs)
        with tempfile.TemporaryDirectory(prefix="shohin-cost-") as folder:
            art = export(net, tuple(np.zeros(a.shape, a.dtype) for a in ones), device=target.name, to=folder)
        graph = exported_graph(net, ones)
        counted = by_place(graph, target, board_table(target.name))
        timed = by_place(graph, get_target("host"), host_table(measure=ms))
        layers = {p.place: vars(p) for p in layers_of(graph)}
        for place in (*(counted or ()), *(timed or ())):
            layers.setdefault(place, {"place": place, "macs": 0, "constants": 0, "result": 0})
        rows = tuple(
            Spent(**row, instructions=None if counted is None else counted.get(p, 0.0), ms=None if timed is None else 1e3 * timed.get(p, 0.0))
            for p, row in layers.items()
        )
        s = art.sections
        return Cost(
            device=target.name, macs=sum(p.macs for p in rows), flash=s.flash, code=s.text, constants=s.rodata + s.data, arena=art.arena_bytes,
            instructions=None if counted is None else sum(counted.values()), ms=None if timed is None else 1e3 * sum(timed.values()), places=rows,
        )  # fmt: skip

    return run


def by_place(graph: Graph, target: Target, table: Table | None) -> dict[str, float] | None:
    """What the steps of an exported graph take by layer, or None without a table; a fused step is counted where it begins."""
    if table is None:
        return None
    found: dict[str, float] = {}
    for place, work in places(program_of(graph, target), target):
        layer = place.partition("/")[0] or "(network)"
        found[layer] = found.get(layer, 0.0) + table(work)[0]
    return found


__all__ = ["Cost", "Spent", "by_place", "cost"]
