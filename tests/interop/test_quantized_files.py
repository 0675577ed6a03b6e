"""Files that ONNX Runtime quantized: their grids are the twin's, their integers ours, to a step of rounding in sums of two scales."""

import logging

import numpy as np
import pytest

pytest.importorskip("onnx")
quantization = pytest.importorskip("onnxruntime.quantization")

import onnx  # noqa: E402
import onnxruntime  # noqa: E402
from onnx import numpy_helper  # noqa: E402

import shohin as sh  # noqa: E402
from shohin.compress import Plan, Quantize  # noqa: E402
from shohin.compress.steps import Add, Contract, places_of  # noqa: E402
from shohin.core.errors import QuantizationError  # noqa: E402
from shohin.core.graph import Graph  # noqa: E402
from shohin.core.tensor import as_tensor  # noqa: E402
from shohin.core.trace import prune, run  # noqa: E402
from tests.interop.make import conv_net  # noqa: E402
from tests.interop.test_bad_input import mutate  # noqa: E402

INT8 = Plan([("*", Quantize(w=8, a=8))])
X = np.random.default_rng(1).normal(size=(32, 3, 16, 16)).astype(np.float32)


class Reader(quantization.CalibrationDataReader):
    def __init__(self, x):
        self.left = iter([{"image": x[k : k + 1]} for k in range(len(x))])

    def get_next(self):
        return next(self.left, None)


def quantized(model, folder, x=X, form="QDQ", **settings):
    """The path of the file that ONNX Runtime makes of a model."""
    logging.disable(logging.WARNING)  # it advises to preprocess
    onnx.save(model, folder / "float.onnx")
    kinds = {"activation_type": quantization.QuantType.QInt8, "weight_type": quantization.QuantType.QInt8, "per_channel": True} | settings
    quantization.quantize_static(folder / "float.onnx", folder / "int8.onnx", Reader(x), quant_format=quantization.QuantFormat[form], **kinds)
    logging.disable(logging.NOTSET)
    return folder / "int8.onnx"


def results(path, x):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"image": x[k : k + 1]})[0] for k in range(len(x))])


def apart(small, x):
    """By step: how many integers differ from the float import's values on the file's grids, of how many, by how much at most."""
    fake, _ = small._fake((x,))
    program, grids = fake.program, small.grids()
    values = fake.run([as_tensor(x)])
    known = {k: place for k, place in places_of(program).items() if program.values[k].grid in program.fixed}
    graph = program.graph
    wanted = Graph(graph.inputs, graph.names, graph.consts, graph.nodes, tuple(program.sources[k] for k in known))
    real = run(prune(wanted), [as_tensor(x), *(c.read() for c in program.cells)])
    found = {}
    for (k, place), v in zip(known.items(), real, strict=True):
        g = grids[program.values[k].grid]
        d = np.abs(np.rint(v.numpy() / g.s) + g.z - values[k].numpy().reshape(v.shape))
        found[place] = (int((d > 0).sum()), d.size, int(d.max()))
    return found


@pytest.mark.parametrize("settings", [{}, {"per_channel": False}, {"activation_type": quantization.QuantType.QUInt8}], ids=["a scale a channel", "one scale", "uint8"])
def test_pairs_become_our_grids(settings, tmp_path):
    path = quantized(conv_net(), tmp_path, **settings)
    net, wanted = sh.from_onnx(path), results(path, X)
    assert np.abs(net(X).numpy() - wanted).max() < 1e-5
    small = INT8.apply(net, calibration=X[:1]).eval()  # there is nothing to calibrate
    program, grids = small._latest(), small.grids()
    assert {v.grid for v in program.values} - {None} == program.fixed.keys()
    file = {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
    assert grids["input"].s == file["image_scale"] and grids["input"].z == int(file["image_zero_point"]) - 128 * (file["image_zero_point"].dtype == np.uint8)
    convs = [s for s in program.steps if isinstance(s, Contract) and s.given is not None]
    assert len(convs) == 4
    first = np.asarray(small.quantized.constants[convs[0].place]["q_w"].numpy())
    np.testing.assert_array_equal(first, file["stem.weight_quantized"].transpose(0, 2, 3, 1))
    sums = {s.place for s in program.steps if isinstance(s, Add)}
    for place, (count, of, most) in apart(small, X).items():
        before_sum = place not in sums and not any(place.startswith(p) for p in ("j", "k", "logits"))
        assert most <= 1 and count <= (0 if before_sum else max(1, 1e-2 * of)), (place, count, of, most)
    step = grids[program.values[program.outputs[0]].grid].s
    assert np.abs(small(X).numpy() - wanted).max() <= step * 1.01
    art = sh.export(small, X[:1], device="host", to=tmp_path / "art")
    same = sh.compare(small, art, X)
    assert same.differing == 0 and same.compared > 0
    sh.save(small, tmp_path / "net.safetensors")
    np.testing.assert_array_equal(sh.load(tmp_path / "net.safetensors")(X[:3]).numpy(), small(X[:3]).numpy())


def test_operators_on_integers_become_our_grids(tmp_path):
    path = quantized(conv_net(), tmp_path, form="QOperator")
    net, wanted = sh.from_onnx(path), results(path, X)
    kinds = {n.op_type for n in onnx.load(path).graph.node}
    assert kinds >= {"QLinearConv", "QLinearAdd", "QGemm"}
    small = INT8.apply(net, calibration=X[:1]).eval()
    program, grids = small._latest(), small.grids()
    step = grids[program.values[program.outputs[0]].grid].s
    assert {v.grid for v in program.values} - {None} == program.fixed.keys()
    assert np.abs(small(X).numpy() - wanted).max() <= step * 1.01
    art = sh.export(small, X[:1], device="host", to=tmp_path / "art")
    assert sh.compare(small, art, X).differing == 0


def test_what_has_no_grid_here(tmp_path):
    """Activations of 16 bits are refused with the place; weights around another zero than the middle come in as what they stand for."""
    model = conv_net()
    model.opset_import[0].version = 21
    wide = sh.from_onnx(quantized(model, tmp_path, activation_type=quantization.QuantType.QInt16))
    with pytest.raises(QuantizationError, match=r"on_grid.*integers from -32768 to 32767"):
        INT8.apply(wide, calibration=X[:2])
    path = quantized(conv_net(), tmp_path, activation_type=quantization.QuantType.QUInt8, weight_type=quantization.QuantType.QUInt8, per_channel=False)
    net = sh.from_onnx(path)
    assert np.abs(net(X).numpy() - results(path, X)).max() < 1e-5
    small = INT8.apply(net, calibration=X[:2])
    assert [s.given for s in small._latest().steps if isinstance(s, Contract)] == [None] * 5


def test_damaged_files(tmp_path):
    """Files on grids, damaged: an error or ONNX Runtime's results."""
    assert mutate(quantized(conv_net(batch=1), tmp_path), 60, 3)["refused"] > 10
    assert mutate(quantized(conv_net(batch=1), tmp_path, form="QOperator"), 40, 4)["refused"] > 5


@pytest.mark.parametrize("name, value, error", [
    ("image_scale", 0, "positive"), ("image_scale", np.nan, "positive"), ("i_scale", -0.1, "positive"), ("i_scale", 1e-20, "on_grid.*its grid has the scale"), ("stem.weight_scale", 1e30, "above 127"),
])  # fmt: skip
def test_scales_that_are_none(name, value, error, tmp_path):
    """What no grid can have is refused where it is to become one, with the place."""
    model = onnx.load(quantized(conv_net(), tmp_path))
    for t in model.graph.initializer:
        if t.name == name:
            t.CopyFrom(numpy_helper.from_array(np.full(tuple(t.dims), value, np.float32), name))
    with pytest.raises(sh.ShohinError, match=error):
        INT8.apply(sh.from_onnx(model), calibration=X[:2])
