"""What cannot be imported is refused with a place and a remedy; damaged files neither crash nor hang."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")

import onnx
from onnx import TensorProto, external_data_helper, helper

import shohin as sh
from tests.interop.make import conv_net, model
from tests.interop.pretrained import models

n = helper.make_node


def mutate(path, count, seed):
    """What became of ``count`` damaged copies; a crash, a hang or 4 GB of memory fails here."""
    command = [sys.executable, "-m", "tests.interop.mutations", str(path), str(count), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    print(f"\n{path}: {found}")
    assert sum(found.values()) == count and not found.get("wrong"), found
    return found


def test_damaged_files(tmp_path):
    path = tmp_path / "net.onnx"
    onnx.save(conv_net(batch=1), path)
    assert mutate(path, 60, 0)["refused"] > 10


@pytest.mark.slow
@pytest.mark.parametrize("package, name, seed", [
    ("rapidocr-onnxruntime==1.4.4", "ch_ppocr_mobile_v2.0_cls_infer.onnx", 1), ("silero-vad==6.2.3", "silero_vad_16k_sequence.onnx", 2),
])  # fmt: skip
def test_damaged_files_of_real_networks(package, name, seed):
    assert mutate(models(package)[name], 100, seed)["refused"] > 10


def test_not_a_file(tmp_path):
    with pytest.raises(sh.ForeignError, match=r"no\.onnx: No such file"):
        sh.from_onnx(tmp_path / "no.onnx")
    (tmp_path / "text.onnx").write_text("This is not a network. " * 10)
    with pytest.raises(sh.ForeignError, match="not an ONNX file"):
        sh.from_onnx(tmp_path / "text.onnx")
    (tmp_path / "empty.onnx").touch()
    with pytest.raises(sh.ForeignError, match="it holds no graph"):
        sh.from_onnx(tmp_path / "empty.onnx")


def test_all_that_is_missing_is_listed_at_once():
    nodes = [
        n("Bernoulli", ["x"], ["a"], name="/noise/Bernoulli"), n("Relu", ["a"], ["b"]), n("Relu", ["x"], ["d"]), n("FancyOp", ["d"], ["e"], domain="my.own"),
        n("MaxPool", ["x"], ["f"], name="pool"), n("Add", ["b", "e"], ["g"]), n("Sum", ["g", "f"], ["y"]),
    ]  # fmt: skip
    with pytest.raises(sh.ForeignError) as caught:
        sh.from_onnx(model(nodes, {}, {"x": (1, 2, 4, 4)}, ["y"]))
    said = str(caught.value)
    assert "3 of its operators" in said
    assert "Bernoulli at noise: there is no such operator here" in said and "my.own.FancyOp at e" in said
    assert "MaxPool at pool: attribute kernel_shape is missing" in said


def test_open_extents_ask_for_a_shape():
    m = model([n("Relu", ["x"], ["y"])], {}, {"x": ("batch", 3, "height", None)}, ["y"])
    with pytest.raises(sh.ForeignError, match=r"x \(batch, 3, height, \?\).*shape=\{'x': \(\.\.\.\)\}"):
        sh.from_onnx(m)
    assert sh.from_onnx(m, shape=(1, 3, 4, 5))(np.ones((2, 3, 4, 5), np.float32)).shape == (2, 3, 4, 5)
    with pytest.raises(sh.ForeignError, match=r"x has shape \(batch, 3, height, \?\) in the file, got \(1, 4, 4, 4\)"):
        sh.from_onnx(m, shape=(1, 4, 4, 4))
    with pytest.raises(sh.ForeignError, match=r"write shape=\{'<input>'"):
        sh.from_onnx(m, shape={"image": (1, 3, 4, 4)})


def test_a_call_with_another_shape():
    net = sh.from_onnx(conv_net())
    with pytest.raises(sh.ShapeError, match=r"takes image \(n, 3, 16, 16\), got \(1, 3, 16, 8\).*shape="):
        net(np.zeros((1, 3, 16, 8), np.float32))
    with pytest.raises(sh.ShapeError, match=r"image is f64\[1,3,16,16\], expected float32"):
        net(np.zeros((1, 3, 16, 16)))


def test_what_must_be_known():
    nodes = [n("Cast", ["k"], ["i"], to=TensorProto.INT64), n("Reshape", ["x", "i"], ["y"])]
    m = model(nodes, {}, {"x": (2, 3), "k": (1,)}, ["y"])
    with pytest.raises(sh.ForeignError, match=r"Reshape at y: shape \('i'\) depends on the network's inputs.*fixed="):
        sh.from_onnx(m)
    assert sh.from_onnx(m, fixed={"k": [6]})(np.ones((2, 3), np.float32)).shape == (6,)
    with pytest.raises(sh.ForeignError, match="fixed names 'q'; the network's inputs are x, k"):
        sh.from_onnx(m, fixed={"q": 1})


def test_external_data(tmp_path):
    m = conv_net()
    external_data_helper.convert_model_to_external_data(m, location="weights.bin", size_threshold=0, convert_attribute=False)
    onnx.save(m, tmp_path / "net.onnx")
    x = np.ones((1, 3, 16, 16), np.float32)
    assert np.array_equal(sh.from_onnx(tmp_path / "net.onnx")(x).numpy(), sh.from_onnx(conv_net())(x).numpy())
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(sh.ForeignError, match=r"'weights\.bin', which cannot be read.*put that file beside it"):
        sh.from_onnx(tmp_path / "net.onnx")


@pytest.mark.parametrize("shape", [(1 << 40,), (1 << 20, 1 << 20), (-3,)])
def test_a_constant_that_would_fill_the_memory(shape):
    m = model([n("ConstantOfShape", ["s"], ["a"]), n("Add", ["x", "a"], ["y"])], {"s": np.array(shape)}, {"x": (1,)}, ["y"])
    with pytest.raises(sh.ForeignError, match="ConstantOfShape at a"):
        sh.from_onnx(m)


def test_graphs_that_contradict_themselves():
    with pytest.raises(sh.ForeignError, match="reads 'a', which nothing before it defines"):
        sh.from_onnx(model([n("Relu", ["a"], ["y"]), n("Relu", ["x"], ["a"])], {}, {"x": (1,)}, ["y"]))
    with pytest.raises(sh.ForeignError, match="defines 'y' a second time"):
        sh.from_onnx(model([n("Relu", ["x"], ["y"]), n("Tanh", ["x"], ["y"])], {}, {"x": (1,)}, ["y"]))
    with pytest.raises(sh.ForeignError, match="returns 'z', which nothing defines"):
        sh.from_onnx(model([n("Relu", ["x"], ["y"])], {}, {"x": (1,)}, ["z"]))
    with pytest.raises(sh.ForeignError, match="opset 5 is not known"):
        sh.from_onnx(model([n("Relu", ["x"], ["y"])], {}, {"x": (1,)}, ["y"], opset=5))


def test_check_data_of_another_network():
    m = conv_net()
    with pytest.raises(sh.ForeignError, match="image has shape"):
        sh.from_onnx(m, check=np.zeros((1, 1, 28, 28), np.float32))
    with pytest.raises(sh.ForeignError, match="check has picture; the network takes image"):
        sh.from_onnx(m, check={"picture": np.zeros((1, 3, 16, 16), np.float32)})
