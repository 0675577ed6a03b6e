"""Straight stretches of a program's steps, between jumps and the places that they go to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

from shohin.compiler.plan import touched
from shohin.core.nest import Jump, Step


def within(steps: Sequence[Step], change: Callable[[list[Step]], list[Step]]) -> list[Step]:
    """``change`` on every straight stretch; the jumps still go where they went."""
    walls = {0, len(steps)}
    for i, step in enumerate(steps):
        if isinstance(step, Jump):
            walls |= {i, i + 1, step.to}
    found: list[Step] = []
    moved: dict[int, int] = {}
    edges = sorted(walls)
    for lo, hi in pairwise(edges):
        moved[lo] = len(found)
        found += change(list(steps[lo:hi]))
    moved[len(steps)] = len(found)
    return [replace(s, to=moved[s.to]) if isinstance(s, Jump) else s for s in found]


def meet(a: Step, b: Step) -> bool:
    """Must one of the two stand before the other?"""
    (ra, wa), (rb, wb) = touched(a), touched(b)
    return bool(wa & (rb | wb) or wb & ra)


def passes(step: Step, between: Sequence[Step]) -> bool:
    """May ``step`` move across all of these?"""
    return not any(meet(step, other) for other in between)


__all__ = ["meet", "passes", "within"]
