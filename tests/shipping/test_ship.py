"""Ship: what is measured, what is tried over budget, what is kept, and what goes wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shohin as sh
from shohin import nn
from shohin.core.errors import (
    AttrError,
    DataError,
    DeployError,
    NonFiniteError,
    QuantizationError,
    StateError,
    TargetError,
)
from shohin.deploy.values import refuse_non_finite
from shohin.shipping.candidate import Candidate
from shohin.shipping.remedy import short
from shohin.shipping.ship import Shipment
from shohin.targets import board
from tests.shipping.nets import Net, data, trained
from tests.targets.emulator import require_emulator


@pytest.fixture(scope="module")
def net() -> Net:
    return trained()


@pytest.fixture(scope="module")
def over(net: Net, tmp_path_factory: pytest.TempPathFactory) -> Shipment:
    """A budget that only fewer channels meet, with labels and training."""
    to = tmp_path_factory.mktemp("over") / "shipped"
    return sh.ship(net, data(640), device="cortex-m55", flash="5.2kB", ram="2.5kB", finetune=4, to=to, progress=False)


def named(found: Shipment) -> dict[str, Candidate]:
    return {c.name: c for c in found.candidates}


@pytest.mark.slow
def test_the_numbers_are_those_of_what_is_shipped(over: Shipment) -> None:
    require_emulator()
    c = named(over)
    assert list(c)[:3] == ["float32", "int8", "int8, trained"]
    assert c["float32"].accuracy is not None and c["float32"].accuracy.value > 0.9 and c["float32"].differing is None
    for name in list(c)[1:]:
        one = c[name]
        assert one.differing is not None and one.differing.value == 0 and one.compared > 0 and "cortex-m55" in one.ways
        assert one.flash.value == sum(one.sections[s] for s in ("text", "rodata", "data")) == one.artefact.flash_bytes
        assert one.instructions is not None and one.instructions.how == "emulated" and one.ram.value > one.arena.value
        assert one.peak["bytes"] <= one.arena.value and one.by_layer[one.peak["layer"]]
        assert sum(v["ms"] for v in one.by_layer.values()) > 0
    assert c["int8"].flash.value < c["float32"].flash.value and c["int8"].snr is not None and c["int8"].snr.value > 20
    assert len(c["int8, trained"].training) == 4


@pytest.mark.slow
def test_over_budget_channels_leave_until_it_fits(over: Shipment) -> None:
    best = over.best
    assert best is not None and "fewer channels" in best.name and not best.over(over.budget)
    assert named(over)["int8"].over(over.budget)
    assert best in over.front and all(not c.over(over.budget) for c in over.front)
    pruned = [c for c in over.candidates if "fewer channels" in c.name]
    assert [c.name.endswith("trained") for c in pruned] == [False, True]  # with its agreement stated without training
    assert pruned[1].score > pruned[0].score
    assert any(line.startswith("tables: ") for line in over.skipped)
    assert any("needs" in line and "of RAM for activations" in line and f"{best.name} fits" in line for line in over.short)


@pytest.mark.slow
def test_what_is_left_behind(over: Shipment, net: Net) -> None:
    found = json.loads((over.folder / "result.json").read_text())
    assert found["best"] == over.best.name and found["candidates"][1]["snr"]["how"] == "measured"
    assert Candidate.from_json({k: v for k, v in found["candidates"][1].items() if k not in ("fits_budget", "over")}) == over.candidates[1]
    small, x = sh.load(over.checkpoint), data(8, 5).x
    assert np.array_equal(over.artefact(x), small(x).numpy())


@pytest.mark.slow
def test_a_second_run_makes_nothing_again(over: Shipment, net: Net) -> None:
    records = {p: p.stat().st_mtime_ns for p in over.folder.rglob("record.json")}
    again = sh.ship(net, data(640), device="cortex-m55", flash="5.2kB", ram="2.5kB", finetune=4, to=over.folder, progress=False)
    assert again.candidates == over.candidates and {p: p.stat().st_mtime_ns for p in over.folder.rglob("record.json")} == records
    wide = sh.ship(net, data(640), device="cortex-m55", flash="1MB", finetune=4, to=over.folder, progress=False)
    assert [c.name for c in wide.candidates] == ["float32", "int8", "int8, trained"]  # another budget, the same candidates


@pytest.mark.slow
def test_tables_and_resolution(net: Net, tmp_path: Path) -> None:
    """Flash alone: tables; RAM alone: a smaller input. Without labels: agreement and signal to noise."""
    x = data().x
    first = sh.ship(net, x, device="cortex-m55", to=tmp_path / "a", progress=False)
    int8 = named(first)["int8"]
    assert int8.accuracy is None and int8.agreement is not None and 0.8 <= int8.agreement.value <= 1 and first.short == ()
    flash = sh.ship(net, x, device="cortex-m55", flash=int8.flash.value - 1, to=tmp_path / "a", progress=False)
    assert [c.name for c in flash.candidates][2] == "int8, 4-bit tables" and any("activations, and flash alone" in s for s in flash.skipped)
    ram = sh.ship(net, x, device="cortex-m55", ram=int8.ram.value - 1, to=tmp_path / "a", progress=False)
    names = [c.name for c in ram.candidates]
    assert "int8, input 9 x 9 x 1" in names and not any("tables" in n for n in names)
    assert named(ram)["int8, input 9 x 9 x 1"].input == (9, 9, 1)


class Fixed(Net):
    """As an imported network: of one size, and made anew for another."""

    size = 12

    def forward(self, x):
        if x.shape[1] != self.size:
            raise sh.ShapeError(f"of {self.size} rows, got {x.shape}")
        return super().forward(x)


@pytest.mark.slow
def test_a_network_that_is_made_anew_for_another_size(net: Net, tmp_path: Path) -> None:
    def at(shape: tuple[int, ...]) -> Fixed:
        made = Fixed()
        for path, cell in made.cells().items():
            cell.write(net.cells()[path].read())
        made.size = shape[0]
        return made.eval()

    x = data().x
    first = sh.ship(at((12,)), x, device="host", to=tmp_path / "a", progress=False)
    ram = named(first)["int8"].ram.value - 1
    alone = sh.ship(at((12,)), x, device="host", ram=ram, to=tmp_path / "a", progress=False)
    assert any("takes no input of 9 x 9 x 1 (of 12 rows" in s for s in alone.skipped)
    found = sh.ship(at((12,)), x, device="host", ram=ram, at=at, to=tmp_path / "a", progress=False)
    assert named(found)["int8, input 9 x 9 x 1"].differing.value == 0


@pytest.mark.slow
def test_a_task_and_one_that_is_over_alone(net: Net, tmp_path: Path) -> None:
    task = sh.Task(net, data(64, 3), data(32, 4), nn.cross_entropy, nn.accuracy)
    found = sh.ship(task, device="host", flash=100, to=tmp_path / "t", progress=False)
    assert found.best is None and found.fitting == () and len(found.short) == 1 and "of flash" in found.short[0]
    assert found.checkpoint.is_file() and not (found.folder / "artefact").exists()
    assert json.loads((found.folder / "result.json").read_text())["best"] is None


@pytest.mark.slow
def test_remedies_are_estimates_of_the_layout(over: Shipment) -> None:
    """Without a candidate that fits, the layout says what would: 8-bit activations for the float network, fewer for int8."""
    c = named(over)
    layout = c["float32"].artefact.layout
    quarter = layout.arena_if(lambda b: 0.25)
    assert "8-bit activations would fit" in short(c["float32"], sh.search.Budget(ram=quarter + c["float32"].ram.value - c["float32"].arena.value))[0]
    int8 = c["int8"]
    room = int8.ram.value - int8.arena.value
    line = short(int8, sh.search.Budget(ram=room + int8.artefact.layout.peak.live // 2 + 64))[0]
    assert "would fit (about" in line and "modelled" in line and int8.peak["layer"] in line
    assert "all activations would have to shrink" in short(int8, sh.search.Budget(ram=room + 40))[0]
    assert "fewer channels" in short(int8, sh.search.Budget(flash=int8.sections["text"] + 10))[0]
    assert "the code alone takes" in short(int8, sh.search.Budget(flash=100))[0]


# ------------------------------------------------------------------------------------------------- what goes wrong


class Overflow(Net):
    def forward(self, x):
        return super().forward(sh.exp(x * 1000.0))


class Odd(Net):
    def forward(self, x):
        y = super().forward(x)
        return sh.atan2(y, y + 1.0) + sh.sort(y)


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"data": None}, DataError, "no data; give some hundred inputs"),
        ({"data": "nowhere"}, DataError, "nowhere: no such file or folder"),
        ({"data": np.zeros((8, 12, 12, 2), np.float32)}, DataError, r"does not take examples of shape \(12, 12, 2\)"),
        ({"data": np.zeros((8, 12, 12, 1))}, DataError, r"data is float64\[8, 12, 12, 1\], expected float32"),
        ({"data": np.full((8, 12, 12, 1), np.inf, np.float32)}, DataError, "row 0 holds inf"),
        ({"data": sh.data.Dataset(data().x, data().y + 9)}, DataError, "labels reach 12, but the network gives"),
        ({"flash": "12 parsecs"}, AttrError, "'12 parsecs' is no size"),
        ({"ram": "-3kB"}, AttrError, "'-3kB' is no size"),
        ({"ram": 0}, AttrError, "must be positive"),
        ({"device": "cortex-m99"}, TargetError, "cortex-m55"),
        ({"data": data().x, "finetune": 1}, DataError, "--finetune needs labels"),
        ({"net": Overflow()}, NonFiniteError, "/exp#0 gives inf for example 0"),
        ({"net": Odd()}, QuantizationError, r"(?s)/atan2#0.*/argsort#0"),
        ({"net": lambda x: x}, StateError, "expected an nn.Module or a Task"),
    ],
)  # fmt: skip
def test_errors(arguments: dict[str, Any], error: type[Exception], said: str, net: Net, tmp_path: Path) -> None:
    given = {"net": net, "data": data(), "device": "host", "to": tmp_path / "s", "progress": False, **arguments}
    with pytest.raises(error, match=said):
        sh.ship(given.pop("net"), given.pop("data"), **given)
    assert not (tmp_path / "s" / "result.json").exists()


def test_a_quantized_network_is_refused(net: Net, tmp_path: Path) -> None:
    small = sh.compress.Plan([("*", sh.compress.Quantize())]).apply(net, data().x)
    with pytest.raises(QuantizationError, match="quantized already"):
        sh.ship(small, data(), to=tmp_path / "s", progress=False)


def test_a_folder_that_holds_something_else(net: Net, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("the only copy")
    with pytest.raises(DeployError, match=r"holds something else \(thesis.tex\)"):
        sh.ship(net, data(), device="host", to=tmp_path, progress=False)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.slow
def test_a_folder_that_holds_another_shipment(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(16, 5)).astype(np.float32)
    one, two = nn.Linear(5, 2), nn.Linear(5, 2)
    first = sh.ship(one, x, device="host", to=tmp_path / "s", progress=False)
    with pytest.raises(DeployError, match=r"another shipment, it differs in values"):
        sh.ship(two, x, device="host", to=tmp_path / "s", progress=False)
    assert json.loads((tmp_path / "s" / "result.json").read_text())["candidates"][0]["flash"]["value"] == first.candidates[0].flash.value
    assert sh.ship(two, x, device="host", to=tmp_path / "s", fresh=True, progress=False).best is not None


@pytest.mark.slow
def test_a_device_that_is_not_emulated_here(net: Net, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board.shutil, "which", lambda name: None)
    found = sh.ship(net, data(), device="cortex-m55", to=tmp_path / "s", progress=False)
    best = found.best
    assert best is not None and best.instructions is None and best.ram.how == "measured" and "cortex-m55" not in best.ways
    assert any("qemu-system-arm, which is not on the PATH" in n for n in best.notes)


def test_where_values_stop_being_finite() -> None:
    net = Overflow()
    x = data(4).x
    y = np.zeros((4, 4), np.float32)
    y[2, 1] = np.nan
    with pytest.raises(NonFiniteError, match=r"/exp#0 gives inf for example 2 \(1 of 4 examples are so\)"):
        refuse_non_finite(net, x, y)


PROGRAM = """
import sys
sys.path.insert(0, {tests!r})
import shohin as sh
from tests.shipping.nets import data, trained
found = sh.ship(trained(), data(), device="host", to={to!r}, progress=True)
print("best", found.best.name)
"""


@pytest.mark.slow
def test_killed_in_the_middle_it_goes_on(net: Net, tmp_path: Path) -> None:
    to = tmp_path / "s"
    code = PROGRAM.format(tests=str(Path(__file__).parents[2]), to=str(to))
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True)
    first, second = to / "candidates" / "float32" / "record.json", to / "candidates" / "int8"
    deadline = time.monotonic() + 120
    while not (first.is_file() and second.is_dir()) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert process.stdout is not None
    process.stdout.close()
    assert first.is_file() and not (second / "record.json").exists()
    kept = first.read_bytes()
    again = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert again.returncode == 0, again.stderr
    assert "float32: kept from before" in again.stdout and "best int8" in again.stdout
    assert first.read_bytes() == kept and (second / "record.json").is_file()


@pytest.mark.slow
def test_a_network_that_no_memory_of_the_board_holds(tmp_path: Path) -> None:
    """What is far over every budget is measured here, and its remedy is said."""
    x = np.random.default_rng(0).normal(size=(8, 600, 600, 8)).astype(np.float32)
    large = nn.Sequential(nn.Conv2d(8, 16, 1), nn.ReLU(), nn.Conv2d(16, 2, 1))
    small = sh.compress.Plan([("*", sh.compress.Quantize())]).apply(large, x[:2])
    art = sh.export(small, x[:1], device="cortex-m55", to=tmp_path)
    found = sh.measure(art, x[:2])
    assert found.instructions is None and any("of ram; the memories of that kind have" in n for n in found.notes)
    same = sh.compare(small, art, x[:2])
    assert same.differing == 0 and "cortex-m55" not in same.ways


@pytest.mark.slow
def test_less_than_the_stack_takes(tmp_path: Path) -> None:
    require_emulator()
    net, x = nn.Linear(4, 2), np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
    found = sh.ship(net, x, device="cortex-m55", ram=8, to=tmp_path / "s", progress=False)
    assert found.best is None and found.short[0].startswith("variables and stack alone take")
