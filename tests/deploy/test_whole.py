"""Operators that are quantized whole, as shipped: module = reference = host C (zig and gcc, AVX2 and native, vectors and plain
loops) = emulated Cortex-M55, on ordinary and adversarial values; whole networks of them, with state that goes in and out."""

from __future__ import annotations

import shutil
import subprocess

import numpy as np
import pytest

import shohin as sh
from shohin import nn
from shohin.compiler.kernel import GENERIC
from shohin.compiler.library import emit_library
from shohin.compiler.lowering import lower
from shohin.core.errors import DeployError
from shohin.core.tensor import as_tensor
from shohin.core.trace import stage
from shohin.deploy.artefact import load_artefact
from shohin.deploy.library import build_library
from shohin.deploy.measure import to_input
from shohin.deploy.packed import pack, unpack
from shohin.nn import models
from shohin.ops import math
from tests.compress.whole import CASES, NETS, Of, adversarial, filled, quantized
from tests.targets.emulator import require_emulator

CCS = (None, "gcc") if shutil.which("gcc") else (None,)
MASK = np.array([[1, 1, 0, 0, 1], [0, 0, 0, 0, 0], [1, 0, 1, 0, 1], [1, 1, 1, 1, 1], [0, 0, 0, 1, 0]], bool)


def everything(net, x):
    image = x.reshape(-1, 5, 4, 3)
    return (
        nn.softmax(x), nn.softmax(x, axis=1), net.layer(x), net.both(x), net.group(x), nn.group_norm(x, 12), net.rms(x), nn.l2_norm(x),
        nn.gelu(x), nn.silu(x), nn.attention(x, x, x, causal=True), nn.attention(x, x, x, mask=MASK, max_keys=900), nn.resize_bilinear(image, (9, 3)),
        nn.resize_bilinear(image, (3, 7), align_corners=True), net.gru(x)[0], net.lstm(x)[0], x * net.p + net.p,
    )  # fmt: skip


def same(small, xs, tmp_path, board, ccs=CCS[-1:], levels=("v3",)):
    """The comparison of a network exported for the board and for the host."""
    one = tuple(x[:1] for x in xs)
    art = sh.export(small, one, device="cortex-m55", to=tmp_path / "board")
    host = sh.export(small, one, device="host", to=tmp_path / "host")
    found = sh.compare(small, art, tuple(xs), board=board, ccs=ccs, levels=levels, host=host)
    assert "cortex-m55" in found.ways and len(found.ways) == 3 + 2 * len(ccs) * len(levels)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.__name__)
def test_no_integer_of_any_operator_differs_in_what_is_shipped(case, tmp_path):
    require_emulator()
    rng = np.random.default_rng(0)
    net = filled(Of(everything, layer=nn.LayerNorm(12), both=nn.LayerNorm((5, 12), eps=0.0), group=nn.GroupNorm(3, 12), rms=nn.RMSNorm(12),
                    gru=nn.GRU(12, 8), lstm=nn.LSTM(12, 8), p=nn.Param(np.ones((5, 12), np.float32))), rng, 0.6)  # fmt: skip
    small = quantized(net, (rng.normal(size=(8, 5, 12)) * 2).astype(np.float32))
    case(small, rng)
    small.train().eval()
    rows = np.concatenate([x for (x,) in adversarial(small, [(rng.normal(size=(3, 5, 12)) * 2).astype(np.float32)], rng)])
    found = same(small, [rows], tmp_path, len(rows), CCS, ("native", "v3"))
    assert found.differing == 0 and found.compared > 9 * len(rows) * 500, str(found)


@pytest.mark.slow
def test_a_keyword_transformer_is_shipped_whole(tmp_path):
    require_emulator()
    sh.seed(0)
    rng = np.random.default_rng(0)
    net = models.KeywordTransformer(frames=12, features=20, classes=8, depth=2, d_model=32, heads=4).eval()
    x = rng.normal(size=(32, 12, 20)).astype(np.float32)
    small = quantized(net, x)
    assert all(s.kind != "float" for s in small.program(*[as_tensor(x).aval])[0].steps)
    found = same(small, [x], tmp_path, board=4)
    assert found.differing == 0, str(found)
    a, b = net(as_tensor(x)).numpy(), small(as_tensor(x)).numpy()
    assert (sh.jit(lambda m, x: m(x))(small, as_tensor(x)).numpy() == b).all()
    assert sh.cost(small, device="cortex-m55")(x).macs > 100_000
    assert 10 * np.log10((a**2).sum() / ((a - b) ** 2).sum()) > 25


@pytest.mark.parametrize("layer", [nn.GRU, nn.LSTM])
def test_a_recurrent_keyword_network_carries_its_state(layer, tmp_path):
    """Frames in, logits and the new state out; eight turns through the C of this host are one pass in Python."""
    require_emulator()
    rng = np.random.default_rng(1)
    count = 1 if layer is nn.GRU else 2

    def forward(net, x, *state):
        y, new = net.cell(x, state[0] if count == 1 else state)
        return net.head(y[:, -1]), new

    net = filled(Of(forward, cell=layer(10, 16), head=nn.Linear(16, 6)), rng, 0.4)
    x = rng.normal(size=(1, 3, 10)).astype(np.float32)
    zeros = [np.zeros((1, 1, 16), np.float32)] * count
    full = rng.normal(size=(1, 24, 10)).astype(np.float32)
    small = quantized(net, full, *zeros)
    states = [rng.uniform(-1, 1, (1, 1, 16)).astype(np.float32) for _ in range(count)]
    found = same(small, [x, *states], tmp_path, board=1)
    assert found.differing == 0, str(found)

    art = load_artefact(tmp_path / "host")
    library = build_library(art.folder, tmp_path / "turns")
    parts = lambda side: [(b.shape, b.dtype) for b in side]
    state = unpack(to_input(art, library, (x, *zeros)), parts(art.inputs))[1:]
    for t in range(0, 24, 3):
        frames = unpack(to_input(art, library, (full[:, t : t + 3], *zeros)), parts(art.inputs))[0]
        logits, *state = unpack(library.run(pack([frames, *state])), parts(art.outputs))
    places = list(sh.compress.integers(small, full, *zeros).values())
    last = [q for q in places if q.dtype == np.int8 and q.shape == (1, 6)][-1]
    assert (logits == last).all()
    assert [b.dtype for b in art.inputs] == ["int8", "int16", "int32"][: 1 + count]


ALONE = [n for n in NETS if "with its state" not in n]  # those carry their state below


@pytest.mark.parametrize("name", [n if n in ("group norm", "masked attention") else pytest.param(n, marks=pytest.mark.slow) for n in ALONE])
def test_each_operator_alone(name, tmp_path):
    require_emulator()
    rng = np.random.default_rng(0)
    net, xs = NETS[name](rng)
    small = quantized(net, *xs)
    rows = [np.concatenate(k) for k in zip(*adversarial(small, xs, rng), strict=True)]
    found = same(small, rows, tmp_path, board=min(len(rows[0]), 16))
    assert found.differing == 0, str(found)


def test_multipliers_that_fill_one_vector_with_a_power_of_two(tmp_path):
    """clang 22 for MVE folds such a table into a literal, and then makes wrong code: 96 of 288 integers differed."""
    require_emulator()
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(6, 4, 6)) * 2).astype(np.float32)
    small = quantized(filled(Of(lambda net, x: net.g(x)[0], g=nn.GRU(6, 4)), rng, 0.6), x)
    art = sh.export(small, x[:1], device="cortex-m55", to=tmp_path)
    assert sh.compare(small, art, (x,), board=6).differing == 0
    assert "sh_hide(" in (tmp_path / "network.c").read_text()


def test_products_of_integers_and_literal_powers_of_two_are_hidden():
    q = np.zeros((4, 5), np.int32)
    texts = [emit_library(lower(stage(f, [as_tensor(q).aval]).graph, GENERIC), "net") for f in (
        lambda q: [math.astype(q, np.float32) * 0.5], lambda q: [0.25 * math.astype(q, np.float32)], lambda q: [math.astype(q, np.float32) / 8.0],
        lambda q: [math.astype(q, np.float32) * 0.3],
    )]  # fmt: skip
    assert [t.count("sh_opaque(") for t in texts] == [2, 2, 2, 0]


def test_a_file_holds_whole_operators(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("masked attention", "lstm", "group norm"):
        net, xs = NETS[name](rng)
        small = quantized(net, *xs)
        sh.save(small, tmp_path / "net.safetensors")
        again = sh.load(tmp_path / "net.safetensors")
        some = [as_tensor(x[:3]) for x in xs]
        assert (again(*some).numpy() == small(*some).numpy()).all()


def test_tokens_and_integers_go_in_as_they_are(tmp_path):
    rng = np.random.default_rng(0)
    t = rng.integers(0, 20, (8, 6)).astype(np.int32)
    small = quantized(Of(lambda net, t: net.h(net.e(t).mean(axis=1)), e=nn.Embedding(20, 8), h=nn.Linear(8, 3)), t)
    found = same(small, [t], tmp_path, board=4)
    assert found.differing == 0 and [b.dtype for b in load_artefact(tmp_path / "board").inputs] == ["int32"]


def test_several_outputs_of_a_float_network(tmp_path):
    x = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    net = Of(lambda net, x: (net.a(x), net.a(x) * 2), a=nn.Linear(6, 3)).eval()
    art = sh.export(net, x[:1], device="host", to=tmp_path)
    np.testing.assert_allclose(sh.measure(art, (x,)).outputs.view(np.float32)[:, :3], net(as_tensor(x))[0].numpy(), rtol=1e-5)


def test_the_example_of_several_inputs_builds_with_plain_gcc(tmp_path):
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed: exported C is NOT built with it")
    net, xs = NETS["gru with its state"](np.random.default_rng(0))
    sh.export(quantized(net, *xs), tuple(xs), device="host", to=tmp_path)
    strict = ["-std=c11", "-O2", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
    subprocess.run(["gcc", *strict, "example.c", "network.c", "-lm", "-o", "example"], cwd=tmp_path, check=True)
    done = subprocess.run(["./example"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.count("\n") == len(done.stdout.splitlines()) > 7 * 8


@pytest.mark.parametrize("flags", [("-mrecip=sqrt",), ("-mrecip=div",)])
def test_the_self_check_notices_estimates(flags, tmp_path):
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed: its estimates are NOT checked")
    net, xs = NETS["layer norm"](np.random.default_rng(0))
    sh.export(quantized(net, *xs), xs[0][:1], device="host", to=tmp_path)
    (tmp_path / "main.c").write_text('#include "network.h"\nint main(void) { return network_selfcheck(); }\n')
    loose = ("-funsafe-math-optimizations", "-ffinite-math-only", "-fno-trapping-math", "-fno-math-errno", "-mfpmath=sse")
    for extra, expected in (((), {0}), ((*loose, *flags), {4, 8, 9, 10, 11, 12})):
        subprocess.run(["gcc", "-std=c11", "-O2", *extra, "main.c", "network.c", "-lm", "-o", "main"], cwd=tmp_path, check=True)
        assert subprocess.run(["./main"], cwd=tmp_path).returncode in expected


def test_positions_are_no_output(tmp_path):
    x = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    small = quantized(Of(lambda net, x: (nn.softmax(x), x.argmax(axis=-1))), x)
    with pytest.raises(DeployError, match="argmax#0 gives positions"):
        sh.export(small, x[:1], device="host", to=tmp_path)
