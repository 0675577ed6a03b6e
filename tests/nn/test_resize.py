"""``nn.resize`` and the modes of ``sh.pad``: values, gradients, compiled. (The ONNX tests of Resize and Pad run through both.)"""

import itertools

import numpy as np
import pytest

import shohin as sh
from shohin import nn

RNG = np.random.default_rng(0)


def gradient_and_program(f, x):
    """Finite differences, and the compiled program, agree."""
    weights = RNG.normal(size=f(sh.asarray(x)).shape)
    loss = lambda v: (f(v) * sh.asarray(weights)).sum()
    g = sh.grad(loss)(sh.asarray(x)).numpy()
    d = RNG.normal(size=x.shape)
    near = (float(loss(sh.asarray(x + 1e-4 * d))) - float(loss(sh.asarray(x - 1e-4 * d)))) / 2e-4
    assert np.isclose((g * d).sum(), near, rtol=1e-6)
    small = x.astype(np.float32)
    np.testing.assert_allclose(sh.jit(f)(small).numpy(), f(sh.asarray(small)).numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode, coordinates, antialias", [
    *itertools.product(("nearest", "linear", "cubic"), ("half_pixel", "align_corners", "asymmetric"), (False, True)),
])  # fmt: skip
def test_gradients_and_programs(mode, coordinates, antialias):
    x = RNG.normal(size=(1, 5, 6, 2))
    gradient_and_program(lambda v: nn.resize(v, {1: 8, 2: 4}, mode=mode, coordinates=coordinates, antialias=antialias), x)


def test_whole_multiples_repeat():
    x = RNG.normal(size=(2, 3, 4)).astype(np.float32)
    assert np.array_equal(nn.resize(x, {1: 9}).numpy(), np.repeat(x, 3, axis=1))
    assert np.array_equal(nn.resize(x, {1: 3}, mode="linear").numpy(), x)


def test_a_line_stays_a_line():
    x = np.arange(8, dtype=np.float64)
    for mode in ("linear", "cubic"):
        y = nn.resize(sh.asarray(x), {0: 22}, mode=mode, coordinates="align_corners", cubic=-0.5).numpy()
        np.testing.assert_allclose(y[6:16], np.linspace(0, 7, 22)[6:16], rtol=1e-12)
    y = nn.resize(sh.asarray(x), {0: 4}, mode="linear", antialias=True).numpy()
    np.testing.assert_allclose(y[1:3], [2.5, 4.5], rtol=1e-12)


def test_what_resize_refuses():
    with pytest.raises(ValueError, match="mode is 'area', expected one of 'nearest'"):
        nn.resize(np.ones(3, np.float32), {0: 5}, mode="area")
    with pytest.raises(sh.ShapeError, match=r"dim 0 of \(3,\) cannot become 0"):
        nn.resize(np.ones(3, np.float32), {0: 0})


@pytest.mark.parametrize("mode", ["edge", "reflect", "wrap"])
@pytest.mark.parametrize("pairs", [[(1, 2), (0, 3)], [(5, 7), (9, 0)], [(0, 0), (0, 0)]])
def test_padding(mode, pairs):
    x = RNG.normal(size=(3, 4))
    f = lambda v: sh.pad(v, pairs, mode=mode)
    assert np.array_equal(f(sh.asarray(x)).numpy(), np.pad(x, pairs, mode=mode))
    gradient_and_program(f, x)


def test_what_pad_refuses():
    with pytest.raises(ValueError, match="mode is 'mirror', expected 'constant', 'edge', 'reflect', 'wrap'"):
        sh.pad(sh.ones((3,)), [(1, 1)], mode="mirror")
    with pytest.raises(sh.ShapeError, match=r"dim 0 of \(1,\) has too few elements for mode 'reflect'"):
        sh.pad(sh.ones((1,)), [(1, 1)], mode="reflect")
