"""Palettes: few values, stored as numbers and a codebook, in training, in C and on the board."""

from __future__ import annotations

import numpy as np
import pytest

import shohin as sh
from shohin import nn
from shohin.compress import Plan, Quantize
from shohin.compress.palettize import Palettize, kmeans
from shohin.compress.table import nearest
from shohin.core.errors import PlanError
from shohin.deploy.library import build_library
from shohin.kernels import palette as palette_kernels
from shohin.ops.palette import depalettize, pack, unpack
from shohin.targets import get_target
from tests.targets.emulator import require_emulator


def network(seed=0):
    sh.seed(seed)
    first, second = nn.Conv2d(2, 16, 3, padding=1), nn.Conv2d(16, 32, 3, stride=2, padding=1)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.GlobalAvgPool(), nn.Linear(32, 4)).eval()


def inputs(n=8, seed=0):
    return np.random.default_rng(seed).standard_normal((n, 8, 8, 2)).astype(np.float32)


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_packing_is_exact(bits):
    codes = np.random.default_rng(bits).integers(0, 2**bits, (3, 17))
    packed = pack(codes, bits)
    assert packed.nbytes == 3 * -(-17 * bits // 8)
    np.testing.assert_array_equal(unpack(packed, bits, 17), codes)
    book = np.random.default_rng(0).standard_normal((2, 2**bits)).astype(np.float32)
    got = sh.jit(lambda p, b: depalettize(p, b, shape=(3, 17), bits=bits, group=2))(packed, book)
    np.testing.assert_array_equal(got.numpy(), book[np.array([0, 0, 1])[:, None], codes])


def test_kmeans_finds_clusters_and_lowers_the_error():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(c, 0.01, 50) for c in (-2, 0, 1, 3)]).astype(np.float32)
    np.testing.assert_allclose(kmeans(x, 4), [-2, 0, 1, 3], atol=0.02)
    line = np.linspace(x.min(), x.max(), 4).astype(np.float32)
    error = lambda values: float(np.square(x - values[nearest(x, values)]).sum())
    assert error(kmeans(x, 4)) < error(line)
    assert kmeans(np.zeros(5, np.float32), 4).tolist() == [0] * 4


def test_a_layer_takes_few_values_and_trains_its_codebook():
    net, x = network(), inputs()
    small = Plan([("2", Palettize(bits=2, group=16))]).apply(net)
    assert isinstance(small[2], nn.Conv2d) and small[2].weight.shape == (32, 3, 3, 16)
    assert [len(np.unique(small[2].weight.numpy()[k : k + 16])) for k in (0, 16)] == [4, 4]
    assert (
        set(small.cells()) >= {"2.weight_palette.numbers", "2.weight_palette.codebook"}
        and "2.weight" not in small.cells()
    )
    before, codes = small[2].weight.numpy(), small[2].weight_palette.numbers.numpy()
    opt = sh.optim.sgd(0.1).init(small)
    _, grads = sh.jit(lambda net, x: sh.value_and_grad(lambda net, x: sh.sum(net(x) * net(x)))(net, x))(small, x)
    dense = Plan([]).apply(net)
    dense[2].weight = before
    _, whole = sh.value_and_grad(lambda net, x: sh.sum(net(x) * net(x)))(dense, x)
    wanted = np.zeros((2, 4))
    for g in range(2):
        values = small[2].weight_palette.codebook.numpy()[g]
        for k in range(4):
            wanted[g, k] = (
                whole["2.weight"].numpy()[16 * g : 16 * g + 16][before[16 * g : 16 * g + 16] == values[k]].sum()
            )
    np.testing.assert_allclose(grads["2.weight_palette.codebook"].numpy(), wanted, rtol=1e-4, atol=1e-5)
    opt.update(small, grads)
    assert not np.array_equal(small[2].weight.numpy(), before)
    np.testing.assert_array_equal(small[2].weight_palette.numbers.numpy(), codes)


@pytest.mark.parametrize("bits, cc", [(2, None), (3, "gcc")])
def test_float_artefact_holds_numbers_and_codebook(bits, cc, tmp_path):
    net, x = network(), inputs()
    small = Plan([("2", Palettize(bits=bits, group=16)), ("5", Palettize(bits=bits))]).apply(net)
    packed = sum(c.read().numpy().nbytes for p, c in small.cells().items() if "palette" in p)
    art = sh.export(small, x[:1], device="host", to=tmp_path / "a")
    dense = network()
    for k in (2, 5):
        dense[k].weight = small[k].weight.numpy()
    reference = sh.export(dense, x[:1], device="host", to=tmp_path / "b")
    saved = reference.sections.rodata - art.sections.rodata
    whole = 4 * (32 * 9 * 16 + 32 * 4)
    assert saved > 0.9 * (whole - packed) and packed < whole / 8
    run = lambda folder, to: build_library(folder, tmp_path / to, cc=cc).run(x.reshape(8, -1))
    np.testing.assert_array_equal(run(tmp_path / "a", "la"), run(tmp_path / "b", "lb"))
    np.testing.assert_allclose(run(tmp_path / "a", "lc"), small(x).numpy(), rtol=1e-4, atol=1e-5)
    panel = 32 * 9 * 16  # one of 32 channels is looked up at a time, from its numbers, a byte each
    assert art.arena_bytes <= reference.arena_bytes + 4 * panel + panel + 1024


def quantized(bits=2):
    return Plan([("2", Palettize(bits=bits, group=16)), ("*", Quantize())]).apply(network(), calibration=inputs(32))


@pytest.mark.parametrize("cc", [None, "gcc"])
def test_int8_artefact_gives_the_integers_of_the_dense_one(cc, tmp_path):
    small, x = quantized(), inputs()
    art = sh.export(small, x[:1], device="host", to=tmp_path)
    text = (tmp_path / "network.c").read_text()
    assert "uint8_t" in text and art.sections.rodata < 32 * 9 * 16
    library = build_library(tmp_path, tmp_path / "lib", cc=cc)
    got = library.run(library.quantize(x.reshape(8, -1)))
    np.testing.assert_array_equal(got, list(small.integers(x).values())[-1])


class Odd(nn.Module):
    """Runs that are no whole vectors, channels that are no whole fours, a pointwise layer, a stride, and a product."""

    def __init__(self):
        self.a, self.b = nn.Conv2d(2, 21, 3, padding=1), nn.Conv2d(21, 18, 3, stride=2, padding=1)
        self.c, self.d, self.e = nn.Conv2d(18, 35, 1), nn.Conv2d(35, 16, (1, 3), padding=(0, 1)), nn.Linear(256, 10)

    def forward(self, x):
        return self.e(sh.flatten(nn.relu(self.d(nn.relu(self.c(nn.relu(self.b(nn.relu(self.a(x)))))))), 1))


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_the_kernel_on_awkward_shapes(bits, tmp_path, monkeypatch):
    if bits == 2:  # so that 8 or 4 channels are unpacked at a time
        monkeypatch.setattr(palette_kernels, "ROOM", 1600)
    sh.seed(bits)
    x = inputs(6, bits)
    small = Plan([("*", Palettize(bits=bits)), ("*", Quantize())]).apply(Odd(), calibration=inputs(32))
    art = sh.export(small, x[:1], device="cortex-m55", to=tmp_path / "a")
    found = [k for _, k in art.kernels if "palette" in k]
    assert found.count("qconv2d_palette") >= 2 and "qmatmul_palette" in found
    if bits == 2:
        text = (tmp_path / "a" / "network.c").read_text()
        assert all(f"shohin_q8_palette2_{n}(" in text for n in (16, 8, 4))
    wanted = list(small.integers(x).values())[-1].reshape(6, -1)
    for cc, level in ((None, "native"), *(((None, "v3"), ("gcc", "native")) if bits == 3 else ())):
        library = build_library(tmp_path / "a", tmp_path / f"{cc}-{level}", cc=cc, level=level)
        np.testing.assert_array_equal(library.run_painted(library.quantize(x.reshape(6, -1)))[0], wanted)
    if bits == 3:
        require_emulator()
        target = get_target("cortex-m55")
        program = target.strategy.build(target, tmp_path / "a", tmp_path / "board")
        result = target.strategy.run(program, library.quantize(x.reshape(6, -1)), 300.0)
        np.testing.assert_array_equal(result.outputs, wanted)


@pytest.mark.parametrize("integer", [True, False])
def test_on_the_board(integer, tmp_path):
    require_emulator()
    target, x = get_target("cortex-m55"), inputs(4)
    small = quantized() if integer else Plan([("2", Palettize(bits=2, group=16))]).apply(network())
    art = sh.export(small, x[:1], device="cortex-m55", to=tmp_path / "a")
    host = build_library(tmp_path / "a", tmp_path / "lib")
    entries = host.quantize(x.reshape(4, -1)) if integer else x.reshape(4, -1)
    result = target.strategy.run(target.strategy.build(target, tmp_path / "a", tmp_path / "board"), entries, 300.0)
    if integer:
        np.testing.assert_array_equal(result.outputs, list(small.integers(x).values())[-1])
    np.testing.assert_array_equal(result.outputs, host.run(entries))
    dense = 32 * 9 * 16 * (1 if integer else 4)
    assert art.sections.rodata < dense


def test_errors():
    with pytest.raises(PlanError, match=r"bits is 8, expected 1 to 4; for 8 write Quantize"):
        Palettize(bits=8)
    with pytest.raises(PlanError, match="group is 0"):
        Palettize(group=0)
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    net[1].weight = net[0].weight
    with pytest.raises(PlanError, match=r"0\.weight is tied"):
        Plan([("*", Palettize())]).apply(net)
