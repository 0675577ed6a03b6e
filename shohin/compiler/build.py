"""C text -> shared object: the compiler, its flags for a CPU level, and the cache on disk.

The key is the text, the compiler's identity, the *resolved* CPU features and the flags. Entries are written beside
and renamed, so that two processes may build the same at once; an entry whose checksum does not fit is built again.
Environment: ``SHOHIN_CC`` a gcc or clang instead of zig, ``SHOHIN_CACHE`` the cache's folder.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import platformdirs

from shohin.core.errors import BuildError

FLAGS = (
    "-O3",
    "-std=gnu11",
    "-shared",
    "-fPIC",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=off",
    "-fno-unroll-loops",
)
WIDE = "-mprefer-vector-width=512"  # Intel's tunings would halve every vector
ZIG = ("-nostdlib", "-fno-sanitize=undefined", "-Wno-pass-failed", "-g0")
LEVELS = ("native", "x86_64_v3", "x86_64_v4", "generic")
_ALIAS = {"v3": "x86_64_v3", "v4": "x86_64_v4"}
_V3 = frozenset("avx2 fma bmi1 bmi2 f16c abm movbe".split())
_V4 = frozenset("avx512f avx512bw avx512cd avx512dq avx512vl".split())


@dataclass(frozen=True)
class Compiler:
    """``command`` without flags; ``zig`` takes ``-mcpu``, the others ``-march``."""

    command: tuple[str, ...]
    identity: str
    zig: bool


@lru_cache(maxsize=1)
def cpu_features() -> frozenset[str]:
    """Features of the first processor by the names of /proc/cpuinfo; elsewhere the machine's name alone."""
    path = Path("/proc/cpuinfo")
    found: set[str] = {platform.machine().lower()}
    if path.exists():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("flags", "Features"):
                found.update(value.split())
                break
    return frozenset(found)


def level_name(level: str) -> str:
    level = _ALIAS.get(level, level)
    if level not in LEVELS:
        raise BuildError(f"level={level!r} is not known; use one of {', '.join((*LEVELS, *_ALIAS))}")
    return level


def resolved(level: str) -> str:
    """``v4``, ``v3`` or ``generic``: what ``level`` means on this machine."""
    level = level_name(level)
    if level != "native":
        return {"x86_64_v3": "v3", "x86_64_v4": "v4"}.get(level, "generic")
    have = cpu_features()
    return "v4" if have >= _V3 | _V4 else "v3" if have >= _V3 else "generic"


def compiler() -> Compiler:
    """zig from PyPI, or what ``SHOHIN_CC`` says."""
    return _compiler(os.environ.get("SHOHIN_CC", ""))


@lru_cache(maxsize=8)
def _compiler(override: str) -> Compiler:
    if not override:
        try:
            return Compiler((sys.executable, "-m", "ziglang", "cc"), f"zig {version('ziglang')}", True)
        except PackageNotFoundError:
            raise BuildError("no C compiler: install the package ziglang, or set SHOHIN_CC to a gcc or clang") from None
    command = tuple(shlex.split(override))
    try:
        out = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise BuildError(f"SHOHIN_CC={override!r} does not run: {error}") from error
    return Compiler(command, out.strip(), "zig" in override)


def flags(cc: Compiler, level: str, extra: Sequence[str] = ()) -> tuple[str, ...]:
    level = level_name(level)
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    wide = (WIDE,) if x86 and resolved(level) == "v4" else ()
    extra = (*wide, *extra)
    if cc.zig:
        cpu = () if level == "generic" else (f"-mcpu={level}",)
        return (*FLAGS, *ZIG, *cpu, *extra)
    march = {"native": "native", "x86_64_v3": "x86-64-v3", "x86_64_v4": "x86-64-v4"}.get(level)
    cpu = (f"-march={march}",) if march and (x86 or level == "native") else ()
    return (*FLAGS, "-w", *cpu, *extra)


def cache_dir() -> Path:
    """Where shared objects are kept."""
    path = os.environ.get("SHOHIN_CACHE")
    return Path(path) if path else Path(platformdirs.user_cache_dir("shohin")) / "objects"


def key_of(text: str, cc: Compiler, options: Sequence[str], level: str) -> str:
    features = " ".join(sorted(cpu_features())) if level_name(level) == "native" else platform.machine()
    parts = (text, cc.identity, " ".join(cc.command[-2:]), " ".join(options), features)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:40]


def build(text: str, *, level: str = "native", extra: Sequence[str] = ()) -> Path:
    """The shared object of a C text, from the cache or built.

    Raises ``BuildError`` with the compiler's words, or if this processor cannot run the level or the cache cannot be written.
    """
    _runs_here(level)
    cc = compiler()
    options = flags(cc, level, extra)
    folder = cache_dir()
    key = key_of(text, cc, options, level)
    path, check = folder / f"{key}.so", folder / f"{key}.sum"
    if _intact(path, check):
        return path
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".build-") as temp:
            source, out = Path(temp) / f"{key[:12]}.c", Path(temp) / path.name
            source.write_text(text)
            _run([*cc.command, *options, "-o", str(out), str(source)])
            digest = Path(temp) / "sum"
            digest.write_text(_sum(out))
            os.replace(out, path)
            os.replace(digest, check)
    except OSError as error:
        raise BuildError(f"nothing can be built in {folder}: {error}; free some space, or set SHOHIN_CACHE to another folder") from error
    return path


def _sum(path: Path) -> str:
    """Of an object and its name: one that was copied from another key does not fit."""
    return hashlib.sha256(path.stem.encode() + path.read_bytes()).hexdigest()


def _intact(path: Path, check: Path) -> bool:
    try:
        return _sum(path) == check.read_text()
    except (OSError, UnicodeDecodeError):
        return False


def _runs_here(level: str) -> None:
    """Instructions that this processor lacks would end the process."""
    needed = {"x86_64_v3": _V3, "x86_64_v4": _V3 | _V4}.get(level_name(level), frozenset[str]())
    if missing := needed - cpu_features():
        raise BuildError(f"level={level!r} needs {', '.join(sorted(missing))}, which this processor lacks; use level='native'")


def _run(command: Sequence[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        raise BuildError(f"the C compiler does not run: {error}\n  command: {shlex.join(command)}") from error
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        raise BuildError(f"the C compiler was killed by {name}: {shlex.join(command)}\n  memory or disk may have run out; nothing is left in the cache")
    if done.returncode != 0:
        lines = [x for x in done.stderr.splitlines() if x.strip()]
        errors = [i for i, x in enumerate(lines) if "error" in x]
        first = lines[errors[0] : errors[0] + 8] if errors else lines[:8]
        raise BuildError(f"the C compiler failed ({done.returncode}): {shlex.join(command)}\n  " + "\n  ".join(first))


_begun: dict[tuple[str, str], Future[Path]] = {}


@lru_cache(maxsize=1)
def _workers() -> ThreadPoolExecutor:
    """One compiler a processor at a time; these threads only wait for it."""
    return ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="shohin-build")


def begin(text: str, *, level: str = "native") -> None:
    """Start to build a text, for ``build_all`` to wait for; meanwhile more is emitted."""
    _begun[text, level] = _workers().submit(build, text, level=level)


def build_all(texts: Sequence[str], *, level: str = "native") -> list[Path]:
    """Several texts, side by side."""
    begun = [_begun.pop((text, level), None) or _workers().submit(build, text, level=level) for text in texts]
    return [one.result() for one in begun]


def _forked() -> None:
    """A child has none of the parent's threads: it starts its own."""
    _workers.cache_clear()
    _begun.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


# ---------------------------------------------------------------------------------------------- runtime


class StepRecord(ctypes.Structure):
    """``shohin_step`` of ``runtime/pool.h``."""

    _fields_ = [
        ("fn", ctypes.c_void_p),
        ("table", ctypes.c_long),
        ("shared", ctypes.c_long),
        ("scratch", ctypes.c_long),
        ("stride", ctypes.c_long),
        ("chunks", ctypes.c_long),
        ("serial", ctypes.c_int),
        ("kind", ctypes.c_int),
    ]


@lru_cache(maxsize=1)
def runtime() -> ctypes.CDLL:
    """The pool's library, built once for any CPU."""
    folder = Path(__file__).parent / "runtime"
    header = (folder / "pool.h").read_text()
    text = (folder / "pool.c").read_text().replace('#include "pool.h"\n', header)
    library = ctypes.CDLL(str(build(text, level="generic")))
    library.shohin_pool_new.restype = ctypes.c_void_p
    library.shohin_pool_new.argtypes = [ctypes.c_int]
    library.shohin_run.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    library.shohin_run.restype = ctypes.c_int
    return library


@lru_cache(maxsize=16)
def pool(threads: int) -> int | None:
    """The process's pool of this size; ``None`` for one thread. It lives as long as the process."""
    return runtime().shohin_pool_new(threads) if threads > 1 else None
