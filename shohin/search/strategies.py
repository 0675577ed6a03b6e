"""Strategies: which choices a trial should make, from those finished so far. Whatever it proposes, no way comes twice."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from shohin.core.errors import StateError


class Tried(Protocol):
    """What a strategy reads of a finished trial: numbers of choices by name (in the order asked), score or None, why rejected."""

    @property
    def choices(self) -> Mapping[str, int]: ...
    @property
    def score(self) -> float | None: ...
    @property
    def rejected(self) -> str: ...


class Strategy(Protocol):
    """``propose(tried, rng)`` gives the number of a choice by name; what it leaves out, or what is done already, is drawn."""

    def propose(self, tried: Sequence[Tried], rng: np.random.Generator) -> Mapping[str, int]: ...


@dataclass(frozen=True)
class Random:
    """Every choice is drawn."""

    def propose(self, tried: Sequence[Tried], rng: np.random.Generator) -> Mapping[str, int]:
        return {}


@dataclass(frozen=True, kw_only=True)
class Evolution:
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


STRATEGIES: dict[str, Callable[[], Strategy]] = {"random": Random, "evolution": Evolution}
"""By the names that commands take, with their defaults."""


def named(name: str) -> Strategy:
    """The strategy of that name.

    >>> named("evolution")
    Evolution(population=16, sample=4)
    """
    if name not in STRATEGIES:
        raise StateError(f"the strategy {name!r} is unknown, expected one of {', '.join(STRATEGIES)}")
    return STRATEGIES[name]()


__all__ = ["STRATEGIES", "Evolution", "Random", "Strategy", "Tried", "named"]
