"""Tables by other rules than k-means of values: vectors, the loss's Fisher information, differentiable k-means."""

from __future__ import annotations

import numpy as np
import pytest

import shohin as sh
from shohin import nn
from shohin.compress import (
    DKM,
    FisherPalettize,
    Palettize,
    Plan,
    Prune,
    PruneChannels,
    Quantize,
    definitions,
    fake,
    report,
)
from shohin.compress.fisher import fisher
from shohin.compress.kmeans import kmeans, lbg, nearest
from shohin.compress.palettize import smallest
from shohin.core.errors import PlanError
from shohin.core.module import mode
from shohin.core.op import Aval
from shohin.deploy.network import exported_graph
from shohin.ops.narrow import widen
from shohin.ops.palette import depalettize
from shohin.testing import check_method
from tests.targets.emulator import require_emulator


def network(seed=0, pool=True):
    """Without its pool it has a result for each position: more integers to compare."""
    sh.seed(seed)
    deep = nn.Conv2d(16, 16, 3, padding=1, groups=16)
    layers = [nn.Conv2d(4, 16, 3, padding=1), nn.ReLU(), deep, nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.GlobalAvgPool() if pool else nn.Identity(), nn.Linear(32, 8)).eval()


def inputs(n=32, seed=0):
    return np.random.default_rng(seed).standard_normal((n, 8, 8, 4)).astype(np.float32)


def labelled(n=32):
    return sh.data.Dataset(inputs(n), np.random.default_rng(1).integers(0, 8, n), classes=tuple("abcdefgh"))


def train(net, steps=3, rate=0.05):
    opt = sh.optim.sgd(rate).init(net)
    data = labelled()

    @sh.jit
    def step(net, opt, x, y):
        logits = lambda net: y_ if (y_ := net(x)).ndim == 2 else y_.mean(axis=(1, 2))
        loss, grads = sh.value_and_grad(lambda net: nn.cross_entropy(logits(net), y))(net)
        opt.update(net, grads)
        return loss

    net.train()
    losses = [float(step(net, opt, data.x, data.y)) for _ in range(steps)]
    net.eval()
    return losses


# -- rules
@pytest.mark.parametrize("weighted", [False, True])
def test_vectors_settle_where_lloyds_steps_do_and_beat_chance(weighted):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 4)).astype(np.float32)
    g = rng.uniform(0, 1, 600) ** 4 if weighted else np.ones(600)
    c = lbg(x, 8, g if weighted else None).astype(np.float64)
    codes = np.square(x[:, None] - c).sum(2).argmin(1)
    np.testing.assert_array_equal(nearest(x, c.astype(np.float32)), codes)
    error = lambda c: float((g * np.square(x[:, None] - c).sum(2).min(1)).sum())
    means = np.stack([np.average(x[codes == k], axis=0, weights=g[codes == k]) for k in range(8)])
    assert error(means) > 0.99 * error(c)  # a further step gains nearly nothing
    assert error(c) < min(error(x[rng.choice(600, 8, replace=False)]) for _ in range(20))
    assert np.array_equal(lbg(x, 8, g if weighted else None), c.astype(np.float32))
    assert len(lbg(np.zeros((3, 2), np.float32), 4)) == 4


def test_weighted_kmeans_is_kmeans_of_repeated_values():
    rng = np.random.default_rng(0)
    x, times = rng.normal(size=200).astype(np.float32), rng.integers(1, 5, 200)
    error = lambda v: float((times * np.square(x - v[nearest(x, v)].astype(np.float64))).sum())
    weighted, repeated = kmeans(x, 4, weight=times.astype(np.float32)), kmeans(np.repeat(x, times), 4, weight=np.ones(times.sum()))
    np.testing.assert_allclose(weighted, repeated, rtol=1e-5)
    assert error(weighted) <= error(kmeans(x, 4))


def test_fisher_is_the_mean_of_squared_gradients():
    net, data = network(), labelled(6)
    found = fisher(net, {"7.weight": net.cells()["7.weight"], "0.weight": net.cells()["0.weight"]}, data)
    total = {k: 0.0 for k in found}
    for x, y in zip(data.x, data.y, strict=True):
        grads = sh.grad(lambda net, x=x, y=y: nn.cross_entropy(net(x[None]), np.array([y])))(net)
        for k in total:
            total[k] = total[k] + grads[k].numpy().astype(np.float64) ** 2
    for k in total:
        np.testing.assert_allclose(found[k], total[k] / 6, rtol=1e-3, atol=1e-9)


def test_fisher_without_labels_nears_the_expectation_over_the_networks_own():
    sh.seed(0)
    net, x = nn.Linear(3, 4), np.tile(np.float32([[1, 2, -1]]), (600, 1))
    found = fisher(net, {"weight": net.cells()["weight"]}, x)["weight"]
    z = net(x[:1]).numpy()[0].astype(np.float64)
    p = np.exp(z) / np.exp(z).sum()
    np.testing.assert_allclose(found, np.outer(p * (1 - p), [1, 4, 1]), rtol=0.25)
    assert np.array_equal(found, fisher(net, {"weight": net.cells()["weight"]}, x)["weight"])
    one = nn.Linear(3, 1)  # one output is no class: a normal distribution, whose information is 1
    np.testing.assert_allclose(fisher(one, {"w": one.cells()["weight"]}, x)["w"], [[1, 4, 1]], rtol=0.25)


def test_the_loss_weighs_the_error():
    data = labelled()
    data = sh.data.Dataset(data.x * np.float32([1, 1, 1e-3, 1e-3]), data.y, classes=data.classes)

    def made():
        """Half of the first weights are large and hardly matter."""
        net = network()
        net[0].weight = net[0].weight.numpy() * np.array([1, 1, 9, 9], np.float32)
        return net

    plain, weighed = (Plan([("*", m)]).apply(made(), calibration=data) for m in (Palettize(), FisherPalettize()))
    net = made()
    cells = {p: net.cells()[p] for p in ("0.weight", "4.weight", "7.weight")}
    found = fisher(net, cells, data)
    cost = lambda small, p: float((found[p] * np.square(cells[p].read().numpy() - small[int(p[0])].weight.numpy())).sum())
    assert all(cost(weighed, p) < 1.001 * cost(plain, p) for p in cells)
    assert cost(weighed, "0.weight") < 0.7 * cost(plain, "0.weight")


# -- differentiable k-means
def soft(w, c, temperature, rounds, variance=None):
    """Cho et al. 2022 as it is written, in float64: w (n, dim) and c (k, dim) are one group. The weights and the codebook."""
    w, c = w.astype(np.float64), c.astype(np.float64)
    variance = np.square(w - w.mean(0)).mean() if variance is None else variance
    for k in range(rounds + 1):
        d = np.square(w[:, None] - c).sum(2) / (temperature * variance * w.shape[1])
        a = np.exp(d.min(1, keepdims=True) - d)
        a /= a.sum(1, keepdims=True)
        if k < rounds:
            c = a.T @ w / a.sum(0)[:, None]
    return a @ c, c


@pytest.mark.parametrize("dim", [1, 4])
def test_dkm_is_the_papers_forward_pass(dim):
    small = Plan([("7", DKM(bits=2, dim=dim, temperature=0.3, rounds=3))]).apply(network())
    w, first = (a.reshape(-1, dim) for a in (small.cells()["7.weight"].read().numpy(), small[7].weight_palette.codebook.numpy()))
    small.train()
    got = small[7].weight.numpy().reshape(-1, dim)
    wanted, book = soft(w, first, 0.3, 3)
    np.testing.assert_allclose(got, wanted, atol=2e-6)
    moved = small[7].weight_palette.codebook.numpy().reshape(-1, dim)
    np.testing.assert_allclose(moved, book, atol=2e-6)
    small.eval()
    hard = small[7].weight.numpy().reshape(-1, dim)
    codes = np.square(w[:, None] - moved).sum(2).argmin(1)
    np.testing.assert_allclose(hard, [w[codes == c].mean(0) for c in codes], rtol=1e-5)
    assert len(np.unique(hard, axis=0)) == 4


@pytest.mark.parametrize("dim", [1, 2])
def test_dkms_gradient_is_the_papers_slope(dim):
    """Central differences of the float64 reference, whose temperature stands still."""
    small = Plan([("7", DKM(bits=2, group=4, dim=dim, temperature=0.3, rounds=2))]).apply(network()).train()
    palette, w = small[7].weight_palette, small.cells()["7.weight"].read().numpy()
    rng, books = np.random.default_rng(0), palette.codebook.numpy().reshape(2, -1, dim)
    g = rng.normal(size=w.shape).astype(np.float32)
    slope = sh.grad(lambda w: sh.sum(palette(w) * g))(sh.asarray(w)).numpy().astype(np.float64)
    for group in range(2):
        rows = slice(4 * group, 4 * group + 4)
        x, mine = w[rows].reshape(-1, dim).astype(np.float64), g[rows].reshape(-1, dim).astype(np.float64)
        variance = np.square(x - x.mean(0)).mean()
        f = lambda x, mine=mine, variance=variance, book=books[group]: (soft(x, book, 0.3, 2, variance)[0] * mine).sum()
        for _ in range(5):
            v, t = rng.normal(size=x.shape), 1e-6
            assert (f(x + t * v) - f(x - t * v)) / (2 * t) == pytest.approx((slope[rows].reshape(-1, dim) * v).sum(), rel=1e-3, abs=1e-3)


@pytest.mark.parametrize(("bits", "dim"), [(2, 1), (2, 2), (4, 4)])
def test_compiled_evaluation_finds_the_weights_of_the_eager_one(bits, dim):
    layer = Plan([("4", DKM(bits=bits, dim=dim))]).apply(network())[4]
    np.testing.assert_allclose(sh.jit(lambda layer: layer.weight)(layer).numpy(), layer.weight.numpy(), rtol=1e-5)


def test_dkm_trains_in_a_compiled_step_and_moves_weights_between_entries():
    small = Plan([("*", DKM(bits=1, temperature=0.1))]).apply(network())
    codes = lambda: small[4].weight.numpy() > small[4].weight.numpy().mean()
    before, book = codes(), small[4].weight_palette.codebook.numpy()
    losses = train(small, 8, 0.3)
    assert losses[-1] < losses[0] and (codes() != before).any() and not np.array_equal(small[4].weight_palette.codebook.numpy(), book)
    assert len(np.unique(small[4].weight.numpy())) == 2


METHODS = [DKM(bits=2), DKM(bits=2, group=4), FisherPalettize(bits=3, group=8)]


@pytest.mark.parametrize("made", METHODS, ids=str)
def test_they_are_methods(made):
    report = check_method(made)
    assert {"shape", "determinism", "gradient", "round trip", "export"} <= set(report.passed), report


# -- composition
FORMS = [Palettize(bits=2), Palettize(bits=3, group=8), Palettize(bits=4, dim=2), Palettize(bits=4, dim=4, group=16), DKM(bits=2), DKM(bits=3, dim=2, group=8), FisherPalettize(bits=2, dim=2)]
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_no_integer_differs(form, tmp_path):
    x, places = inputs(12, 3), "0247" if form.dim == 1 else "047"
    small = Plan([*((k, form) for k in places), ("*", Quantize())]).apply(network(pool=False), calibration=inputs())
    train(small, 2)
    with mode(small, training=False):
        host = sh.export(small, x[:1], device="host", to=tmp_path / "host")
        assert any("palette" in kernel for _, kernel in host.kernels)
        same = sh.compare(small, host, x, ccs=(None, "gcc"), levels=("native", "v3"))
    assert same.differing == 0 and same.compared > 5000, str(same)


@pytest.mark.parametrize("rule", [Palettize(bits=4, dim=4), Quantize(w=4), Quantize(w=2)], ids=str)
def test_no_integer_differs_on_the_board(rule, tmp_path):
    require_emulator()
    plan = Plan([("*", rule)]) if isinstance(rule, Quantize) else Plan([("*", Quantize()), ("0", rule), ("4", rule), ("7", rule)])
    small, x = plan.apply(network(pool=False), calibration=inputs()), inputs(4, 3)
    board, host = (sh.export(small, x[:1], device=d, to=tmp_path / d) for d in ("cortex-m55", "host"))
    kernels = [k for _, k in board.kernels]
    assert "qconv2d_palette" in kernels and ("qconv2d_depthwise_palette" in kernels) == isinstance(rule, Quantize)
    same = sh.compare(small, board, x, board=2, host=host)
    assert same.differing == 0 and same.compared > 500 and "cortex-m55" in same.ways, str(same)


@pytest.mark.parametrize("form", [Palettize(), DKM(), FisherPalettize()], ids=str)
def test_a_masks_zeros_stay_zero_and_channels_go_first(form):
    data, x = labelled(), inputs(4)
    plan = Plan([("0", PruneChannels(0.5)), ("2", PruneChannels(0.5)), ("*", Prune(0.6)), ("*", form), ("*", Quantize())])
    small = plan.apply(network(), calibration=data)
    layers = {k: small.modules()[k] for k in "047"}
    zeros = {k: layer.weight.numpy() == 0 for k, layer in layers.items()}
    assert layers["0"].weight.shape[0] == 8 and all(z.mean() > 0.55 for z in zeros.values())
    train(small, 3)
    for k, layer in layers.items():
        assert (layer.weight.numpy()[zeros[k]] == 0).all() and len(np.unique(layer.weight.numpy())) <= 4
    reference, found = sh.compress.integers(small, x), small.integers(x)
    assert all(np.array_equal(found[k], reference[k]) for k in reference)


def test_a_ramps_zeros_take_the_entry_that_is_zero():
    small = Plan([("*", Prune(0.6, ramp=(0, 4))), ("*", DKM(bits=2))]).apply(network())
    train(small, 6)
    assert (small[4].weight.numpy() == 0).mean() > 0.55 and len(np.unique(small[4].weight.numpy())) <= 4


def test_float_artefacts_of_vectors_and_dkm_hold_indices_only(tmp_path):
    x, sizes = inputs(6), {}
    for name, form in {"dense": None, "vectors": Palettize(bits=4, dim=4), "dkm": DKM(bits=2)}.items():
        small = network() if form is None else Plan([("4", form)]).apply(network())
        art = sh.export(small, x[:1], device="host", to=tmp_path / name)
        sizes[name] = art.sections.rodata
        np.testing.assert_allclose(sh.measure(art, x).outputs, small(x).numpy(), rtol=1e-4, atol=1e-5)
    whole = 4 * 32 * 9 * 16
    assert sizes["dense"] - sizes["vectors"] > 0.9 * (whole - whole // 32) and sizes["dense"] - sizes["dkm"] > 0.9 * (whole - whole // 16)


@pytest.mark.parametrize("form", [Palettize(bits=4, dim=4), DKM(bits=2, group=8)], ids=str)
def test_they_are_saved_without_their_class(form, tmp_path):
    small, x = Plan([("4", form), ("*", Quantize())]).apply(network(), calibration=inputs()), inputs(4)
    sh.save(small, tmp_path / "a.safetensors", example=x)
    again = sh.load(tmp_path / "a.safetensors")
    assert all(np.array_equal(a, small.integers(x)[k]) for k, a in again.integers(x).items())
    arts = [sh.export(net, x[:1], device="host", to=tmp_path / name) for net, name in ((small, "b"), (again, "c"))]
    assert arts[0].sections.rodata == arts[1].sections.rodata


@pytest.mark.parametrize(("n", "share"), [(8, 8), (8, 1), (8, 3), (5, 2), (7, 9), (1, 1)])
def test_channels_of_a_codebook_have_one_step(n, share):
    largest = np.random.default_rng(n).random(n).astype(np.float32)
    wanted = [largest[k // share * share : k // share * share + share].max() for k in range(n)]
    assert definitions.together(largest, share).tolist() == fake.together(sh.asarray(largest), share).tolist() == wanted


@pytest.mark.parametrize(("form", "shape"), [(Palettize(bits=4, dim=4), (1, 64)), (Palettize(bits=3, group=16), (2, 8)), (DKM(bits=2), (1, 4))], ids=str)
def test_a_codebook_of_floats_is_one_of_integers(form, shape):
    small = Plan([("4", form), ("*", Quantize())]).apply(network(), calibration=inputs()).eval()
    (node,) = (n for n in exported_graph(small, [Aval((1, 8, 8, 4), sh.float32)]).nodes if n.op.kind == "storage")
    assert node.attrs["bits"] == form.bits and node.operands[1].shape == shape
    small.train()
    assert np.array_equal(small(inputs(4)).numpy(), small.eval()(inputs(4)).numpy()) or isinstance(form, DKM)  # whose training is soft


# -- storage
def test_the_smallest_form_holds_the_integers():
    rng = np.random.default_rng(0)
    for w, dims, wanted in (
        (rng.integers(-7, 8, (16, 3, 3, 1)).astype(np.int8), (1,), ("widen", 4)),
        (rng.integers(-1, 2, (16, 3, 3, 1)).astype(np.int8), (1,), ("widen", 2)),
        (rng.choice(np.int8([-90, 5, 3, 127]), (16, 3, 3, 4)), (1,), ("depalettize", 2)),
        (rng.integers(-127, 128, (8, 4)).astype(np.int8)[rng.integers(0, 8, (16, 3, 3, 2))].reshape(16, 3, 3, 8), (1, 4), ("depalettize", 3)),
    ):
        found = smallest(w, dims)
        assert found is not None and (found.op, found.bits) == wanted
        again = {"widen": widen, "depalettize": depalettize}[found.op](*found.arrays, **found.attrs)
        np.testing.assert_array_equal(again.numpy(), w)
    assert smallest(rng.integers(-127, 128, (16, 9)).astype(np.int8)) is None


def test_small_layers_profit_and_the_report_says_so():
    small = Plan([("*", Quantize(w=4))]).apply(network(), calibration=inputs())
    line = next(row for row in report(small).splitlines() if row.startswith("2.weight")).split()
    assert line[-4] == "4" and line[-1] == str(16 * 5)  # nine weights of four bits a channel


# -- errors
@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Palettize(bits=9, dim=4), r"bits is 9, expected 1 to 8; 2\^8 vectors of 4 are the most"),
        (lambda: Palettize(bits=5), "bits is 5, expected 1 to 4"),
        (lambda: Palettize(dim=3), "dim is 3, expected 1, 2, 4, 8 neighbouring weights"),
        (lambda: DKM(temperature=0), "temperature is 0, expected a positive fraction"),
        (lambda: DKM(rounds=0), "rounds is 0, expected 1 step"),
        (lambda: Plan([("*", Palettize(dim=2))]).apply(network()), r"2\.weight: vectors of 2 do not divide the innermost dim of \(16, 3, 3, 1\)"),
        (lambda: Plan([("4", DKM(group=5))]).apply(network()), "groups of 5 do not divide 32 output channels"),
        (lambda: Plan([("4", Prune(0.5)), ("4", DKM(bits=1))]).apply(network()), "of 2 entries a mask's zeros take one"),
        (lambda: Plan([("4", Prune(0.5)), ("4", Palettize(dim=4))]).apply(network()), "a mask holds some of the 4 weights of a vector at 0"),
        (lambda: Plan([("4", FisherPalettize())]).apply(network()), "calibration"),
    ],
)  # fmt: skip
def test_errors(make, text):
    with pytest.raises(PlanError, match=text):
        make()
