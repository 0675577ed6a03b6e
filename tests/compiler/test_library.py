"""The self-contained C: clean under -Wall -Wextra, clean under the sanitizers, the same bits as the program."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from shohin.compiler.library import emit_library
from shohin.core import dtypes, loop
from shohin.core.errors import IRError
from shohin.core.nest import Buffer, Loop, Nest, Out, Program
from tests.compiler import cases as made
from tests.compiler.test_nests import same

STRICT = ("-std=c11", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off", "-O2")


def compile_c(text: str, folder: Path, *command: str) -> Path:
    source, out = folder / "net.c", folder / "net.so"
    source.write_text(text)
    done = subprocess.run([*command, str(source), "-o", str(out)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[:3000]
    return out


def call(library: ctypes.CDLL, cases: made.Cases) -> list[np.ndarray]:
    inputs = [x.copy() for x in cases.inputs]
    outputs = [np.zeros(b.shape, b.dtype) for b in cases.buffers if b.role == "output"]
    arena = np.zeros(1 << 20, np.uint8)
    library.net_run(*[ctypes.c_void_p(x.ctypes.data) for x in (*inputs, *outputs, arena)])
    return outputs


@pytest.mark.parametrize("name", made.NAMES)
def test_zig_strict_and_equal(name: str, tmp_path: Path) -> None:
    cases, expected = made.small(name)
    text = emit_library(cases.program(), "net")
    assert "vector_size" not in text and "({" not in text
    path = compile_c(
        text,
        tmp_path,
        sys.executable,
        "-m",
        "ziglang",
        "cc",
        *STRICT,
        "-shared",
        "-fPIC",
        "-nostdlib",
        "-fno-sanitize=undefined",
        "-mcpu=x86_64",
    )
    for a, b in zip(call(ctypes.CDLL(str(path)), cases), expected):
        assert same(a, b)


@pytest.mark.skipif(
    shutil.which("gcc") is None, reason="gcc is not installed: strict C11 and the sanitizers are NOT checked"
)
@pytest.mark.parametrize("name", made.NAMES)
def test_gcc_with_sanitizers(name: str, tmp_path: Path) -> None:
    """Address and undefined-behaviour sanitizers over exact allocations, in a process of its own."""
    cases, expected = made.small(name)
    text = emit_library(cases.program(), "net")
    order = [b for b in cases.buffers if b.role == "input"] + [b for b in cases.buffers if b.role == "output"]
    data = tmp_path / "inputs.bin"
    data.write_bytes(b"".join(x.tobytes() for x in cases.inputs))
    main = [
        "#include <stdio.h>",
        "#include <stdlib.h>",
        'int main(int n, char **v) { (void)n; FILE *f = fopen(v[1], "rb"); FILE *g = fopen(v[2], "wb");',
    ]
    for i, b in enumerate(order):
        main.append(
            f"void *p{i} = calloc(1, {max(b.nbytes, 1)});"
            + (f" if ({b.nbytes} && fread(p{i}, {b.nbytes}, 1, f) != 1) return 2;" if b.role == "input" else "")
        )
    main.append(
        "void *arena = aligned_alloc(16, (net_ARENA_BYTES + 15) / 16 * 16);"
        f"net_run({', '.join(f'p{i}' for i in range(len(order)))}, arena);"
    )
    main += [f"fwrite(p{i}, 1, {b.nbytes}, g);" for i, b in enumerate(order) if b.role == "output"]
    main.append("fclose(f); fclose(g); return 0; }")
    source, program = tmp_path / "net.c", tmp_path / "net"
    source.write_text(text + "\n".join(main))
    done = subprocess.run(
        [
            "gcc",
            "-std=c11",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-O0",
            "-fsanitize=address,undefined",
            "-fno-sanitize-recover=all",
            str(source),
            "-o",
            str(program),
            "-lm",
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[:3000]
    out = tmp_path / "out.bin"
    done = subprocess.run(
        [str(program), str(data), str(out)],
        capture_output=True,
        text=True,
        env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"},
    )
    assert done.returncode == 0, done.stderr[:3000]
    raw, at = out.read_bytes(), 0
    for b, want in zip((b for b in cases.buffers if b.role == "output"), expected):
        got = np.frombuffer(raw[at : at + b.nbytes], b.dtype).reshape(b.shape)
        at += b.nbytes
        assert same(got, want), b.name


def test_constants_and_names() -> None:
    f32 = dtypes.float32
    buffers = (Buffer("x", (3,), f32, "input"), Buffer("w.1", (3,), f32, "const"), Buffer("y", (3,), f32, "output"))
    i = loop.Var("i")
    nest = Nest(
        (Loop("i", 3),),
        (),
        (),
        (Out("y", (i,), loop.Load("x", (i,), f32) * loop.Load("w.1", (i,), f32)),),
        "sequence",
        "scale",
    )
    text = emit_library(Program(buffers, (nest,), {"w.1": np.array([0.1, -np.inf, 3], np.float32)}), "small")
    assert (
        "small_w_1[] = {\n0.1f, -__builtin_inff(), 3.0f}" in text
        and "small_run(const float *in0, float *out0, void *arena)" in text
    )
    with pytest.raises(IRError, match="not a C identifier"):
        emit_library(Program(buffers, (nest,), {}), "no-name")
