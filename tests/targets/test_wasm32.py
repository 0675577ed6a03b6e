"""WebAssembly in Node: the integers and floats of every other build, a module without imports, and what goes wrong."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import shohin as sh
from shohin.core.errors import EmulatorMissing, TargetError
from shohin.core.module import mode
from shohin.deploy.artefact import Artefact
from shohin.shipping.diff import artefact_way, board_way, diff
from shohin.targets import get_target, wasm32
from shohin.targets.toolchain import zig
from tests.compress import test_twin
from tests.compress.nets import images, quantized, trained

CASES = test_twin.CASES


@pytest.fixture(scope="module")
def art(tmp_path_factory: pytest.TempPathFactory) -> Artefact:
    return sh.export(quantized(0), images(1), device="wasm32", to=tmp_path_factory.mktemp("wasm"))


def has_node() -> str:
    try:
        return wasm32.node()
    except EmulatorMissing as error:
        if os.environ.get("SHOHIN_REQUIRE_EMULATORS") == "1":
            raise
        pytest.skip(str(error))


@pytest.mark.parametrize("case", [pytest.param(c, id=c.__name__, marks=[pytest.mark.slow] if k else []) for k, c in enumerate(CASES)])
def test_no_integer_differs(case, tmp_path: Path) -> None:
    has_node()
    net, rng = quantized(0), np.random.default_rng(0)
    case(net, rng)
    net.train().eval()
    with mode(net, training=False):
        x = images(40, seed=3)
        found = sh.compare(net, sh.export(net, x[:1], device="wasm32", to=tmp_path), x, board=40)
    assert found.differing == 0 and found.ways[-1] == "wasm32" and found.compared == 3 * 40 * 5, str(found)


def test_floats_are_the_same_bits(tmp_path: Path) -> None:
    """Fused where the program says so, by the compiler's own fmaf, never by a relaxed instruction."""
    has_node()
    net, x = trained(0), images(3, 2)
    board = sh.export(net, x, device="wasm32", to=tmp_path)
    found = diff(artefact_way(board), board_way(board), x)
    assert found.rows[0].worst == 0.0


def test_its_numbers(art: Artefact) -> None:
    has_node()
    found = sh.measure(art, images(4, 1), board=4)
    assert found.instructions is None and found.ram_bytes is None
    assert found.arena_observed.how == "measured" and 0 < found.arena_observed.value <= art.arena_bytes
    assert art.sections.text > 1000 and art.sections.rodata > 15_000 and art.sections.ram == 0


LOAD = """
import {{ readFileSync }} from "node:fs";
import {{ load }} from {module};
const bytes = readFileSync({wasm});
const module = await WebAssembly.compile(bytes);
const net = await load(bytes);
let refused = false;
try {{ net.run([1, 2]); }} catch (error) {{ refused = error instanceof RangeError; }}
const x = {x};
console.log(JSON.stringify([WebAssembly.Module.imports(module).length, refused, [...net.integers({q})], [...net.run(x)]]));
"""


@pytest.mark.skipif(not shutil.which("make"), reason="there is no make here")
def test_the_folder_builds_a_module_for_javascript(art: Artefact, tmp_path: Path) -> None:
    folder = shutil.copytree(art.folder, tmp_path / "copy", ignore=shutil.ignore_patterns("build"))
    done = subprocess.run(["make", "-C", folder, f"CC={' '.join(zig().command)}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    x = images(1, 8)
    q = art.library.quantize(x.reshape(1, -1))
    name = lambda file: json.dumps(str(folder / file))
    program = LOAD.format(module=name("network.mjs"), wasm=name("network.wasm"), x=json.dumps(x.reshape(-1).tolist()), q=json.dumps(q.reshape(-1).tolist()))
    (tmp_path / "main.mjs").write_text(program)
    said = subprocess.run([has_node(), tmp_path / "main.mjs"], check=True, capture_output=True, text=True).stdout
    imports, refused, integers, real = json.loads(said)
    assert imports == 0 and refused
    assert integers == art.run(x).reshape(-1).tolist()
    assert np.array_equal(np.float32(real), art(x).reshape(-1))


def test_what_goes_wrong(art: Artefact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    has_node()
    target = get_target("wasm32")
    program = target.strategy.build(target, art.folder, tmp_path)
    x = art.library.quantize(images(2))
    with pytest.raises(TargetError, match="not done after 0.01 s; give fewer inputs"):
        target.strategy.run(program, x, 0.01)
    program.path.write_bytes(program.path.read_bytes()[:2000])
    with pytest.raises(TargetError, match="Node ended with code"):
        target.strategy.run(program, x, 60)
    with pytest.raises(TargetError, match="not a WebAssembly module"):
        wasm32.section_sizes(art.folder / "network.c")
    monkeypatch.setattr(wasm32.shutil, "which", lambda name: None)
    monkeypatch.setattr(wasm32.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EmulatorMissing, match="runs in Node, which is not on the PATH"):
        wasm32.node()


