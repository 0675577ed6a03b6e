"""Initial values, drawn from the default generator by exactly rounded operations: the same bits on every machine."""

from __future__ import annotations

import math
from collections.abc import Sequence

from shohin.core import dtypes
from shohin.core.tensor import Tensor
from shohin.ops import math as ops
from shohin.ops import random, reduce


def uniform(shape: Sequence[int], bound: float) -> Tensor:
    """float32 in ``[-bound, bound)``: ``(u - 1/2) * 2 bound``, where u - 1/2 is exact and the product rounds once.

    >>> uniform((2, 3), 0.5).shape
    (2, 3)
    """
    return (random.uniform(tuple(shape)) - 0.5) * (2 * bound)


def kaiming_uniform(shape: Sequence[int], fan_in: int) -> Tensor:
    """PyTorch's default for weights, ``kaiming_uniform_(a=sqrt(5))``: bound 1 / sqrt(fan_in).

    Source: He et al. 2015, with the slope that PyTorch chose.
    """
    return uniform(shape, 1 / math.sqrt(fan_in) if fan_in else 0.0)


def xavier_uniform(shape: Sequence[int], fan_in: int, fan_out: int) -> Tensor:
    """Bound sqrt(6 / (fan_in + fan_out)). Source: Glorot and Bengio 2010."""
    return uniform(shape, math.sqrt(6 / (fan_in + fan_out)))


def normal(shape: Sequence[int], std: float = 1.0) -> Tensor:
    """float32 of mean 0 and deviation ``std``: the sum of 12 uniform numbers, less 6 (Irwin 1927, Hall 1927).

    The sum is of integers, so no logarithm or cosine of a library enters a checkpoint. Where this differs from a
    normal: nothing lies beyond 6 ``std``, and the kurtosis is 2.9.

    >>> abs(float(normal((1000,)).std()) - 1) < 0.1
    True
    """
    words = ops.astype(random.bits((12, *shape)) >> 8, dtypes.int32)
    total = reduce.sum(words, axis=0, dtype=dtypes.int32) - (6 << 24)
    z = ops.astype(total, dtypes.float32) * (1.0 / (1 << 24))
    return z if std == 1.0 else z * std
