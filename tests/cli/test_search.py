"""search as a person meets it: the space and an estimate first, a line a trial, an artefact and a report, what is kept, exit codes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

import shohin as sh
from shohin.cli import app, search_job
from shohin.search import Budget, Study
from shohin.search.study import Record, Records

RUN = CliRunner()
TASK = """
import shohin as sh
from shohin import nn
from shohin.compress import Plan, Quantize
from tests.shipping.nets import Net, data

task = sh.Task(Net(8), data(160, 1), data(48, 2), nn.cross_entropy, nn.accuracy)

def build(t):
    return Net(t.pick("width", [4, 64])), Plan([("*", Quantize(w=t.bits("bits", (8, 4))))])
"""


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("search")
    (folder / "task.py").write_text(TASK)
    (folder / "scored.py").write_text(TASK + "\ndef score(net):\n    return float(net.inner.stem.weight.shape[0]) if hasattr(net, 'inner') else 1.0\n")
    (folder / "no_build.py").write_text(TASK.replace("def build", "def built"))
    (folder / "wrong.py").write_text(TASK + "\nbuild = lambda t: 3\n")
    return folder


@pytest.fixture(scope="module")
def made(here: Path) -> tuple[Any, list[str]]:
    words = ["search", str(here / "task.py"), "--device", "host", "--flash", "30kB", "--trials", "4", "--strategy", "random", "--out", str(here / "out")]
    return RUN.invoke(app, words), words


def test_the_front_the_best_and_the_report(made: tuple[Any, list[str]], here: Path) -> None:
    done, _ = made
    assert done.exit_code == 0, done.output
    for said in ("width       4, 64", "4 of these choices", "budget      flash 30,000 bytes", "a trial that fits (modelled", "#0 ", "#3 ", "the front, ", "best         #",
                 "0 of ", "integers differ", "report.html"):  # fmt: skip
        assert said in done.output, said
    found = json.loads((here / "out" / "result.json").read_text())
    best = found["best"]
    assert len(found["records"]) == 4 and best["number"] in found["front"] and best["differing"] == 0 and best["compared"] > 0
    rejected = [r for r in found["records"] if r["picks"]["width"] == "64"]
    assert len(rejected) == 2 and all(r["score"] is None and r["rejected"].startswith("flash") for r in rejected)
    assert (here / "out" / "artefact" / "network.hpp").is_file()
    x = sh.load(here / "out" / "checkpoint.safetensors")
    assert x is not None and "\x1b" not in done.output


def test_the_report_leads_to_every_candidate(made: tuple[Any, list[str]], here: Path) -> None:
    page = (here / "out" / "report.html").read_text()
    aims = set(re.findall(r'href="#(c\d+)"', page))
    assert {f"c{k}" for k in range(4)} == aims == set(re.findall(r'<article class="detail" id="(c\d+)"', page))
    assert "Quantize(w=" in page and "<script" not in page and 'class="stairs"' in page and 'class="way ' in page and ">stem<" in page


def test_it_goes_on_and_says_when_it_cannot(made: tuple[Any, list[str]], here: Path) -> None:
    again = RUN.invoke(app, [*made[1], "--json"])
    assert again.exit_code == 0 and json.loads(again.stdout)["trials"] == 4 and "4 trials from before" in again.stderr
    other = RUN.invoke(app, [*made[1], "--epochs", "2"])
    assert other.exit_code == 1 and "another search, it differs in training" in " ".join(other.output.split())


def test_nothing_fits(here: Path, tmp_path: Path) -> None:
    done = RUN.invoke(app, ["search", str(here / "scored.py"), "--device", "host", "--flash", "1kB", "--trials", "2", "--out", str(tmp_path / "o")])
    assert done.exit_code == 3 and "none of 2 trials fits flash 1,000 bytes; the closest" in " ".join(done.output.split())
    assert "Nothing fits" in (tmp_path / "o" / "report.html").read_text() and "without the file's own score" in done.output


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["{here}/no_build.py"], 1, "it has no build; write def build(t)"),
        (["{here}/none.py"], 1, "no such file"),
        (["{here}/wrong.py"], 1, "build gives int"),
        (["{here}/task.py", "--strategy", "luck"], 1, "'luck' is unknown"),
        (["{here}/task.py", "--flash", "much"], 1, "is no size"),
        (["{here}/task.py", "--device", "toaster"], 1, "not a known target"),
        (["{here}/task.py", "--trials", "0"], 2, ""),
    ],
)
def test_what_goes_wrong_is_said(words: list[str], code: int, said: str, here: Path, tmp_path: Path) -> None:
    done = RUN.invoke(app, ["search", *(w.format(here=here) for w in words), "--out", str(tmp_path / "o"), *([] if "--device" in words else ["--device", "host"])])
    assert done.exit_code == code and said in " ".join(done.output.split()), done.output


def test_in_a_terminal_the_front_is_drawn_anew() -> None:
    record = lambda k, score: Record(number=k, picks={"w": str(k)}, path=(k,), options={"w": 3}, score=score, predicted={"flash": 9 + k, "ram": 5, "instructions": None},
                                     measured={"flash": 9 + k, "ram": 5, "instructions": None}, rejected="", folder="")  # fmt: skip
    console = Console(force_terminal=True, width=100, record=True, file=open("/dev/null", "w"))
    with search_job.Watching(console) as watch:
        for k in range(3):
            watch(Study(Records([record(j, 0.5 + 0.1 * j) for j in range(k)]), Budget()))
    drawn = console.export_text()
    assert "2 trials, 0 rejected" in drawn and "#1" in drawn and "0.6000" in drawn


@pytest.mark.slow
def test_two_processes_and_halving(here: Path, tmp_path: Path) -> None:
    words = ["search", str(here / "task.py"), "--device", "host", "--flash", "30kB", "--trials", "3", "--epochs", "2", "--strategy", "asha", "--workers", "2", "--out", str(tmp_path / "o")]
    done = RUN.invoke(app, words)
    assert done.exit_code == 0, done.output
    records = json.loads((tmp_path / "o" / "result.json").read_text())["records"]
    assert len(records) == 3 and all(r["reports"] for r in records if r["score"] is not None)
