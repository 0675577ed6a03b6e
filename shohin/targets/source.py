"""The C of a network in a folder, as its header describes it.

The contract of an exported network ``NAME``: ``network.c`` and ``network.h`` with the macros ``NAME_INPUT_SIZE``,
``NAME_OUTPUT_SIZE`` (elements), ``NAME_ARENA_SIZE`` (bytes), and the functions ``NAME_run``, ``NAME_quantize``,
``NAME_dequantize``, ``NAME_selfcheck``. The macros may be spelled in capitals.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shohin.core.errors import DeployError, TargetError

_RUN = re.compile(r"\bint\s+(\w+)_run\s*\(\s*const\s+(\w+)\s*\*\s*in\s*,")
_ELEMENTS = {"int8_t": np.dtype(np.int8), "float": np.dtype(np.float32)}


@dataclass(frozen=True, kw_only=True)
class Source:
    """A network in C: where it lies, and the sizes its header promises (elements; the arena in bytes).

    ``state_bytes`` of the arena's end are kept from one call to the next (``NAME_reset`` begins anew), where the network remembers.
    """

    name: str
    macro: str
    folder: Path
    input_size: int
    output_size: int
    arena_bytes: int
    dtype: np.dtype
    quantizes: bool
    state_bytes: int = 0

    @property
    def element(self) -> str:
        """The C type of inputs and outputs."""
        return next(c for c, dtype in _ELEMENTS.items() if dtype == self.dtype)

    def inputs(self, x: np.ndarray) -> np.ndarray:
        """``x`` as contiguous rows (n, input_size) of the network's dtype, or an error that says what does not fit."""
        x = np.asarray(x)
        if x.dtype != self.dtype:
            raise DeployError(f"{self.name}: the input has dtype {x.dtype}, expected {self.dtype}; "
                              f"quantize it first ({self.name}_quantize)")
        if x.ndim < 2 or x[:1].size != self.input_size * min(len(x), 1):
            raise DeployError(f"{self.name}: the input has shape {x.shape}, expected (n, ...) "
                              f"with {self.input_size} elements each")
        return np.ascontiguousarray(x.reshape(len(x), self.input_size))


def _macro(text: str, name: str, suffix: str, header: Path) -> tuple[str, int]:
    for prefix in (name, name.upper()):
        found = re.search(rf"^[ \t]*#[ \t]*define[ \t]+{prefix}_{suffix}[ \t]+\(?(\d+)[uUlL]*\)?[ \t]*(?:/[/*].*)?$",
                          text, re.MULTILINE)
        if found:
            return prefix, int(found[1])
    raise DeployError(f"{header}: no `#define {name}_{suffix} <number>`; the header is not one that export wrote")


def read_source(folder: str | Path) -> Source:
    """Reads ``network.h`` in ``folder``. Raises ``DeployError`` naming the file, and what it lacks."""
    folder = Path(folder).resolve()
    for file in ("network.h", "network.c"):
        if not (folder / file).is_file():
            raise DeployError(f"{folder}: no {file}: not an artefact's folder, or an export that did not finish")
    header = folder / "network.h"
    text = header.read_text(encoding="utf-8")
    found = _RUN.findall(text)
    if len(found) != 1:
        raise DeployError(f"{header}: {len(found)} prototypes of the form `int NAME_run(const int8_t *in, ...)`, "
                          f"expected one")
    name, element = found[0]
    if element not in _ELEMENTS:
        raise DeployError(f"{header}: {name}_run takes {element}, expected {' or '.join(_ELEMENTS)}")
    macro, input_size = _macro(text, name, "INPUT_SIZE", header)
    _, output_size = _macro(text, name, "OUTPUT_SIZE", header)
    _, arena_bytes = _macro(text, name, "ARENA_SIZE", header)
    return Source(name=name, macro=macro, folder=folder, input_size=input_size, output_size=output_size,
                  arena_bytes=arena_bytes, dtype=_ELEMENTS[element],
                  quantizes=f"{name}_quantize(" in text,
                  state_bytes=_macro(text, name, "STATE_SIZE", header)[1] if f"{name}_reset(" in text else 0)


def selfcheck_failed(where: str, source: Source, status: int) -> TargetError:
    """The error for a build whose arithmetic is not the one that the integers are defined by."""
    return TargetError(f"{where}: {source.name}_selfcheck returned {status}, expected 0: this build's arithmetic is "
                       f"not the defined one (fast-math, contraction or rounding mode; docs/quantization.md Q11)")
