"""``PDP``: the slot ``mask``, learned: weights near the threshold are let through in part, and move to either side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from shohin.compress.mask import Mask
from shohin.compress.pattern import Pattern
from shohin.compress.scored import Scored
from shohin.compress.slots import Demo
from shohin.compress.stats import Stats
from shohin.core import dtypes
from shohin.core.cells import Buffer
from shohin.core.errors import PlanError
from shohin.core.tensor import Tensor
from shohin.ops import activations, math, move, reduce

OPEN = -1e30
"""The square of a threshold where nothing leaves: every weight passes whole."""


@dataclass(frozen=True)
class PDP(Scored):
    """Parameter-free differentiable pruning: between the updates of ``ramp`` a weight is multiplied by its chance to stay,

        m(w) = exp(w^2 / tau) / (exp(w^2 / tau) + exp(t^2 / tau)) = sigmoid((w^2 - t^2) / tau)

    with t halfway between the smallest magnitude that stays at the present sparsity and the largest that does not. Which stay is
    asked anew in 100 steps of the ramp, t after every update, and t has no gradient; so weights pass it as training moves them. From the end of the ramp on the
    mask is hard and stays. tau is ``temperature`` at the begin of the ramp and falls to 0 at its end, in proportion. With a
    ``pattern`` the members of each of its groups are compared, and for a block w^2 is the mean square of its weights.
    Without a ramp there is nothing to learn the mask in: it is hard at once, that of ``Prune``.

    >>> PDP(0.85, ramp=(500, 4000)).scheme
    '85% zeros by PDP, from update 500 to 4000'

    Source: Cho, Adya and Naik 2023 (arXiv:2305.11203), equations 3 to 5 and algorithm 1. There tau is constant, until the mask is
    rounded, which weights stay is asked for every batch (a sort; here it would cost more than the rest of a small network's update),
    and the sparsity grows by a step an epoch to a share that each layer has of a global threshold; here it is the ramp of
    the slot, with one sparsity for each weight tensor.
    """

    temperature: float = 1e-4
    how: ClassVar[str] = "PDP"
    steps: ClassVar[int] = 100
    demo: ClassVar[Demo] = ({"sparsity": 0.85, "ramp": (0, 600)},)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.temperature > 0:
            raise PlanError(f"PDP: temperature is {self.temperature}, expected a positive number, in units of a squared weight")
        if self.straight:
            raise PlanError("PDP: straight=True asks for another gradient than that of the soft mask; leave it out, or write Prune")

    def score(self, w: Tensor, stats: Stats) -> Tensor:
        return math.abs(w)

    def hold(self, mask: Any, stats: Stats) -> Mask:
        return Mask(self, mask, stats) if self.ramp is None else SoftMask(self, mask, stats)


class SoftMask(Mask):
    """A mask with the squared ``threshold`` of each group and the ``temperature`` at present, 0 where the mask is hard."""

    def __init__(self, method: PDP, mask: Any, stats: Stats) -> None:
        super().__init__(method, mask, stats)
        assert method.ramp is not None
        self.pattern: Pattern = method.parsed
        self.first, self.ramp = method.temperature, method.ramp
        flat = np.zeros((len(mask), mask[0].size), np.float32)
        groups = len(self.pattern.rivals(move.zeros(flat.shape)).numpy())
        self.threshold: Any = Buffer(np.full((groups, 1), OPEN, np.float32))
        self.temperature: Any = Buffer(np.zeros((), np.float32))

    def forward(self, w: Any) -> Tensor:
        shape = (w.shape[0], w.size // w.shape[0])
        size = self.pattern.rivals(math.abs(move.reshape(w, shape)))
        tau = math.maximum(self.temperature, 1e-12)
        chance = activations.sigmoid((size * size - self.threshold) / tau)
        soft = w * move.reshape(self.pattern.spread(chance, shape), w.shape)
        return math.where(self.temperature > 0.0, soft, super().forward(w))

    def advance(self, w: Tensor) -> None:
        super().advance(w)
        begin, end = self.ramp
        left = math.astype(end - self.count, dtypes.float32) / float(end - begin)
        self.temperature = math.where((left > 0.0) & (left < 1.0), left * self.first, 0.0)
        shape = (w.shape[0], w.size // w.shape[0])
        size = self.pattern.rivals(math.abs(move.reshape(w, shape)))
        kept = self.pattern.rivals(math.astype(move.reshape(self.mask, shape), dtypes.float32)) > 0.5
        edge = lambda marks, rest, fold: fold(math.where(marks, size, rest), axis=1, keepdims=True)
        least, most = edge(kept, np.float32(np.inf), reduce.min), edge(~kept, np.float32(-1), reduce.max)
        middle = (least + most) * 0.5
        self.threshold = math.where(most < 0.0, OPEN, middle * middle)


__all__ = ["PDP", "SoftMask"]
