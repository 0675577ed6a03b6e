"""``build`` and ``score`` of a task file as values that other processes can have: they know the file, and run it where they are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

from shohin import optim
from shohin.cli.task_file import load_names
from shohin.data import Dataset
from shohin.search import Trial
from shohin.search.attempt import takes_trial
from shohin.train import Task, digest, evaluate, fit

BATCH, TRAINED = 64, 0.9
"""Examples of a training step, and the part of the training set that a trial learns from; it is judged on the rest."""


@lru_cache(maxsize=4)
def names_of(path: str) -> dict[str, Any]:
    """The file's names; it is run once a process."""
    return load_names(path)


@lru_cache(maxsize=4)
def parts_of(path: str, seed: int) -> tuple[Dataset, Dataset]:
    """What trials learn from, and what they are judged on."""
    return names_of(path)["task"].train.split(TRAINED, key=seed)


@dataclass(frozen=True)
class FileBuild:
    """The file's ``build``; its text is the digest of that function, so that a search knows when it has changed."""

    path: str
    text: ClassVar[bool] = True

    def __call__(self, t: Trial) -> Any:
        return names_of(self.path)["build"](t)

    def __str__(self) -> str:
        return digest.function(names_of(self.path)["build"])


@dataclass(frozen=True)
class FileScore:
    """The file's ``score``."""

    path: str

    def __call__(self, net: Any, t: Trial) -> Any:
        score = names_of(self.path)["score"]
        return score(net, t) if takes_trial(score) else score(net)


@dataclass(frozen=True)
class Trained:
    """What a trial gets where the file has no ``score``: some epochs, after each of them the metric on the held-out part."""

    path: str
    epochs: int
    rate: float
    seed: int

    def __call__(self, net: Any, t: Trial) -> Iterator[float]:
        task: Task = names_of(self.path)["task"]
        data, valid = parts_of(self.path, self.seed)
        assert t.folder is not None
        opt = optim.adamw(self.rate).init(net)
        for epoch in range(1, self.epochs + 1):
            self.fit(net, opt, task, data, epoch, run=t.folder / "training")
            yield float(evaluate(net, valid, task.metric))

    def fit(self, net: Any, opt: Any, task: Task, data: Dataset, epochs: int, run: Any = None) -> None:
        """Train until ``epochs`` are done; the schedule is that of all."""
        batch = min(BATCH, len(data))
        schedule = optim.one_cycle(self.rate, max(1, len(data) // batch * self.epochs))
        fit(net, task.loss_fn, data, opt, epochs, batch, schedule=schedule, augment=task.augment, seed=self.seed, run=run, progress=False)


__all__ = ["BATCH", "FileBuild", "FileScore", "Trained", "names_of", "parts_of"]
