"""ship and diff as a person meets them: text, JSON, exit codes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import shohin as sh
from shohin.cli import app
from shohin.cli.network_file import numbers, shape_of
from shohin.core.errors import DataError
from tests.shipping.nets import data, trained

RUN = CliRunner()
Image = pytest.importorskip("PIL.Image")


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a network, images by label, an array, and a task."""
    folder = tmp_path_factory.mktemp("cli")
    net, some = trained(), data(40, 7)
    sh.save(net, folder / "net.safetensors", example=some.x[:1])
    np.save(folder / "x.npy", some.x)
    for k, (x, y) in enumerate(zip(some.x, some.y, strict=True)):
        path = folder / "images" / "abcd"[y] / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.clip(np.rint((x[..., 0] * 0.2 + 0.5) * 255), 0, 255).astype(np.uint8)).save(path)
    (folder / "task.py").write_text(
        "import shohin as sh\nfrom shohin import nn\nfrom tests.shipping.nets import Net, data\n"
        f"net = sh.load({str(folder / 'net.safetensors')!r}, into=Net())\n"
        "task = sh.Task(net, data(40, 1), data(40, 2), nn.cross_entropy, nn.accuracy)\n"
    )
    return folder


@pytest.fixture(scope="module")
def shipped(here: Path) -> tuple[Any, Path]:
    """The command on labelled images; its result and folder."""
    out = here / "out"
    given = ["--data", str(here / "images"), "--device", "host", "--flash", "1MB", "--mean", "0.5", "--std", "0.2", "--out", str(out)]
    return RUN.invoke(app, ["ship", str(here / "net.safetensors"), *given]), out


def test_ship_tells_the_whole_story(shipped: tuple[Any, Path]) -> None:
    done, out = shipped
    assert done.exit_code == 0, done.output
    for said in ("net for host: input 12 x 12 x 1", "stem", "takes in batch_norm, relu", "plan\n", "about", "accuracy", "integers differ between module, reference",
                 "0 of ", "best         int8", "measured", "report.html"):  # fmt: skip
        assert said in done.output, said
    accuracy = json.loads((out / "result.json").read_text())["candidates"][0]["accuracy"]["value"]
    assert accuracy > 0.8 and (out / "artefact" / "network.hpp").is_file() and (out / "report.html").stat().st_size > 5000
    assert "\x1b" not in done.output


def test_json_is_all_that_stdout_has(shipped: tuple[Any, Path], here: Path, tmp_path: Path) -> None:
    out = shutil.copytree(shipped[1], tmp_path / "moved")
    given = ["--data", str(here / "images"), "--device", "host", "--flash", "1MB", "--mean", "0.5", "--std", "0.2", "--out", str(out), "--json"]
    done = RUN.invoke(app, ["ship", str(here / "net.safetensors"), *given])
    found = json.loads(done.stdout)
    assert done.exit_code == 0 and found["best"] == "int8" and found["candidates"][1]["differing"] == {"value": 0, "how": "measured"}
    assert "kept from before" in done.stderr


@pytest.mark.slow
def test_nothing_meets_the_budget(shipped: tuple[Any, Path], here: Path, tmp_path: Path) -> None:
    out = shutil.copytree(shipped[1], tmp_path / "moved")
    given = ["--data", str(here / "images"), "--device", "host", "--flash", "1kB", "--mean", "0.5", "--std", "0.2", "--out", str(out)]
    done = RUN.invoke(app, ["ship", str(here / "net.safetensors"), *given])
    assert done.exit_code == 3 and "nothing meets the budget" in done.output and "of 1,000 bytes" in done.output and "falls short" in done.output
    as_json = RUN.invoke(app, ["ship", str(here / "net.safetensors"), *given, "--json"])
    assert as_json.exit_code == 3 and json.loads(as_json.stdout)["best"] is None


def test_diff(shipped: tuple[Any, Path], here: Path) -> None:
    _, out = shipped
    small, net, x = str(out / "checkpoint.safetensors"), str(here / "net.safetensors"), str(here / "x.npy")
    same = RUN.invoke(app, ["diff", small, str(out), x])
    assert same.exit_code == 0 and "agree at all 1 places" in same.output, same.output
    reference = json.loads(RUN.invoke(app, ["diff", small, f"reference:{small}", x, "--json"]).stdout)
    assert reference["first"] is None and len(reference["places"]) >= 5 and all(p["differing"] == 0 for p in reference["places"])
    parts = RUN.invoke(app, ["diff", net, small, x])
    assert "they part first at input" in parts.output and "head/add" in parts.output
    task = json.loads(RUN.invoke(app, ["diff", str(here / "task.py"), net, x, "--json"]).stdout)
    assert task["first"] is None


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        (["ship", "{here}/net.safetensors"], 1, "--data is missing"),
        (["ship", "{here}/none.onnx"], 1, "no such file; expected .py (sets task), .onnx or .safetensors"),
        (["ship", "{here}/x.npy"], 1, "expected .py"),
        (["ship", "{here}/task.py", "--data", "{here}/images"], 1, "brings its own data"),
        (["ship", "{here}/net.safetensors", "--data", "{here}/images", "--flash", "12 parsecs"], 1, "is no size"),
        (["ship", "{here}/net.safetensors", "--data", "{here}/images", "--shape", "3,tall"], 1, "--shape: '3,tall'"),
        (["ship", "{here}/net.safetensors", "--data", "{here}/images", "--shape", "24,24,1"], 1, "12 x 12 pixels, the network takes 24 x 24"),
        (["ship", "{here}/net.safetensors", "--data", "{here}/x.npy", "--finetune", "2"], 1, "needs labels"),
        (["ship", "{here}/net.safetensors", "--data", "{here}/images", "--finetune", "2"], 1, "is for evaluation; to train it, give a task file"),
        (["ship", "{here}/net.safetensors", "--data", "{here}/images", "--device", "toaster"], 1, "not a known target"),
        (["ship", "{here}/net.safetensors", "--data", "{here}/x.npy", "--out", "{here}"], 1, "holds something else"),
        (["ship", "{here}/net.safetensors", "--finetune", "-1"], 2, ""),
        (["diff", "{here}/net.safetensors", "{here}/nothing", "{here}/x.npy"], 1, "no such file or folder"),
        (["diff", "{here}/net.safetensors", "{here}/images", "{here}/x.npy"], 1, "no manifest.json"),
        (["diff", "{here}/net.safetensors", "reference:{here}/net.safetensors", "{here}/x.npy"], 1, "has no integer reference"),
    ],
)
def test_what_goes_wrong_is_said(command: list[str], code: int, said: str, here: Path, tmp_path: Path) -> None:
    words = [w.format(here=here) for w in command]
    if words[0] == "ship" and "--out" not in words:
        words += ["--out", str(tmp_path / "out")]
    done = RUN.invoke(app, words)
    assert done.exit_code == code and said in " ".join(done.output.split()), done.output
    if code == 1:
        as_json = RUN.invoke(app, [*words, "--json"])
        assert as_json.exit_code == 1 and said in " ".join(json.loads(as_json.stdout)["error"].split())


def test_devices_and_doctor_as_json() -> None:
    assert "cortex-m55" in {d["device"] for d in json.loads(RUN.invoke(app, ["devices", "--json"]).stdout)}
    assert all({"what", "here", "remedy"} == set(d) for d in json.loads(RUN.invoke(app, ["doctor", "--json"]).stdout))


def test_numbers() -> None:
    assert shape_of("3x8x8") == (3, 8, 8) and numbers(None, "mean") is None
    with pytest.raises(DataError, match="positive whole"):
        shape_of("3,0")
