"""``sh.ship``: a network, its data, a device and a budget in; candidates measured on what is shipped, the best one out."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from shohin import optim
from shohin.compress import Plan, Quantize
from shohin.core.errors import DataError, ShohinError, StateError
from shohin.core.module import Module, copy
from shohin.core.version import __version__
from shohin.data.dataset import Dataset
from shohin.data.folder import PLAIN, Reading
from shohin.deploy.artefact import Artefact, load_artefact
from shohin.deploy.budget import Budget
from shohin.deploy.export import export
from shohin.deploy.stored import Stored
from shohin.shipping.candidate import Candidate, Origin, measured, plain
from shohin.shipping.describe import description
from shohin.shipping.doubts import guesses, losses
from shohin.shipping.kept import Kept
from shohin.shipping.options import Option, options
from shohin.shipping.remedy import short
from shohin.shipping.subject import Subject, subject_of
from shohin.shipping.teller import Teller, teller
from shohin.targets import get_target
from shohin.train import Task, digest, fit

INT8 = Plan([("*", Quantize(w=8, a=8))])
BATCH = 64


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
        """Integer networks within the budget. The float one is what they are compared with; its stack is not known."""
        return tuple(c for c in self.candidates if c.integer and not c.over(self.budget))

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


def ship(
    net: Module | Task, data: Any = None, *, device: str = "cortex-m55", flash: Any = None, ram: Any = None, to: str | Path = "shipped",
    finetune: int = 0, reading: Reading = PLAIN, at: Callable[[tuple[int, ...]], Module] | None = None, name: str = "", seed: int = 0, fresh: bool = False, progress: bool | Teller | None = None,
) -> Shipment:  # fmt: skip
    """Quantize, export, measure and compare; over budget, try what would make it fit. All on the artefact itself.

    Args:
        net: a float network (in Python, imported, or of a file), or a ``Task``.
        data: some hundred examples, float32 as the network takes them: a ``Dataset`` (labels: accuracy and training), an
            array, or a path for ``read_folder``. A ``Task`` has its own.
        flash, ram: the budget, in bytes or as ``"128kB"``.
        to: the folder of the shipment. Candidates in it are not made again: a run that was ended goes on.
        finetune: epochs of training for the int8 network (quantization-aware) and for networks that lost channels or
            resolution; needs labels.
        reading: how files become examples.
        at: ``at(shape)`` gives the network for examples of that shape, where it cannot take them itself (an imported one).
        name: what the network is called in what is printed; by default its class.

    Raises:
        DataError: no data, or data that does not fit, or training without labels; DeployError: ``to`` holds something else; AttrError: a budget that is
            no size; QuantizationError: places without an integer definition, all at once.

    >>> from shohin import nn
    >>> x = np.random.default_rng(0).normal(size=(16, 6)).astype(np.float32)
    >>> found = ship(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)), x, device="host", progress=False)
    >>> [c.name for c in found.candidates], found.best.differing.value
    (['float32', 'int8'], 0)
    """
    started = time.perf_counter()
    budget, target = Budget(flash=flash, ram=ram), get_target(device)
    subject = replace(subject_of(net, data, reading), at=at)
    if finetune and subject.train is None:
        raise DataError("ship: --finetune needs labels: a folder whose subfolders are labels, .npz with x and y, or a task")
    if finetune and isinstance(subject.net, Stored):
        raise StateError("ship: the network of a file without its Python is for evaluation; to train it, give a task file that loads the values "
                         "(sh.load(path, into=net))")
    kept = Kept(to, _parts(subject, device, finetune, seed), fresh=fresh)
    told = progress if isinstance(progress, Teller) else teller(progress)
    run = _Run(subject=subject, budget=budget, device=target.name, kept=kept, finetune=finetune, seed=seed, told=told,
               name=name or type(subject.net).__name__)  # fmt: skip
    try:
        return run.whole(started)
    finally:
        told.pause()


def _parts(subject: Subject, device: str, finetune: int, seed: int) -> dict[str, str]:
    """What the candidates' numbers depend on; the budget is no part of it."""
    arrays = {"calibration": subject.calibration, "judged": subject.test, "labels": subject.labels}
    values = [c.read().numpy() for c in subject.net.cells().values()]
    return {
        "network": digest.network(subject.net), "values": digest.digest({str(k): _hash(v) for k, v in enumerate(values)}),
        "data": digest.digest({k: "none" if v is None else _hash(v) for k, v in arrays.items()}),
        "train": "none" if subject.train is None or not finetune else subject.train.digest(),
        "device": device, "finetune": str(finetune), "seed": str(seed), "shohin": __version__,
    }  # fmt: skip


def _hash(a: Any) -> str:
    array = np.ascontiguousarray(a)
    return f"{array.dtype}{array.shape}{hashlib.blake2b(array.reshape(-1).view(np.uint8).data, digest_size=16).hexdigest()}"


@dataclass(kw_only=True)
class _Run:
    """One call of ``ship``."""

    subject: Subject
    budget: Budget
    device: str
    kept: Kept
    finetune: int
    seed: int
    told: Teller
    name: str

    def whole(self, started: float) -> Shipment:
        subject, told = self.subject, self.told
        text = description(subject, f"{self.name} for {self.device}", INT8)
        told.say(text)
        estimate = self._estimate()
        told.say("\n".join(self._plan(estimate)))
        self.found: list[Candidate] = []
        self.skipped: list[str] = []
        self._add("float32", "the network as it is", lambda _: (subject.net, ()), subject)
        self.doubts = guesses(self.found[0], subject)
        for line in self.doubts:
            told.say(f"warning: {line}")
        self._add("int8", "weights and activations of 8 bits, by calibration", lambda _: (INT8.apply(subject.net, subject.calibration), ()), subject)
        if self.finetune:
            about = f"the same, trained for {self.finetune} epochs with its rounding (QAT)"
            self._add("int8, trained", about, lambda folder: self._trained(INT8.apply(subject.net, subject.calibration), subject, folder, 1e-4), subject)
        integers = self.found[1:]
        if all(c.over(self.budget) for c in integers):
            told.say(f"over the budget ({', '.join(integers[-1].over(self.budget))}): up to {MOST} more candidates, about {integers[0].seconds:.0f} s each (as int8 took)")
            self._reduce(integers[0])
        return self._finish(text, estimate, started)

    def _reduce(self, base: Candidate) -> None:
        fits = lambda: not self.found[-1].over(self.budget)
        for option in options(self.subject, base, self.budget, self.device, self.kept, fits):
            if option.skip:
                self.skipped.append(f"{option.name}: {option.skip}")
                self.told.say(f"{option.name}: not tried, {option.skip}")
                continue
            subject = option.subject or self.subject
            try:
                self._add(option.name, option.about, lambda _, o=option, s=subject: (o.plan.apply(s.net, s.calibration), ()), subject)
            except ShohinError as error:
                self.skipped.append(f"{option.name}: {error}")
                self.told.say(f"{option.name}: left out, {error}")
                continue
            if self.finetune and option.family != "tables" and fits():
                name, about = f"{option.name}, trained", f"{option.about}; the float network then trained for {self.finetune} epochs, and quantized"
                self._add(name, about, lambda folder, o=option, s=subject: self._retrained(o, s, folder), subject)

    # -- one candidate
    def _add(self, name: str, about: str, make: Callable[[Path], tuple[Module, Sequence[Mapping[str, Any]]]], subject: Subject) -> None:
        """The candidate ``name``, from its record or made now."""
        origin = self._origin()

        def record(folder: Path) -> dict[str, Any]:
            started = time.perf_counter()
            self.told.stage(name)
            net, training = make(folder)
            made, outputs = measured(net, subject, origin, name=name, about=about, device=self.device, to=folder, training=tuple(training))
            if origin is None:
                np.save(folder / "outputs.npy", outputs)
            return replace(made, seconds=time.perf_counter() - started).to_json()

        again = self.kept.has(name)
        found = Candidate.from_json(self.kept.record(name, record))
        self.found.append(found)
        self.told.done(len(self.found), max(len(self.found), self._expected()))
        if again:
            self.told.say(f"{name}: kept from before")

    def _origin(self) -> Origin | None:
        path = self.kept.folder("float32") / "outputs.npy"
        return Origin(outputs=np.load(path)) if self.kept.has("float32") and path.is_file() else None

    # -- training
    def _trained(self, net: Module, subject: Subject, folder: Path, rate: float) -> tuple[Module, list[dict[str, Any]]]:
        """``net`` trained in place; the run in ``folder`` goes on where it was."""
        assert subject.train is not None
        batch = min(BATCH, len(subject.train))
        steps = max(1, len(subject.train) // batch * self.finetune)
        self.told.pause()
        loss = lambda net, x, y: subject.loss(net(x), y)
        history = fit(net, loss, subject.train, optim.adamw(rate, weight_decay=0.0).init(net), self.finetune, batch, schedule=optim.cosine(rate, steps),
                      augment=subject.augment, test=subject.judged if isinstance(subject.judged, Dataset) else None, metric=subject.metric,
                      run=folder / "training", seed=self.seed, progress=None if self.told.console else False)  # fmt: skip
        return net.eval(), [asdict(r) for r in history]

    def _retrained(self, option: Option, subject: Subject, folder: Path) -> tuple[Module, list[dict[str, Any]]]:
        rules = option.rules
        small = Plan(list(rules)).apply(subject.net, subject.calibration) if rules else copy(subject.net)
        small, history = self._trained(small, subject, folder, 1e-3)
        return INT8.apply(small, subject.calibration), history

    # -- before and after
    def _expected(self) -> int:
        return 2 + bool(self.finetune)

    def _estimate(self) -> float:
        """Seconds for the candidates that are certain: from one export, which is timed, and what is built for each."""
        remaining = self._expected() - sum(map(self.kept.has, ("float32", "int8", "int8, trained")))
        if remaining <= 0:
            return 0.0
        started = time.perf_counter()
        with TemporaryDirectory(prefix="shohin-ship-") as folder:
            export(self.subject.net, self.subject.test[:1], device=self.device, to=folder)
        return remaining * BUILDS * (time.perf_counter() - started)

    def _plan(self, estimate: float) -> list[str]:
        s = self.subject
        limits = ", ".join(f"{k} {v:,.0f} bytes" for k, v in (("flash", self.budget.flash), ("RAM", self.budget.ram)) if v) or "no limit"
        by = f"accuracy on {len(s.test):,} labelled examples" if s.labels is not None else f"agreement with float on {len(s.test):,} examples, without labels"
        lines = [
            "plan",
            f"  float32     what everything is compared with, judged by {by}",
            f"  int8        grids from {len(s.calibration)} other examples; every integer is compared between module, reference, C here and on the device",
            *([f"  trained     {self.finetune} epochs on {len(s.train or ()):,} labelled examples"] if self.finetune else []),
            f"  then        if the budget ({limits}) is exceeded: 4-, 3-, 2-bit tables, fewer channels, a smaller input",
            *(f"  note        {n}" for n in s.notes),
        ]
        time_ = "nothing to make, all is kept" if not estimate else f"about {estimate:.0f} s for {'these' if not self.finetune else 'these, without training'} (modelled from one export)"
        return [*lines, f"  time        {time_}", ""]

    def _finish(self, text: str, estimate: float, started: float) -> Shipment:
        integers = [c for c in self.found if c.integer]
        trainable = self.subject.train is not None and not self.finetune
        made = Shipment(
            folder=self.kept.path, device=self.device, budget=self.budget, description=text, candidates=tuple(self.found), skipped=tuple(self.skipped),
            short=tuple(short(integers[0], self.budget, [c for c in integers[1:]])), doubts=tuple(self.doubts), estimate=estimate, seconds=time.perf_counter() - started,
        )  # fmt: skip
        if made.best is not None:
            made = replace(made, doubts=(*made.doubts, *losses(self.found[0], made.best, trainable=trainable)))
        best = made.best or max(integers, key=lambda c: c.score)
        shutil.copyfile(best.network, made.checkpoint)
        artefact = self.kept.path / "artefact"
        shutil.rmtree(artefact, ignore_errors=True)
        if made.best is not None:
            shutil.copytree(Path(best.folder) / self.device, artefact, ignore=shutil.ignore_patterns("build"))
        self.kept.write("result.json", made.to_json())
        return made


MOST = 7
"""Candidates that a network over its budget may bring, untrained: three tables, channels, two resolutions, channels with tables."""
BUILDS = 8
"""What one candidate takes, in exports: two of those, and builds and runs here and on the board."""


def _cost(c: Candidate) -> tuple[float, ...]:
    """What is to be small, the most important first."""
    return -c.score, c.flash.value, c.ram.value, c.latency_ms["median"].value


__all__ = ["Shipment", "ship"]
