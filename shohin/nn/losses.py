"""Losses, and ``accuracy``. A loss is a composite that a quantizer refuses: it runs in training only."""

from __future__ import annotations

from typing import Any

import numpy as np

from shohin.core import dtypes
from shohin.core.errors import DtypeError, ShapeError
from shohin.core.op import Quant
from shohin.core.tensor import Tensor, as_tensor
from shohin.nn.functional import log_softmax
from shohin.ops import math, move, reduce
from shohin.ops.composite import composite

_LOSS = Quant.refuse("a loss runs in training only")


def _reduced(values: Tensor, reduction: str, name: str) -> Tensor:
    match reduction:
        case "mean":
            return reduce.mean(values)
        case "sum":
            return reduce.sum(values)
        case "none":
            return values
        case _:
            raise ValueError(f"{name}: reduction is {reduction!r}, expected 'mean', 'sum' or 'none'")


@composite("cross_entropy", quant=_LOSS, source="Szegedy et al. 2016, section 7, for label smoothing")
def _cross_entropy(x: Any, labels: Any, *, label_smoothing: float) -> Tensor:
    logp = log_softmax(x)
    numbers = move.asarray(np.arange(x.shape[-1], dtype=labels.dtype))
    hit = math.equal(move.expand_dims(labels, axis=-1), numbers)
    picked = -reduce.sum(math.where(hit, logp, math.zeros_like(logp)), axis=-1)
    if not label_smoothing:
        return picked
    return picked * (1 - label_smoothing) - reduce.mean(logp, axis=-1) * label_smoothing


def cross_entropy(logits: Any, y: Any, *, label_smoothing: float = 0.0, reduction: str = "mean") -> Tensor:
    """``-log softmax(logits)[y]``, stable.

    Shapes: logits (..., c), integer labels y (...,) in [0, c) -> a scalar, or (...,) with ``reduction="none"``.
    ``label_smoothing`` e mixes the label's distribution with the uniform one: (1 - e) and e / c.

    >>> round(float(cross_entropy(move.zeros((2, 4)), move.asarray([0, 3]))), 4)
    1.3863
    """
    x, labels = as_tensor(logits), as_tensor(y)
    if labels.dtype not in dtypes.INTEGER:
        raise DtypeError(f"cross_entropy: y is {labels.aval}, expected integer labels; write y.astype(sh.int64)")
    if x.ndim < 1 or x.shape[:-1] != labels.shape:
        raise ShapeError(
            f"cross_entropy: logits are {x.aval} and y is {labels.aval}; expected (..., classes) and (...,)"
        )
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"cross_entropy: label_smoothing is {label_smoothing}, expected a number in [0, 1)")
    if labels.frame is None and labels.size and not 0 <= labels.data.min() <= labels.data.max() < x.shape[-1]:
        row = int(np.flatnonzero((labels.data < 0) | (labels.data >= x.shape[-1]))[0])
        raise ShapeError(
            f"cross_entropy: label {row} is {int(labels.data.reshape(-1)[row])}, expected 0 to {x.shape[-1] - 1}"
        )
    return _reduced(_cross_entropy(x, labels, label_smoothing=float(label_smoothing)), reduction, "cross_entropy")


def _pair(output: Any, y: Any, name: str) -> tuple[Tensor, Tensor]:
    a, b = as_tensor(output), as_tensor(y)
    if a.shape != b.shape:  # broadcasting (n, 1) against (n,) is a silent bug in other frameworks
        raise ShapeError(
            f"{name}: output is {a.aval} and y is {b.aval}; shapes must be equal, write y.reshape({a.shape})"
        )
    return a, b


@composite("mse_loss", quant=_LOSS, source="Legendre 1805")
def _mse(a: Any, b: Any) -> Tensor:
    d = a - b
    return d * d


def mse_loss(output: Any, y: Any, *, reduction: str = "mean") -> Tensor:
    """``(output - y)^2``; output and y have one shape.

    >>> float(mse_loss(move.asarray([1.0, 3.0]), move.asarray([0.0, 0.0])))
    5.0
    """
    return _reduced(_mse(*_pair(output, y, "mse_loss")), reduction, "mse_loss")


def l1_loss(output: Any, y: Any, *, reduction: str = "mean") -> Tensor:
    """``|output - y|``; output and y have one shape.

    >>> float(l1_loss(move.asarray([1.0, -3.0]), move.asarray([0.0, 0.0])))
    2.0
    """
    a, b = _pair(output, y, "l1_loss")
    return _reduced(math.abs(a - b), reduction, "l1_loss")


@composite("huber_loss", quant=_LOSS, source="Huber 1964")
def _huber(a: Any, b: Any, *, delta: float) -> Tensor:
    d = math.abs(a - b)
    return math.where(math.less_equal(d, delta), 0.5 * d * d, delta * (d - 0.5 * delta))


def huber_loss(output: Any, y: Any, *, delta: float = 1.0, reduction: str = "mean") -> Tensor:
    """``d^2 / 2`` for ``d = |output - y|`` up to ``delta``, then ``delta (d - delta / 2)``.

    >>> float(huber_loss(move.asarray([3.0]), move.asarray([0.0])))
    2.5
    """
    return _reduced(_huber(*_pair(output, y, "huber_loss"), delta=float(delta)), reduction, "huber_loss")


@composite("binary_cross_entropy_with_logits", quant=_LOSS, source="Cox 1958")
def _binary(x: Any, y: Any) -> Tensor:
    return math.relu(x) - x * y + math.log1p(math.exp(-math.abs(x)))


def binary_cross_entropy_with_logits(logits: Any, y: Any, *, reduction: str = "mean") -> Tensor:
    """``-y log sigmoid(x) - (1 - y) log(1 - sigmoid(x))``, stable; y is floating, in [0, 1], of the shape of logits.

    >>> round(float(binary_cross_entropy_with_logits(move.zeros((2,)), move.ones((2,)))), 4)
    0.6931
    """
    values = _binary(*_pair(logits, y, "binary_cross_entropy_with_logits"))
    return _reduced(values, reduction, "binary_cross_entropy_with_logits")


def accuracy(output: Any, y: Any) -> Tensor:
    """1.0 where the largest of ``output`` (n, c) stands at the label ``y`` (n,), else 0.0: float32 (n,).

    >>> accuracy(move.asarray([[0.1, 0.9], [0.8, 0.2]]), move.asarray([1, 1])).tolist()
    [1.0, 0.0]
    """
    x, labels = as_tensor(output), as_tensor(y)
    if x.ndim < 1 or x.shape[:-1] != labels.shape:
        raise ShapeError(f"accuracy: output is {x.aval} and y is {labels.aval}; expected (n, classes) and (n,)")
    return math.astype(math.equal(reduce.argmax(x, axis=-1), math.astype(labels, dtypes.int64)), dtypes.float32)


__all__ = ["accuracy", "binary_cross_entropy_with_logits", "cross_entropy", "huber_loss", "l1_loss", "mse_loss"]
