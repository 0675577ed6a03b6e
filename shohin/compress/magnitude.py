"""``Prune``: the slot ``mask``, by magnitude: the smallest weights of a layer are 0, anywhere or n of m."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from shohin.compress.mask import Masking
from shohin.compress.stats import Stats
from shohin.core import dtypes
from shohin.core.errors import PlanError
from shohin.core.tensor import Tensor, as_tensor
from shohin.ops import math, move, reduce
from shohin.transforms.control import while_loop


@dataclass(frozen=True)
class Prune(Masking):
    """The fraction ``sparsity`` of each weight tensor that is least in magnitude is 0; with ``pattern="n:m"`` at most n of every m
    weights in a row (kh kw i of a convolution, in that order) are not.

    >>> Prune(0.75, pattern="2:8", ramp=(0, 2000))
    Prune(ramp=(0, 2000), straight=False, sparsity=0.75, pattern='2:8')

    Source: Han et al. 2015 (arXiv:1506.02626), section 3.1, with a given fraction instead of a threshold; Mishra et al.
    2021 (arXiv:2104.08378) for n:m.
    """

    sparsity: float = 0.5
    pattern: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pattern is not None:
            n, m = self._group()
            if abs(self.sparsity - (1 - n / m)) > 1e-6:
                raise PlanError(
                    f"Prune: pattern {self.pattern} keeps {n} of {m}, sparsity is {self.sparsity}; write "
                    f"Prune({1 - n / m:g}, pattern={self.pattern!r})"
                )

    def _group(self) -> tuple[int, int]:
        found = re.fullmatch(r"(\d+):(\d+)", self.pattern or "")
        if not found or not 0 < int(found[1]) < int(found[2]):
            raise PlanError(f"Prune: pattern is {self.pattern!r}, expected n:m with 0 < n < m, such as '4:8', or None")
        return int(found[1]), int(found[2])

    @property
    def scheme(self) -> str:
        pattern = "" if self.pattern is None else f", {self.pattern}"
        ramp = "" if self.ramp is None else f", from update {self.ramp[0]} to {self.ramp[1]}"
        return f"{self.sparsity:.0%} zeros by magnitude{pattern}{ramp}"

    def keep(self, w: Tensor, stats: Stats, sparsity: Any) -> Tensor:
        if self.pattern is None:
            return largest(w, w.size - _floor(sparsity, w.size))
        m = self._group()[1]
        return largest_of(w, m, m - _floor(sparsity, m))


def _floor(sparsity: Any, size: int) -> Tensor:
    """``sparsity * size`` as int32; a product that is an integer but for its rounding is that integer."""
    return math.astype(math.floor(math.astype(as_tensor(sparsity), dtypes.float64) * float(size) + 1e-6), dtypes.int32)


def largest(w: Any, count: Any) -> Tensor:
    """Marks the ``count`` largest of |w|, at least one; of equal ones the first stay. By bisection, for any size.

    >>> import numpy as np
    >>> largest(np.float32([[1, -3], [2, 1]]), 3).tolist()
    [[True, True], [True, False]]
    """
    w = as_tensor(w)
    size = math.abs(move.reshape(w, (-1,)))
    count = math.maximum(math.astype(as_tensor(count), dtypes.int32), 1)
    above = lambda t: reduce.sum(math.astype(size >= t, dtypes.int32), dtype=dtypes.int32)
    middle = lambda low, high: low + (high - low) * 0.5

    def apart(state: Any) -> Tensor:
        low, high = state
        return (middle(low, high) > low) & (middle(low, high) < high)

    def halve(state: Any) -> Any:
        low, high = state
        enough = above(middle(low, high)) >= count
        return math.where(enough, middle(low, high), low), math.where(enough, high, middle(low, high))

    low, _ = while_loop(apart, halve, (as_tensor(0.0) * size[0], reduce.max(size) * 2.0 + 1e-30))
    more, equal = size > low, size == low
    left = count - reduce.sum(math.astype(more, dtypes.int32), dtype=dtypes.int32)
    first = reduce.cumulative_sum(math.astype(equal, dtypes.int32)) <= left
    return move.reshape(more | (equal & first), w.shape)


def largest_of(w: Any, m: int, count: Any) -> Tensor:
    """Marks in each row (the last dim), of every ``m`` neighbours, the ``count`` largest of |w|; of equal ones the first.

    >>> import numpy as np
    >>> largest_of(np.float32([[1, 3, 2, 1, 5]]), 2, 1).tolist()
    [[False, True, True, False, True]]
    """
    size = math.abs(as_tensor(w))
    rows, terms = size.shape
    whole = -(-terms // m) * m
    groups = move.reshape(move.pad(size, ((0, 0), (0, whole - terms)), -1.0), (rows, whole // m, m))
    parts = [groups[:, :, k : k + 1] for k in range(m)]
    ranks = []
    for k, mine in enumerate(parts):
        beats = [(other >= mine) if j < k else (other > mine) for j, other in enumerate(parts) if j != k]
        ranks.append(sum((math.astype(b, dtypes.int32) for b in beats[1:]), math.astype(beats[0], dtypes.int32)))
    marks = move.concat(ranks, axis=2) < count
    return move.reshape(marks, (rows, whole))[:, :terms]


__all__ = ["Prune", "largest", "largest_of"]
