"""How a run is shown: a bar in a terminal, one line an epoch elsewhere, nothing if asked."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn


@dataclass(frozen=True, kw_only=True)
class Record:
    """One epoch: ``epoch`` counted from 1, ``step`` updates in all, mean training ``loss``, ``metric`` on the test data
    (None without), the last learning rate ``lr``, ``seconds`` of training, and ``samples`` trained on.
    """

    epoch: int
    step: int
    loss: float
    metric: float | None
    lr: float
    seconds: float
    samples: int

    @property
    def speed(self) -> float:
        """Samples a second."""
        return self.samples / self.seconds if self.seconds > 0 else 0.0

    def line(self, epochs: int, name: str) -> str:
        """The epoch in one line.

        >>> r = Record(epoch=2, step=20, loss=0.5, metric=0.75, lr=0.1, seconds=2.0, samples=2000)
        >>> r.line(10, "accuracy")
        'epoch 2/10  loss 0.5000  accuracy 0.7500  1,000 samples/s  2.0 s'
        """
        metric = "" if self.metric is None else f"  {name} {self.metric:.4f}"
        speed = f"{self.speed:,.0f} samples/s  {self.seconds:.1f} s"
        return f"epoch {self.epoch}/{epochs}  loss {self.loss:.4f}{metric}  {speed}"


class Silent:
    """Shows nothing; the others add to it."""

    def __init__(self, epochs: int, done: int, steps: int, batch: int, name: str) -> None:
        self.epochs, self.done, self.steps, self.batch, self.name = epochs, done, steps, batch, name

    def __enter__(self) -> Silent:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def step(self, epoch: int, step: int, loss: float) -> None:
        """After update ``step`` (from 1) of ``epoch``; ``loss`` is the mean of the epoch so far."""

    def epoch(self, record: Record) -> None:
        """After an epoch."""


class Lines(Silent):
    """One line an epoch."""

    def epoch(self, record: Record) -> None:
        print(record.line(self.epochs, self.name), flush=True)


class Bar(Silent):
    """A bar over all epochs with loss, metric, samples a second and the time that is left."""

    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self.started, self.shown, self.metric = time.perf_counter(), 0.0, ""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[text]}"),
            TimeRemainingColumn(),
        )
        self.progress = Progress(*columns, console=Console(), transient=True, refresh_per_second=8)
        self.task = self.progress.add_task(f"epoch {self.done + 1}/{self.epochs}", total=self.epochs * self.steps,
                                           completed=self.done * self.steps, text="")  # fmt: skip

    def __enter__(self) -> Bar:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def step(self, epoch: int, step: int, loss: float) -> None:
        now = time.perf_counter()
        if now - self.shown < 0.1 and step < self.steps:
            return
        self.shown = now
        done = (epoch - 1 - self.done) * self.steps + step
        speed = done * self.batch / (now - self.started)
        self.progress.update(
            self.task,
            completed=(epoch - 1) * self.steps + step,
            description=f"epoch {epoch}/{self.epochs}",
            text=f"loss {loss:.4f}{self.metric}  {speed:,.0f} samples/s",
        )

    def epoch(self, record: Record) -> None:
        if record.metric is not None:
            self.metric = f"  {self.name} {record.metric:.4f}"
        self.progress.console.print(record.line(self.epochs, self.name), highlight=False)


def reporter(wanted: bool | None) -> type[Silent]:
    """``None``: a bar in a terminal, else lines; ``False``: nothing; ``True``: lines.

    >>> reporter(False).__name__
    'Silent'
    """
    if wanted is False:
        return Silent
    return Bar if wanted is None and sys.stdout.isatty() else Lines


__all__ = ["Record", "reporter"]
