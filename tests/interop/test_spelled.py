"""What files spell out and plans see as one operator: layer norms by moments, over the last dim or another, and GELU as JAX writes it."""

import numpy as np
import pytest

pytest.importorskip("onnx")

from onnx import helper

import shohin as sh
from shohin import nn
from shohin.compress import Plan, Quantize
from tests.interop.make import expected, model

n = helper.make_node
f = lambda *s: np.random.default_rng(sum(s)).normal(size=s).astype(np.float32)


def moments(axis, gain=True, by=1 / 12, floor=True):
    """(x - E[x]) (gamma / sqrt(max(0, E[x^2] - E[x]^2) + eps)) + beta."""
    nodes = [
        n("ReduceSum", ["x", "axes"], ["s"], keepdims=0), n("Mul", ["s", "by"], ["m"]), n("Mul", ["x", "x"], ["xx"]), n("ReduceSum", ["xx", "axes"], ["ss"], keepdims=0), n("Mul", ["ss", "by"], ["mm"]),
        n("Mul", ["m", "m"], ["m2"]), n("Sub", ["mm", "m2"], ["v"]), n("Max", ["zero", "v"], ["w"]), n("Unsqueeze", ["w" if floor else "v", "axes"], ["u"]), n("Add", ["u", "eps"], ["e"]), n("Sqrt", ["e"], ["r"]),
        n("Reciprocal", ["r"], ["i"]), n("Mul", ["i", "gamma"], ["g"]), n("Unsqueeze", ["m", "axes"], ["mean"]), n("Sub", ["x", "mean"], ["a"]), n("Mul", ["a", "g" if gain else "i"], ["y0"]), n("Add", ["y0", "beta"], ["y"]),
    ]  # fmt: skip
    shape = [12 if d == axis else 1 for d in range(1, 3)]
    c = {"axes": np.array([axis]), "by": np.float32(by), "zero": np.float32(0), "eps": np.float32(1e-5), "gamma": 1 + f(*shape), "beta": f(*shape, 1)[..., 0]}
    return model(nodes, c, {"x": ("batch", *(12 if d == axis else 5 for d in (1, 2)))}, ["y"])


@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize("gain", [True, False])
def test_a_layer_norm_by_moments(axis, gain):
    m = moments(axis, gain, floor=gain)
    net, x = sh.from_onnx(m), 3 * f(8, 12, 5) if axis == 1 else 3 * f(8, 5, 12)
    assert [type(v) for v in net.modules().values()].count(nn.LayerNorm) == 1
    wanted = expected(m, x)[0]
    np.testing.assert_allclose(net(x).numpy(), wanted, atol=1e-5)
    small = Plan([("*", Quantize(w=8, a=8))]).apply(net, calibration=x).eval()
    assert np.abs(small(x).numpy() - wanted).max() < 0.05 * np.abs(wanted).max()


def test_other_moments_are_left_as_they_are():
    m = moments(2, by=1 / 11)  # not the mean
    net, x = sh.from_onnx(m), 3 * f(8, 5, 12)
    assert nn.LayerNorm not in [type(v) for v in net.modules().values()]
    np.testing.assert_allclose(net(x).numpy(), expected(m, x)[0], rtol=1e-4, atol=1e-4)


def test_gelu_as_jax_writes_it():
    nodes = [
        n("Mul", ["c", "x"], ["a"]), n("Mul", ["x", "a"], ["b"]), n("Mul", ["x", "b"], ["d"]), n("Add", ["x", "d"], ["e"]), n("Mul", ["r", "e"], ["t"]), n("Tanh", ["t"], ["h"]),
        n("Add", ["one", "h"], ["i"]), n("Mul", ["half", "i"], ["j"]), n("Mul", ["x", "j"], ["y"]),
    ]  # fmt: skip
    m = model(nodes, {"c": np.float32(0.044715), "r": np.float32(np.sqrt(2 / np.pi)), "one": np.float32(1), "half": np.float32(0.5)}, {"x": ("batch", 9)}, ["y"])
    net, x = sh.from_onnx(m), 3 * f(4, 9)
    assert [getattr(s.call, "__name__", "") for s in net._programs[0].steps] == ["gelu"]
    np.testing.assert_allclose(net(x).numpy(), expected(m, x)[0], atol=1e-5)
