"""Ways that a strategy builds for itself: the largest, the smallest, and those that differ from the largest in one choice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from shohin.compress.plan import Plan
from shohin.core.cells import Param
from shohin.core.errors import StateError
from shohin.core.module import Module
from shohin.ops import random
from shohin.search.attempt import built
from shohin.search.space import Space, Trial
from shohin.search.strategies import Build

DEPTH = 64
"""So many choices may open behind others."""


@dataclass(frozen=True)
class Way:
    """A network that ``build`` gives, with its plan and the trial that it asked."""

    net: Module
    plan: Plan
    trial: Trial

    @property
    def size(self) -> int:
        """Elements of its parameters."""
        return sum(cell.read().size for cell in self.net.cells(Param).values())


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """The default generator begins at ``seed`` and afterwards stands where it stood: a training that builds ways between its epochs draws
    the same numbers whether it was ended there or not."""
    held = [(cell, cell.read()) for cell in (random.default.key, random.default.counter)]
    random.seed(seed)
    try:
        yield
    finally:
        for cell, value in held:
            cell.write(value)


def way(build: Build, seed: int, wanted: Mapping[str, int], *, last: bool = True, kind: type[Trial] = Trial) -> Way:
    """The way that makes the choices ``wanted``, elsewhere the last option of ordered choices (or the first) and the first of others."""
    made = dict(wanted)
    for _ in range(DEPTH):
        trial = kind(Space(seed), 0, made)
        with seeded(seed):
            net, plan = built(build, trial)
        open_ = [n for n in trial.options if n not in made]
        if not open_:
            return Way(net, plan, trial)
        made |= {n: len(trial.options[n]) - 1 if last and n in trial.ordered else 0 for n in open_}
    raise StateError(f"build asks for more than {DEPTH} choices, each behind another; are their names made by chance?")


def spread(build: Build, seed: int) -> list[Way]:
    """The largest first, then one for each option of each choice with the largest elsewhere, and the smallest last."""
    top = way(build, seed, {})
    names = [n for n in top.trial.options if n not in top.trial.ordered]
    variants = [way(build, seed, {**_others(top, n), n: k}) for n in names for k in range(1, len(top.trial.options[n]))]
    largest = max([top, *variants], key=lambda w: w.size)
    return [largest, *(w for w in (top, *variants) if w is not largest), way(build, seed, {}, last=False)]


def _others(top: Way, name: str) -> dict[str, int]:
    """The choices that were made before ``name``: what follows may be others behind another option."""
    made = list(top.trial.options)
    return {n: top.trial.choices[n] for n in made[: made.index(name)]}


def drawn(build: Build, seed: int, rng: np.random.Generator) -> Way:
    """A way by chance."""
    trial = Trial(Space(int(rng.integers(1 << 31))), 0)
    with seeded(seed):
        net, plan = built(build, trial)
    return Way(net, plan, trial)


__all__ = ["Way", "drawn", "seeded", "spread", "way"]
