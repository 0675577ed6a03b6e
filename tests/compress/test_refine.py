"""AdaRound, bias correction, equalization, learned steps: each against what its paper promises, and 0 differing integers."""

import numpy as np
import pytest

import shohin as sh
from shohin import nn, optim
from shohin.compress import Palettize, Plan, Prune, Quantize, adaround, correct, fake, sequential
from shohin.compress.steps import Contract
from shohin.core.errors import PlanError, QuantizationError
from shohin.core.tensor import as_tensor
from tests.compress import test_twin
from tests.compress.nets import images, trained

ALL = {
    "adaround": Quantize(w=4, rounding="adaround", steps=40),
    "corrected": Quantize(w=3, calibrate="mse", correct=True),
    "learned": Quantize(w=2, learn=True),
    "everything": Quantize(w=4, a=16, calibrate="mse", rounding="adaround", steps=20, learn=True, correct=True),
}


def apply(rule, net=None, data=None):
    return Plan([("*", rule)]).apply(trained() if net is None else net, images(48, 7) if data is None else data)


def small_net(seed=0):
    sh.seed(seed)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8), nn.ReLU(), nn.Conv2d(8, 6, 1),
                         nn.GlobalAvgPool(), nn.Linear(6, 4))  # fmt: skip


@pytest.mark.parametrize("name", ALL)
def test_no_integer_differs(name):
    net = apply(ALL[name]).eval()
    wrong, count, _ = test_twin.compare(net, images(3, 50))
    assert wrong == [] and count > 5000
    frozen = net.integers(images(3, 50))
    net.train()
    for m in net.modules().values():
        if isinstance(m, nn.BatchNorm2d):
            m.eval()
    mine = net.integers(images(3, 50))
    assert [p for p in frozen if (mine[p] != frozen[p]).any()] == []


@pytest.mark.parametrize("name", ["adaround", "everything"])
def test_saved_and_loaded_it_gives_the_same_integers(name, tmp_path):
    net, x = apply(ALL[name], small_net(), images(16)).eval(), images(4, 3)
    sh.save(net, tmp_path / "net.safetensors")
    again = sh.load(tmp_path / "net.safetensors")
    mine, theirs = net.integers(x), again.integers(x)
    assert all((mine[p] == theirs[p]).all() for p in mine) and mine.keys() == theirs.keys()


# ------------------------------------------------------------------------------------------------------ AdaRound


def test_matrices_of_a_layer_are_its_contraction():
    """W patches(x) is the layer's output, for every kind of layer."""
    net = apply(Quantize()).eval()
    for layer in sequential.layers(net, images(4)):
        if layer.step.op is not None:
            x = layer.inputs[0][0]
            y = layer.patches(x) @ layer.matrix(layer.weight).transpose(0, 2, 1)
            want = fake.product(layer.step, as_tensor(x), as_tensor(layer.weight)).numpy()
            y = y.reshape(len(y), -1, y.shape[-1]).transpose(1, 0, 2).reshape(want.shape)
            np.testing.assert_allclose(y, want, rtol=1e-4, atol=1e-4)
            np.testing.assert_array_equal(layer.rows(layer.matrix(layer.weight)), layer.weight)


def test_the_objective_is_the_mean_squared_error_of_the_outputs():
    net = apply(Quantize(), small_net(), images(16)).eval()
    for layer in sequential.layers(net, images(16)):
        if layer.step.op is not None:
            (x, q), rng = layer.inputs[0], np.random.default_rng(0)
            w = layer.matrix(layer.weight)
            other = (w + rng.normal(size=w.shape) * 0.1).astype(np.float32)
            d = layer.patches(x) @ w.transpose(0, 2, 1) - layer.patches(q) @ other.transpose(0, 2, 1)
            assert adaround.moments(layer, False).error(other) == pytest.approx(np.square(d).mean(1).sum(), rel=1e-3)
            assert adaround.moments(layer, True).error(other) == pytest.approx(d.var(1).sum(), rel=1e-3)


def test_it_lowers_the_error_of_layers_on_images_that_it_has_not_seen():
    plain, rounded = (apply(Quantize(w=3, rounding=r, steps=300), small_net(), images(64, 7)).eval() for r in ("nearest", "adaround"))
    held = small_net()
    held.eval()
    x = images(64, 99)
    far = lambda net: float(np.square(net(x).numpy() - held(x).numpy()).mean())
    assert far(rounded) < 0.7 * far(plain)
    q = rounded.quantized.constants["0/conv2d#0"]["q_w"].numpy()
    s = rounded.quantized.step["0/conv2d#0"].numpy().reshape(-1, 1, 1, 1)
    assert np.abs(q - small_net()[0].weight.numpy() / s).max() <= 1.0001  # down or up, nothing else
    assert (q != plain.quantized.constants["0/conv2d#0"]["q_w"].numpy()).any()


def test_the_gradient_of_its_objective_is_that_of_differences():
    rng = np.random.default_rng(0)
    G = rng.normal(size=(1, 5, 9))
    G, C = (G @ G.transpose(0, 2, 1)).astype(np.float32), rng.normal(size=(1, 3, 5)).astype(np.float32)
    r = adaround.Rounding(rng.normal(size=(1, 3, 5)).astype(np.float32) * 0.5)
    rest = [as_tensor(np.asarray(a, np.float32)) for a in (np.zeros((1, 3, 5)), np.full((1, 3, 5), 0.5), G, C, 7, 5, 1)]
    g = sh.grad(adaround.objective)(r, *rest)["v"].numpy()
    v = r.v.numpy()
    for at in np.ndindex(v.shape):
        ends = []
        for e in (1e-2, -1e-2):
            moved = v.copy()
            moved[at] += e
            ends.append(float(adaround.objective(adaround.Rounding(moved), *rest)))
        assert g[at] == pytest.approx((ends[0] - ends[1]) / 2e-2, abs=2e-2)


def test_masks_stay_and_tables_are_refused():
    net = Plan([("*", Quantize(w=4, rounding="adaround", steps=20)), ("0", Prune(0.5))]).apply(small_net(), images(16)).eval()
    assert (net.quantized.constants["0/conv2d#0"]["q_w"].numpy() == 0).mean() >= 0.5
    with pytest.raises(QuantizationError, match="5/conv2d#0: adaround sets a layer's weight, but it is computed"):
        Plan([("*", Quantize(w=4, rounding="adaround", steps=20)), ("5", Palettize(2))]).apply(small_net(), images(16))


# ------------------------------------------------------------------------------------------------ bias correction


def test_correction_takes_the_mean_error_away():
    x = images(64, 7)
    plain, corrected = (apply(Quantize(w=3, correct=c), small_net(), x).eval() for c in (False, True))
    held = small_net().eval()
    off = lambda net, x: np.abs((net(x).numpy() - held(x).numpy()).mean(0)).max()
    assert off(corrected, x) < 0.25 * off(plain, x) and off(corrected, images(64, 99)) < 0.5 * off(plain, images(64, 99))
    assert corrected.quantized.shift.keys() == {s.place for s in corrected._latest().steps if isinstance(s, Contract)}


def test_the_shift_is_the_papers_formula():
    net = apply(Quantize(w=3), small_net(), images(16)).eval()
    for layer in sequential.layers(net, images(16)):
        if layer.step.op is not None:
            c = sequential.constants(net, layer.step)
            real = c.q_w * c.s_w.reshape(-1, *(1,) * (c.q_w.ndim - 1))
            run = lambda x, w, step=layer.step: fake.product(step, as_tensor(x), as_tensor(w.astype(np.float32))).numpy()
            (x, q) = layer.inputs[0]
            want = (run(x, layer.weight) - run(q, real)).reshape(-1, layer.step.channels).mean(0) * layer.k
            np.testing.assert_allclose(correct.shift(layer, real), want, rtol=1e-3, atol=1e-5)


# -------------------------------------------------------------------------------------------------- equalization


def test_equalization_leaves_the_float_function_and_evens_the_ranges():
    net, rng = small_net(), np.random.default_rng(0)
    net[1].weight = nn.Param(rng.uniform(0.01, 5, 8).astype(np.float32))
    net[1].running_var = nn.Buffer(rng.uniform(0.1, 3, 8).astype(np.float32))
    net.eval()
    x = images(8)
    small = apply(Quantize(equalize=True), net, x).eval()
    np.testing.assert_allclose(small._net(x).numpy(), net(x).numpy(), rtol=1e-4, atol=1e-5)
    small = small._net
    k = np.abs(small[1].weight.numpy() / np.sqrt(small[1].running_var.numpy() + 1e-5))
    first = k * np.abs(small[0].weight.numpy().reshape(8, -1)).max(1)
    depthwise = np.abs(small[3].weight.numpy().reshape(8, -1)).max(1)
    last = np.abs(small[5].weight.numpy().reshape(6, 8)).max(0)
    np.testing.assert_allclose(first, depthwise, rtol=0.02)  # three alike, as in the paper's section 4.1
    np.testing.assert_allclose(depthwise, last, rtol=0.02)


def test_equalization_says_where_it_finds_nothing():
    sh.seed(0)
    net = nn.Sequential(nn.Linear(4, 4), nn.Sigmoid(), nn.Linear(4, 2))
    with pytest.raises(PlanError, match="equalize=True found no two layers"):
        Plan([("*", Quantize(equalize=True))]).apply(net, np.ones((4, 4), np.float32))


# -------------------------------------------------------------------------------------------------- learned steps


def loss(net, x, y):
    return nn.cross_entropy(net(x), y)


@sh.jit
def step(net, opt, x, y):
    value, grads = sh.value_and_grad(loss)(net, x, y)
    opt.update(net, grads)
    return value


def test_steps_train_in_the_compiled_step_and_ship_as_trained():
    x, y = as_tensor(images(24, 1)), as_tensor(np.arange(24) % 4)
    net = apply(Quantize(w=3, learn=True), small_net(), x).train()
    paths = [p for p in net.cells(nn.Param) if "_gain" in p]
    assert len([p for p in paths if "step_gain" in p]) == 4 and len([p for p in paths if "grid_gain" in p]) >= 5
    before, opt = net.grids(), optim.adam(1e-2).init(net)
    losses = [float(step(net, opt, x, y)) for _ in range(25)]
    assert losses[-1] < losses[0]
    net.eval()
    assert all(net.grids()[g].s != before[g].s for g in before if g in net.quantized.grid_gain)
    wrong, count, _ = test_twin.compare(net, images(3, 50))
    assert wrong == [] and count > 0
    frozen = net.integers(images(2))
    net.train()
    net._net[1].eval()
    mine = net.integers(images(2))
    assert [p for p in frozen if (mine[p] != frozen[p]).any()] == []


def test_the_gradient_of_a_step_is_the_papers():
    """One layer, one product: the loss is the quantized output itself; equation 3, for weight and activation."""
    sh.seed(0)
    net = nn.Linear(1, 1, bias=False)
    net.weight = nn.Param(np.float32([[0.8]]))
    data = np.float32([[-1.0], [1.0]])
    small = Plan([("", Quantize(learn=True))]).apply(net, data).train()
    state, grids = small.quantized, small.grids()
    (place,) = state.step_gain
    s_w, s_x = state.step[place].numpy()[0], grids["input"].s
    g = sh.grad(lambda net: net(np.float32([[0.4321]])).sum())(small)
    x = np.float32(0.4321) / s_x
    v_x = np.rint(x) * s_x
    ratio = lambda count, top: 1 / np.sqrt(count * top)
    w = np.float32(0.8) / s_w
    q_w = min(max(np.rint(w), -127), 127)
    inside = abs(w) <= 127
    y = g["quantized.grid_gain.input"].numpy()
    slope_y = 1.0  # straight through the output's own rounding
    want = slope_y * q_w * s_w * (np.rint(x) - x) * ratio(1, 127 - grids["input"].z) / s_x
    assert y == pytest.approx(want, rel=1e-2, abs=1e-4)
    want = v_x * (q_w - (w if inside else 0)) * ratio(1, 127) / s_w
    assert g[f"quantized.step_gain.{place}"].numpy()[0] == pytest.approx(want, rel=1e-2, abs=1e-3)


def test_a_run_with_learned_steps_resumes(tmp_path):
    y = np.arange(64) % 4
    data = sh.data.Dataset(images(64, 1), y)

    def run(epochs, folder):
        net = apply(Quantize(w=4, learn=True), small_net(), images(16))
        sh.fit(net, loss, data, optim.adam(1e-2).init(net), epochs, batch=32, run=tmp_path / folder, progress=False)
        return {p: c.read().numpy() for p, c in net.cells().items()}

    whole = run(2, "a")
    run(1, "b")
    again = run(2, "b")
    assert all(np.array_equal(whole[p], again[p]) for p in whole) and any("_gain" in p for p in whole)
