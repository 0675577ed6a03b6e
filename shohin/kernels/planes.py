"""How kernels store numbers of few bits: in blocks, whose bits lie apart in *planes* of 8, 4, 2 or 1 of them.

Byte i of a plane has number i, number i + n, ... of the block, n bytes being the plane, so that vectors of any width unpack it by
shifts.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def _planes(bits: int) -> list[tuple[int, int]]:
    """Width and first bit of each plane."""
    found, at = [], 0
    for width in (8, 4, 2, 1):
        if bits - at >= width:
            found.append((width, at))
            at += width
    return found


def pack_planes(numbers: Array, bits: int) -> Array:
    """Blocks of numbers (blocks, n) as uint8 (blocks, n * bits / 8).

    >>> pack_planes(np.array([[1, 2, 3, 0, 5, 0, 0, 7]]), 3).tolist()
    [[29, 194, 144]]
    """
    blocks, n = numbers.shape
    made = []
    for width, at in _planes(bits):
        lanes = (numbers >> at & (2**width - 1)).reshape(blocks, 8 // width, n * width // 8)
        made.append((lanes << np.arange(0, 8, width)[:, None]).sum(1))
    return np.concatenate(made, 1).astype(np.uint8)


def unpacked(bits: int, n: int, indent: str) -> str:
    """C that brings a block of n numbers from ``from`` to ``n`` (uint8), and ``from`` behind it."""
    lines, at = [], 0
    for width, first in _planes(bits):
        size = n * width // 8
        for k in range(8 // width):
            value = f"from[{at} + i]" if width == 8 else f"from[{at} + i] >> {k * width} & {2**width - 1}"
            value = f"({value}) << {first}" if first else value
            lines.append(f"for (long i = 0; i < {size}; i++) n[{k * size} + i] {'|' if first else ''}= (uint8_t)({value});")
        at += size
    return indent + f"\n{indent}".join([*lines, f"from += {at};"]) + "\n"


__all__ = ["pack_planes", "unpacked"]
