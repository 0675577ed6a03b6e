"""The weights of a network under a plan, as a table: place, slot, method, reason, bytes before and after each slot."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from shohin.compress.plan_text import spell
from shohin.compress.report import effective, integer_storage
from shohin.compress.slots import SLOTS, Method
from shohin.compress.table import Table
from shohin.compress.weights import stack
from shohin.core.errors import PlanError
from shohin.core.module import Module

HEAD: tuple[str, ...] = ("place", "slot", "method", "reason", "bytes before", "after")
Rules = Sequence[tuple[Any, Method | None]]


@dataclass(frozen=True)
class Held:
    """A weight as it stands: the layer's path, bytes, value, the table that it takes its values from."""

    path: str
    size: int
    value: np.ndarray[Any, Any]
    table: Table | None


def table(net: Module, winners: Mapping[str, Mapping[str, int]], rules: Rules, fill: Callable[[Sequence[str]], Module]) -> str:
    """One line a weight and slot, then the places that their method leaves as they are. ``fill(slots)`` is a copy of ``net``
    with those slots filled; ``winners`` are the plan's."""
    stages, refused = _filled(net, winners, rules, fill)
    last = next(reversed(stages.values())) if stages else _held(net)
    rows, before, after, estimated = [HEAD], 0, 0, False
    for place, first in _held(net).items():
        won, now, known = winners[first.path], first.size, True
        mine = {s: (k, m) for s, k in sorted(won.items(), key=lambda w: SLOTS.index(w[0])) if (m := rules[k][1]) is not None}
        for slot, (k, method) in mine.items():
            was, known = f"{now:,}" if known else "?", known and slot not in refused
            found = _beneath(stages.get(slot, last), place, first.path)
            now = sum(_integers(h, method) for h in found) if slot == "integers" else sum(h.size for h in found)
            estimated |= slot == "integers"
            reason = f"rule {k + 1}: {spell(rules[k][0])}" + (f"; {refused[slot]}" if slot in refused else "")
            rows.append((place, slot, _name(method), reason, was, f"{'~' * (slot == 'integers')}{now:,}" if known else "?"))
        if not mine:  # though channels of its inputs may leave
            cleared = sorted({k for k in won.values()})
            reason = ", ".join(f"cleared by rule {k + 1}: {spell(rules[k][0])}" for k in cleared) or "no rule takes this place"
            now = sum(h.size for h in _beneath(last, place, first.path))
            rows.append((place, "", "none", reason, f"{first.size:,}", "?" if refused else f"{now:,}"))
        before, after = before + first.size, after + now
    rows.append(("all", "", "", "", f"{before:,}", "?" if refused else f"{'~' * estimated}{after:,}"))
    widths = [max(len(r[i]) for r in rows) for i in range(len(HEAD))]
    fit = lambda r: [c.ljust(n) if i < 4 else c.rjust(n) for i, (c, n) in enumerate(zip(r, widths, strict=True))]
    return "\n".join([*("  ".join(fit(r)).rstrip() for r in rows), *_left(net, winners, rules)])


def _name(method: Method) -> str:
    """``Prune: 50% zeros by magnitude``; a scheme that begins with the name says it itself."""
    name = type(method).__name__
    return method.scheme if method.scheme.startswith(name) else f"{name}: {method.scheme}"


def _left(net: Module, winners: Mapping[str, Mapping[str, int]], rules: Rules) -> list[str]:
    """What stays as it is though a rule takes it, with the method's reason."""
    mine: dict[type[Method], dict[str, Method]] = {}
    for path, won in winners.items():
        for method in (rules[k][1] for k in won.values()):
            if method is not None:
                mine.setdefault(type(method), {})[path] = method
    return [f"stays: {place}: {why}" for kind, chosen in mine.items() for place, why in kind.left(net, chosen).items()]


def _held(net: Module) -> dict[str, Held]:
    """The weights by place."""
    found = {}
    for place, (path, layer, name, w) in effective(net).items():
        top = next((s for s in stack(layer, name) if isinstance(s, Table)), None)
        found[place] = Held(path, w.nbytes if top is None else top.nbytes, w, top)
    return found


def _beneath(found: Mapping[str, Held], place: str, path: str) -> list[Held]:
    """The weight at the place, or those beneath the layer where several now stand for one."""
    return [found[place]] if place in found else [h for h in found.values() if h.path.startswith(f"{path}." if path else "")]


def _filled(net: Module, winners: Mapping[str, Mapping[str, int]], rules: Rules,
            fill: Callable[[Sequence[str]], Module]) -> tuple[dict[str, dict[str, Held]], dict[str, str]]:  # fmt: skip
    """By slot the weights after it; and from the first slot that could not be filled on, why."""
    found: dict[str, dict[str, Held]] = {}
    used = [s for s in SLOTS if any(s in won and rules[won[s]][1] is not None for won in winners.values())]
    for k, slot in enumerate(s for s in used if s != "integers"):
        try:
            found[slot] = _held(fill(used[: k + 1]))
        except PlanError as error:
            needs = "needs calibration=" in str(error)
            why = "give an example for its bytes" if needs else f"refused: {error}"
            return found, {slot: why, **dict.fromkeys(used[k + 1 :], f"after {slot}")}
    return found, {}


def _integers(held: Held, method: Method) -> int:
    """Bytes of the weight rounded to integers of the method's width, a scale an output channel."""
    bits, w = int(vars(method).get("w", 8)), held.value
    most = 2 ** (bits - 1) - 1
    scale = np.abs(w).max(axis=tuple(range(1, w.ndim)), keepdims=True, initial=0) / most
    q = np.rint(np.divide(w, scale, out=np.zeros_like(w), where=scale > 0)).astype(np.int8)
    return integer_storage(q, bits, held.table).size


__all__ = ["table"]
