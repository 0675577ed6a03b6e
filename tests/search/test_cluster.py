"""Trials on a Ray of this machine: nothing is lost with a worker that dies, and the strategy is asked from afar."""

from __future__ import annotations

import pytest

from shohin.core.errors import StateError
from shohin.search import ASHA, Budget, search
from tests.search import toy

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'shohin[cluster]'. Searches on a cluster are NOT TESTED")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def local():
    """One Ray for all; a search leaves it as it is."""
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    assert ray.is_initialized()
    ray.shutdown()


def run(folder, score, **more):
    given = {"trials": 8, "workers": 2, "cluster": "ray", **more}
    return search(toy.build, score, calibration=toy.X, device="host", budget=Budget(), run=folder, **given)


def test_a_worker_killed_in_mid_trial_loses_nothing(tmp_path):
    study = run(tmp_path, toy.dying)
    assert sorted(r.number for r in study.records) == list(range(8)) and len({r.path for r in study.records}) == 8
    wide = [r for r in study.records if r.picks["w"] == "8"]
    assert len(wide) == 2 and all("its worker died twice" in r.rejected for r in wide)
    rest = [r for r in study.records if r.picks["w"] != "8"]
    assert all(not r.rejected and "its worker died" in r.note and "tried again" in r.note and r.measured["flash"] for r in rest)
    assert run(tmp_path, toy.dying).records == study.records


def test_reports_are_answered_by_the_strategy_and_closures_travel(tmp_path):
    factor = 2.0

    def score(net):
        for value in toy.growing(net):
            yield factor * value

    study = run(tmp_path, score, strategy=ASHA(first=1, eta=2))
    assert any("stopped at epoch" in r.rejected for r in study.records) and any(len(r.reports) == 4 for r in study.records)
    assert all(r.score == r.reports[-1][1] for r in study.records)


def test_an_error_of_the_program_comes_back_with_its_traceback(tmp_path):
    with pytest.raises(StateError, match=r"trial \d: a mistake in score\n(?s:.*)ZeroDivisionError"):
        run(tmp_path, toy.wrong)
