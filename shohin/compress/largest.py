"""The largest of some scores, marked, in ops that compile: what masks are made of. Of equal scores the first stay."""

from __future__ import annotations

from typing import Any

from shohin.core import dtypes
from shohin.core.tensor import Tensor, as_tensor
from shohin.ops import math, move, reduce
from shohin.transforms.control import while_loop


def largest(w: Any, count: Any) -> Tensor:
    """Marks the ``count`` largest of |w|, at least one.

    >>> import numpy as np
    >>> largest(np.float32([[1, -3], [2, 1]]), 3).tolist()
    [[True, True], [True, False]]
    """
    w = as_tensor(w)
    return move.reshape(largest_in_rows(math.abs(move.reshape(w, (1, -1))), count), w.shape)


def largest_in_rows(scores: Any, count: Any) -> Tensor:
    """Marks in each row of ``scores`` (rows, n), none negative, the ``count`` largest, at least one. By bisection, for any size.

    >>> import numpy as np
    >>> largest_in_rows(np.float32([[1, 3, 2], [4, 4, 0]]), 1).tolist()
    [[False, True, False], [True, False, False]]
    """
    size = as_tensor(scores)
    count = math.maximum(math.astype(as_tensor(count), dtypes.int32), 1)
    number = lambda marks: reduce.sum(math.astype(marks, dtypes.int32), axis=1, keepdims=True, dtype=dtypes.int32)
    middle = lambda low, high: low + (high - low) * 0.5

    def apart(state: Any) -> Tensor:
        low, high = state
        return reduce.any((middle(low, high) > low) & (middle(low, high) < high))

    def halve(state: Any) -> Any:
        low, high = state
        enough = number(size >= middle(low, high)) >= count
        return math.where(enough, middle(low, high), low), math.where(enough, high, middle(low, high))

    start = size[:, :1] * 0.0, reduce.max(size, axis=1, keepdims=True) * 2.0 + 1e-30
    low, _ = while_loop(apart, halve, start)
    more, equal = size > low, size == low
    first = reduce.cumulative_sum(math.astype(equal, dtypes.int32), axis=1) <= count - number(more)
    return more | (equal & first)


def most_of_each(groups: Tensor, count: Any) -> Tensor:
    """Marks in each row of ``groups`` (rows, m) the ``count`` largest, by comparing each pair: for a small m.

    >>> import numpy as np
    >>> most_of_each(as_tensor(np.float32([[1, 3, 3], [2, 1, 5]])), 1).tolist()
    [[False, True, False], [False, False, True]]
    """
    m = groups.shape[1]
    parts = [groups[:, k : k + 1] for k in range(m)]
    ranks = []
    for k, mine in enumerate(parts):
        beats = [(other >= mine) if j < k else (other > mine) for j, other in enumerate(parts) if j != k]
        ranks.append(sum((math.astype(b, dtypes.int32) for b in beats[1:]), math.astype(beats[0], dtypes.int32)))
    return move.concat(ranks, axis=1) < count


__all__ = ["largest", "largest_in_rows", "most_of_each"]
