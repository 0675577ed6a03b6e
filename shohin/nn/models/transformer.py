"""A transformer encoder that classifies series of frames: keyword spotting without convolutions."""

from __future__ import annotations

from typing import Any

from shohin.core.cells import Param
from shohin.core.errors import ShapeError
from shohin.core.module import Module
from shohin.core.tensor import Tensor
from shohin.nn import init
from shohin.nn.linear import Linear
from shohin.nn.norm import LayerNorm
from shohin.nn.transformer import TransformerEncoderLayer


class KeywordTransformer(Module):
    """Frames projected to ``d_model``, learned positions, pre-norm GELU layers (inner size 4 ``d_model``), a norm, the mean
    over the frames, and a linear head.

    Shapes: x (n, t, features) with t = ``frames`` -> (n, classes). Source: Berg et al. 2021 (KWT), with the mean in place
    of a class token and pre-norm layers.

    >>> from shohin.ops import move
    >>> KeywordTransformer(frames=6, depth=1, d_model=8, heads=2).eval()(move.ones((1, 6, 40))).shape
    (1, 35)
    """

    positions: Any

    def __init__(self, frames: int = 128, features: int = 40, classes: int = 35, depth: int = 6, d_model: int = 192,
                 heads: int = 3, dropout: float = 0.0) -> None:  # fmt: skip
        self.project = Linear(features, d_model)
        self.positions = Param(init.normal((frames, d_model), 0.02))
        self.layers = [
            TransformerEncoderLayer(d_model, heads, 4 * d_model, dropout, "gelu", norm_first=True) for _ in range(depth)
        ]
        self.norm = LayerNorm(d_model)
        self.head = Linear(d_model, classes)

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 3 or x.shape[1] != self.positions.shape[0]:
            raise ShapeError(f"KeywordTransformer: x has shape {x.shape}, expected (n, {self.positions.shape[0]}, features)")
        x = self.project(x) + self.positions
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x).mean(axis=1))


__all__ = ["KeywordTransformer"]
