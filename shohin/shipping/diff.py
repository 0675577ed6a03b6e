"""``diff``: two ways to run a network on the same inputs, place by place: where they part first, and signal to noise.

A way is a float module, a quantized module, its integer reference, an artefact's C on this machine, the emulated board, or the
origin of an imported network. Artefacts and origins have one place, the output.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from shohin.compress.definitions import Grid, dequantize
from shohin.compress.quantized import Quantized
from shohin.core.errors import DataError, DeployError
from shohin.core.module import Module
from shohin.deploy.artefact import Artefact
from shohin.deploy.values import float_values, integer_values, real_values, snr
from shohin.targets import get_target

Array = np.ndarray[Any, Any]
OUTPUT = "output"
CLOSE = 1e-4
"""Float values that differ by less than this part of a place's largest magnitude are the same to rounding."""


@dataclass(frozen=True)
class Values:
    """Real values (n, ...) by place, the last one also under ``output``; ``integers`` where the way computes with them."""

    real: Mapping[str, Array]
    integers: Mapping[str, Array] = field(default_factory=dict)


@dataclass(frozen=True)
class Way:
    """``run(x)`` gives the values of one way to run a network; x is float32 (n, ...)."""

    name: str
    run: Callable[[Array], Values]


@dataclass(frozen=True)
class Row:
    """One place. ``differing`` integers of ``compared``, None where one side has none; ``parts``: more than rounding differs."""

    place: str
    snr: float
    worst: float
    differing: int | None
    compared: int
    parts: bool


@dataclass(frozen=True)
class Difference:
    """All places that both ways have, in the order of execution."""

    a: str
    b: str
    rows: tuple[Row, ...]

    @property
    def first(self) -> Row | None:
        """The first place where they part; None where they do not."""
        return next((r for r in self.rows if r.parts), None)

    @property
    def steepest(self) -> Row | None:
        """The place at which the signal to noise falls most, of those after the first that parts."""
        before, found, fall = None, None, 0.0
        for r in self.rows:
            if before is not None and before.snr - r.snr > fall:
                found, fall = r, before.snr - r.snr
            before = r if r.parts else before
        return found

    def to_json(self) -> dict[str, Any]:
        number = lambda v: v if np.isfinite(v) else str(v)
        rows = [{**vars(r), "snr": number(r.snr), "worst": number(r.worst)} for r in self.rows]
        return {"a": self.a, "b": self.b, "first": None if self.first is None else self.first.place,
                "steepest": None if self.steepest is None else self.steepest.place, "places": rows}  # fmt: skip

    def __str__(self) -> str:
        width = max(len(r.place) for r in self.rows)
        lines = [f"{'place':{width}} {'SNR dB':>8} {'worst difference':>17}  integers"]
        for r in self.rows:
            count = "" if r.differing is None else f"{r.differing:,} of {r.compared:,} differ"
            lines.append(f"{r.place:{width}} {r.snr:>8.1f} {r.worst:>17.6g}  {count}".rstrip())
        if self.first is None:
            return "\n".join([*lines, f"{self.a} and {self.b} agree at all {len(self.rows)} places"])
        lines.append(f"they part first at {self.first.place}: {self.first.snr:.1f} dB")
        if self.steepest is not None and self.steepest is not self.first:
            lines.append(f"the signal to noise falls most at {self.steepest.place}, to {self.steepest.snr:.1f} dB")
        return "\n".join(lines)


def diff(a: Way, b: Way, x: Array) -> Difference:
    """Compare two ways on x (n, ...), float32.

    Raises:
        DataError: x is no batch of finite float32 examples; DeployError: the two have no place in common.

    >>> from shohin import nn
    >>> from shohin.compress import Plan, Quantize
    >>> net, x = nn.Sequential(nn.Linear(3, 4), nn.ReLU()), np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    >>> small = Plan([("*", Quantize())]).apply(net, calibration=x)
    >>> found = diff(module_way(small), reference_way(small), x)
    >>> found.first is None, all(r.differing == 0 for r in found.rows)
    (True, True)
    """
    if x.dtype != np.float32 or x.ndim < 2 or not len(x):
        raise DataError(f"diff: x is {x.dtype}{list(x.shape)}, expected float32 examples (n, ...)")
    if not np.isfinite(x).all():
        raise DataError(f"diff: x, row {int(np.argwhere(~np.isfinite(x))[0][0])} holds NaN or infinity")
    one, two = a.run(x), b.run(x)
    shared = [p for p in one.real if p in two.real and one.real[p].size == two.real[p].size]
    if not shared:
        shapes = ", ".join(f"{w.name} gives {v.real[OUTPUT].shape[1:]}" for w, v in ((a, one), (b, two)) if OUTPUT in v.real)
        raise DeployError(f"diff: {a.name} and {b.name} have no place in common ({shapes}); are they one network?")
    return Difference(a.name, b.name, tuple(_row(p, one, two) for p in shared))


def _row(place: str, one: Values, two: Values) -> Row:
    r, v = one.real[place].astype(np.float64), two.real[place].reshape(one.real[place].shape).astype(np.float64)
    worst = float(np.abs(v - r).max(initial=0.0))
    differing, compared = None, 0
    if place in one.integers and place in two.integers:
        p, q = one.integers[place], two.integers[place].reshape(one.integers[place].shape)
        differing, compared = int((p != q).sum()), int(p.size)
    parts = bool(differing) if differing is not None else not worst <= CLOSE * max(float(np.abs(r).max(initial=0.0)), 1e-30)
    return Row(place, snr(r, v), worst, differing, compared, parts)


# ------------------------------------------------------------------------------------------------------- ways


def module_way(net: Module, name: str = "") -> Way:
    """The module itself: float values by place, or the integers of a quantized one."""
    if isinstance(net, Quantized):
        return Way(name or "quantized module", lambda x: _quantized(net, x, reference=False))
    return Way(name or "float module", lambda x: _with_output(float_values(net, x)))


def reference_way(net: Quantized, name: str = "integer reference") -> Way:
    """The Python integer reference of a quantized module."""
    return Way(name, lambda x: _quantized(net, x, reference=True))


def artefact_way(art: Artefact, name: str = "") -> Way:
    """The artefact's C on this machine."""
    return Way(name or f"{art.device}'s C here", lambda x: _outputs(art, art.run(x)))


def board_way(art: Artefact, name: str = "", timeout: float = 600.0) -> Way:
    """The artefact on its emulated device.

    Raises:
        DeployError: the artefact is for this machine; EmulatorMissing: its device cannot be emulated here.
    """
    if art.device == "host":
        raise DeployError(f"diff: {art.folder} is for the host, which is no board; its C here is compared without board:")

    def run(x: Array) -> Values:
        rows = np.ascontiguousarray(x.reshape(len(x), -1))
        target = get_target(art.device)
        with TemporaryDirectory(prefix="shohin-diff-") as work:
            program = target.strategy.build(target, art.folder, Path(work))
            entries = art.library.quantize(rows) if art.inputs[0].dtype == "int8" else rows
            return _outputs(art, target.strategy.run(program, entries, timeout).outputs)

    return Way(name or f"{art.device}, emulated", run)


def outputs_way(run: Callable[[Array], Array], name: str) -> Way:
    """Any function of x (n, ...) to outputs (n, ...): the origin of an imported network."""
    return Way(name, lambda x: Values({OUTPUT: np.asarray(run(x))}))


def _with_output(real: Mapping[str, Array], integers: Mapping[str, Array] | None = None) -> Values:
    named = lambda found: {**found, OUTPUT: list(found.values())[-1]} if found else {}
    return Values(named(real), named(integers or {}))


def _quantized(net: Quantized, x: Array, *, reference: bool) -> Values:
    found = integer_values(net, x, reference=reference)
    return _with_output(real_values(net, found, x), found)


def _outputs(art: Artefact, y: Array) -> Values:
    b = art.outputs[0]
    y = y.reshape(len(y), *b.shape)
    if b.scale is None or b.zero is None:
        return Values({OUTPUT: y})
    return Values({OUTPUT: dequantize(y, Grid(np.float32(b.scale), b.zero))}, {OUTPUT: y})


__all__ = ["Difference", "Row", "Values", "Way", "artefact_way", "board_way", "diff", "module_way", "outputs_way", "reference_way"]
