"""Weights stored without their zeros: the op, what is chosen, int8 artefacts of every form, and the board."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import shohin as sh
from shohin import nn
from shohin.compress import PDP, Palettize, Plan, Prune, Quantize, Wanda, lower
from shohin.compress.palettize import pack_weights
from shohin.compress.sparse import BLOCKS, LEAST, pack_zeros, smallest
from shohin.core.op import get
from shohin.deploy.library import build_library
from shohin.kernels.sparse import FORMS, bits, gaps, shared_bits
from shohin.ops.sparse import densify, extent, pack, unpack
from tests.targets.emulator import require_emulator

F32 = np.float32


def some(rng, shape, density, dtype, block=(1, 1)):
    p, q = extent(shape, block)
    kept = np.repeat(np.repeat(rng.random((p, q)) < density, block[0], 0), block[1], 1)[: shape[0], : int(np.prod(shape[1:]))]
    w = rng.integers(1, 100, shape) if np.dtype(dtype).kind == "i" else rng.normal(size=shape)
    return (w * kept.reshape(shape)).astype(dtype)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(1, 70), st.sampled_from([(1, 1), (4, 1), (2, 3), (1, 16)]), st.floats(0, 1), st.sampled_from([np.int8, F32]), st.integers(0, 99))
def test_packing_is_exact(out, terms, block, density, dtype, seed):
    w = some(np.random.default_rng(seed), (out, terms), density, dtype, block)
    stored, values, starts = pack(w, block)
    np.testing.assert_array_equal(unpack(stored, values, w.shape, block), w)
    kept = sum(w[i : i + block[0], j : j + block[1]].any() for i in range(0, out, block[0]) for j in range(0, terms, block[1]))
    assert len(values) == max(kept, 1) and starts.dtype == np.uint16
    np.testing.assert_array_equal(densify(stored, values, starts, shape=w.shape, block=block).numpy(), w)


@pytest.mark.parametrize(("shape", "block", "dtype"), [((5, 3, 4, 7), (1, 1), F32), ((6, 100), (4, 1), np.int8), ((3, 2, 33), (1, 16), F32)])
def test_loops_find_every_value(shape, block, dtype):
    w = some(np.random.default_rng(0), shape, 0.4, dtype, block)
    got = sh.jit(lambda *a: densify(*a, shape=shape, block=block))(*pack(w, block))
    np.testing.assert_array_equal(got.numpy(), w)
    many = some(np.random.default_rng(1), (700, 200), 0.6, np.int8)  # more values than 16 bits count
    stored, values, starts = pack(many)
    assert starts.dtype == np.int32
    np.testing.assert_array_equal(sh.jit(lambda *a: densify(*a, shape=many.shape))(stored, values, starts).numpy(), many)


def spread(form, blob, size):
    """The C of the forms, in Python."""
    to, out = np.zeros(size, np.int8), np.unpackbits
    if form is bits:
        to[out(blob[: size // 8], bitorder="little").astype(bool)] = blob[size // 8 :].view(np.int8)
    elif form is shared_bits:
        kept = out(blob[: size // 32], bitorder="little").astype(bool).reshape(-1, 16)
        units = np.zeros((size // 64, 16, 4), np.int8)
        units[kept] = blob[size // 32 :].view(np.int8).reshape(-1, 4)
        to = units.transpose(0, 2, 1).reshape(-1)
    else:
        count = int(blob[0]) | int(blob[1]) << 8
        codes = np.stack([blob[2 : 2 + (count + 1) // 2] & 15, blob[2 : 2 + (count + 1) // 2] >> 4], 1).reshape(-1)[:count]
        values, at = iter(blob[2 + (count + 1) // 2 :].view(np.int8)), 0
        for code in codes:
            at += int(code)
            if code < 15:
                to[at] = next(values)
                at += 1
    return to


@pytest.mark.parametrize("form", FORMS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("density", [0, 0.02, 0.5, 1])
def test_a_kernels_forms_hold_the_weights(form, density):
    four = some(np.random.default_rng(2), (4, 192), density, np.int8).reshape(-1)
    np.testing.assert_array_equal(spread(form, form(four), four.size), four)


def test_what_is_chosen_is_smallest():
    rng = np.random.default_rng(0)
    for block in BLOCKS:
        w = some(rng, (64, 3, 3, 16), 0.3, F32, block)
        found, size = smallest(w)
        assert size <= sum(a.nbytes for a in pack(w, block)) and size == sum(a.nbytes for a in pack(w, found))
    for density, form in ((0.4, bits), (0.05, gaps)):
        w = some(rng, (64, 256), density, np.int8)
        wanted = sum(len(form(four)) for four in w.reshape(16, -1))
        assert abs(smallest(w)[1] - wanted) < 0.03 * wanted  # but for the order of the weights
    assert smallest(some(rng, (64, 256), 0.25, np.int8, (4, 1)))[1] < 64 * 256 * 0.3
    assert smallest(some(rng, (32, LEAST - 1), 0.1, np.int8)) == ((1, 1), 32 * (LEAST - 1))


def test_the_report_says_what_zeros_are_worth():
    small = Plan([("*", Quantize()), ("*", Prune(0.6)), ("e", None)]).apply(odd(), calibration=X)
    table = {line.split()[0]: line for line in small.report().splitlines()}
    assert "zeros are not stored: 0.5" in table["b.weight"] and table["b.weight"].split("; ")[1].startswith("zeros are not stored")
    size = int(table["b.weight"].split()[-1].replace(",", ""))
    assert 0.5 < size / (18 * 9 * 21) < 0.6
    assert "zeros are stored like other weights" in table["d.weight"] and "zeros" not in table["e.weight"]
    plain = sh.compress.report(Plan([("*", Prune(0.6))]).apply(odd()))
    assert plain.count("zeros are stored like other weights") == 6


class Even(nn.Module):
    """Layers whose runs are whole vectors, on which tiles can be skipped; channels that are no multiple of 16."""

    def __init__(self):
        self.a, self.b = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 36, 3, padding=1)
        self.c, self.d, self.e = nn.Conv2d(36, 32, 1, stride=2), nn.Conv2d(32, 64, (3, 1), padding=(1, 0)), nn.Linear(64, 24)

    def forward(self, x):
        for layer in (self.a, self.b, self.c, self.d):
            x = nn.relu(layer(x))
        return self.e(x.mean(axis=(1, 2)))


@pytest.mark.parametrize("sparsity", [0.5, 0.98])
def test_a_device_skips_tiles(sparsity, tmp_path):
    require_emulator()
    sh.seed(0)
    net, plan = Even().eval(), Plan([("*", Quantize()), ("*", Prune(sparsity, pattern="4x16")), ("a", None), ("a", Quantize())])
    small = plan.apply(net, calibration=X)
    art = sh.export(small, X[:1], device="cortex-m55", to=tmp_path / "a")
    kernels = {place.partition("/")[0]: kernel for place, kernel in art.kernels}
    assert {k for k, v in kernels.items() if v.endswith("_tiles")} == set("bde"), kernels
    assert sh.compare(small, art, X[:2]).differing == 0  # on the board, and its C on this machine
    dense = Plan([("*", Quantize())]).apply(net, calibration=X)
    wide = sh.export(dense, X[:1], device="cortex-m55", to=tmp_path / "b")
    fewer, all_of_them = (sh.measure(a, data=X[:1]).instructions.value for a in (art, wide))
    assert fewer < all_of_them * (1.2 if sparsity == 0.5 else 0.75)  # half of the tiles is about where it begins to gain
    host = sh.export(small, X[:1], device="host", to=tmp_path / "c")
    assert not any(k.endswith("_tiles") for _, k in host.kernels) and sh.compare(small, host, X).differing == 0


class Odd(nn.Module):
    """Runs that are no whole vectors, channels that are no whole fours, groups, a depthwise layer, a stride, and a product."""

    def __init__(self):
        self.a, self.b = nn.Conv2d(3, 21, 3, padding=1), nn.Conv2d(21, 18, 3, stride=2, padding=1)
        self.d, self.c = nn.Conv2d(18, 18, 3, padding=1, groups=18), nn.Conv2d(18, 40, 1)
        self.g, self.e = nn.Conv2d(40, 16, 3, groups=2), nn.Linear(64, 10)

    def forward(self, x):
        x = nn.relu(self.d(nn.relu(self.b(nn.relu(self.a(x))))))
        return self.e(nn.relu(self.g(nn.relu(self.c(x)))).reshape((x.shape[0], -1)))


X = np.random.default_rng(0).normal(size=(8, 8, 8, 3)).astype(F32)


def odd():
    sh.seed(0)
    return Odd().eval()


PLANS = {
    "bits": [("*", Prune(0.6))],
    "gaps": [("*", Prune(0.93))],
    "fours": [("*", Prune(0.75, pattern="4x1"))],
    "wanda 2:4": [("*", Wanda(0.5, pattern="2:4"))],
    "four bits": [("*", Prune(0.8)), ("*", Quantize(w=4))],
    "table": [("*", Prune(0.9)), ("*", Palettize(bits=3))],
}


@pytest.mark.parametrize("name", PLANS)
def test_integers_are_those_of_the_network_and_flash_is_less(name, tmp_path):
    small = Plan([("*", Quantize()), *PLANS[name]]).apply(odd(), calibration=X)
    art = sh.export(small, X[:1], device="host", to=tmp_path / "a")
    found = sh.compare(small, art, X)
    assert found.differing == 0 and found.compared == 160
    kernels = {place.partition("/")[0]: kernel for place, kernel in art.kernels}
    assert all(kernels[k].endswith("_sparse") for k in "abceg") and "sparse" not in kernels["d"], kernels
    graph = lower(small, *[sh.core.op.Aval((1, 8, 8, 3), F32)]).graph
    least = sum(smallest(a)[1] for v, a in graph.consts if a.dtype == np.int8 and len(a.shape) > 1 and a.size > 500)
    dense = sum(a.nbytes for v, a in graph.consts if a.dtype == np.int8 and a.size > 500)
    board = sh.export(small, X[:1], device="cortex-m55", to=tmp_path / "b")  # a computer's C has the depthwise layer once a level
    assert board.sections.rodata < least * 1.25 + 3000 and least < dense


def test_what_no_kernel_takes_is_read_by_loops(tmp_path):
    """Rows longer than a kernel's scratch."""
    sh.seed(0)
    net = nn.Sequential(nn.Linear(9000, 8), nn.ReLU(), nn.Linear(8, 4)).eval()
    x = np.random.default_rng(0).normal(size=(4, 9000)).astype(F32)
    small = Plan([("*", Quantize()), ("0", Prune(0.9))]).apply(net, calibration=x)
    art = sh.export(small, x[:1], device="host", to=tmp_path / "a")
    assert dict(art.kernels)["0/qmatmul#0"] == "loops" and art.sections.rodata < 9000 * 8 / 3
    assert sh.compare(small, art, x).differing == 0


def test_dense_weights_and_smaller_tables_stay():
    small = Plan([("*", Quantize()), ("*", Palettize(bits=1))]).apply(odd(), calibration=X)
    graph = pack_weights(lower(small, sh.core.op.Aval((1, 8, 8, 3), F32)).graph, small)
    assert [n.op.name for n in pack_zeros(graph).nodes] == [n.op.name for n in graph.nodes]
    assert get("densify").name not in {n.op.name for n in graph.nodes}


@pytest.mark.parametrize("cc", ["gcc"])
def test_plain_c_of_another_compiler(cc, tmp_path):
    small = Plan([("*", Quantize()), ("*", Prune(0.6))]).apply(odd(), calibration=X)
    sh.export(small, X[:1], device="host", to=tmp_path / "a")
    library = build_library(tmp_path / "a", tmp_path / "lib", cc=cc)
    np.testing.assert_array_equal(library.run(library.quantize(X.reshape(8, -1))), list(small.integers(X).values())[-1])


@pytest.mark.parametrize("name", ["bits", "gaps", "fours"])
def test_the_board_gives_the_same_integers(name, tmp_path):
    require_emulator()
    small = Plan([("*", Quantize()), *PLANS[name]]).apply(odd(), calibration=X)
    art = sh.export(small, X[:1], device="cortex-m55", to=tmp_path)
    assert sh.compare(small, art, X[:2]).differing == 0


def test_pdp_ships(tmp_path):
    """Trained, hard at the end, stored without its zeros."""
    small = Plan([("*", Quantize()), ("*", PDP(0.85, ramp=(0, 4)))]).apply(odd(), calibration=X).train()
    opt = sh.optim.sgd(0.05).init(small)

    @sh.jit
    def step(net, opt, x):
        _, grads = sh.value_and_grad(lambda net, x: sh.mean(net(x) * net(x)))(net, x)
        opt.update(net, grads)

    for _ in range(5):
        step(small, opt, X)
    art = sh.export(small.eval(), X[:1], device="host", to=tmp_path)
    assert sh.compare(small, art, X).differing == 0 and sum(k.endswith("_sparse") for _, k in art.kernels) == 5
