"""Which channels leave so that a network meets a budget: one order for all groups, and a bisection on the measured whole."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any, Protocol

import numpy as np

from shohin.compress.shrink import shrink_what_can
from shohin.core.errors import BudgetError
from shohin.core.module import Module
from shohin.targets.budget import Budget
from shohin.transforms.channels import Channels, Extent, Group

Array = np.ndarray[Any, Any]
ROUNDS = 4
"""How often a measurement may correct what was predicted."""


class Meter(Protocol):
    """What a network takes on a device: a value for each of ``names`` (flash, ram, instructions, ms; constants, the part of flash that is no code). ``measured``: of instructions,
    ram and ms what was counted or timed where that is possible here, else what a model says; flash is exact either way."""

    def __call__(self, net: Module, xs: tuple[Array, ...], names: Collection[str], *, measured: bool) -> dict[str, float]: ...


@dataclass(frozen=True, eq=False)
class Cuts:
    """The channels of one group that may leave: ``score`` by channel; multiples of ``round_to`` stay."""

    score: Array
    round_to: int

    def sizes(self) -> list[int]:
        """How many channels stay after none, one, two ... cuts.

        >>> Cuts(np.zeros(10), 4).sizes(), Cuts(np.zeros(3), 4).sizes()
        ([10, 8, 4], [3])
        """
        size, least = len(self.score), max(1, self.round_to)
        return [size, *range((size - 1) // least * least, 0, -least)]


def strongest(score: Array, count: int) -> Array:
    """The marks of the ``count`` highest scores, of equal ones the first."""
    mask = np.zeros(len(score), bool)
    mask[np.argsort(-score, kind="stable")[:count]] = True
    return mask


def to_budget(net: Module, found: Channels, kept: Mapping[Group, Array], cuts: Mapping[Group, Cuts], budget: Budget, meter: Meter,
              rest: Callable[[Module], Module], xs: tuple[Array, ...]) -> dict[Group, Array]:  # fmt: skip
    """The channels that stay, by group: of all ways along one order the one with most channels that meets ``budget``.

    The order: a cut's loss over its price. Its loss is n log(S / S'), with n the group's channels and S, S' the importance that the group
    had and has left: for the first cut of a group the importance relative to the mean channel (Molchanov et al. 2019, section 4.2, divide
    by the layer's norm instead), and the more, the less is left, so that no group is emptied because its channels are dear. The price is
    the share of what exceeds the budget that leaves with it: parameters for flash, multiply-adds for instructions and ms, the largest
    activations for ram. Within a group the least important go first. The number of cuts is found by bisection on ``meter`` of ``rest``
    of the smaller network: exact bytes, modelled instructions and ms. These are then measured
    where that can be done, and if the truth is over the budget the model is corrected by the ratio, at most ``ROUNDS`` times.

    Raises:
        BudgetError: every group is down to its least, and the network is still over the budget.
    """
    names = tuple(budget.limits())
    seen: dict[int, dict[str, float]] = {}
    correction = dict.fromkeys(names, 1.0)

    def read(level: int, measured: bool = False) -> dict[str, float]:
        return meter(rest(shrink_what_can(net, found, masks(level))), xs, names, measured=measured)

    def masks(level: int) -> dict[Group, Array]:
        counts = {g: 0 for g in cuts}
        for g in order[:level]:
            counts[g] += 1
        return {**kept, **{g: strongest(cuts[g].score, cuts[g].sizes()[n]) for g, n in counts.items()}}

    def predicted(level: int) -> dict[str, float]:
        if level not in seen:
            seen[level] = read(level)
        return {n: v * correction[n] for n, v in seen[level].items()}

    order: list[Group] = []
    whole = predicted(0)
    order = _order(found, cuts, {n: whole[n] / limit for n, limit in budget.limits().items() if whole[n] > limit} or dict.fromkeys(names, 1.0))
    least, most = 0, len(order)
    truth: dict[str, float] = {}
    for _ in range(ROUNDS):
        if budget.excess(**predicted(most)):
            raise BudgetError(_why_not(found, cuts, budget, predicted(most)))
        low, high = least - 1, most
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if not budget.excess(**predicted(middle)) else (middle, high)
        truth = read(high, measured=True)
        if not budget.excess(**truth):
            return masks(high)
        if high == most:
            break
        correction = {n: truth[n] / seen[high][n] if seen[high][n] else 1.0 for n in names}
        least = high + 1
    raise BudgetError(_why_not(found, cuts, budget, truth))


def _order(found: Channels, cuts: Mapping[Group, Cuts], excess: Mapping[str, float]) -> list[Group]:
    """The group of each cut, the first to be made first."""
    prices = {name: _amounts(found, name) for name in excess}
    keyed: list[tuple[float, int, int, Group]] = []
    for k, (group, mine) in enumerate(cuts.items()):
        score, sizes = np.sort(mine.score), mine.sizes()
        price = sum(weight * prices[name].get(group.leaf, 0.0) for name, weight in excess.items())
        last = 0.0
        for j, (before, after) in enumerate(pairwise(sizes)):
            had, left = (float(score[len(score) - n :].sum()) for n in (before, after))
            last = max(last, len(score) * float(np.log((had + 1e-30) / (left + 1e-30))) / (price or 1e-12))
            keyed.append((last, k, j, group))
    return [group for *_, group in sorted(keyed, key=lambda c: c[:3])]


def _amounts(found: Channels, name: str) -> dict[Extent, float]:
    """The share of the whole that goes with one channel, by group: of parameters, multiply-adds or the largest activations."""
    total, mine = 0.0, dict[Extent, float]()

    def add(amount: float, dims: Collection[Extent]) -> None:
        nonlocal total
        total += amount
        for d in dims:
            for leaf in dict.fromkeys(d.leaves()):
                mine[leaf] = mine.get(leaf, 0.0) + amount * float((d.index(leaf) >= 0).mean()) / leaf.size

    if name == "flash":
        for dims in found.dims.values():
            add(prod(d.size for d in dims), dims)
    elif name == "ram":
        sizes = [[prod(d.size for d in dims) for dims in s.results] for s in found.seen]
        largest = max((n for each in sizes for n in each), default=0)
        for s, each in zip(found.seen, sizes, strict=True):
            for dims, size in zip(s.results, each, strict=True):
                if 2 * size >= largest:  # smaller ones seldom lie at the peak
                    add(size, dims)
    else:
        for s in found.seen:
            if s.node.op.kind == "contraction":
                add(prod(e.size for e in s.axes.values()), s.axes.values())
    return {leaf: amount / (total or 1.0) for leaf, amount in mine.items()}


def _why_not(found: Channels, cuts: Mapping[Group, Cuts], budget: Budget, closest: Mapping[str, float]) -> str:
    left = sum(c.sizes()[-1] for c in cuts.values())
    stay = list(dict.fromkeys(g.fixed for g in found.groups if g.fixed and not any(w in g.fixed for w in ("input", "output"))))
    why = f"; channels that cannot go: {', '.join(stay[:3])}" if stay else ""
    return (
        f"PruneChannels: {budget} cannot be met. What came closest, with {left} channels left in {len(cuts)} groups: "
        f"{', '.join(budget.excess(**closest))}{why}. What is left does not shrink with channels (code, inputs and outputs, one channel a "
        "group); fewer layers, a smaller input, or tables (Palettize) would"
    )


__all__ = ["Cuts", "Meter", "strongest", "to_budget"]
