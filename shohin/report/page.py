"""``write_report``: a shipment as one HTML file without script or link, for a browser, a mail, or a screenshot. Needs jinja2."""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from shohin.core.version import __version__
from shohin.deploy.measure import MODELLED, Number
from shohin.report.svg import Point, arena, curves, scatter
from shohin.shipping.candidate import Candidate
from shohin.shipping.ship import Shipment
from shohin.targets.host import CPU
from shohin.targets.toolchain import atomic

LAYERS = 24
"""Rows of the picture by layer; the others are summed."""
PAGES = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=select_autoescape(default=True), undefined=StrictUndefined,
                     trim_blocks=True, lstrip_blocks=True)  # fmt: skip


def write_report(found: Shipment, path: str | Path | None = None) -> Path:
    """Write ``report.html`` (in the shipment's folder unless ``path``) and return where it is.

    Every number has its label: measured (on the artefact, here), emulated (by the board's emulator) or modelled.
    """
    path = found.folder / "report.html" if path is None else Path(path)
    text = PAGES.get_template("report.html.j2").render(**page(found))
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def page(found: Shipment) -> dict[str, Any]:
    """What the template is filled with."""
    integers = [c for c in found.candidates if c.integer]
    best = found.best
    shown = best or max(found.candidates[1:], key=lambda c: c.score)
    differing, compared = sum(c.differing.value for c in integers if c.differing), sum(c.compared for c in integers)
    labels = any(c.accuracy for c in found.candidates)
    return {
        "version": __version__, "device": found.device, "processor": CPU.model, "best": best, "shown": shown, "layout": shown.artefact.layout,
        "title": found.description.splitlines()[0], "network": found.description.rstrip(), "tiles": _tiles(shown),
        "limits": [(k, f"{int(v):,} bytes") for k, v in (("flash", found.budget.flash), ("RAM", found.budget.ram)) if v],
        "differing": differing, "compared": compared, "ways": integers[-1].ways if integers else (), "falls": integers[0].name if integers else "", "short": found.short, "skipped": found.skipped,
        "notes": list(dict.fromkeys(n for c in found.candidates for n in c.notes)), "score": "accuracy" if labels else "signal to noise",
        "scatters": _scatters(found, labels), "rows": [_row(k, c, found) for k, c in enumerate(found.candidates, 1)],
        "arena": Markup(arena(shown.artefact.layout, shown.arena.value, found.budget.ram)), "layers": _layers(shown), "curves": _curves(found),
        "seconds": found.seconds, "estimate": Number(round(found.estimate), MODELLED), "labels": labels,
    }  # fmt: skip


def _tiles(c: Candidate) -> list[tuple[str, str, str]]:
    """The large numbers: name, value, how."""
    tiles: list[tuple[str, Number | None, str]] = [
        ("accuracy", c.accuracy, f"{100 * c.accuracy.value:.2f} %" if c.accuracy else ""),
        ("agrees with float", c.agreement if not c.accuracy else None, f"{100 * c.agreement.value:.2f} %" if c.agreement else ""),
        ("signal to noise", c.snr, f"{c.snr.value:.1f} dB" if c.snr else ""),
        ("flash", c.flash, kilo(c.flash)), ("RAM", c.ram, kilo(c.ram)),
        ("instructions", c.instructions, short_count(c.instructions.value) if c.instructions else ""),
        ("on this host", c.latency_ms["median"], milliseconds(c.latency_ms["median"])),
    ]  # fmt: skip
    return [(name, text, n.how) for name, n, text in tiles if n is not None]


def kilo(n: Number) -> str:
    return f"{n.value / 1000:,.1f} kB"


def milliseconds(n: Number) -> str:
    """
    >>> milliseconds(Number(0.0193, "measured")), milliseconds(Number(12.5, "measured"))
    ('19.3 µs', '12.5 ms')
    """
    return f"{1000 * n.value:.3g} µs" if n.value < 0.1 else f"{n.value:.3g} ms"


def short_count(n: float) -> str:
    """
    >>> short_count(620781), short_count(12_345_678)
    ('621 k', '12.3 M')
    """
    return f"{n / 1e6:.1f} M" if n >= 1e6 else f"{n / 1e3:.0f} k" if n >= 1e4 else f"{n:,.0f}"


def _scatters(found: Shipment, labels: bool) -> list[Markup]:
    front = {c.name for c in found.front}
    kind = lambda c: "over" if c.over(found.budget) else "front" if c.name in front else "fits"
    axes = (
        ("flash, kB (measured)", lambda c: c.flash.value / 1000, found.budget.flash),
        ("RAM, kB (measured; with stack: emulated)", lambda c: c.ram.value / 1000, found.budget.ram),
        ("one inference on this host, ms (measured)", lambda c: c.latency_ms["median"].value, None),
    )
    drawn = []
    for name, cost, limit in axes:
        points = [Point(cost(c), c.score, k, kind(c), c.name) for k, c in enumerate(found.candidates, 1)]
        y = "accuracy" if labels else "signal to noise in dB"
        drawn.append(Markup(scatter(points, x=name, y=y, limit=None if limit is None else limit / 1000, percent=labels)))
    return [d for d in drawn if d]


def _row(k: int, c: Candidate, found: Shipment) -> dict[str, Any]:
    cell = lambda n, text: None if n is None else (text, n.how)
    share = lambda n: cell(n, f"{100 * n.value:.2f} %") if n else None
    over = c.over(found.budget)
    return {
        "number": k, "name": c.name, "about": c.about, "best": c is found.best, "over": over,
        "cells": [
            ("accuracy", share(c.accuracy)), ("agrees", share(c.agreement)),
            ("SNR", cell(c.snr, f"{c.snr.value:.1f} dB") if c.snr and isfinite(c.snr.value) else None),
            ("flash", cell(c.flash, kilo(c.flash))), ("arena", cell(c.arena, kilo(c.arena))), ("RAM", cell(c.ram, kilo(c.ram))),
            ("instructions", cell(c.instructions, f"{c.instructions.value:,}") if c.instructions else None),
            ("host", cell(c.latency_ms["median"], milliseconds(c.latency_ms["median"]))),
            ("integers that differ", cell(c.differing, f"{c.differing.value:,} of {c.compared:,}") if c.differing else None),
        ],
    }  # fmt: skip


def _layers(c: Candidate) -> list[dict[str, Any]]:
    """Flash and time by layer, with their shares of the largest; small ones summed at the end."""
    rows = [{"name": n, "flash": v["flash"], "ms": v["ms"]} for n, v in c.by_layer.items()]
    flash, ms = (max([r[key] for r in rows] or [0]) or 1 for key in ("flash", "ms"))
    if len(rows) > LAYERS:
        keep = sorted(rows, key=lambda r: -(r["flash"] / flash + r["ms"] / ms))[: LAYERS - 1]
        rest = [r for r in rows if r not in keep]
        total = {key: sum(r[key] for r in rest) for key in ("flash", "ms")}
        rows = [r for r in rows if r in keep] + [{"name": f"{len(rest)} others", **total}]
    code = {"name": "code", "flash": c.sections["text"], "ms": 0.0}
    rows, flash = [*rows, code], max(flash, code["flash"])
    text = lambda r: {"flash_text": f"{r['flash']:,}" if r["flash"] else "", "ms_text": milliseconds(Number(r["ms"], "")) if r["ms"] else ""}
    return [{**r, **text(r), "flash_share": 100 * r["flash"] / flash, "ms_share": min(100, 100 * r["ms"] / ms)} for r in rows]


def _curves(found: Shipment) -> dict[str, Any] | None:
    trained = [c for c in found.candidates if c.training]
    if not trained:
        return None
    loss = [(c.name, [float(r["loss"]) for r in c.training]) for c in trained]
    metric = [(c.name, [float(r["metric"]) for r in c.training if r["metric"] is not None]) for c in trained]
    return {"names": [c.name for c in trained], "loss": Markup(curves(loss, y="training loss")), "metric": Markup(curves(metric, y="accuracy on judged examples"))}


__all__ = ["PAGES", "page", "write_report"]
