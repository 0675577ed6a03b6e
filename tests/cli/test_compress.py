"""compress as a person meets it: plans from files and from rules, a table, a report, what is kept, exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import shohin as sh
from shohin.cli import app
from tests.shipping.nets import trained

RUN = CliRunner()
OWN = """
import shohin as sh
from shohin import nn
from shohin.compress import method
from tests.shipping.nets import Net, data

@method(slot="mask")
def own_small(w, stats, *, sparsity):
    return abs(w) > sh.quantile(abs(w), sparsity, axis=-1, keepdims=True)

net = sh.load({path!r}, into=Net())
task = sh.Task(net, data(128, 1), data(40, 2), nn.cross_entropy, nn.accuracy)
"""


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compress")
    sh.save(trained(), folder / "net.safetensors")
    (folder / "task.py").write_text(OWN.format(path=str(folder / "net.safetensors")))
    (folder / "four.toml").write_text('[[rule]]\nplace = "*"\nmethod = "Quantize"\nw = 4\n')
    (folder / "own.toml").write_text('[[rule]]\nlayer = "Conv2d"\nmethod = "own_small"\nsparsity = 0.5\n\n[[rule]]\nplace = "*"\nmethod = "Quantize"\n')
    (folder / "wrong.toml").write_text('[[rule]]\nplace = "*"\nmethod = "Quantise"\n')
    (folder / "nowhere.toml").write_text('[[rule]]\nplace = "boddy"\nmethod = "Quantize"\n')
    return folder


@pytest.fixture(scope="module")
def made(here: Path) -> tuple[Any, list[str]]:
    """A plan of a file and one of rules, trained for an epoch with the float network's answers."""
    words = ["compress", str(here / "task.py"), "--plan", str(here / "own.toml"), "--rule", "body: Palettize(bits=2)", "--rule",
             "*: Quantize", "--device", "host", "--flash", "1MB", "--finetune", "1", "--distill", "0.5", "--out", str(here / "out")]  # fmt: skip
    return RUN.invoke(app, words), words


def test_plans_are_compared_on_what_is_shipped(made: tuple[Any, list[str]], here: Path) -> None:
    done, _ = made
    assert done.exit_code == 0, done.output
    for said in ("own\n", "own_small", "rule 1: 'body'", "1 epochs on 128 labelled examples, 50% of the loss by the network as it was", "about", "0 of ", "best ", "report.html"):
        assert said in done.output, said
    found = json.loads((here / "out" / "result.json").read_text())
    assert [c["name"] for c in found["candidates"]] == ["float32", "own", "rules"]
    assert all(c["differing"]["value"] == 0 and len(c["training"]) == 1 for c in found["candidates"][1:])
    assert (here / "out" / "artefact" / "network.hpp").is_file()


def test_what_is_made_is_kept(made: tuple[Any, list[str]]) -> None:
    again = RUN.invoke(app, [*made[1], "--json"])
    assert again.exit_code == 0 and again.stderr.count("kept from before") == 3 and json.loads(again.stdout)["candidates"][1]["name"] == "own"
    other = RUN.invoke(app, [w if w != "body: Palettize(bits=2)" else "body: Palettize(bits=3)" for w in made[1]])
    assert other.exit_code == 0 and other.output.count("kept from before") == 2, "only the plan that has changed is carried out anew"
    assert "8 values for a tensor" in other.output


def test_a_plan_without_integers_and_one_that_fails(here: Path, tmp_path: Path) -> None:
    words = ["compress", str(here / "task.py"), "--device", "host", "--out", str(tmp_path / "out"), "--plan", str(here / "nowhere.toml"), "--rule", "@Conv2d: Prune"]
    done = RUN.invoke(app, words)
    said = " ".join(done.output.split())
    assert done.exit_code == 0 and "nowhere: left out, the pattern 'boddy' matches no place; near: body" in said and "no candidate is of integers" in said
    assert "integers differ" not in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([], 1, "no plan: give --plan"),
        (["--plan", "{here}/wrong.toml"], 1, "the method 'Quantise' is unknown; near: Quantize"),
        (["--plan", "{here}/none.toml"], 1, "cannot be read"),
        (["--plan", "{here}/nowhere.toml"], 1, "matches no place; near: body"),
        (["--plan", "{here}/four.toml", "--plan", "{here}/four.toml"], 1, "'four' is there already"),
        (["--rule", "everything please"], 1, "expected PLACE: METHOD(field=value"),
        (["--rule", "*: Quantize(w=5)"], 1, "weights of 2, 3, 4 or 8 bits"),
        (["--rule", "*: Quantize", "--distill", "2"], 2, ""),
    ],
)
def test_what_goes_wrong_is_said(words: list[str], code: int, said: str, here: Path, tmp_path: Path) -> None:
    done = RUN.invoke(app, ["compress", str(here / "task.py"), "--device", "host", "--out", str(tmp_path / "out"), *(w.format(here=here) for w in words)])
    assert done.exit_code == code and said in " ".join(done.output.split()), done.output


def test_nothing_meets_the_budget(here: Path, tmp_path: Path) -> None:
    words = ["compress", str(here / "task.py"), "--device", "host", "--flash", "1kB", "--rule", "*: Quantize", "--out", str(tmp_path / "out")]
    done = RUN.invoke(app, words)
    assert done.exit_code == 3 and "nothing meets the budget" in done.output and "rules came closest" in " ".join(done.output.split())
