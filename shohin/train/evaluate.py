"""``evaluate``: the mean of a metric over a data set, in evaluation mode, as one compiled program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from shohin.compiler.jit import jit
from shohin.core import dtypes
from shohin.core.errors import DataError, ShapeError, StateError
from shohin.core.module import Module, mode
from shohin.core.tensor import Tensor, as_tensor
from shohin.data.dataset import Dataset
from shohin.ops import math, reduce


def evaluate(net: Module, data: Dataset, metric: Callable[[Any, Any], Any], *, batch: int = 256) -> float:
    """The mean of ``metric(net(x), y)``, one value an example, over all of ``data``; the mode is restored.

    The last batch is padded, and what was padded does not count.

    Raises:
        ShapeError: the metric gives something else than one value an example.

    >>> import numpy as np
    >>> from shohin import nn
    >>> data = Dataset(np.eye(3, dtype=np.float32), [0, 1, 1])
    >>> round(evaluate(nn.Identity(), data, nn.accuracy, batch=2), 4)
    0.6667
    """
    if not isinstance(net, Module):
        raise StateError(f"evaluate: net is {type(net).__name__}, expected an nn.Module")
    if not isinstance(data, Dataset):
        raise DataError(f"evaluate: data is {type(data).__name__}, expected a Dataset")
    size = min(batch, len(data))
    total = 0.0
    with mode(net, training=False):
        step = _program(net, metric)
        batches: Any = data.batches(size, shuffle=False)
        for x, y, mask in batches:
            total += float(step(net, x, y, mask))
    return total / len(data)


def _program(net: Module, metric: Callable[[Any, Any], Any]) -> Callable[..., Tensor]:
    """Compiled once for a network and a metric. The network keeps it, for a table here would keep the network."""
    kept = object.__getattribute__(net, "_cache").setdefault("evaluate", {})
    if metric not in kept:
        kept[metric] = jit(_summed(metric))
    return kept[metric]


def _summed(metric: Callable[[Any, Any], Any]) -> Callable[..., Tensor]:
    def evaluate_batch(net: Module, x: Any, y: Any, mask: Any) -> Tensor:
        values = as_tensor(metric(net(as_tensor(x)), as_tensor(y)))
        if values.shape != mask.shape:
            name = getattr(metric, "__name__", "the metric")
            raise ShapeError(
                f"evaluate: {name} gave {values.aval} for {mask.shape[0]} examples, expected one value an "
                f"example: shape {mask.shape}"
            )
        values = math.astype(values, dtypes.float32)
        return reduce.sum(math.where(as_tensor(mask), values, math.zeros_like(values)))

    return evaluate_batch


__all__ = ["evaluate"]
