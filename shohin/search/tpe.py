"""TPE: the tree-structured Parzen estimator of optuna, told of all trials anew at each question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from shohin.core.errors import StateError
from shohin.core.provided import provided
from shohin.search.strategies import Strategy, Tried


@dataclass(frozen=True, kw_only=True)
class TPE(Strategy):
    """Draws where good trials are dense and others are not: argmax of l(x) / g(x), a density of the best share and one of the rest.

    ``startup`` trials are drawn first. A trial over the budget counts as worse than all that fit, by the share that it is over, so that the
    estimator learns the budget's edge too. Ordered choices (widths, repeats, kernels, growing numbers) are integers to it, others categories;
    a choice behind another one is judged by the trials that asked for it. Needs optuna (``pip install 'shohin[search]'``).
    Source: Bergstra et al. 2011, section 4; Watanabe 2023 (arXiv:2304.11127).
    """

    startup: int = 10

    def __post_init__(self) -> None:
        if self.startup < 1:
            raise StateError(f"{self}: startup is a number of trials from 1 on")

    def propose(self, tried: Sequence[Tried], rng: np.random.Generator) -> Mapping[str, int]:
        seen: list[tuple[Mapping[str, int], float | None]] = [(r.choices, value) for r, value in zip(tried, values(tried), strict=True)]
        names = {name: (count, name in r.ordered) for r in tried for name, count in r.options.items()}
        if sum(value is not None for _, value in seen) < self.startup:
            return {}
        return provided("tpe")(names, seen, int(rng.integers(1 << 31)))


def values(tried: Sequence[Tried]) -> list[float | None]:
    """What a trial is worth to an estimator: its score; below every score, the further the more it is over; None while it is under way.

    >>> from types import SimpleNamespace as N
    >>> made = lambda score, over, why: N(score=score, over=over, rejected=why)
    >>> found = values([made(0.9, 0, ""), made(0.7, 0, "stopped"), made(None, 0.5, "flash"), made(None, None, "ShapeError"), made(None, 0, "")])
    >>> [v if v is None else round(v, 6) for v in found]
    [0.9, 0.7, 0.4, -1.3, None]
    """
    scores = [r.score for r in tried if r.score is not None and not r.over and np.isfinite(r.score)]
    low, span = (min(scores), max(max(scores) - min(scores), 1e-3)) if scores else (0.0, 1.0)

    def one(r: Tried) -> float | None:
        if r.score is not None and not r.over and np.isfinite(r.score):
            return r.score
        return low - span * (1 + min(r.over or WORST, WORST)) if r.rejected else None

    return [one(r) for r in tried]


WORST = 9.0
"""As if it were so many times over: what failed, or could not be exported at all."""

__all__ = ["TPE", "values"]
