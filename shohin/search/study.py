"""``search``: propose, check exactly, train, measure, write down. Nothing is trained that cannot fit.

Before training the network is exported with the weights that it starts with: its bytes, arena and instructions (int8
code does not branch on data) are those that it will have. What is over the budget is rejected with the reason. The rest
is trained by ``score``, exported and measured; every finished trial is one line of ``run/log.jsonl``, whole or not at
all, and a search that starts again goes on behind the last one.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shohin.compress.calibration import batches
from shohin.compress.plan import Plan
from shohin.core.errors import BudgetError, CheckpointError, ShohinError, StateError
from shohin.core.module import Module
from shohin.deploy.artefact import Artefact, load_artefact
from shohin.deploy.budget import Budget
from shohin.deploy.export import export
from shohin.deploy.measure import measure
from shohin.deploy.stored import save
from shohin.ops import random
from shohin.search.space import Space, Trial
from shohin.search.strategies import Random, Strategy, named
from shohin.targets import get_target
from shohin.train import digest

LOG = "log.jsonl"
NUMBERS = ("flash", "ram", "instructions")


@dataclass(frozen=True, kw_only=True)
class Record:
    """One finished trial: flash, ram and instructions ``predicted`` before training and ``measured`` after it (``ram``
    is arena and variables, on a board the painted stack too); ``rejected`` says why it does not fit, or is empty; ``plan`` is the
    plan as it prints."""

    number: int
    picks: Mapping[str, str]
    path: tuple[int, ...]
    options: Mapping[str, int]
    score: float | None
    predicted: Mapping[str, Any]
    measured: Mapping[str, Any]
    rejected: str
    folder: str
    plan: str = ""

    @property
    def choices(self) -> dict[str, int]:
        """The number of each choice by name, in the order in which they were asked."""
        return dict(zip(self.options, self.path, strict=True))

    @property
    def artefact(self) -> Artefact:
        """The measured artefact."""
        return load_artefact(self.folder)

    def __str__(self) -> str:
        numbers = []
        for name in NUMBERS:
            before, after = self.predicted.get(name), self.measured.get(name)
            if before is not None or after is not None:
                show = lambda v: "?" if v is None else f"{v:,}"
                numbers.append(f"{name} {show(before)}" + ("" if not self.measured else f" -> {show(after)}"))
        picks = ", ".join(f"{k}={v}" for k, v in self.picks.items())
        score = "" if self.score is None else f"  score {self.score:.4f}"
        why = f"  REJECTED: {self.rejected}" if self.rejected else ""
        return f"#{self.number:<3} {picks}{score}  {', '.join(numbers)}{why}"


class Records(tuple[Record, ...]):
    """Records that print as a table."""

    def __str__(self) -> str:
        return "\n".join(map(str, self)) or "(none)"

    __repr__ = __str__


@dataclass(frozen=True)
class Study:
    """All finished trials of a search."""

    records: Records
    budget: Budget

    @property
    def rejected(self) -> Records:
        return Records(r for r in self.records if r.rejected)

    @property
    def front(self) -> Records:
        """Measured trials that fit and that no other one beats in score, flash, RAM and instructions together."""
        key = lambda r: (-r.score, *(r.measured.get(n) or 0 for n in NUMBERS))
        fit = [r for r in self.records if not r.rejected]
        beats = lambda a, b: key(a) != key(b) and all(x <= y for x, y in zip(key(a), key(b), strict=True))
        return Records(sorted((r for r in fit if not any(beats(o, r) for o in fit)), key=key))

    @property
    def best(self) -> Record:
        """The highest score among those that fit and were measured, the smaller flash of equal ones."""
        fit = [r for r in self.records if not r.rejected]
        if fit:
            return min(fit, key=lambda r: (-(r.score or 0.0), r.measured["flash"], r.number))
        near = [r for r in self.records if r.predicted]
        if not near:
            why = f"; the first failed: {self.records[0].rejected}" if self.records else ""
            raise BudgetError(f"none of {len(self.records)} trials could be exported{why}")
        closest = min(near, key=self._excess)
        raise BudgetError(f"none of {len(self.records)} trials fits {self.budget}; the closest: {closest}")

    def _excess(self, r: Record) -> float:
        found = {**r.predicted, **r.measured}
        limits = {n: getattr(self.budget, n) for n in NUMBERS}
        return max((found[n] / limits[n] for n in NUMBERS if limits[n] and found.get(n)), default=0.0)

    def __str__(self) -> str:
        return f"front\n{self.front}\nrejected\n{self.rejected}"

    __repr__ = __str__


def search(
    build: Callable[[Trial], Any],
    score: Callable[[Any], Any],
    *,
    calibration: Any,
    device: str,
    budget: Budget,
    trials: int = 64,
    run: str | Path,
    seed: int = 0,
    strategy: Strategy | str | None = None,
    fork: bool = False,
    progress: Callable[[Study], None] | None = None,
) -> Study:
    """Tries up to ``trials`` different ways through ``build`` and returns the study.

    Args:
        build: ``build(t)`` gives a network, or a network and a ``Plan``; it chooses with ``t.pick(name, options)``,
            ``t.choice``, ``t.width``, ``t.repeat`` and ``t.bits``.
        score: ``score(net)`` trains the module (after ``plan.apply``) in place and returns a number, higher is better.
        calibration: a data set or array, for the plans and for the measured inferences.
        run: the folder of the search; started again with the same ``build``, the search goes on.
        strategy: ``Random()`` (the default), ``Evolution()``, anything with their ``propose``, or a name (``strategies.STRATEGIES``).
        fork: begin anew in a folder that holds another search; the old log stays beside the new one.
        progress: called with the study so far when the log has been read, and after each trial.

    Raises:
        StateError: ``build``, device, budget, seed or strategy differ from the search in the folder.
    """
    get_target(device)
    folder = Path(run)
    strategy = named(strategy) if isinstance(strategy, str) else Random() if strategy is None else strategy
    header = {"strategy": repr(strategy), "build": digest.function(build), "device": device, "budget": str(budget), "seed": str(seed)}
    log = _Log(folder, header, fork)
    space, records = Space(seed), list(log.records)
    for r in records:  # the tree as it was
        for k, size in enumerate(r.options.values()):
            space.sizes[r.path[:k]] = size
        space.done(r.path)
    told = progress or (lambda study: None)
    told(Study(Records(records), budget))
    for number in range(len(records), trials):
        if space.exhausted:
            break
        proposed = strategy.propose(records, np.random.default_rng([seed, number, 1]))
        record = _one(build, score, Trial(space, number, proposed), calibration, device, budget, folder)
        space.done(record.path)
        log.append(record)
        records.append(record)
        told(Study(Records(records), budget))
    return Study(Records(records), budget)


def built(build: Callable[[Trial], Any], trial: Trial) -> tuple[Module, Plan]:
    """The network and the plan that ``build`` gives, the empty one if it gives none. Raises ``StateError`` for anything else."""
    made = build(trial)
    net, plan = made if isinstance(made, tuple) else (made, Plan([]))
    if not isinstance(net, Module) or not isinstance(plan, Plan):
        raise StateError(f"build gives {type(net).__name__} and {type(plan).__name__}, not a network and a Plan")
    return net, plan


def _one(
    build: Callable[[Trial], Any],
    score: Callable[[Any], Any],
    trial: Trial,
    calibration: Any,
    device: str,
    budget: Budget,
    folder: Path,
) -> Record:
    """One trial, from its choices to its numbers."""
    random.seed(trial.seed)
    to, value, why = folder / "trials" / str(trial.number), None, ""
    predicted: dict[str, Any] = {}
    measured: dict[str, Any] = {}
    said = ""
    try:
        net, plan = built(build, trial)
        said = str(plan)
        small = plan.apply(net, calibration=calibration)
        x = next(batches(calibration))[0][:2]
        with tempfile.TemporaryDirectory(prefix="shohin-search-") as probe:
            predicted = _numbers(small, x, device, Path(probe), budget, budget.instructions is not None)
        why = "; ".join(budget.excess(**predicted))
        if not why:
            value = float(score(small))
            measured = _numbers(small, x, device, to, Budget(), True)
            save(small, to / "network.safetensors")
            why = "; ".join(f"after training, {w}" for w in budget.excess(**measured))
            why = why if np.isfinite(value) else f"score is {value}"
    except StateError:  # the program is wrong, not the network
        raise
    except ShohinError as error:
        why = f"{type(error).__name__}: {error}"
    return Record(
        number=trial.number,
        picks={k: repr(v) for k, v in trial.picks.items()},
        path=trial.path,
        options={k: len(texts) for k, texts in trial.options.items()},
        score=value,
        predicted=predicted,
        measured=measured,
        rejected=why,
        folder=str(to) if measured else "",
        plan=said,
    )


def _numbers(net: Any, x: Any, device: str, to: Path, budget: Budget, board: bool) -> dict[str, Any]:
    """Exact bytes of the artefact and, where they fit and ``board`` asks, what an inference takes on the board."""
    art = export(net, x, device=device, to=to)
    found: dict[str, Any] = {"flash": art.flash_bytes, "ram": art.arena_bytes + art.sections.ram, "instructions": None}
    if board and not budget.excess(flash=found["flash"], ram=found["ram"]):
        m = measure(art, x, board=1, repeats=20)
        found["ram"] = found["ram"] if m.ram_bytes is None else int(m.ram_bytes.value)
        found["instructions"] = None if m.instructions is None else int(m.instructions.value)
    return found


class _Log:
    """``log.jsonl``: a first line that says what is searched, then one a trial; a last line cut off is left out."""

    def __init__(self, folder: Path, header: Mapping[str, str], fork: bool) -> None:
        self.path = folder / LOG
        folder.mkdir(parents=True, exist_ok=True)
        lines = _lines(self.path)
        if lines:
            old = lines[0].get("search", {})
            changed = digest.differences(old, header, lines[0].get("python", ""))
            if changed and not fork:
                raise StateError(
                    f"{folder} holds another search, it differs in {'; '.join(changed)}. Pass fork=True to begin anew "
                    "there, or another run="
                )
            if changed:
                kept = folder / f"log-{digest.digest(old)[:8]}.jsonl"
                os.replace(self.path, kept)
                lines = []
        first = {"search": dict(header), "python": digest.PYTHON}
        rows = lines[1:] if lines else []
        self.records = [Record(**{**row, "path": tuple(row["path"])}) for row in rows]
        self._whole([first if not lines else lines[0], *rows])

    def _whole(self, rows: Iterable[Mapping[str, Any]]) -> None:
        temporary = self.path.with_suffix(".tmp")
        with open(temporary, "w", encoding="utf-8") as file:
            file.writelines(json.dumps(r) + "\n" for r in rows)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self.path)

    def append(self, record: Record) -> None:
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(record)) + "\n")
            file.flush()
            os.fsync(file.fileno())


def _lines(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    found = []
    text = path.read_text(encoding="utf-8")
    for k, line in enumerate(text.splitlines(keepends=True)):
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError as error:
            if not line.endswith("\n"):
                break  # the process was ended while it wrote
            raise CheckpointError(
                f"{path}: line {k + 1} is not JSON ({error}); restore it or pass another run="
            ) from error
    return found


__all__ = ["Record", "Records", "Study", "built", "search"]
