"""Derivatives of derivatives: ``jacobian`` and ``hessian``, by rows of ``vjp`` over lanes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from shohin.core.errors import GradientError
from shohin.core.tensor import Tensor, as_tensor
from shohin.ops import move
from shohin.transforms.batch import vmap
from shohin.transforms.grad import grad, vjp


def jacobian(f: Callable[[Any], Any]) -> Callable[[Any], Tensor]:
    """The derivative of a tensor by a tensor: shape of the output, then shape of the input.

    >>> jacobian(lambda x: x * x)(as_tensor([1.0, 2.0])).tolist()
    [[2.0, 0.0], [0.0, 4.0]]
    """

    def run(x: Any) -> Tensor:
        x = as_tensor(x)
        y, back = vjp(f, x)
        if not isinstance(y, Tensor):
            raise GradientError(f"jacobian: the function returns {type(y).__name__}, expected one tensor")
        rows = move.reshape(move.asarray(np.eye(y.size, dtype=y.dtype)), (y.size, *y.shape))
        return move.reshape(vmap(lambda ct: back(ct)[0])(rows), (*y.shape, *x.shape))

    return run


def hessian(f: Callable[[Any], Any]) -> Callable[[Any], Tensor]:
    """The second derivatives of a scalar function of a tensor.

    >>> hessian(lambda x: (x * x * x).sum())(as_tensor([1.0, 2.0])).tolist()
    [[6.0, 0.0], [0.0, 12.0]]
    """
    return jacobian(grad(f))
