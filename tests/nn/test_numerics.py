"""Layers and functions against plain NumPy (``oracles``)."""

import math

import numpy as np
import pytest

import shohin as sh
from shohin import nn
from tests.nn import oracles

RNG = np.random.default_rng(0)


def draw(*shape):
    return RNG.uniform(-2, 2, shape).astype(np.float32)


def close(a, b, rtol=1e-5, atol=1e-5):
    np.testing.assert_allclose(a.numpy(), b, rtol=rtol, atol=atol)


def weights(net):
    return {k: c.read().numpy().astype(np.float64) for k, c in net.cells().items()}


@pytest.mark.parametrize(
    "settings", [{}, {"stride": 2, "padding": 1}, {"dilation": 2}, {"groups": 2, "padding": (1, 0)}]
)
def test_conv2d(settings):
    net, x = nn.Conv2d(4, 6, 3, **settings), draw(2, 7, 6, 4)
    w = weights(net)
    close(net(x), oracles.conv2d(x.astype(np.float64), w["weight"], w["bias"], **settings))


def test_conv1d_is_conv2d_of_height_one():
    net, x = nn.Conv1d(4, 6, 3, stride=2, padding=1, dilation=2, groups=2), draw(2, 9, 4)
    w = weights(net)
    y = oracles.conv2d(x[:, None], w["weight"][:, None], w["bias"], (1, 2), (0, 1), (1, 2), 2)
    close(net(x), y[:, 0])


def test_batch_norm_statistics_are_pytorchs():
    net, x = nn.BatchNorm2d(3), draw(2, 4, 5, 3) * 3 + 1
    net.weight, net.bias = sh.asarray(draw(3)), sh.asarray(draw(3))
    w = weights(net)
    y = net(x)
    close(y, oracles.norm(x.astype(np.float64), (0, 1, 2), 1e-5) * w["weight"] + w["bias"])
    flat = x.reshape(-1, 3).astype(np.float64)
    close(net.running_mean, 0.1 * flat.mean(0))
    close(net.running_var, 0.9 + 0.1 * flat.var(0, ddof=1))
    net.eval()
    now = weights(net)
    expected = (x - now["running_mean"]) / np.sqrt(now["running_var"] + 1e-5) * w["weight"] + w["bias"]
    close(net(x), expected)
    assert np.array_equal(net.running_mean.numpy(), now["running_mean"].astype(np.float32))


def test_batch_norm_does_not_cancel():
    """A large mean beside a small deviation: two passes keep the variance, E[x^2] - E[x]^2 would lose it."""
    x = 1000 + 0.01 * draw(64, 2)
    y = nn.BatchNorm1d(2, eps=0.0)(x).numpy()
    np.testing.assert_allclose(y.std(0), 1, rtol=1e-2)


def test_norms():
    x = draw(3, 4, 6)
    close(nn.LayerNorm(6)(x), oracles.norm(x.astype(np.float64), -1, 1e-5))
    close(nn.LayerNorm((4, 6))(x), oracles.norm(x.astype(np.float64), (1, 2), 1e-5))
    close(nn.GroupNorm(3, 6)(x), oracles.group_norm(x.astype(np.float64), 3, 1e-5))
    close(nn.RMSNorm(6, eps=1e-3)(x), x / np.sqrt((x.astype(np.float64) ** 2).mean(-1, keepdims=True) + 1e-3))


def test_pooling():
    x = draw(2, 7, 6, 3)
    close(nn.MaxPool2d(3, 2)(x), oracles.pool2d(x, 3, 2, np.max))
    close(nn.AvgPool2d(2)(x), oracles.pool2d(x, 2, 2, np.mean))
    close(nn.AdaptiveAvgPool2d((7, 2))(x), x.reshape(2, 7, 2, 3, 3).mean(3))
    close(nn.GlobalAvgPool()(x), x.mean((1, 2)))


def test_activations():
    x = np.linspace(-6, 6, 101).astype(np.float32)
    close(nn.hardswish(x), x * np.clip(x + 3, 0, 6) / 6)
    close(nn.hardsigmoid(x), np.clip(x + 3, 0, 6) / 6)
    close(nn.silu(x), x * oracles.sigmoid(x))
    close(nn.gelu(x), oracles.gelu(x), atol=1e-6)
    close(nn.gelu(x, approximate="tanh"), 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))))
    close(nn.leaky_relu(x, 0.2), np.where(x > 0, x, 0.2 * x))
    close(nn.elu(x, 2.0), np.where(x > 0, x, 2 * np.expm1(x)))
    with pytest.raises(ValueError, match="approximate"):
        nn.gelu(x, approximate="erf")


def test_softmax_is_stable_and_second_order():
    x = np.array([[1000.0, 1001.0, -np.inf]], np.float32)
    close(nn.softmax(x), [[1 / (1 + math.e), math.e / (1 + math.e), 0]])
    v = draw(5).astype(np.float64)
    p = oracles.softmax(v)
    h = sh.hessian(lambda t: -nn.log_softmax(t)[0])(sh.asarray(v)).numpy()
    np.testing.assert_allclose(h, np.diag(p) - np.outer(p, p), atol=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy(smoothing):
    x, y = draw(6, 4) * 3, RNG.integers(0, 4, 6)
    expected = oracles.cross_entropy(x.astype(np.float64), y, smoothing)
    close(nn.cross_entropy(x, y, label_smoothing=smoothing, reduction="none"), expected)
    close(nn.cross_entropy(x, y, label_smoothing=smoothing), expected.mean())
    g = sh.grad(lambda v: nn.cross_entropy(v, y, label_smoothing=smoothing))(sh.asarray(x)).numpy()
    target = np.full((6, 4), smoothing / 4)
    target[np.arange(6), y] += 1 - smoothing
    np.testing.assert_allclose(g, (oracles.softmax(x.astype(np.float64)) - target) / 6, atol=1e-6)
    assert np.isfinite(float(nn.cross_entropy(np.float32([[1e4, 0]]), [1])))


def test_losses():
    a, b = draw(3, 2), draw(3, 2)
    d = np.abs(a - b)
    close(nn.mse_loss(a, b), (d**2).mean())
    close(nn.l1_loss(a, b, reduction="sum"), d.sum())
    close(nn.huber_loss(a, b, delta=0.5, reduction="none"), np.where(d <= 0.5, d**2 / 2, 0.5 * (d - 0.25)))
    y = RNG.uniform(0, 1, (3, 2)).astype(np.float32)
    p = oracles.sigmoid(a.astype(np.float64))
    close(nn.binary_cross_entropy_with_logits(a, y), -(y * np.log(p) + (1 - y) * np.log(1 - p)).mean())
    assert nn.accuracy(a, np.argmax(a, 1)).tolist() == [1, 1, 1]


def test_loss_errors():
    with pytest.raises(sh.ShapeError, match=r"label 1 is 4, expected 0 to 3"):
        nn.cross_entropy(np.zeros((2, 4), np.float32), np.array([0, 4]))
    with pytest.raises(sh.DtypeError, match="integer labels"):
        nn.cross_entropy(np.zeros((2, 4), np.float32), np.zeros(2, np.float32))
    with pytest.raises(sh.ShapeError, match=r"expected \(\.\.\., classes\)"):
        nn.cross_entropy(np.zeros((2, 4), np.float32), np.array([[0], [1]]))
    with pytest.raises(sh.ShapeError, match="shapes must be equal"):
        nn.mse_loss(np.zeros((2, 1), np.float32), np.zeros(2, np.float32))
    with pytest.raises(ValueError, match="reduction"):
        nn.mse_loss(np.zeros(2, np.float32), np.zeros(2, np.float32), reduction="avg")


def test_attention():
    q, k, v = draw(2, 3, 4, 5), draw(2, 3, 6, 5), draw(2, 3, 6, 7)
    wide = [t.astype(np.float64) for t in (q, k, v)]
    close(nn.attention(q, k, v), oracles.attention(*wide))
    close(nn.attention(q, k, v, causal=True), oracles.attention(*wide, np.tril(np.ones((4, 6), bool), 2)))
    mask = RNG.random((4, 6)) < 0.7
    mask[:, 0] = True
    close(nn.attention(q, k, v, mask), oracles.attention(*wide, mask))
    nowhere = nn.attention(q, k, v, np.zeros((4, 6), bool)).numpy()
    np.testing.assert_allclose(nowhere, np.broadcast_to(v.mean(2, keepdims=True), nowhere.shape), rtol=1e-4, atol=1e-5)


def test_multihead_attention():
    net, x = nn.MultiheadAttention(6, 2), draw(2, 5, 6)
    w = weights(net)
    parts = np.split(x @ w["in_proj_weight"].T + w["in_proj_bias"], 3, -1)
    heads = [p.reshape(2, 5, 2, 3).transpose(0, 2, 1, 3) for p in parts]
    y = oracles.attention(*heads, np.tril(np.ones((5, 5), bool))).transpose(0, 2, 1, 3).reshape(2, 5, 6)
    close(net(x, causal=True), y @ w["out_proj.weight"].T + w["out_proj.bias"])
    close(net(x, x, x), net(x).numpy())


def test_recurrent():
    x, h, c = draw(2, 5, 3), draw(1, 2, 4), draw(1, 2, 4)
    net = nn.GRU(3, 4)
    y, last = oracles.gru(x, h[0], *weights(net).values())
    got = net(x, h)
    close(got[0], y)
    close(got[1], last[None])
    net = nn.LSTM(3, 4)
    y, h1, c1 = oracles.lstm(x, h[0], c[0], *weights(net).values())
    got = net(x, (h, c))
    close(got[0], y)
    close(got[1][0], h1[None])
    close(got[1][1], c1[None])


def test_bidirectional_layers_stack():
    net, x = nn.GRU(3, 2, num_layers=2, bidirectional=True), draw(2, 4, 3)
    w, h = weights(net), np.zeros((2, 2))
    ends = []
    y = x
    for layer in range(2):
        parts = [
            [w[f"{k}_l{layer}{e}"] for k in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")] for e in ("", "_reverse")
        ]
        forward, a = oracles.gru(y, h, *parts[0])
        backward, b = oracles.gru(y[:, ::-1], h, *parts[1])
        y = np.concatenate([forward, backward[:, ::-1]], -1)
        ends += [a, b]
    got, last = net(x)
    close(got, y)
    close(last, np.stack(ends))


def test_embedding():
    net = nn.Embedding(7, 3)
    i = np.array([[0, 6], [2, 2]])
    np.testing.assert_array_equal(net(i).numpy(), net.weight.numpy()[i])
    g = sh.grad(lambda m, i: m(i).sum())(net, i).weight.numpy()
    assert g[:, 0].tolist() == [1, 0, 2, 0, 0, 0, 1]
    with pytest.raises(sh.DtypeError, match="expected integers"):
        net(np.zeros(2, np.float32))


def test_dropout():
    sh.seed(0)
    net, x = nn.Dropout(0.25), np.ones((200, 50), np.float32)
    y = net(x).numpy()
    assert set(np.unique(y)) == {np.float32(0), np.float32(1 / 0.75)} and abs((y == 0).mean() - 0.25) < 0.02
    assert not np.array_equal(y, net(x).numpy())
    assert net.eval()(x).tolist() == x.tolist()
    assert nn.dropout(x, 1.0).numpy().max() == 0


def test_start_values_are_pytorchs():
    sh.seed(0)
    conv = nn.Conv2d(8, 64, 3, groups=2)
    bound = 1 / math.sqrt(9 * 4)
    for t in (conv.weight, conv.bias):
        assert abs(t.numpy()).max() <= bound and abs(t.numpy()).max() > 0.9 * bound
    assert abs(conv.weight.numpy().mean()) < 0.05 * bound
    table = nn.Embedding(200, 50).weight.numpy()
    assert abs(table.mean()) < 0.03 and abs(table.std() - 1) < 0.03


def test_names_and_paths_are_pytorchs():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2))
    assert list(net.cells()) == [
        "0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var", "4.weight", "4.bias",
    ]  # fmt: skip
    assert "Conv2d(1, 2, kernel_size=(3, 3), weight: f32[2,3,3,1], bias: f32[2])" in repr(net)
    assert [type(m).__name__ for m in net[1:3]] == ["BatchNorm2d", "ReLU"]
    assert len(net.append(nn.ReLU())) == 6


def test_composites_keep_their_names_in_a_trace():
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Softmax())
    names = [n.attrs.get("name", n.op.name) for n in sh.trace(net)(sh.zeros((2, 4))).graph.nodes]
    assert "batch_norm" in names and "softmax" in names
    with sh.mode(net, training=False):
        nodes = sh.trace(net)(sh.zeros((2, 4))).graph.nodes
    call = next(n for n in nodes if n.attrs.get("name") == "batch_norm")
    assert dict(call.attrs["config"])["training"] is False and len(call.operands) == 5


def test_training_batch_norm_is_refused_in_a_lane():
    net = nn.BatchNorm2d(3)
    x = sh.asarray(draw(4, 1, 3, 3, 3))
    with pytest.raises(sh.BatchError, match="running_mean.*evaluation mode"):
        sh.vmap(net)(x)
    with sh.mode(net, training=False):
        assert sh.vmap(net)(x).shape == (4, 1, 3, 3, 3)


def test_bfloat16_computes_in_float32():
    x = draw(3, 4)
    y = nn.softmax(sh.asarray(x).astype(sh.bfloat16))
    assert y.dtype == sh.bfloat16
    close(y.astype(sh.float32), oracles.softmax(x), rtol=0.03, atol=0.01)
