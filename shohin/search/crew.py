"""Who makes the attempts: this process, or several processes at once. A cluster is one more (``cluster.py``)."""

from __future__ import annotations

import os
import pickle
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol

from shohin.core import errors
from shohin.core.errors import StateError
from shohin.search.attempt import Job, Made, Work
from shohin.search.records import Record
from shohin.search.space import Trial

Report = Callable[[int, int, float], bool]
"""(trial, epoch, score) -> whether it should train on."""


@dataclass(frozen=True)
class Died:
    """A worker is gone, and its attempt with it."""

    why: str


class Crew(Protocol):
    """``start`` a job while fewer than ``size`` are under way, then ``wait`` for the next that ends."""

    size: int

    def start(self, job: Job, trial: Trial, made: Made) -> None: ...
    def wait(self, report: Report) -> tuple[Job, Record | Died]: ...
    def close(self) -> None: ...


class Here:
    """This process, one attempt after another."""

    size = 1

    def __init__(self, work: Work) -> None:
        self._work = work
        self._next: list[tuple[Job, Trial, Made]] = []

    def start(self, job: Job, trial: Trial, made: Made) -> None:
        self._next.append((job, trial, made))

    def wait(self, report: Report) -> tuple[Job, Record | Died]:
        job, trial, made = self._next.pop(0)
        trial.goes_on = lambda epoch, value: report(job.number, epoch, value)
        return job, self._work.tried(trial, made)

    def close(self) -> None:
        self._next.clear()


class Processes:
    """``size`` processes of Python, started anew (spawn), that share the processors. One that dies is replaced."""

    def __init__(self, work: Work, size: int) -> None:
        try:
            pickle.dumps(work)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise StateError(
                f"workers={size}: build, score and calibration go to other processes, and one of them cannot ({error}). Write build and score at the "
                "top of a module, or pass cluster='ray', or workers=1"
            ) from error
        self.size, self._work = size, work
        self._free: list[_Worker] = []
        self._busy: list[tuple[_Worker, Job]] = []

    def start(self, job: Job, trial: Trial, made: Made) -> None:
        worker = self._free.pop() if self._free else _Worker(self._work, max(1, len(os.sched_getaffinity(0)) // self.size))
        self._busy.append((worker, job))
        worker.give(job)

    def wait(self, report: Report) -> tuple[Job, Record | Died]:
        while True:
            ready = wait([w.pipe for w, _ in self._busy])
            worker, job = next((w, j) for w, j in self._busy if w.pipe in ready)
            said = worker.hear()
            if said[0] == "report":
                worker.give(report(job.number, said[1], said[2]))
            elif said[0] == "begun":
                worker.begun = True
            else:
                self._busy.remove((worker, job))
                if said[0] == "died" and not worker.begun:
                    raise StateError(
                        f"a worker process ended before it began ({said[1]}); a script that searches with workers= does so under "
                        "`if __name__ == \"__main__\":`, since its processes import it"
                    )
                if said[0] != "died":
                    self._free.append(worker)
                return job, outcome(job, said)

    def close(self) -> None:
        for worker in [*self._free, *(w for w, _ in self._busy)]:
            worker.end()


class _Worker:
    def __init__(self, work: Work, threads: int) -> None:
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.begun = False
        self._process = context.Process(target=_serve, args=(theirs, work, threads), daemon=True)
        self._process.start()
        theirs.close()

    def give(self, what: Any) -> None:
        try:
            self.pipe.send(what)
        except OSError:  # it has died; what it says next is that
            pass

    def hear(self) -> tuple[Any, ...]:
        try:
            return self.pipe.recv()
        except (EOFError, OSError):
            self._process.join()
            return "died", f"exit code {self._process.exitcode}"

    def end(self) -> None:
        self.pipe.close()
        self._process.terminate()
        self._process.join()


def _serve(pipe: Connection, work: Work, threads: int) -> None:
    """The life of a worker: attempts until the other end is closed."""
    os.environ.setdefault("SHOHIN_THREADS", str(threads))
    pipe.send(("begun",))

    def goes_on(epoch: int, value: float) -> bool:
        pipe.send(("report", epoch, value))
        return pipe.recv()

    try:
        while True:
            pipe.send(answer(work, pipe.recv(), goes_on))
    except (EOFError, BrokenPipeError):
        return


def answer(work: Work, job: Job, goes_on: Callable[[int, float], bool]) -> tuple[Any, ...]:
    """What a worker says of a job: done and its record, or error and what it was."""
    try:
        return "done", work.again(job, goes_on)
    except (EOFError, BrokenPipeError):  # the search has ended
        raise
    except Exception as error:
        return "error", type(error).__name__, str(error), traceback.format_exc()


def outcome(job: Job, said: tuple[Any, ...]) -> Record | Died:
    """The record that a worker's words are, or ``Died``. Raises the error that it met."""
    if said[0] == "error":
        raise getattr(errors, said[1], StateError)(f"trial {job.number}: {said[2]}\n{said[3]}")
    return Died(said[1]) if said[0] == "died" else said[1]


__all__ = ["Crew", "Died", "Here", "Processes", "Report", "answer", "outcome"]
