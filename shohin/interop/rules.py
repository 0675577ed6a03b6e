"""What the tables of all origins share: how a rule is entered, and how it refuses."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from shohin.core.errors import ForeignError

Rule = Callable[..., Any]


def enter(table: dict[str, Rule], becomes: dict[str, str], names: Iterable[str], rule: Rule, told: str, doc: str | None) -> None:
    """Put a rule into ``table`` for operators ``names``; ``told``, or the first line of ``doc``, says what they become."""
    for name in names:
        if name in table:
            raise ForeignError(f"the operator {name} has two rules")
        table[name] = rule
        becomes[name] = told or (doc or "").strip().splitlines()[0].rstrip(".")


def refuse(condition: bool, why: str) -> None:
    """An error, if ``condition``; the builder adds the place."""
    if condition:
        raise ForeignError(why)


__all__ = ["Rule", "enter", "refuse"]
