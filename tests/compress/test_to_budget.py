"""Channels to a budget: the network as the whole plan leaves it is within the limits, and with as many channels as that allows."""

from __future__ import annotations

import numpy as np
import pytest

import shohin as sh
from shohin import nn
from shohin.compress import Palettize, Plan, PruneChannels, Quantize
from shohin.compress.importance import IMPORTANCE, of_group
from shohin.compress.shrink import shrink
from shohin.compress.to_budget import Cuts, to_budget
from shohin.core import provided
from shohin.core.errors import BudgetError, PlanError
from shohin.data.dataset import Dataset
from shohin.targets.budget import Budget
from tests.targets.emulator import require_emulator


def network(size=8):
    sh.seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 24, 3, stride=2, padding=1), nn.BatchNorm2d(24), nn.ReLU(),
        nn.DepthwiseConv2d(24, 3, padding=1), nn.Conv2d(24, 32, 1), nn.ReLU(), nn.Flatten(), nn.Linear(32 * size * size // 4, 10)).eval()  # fmt: skip


@pytest.fixture
def x():
    return np.random.default_rng(0).standard_normal((16, 8, 8, 1)).astype(np.float32)


def parameters(net):
    return sum(c.read().size for c in net.cells().values())


def count(net, xs, names, *, measured):
    """A meter that counts parameters as flash, and says that the truth is 10 % more."""
    return {"flash": parameters(net) * (1.1 if measured else 1.0)}


def limited(net, x, budget, meter=count, round_to=1, importance="l1"):
    found = sh.channels(net)(x[:1])
    elements = IMPORTANCE[importance](net, x)
    cuts = {g: Cuts(of_group(g, elements), round_to) for g in found.groups if g.prunable}
    kept = to_budget(net, found, {}, cuts, budget, meter, lambda net: net, (x[:1],))
    return shrink(net, found, kept), kept


@pytest.mark.parametrize("round_to", [1, 8])
def test_the_most_channels_that_fit_by_what_is_measured(x, round_to):
    net = network()
    limit = parameters(net) // 2
    small, kept = limited(net, x, Budget(flash=limit), round_to=round_to)
    assert 0.8 * limit < 1.1 * parameters(small) <= limit or (round_to == 8 and 1.1 * parameters(small) <= limit)
    assert all(m.sum() % round_to == 0 and m.any() for m in kept.values())
    whole, kept = limited(net, x, Budget(flash=10 * limit))
    assert parameters(whole) == parameters(net) and all(m.all() for m in kept.values())


def test_a_group_loses_its_least_channels_and_dear_groups_lose_more(x):
    net = network()
    _, kept = limited(net, x, Budget(flash=parameters(net) // 2))
    scores = {g: of_group(g, IMPORTANCE["l1"](net, x)) for g in kept}
    for g, mask in kept.items():
        assert mask.all() or scores[g][mask].min() >= scores[g][~mask].max()
    share = {g.size: m.mean() for g, m in kept.items()}
    assert share[16] < share[24] < share[32] and share[16] > 0.3  # 231, 192 and 185 parameters a channel; no group is emptied


def test_a_budget_that_cannot_be_met_says_what_came_closest(x):
    net = network()
    with pytest.raises(BudgetError, match=r"flash 50 bytes cannot be met\. What came closest, with 3 channels left in 3 groups: flash 210 of 50 bytes.*cannot go"):
        limited(net, x, Budget(flash=50))


def test_bytes_of_the_artefact_with_the_whole_plan(x, tmp_path):
    net = network()
    rules = [("*", Palettize(bits=4, group=1)), ("*", Quantize())]
    before = sh.cost(Plan(rules).apply(net, calibration=x), "cortex-m55")(x)
    limits = Budget(flash=int(0.75 * before.flash), ram=before.arena)
    small = Plan([("*", PruneChannels(budget=limits, device="cortex-m55")), *rules]).apply(net, calibration=x)
    art = sh.export(small, x[:1], device="cortex-m55", to=tmp_path)
    assert 0.85 * limits.flash < art.flash_bytes <= limits.flash and art.arena_bytes <= limits.ram
    assert small(x).shape == (16, 10)


def test_instructions_are_counted_where_that_can_be_done(tmp_path):
    require_emulator()
    net, x = network(24), np.random.default_rng(0).standard_normal((16, 24, 24, 1)).astype(np.float32)
    quantized = Plan([("*", Quantize())]).apply(net, calibration=x)
    half = Budget(instructions=sh.cost(quantized, "cortex-m55")(x).instructions / 2)
    small = Plan([("*", PruneChannels(budget=half, device="cortex-m55", importance="taylor")), ("*", Quantize())]).apply(net, calibration=x)
    art = sh.export(small, x[:1], device="cortex-m55", to=tmp_path)
    assert 0.6 * half.instructions < sh.measure(art, x[:1], board=1, repeats=5).instructions.value <= half.instructions


def test_taylor_is_the_squared_gradient_times_the_weight():
    net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    data = Dataset(np.random.default_rng(1).standard_normal((8, 2)).astype(np.float32), np.arange(8) % 2)
    found = IMPORTANCE["taylor"](net, data)
    g = sh.grad(lambda net, x, y: nn.cross_entropy(net(x), y))(net, data.x, data.y)
    for path, cell in net.cells(nn.Param).items():
        np.testing.assert_allclose(found[path], np.square(g[path].numpy() * cell.read().numpy()), rtol=1e-4, atol=1e-12)
    own = net(data.x).numpy().argmax(-1)  # without labels the network's own answers
    g = sh.grad(lambda net, x, y: nn.cross_entropy(net(x), y))(net, data.x, own)
    np.testing.assert_allclose(IMPORTANCE["taylor"](net, data.x)["0.weight"], np.square(g["0.weight"].numpy() * net[0].weight.numpy()), rtol=1e-4, atol=1e-12)
    with pytest.raises(PlanError, match="labels are float32, expected classes"):
        IMPORTANCE["taylor"](net, Dataset(data.x, data.x))


def test_batch_norm_scales_rank_and_groups_without_one_say_so(x):
    net = network()
    net[1].weight = np.arange(16, dtype=np.float32) - 8
    net[4].weight = np.ones(24, np.float32)
    small = Plan([("0", PruneChannels(0.25, importance="bn")), ("1", PruneChannels(0.25, importance="bn"))]).apply(net, calibration=x)
    assert sorted(small[1].weight.numpy().tolist()) == [-8, -7, -6, -5, -4, -3, -2, 3, 4, 5, 6, 7]  # of equal ones the first
    with pytest.raises(PlanError, match="no parameter that goes with the channels has an importance by 'bn'"):
        Plan([("7", PruneChannels(0.25, importance="bn"))]).apply(net, calibration=x)


def test_bad_input(x):
    net = network()
    for make, said in (
        (lambda: PruneChannels(0.5, budget=Budget(flash=1), device="host"), "give one of them"),
        (lambda: PruneChannels(budget=Budget(), device="host"), "no limit"),
        (lambda: PruneChannels(budget=Budget(flash=1)), "needs device="),
        (lambda: PruneChannels(round_to=0), "round_to is 0"),
        (lambda: Budget(ms=-1), "must be positive"),
        (lambda: provided.provided("nothing"), "nothing is provided as 'nothing'"),
    ):
        with pytest.raises((PlanError, sh.ShohinError, LookupError), match=said):
            make()
    two = [("0", PruneChannels(budget=Budget(flash=9), device="host")), ("1", PruneChannels(budget=Budget(flash=9), device="host")),
           ("3", PruneChannels(budget=Budget(flash=8), device="host")), ("4", PruneChannels(budget=Budget(flash=8), device="host")),
           ("6", PruneChannels(budget=Budget(flash=8), device="host"))]  # fmt: skip
    with pytest.raises(PlanError, match="2 budgets"):
        Plan(two).apply(net, calibration=x)
