"""``measure`` and ``compare``: numbers of the artefact itself, each with how it came about.

Accuracy and latency are measured on the artefact's C in a host library (batch 1, one thread); instructions, stack and
the arena in use are those of the emulated board. Nothing is scaled or guessed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shohin.compress.definitions import dequantize, quantize
from shohin.compress.integer import aval_of, integers
from shohin.compress.quantized import Quantized
from shohin.compress.steps import places_of
from shohin.core.errors import DeployError, EmulatorMissing, TargetError
from shohin.core.module import mode
from shohin.core.tensor import as_tensor
from shohin.data.dataset import Dataset
from shohin.deploy.artefact import Artefact
from shohin.deploy.library import HostLibrary, build_library
from shohin.deploy.packed import pack, unpack
from shohin.targets import get_target
from shohin.targets.target import RunResult

MEASURED, EMULATED, MODELLED = "measured", "emulated", "modelled"


@dataclass(frozen=True)
class Number:
    """A value and how it came about: measured, emulated or modelled."""

    value: Any
    how: str

    def __str__(self) -> str:
        return f"{self.value} ({self.how})"


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What an artefact does; ``None`` where it could not be had, and why in ``notes``."""

    accuracy: Number | None
    latency_ms: Mapping[str, Number]
    flash_bytes: Number
    arena_bytes: Number
    arena_observed: Number
    ram_bytes: Number | None
    stack_bytes: Number | None
    instructions: Number | None
    outputs: np.ndarray[Any, Any]
    board_outputs: np.ndarray[Any, Any] | None
    notes: tuple[str, ...]

    def __str__(self) -> str:
        lines = [] if self.accuracy is None else [f"accuracy      {self.accuracy.value:.4f} ({self.accuracy.how}, host library)"]
        lines.append("latency       " + ", ".join(f"{k} {n.value:.3f} ms" for k, n in self.latency_ms.items()) + " (measured on this host, batch 1, one thread)")
        lines.append(f"flash         {self.flash_bytes.value:,} bytes ({self.flash_bytes.how})")
        lines.append(f"arena         {self.arena_bytes.value:,} bytes planned, {self.arena_observed.value:,} touched")
        if self.ram_bytes is not None and self.instructions is not None:
            lines.append(f"RAM           {self.ram_bytes.value:,} bytes ({self.ram_bytes.how})")
            lines.append(f"instructions  {self.instructions.value:,} an inference ({self.instructions.how})")
        return "\n".join([*lines, *self.notes])


def measure(art: Artefact, data: Any, *, metric: Callable[[Any, Any], Any] | None = None, board: int = 16, repeats: int = 200,
            host: Artefact | None = None, timeout: float = 600.0) -> Measurement:  # fmt: skip
    """Run the artefact on real inputs: a ``Dataset`` (with ``metric``: accuracy too) or an array (n, ...), float32.

    ``board`` is how many inputs the device's emulator gets. ``host`` is the same network exported for the host, whose C
    uses this processor's vectors; without it the device's C is what runs here too.
    """
    x = data.x if isinstance(data, Dataset) else data if isinstance(data, tuple) else np.asarray(data)
    if len(x) == 0 or (isinstance(x, tuple) and len(x[0]) == 0):
        raise DeployError("measure: there are no inputs")
    notes: list[str] = []
    with tempfile.TemporaryDirectory(prefix="shohin-measure-") as work:
        library = build_library((host or art).folder, Path(work) / "host")
        entries = to_input(art, library, x)
        outputs = library.run(entries)
        _, observed = library.run_painted(entries[:8])
        latency = library.latency(entries[: min(len(entries), 64)], repeats)
        result = None
        if art.device != "host" and art.source.dtype == np.int8:
            result, why = on_board(art, entries[:board], Path(work) / "board", timeout)
            notes += [why] if why else []
    logits = from_output(art, library, outputs)
    accuracy = None
    if metric is not None and isinstance(data, Dataset):
        accuracy = Number(float(np.mean(np.asarray(metric(as_tensor(logits), as_tensor(data.y))).astype(np.float64))), MEASURED)
    emulated = EMULATED if result is not None and result.emulated else MEASURED
    return Measurement(
        accuracy=accuracy, latency_ms={"median": Number(latency.median * 1e3, MEASURED), "p95": Number(latency.p95 * 1e3, MEASURED)},
        flash_bytes=Number(art.flash_bytes, MEASURED), arena_bytes=Number(art.arena_bytes, MEASURED),
        arena_observed=Number(result.arena_bytes if result is not None else observed, emulated),
        ram_bytes=None if result is None or result.ram_bytes is None else Number(result.ram_bytes, EMULATED),
        stack_bytes=None if result is None or result.stack_bytes is None else Number(result.stack_bytes, EMULATED),
        instructions=None if result is None or not result.instructions else Number(int(np.median(result.instructions)), EMULATED),
        outputs=outputs, board_outputs=None if result is None else result.outputs, notes=tuple(notes))  # fmt: skip


def on_board(art: Artefact, entries: np.ndarray[Any, Any], work: Path, timeout: float) -> tuple[RunResult | None, str]:
    """The run on the artefact's device, or None and why there is none: no emulator, or the network does not fit its memories."""
    target = get_target(art.device)
    try:
        program = target.strategy.build(target, art.folder, work)
    except TargetError as error:
        return None, f"no board numbers: {error}"
    try:
        return target.strategy.run(program, entries, timeout), ""
    except EmulatorMissing as error:
        return None, f"no board numbers: {error}"


def to_input(art: Artefact, library: HostLibrary, x: Any) -> np.ndarray[Any, Any]:
    """Rows of the artefact's input dtype from float32 examples (a tuple: one array an input), by its own quantize function."""
    arrays = x if isinstance(x, tuple) else (x,)
    if art.packed:
        return pack([a.astype(b.dtype) if b.scale is None else quantize(a, b.grid) for a, b in zip(arrays, art.inputs, strict=True)])
    rows = np.ascontiguousarray(np.asarray(arrays[0], np.float32).reshape(len(arrays[0]), -1))
    return library.quantize(rows) if art.inputs[0].dtype == "int8" else rows


def from_output(art: Artefact, library: HostLibrary, y: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """float32 (n, ...) from the artefact's outputs, of the first if there are several."""
    if art.packed:
        first, b = unpack(y, [(b.shape, b.dtype) for b in art.outputs])[0], art.outputs[0]
        return first if b.scale is None else dequantize(first, b.grid)
    real = library.dequantize(y) if art.outputs[0].dtype == "int8" else y
    return np.asarray(real, np.float32).reshape(len(y), *art.outputs[0].shape)


def _rows(run: Callable[..., Mapping[str, Any]], net: Quantized, xs: tuple[np.ndarray[Any, Any], ...], batch: int = 256) -> np.ndarray[Any, Any]:
    """The integers of the network's outputs, (n, all elements)."""
    parts = []
    with mode(net, training=False):
        for k in range(0, len(xs[0]), batch):
            some = tuple(x[k : k + batch] for x in xs)
            found, program = run(net, *some), net.program(*map(aval_of, some))[0]
            places = places_of(program)
            parts.append(_joined([found[places[v]] for v in program.outputs]))
    return np.concatenate(parts)


def _joined(outputs: Sequence[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    return np.concatenate([y.reshape(len(y), -1).astype(np.int64) for y in outputs], axis=1)


@dataclass(frozen=True)
class Comparison:
    """Differing integers between ways to run one network; ``first`` says where the first pair parts."""

    differing: int
    compared: int
    ways: tuple[str, ...]
    first: str

    def __str__(self) -> str:
        where = f"; first: {self.first}" if self.differing else ""
        return f"{self.differing:,} of {self.compared:,} integers differ between {', '.join(self.ways)}{where}"


def compare(net: Any, art: Artefact, data: Any, *, board: int = 16, ccs: Sequence[str | None] = (None,), levels: Sequence[str] = ("native",),
            host: Artefact | None = None, timeout: float = 600.0) -> Comparison:  # fmt: skip
    """The quantized module, its Python integer reference, the artefact's C on this host and on the board, integer by integer.

    ``ccs`` are compilers (``None``: the bundled one, ``"gcc"``), ``levels`` host CPU levels; ``host`` as in ``measure``, compared too.
    """
    if not isinstance(net, Quantized):
        raise DeployError(
            f"compare: it counts differing integers, and {type(net).__name__} is a float network; write small = "
            'Plan([("*", Quantize())]).apply(net, calibration=x), export small, and compare(small, art, x). A float artefact: '
            "np.testing.assert_allclose(sh.measure(art, x).outputs, ...) against net(x)"
        )
    if any(b.dtype == "float32" for b in (*art.inputs, *art.outputs)):
        raise DeployError(f"compare: {art.name} is a float32 artefact and the network is quantized; export the network again")
    given = data.x if isinstance(data, Dataset) else data
    x = tuple(map(np.asarray, given)) if isinstance(given, tuple) else (np.asarray(given, np.float32),)
    expected, reference = (_rows(f, net, x) for f in (Quantized.integers, integers))
    as_integers = lambda y: _joined(unpack(y, [(b.shape, b.dtype) for b in art.outputs])) if art.packed else y
    found: list[tuple[str, np.ndarray[Any, Any]]] = [("reference", reference)]
    with tempfile.TemporaryDirectory(prefix="shohin-compare-") as work:
        entries = None
        for which in dict.fromkeys((art, host or art)):
            for cc in ccs:
                for level in levels:
                    library = build_library(which.folder, Path(work) / f"{which.device}-{cc}-{level}", level=level, cc=cc)
                    entries = to_input(art, library, x)
                    found.append((f"{which.device}'s C here ({cc or 'zig'}, {level})", as_integers(library.run(entries))))
        if art.device != "host" and entries is not None:
            result, _ = on_board(art, entries[:board], Path(work) / "board", timeout)
            found += [(art.device, as_integers(result.outputs))] if result is not None else []
    differing = compared = 0
    first = ""
    for name, values in found:
        wrong = np.argwhere(values.reshape(len(values), -1) != expected[: len(values)])
        differing, compared = differing + len(wrong), compared + values.size
        if len(wrong) and not first:
            n, k = wrong[0].tolist()
            first = f"{name}, input {n}, output {k}: {int(values.reshape(len(values), -1)[n, k])} instead of {int(expected[n, k])}"
    return Comparison(differing, compared, ("module", *(n for n, _ in found)), first)
