"""The package's methods with the options that their files give as ``demo``: what a matrix, a demo or a benchmark goes through."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from shohin.compress.plan import Plan
from shohin.compress.quantize import Quantize
from shohin.compress.slots import METHODS, SLOTS, Method
from shohin.core.errors import PlanError


def demos() -> dict[str, Method]:
    """Methods by a name for people, slot by slot: ``Prune`` for the first options, ``Prune 2`` for the second.

    One that cannot be made from its ``demo`` (by default no options at all) is left out; ``without_demo`` names it.

    >>> "Quantize" in demos()
    True
    """
    return {name: m for name, m in _made() if isinstance(m, Method)}


def without_demo() -> dict[str, str]:
    """Methods of the package whose ``demo`` makes none, with the reason."""
    return {name: m for name, m in _made() if isinstance(m, str)}


def _made() -> Iterator[tuple[str, Method | str]]:
    for kind in sorted(METHODS.values(), key=lambda k: (SLOTS.index(k.slot), k.__name__)):
        if not kind.__module__.startswith("shohin."):
            continue
        for k, options in enumerate(kind.demo, 1):
            name = kind.__name__ if k == 1 else f"{kind.__name__} {k}"
            try:
                yield name, kind(**options)
            except (PlanError, TypeError) as error:
                yield name, str(error)


def combined(count: int) -> dict[str, tuple[Method, ...]]:
    """All ways to take ``count`` of the demos that fill different slots, by their names; of three or more, the first of each method.

    >>> names = list(combined(2))
    >>> "PruneChannels, Quantize" in names, "Quantize, PruneChannels" in names
    (True, False)
    """
    taken = {n: m for n, m in demos().items() if count < 3 or n == type(m).__name__}
    found = combinations(taken.items(), count)
    return {", ".join(n for n, _ in c): tuple(m for _, m in c) for c in found if len({m.slot for _, m in c}) == count}


def plans() -> dict[str, Plan]:
    """One plan a demo, each with 8-bit integers unless it fills that slot: what is compared with each other on a device."""
    return {n: Plan([("*", m), *([] if m.slot == "integers" else [("*", Quantize())])]) for n, m in demos().items()}


__all__ = ["combined", "demos", "plans", "without_demo"]
