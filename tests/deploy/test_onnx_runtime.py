"""ONNX Runtime as the origin that a network is compared with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import shohin as sh
from shohin import nn
from shohin.cli.diff_job import way
from shohin.core.errors import DataError, DeployError
from shohin.shipping.diff import OUTPUT, diff, module_way

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


def write(net: nn.Linear, path: Path, examples: int | str) -> Path:
    """A linear layer as an ONNX file."""
    h, tensor = onnx.helper, onnx.numpy_helper.from_array
    info = lambda name, n: h.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [examples, n])
    graph = h.make_graph([h.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1)], "g", [info("x", 5)], [info("y", 3)],
                         [tensor(net.weight.numpy(), "w"), tensor(net.bias.numpy(), "b")])  # fmt: skip
    onnx.save(h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.mark.parametrize("examples", ["n", 1])
def test_the_origin_is_a_way(examples: int | str, tmp_path: Path) -> None:
    net, x = nn.Linear(5, 3), np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
    path = write(net, tmp_path / "net.onnx", examples)
    found = diff(way(f"origin:{path}"), module_way(net), x)
    assert found.first is None and [r.place for r in found.rows] == [OUTPUT]
    other = nn.Linear(5, 3)
    assert diff(way(f"origin:{path}"), module_way(other), x).first is not None
    with pytest.raises(DeployError, match=r"cannot run it on \(6, 4\)"):
        sh.onnx_runtime(path)(x[:, :4])


def test_what_is_no_network(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"nothing")
    with pytest.raises(DeployError, match="ONNX Runtime cannot load it"):
        sh.onnx_runtime(tmp_path / "a.onnx")
    with pytest.raises(DataError, match="no such file"):
        way("origin:nowhere.onnx")
