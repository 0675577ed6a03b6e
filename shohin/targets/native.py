"""Running a network's C on this machine: a shared object, built by the host's compiler and called through ctypes."""

from __future__ import annotations

import ctypes
import math
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from shohin.core.errors import DeployError, TargetError
from shohin.targets.elf import Sections, sizes
from shohin.targets.source import Source, read_source, selfcheck_failed
from shohin.targets.target import RunResult, Target
from shohin.targets.toolchain import WARNINGS, Compiler, atomic, call, find_compiler, link_alone

DRIVER = Path(__file__).parent / "native_driver" / "driver.c"
_ALIGNMENT = 64
_GUARD = 4096
_PAINTS = (0xA5, 0x5A)
_INT8, _FLOAT, _DOUBLE = (np.ctypeslib.ndpointer(t, flags="C_CONTIGUOUS") for t in (np.int8, np.float32, np.float64))


@dataclass(frozen=True, kw_only=True)
class Native:
    """The strategy of a host: build with the host's compiler (or ``cc``), load, call."""

    cc: str | None = None

    def sections(self, target: Target, folder: Path) -> Sections:
        with tempfile.TemporaryDirectory(prefix="shohin-probe-") as work:
            program = self.build(target, folder, Path(work))
            return program.sections

    def build(self, target: Target, folder: Path, out: Path) -> NativeProgram:
        return NativeProgram(build_shared(folder, out, target, cc=self.cc), read_source(folder))

    def run(self, program: NativeProgram, inputs: np.ndarray, timeout: float) -> RunResult:
        """``timeout`` is not kept here: a call into C cannot be interrupted."""
        del timeout
        outputs, arena_bytes = program.run_painted(inputs)
        return RunResult(outputs=outputs, instructions=None, instruction_step=0.0, stack_bytes=None,
                         arena_bytes=arena_bytes, arena_size=program.source.arena_bytes, sections=program.sections,
                         emulated=False)


def native_flags(compiler: Compiler, target: Target) -> tuple[str, ...]:
    """How a shared object of this machine is compiled."""
    # -nostdlib spares zig the start-up of its own libc build; what is undefined comes from the Python process.
    quick = ("-nostdlib", "-fno-sanitize=undefined") if compiler.family == "zig" else ()
    return (*target.cflags, *compiler.architecture(target.mcpu), "-std=c11", *WARNINGS, "-fPIC",
            "-ffunction-sections", "-fdata-sections", *quick)


def build_shared(folder: str | Path, out_dir: str | Path, target: Target, *, cc: str | None = None) -> Path:
    """Compiles ``network.c`` and the driver into ``out_dir/NAME.so`` and returns its path.

    Beside it lies ``NAME.o``, the network alone. Both appear complete or not at all.
    Raises ``BuildError`` with the command where the compiler is missing or fails.
    """
    source = read_source(folder)
    compiler = find_compiler(cc)
    flags = native_flags(compiler, target)
    out = Path(out_dir).resolve()
    defines = [f"-DSHOHIN_NAME={source.name}", f"-DSHOHIN_MACRO={source.macro}", f"-DSHOHIN_ELEMENT={source.element}"]
    if source.quantizes:
        defines.append("-DSHOHIN_QUANTIZED")
    if source.state_bytes:
        defines.append("-DSHOHIN_STATE")
    with tempfile.TemporaryDirectory(prefix="shohin-host-") as folder_name:
        network, driver = Path(folder_name) / "network.o", Path(folder_name) / "driver.o"
        call([*compiler.command, *flags, "-I", source.folder, "-c", source.folder / "network.c", "-o", network],
             doing=f"compiling {source.name} for {target.name}")
        call([*compiler.command, *flags, *defines, "-I", source.folder, "-c", DRIVER, "-o", driver],
             doing=f"compiling the driver of {source.name} for {target.name}")
        with atomic(out / f"{source.name}.o") as alone:
            shutil.copyfile(network, alone)
        with atomic(out / f"{source.name}.so") as shared:
            call([*compiler.command, *flags, "-shared", network, driver, "-o", shared],
                 doing=f"linking {source.name} for {target.name}")
    return out / f"{source.name}.so"


class NativeProgram:
    """A loaded network: runs rows of inputs in one call of C. Not for concurrent use: it owns one arena."""

    def __init__(self, path: str | Path, source: Source) -> None:
        self.path, self.source = Path(path), source
        self._library = library = _load(self.path)
        element = _INT8 if source.dtype == np.int8 else _FLOAT
        self._size = _bind(library, "shohin_driver_size", ctypes.c_int64, ctypes.c_int32)
        found = tuple(self._size(i) for i in range(4))
        expected = (source.input_size, source.output_size, source.arena_bytes, source.dtype.itemsize)
        if found != expected:
            raise DeployError(f"{self.path}: built with sizes (input, output, arena, element) {found}, "
                              f"the header says {expected}; build it again")
        void, count = ctypes.c_void_p, ctypes.c_int64
        self._run = _bind(library, "shohin_driver_run", count, element, element, void, count)
        self._time = _bind(library, "shohin_driver_time", ctypes.c_int32, element, element, void, count, count, _DOUBLE)
        self._check = _bind(library, f"{source.name}_selfcheck", ctypes.c_int32)
        if source.quantizes:
            self._quantize = _bind(library, "shohin_driver_quantize", None, _FLOAT, _INT8, count)
            self._dequantize = _bind(library, "shohin_driver_dequantize", None, _INT8, _FLOAT, count)
        self._reset = _bind(library, "shohin_driver_reset", None, void) if source.state_bytes else None
        self._memory = np.empty(source.arena_bytes + 2 * _GUARD + _ALIGNMENT, np.uint8)
        self._start = -(self._memory.ctypes.data + _GUARD) % _ALIGNMENT + _GUARD
        self._arena = void(self._memory.ctypes.data + self._start)
        status = self._check()
        if status != 0:
            raise selfcheck_failed(str(self.path), source, status)

    @property
    def sections(self) -> Sections:
        """Bytes of the network alone by kind of section, as on a device (Linux only: ELF)."""
        with tempfile.TemporaryDirectory(prefix="shohin-probe-") as work:
            return sizes(link_alone(self.path.with_suffix(".o"), self.source.name, Path(work) / "probe.elf"))

    def run(self, x: np.ndarray) -> np.ndarray:
        """Outputs (n, output_size) for ``x`` (n, ...) of the network's dtype; of one that remembers, for a sequence from its start."""
        self.reset()
        return self.go_on(x)

    def reset(self) -> None:
        """Before the first element of a sequence; nothing for a network that remembers nothing."""
        if self._reset is not None:
            self._reset(self._arena)

    def go_on(self, x: np.ndarray) -> np.ndarray:
        """As ``run``, from where the last call ended."""
        x = self.source.inputs(x)
        out = np.zeros((len(x), self.source.output_size), self.source.dtype)
        done = self._run(x, out, self._arena, len(x))
        if done != len(x):
            raise TargetError(f"{self.source.name}_run failed for input {done}")
        return out

    def run_painted(self, x: np.ndarray) -> tuple[np.ndarray, int]:
        """Outputs, and the bytes of the arena up to the last one written.

        Runs all inputs twice over differently painted arenas. Raises ``TargetError`` if the network wrote outside its
        arena, or if its outputs depend on what lay in it.
        """
        outputs, used = [], 0
        for paint in _PAINTS:
            self._memory.fill(paint)
            outputs.append(self.run(x))
            end = self._start + self.source.arena_bytes
            if (self._memory[:self._start] != paint).any() or (self._memory[end:] != paint).any():
                raise TargetError(f"{self.source.name}_run wrote outside its arena of "
                                  f"{self.source.arena_bytes:,} bytes")
            touched = np.flatnonzero(self._memory[self._start:end] != paint)
            used = max(used, int(touched[-1]) + 1 if touched.size else 0)
        if outputs[0].tobytes() != outputs[1].tobytes():
            row = next(i for i, (a, b) in enumerate(zip(*outputs, strict=True)) if a.tobytes() != b.tobytes())
            raise TargetError(f"{self.source.name}_run reads what it has not written: the output of input {row} "
                              f"depends on the arena's former content")
        return outputs[0], used

    def seconds(self, x: np.ndarray, repeats: int) -> np.ndarray:
        """Seconds of one inference, ``repeats`` samples: batch 1, one thread, the first row of ``x``, timed in C.

        Short networks are run several times a sample (at least 20 us), so that the clock's own cost stays below 1 %.
        """
        x = self.source.inputs(x)[:1]
        if len(x) == 0 or repeats < 1:
            raise TargetError(f"{self.source.name}: latency of {len(x)} inputs, {repeats} repeats: "
                              f"give at least one of each")
        out = np.empty((1, self.source.output_size), self.source.dtype)
        self.reset()

        def sample(count: int, batch: int) -> np.ndarray:
            times = np.empty(count, np.float64)
            if self._time(x, out, self._arena, count, batch, times) != 0:
                raise TargetError(f"{self.source.name}_run failed for the input that is timed")
            return times

        once = max(float(sample(3, 1).min()), 1e-9)  # warms up as well
        return sample(repeats, max(1, math.ceil(20e-6 / once)))

    def quantize(self, x: np.ndarray) -> np.ndarray:
        """int8 (n, input_size) from float32 (n, ...)."""
        x = replace(self.source, dtype=np.dtype(np.float32)).inputs(x)
        out = np.empty(x.shape, np.int8)
        self._quantized("quantize")
        self._quantize(x, out, len(x))
        return out

    def dequantize(self, y: np.ndarray) -> np.ndarray:
        """float32 (n, output_size) from int8 outputs."""
        self._quantized("dequantize")
        y = replace(self.source, input_size=self.source.output_size).inputs(y)
        out = np.empty(y.shape, np.float32)
        self._dequantize(y, out, len(y))
        return out

    def _quantized(self, function: str) -> None:
        if not self.source.quantizes:
            raise TargetError(f"{self.source.name} has no {self.source.name}_{function}: its inputs and outputs are float32 or several, so there is nothing to {function}")


def _load(path: Path) -> ctypes.CDLL:
    # The loader knows objects by their path: a rebuilt one under the old path would silently be the old one.
    with tempfile.TemporaryDirectory(prefix="shohin-load-") as folder:
        try:
            return ctypes.CDLL(shutil.copy(path, folder))
        except OSError as error:
            raise DeployError(f"{path}: cannot be loaded: {error}") from error


def _bind(library: ctypes.CDLL, name: str, result: type | None, *args: type) -> ctypes._FuncPointer:
    try:
        function = library[name]
    except AttributeError as error:
        raise DeployError(f"{library._name}: no function {name}; build it again from the artefact's folder") from error
    function.restype, function.argtypes = result, args
    return function
