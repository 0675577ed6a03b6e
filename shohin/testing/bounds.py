"""How far a float32 sum may lie from the true one: a function of the number of terms and of the order that the op has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, prod
from typing import Any

import numpy as np

from shohin.core.op import Op
from shohin.ops.kinds import fold_order

Array = np.ndarray[Any, Any]
ROUNDING = 2.0**-24
"""The largest relative error of one rounding to float32."""
UNDERFLOW = 2.0**-150
"""The largest absolute error of one rounding to a subnormal float32."""


def roundings(extents: Sequence[int], order: str) -> int:
    """The most roundings that one term of a sum over ``extents`` meets on its way into the result.

    ``sequence``: one fma (or addition) a term, so the first term meets all. ``lanes16``: 16 lanes along the last extent, then
    a tree of four levels. ``chunks8``: blocks of 32 terms, the blocks of an eighth of the terms, the eighths.

    >>> [roundings((64, 64), order) for order in ("sequence", "lanes16", "chunks8")]
    [4096, 260, 56]
    """
    terms = prod(extents)
    match order:
        case "lanes16":
            return terms // extents[-1] * ceil(extents[-1] / 16) + 4
        case "chunks8":
            chunk = ceil(terms / 8)
            return min(chunk, 32) + ceil(chunk / 32) + 8
        case _:
            return terms


def gamma(count: int) -> float:
    """``n u / (1 - n u)``: the largest relative error of n roundings one after another (Higham, Accuracy and Stability, 3.1)."""
    return count * ROUNDING / (1 - count * ROUNDING)


@dataclass(frozen=True)
class Sum:
    """One use of an op that sums: the true result in float64, the same of magnitudes, and how the sum is ordered."""

    true: Array
    sizes: Array
    extents: tuple[int, ...]
    order: str

    @property
    def bound(self) -> Array:
        """How far a float32 result may lie from the true one: ``gamma(roundings) * sum |a| |b|``, and underflow."""
        return gamma(roundings(self.extents, self.order)) * self.sizes + prod(self.extents) * UNDERFLOW


def summed(op: Op, operands: Sequence[Array], attrs: Mapping[str, Any]) -> Sum:
    """A contraction, a sum over windows or over dims, on these operands. The reference's own error is some 2^-29 of the bound.

    >>> from shohin.ops import kinds
    >>> a, b = np.float32([[1, 2]]), np.float32([[3], [-4]])
    >>> found = summed(kinds.get("matmul"), (a, b), {"transpose_a": False, "transpose_b": False})
    >>> found.true.item(), found.sizes.item(), found.extents, found.order
    (-5.0, 11.0, (2,), 'sequence')
    """
    wide = [a.astype(np.float64) for a in operands]
    solved = op.solve([a.shape for a in operands], attrs)
    extents = tuple(solved.extents[axis] for axis in solved.reduced)
    order = op.order or fold_order(operands[0].ndim, attrs["axis"])
    return Sum(op.numpy(*wide, **attrs), op.numpy(*map(np.abs, wide), **attrs), extents, order)


__all__ = ["ROUNDING", "UNDERFLOW", "Sum", "gamma", "roundings", "summed"]
