"""A cost model: for each kind of step a sum of its counts with factors that are not negative, fitted to what was observed.

Least squares of the relative error, so that small steps count as much as large ones; kinds that were seen seldom, or never, use
their family's factors.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from shohin.costs.work import Work

Array = np.ndarray[Any, Any]
SEEN = 6
"""Observations from which on a kind has factors of its own."""


@dataclass(frozen=True)
class Observed:
    """A step's work, and what it took (instructions, or seconds)."""

    work: Work
    took: float


@dataclass(frozen=True)
class Model:
    """Factors of the counts by kind and family."""

    factors: Mapping[str, tuple[float, ...]] = field(default_factory=dict[str, tuple[float, ...]])

    def __call__(self, work: Work) -> float:
        """What a step takes.

        >>> model = Model({"f": (10.0, 2.0)})
        >>> model(Work("k", "f", (), (1.0, 7.0)))
        24.0
        """
        factors = self.factors.get(work.kind) or self.factors.get(work.family)
        if factors is None or len(factors) != len(work.counts):
            factors = self.factors.get("any", (0.0, 0.0, 0.0))
        return float(sum(f * c for f, c in zip(factors, work.counts, strict=False)))


def fit(observed: Iterable[Observed], floor: float) -> Model:
    """The model of these observations; ``floor``: what a step takes at least as far as its weight goes (the clock's resolution).

    >>> seen = [Observed(Work("k", "f", (n,), (1.0, float(n))), 5.0 + 3 * n) for n in range(1, 40)]
    >>> round(fit(seen, 1.0)(Work("k", "f", (100,), (1.0, 100.0))), 3)
    305.0
    """
    by: dict[str, list[Observed]] = {}
    every: list[Observed] = []
    for o in observed:
        by.setdefault(o.work.family, []).append(o)
        by.setdefault(o.work.kind, []).append(o)
        every.append(Observed(Work("any", "any", (), o.work.counts[:3]), o.took))
    families = {o.work.family for group in by.values() for o in group}
    factors = {name: _factors(group, floor) for name, group in by.items() if name in families or len(group) >= SEEN}
    if every:
        factors["any"] = _factors(every, floor)
    return Model(factors)


def _factors(group: list[Observed], floor: float) -> tuple[float, ...]:
    a = np.array([o.work.counts for o in group], np.float64)
    b = np.array([o.took for o in group], np.float64)
    weight = 1 / np.maximum(b, floor)
    scale = np.maximum(np.abs(a * weight[:, None]).max(0), 1e-300)
    found = non_negative(a * weight[:, None] / scale, b * weight) / scale
    return tuple(float(f) for f in np.where(np.abs(a).max(0) > 0, found, 0))


def non_negative(a: Array, b: Array) -> Array:
    """The x >= 0 that minimizes |a x - b|: the active set method.

    Source: Lawson and Hanson 1974, Solving Least Squares Problems, chapter 23.

    >>> non_negative(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([2.0, -1.0])).round(6).tolist()
    [2.0, 0.0]
    """
    n = a.shape[1]
    x, free = np.zeros(n), np.zeros(n, bool)
    gram, target = a.T @ a + 1e-10 * np.eye(n), a.T @ b
    for _ in range(6 * n):
        slope = target - gram @ x
        slope[free] = -np.inf
        k = int(slope.argmax())
        if slope[k] <= 1e-9 * max(1.0, float(np.abs(target).max())):
            break
        free[k] = True
        while True:
            trial = np.zeros(n)
            at = np.flatnonzero(free)
            trial[at] = np.linalg.solve(gram[np.ix_(at, at)], target[at])
            below = free & (trial <= 0)
            if not below.any():
                break
            step = (x[below] / np.maximum(x[below] - trial[below], 1e-300)).min()
            x = x + step * (trial - x)
            free &= x > 1e-14
            x[~free] = 0
        x = trial
    return x


__all__ = ["Model", "Observed", "fit", "non_negative"]
