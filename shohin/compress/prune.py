"""``PruneChannels``: the slot ``channels``. Whole channels leave a network, which is a smaller plain module afterwards.

Which dims belong together is derived (``transforms.channels``), how much a channel matters is ``importance.py``'s, what a budget
leaves ``to_budget.py``'s, and the smaller module ``shrink.py``'s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from shohin.compress.calibration import batches
from shohin.compress.importance import IMPORTANCE, Elements, of_group
from shohin.compress.shrink import shrink, shrink_what_can
from shohin.compress.slots import Demo, Method
from shohin.compress.to_budget import Cuts, strongest, to_budget
from shohin.core.cells import Param
from shohin.core.errors import PlanError
from shohin.core.module import Module
from shohin.core.provided import provided
from shohin.targets.budget import Budget
from shohin.transforms.channels import Group, channels

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class PruneChannels(Method):
    """Channels leave every group whose makers are all chosen: ``ratio`` of each group, or as few as bring the network into ``budget``.

    ``importance`` orders them: ``l1``, ``l2`` (of the weights), ``bn`` (batch-norm scales), ``taylor`` (gradients on the calibration data).
    Channels that a residual, a concatenation or a depthwise layer ties together go together or not at all. ``round_to`` keeps multiples
    of that many (groups of fewer keep all), which suits kernels that take 4, 8 or 16 channels at a time.

    A budget needs ``device``; it is held by the network as the plan's other slots leave it (its integers, its tables), and channels are
    compared across groups: see ``to_budget``.

    >>> PruneChannels(budget=Budget(flash="64 kB"), importance="taylor", device="cortex-m55").scheme
    'channels to flash 64,000 bytes on cortex-m55 by taylor'
    """

    ratio: float | None = None
    importance: str = "l1"
    budget: Budget | None = None
    device: str | None = None
    round_to: int = 1
    slot: ClassVar[str] = "channels"
    demo: ClassVar[Demo] = ({"ratio": 0.25}, {"ratio": 0.5, "importance": "taylor"})
    needs_calibration: ClassVar[bool] = True
    foresees: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.budget is None and self.ratio is None:
            object.__setattr__(self, "ratio", 0.5)
        if self.ratio is not None and not 0 <= self.ratio < 1:
            raise PlanError(f"PruneChannels: ratio is {self.ratio}, expected a fraction in [0, 1)")
        if self.importance not in IMPORTANCE:
            raise PlanError(f"PruneChannels: importance {self.importance!r} is none of {', '.join(IMPORTANCE)}")
        if self.round_to < 1:
            raise PlanError(f"PruneChannels: round_to is {self.round_to}, expected at least 1")
        if self.budget is not None:
            if self.ratio is not None:
                raise PlanError(f"PruneChannels: ratio={self.ratio} and a budget; give one of them")
            if not self.budget.limits():
                raise PlanError("PruneChannels: the budget has no limit; write Budget(flash='64 kB'), or ram=, instructions=, ms=")
            if self.device is None:
                raise PlanError("PruneChannels: a budget needs device=, the device whose bytes or instructions are meant, as 'cortex-m55'")

    @property
    def scheme(self) -> str:
        if self.budget is None:
            return f"{self.ratio:.0%} of the channels by {self.importance}"
        return f"channels to {self.budget} on {self.device} by {self.importance}"

    @classmethod
    def apply(cls, net: Module, chosen: Mapping[str, Method], calibration: Any, rest: Callable[[Module], Module] = lambda net: net) -> Module:
        if calibration is None:
            raise PlanError("PruneChannels needs calibration= (its first examples give the inputs' shapes)")
        xs = tuple(x[:1] for x in next(batches(calibration)))
        found = channels(net)(*xs)
        values = {path: p.read().numpy() for path, p in net.cells(Param).items()}
        elements: dict[str, Elements] = {}
        kept: dict[Group, Array] = {}
        open_: dict[Group, Cuts] = {}
        budgets: dict[tuple[Budget, str], None] = {}
        acted: set[int] = set()
        why: dict[int, list[str]] = {}
        for group in found.groups:
            paths = makers(group, values)
            methods = [m for m in map(chosen.get, paths) if isinstance(m, PruneChannels)]
            reason = _stays(group, [p for p in paths if p not in chosen]) if methods else ""
            if methods and not reason:
                mine = min(methods, key=lambda m: (m.budget is not None, m.ratio or 0))
                if mine.importance not in elements:
                    elements[mine.importance] = IMPORTANCE[mine.importance](net, calibration)
                score = of_group(group, elements[mine.importance])
                if score is None:
                    reason = f"no parameter that goes with the channels has an importance by {mine.importance!r}"
                elif mine.budget is not None and mine.device is not None:
                    open_[group] = Cuts(score, mine.round_to)
                    budgets[mine.budget, mine.device] = None
                else:
                    kept[group] = _largest(score, mine.ratio or 0.0, mine.round_to)
                    reason = "" if not kept[group].all() else f"{mine.ratio:.0%} of {group.size} channels is none"
            for method in methods:
                if reason:
                    why.setdefault(id(method), []).append(f"{', '.join(paths)}: {reason}")
                else:
                    acted.add(id(method))
        for method in {id(m): m for m in chosen.values()}.values():
            if isinstance(method, PruneChannels) and method.ratio != 0 and id(method) not in acted:
                places = [path for path, m in chosen.items() if m is method]
                reasons = list(dict.fromkeys(why.get(id(method), ["no channels of weights are there"])))
                raise PlanError(
                    f"{method} at {', '.join(map(repr, places[:3]))} changed nothing: {'; '.join(reasons[:3])}. Channels leave "
                    "before weights are palettized, so write both rules in one plan; else leave the rule out, or name layers "
                    "whose channels are not tied to inputs or outputs (print(sh.channels(net)(x)) lists the groups)"
                )
        if len(budgets) > 1:
            raise PlanError(f"PruneChannels: {len(budgets)} budgets ({', '.join(f'{b} on {d}' for b, d in budgets)}) for one network; give one")
        for budget, device in budgets:
            kept = to_budget(net, found, kept, open_, budget, provided("meter")(device), rest, xs)
        return shrink_what_can(net, found, kept)


def makers(group: Group, values: Mapping[str, Array]) -> list[str]:
    """The modules whose parameters make the group's channels: all that hold one and do not only read it."""
    paths = [s.path.rpartition(".")[0] for s in group.slices if not s.reads and s.path in values]
    return list(dict.fromkeys(paths))


def _stays(group: Group, others: Sequence[str]) -> str:
    """Why the channels of a group cannot go, or nothing."""
    if not group.prunable:
        return group.fixed or "it has one channel"
    names = ", ".join(map(repr, others))
    return f"the channels are also made by {names}, which no PruneChannels rule takes" if others else ""


def _largest(score: Array, ratio: float, round_to: int) -> Array:
    """The marks of the channels that stay: at least one, a multiple of ``round_to`` (or all), and of equal ones the first."""
    size = len(score)
    keep = max(1, size - int(size * ratio))
    return strongest(score, min(size, -(-keep // round_to) * round_to))


def prune_channels(net: Module, x: Any, ratio: float, importance: str = "l1") -> Any:
    """A smaller copy of ``net`` without ``ratio`` of the channels of every prunable group; ``x`` is an example input.

    >>> from shohin import nn
    >>> net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 2, 1))
    >>> small = prune_channels(net, np.ones((1, 5, 5, 1), np.float32), 0.5)
    >>> small[0], small[2].weight.shape
    (Conv2d(1, 4, kernel_size=(3, 3), weight: f32[4,3,3,1], bias: f32[4]), (2, 1, 1, 4))
    """
    return PruneChannels.apply(net, dict.fromkeys(net.modules(), PruneChannels(ratio, importance)), x)


__all__ = ["PruneChannels", "makers", "prune_channels", "shrink"]
