"""Parallel coordinates: an axis a choice or a number, a line a candidate. Inline SVG without script."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from shohin.report.svg import frame

LABELS = 12
"""Labels of one axis; of more values only some are written."""


@dataclass(frozen=True)
class Axis:
    """``at`` says how high (0 to 1) each value stands, ``labels`` which are written there."""

    name: str
    at: Mapping[Any, float]
    labels: Mapping[Any, str]

    @classmethod
    def of_texts(cls, name: str, texts: Sequence[str]) -> Axis:
        """Values of a choice, evenly: numbers by size, other things as they came.

        >>> Axis.of_texts("width", ["16", "8", "16", "32"]).at
        {'8': 0.0, '16': 0.5, '32': 1.0}
        """
        found = list(dict.fromkeys(texts))
        if all(map(_number, found)):
            found.sort(key=float)
        step = 1 / max(len(found) - 1, 1)
        shown = found if len(found) <= LABELS else found[:: -(-len(found) // LABELS)]
        return cls(name, {t: k * step if len(found) > 1 else 0.5 for k, t in enumerate(found)}, {t: t if len(t) < 20 else f"{t[:18]}…" for t in shown})

    @classmethod
    def of_numbers(cls, name: str, values: Sequence[float], text: Callable[[float], str]) -> Axis:
        """Numbers in proportion, the least and the most written.

        >>> Axis.of_numbers("flash", [10.0, 20.0, 14.0], str).at
        {10.0: 0.0, 14.0: 0.4, 20.0: 1.0}
        """
        found = sorted(set(values))
        if not found:
            return cls(name, {}, {})
        low, span = found[0], (found[-1] - found[0]) or 1.0
        return cls(name, {v: (v - low) / span for v in found}, {v: text(v) for v in (found[0], found[-1])})


@dataclass(frozen=True)
class Line:
    """One candidate's value on each axis, None where it has none; ``kind`` is ``front``, ``fits`` or ``over``."""

    values: Sequence[Any]
    kind: str
    title: str
    href: str


def parallel(axes: Sequence[Axis], lines: Sequence[Line]) -> str:
    """The picture; lines on the front are drawn last, those over the budget first."""
    width, height, side, top, bottom = 1160, 330, 70, 34, 16
    across = lambda k: side + (width - 2 * side) * k / (len(axes) - 1)
    up = lambda v: height - bottom - (height - bottom - top) * v
    parts = [frame(width, height, "choices and costs of every candidate", "wide")]
    for line in sorted(lines, key=lambda r: ("over", "fits", "front").index(r.kind)):
        spots = [(across(k), up(a.at[v])) for k, (a, v) in enumerate(zip(axes, line.values, strict=True)) if v is not None and v in a.at]
        if len(spots) > 1:
            where = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
            parts.append(f'<a href="{escape(line.href, quote=True)}"><polyline class="way {line.kind}" points="{where}"><title>{escape(line.title)}</title></polyline></a>')
    for k, axis in enumerate(axes):
        x, anchor = across(k), "start" if k == 0 else "end" if k == len(axes) - 1 else "middle"
        parts.append(f'<line class="pole" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{height - bottom}"/>')
        edge = x - 16 if k == 0 else x + 16 if k == len(axes) - 1 else x
        parts.append(f'<text class="name" x="{edge:.1f}" y="14" text-anchor="{anchor}">{escape(axis.name)}</text>')
        for value, text in axis.labels.items():
            place, of = (x - 8, "end") if k == 0 else (x + 8, "start")
            parts.append(f'<text class="tick halo" x="{place:.1f}" y="{up(axis.at[value]) + 4:.1f}" text-anchor="{of}">{escape(text)}</text>')
    return "".join([*parts, "</svg>"])


def _number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


__all__ = ["Axis", "Line", "parallel"]
