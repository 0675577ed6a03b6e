"""One candidate: exported for the device and the host, measured, compared, and told as a record of plain numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

from shohin.compress.definitions import Grid, dequantize
from shohin.compress.quantized import Quantized
from shohin.core.errors import BuildError, DeployError
from shohin.core.module import Module
from shohin.deploy.artefact import Artefact, load_artefact
from shohin.deploy.budget import Budget
from shohin.deploy.cost import macs_of
from shohin.deploy.export import export
from shohin.deploy.layout import layer
from shohin.deploy.measure import MEASURED, Number, compare, measure
from shohin.deploy.stored import save
from shohin.deploy.timeline import timeline
from shohin.deploy.values import refuse_non_finite, snr
from shohin.shipping.subject import Array, Subject

NETWORK = "network.safetensors"
BOARD, COMPARED, WORK = 8, 64, 2e9
"""Inputs that the board gets; most inputs that all ways to run the network are compared on, and the multiply-adds that this may take."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A way to ship the network, and its numbers; each ``Number`` says how it came about. ``None``: could not be had.

    ``agreement`` is the fraction of inputs with the float network's largest output, ``snr`` of outputs against its, in dB.
    ``ram`` is arena, variables and, where a board was emulated, its painted stack.
    """

    name: str
    about: str
    device: str
    input: tuple[int, ...]
    accuracy: Number | None
    agreement: Number | None
    snr: Number | None
    flash: Number
    sections: Mapping[str, int]
    arena: Number
    peak: Mapping[str, Any]
    ram: Number
    instructions: Number | None
    latency_ms: Mapping[str, Number]
    macs: Number
    differing: Number | None
    compared: int
    ways: tuple[str, ...]
    by_layer: Mapping[str, Mapping[str, float]]
    seconds: float
    notes: tuple[str, ...]
    folder: str
    training: tuple[Mapping[str, Any], ...] = field(default=())

    @property
    def integer(self) -> bool:
        return self.differing is not None

    @property
    def score(self) -> float:
        """What is compared of two candidates' answers: accuracy where there are labels, else signal to noise."""
        found = self.accuracy or self.snr
        return -inf if found is None else float(found.value)

    @property
    def artefact(self) -> Artefact:
        return load_artefact(Path(self.folder) / self.device)

    @property
    def network(self) -> Path:
        return Path(self.folder) / NETWORK

    def over(self, budget: Budget) -> list[str]:
        """What is over the budget, in words."""
        steps = None if self.instructions is None else self.instructions.value
        return budget.excess(flash=self.flash.value, ram=self.ram.value, instructions=steps)

    def to_json(self) -> dict[str, Any]:
        return plain(asdict(self))

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Candidate:
        number = lambda v: Number(inf if v["value"] == "inf" else v["value"], v["how"]) if isinstance(v, dict) and set(v) == {"value", "how"} else v
        fields = {k: number(v) for k, v in found.items()}
        fields["latency_ms"] = {k: number(v) for k, v in found["latency_ms"].items()}
        return cls(**{**fields, **{k: tuple(found[k]) for k in ("input", "ways", "notes", "training")}})


def plain(value: Any) -> Any:
    """What JSON holds; infinity is the text ``inf``."""
    if isinstance(value, Mapping):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, float) and value == inf:
        return "inf"
    return value.item() if isinstance(value, np.generic) else value


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The float network's outputs for the judged inputs, by which candidates without labels are judged."""

    outputs: Array


def measured(net: Module, subject: Subject, origin: Origin | None, *, name: str, about: str, device: str, to: Path, seconds: float = 0.0,
             training: tuple[Mapping[str, Any], ...] = ()) -> tuple[Candidate, Array]:  # fmt: skip
    """The candidate, and its real outputs for the judged inputs; ``to`` gets its C and its network.

    Raises:
        DeployError: it has no artefact; the message names the place.
        NonFiniteError: the float network gives NaN or infinity on the judged inputs.
    """
    x, integer = subject.test, isinstance(net, Quantized)
    art, host = (export(net, x[:1], device=d, to=to / d) for d in (device, "host"))
    macs = macs_of(net, (1, *subject.shape))
    count = max(2, min(COMPARED, len(x), int(WORK // max(macs, 1))))
    found = measure(art, subject.judged, metric=subject.metric, board=min(BOARD, count), host=host)
    outputs = _real(art, found.outputs)
    if not integer:
        refuse_non_finite(net, x, outputs)
    checked = compare(net, art, x[:count], board=min(BOARD, count), host=host) if integer else None
    ram = found.ram_bytes or Number(art.arena_bytes + art.sections.ram, MEASURED)
    save(net, to / NETWORK, example=x[:1])
    peak, notes = art.layout.peak, list(found.notes)
    made = Candidate(
        name=name, about=about, device=device, input=subject.shape, accuracy=found.accuracy,
        agreement=None if origin is None else _agreement(origin.outputs, outputs),
        snr=None if origin is None else Number(snr(origin.outputs, outputs), MEASURED),
        flash=found.flash_bytes, sections=asdict(art.sections), arena=found.arena_bytes,
        peak={"place": peak.place, "layer": layer(peak.place), "bytes": peak.live}, ram=ram, instructions=found.instructions,
        latency_ms=dict(found.latency_ms), macs=Number(macs, MEASURED), differing=None if checked is None else Number(checked.differing, MEASURED),
        compared=0 if checked is None else checked.compared, ways=() if checked is None else checked.ways,
        by_layer=_by_layer(art, host, x, notes), seconds=seconds, notes=tuple(notes), folder=str(to), training=training)  # fmt: skip
    if checked is not None and checked.differing:
        raise DeployError(f"{name}: {checked}. What was trained is not what would be shipped; please report this network")
    return made, outputs


def _real(art: Artefact, y: Array) -> Array:
    """float32 (n, ...) of the artefact's outputs."""
    b = art.outputs[0]
    real = y if b.scale is None or b.zero is None else dequantize(y, Grid(np.float32(b.scale), b.zero))
    return real.reshape(len(y), *b.shape)


def _agreement(reference: Array, outputs: Array) -> Number | None:
    """Of networks with several outputs an example: is the largest one the same?"""
    if reference.ndim < 2 or reference.shape[-1] < 2:
        return None
    return Number(float((reference.argmax(-1) == outputs.argmax(-1)).mean()), MEASURED)


def _by_layer(art: Artefact, host: Artefact, x: Array, notes: list[str]) -> dict[str, dict[str, float]]:
    """Bytes of constants, and milliseconds on this host, by layer in the order of the schedule."""
    found: dict[str, dict[str, float]] = {layer(s.place): {"flash": 0, "ms": 0.0} for s in art.layout.steps}
    for name, size in art.layout.constants_by_layer().items():
        found[name]["flash"] = size
    try:
        for t in timeline(host, x):
            found.setdefault(layer(t.place), {"flash": 0, "ms": 0.0})["ms"] += 1e3 * t.seconds
    except BuildError as error:
        notes.append(f"no times by layer: {error}")
    return found


__all__ = ["BOARD", "COMPARED", "Candidate", "Origin", "measured", "plain"]
