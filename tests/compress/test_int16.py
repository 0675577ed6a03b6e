"""Activations of 16 bits: no integer differs, ordinary and adversarial, and sums stay within an int32."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

import shohin as sh
from shohin import nn
from shohin.compress import Plan, Quantize, integers
from shohin.compress import definitions as d
from shohin.compress.quantized import Quantized
from shohin.core.errors import QuantizationError
from shohin.core.module import mode
from tests.compress import test_twin
from tests.compress.nets import images, trained
from tests.targets.emulator import require_emulator

CASES = (test_twin.ordinary, test_twin.zero_row, test_twin.dead_channel, test_twin.huge_bias, test_twin.negative_gamma)
RULES = {
    "all": [("*", Quantize(a=16))],
    "mixed": [("*", Quantize(w=4, a=16)), ("point", Quantize()), ("grouped", Quantize())],
}


def wide(rules="all", seed=0) -> Quantized:
    return Plan(RULES[rules]).apply(trained(seed), images(48, 7)).eval()


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.__name__)
def test_no_integer_differs(case, rules):
    net = wide(rules)
    case(net, np.random.default_rng(0))
    net.train().eval()
    wrong, count, _ = test_twin.compare(net, images(3, 50))
    assert wrong == [] and count > 5000
    kinds = {q.dtype for q in integers(net, images(1)).values()}
    assert np.dtype(np.int16) in kinds


def test_the_step_computes_what_is_frozen():
    net, x = wide(), images(4, 9)
    frozen = net.integers(x)
    net.train()
    for m in net.modules().values():
        if isinstance(m, nn.BatchNorm2d):
            m.eval()
    mine = net.integers(x)
    assert [p for p in frozen if (mine[p] != frozen[p]).any()] == []


def test_activations_of_16_bits_lose_less():
    """With weights that 8 bits hold exactly, what is lost is the activations' share."""
    sh.seed(0)
    net, rng = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.GlobalAvgPool(), nn.Linear(8, 4)), np.random.default_rng(0)
    for k in (0, 2, 5):
        w = rng.integers(-126, 127, net[k].weight.shape)
        w.reshape(len(w), -1)[:, 0] = 127
        net[k].weight = nn.Param((w / 1024).astype(np.float32))
    x = images(16, 5)
    lost = [np.abs(Plan([("*", Quantize(a=a))]).apply(net, x).eval()(x).numpy() - net(x).numpy()).mean() for a in (8, 16)]
    assert lost[1] < lost[0] / 50


@pytest.mark.parametrize("terms", [9, 600, 5000])
def test_sums_stay_within_an_int32(terms):
    """Weights all of one size are the worst: s_w grows, and the sums with any int16 fit."""
    rng = np.random.default_rng(terms)
    w = np.stack([np.ones(terms), np.sign(rng.normal(size=terms)), rng.normal(size=terms), np.zeros(terms)]).astype(np.float32)
    b = np.float32([1e6, -3, 0, 7])
    c = d.contraction(w, b, None, 1e-4, 1e-3, widths=(16, 16))
    assert d.prove(c.q_w, c.q_b, -32767, 32767, "here") < 2**31
    real = c.q_w * c.s_w[:, None]
    assert (np.abs(real - w)[1:3] <= 0.501 * c.s_w[1:3, None]).all()
    assert abs(c.q_b[3] * c.s_w[3] * 1e-4 - 7) < 1e-4
    if terms == 9:
        np.testing.assert_array_equal(c.s_w[1:3], np.abs(w[1:3]).max(1) / np.float32(127))


def test_too_many_products_are_refused():
    with pytest.raises(QuantizationError, match="layer: sums of more than 32768 products of int16"):
        d.contraction(np.ones((1, 40_000), np.float32), None, None, 1, 1, "layer", widths=(16, 16))


@pytest.mark.slow
def test_no_integer_differs_in_what_is_shipped(tmp_path):
    require_emulator()
    net = wide("mixed")
    with mode(net, training=False):
        x = images(12, seed=3)
        art = sh.export(net, x[:1], device="cortex-m55", to=tmp_path / "board")
        host = sh.export(net, x[:1], device="host", to=tmp_path / "host")
        ccs = (None, "gcc") if shutil.which("gcc") else (None,)
        same = sh.compare(net, art, x, board=2, ccs=ccs, levels=("native", "v3"), host=host)
    assert same.differing == 0 and "cortex-m55" in same.ways and len(same.ways) >= 7, str(same)
