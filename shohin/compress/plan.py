"""Plans: which method at which place. ``Plan`` is the only entry to compression.

>>> Plan([("*", Quantize(w=8, a=8)), ("head", None)])
Plan('*': Quantize(w=8, a=8, ...), 'head': None)
"""

from __future__ import annotations

import difflib
import re
import zlib
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from shohin.compress import explain, plan_text, report, weight_table
from shohin.compress.calibration import few
from shohin.compress.plan_text import spell as _spell
from shohin.compress.quantize import Quantize
from shohin.compress.quantized import Quantized
from shohin.compress.slots import SLOTS, Method
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

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plan) and self.rules == other.rules

    def __hash__(self) -> int:
        return hash(self.rules)

    def to_toml(self) -> str:
        """The plan as text, for a file (docs/plans.md).

        >>> print(Plan([("*", Quantize(w=4)), ("head", None)]).to_toml(), end="")
        [[rule]]
        place = "*"
        method = "Quantize"
        w = 4
        ...
        [[rule]]
        place = "head"
        method = "none"
        """
        return plan_text.write(self.rules)

    @classmethod
    def from_toml(cls, source: str | Path) -> Plan:
        """The plan of a file (a ``Path``, or a text without a line break that names one) or of a text."""
        return cls(plan_text.read(source))

    def resolve(self, net: Module) -> Chosen:
        """Methods by slot, for each module path (the network itself is ``""``)."""
        found: Chosen = {}
        for path, winners in self.winners(net).items():
            methods = {slot: self.rules[k][1] for slot, k in winners.items()}
            found[path] = {slot: m for slot, m in methods.items() if m is not None}
        return found

    def winners(self, net: Module) -> dict[str, dict[str, int]]:
        """Numbers of the rules that hold, by slot, for each module path; a cleared place has the number of the clearing rule
        in every slot that was filled."""
        modules = net.modules()
        won: dict[str, dict[str, int]] = {path: {} for path in modules}
        for k, (pattern, method) in enumerate(self.rules):
            hit = [path for path in modules if _matches(pattern, path, modules)]
            if not hit:
                raise PlanError(f"the pattern {_spell(pattern)} matches no place; {_near(pattern, modules)}")
            for path in hit:
                won[path].update(dict.fromkeys(won[path], k) if method is None else {method.slot: k})
        return won

    def apply(self, net: Module, calibration: Any = None) -> Any:
        """A new module with the plan carried out; ``net`` stays as it is.

        Args:
            calibration: a data set, an array of examples, a tuple of arrays (one an input), or a list of tuples (calls as they are), for what needs data.
        """
        chosen = self.resolve(net)
        small = self._fill(net, chosen, calibration, SLOTS)
        report.remember(small, net, chosen)
        return small

    def _fill(self, net: Module, chosen: Chosen, calibration: Any, slots: Sequence[str]) -> Any:
        """A copy with these slots filled, in order; a rule that changes nothing is an error."""
        kinds = list(dict.fromkeys(type(m) for s in chosen.values() for slot, m in s.items() if slot in slots))
        if kinds and any(isinstance(m, Quantized) for m in net.modules().values()):
            raise PlanError(
                f"{', '.join(k.__name__ for k in kinds)}: the network is already quantized; write all rules in one plan and "
                "apply it to the network as it was before"
            )
        for kind in kinds:
            if kind.needs_calibration and calibration is None:
                raise PlanError(f"{kind.__name__} needs calibration= (some hundred examples: a data set or an array)")
        small = copy(net)
        for slot in slots:
            for kind in (k for k in kinds if k.slot == slot):
                mine = {path: s[slot] for path, s in chosen.items() if slot in s and type(s[slot]) is kind}
                before = _state(small)
                more = {"rest": self._later(chosen, calibration, slot)} if kind.foresees else {}
                small = kind.apply(small, mine, calibration, **more)
                if slot == "factors":
                    _inherit(chosen, small)
                if slot not in ("channels", "factors", "integers"):  # those look themselves, and know why
                    self._refuse_idle(mine, before, _state(small))
        return small

    def _later(self, chosen: Chosen, calibration: Any, slot: str) -> Callable[[Module], Module]:
        """Fills the slots after ``slot``."""
        return lambda net: self._fill(net, chosen, few(calibration), SLOTS[SLOTS.index(slot) + 1 :])

    def _refuse_idle(self, mine: dict[str, Method], before: Any, after: Any) -> None:
        changed = [path for path in before.keys() | after.keys() if before.get(path) != after.get(path)]
        for method in {id(m): m for m in mine.values()}.values():
            places = [path for path, m in mine.items() if m is method]
            if not any(path.startswith(f"{p}." if p else "") for path in changed for p in places):
                patterns = " or ".join(_spell(p) for p, m in self.rules if m is method)
                raise PlanError(
                    f"the rule ({patterns}, {method}) changed nothing at {', '.join(map(repr, places[:3]))}: no weight of two "
                    "or more dims is there; name a layer that has one (net.cells() lists them), or leave the rule out"
                )

    def explain(self, net: Module, example: Any = None) -> str:
        """What the plan would do, as text; nothing is changed.

        For every weight and slot the method, the rule that asks for it, and the bytes before and after (``~``: estimated, since
        integers are found at calibration; ``?``: the method needs ``example``). With ``example``, a batch of inputs, also scheme
        and reason for every region of the network.
        """
        chosen = self.resolve(net)
        rows = weight_table.table(net, self.winners(net), self.rules, lambda slots: self._fill(net, chosen, example, slots))
        if example is None:
            return rows
        return f"{rows}\nregions\n{explain.explain(net, self._fill(net, chosen, example, SLOTS[:-1]), example, chosen)}"


def _inherit(chosen: Chosen, net: Module) -> None:
    """What a layer has become takes the layer's rules."""
    for path in net.modules():
        if path not in chosen:
            chosen[path] = dict(chosen.get(path.rpartition(".")[0], {}))


def _state(net: Module) -> dict[str, Any]:
    """What tells whether anything has changed."""
    cells = {path: (cell.shape, zlib.crc32(cell.read().numpy().tobytes())) for path, cell in net.cells().items()}
    return cells | {f"{path}/": type(module) for path, module in net.modules().items()}


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


__all__ = ["Plan", "Quantize"]
