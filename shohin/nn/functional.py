"""Functions of tensors that layers are made of: activations, softmax, attention, dropout.

Those that stand for one thing to a quantizer or a kernel are composites: their name survives in a trace.
"""

from __future__ import annotations

import math as _math
from typing import Any

import numpy as np

from shohin.core.errors import ShapeError
from shohin.core.op import Quant
from shohin.core.tensor import Tensor, as_tensor
from shohin.ops import math, move, random, reduce
from shohin.ops.activations import elu, gelu, hardsigmoid, hardswish, leaky_relu, silu, stop_gradient
from shohin.ops.composite import composite
from shohin.ops.kinds import Function
from shohin.ops.linear import avg_pool2d, conv2d, matmul, max_pool2d

relu: Function = math.relu
relu6: Function = math.relu6
sigmoid: Function = math.sigmoid
tanh: Function = math.tanh


def _centred(x: Tensor, axis: int) -> Tensor:
    """``x`` less its largest element, which is a constant for derivatives: softmax does not depend on it."""
    return x - stop_gradient(reduce.max(x, axis=axis, keepdims=True))


@composite("softmax", quant=Quant("rule", rule="Q12 softmax"), source="Bridle 1990")
def _softmax(x: Any, *, axis: int) -> Tensor:
    e = math.exp(_centred(x, axis))
    return e * (1 / reduce.sum(e, axis=axis, keepdims=True))  # one division a row, in the backward pass too


@composite(
    "log_softmax",
    quant=Quant.refuse("log-softmax has no integer definition; leave it to the host"),
    source="Bridle 1990",
)
def _log_softmax(x: Any, *, axis: int) -> Tensor:
    z = _centred(x, axis)
    return z - math.log(reduce.sum(math.exp(z), axis=axis, keepdims=True))


def softmax(x: Any, /, *, axis: int = -1) -> Tensor:
    """``exp(x) / sum(exp(x))`` along ``axis``, stable; the shape stays.

    >>> softmax(as_tensor([0.0, 0.0])).tolist()
    [0.5, 0.5]
    """
    return _softmax(as_tensor(x), axis=axis)


def log_softmax(x: Any, /, *, axis: int = -1) -> Tensor:
    """``x - log(sum(exp(x)))`` along ``axis``, stable; the shape stays.

    >>> [round(v, 4) for v in log_softmax(as_tensor([0.0, 0.0])).tolist()]
    [-0.6931, -0.6931]
    """
    return _log_softmax(as_tensor(x), axis=axis)


@composite("attention", quant=Quant("rule", rule="Q12 attention"), source="Vaswani et al. 2017, section 3.2.1", slices=2, recompute=True)
def _attention(q: Any, k: Any, v: Any, mask: Any = None, *, causal: bool, scale: float, max_keys: int | None) -> Tensor:
    scores = matmul(q, k, transpose_b=True) * scale
    rows, keys = scores.shape[-2:]
    allowed = mask
    if causal:
        triangle = move.asarray(np.tril(np.ones((rows, keys), bool), keys - rows))
        allowed = triangle if mask is None else mask & triangle
    if allowed is not None:
        scores = math.where(
            allowed, scores, float(np.finfo(np.float16 if scores.dtype.itemsize == 2 else np.float32).min) / 2
        )
    return matmul(softmax(scores, axis=-1), v)


def attention(q: Any, k: Any, v: Any, mask: Any = None, *, causal: bool = False, scale: float | None = None,
              max_keys: int | None = None) -> Tensor:  # fmt: skip
    """Scaled dot product attention: ``softmax(q k' * scale) v``.

    Shapes: q (..., t, d), k (..., s, d), v (..., s, e) -> (..., t, e); ``mask``, bool (..., t, s), is True where a
    query may look. ``causal``: query i sees keys up to i + s - t. ``scale`` is 1 / sqrt(d) by default.
    A query that may look nowhere gets the mean of v (PyTorch: NaN), quantized zero. ``max_keys`` matters to integers only: how many
    keys there may ever be, so that a cache of keys that grows gives the integers of the causal pass.

    >>> q = move.zeros((1, 2, 4))
    >>> attention(q, q, move.asarray([[[1.0], [3.0]]]), causal=True).tolist()
    [[[1.0], [2.0]]]
    """
    q, k, v = as_tensor(q), as_tensor(k), as_tensor(v)
    if min(q.ndim, k.ndim, v.ndim) < 2 or q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2]:
        raise ShapeError(
            f"attention: q {q.shape}, k {k.shape}, v {v.shape} do not fit; expected (..., t, d), (..., s, "
            "d), (..., s, e)"
        )
    s = 1 / _math.sqrt(q.shape[-1]) if scale is None else float(scale)
    return _attention(q, k, v, None if mask is None else as_tensor(mask), causal=causal, scale=s, max_keys=max_keys)


def dropout(x: Any, p: float = 0.5, *, training: bool = True) -> Tensor:
    """In training each element is zero with probability ``p`` and otherwise divided by ``1 - p``.

    Source: Srivastava et al. 2014. The numbers come from the default generator, one draw an element.

    >>> dropout(move.ones((3,)), 0.9, training=False).tolist()
    [1.0, 1.0, 1.0]
    """
    tensor = as_tensor(x)
    if not 0 <= p <= 1:
        raise ValueError(f"dropout: p is {p}, expected a probability in [0, 1]")
    if not training or p == 0:
        return tensor
    if p == 1:
        return math.zeros_like(tensor)
    keep = math.greater_equal(random.uniform(tensor.shape), p)
    return math.where(keep, tensor * (1 / (1 - p)), math.zeros_like(tensor))


__all__ = [
    "attention", "avg_pool2d", "conv2d", "dropout", "elu", "gelu", "hardsigmoid", "hardswish", "leaky_relu",
    "log_softmax", "max_pool2d", "relu", "relu6", "sigmoid", "silu", "softmax", "stop_gradient", "tanh",
]  # fmt: skip
