"""The quantized network trains with the ordinary step, and leaving training mode is all that freezing takes."""

import numpy as np
import pytest

import shohin as sh
from shohin import nn, optim
from shohin.compress import Plan, Quantize, fake
from shohin.compress.integer import integers
from shohin.core.errors import StateError
from shohin.core.tensor import as_tensor
from shohin.ops import quant
from tests.compress.nets import images, quantized, trained, write
from tests.compress.test_twin import compare

NORMS = ("norm", "norm2", "norm3", "norm4", "alone")


def loss(net, x, y):
    return nn.cross_entropy(net(x), y)


def step(net, opt, x, y):
    value, grads = sh.value_and_grad(loss)(net, x, y)
    opt.update(net, grads)
    return value


@pytest.fixture(scope="module")
def data():
    return as_tensor(images(24, 1)), as_tensor(np.arange(24) % 5)


@pytest.mark.parametrize("seed", [0, 1])
def test_training_form_is_the_frozen_one_at_equal_statistics(seed):
    """With batch norms on their running statistics, the integers made in the step are the frozen ones."""
    net = quantized(seed)
    gamma = net.cells()["norm2.weight"].read().numpy()
    gamma[:2] = (0.0, -1e-20)
    write(net, "norm2.weight", gamma)
    write(net, "stem.bias", 1e6)
    net.train().eval()
    x = images(6, seed)
    frozen = net.integers(x)
    net.train()
    for name in NORMS:
        getattr(net, name).eval()
    mine = net.integers(x)
    assert [p for p in frozen if (mine[p] != frozen[p]).any()] == []


@pytest.mark.parametrize("seed", [0, 1])
def test_constants_made_in_the_step_are_the_frozen_bits(seed, monkeypatch):
    """q_w, q_b and M themselves: another order of the products would change an output in a million only."""
    net, rng = quantized(seed), np.random.default_rng(seed)
    write(net, "norm3.bias", 1e6 * rng.normal(size=16))
    net.train().eval()
    frozen = {p: c for p, c in net.quantized.constants.items() if "q_w" in dict(c)}
    weights, rest = [], {}
    exact, finish = fake.exact, fake.Fake.finish
    monkeypatch.setattr(fake, "exact", lambda step, x, w, bits: (weights.append(w.numpy()), exact(step, x, w, bits))[1])

    def watched(self, step, total, q_b, M):
        rest[step.place] = (weights[-1], q_b.numpy(), M.numpy())
        return finish(self, step, total, q_b, M)

    monkeypatch.setattr(fake.Fake, "finish", watched)
    net.train()
    for name in NORMS:
        getattr(net, name).eval()
    net(as_tensor(images(1)))
    assert rest.keys() == frozen.keys() and len(rest) == 9
    for place, found in rest.items():
        for name, mine in zip(("q_w", "q_b", "M"), found, strict=True):
            assert (mine == frozen[place][name].numpy()).all(), (place, name)


def test_the_running_variance_is_the_unbiased_one():
    class Net(nn.Module):
        def __init__(self):
            self.conv, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, momentum=1.0)

        def forward(self, x):
            return self.norm(self.conv(x))

    plain, x = Net(), images(1, size=(2, 2, 3))
    small = Plan([("*", Quantize())]).apply(plain, x).train()
    small(as_tensor(x))
    y = plain.conv(as_tensor(x)).numpy().reshape(-1, 4)
    assert np.allclose(small.norm.running_var.numpy(), y.var(0, ddof=1), rtol=0.1)
    assert np.allclose(small.norm.running_mean.numpy(), y.mean(0), atol=0.02)


def test_batch_statistics_fold_as_running_ones(monkeypatch):
    """Q6: training with the batch's statistics = folded, bit for bit, when the running ones are set to them."""
    seen = []
    moments = fake.moments

    def spy(y):
        seen.append(moments(y))
        return seen[-1]

    monkeypatch.setattr(fake, "moments", spy)
    net, x = quantized(), images(16, 3)
    for bias in ("stem.bias",):
        write(net, bias, 0.0)
    net.train()
    for _ in range(2):  # the second time s_w, which goes by the running statistics, is that of the first too
        seen.clear()
        mine = net.integers(x)
        for name, (mean, var) in zip(("norm", "norm2", "norm3", "norm4", "alone"), seen, strict=True):
            write(net, f"{name}.running_mean", mean.numpy())
            write(net, f"{name}.running_var", var.numpy())
        frozen = net.eval().integers(x)
        net.train()
    assert [p for p in frozen if (mine[p] != frozen[p]).any()] == []


def test_running_statistics_move_as_in_float(data):
    x, _ = data
    plain, small = trained(), quantized().train()
    for path, cell in plain.cells(nn.Buffer).items():
        write(small, path, cell.read().numpy())
    plain(x)
    small(x)
    for path, cell in plain.cells(nn.Buffer).items():
        a, b = cell.read().numpy(), small.cells()[path].read().numpy()
        assert np.allclose(a, b, rtol=0.15, atol=0.05), path
        assert (a != b).any()


def test_gradients_point_where_those_of_the_float_network_do(data):
    x, y = data
    plain, small = trained().train(), quantized().train()
    g, h = sh.grad(loss)(plain, x, y), sh.grad(loss)(small, x, y)
    assert list(g) == list(h)
    for path in g:
        a, b = g[path].numpy().ravel(), h[path].numpy().ravel()
        if np.linalg.norm(a) > 1e-2:
            assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) > 0.9, path
            assert 0.7 < np.linalg.norm(b) / np.linalg.norm(a) < 1.4, path


def test_the_ordinary_step_trains_in_eager_and_jit(data):
    x, y = data
    nets = [quantized().train(), quantized().train()]
    opts = [optim.adamw(1e-2).init(n) for n in nets]
    jitted = sh.jit(step)
    losses = [[float(s(n, o, x, y)) for _ in range(25)] for s, n, o in zip((step, jitted), nets, opts)]
    assert losses[0][-1] < 0.8 * losses[0][0] and losses[1][-1] < 0.8 * losses[1][0]
    assert np.allclose(losses[0][:3], losses[1][:3], rtol=1e-2)
    for net in nets:
        net.eval()
        assert compare(net, images(3, 9))[0] == []
    run = sh.jit(lambda net, x: net(x))
    for _ in range(2):  # compiled once, it reads the constants that were renewed in between
        assert (run(nets[1], x).numpy() == nets[1](x).numpy()).all()
        step(nets[1].train(), opts[1], x, y)
        nets[1].eval()


def test_leaving_training_mode_renews_what_has_changed():
    net, x = quantized(), images(2)
    before = net.integers(x)
    count = []
    freeze = type(net).freeze
    type(net).freeze = lambda self: (count.append(1), freeze(self))[1]
    try:
        net.train().eval()
        assert count == []
        for path, value in (("norm.running_mean", 0.3), ("head.weight", 0.01), ("quantized.scale.head/matmul#0", 3.0)):
            net.train()
            write(net, path, value)
            with sh.mode(net, training=False):
                after = net.integers(x)
            assert (after["head/matmul#0"] != before["head/matmul#0"]).any()
            before = after
        assert len(count) == 3
    finally:
        type(net).freeze = freeze
    net.eval()
    assert all((before[p] == v).all() for p, v in integers(net, x).items())


def test_constants_cannot_be_renewed_under_a_change_in_flight(data):
    x, _ = data
    net = quantized().train()

    @sh.jit
    def wrong(net, x):
        net.head.bias = net.head.bias + 1.0
        with sh.mode(net, training=False):
            return net(x)

    with pytest.raises(StateError, match="leaves training mode inside a trace"):
        wrong(net, x)
    assert net.training


def test_a_copy_is_a_network_of_its_own(data):
    x, _ = data
    net = quantized()
    other = sh.copy(net)
    before = net(x).numpy()
    write(other, "head.weight", 0.1)
    other.train().eval()
    assert (net(x).numpy() == before).all() and (other(x).numpy() != before).any()
    assert list(net.cells()) == list(other.cells())
    assert compare(other, images(2))[0] == []


def test_original_cells_keep_their_paths_and_the_float_network_its_values():
    plain = trained()
    before = {p: c.read().numpy() for p, c in plain.cells().items()}
    small = Plan([("*", Quantize())]).apply(plain, images(8))
    assert list(small.cells())[: len(before)] == list(before)
    assert all(p.startswith("quantized.") for p in list(small.cells())[len(before) :])
    assert list(small.cells(nn.Param)) == list(plain.cells(nn.Param))
    write(small, "head.weight", 0.0)
    assert all((c.read().numpy() == before[p]).all() for p, c in plain.cells().items())


def test_any_batch_size():
    net, x = quantized(), images(9)
    whole = net(as_tensor(x)).numpy()
    for n in (1, 4):
        assert (net(as_tensor(x[:n])).numpy() == whole[:n]).all()


def test_it_is_close_to_the_float_network():
    x = as_tensor(images(64, 7))
    plain, small = trained().eval(), quantized()
    a, b = plain(x).numpy(), small(x).numpy()
    assert 10 * np.log10((a**2).sum() / ((a - b) ** 2).sum()) > 20


def test_a_norm_that_stands_still_stays_so(data):
    """A batch norm in evaluation mode inside a network in training is left alone."""
    x, _ = data
    net = quantized().train()
    net.norm.eval()
    before = net.norm.running_mean.numpy()
    net(x)
    assert (net.norm.running_mean.numpy() == before).all()


@pytest.mark.parametrize(("op", "scale"), [(quant.quantize, 1 / 0.1), (quant.requantize, 0.1)])
def test_rounding_has_a_straight_gradient_and_the_clip_none(op, scale):
    x = as_tensor(np.array([-1e4, -3.2, 0.0, 4.7, 1e4], np.float32))
    lo, hi, s = (as_tensor(np.float32(v)) for v in (-50, 60, 0.1))
    g = sh.grad(lambda x: op(x, s, lo, hi).sum())(x).numpy()
    assert np.allclose(g, [0, scale, scale, scale, 0])


def test_a_table_has_no_gradient_where_it_saturates():
    class Double(nn.Module):
        def forward(self, x):
            return x * 2

    net = Plan([("*", Quantize())]).apply(Double(), np.linspace(-1, 1, 64, dtype=np.float32)[None])
    write(net, "quantized.scale./multiply#0", 2.0**-8)
    net.eval()
    g = sh.grad(lambda x: net(x).sum())(as_tensor(np.array([-0.9, -0.1, 0.1, 0.9], np.float32))).numpy()
    assert (g[[0, 3]] == 0).all() and np.allclose(g[1:3], 2)


def test_a_table_has_the_gradient_of_its_function():
    net = Plan([("*", Quantize())]).apply(nn.Hardswish(), np.linspace(-4, 4, 256, dtype=np.float32)[None]).eval()
    x = np.linspace(-4, 4, 41, dtype=np.float32)[None]
    g = sh.grad(lambda x: net(x).sum())(as_tensor(x)).numpy()
    f = sh.grad(lambda x: nn.hardswish(x).sum())(as_tensor(x)).numpy()
    inside = np.abs(np.abs(x) - 3) > 0.1
    assert np.abs(g - f)[inside & (np.abs(x) < 3.9)].max() < 0.05
