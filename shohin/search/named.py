"""Strategies by the names that commands and files take."""

from __future__ import annotations

from collections.abc import Callable

from shohin.core.errors import StateError
from shohin.search.gumbel import Gumbel
from shohin.search.oneshot import OneShot
from shohin.search.strategies import ASHA, Evolution, Random, Strategy
from shohin.search.tpe import TPE

STRATEGIES: dict[str, Callable[[], Strategy]] = {"random": Random, "evolution": Evolution, "tpe": TPE, "asha": ASHA, "oneshot": OneShot, "gumbel": Gumbel}
"""With their defaults."""


def named(name: str) -> Strategy:
    """The strategy of that name.

    >>> named("evolution")
    Evolution(population=16, sample=4)
    """
    if name not in STRATEGIES:
        raise StateError(f"the strategy {name!r} is unknown, expected one of {', '.join(STRATEGIES)}")
    return STRATEGIES[name]()


__all__ = ["STRATEGIES", "named"]
