"""``Linear`` and ``Embedding``."""

from __future__ import annotations

from typing import Any

from shohin.core import dtypes
from shohin.core.cells import Param
from shohin.core.errors import DtypeError
from shohin.core.module import Module
from shohin.core.tensor import Tensor, as_tensor
from shohin.nn import init
from shohin.nn.check import channels, floating, place_of
from shohin.ops import index
from shohin.ops.linear import matmul


class Linear(Module):
    """``x w' + b``.

    Shapes: x (..., in) -> (..., out); weight (out, in), bias (out,), both uniform in ±1/sqrt(in) at the start.

    >>> Linear(3, 2)(index.one_hot(as_tensor([0, 1]), 3)).shape
    (2, 2)
    """

    weight: Any
    bias: Any

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        self.in_features, self.out_features = in_features, out_features
        self.weight = Param(init.kaiming_uniform((out_features, in_features), in_features))
        self.bias = Param(init.kaiming_uniform((out_features,), in_features)) if bias else None

    def forward(self, x: Any) -> Tensor:
        x = floating(self, x, self.weight)
        channels(self, x, self.in_features, "... in")
        y = matmul(x, self.weight, transpose_b=True)
        return y if self.bias is None else y + self.bias


class Embedding(Module):
    """Rows of a table by number.

    Shapes: integer x (...,) in [0, num_embeddings) -> (..., embedding_dim); weight (num_embeddings, embedding_dim), of
    deviation 1 at the start (``init.normal``). A number out of range is an error in eager and clipped when compiled.

    >>> Embedding(10, 4)(as_tensor([1, 2, 3])).shape
    (3, 4)
    """

    weight: Any

    def __init__(self, num_embeddings: int, embedding_dim: int) -> None:
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.weight = Param(init.normal((num_embeddings, embedding_dim)))

    def forward(self, x: Any) -> Tensor:
        i = as_tensor(x)
        if i.dtype not in dtypes.INTEGER:
            raise DtypeError(f"{place_of(self)}: x is {i.aval}, expected integers; write x.astype(sh.int64)")
        return index.take(self.weight, i, axis=0)


__all__ = ["Embedding", "Linear"]
