"""Training: ``fit`` and ``evaluate``, tasks, checkpoints. The host's kernels come with it: training is compiled for
the host."""

from shohin import kernels
from shohin.train.checkpoint import Position, load, load_run, save, save_run
from shohin.train.evaluate import evaluate
from shohin.train.fit import History, fit
from shohin.train.progress import Record
from shohin.train.task import Task

__all__ = [
    "History",
    "Position",
    "Record",
    "Task",
    "evaluate",
    "fit",
    "kernels",
    "load",
    "load_run",
    "save",
    "save_run",
]
