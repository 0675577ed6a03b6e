"""``fisher``: how much the loss bends along each weight, as a statistic for any method.

    F_i = mean over examples of (d loss / d w_i)^2

the diagonal of the Fisher information, which stands for that of the Hessian where a network is trained. A data set with class
labels gives the cross-entropy of its labels. Without labels the network's own predictions stand for them: labels drawn from its
softmax if it gives (examples, classes), else a normal distribution around its outputs. Drawn so, F is the Fisher information
itself; with the data's labels it is the empirical one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from shohin.compiler.jit import jit
from shohin.compress.calibration import batches
from shohin.core import dtypes
from shohin.core.cells import Cell
from shohin.core.module import Module, mode
from shohin.core.tensor import Tensor, as_tensor
from shohin.data.dataset import Dataset
from shohin.nn.losses import cross_entropy
from shohin.ops import reduce
from shohin.transforms.grad import value_and_grad

Array = np.ndarray[Any, Any]
SEED = 0


def fisher(net: Module, cells: Mapping[str, Cell], calibration: Any) -> dict[str, Array]:
    """The statistic of the Params ``cells``, float32 of their shapes, in evaluation mode, an example at a time.

    Source: Kim et al. 2023 (SqueezeLLM, arXiv:2306.07629), equations 3 and 4, who sum squared gradients of batches; labels of the
    model's own: Kunstner et al. 2019 (arXiv:1905.12558), equation 3.

    >>> from shohin import nn
    >>> net, x = nn.Linear(2, 3), np.float32([[1, 0], [2, 0]])
    >>> fisher(net, {"weight": net.cells()["weight"]}, x)["weight"][:, 1].tolist()
    [0.0, 0.0, 0.0]
    """
    labels = calibration.y if isinstance(calibration, Dataset) and calibration.y.dtype in dtypes.INTEGER and calibration.y.ndim == 1 else None
    generator = np.random.Generator(np.random.Philox(SEED))
    wanted = list(cells.values())

    @jit
    def run(net: Module, *xs: Any) -> Any:
        return net(*xs)

    @jit
    def squares(net: Module, y: Any, *xs: Any) -> list[Tensor]:
        _, grads = value_and_grad(lambda: _loss(net(*xs), y), wrt=wanted)()
        return [g * g for g in grads]

    total, count = [np.zeros(c.shape) for c in wanted], 0
    with mode(net, training=False):
        for xs in batches(calibration):
            for one in ([x[k : k + 1] for x in xs] for k in range(len(xs[0]))):
                y = labels[count : count + 1] if labels is not None else _drawn(run(net, *one), generator)
                for sum_, g in zip(total, squares(net, y, *one), strict=True):
                    sum_ += g.numpy()
                count += 1
    return {p: (t / count).astype(np.float32) for p, t in zip(cells, total, strict=True)}


def _loss(output: Any, y: Any) -> Tensor:
    """The cross-entropy of labels; for noise, a loss whose gradient is that of a normal distribution's."""
    if as_tensor(y).dtype in dtypes.INTEGER:
        return cross_entropy(output, y)
    return reduce.sum(as_tensor(output) * y)


def _drawn(output: Any, generator: np.random.Generator) -> Array:
    """A label from the softmax of (1, classes), or noise of the output's shape."""
    z = as_tensor(output).numpy().astype(np.float64)
    if z.ndim != 2 or z.shape[1] < 2:
        return generator.standard_normal(z.shape).astype(np.float32)
    total = np.cumsum(np.exp(z[0] - z[0].max()))
    return np.array([min(np.searchsorted(total, generator.random() * total[-1], side="right"), z.shape[1] - 1)], np.int64)


__all__ = ["fisher"]
