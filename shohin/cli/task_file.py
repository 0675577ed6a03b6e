"""A file that exposes ``task``, as every command reads it."""

from __future__ import annotations

import runpy
from pathlib import Path

from shohin.core.errors import DataError
from shohin.train import Task


def load_task(path: str | Path) -> Task:
    """Run the file and return its ``task``. Raises ``DataError`` if there is no such file, no ``task``, or it is no ``Task``."""
    file = Path(path)
    if not file.is_file():
        raise DataError(f"{file}: no such file; a task file is Python that sets task = sh.Task(model, train, test, loss, metric)")
    found = runpy.run_path(str(file), run_name="task").get("task")
    if not isinstance(found, Task):
        what = "sets no task" if found is None else f"sets task to a {type(found).__name__}"
        raise DataError(f"{file}: it {what}; write task = sh.Task(model, train, test, loss, metric)")
    return found


__all__ = ["load_task"]
