"""``shohin search``: a task file with ``task`` and ``build(t)`` in; the space, an estimate, the front as it grows, and the best as something to ship out."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

import shohin as sh
from shohin import optim
from shohin.cli.file_trials import BATCH, FileBuild, FileScore, Trained, names_of, parts_of
from shohin.compress import Plan
from shohin.compress.quantized import Quantized
from shohin.core.errors import DataError, ShohinError, StateError
from shohin.core.version import __version__
from shohin.data import Dataset
from shohin.deploy.artefact import Artefact
from shohin.deploy.budget import Budget
from shohin.deploy.export import export
from shohin.deploy.layout import layer
from shohin.deploy.measure import EMULATED, MEASURED, Number, compare, measure
from shohin.report.explored import Cost, Entry, Explored
from shohin.search import Space, Study, Trial, search
from shohin.search.study import built
from shohin.shipping.kept import Kept
from shohin.targets import get_target
from shohin.targets.toolchain import atomic
from shohin.train import Task

CALIBRATION, TIMED = 256, 8
"""Examples for the plans, and steps that are timed for the estimate."""
COSTS = {"flash": ("flash", "kB", MEASURED, 1000.0), "ram": ("RAM", "kB", EMULATED, 1000.0), "instructions": ("instructions", "M", EMULATED, 1e6)}
"""By the name in a record: name, unit, how it comes about on a board, and how many of the record's make one."""
SEARCH = "search"


@dataclass(frozen=True, kw_only=True)
class Config:
    """The command's options. ``epochs`` and ``rate`` are those of a trial's training, unless the file has a ``score``."""

    task: Path
    device: str
    budget: Budget
    trials: int
    epochs: int
    strategy: str
    out: Path
    rate: float = 3e-3
    seed: int = 0
    fresh: bool = False
    json: bool = False
    workers: int = 1
    cluster: str | None = None


def run(config: Config, console: Console) -> dict[str, Any]:
    """Search, show, write. Raises ``BudgetError`` where nothing fits; all that was found is kept and shown before."""
    started = time.perf_counter()
    get_target(config.device)
    told = Console(stderr=True, highlight=False) if config.json else console
    task, build, own = _loaded(config.task)
    rest, valid = parts_of(str(config.task), config.seed)
    calibration = rest.take(min(CALIBRATION, len(rest)))
    kept = Kept(config.out, _parts(config, rest, valid, own), fresh=config.fresh, job="search")
    describe(config, build, calibration, task, rest, own, told)
    score = FileScore(str(config.task)) if own else _training(config)
    with Watching(told) as watch:
        study = search(build, score, task=replace(task, train=rest, test=valid), workers=config.workers, cluster=config.cluster, calibration=calibration, device=config.device, budget=config.budget, trials=config.trials,
                       run=kept.path / SEARCH, seed=config.seed, strategy=config.strategy, fork=config.fresh, progress=watch)  # fmt: skip
    fitting = any(not r.rejected for r in study.records)
    result = {
        "schema": 1, "shohin": __version__, "device": config.device, "budget": config.budget.limits(), "strategy": config.strategy, "trials": len(study.records),
        "seconds": asdict(Number(round(time.perf_counter() - started, 1), MEASURED)), "front": [r.number for r in study.front],
        "best": _shipped(study, kept, task) if fitting else None, "records": [asdict(r) for r in study.records],
    }  # fmt: skip
    kept.write("result.json", result)
    note = _report(study, result, kept, config)
    if config.json:
        print(json.dumps(result, indent=1))
    else:
        _show(study, result, note, kept, console)
    _ = study.best  # the error says what came closest
    return result


def _loaded(path: Path) -> tuple[Task, FileBuild, bool]:
    """The task, its build, and whether the file has a score."""
    found = names_of(str(path))
    task, build, score = (found.get(name) for name in ("task", "build", "score"))
    if not isinstance(task, Task):
        raise DataError(f"{path}: it sets {'no task' if task is None else f'task to a {type(task).__name__}'}; write task = sh.Task(model, train, test, loss, metric)")
    if not callable(build):
        raise DataError(f"{path}: it has no build; write def build(t), which asks t.pick(name, options) and gives a network, or a network and a Plan (docs/compare.md)")
    if score is not None and not callable(score):
        raise DataError(f"{path}: score is a {type(score).__name__}, expected a function of the network; leave it out, and a trial is trained for --epochs")
    return task, FileBuild(str(path)), score is not None


def _parts(config: Config, rest: Dataset, valid: Dataset, own: bool) -> dict[str, str]:
    """What a trial's score depends on beside what ``search`` itself compares."""
    training = "the file's score" if own else f"{config.epochs} epochs at {config.rate:g}"
    return {"training": training, "train": rest.digest(), "valid": valid.digest(), "shohin": __version__}


def _training(config: Config) -> Trained:
    return Trained(str(config.task), config.epochs, config.rate, config.seed)


def describe(config: Config, build: Callable[[Trial], Any], calibration: Dataset, task: Task, rest: Dataset, own: bool, told: Console) -> None:
    """The space along one way through it, the budget, and what it may take: one candidate is exported and trained for some steps."""
    trial = Trial(Space(config.seed), 0)
    sh.seed(config.seed)
    net, plan = built(build, trial)
    say = lambda text: told.print(text, soft_wrap=True, markup=False)
    say(f"search of {config.task.name} for {config.device}: input {' x '.join(map(str, rest.x.shape[1:]))}")
    for name, texts in trial.options.items():
        say(f"  {name:12}{', '.join(texts)}")
    ways = int(np.prod([float(len(t)) for t in trial.options.values()])) if trial.options else 1
    say(f"  ways        {ways:,} of these choices" + (" (others may open behind them)" if trial.options else ""))
    say(f"  budget      {config.budget}; bytes and instructions are checked before anything is trained")
    say(f"  trials      {config.trials} by {config.strategy}" + ("" if own else f", each {config.epochs} epochs of {len(rest):,} examples"))
    try:
        seconds = _estimate(config, net, plan, calibration, task, rest, own)
        what = "without the file's own score" if own else "modelled from one candidate"
        say(f"  time        at most about {_clock(seconds * config.trials)}, {seconds:.0f} s a trial that fits ({what})")
    except StateError:
        raise
    except ShohinError as error:  # one way of many: the search says so with its own record
        say(f"  time        unknown: the first candidate fails ({error})")
    say("")


def _estimate(config: Config, net: Any, plan: Plan, calibration: Dataset, task: Task, rest: Dataset, own: bool) -> float:
    """Seconds a trial: three exports (before, after, and as much again for builds and runs), and the training by some of its steps."""
    started = time.perf_counter()
    small = plan.apply(net, calibration=calibration)
    with TemporaryDirectory(prefix="shohin-search-") as folder:
        export(small, calibration.x[:1], device=config.device, to=folder)
    exported = time.perf_counter() - started
    if own:
        return 3 * exported
    few, once = rest.take(min(len(rest), TIMED * BATCH)), _training(replace(config, epochs=1))
    times = []
    for _ in range(2):  # the first compiles
        started = time.perf_counter()
        once.fit(small, optim.adamw(config.rate).init(small), task, few, 1)
        times.append(time.perf_counter() - started)
    return 3 * exported + max(times[0] - times[1], 0.0) + config.epochs * times[1] * len(rest) / len(few)


def _clock(seconds: float) -> str:
    """
    >>> _clock(40), _clock(700)
    ('40 s', '12 min')
    """
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


class Watching:
    """The front as it grows: a table that is drawn anew in a terminal, else a line a trial."""

    def __init__(self, console: Console) -> None:
        self.console, self.count = console, 0
        self.live = Live(console=console, refresh_per_second=4) if console.is_terminal else None

    def __enter__(self) -> Callable[[Study], None]:
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.live:
            self.live.stop()

    def __call__(self, study: Study) -> None:
        records = study.records
        if self.live:
            last = f"{records[-1]}" if records else "the first trial ..."
            self.live.update(Group(f"{len(records)} trials, {len(study.rejected)} rejected", table(study), f"last: {last}"))
            return
        if not self.count and records:
            self.console.print(f"{len(records)} trials from before", markup=False)
        elif records:
            self.console.print(str(records[-1]), soft_wrap=True, markup=False)
        self.count += 1


def table(study: Study) -> Table:
    """The front, the best scores first."""
    made = Table("", "choices", "score", "flash kB", "RAM kB", "instructions", box=None, padding=(0, 2, 0, 0))
    for k, column in enumerate(made.columns):
        column.justify = "left" if k < 2 else "right"
    for r in study.front:
        m = r.measured
        picks = ", ".join(f"{k}={v}" for k, v in r.picks.items())
        made.add_row(f"#{r.number}", picks, f"{r.score:.4f}", f"{m['flash'] / 1000:.1f}", f"{m['ram'] / 1000:.1f}", "-" if m["instructions"] is None else f"{m['instructions']:,}")
    return made


def _shipped(study: Study, kept: Kept, task: Task) -> dict[str, Any]:
    """The best one, judged on the test set, which nothing was chosen by; its C and its network are copied to the folder."""
    best = study.best
    art, net = best.artefact, sh.load(Path(best.folder) / "network.safetensors")
    for name in ("artefact", "checkpoint.safetensors"):
        shutil.rmtree(kept.path / name, ignore_errors=True) if name == "artefact" else (kept.path / name).unlink(missing_ok=True)
    shutil.copytree(best.folder, kept.path / "artefact", ignore=shutil.ignore_patterns("build", "network.safetensors"))
    with atomic(kept.path / "checkpoint.safetensors") as temporary:
        shutil.copyfile(Path(best.folder) / "network.safetensors", temporary)
    found = measure(art, task.test, metric=task.metric, board=4)
    same = compare(net, art, task.test.take(min(64, len(task.test))), board=4) if isinstance(net, Quantized) or _integer(art) else None
    return {
        "number": best.number, "picks": dict(best.picks), "score": best.score, **{k: best.measured[k] for k in ("flash", "ram", "instructions")},
        "test": None if found.accuracy is None else asdict(found.accuracy), "latency_ms": {k: asdict(n) for k, n in found.latency_ms.items()},
        "differing": None if same is None else same.differing, "compared": 0 if same is None else same.compared,
    }  # fmt: skip


def _integer(art: Artefact) -> bool:
    return art.outputs[0].scale is not None


def _show(study: Study, result: dict[str, Any], note: str, kept: Kept, console: Console) -> None:
    say = lambda text: console.print(text, soft_wrap=True, markup=False)
    say(f"\nthe front, {len(study.front)} of {len(study.records)} trials ({len(study.rejected)} rejected)")
    console.print(table(study))
    best = result["best"]
    if best:
        test = "" if best["test"] is None else f", on the test set {best['test']['value']:.4f} (measured on the artefact)"
        say(f"\nbest         #{best['number']}: score {best['score']:.4f}{test}")
        if best["differing"] is not None:
            say(f"             {best['differing']:,} of {best['compared']:,} integers differ")
        say(f"artefact     {kept.path / 'artefact'} (cmake, make, network.hpp)")
        say(f"checkpoint   {kept.path / 'checkpoint.safetensors'} (sh.load)")
    say(note)
    say(f"time         {result['seconds']['value']:.0f} s (measured)")


def explored(study: Study, result: dict[str, Any], config: Config) -> Explored:
    """The study as the report draws it."""
    front, limits = {r.number for r in study.front}, config.budget.limits()
    found = {r.number: {k: v for k, v in {**r.predicted, **{k: v for k, v in r.measured.items() if v is not None}}.items() if v is not None} for r in study.records}
    board = any("instructions" in numbers for numbers in found.values())
    costs = [Cost(name=n, unit=u, how=h if board else MEASURED, limit=limits.get(key), scale=s) for key, (n, u, h, s) in COSTS.items() if any(key in v for v in found.values())]
    entries = []
    for r in study.records:
        known = {COSTS[k][0]: float(v) for k, v in found[r.number].items()}
        name = ", ".join(f"{k}={v}" for k, v in r.picks.items()) or "the only way"
        entries.append(Entry(number=r.number, name=name, score=r.score, costs=known, choices=r.picks, plan=r.plan, why=r.rejected, front=r.number in front))
    best = result["best"]
    test = [f"#{best['number']} on the test set: {best['test']['value']:.4f}; {best['differing'] or 0:,} of {best['compared']:,} integers differ."] if best and best["test"] else []
    return Explored(
        title=f"Search of {config.task.name} for {config.device}", score="score on held-out examples", percent=all(0 <= (r.score or 0) <= 1 for r in study.records),
        facts=[f"{len(study.records)} trials by {config.strategy}, {len(study.rejected)} rejected; budget: {config.budget}.", *test], costs=costs, entries=entries,
        best=best["number"] if best else None, places=by_place(study.best.artefact) if best else {},
    )  # fmt: skip


def by_place(art: Artefact) -> dict[str, dict[str, float]]:
    """Bytes of constants and of the arena in use by layer."""
    found: dict[str, dict[str, float]] = {}
    for step in art.layout.steps:
        row = found.setdefault(layer(step.place), {"flash, bytes": 0.0, "arena in use, bytes": 0.0})
        row["arena in use, bytes"] = max(row["arena in use, bytes"], float(step.live))
    for name, size in art.layout.constants_by_layer().items():
        found.setdefault(name, {"arena in use, bytes": 0.0})["flash, bytes"] = float(size)
    return found


def _report(study: Study, result: dict[str, Any], kept: Kept, config: Config) -> str:
    try:
        return f"report       {sh.write_explored(explored(study, result, config), kept.path / 'report.html')}"
    except ModuleNotFoundError as error:
        return f"report       none: it needs {error.name} (pip install 'shohin[report]'; the same command then only writes it)"


__all__ = ["Config", "run"]
