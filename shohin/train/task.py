"""``Task``: what every command takes, a network with its data and how good its answers are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from shohin.core.errors import DataError, StateError
from shohin.core.module import Module
from shohin.data.dataset import Dataset


@dataclass(frozen=True)
class Task:
    """A network, its data, and what is asked of it. A file that exposes ``task`` is what the commands read.

    Args:
        model: the network.
        train, test: the data sets.
        loss: ``loss(output, y)``, one scalar; what training makes small.
        metric: ``metric(output, y)``, one value an example, the higher the better; ``evaluate`` averages them.
        inputs: shape of one example, without the batch dim; by default that of ``train.x``.
        augment: ``augment(x) -> x`` on a batch, in training only.

    >>> import numpy as np
    >>> from shohin import nn
    >>> data = Dataset(np.zeros((4, 3), np.float32), [0, 1, 1, 0], classes="ab")
    >>> task = Task(nn.Linear(3, 2), data, data, nn.cross_entropy, nn.accuracy)
    >>> task.inputs, round(float(task.loss_fn(task.model, data.x, data.y)), 1) > 0
    ((3,), True)
    """

    model: Module
    train: Dataset
    test: Dataset
    loss: Callable[[Any, Any], Any]
    metric: Callable[[Any, Any], Any]
    inputs: tuple[int, ...] | None = None
    augment: Callable[[Any], Any] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.model, Module):
            raise StateError(f"Task: model is {type(self.model).__name__}, expected an nn.Module")
        for name in ("train", "test"):
            if not isinstance(getattr(self, name), Dataset):
                raise DataError(f"Task: {name} is {type(getattr(self, name)).__name__}, expected a Dataset")
        for name in ("loss", "metric"):
            if not callable(getattr(self, name)):
                raise StateError(
                    f"Task: {name} is {type(getattr(self, name)).__name__}, expected a function of (output, y)"
                )
        if self.train.x.shape[1:] != self.test.x.shape[1:]:
            raise DataError(
                f"Task: examples have shape {self.train.x.shape[1:]} in train and {self.test.x.shape[1:]} in test"
            )
        shape = self.train.x.shape[1:] if self.inputs is None else tuple(self.inputs)
        if shape != self.train.x.shape[1:]:
            raise DataError(f"Task: inputs is {shape}, but an example of train has shape {self.train.x.shape[1:]}")
        object.__setattr__(self, "inputs", shape)

    def loss_fn(self, net: Module, x: Any, y: Any) -> Any:
        """``loss(net(x), y)``, the form that ``fit`` takes."""
        return self.loss(net(x), y)
