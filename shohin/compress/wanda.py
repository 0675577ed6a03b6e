"""``Wanda``: the slot ``mask``, after training: weights whose product with their input is smallest are 0."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from shohin.compress.scored import Scored
from shohin.compress.stats import Stats
from shohin.core.tensor import Tensor
from shohin.ops import math


@dataclass(frozen=True)
class Wanda(Scored):
    """In each output channel the fraction ``sparsity`` of the weights is 0 whose ``|w| * norm of their input`` is least.

    The norm is the L2 norm of the input channel over the calibration set; a convolution's taps share that of their channel.
    ``pattern``: ``"n:m"``, and ``"1xB"`` within a row; blocks over several channels compete in the whole tensor.

    >>> Wanda(0.5, pattern="2:4").scheme
    '50% zeros by magnitude times input norm, 2:4'

    Source: Sun et al. 2023 (arXiv:2306.11695), equation 1 and section 3. There layers are pruned one after the other, each
    on the outputs of those before; here all norms are those of the network before.
    """

    how: ClassVar[str] = "magnitude times input norm"
    by_row: ClassVar[bool] = True
    stats: ClassVar[tuple[str, ...]] = ("input_norm",)
    needs_calibration: ClassVar[bool] = True

    def score(self, w: Tensor, stats: Stats) -> Tensor:
        return math.abs(w) * stats.input_norm


__all__ = ["Wanda"]
