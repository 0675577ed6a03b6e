"""``search``: propose, check exactly, train, measure, write down. Nothing is trained that cannot fit.

Before training the network is exported with the weights that it starts with: its bytes, arena and instructions (int8
code does not branch on data) are those that it will have. What is over the budget is rejected with the reason. The rest
is trained by ``score``, exported and measured; every finished trial is one line of ``run/log.jsonl``, whole or not at
all, and a search that starts again goes on behind the last one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from shohin.core.errors import ShohinError, StateError
from shohin.core.provided import provided
from shohin.deploy.budget import Budget
from shohin.search.attempt import Job, Work, built, record
from shohin.search.crew import Crew, Died, Here, Processes
from shohin.search.log import Log
from shohin.search.named import named
from shohin.search.records import Record, Records, Study
from shohin.search.space import Space, Trial
from shohin.search.strategies import Build, Random, Setting, Strategy
from shohin.targets import get_target
from shohin.train import Task, digest


def search(
    build: Build,
    score: Callable[..., Any],
    *,
    calibration: Any,
    device: str,
    budget: Budget,
    trials: int = 64,
    run: str | Path,
    seed: int = 0,
    strategy: Strategy | str | None = None,
    task: Task | None = None,
    workers: int = 1,
    cluster: str | None = None,
    fork: bool = False,
    progress: Callable[[Study], None] | None = None,
) -> Study:
    """Tries up to ``trials`` different ways through ``build`` and returns the study.

    Args:
        build: ``build(t)`` gives a network, or a network and a ``Plan``; it chooses with ``t.pick(name, options)``,
            ``t.choice``, ``t.width``, ``t.repeat``, ``t.kernel`` and ``t.bits``.
        score: ``score(net)`` trains the module (after ``plan.apply``) in place and returns a number, higher is better, or yields one
            after each epoch, so that a strategy may give up on it. ``score(net, t)`` is given the trial: ``t.report(epoch, value)``, ``t.folder``.
        calibration: a data set or array, for the plans and for the measured inferences.
        run: the folder of the search; started again with the same ``build``, the search goes on.
        strategy: ``Random()`` (the default), any other ``Strategy``, or a name (``named.STRATEGIES``).
        task: what strategies train on that train a network of their own.
        workers: so many processes try ways at once. What is proposed then depends on which of them end first.
        cluster: ``"ray"`` spreads ``workers`` over the machines of a Ray cluster, which share the folder ``run``.
        fork: begin anew in a folder that holds another search; the old log stays beside the new one.
        progress: called with the study so far when the log has been read, and after each trial.

    Raises:
        StateError: ``build``, device, budget, seed or strategy differ from the search in the folder.
    """
    get_target(device)
    folder = Path(run)
    strategy = named(strategy) if isinstance(strategy, str) else Random() if strategy is None else strategy
    header = {"strategy": repr(strategy), "build": digest.function(build), "device": device, "budget": str(budget), "seed": str(seed)}
    log = Log(folder, header, fork)
    space = Space(seed)
    for r in log.records:  # the tree as it was
        for k, size in enumerate(r.options.values()):
            space.sizes[r.path[:k]] = size
        space.done(r.path)
    told = progress or (lambda study: None)
    told(Study(Records(log.records), budget))
    done = {r.number for r in log.records}
    numbers = [n for n in range(trials) if n not in done]
    if numbers and not space.exhausted:
        setting = Setting(build=build, task=task, calibration=calibration, device=device, budget=budget, folder=folder, seed=seed)
        strategy, inherit = strategy.prepared(setting)
        work = Work(build=build, score=score, calibration=calibration, device=device, budget=budget, folder=folder, seed=seed, inherit=inherit)
        crew = _crew(work, workers, cluster)
        try:
            for found in _tried(strategy, work, crew, space, numbers, log.records):
                log.append(found)
                told(Study(Records(log.records), budget))
        finally:
            crew.close()
    return Study(Records(log.records), budget)


def _crew(work: Work, workers: int, cluster: str | None) -> Crew:
    if not isinstance(workers, int) or workers < 1:
        raise StateError(f"search: workers is {workers!r}, expected a whole number from 1 on")
    if cluster not in (None, "ray"):
        raise StateError(f"search: cluster is {cluster!r}, expected 'ray' or None")
    return provided("ray")(work, workers) if cluster else Here(work) if workers == 1 else Processes(work, workers)


def _tried(strategy: Strategy, work: Work, crew: Crew, space: Space, numbers: list[int], finished: list[Record]) -> Iterator[Record]:
    """The records of the trials ``numbers`` as they end; whoever reads them adds them to ``finished``."""
    running: dict[int, Record] = {}
    held: dict[int, tuple[Trial, Any]] = {}
    waiting = list(numbers)

    def goes_on(number: int, epoch: int, value: float) -> bool:
        trains_on = strategy.goes_on([*finished, *running.values()], epoch, value)
        running[number] = replace(running[number], reports=(*running[number].reports, (epoch, value)))
        return trains_on

    while waiting or running:
        while waiting and len(running) < crew.size and not space.exhausted:
            number = waiting.pop(0)
            proposed = strategy.propose([*finished, *running.values()], np.random.default_rng([work.seed, number, 1]))
            trial = Trial(space, number, proposed)
            try:
                made = work.made(trial)
            except StateError:  # the program is wrong, not the network
                raise
            except ShohinError as error:
                space.done(trial.path)
                yield record(trial, None, rejected=f"{type(error).__name__}: {error}", over=None)
                continue
            space.done(trial.path)
            running[number], held[number] = record(trial, made[1]), (trial, made)
            crew.start(Job(number, trial.choices), trial, made)
        if not running:
            return
        job, found = crew.wait(goes_on)
        lost = running[job.number]
        if isinstance(found, Died) and not lost.note:
            running[job.number] = replace(lost, note=f"its worker died ({found.why}), tried again", reports=())
            crew.start(job, *held[job.number])
            continue
        del running[job.number], held[job.number]
        if isinstance(found, Died):
            yield replace(lost, rejected=f"its worker died twice ({found.why})", over=None)
        else:
            yield replace(found, note=lost.note)


__all__ = ["Record", "Records", "Study", "built", "search"]
