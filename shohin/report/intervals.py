"""Points with intervals as an SVG file that stands by itself: what a benchmark leaves for a page or a slide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from shohin.report.svg import ticks

COLOURS = ("#1f7a5c", "#5b8fb9", "#d9a441", "#b97a9b", "#7c83c4", "#c9785c", "#6aa7ad", "#9aa35a")
STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#1c2320}.tick{fill:#5d6963}.grid{stroke:#dfe4e0}.title{font-size:15px;font-weight:600}"
    "@media(prefers-color-scheme:dark){text{fill:#e7ece9}.tick{fill:#9aa7a0}.grid{stroke:#2f3834}}"
)


@dataclass(frozen=True)
class Spread:
    """A value y at x, and its interval."""

    name: str
    x: float
    y: float
    low: float
    high: float


def spreads(points: Sequence[Spread], *, x: str, y: str, title: str) -> str:
    """Fractions (y) over what they cost (x), each with its interval and its number in the list at the right.

    >>> spreads([Spread("a", 1, 0.5, 0.4, 0.6), Spread("b", 2, 0.7, 0.6, 0.8)], x="kB", y="accuracy", title="t").count("<circle")
    4
    """
    left, bottom, top, plot, list_ = 56, 44, 40, 560, 290
    width, height = left + plot + list_, max(380, top + bottom + 19 * len(points))
    low, high = min((p.low for p in points), default=0.0), max((p.high for p in points), default=1.0)
    pad = (high - low) * 0.06 or 0.01
    low, high, most = low - pad, high + pad, max((p.x for p in points), default=1.0) * 1.06 or 1.0
    across = lambda v: left + plot * v / most
    up = lambda v: height - bottom - (height - bottom - top) * (v - low) / (high - low)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title, quote=True)}"><style>{STYLE}</style>',
             f'<text class="title" x="{left}" y="22">{escape(title)}</text>']  # fmt: skip
    for v in ticks(low, high, 6):
        parts.append(f'<line class="grid" x1="{left}" x2="{left + plot}" y1="{up(v):.1f}" y2="{up(v):.1f}"/><text class="tick" x="{left - 6}" y="{up(v) + 4:.1f}" text-anchor="end">{100 * v:g} %</text>')
    for v in ticks(0, most, 6):
        parts.append(f'<text class="tick" x="{across(v):.1f}" y="{height - bottom + 16}" text-anchor="middle">{v:g}</text>')
    for k, p in enumerate(points):
        colour, at = COLOURS[k % len(COLOURS)], across(p.x)
        parts.append(f'<line stroke="{colour}" stroke-width="1.6" x1="{at:.1f}" x2="{at:.1f}" y1="{up(p.low):.1f}" y2="{up(p.high):.1f}"/>')
        parts += [f'<line stroke="{colour}" stroke-width="1.6" x1="{at - 4:.1f}" x2="{at + 4:.1f}" y1="{up(v):.1f}" y2="{up(v):.1f}"/>' for v in (p.low, p.high)]
        parts.append(f'<circle fill="{colour}" cx="{at:.1f}" cy="{up(p.y):.1f}" r="4.5"><title>{escape(p.name)}: {100 * p.y:.2f} %</title></circle>')
        parts.append(f'<text x="{at + 7:.1f}" y="{up(p.y) - 5:.1f}">{k + 1}</text>')
        row = top + 14 + 19 * k
        text = p.name if len(p.name) < 34 else f"{p.name[:32]}…"
        parts.append(f'<circle fill="{colour}" cx="{left + plot + 26}" cy="{row - 4}" r="4.5"/><text x="{left + plot + 38}" y="{row}">{k + 1}  {escape(text)}</text>')
    parts.append(f'<text class="tick" x="{left + plot / 2}" y="{height - 8}" text-anchor="middle">{escape(x)}</text>')
    parts.append(f'<text class="tick" x="16" y="{height / 2}" text-anchor="middle" transform="rotate(-90 16 {height / 2})">{escape(y)}</text>')
    return "".join([*parts, "</svg>\n"])


__all__ = ["Spread", "spreads"]
