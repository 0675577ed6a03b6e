"""One attempt at a way through ``build``: check exactly, train, measure. Plain data, so that another process can make it."""

from __future__ import annotations

import hashlib
import inspect
import tempfile
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shohin.compress.calibration import batches
from shohin.compress.plan import Plan
from shohin.core.errors import NonFiniteError, ShohinError, StateError
from shohin.core.module import Module
from shohin.deploy.budget import Budget
from shohin.deploy.export import export
from shohin.deploy.measure import measure
from shohin.deploy.stored import save
from shohin.ops import random
from shohin.search.records import Record, over
from shohin.search.space import Space, Stopped, Trial
from shohin.search.strategies import Build, Inherit

Made = tuple[Module, Plan]


@dataclass(frozen=True)
class Job:
    """A way to try: the number of the trial, and the numbers of the choices by name."""

    number: int
    choices: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class Work:
    """What is the same in all attempts of a search. ``score(net)``, or ``score(net, t)``, gives a number, or yields one after each epoch."""

    build: Build
    score: Callable[..., Any]
    calibration: Any
    device: str
    budget: Budget
    folder: Path
    seed: int
    inherit: Inherit | None = None

    def again(self, job: Job, goes_on: Callable[[int, float], bool]) -> Record:
        """Builds the way of ``job`` here, and tries it. Raises ``StateError`` if ``build`` asks otherwise than where the job was made."""
        trial = Trial(Space(self.seed), job.number, job.choices)
        made = self.made(trial)
        if trial.choices != job.choices:
            raise StateError(f"build asks for {trial.choices} in one process and for {job.choices} in another; it must not depend on chance or on the process")
        trial.goes_on = goes_on
        return self.tried(trial, made)

    def made(self, trial: Trial) -> Made:
        """The network and the plan of a way, the same for the same trial."""
        random.seed(trial.seed)
        return built(self.build, trial)

    def tried(self, trial: Trial, made: Made) -> Record:
        """One trial, from its network to its numbers. Raises only where the program is wrong, not the network."""
        to, value, why = self.folder / "trials" / str(trial.number), None, ""
        predicted: dict[str, Any] = {}
        measured: dict[str, Any] = {}
        net, plan = made
        trial.folder = self.folder / "ways" / hashlib.sha256(repr(sorted(trial.choices.items())).encode()).hexdigest()[:12]
        try:
            if self.inherit is not None:
                self.inherit(net, trial)
            small = plan.apply(net, calibration=self.calibration)
            x = next(batches(self.calibration))[0][:2]
            with tempfile.TemporaryDirectory(prefix="shohin-search-") as probe:
                predicted = self._numbers(small, x, Path(probe), self.budget, self.budget.instructions is not None)
            why = "; ".join(self.budget.excess(**predicted))
            if not why:
                value = self._scored(small, trial)
                measured = self._numbers(small, x, to, Budget(), True)
                save(small, to / "network.safetensors")
                why = "; ".join(f"after training, {w}" for w in self.budget.excess(**measured))
        except Stopped:
            epoch, value = trial.reports[-1]
            why = f"stopped at epoch {epoch}, score {value:.4f}"
        except StateError:
            raise
        except ShohinError as error:
            why = f"{type(error).__name__}: {error}"
        found = {**predicted, **measured}
        far = over(self.budget, found) if found else None
        return record(trial, plan, score=value, predicted=predicted, measured=measured, rejected=why, folder=str(to) if measured else "", over=far)

    def _scored(self, net: Module, trial: Trial) -> float:
        given = self.score(net, trial) if takes_trial(self.score) else self.score(net)
        if isinstance(given, Generator):
            for epoch, value in enumerate(given, 1):
                trial.report(epoch, value)
            if not trial.reports:
                raise StateError("score yields nothing; it should yield a number after each epoch, or return one")
            return trial.reports[-1][1]
        value = float(given)
        if not np.isfinite(value):
            raise NonFiniteError(f"score is {value}")
        return value

    def _numbers(self, net: Any, x: Any, to: Path, budget: Budget, board: bool) -> dict[str, Any]:
        """Exact bytes of the artefact and, where they fit and ``board`` asks, what an inference takes on the board."""
        art = export(net, x, device=self.device, to=to)
        found: dict[str, Any] = {"flash": art.flash_bytes, "ram": art.arena_bytes + art.sections.ram, "instructions": None}
        if board and not budget.excess(flash=found["flash"], ram=found["ram"]):
            m = measure(art, x, board=1, repeats=20)
            found["ram"] = found["ram"] if m.ram_bytes is None else int(m.ram_bytes.value)
            found["instructions"] = None if m.instructions is None else int(m.instructions.value)
        return found


def built(build: Build, trial: Trial) -> Made:
    """The network and the plan that ``build`` gives, the empty one if it gives none. Raises ``StateError`` for anything else."""
    made = build(trial)
    net, plan = made if isinstance(made, tuple) else (made, Plan([]))
    if not isinstance(net, Module) or not isinstance(plan, Plan):
        raise StateError(f"build gives {type(net).__name__} and {type(plan).__name__}, not a network and a Plan")
    return net, plan


def record(trial: Trial, plan: Plan | None, **more: Any) -> Record:
    """The record of a trial, of what ``more`` says and of what it asked."""
    nothing = {"score": None, "predicted": {}, "measured": {}, "rejected": "", "folder": ""}
    return Record(
        number=trial.number, picks={k: said(v, trial.choices[k]) for k, v in trial.picks.items()}, path=trial.path, options={k: len(texts) for k, texts in trial.options.items()},
        ordered=tuple(n for n in trial.options if n in trial.ordered), plan="" if plan is None else str(plan), reports=tuple(trial.reports), **{**nothing, **more},
    )  # fmt: skip


def said(value: Any, option: int) -> str:
    """A choice on one line.

    >>> from shohin import nn
    >>> said(8, 0), said(nn.Sequential(nn.ReLU()), 1)
    ('8', 'Sequential, option 1')
    """
    text = repr(value)
    return f"{type(value).__name__}, option {option}" if "\n" in text else text


def takes_trial(score: Callable[..., Any]) -> bool:
    """Whether ``score`` asks for the trial beside the network.

    >>> takes_trial(lambda net, t: 0), takes_trial(lambda net, *, epochs=1: 0)
    (True, False)
    """
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in kinds and p.default is p.empty for p in inspect.signature(score).parameters.values()) > 1


__all__ = ["Job", "Made", "Work", "built", "record", "said", "takes_trial"]
