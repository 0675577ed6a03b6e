"""``Factorize``: each form against NumPy at full and at lower rank, the choice of ranks, compositions, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import shohin as sh
from shohin import nn
from shohin.compress import Factorize, Palettize, Plan, Prune, Quantize
from shohin.compress.factor_forms import FORMS, svd
from shohin.core.errors import PlanError

F32 = np.float32
X = np.random.default_rng(0).normal(size=(16, 8, 8, 3)).astype(F32)
Y = np.arange(16) % 4


class Net(nn.Module):
    """Layers in a list, in an attribute, and in a dict."""

    def __init__(self):
        self.features = [nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.Conv2d(32, 32, 3, padding=1, groups=32)]
        self.point, self.heads = nn.Conv2d(32, 48, 1), {"class": nn.Linear(48, 24)}
        self.last = nn.Linear(24, 4)

    def forward(self, x):
        for layer in self.features:
            x = nn.relu(layer(x))
        return self.last(nn.relu(self.heads["class"](nn.relu(self.point(x)).mean(axis=(1, 2)))))


def network():
    sh.seed(0)
    return Net().eval()


def through(layers, x):
    for layer in layers:
        x = layer(x)
    return x.numpy()


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(list(FORMS)), st.integers(1, 7), st.integers(1, 8), st.sampled_from([(1, 1), (3, 3), (1, 5), (5, 2)]), st.integers(1, 2),
       st.sampled_from([0, 1, (2, 1), ((1, 0), (0, 2)), "same_tf", "valid"]), st.integers(1, 2), st.booleans(), st.integers(0, 99))  # fmt: skip
def test_at_full_rank_the_factors_are_the_layer(form, inside, out, taps, stride, padding, dilation, bias, seed):
    sh.seed(seed)
    if form == "svd":
        taps, dilation = (1, 1), 1
    layer = nn.Conv2d(inside, out, taps, stride, padding, dilation, bias=bias)
    x = np.random.default_rng(seed).normal(size=(2, 12, 11, inside)).astype(F32)
    made = FORMS[form](layer)
    layers = made.build(made.full)
    np.testing.assert_allclose(through(layers, x), layer(x).numpy(), rtol=1e-4, atol=2e-5)
    assert sum(m.weight.numpy().size for m in layers) == made.cost(made.full).weights


def product(form, layers):
    """The weight that factors stand for."""
    w = [m.weight.numpy().astype(np.float64) for m in layers]
    if form == "tucker":
        return np.einsum("qabr,ri,oq->oabi", w[1], w[0][:, 0, 0], w[2][:, 0, 0])
    return np.einsum("rai,obr->oabi", w[0][:, :, 0], w[1][:, 0]) if form == "spatial" else w[-1].reshape(len(w[-1]), -1) @ w[0].reshape(len(w[0]), -1)


def test_lower_ranks_are_the_best_of_their_form():
    sh.seed(0)
    for form, layer in (("svd", nn.Linear(20, 12)), ("spatial", nn.Conv2d(6, 8, (3, 5)))):
        made = FORMS[form](layer)
        for r in (1, 3, 7):
            gap = np.square(layer.weight.numpy() - product(form, made.build([r]))).sum()
            assert np.isclose(gap, made.energies[0][r:].sum(), rtol=1e-4)  # Eckart and Young
    layer = nn.Conv2d(10, 12, 3)
    made = FORMS["tucker"](layer)
    gap = np.square(layer.weight.numpy() - product("tucker", made.build([4, 5]))).sum()
    bound = made.energies[0][4:].sum(), made.energies[1][5:].sum()
    assert max(bound) * (1 - 1e-4) <= gap < sum(bound)  # de Lathauwer et al. 2000, property 10; the turns make it better


def test_ranks_by_energy_ratio_and_cost():
    sh.seed(0)
    layer = nn.Linear(64, 48)
    form = svd(layer)
    energy = np.cumsum(form.energies[0]) / form.energies[0].sum()
    ranks = Factorize(energy=0.5).ranks(form)
    assert energy[ranks[0] - 1] >= 0.5 > energy[ranks[0] - 2] and Factorize(ratio=0.25).ranks(form) == (12,)
    (r,) = Factorize(cost=0.5).ranks(form)
    assert r * 112 <= 0.5 * 64 * 48 < (r + 1) * 112
    conv = FORMS["tucker"](nn.Conv2d(32, 64, 3, stride=2))
    cost = conv.cost(Factorize(cost=0.4).ranks(conv))
    assert 0.3 < cost.products / conv.now.products <= 0.4 and cost.weights < 0.4 * conv.now.weights
    assert cost.products > cost.weights  # the first 1x1 runs before the stride
    assert "rank 47 (of 48) would need 1.71x the products" in Factorize(rank=47).ranks(form)


def loss(net, x, y):
    return nn.cross_entropy(net(x), y)


@sh.jit
def step(net, opt, x, y):
    value, grads = sh.value_and_grad(loss)(net, x, y)
    opt.update(net, grads)
    return value


def test_places_stay_readable_and_rules_hold_beneath(tmp_path):
    plan = Plan([("features.2", Factorize(form="spatial", rank=6)), ("heads.class", Factorize(cost=0.5)), ("point", Factorize(ratio=0.3)),
                 ("features.2", Prune(0.5)), ("heads", Palettize(bits=2)), ("*", Quantize())])  # fmt: skip
    small = plan.apply(network(), calibration=X)
    assert {"features.2.0.weight", "features.2.1.weight_mask.mask", "heads.class.1.weight_palette.codebook", "point.0.weight"} <= set(small.cells())
    assert type(small.features[2]) is nn.Sequential and small.cells()["features.2.0.weight"].read().shape == (6, 3, 1, 16)
    text = plan.explain(network(), X)
    assert "features.2.0/conv2d#0" in text and "weight 32x3x3x16 -> 6x3x1x16" in text
    table = {line.split()[0]: line for line in small.report().splitlines()}
    assert f"{32 * 9 * 16 * 4:,}" in table["features.2.0.weight"] and table["features.2.1.weight"].split()[-2] == "0"
    assert "spatial factors of rank 6, 50% zeros by magnitude, int8" in table["features.2.0.weight"]
    before = network()
    assert table["all"].split()[1] == f"{sum(4 * c.read().size for p, c in before.cells().items() if p.endswith('weight') and c.read().ndim > 1):,}"
    opt, small = sh.optim.sgd(0.05).init(small), small.train()
    losses = [float(step(small, opt, X, Y)) for _ in range(6)]
    assert losses[-1] < losses[0]
    sh.save(small.eval(), tmp_path / "net.safetensors")
    art = sh.export(small, X[:1], device="host", to=tmp_path / "a")
    found = sh.compare(small, art, X)
    assert found.differing == 0 and found.compared > 0
    again = sh.load(tmp_path / "net.safetensors")  # without its class
    assert sh.compare(again, sh.export(again, X[:1], device="host", to=tmp_path / "b"), X).differing == 0


def test_a_second_plan_reaches_the_factors():
    once = Plan([("features.2", Factorize(form="spatial", rank=6))]).apply(network())
    twice = Plan([("features.2.1", Prune(0.5))]).apply(once)
    assert (twice.features[2][1].weight.numpy() == 0).mean() == 0.5 and not (twice.features[2][0].weight.numpy() == 0).any()
    alone = Plan([("*", Factorize(rank=2))]).apply(nn.Linear(12, 10))
    assert isinstance(alone, nn.Sequential) and alone(np.ones((3, 12), F32)).shape == (3, 10)


def test_layers_that_would_cost_more_stay_and_explain_says_so():
    plan = Plan([("*", Factorize(energy=0.9)), ("*", Quantize())])
    small = plan.apply(network(), calibration=X)
    text = plan.explain(network(), X)
    assert isinstance(small.features[3], nn.Conv2d) and "stays: features.3: it has 32 groups of channels" in text
    assert "stays: heads.class: svd of rank 16 (of 24) would need 1.00x the products and 1.00x the weights" in text


@pytest.mark.parametrize(
    ("rules", "text"),
    [
        ([("features.3", Factorize(rank=2))], r"at 'features.3' changed nothing: features.3: it has 32 groups"),
        ([("features.2", Factorize(rank=2, form="svd"))], r"svd takes a linear layer .* it has 3x3; write form='tucker' or 'spatial'"),
        ([("last", Factorize(rank=2, form="tucker"))], "tucker takes a convolution; leave form out"),
        ([("last", Factorize(rank=4))], r"svd of rank 4 \(of 4\) would need 1.17x"),
        ([("last", Factorize(rank=(2, 2)))], r"svd has 1 rank, rank is \(2, 2\)"),
        ([("last", Factorize(cost=0.1))], r"even svd of rank 1 would need 0.29x the products"),
        ([("features.1", Factorize(rank=2))], "no Linear or Conv2d is there"),
    ],
)
def test_rules_that_change_nothing(rules, text):
    with pytest.raises(PlanError, match=text):
        Plan(rules).apply(network(), calibration=X)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Factorize(), "nothing is given, expected one of rank="),
        (lambda: Factorize(rank=2, energy=0.5), "rank and energy is given"),
        (lambda: Factorize(rank=0), "rank is 0, expected a positive integer"),
        (lambda: Factorize(energy=1.0), "energy is 1.0, expected a fraction"),
        (lambda: Factorize(rank=2, form="cp"), "form is 'cp', expected one of svd, tucker, spatial"),
    ],
)
def test_what_it_refuses(make, text):
    with pytest.raises(PlanError, match=text):
        make()


def test_layers_that_other_slots_have_filled_or_that_are_tied():
    masked = Plan([("*", Prune(0.5))]).apply(network())
    with pytest.raises(PlanError, match=r"point.weight is already masked; factors come before mask: write both rules in one plan"):
        Plan([("point", Factorize(rank=4))]).apply(masked)
    net = network()
    net.features = [*net.features, net.features[2]]
    with pytest.raises(PlanError, match="features.2.weight is tied to another place"):
        Plan([("features.2", Factorize(rank=4))]).apply(net)
