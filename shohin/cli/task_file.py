"""A file that exposes ``task``, as every command reads it."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

from shohin.core.errors import DataError
from shohin.train import Task


def load_task(path: str | Path) -> Task:
    """Run the file and return its ``task``. Raises ``DataError`` if there is no such file, no ``task``, or it is no ``Task``."""
    found = load_names(path).get("task")
    if not isinstance(found, Task):
        what = "sets no task" if found is None else f"sets task to a {type(found).__name__}"
        raise DataError(f"{path}: it {what}; write task = sh.Task(model, train, test, loss, metric)")
    return found


def load_names(path: str | Path) -> dict[str, Any]:
    """Run the file and return all its names."""
    if not Path(path).is_file():
        raise DataError(f"{path}: no such file; a task file is Python that sets task = sh.Task(model, train, test, loss, metric)")
    return runpy.run_path(str(path), run_name="task")


__all__ = ["load_names", "load_task"]
