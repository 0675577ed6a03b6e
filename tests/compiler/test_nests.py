"""Every order, combiner and access against the oracle, bit for bit, on one and two threads and both x86 levels."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from shohin.compiler import build
from shohin.compiler.program import compile_program
from tests.compiler import cases as made


def same(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal bits; any NaN equals any other."""
    if a.dtype.kind == "f":
        return bool(
            np.array_equal(np.isnan(a), np.isnan(b))
            and np.array_equal(
                np.where(np.isnan(a), 0, a).view(f"u{a.itemsize}"), np.where(np.isnan(b), 0, b).view(f"u{b.itemsize}")
            )
        )
    return bool(np.array_equal(a, b))


def levels() -> list[str]:
    return [
        {"v3": "x86_64_v3", "v4": "x86_64_v4"}[x] for x in ("v3", "v4") if build.resolved("native") >= x != "generic"
    ]


@pytest.mark.parametrize("name", made.NAMES)
def test_bits_equal_the_oracle(name: str) -> None:
    cases, expected = made.small(name)
    outputs = [b.name for b in cases.buffers if b.role == "output"]
    for level in ("native", *levels()):
        got = compile_program(cases.program(), level=level, threads=1)(*[x.copy() for x in cases.inputs])
        for i, (a, b) in enumerate(zip(got, expected)):
            where = [n for n in cases.nests if any(o.buffer == outputs[i] for o in n.outs)]
            assert same(a, b), f"{level}: {where[0]}\n{a}\n{b}"


def test_threads_and_levels_give_equal_bits() -> None:
    cases = made.larger()
    program = cases.program()
    runs = [
        compile_program(program, level=level, threads=threads)(*cases.inputs)
        for level, threads in [("native", 1), ("native", 2), ("native", 3), *((x, 2) for x in levels())]
    ]
    for run in runs[1:]:
        for a, b in zip(runs[0], run):
            assert same(a, b)
    x, scale = cases.inputs[0], cases.inputs[1]
    np.testing.assert_allclose(runs[0][0], np.maximum(x * scale + np.float32(0.5), 0), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(runs[0][2], x.sum((0, 1, 2)), rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(runs[0][4], x.sum(3), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(runs[0][6], x.transpose(0, 3, 1, 2))
    np.testing.assert_allclose(runs[0][8], cases.inputs[3] @ cases.inputs[4], rtol=1e-4, atol=1e-4)


GUARDED = """
import ctypes, mmap, sys
import numpy as np
from shohin.compiler.program import compile_program
from tests.compiler import cases as made
libc = ctypes.CDLL(None)
keep = []
def fenced(array, side):
    page = mmap.PAGESIZE
    size = -(-max(array.nbytes, 1) // page) * page
    memory = mmap.mmap(-1, size + 2 * page)
    start = np.frombuffer(memory, np.uint8).ctypes.data
    keep.append(memory)
    for at in (start, start + page + size):
        assert libc.mprotect(ctypes.c_void_p(at), ctypes.c_size_t(page), 0) == 0
    offset = page + (size - array.nbytes if side else 0)
    view = np.frombuffer(memory, array.dtype, array.size, offset).reshape(array.shape) if array.size else array
    if array.size:
        view[...] = array
    return view
for name in made.NAMES:
    cases = made.build(name)
    outs = [np.zeros(b.shape, b.dtype) for b in cases.buffers if b.role == "output"]
    program = compile_program(cases.program(), threads=1)
    for side in (0, 1):
        program.bind([fenced(x, side) for x in cases.inputs], [fenced(y, side) for y in outs])
        program.run()
print("inside")
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs mprotect")
def test_nothing_is_touched_outside_of_the_buffers() -> None:
    """Every array ends, then begins, at a page that may not be touched (a process of its own: it would crash)."""
    done = subprocess.run(
        [sys.executable, "-c", GUARDED], capture_output=True, text=True, cwd=Path(__file__).parents[2]
    )
    assert done.stdout.strip() == "inside", f"exit {done.returncode}: {done.stderr[-2000:]}"
