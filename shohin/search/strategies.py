"""Strategies: which choices a trial should make, from what was observed so far, and which training is given up.

A strategy keeps nothing: all that it observes is in the log, so a search that starts again asks it the same questions. What it proposes
is a wish: no way comes twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from shohin.core.errors import StateError
from shohin.core.module import Module
from shohin.deploy.budget import Budget
from shohin.search.space import Trial
from shohin.train import Task

Build = Callable[[Trial], Any]
Inherit = Callable[[Module, Trial], None]
"""Puts weights that were trained before into a network of that way. Goes to other processes, so it is plain data."""


class Tried(Protocol):
    """What a strategy reads of a trial: numbers of choices by name (in the order asked), how many options each has, which of them are
    ordered; the score or None, reports (epoch, score) on the way, why rejected, and by which share it is over the budget (None where it
    could not be exported). A trial that is under way has no score and is not rejected."""

    @property
    def choices(self) -> Mapping[str, int]: ...
    @property
    def options(self) -> Mapping[str, int]: ...
    @property
    def ordered(self) -> Sequence[str]: ...
    @property
    def score(self) -> float | None: ...
    @property
    def reports(self) -> Sequence[tuple[int, float]]: ...
    @property
    def rejected(self) -> str: ...
    @property
    def over(self) -> float | None: ...


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a strategy that trains a network of its own is given: the space, what to train on, and where to keep it."""

    build: Build
    task: Task | None
    calibration: Any
    device: str
    budget: Budget
    folder: Path
    seed: int

    def taught(self, by: str) -> Task:
        """The task, or an error that says what ``by`` needs it for."""
        if self.task is None:
            raise StateError(f"{by} trains a network of its own: pass search(..., task=sh.Task(model, train, test, loss, metric))")
        return self.task


@dataclass(frozen=True)
class Strategy:
    """Base of all strategies; this one draws. Override what yours does otherwise."""

    def propose(self, tried: Sequence[Tried], rng: np.random.Generator) -> Mapping[str, int]:
        """The number of a choice by name; what is left out, or has no way left, is drawn."""
        return {}

    def goes_on(self, tried: Sequence[Tried], epoch: int, value: float) -> bool:
        """Whether a trial that reports ``value`` at ``epoch`` should train on; ``tried`` has its earlier reports and those of others."""
        return True

    def prepared(self, setting: Setting) -> tuple[Strategy, Inherit | None]:
        """Called once before the first trial: training of its own. Gives the strategy that proposes, and the weights that trials start with."""
        return self, None


@dataclass(frozen=True)
class Random(Strategy):
    """Every choice is drawn."""


@dataclass(frozen=True, kw_only=True)
class Evolution(Strategy):
    """Regularized evolution: the best of ``sample`` among the youngest ``population`` that fit, with one choice drawn anew.

    The first ``population`` that fit are drawn. Source: Real et al. 2019 (arXiv:1802.01548), algorithm 1, without crossover;
    a mutation that has been tried is drawn further.
    """

    population: int = 16
    sample: int = 4

    def __post_init__(self) -> None:
        if not 1 <= self.sample <= self.population:
            raise StateError(f"{self}: sample is a number from 1 to population")

    def propose(self, tried: Sequence[Tried], rng: np.random.Generator) -> Mapping[str, int]:
        fit = [r for r in tried if r.score is not None and not r.rejected]
        if len(fit) < self.population:
            return {}
        young = fit[-self.population :]
        group = [young[int(k)] for k in rng.choice(len(young), self.sample, replace=False)]
        parent = max(group, key=lambda r: r.score if r.score is not None else -np.inf)
        names = list(parent.choices)
        anew = names[int(rng.integers(len(names)))] if names else None
        return {name: k for name, k in parent.choices.items() if name != anew}


@dataclass(frozen=True, kw_only=True)
class ASHA(Strategy):
    """Asynchronous successive halving: at the epochs first, first eta, first eta^2 ... only the best 1 / eta of those that came there go on.

    Needs a score that reports: a generator that yields after each epoch, or ``score(net, t)`` with ``t.report``. The first eta that reach
    a rung pass it. Source: Li et al. 2018 (arXiv:1810.05934), section 3, in the form that stops instead of pausing and promoting, so that no
    trial waits and none must be resumed: a trial that came early may pass where a later equal would not. ``sampler`` proposes.
    """

    first: int = 1
    eta: int = 3
    sampler: Strategy = field(default_factory=Random)

    def __post_init__(self) -> None:
        if self.first < 1 or self.eta < 2:
            raise StateError(f"{self}: first is an epoch from 1 on, eta at least 2")

    def propose(self, tried: Sequence[Tried], rng: np.random.Generator) -> Mapping[str, int]:
        return self.sampler.propose(tried, rng)

    def prepared(self, setting: Setting) -> tuple[Strategy, Inherit | None]:
        sampler, inherit = self.sampler.prepared(setting)
        return ASHA(first=self.first, eta=self.eta, sampler=sampler), inherit

    def goes_on(self, tried: Sequence[Tried], epoch: int, value: float) -> bool:
        rung = self.first
        while rung < epoch:
            rung *= self.eta
        if rung != epoch:
            return True
        there = [v for r in tried for e, v in r.reports if e == epoch] + [value]
        better = sum(v > value for v in there)
        return better < max(1, len(there) // self.eta) or len(there) <= self.eta


__all__ = ["ASHA", "Build", "Evolution", "Inherit", "Random", "Setting", "Strategy", "Tried"]
