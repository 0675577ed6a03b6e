"""Plans: which method at which place. ``Plan`` is the only entry to compression.

>>> Plan([("*", Quantize(w=8, a=8)), ("head", None)])
Plan('*': Quantize(w=8, a=8), 'head': None)
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

from shohin.compress import explain
from shohin.compress.method import SLOTS, Method
from shohin.compress.quantize import Quantize
from shohin.core.errors import PlanError
from shohin.core.module import Module, copy

Pattern = str | type[Module]
Chosen = dict[str, dict[str, Method]]


class Plan:
    """Rules (pattern, method) from top to bottom; the last one that matches a place wins, slot by slot.

    A pattern is a glob on the module's path (``*`` crosses dots), ``"re:..."`` (a full match), or a layer type; it
    takes what lies beneath it too. ``None`` clears the place: it stays float32. A pattern without match is a
    ``PlanError``.
    """

    def __init__(self, rules: Sequence[tuple[Pattern, Method | None]]) -> None:
        self.rules = tuple(rules)
        for entry in self.rules:
            if not isinstance(entry, tuple) or len(entry) != 2:
                raise PlanError(f"a rule is (pattern, method), got {entry!r}")
            pattern, method = entry
            if not isinstance(pattern, str) and not (isinstance(pattern, type) and issubclass(pattern, Module)):
                raise PlanError(f"the pattern {pattern!r} is neither a string nor a layer type")
            if method is not None and not isinstance(method, Method):
                raise PlanError(f"{_spell(pattern)}: {method!r} is no method; write Quantize(w=8, a=8) or None")
            if isinstance(pattern, str) and pattern.startswith("re:"):
                _compiled(pattern)

    def __repr__(self) -> str:
        return f"Plan({', '.join(f'{_spell(p)}: {m}' for p, m in self.rules)})"

    def resolve(self, net: Module) -> Chosen:
        """Methods by slot, for each module path (the network itself is ``""``)."""
        modules = net.modules()
        chosen: Chosen = {path: {} for path in modules}
        for pattern, method in self.rules:
            hit = [path for path in modules if _matches(pattern, path, modules)]
            if not hit:
                raise PlanError(f"the pattern {_spell(pattern)} matches no place; {_near(pattern, modules)}")
            for path in hit:
                if method is None:
                    chosen[path].clear()
                else:
                    chosen[path][method.slot] = method
        return chosen

    def apply(self, net: Module, calibration: Any = None) -> Any:
        """A new module with the plan carried out; ``net`` stays as it is.

        Args:
            calibration: a data set, an array of examples, or a tuple of arrays (one an input), for what needs data.
        """
        chosen = self.resolve(net)
        if calibration is None and any("integers" in slots for slots in chosen.values()):
            raise PlanError("Quantize needs calibration= (some hundred examples: a data set or an array) for its grids")
        small = copy(net)
        for slot in SLOTS:
            kinds = list(dict.fromkeys(type(s[slot]) for s in chosen.values() if slot in s))
            for kind in kinds:
                mine = {path: s[slot] for path, s in chosen.items() if slot in s and type(s[slot]) is kind}
                small = kind.apply(small, mine, calibration)
        return small

    def explain(self, net: Module, example: Any) -> str:
        """Place, scheme and reason for every region, as text; nothing is changed. ``example`` is a batch of inputs."""
        return explain.explain(net, example, self.resolve(net))


def _matches(pattern: Pattern, path: str, modules: dict[str, Module]) -> bool:
    """Does the pattern take this path or something above it?"""
    parts = path.split(".") if path else []
    above = ["", *(".".join(parts[: i + 1]) for i in range(len(parts)))] if path else [""]
    for p in above:
        if isinstance(pattern, type):
            if p in modules and isinstance(modules[p], pattern):
                return True
        elif pattern.startswith("re:"):
            if _compiled(pattern).fullmatch(p):
                return True
        elif fnmatchcase(p, pattern):
            return True
    return False


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern[3:])
    except re.error as error:
        raise PlanError(f"the pattern {pattern!r} is no regular expression: {error}") from error


def _near(pattern: Pattern, modules: dict[str, Module]) -> str:
    if isinstance(pattern, str):
        names = [p for p in modules if p]
        wanted = pattern.removeprefix("re:")
    else:
        names = sorted({type(m).__name__ for m in modules.values()})
        wanted = pattern.__name__
    near = difflib.get_close_matches(wanted, names, 3, 0.3) or names[:5]
    return f"near: {', '.join(near)}" if near else "the network has no layers"


def _spell(pattern: Pattern) -> str:
    return repr(pattern) if isinstance(pattern, str) else pattern.__name__


__all__ = ["Plan", "Quantize"]
