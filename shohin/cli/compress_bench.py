"""``shohin bench compress``: task x network x plan x budget x seed, on two tracks; a JSON line a row, resumable, in parallel.

The **closed** track applies a plan to a trained float network with the calibration examples alone; the **open** one trains for some
epochs under it. A budget is a fraction of the float artefact's flash: channels leave until the plan's artefact is within it
(``PruneChannels(budget=...)``), 1 is none. Accuracy is that of the artefact's C on all test examples.
"""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from math import sqrt
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import shohin as sh
from shohin import nn, optim
from shohin.cli.augment import crop_and_flip
from shohin.cli.task_file import load_task
from shohin.compress import Plan, PruneChannels
from shohin.compress.demos import plans
from shohin.core.errors import CheckpointError, DataError, ShohinError
from shohin.core.module import copy
from shohin.data import fashion_mnist
from shohin.deploy.budget import Budget
from shohin.nn.models import NETWORKS
from shohin.report.intervals import Spread, spreads
from shohin.shipping.candidate import measured
from shohin.shipping.planned import rate_of
from shohin.shipping.run import WHOLE, Training, train
from shohin.shipping.subject import CALIBRATION, Subject
from shohin.targets import get_target
from shohin.train import Task, fit

FASHION = "fashion-mnist"
TRACKS = ("closed", "open")
STUDENT = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
"""97.5 % quantiles of Student's t by degrees of freedom; beyond, 1.96 would do."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """What is crossed, and what all rows share. ``tasks`` are ``fashion-mnist`` or task files, whose own network is ``model``."""

    tasks: tuple[str, ...] = (FASHION,)
    networks: tuple[str, ...] = tuple(NETWORKS)
    plans: tuple[str, ...] = ()
    budgets: tuple[float, ...] = (1.0,)
    seeds: tuple[int, ...] = (0,)
    tracks: tuple[str, ...] = TRACKS
    device: str = "cortex-m55"
    float_epochs: int = 10
    epochs: int = 2
    images: int = 0
    workers: int = 1
    folder: Path = Path("runs/bench-compress")


@dataclass(frozen=True, kw_only=True)
class Job:
    """One row."""

    task: str
    network: str
    plan: str
    budget: float
    seed: int
    track: str

    def __str__(self) -> str:
        budget = "" if self.budget == 1 else f" at {self.budget:g} of the float flash"
        return f"{self.task} {self.network}, {self.plan}{budget}, {self.track}, seed {self.seed}"


def run(config: Config, console: Console) -> list[dict[str, Any]]:
    """All rows that are not there yet; then the tables and pictures of all. A row that fails says why, and the others go on."""
    get_target(config.device)
    known = plans()
    for name, given, there in (("plan", config.plans, known), ("network", config.networks, NETWORKS), ("track", config.tracks, TRACKS)):
        for unknown in (g for g in given if g not in there):
            raise DataError(f"no {name} is called {unknown!r}; there are {', '.join(there)}")
    config.folder.mkdir(parents=True, exist_ok=True)
    log = Log(config.folder / "rows.jsonl", shared(config))
    wanted = list(jobs(config, config.plans or tuple(known)))
    missing = [j for j in wanted if j not in log.rows]
    console.print(f"{len(wanted)} rows, {len(wanted) - len(missing)} of them from before", markup=False)
    started = time.perf_counter()
    for task, network, seed in dict.fromkeys((j.task, j.network, j.seed) for j in missing):
        console.print(f"float: {task} {network}, seed {seed}", markup=False)
        train_float(config, task, network, seed)
    for k, (job, row) in enumerate(_rows(config, missing, console), 1):
        log.append(job, row)
        said = row.get("error") or f"{100 * row['accuracy']:.2f} %, {row['flash']:,} bytes, {row['differing'] or 0} of {row['compared']:,} integers differ"
        console.print(f"[{k}/{len(missing)}] {job}: {said}", markup=False, soft_wrap=True)
    found = [{**asdict(j), **r} for j, r in log.rows.items() if j in set(wanted)]
    write(config.folder, [{**asdict(j), **r} for j, r in log.rows.items()])
    show(summary(found), console)
    console.print(f"{time.perf_counter() - started:.0f} s (measured); rows.csv, summary.csv and pictures are in {config.folder}", markup=False)
    return found


def jobs(config: Config, names: Sequence[str]) -> Iterator[Job]:
    """The cross; the float network and what has no training have one track, and plans that choose channels themselves no other budget."""
    known = plans()
    for task in config.tasks:
        for network in config.networks if task == FASHION else ("model",):
            for seed in config.seeds:
                yield Job(task=task, network=network, plan=WHOLE, budget=1.0, seed=seed, track="closed")
                for plan in names:
                    own = any(m is not None and m.slot == "channels" for _, m in known[plan].rules)
                    for budget in (b for b in config.budgets if b == 1 or not own):
                        for track in config.tracks:
                            yield Job(task=task, network=network, plan=plan, budget=budget, seed=seed, track=track)


def shared(config: Config) -> dict[str, Any]:
    """What rows of one log have in common."""
    return {"device": config.device, "float_epochs": config.float_epochs, "epochs": config.epochs, "images": config.images}


# -- one row
def task_of(config: Config, task: str, network: str, seed: int) -> Task:
    """The task with a network that nothing has trained yet."""
    sh.seed(seed)
    if task != FASHION:
        return load_task(task)
    train_set, test = fashion_mnist()
    if config.images:
        train_set, test = train_set.take(min(config.images, len(train_set))), test.take(min(config.images, len(test)))
    return Task(NETWORKS[network](), train_set, test, nn.cross_entropy, nn.accuracy, augment=crop_and_flip)


@lru_cache(maxsize=1)
def trained(config: Config, task: str, network: str, seed: int) -> Task:
    """The task with its float network's values, which ``train_float`` has written: any number of processes may read them."""
    found = task_of(config, task, network, seed)
    sh.load(_values(config, task, network, seed), into=found.model)
    found.model.eval()
    return found


def train_float(config: Config, task: str, network: str, seed: int) -> None:
    """Train a float network, and write its values; the run in the folder goes on where it was."""
    if _values(config, task, network, seed).is_file():
        return
    found = task_of(config, task, network, seed)
    batch = min(64, len(found.train))
    steps = max(1, len(found.train) // batch * config.float_epochs)
    fit(found.model, found.loss_fn, found.train, optim.adamw(1e-3, weight_decay=0.02).init(found.model), config.float_epochs, batch, schedule=optim.one_cycle(6e-3, steps),
        augment=found.augment, run=_values(config, task, network, seed).with_suffix(""), seed=seed, progress=False)  # fmt: skip
    sh.save(found.model.eval(), _values(config, task, network, seed))


def _values(config: Config, task: str, network: str, seed: int) -> Path:
    return config.folder / "float" / f"{_slug(task, network, str(seed))}.safetensors"


def row(config: Config, job: Job) -> dict[str, Any]:
    """The numbers of one job, or ``error``."""
    started = time.perf_counter()
    task = trained(config, job.task, job.network, job.seed)
    some = np.random.default_rng(job.seed).permutation(len(task.train))[:CALIBRATION]
    subject = Subject(net=task.model, calibration=task.train.x[some], test=task.test.x, labels=task.test.y, train=task.train,
                      loss=task.loss, metric=task.metric, augment=task.augment)  # fmt: skip
    home = config.folder / "rows" / _slug(*(str(getattr(job, f.name)) for f in fields(job)))
    try:
        net, rate = copy(task.model), None
        if job.plan != WHOLE:
            plan = plans()[job.plan]
            if job.budget != 1:
                limit = int(job.budget * _float_flash(config, job))
                plan = Plan([("*", PruneChannels(budget=Budget(flash=limit), device=config.device)), *plan.rules])
            net, rate = plan.apply(task.model, calibration=subject.calibration), rate_of(plan)
        if job.track == "open" and rate is not None:
            net, _ = train(net, subject, Training(epochs=config.epochs, seed=job.seed), home, rate, progress=False)
        found, _ = measured(net.eval(), subject, None, name=str(job), about="", device=config.device, to=home)
    except ShohinError as error:
        return {"error": f"{type(error).__name__}: {error}", "seconds": time.perf_counter() - started}
    assert found.accuracy is not None
    value = lambda n: None if n is None else n.value
    return {
        "accuracy": float(found.accuracy.value), "test": len(task.test), "flash": int(found.flash.value), "ram": int(found.ram.value), "instructions": value(found.instructions),
        "ms": float(found.latency_ms["median"].value), "differing": value(found.differing), "compared": found.compared, "seconds": time.perf_counter() - started,
    }  # fmt: skip


def _float_flash(config: Config, job: Job) -> int:
    """Bytes of the float artefact, which its own row has measured."""
    path = config.folder / "rows.jsonl"
    whole = replace(job, plan=WHOLE, budget=1.0, track="closed")
    return int(Log(path, shared(config), write=False).rows[whole]["flash"])


def _rows(config: Config, missing: Sequence[Job], console: Console) -> Iterator[tuple[Job, dict[str, Any]]]:
    """Rows as they are finished, the float networks' first, since budgets are fractions of theirs. A worker that dies costs its rows one
    more try, in this process."""
    for part in ([j for j in missing if j.plan == WHOLE], [j for j in missing if j.plan != WHOLE]):
        if config.workers < 2 or len(part) < 2:
            yield from ((job, row(config, job)) for job in part)
            continue
        done: set[Job] = set()
        with ProcessPoolExecutor(config.workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            waiting = {pool.submit(row, config, job): job for job in part}
            try:
                for future in as_completed(waiting):
                    found = future.result()
                    done.add(waiting[future])
                    yield waiting[future], found
            except BrokenProcessPool:
                console.print(f"a worker has died; the {len(part) - len(done)} rows that are left are made here", markup=False)
        yield from ((job, row(config, job)) for job in part if job not in done)


def _slug(*parts: str) -> str:
    return "-".join("".join(c if c.isalnum() or c == "." else "_" for c in Path(p).stem if p) for p in parts)


# -- what is kept, and what is made of it
class Log:
    """``rows.jsonl``: a first line of what all rows share, then a row a line, each whole or not there."""

    def __init__(self, path: Path, head: Mapping[str, Any], *, write: bool = True) -> None:
        self.path, self.rows = path, dict[Job, dict[str, Any]]()
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.is_file() else []
        whole = [json.loads(line) for line in lines if line.endswith("\n")]
        if whole and whole[0] != dict(head):
            raise CheckpointError(f"{path} was made with {whole[0]}, now it is {dict(head)}; choose another folder (--out), or the same settings")
        for entry in whole[1:]:
            self.rows[Job(**entry["job"])] = entry["row"]
        if write:
            with open(path.with_suffix(".tmp"), "w", encoding="utf-8") as file:
                file.writelines(json.dumps(e) + "\n" for e in [dict(head), *whole[1:]])
            os.replace(path.with_suffix(".tmp"), path)

    def append(self, job: Job, row: Mapping[str, Any]) -> None:
        self.rows[job] = dict(row)
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"job": asdict(job), "row": row}) + "\n")
            file.flush()
            os.fsync(file.fileno())


def interval(values: Sequence[float], examples: int) -> tuple[float, float, float]:
    """Mean and 95 % interval: over seeds that of Student's t, for one seed Wilson's for ``examples`` answers right or wrong.

    >>> [round(v, 3) for v in interval([0.90, 0.91, 0.92], 10_000)]
    [0.91, 0.885, 0.935]
    >>> [round(v, 4) for v in interval([0.9], 10_000)]
    [0.9, 0.894, 0.9057]
    """
    middle, n = mean(values), len(values)
    if n > 1:
        half = STUDENT.get(n - 1, 1.96) * stdev(values) / sqrt(n)
        return middle, middle - half, middle + half
    z2 = 1.96**2 / examples
    centre, half = (middle + z2 / 2) / (1 + z2), 1.96 / (1 + z2) * sqrt(middle * (1 - middle) / examples + z2 / (4 * examples))
    return middle, centre - half, centre + half


def summary(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One line a task, network, track, plan and budget: the mean over seeds of what could be made, the best accuracy first."""
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for r in rows:
        groups.setdefault(tuple(r[k] for k in ("task", "network", "track", "plan", "budget")), []).append(r)
    found = []
    for (task, network, track, plan, budget), group in groups.items():
        good = [r for r in group if "error" not in r]
        line: dict[str, Any] = {"task": task, "network": network, "track": track, "plan": plan, "budget": budget, "seeds": len(good), "failed": len(group) - len(good)}
        if good:
            middle, low, high = interval([r["accuracy"] for r in good], good[0]["test"])
            average = lambda key, g=good: None if any(r.get(key) is None for r in g) else mean(r[key] for r in g)
            line |= {"accuracy": middle, "low": low, "high": high, **{k: average(k) for k in ("flash", "ram", "instructions", "ms")},
                     "differing": sum(r["differing"] or 0 for r in good), "compared": sum(r["compared"] for r in good)}  # fmt: skip
        else:
            line["error"] = group[0]["error"]
        found.append(line)
    return sorted(found, key=lambda r: (r["task"], r["network"], r["track"], -r.get("accuracy", -1.0)))


def write(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """``rows.csv``, ``summary.csv``, and a picture a task, network and track."""
    lines = summary(rows)
    for name, table in (("rows.csv", rows), ("summary.csv", lines)):
        with open(folder / name, "w", newline="", encoding="utf-8") as file:
            columns = list(dict.fromkeys(k for r in table for k in r))
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(dict(r) for r in table)
    for task, network in dict.fromkeys((r["task"], r["network"]) for r in lines):
        for track in dict.fromkeys(r["track"] for r in lines if (r["task"], r["network"]) == (task, network)):
            mine = [r for r in lines if (r["task"], r["network"]) == (task, network) and "accuracy" in r and (r["track"] == track or r["plan"] == WHOLE)]
            points = [Spread(f"{r['plan']}" + ("" if r["budget"] == 1 else f" at {r['budget']:g}"), r["flash"] / 1000, r["accuracy"], r["low"], r["high"]) for r in mine]
            picture = spreads(points, x="flash, kB", y="accuracy on the test set", title=f"{Path(task).stem}, {network}, {track} track")
            (folder / f"{_slug(task, network, track)}.svg").write_text(picture, encoding="utf-8")


def show(lines: Sequence[Mapping[str, Any]], console: Console) -> None:
    """The summary as a table."""
    table = Table("network", "track", "plan", "budget", "accuracy", "95 %", "flash kB", "host ms", "differ", "seeds", box=None, padding=(0, 2, 0, 0))
    for k, column in enumerate(table.columns):
        column.justify, column.no_wrap = "left" if k < 3 else "right", True
    for r in lines:
        start = (r["network"], r["track"], r["plan"], f"{r['budget']:g}")
        if "accuracy" not in r:
            table.add_row(*start, "failed", "", "", "", "", "0")
            continue
        table.add_row(*start, f"{100 * r['accuracy']:.2f} %", f"{100 * r['low']:.2f} to {100 * r['high']:.2f}", f"{r['flash'] / 1000:.1f}",
                      "-" if r["ms"] is None else f"{r['ms']:.3f}", f"{r['differing']:,}" if r["compared"] else "-", str(r["seeds"]))  # fmt: skip
    console.print(table)
    for r in lines:
        if "error" in r:
            console.print(f"failed: {r['network']} {r['plan']} ({r['track']}): {r['error']}", markup=False, soft_wrap=True)


__all__ = ["FASHION", "Config", "Job", "Log", "interval", "jobs", "row", "run", "show", "summary", "train_float", "trained", "write"]
