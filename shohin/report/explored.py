"""``write_explored``: many candidates of one task as one HTML file without script: the fronts, where each dot and line leads to its
candidate's plan, the history, the choices side by side, and the best one by place. Needs jinja2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from math import isfinite
from pathlib import Path
from typing import Any

from markupsafe import Markup

from shohin.core.version import __version__
from shohin.report.page import PAGES
from shohin.report.parallel import Axis, Line, parallel
from shohin.report.svg import Point, history, scatter
from shohin.targets.host import CPU
from shohin.targets.toolchain import atomic

SHOWN = 24
"""Rows of the pictures by place; the others are summed."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """One thing that candidates cost: ``limit`` is the budget, in the same unit; ``how`` it came about."""

    name: str
    unit: str
    how: str
    limit: float | None = None
    scale: float = 1.0

    def text(self, value: float) -> str:
        """
        >>> Cost(name="flash", unit="kB", how="measured", scale=1000).text(20480)
        '20.5 kB'
        """
        scaled = value / self.scale
        shown = f"{scaled:,.0f}" if scaled >= 1000 else f"{scaled:.3g}"
        return f"{shown} {self.unit}".rstrip()


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One candidate: costs by the names of ``Cost``, choices by name, the plan as text; ``why`` it is rejected, or nothing; ``more``
    is what else is known of it.

    ``score`` None: it was never judged."""

    number: int
    name: str
    score: float | None
    costs: Mapping[str, float]
    choices: Mapping[str, str]
    plan: str
    why: str = ""
    front: bool = False
    more: Mapping[str, str] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        return "over" if self.why else "front" if self.front else "fits"


@dataclass(frozen=True, kw_only=True)
class Explored:
    """What the page shows; ``score`` names it, ``percent`` where it is a fraction; ``places`` are the best candidate's: place,
    values by picture (``flash, bytes``). ``facts`` are lines of plain text beneath the title."""

    title: str
    facts: Sequence[str]
    score: str
    percent: bool
    costs: Sequence[Cost]
    entries: Sequence[Entry]
    best: int | None
    places: Mapping[str, Mapping[str, float]]
    notes: Sequence[str] = ()


def write_explored(found: Explored, path: str | Path) -> Path:
    """Write the page to ``path`` and return that."""
    text = PAGES.get_template("explored.html.j2").render(**page(found))
    with atomic(Path(path)) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return Path(path)


def page(found: Explored) -> dict[str, Any]:
    """What the template is filled with."""
    judged = [e for e in found.entries if e.score is not None and isfinite(e.score)]
    return {
        "version": __version__, "processor": CPU.model, "title": found.title, "facts": found.facts, "score": found.score, "notes": found.notes,
        "scatters": [Markup(s) for c in found.costs if (s := _front(found, judged, c))], "history": Markup(_history(found, judged)),
        "parallel": Markup(_parallel(found)), "rows": [_row(e, found) for e in _ordered(found.entries)], "costs": found.costs,
        "best": next((e for e in found.entries if e.number == found.best), None), "pictures": _bars(found.places),
        "hows": sorted({c.how for c in found.costs}), "many": len(found.entries),
    }  # fmt: skip


def _say(found: Explored, score: float | None) -> str:
    return "–" if score is None else f"{100 * score:.2f} %" if found.percent else f"{score:.4g}"


def _front(found: Explored, judged: Sequence[Entry], cost: Cost) -> str:
    points = [
        Point(e.costs[cost.name] / cost.scale, e.score or 0.0, e.number, e.kind, f"{e.name}: {_say(found, e.score)}, {cost.text(e.costs[cost.name])}",
              href=f"#c{e.number}", labelled=e.front or len(judged) <= 20)
        for e in judged if cost.name in e.costs
    ]  # fmt: skip
    limit = None if cost.limit is None else cost.limit / cost.scale
    unit = f", {cost.unit}" if cost.unit else ""
    return scatter(points, x=f"{cost.name}{unit} ({cost.how})", y=found.score, limit=limit, percent=found.percent, stairs=True)


def _history(found: Explored, judged: Sequence[Entry]) -> str:
    points = [Point(e.number, e.score or 0.0, e.number, e.kind, f"{e.name}: {_say(found, e.score)}", href=f"#c{e.number}") for e in judged]
    best = list(accumulate((p.y if p.kind != "over" else float("-inf") for p in points), max))
    return history(points, best, y=found.score, percent=found.percent) if len(points) > 1 else ""


def _parallel(found: Explored) -> str:
    names = list(dict.fromkeys(n for e in found.entries for n in e.choices))
    axes = [Axis.of_texts(n, [e.choices[n] for e in found.entries if n in e.choices]) for n in names]
    axes += [Axis.of_numbers(c.name, [e.costs[c.name] for e in found.entries if c.name in e.costs], c.text) for c in found.costs]
    axes.append(Axis.of_numbers("score", [e.score for e in found.entries if e.score is not None], lambda v: _say(found, v)))
    lines = [Line([e.choices.get(n) for n in names] + [e.costs.get(c.name) for c in found.costs] + [e.score], e.kind, e.name, f"#c{e.number}") for e in found.entries]
    shown = [k for k, a in enumerate(axes) if len(a.at) > 1]
    return parallel([axes[k] for k in shown], [Line([line.values[k] for k in shown], line.kind, line.title, line.href) for line in lines]) if len(shown) > 1 else ""


def _ordered(entries: Sequence[Entry]) -> list[Entry]:
    """The best first, what was never judged last."""
    return sorted(entries, key=lambda e: (bool(e.why), e.score is None, -(e.score or 0.0), e.number))


def _row(e: Entry, found: Explored) -> dict[str, Any]:
    costs = [(c.name, c.text(e.costs[c.name]) if c.name in e.costs else "–", c.how) for c in found.costs]
    return {"number": e.number, "name": e.name, "kind": e.kind, "score": _say(found, e.score), "costs": costs, "choices": {**e.choices, **e.more}, "plan": e.plan, "why": e.why,
            "best": e.number == found.best}  # fmt: skip


def _bars(places: Mapping[str, Mapping[str, float]]) -> dict[str, Any] | None:
    """Rows by place, each with the share of the largest in every picture."""
    heads = list(dict.fromkeys(h for v in places.values() for h in v))
    if not heads:
        return None
    most = {h: max(v.get(h, 0.0) for v in places.values()) or 1.0 for h in heads}
    order = sorted(places, key=lambda p: -sum(places[p].get(h, 0.0) / most[h] for h in heads))
    keep = set(order[:SHOWN])
    rows = [(p, dict(v)) for p, v in places.items() if p in keep]
    rest = [v for p, v in places.items() if p not in keep]
    if rest:
        rows.append((f"{len(rest)} others", {h: sum(v.get(h, 0.0) for v in rest) for h in heads}))
    cell = lambda v, h: {"share": min(100.0, 100 * v.get(h, 0.0) / most[h]), "text": f"{v.get(h, 0.0):,.0f}" if v.get(h) else ""}
    return {"heads": heads, "rows": [(p, [cell(v, h) for h in heads]) for p, v in rows]}


__all__ = ["Cost", "Entry", "Explored", "write_explored"]
