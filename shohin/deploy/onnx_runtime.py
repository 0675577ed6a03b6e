"""ONNX Runtime, the origin of an imported network, as a function of its inputs. Needs onnxruntime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime  # type: ignore[import-not-found]

from shohin.core.errors import DeployError

Array = np.ndarray[Any, Any]


def onnx_runtime(path: str | Path) -> Callable[[Array], Array]:
    """The first output (n, ...) for float32 inputs (n, ...) of an ONNX file, on the CPU; one example at a time where the file
    fixes their number.

    Raises:
        DeployError: the file cannot be loaded or run, or has several inputs.
    """
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no common class
        raise DeployError(f"{path}: ONNX Runtime cannot load it: {error}") from error
    inputs = session.get_inputs()
    if len(inputs) != 1:
        raise DeployError(f"{path}: {len(inputs)} inputs ({', '.join(i.name for i in inputs)}), expected one")
    fixed = isinstance(inputs[0].shape[0], int) if inputs[0].shape else False

    def run(x: Array) -> Array:
        parts = [x[k : k + 1] for k in range(len(x))] if fixed else [x]
        try:
            return np.concatenate([np.asarray(session.run(None, {inputs[0].name: part})[0]) for part in parts])
        except Exception as error:
            raise DeployError(f"{path}: ONNX Runtime cannot run it on {x.shape}: {error}") from error

    return run


__all__ = ["onnx_runtime"]
