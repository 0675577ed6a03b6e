"""Activations that have no op of their own here: plain functions of tensors, as the tables of origins use them."""

from __future__ import annotations

from typing import Any

from shohin.nn import functional as F
from shohin.ops import math


def softplus(x: Any) -> Any:
    """``log(1 + exp(x))``, stable."""
    return math.relu(x) + math.log1p(math.exp(-math.abs(x)))


def softsign(x: Any) -> Any:
    return x / (1 + math.abs(x))


def mish(x: Any) -> Any:
    return x * math.tanh(softplus(x))


def celu(x: Any, alpha: float) -> Any:
    return F.elu(x / alpha) * alpha


def selu(x: Any, alpha: float = 1.6732632423543772, gamma: float = 1.0507009873554805) -> Any:
    return F.elu(x, alpha) * gamma


def thresholded(x: Any, alpha: float) -> Any:
    return math.where(math.greater(x, alpha), x, math.zeros_like(x))


def prelu(x: Any, slope: Any) -> Any:
    return math.where(math.less(x, 0), x * slope, x)


def shrink(x: Any, lambd: float, bias: float) -> Any:
    """Towards zero by ``bias``, and zero within ``lambd``."""
    zero = math.zeros_like(x)
    return math.where(math.less(x, -lambd), x + bias, math.where(math.greater(x, lambd), x - bias, zero))


__all__ = ["celu", "mish", "prelu", "selu", "shrink", "softplus", "softsign", "thresholded"]
