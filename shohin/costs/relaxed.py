"""A cost that gradients go through: of relaxed choices (paths, bits) and widths, for a search by gradient.

A choice of m candidates is m probabilities; what it costs is expected, sum_i p_i cost_i. A width is a probability for each channel of a
group that it stays; a layer's cost is then bilinear in the shares of channels that go in and out. Peak memory is a smooth maximum over
the steps' live sets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from shohin.core.errors import ShapeError
from shohin.core.tensor import Tensor, as_tensor
from shohin.deploy.layout import Layout
from shohin.ops import math, move, reduce
from shohin.transforms.channels import Channels, Extent

Costs = Mapping[str, Sequence[Mapping[str, float]]]


def relaxed_cost(table: Costs, probabilities: Mapping[str, Any]) -> dict[str, Tensor]:
    """Expected cost by name (flash, instructions, ms ...), the sum over choices of sum_i p_i cost_i.

    ``table`` has for each choice the costs of its candidates, as ``sh.cost`` or a table gives them; ``probabilities`` a tensor (m,) a choice.
    A choice without probabilities has one candidate. Source: Wu et al. 2019 (FBNet, arXiv:1812.03443), equations 3 and 7, for any additive cost.

    >>> table = {"op": [{"flash": 100.0}, {"flash": 300.0}], "head": [{"flash": 50.0}]}
    >>> float(relaxed_cost(table, {"op": np.array([0.25, 0.75], np.float32)})["flash"])
    300.0
    """
    total: dict[str, Tensor] = {}
    for choice, candidates in table.items():
        p = as_tensor(np.ones(1, np.float32)) if choice not in probabilities else as_tensor(probabilities[choice])
        if p.shape != (len(candidates),):
            raise ShapeError(f"relaxed_cost: choice {choice!r} has {len(candidates)} candidates and probabilities of shape {p.shape}")
        for name in dict.fromkeys(n for c in candidates for n in c):
            each = reduce.sum(p * as_tensor(np.array([c.get(name, 0.0) for c in candidates], np.float32)))
            total[name] = total[name] + each if name in total else each
    return total


def smooth_maximum(values: Any, sharpness: float = 50.0) -> Tensor:
    """An upper bound of the largest of ``values`` (k,), positive: m + t log sum exp((v - m) / t) with t = m / sharpness, m the largest.

    It exceeds the maximum by at most a share log(k) / sharpness; its gradient is shared among the values near the maximum.

    >>> round(float(smooth_maximum(np.array([100.0, 50.0, 99.0], np.float32))), 2)
    100.95
    """
    v = as_tensor(values)
    m = math.maximum(reduce.max(v), as_tensor(np.float32(1e-20)))
    t = m / sharpness
    return m + t * math.log(reduce.sum(math.exp((v - m) / t)))


@dataclass(frozen=True)
class Widths:
    """A network's cost as a function of its channels' keep probabilities: ``macs``, ``parameters`` and live sets in products of shares.

    Each term is (amount, groups): the amount of the whole layer times the product of the mean keep probability of each group.
    """

    macs: tuple[tuple[float, tuple[str, ...]], ...]
    parameters: tuple[tuple[float, tuple[str, ...]], ...]
    live: tuple[tuple[tuple[float, tuple[str, ...]], ...], ...]
    sizes: Mapping[str, int]

    def __call__(self, keep: Mapping[str, Any]) -> dict[str, Tensor]:
        """``macs``, ``parameters`` and ``activations`` (elements at the peak, a smooth maximum) for ``keep``: by group a tensor (channels,)
        of probabilities, or one share; groups that are not named stay whole."""
        share = {name: reduce.mean(as_tensor(p)) for name, p in keep.items()}
        for name in share:
            if name not in self.sizes:
                raise ShapeError(f"relaxed widths: no group is called {name!r}; there are {', '.join(self.sizes)}")

        def of(terms: Sequence[tuple[float, tuple[str, ...]]]) -> Tensor:
            total = as_tensor(np.float32(0))
            for amount, groups in terms:
                value = as_tensor(np.float32(amount))
                for g in groups:
                    value = value * share[g] if g in share else value
                total = total + value
            return total

        sets = move.stack([of(terms) for terms in self.live]) if self.live else as_tensor(np.zeros(1, np.float32))
        return {"macs": of(self.macs), "parameters": of(self.parameters), "activations": smooth_maximum(sets)}


def relaxed_widths(found: Channels) -> Widths:
    """The relaxed cost of a network's widths, from its channel groups; a group is called by the first parameter that makes it.

    >>> from shohin import nn
    >>> from shohin.transforms.channels import channels
    >>> net = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 4))
    >>> widths = relaxed_widths(channels(net)(np.ones((1, 2), np.float32)))
    >>> {n: float(v) for n, v in widths({"0.weight": np.full(8, 0.5, np.float32)}).items() if n != "activations"}
    {'macs': 24.0, 'parameters': 32.0}
    """
    names = {g.leaf: next((s.path for s in g.slices if not s.reads), g.slices[0].path) for g in found.groups if g.prunable}

    def term(dims: Sequence[Extent]) -> list[tuple[float, tuple[str, ...]]]:
        """The product of extents, a concatenation taken apart into its parts' sums."""
        terms: list[tuple[float, tuple[str, ...]]] = [(1.0, ())]
        for d in dims:
            terms = [(a * b, (*g, *h)) for a, g in terms for b, h in sum_of(d)]
        return terms

    def sum_of(d: Extent) -> list[tuple[float, tuple[str, ...]]]:
        node = d.root()
        if node.form == "concat":
            return [t for p in node.parts for t in sum_of(p)]
        if node.form == "product":
            return term(node.parts)
        return [(float(node.size), (names[node],) if node in names else ())]

    macs = [t for s in found.seen if s.node.op.kind == "contraction" for t in term(tuple(s.axes.values()))]
    parameters = [t for dims in found.dims.values() for t in term(dims)]
    graph = found.traced.graph
    last = {v: k for k, n in enumerate(graph.nodes) for v in n.operands}
    made = {s.node: s for s in found.seen}
    alive: list[tuple[int, int, list[tuple[float, tuple[str, ...]]]]] = []
    for k, node in enumerate(graph.nodes):
        if node in made:
            alive += [(k, last.get(v, len(graph.nodes)), term(dims)) for v, dims in zip(node.results, made[node].results, strict=True)]
    live = [tuple(t for a, b, terms in alive if a <= k <= b for t in terms) for k in range(len(graph.nodes))]
    return Widths(tuple(macs), tuple(parameters), tuple(live), {names[g.leaf]: g.size for g in found.groups if g.leaf in names})


def relaxed_peak(layout: Layout, factors: Mapping[str, Any]) -> Tensor:
    """Bytes of an artefact's arena if the blocks made at a place had that factor of their size (bits over 8, a share of channels): a smooth
    maximum over the steps' live sets; places that are not named keep theirs."""
    sizes = [as_tensor(np.float32(b.size)) * as_tensor(factors[b.place]) if b.place in factors else as_tensor(np.float32(b.size)) for b in layout.blocks]
    live = []
    for k in range(len(layout.steps)):
        mine = [size for b, size in zip(layout.blocks, sizes, strict=True) if b.first <= k <= b.last]
        if mine:
            live.append(reduce.sum(move.stack(mine)))
    return smooth_maximum(move.stack(live)) if live else as_tensor(np.float32(0))


__all__ = ["Costs", "Widths", "relaxed_cost", "relaxed_peak", "relaxed_widths", "smooth_maximum"]
