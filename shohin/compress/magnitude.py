"""``Magnitude``: the slot ``mask``. The smallest weights of a layer are 0 and stay 0 while the others train."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from shohin.compress.method import Method, Reweighting, reparametrize, weights
from shohin.core.cells import Buffer
from shohin.core.errors import PlanError
from shohin.core.module import Module
from shohin.core.tensor import Tensor
from shohin.ops import math

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Magnitude(Method):
    """The fraction ``sparsity`` of each weight tensor that is least in magnitude becomes 0, at once.

    Source: Han et al. 2015 (arXiv:1506.02626), section 3.1, with a given fraction instead of a threshold.
    """

    sparsity: float = 0.5
    slot: ClassVar[str] = "mask"

    def __post_init__(self) -> None:
        if not 0 < self.sparsity < 1:
            raise PlanError(f"Magnitude: sparsity is {self.sparsity}, expected a fraction between 0 and 1")

    @property
    def scheme(self) -> str:
        return f"{self.sparsity:.0%} zeros by magnitude"

    @classmethod
    def apply(cls, net: Module, chosen: Mapping[str, Method], calibration: Any) -> Module:
        for w in list(weights(net, chosen)):
            reparametrize(w.layer, w.name, Mask(largest(w.value, w.method.sparsity)))
        return net


class Mask(Reweighting):
    """``mask`` (bool, kept): the weight where it holds, 0 elsewhere, where no gradient goes either."""

    slot, kind, done = "mask", "mask", "masked"

    def __init__(self, mask: Array) -> None:
        self.mask = Buffer(mask)

    def forward(self, w: Any) -> Tensor:
        return math.where(self.mask, w, 0.0)


def largest(w: Array, sparsity: float) -> Array:
    """Marks all but the ``floor(sparsity * size)`` least of |w|; of equal ones the first stay.

    >>> largest(np.float32([[1, -3], [2, 1]]), 0.5).tolist()
    [[False, True], [True, False]]
    """
    order = np.argsort(-np.abs(w.reshape(-1)), kind="stable")
    mask = np.zeros(w.size, bool)
    mask[order[: w.size - int(w.size * sparsity)]] = True
    return mask.reshape(w.shape)


__all__ = ["Magnitude", "Mask", "largest"]
