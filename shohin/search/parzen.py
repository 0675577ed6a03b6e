"""The only module that imports Optuna."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import contextmanager

from optuna import create_study, create_trial, logging
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import TPESampler
from optuna.trial import TrialState


def suggest(names: Mapping[str, tuple[int, bool]], seen: Sequence[tuple[Mapping[str, int], float | None]], seed: int) -> dict[str, int]:
    """What TPE proposes for each of ``names`` (number of options, ordered), told of the trials ``seen`` (choices, value or None while it runs)."""
    known: dict[str, BaseDistribution] = {
        name: IntDistribution(0, count - 1) if ordered else CategoricalDistribution(range(count)) for name, (count, ordered) in names.items()
    }
    sampler = TPESampler(seed=seed, n_startup_trials=1, constant_liar=True)
    with _quiet():
        study = create_study(direction="maximize", sampler=sampler)
        for choices, value in seen:
            params = {n: k for n, k in choices.items() if n in known and k < names[n][0]}
            study.add_trial(create_trial(
                state=TrialState.RUNNING if value is None else TrialState.COMPLETE, value=value, params=params, distributions={n: known[n] for n in params},
            ))  # fmt: skip
        trial = study.ask()
        return {n: trial.suggest_int(n, 0, count - 1) if ordered else int(trial.suggest_categorical(n, range(count))) for n, (count, ordered) in names.items()}


@contextmanager
def _quiet():
    level = logging.get_verbosity()
    logging.set_verbosity(logging.WARNING)
    try:
        yield
    finally:
        logging.set_verbosity(level)


__all__ = ["suggest"]
