"""Small networks of many kinds as both of PyTorch's exporters write them: equal, for any number of examples, at PyTorch's own places."""

import subprocess
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")

import shohin as sh
from shohin import nn
from shohin.interop.importing import turns
from tests.nn.test_torch import interpreter

pytestmark = pytest.mark.slow

IMAGES = {"residual": 1, "mobile": 1, "flat": 1, "shuffle": 3, "hourglass": 1, "modern": 1, "tokens": None}
"""Turns of dims: one at the input, and of a shuffle itself and its output."""
SERIES = ("lstm", "gru", "rnn", "words")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    where = tmp_path_factory.mktemp("exports")
    done = subprocess.run([interpreter(), str(Path(__file__).with_name("torch_exports.py")), str(where)], capture_output=True, text=True)
    if "No module named 'onnx" in done.stderr:
        pytest.skip("PyTorch is there, but its exporters need onnx and onnxscript beside it")
    assert done.returncode == 0, done.stderr[-3000:]
    return where


def inputs(name):
    rng = np.random.default_rng(0)
    if name == "words":
        return rng.integers(0, 50, (3, 11))
    return rng.normal(size=(3, 3, 32, 32) if name in IMAGES else (3, 9, 6)).astype(np.float32)


@pytest.mark.parametrize("way", ["script", "dynamo"])
@pytest.mark.parametrize("name", [*IMAGES, *SERIES])
def test_equal(folder, name, way):
    net = sh.from_onnx(folder / f"{name}-{way}.onnx", check=inputs(name))
    print(f"\n{net.imported}")
    assert net.imported.difference is not None and net.imported.difference < 1e-5
    assert len(net._programs) == 2, "for any number of examples"
    if IMAGES.get(name) is not None:
        assert len(turns(net._programs[0])) == IMAGES[name]


@pytest.mark.parametrize("way", ["script", "dynamo"])
def test_places(folder, way):
    kinds = lambda name: {p: type(m) for p, m in sh.from_onnx(folder / f"{name}-{way}.onnx").modules().items()}
    mobile = kinds("mobile")
    assert mobile["body.0"] is nn.Conv2d and mobile["body.3"] is nn.DepthwiseConv2d and mobile["body.6.layers.1"] is nn.Conv2d and mobile["head"] is nn.Linear
    modern = kinds("modern")
    assert modern["norm"] is nn.LayerNorm and modern["p"] is modern["q"] is modern["out"] is nn.Linear
    tokens = kinds("tokens")
    parts = ("linear1", "linear2", *(["self_attn.out_proj"] if way == "dynamo" else []))  # the older one has no scope for it
    assert all(tokens[f"enc.layers.{k}.{part}"] is nn.Linear for k in (0, 1) for part in parts)
    assert all(tokens[f"enc.layers.{k}.norm1"] is nn.LayerNorm for k in (0, 1)) and tokens["norm"] is nn.LayerNorm
