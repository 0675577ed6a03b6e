"""C compilers: which one, how it is called, and what to say when it is missing or fails.

The default is clang from the ``ziglang`` package, for the host and for every cross build alike. ``SHOHIN_CC``
names another compiler for the *host*: a command such as ``gcc``, ``clang-18`` or ``ccache gcc``.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from shohin.core.errors import BuildError

WARNINGS = ("-Wall", "-Wextra")
PROBE_SCRIPT = Path(__file__).parent / "firmware" / "probe.ld"
SHOWN_LINES = 12


@dataclass(frozen=True, kw_only=True)
class Compiler:
    """A C compiler: the command that starts it and the family whose flags it takes.

    ``family`` is ``zig``, ``clang`` or ``gcc``; ``linker`` is the command of an ELF linker for devices, empty
    where the compiler brings none.
    """

    command: tuple[str, ...]
    family: str
    linker: tuple[str, ...] = ()

    def architecture(self, mcpu: str) -> tuple[str, ...]:
        """The flag that selects the host's instruction set.

        ``mcpu`` is written as zig does (``native``, ``x86_64_v4+avx512vnni``); gcc and clang take the level as
        ``-march`` and each further feature as ``-m``.
        """
        if self.family == "zig":
            return (f"-mcpu={mcpu}",)
        level, *features = mcpu.split("+")
        if level != "native" and not level.startswith("x86_64"):
            return (f"-mcpu={mcpu}",)
        return (f"-march={level.replace('x86_64', 'x86-64').replace('_', '-')}", *(f"-m{f}" for f in features))


def zig() -> Compiler:
    """The pinned compiler of the ``ziglang`` package in this Python's environment."""
    spec = importlib.util.find_spec("ziglang")
    if spec is None or spec.origin is None:
        raise BuildError(f"no C compiler: the package ziglang is not installed for {sys.executable}. "
                         f"Install it (`{sys.executable} -m pip install ziglang`), or set SHOHIN_CC to a C compiler")
    # The program itself, which `python -m ziglang` would only start: it saves an interpreter's start a call.
    program = Path(spec.origin).parent / "zig"
    start = (str(program),) if program.is_file() else (sys.executable, "-m", "ziglang")
    return Compiler(command=(*start, "cc"), family="zig", linker=(*start, "ld.lld"))


def find_compiler(cc: str | None = None) -> Compiler:
    """The host's C compiler: ``cc`` if given, else ``SHOHIN_CC``, else zig.

    ``cc`` is ``zig`` or a command line. Raises ``BuildError`` where the command is not to be found.
    """
    chosen = cc or os.environ.get("SHOHIN_CC") or "zig"
    if chosen == "zig":
        return zig()
    words = shlex.split(chosen)
    if not words or shutil.which(words[0]) is None:
        origin = "cc=" if cc else "SHOHIN_CC="
        raise BuildError(f"no C compiler: {origin}{chosen!r} names a command that is not on the PATH. "
                         f"Give gcc, clang or a full path, or leave it out for the compiler of the package ziglang")
    names = [Path(word).name for word in words]
    if any("zig" in name for name in names):
        return Compiler(command=tuple(words), family="zig")
    clang = any("clang" in name for name in names)
    return Compiler(command=tuple(words), family="clang" if clang else "gcc")


def call(command: Sequence[str | Path], *, doing: str, cwd: Path | None = None) -> str:
    """Runs a compiler or linker and returns what it printed on stderr (warnings).

    Raises ``BuildError`` with the command and the first lines of its stderr.
    """
    words = [str(word) for word in command]
    try:
        done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, errors="replace",
                              stdin=subprocess.DEVNULL, check=False)
    except OSError as error:
        raise BuildError(f"{doing}: cannot start {words[0]}: {error.strerror}") from error
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["(nothing on stderr)"]
        more = len(lines) - SHOWN_LINES
        shown = lines[:SHOWN_LINES] + ([f"... {more} more lines"] if more > 0 else [])
        raise BuildError(f"{doing}: the compiler failed (exit code {done.returncode})\n"
                         f"  command: {shlex.join(words)}\n  " + "\n  ".join(shown))
    return done.stderr


def link_alone(network: Path, name: str, linked: Path) -> Path:
    """Links an object file so that only ``NAME_run`` and what it reaches is left; nothing that could run.

    What other objects would supply (memcpy, memset) stays undefined, and so does not count.
    """
    call([*zig().linker, network, "--gc-sections", "-e", f"{name}_run", "-T", PROBE_SCRIPT,
          "--unresolved-symbols=ignore-all", "-o", linked], doing=f"linking {name} alone to see its size")
    return linked


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` to write to; it becomes ``path`` in one step at the end, or vanishes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    umask = os.umask(0)
    os.umask(umask)
    try:
        yield temporary
        temporary.chmod((0o777 if path.suffix in {".so", ".elf"} else 0o666) & ~umask)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
