"""Every layer: shape, compiled = eager, gradients by finite differences, both modes, errors with a place."""

import numpy as np
import pytest

import shohin as sh
from shohin import nn

RNG = np.random.default_rng(0)

LAYERS = {
    "Linear": (lambda: nn.Linear(5, 3), (2, 5), (2, 3)),
    "Linear without bias": (lambda: nn.Linear(5, 3, bias=False), (2, 4, 5), (2, 4, 3)),
    "Conv2d": (lambda: nn.Conv2d(2, 4, 3, stride=2, padding=1), (2, 5, 6, 2), (2, 3, 3, 4)),
    "Conv2d grouped": (
        lambda: nn.Conv2d(4, 6, (3, 1), padding=(1, 0), groups=2, bias=False),
        (1, 4, 4, 4),
        (1, 4, 4, 6),
    ),
    "DepthwiseConv2d": (lambda: nn.DepthwiseConv2d(3, 3, padding="same"), (1, 5, 4, 3), (1, 5, 4, 3)),
    "Conv1d": (lambda: nn.Conv1d(3, 4, 3, stride=2, padding=1, dilation=1), (2, 7, 3), (2, 4, 4)),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(4, 6, 3, 2, 1, output_padding=1, groups=2), (1, 3, 4, 4), (1, 6, 8, 6)),
    "ConvTranspose1d": (lambda: nn.ConvTranspose1d(3, 4, 4, stride=2, padding=1), (2, 5, 3), (2, 10, 4)),
    "BatchNorm2d": (lambda: nn.BatchNorm2d(3), (2, 3, 3, 3), (2, 3, 3, 3)),
    "BatchNorm1d": (lambda: nn.BatchNorm1d(3), (5, 3), (5, 3)),
    "BatchNorm1d series": (lambda: nn.BatchNorm1d(3, affine=False), (2, 4, 3), (2, 4, 3)),
    "LayerNorm": (lambda: nn.LayerNorm(4), (3, 4), (3, 4)),
    "LayerNorm 2 dims": (lambda: nn.LayerNorm((2, 4)), (3, 2, 4), (3, 2, 4)),
    "RMSNorm": (lambda: nn.RMSNorm(4), (3, 4), (3, 4)),
    "GroupNorm": (lambda: nn.GroupNorm(2, 4), (2, 3, 3, 4), (2, 3, 3, 4)),
    "MaxPool2d": (lambda: nn.MaxPool2d(3, 2, padding=1), (1, 5, 5, 2), (1, 3, 3, 2)),
    "AvgPool2d": (lambda: nn.AvgPool2d(2), (1, 4, 5, 2), (1, 2, 2, 2)),
    "AdaptiveAvgPool2d": (lambda: nn.AdaptiveAvgPool2d((2, 1)), (1, 4, 5, 2), (1, 2, 1, 2)),
    "GlobalAvgPool": (lambda: nn.GlobalAvgPool(), (2, 4, 5, 3), (2, 3)),
    "Flatten": (lambda: nn.Flatten(), (2, 3, 4), (2, 12)),
    "Identity": (lambda: nn.Identity(), (2, 3), (2, 3)),
    "ReLU": (nn.ReLU, (3, 4), (3, 4)),
    "ReLU6": (nn.ReLU6, (3, 4), (3, 4)),
    "LeakyReLU": (nn.LeakyReLU, (3, 4), (3, 4)),
    "ELU": (nn.ELU, (3, 4), (3, 4)),
    "GELU": (nn.GELU, (3, 4), (3, 4)),
    "GELU tanh": (lambda: nn.GELU("tanh"), (3, 4), (3, 4)),
    "SiLU": (nn.SiLU, (3, 4), (3, 4)),
    "Hardswish": (nn.Hardswish, (3, 4), (3, 4)),
    "Hardsigmoid": (nn.Hardsigmoid, (3, 4), (3, 4)),
    "Sigmoid": (nn.Sigmoid, (3, 4), (3, 4)),
    "Tanh": (nn.Tanh, (3, 4), (3, 4)),
    "Softmax": (nn.Softmax, (3, 4), (3, 4)),
    "Dropout": (lambda: nn.Dropout(0.3), (3, 4), (3, 4)),
    "Sequential": (lambda: nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)), (2, 4), (2, 2)),
    "MultiheadAttention": (lambda: nn.MultiheadAttention(4, 2), (2, 3, 4), (2, 3, 4)),
    "TransformerEncoderLayer": (lambda: nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0), (2, 3, 4), (2, 3, 4)),
    "TransformerEncoderLayer pre-norm": (
        lambda: nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, activation="gelu", norm_first=True),
        (2, 3, 4),
        (2, 3, 4),
    ),
    "SqueezeExcite": (lambda: nn.SqueezeExcite(4), (2, 3, 3, 4), (2, 3, 3, 4)),
    "GRU": (lambda: nn.GRU(3, 2), (2, 4, 3), (2, 4, 2)),
    "GRU deep": (lambda: nn.GRU(3, 2, num_layers=2, bidirectional=True), (2, 3, 3), (2, 3, 4)),
    "LSTM": (lambda: nn.LSTM(3, 2), (2, 4, 3), (2, 4, 2)),
    "LSTM deep": (lambda: nn.LSTM(3, 2, num_layers=2, bias=False, bidirectional=True), (2, 3, 3), (2, 3, 4)),
}
each_layer = pytest.mark.parametrize("name", LAYERS)


def made(name):
    sh.seed(1)
    make, shape, out = LAYERS[name]
    x = np.random.default_rng(2).uniform(-2, 2, shape).astype(np.float32)
    return make(), x, out


def first(y):
    return y[0] if isinstance(y, tuple) else y


def double(net):
    """All floating cells as float64, so that finite differences are sharp."""
    for m in net.modules().values():
        for k, v in list(m._entries()):
            if isinstance(v, nn.Param | nn.Buffer):
                setattr(m, k, type(v)(v.read().astype(sh.float64)))
    return net


@each_layer
@pytest.mark.parametrize("training", [True, False])
def test_shape_and_compiled_is_eager(name, training):
    net, x, out = made(name)
    net.train(training)
    sh.seed(3)
    eager = first(net(x))
    assert eager.shape == out and eager.dtype == sh.float32
    again, _, _ = made(name)
    again.train(training)
    sh.seed(3)
    compiled = sh.jit(lambda m, v: m(v))(again, x)
    np.testing.assert_allclose(first(compiled).numpy(), eager.numpy(), rtol=2e-5, atol=2e-6)
    for path, cell in net.cells().items():
        np.testing.assert_allclose(again.cells()[path].read().numpy(), cell.read().numpy(), rtol=1e-5, atol=1e-6)


@each_layer
@pytest.mark.parametrize("training", [True, False])
def test_gradients_are_finite_differences(name, training):
    net, x, _ = made(name)
    double(net).train(training)
    x = x.astype(np.float64)
    weight = np.random.default_rng(4).normal(size=first(sh.copy(net)(x)).shape)

    def value(m, v):
        sh.seed(5)
        return (first(m(v)) * weight).sum()

    def loss(m, v):
        return (first(m(v)) * weight).sum()

    sh.seed(5)
    by_cell, by_x = sh.grad(loss, argnums=(0, 1))(sh.copy(net), sh.asarray(x)) if net.cells(nn.Param) else (
        {}, sh.grad(lambda v: loss(sh.copy(net), v))(sh.asarray(x)))  # fmt: skip
    e = 1e-6

    def slope(array, put):
        d = np.random.default_rng(6).normal(size=array.shape)
        up, down = float(put(array + e * d)), float(put(array - e * d))
        return (up - down) / (2 * e), d

    found, d = slope(x, lambda a: value(sh.copy(net), a))
    assert found == pytest.approx(float((by_x.numpy() * d).sum()), rel=1e-5, abs=1e-7)
    for path in by_cell:

        def put(a, path=path):
            m = sh.copy(net)
            m.cells()[path].write(sh.asarray(a))
            return value(m, x)

        found, d = slope(net.cells()[path].read().numpy(), put)
        assert found == pytest.approx(float((by_cell[path].numpy() * d).sum()), rel=1e-5, abs=1e-7), path


@each_layer
def test_integers_are_refused_with_the_astype(name):
    net, x, _ = made(name)
    if name in ("Flatten", "Identity"):
        return
    with pytest.raises(sh.DtypeError, match=r"x\.astype\(sh\.float32\)"):
        net(x.astype(np.int32))


@each_layer
def test_same_seed_same_start(name):
    a, b = made(name)[0], made(name)[0]
    for path, cell in a.cells().items():
        np.testing.assert_array_equal(cell.read().numpy(), b.cells()[path].read().numpy())


@each_layer
def test_an_ensemble_is_its_members(name):
    """``vmap`` over a batch of inputs in evaluation mode equals a loop."""
    net, x, _ = made(name)
    net.eval()
    xs = np.stack([x, x * 0.5])
    lanes = sh.vmap(lambda v: first(net(v)))(sh.asarray(xs)).numpy()
    for k in range(2):
        np.testing.assert_allclose(lanes[k], first(net(xs[k])).numpy(), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("name", [n for n in LAYERS if made(n)[0].cells(nn.Param)])
def test_float64_is_refused_by_float32_weights(name):
    net, x, _ = made(name)
    with pytest.raises(sh.DtypeError, match=r"f64.*x\.astype\(sh\.float32\)"):
        net(x.astype(np.float64))


def test_a_wrong_channel_count_names_the_place():
    class Net(nn.Module):
        def __init__(self):
            self.body = [nn.Sequential(nn.Conv2d(1, 4, 1), nn.Conv2d(3, 4, 1))]

        def forward(self, x):
            return self.body[0](x)

    with pytest.raises(sh.ShapeError, match=r"Conv2d at body\.0\.1: x has 4 channels .*, expected 3"):
        Net()(np.zeros((1, 4, 4, 1), np.float32))


@pytest.mark.parametrize(
    ("layer", "shape", "says"),
    [
        (nn.Conv2d(3, 4, 3), (2, 3, 8, 8), "channels are the last dim"),
        (nn.Conv2d(3, 4, 3), (8, 8, 3), "add the batch dim"),
        (nn.Linear(3, 4), (2, 5), "x has 5 channels"),
        (nn.BatchNorm2d(3), (2, 4, 4, 5), "x has 5 channels"),
        (nn.BatchNorm2d(3), (1, 1, 1, 3), "more than one value a channel"),
        (nn.LayerNorm((2, 4)), (3, 4), r"expected \(\.\.\., 2, 4\)"),
        (nn.GroupNorm(2, 4), (2, 3), "x has 3 channels"),
        (nn.AdaptiveAvgPool2d(2), (1, 5, 4, 1), "dividing h and w"),
        (nn.MaxPool2d(2), (4, 4, 1), "expected 4 dims"),
        (nn.GRU(3, 2), (2, 4, 5), "x has 5 channels"),
        (nn.MultiheadAttention(4, 2), (2, 3, 5), "x has 5 channels"),
    ],
)
def test_shape_errors(layer, shape, says):
    with pytest.raises(sh.ShapeError, match=says):
        layer(np.zeros(shape, np.float32))


def test_settings_that_cannot_be():
    for make in (lambda: nn.Conv2d(3, 4, 3, groups=2), lambda: nn.GroupNorm(3, 4), lambda: nn.MultiheadAttention(5, 2)):
        with pytest.raises(sh.ShapeError):
            make()
    for make in (lambda: nn.Dropout(1.5), lambda: nn.BatchNorm2d(3, momentum=2.0)):
        with pytest.raises(ValueError):
            make()
    with pytest.raises(TypeError, match="layer 1 is int"):
        nn.Sequential(nn.ReLU(), 3)
