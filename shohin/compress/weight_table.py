"""The weights of a network under a plan, as a table: place, slot, method, reason, bytes before and after each slot."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import ceil
from typing import Any

from shohin.compress.plan_text import spell
from shohin.compress.report import effective
from shohin.compress.slots import SLOTS, Method
from shohin.compress.weights import Reweighting, stack
from shohin.core.errors import PlanError
from shohin.core.module import Module

HEAD = ("place", "slot", "method", "reason", "bytes before", "after")


def table(net: Module, winners: Mapping[str, Mapping[str, int]], rules: Sequence[tuple[Any, Method | None]],
          fill: Callable[[Sequence[str]], Module]) -> str:  # fmt: skip
    """One line a weight and slot; ``fill(slots)`` is a copy of ``net`` with those slots filled. ``winners`` are the plan's."""
    steps, refused = _filled(net, winners, rules, fill)
    first = _sizes(net)
    rows, total, marks = [HEAD], {"before": 0, "after": 0}, ""
    for place, (path, size, count) in first.items():
        won, now, known = winners[path], size, True
        mine = sorted(won, key=SLOTS.index)
        for slot in mine:
            pattern, method = rules[won[slot]]
            reason = f"rule {won[slot] + 1}: {spell(pattern)}"
            if method is None:
                rows.append((place, slot, "none", f"cleared by {reason}", f"{now:,}", f"{now:,}"))
                continue
            before = f"{now:,}" if known else "?"
            known = known and (slot == "integers" or slot in steps)
            after = _integers(now, count, method, won, rules) if slot == "integers" else now
            if slot in steps:
                after, count = _beneath(steps[slot], place, path)
            text = "?" if not known else "~{:,}" if slot == "integers" else "{:,}"
            rows.append((place, slot, repr(method), f"{reason}; {refused[slot]}" if slot in refused else reason, before, text.format(after)))
            marks += text[0]
            now = after
        if not mine:
            rows.append((place, "", "none", "no rule takes this place", f"{size:,}", f"{size:,}"))
        total = {"before": total["before"] + size, "after": total["after"] + now}
    rows.append(("all", "", "", "", f"{total['before']:,}", "?" if "?" in marks else f"{'~' if '~' in marks else ''}{total['after']:,}"))
    widths = [max(len(r[i]) for r in rows) for i in range(len(HEAD))]
    fit = lambda r: [c.ljust(n) if i < 4 else c.rjust(n) for i, (c, n) in enumerate(zip(r, widths, strict=True))]
    return "\n".join("  ".join(fit(r)).rstrip() for r in rows)


def _sizes(net: Module) -> dict[str, tuple[str, int, int]]:
    """By place: path of the layer, bytes of the weight as it stands, how many weights."""
    found = {}
    for place, (path, layer, name, w) in effective(net).items():
        above = stack(layer, name)
        replaced: Reweighting | None = above[-1] if above and above[-1].replaces else None
        size = w.nbytes if replaced is None else sum(c.read().numpy().nbytes for n, c in replaced.cells().items() if n != "moves")
        found[place] = (path, size, w.size)
    return found


def _beneath(found: Mapping[str, tuple[str, int, int]], place: str, path: str) -> tuple[int, int]:
    """Bytes and number of weights at the place, or beneath the layer where several now stand for one."""
    here = [found[place]] if place in found else [v for v in found.values() if v[0].startswith(f"{path}." if path else "")]
    return sum(v[1] for v in here), sum(v[2] for v in here)


def _filled(net: Module, winners: Mapping[str, Mapping[str, int]], rules: Sequence[tuple[Any, Method | None]],
            fill: Callable[[Sequence[str]], Module]) -> tuple[dict[str, dict[str, tuple[str, int, int]]], dict[str, str]]:  # fmt: skip
    """By slot the sizes after it, and why a slot could not be filled (then no later one is)."""
    found: dict[str, dict[str, tuple[str, int, int]]] = {}
    used = [s for s in SLOTS[:-1] if any(s in won and rules[won[s]][1] is not None for won in winners.values())]
    for k, slot in enumerate(used):
        try:
            found[slot] = _sizes(fill(used[: k + 1]))
        except PlanError as error:
            needs = "needs calibration=" in str(error)
            return found, {slot: "give an example for its bytes" if needs else f"refused: {error}"}
    return found, {}


def _integers(now: int, count: int, method: Method, won: Mapping[str, int], rules: Sequence[tuple[Any, Method | None]]) -> int:
    """Bytes of ``count`` integers of the method's width, or as they are where a table before it needs fewer."""
    size = ceil(count * int(vars(method).get("w", 8)) / 8)
    table = rules[won["table"]][1] if "table" in won else None
    return min(size, now) if table is not None else size


__all__ = ["table"]
