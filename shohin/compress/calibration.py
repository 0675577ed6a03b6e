"""Calibration data, as batches of a network's inputs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from shohin.core.errors import PlanError
from shohin.core.tensor import Tensor
from shohin.data.dataset import Dataset

BATCH = 64


def batches(calibration: Any) -> Iterator[tuple[np.ndarray[Any, Any], ...]]:
    """Inputs of a data set, an array, or a tuple of arrays (one an input), up to 64 examples at a time; a list of tuples are calls
    as they are, of a network whose inputs do not all begin with the examples."""
    if isinstance(calibration, list) and calibration and all(isinstance(call, tuple) for call in calibration):
        yield from (tuple(map(_array, call)) for call in calibration)
        return
    if isinstance(calibration, Dataset):
        calibration = calibration.x
    arrays = tuple(map(_array, calibration)) if isinstance(calibration, tuple) else (_array(calibration),)
    if not arrays or any(a.ndim == 0 or len(a) != len(arrays[0]) or not len(a) for a in arrays):
        raise PlanError(
            "calibration takes a data set, an array of examples, a tuple of such arrays of one length, or a list of tuples, each the arrays of one call"
        )
    for start in range(0, len(arrays[0]), BATCH):
        yield tuple(a[start : start + BATCH] for a in arrays)


def few(calibration: Any, count: int = 4) -> Any:
    """The first examples of calibration data, labels included."""
    if isinstance(calibration, Dataset):
        return calibration.take(min(count, len(calibration)))
    return tuple(x[:count] for x in calibration) if isinstance(calibration, tuple) else calibration[:count]


def _array(x: Any) -> np.ndarray[Any, Any]:
    array = x.numpy() if isinstance(x, Tensor) else np.asarray(x)
    if array.dtype not in (np.float32, np.int32, np.int64):
        raise PlanError(f"calibration data is {array.dtype}, expected float32 (indices: int32, int64) as the network takes it")
    return array


__all__ = ["BATCH", "batches", "few"]
