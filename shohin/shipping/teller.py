"""How a shipment is followed: a bar in a terminal, a line a stage elsewhere, nothing if asked."""

from __future__ import annotations

import sys
import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn


class Teller:
    """``say`` prints a line; ``stage`` names what is being done, ``whole`` how many stages are expected."""

    def __init__(self, console: Console | None) -> None:
        self.console, self.started = console, time.perf_counter()
        self.bar: Progress | None = None
        self.task = TaskID(0)
        if console is not None and console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"), TimeElapsedColumn())
            self.bar = bar = Progress(*columns, console=console, transient=True)
            self.task = bar.add_task("", total=None)

    def say(self, text: str = "") -> None:
        if self.console is not None:
            self.console.print(text, soft_wrap=True, markup=False)

    def stage(self, text: str) -> None:
        if self.bar is not None:
            self.bar.start()
            self.bar.update(self.task, description=text)
        else:
            self.say(f"{text} ...")

    def done(self, count: int, whole: int) -> None:
        if self.bar is not None:
            self.bar.update(self.task, completed=count, total=whole)

    def pause(self) -> None:
        """Something else draws now."""
        if self.bar is not None:
            self.bar.stop()


def teller(progress: bool | None) -> Teller:
    """``None``: to stdout; ``False``: nothing."""
    return Teller(None if progress is False else Console(highlight=False, width=None if sys.stdout.isatty() else 160))


__all__ = ["Teller", "teller"]
