"""Mixed precision: what layers lose, the integer program against all choices, budgets of real artefacts, every bit."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys

import numpy as np
import pytest

import shohin as sh
from shohin import nn
from shohin.compress import Palettize, Plan, PruneChannels, Quantize, mixed
from shohin.compress import sensitivity as measures
from shohin.compress.assignment import Row, assign
from shohin.core.errors import AttrError, BudgetError, PlanError
from shohin.core.provided import provided
from shohin.costs.observe import examples
from shohin.deploy.cost import layers_of
from shohin.deploy.network import exported_graph
from shohin.targets.budget import Budget
from tests.targets.emulator import require_emulator

WIDTHS = [Quantize(w=8), Quantize(w=4), Quantize(w=2)]


def network():
    sh.seed(3)
    return nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2), nn.ReLU(),
                         nn.DepthwiseConv2d(32, 3), nn.Conv2d(32, 48, 1), nn.ReLU(), nn.GlobalAvgPool(), nn.Linear(48, 10)).eval()  # fmt: skip


@pytest.fixture
def x():
    return np.random.default_rng(0).standard_normal((24, 10, 10, 1)).astype(np.float32)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A folder of losses that tests of ``network`` share."""
    return tmp_path_factory.mktemp("losses")


@pytest.fixture
def fast(monkeypatch):
    """A meter that compiles nothing: flash is the exact constants and 5,000 bytes, what is measured 300 more; fewer bits are slower."""

    def read(net, xs, names, *, measured):
        constants = sum(p.constants for p in layers_of(exported_graph(net, examples(xs))))
        takes = {"constants": constants, "flash": constants + (5300 if measured else 5000), "ms": (20_000 - constants) / (9e4 if measured else 1e5)}
        return {n: takes[n] for n in names}

    found = {"meter": lambda device: read, "assignment": provided("assignment")}
    monkeypatch.setattr(sys.modules["shohin.compress.mixed"], "provided", found.__getitem__)


# --------------------------------------------------------------------------------------------------------- losses


def fragile():
    """Three layers alike, but for the weights: the first's lie on 2 bits, the second's are normal, in the third one weight of a row hides
    the others."""
    rng, (n, classes) = np.random.default_rng(1), (24, 24)
    net = nn.Sequential(nn.Linear(n, n), nn.ReLU(), nn.Linear(n, n), nn.ReLU(), nn.Linear(n, classes)).eval()
    net[0].weight = (rng.integers(-1, 2, (n, n)) * 0.25).astype(np.float32)
    net[2].weight = (rng.standard_normal((n, n)) / 5).astype(np.float32)
    net[2].weight = np.sign(net[2].weight.numpy()) * np.minimum(abs(net[2].weight.numpy()), 0.3)
    last = (rng.standard_normal((classes, n)) / 5).astype(np.float32)
    last[:, 3] = 4.0  # alike for all classes: it changes no distribution
    net[4].weight = last
    return net, rng.standard_normal((64, n)).astype(np.float32)


@pytest.mark.parametrize("by", ["kl", "noise", "fisher"])
def test_the_fragile_layer_loses_most_and_one_on_its_grid_nothing(by):
    net, x = fragile()
    loss = measures.LOSSES[by](net, x)
    at = lambda place: loss(Plan([("*", Quantize()), (place, Quantize(w=2))]).apply(net, calibration=x).eval())
    base = loss(Plan([("*", Quantize())]).apply(net, calibration=x).eval())
    exact, normal, hidden = (at(p) - base for p in ("0", "2", "4"))
    assert abs(exact) < 0.05 * normal and normal < (hidden if by != "noise" else np.inf) and base < 0.05 * normal


def test_losses_by_hand():
    net, x = fragile()
    small = Plan([("*", Quantize(w=4))]).apply(net, calibration=x).eval()
    y, z = (m(x).numpy().astype(np.float64) for m in (net, small))
    log = lambda v: v - np.log(np.exp(v).sum(1, keepdims=True))
    assert np.isclose(measures.kl(net, x)(small), (np.exp(log(y)) * (log(y) - log(z))).sum(1).mean(), rtol=1e-6)
    assert np.isclose(measures.noise(net, x)(small), ((y - z) ** 2).sum() / (y**2).sum(), rtol=1e-6)
    g = sh.grad(lambda net, x, y: nn.cross_entropy(net(x), y))(net, x, y.argmax(1))
    w, s = net[2].weight.numpy(), abs(net[2].weight.numpy()).max(1, keepdims=True) / 7
    error = float(np.square(g["2.weight"].numpy()).mean()) * ((np.round(w / s) * s - w) ** 2).sum()
    both = measures.fisher(net, x)
    other = Plan([("*", Quantize(w=4)), ("2", Quantize(w=8))]).apply(net, calibration=x).eval()
    assert np.isclose(both(small) - both(other), error, rtol=0.02)


def test_probabilities_are_taken_as_they_are():
    net, x = fragile()
    small = Plan([("*", Quantize(w=4))]).apply(net, calibration=x).eval()
    assert np.isclose(measures.kl(Probable(net).eval(), x)(small), measures.kl(net, x)(small), rtol=0.05)


class Probable(nn.Module):
    def __init__(self, net):
        self.net = net

    def forward(self, x):
        return nn.softmax(self.net(x))


# ---------------------------------------------------------------------------------------------------- the program


def test_the_optimum_of_all_choices_of_four_places():
    rng, none = np.random.default_rng(0), 0
    for _ in range(60):
        loss = np.cumsum(rng.exponential(size=(4, 3)), 1) * 10.0 ** rng.integers(-6, 2)
        rows = [Row(n, float(rng.uniform(0, 20)), -np.cumsum(rng.integers(0, 50, (4, 3)), 1) + 150.0, 15.0 * rng.integers(0, 3, (4, 3))) for n in "ab"]
        every = list(itertools.product(range(3), repeat=4))
        limits = [float(np.quantile([row(c) for c in every], max(q, 0.0))) - (q < 0) for row in rows for q in [rng.uniform(-0.1, 0.6)]]
        barred = [every[k] for k in rng.integers(0, len(every), 5)]
        total = lambda c, loss=loss: loss[range(4), list(c)].sum()
        fitting = [c for c in every if all(r(c) <= limit for r, limit in zip(rows, limits)) and c not in barred]
        found = assign(loss, rows, limits, barred)
        none += not fitting
        if not fitting:
            assert found is None
        else:
            assert found in fitting and np.isclose(total(found), min(map(total, fitting)), rtol=1e-6)
    assert 0 < none < 30


# -------------------------------------------------------------------------------------------------------- budgets


def test_the_least_loss_of_all_artefacts_that_fit(x, kept, tmp_path):
    net = network()
    pair = WIDTHS[0], WIDTHS[2]
    loss, names = measures.kl(net, x), ("0", "3", "5", "6", "9")
    sizes, losses = {}, {}
    for choice in itertools.product((0, 1), repeat=5):
        if choice[0] == choice[2] == choice[4] == 0:  # of the two that weigh most
            small = Plan([("*", pair[0]), *((p, pair[c]) for p, c in zip(names, choice))]).apply(net, calibration=x).eval()
            sizes[choice] = sh.export(small, x[:1], device="cortex-m55", to=tmp_path / "all").flash_bytes
            losses[choice] = loss(small)
    limit = sizes[0, 1, 0, 0, 0]
    plan = mixed(net, pair, calibration=x, budget=Budget(flash=limit), device="cortex-m55", run=kept)
    small = plan.apply(net, calibration=x).eval()
    art = sh.export(small, x[:1], device="cortex-m55", to=tmp_path / "one")
    assert art.flash_bytes == plan.measured["flash"] <= limit
    assert plan.loss == loss(small) <= 1.02 * min(losses[c] for c in sizes if sizes[c] <= limit)
    assert "instead" in str(plan) and f"of {limit:,}" in str(plan) and set(plan.choice) == set(names)


def test_a_roomy_budget_takes_the_first_candidate_and_a_tight_one_says_what_came_closest(x, kept, fast):
    net = network()
    plan = mixed(net, WIDTHS, calibration=x, budget=Budget(flash="1 MB"), device="cortex-m55", run=kept)
    assert set(plan.choice.values()) == {(WIDTHS[0],)} and plan.predicted == plan.loss
    with pytest.raises(BudgetError, match=r"flash 1,000 bytes cannot be met with these 3 candidates\. What came closest \(.*w=2 at \d places\): flash \S+ of 1,000 bytes"):
        mixed(net, WIDTHS, calibration=x, budget=Budget(flash="1 kB"), device="cortex-m55", run=kept)


@pytest.mark.parametrize("name", ["ram", pytest.param("instructions", marks=pytest.mark.slow)])
def test_activations_are_wide_where_the_board_has_room(x, name):
    require_emulator()
    net, pair = network(), (Quantize(a=16), Quantize())
    meter = provided("meter")("cortex-m55")
    wide, narrow = (meter(Plan([("*", q)]).apply(net, calibration=x).eval(), (x[:1],), (name,), measured=True)[name] for q in pair)
    plan = mixed(net, pair, calibration=x, budget=Budget(**{name: (wide + narrow) / 2}), device="cortex-m55", by="noise")
    assert plan.measured[name] <= (wide + narrow) / 2 < wide
    assert len(set(plan.choice.values())) == 2  # some layers are narrow, not all
    assert plan.loss < measures.noise(net, x)(Plan([("*", pair[1])]).apply(net, calibration=x).eval())


def test_two_limits_that_pull_apart(x, kept, fast):
    """Flash asks for few bits, ms for many: both hold, as measured, or the error has both."""
    plan = mixed(network(), WIDTHS, calibration=x, budget=Budget(flash=12_000, ms=0.16), device="cortex-m55", run=kept)
    assert plan.measured["flash"] <= 12_000 and plan.measured["ms"] <= 0.16 and "0.16 ms" in str(plan)
    assert {m[0].w for m in plan.choice.values()} > {8}
    with pytest.raises(BudgetError, match=r"cannot be met with these 3 candidates.*(flash|ms)"):
        mixed(network(), WIDTHS, calibration=x, budget=Budget(flash=12_000, ms=0.13), device="cortex-m55", run=kept)


def test_candidates_of_several_slots(x, fast):
    net = network()
    table = [Palettize(bits=2), Quantize()]
    plan = mixed(net, [Quantize(), table], calibration=x, budget=Budget(flash=11_000), device="cortex-m55")
    assert tuple(table) in plan.choice.values() and (Quantize(),) in plan.choice.values() and "Palettize() + Quantize()" in str(plan)
    assert plan.measured["flash"] <= 11_000


# ------------------------------------------------------------------------------------------------------- every bit


def test_three_widths_in_one_network_differ_in_no_integer(x, tmp_path):
    require_emulator()
    net = network()
    small = Plan([("*", Quantize()), ("3", Quantize(w=4)), ("6", Quantize(w=2)), ("5", Quantize(w=3))]).apply(net, calibration=x).eval()
    assert all((small.integers(x)[p] == q).all() for p, q in sh.compress.integers(small, x).items())
    art = sh.export(small, x[:1], device="cortex-m55", to=tmp_path)
    found = sh.compare(small, art, x, board=2)
    assert found.differing == 0 and found.compared > 200 and any("emulated" in w or "board" in w or "cortex" in w for w in found.ways)


# -------------------------------------------------------------------------------------------------- what was kept


def test_it_goes_on_where_it_was_cut_off(x, tmp_path, monkeypatch, fast):
    net, budget = network(), Budget(flash=9_500)
    go = lambda: mixed(net, [WIDTHS[0], WIDTHS[2]], calibration=x, budget=budget, device="cortex-m55", run=tmp_path)
    calls = []
    whole = measures._outputs
    monkeypatch.setattr(measures, "_outputs", lambda *a: calls.append(a) or whole(*a))
    first, path = go(), tmp_path / "losses.jsonl"
    runs = len(calls)
    lines = path.read_text().splitlines()[1:]
    assert len(lines) == 6 and all(json.loads(line)["loss"] >= 0 for line in lines)
    path.write_text("\n".join(lines[:3]) + "\n" + lines[3][: len(lines[3]) // 2])
    for again in (runs - 3, runs - 6):  # what was lost is measured, and kept
        calls.clear()
        assert go().rules == first.rules and len(calls) == again
    net[9].bias = np.ones(10, np.float32)
    before = len(path.read_text().splitlines())
    go()
    assert len(path.read_text().splitlines()) == before + 6  # another network


def test_bad_input(x):
    net, fits = network(), Budget(flash=1e6)
    go = lambda candidates=WIDTHS, net=net, calibration=x, budget=fits, **more: mixed(net, candidates, calibration=calibration, budget=budget, device="cortex-m55", **more)
    for make, said in (
        (lambda: go(WIDTHS[:1]), "1 candidates, expected two or more"),
        (lambda: go([*WIDTHS, Palettize()]), "a candidate is a Quantize, alone or in a list"),
        (lambda: go([*WIDTHS, [PruneChannels(), Quantize()]]), "channels and factors change other layers"),
        (lambda: go([*WIDTHS, [Quantize(), Quantize()]]), "a candidate is a Quantize"),
        (lambda: go(budget=Budget()), "no limit"),
        (lambda: go(by="luck"), "by='luck' is none of kl, noise, fisher"),
        (lambda: go(calibration=None), "needs calibration="),
        (lambda: go(net=Plan([("*", Quantize())]).apply(net, calibration=x)), "already quantized"),
        (lambda: go(net=nn.Sequential(nn.ReLU()), by="noise"), "no layer whose weights are quantized"),
        (lambda: go(net=nn.Sequential(nn.Conv2d(1, 2, 3))), r"the output is \('n', 8, 8, 2\), expected \(examples, classes\); write by='noise'"),
        (lambda: Budget(flash="a lot"), "is no size"),
    ):
        with pytest.raises((PlanError, AttrError), match=said):
            make()


def test_scipy_is_asked_for_where_it_is_needed():
    code = (
        "import sys; sys.modules['scipy'] = None; sys.modules['scipy.optimize'] = None\n"
        "from shohin.compress import mixed\nfrom shohin.core.provided import provided\nimport shohin\n"
        "try: provided('assignment')\nexcept ModuleNotFoundError as e: print(e)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "pip install 'shohin[mixed]'" in out.stdout, out.stderr
