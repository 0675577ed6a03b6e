"""Networks with several inputs or outputs, or wider ones than int8: state that goes in and comes out, for one.

Their C has a function with a pointer each (``NAME_parts_run``), and ``NAME_run`` as every artefact has it, on all inputs one
after the other in one block of bytes, and all outputs in another; each begins at a multiple of 16 bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from math import prod
from typing import Any

import numpy as np

from shohin.core.graph import Var

Array = np.ndarray[Any, Any]
ALIGN = 16
ELEMENT = {np.dtype(np.int8): "int8_t", np.dtype(np.uint8): "uint8_t", np.dtype(np.int16): "int16_t", np.dtype(np.int32): "int32_t", np.dtype(np.float32): "float"}
"""The C type of an element that may cross the boundary."""


def offsets(parts: Sequence[tuple[Sequence[int], Any]]) -> list[int]:
    """Where each part of (shape, dtype) begins, then the bytes of all.

    >>> offsets([((3, 5), np.int8), ((7,), np.int16)])
    [0, 16, 32]
    """
    return list(accumulate((-(-prod(shape) * np.dtype(dtype).itemsize // ALIGN) * ALIGN for shape, dtype in parts), initial=0))


def pack(arrays: Sequence[Array]) -> Array:
    """Rows of bytes (n, size) from arrays (n, ...)."""
    n = len(arrays[0])
    at = offsets([(a.shape[1:], a.dtype) for a in arrays])
    rows = np.zeros((n, at[-1]), np.int8)
    for start, a in zip(at, arrays, strict=False):
        raw = np.ascontiguousarray(a).reshape(n, -1).view(np.int8)
        rows[:, start : start + raw.shape[1]] = raw
    return rows


def unpack(rows: Array, parts: Sequence[tuple[Sequence[int], Any]]) -> list[Array]:
    """The arrays (n, ...) of rows of bytes."""
    found = []
    for start, (shape, dtype) in zip(offsets(parts), parts, strict=False):
        raw = np.ascontiguousarray(rows[:, start : start + prod(shape) * np.dtype(dtype).itemsize])
        found.append(raw.view(dtype).reshape(len(rows), *shape))
    return found


def is_packed(inputs: Sequence[Any], outputs: Sequence[Any]) -> bool:
    """Is there more than one input and one output, int8 or float32 alike?"""
    kinds = {np.dtype(b.dtype) for b in (*inputs, *outputs)}
    return len(inputs) != 1 or len(outputs) != 1 or len(kinds) != 1 or not kinds <= {np.dtype(np.int8), np.dtype(np.float32)}


def prototype(prefix: str, inputs: Sequence[Var], outputs: Sequence[Var]) -> str:
    """C of the function ``PREFIX_run`` with a pointer for each input and output."""
    pointers = [*(f"const {ELEMENT[v.dtype]} *in{k}" for k, v in enumerate(inputs)), *(f"{ELEMENT[v.dtype]} *out{k}" for k, v in enumerate(outputs))]
    return f"int {prefix}_run({', '.join(pointers)}, void *arena)"


def run_text(name: str, inputs: Sequence[Var], outputs: Sequence[Var]) -> str:
    """C of ``NAME_run`` on blocks of bytes."""
    into, out = (offsets([(v.shape, v.dtype) for v in vs]) for vs in (inputs, outputs))
    pointers = [*(f"(const {ELEMENT[v.dtype]} *)(const void *)(in + {k})" for k, v in zip(into, inputs, strict=False)),
                *(f"({ELEMENT[v.dtype]} *)(void *)(out + {k})" for k, v in zip(out, outputs, strict=False))]  # fmt: skip
    return f"\nint {name}_run(const int8_t *in, int8_t *out, void *arena) {{\n  return {name}_parts_run({', '.join(pointers)}, arena);\n}}\n"


def layout(names: Sequence[str], values: Sequence[Var], notes: Sequence[str]) -> str:
    """A line for each input or output: where it begins in its block, what it holds."""
    starts = offsets([(v.shape, v.dtype) for v in values])
    return "\n".join(f"  {n} at byte {k}: {v.aval}{note}" for n, k, v, note in zip(names, starts, values, notes, strict=False))


__all__ = ["ELEMENT", "is_packed", "layout", "offsets", "pack", "prototype", "run_text", "unpack"]
