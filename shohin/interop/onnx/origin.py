"""Running the origin: what an imported network is compared with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from onnx.onnx_ml_pb2 import ModelProto
from onnx.reference import ReferenceEvaluator

try:
    import onnxruntime
except ImportError:
    onnxruntime: Any = None

Array = np.ndarray[Any, Any]


class Origin:
    """The model as its own world runs it: by ONNX Runtime if it is installed, else by onnx's evaluator."""

    def __init__(self, model: ModelProto) -> None:
        self._model = model
        self._session: Any = None
        self.name = "ONNX Runtime" if onnxruntime is not None else "onnx's evaluator"

    def __call__(self, inputs: Mapping[str, Array]) -> list[Array]:
        if self._session is None:
            if onnxruntime is not None:
                options = onnxruntime.SessionOptions()
                options.log_severity_level = 3
                self._session = onnxruntime.InferenceSession(self._model.SerializeToString(), options, providers=["CPUExecutionProvider"])
            else:
                self._session = ReferenceEvaluator(self._model)
        return [np.asarray(y) for y in self._session.run(None, dict(inputs))]


__all__ = ["Origin"]
