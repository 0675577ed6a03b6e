"""Networks of files with several inputs and outputs, states among them, for any number of examples: calibrated, shipped, saved."""

import numpy as np
import pytest

pytest.importorskip("onnx")

from onnx import helper

import shohin as sh
from shohin import nn
from shohin.compress import Plan, Quantize
from shohin.core.errors import PlanError
from tests.interop.make import expected, model

INT8 = Plan([("*", Quantize(w=8, a=8))])
n = helper.make_node
f = lambda *s: np.random.default_rng(sum(s)).normal(size=s).astype(np.float32)


def leaves(found):
    return [t.numpy() for t in found]


def gru():
    """Series of five steps and a state, the examples in the second dim, a gain for each example; the reset before the product."""
    nodes = [
        n("GRU", ["x", "W", "R", "B", "", "h"], ["y", "last"], hidden_size=4, linear_before_reset=0),
        n("Squeeze", ["last", "zero"], ["end"]), n("Gemm", ["end", "fc.weight", "fc.bias"], ["a"], transB=1), n("Mul", ["a", "gain"], ["scores"]),
    ]  # fmt: skip
    c = {"W": f(1, 12, 3), "R": f(1, 12, 4), "B": f(1, 24), "zero": np.array([0]), "fc.weight": f(6, 4), "fc.bias": f(6)}
    return model(nodes, c, {"gain": ("batch", 1), "x": (5, "batch", 3), "h": (1, "batch", 4)}, ["scores", "last"])


def test_several_inputs_and_outputs_for_any_number_of_examples(tmp_path):
    net = sh.from_onnx(gru(), examples_first=True)
    assert [type(m) for m in net.modules().values()].count(nn.GRU) == 1
    xs = (np.abs(f(30, 1)), f(30, 5, 3), np.tanh(f(30, 1, 4)))
    wanted = expected(gru(), xs[0], xs[1].transpose(1, 0, 2), xs[2].transpose(1, 0, 2))
    found = leaves(net(*xs))
    np.testing.assert_allclose(found[0], wanted[0], atol=1e-5)
    np.testing.assert_allclose(found[1].transpose(1, 0, 2), wanted[1], atol=1e-5)
    small = INT8.apply(net, calibration=xs).eval()
    assert {a.shape for a in leaves(small(*(x[:7] for x in xs)))} == {(7, 6), (7, 1, 4)}
    art = sh.export(small, tuple(x[:1] for x in xs), device="host", to=tmp_path / "art")
    assert [b.dtype for b in art.inputs] == ["int8", "int8", "int16"]
    same = sh.compare(small, art, xs)
    assert same.differing == 0 and same.compared == 2 * 30 * (6 + 4)
    for a, b in zip(leaves(small(*xs)), found):
        assert np.abs(a - b).max() < 0.05 * np.abs(b).max()
    sh.save(small, tmp_path / "net.safetensors")
    for a, b in zip(leaves(sh.load(tmp_path / "net.safetensors")(*xs)), leaves(small(*xs))):
        np.testing.assert_array_equal(a, b)


def test_calls_as_they_are():
    """A file for one example, whose series may have any length: the leading dims of its inputs are different things."""
    nodes = [n("Unsqueeze", ["x", "one"], ["s"]), n("LSTM", ["s", "W", "R", "B", "", "h", "c"], ["y", "hn", "cn"], hidden_size=4)]
    m = model(nodes, {"W": f(1, 16, 3), "R": f(1, 16, 4), "B": f(1, 32), "one": np.array([1])}, {"x": ("steps", 3), "h": (1, 1, 4), "c": (1, 1, 4)}, ["y", "hn", "cn"])
    state = np.zeros((1, 1, 4), np.float32)
    net = sh.from_onnx(m, check=(f(9, 3), state, state))
    calls = [(f(9, 3), state, state), (3 * f(9, 3), np.tanh(f(1, 1, 4)), f(1, 1, 4))]
    with pytest.raises(PlanError, match="list of tuples"):
        INT8.apply(net, calibration=calls[0])
    small = INT8.apply(net, calibration=calls).eval()
    for call in calls:
        for a, b in zip(leaves(small(*call)), leaves(net(*call))):
            assert np.abs(a - b).max() < 0.05
