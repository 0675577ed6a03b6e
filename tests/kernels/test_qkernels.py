"""int8 kernels: the reference's integers from every branch of the C, on odd shapes."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shohin.compiler.program import compile_program, machine
from shohin.core import dtypes
from shohin.core.op import Aval
from shohin.core.tensor import as_tensor
from shohin.core.trace import stage
from shohin.deploy.library import build_library
from shohin.deploy.source import DEVICE, Grid, write_c
from shohin.kernels import qcommon
from shohin.ops import math, qlinear, quant
from shohin.targets import get_target, target_names
from shohin.targets.board import QemuBoard, build_firmware, run_firmware
from shohin.targets.host import can_run
from tests.kernels.qcases import Cases, kernels, program
from tests.targets.emulator import require_emulator

GRID = Grid(scale=1.0, zero=0)
NEON = """
typedef int8_t int8x16_t __attribute__((vector_size(16))); typedef int32_t int32x4_t __attribute__((vector_size(16)));
static int8x16_t vld1q_s8(const int8_t *p) { int8x16_t v; memcpy(&v, p, 16); return v; }
static int32x4_t vld1q_s32(const int32_t *p) { int32x4_t v; memcpy(&v, p, 16); return v; }
static void vst1q_s32(int32_t *p, int32x4_t v) { memcpy(p, &v, 16); }
static int32x4_t vdupq_n_s32(int32_t x) { return (int32x4_t){x, x, x, x}; }
static int32x4_t vaddq_s32(int32x4_t a, int32x4_t b) { return a + b; }
static int32x4_t vpaddq_s32(int32x4_t a, int32x4_t b) { return (int32x4_t){a[0] + a[1], a[2] + a[3], b[0] + b[1], b[2] + b[3]}; }
static int32x4_t vdotq_s32(int32x4_t c, int8x16_t a, int8x16_t b) { for (int i = 0; i < 16; i++) c[i / 4] += a[i] * b[i]; return c; }
"""
"""The meaning of the few NEON instructions in use, for machines that have none."""


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


def test_kernels_take_all_contractions(cases: Cases) -> None:
    found = kernels(program(cases.graph()))
    assert len(found) == len(cases.layers)
    assert set(found) == {"qconv2d_dot", "qconv2d_depthwise", "qmatmul_dot"}


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


@pytest.mark.parametrize("branch", ["plain", "neon"])
def test_other_branches_give_them_too(cases: Cases, branch: str, tmp_path: Path) -> None:
    text = re.sub(r"defined\(__AVX\w+__\)", "0", write(cases, tmp_path))
    if branch == "neon":
        text = text.replace("defined(__ARM_FEATURE_DOTPROD) && defined(__aarch64__)", "1").replace("#include <arm_neon.h>", NEON)
        assert "vpaddq_s32(int32x4_t" in text
    (tmp_path / "network.c").write_text(text)
    x = cases.inputs(3)
    assert differing(cases, build_library(tmp_path).run(x), cases.reference(x)) == []


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
