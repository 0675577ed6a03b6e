"""The demo as a person meets it: a small run of every part, its files, a rerun, and what goes wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from shohin.cli import app, demo_all, demo_job
from shohin.compress.demos import plans
from shohin.data import Dataset
from shohin.nn.models import DSCNN

RUN = CliRunner()


def small_data() -> tuple[Dataset, Dataset]:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 10, 1500)
    x = rng.normal(size=(1500, 28, 28, 1)).astype(np.float32) * 0.3
    x[np.arange(1500), y * 2, :, 0] += 2
    data = Dataset(x, y, classes=tuple("0123456789"))
    return data.take(1440), Dataset(x[1440:], y[1440:], classes=data.classes)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(demo_job, "fashion_mnist", small_data)
    monkeypatch.setattr(demo_job, "NETWORKS", {"small": lambda: DSCNN(width=8, depth=1)})
    return tmp_path / "run"


def test_a_run_its_record_and_a_rerun(tiny: Path) -> None:
    first = RUN.invoke(app, ["demo", "--quick", "--run", str(tiny)])
    assert first.exit_code == 0, first.output
    assert "no claim" in first.output and "best that fits" in first.output
    result = json.loads((tiny / "result.json").read_text())
    assert [c["precision"] for c in result["candidates"]] == ["float32", "int8", "int8-qat"]
    for c in result["candidates"]:
        assert c["test_accuracy"]["how"] == "measured" and 0 <= c["test_accuracy"]["value"] <= 1
        assert c["fits_budget"] is True and c["latency_ms"]["median"]["value"] > 0
        if c["precision"] == "float32":
            assert c["board_instructions"] is None and c["integer_mismatches"] is None
        else:
            assert c["integer_mismatches"]["value"] == 0
            assert c["board_instructions"] is None or c["board_instructions"]["how"] == "emulated"
    weights = {p: p.read_bytes() for p in tiny.rglob("last.safetensors")}
    again = RUN.invoke(app, ["demo", "--quick", "--run", str(tiny)])
    assert again.exit_code == 0
    assert {p: p.read_bytes() for p in tiny.rglob("last.safetensors")} == weights
    numbers: Any = lambda r: [(c["test_accuracy"], c["flash_bytes"], c["board_instructions"]) for c in r["candidates"]]
    assert numbers(json.loads((tiny / "result.json").read_text())) == numbers(result)


def test_a_budget_that_nothing_meets(tiny: Path) -> None:
    out = RUN.invoke(app, ["demo", "--quick", "--run", str(tiny), "--flash", "1kB"])
    assert out.exit_code == 3
    assert "came closest" in out.output and "of 1,000 bytes" in out.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--device", "cortex-m99"], "cortex-m55"), (["--flash", "12 parsecs"], "no size"), (["--run", "/proc/nowhere"], "cannot write")],
    ids=["device", "units", "folder"],
)
def test_what_goes_wrong_is_said(tiny: Path, arguments: list[str], said: str) -> None:
    given = arguments if "--run" in arguments else [*arguments, "--run", str(tiny)]
    out = RUN.invoke(app, ["demo", "--quick", *given])
    assert out.exit_code in (1, 2, 3)
    assert said in " ".join(out.output.split())


def test_devices_and_doctor() -> None:
    assert "cortex-m55" in RUN.invoke(app, ["devices"]).output
    assert "processor" in RUN.invoke(app, ["doctor"]).output


@pytest.mark.slow
def test_all_methods_in_one_report(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two methods in the registry, then a third: the two are kept."""
    words = ["demo", "--all", "--quick", "--device", "host", "--run", str(tiny)]
    some = dict(list(plans().items())[::5])
    first = dict(list(some.items())[:2])
    monkeypatch.setattr(demo_all, "plans", lambda: first)
    done = RUN.invoke(app, words)
    assert done.exit_code == 0, done.output
    result = json.loads((tiny / "all" / "result.json").read_text())
    names = [c["name"] for c in result["candidates"]]
    assert names == ["float32", *first, "distilled"] and not result["claim"] and not result["skipped"]
    for c in result["candidates"]:
        assert 0 <= c["test_accuracy"] <= 1 and (c["name"] == "float32" or c["differing"]["value"] == 0)
    monkeypatch.setattr(demo_all, "plans", lambda: dict(list(some.items())[:3]))
    more = RUN.invoke(app, words)
    assert more.exit_code == 0 and more.output.count("kept from before") == 5, more.output
    page = (tiny / "all" / "report.html").read_text()
    assert all(f"small: {name}" in page for name in [*list(some)[:3], "distilled"]) and "which claims nothing" in page


@pytest.mark.slow
def test_every_method_of_the_registry(tiny: Path) -> None:
    done = RUN.invoke(app, ["demo", "--all", "--quick", "--device", "host", "--run", str(tiny)])
    assert done.exit_code == 0, done.output
    result = json.loads((tiny / "all" / "result.json").read_text())
    refused = [line.split(": ")[1] for line in result["skipped"]]
    assert all("would need" in line for line in result["skipped"]), "only factors that would not pay on this small network"
    assert [c["name"] for c in result["candidates"]] == ["float32", *(n for n in plans() if n not in refused), "distilled"]
