"""What methods are told of a weight, collected on the calibration set: of its inputs one number for each input channel, of the loss
one number for each weight (``fisher``).

A statistic of inputs is an entry of ``STATISTICS``. The float network runs in evaluation mode on the calibration set; every contraction
that reads the weight adds the values of its other operand, channel by channel, over examples and positions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from shohin.compress.calibration import batches
from shohin.compress.extents import solved
from shohin.compress.fisher import fisher
from shohin.compress.parameters import Parameters
from shohin.compress.walk import traced
from shohin.core.axes import Solved
from shohin.core.cells import Cell
from shohin.core.errors import PlanError
from shohin.core.graph import Graph, Node, Var
from shohin.core.module import Module
from shohin.core.op import Aval
from shohin.core.tensor import Tensor, as_tensor
from shohin.core.trace import prune, run
from shohin.ops.qlinear import channels_dim

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Statistic:
    """``of(x, axes)`` reduces a batch, ``join`` two results, ``end`` makes the number of the whole."""

    of: Callable[[Array, tuple[int, ...]], Array]
    join: Callable[[Array, Array], Array]
    end: Callable[[Array], Array]


STATISTICS: dict[str, Statistic] = {
    "input_norm": Statistic(lambda x, axes: np.square(x.astype(np.float64)).sum(axes), np.add, np.sqrt),
    "input_max": Statistic(lambda x, axes: np.abs(x).max(axes, initial=0), np.maximum, lambda v: v),
}
NAMES = (*STATISTICS, "fisher")


class Stats:
    """The statistics of one weight by name, each (out, terms) float32, as the weight's matrix: ``stats.input_norm``."""

    def __init__(self, method: str, arrays: Mapping[str, Any]) -> None:
        self._method, self._arrays = method, dict(arrays)

    def __getattr__(self, name: str) -> Tensor:
        if name.startswith("_"):
            raise AttributeError(name)
        if name not in self._arrays:
            known = f"write stats=({name!r},)" if name in NAMES else f"there are {', '.join(NAMES)}"
            raise PlanError(f"{self._method} reads stats.{name}, which is not collected; {known}")
        return as_tensor(self._arrays[name])

    def items(self) -> Sequence[tuple[str, Any]]:
        return list(self._arrays.items())


def known(method: str, wanted: Sequence[str]) -> tuple[str, ...]:
    """``wanted``, or an error for a name that is no statistic."""
    names = (wanted,) if isinstance(wanted, str) else tuple(wanted)
    for name in names:
        if name not in NAMES:
            raise PlanError(f"{method}: no statistic {name!r}; there are {', '.join(NAMES)}")
    return names


def collect(net: Module, places: Sequence[tuple[str, Module, str]], wanted: Sequence[str], calibration: Any, method: str) -> dict[str, Stats]:
    """The statistics ``wanted`` of the weights at (place, layer, name).

    Raises:
        PlanError: no contraction reads a weight as (out, ...), so that it has no input channels.
    """
    cells = {place: _cell(layer, name) for place, layer, name in places}
    of_loss: dict[str, dict[str, Array]] = {place: {} for place in cells}
    if "fisher" in wanted:
        for place, value in fisher(net, {p: c for p, c in cells.items() if c is not None}, calibration).items():
            of_loss[place]["fisher"] = value.reshape(len(value), -1)
    of_inputs = _of_inputs(net, cells, [n for n in wanted if n in STATISTICS], calibration, method)
    return {place: Stats(method, {**of_loss[place], **of_inputs.get(place, {})}) for place in cells}


def _of_inputs(net: Module, cells: Mapping[str, Cell | None], wanted: Sequence[str], calibration: Any, method: str) -> dict[str, dict[str, Array]]:
    if not wanted:
        return {}
    found: dict[str, dict[str, Array]] = {place: {} for place in cells}
    readers: dict[tuple[Aval, ...], _Readers] = {}
    for xs in batches(calibration):
        avals = tuple(Aval(x.shape, x.dtype) for x in xs)
        if avals not in readers:
            readers[avals] = _Readers(net, avals)
        mine = readers[avals]
        for place, cell in cells.items():
            for node, x in mine.of(cell, xs):
                for name in wanted:
                    value = _by_channel(solved(node), x, STATISTICS[name])
                    before = found[place].get(name)
                    found[place][name] = value if before is None else STATISTICS[name].join(before, value)
    for place, stats in found.items():
        if not stats:
            raise PlanError(
                f"{method}: no contraction reads {place} with its output channels first, so its inputs have no statistics; "
                f"write ({place.rpartition('.')[0]!r}, None) after the rule"
            )
    return {p: {n: STATISTICS[n].end(v).astype(np.float32) for n, v in s.items()} for p, s in found.items()}


def _cell(layer: Module, name: str) -> Cell | None:
    return object.__getattribute__(layer, "__dict__").get(name)


class _Readers:
    """The contractions of a network on inputs of one shape, by the cells that their weights come from."""

    def __init__(self, net: Module, avals: Sequence[Aval]) -> None:
        self.graph, self.cells, _ = traced(net, avals, lambda node: False)
        self.count = len(avals)
        parameters = Parameters(self.graph, self.graph.inputs[: self.count], self.cells)
        self.nodes: dict[Cell, list[Node]] = {}
        for node in self.graph.nodes:
            if node.op.kind != "contraction" or len(node.operands) != 2:
                continue
            x, w = node.operands
            if x in parameters.active and w not in parameters.active and channels_dim(node.op.relation([v.shape for v in node.operands], node.attrs)) == 0:
                for cell in _sources(w, parameters, self.cells):
                    if cell.shape == w.shape:
                        self.nodes.setdefault(cell, []).append(node)
        self.wanted = list(dict.fromkeys(n.operands[0] for nodes in self.nodes.values() for n in nodes))
        self.values: tuple[Any, dict[Var, Array]] = (None, {})

    def of(self, cell: Cell | None, xs: Sequence[Array]) -> list[tuple[Node, Array]]:
        if cell is None or cell not in self.nodes:
            return []
        if self.values[0] is not xs:
            g = self.graph
            graph = prune(Graph(g.inputs, g.names, g.consts, g.nodes, tuple(self.wanted)))
            made = run(graph, [*(as_tensor(x) for x in xs), *(c.read() for c in self.cells.values())])
            self.values = xs, {v: t.numpy() for v, t in zip(self.wanted, made, strict=True)}
        return [(node, self.values[1][node.operands[0]]) for node in self.nodes[cell]]


def _sources(var: Var, parameters: Parameters, cells: Mapping[Var, Cell]) -> list[Cell]:
    """The cells that a value is computed from."""
    found, open_ = [], [var]
    while open_:
        v = open_.pop()
        if v in cells:
            found.append(cells[v])
        elif v in parameters.made:
            open_ += parameters.made[v].operands
    return found


def _by_channel(relation: Solved, x: Array, statistic: Statistic) -> Array:
    """(out, terms): the statistic of the input channel that each product of the weight takes."""
    dims, weight = relation.relation.operands
    extents = relation.extents
    names = [a for d in dims for a in (d.axes if d.kind != "window" else (f"{d.axes[0]} position",))]
    shape = [n for d, size in zip(dims, x.shape, strict=True) for n in ([extents[a] for a in d.axes] if d.kind == "product" else [size] if d.axes else [])]
    axes = [a for d in weight for a in d.axes]
    shared = [a for a in axes if a in names]
    value = statistic.of(x.reshape(shape), tuple(k for k, a in enumerate(names) if a not in shared))
    value = value.transpose([[a for a in names if a in shared].index(a) for a in shared])
    value = value.reshape([extents[a] if a in shared else 1 for a in axes])
    out = prod(extents[a] for a in weight[0].axes)
    return np.broadcast_to(value, [extents[a] for a in axes]).reshape(out, -1)


__all__ = ["NAMES", "STATISTICS", "Statistic", "Stats", "collect", "known"]
