"""0 differing integers: the module in Python, the integer reference, the integer graph; ordinary and adversarial."""

import numpy as np
import pytest

from shohin import nn
from shohin.compress import Plan, Quantize, fake
from shohin.compress.integer import Reference, integers
from shohin.compress.intervals import prove
from shohin.compress.lowering import lower
from shohin.core.errors import QuantizationError
from shohin.core.op import Aval
from shohin.core.tensor import as_tensor
from shohin.core.trace import stage
from shohin.ops import math, move
from shohin.ops.control import run_numpy
from tests.compress.nets import images, quantized, write

F32 = np.dtype(np.float32)


def compare(net, x):
    """Differing integers of all places between the three; how many there are; places that do not stand still."""
    mine, reference = net.integers(x), integers(net, x)
    assert mine.keys() == reference.keys()
    graph = lower(net, Aval(x.shape, F32), every=True)
    lowered = dict(zip(graph.places, run_numpy(graph.graph, graph.quantize(x)), strict=True))
    assert lowered.keys() == reference.keys() - {"input"}
    wrong = [
        p for p in reference if (mine[p] != reference[p]).any() or (p != "input" and (lowered[p] != reference[p]).any())
    ]
    return wrong, sum(a.size for a in reference.values()), sum(a.min() < a.max() for a in reference.values())


def ordinary(net, rng):
    pass


def zero_row(net, rng):
    for path in ("stem.weight", "depthwise.weight", "head.weight"):
        w = net.cells()[path].read().numpy()
        w[[0, 3]] = 0
        write(net, path, w)
    write(net, "wide.weight", 0)


def dead_channel(net, rng):
    for k in ("norm", "norm2", "norm4", "alone"):
        gamma, var = net.cells()[f"{k}.weight"].read().numpy(), net.cells()[f"{k}.running_var"].read().numpy()
        gamma[:3] = (0, -0.0, 1e-30)
        var[3:5] = 0
        write(net, f"{k}.weight", gamma)
        write(net, f"{k}.running_var", var)


def huge_bias(net, rng):
    for path in ("stem.bias", "gate.down.bias", "head.bias", "norm3.bias"):
        b = net.cells()[path].read().numpy()
        b[:4] = (1e6, -1e6, 3e9, -7e15)
        write(net, path, b)


def large_sums(net, rng):
    """K = 576 with all weights at the top: sums beyond 2^24."""
    w = np.where(rng.random((24, 3, 3, 64)) < 0.9, 1, -1)
    w[:2] = 1
    write(net, "wide.weight", w)
    for name in ("/concat#1", "/concat#0"):
        write(net, f"quantized.zero.{name}", -128)
    write(net, "quantized.scale.wide/conv2d#0", 50.0)


def negative_gamma(net, rng):
    for k in ("norm", "norm2", "norm3", "norm4", "alone"):
        gamma = -np.abs(net.cells()[f"{k}.weight"].read().numpy())
        write(net, f"{k}.weight", gamma)


def ties(net, rng):
    """Weights of small integers, scales of powers of two: half of all results stand exactly between two integers."""
    for path, cell in net.cells(nn.Param).items():
        if path.endswith("weight") and len(cell.shape) > 1:
            w = rng.integers(-9, 10, cell.shape).astype(np.float32)
            w.reshape(len(w), -1)[:, 0] = 127
            write(net, path, w * 2.0**-7)
        elif path.endswith("bias"):
            write(net, path, 0.125)
    for k in ("norm", "norm2", "norm3", "norm4", "alone"):
        write(net, f"{k}.weight", 1)
        write(net, f"{k}.running_mean", 0)
        write(net, f"{k}.running_var", 1 - 1e-5)
    for name in net.quantized.scale:
        write(net, f"quantized.scale.{name}", 2.0 ** int(rng.integers(-6, -2)))
        write(net, f"quantized.zero.{name}", int(rng.integers(-40, 40)))


def ends_of_scales(net, rng):
    for name in net.quantized.low:
        write(net, f"quantized.scale.{name}", 2.0 ** rng.choice([-40, 40, -20, 0]))
        write(net, f"quantized.zero.{name}", rng.choice([-128, 127, 0]))


def ends_with_large_weights(net, rng):
    ends_of_scales(net, rng)
    for path in ("stem.weight", "point.weight", "wide.weight"):
        write(net, path, net.cells()[path].read().numpy() * np.float32(2.0**40))


CASES = [
    ordinary,
    zero_row,
    dead_channel,
    huge_bias,
    large_sums,
    negative_gamma,
    ties,
    ends_of_scales,
    ends_with_large_weights,
]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("seed", [0, 1])
def test_no_integer_differs(case, seed):
    net, rng = quantized(seed), np.random.default_rng(seed)
    case(net, rng)
    net.train().eval()
    for n, scale in ((1, 1.0), (5, 4.0)):
        wrong, count, alive = compare(net, images(n, seed + 50) * np.float32(scale))
        assert wrong == [] and count > 5000
        assert alive > 20 or case in (ends_of_scales, ends_with_large_weights)


WIDE = {
    "conv, two chunks": (nn.Conv2d(64, 6, 3, padding=1), (4, 4, 64)),
    "conv, many chunks": (nn.Conv2d(300, 6, 3), (3, 3, 300)),
    "conv, a window alone too large": (nn.Conv2d(2, 6, 24), (24, 24, 2)),
    "grouped conv": (nn.Conv2d(128, 6, 3, groups=2), (3, 4, 128)),
    "linear, two chunks": (nn.Linear(700, 6), (700,)),
    "linear, many chunks": (nn.Linear(3000, 6), (3000,)),
}


def accumulators(net, x, monkeypatch):
    """float32(acc) of the one contraction, as the network makes it."""
    seen = []
    close = fake.Fake.close
    monkeypatch.setattr(
        fake.Fake, "close", lambda self, step, acc, M: (seen.append(acc.numpy()), close(self, step, acc, M))[1]
    )
    net.integers(x)
    return seen[-1]


@pytest.mark.parametrize("name", WIDE)
@pytest.mark.parametrize("training", [False, True])
def test_accumulators_are_rounded_once(name, training, monkeypatch):
    layer, shape = WIDE[name]
    rng = np.random.default_rng(6)
    write(layer, "weight", rng.uniform(0.9, 1, layer.weight.shape))
    write(layer, "bias", rng.normal(size=6))
    x = rng.uniform(0.9, 1, (4, *shape)).astype(np.float32)
    net = Plan([("*", Quantize())]).apply(layer, x).eval()
    program, _ = net.program(Aval(x.shape, F32))
    step = next(s for s in program.steps if s.kind == "contract")
    c = net.quantized.constants[step.place]
    centred = integers(net, x)["input"].astype(np.float64) - net.grids()["input"].z
    reference = Reference(program, net.grids(), {})
    acc = reference.product(step, centred, c["q_w"].numpy().astype(np.float64)).astype(np.int64) + c["q_b"].numpy()
    assert (np.abs(acc) > 2**24).any() and (acc.astype(np.float32).astype(np.int64) != acc).any()
    mine = accumulators(net.train(training), x, monkeypatch)
    assert (mine.reshape(acc.shape) == acc.astype(np.float32)).all()


def test_every_value_lies_within_its_proved_range():
    net = quantized()
    graph = lower(net, Aval(images(3).shape, F32))
    for q in (np.full(images(3).shape, v, np.int8) for v in (-128, 127)):
        inside(graph.graph, [q], graph.ranges)
    inside(graph.graph, graph.quantize(images(3)), graph.ranges)
    big = Plan([("*", Quantize())]).apply(nn.AvgPool2d(3, 1, 1), np.ones((1, 5, 5, 2), np.float32) * 9).eval()
    pool = lower(big, Aval((1, 5, 5, 2), F32))
    inside(pool.graph, [np.full((1, 5, 5, 2), 127, np.int8)], pool.ranges)
    total = next(n for n in pool.graph.nodes if n.op.name == "window_sum2d")
    assert pool.ranges[total.results[0]] == (0, 9 * 255)


def inside(graph, inputs, ranges):
    values = dict(zip(graph.inputs, inputs, strict=True)) | dict(graph.consts)
    for node in graph.nodes:
        if node.op.kind == "call":
            inside(node.attrs["body"], [values[v] for v in node.operands], ranges)
        found = node.op.numpy(*(values[v] for v in node.operands), **node.attrs)
        for v, a in zip(node.results, found if isinstance(found, tuple) else (found,), strict=True):
            values[v] = a
            if v in ranges and a.size:
                assert ranges[v][0] <= a.min() and a.max() <= ranges[v][1], node.place


def test_an_integer_graph_that_overflows_is_refused():
    graph = stage(lambda q: [math.astype(q, np.int16) * 300], [Aval((4,), np.dtype(np.int8))]).graph
    with pytest.raises(
        QuantizationError, match=r"/multiply#0: multiply may give -38400 to 38100, which int16 does not hold"
    ):
        prove(graph, [(-128, 127)])
    assert prove(graph, [(-100, 100)])


def test_large_sums_really_exceed_what_float32_holds():
    net = quantized()
    large_sums(net, np.random.default_rng(0))
    net.train().eval()
    q_w = net.quantized.constants["wide/conv2d#0"]["q_w"].numpy().astype(np.int64)
    assert np.abs(q_w[0]).sum() * 255 > 2**24


def test_ties_really_occur():
    net, rng = quantized(), np.random.default_rng(0)
    ties(net, rng)
    net.train().eval()
    M = net.quantized.constants["stem/conv2d#0"]["M"].numpy()
    assert (np.frexp(np.abs(M))[0] == 0.5).all() and (np.abs(M) < 1).any()


def test_inputs_that_are_not_numbers():
    """NaN gives -128, infinities saturate: in the module, the reference and the host's helper alike."""
    net, x = quantized(), images(1)
    x[0, 0, 0] = (np.nan, np.inf, -np.inf)
    x[0, 1, 1] = (1e-45, -1e-45, 3e38)
    assert integers(net, x)["input"][0, 0, 0].tolist() == [-128, 127, -128]
    assert compare(net, x)[0] == []


def test_integers_go_in_and_logits_come_out():
    net, x = quantized(), images(3)
    q = integers(net, x)
    assert all((q[p] == v).all() for p, v in integers(net, q["input"]).items())
    graph = lower(net, Aval(x.shape, F32))
    out = graph.dequantize(run_numpy(graph.graph, graph.quantize(x)))
    assert (out[0] == net(as_tensor(x)).numpy()).all() and graph.places == ("head/matmul#0",)


def test_the_integer_graph_holds_integers():
    graph = lower(quantized(), Aval(images(2).shape, F32))
    floats = {v.dtype.name for n in graph.graph.nodes for v in n.results} - {"int8", "int16", "int32"}
    assert floats <= {"float32"}  # multipliers, stretched to their accumulators' shape
    made = [n for n in graph.graph.nodes if n.results[0].dtype == F32]
    assert {n.op.name for n in made} <= {"broadcast_to"}
    assert all(v in graph.ranges for n in graph.graph.nodes for v in n.results if v.dtype != F32)


class Choices(nn.Module):
    """Moves and choices that share a grid, positions, several inputs and outputs."""

    def __init__(self):
        self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6, bias=False)
        self.by = nn.Param(np.linspace(-2, 2, 6).astype(np.float32))

    def forward(self, x, y):
        p, q = self.a(x), self.b(y)
        t = move.permute_dims(p * self.by + 1.5, (0, 2, 1))
        t = move.concat([t, move.flip(t, axis=2)], axis=2)[:, 1:5, ::2]
        return (1 - t).max(axis=1), {"place": (q - p).argmax(axis=-1), "square": nn.tanh(q * q)}


def test_moves_positions_and_several_inputs():
    rng = np.random.default_rng(3)
    x, y = (rng.normal(size=(40, 4, 6)).astype(np.float32) for _ in range(2))
    net = Plan([("*", Quantize())]).apply(Choices(), (x, y)).eval()
    mine, reference = net.integers(x[:7], y[:7]), integers(net, x[:7], y[:7])
    graph = lower(net, Aval((7, 4, 6), F32), Aval((7, 4, 6), F32), every=True)
    lowered = dict(zip(graph.places, run_numpy(graph.graph, graph.quantize(x[:7], y[:7])), strict=True))
    assert all((mine[p] == reference[p]).all() for p in reference)
    assert all((lowered[p] == reference[p]).all() for p in lowered)
    assert {"input0", "input1"} <= reference.keys()
    a, rest = net(as_tensor(x), as_tensor(y))
    assert rest["place"].dtype == np.int64 and a.shape == (40, 4)


def test_a_sum_that_no_int32_holds_is_refused():
    net = nn.Linear(70_000, 2)
    write(net, "weight", 1.0)
    x = np.ones((2, 70_000), np.float32)
    with pytest.raises(
        QuantizationError, match=r"/matmul#0: sums of output channel [01] may reach 22\d+.*split the layer"
    ):
        Plan([("*", Quantize())]).apply(net, x)


def test_weights_out_of_range_are_refused_with_their_place():
    net = quantized()
    w = net.cells()["point.weight"].read().numpy()
    w[2] = 2.0**60
    write(net, "point.weight", w)
    net.train()
    for _ in range(2):  # it stays in training mode, and is refused again
        with pytest.raises(QuantizationError, match=r"point/conv2d#0: the weights are above .*channel 2"):
            net.eval()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_at_calibration_is_refused(value):
    x = images(8)
    x[3, 2, 2, 1] = value
    with pytest.raises(QuantizationError, match="input is not finite at calibration"):
        Plan([("*", Quantize())]).apply(nn.Conv2d(3, 2, 3), x)
