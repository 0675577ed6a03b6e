"""What is shipped: a network with inputs to calibrate on and others to judge by, labelled or not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shohin import nn
from shohin.compress.quantized import Quantized
from shohin.core.errors import DataError, QuantizationError, ShohinError, StateError
from shohin.core.module import Module, mode
from shohin.core.tensor import as_tensor
from shohin.data.dataset import Dataset
from shohin.data.folder import PLAIN, Reading, read_folder
from shohin.deploy.values import refuse_non_finite
from shohin.train.task import Task

Array = np.ndarray[Any, Any]
CALIBRATION, JUDGED = 256, 1000
"""Inputs that grids are found on, and at most so many that candidates are judged by."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """``train`` is labelled or None; ``test`` (n, ...) are inputs that nothing was fitted to, ``labels`` theirs or None.
    ``at(shape)`` is the network for examples of another shape, where it cannot take them itself."""

    net: Module
    calibration: Array
    test: Array
    labels: Array | None = None
    train: Dataset | None = None
    loss: Callable[[Any, Any], Any] = nn.cross_entropy
    metric: Callable[[Any, Any], Any] = nn.accuracy
    augment: Callable[[Any], Any] | None = None
    at: Callable[[tuple[int, ...]], Module] | None = None
    notes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one example."""
        return self.test.shape[1:]

    @property
    def judged(self) -> Dataset | Array:
        return self.test if self.labels is None else Dataset(self.test, self.labels)


def subject_of(net: Module | Task, data: Any = None, reading: Reading = PLAIN, judged: int = JUDGED) -> Subject:
    """Network and data together, checked on two examples.

    ``data`` is a ``Dataset``, an array (n, ...), or a path that ``read_folder`` takes; a ``Task`` has its own. Data that is
    not in two parts already is: every second example calibrates (and trains), the others judge.

    Raises:
        DataError: no data, or examples that the network does not take.
        NonFiniteError: the network gives NaN or infinity on them; with the place.
    """
    if isinstance(net, Task):
        if data is not None:
            raise DataError("ship: a task brings its own data; leave data out, or give task.model")
        task, model = net, net.model
        made = Subject(net=model, calibration=task.train.x[:CALIBRATION], test=task.test.x[:judged], labels=task.test.y[:judged],
                       train=task.train, loss=task.loss, metric=task.metric, augment=task.augment)  # fmt: skip
    else:
        if not isinstance(net, Module):
            raise StateError(f"ship: the network is {type(net).__name__}, expected an nn.Module or a Task")
        made = _halved(net, data, reading, judged)
    if isinstance(made.net, Quantized):
        raise QuantizationError("ship: the network is quantized already; give the float network that it was made of, or sh.export it")
    _runs(made)
    return made


def _halved(net: Module, data: Any, reading: Reading, judged: int) -> Subject:
    if data is None:
        raise DataError("ship: no data; give some hundred inputs as data= (--data DIR, .npy or .npz): grids are found on them")
    if isinstance(data, str | Path):
        shape = reading.shape or input_shape(net)
        data = read_folder(data, Reading(shape=shape, resize=reading.resize, mean=reading.mean, std=reading.std, limit=reading.limit))
    if not isinstance(data, Dataset):
        x = np.asarray(data)
        if x.dtype != np.float32 or x.ndim < 2 or not len(x):
            raise DataError(f"ship: data is {x.dtype}{list(x.shape)}, expected float32 examples (n, ...)")
        data = Dataset(x, np.zeros(len(x), np.int64))
        labelled = False
    else:
        labelled = data.y.ndim == 1 and data.y.dtype.kind in "iu"
    notes = () if len(data) >= 4 else (f"{len(data)} example(s): the same ones calibrate and judge",)
    first, second = (data, data) if notes else (data[::2], data[1::2])
    first, second = first[:], second[:judged]
    return Subject(net=net, calibration=first.x[:CALIBRATION], test=second.x, labels=second.y if labelled else None,
                   train=first if labelled else None, notes=notes)  # fmt: skip


def input_shape(net: Module) -> tuple[int, ...] | None:
    """Shape of one example, where the network itself knows it (``input_shapes``): one of a file, or imported."""
    known = getattr(net, "input_shapes", None)
    return tuple(known[0]) if known else None


def _runs(subject: Subject) -> None:
    x = subject.calibration[:2]
    try:
        with mode(subject.net, training=False), np.errstate(all="ignore"):
            y = subject.net(as_tensor(x))
            out = np.asarray(as_tensor(y).data)
    except (ShohinError, ValueError, TypeError, IndexError) as error:
        raise DataError(f"ship: the network does not take examples of shape {subject.shape}: {error}. Name the shape that it takes (--shape)") from error
    refuse_non_finite(subject.net, x, out)
    if subject.labels is not None and (out.ndim != 2 or int(subject.labels.max()) >= out.shape[1]) and subject.metric is nn.accuracy:
        raise DataError(f"ship: labels reach {int(subject.labels.max())}, but the network gives {out.shape[1:]} an example; "
                        "name the folders after the network's class numbers, or give unlabelled data")  # fmt: skip


__all__ = ["CALIBRATION", "JUDGED", "Subject", "input_shape", "subject_of"]
