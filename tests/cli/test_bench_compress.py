"""The benchmark of methods: what is crossed, what is kept, rows that fail, intervals, files."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from shohin.cli import app, compress_bench
from shohin.cli.compress_bench import Config, Job, interval, jobs, summary, write

RUN = CliRunner()
TASK = """
import shohin as sh
from shohin import nn
from tests.shipping.nets import Net, data
task = sh.Task(Net(48), data(160, 1), data(48, 2), nn.cross_entropy, nn.accuracy)
"""


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    (tmp_path / "stripes.py").write_text(TASK)
    return ["bench", "compress", str(tmp_path / "stripes.py"), "--device", "host", "--float-epochs", "1", "--epochs", "1", "--out", str(tmp_path / "out")]


def test_what_is_crossed() -> None:
    names = ("PruneChannels", "Quantize")
    found = list(jobs(Config(networks=("resnet8", "ds-cnn"), budgets=(1.0, 0.5), seeds=(0, 1)), names))
    assert len(found) == len(set(found)) == 2 * 2 * (1 + 2 * (1 + 2)), "channels that a plan chooses itself have no other budget"
    assert list(jobs(Config(tasks=("a.py",), tracks=("closed",)), ("Quantize",))) == [
        Job(task="a.py", network="model", plan=p, budget=1.0, seed=0, track="closed") for p in ("float32", "Quantize")
    ]


def rows_in(folder: Path) -> dict[tuple[str, float], dict[str, Any]]:
    return {(r["job"]["plan"], r["job"]["budget"]): r["row"] for r in map(json.loads, (folder / "rows.jsonl").read_text().splitlines()[1:])}


def test_rows_are_kept(words: list[str], tmp_path: Path) -> None:
    first = RUN.invoke(app, [*words, "--plan", "Quantize", "--track", "closed"])
    assert first.exit_code == 0, first.output
    again = RUN.invoke(app, [*words, "--plan", "Quantize", "--track", "closed"])
    assert again.exit_code == 0 and "2 rows, 2 of them from before" in again.output, again.output
    rows = rows_in(tmp_path / "out")
    assert rows["Quantize", 1.0]["differing"] == 0 and rows["Quantize", 1.0]["compared"] > 0 and rows["float32", 1.0]["compared"] == 0
    with open(tmp_path / "out" / "summary.csv", encoding="utf-8") as file:
        assert {r["plan"] for r in csv.DictReader(file)} == {"float32", "Quantize"}
    picture = (tmp_path / "out" / "stripes-model-closed.svg").read_text()
    assert "Quantize" in picture and picture.count("<circle") == 2 * 2
    other = RUN.invoke(app, [*words, "--epochs", "2"])
    assert other.exit_code == 1 and "was made with" in other.output


@pytest.mark.slow
def test_a_budget_is_met_or_a_row_says_why_not(words: list[str], tmp_path: Path) -> None:
    done = RUN.invoke(app, [*words, "--plan", "Quantize", "--budget", "0.25", "--budget", "0.001", "--track", "closed"])
    assert done.exit_code == 0 and "failed: model Quantize (closed): BudgetError" in " ".join(done.output.split()), done.output
    rows = rows_in(tmp_path / "out")
    small = rows["Quantize", 0.25]
    assert small["flash"] <= 0.25 * rows["float32", 1.0]["flash"] and small["differing"] == 0 and "what came closest" in rows["Quantize", 0.001]["error"].lower()


@pytest.mark.slow
def test_the_open_track_in_two_processes(words: list[str], tmp_path: Path) -> None:
    done = RUN.invoke(app, [*words, "--plan", "Quantize", "--plan", "Palettize", "--seed", "0", "--seed", "1", "--workers", "2"])
    assert done.exit_code == 0, done.output
    rows = [json.loads(line) for line in (tmp_path / "out" / "rows.jsonl").read_text().splitlines()[1:]]
    assert len(rows) == 2 * (1 + 2 * 2) and all(r["row"].get("differing") in (0, None) and "error" not in r["row"] for r in rows), rows
    alone = RUN.invoke(app, [*words[:-1], str(tmp_path / "alone"), "--plan", "Quantize", "--plan", "Palettize", "--seed", "0", "--seed", "1"])
    assert alone.exit_code == 0
    same = lambda folder: {json.dumps(r["job"]): r["row"]["accuracy"] for r in map(json.loads, (folder / "rows.jsonl").read_text().splitlines()[1:])}
    assert same(tmp_path / "alone") == same(tmp_path / "out")


@pytest.mark.slow
def test_a_worker_that_dies_loses_nothing(words: list[str], tmp_path: Path) -> None:
    deadly = "import multiprocessing, os\nif multiprocessing.parent_process() is not None:\n    os._exit(9)\n"
    (tmp_path / "stripes.py").write_text(deadly + TASK)
    done = RUN.invoke(app, [*words, "--plan", "Quantize", "--plan", "Palettize", "--track", "closed", "--workers", "2"])
    assert done.exit_code == 0 and len(rows_in(tmp_path / "out")) == 3 and "a worker has died" in done.output, done.output


def test_what_goes_wrong_is_said(tmp_path: Path) -> None:
    for given, said in ((["--plan", "Luck"], "no plan is called 'Luck'; there are"), (["--track", "third"], "no track is called"), (["--network", "vgg"], "no network is called")):
        done = RUN.invoke(app, ["bench", "compress", *given, "--out", str(tmp_path / "o")])
        assert done.exit_code == 1 and said in " ".join(done.output.split()), done.output


def test_a_row_cut_off_is_made_again(tmp_path: Path) -> None:
    log = compress_bench.Log(tmp_path / "rows.jsonl", {"device": "host"})
    job = Job(task="t", network="n", plan="p", budget=1.0, seed=0, track="open")
    log.append(job, {"accuracy": 0.5})
    log.path.write_text(log.path.read_text() + '{"job": {"task": "t", "netw')
    again = compress_bench.Log(tmp_path / "rows.jsonl", {"device": "host"})
    assert again.rows == {job: {"accuracy": 0.5}} and len(again.path.read_text().splitlines()) == 2


def test_intervals_and_means_over_seeds(tmp_path: Path) -> None:
    row = lambda seed, accuracy: {"task": "t", "network": "n", "plan": "p", "budget": 1.0, "seed": seed, "track": "open", "accuracy": accuracy, "test": 100, "flash": 1000,
                                  "ram": 10, "instructions": None, "ms": 0.1 * (seed + 1), "differing": 0, "compared": 5, "seconds": 1.0}  # fmt: skip
    (line,) = summary([row(0, 0.8), row(1, 0.9)])
    middle, low, high = interval([0.8, 0.9], 100)
    assert (line["accuracy"], line["low"], line["high"], line["seeds"], line["compared"]) == (middle, low, high, 2, 10)
    assert abs((high - low) / 2 - 12.706 * 0.05) < 1e-9 and line["instructions"] is None and abs(line["ms"] - 0.15) < 1e-12
    write(tmp_path, [row(0, 0.8), {**row(0, 0.7), "plan": "q", "flash": 500}])
    assert (tmp_path / "t-n-open.svg").is_file()
