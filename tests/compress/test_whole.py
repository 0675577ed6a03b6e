"""Operators that are quantized whole (Q12): 0 differing integers between module, reference and integer graph; how near they
are to the float operator; gradients; what is refused."""

import re
import zlib
from functools import partial

import numpy as np
import pytest

import shohin as sh
from shohin import nn, optim
from shohin.compress import Plan, Quantize, integers
from shohin.compress import definitions as d
from shohin.core.errors import QuantizationError
from shohin.core.op import Aval
from shohin.core.tensor import as_tensor
from shohin.ops import fixed, math
from tests.compress.whole import CASES, NETS, Of, adversarial, differing, filled, output, quantized, worst, write


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.__name__)
@pytest.mark.parametrize("name", NETS)
def test_no_integer_differs(name, case):
    rng = np.random.default_rng(len(name))
    net, xs = NETS[name](rng)
    small = quantized(net, *xs)
    case(small, rng)
    after = small.train().eval().integers(*xs)
    before = small.train().integers(*xs)
    small.eval()
    assert all((before[p] == q).all() for p, q in after.items())  # constants of this moment's weights are those that freeze stores
    for inputs in (*adversarial(small, xs, rng), [x[:2] for x in xs]):
        wrong, count = differing(small, *inputs)
        assert wrong == {} and count > 0


# --------------------------------------------------------------------------------------- the float operator

NEAR = {"softmax": 1, "softmax over rows": 1, "layer norm": 1, "layer norm of two dims": 1, "group norm": 1, "instance norm": 1,
        "rms norm": 1, "l2 norm": 1, "attention": 1, "causal attention": 1, "gelu": 0, "gelu tanh": 0, "silu": 0, "resize": 1,
        "resize to corners": 1, "product": 1, "quotient": 1, "quotient or 0": 1}  # fmt: skip


@pytest.mark.parametrize("name", NEAR)
def test_steps_from_the_float_operator_on_the_same_grids(name):
    net, xs = NETS[name](np.random.default_rng(7))
    assert worst(quantized(net, *xs), net, *xs) <= NEAR[name]


@pytest.mark.parametrize("layer", [nn.GRU, partial(nn.GRU, reset_after=False), nn.LSTM])
def test_states_stay_near_the_float_cell_for_fifty_steps(layer):
    """On an int8 grid of the result: 1 step; the weights are those that the integers stand for."""
    rng = np.random.default_rng(3)
    net = filled(Of(lambda net, x: net.g(x)[0], g=layer(8, 16)), rng, 0.4)
    for path, cell in net.cells(nn.Param).items():
        w = cell.read().numpy()
        if w.ndim == 2:
            s = np.abs(w).max(1, keepdims=True) / np.float32(127)
            write(net, path, np.rint(w / s) * s)
    x = rng.normal(size=(4, 50, 8)).astype(np.float32)
    small = quantized(net, x)
    found, grids = integers(small, x), small.grids()
    real = net(as_tensor(d.dequantize(found["input"], grids["input"]))).numpy()
    place, name = output(small, x)
    ours = d.dequantize(found[place], grids[name])
    grid = d.grid(real.min(), real.max())
    assert np.abs(d.quantize(real, grid).astype(int) - d.quantize(ours, grid)).max() <= 1


def test_attention_over_a_thousand_keys():
    rng = np.random.default_rng(0)
    xs = [rng.normal(size=(1, n, 32)).astype(np.float32) for n in (8, 1000, 1000)]
    net = Of(lambda net, *a: nn.attention(*a))
    small = quantized(net, *xs)
    assert int(small.quantized.constants["/attention#0"]["sh"]) == 2
    assert worst(small, net, *xs) <= 1 and differing(small, *xs)[0] == {}


def test_a_query_that_may_look_nowhere_gives_zero():
    rng = np.random.default_rng(1)
    net, xs = NETS["masked attention"](rng)
    small = quantized(net, *xs)
    place, q = list(integers(small, *xs).items())[-1]
    assert (q[:, 2] == small.grids()[place].z).all() and (small(*map(as_tensor, xs)).numpy()[:, 2] == 0).all()


def test_a_cache_of_keys_that_grows_gives_the_integers_of_the_causal_pass():
    rng = np.random.default_rng(2)
    xs = [rng.normal(size=(2, 400, 8)).astype(np.float32) for _ in range(3)]
    xs[2] = np.abs(xs[2])  # the zero point at an end, so that 400 keys need one bit less
    full = quantized(Of(lambda net, *a: nn.attention(*a, causal=True, max_keys=400)), *xs)
    whole_pass = list(integers(full, *xs).values())[-1]
    for t in (1, 7, 300):
        some = (xs[0][:, t - 1 : t], xs[1][:, :t], xs[2][:, :t])
        assert (list(integers(full, *some).values())[-1][:, 0] == whole_pass[:, t - 1]).all()
    short = quantized(Of(lambda net, *a: nn.attention(*a, causal=True)), *(x[:, :100] for x in xs))  # not declared: as many as there are
    assert [int(net.quantized.constants["/attention#0"]["sh"]) for net in (short, full)] == [0, 1]


# ------------------------------------------------------------------------------------------------- gradients

SMOOTH = ("softmax", "layer norm", "group norm", "rms norm", "l2 norm", "attention", "resize", "gru", "lstm", "product", "quotient")


@pytest.mark.parametrize("name", SMOOTH)
def test_the_gradient_is_the_float_operators_at_the_dequantized_values(name):
    rng = np.random.default_rng(4)
    net, xs = NETS[name](rng)
    small = quantized(net, *xs).train()
    found, grids = small.integers(*xs), small.grids()
    real = [d.dequantize(found[p], grids[p]) for p in ("input", "input0", "input1", "input2") if p in found]
    y = net(*map(as_tensor, real)).numpy()
    weight = rng.normal(size=y.shape).astype(np.float32)
    place, grid = output(small, *xs)
    g = grids[grid]
    v = y / g.s + g.z
    low = np.float32(small.quantized.constants[place]["lo"].numpy())
    weight *= (v >= low) & (v <= g.limits[1])  # nothing comes back where the last clip acted
    inside = [(x >= r.min()) & (x <= r.max()) for x, r in zip(xs, real, strict=True)]
    loss = lambda f: lambda *a: (f(*a) * weight).sum()
    ours = sh.grad(loss(small), argnums=tuple(range(len(xs))))(*map(as_tensor, xs))
    theirs = sh.grad(loss(net), argnums=tuple(range(len(xs))))(*map(as_tensor, real))
    for a, b, clear in zip(ours, theirs, inside, strict=True):
        np.testing.assert_allclose(a.numpy()[clear], b.numpy()[clear], rtol=1e-4, atol=1e-5)


def test_parameters_learn_through_the_integers():
    rng = np.random.default_rng(6)
    x, t = rng.normal(size=(32, 6, 8)).astype(np.float32), rng.integers(0, 3, 32)
    net = Of(lambda net, x: net.h(net.n(net.g(x)[0]).mean(axis=1)), g=nn.GRU(8, 12), n=nn.LayerNorm(12), h=nn.Linear(12, 3))
    small = quantized(net, x).train()
    opt = optim.adamw(2e-2).init(small)

    @sh.jit
    def step(small, opt, x, t):
        value, grads = sh.value_and_grad(lambda m: nn.cross_entropy(m(x), t))(small)
        opt.update(small, grads)
        return value

    losses = [float(step(small, opt, as_tensor(x), as_tensor(t))) for _ in range(25)]
    assert losses[-1] < 0.7 * losses[0]
    small.eval()
    assert differing(small, x)[0] == {}
    assert (sh.jit(lambda m, x: m(x))(small, as_tensor(x)).numpy() == small(as_tensor(x)).numpy()).all()


# -------------------------------------------------------------------------------------------- what is refused


def refused(forward, *xs, **layers):
    with pytest.raises(QuantizationError) as error:
        Plan([("*", Quantize())]).apply(Of(forward, **layers), calibration=tuple(xs))
    return str(error.value)


@pytest.mark.parametrize(
    ("forward", "shapes", "text"),
    [
        (lambda net, x: nn.softmax(x), [(1, 65537)], "/softmax#0: softmax cannot be quantized: a row is 65537, the definition holds to 65536"),
        (lambda net, x: nn.layer_norm(x), [(1, 32769)], "/layer_norm#0: .*a row is 32769, the definition holds to 32768"),
        (lambda net, x: nn.group_norm(x, 1), [(1, 32769, 1)], "/group_norm#0: .*a row is 32769"),
        (lambda net, x: nn.attention(x, x, x), [(1, 1, 16385)], "/attention#0: .*the size of a head is 16385"),
        (lambda net, x: nn.attention(x, x, x, max_keys=2), [(1, 3, 4)], "/attention#0: .*there are 3 keys, max_keys says at most 2"),
        (lambda net, x, y: nn.attention(x, x, x, mask=y > 0), [(3, 3, 4), (3, 3)], "its mask depends on the input"),
        (lambda net, x: nn.layer_norm(x, x[0, 0]), [(1, 3, 4)], "its gain depends on the input"),
        (lambda net, x: nn.log_softmax(x), [(1, 4)], "log-softmax has no integer definition"),
    ],
)  # fmt: skip
def test_bounds_are_kept_with_the_place(forward, shapes, text):
    assert re.search(text, refused(forward, *(np.ones(s, np.float32) for s in shapes)))


def test_state_weights_that_no_int32_sums_are_refused():
    net = nn.GRU(2, 520)
    write(net, "weight_hh_l0", 1.0)
    with pytest.raises(QuantizationError, match=r"/gru#0: the state's weights of row 0 sum to 66040, .* up to a sum of 65538"):
        quantized(Of(lambda net, x: net.g(x)[0], g=net), np.ones((1, 2, 2), np.float32))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(value):
    net, xs = NETS["layer norm"](np.random.default_rng(0))
    small = quantized(net, *xs).train()
    write(small, "n.weight", value)
    with pytest.raises(QuantizationError, match=r"n/layer_norm#0: its operand 1 is not finite"):
        small.eval()


# ---------------------------------------------------------------------------------------- tables, and the rest


def test_constants_of_all_networks_are_the_documented_ones():
    sums = [zlib.crc32(t.astype("<u2").tobytes()) for t in (fixed.EXP, fixed.TANH, fixed.LOG)]
    assert [f"{s:08x}" for s in sums] == ["f8e495c5", "032b51f8", "839a78cb"]


def test_a_lookup_by_tokens_is_a_gather_of_int8():
    rng = np.random.default_rng(0)
    t = rng.integers(0, 20, (8, 6)).astype(np.int32)
    net = Of(lambda net, t: net.h(net.e(t).mean(axis=1)), e=nn.Embedding(20, 8), h=nn.Linear(8, 3))
    small = quantized(net, t)
    assert differing(small, t)[0] == {}
    program, _ = small.program(Aval(t.shape, t.dtype))
    assert [s.kind for s in program.steps] == ["stored", "move", "pool", "contract"]
    with pytest.raises(IndexError, match="index 20"):
        small(np.int32([[20] * 6]))
    with pytest.raises(sh.core.errors.DtypeError, match="takes int32"):
        small(np.zeros((1, 6), np.float32))


def test_the_logarithm_of_an_integer_input():
    rng = np.random.default_rng(0)
    ends = [0, 1, 2, 3, -1, 2**31 - 1, -(2**31), 2**24, 2**24 + 1, 2**30]
    e = np.concatenate([rng.integers(-5, 2**31 - 1, (9, 10)), [ends], 2 ** rng.integers(0, 31, (9, 10))]).astype(np.int32)
    small = quantized(Of(lambda net, e: math.log(math.maximum(math.astype(e, np.float32), 1.0))), e)
    assert differing(small, e)[0] == {}
    place, name = output(small, e)
    q, grid = integers(small, e)[place], small.grids()[name]
    assert np.abs(d.quantize(np.log(np.maximum(e.astype(np.float64), 1)), grid).astype(int) - q).max() <= 1
    assert "an input of integers is an index, or is read by a logarithm" in refused(lambda net, e: math.exp(math.astype(e, np.float32)), e)


def test_what_explain_and_report_say_of_them():
    rng = np.random.default_rng(0)
    net = Of(lambda net, x: nn.softmax(net.g(x)[0]) + net.p, g=nn.GRU(6, 8), p=nn.Param(np.ones((7, 8), np.float32)))
    x = rng.normal(size=(4, 7, 6)).astype(np.float32)
    text = Plan([("*", Quantize())]).explain(net, x)
    assert "g/gru#0" in text and "int16" in text and "a parameter on a grid of its own" in text and "quantized whole" in text
    assert "g.weight_hh_l0" in (lines := {r.split()[0]: r.split() for r in sh.compress.report(quantized(net, x)).splitlines()})
    assert lines["g.weight_hh_l0"][-2:] == ["768", "192"] and lines["p"][-2:] == ["224", "56"]
