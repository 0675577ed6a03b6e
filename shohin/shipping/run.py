"""One call of ``ship``: what all courses have in common. A course says which candidates there are; each is made once, and kept."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from shohin import optim
from shohin.compress import Plan, Quantize
from shohin.compress.distill import distill
from shohin.core.module import Module
from shohin.core.version import __version__
from shohin.data.dataset import Dataset
from shohin.deploy.budget import Budget
from shohin.deploy.export import export
from shohin.shipping.candidate import Candidate, Origin, measured
from shohin.shipping.describe import description
from shohin.shipping.doubts import guesses, losses
from shohin.shipping.kept import Kept
from shohin.shipping.remedy import short
from shohin.shipping.shipment import Shipment
from shohin.shipping.subject import Subject
from shohin.shipping.teller import Teller
from shohin.train import digest, fit

INT8 = Plan([("*", Quantize(w=8, a=8))])
WHOLE = "float32"
"""The name of the network as it is, the first candidate, which all others are compared with."""
BATCH = 64
BUILDS = 8
"""What one candidate takes, in exports: two of those, and builds and runs here and on the board."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """``epochs`` of it (0: none); ``distill`` is the share of the loss that asks to answer like the network as it was."""

    epochs: int = 0
    distill: float = 0.0
    seed: int = 0


@dataclass(kw_only=True)
class Run:
    """A subclass has ``names``, the candidates that are certain, ``plans``, what is described of them, ``intends``, the same in
    words, and ``course``."""

    subject: Subject
    budget: Budget
    device: str
    kept: Kept
    training: Training
    told: Teller
    name: str
    found: list[Candidate] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def names(self) -> Sequence[str]:
        raise NotImplementedError(f"{type(self).__name__}.names")

    def plans(self) -> Mapping[str, Plan]:
        raise NotImplementedError(f"{type(self).__name__}.plans")

    def intends(self) -> list[str]:
        raise NotImplementedError(f"{type(self).__name__}.intends")

    def course(self) -> None:
        raise NotImplementedError(f"{type(self).__name__}.course")

    def whole(self, started: float) -> Shipment:
        subject, told = self.subject, self.told
        text = description(subject, f"{self.name} for {self.device}", self.plans())
        told.say(text)
        estimate = self._estimate()
        told.say("\n".join(self._plan(estimate)))
        self.add(WHOLE, "the network as it is", lambda _: (subject.net, ()), subject)
        doubts = guesses(self.found[0], subject)
        for line in doubts:
            told.say(f"warning: {line}")
        self.course()
        return self._finish(text, doubts, estimate, started)

    # -- one candidate
    def add(self, name: str, about: str, make: Callable[[Path], tuple[Module, Sequence[Mapping[str, Any]]]], subject: Subject,
            recipe: str = "") -> None:  # fmt: skip
        """The candidate ``name``, from its record (if that is of the same ``recipe``) or made now."""
        origin = self._origin()

        def record(folder: Path) -> dict[str, Any]:
            started = time.perf_counter()
            self.told.stage(name)
            net, training = make(folder)
            made, outputs = measured(net, subject, origin, name=name, about=about, device=self.device, to=folder, training=tuple(training))
            if origin is None:
                np.save(folder / "outputs.npy", outputs)
            return replace(made, seconds=time.perf_counter() - started).to_json()

        again = self.kept.has(name, recipe=recipe)
        found = Candidate.from_json(self.kept.record(name, record, recipe=recipe))
        self.found.append(found)
        self.told.done(len(self.found), max(len(self.found), 1 + len(self.names())))
        if again:
            self.told.say(f"{name}: kept from before")

    def _origin(self) -> Origin | None:
        path = self.kept.folder(WHOLE) / "outputs.npy"
        return Origin(outputs=np.load(path)) if self.kept.has(WHOLE) and path.is_file() else None

    def trained(self, net: Module, subject: Subject, folder: Path, rate: float) -> tuple[Module, list[dict[str, Any]]]:
        """``net`` trained in place; the run in ``folder`` goes on where it was."""
        self.told.pause()
        return train(net, subject, self.training, folder, rate, progress=None if self.told.console else False)

    # -- before and after
    def _estimate(self) -> float:
        """Seconds for the candidates that are certain: from one export, which is timed, and what is built for each."""
        remaining = sum(not self.kept.has(name) for name in (WHOLE, *self.names()))
        if not remaining:
            return 0.0
        started = time.perf_counter()
        with TemporaryDirectory(prefix="shohin-ship-") as folder:
            export(self.subject.net, self.subject.test[:1], device=self.device, to=folder)
        return remaining * BUILDS * (time.perf_counter() - started)

    def _plan(self, estimate: float) -> list[str]:
        s = self.subject
        by = f"accuracy on {len(s.test):,} labelled examples" if s.labels is not None else f"agreement with float on {len(s.test):,} examples, without labels"
        share = f", {self.training.distill:.0%} of the loss by the network as it was" if self.training.distill else ""
        lines = [
            "plan",
            f"  {WHOLE:12}what everything is compared with, judged by {by}",
            *self.intends(),
            *([f"  trained     {self.training.epochs} epochs on {len(s.train or ()):,} labelled examples{share}"] if self.training.epochs else []),
            *(f"  note        {n}" for n in s.notes),
        ]
        without = ", without training" if self.training.epochs else ""
        time_ = f"about {estimate:.0f} s for these{without} (modelled from one export)" if estimate else "nothing to make, all is kept"
        return [*lines, f"  time        {time_}", ""]

    def limits(self) -> str:
        return ", ".join(f"{k} {v:,.0f} bytes" for k, v in (("flash", self.budget.flash), ("RAM", self.budget.ram)) if v) or "no limit"

    def _finish(self, text: str, doubts: Sequence[str], estimate: float, started: float) -> Shipment:
        others = self.found[1:]
        first = next((c for c in others if c.integer), None)
        trainable = self.subject.train is not None and not self.training.epochs
        made = Shipment(
            folder=self.kept.path, device=self.device, budget=self.budget, description=text, candidates=tuple(self.found), skipped=tuple(self.skipped),
            short=() if first is None else tuple(short(first, self.budget, [c for c in others if c is not first])), doubts=tuple(doubts), estimate=estimate,
            seconds=time.perf_counter() - started,
        )  # fmt: skip
        if made.best is not None:
            made = replace(made, doubts=(*made.doubts, *losses(self.found[0], made.best, trainable=trainable)))
        best = made.best or max(others or self.found, key=lambda c: c.score)
        shutil.copyfile(best.network, made.checkpoint)
        artefact = self.kept.path / "artefact"
        shutil.rmtree(artefact, ignore_errors=True)
        if made.best is not None:
            shutil.copytree(Path(best.folder) / self.device, artefact, ignore=shutil.ignore_patterns("build"))
        self.kept.write("result.json", made.to_json())
        return made


def train(net: Module, subject: Subject, training: Training, folder: Path, rate: float, *, progress: bool | None) -> tuple[Module, list[dict[str, Any]]]:
    """``net`` trained in place, Adam with a cosine from ``rate``, and the history; the run in ``folder`` goes on where it was."""
    assert subject.train is not None
    batch = min(BATCH, len(subject.train))
    steps = max(1, len(subject.train) // batch * training.epochs)
    loss: Callable[..., Any] = lambda net, x, y: subject.loss(net(x), y)
    if training.distill:
        loss = distill(loss, subject.net, alpha=training.distill)
    history = fit(net, loss, subject.train, optim.adamw(rate, weight_decay=0.0).init(net), training.epochs, batch, schedule=optim.cosine(rate, steps),
                  augment=subject.augment, test=subject.judged if isinstance(subject.judged, Dataset) else None, metric=subject.metric,
                  run=folder / "training", seed=training.seed, progress=progress)  # fmt: skip
    return net.eval(), [asdict(r) for r in history]


def parts(subject: Subject, device: str, training: Training) -> dict[str, str]:
    """What the candidates' numbers depend on; the budget is no part of it."""
    arrays = {"calibration": subject.calibration, "judged": subject.test, "labels": subject.labels}
    values = [c.read().numpy() for c in subject.net.cells().values()]
    return {
        "network": digest.network(subject.net), "values": digest.digest({str(k): _hash(v) for k, v in enumerate(values)}),
        "data": digest.digest({k: "none" if v is None else _hash(v) for k, v in arrays.items()}),
        "train": "none" if subject.train is None or not training.epochs else subject.train.digest(),
        "device": device, "training": str(training), "shohin": __version__,
    }  # fmt: skip


def _hash(a: Any) -> str:
    array = np.ascontiguousarray(a)
    return f"{array.dtype}{array.shape}{hashlib.blake2b(array.reshape(-1).view(np.uint8).data, digest_size=16).hexdigest()}"


__all__ = ["INT8", "WHOLE", "Run", "Training", "parts", "train"]
