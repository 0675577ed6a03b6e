"""``MultiheadAttention`` and ``SqueezeExcite``: layers that weigh what passes by what they see."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from shohin.core.cells import Param
from shohin.core.errors import ShapeError
from shohin.core.module import Module
from shohin.core.tensor import Tensor, as_tensor
from shohin.nn import init
from shohin.nn.check import channels, floating
from shohin.nn.conv import Conv2d
from shohin.nn.functional import attention, dropout
from shohin.nn.linear import Linear
from shohin.nn.simple import ReLU, Sigmoid
from shohin.ops import move, reduce
from shohin.ops.linear import matmul


class MultiheadAttention(Module):
    """Attention of several heads between projections.

    Shapes: query (n, t, e), key and value (n, s, e) -> (n, t, e); ``mask``, bool (t, s) or broadcastable to
    (n, heads, t, s), is True where a query may look. ``key`` and ``value`` are the query by default (self-attention).
    Weights as in PyTorch: in_proj_weight (3 e, e), Xavier uniform; in_proj_bias (3 e,) and out_proj.bias, zero.
    Where this differs: always batch first, and the result is the output alone. ``dropout`` applies to the output of the
    heads, not to the probabilities, so that attention stays one op. Source: Vaswani et al. 2017, section 3.2.2.

    >>> MultiheadAttention(8, 2)(move.ones((1, 5, 8)), causal=True).shape
    (1, 5, 8)
    """

    in_proj_weight: Any
    in_proj_bias: Any

    def __init__(self, embed_dim: int, num_heads: int, dropout: float = 0.0, bias: bool = True) -> None:
        if embed_dim % num_heads:
            raise ShapeError(f"MultiheadAttention: embed_dim {embed_dim} does not divide into {num_heads} heads")
        self.embed_dim, self.num_heads, self.dropout = embed_dim, num_heads, dropout
        self.in_proj_weight = Param(init.xavier_uniform((3 * embed_dim, embed_dim), embed_dim, 3 * embed_dim))
        self.in_proj_bias = Param(np.zeros(3 * embed_dim, np.float32)) if bias else None
        self.out_proj = Linear(embed_dim, embed_dim, bias=bias)
        if bias:
            self.out_proj.bias = Param(np.zeros(embed_dim, np.float32))

    def forward(
        self, query: Any, key: Any = None, value: Any = None, mask: Any = None, *, causal: bool = False
    ) -> Tensor:
        q = floating(self, query, self.in_proj_weight)
        channels(self, q, self.embed_dim, "n t e")
        k = q if key is None else floating(self, key, self.in_proj_weight)
        v = k if value is None else floating(self, value, self.in_proj_weight)
        for t in (k, v):
            channels(self, t, self.embed_dim, "n s e")
        q_k_v = [self._split(self._project(t, i)) for i, t in enumerate((q, k, v))]
        y = attention(q_k_v[0], q_k_v[1], q_k_v[2], None if mask is None else as_tensor(mask), causal=causal)
        y = dropout(y, self.dropout, training=self.training)
        return self.out_proj(move.reshape(move.permute_dims(y, (0, 2, 1, 3)), (*q.shape[:-1], -1)))

    def _project(self, x: Tensor, part: int) -> Tensor:
        """Queries, keys or values: a matmul each, so that gradients of slices are those of weights, not of activations."""
        y = matmul(x, move.reshape(self.in_proj_weight, (3, -1, self.embed_dim))[part], transpose_b=True)
        return y if self.in_proj_bias is None else y + move.reshape(self.in_proj_bias, (3, -1))[part]

    def _split(self, x: Tensor) -> Tensor:
        """(n, t, e) -> (n, heads, t, e / heads)."""
        n, t, e = x.shape
        return move.permute_dims(move.reshape(x, (n, t, self.num_heads, e // self.num_heads)), (0, 2, 1, 3))


class SqueezeExcite(Module):
    """Channels scaled by what a small network makes of their means.

    Shapes: x (n, h, w, c) -> the same; two 1x1 convolutions ``fc1`` (c to squeeze) and ``fc2`` (back).
    ``squeeze_channels`` is c // 4 by default. MobileNetV3 takes ``scale_activation=Hardsigmoid``. Source: Hu et al.
    2017.

    >>> SqueezeExcite(8)(move.ones((1, 4, 4, 8))).shape
    (1, 4, 4, 8)
    """

    def __init__(self, input_channels: int, squeeze_channels: int | None = None, activation: Callable[[], Any] = ReLU,
                 scale_activation: Callable[[], Any] = Sigmoid) -> None:  # fmt: skip
        inner = max(1, input_channels // 4) if squeeze_channels is None else squeeze_channels
        self.fc1, self.activation = Conv2d(input_channels, inner, 1), activation()
        self.fc2, self.scale_activation = Conv2d(inner, input_channels, 1), scale_activation()

    def forward(self, x: Any) -> Tensor:
        x = floating(self, x, self.fc1.weight)
        means = reduce.mean(x, axis=(1, 2), keepdims=True) if x.ndim == 4 else x
        return x * self.scale_activation(self.fc2(self.activation(self.fc1(means))))


__all__ = ["MultiheadAttention", "SqueezeExcite"]
