"""Small ONNX models, written by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator


def model(nodes: Sequence[Any], constants: Mapping[str, Any], inputs: Mapping[str, Sequence[Any]], outputs: Sequence[str], opset: int = 17) -> onnx.ModelProto:
    """``inputs``: name -> shape (floats); ``outputs`` are names."""
    graph = helper.make_graph(
        list(nodes), "g", [helper.make_tensor_value_info(k, TensorProto.FLOAT, list(s)) for k, s in inputs.items()],
        [helper.make_tensor_value_info(k, TensorProto.FLOAT, None) for k in outputs],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def conv_net(batch: Any = "batch", size: int = 16) -> onnx.ModelProto:
    """A network as PyTorch exports one: a residual block with batch norms, depthwise and pointwise convolutions, flattened."""
    rng = np.random.default_rng(0)
    f = lambda *shape: rng.normal(0, 0.3, shape).astype(np.float32)
    pos = lambda *shape: rng.uniform(0.5, 1.5, shape).astype(np.float32)
    c = {
        "stem.weight": f(8, 3, 3, 3), "stem.bias": f(8), "block.dw.weight": f(8, 1, 3, 3), "block.norm.weight": pos(8), "block.norm.bias": f(8),
        "block.norm.running_mean": f(8), "block.norm.running_var": pos(8), "block.pw.weight": f(8, 8, 1, 1), "block.pw.bias": f(8),
        "fc.weight": f(5, 8 * (size // 4) ** 2), "fc.bias": f(5),
    }  # fmt: skip
    n = helper.make_node
    nodes = [
        n("Conv", ["image", "stem.weight", "stem.bias"], ["a"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        n("Relu", ["a"], ["b"]),
        n("Conv", ["b", "block.dw.weight"], ["d"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], group=8),
        n("BatchNormalization", ["d", "block.norm.weight", "block.norm.bias", "block.norm.running_mean", "block.norm.running_var"], ["e"]),
        n("Clip", ["e", "low", "high"], ["g"]),
        n("Conv", ["g", "block.pw.weight", "block.pw.bias"], ["h"]),
        n("Add", ["h", "b"], ["i"]),
        n("MaxPool", ["i"], ["j"], kernel_shape=[2, 2], strides=[2, 2]),
        n("Flatten", ["j"], ["k"]),
        n("Gemm", ["k", "fc.weight", "fc.bias"], ["logits"], transB=1),
    ]  # fmt: skip
    c |= {"low": np.float32(0), "high": np.float32(6)}
    return model(nodes, c, {"image": (batch, 3, size, size)}, ["logits"])


def expected(m: onnx.ModelProto, *inputs: Any) -> list[Any]:
    """What the project's own evaluator gives."""
    names = [v.name for v in m.graph.input]
    return ReferenceEvaluator(m).run(None, dict(zip(names, inputs, strict=True)))
