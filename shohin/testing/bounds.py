"""How far a float32 sum may lie from the true one: a function of the number of terms and of the order that the op has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, prod
from typing import Any

import numpy as np

from shohin.core.op import Op

Array = np.ndarray[Any, Any]
ROUNDING = 2.0**-24
"""The largest relative error of one rounding to float32."""
UNDERFLOW = 2.0**-150
"""The largest absolute error of one rounding to a subnormal float32."""


def roundings(terms: int, order: str) -> int:
    """The most roundings that one term of a sum meets on its way into the result.

    ``sequence``: one fma a term, so the first term meets all. ``lanes16``: 16 lanes side by side, then a tree of four levels.
    ``chunks8``: blocks of 32 terms, the blocks of an eighth of the terms, the eighths.

    >>> [roundings(4096, order) for order in ("sequence", "lanes16", "chunks8")]
    [4096, 260, 56]
    """
    match order:
        case "lanes16":
            return ceil(terms / 16) + 4
        case "chunks8":
            chunk = ceil(terms / 8)
            return min(chunk, 32) + ceil(chunk / 32) + 8
        case _:
            return terms


def gamma(count: int) -> float:
    """``n u / (1 - n u)``: the relative error of n roundings one after another (Higham, Accuracy and Stability, 3.1)."""
    return count * ROUNDING / (1 - count * ROUNDING)


def contraction_bound(op: Op, operands: Sequence[Array], attrs: Mapping[str, Any]) -> tuple[Array, Array]:
    """The true result in float64, and how far a float32 one may lie from it: ``gamma(roundings) * sum |a| |b|``.

    The reference's own error is some 2^-29 of the bound.

    >>> from shohin.ops import kinds
    >>> a, b = np.float32([[1, 2]]), np.float32([[3], [-4]])
    >>> y, bound = contraction_bound(kinds.get("matmul"), (a, b), {"transpose_a": False, "transpose_b": False})
    >>> y.item(), bound.item() / 2**-24
    (-5.0, 22.000002622604683)
    """
    wide = [a.astype(np.float64) for a in operands]
    terms = terms_of(op, operands, attrs)
    relative = gamma(roundings(terms, op.order or "sequence"))
    sizes = op.numpy(*map(np.abs, wide), **attrs)
    return op.numpy(*wide, **attrs), relative * sizes + terms * UNDERFLOW


def terms_of(op: Op, operands: Sequence[Array], attrs: Mapping[str, Any]) -> int:
    """Terms of one result's sum, those among them that padding leaves out."""
    solved = op.solve([a.shape for a in operands], attrs)
    return prod(solved.extents[axis] for axis in solved.reduced)


__all__ = ["contraction_bound", "gamma", "roundings", "terms_of"]
