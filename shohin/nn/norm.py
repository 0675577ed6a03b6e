"""Normalization: composites on mean and variance (``moments``), and the layers that hold their parameters."""

from __future__ import annotations

import math as _math
from collections.abc import Sequence
from typing import Any

import numpy as np

from shohin.core.cells import Buffer, Param
from shohin.core.errors import ShapeError
from shohin.core.module import Module
from shohin.core.op import Quant
from shohin.core.tensor import Tensor, as_tensor
from shohin.nn.check import channels, floating, place_of
from shohin.ops import math, move, reduce
from shohin.ops.composite import composite

# ------------------------------------------------------------------------------------------------ functions


def _affine(y: Tensor, gamma: Tensor | None, beta: Tensor | None) -> Tensor:
    y = y if gamma is None else y * gamma
    return y if beta is None else y + beta


@composite("batch_norm", quant=Quant("rule", rule="Q6 batch norm"), source="Ioffe and Szegedy 2015, algorithms 1 and 2")
def _batch_norm(x: Any, gamma: Any, beta: Any, mean: Any = None, var: Any = None, *, training: bool, eps: float) -> Any:
    if not training:
        return _affine((x - mean) * _scale(var, gamma, eps), None, beta)
    mean, var = reduce.moments(x, axis=range(x.ndim - 1))
    return _affine((x - mean) * _scale(var, gamma, eps), None, beta), mean, var


def _scale(var: Tensor, gamma: Tensor | None, eps: float) -> Tensor:
    return (1 if gamma is None else gamma) / math.sqrt(var + eps)


def _rstd(var: Tensor, eps: float) -> Tensor:
    """One division a row; what is normalized is then cheap to make again in the backward pass."""
    return 1 / math.sqrt(var + eps)


def batch_norm(
    x: Any,
    gamma: Any = None,
    beta: Any = None,
    mean: Any = None,
    var: Any = None,
    *,
    training: bool = False,
    eps: float = 1e-5,
) -> Any:
    """``(x - mean) gamma / sqrt(var + eps) + beta``, a mean and variance a channel.

    Shapes: x (..., c), the others (c,). Training: the statistics are those of x over all dims but the last, and the
    result is (y, mean, biased variance). Evaluation: they are the operands ``mean`` and ``var``, and the result is y.

    >>> y, mean, var = batch_norm(move.asarray([[1.0], [3.0]]), training=True, eps=0.0)
    >>> y.tolist(), mean.tolist(), var.tolist()
    ([[-1.0], [1.0]], [2.0], [1.0])
    """
    given = [None if t is None else as_tensor(t) for t in ((gamma, beta) if training else (gamma, beta, mean, var))]
    if not training and (mean is None or var is None):
        raise ShapeError("batch_norm: evaluation needs mean and var")
    return _batch_norm(as_tensor(x), *given, training=training, eps=eps)


@composite("layer_norm", quant=Quant("rule", rule="Q12 layer norm"), source="Ba et al. 2016")
def _layer_norm(x: Any, gamma: Any = None, beta: Any = None, *, dims: int, eps: float) -> Tensor:
    mean, var = reduce.moments(x, axis=range(x.ndim - dims, x.ndim), keepdims=True)
    return _affine((x - mean) * _rstd(var, eps), gamma, beta)


def layer_norm(x: Any, gamma: Any = None, beta: Any = None, *, dims: int = 1, eps: float = 1e-5) -> Tensor:
    """``(x - mean) / sqrt(var + eps) * gamma + beta`` over the last ``dims`` dims of each example.

    >>> layer_norm(move.asarray([1.0, 3.0]), eps=0.0).tolist()
    [-1.0, 1.0]
    """
    return _layer_norm(as_tensor(x), gamma, beta, dims=dims, eps=eps)


@composite("rms_norm", quant=Quant("rule", rule="Q12 rms norm"), source="Zhang and Sennrich 2019")
def _rms_norm(x: Any, gamma: Any = None, *, dims: int, eps: float) -> Tensor:
    mean = reduce.mean(x * x, axis=range(x.ndim - dims, x.ndim), keepdims=True)
    return _affine(x * _rstd(mean, eps), gamma, None)


def rms_norm(x: Any, gamma: Any = None, *, dims: int = 1, eps: float = 1e-5) -> Tensor:
    """``x / sqrt(mean(x^2) + eps) * gamma`` over the last ``dims`` dims of each example.

    >>> rms_norm(move.asarray([3.0, -3.0]), eps=0.0).tolist()
    [1.0, -1.0]
    """
    return _rms_norm(as_tensor(x), gamma, dims=dims, eps=eps)


@composite("group_norm", quant=Quant("rule", rule="Q12 group norm"), source="Wu and He 2018")
def _group_norm(x: Any, gamma: Any = None, beta: Any = None, *, groups: int, eps: float) -> Tensor:
    n, c = x.shape[0], x.shape[-1]
    rows = move.reshape(x, (n, _math.prod(x.shape[1:-1]), groups, c // groups))
    mean, var = reduce.moments(rows, axis=(1, 3), keepdims=True)
    return _affine(move.reshape((rows - mean) * _rstd(var, eps), x.shape), gamma, beta)


def group_norm(x: Any, groups: int, gamma: Any = None, beta: Any = None, *, eps: float = 1e-5) -> Tensor:
    """``(x - mean) / sqrt(var + eps) * gamma + beta`` over each example's positions and each group of channels.

    Shapes: x (n, ..., c), gamma and beta (c,); ``groups`` divides c. One group a channel is instance norm.

    >>> group_norm(move.asarray([[[1.0, 5.0], [3.0, 5.0]]]), 2, eps=1.0).shape
    (1, 2, 2)
    """
    tensor = as_tensor(x)
    if tensor.ndim < 2 or tensor.shape[-1] % groups:
        raise ShapeError(f"group_norm: x is {tensor.aval}; expected (n, ..., c) with c divisible by {groups} groups")
    return _group_norm(tensor, gamma, beta, groups=groups, eps=eps)


@composite("l2_norm", quant=Quant("rule", rule="Q12 l2 norm"), source="the Euclidean norm")
def _l2_norm(x: Any, *, axis: int, eps: float) -> Tensor:
    return x / math.maximum(math.sqrt(reduce.sum(x * x, axis=axis, keepdims=True)), eps)


def l2_norm(x: Any, *, axis: int = -1, eps: float = 1e-12) -> Tensor:
    """``x / max(sqrt(sum(x^2)), eps)`` along ``axis``: vectors of length 1. PyTorch's ``functional.normalize``.

    >>> l2_norm(move.asarray([3.0, 4.0])).tolist()
    [0.6000000238418579, 0.800000011920929]
    """
    return _l2_norm(as_tensor(x), axis=axis, eps=eps)


# ------------------------------------------------------------------------------------------------ layers


def _ones(shape: int | tuple[int, ...]) -> Param:
    return Param(np.ones(shape, np.float32))


def _zeros(shape: int | tuple[int, ...]) -> Param:
    return Param(np.zeros(shape, np.float32))


class _BatchNorm(Module):
    _layout = ""
    weight: Any
    bias: Any
    running_mean: Any
    running_var: Any

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1, affine: bool = True) -> None:
        if not 0 <= momentum <= 1:
            raise ValueError(
                f"{type(self).__name__}: momentum is {momentum!r}, expected a number in [0, 1] (the weight of "
                "the new batch)"
            )
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.weight, self.bias = (_ones(num_features), _zeros(num_features)) if affine else (None, None)
        self.running_mean = Buffer(np.zeros(num_features, np.float32))
        self.running_var = Buffer(np.ones(num_features, np.float32))

    def forward(self, x: Any) -> Tensor:
        x = floating(self, x, self.running_mean)
        if not (x.ndim == 2 and "l" in self._layout.split()):
            channels(self, x, self.num_features, self._layout)
        else:
            channels(self, x, self.num_features, "n c")
        if not self.training:
            return batch_norm(x, self.weight, self.bias, self.running_mean, self.running_var, eps=self.eps)
        n = _math.prod(x.shape[:-1])
        if n < 2:
            raise ShapeError(f"{place_of(self)}: training needs more than one value a channel, x has shape {x.shape}")
        y, mean, var = batch_norm(x, self.weight, self.bias, training=True, eps=self.eps)
        m = self.momentum
        self.running_mean = self._mixed(self.running_mean, mean, m)
        self.running_var = self._mixed(self.running_var, var * (n / (n - 1)), m)
        return y

    @staticmethod
    def _mixed(old: Tensor, new: Tensor, momentum: float) -> Tensor:
        return old * (1 - momentum) + math.astype(new, old.dtype) * momentum


class BatchNorm2d(_BatchNorm):
    """Batch normalization of images, a mean and variance a channel.

    Shapes: x (n, h, w, c) -> the same; weight, bias, running_mean, running_var (c,). PyTorch's conventions: the
    running value moves by ``momentum`` of the difference, the running variance is the unbiased one; the
    biased one normalizes. In training mode it writes its Buffers, so lanes of ``vmap`` refuse it.
    Source: Ioffe and Szegedy 2015.

    >>> norm = BatchNorm2d(3)
    >>> norm(move.ones((2, 4, 4, 3))).shape
    (2, 4, 4, 3)
    >>> [round(v, 2) for v in norm.running_mean.tolist()]
    [0.1, 0.1, 0.1]
    """

    _layout = "n h w c"


class BatchNorm1d(_BatchNorm):
    """Batch normalization of vectors or series; otherwise as ``BatchNorm2d``.

    Shapes: x (n, c) or (n, l, c) -> the same.

    >>> BatchNorm1d(3)(move.ones((2, 3))).tolist()
    [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    """

    _layout = "n l c"


def _shape_of(value: int | Sequence[int]) -> tuple[int, ...]:
    return (value,) if isinstance(value, int) else tuple(value)


class _Trailing(Module):
    """A norm over the last dims, which must be ``normalized_shape``."""

    normalized_shape: tuple[int, ...]
    weight: Any

    def _checked(self, x: Any) -> Tensor:
        x, dims = floating(self, x, self.weight), len(self.normalized_shape)
        if x.shape[x.ndim - dims :] != self.normalized_shape:
            raise ShapeError(
                f"{place_of(self)}: x has shape {x.shape}, expected (..., {', '.join(map(str, self.normalized_shape))})"
            )
        return x

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}"


class LayerNorm(_Trailing):
    """Layer normalization over the last dims, those of ``normalized_shape``.

    Shapes: x (..., *normalized_shape) -> the same; weight and bias have ``normalized_shape``. Source: Ba et al. 2016.

    >>> LayerNorm(4)(move.ones((2, 4))).tolist()[0]
    [0.0, 0.0, 0.0, 0.0]
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
    ) -> None:
        self.normalized_shape, self.eps = _shape_of(normalized_shape), eps
        self.weight = _ones(self.normalized_shape) if elementwise_affine else None
        self.bias = _zeros(self.normalized_shape) if elementwise_affine and bias else None

    def forward(self, x: Any) -> Tensor:
        return layer_norm(self._checked(x), self.weight, self.bias, dims=len(self.normalized_shape), eps=self.eps)


class RMSNorm(_Trailing):
    """Root mean square normalization over the last dims.

    Shapes: x (..., *normalized_shape) -> the same; weight has ``normalized_shape``. ``eps`` None is the dtype's machine
    epsilon, as in PyTorch. Source: Zhang and Sennrich 2019.

    >>> RMSNorm(2, eps=0.0)(move.asarray([[2.0, -2.0]])).tolist()
    [[1.0, -1.0]]
    """

    def __init__(
        self, normalized_shape: int | Sequence[int], eps: float | None = None, elementwise_affine: bool = True
    ) -> None:
        self.normalized_shape = _shape_of(normalized_shape)
        self.eps = float(np.finfo(np.float32).eps) if eps is None else eps
        self.weight = _ones(self.normalized_shape) if elementwise_affine else None

    def forward(self, x: Any) -> Tensor:
        return rms_norm(self._checked(x), self.weight, dims=len(self.normalized_shape), eps=self.eps)


class GroupNorm(Module):
    """Normalization over each example's positions and each of ``num_groups`` groups of channels.

    Shapes: x (n, ..., c) -> the same; weight and bias (c,). Source: Wu and He 2018.

    >>> GroupNorm(2, 4)(move.ones((1, 3, 3, 4))).shape
    (1, 3, 3, 4)
    """

    weight: Any
    bias: Any

    def __init__(self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True) -> None:
        if num_channels % num_groups:
            raise ShapeError(f"GroupNorm: {num_channels} channels do not divide into {num_groups} groups")
        self.num_groups, self.num_channels, self.eps = num_groups, num_channels, eps
        self.weight, self.bias = (_ones(num_channels), _zeros(num_channels)) if affine else (None, None)

    def forward(self, x: Any) -> Tensor:
        x = floating(self, x, self.weight)
        channels(self, x, self.num_channels, "n ... c")
        return group_norm(x, self.num_groups, self.weight, self.bias, eps=self.eps)


__all__ = [
    "BatchNorm1d",
    "BatchNorm2d",
    "GroupNorm",
    "LayerNorm",
    "RMSNorm",
    "batch_norm",
    "group_norm",
    "l2_norm",
    "layer_norm",
    "rms_norm",
]
