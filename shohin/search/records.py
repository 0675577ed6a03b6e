"""What a search has found: a record a trial, and the study of them all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shohin.core.errors import BudgetError
from shohin.deploy.artefact import Artefact, load_artefact
from shohin.deploy.budget import Budget

NUMBERS = ("flash", "ram", "instructions")


@dataclass(frozen=True, kw_only=True)
class Record:
    """One finished trial: flash, ram and instructions ``predicted`` before training and ``measured`` after it (``ram``
    is arena and variables, on a board the painted stack too); ``rejected`` says why it does not fit, or is empty; ``plan`` is the
    plan as it prints. ``over`` is the share by which it is over the budget, None where it could not be exported; ``reports`` are (epoch,
    score) on the way; ``note`` is what happened to it beside that."""

    number: int
    picks: Mapping[str, str]
    path: tuple[int, ...]
    options: Mapping[str, int]
    score: float | None
    predicted: Mapping[str, Any]
    measured: Mapping[str, Any]
    rejected: str
    folder: str
    plan: str = ""
    ordered: tuple[str, ...] = ()
    over: float | None = 0.0
    reports: tuple[tuple[int, float], ...] = ()
    note: str = ""

    @property
    def choices(self) -> dict[str, int]:
        """The number of each choice by name, in the order in which they were asked."""
        return dict(zip(self.options, self.path, strict=True))

    @property
    def artefact(self) -> Artefact:
        """The measured artefact."""
        return load_artefact(self.folder)

    def __str__(self) -> str:
        numbers = []
        for name in NUMBERS:
            before, after = self.predicted.get(name), self.measured.get(name)
            if before is not None or after is not None:
                show = lambda v: "?" if v is None else f"{v:,}"
                numbers.append(f"{name} {show(before)}" + ("" if not self.measured else f" -> {show(after)}"))
        picks = ", ".join(f"{k}={v}" for k, v in self.picks.items())
        score = "" if self.score is None else f"  score {self.score:.4f}"
        why = f"  REJECTED: {self.rejected}" if self.rejected else ""
        note = f"  ({self.note})" if self.note else ""
        return f"#{self.number:<3} {picks}{score}  {', '.join(numbers)}{why}{note}"


class Records(tuple[Record, ...]):
    """Records that print as a table."""

    def __str__(self) -> str:
        return "\n".join(map(str, self)) or "(none)"

    __repr__ = __str__


@dataclass(frozen=True)
class Study:
    """All finished trials of a search."""

    records: Records
    budget: Budget

    @property
    def rejected(self) -> Records:
        return Records(r for r in self.records if r.rejected)

    @property
    def front(self) -> Records:
        """Measured trials that fit and that no other one beats in score, flash, RAM and instructions together."""
        key = lambda r: (-r.score, *(r.measured.get(n) or 0 for n in NUMBERS))
        fit = [r for r in self.records if not r.rejected]
        beats = lambda a, b: key(a) != key(b) and all(x <= y for x, y in zip(key(a), key(b), strict=True))
        return Records(sorted((r for r in fit if not any(beats(o, r) for o in fit)), key=key))

    @property
    def best(self) -> Record:
        """The highest score among those that fit and were measured, the smaller flash of equal ones."""
        fit = [r for r in self.records if not r.rejected]
        if fit:
            return min(fit, key=lambda r: (-(r.score or 0.0), r.measured["flash"], r.number))
        near = [r for r in self.records if r.predicted]
        if not near:
            why = f"; the first failed: {self.records[0].rejected}" if self.records else ""
            raise BudgetError(f"none of {len(self.records)} trials could be exported{why}")
        closest = min(near, key=lambda r: over(self.budget, {**r.predicted, **r.measured}))
        raise BudgetError(f"none of {len(self.records)} trials fits {self.budget}; the closest: {closest}")

    def __str__(self) -> str:
        return f"front\n{self.front}\nrejected\n{self.rejected}"

    __repr__ = __str__


def over(budget: Budget, found: Mapping[str, Any]) -> float:
    """By which share the worst of the numbers is over its limit, 0 if all are within.

    >>> over(Budget(flash=1000, ram=500), {"flash": 1500, "ram": 400})
    0.5
    """
    limits = budget.limits()
    return max([0.0] + [found[n] / limits[n] - 1 for n in NUMBERS if limits.get(n) and found.get(n)])


__all__ = ["NUMBERS", "Record", "Records", "Study", "over"]
