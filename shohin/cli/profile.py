"""``shohin profile TASK.py``: where the time of a training step, or of an inference, goes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from shohin import optim
from shohin.cli.task_file import load_task
from shohin.compiler.jit import Jit, jit
from shohin.core.errors import DataError
from shohin.core.module import mode
from shohin.deploy.profile import Profile, Row, profile
from shohin.train import Task
from shohin.train.fit import training_step

VIEWS = ("step", "kernel", "layer")


@dataclass(frozen=True, kw_only=True)
class Config:
    """``by``: which rows are shown, each step or sums by kernel or layer; ``top``: how many of them."""

    inference: bool = False
    batch: int = 32
    threads: int | None = None
    by: tuple[str, ...] = ("step", "kernel")
    top: int = 25
    repeats: int = 20
    json: Path | None = None


def run(path: Path, config: Config, console: Console) -> Profile:
    """Profile the task in ``path`` and print the tables."""
    unknown = [v for v in config.by if v not in VIEWS]
    if unknown:
        raise DataError(f"profile: --by {unknown[0]} is none of {', '.join(VIEWS)}")
    found = profiled(load_task(path), config)
    what = f"inference, batch {config.batch}" if config.inference else f"training step (AdamW), batch {config.batch}"
    console.print(f"[bold]{path}[/bold]: {what}: {found.summary()}", soft_wrap=True)
    rows = {"step": list(found.rows), "kernel": list(found.by_kernel().values()), "layer": list(found.by_layer().values())}
    for view in config.by:
        longest = sorted(rows[view], key=lambda r: -r.seconds)
        console.print(table(longest[: config.top], found.seconds, f"by {view}"))
        if len(longest) > config.top:
            rest = sum(r.seconds for r in longest[config.top :])
            console.print(f"and {len(longest) - config.top} more, {rest / found.seconds:.1%} (--top)")
    if config.json is not None:
        config.json.write_text(json.dumps([asdict(r) for r in found.rows], indent=1) + "\n")
    return found


def profiled(task: Task, config: Config) -> Profile:
    """The profile of a training step as ``fit`` runs it, or of the network in evaluation mode; the task's module keeps its values."""
    count = min(config.batch, len(task.train))
    x, y = np.asarray(task.train.x[:count]), np.asarray(task.train.y[:count])
    with mode(task.model, training=not config.inference):
        if config.inference:
            return profile(inference(config.threads), task.model, x, repeats=config.repeats)
        step = training_step(task.loss_fn, augment=task.augment, threads=config.threads)
        return profile(step, task.model, optim.adamw(1e-3).init(task.model), x, y, repeats=config.repeats)


def inference(threads: int | None) -> Jit:
    return jit(lambda net, x: net(x), threads=threads)


def table(rows: Iterable[Row], whole: float, title: str) -> Table:
    """A rich table of rows; a roofline above 100 % means that the data still lay in a nearer cache."""
    found = Table("share", "us", "GFLOP/s", "GB/s", "MFLOP", "MB", "roof", "done by", "place", title=title, box=None, title_justify="left")
    for column in found.columns[:7]:
        column.justify, column.no_wrap = "right", True
    for r in rows:
        s = r.seconds or 1e-12
        found.add_row(
            f"{r.seconds / (whole or 1):.1%}", f"{1e6 * r.seconds:,.1f}", f"{r.flop / s / 1e9:.1f}", f"{r.bytes / s / 1e9:.1f}",
            f"{r.flop / 1e6:.2f}", f"{r.bytes / 1e6:.3f}", f"{r.roofline:.0%}", r.kernel or "loops", r.place + (f" ({r.why})" if r.why else ""),
        )  # fmt: skip
    return found


__all__ = ["Config", "load_task", "profiled", "run", "table"]
