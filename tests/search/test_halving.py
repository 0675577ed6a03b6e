"""Strategies that learn from the log: TPE and successive halving; reports on the way."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from shohin.core.errors import StateError
from shohin.search import ASHA, TPE, Budget, Random, Space, Strategy, Trial, search
from shohin.search import attempt as attempt_module
from tests.search import toy
from tests.search.test_strategies import tried


@pytest.fixture
def unmeasured(monkeypatch):
    """Nothing is exported; flash is the number of parameters."""
    numbers = lambda self, net, x, to, budget, board: {"flash": int(toy.size(net)), "ram": 0, "instructions": None}
    monkeypatch.setattr(attempt_module.Work, "_numbers", numbers)
    monkeypatch.setattr(attempt_module, "save", lambda net, path: None)


def run(folder, score, **more):
    return search(toy.build, score, calibration=toy.X, device="host", run=folder, **{"budget": Budget(), "trials": 8, **more})


def test_tpe_climbs_where_chance_does_not():
    pytest.importorskip("optuna")
    sizes, target = [6] * 6, [1, 5, 0, 3, 2, 4]
    best = {kind: [max(r.score for r in tried(kind(), target, sizes, 60, seed)) for seed in range(3)] for kind in (Random, TPE)}
    assert np.mean(best[TPE]) > np.mean(best[Random]) + 0.5, best


def test_tpe_learns_from_what_is_over_the_budget():
    """The score grows with each choice, and so does the cost; trials beyond the limit have no score."""
    pytest.importorskip("optuna")
    fits = {}
    for strategy in (Random(), TPE()):
        space, seen = Space(0), []
        for number in range(60):
            t = Trial(space, number, strategy.propose(seen, np.random.default_rng([number])))
            cost = sum(t.pick(f"c{k}", range(8)) for k in range(3))
            space.done(t.path)
            options = {name: len(texts) for name, texts in t.options.items()}
            more = dict(score=None, over=cost / 8 - 1, rejected="flash") if cost > 8 else dict(score=cost / 8, over=0.0, rejected="")
            seen.append(SimpleNamespace(choices=t.choices, options=options, ordered=tuple(t.ordered), **more))
        fits[type(strategy)] = sum(not r.rejected for r in seen[20:])
    assert fits[TPE] > fits[Random] + 5, fits


def test_tpe_is_told_of_trials_under_way():
    pytest.importorskip("optuna")
    made = lambda a, score: SimpleNamespace(choices={"a": a, "late": a % 2}, options={"a": 8, "late": 2}, ordered=("a",), score=score, over=0.0, rejected="")
    found = TPE(startup=4).propose([*(made(k, 0.1 * k) for k in range(4)), made(5, None)], np.random.default_rng(0))
    assert found["a"] in range(8) and found["late"] in (0, 1)
    assert TPE(startup=5).propose([made(k, 0.1) for k in range(4)], np.random.default_rng(0)) == {}
    with pytest.raises(StateError, match="startup is a number"):
        TPE(startup=0)


def test_halving_keeps_the_best_share_of_a_rung():
    asha, made = ASHA(first=1, eta=3), lambda *values: SimpleNamespace(reports=tuple(enumerate(values, 1)))
    assert asha.goes_on([], 1, 0.0) and asha.goes_on([made(9.0), made(8.0)], 1, 0.0)  # the first three pass
    five = [made(float(k)) for k in range(5)]
    assert asha.goes_on(five, 1, 4.5) and not asha.goes_on(five, 1, 2.5)
    assert asha.goes_on(five, 2, -1.0) and asha.goes_on(five, 3, -1.0)  # no rung; a rung where nobody was
    for wrong in (dict(first=0), dict(eta=1)):
        with pytest.raises(StateError, match="first is an epoch"):
            ASHA(**wrong)


def test_a_score_that_yields_is_stopped_early(tmp_path, unmeasured):
    study = run(tmp_path, toy.growing, strategy=ASHA(first=1, eta=2))
    stopped = [r for r in study.records if "stopped at epoch" in r.rejected]
    whole = [r for r in study.records if not r.rejected]
    assert stopped and whole and all(len(r.reports) < 4 and r.score == r.reports[-1][1] for r in stopped)
    assert all(len(r.reports) == 4 for r in whole) and study.best.score == max(r.score for r in whole)
    assert study.records == run(tmp_path, toy.growing, strategy=ASHA(first=1, eta=2)).records  # reports too are in the log


def test_reports_that_are_no_numbers_reject_a_trial(tmp_path, unmeasured):
    def score(net, t):
        t.report(1, float("nan") if t.picks["w"] > 4 else 1.0)
        return 1.0

    study = run(tmp_path, score)
    assert len(study.rejected) == 4 and all("NonFiniteError: the score is nan at epoch 1" in r.rejected for r in study.rejected)
    with pytest.raises(StateError, match="yields nothing"):
        run(tmp_path / "b", lambda net: (x for x in ()))


def test_the_folder_of_a_way_is_its_own(tmp_path, unmeasured):
    seen = {}

    def score(net, t):
        seen.setdefault(tuple(t.path), set()).add(t.folder)
        return 1.0

    run(tmp_path, score)
    run(tmp_path, score, fork=True, seed=3)
    assert len(seen) == 8 and all(len(f) == 1 for f in seen.values()) and len(set.union(*seen.values())) == 8


def test_a_strategy_of_ones_own(tmp_path, unmeasured):
    class Widest(Strategy):
        def propose(self, tried, rng):
            return {"w": 3 - len(tried)}

    assert [r.picks["w"] for r in run(tmp_path, toy.size, strategy=Widest(), trials=4).records] == ["8", "6", "4", "2"]


def test_kernels():
    t = Trial(Space(0), 0, {"k": 2})
    assert t.kernel("k", (7, 3, 5)) == 7 and "k" in t.ordered
    with pytest.raises(StateError, match="4 is no odd size"):
        Trial(Space(0), 0).kernel("k", (3, 4))
