"""``FisherPalettize``: the slot ``table``, by k-means in which a weight counts as much as the loss bends along it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from shohin.compress.kmeans import kmeans, lbg
from shohin.compress.stats import Stats
from shohin.compress.table import Tabling
from shohin.core.tensor import Tensor


@dataclass(frozen=True)
class FisherPalettize(Tabling):
    """The 2^``bits`` values that least disturb the loss, to second order: those of least ``sum F_i (w_i - value)^2``.

    F is the statistic ``fisher``; calibrate with a data set, so that it has labels. ``floor`` is added to it, as a fraction of its
    mean, so that weights along which a few examples saw no slope still count. A vector (``dim``) counts as much as its weights together. A
    group along which nothing bends is taken as ``Palettize`` takes it.

    Source: Kim et al. 2023 (SqueezeLLM, arXiv:2306.07629), section 4.1; there sparse outliers are kept apart as well, here they are
    not, and ``floor`` is ours.
    """

    floor: float = 0.01
    stats: ClassVar[tuple[str, ...]] = ("fisher",)
    needs_calibration: ClassVar[bool] = True

    @property
    def scheme(self) -> str:
        return f"{super().scheme}, weighed by the loss"

    def values(self, w: Tensor, stats: Stats, entries: int) -> np.ndarray[Any, Any]:
        f = stats.fisher.numpy().astype(np.float64)
        weight = (f if self.dim == 1 else f.sum(1)) + self.floor * f.mean() * self.dim
        if not weight.any():
            weight = np.ones(len(weight))
        return lbg(w.numpy(), entries, weight) if self.dim > 1 else kmeans(w.numpy(), entries, weight=weight)


__all__ = ["FisherPalettize"]
