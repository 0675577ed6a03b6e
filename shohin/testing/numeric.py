"""Comparing numbers: units in the last place, and derivatives by finite differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from shohin.core import dtypes
from shohin.core.op import Tol

Array = np.ndarray[Any, Any]
_INFO = {dtypes.float16: (10, -14), dtypes.bfloat16: (7, -126), dtypes.float32: (23, -126), dtypes.float64: (52, -1022)}


def ulp(reference: Array) -> Array:
    """The spacing of the dtype at each value, in float64."""
    mantissa, least = _INFO[reference.dtype]
    size = np.abs(reference.astype(np.float64))
    _, exponent = np.frexp(np.where(np.isfinite(size), size, 0))
    return np.exp2(np.maximum(exponent - 1, least).astype(np.float64) - mantissa)


def differences(found: Any, reference: Any, tol: Tol) -> str | None:
    """What differs beyond ``tol``, as a sentence, or ``None``. NaN equals NaN; exact means the same value (-0 is 0).

    >>> differences(np.float32([1, 2]), np.float32([1, 3]), Tol(4))
    '1 of 2 values differ, the worst at (1,): 2.0 instead of 3.0, 4194304.0 ulp'
    """
    a, b = np.asarray(found), np.asarray(reference)
    if a.shape != b.shape or a.dtype != b.dtype:
        return f"{a.dtype}{list(a.shape)} instead of {b.dtype}{list(b.shape)}"
    if b.dtype not in dtypes.FLOATING:
        wrong = a != b
        if not wrong.any():
            return None
        at = tuple(int(i) for i in np.argwhere(wrong)[0])
        return (
            f"{int(wrong.sum())} of {b.size} values differ, the first at {at}: {a[at].item()} instead of {b[at].item()}"
        )
    with np.errstate(all="ignore"):
        x, y = a.astype(np.float64), b.astype(np.float64)
        gap = np.where((x == y) | (np.isnan(x) & np.isnan(y)), 0.0, np.abs(x - y))
        gap = np.where(np.isnan(gap), np.inf, gap)
        wrong = gap > np.maximum(tol.ulp * ulp(b), tol.absolute)
    if not wrong.any():
        return None
    units = gap / ulp(b)
    at = tuple(int(i) for i in np.unravel_index(int(np.argmax(np.where(wrong, units, -1))), b.shape))
    return (
        f"{int(wrong.sum())} of {b.size} values differ, the worst at {at}: {a[at].item()} instead of {b[at].item()}, "
        f"{units[at]} ulp"
    )


def slope(f: Callable[[float], Any], step: float = 1e-4) -> Array:
    """The derivative of ``f`` at 0 by central differences of two steps (error of order step^4)."""
    one = (f(step) - f(-step)) / (2 * step)
    two = (f(2 * step) - f(-2 * step)) / (4 * step)
    return (4 * one - two) / 3


def near(found: Any, expected: Any, tolerance: float = 1e-6) -> bool:
    """Equal within ``tolerance`` of the larger of 1 and the expected size."""
    a, b = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    return a.shape == b.shape and bool(np.all(np.abs(a - b) <= tolerance * np.maximum(1.0, np.abs(b))))


def dot(left: Sequence[Array], right: Sequence[Array]) -> float:
    """The inner product of two lists of arrays."""
    return float(sum(np.sum(a * b, dtype=np.float64) for a, b in zip(left, right, strict=True)))
