"""Pictures as inline SVG: no script, colours from the page's style sheet, so that light and dark are the reader's choice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, isfinite, log10

from shohin.deploy.layout import Layout, layer

COLOURS = 8
"""Classes ``c0`` to ``c7`` of the style sheet."""


@dataclass(frozen=True)
class Point:
    """``number`` is written beside the dot if it is ``labelled``; ``kind``: ``front``, ``fits`` or ``over``; ``title`` shows under the
    pointer, ``href`` is where a click leads."""

    x: float
    y: float
    number: int
    kind: str
    title: str
    href: str = ""
    labelled: bool = True

    def dot(self, x: float, y: float, radius: float = 5) -> str:
        circle = f'<circle class="dot {self.kind}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}"><title>{escape(self.title)}</title></circle>'
        return f'<a href="{escape(self.href, quote=True)}">{circle}</a>' if self.href else circle


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers from ``low`` to ``high``, about ``count`` of them.

    >>> ticks(0, 10), ticks(0.81, 0.87)
    ([0.0, 2.0, 4.0, 6.0, 8.0, 10.0], [0.82, 0.84, 0.86])
    """
    span = high - low
    if not span > 0:
        return [low]
    raw = span / count
    step = 10.0 ** floor(log10(raw))
    step *= next(m for m in (1, 2, 5, 10) if m * step >= raw)
    first = ceil(low / step - 1e-9)
    return [round(k * step, 10) for k in range(first, floor(high / step + 1e-9) + 1)]


def scatter(points: Sequence[Point], *, x: str, y: str, limit: float | None, percent: bool, stairs: bool = False) -> str:
    """Candidates by what they cost (x) and how good they are (y); ``limit`` is the budget, a broken line; with ``stairs`` what those that
    fit reach at each cost."""
    points = [p for p in points if isfinite(p.x) and isfinite(p.y)]
    if not points:
        return ""
    width, height, left, bottom, top, right = 380, 250, 46, 38, 12, 14
    most = max([p.x for p in points] + ([limit] if limit and limit < 3 * max(p.x for p in points) else []))
    low_y, high_y = min(p.y for p in points), max(p.y for p in points)
    pad = (high_y - low_y) * 0.15 or max(abs(high_y) * 0.02, 0.01)
    low_y, high_y = low_y - pad, min(high_y + pad, 1.0 + 0.3 * pad) if percent else high_y + pad
    across = lambda v: left + (width - left - right) * v / (most * 1.08)
    up = lambda v: height - bottom - (height - bottom - top) * (v - low_y) / (high_y - low_y)
    parts = [frame(width, height, f"{y} against {x}")]
    if limit is not None and across(limit) <= width - right:
        parts.append(f'<rect class="beyond" x="{across(limit):.1f}" y="{top}" width="{width - right - across(limit):.1f}" height="{height - bottom - top}"/>')
    for v in ticks(0, most * 1.08, 4):
        parts.append(f'<text class="tick" x="{across(v):.1f}" y="{height - bottom + 15}" text-anchor="middle">{v:g}</text>')
    for v in ticks(low_y, high_y):
        label = f"{100 * v:g} %" if percent else f"{v:g}"
        parts.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{up(v):.1f}" y2="{up(v):.1f}"/>')
        parts.append(f'<text class="tick" x="{left - 6}" y="{up(v) + 4:.1f}" text-anchor="end">{label}</text>')
    if limit is not None and across(limit) <= width - right:
        parts.append(f'<line class="limit" x1="{across(limit):.1f}" x2="{across(limit):.1f}" y1="{top}" y2="{height - bottom}"/>')
        parts.append(f'<text class="limit" x="{across(limit) - 5:.1f}" y="{height - bottom - 6}" text-anchor="end">budget</text>')
    at = [(across(p.x), up(p.y)) for p in points]
    if stairs:
        parts.append(_stairs([(across(p.x), up(p.y)) for p in points if p.kind != "over"], width - right))
    taken = list(at)
    parts += [p.dot(px, py) for p, (px, py) in zip(points, at, strict=True)]
    for p, (px, py) in zip(points, at, strict=True):
        if not p.labelled:
            continue
        lx, ly = _free(px, py, taken, (left, top, width - right, height - bottom))
        taken.append((lx, ly))
        parts.append(f'<text class="name" x="{lx:.1f}" y="{ly + 4:.1f}" text-anchor="middle">{p.number}</text>')
    parts.append(f'<text class="axis" x="{(left + width - right) / 2}" y="{height - 6}" text-anchor="middle">{escape(x)}</text>')
    return "".join([*parts, "</svg>"])


def _stairs(at: Sequence[tuple[float, float]], end: float) -> str:
    """The line under which nothing is on the front: up at each dot that is higher than all cheaper ones."""
    line: list[tuple[float, float]] = []
    for x, y in sorted(at):
        if not line or y < line[-1][1]:
            line += [(x, line[-1][1]), (x, y)] if line else [(x, y)]
    where = " ".join(f"{x:.1f},{y:.1f}" for x, y in [*line, (end, line[-1][1])]) if line else ""
    return f'<polyline class="stairs" points="{where}"/>' if line else ""


def history(points: Sequence[Point], best: Sequence[float], *, y: str, percent: bool) -> str:
    """Candidates in the order in which they came (x), and the best so far, a line."""
    width, height, left, bottom, top, right = 380, 250, 46, 38, 12, 14
    values = [p.y for p in points]
    low, high = min(values), max(values)
    pad = (high - low) * 0.1 or max(abs(high) * 0.02, 0.01)
    low, high, last = low - pad, high + pad, max(p.x for p in points)
    across = lambda v: left + 6 + (width - left - right - 12) * v / max(last, 1)
    up = lambda v: height - bottom - (height - bottom - top) * (v - low) / (high - low)
    parts = [frame(width, height, f"{y} by candidate")]
    for v in ticks(low, high):
        label = f"{100 * v:g} %" if percent else f"{v:g}"
        parts.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{up(v):.1f}" y2="{up(v):.1f}"/>')
        parts.append(f'<text class="tick" x="{left - 6}" y="{up(v) + 4:.1f}" text-anchor="end">{label}</text>')
    for v in sorted({round(t) for t in ticks(0, last)}):
        parts.append(f'<text class="tick" x="{across(v):.1f}" y="{height - bottom + 15}" text-anchor="middle">{v}</text>')
    line: list[str] = []
    for p, now, before in zip(points, best, [float("-inf"), *best], strict=False):
        if isfinite(now):
            line += ([f"{across(p.x):.1f},{up(before):.1f}"] if isfinite(before) else []) + [f"{across(p.x):.1f},{up(now):.1f}"]
    parts.append(f'<polyline class="stairs" points="{" ".join(line)}"/>')
    parts += [p.dot(across(p.x), up(p.y), 4) for p in points]
    parts.append(f'<text class="axis" x="{(left + width - right) / 2}" y="{height - 6}" text-anchor="middle">candidate, in the order in which they came</text>')
    return "".join([*parts, "</svg>"])


def _free(x: float, y: float, taken: Sequence[tuple[float, float]], box: tuple[float, float, float, float]) -> tuple[float, float]:
    """Where a label beside a dot is farthest from dots and labels that are there."""
    spots = [(x + r * dx, y + r * dy) for r in (12, 20) for dx, dy in ((0, -1), (1, 0), (-1, 0), (0, 1), (0.7, -0.7), (-0.7, -0.7), (0.7, 0.7), (-0.7, 0.7))]
    inside = [s for s in spots if box[0] + 4 <= s[0] <= box[2] - 2 and box[1] + 6 <= s[1] <= box[3] - 4] or spots
    room = lambda s: min([14.0, *(((s[0] - a) ** 2 + (s[1] - b) ** 2) ** 0.5 for a, b in taken)])
    return max(inside, key=lambda s: (room(s), -abs(s[0] - x) - abs(s[1] - y)))


def arena(layout: Layout, size: int, limit: float | None) -> str:
    """The arena over time: a rectangle a block, from the step that makes it to the last that reads it, at its offset."""
    steps = len(layout.steps)
    if not steps or not layout.blocks:
        return ""
    width, height, left, bottom, top, right = 800, 300, 78, 34, 12, 12
    most = size if limit is None or not size < limit < 1.6 * size else limit
    across = lambda k: left + (width - left - right) * k / steps
    up = lambda v: height - bottom - (height - bottom - top) * v / (most * 1.04)
    parts = [frame(width, height, "the arena over time", "wide")]
    for v in ticks(0, most / 1000):
        parts.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{up(1000 * v):.1f}" y2="{up(1000 * v):.1f}"/>')
        parts.append(f'<text class="tick" x="{left - 8}" y="{up(1000 * v) + 5:.1f}" text-anchor="end">{v:g} kB</text>')
    names = list(dict.fromkeys(layer(s.place) for s in layout.steps))
    for b in layout.blocks:
        x, w = across(b.first), across(b.last + 1) - across(b.first)
        y, h = up(b.offset + b.size), up(b.offset) - up(b.offset + b.size)
        name = layer(b.place)
        title = f"{name}: {b.size:,} bytes at {b.offset:,}, steps {b.first + 1} to {b.last + 1}"
        parts.append(f'<rect class="block c{names.index(name) % COLOURS}" x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{max(h, 0.5):.1f}"><title>{escape(title)}</title></rect>')
        across_it, along_it = w > 8.0 * len(name) and h > 18, h > 8.0 * len(name) and w > 18
        if across_it or along_it:
            turned = "" if across_it else f' transform="rotate(-90 {x + w / 2:.1f} {y + h / 2:.1f})"'
            parts.append(f'<text class="inside" x="{x + w / 2:.1f}" y="{y + h / 2 + 4:.1f}" text-anchor="middle"{turned}>{escape(name)}</text>')
    peak = max(range(steps), key=lambda k: layout.steps[k].live)
    middle = across(peak + 0.5)
    parts.append(f'<line class="peak" x1="{middle:.1f}" x2="{middle:.1f}" y1="{top}" y2="{height - bottom + 4}"/>')
    anchor = "start" if peak < 0.2 * steps else "end" if peak > 0.8 * steps else "middle"
    parts.append(f'<text class="name" x="{middle:.1f}" y="{height - 10}" text-anchor="{anchor}">peak at {escape(layer(layout.steps[peak].place))}</text>')
    if limit is not None and limit <= most:
        parts.append(f'<line class="limit" x1="{left}" x2="{width - right}" y1="{up(limit):.1f}" y2="{up(limit):.1f}"/>')
    return "".join([*parts, "</svg>"])


def curves(lines: Sequence[tuple[str, Sequence[float]]], *, y: str) -> str:
    """A line a candidate over epochs."""
    lines = [(n, [v for v in values if isfinite(v)]) for n, values in lines]
    values = [v for _, line in lines for v in line]
    if not values:
        return ""
    width, height, left, bottom, top, right = 380, 220, 46, 38, 12, 16
    low, high = min(values), max(values)
    pad = (high - low) * 0.1 or abs(high) * 0.05 or 0.1
    low, high, last = low - pad, high + pad, max(len(line) for _, line in lines)
    across = lambda k: left + (width - left - right) * (k - 1) / max(last - 1, 1)
    up = lambda v: height - bottom - (height - bottom - top) * (v - low) / (high - low)
    parts = [frame(width, height, f"{y} by epoch")]
    for v in ticks(low, high):
        parts.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{up(v):.1f}" y2="{up(v):.1f}"/>')
        parts.append(f'<text class="tick" x="{left - 6}" y="{up(v) + 4:.1f}" text-anchor="end">{v:g}</text>')
    for k in sorted({round(v) for v in ticks(1, last)} | {1, last}):
        parts.append(f'<text class="tick" x="{across(k):.1f}" y="{height - bottom + 15}" text-anchor="middle">{k}</text>')
    for n, (name, line) in enumerate(lines):
        where = " ".join(f"{across(k):.1f},{up(v):.1f}" for k, v in enumerate(line, 1))
        parts.append(f'<polyline class="line s{n % COLOURS}" points="{where}"><title>{escape(name)}</title></polyline>')
        parts += [f'<circle class="end s{n % COLOURS}" cx="{across(k):.1f}" cy="{up(v):.1f}" r="3"/>' for k, v in enumerate(line, 1)]
    parts.append(f'<text class="axis" x="{(left + width - right) / 2}" y="{height - 6}" text-anchor="middle">epoch</text>')
    return "".join([*parts, "</svg>"])


def frame(width: int, height: int, what: str, more: str = "") -> str:
    """The opening tag of a picture."""
    return f'<svg class="picture {more}" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(what, quote=True)}">'


__all__ = ["COLOURS", "Point", "arena", "curves", "frame", "history", "scatter", "ticks"]
