"""``Prune``: the slot ``mask``, by magnitude: the smallest weights of a layer are 0, anywhere, n of m, or in blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from shohin.compress.scored import Scored
from shohin.compress.slots import Demo
from shohin.compress.stats import Stats
from shohin.core.tensor import Tensor
from shohin.ops import math


@dataclass(frozen=True)
class Prune(Scored):
    """The fraction ``sparsity`` of each weight tensor that is least in magnitude is 0; with ``pattern="n:m"`` at most n of every m
    weights in a row (kh kw i of a convolution, in that order) are not; with ``"AxB"`` blocks of A output channels by B such
    weights leave as a whole, those whose mean square is least.

    >>> Prune(0.75, pattern="2:8", ramp=(0, 2000))
    Prune(ramp=(0, 2000), straight=False, sparsity=0.75, pattern='2:8')

    Source: Han et al. 2015 (arXiv:1506.02626), section 3.1, with a given fraction instead of a threshold; Mishra et al.
    2021 (arXiv:2104.08378) for n:m; Narang et al. 2017 (arXiv:1711.02782) for blocks, with their mean square, not their maximum.
    """

    how: ClassVar[str] = "magnitude"
    demo: ClassVar[Demo] = ({"sparsity": 0.85, "ramp": (0, 600)}, {"sparsity": 0.5, "pattern": "2:4"})

    def score(self, w: Tensor, stats: Stats) -> Tensor:
        return math.abs(w)


__all__ = ["Prune"]
