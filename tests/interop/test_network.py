"""An imported network is an ordinary one: places, layout, any number of examples, training, plans, files, exports."""

import copy
import pickle

import numpy as np
import pytest

pytest.importorskip("onnx")

from onnx import TensorProto, helper

import shohin as sh
from shohin import nn, optim
from shohin.compress import Plan, Prune, PruneChannels, Quantize
from shohin.interop.importing import turns
from shohin.interop.network import Function
from shohin.interop.onnx import origin
from tests.interop.make import conv_net, expected, model

n = helper.make_node


def images(count, size=16, seed=0):
    return np.random.default_rng(seed).normal(size=(count, 3, size, size)).astype(np.float32)


def near(net, m, *inputs, atol=1e-5):
    got = net(*inputs)
    for a, b in zip(got if isinstance(got, tuple) else (got,), expected(m, *inputs), strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a.numpy(), b, rtol=1e-4, atol=atol)


def test_equal_to_the_origin_for_any_number_of_examples():
    m = conv_net()
    net = sh.from_onnx(m)
    for count in (1, 2, 7):
        near(net, m, images(count))


def test_a_file_for_one_example_serves_many():
    net = sh.from_onnx(conv_net(batch=1), check=images(5))  # the origin sees them one by one
    assert net.imported.difference is not None and net.imported.difference < 1e-5
    near(net, conv_net(), images(5))
    nodes = [n("Reshape", ["x", "s"], ["a"]), n("Tanh", ["a"], ["y"])]
    one, any_ = (model(nodes, {"s": np.array([1, 6])}, {"x": (k, 2, 3)}, ["y"]) for k in (1, "n"))
    assert sh.from_onnx(one)(np.ones((4, 2, 3), np.float32)).shape == (4, 6)
    net = sh.from_onnx(any_)  # here the file means one row, whatever comes
    assert net(np.ones((1, 2, 3), np.float32)).shape == (1, 6)
    with pytest.raises(sh.ShapeError):
        net(np.ones((4, 2, 3), np.float32))


def test_layers_stand_at_the_files_places():
    net = sh.from_onnx(conv_net())
    kinds = {path: type(m) for path, m in net.modules().items() if path and type(m) not in (nn.Module, Function)}
    assert kinds == {
        "stem": nn.Conv2d, "block.dw": nn.DepthwiseConv2d, "block.norm": nn.BatchNorm2d, "block.pw": nn.Conv2d, "fc": nn.Linear,
    }  # fmt: skip
    assert set(net.cells()) >= {"stem.weight", "block.norm.running_mean", "fc.bias"}
    assert {p.name for p in net.places(images(1))} >= {"stem/conv2d#0", "block.dw/conv2d#0"}


def test_dims_turn_once_at_the_border():
    """Channels last inside: the input is turned, and nothing after it; the flattened turn is one of the weights."""
    net = sh.from_onnx(conv_net())
    assert [s.place for p in net._programs for s in turns(p)] == ["stem", "stem"]


def test_the_report_compares_on_data():
    m = conv_net()
    x = images(3)
    net = sh.from_onnx(m, check=x)
    assert net.imported.difference is not None and net.imported.difference < 1e-5
    assert "worst difference from" in str(net.imported) and "any number" in str(net.imported)
    tuple_, dict_ = sh.from_onnx(m, check=(x,)), sh.from_onnx(m, check={"image": x})
    assert tuple_.imported.difference == dict_.imported.difference == net.imported.difference


def test_it_trains():
    net = sh.from_onnx(conv_net()).train()
    x, y = images(8), np.arange(8) % 5
    opt = optim.sgd(0.05).init(net)
    mean = net.block.norm.running_mean.numpy().copy()

    @sh.jit
    def step(net, opt, x, y):
        loss, grads = sh.value_and_grad(lambda net: nn.cross_entropy(net(x), y))(net)
        opt.update(net, grads)
        return loss

    losses = [float(step(net, opt, x, y)) for _ in range(12)]
    assert losses[-1] < 0.6 * losses[0]
    assert not np.array_equal(mean, net.block.norm.running_mean.numpy())


def test_plans_apply():
    m = conv_net()
    net = sh.from_onnx(m)
    x = images(32)
    small = Plan([("*", Quantize(w=8, a=8)), (nn.Conv2d, Prune(0.25)), ("fc", None), ("fc", Quantize(w=8, a=8))]).apply(net, calibration=x)
    apart = np.abs(small.eval()(x).numpy() - net(x).numpy())
    assert apart.max() < 0.5 * np.abs(net(x).numpy()).max()
    thin = Plan([("*", PruneChannels(0.5)), ("fc", None)]).apply(net, calibration=x)
    assert thin.eval()(x).shape == (32, 5) and thin.block.pw.weight.shape == (4, 1, 1, 4)


def test_a_plan_names_functions_too():
    """A softmax between layers stays float by its name in the file."""
    w = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
    m = model([n("MatMul", ["x", "a.weight"], ["h"]), n("Softmax", ["h"], ["p"], name="gate"), n("MatMul", ["p", "b.weight"], ["y"])],
              {"a.weight": w, "b.weight": w + 1}, {"x": ("n", 4)}, ["y"])  # fmt: skip
    net, x = sh.from_onnx(m), np.random.default_rng(1).normal(size=(64, 4)).astype(np.float32)
    small = Plan([("*", Quantize(w=8, a=8)), ("gate", None)]).apply(net, calibration=x)
    assert np.abs(small.eval()(x).numpy() - net(x).numpy()).max() < 0.1
    scheme = lambda *rules: next(line for line in str(Plan([("*", Quantize(w=8, a=8)), *rules]).explain(net, x[:2])).splitlines() if line.startswith("gate/softmax"))
    assert "float32" in scheme(("gate", None)) and "int8" in scheme()


def test_the_report_without_onnx_runtime(monkeypatch):
    monkeypatch.setattr(origin, "onnxruntime", None)
    net = sh.from_onnx(conv_net(), check=images(2))
    assert "onnx's evaluator" in str(net.imported) and net.imported.difference < 1e-5


def test_importing_leaves_the_generator_where_it_stood():
    sh.seed(3)
    wanted = sh.random.uniform((4,)).tolist()
    sh.seed(3)
    sh.from_onnx(conv_net())
    assert sh.random.uniform((4,)).tolist() == wanted


def test_it_is_saved_loaded_and_copied(tmp_path):
    net, x = sh.from_onnx(conv_net()), images(3)
    sh.save(net, tmp_path / "net.safetensors", example=x[:1])
    again = sh.load(tmp_path / "net.safetensors")
    assert np.array_equal(again(x).numpy(), net(x).numpy())
    for other in (sh.copy(net), copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert np.array_equal(other(x).numpy(), net(x).numpy())
        other.stem.weight = other.stem.weight * 0
    assert net.stem.weight.numpy().any()


def test_it_compiles_to_the_same():
    net, x = sh.from_onnx(conv_net()), images(2)
    np.testing.assert_allclose(sh.jit(lambda net, x: net(x))(net, x).numpy(), net(x).numpy(), rtol=1e-4, atol=1e-5)


def test_a_layer_that_is_called_twice_is_one():
    w = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
    m = model([n("MatMul", ["x", "lin.weight"], ["a"]), n("Relu", ["a"], ["b"]), n("MatMul", ["b", "lin.weight"], ["y"])], {"lin.weight": w}, {"x": ("n", 4)}, ["y"])
    net = sh.from_onnx(m)
    assert [p for p, v in net.modules().items() if isinstance(v, nn.Linear)] == ["lin"]
    near(net, m, np.ones((3, 4), np.float32))


def test_one_matrix_two_ways_is_two_layers():
    w = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
    m = model([n("MatMul", ["x", "w"], ["a"]), n("Gemm", ["a", "w"], ["y"], transB=1)], {"w": w}, {"x": ("n", 4)}, ["y"])
    net = sh.from_onnx(m)
    assert [type(v) for v in net.modules().values()].count(nn.Linear) == 2
    near(net, m, np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32))


def test_rows_of_a_table_are_an_embedding():
    table = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)
    m = model([n("Cast", ["x"], ["i"], to=TensorProto.INT64), n("Gather", ["words.weight", "i"], ["y"])], {"words.weight": table}, {"x": ("n", 5)}, ["y"])
    net = sh.from_onnx(m)
    assert type(net.words) is nn.Embedding
    near(net, m, np.random.default_rng(1).integers(0, 7, (3, 5)).astype(np.float32))


@pytest.mark.parametrize("name, spelled", [
    ("hardswish", [n("Add", ["x", "three"], ["a"]), n("Clip", ["a", "zero", "six"], ["b"]), n("Mul", ["x", "b"], ["d"]), n("Div", ["d", "six"], ["y"])]),
    ("hardswish", [n("HardSigmoid", ["x"], ["a"], alpha=1 / 6, beta=0.5), n("Mul", ["a", "x"], ["y"])]),
    ("silu", [n("Sigmoid", ["x"], ["a"]), n("Mul", ["x", "a"], ["y"])]),
    ("gelu", [n("Div", ["x", "root"], ["a"]), n("Erf", ["a"], ["b"]), n("Add", ["b", "one"], ["d"]), n("Mul", ["x", "d"], ["e"]), n("Mul", ["e", "half"], ["y"])]),
    ("gelu", [n("Mul", ["x", "half"], ["h"]), n("Div", ["x", "root"], ["a"]), n("Erf", ["a"], ["b"]), n("Add", ["one", "b"], ["d"]), n("Mul", ["h", "d"], ["y"])]),
    ("multiply", [n("Sigmoid", ["x"], ["a"]), n("Relu", ["x"], ["b"]), n("Mul", ["b", "a"], ["y"])]),
    ("divide", [n("Add", ["x", "three"], ["a"]), n("Clip", ["a", "zero", "six"], ["b"]), n("Mul", ["x", "b"], ["d"]), n("Div", ["d", "three"], ["y"])]),
])  # fmt: skip
def test_functions_that_are_spelled_out(name, spelled):
    c = {"three": 3, "zero": 0, "six": 6, "one": 1, "half": 0.5, "root": 2**0.5}
    m = model(spelled, {k: np.float32(v) for k, v in c.items()}, {"x": ("n", 6)}, ["y"])
    net = sh.from_onnx(m)
    assert net._programs[0].steps[-1].call.__name__ == name and (len(net._programs[0].steps) == 1 or name in ("multiply", "divide"))
    near(net, m, 3 * np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32))


def test_norms_that_are_spelled_out():
    rng = np.random.default_rng(0)
    c = {"two": np.float32(2), "eps": np.float32(1e-5), "w": rng.normal(size=6).astype(np.float32), "b": rng.normal(size=6).astype(np.float32)}
    nodes = [
        n("ReduceMean", ["x"], ["m"], axes=[-1]), n("Sub", ["x", "m"], ["d"]), n("Pow", ["d", "two"], ["q"]), n("ReduceMean", ["q"], ["v"], axes=[-1]),
        n("Add", ["v", "eps"], ["e"]), n("Sqrt", ["e"], ["s"]), n("Div", ["d", "s"], ["z"]), n("Mul", ["z", "w"], ["g"]), n("Add", ["g", "b"], ["y"]),
    ]  # fmt: skip
    m = model(nodes, c, {"x": ("n", 5, 6)}, ["y"])
    net = sh.from_onnx(m)
    assert len(net._programs[0].steps) == 1 and type(net.z) is nn.LayerNorm and net.z.bias is not None
    near(net, m, rng.normal(size=(3, 5, 6)).astype(np.float32))
    c = {"cut": np.array([0, 2, -1]), "one": np.ones(2, np.float32), "zero": np.zeros(2, np.float32), "back": np.array([0, 4, 3, 3])}
    c |= {"w": rng.normal(size=(4, 1, 1)).astype(np.float32), "b": rng.normal(size=(4, 1, 1)).astype(np.float32)}
    nodes = [
        n("Reshape", ["x", "cut"], ["a"]), n("InstanceNormalization", ["a", "one", "zero"], ["d"], name="gn"), n("Reshape", ["d", "back"], ["e"]),
        n("Mul", ["e", "w"], ["f"]), n("Add", ["f", "b"], ["y"]),
    ]  # fmt: skip
    m = model(nodes, c, {"x": ("n", 4, 3, 3)}, ["y"])
    net = sh.from_onnx(m)
    assert type(net.gn) is nn.GroupNorm and net.gn.num_groups == 2 and net.gn.bias is not None
    near(net, m, rng.normal(size=(2, 4, 3, 3)).astype(np.float32))


def test_a_pair_of_quantizers_is_one_function_with_a_gradient():
    c = {"s": np.float32(0.1), "z": np.int8(3), "q": np.int8([[10, -20], [30, 40]]), "r": np.float32(0.05), "o": np.int8(0)}
    nodes = [
        n("QuantizeLinear", ["x", "s", "z"], ["i"]), n("DequantizeLinear", ["i", "s", "z"], ["a"]), n("DequantizeLinear", ["q", "r", "o"], ["w"]),
        n("MatMul", ["a", "w"], ["y"]),
    ]  # fmt: skip
    m = model(nodes, c, {"x": ("n", 2)}, ["y"], opset=21)
    net = sh.from_onnx(m)
    assert len(net._programs[0].steps) == 2
    x = np.float32([[0.52, -0.31], [40.0, 0.0]])
    near(net, m, x)
    assert np.allclose(sh.grad(lambda x: net(x).sum())(sh.asarray(x)).numpy()[0], [-0.5, 3.5])


def test_a_bias_belongs_to_its_call():
    """Two products with one matrix and two vectors: no vector slips into the other product."""
    rng = np.random.default_rng(0)
    c = {"w": rng.normal(size=(4, 4)).astype(np.float32), "p": np.float32([1, 2, 3, 4]), "q": np.float32([5, 6, 7, 8])}
    m = model([n("MatMul", ["x", "w"], ["a"]), n("Add", ["a", "p"], ["b"]), n("MatMul", ["b", "w"], ["d"]), n("Add", ["q", "d"], ["y"])], c, {"x": ("n", 4)}, ["y"])
    net = sh.from_onnx(m)
    assert not [s for s in net._programs[0].steps if callable(s.call)]
    near(net, m, rng.normal(size=(3, 4)).astype(np.float32))
    m = model([n("MatMul", ["x", "w"], ["a"]), n("Add", ["a", "p"], ["b"]), n("MatMul", ["x", "w"], ["d"]), n("Add", ["d", "q"], ["e"]), n("Mul", ["b", "e"], ["y"])], c, {"x": ("n", 4)}, ["y"])
    near(sh.from_onnx(m), m, rng.normal(size=(3, 4)).astype(np.float32))
    m = model([n("MatMul", ["x", "w"], ["a"]), n("Add", ["a", "p"], ["b"]), n("Mul", ["a", "b"], ["y"])], c, {"x": ("n", 4)}, ["y"])
    near(sh.from_onnx(m), m, rng.normal(size=(3, 4)).astype(np.float32))  # the product itself is read, too


def test_channels_shuffle_with_one_turn():
    w = np.random.default_rng(0).normal(size=(8, 8, 1, 1)).astype(np.float32)
    nodes = [
        n("Conv", ["x", "a.weight"], ["a"]), n("Reshape", ["a", "cut"], ["b"]), n("Transpose", ["b"], ["d"], perm=[0, 2, 1, 3, 4]),
        n("Reshape", ["d", "back"], ["e"]), n("Conv", ["e", "a.weight"], ["y"]),
    ]  # fmt: skip
    m = model(nodes, {"a.weight": w, "cut": np.array([0, 2, 4, 6, 6]), "back": np.array([0, 8, 6, 6])}, {"x": ("n", 8, 6, 6)}, ["y"])
    net = sh.from_onnx(m)
    near(net, m, np.random.default_rng(1).normal(size=(2, 8, 6, 6)).astype(np.float32))
    assert len(turns(net._programs[0])) == 3  # in, the shuffle, out


def test_other_outputs_than_the_files():
    m, x = conv_net(), images(2)
    head = sh.from_onnx(m, outputs=["i", "logits"], check=x)
    inner, logits = head(x)
    assert inner.shape == (2, 8, 8, 8) and np.array_equal(logits.numpy(), sh.from_onnx(m)(x).numpy())
    assert head.imported.difference is not None and head.imported.difference < 1e-5
    trunk = sh.from_onnx(m, outputs=["b"])
    assert [p for p, v in trunk.modules().items() if isinstance(v, nn.Conv2d)] == ["stem"]  # no more than it needs
    with pytest.raises(sh.ForeignError, match="no value 'logit'; near: logits"):
        sh.from_onnx(m, outputs=["logit"])


def test_int8_on_a_device(tmp_path):
    """From a file to C: the integers of the module, its reference and the host's C are the same."""
    x = images(32)
    small = Plan([("*", Quantize(w=8, a=8))]).apply(sh.from_onnx(conv_net()), calibration=x)
    art = sh.export(small, x[:1], device="host", to=tmp_path / "art")
    assert sh.compare(small, art, x[:8]).differing == 0


def test_states_of_zeros_grow_with_the_examples():
    """What a file spells for one example's initial state is any number's."""
    f = lambda *s: np.random.default_rng(sum(s)).normal(size=s).astype(np.float32)
    nodes = [
        n("Shape", ["x"], ["s"]), n("Slice", ["s", "one", "two"], ["b"]), n("Concat", ["d", "b", "h"], ["hs"], axis=0), n("ConstantOfShape", ["hs"], ["h0"]),
        n("LSTM", ["x", "W", "R", "B", "", "h0", "h0"], ["y", "hn"], hidden_size=4, direction="bidirectional"),
    ]  # fmt: skip
    c = {"one": np.array([1]), "two": np.array([2]), "d": np.array([2]), "h": np.array([4]), "W": f(2, 16, 3), "R": f(2, 16, 4), "B": f(2, 32)}
    m = model(nodes, c, {"x": (5, "n", 3)}, ["y", "hn"])
    for count in (1, 2, 6):
        near(sh.from_onnx(m, shape=(5, count, 3)), m, f(5, count, 3))


def test_tokens_of_an_image_move_nothing():
    """(n, c, h, w) -> (n, c, hw) -> (n, hw, c): what a vision transformer's patches do is no work here."""
    w = np.random.default_rng(0).normal(size=(8, 3, 4, 4)).astype(np.float32)
    nodes = [n("Conv", ["x", "patch.weight"], ["a"], strides=[4, 4]), n("Reshape", ["a", "s"], ["b"]), n("Transpose", ["b"], ["y"], perm=[0, 2, 1])]
    m = model(nodes, {"patch.weight": w, "s": np.array([0, 8, -1])}, {"x": ("n", 3, 16, 16)}, ["y"])
    net = sh.from_onnx(m)
    near(net, m, images(2))
    assert [s.place for s in turns(net._programs[0])] == ["patch"]


def test_a_file_that_cuts_its_examples_is_for_their_number_only():
    """A slice of at most twenty of them must not become one of all (docs: any number of examples)."""
    m = model([n("Slice", ["x", "s", "e", "a"], ["y"])], {"s": np.array([0]), "e": np.array([20]), "a": np.array([0])}, {"x": ("n", 4)}, ["y"])
    net = sh.from_onnx(m, shape=(25, 4))
    near(net, m, np.arange(100, dtype=np.float32).reshape(25, 4))
    with pytest.raises(sh.ShapeError, match="import it again with shape="):
        net(np.zeros((7, 4), np.float32))
