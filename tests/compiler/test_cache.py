"""What goes wrong with the compiler and the cache leaves nothing half done, and is mended by the next run."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import shohin as sh
from shohin.compiler import build
from shohin.compiler.build import cpu_features
from shohin.compiler.lowering import lower
from shohin.compiler.program import compile_program, machine
from shohin.core.errors import BuildError
from shohin.core.tensor import Tensor
from shohin.core.trace import stage
from tests.compiler.test_build import TEXT, answer

ROOT = Path(__file__).parents[2]
STEP = """
import sys, numpy as np, shohin as sh
x = np.arange(12, dtype=np.float32).reshape(3, 4)
y = sh.jit(lambda x: sh.exp(x @ x.T).sum(axis=0) + 1.5, threads=1)(x / 8)
sys.stdout.write(np.asarray(y).tobytes().hex())
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SHOHIN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def left(cache: Path) -> list[str]:
    """All files but whole entries, folders included."""
    return sorted(str(p.relative_to(cache)) for p in cache.rglob("*") if p.suffix not in (".so", ".sum", ".bin") and p.name != "programs")


def script(path: Path, body: str) -> str:
    """A compiler: it says its version and then does ``body``, with the output's path in ``$out``."""
    path.write_text(f"""#!/bin/sh
if [ "$1" = --version ]; then echo {path.name}; exit 0; fi
while [ $# -gt 1 ]; do if [ "$1" = -o ]; then out=$2; fi; shift; done
{body}
""")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("echo half > $out; kill -9 $$", "was killed by SIGKILL"),
        ("echo half > $out; echo 'out.so: error: no space left on device' >&2; exit 1", "failed (1).*no space left on device"),
        ("exit 0", "nothing can be built in .*cache: .*No such file"),
    ],
    ids=["killed", "disk full", "no output"],
)
def test_a_compiler_that_does_not_finish_leaves_nothing(body: str, said: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOHIN_CC", script(tmp_path / "cc", body))
    with pytest.raises(BuildError, match=f"(?s){said.replace('(1)', '[(]1[)]')}"):
        build.build(TEXT)
    assert list(cache.iterdir()) == []
    monkeypatch.delenv("SHOHIN_CC")
    assert answer(build.build(TEXT)) == 42


@pytest.mark.skipif(shutil.which("gcc") is None or sys.platform != "linux", reason="needs gcc and limits on the size of files")
@pytest.mark.parametrize("room", [100, 6000], ids=["the source does not fit", "the object does not fit"])
def test_no_room_for_files_leaves_nothing(room: int, cache: Path) -> None:
    """A limit on the size of files stands in for a full disk: the write fails, or the writer is killed."""
    text = f"/* {'x' * 200} */\n{TEXT}"
    code = f"""
import resource
from shohin.compiler import build
from shohin.core.errors import BuildError
resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, resource.RLIM_INFINITY))
try:
    build.build({text!r})
except BuildError as error:
    print(error)
"""
    env = {**os.environ, "SHOHIN_CC": "gcc", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert ("File too large" in done.stdout and "set SHOHIN_CACHE" in done.stdout) if room == 100 else "the C compiler" in done.stdout
    assert list(cache.iterdir()) == []
    assert answer(build.build(text)) == 42


def test_a_cache_that_cannot_be_made_is_an_error_with_a_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SHOHIN_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(BuildError, match="Not a directory.*set SHOHIN_CACHE to another folder"):
        build.build(TEXT)


def test_an_entry_of_another_key_is_built_again(cache: Path) -> None:
    """Copied by hand, or by a tool that mixes two caches: whole, with its checksum, but another program."""
    one, two = build.build(TEXT), build.build(TEXT.replace("42", "43"))
    for suffix in (".so", ".sum"):
        shutil.copy(two.with_suffix(suffix), one.with_suffix(suffix))
    assert answer(build.build(TEXT)) == 42
    one.unlink()  # this process has it mapped
    one.write_bytes(b"\x7fELF of another machine")
    assert answer(build.build(TEXT)) == 42


def step(cache: Path) -> subprocess.Popen[str]:
    env = {**os.environ, "SHOHIN_CACHE": str(cache)}
    return subprocess.Popen([sys.executable, "-c", STEP], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, cwd=ROOT)


def test_processes_that_compile_one_program_at_once(cache: Path) -> None:
    """All succeed with the same bits; the cache holds whole entries of one program, and no more after another run."""
    running = [step(cache) for _ in range(3)]
    ends = [p.communicate() for p in running]
    assert [p.returncode for p in running] == [0, 0, 0], ends
    assert len({out for out, _ in ends}) == 1 and len(ends[0][0]) == 3 * 8
    files = sorted(cache.rglob("*.*"))
    assert left(cache) == [] and len(list((cache / "programs").iterdir())) == 1
    assert step(cache).communicate()[0] == ends[0][0] and sorted(cache.rglob("*.*")) == files


@pytest.mark.parametrize("damage", ["cut", "flipped", "foreign", "empty", "no pickle"])
def test_a_damaged_program_is_made_again(damage: str, cache: Path) -> None:
    x = np.arange(6, dtype=np.float32).reshape(2, 3)

    def call(factor: float) -> np.ndarray:
        return np.asarray(sh.jit(lambda x: sh.exp(x) * factor, threads=1)(x))

    want, other = call(2.0), call(3.0)
    one, two = sorted((cache / "programs").iterdir(), key=lambda p: p.stat().st_mtime_ns)
    good = one.read_bytes()
    one.write_bytes({
        "cut": good[:-100], "flipped": good[:-1] + bytes([good[-1] ^ 1]), "foreign": two.read_bytes(), "empty": b"", "no pickle": b"PK\3\4" * 100,
    }[damage])  # fmt: skip
    np.testing.assert_array_equal(call(2.0), want)
    assert one.read_bytes() == good and not np.array_equal(want, other)


def test_a_cache_that_is_full_costs_no_result(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program cannot be kept; it runs, and nothing half written stays."""

    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    x = np.arange(6, dtype=np.float32)
    np.testing.assert_array_equal(np.asarray(sh.jit(lambda x: x * 2 - 7, threads=1)(x)), x * 2 - 7)
    assert list((cache / "programs").iterdir()) == [] and left(cache) == []


# ---------------------------------------------------------------------------------------------- processors


def without(monkeypatch: pytest.MonkeyPatch, prefix: str) -> frozenset[str]:
    """The processor as one that lacks some features."""
    fewer = frozenset(f for f in cpu_features() if not f.startswith(prefix))
    monkeypatch.setattr(build, "cpu_features", lambda: fewer)
    return fewer


def product(a: Tensor, b: Tensor) -> list[Tensor]:
    return [sh.maximum(sh.matmul(a, b), 0.0)]


@pytest.mark.skipif("avx2" not in cpu_features(), reason="no x86-64 with AVX2")
@pytest.mark.parametrize(("lacking", "level", "vector"), [("avx512", "v3", 32), ("avx", "generic", 16)])
def test_a_missing_feature_chooses_narrower_vectors(lacking: str, level: str, vector: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same bits from the kernels of another width; nothing wider is in the C."""
    arrays = [np.random.default_rng(0).standard_normal(s).astype(np.float32) for s in ((9, 70), (70, 37))]
    graph = stage(product, [sh.asarray(a).aval for a in arrays]).graph
    (want,) = compile_program(lower(graph, machine("v3", 1)), level="v3", threads=1)(*arrays)
    without(monkeypatch, lacking)
    m = machine("native", 1)
    assert (m.level, m.vector_bytes) == (level, vector)
    made = compile_program(lower(graph, m), level="native", threads=1)
    assert "f32x16" not in made.source and ("f32x8" in made.source) == (vector == 32)
    np.testing.assert_array_equal(made(*arrays)[0], want)


@pytest.mark.parametrize("level", ["v4", "x86_64_v3"])
def test_a_level_that_this_processor_lacks_is_refused_before_it_runs(level: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "avx")
    with pytest.raises(BuildError, match=f"level='{level}' needs avx.*this processor lacks; use level='native'"):
        build.build(TEXT, level=level)
    assert not cache.exists() and ctypes.CDLL(str(build.build(TEXT))).answer() == 42
