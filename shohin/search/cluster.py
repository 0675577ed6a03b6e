"""Attempts on a Ray cluster. The only module that imports Ray."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import ray
from ray.exceptions import NodeDiedError, ObjectLostError, OutOfMemoryError, WorkerCrashedError

from shohin.search.attempt import Job, Made, Work
from shohin.search.crew import Died, Report, answer, outcome
from shohin.search.records import Record
from shohin.search.space import Trial

DEATHS = (WorkerCrashedError, NodeDiedError, ObjectLostError, OutOfMemoryError)


class Cluster:
    """At most ``size`` attempts at once, each a task of one processor; Ray says where. The machines share the folder of the search.

    Takes the cluster that this process is connected to, or that ``RAY_ADDRESS`` names, else one of this machine alone, which ends with the
    search. Ray does not try a task again that was lost: the search does, and says so in the log.
    """

    def __init__(self, work: Work, size: int) -> None:
        self.size, self._mine = size, not ray.is_initialized()
        if self._mine:
            path = os.pathsep.join(p for p in sys.path if p)
            ray.init(include_dashboard=False, log_to_driver=False, runtime_env={"env_vars": {"PYTHONPATH": path}})
        self._work = ray.put(replace(work, folder=work.folder.resolve()))
        self._desk = ray.remote(num_cpus=0)(Desk).remote()
        self._attempt = ray.remote(num_cpus=1, max_retries=0)(_attempt)
        self._running: dict[Any, tuple[int, Job]] = {}
        self._count = 0
        self._question = self._desk.asked.remote()

    def start(self, job: Job, trial: Trial, made: Made) -> None:
        self._count += 1
        self._running[self._attempt.remote(self._work, job, self._desk, self._count)] = self._count, job

    def wait(self, report: Report) -> tuple[Job, Record | Died]:
        while True:
            ready, _ = ray.wait([*self._running, self._question], num_returns=1)
            if ready[0] == self._question:
                attempt, epoch, value = ray.get(self._question)
                job = next((j for n, j in self._running.values() if n == attempt), None)
                if job is not None:  # else its worker has died since
                    self._desk.answer.remote(attempt, report(job.number, epoch, value))
                self._question = self._desk.asked.remote()
                continue
            _, job = self._running.pop(ready[0])
            try:
                said = ray.get(ready[0])
            except DEATHS as error:
                said = "died", type(error).__name__
            return job, outcome(job, said)

    def close(self) -> None:
        for task in self._running:
            ray.cancel(task, force=True)
        desk: Any = self._desk
        ray.kill(desk)
        if self._mine:
            ray.shutdown()


class Desk:
    """Where attempts ask whether they should train on, and the search answers."""

    def __init__(self) -> None:
        self._asked: asyncio.Queue[tuple[int, int, float]] = asyncio.Queue()
        self._answers: dict[int, asyncio.Future[bool]] = {}

    async def ask(self, attempt: int, epoch: int, value: float) -> bool:
        self._answers[attempt] = asyncio.get_running_loop().create_future()
        await self._asked.put((attempt, epoch, value))
        return await self._answers[attempt]

    async def asked(self) -> tuple[int, int, float]:
        return await self._asked.get()

    async def answer(self, attempt: int, goes_on: bool) -> None:
        self._answers.pop(attempt).set_result(goes_on)


def _attempt(work: Work, job: Job, desk: Any, attempt: int) -> tuple[Any, ...]:
    os.environ.setdefault("SHOHIN_THREADS", "1")
    goes_on: Callable[[int, float], bool] = lambda epoch, value: ray.get(desk.ask.remote(attempt, epoch, value))
    return answer(work, job, goes_on)


__all__ = ["Cluster"]
