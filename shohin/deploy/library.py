"""An artefact as a library on this machine: built, loaded, run, timed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shohin.core.errors import TargetError
from shohin.targets.elf import Sections
from shohin.targets.host import CPU, can_run, host
from shohin.targets.native import NativeProgram, build_shared
from shohin.targets.source import read_source
from shohin.targets.toolchain import find_compiler


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Seconds of one inference, measured on this host: batch 1, one thread."""

    median: float
    p95: float
    repeats: int
    level: str

    def __str__(self) -> str:
        return (f"{1e3 * self.median:.4g} ms median, {1e3 * self.p95:.4g} ms at the 95th percentile "
                f"(measured on {CPU.model}, {self.level}, one thread, {self.repeats} repeats)")


class HostLibrary:
    """A network's C, loaded into this process. It owns one arena: one thread at a time.

    ``path`` is a shared object that ``build_library`` made from ``folder``. Loading runs the self-check
    (docs/quantization.md Q11) and raises ``TargetError`` if it fails, ``DeployError`` if the object is not of this header.
    """

    def __init__(self, path: str | Path, folder: str | Path, *, level: str = "native") -> None:
        self.source, self.level = read_source(folder), level
        if not can_run(level):
            raise TargetError(f"{path}: built for level {level}, this CPU ({CPU.model}) reaches "
                              f"{CPU.level or 'no x86-64 level'}; build it at another level")
        self._program = NativeProgram(path, self.source)
        self.path, self.name = self._program.path, self.source.name

    def run(self, x: np.ndarray) -> np.ndarray:
        """Outputs (n, output_size) for ``x`` (n, ...), both int8 (float32 for a float network); one call of C."""
        return self._program.run(x)

    def reset(self) -> None:
        """Before a sequence, of a network that remembers."""
        self._program.reset()

    def go_on(self, x: np.ndarray) -> np.ndarray:
        """As ``run``, which begins a sequence, but from where the last call ended."""
        return self._program.go_on(x)

    def run_painted(self, x: np.ndarray) -> tuple[np.ndarray, int]:
        """As ``run``, and the bytes of the arena up to the last one written.

        Raises ``TargetError`` if the network leaves its arena or reads what it has not written.
        """
        return self._program.run_painted(x)

    def latency(self, x: np.ndarray, repeats: int = 100) -> Latency:
        """Time of one inference on the first row of ``x``, in C: median and 95th percentile of ``repeats`` samples."""
        seconds = self._program.seconds(x, repeats)
        return Latency(median=float(np.median(seconds)), p95=float(np.quantile(seconds, 0.95)), repeats=repeats,
                       level=self.level)

    def quantize(self, x: np.ndarray) -> np.ndarray:
        """int8 (n, input_size) from float32 (n, ...), by ``NAME_quantize``."""
        return self._program.quantize(x)

    def dequantize(self, y: np.ndarray) -> np.ndarray:
        """float32 (n, output_size) from int8 outputs, by ``NAME_dequantize``."""
        return self._program.dequantize(y)

    @property
    def sections(self) -> Sections:
        """Bytes of the network alone on this host, by kind of section."""
        return self._program.sections

    def __repr__(self) -> str:
        return f"HostLibrary({self.name}, {self.level}, {self.path})"


def build_library(folder: str | Path, out_dir: str | Path | None = None, *, level: str = "native",
                  cc: str | None = None) -> HostLibrary:
    """Builds the C in ``folder`` for this machine and loads it.

    ``level`` is ``native``, ``v3``, ``v4`` or ``vnni``; ``cc`` a compiler's command (``gcc``), default
    ``SHOHIN_CC``, else the pinned clang. ``out_dir`` is ``folder/build/LEVEL-COMPILER`` unless given. Always
    compiles: an object built on another CPU must not be met. Raises ``BuildError`` where the compiler is missing or
    fails.
    """
    target = host(level, cc=cc)
    if out_dir is None:
        out_dir = Path(folder) / "build" / f"{level}-{find_compiler(cc).family}"
    return HostLibrary(build_shared(folder, out_dir, target, cc=cc), folder, level=level)
