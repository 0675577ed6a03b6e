"""``TransformerEncoderLayer``: self-attention and a small network on every token, each with a residual and a norm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from shohin.core.module import Module
from shohin.core.tensor import Tensor
from shohin.nn.attention import MultiheadAttention
from shohin.nn.functional import dropout, gelu, relu
from shohin.nn.linear import Linear
from shohin.nn.norm import LayerNorm

ACTIVATIONS: dict[str, Callable[[Any], Tensor]] = {"relu": relu, "gelu": gelu}


class TransformerEncoderLayer(Module):
    """Self-attention, then ``linear2(activation(linear1(x)))``, each added to its input.

    Shapes: src (n, t, d_model) -> the same; ``src_mask`` as ``mask`` of ``MultiheadAttention``. ``norm_first``: the norms
    stand before the parts (pre-norm), else behind the sums. Names and defaults as in PyTorch, but always batch first,
    and dropout in the attention acts on the heads' output. Sources: Vaswani et al. 2017; Xiong et al. 2020 (pre-norm).

    >>> from shohin.ops import move
    >>> TransformerEncoderLayer(8, 2, 16, norm_first=True).eval()(move.ones((1, 5, 8))).shape
    (1, 5, 8)
    """

    def __init__(self, d_model: int, nhead: int, dim_feedforward: int = 2048, dropout: float = 0.1,
                 activation: str | Callable[[Any], Tensor] = "relu", layer_norm_eps: float = 1e-5,
                 norm_first: bool = False, bias: bool = True) -> None:  # fmt: skip
        if isinstance(activation, str) and activation not in ACTIVATIONS:
            raise ValueError(f"TransformerEncoderLayer: activation is {activation!r}, expected 'relu', 'gelu' or a function")
        self.self_attn = MultiheadAttention(d_model, nhead, dropout=dropout, bias=bias)
        self.linear1 = Linear(d_model, dim_feedforward, bias=bias)
        self.linear2 = Linear(dim_feedforward, d_model, bias=bias)
        self.norm1 = LayerNorm(d_model, eps=layer_norm_eps, bias=bias)
        self.norm2 = LayerNorm(d_model, eps=layer_norm_eps, bias=bias)
        self.dropout, self.norm_first, self.activation = dropout, norm_first, activation

    def forward(self, src: Any, src_mask: Any = None) -> Tensor:
        if self.norm_first:
            x = src + self._attend(self.norm1(src), src_mask)
            return x + self._feed(self.norm2(x))
        x = self.norm1(src + self._attend(src, src_mask))
        return self.norm2(x + self._feed(x))

    def _attend(self, x: Any, mask: Any) -> Tensor:
        return dropout(self.self_attn(x, mask=mask), self.dropout, training=self.training)

    def _feed(self, x: Any) -> Tensor:
        act = ACTIVATIONS[self.activation] if isinstance(self.activation, str) else self.activation
        hidden = dropout(act(self.linear1(x)), self.dropout, training=self.training)
        return dropout(self.linear2(hidden), self.dropout, training=self.training)


__all__ = ["TransformerEncoderLayer"]
