"""int8 kernels: the reference's integers from every branch of the C, on odd shapes."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shohin.compiler.kernel import Machine
from shohin.compiler.program import compile_program, machine
from shohin.core import dtypes
from shohin.core.op import Aval
from shohin.core.tensor import as_tensor
from shohin.core.trace import stage
from shohin.deploy.library import build_library
from shohin.deploy.source import DEVICE, Grid, write_c
from shohin.kernels import qcommon
from shohin.kernels.instructions import SETS, InstructionSet, avx_vnni
from shohin.ops import math, qlinear, quant
from shohin.targets import get_target, target_names
from shohin.targets.board import QemuBoard, build_firmware, run_firmware
from shohin.targets.host import CPU, can_run, host
from shohin.targets.native import build_shared
from tests.kernels.qcases import Cases, kernels, program
from tests.targets.emulator import require_emulator
from tests.targets.user_mode import require_user_mode, run_aarch64

GRID = Grid(scale=1.0, zero=0)
COMPUTER = (("", Machine(level="generic", vector_bytes=16, features=frozenset(), threads=1)),)
"""C that may use every instruction set, with loops for the narrowest vectors."""

@pytest.fixture(scope="module")
def cases() -> Cases:
    return Cases(0, 44)


def write(cases: Cases, folder: Path, machines: Any = DEVICE) -> str:
    text = write_c(cases.graph(), "net", machines=machines, grids=(GRID, GRID))
    folder.mkdir(exist_ok=True)
    (folder / "network.h").write_text(text.header)
    (folder / "network.c").write_text(text.source)
    return text.source


def differing(cases: Cases, got: np.ndarray, want: np.ndarray) -> list[str]:
    wrong, at = [], 0
    for (shape, body, name) in cases.layers:
        size = body(as_tensor(np.zeros(shape, np.int8))).numpy().size
        bad = int((got[:, at : at + size] != want[:, at : at + size]).sum())
        at += size
        if bad:
            wrong.append(f"{name}: {bad} of {len(got) * size}")
    return wrong


def test_kernels_take_all_contractions_and_pools(cases: Cases) -> None:
    found = kernels(program(cases.graph()))
    assert len(found) == len(cases.layers)
    assert set(found) == {"qconv2d_dot", "qconv2d_depthwise", "qmatmul_dot", "max_pool2d_int8"}


@pytest.mark.parametrize("cc", [None, "gcc"])
@pytest.mark.parametrize("level", ["native", "v3"])
def test_host_builds_give_the_reference_s_integers(cases: Cases, level: str, cc: str | None, tmp_path: Path) -> None:
    if (cc and not shutil.which(cc)) or not can_run(level):
        pytest.skip(f"no {cc or level} here")
    write(cases, tmp_path)
    x = cases.inputs(5)
    got, _ = build_library(tmp_path, level=level, cc=cc).run_painted(x)
    assert differing(cases, got, cases.reference(x)) == []


def test_a_computer_s_artefact_gives_them_too(cases: Cases, tmp_path: Path) -> None:
    """Three variants in one file: the widest vectors, narrower ones, plain loops."""
    text = write(cases, tmp_path, get_target("host").machines)
    x = cases.inputs(2)
    want = cases.reference(x)
    for source in (text, text.replace("__AVX512F__", "NO_AVX512"), re.sub("__AVX512F__|__FMA__", "NO", text)):
        (tmp_path / "network.c").write_text(source)
        assert differing(cases, build_library(tmp_path).run(x), want) == []


def only(text: str, *kept: str) -> str:
    """The C with the guards of all instruction sets but these false."""
    for s in SETS:
        if s.name not in kept:
            assert f"if {s.guard} /*" in text
            text = text.replace(f"if {s.guard} /*", "if 0 /*")
    return text


def test_plain_c_gives_them_too(cases: Cases, tmp_path: Path) -> None:
    text = only(write(cases, tmp_path, COMPUTER))
    (tmp_path / "network.c").write_text(text)
    x = cases.inputs(3)
    assert differing(cases, build_library(tmp_path).run(x), cases.reference(x)) == []


@pytest.mark.skipif(not can_run("vnni"), reason="the instruction is run in its AVX-512 form, which this CPU lacks")
def test_vnni_of_256_bits_gives_them_too(cases: Cases, tmp_path: Path) -> None:
    """AVX-VNNI's branch with the same instruction in AVX-512's encoding, which more machines have."""
    text = only(write(cases, tmp_path, COMPUTER), "AVX_VNNI").replace(f"if {avx_vnni.GUARD} /*", "if 1 /*")
    assert "_mm256_dpbusd_avx_epi32" in text
    (tmp_path / "network.c").write_text(text.replace("_mm256_dpbusd_avx_epi32", "_mm256_dpbusd_epi32"))
    x = cases.inputs(3)
    assert differing(cases, build_library(tmp_path, level="vnni").run(x), cases.reference(x)) == []


@pytest.mark.parametrize("cc", ["zig", "gcc"])
@pytest.mark.parametrize("level", ["v3", "vnni", "avxvnni"])
def test_no_warnings(level: str, cc: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if CPU.machine != "x86_64" or (cc == "gcc" and not shutil.which(cc)):
        pytest.skip(f"no {cc} for x86-64 here")
    monkeypatch.setattr("shohin.targets.native.WARNINGS", ("-Wall", "-Wextra", "-Werror"))
    write(Cases(0, 14), tmp_path, get_target("host").machines)
    build_shared(tmp_path, tmp_path / "build", host(level, cc=cc))


@pytest.mark.parametrize("s", [s for s in SETS if "aarch64" in s.guard], ids=lambda s: s.name)
def test_aarch64_gives_them_too(cases: Cases, s: InstructionSet, tmp_path: Path) -> None:
    require_user_mode()
    write(cases, tmp_path)
    x = cases.inputs(3)
    assert differing(cases, run_aarch64(tmp_path, x, s.mcpu), cases.reference(x)) == []


@pytest.mark.parametrize("board", [name for name in target_names() if isinstance(get_target(name).strategy, QemuBoard)])
def test_boards_give_them_too(cases: Cases, board: str, tmp_path: Path) -> None:
    require_emulator()
    write(cases, tmp_path)
    x = cases.inputs(3)
    result = run_firmware(build_firmware(tmp_path, tmp_path / "build", get_target(board)), x, 120)
    assert differing(cases, result.outputs, cases.reference(x)) == []


@pytest.mark.parametrize("threads", [1, 2])
def test_compiled_programs_give_them_too(cases: Cases, threads: int) -> None:
    x = cases.inputs(2)
    run = compile_program(program(cases.graph(), machine("native", threads)), threads=threads)
    got = np.concatenate([np.asarray(run(row[None])[0]) for row in x])
    assert differing(cases, got, cases.reference(x)) == []


def test_weights_that_are_no_constants_are_left_to_the_loops() -> None:
    attrs = {"zero": 0, "stride": (1, 1), "padding": ((0, 0), (0, 0))}
    graph = stage(lambda q, w: [qlinear.qconv2d(q, w, **attrs)], [Aval((1, 4, 4, 3), dtypes.int8), Aval((2, 3, 3, 3), dtypes.int8)], ["q", "w"]).graph  # type: ignore[arg-type]
    assert kernels(program(graph)) == []


def test_a_chain_ends_at_its_first_requantization() -> None:
    w, m = np.ones((4, 16), np.int8), np.float32(0.01)
    body = lambda q: [quant.lookup(quant.requant(qlinear.qmatmul(q, as_tensor(w), zero=1), as_tensor(m)), as_tensor(np.arange(256).astype(np.int8)))]
    made = program(stage(body, [Aval((2, 16), dtypes.int8)], ["q"]).graph)
    assert kernels(made) == ["qmatmul_dot"] and len(made.steps) == 2


def test_weights_lie_in_runs_of_sixteen() -> None:
    w = np.arange(5 * 2 * 17).reshape(5, 2, 17).astype(np.int8)
    packed = qcommon.pack_dot(w).reshape(2, 4, 4, 16)  # channels / 4, runs * 2 vectors, 4, 16
    np.testing.assert_array_equal(packed[0, 0, 3], w[3, 0, :16])
    np.testing.assert_array_equal(packed[1, 3, 0], [w[4, 1, 16]] + [0] * 15)
    assert not packed[1, :, 1:].any()


def test_no_literal_multiplier_that_a_compiler_gets_wrong(tmp_path: Path) -> None:
    """2^-16 (docs/quantization.md): clang's MVE turns ``(float)i * 0x1p-16f`` into another number."""
    body = lambda q: quant.requant(math.astype(q, dtypes.int32) * 16384, as_tensor(np.float32(2.0**-16)), z=-1)
    graph = stage(lambda q: [body(q)], [Aval((1, 256), dtypes.int8)], ["q"]).graph
    text = write_c(graph, "net", grids=(GRID, GRID))
    assert "sh_opaque(1.5258789e-05f)" in text.source and "0x1p-16" not in text.source
    (tmp_path / "network.h").write_text(text.header)
    (tmp_path / "network.c").write_text(text.source)
    x = np.arange(-128, 128).astype(np.int8)[None]
    np.testing.assert_array_equal(build_library(tmp_path).run(x), body(as_tensor(x)).numpy())
    require_emulator()
    board = get_target("cortex-m55")
    np.testing.assert_array_equal(run_firmware(build_firmware(tmp_path, tmp_path / "b", board), x).outputs, body(as_tensor(x)).numpy())
