"""How calibration chooses a grid's range and a weight's step: ``minmax``, ``percentile`` or ``mse``.

``minmax`` takes all that occurred. ``percentile`` cuts off the share of values beyond it, half at each end. ``mse`` takes the
range with the least squared error of rounding and clipping, over a grid of 20 x 20 shares of both ends (activations, from a
histogram of 2,048 bins) or of 80 shares of max|w| (weights, an output channel at a time). Source: Nagel et al. 2021
(arXiv:2106.08295), section 3.1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from shohin.compress.definitions import LIMITS, Grid, grid, most

Array = np.ndarray[Any, Any]
BINS = 2048
SHARES = np.linspace(0.05, 1.0, 20)


@dataclass
class Histogram:
    """How often values fell into ``BINS`` equal bins from low to high, zero included."""

    low: float
    high: float
    counts: Array

    @classmethod
    def empty(cls, low: float, high: float) -> Histogram:
        return cls(min(low, 0.0), max(high, 0.0), np.zeros(BINS, np.int64))

    def add(self, x: Array) -> None:
        if self.high > self.low:
            self.counts += np.histogram(x, BINS, (self.low, self.high))[0]

    @property
    def centres(self) -> Array:
        return self.low + (np.arange(BINS) + 0.5) * ((self.high - self.low) / BINS)


def percentile(h: Histogram, percent: float, bits: int) -> tuple[float, float]:
    """The ends between which ``percent`` of the values lie, to a bin; zero included."""
    total, tail = np.cumsum(h.counts), (100 - percent) / 200 * h.counts.sum()
    width = (h.high - h.low) / BINS
    first, last = np.searchsorted(total, tail, "right"), np.searchsorted(total, total[-1] - tail)
    return min(h.low + first * width, 0.0), max(h.low + (last + 1) * width, 0.0)


def least_error(h: Histogram, percent: float, bits: int) -> tuple[float, float]:
    """The range whose grid has the least squared error."""
    x, n = h.centres.astype(np.float32), h.counts
    lows, highs = ([end * s for s in SHARES] if end else [0.0] for end in (h.low, h.high))
    return min(((a, b) for a in lows for b in highs), key=lambda ends: float(n @ _error(x, grid(*ends, bits=bits))))


def _error(x: Array, g: Grid) -> Array:
    low, high = g.limits
    return np.square(np.clip(np.rint(x / g.s), low - g.z, high - g.z) * g.s - x)


def everything(h: Histogram, percent: float, bits: int) -> tuple[float, float]:
    return h.low, h.high


CHOICES: Mapping[str, Callable[[Histogram, float, int], tuple[float, float]]] = {
    "minmax": everything, "percentile": percentile, "mse": least_error,
}  # fmt: skip


def weight_steps(w: Array, bits: int) -> Array:
    """The step of every output channel of w (out, ...) with the least squared error, float32.

    >>> weight_steps(np.float32([[1, 1, 1, 8], [0, 0, 0, 0]]), 2).tolist()
    [8.0, 9.094947017729282e-13]
    """
    rows = w.reshape(len(w), -1).astype(np.float32)
    top = most(bits)
    first = np.abs(rows).max(1) / np.float32(top)
    best, least = np.full(len(w), 2.0**-40, np.float32), np.full(len(w), np.inf)
    for share in np.linspace(1.0, 0.2, 80):
        s = np.maximum(first * np.float32(share), np.float32(2.0**-40))
        error = np.square(np.clip(np.rint(rows / s[:, None]), -top, top) * s[:, None] - rows).sum(1, dtype=np.float64)
        best, least = np.where(error < least, s, best), np.minimum(error, least)
    return best.astype(np.float32)


__all__ = ["BINS", "CHOICES", "LIMITS", "Histogram", "least_error", "percentile", "weight_steps"]
