"""Gradients of the loss on calibration data, by parameter: what importance by Taylor expansion reads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from shohin.compress.calibration import BATCH, batches
from shohin.core.errors import PlanError
from shohin.core.module import Module, mode
from shohin.core.tensor import Tensor, as_tensor
from shohin.data.dataset import Dataset
from shohin.nn.losses import cross_entropy
from shohin.transforms.grad import grad

Array = np.ndarray[Any, Any]


def gradients(net: Module, calibration: Any, method: str) -> Iterator[dict[str, Array]]:
    """For each batch of the calibration data the gradient of its mean cross-entropy by parameter, float64.

    The network runs in evaluation mode. Labels are the data set's; without them the class that the network itself finds likeliest,
    so that the gradient says what would change its answers.

    Raises:
        PlanError: the output is not (examples, classes), or the data set's labels are not classes.
    """
    labels = np.asarray(calibration.y) if isinstance(calibration, Dataset) else None
    if labels is not None and not np.issubdtype(labels.dtype, np.integer):
        raise PlanError(f"{method}: the calibration set's labels are {labels.dtype}, expected classes; give its inputs alone, calibration=data.x")

    def loss(net: Module, y: Tensor | None, *xs: Tensor) -> Tensor:
        out = net(*xs)
        if not isinstance(out, Tensor) or len(out.shape) != 2:
            raise PlanError(f"{method}: the output is {getattr(out, 'aval', type(out).__name__)}, expected one of (examples, classes); use importance='l1'")
        return cross_entropy(out, y)

    with mode(net, training=False):
        for k, xs in enumerate(batches(calibration)):
            mine = tuple(as_tensor(x) for x in xs)
            y = net(*mine).numpy().argmax(-1) if labels is None else labels[k * BATCH : k * BATCH + len(xs[0])]
            found = grad(loss)(net, as_tensor(np.asarray(y, np.int64)), *mine)
            yield {path: t.numpy().astype(np.float64) for path, t in found.items()}


__all__ = ["gradients"]
