"""The compiler driver and its cache, the pool, binding."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from shohin.compiler import build
from shohin.compiler.program import compile_program
from shohin.core import dtypes, loop
from shohin.core.errors import BuildError, IRError
from shohin.core.loop import Load, Var
from shohin.core.nest import Buffer, Loop, Nest, Out, Program

TEXT = "int answer(void) { return 42; }\n"
F32 = dtypes.float32


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SHOHIN_CACHE", str(tmp_path))
    return tmp_path


def answer(path: Path) -> int:
    return ctypes.CDLL(str(path)).answer()


def test_built_once_and_named_by_content(cache: Path) -> None:
    path = build.build(TEXT)
    stamp = path.stat().st_mtime_ns
    assert answer(path) == 42 and path.parent == cache
    assert build.build(TEXT) == path and path.stat().st_mtime_ns == stamp
    assert build.build(TEXT.replace("42", "43")) != path
    assert build.build(TEXT, level="generic") != path
    assert sorted(p.suffix for p in cache.iterdir()) == [".so"] * 3 + [".sum"] * 3


@pytest.mark.parametrize("damage", ["truncate", "flip", "no sum"])
def test_a_corrupt_entry_is_built_again(cache: Path, damage: str) -> None:
    path = build.build(TEXT)
    good = path.read_bytes()
    if damage == "truncate":
        path.write_bytes(good[:100])
    elif damage == "flip":
        path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    else:
        path.with_suffix(".sum").unlink()
    assert answer(build.build(TEXT)) == 42
    assert path.read_bytes() == good


def test_a_failing_compiler_says_why_and_leaves_nothing(cache: Path) -> None:
    with pytest.raises(BuildError, match=r"(?s)-mcpu=native.*error: .*undeclared"):
        build.build("int f(void) { return missing; }\n")
    assert list(cache.iterdir()) == []


def test_unknown_level_and_compiler(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BuildError, match="level='v9'"):
        build.build(TEXT, level="v9")
    monkeypatch.setenv("SHOHIN_CC", "/nowhere/cc")
    with pytest.raises(BuildError, match="SHOHIN_CC="):
        build.build(TEXT)


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed: SHOHIN_CC is NOT checked")
def test_another_compiler(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zig = build.build(TEXT)
    monkeypatch.setenv("SHOHIN_CC", "gcc")
    path = build.build(TEXT)
    assert path != zig and answer(path) == 42
    program, x = doubled()
    np.testing.assert_array_equal(compile_program(program)(x)[0], x * 2)


def test_two_processes_at_once(cache: Path) -> None:
    code = f"from shohin.compiler.build import build; print(build({TEXT!r}))"
    env = {**os.environ, "SHOHIN_CACHE": str(cache)}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=env, cwd=Path(__file__).parents[2]
        )
        for _ in range(3)
    ]
    paths = {p.communicate()[0].strip() for p in running}
    assert [p.returncode for p in running] == [0, 0, 0] and len(paths) == 1
    assert answer(Path(paths.pop())) == 42


def doubled(n: int = 300_000, factor: float = 2.0) -> tuple[Program, np.ndarray]:
    buffers = (Buffer("x", (n,), F32, "input"), Buffer("t", (n,), F32, "temp"), Buffer("y", (n,), F32, "output"))
    i = Var("i")
    one = Nest((Loop("i", n),), (), (), (Out("t", (i,), Load("x", (i,), F32) * factor),), "sequence", "one")
    two = Nest(
        (Loop("i", n),),
        (),
        (),
        (Out("y", (i,), Load("t", (loop.const(n - 1, dtypes.int32) - i,), F32)),),
        "sequence",
        "two",
    )
    three = Nest((Loop("i", n),), (), (), (Out("t", (i,), Load("y", (i,), F32)),), "sequence", "three")
    four = Nest(
        (Loop("i", n),),
        (),
        (),
        (Out("y", (i,), Load("t", (loop.const(n - 1, dtypes.int32) - i,), F32)),),
        "sequence",
        "four",
    )
    return Program(buffers, (one, two, three, four), {}), np.arange(n, dtype=np.float32)


def test_equal_functions_are_one() -> None:
    program, _ = doubled()
    source = compile_program(program).source
    assert source.count("static void f") == 3  # two and four are one function


def test_binding() -> None:
    program, x = doubled(1000)
    compiled = compile_program(program)
    compiled.bind([x])
    (y,) = compiled.run()
    np.testing.assert_array_equal(y, 2 * x)
    x += 1
    assert compiled.run()[0] is y
    np.testing.assert_array_equal(y, 2 * x)
    other = np.zeros(1000, np.float32)
    compiled.bind([x * 3], [other])
    compiled.run()
    np.testing.assert_array_equal(other, 6 * x)
    with pytest.raises(IRError, match=r"input x: float64\[1000\] came, float32\[1000\] is expected"):
        compiled.bind([x.astype(np.float64)])
    with pytest.raises(IRError, match="not contiguous"):
        compiled.bind([np.zeros(2000, np.float32)[::2]])
    with pytest.raises(IRError, match="2 inputs came, 1"):
        compiled.bind([x, x])


@pytest.mark.parametrize("threads", [2, 3, 8])
def test_pool_many_runs(threads: int) -> None:
    """More threads than processors, programs of several barriers, many times: no lost wake-up, no lost piece."""
    program, x = doubled()
    compiled = compile_program(program, threads=threads)
    compiled.bind([x])
    for k in range(200 if threads < 8 else 30):
        compiled.outputs[0][:] = -1
        (y,) = compiled.run()
        assert y[-1] == 2 * x[-1] and y[k] == 2 * x[k]
    np.testing.assert_array_equal(y, 2 * x)


def test_two_python_threads() -> None:
    """Two programs on one pool at once."""
    made = [(compile_program(doubled(factor=f)[0], threads=2), f) for f in (2.0, 3.0)]
    x = np.arange(300_000, dtype=np.float32)
    wrong: list[float] = []

    def work(k: int) -> None:
        compiled, factor = made[k]
        for _ in range(50):
            if not np.array_equal(compiled(x)[0], x * np.float32(factor)):
                wrong.append(factor)

    workers = [threading.Thread(target=work, args=(k,)) for k in range(2)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    assert not wrong


def _child(queue: multiprocessing.SimpleQueue) -> None:
    compiled, x = _FORKED[0]
    queue.put(bool(np.array_equal(compiled(x)[0], 2 * x)))


_FORKED: list = []


def test_after_fork() -> None:
    program, x = doubled()
    compiled = compile_program(program, threads=2)
    compiled(x)
    _FORKED.append((compiled, x))
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=_child, args=(queue,))
    child.start()
    child.join(30)
    assert child.exitcode == 0 and queue.get()
    np.testing.assert_array_equal(compiled(x)[0], 2 * x)


def _build_in_child(text: str, queue: multiprocessing.SimpleQueue) -> None:
    build.begin(text)
    queue.put([path.exists() for path in build.build_all([text])])


def test_a_fork_builds_with_threads_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The parent's have built before; a child that waited for them would wait forever."""
    monkeypatch.setenv("SHOHIN_CACHE", str(tmp_path))
    text = "int shohin_forked(void) { return %d; }\n"
    assert build.build_all([text % 1])[0].exists()
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=_build_in_child, args=(text % 2, queue))
    child.start()
    child.join(60)
    alive = child.is_alive()
    child.kill()
    assert not alive and queue.get() == [True]
