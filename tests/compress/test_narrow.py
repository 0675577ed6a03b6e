"""Weights of fewer than 8 bits: the same definitions with another largest integer, packed where it is smaller."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

import shohin as sh
from shohin import nn
from shohin.compress import Palettize, Plan, Quantize, integers, report
from shohin.compress import definitions as d
from shohin.core.module import mode
from tests.compress import test_twin
from tests.compress.nets import images, trained
from tests.targets.emulator import require_emulator

CASES = test_twin.CASES
MIXED = [("*", Quantize(w=4)), ("wide", Quantize(w=3)), ("point", Quantize(w=2)), ("head", Quantize())]
WIDTHS = {"stem": 4, "depthwise": 4, "grouped": 4, "wide": 3, "point": 2, "head": 8}


def narrow(rules=MIXED, seed=0):
    return Plan(rules).apply(trained(seed), images(48, 7)).eval()


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_q2_with_another_largest_integer(bits):
    rng = np.random.default_rng(bits)
    w, b = rng.normal(size=(5, 9)).astype(np.float32), np.float32([0, 0.1, -0.2, 1e6, 0])
    w[4] = 0
    c = d.contraction(w, b, None, 0.01, 0.1, bits=bits)
    most = 2 ** (bits - 1) - 1
    assert np.abs(c.q_w).max(1).tolist() == [most, most, most, 0, 0]
    s_w = np.abs(w[:3]).max(1) / np.float32(most)
    np.testing.assert_array_equal(c.s_w[:3], s_w)
    np.testing.assert_array_equal(c.q_w[:3], np.rint(np.clip(w[:3] / s_w[:, None], -most, most)))
    assert abs(int(c.q_b[3])) == 2**22 and c.widened.tolist() == [False, False, False, True, False]


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.__name__)
def test_no_integer_differs(case):
    net, rng = narrow(), np.random.default_rng(0)
    case(net, rng)
    net.train().eval()
    wrong, count, _ = test_twin.compare(net, images(3, 50))
    assert wrong == [] and count > 5000
    for path, bits in WIDTHS.items():
        place = next(p for p in net.quantized.constants if p.startswith(f"{path}/"))
        assert np.abs(net.quantized.constants[place]["q_w"].numpy()).max() <= 2 ** (bits - 1) - 1, path


def test_training_computes_what_evaluation_stores():
    sh.seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.GlobalAvgPool(), nn.Linear(8, 4))
    x = images(8)
    small = Plan([("*", Quantize(w=4))]).apply(net, x)
    opt = sh.optim.sgd(1e-2).init(small.train())
    before = small.cells()["0.weight"].read().numpy()
    _, grads = sh.value_and_grad(lambda net: (net(x) ** 2).sum())(small)
    opt.update(small, grads)
    assert (small.cells()["0.weight"].read().numpy() != before).any()
    training, stored = small.integers(x), small.eval().integers(x)
    assert all(np.array_equal(training[k], stored[k]) for k in stored)
    assert len(np.unique(small.quantized.constants["0/conv2d#0"]["q_w"].numpy())) > 8


def test_no_integer_differs_in_what_is_shipped(tmp_path):
    require_emulator()
    net = narrow()
    test_twin.huge_bias(net, np.random.default_rng(0))
    net.train().eval()
    with mode(net, training=False):
        x = images(20, seed=3)
        art = sh.export(net, x[:1], device="cortex-m55", to=tmp_path / "board")
        host = sh.export(net, x[:1], device="host", to=tmp_path / "host")
        ccs = (None, "gcc") if shutil.which("gcc") else (None,)
        same = sh.compare(net, art, x, board=2, ccs=ccs, levels=("native", "v3"), host=host)
    assert same.differing == 0 and "cortex-m55" in same.ways and len(same.ways) >= 7, str(same)


def network(k=64):
    sh.seed(0)
    return nn.Sequential(nn.Conv2d(3, k, 3, padding=1), nn.ReLU(), nn.Conv2d(k, k, 3, padding=1), nn.ReLU(), nn.GlobalAvgPool(), nn.Linear(k, 4))


def test_four_bits_lie_two_a_byte_in_flash(tmp_path):
    x, sizes = images(8), {}
    for bits in (8, 4, 2):
        small = Plan([("*", Quantize(w=bits))]).apply(network(), x).eval()
        art = sh.export(small, x[:1], device="cortex-m55", to=tmp_path / str(bits))
        sizes[bits] = art.sections.rodata
        row = next(line for line in report(small).splitlines() if line.startswith("2.weight")).split()
        flash = 64 * 576 * bits // 8
        assert row[-4] == str(bits) and row[-1] == f"{flash:,}", row
    for bits in (4, 2):  # the middle layer's integers packed instead of bytes, and no codebook
        assert sizes[8] - sizes[bits] >= 64 * (576 - 576 * bits // 8)


def test_palettes_and_few_bits_compose(tmp_path):
    x = images(8)
    small = Plan([("*", Quantize(w=4)), ("2", Palettize(bits=2))]).apply(network(16), x).eval()
    assert all(len(np.unique(row)) <= 4 for row in small.quantized.constants["2/conv2d#0"]["q_w"].numpy())
    art = sh.export(small, x[:1], device="host", to=tmp_path)
    same = sh.compare(small, art, x)
    assert same.differing == 0 and same.compared > 0
    reference = integers(small, x)
    assert all(np.array_equal(small.integers(x)[k], reference[k]) for k in reference)


def test_the_plan_says_so():
    text = Plan(MIXED).explain(trained(), images(4))
    line = {row.split()[0]: row for row in text.splitlines()}
    assert "int8 x int4 -> int32" in line["stem/conv2d#0"] and "int8 x int2" in line["point/conv2d#0"]
    assert "int8 x int8" in line["alone/batch_norm#0"]  # a scaling has 8 bits
