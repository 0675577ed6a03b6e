from __future__ import annotations

import json
import shutil
import subprocess

import numpy as np
import pytest

from shohin.core.errors import DeployError, TargetError
from shohin.deploy.artefact import Boundary, load_artefact, write_artefact
from shohin.targets.toolchain import find_compiler
from tests.targets import small_network

INPUTS = (Boundary(name="x", shape=(4, 12), dtype="int8", scale=float(small_network.IN_SCALE), zero=3),)
OUTPUTS = (Boundary(name="y", shape=(7,), dtype="int8", scale=float(small_network.OUT_SCALE), zero=-5),)
KERNELS = (("fc1", "linear_int8"), ("head", "loops"))


def write(folder, **changes):
    small_network.write(folder)
    fields = {"device": "cortex-m55", "inputs": INPUTS, "outputs": OUTPUTS, "kernels": KERNELS}
    return write_artefact(folder, **{**fields, **changes})


def test_what_is_written_is_read(tmp_path):
    artefact = write(tmp_path)
    assert load_artefact(tmp_path) == artefact
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "CMakeLists.txt", "Makefile", "example.c", "manifest.json", "network.c", "network.h", "network.hpp"]
    assert artefact.arena_bytes == 64 and artefact.flash_bytes == artefact.sections.flash > 1300
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["flash_bytes"] == artefact.flash_bytes and manifest["inputs"][0]["zero"] == 3


def test_it_prints_what_a_person_asks(tmp_path):
    text = repr(write(tmp_path))
    for part in ("small for cortex-m55", "x int8[4, 12], scale 0.03125, zero point 3", "code ", "constants ",
                 "arena 64 bytes", "fc1   linear_int8", "head  loops"):
        assert part in text


@pytest.mark.parametrize("cc", ["zig", "gcc"])
def test_the_example_builds_without_warnings_and_runs(cc, tmp_path):
    write(tmp_path, device="host")
    program = tmp_path / "example"
    strict = ["-std=c11", "-O2", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-ffp-contract=off"]
    command = [*find_compiler(cc).command, *strict, "example.c", "network.c", "-o", program]
    subprocess.run(command, cwd=tmp_path, check=True)
    lines = subprocess.run([program], capture_output=True, text=True, check=True).stdout.splitlines()
    y = small_network.reference(small_network.quantize(np.zeros((1, 48), np.float32)))[0]
    real = small_network.dequantize(y)
    assert lines == [f"{i}: {q} = {r:g}" for i, (q, r) in enumerate(zip(y, real))]


@pytest.mark.skipif(shutil.which("cmake") is None, reason="cmake is not installed")
def test_cmake_builds_it(tmp_path):
    write(tmp_path)
    for command in (["cmake", "-B", "build"], ["cmake", "--build", "build"], ["build/small_example"]):
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)


@pytest.mark.parametrize("changes, message", [
    ({"inputs": ()}, r"the inputs \(none\) have 0 elements of no dtype; network.h says 48 of int8"),
    ({"outputs": INPUTS}, "the outputs .* have 48 elements of int8; network.h says 7 of int8"),
    ({"inputs": (Boundary(name="x", shape=(48,), dtype="float32"),)}, "do not make 48 bytes"),
])
def test_boundaries_contradict_the_header(changes, message, tmp_path):
    with pytest.raises(DeployError, match=message):
        write(tmp_path, **changes)
    assert not (tmp_path / "manifest.json").exists()


def test_an_unknown_device(tmp_path):
    with pytest.raises(TargetError, match="'cortex-m77'"):
        write(tmp_path, device="cortex-m77")


@pytest.mark.parametrize("fields, message", [
    ({"dtype": "int64"}, "dtype 'int64', expected int8, uint8, int16, int32, float32"),
    ({"shape": (0, 3)}, r"shape \(0, 3\)"),
    ({"scale": 0.0}, "scale 0.0, expected a positive"),
    ({"scale": 0.1}, "scale 0.1 is not a float32"),
    ({"scale": None}, "scale None"),
    ({"zero": 128}, "zero point 128"),
    ({"dtype": "float32"}, "float32 has no grid")])
def test_a_boundary_that_cannot_be(fields, message):
    with pytest.raises(DeployError, match=message):
        Boundary(**{"name": "x", "shape": (3,), "dtype": "int8", "scale": 0.5, "zero": 0, **fields})


def corrupt(folder, change):
    path = folder / "manifest.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


@pytest.mark.parametrize("change, message", [
    (lambda d: d.pop("arena_bytes"), "the entry 'arena_bytes' is missing"),
    (lambda d: d["sha256"].pop("network.c"), "the entry 'network.c' is missing"),
    (lambda d: d.update(version=99), "version 99, this Shohin reads version 1"),
    (lambda d: d.update(format="x"), '"format" is not'),
    (lambda d: d.update(inputs=3), "an entry has the wrong form"),
    (lambda d: d.update(sections={"text": 1}), "an entry has the wrong form"),
    (lambda d: d["inputs"][0].update(colour=1), "an entry has the wrong form"),
    (lambda d: d["inputs"][0].update(scale=-1), "scale -1, expected a positive"),
    (lambda d: d.update(arena_bytes=65), "are not those of network.h"),
    (lambda d: d["inputs"][0].update(shape=[47]), "have 47 elements"),
])
def test_a_corrupt_manifest(change, message, tmp_path):
    write(tmp_path)
    corrupt(tmp_path, change)
    with pytest.raises(DeployError, match=message):
        load_artefact(tmp_path)


def test_a_truncated_or_missing_manifest(tmp_path):
    write(tmp_path)
    path = tmp_path / "manifest.json"
    path.write_text(path.read_text()[:100])
    with pytest.raises(DeployError, match="not JSON"):
        load_artefact(tmp_path)
    path.unlink()
    with pytest.raises(DeployError, match=r"no manifest.json: not an artefact's folder"):
        load_artefact(tmp_path)


def test_changed_and_missing_c(tmp_path):
    write(tmp_path)
    c = tmp_path / "network.c"
    text = c.read_text()
    c.write_text(text + "/* edited */")
    with pytest.raises(DeployError, match=r"network.c was changed after export"):
        load_artefact(tmp_path)
    c.unlink()
    with pytest.raises(DeployError, match=r"network.c is missing beside it"):
        load_artefact(tmp_path)
