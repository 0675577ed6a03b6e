"""``Shipment``: the candidates for one device and budget, and which of them fit."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from shohin.core.version import __version__
from shohin.deploy.artefact import Artefact, load_artefact
from shohin.deploy.budget import Budget
from shohin.shipping.candidate import Candidate, plain


@dataclass(frozen=True, kw_only=True)
class Shipment:
    """What ``ship`` found. ``best`` is None where nothing fits; ``short`` then says what is missing, and the first remedy.

    ``skipped`` are ways that were not tried, with the reason; ``doubts`` what speaks against believing the answers; ``front`` the candidates that fit and that no other one beats in
    answers, flash, RAM and time together.
    """

    folder: Path
    device: str
    budget: Budget
    description: str
    candidates: tuple[Candidate, ...]
    skipped: tuple[str, ...]
    short: tuple[str, ...]
    doubts: tuple[str, ...]
    estimate: float
    seconds: float

    @property
    def fitting(self) -> tuple[Candidate, ...]:
        """What is within the budget, without the network as it was, which all are compared with."""
        return tuple(c for c in self.candidates[1:] if not c.over(self.budget))

    @property
    def best(self) -> Candidate | None:
        """The best answers of those that fit; of equal ones the least flash, RAM, time."""
        return min(self.fitting, key=_cost, default=None)

    @property
    def front(self) -> tuple[Candidate, ...]:
        beats = lambda a, b: _cost(a) != _cost(b) and all(x <= y for x, y in zip(_cost(a), _cost(b), strict=True))
        return tuple(c for c in self.fitting if not any(beats(o, c) for o in self.fitting))

    @property
    def artefact(self) -> Artefact:
        """The C of the best candidate, in ``folder/artefact``.

        Raises:
            DeployError: nothing fits, so nothing was written.
        """
        return load_artefact(self.folder / "artefact")

    @property
    def checkpoint(self) -> Path:
        """The best candidate's network, for ``sh.load``; that of the best answers where nothing fits."""
        return self.folder / "checkpoint.safetensors"

    def to_json(self) -> dict[str, Any]:
        """What ``result.json`` holds (docs/ship.md)."""
        limits = {k: v for k, v in asdict(self.budget).items() if v is not None}
        best = self.best
        return plain({
            "schema": 1, "shohin": __version__, "device": self.device, "budget": limits, "best": None if best is None else best.name,
            "front": [c.name for c in self.front], "short": self.short, "skipped": self.skipped, "doubts": self.doubts,
            "seconds": {"value": round(self.seconds, 1), "how": "measured"}, "estimate": {"value": round(self.estimate, 1), "how": "modelled"},
            "network": self.description,
            "candidates": [{**c.to_json(), "fits_budget": not c.over(self.budget), "over": c.over(self.budget)} for c in self.candidates],
        })  # fmt: skip


def _cost(c: Candidate) -> tuple[float, ...]:
    """What is to be small, the most important first."""
    return -c.score, c.flash.value, c.ram.value, c.latency_ms["median"].value


__all__ = ["Shipment"]
