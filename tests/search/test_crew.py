"""Several processes: nothing is lost with one that dies."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shohin.core.errors import StateError
from shohin.search import Budget, search
from tests.search import toy

ROOT = Path(__file__).resolve().parents[2]


def run(folder, score, **more):
    return search(toy.build, score, calibration=toy.X, device="host", budget=Budget(), run=folder, **{"trials": 8, "workers": 2, **more})


@pytest.mark.slow
def test_a_worker_that_dies_is_replaced_and_its_trial_tried_once_more(tmp_path):
    study = run(tmp_path, toy.dying)
    assert sorted(r.number for r in study.records) == list(range(8)) and len({r.path for r in study.records}) == 8
    wide = [r for r in study.records if r.picks["w"] == "8"]
    assert len(wide) == 2 and all("its worker died twice (exit code 9)" in r.rejected for r in wide)
    rest = [r for r in study.records if r.picks["w"] != "8"]
    assert all(not r.rejected and "its worker died (exit code 9), tried again" in r.note and r.measured["flash"] for r in rest)
    assert run(tmp_path, toy.dying).records == study.records


def test_what_goes_to_other_processes_must_be_importable(tmp_path):
    with pytest.raises(StateError, match="at the top of a module"):
        run(tmp_path, lambda net: 1.0)
    with pytest.raises(StateError, match="workers is 0"):
        run(tmp_path, toy.size, workers=0)
    with pytest.raises(StateError, match="cluster is 'slurm'"):
        run(tmp_path, toy.size, cluster="slurm")


@pytest.mark.slow
def test_an_error_of_the_program_comes_back_with_its_traceback(tmp_path):
    with pytest.raises(StateError, match=r"trial \d: a mistake in score\n(?s:.*)ZeroDivisionError"):
        run(tmp_path, toy.wrong)


PROGRAM = """
import sys
from tests.search import test_crew, toy
if __name__ == "__main__":
    test_crew.run(sys.argv[1], toy.size, workers=int(sys.argv[2]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_search_that_is_killed_goes_on_and_loses_nothing_finished(tmp_path, workers):
    log = tmp_path / "s" / "log.jsonl"
    killed = subprocess.Popen([sys.executable, "-c", PROGRAM, str(tmp_path / "s"), str(workers)], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        while not (log.is_file() and log.read_bytes().count(b"\n") > 2):
            assert killed.poll() is None
            time.sleep(0.05)
    finally:
        killed.kill()
        killed.wait()
    before = log.read_bytes().splitlines()
    study = run(tmp_path / "s", toy.size, workers=1)
    after = log.read_bytes().splitlines()
    assert after[: len(before) - 1] == before[:-1] and sorted(r.number for r in study.records) == list(range(8))
    assert len({r.path for r in study.records}) == 8 and all(r.measured["flash"] for r in study.records)
