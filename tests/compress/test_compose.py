"""Methods on weights stack: each works on what the earlier slots made, and says so where it cannot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

import shohin as sh
from shohin import nn
from shohin.compress import (
    Method,
    Palettize,
    Plan,
    Prune,
    PruneChannels,
    Quantize,
    Reweighting,
    reparametrize,
    report,
    weights,
)  # fmt: skip
from shohin.compress.largest import largest
from shohin.core.errors import DeployError, PlanError


def network(seed=0):
    sh.seed(seed)
    first, second = nn.Conv2d(2, 16, 3, padding=1), nn.Conv2d(16, 32, 3, stride=2, padding=1)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.GlobalAvgPool(), nn.Linear(32, 4)).eval()


def inputs(n=8, seed=0):
    return np.random.default_rng(seed).standard_normal((n, 8, 8, 2)).astype(np.float32)


def loss(net, x):
    return sh.sum(net(x) * net(x))


def train(net, steps=3):
    net.train()
    opt = sh.optim.sgd(1e-3).init(net)
    for k in range(steps):
        _, grads = sh.value_and_grad(loss)(net, inputs(8, k))
        opt.update(net, grads)
    return net.eval()


def test_a_mask_stays_while_the_rest_trains():
    net = network()
    small = Plan([("*", Prune(sparsity=0.75))]).apply(net)
    before = {k: small[k].weight.numpy() for k in (0, 2, 5)}
    for k, w in before.items():
        dense = net[k].weight.numpy()
        zero = w == 0
        assert zero.mean() == 0.75 and np.abs(dense[zero]).max() <= np.abs(dense[~zero]).min()
        np.testing.assert_array_equal(w[~zero], dense[~zero])
    assert {"2.weight", "2.weight_mask.mask"} <= set(small.cells()) and "2.weight_mask.mask" in small.cells(nn.Buffer)
    assert isinstance(small[2], nn.Conv2d) and type(net[2]) is nn.Conv2d
    train(small)
    for k, w in before.items():
        after = small[k].weight.numpy()
        np.testing.assert_array_equal(after == 0, w == 0)
        assert not np.array_equal(after, w)
    np.testing.assert_array_equal(largest(np.float32([1, 1, 1, 1]), 2).numpy(), [True, True, False, False])


@pytest.mark.parametrize("cc", [None, "gcc"])
def test_a_masked_float_artefact(cc, tmp_path):
    small, x = Plan([("*", Prune()), ("2", Palettize(bits=2))]).apply(network()), inputs()
    art = sh.export(small, x[:1], device="host", to=tmp_path / "a")
    dense = network()
    for k in (0, 2, 5):
        dense[k].weight = small[k].weight.numpy()
    whole = sh.export(dense, x[:1], device="host", to=tmp_path / "b")
    assert art.sections.rodata < whole.sections.rodata - 4 * 32 * 9 * 16 * 0.9
    np.testing.assert_allclose(
        sh.measure(art, x, repeats=1).outputs, small(x).numpy().reshape(8, -1), rtol=1e-4, atol=1e-5
    )


RULES = {
    "mask": [("*", Prune(0.6))],
    "mask, integers": [("*", Prune(0.6)), ("*", Quantize())],
    "table, mask, integers": [("2", Palettize(bits=2, group=16)), ("*", Quantize()), ("*", Prune(0.6))],
    "one bit": [("*", Palettize(bits=1)), ("*", Quantize()), ("2", Prune(0.6))],
    "channels, mask, integers": [("*", PruneChannels(0.5)), ("*", Prune(0.6)), ("*", Quantize())],
    "all": [("*", PruneChannels(0.25)), ("*", Prune(0.6)), ("*", Palettize(bits=3)), ("*", Quantize())],
}


@pytest.mark.parametrize("name", list(RULES)[1:])
def test_integers_are_the_same_everywhere(name, tmp_path):
    x = inputs(16)
    small = Plan(RULES[name]).apply(network(), calibration=inputs(32))
    places = [p for p in small.modules() if p.split(".")[-1] in ("0", "2", "5")]
    zeros = {p: small.modules()[p].weight.numpy() == 0 for p in places}
    assert sum(z.any() for z in zeros.values()) == (1 if name == "one bit" else 3)
    train(small)
    for p, zero in zeros.items():
        np.testing.assert_array_equal(small.modules()[p].weight.numpy() == 0, zero)
    if "table" in name or name in ("all", "one bit"):
        most = 2 ** next(m.bits for _, m in RULES[name] if isinstance(m, Palettize))
        assert all(len(np.unique(row)) <= most for row in small.modules()[places[1]].weight.numpy())
    art = sh.export(small, x[:1], device="host", to=tmp_path)
    found = sh.compare(small, art, x)
    assert found.differing == 0 and found.compared > 0, found


def test_masked_channels_leave_in_a_later_plan():
    x = inputs()
    masked = Plan([("*", Prune(0.6))]).apply(network())
    small = Plan([("*", PruneChannels(0.5))]).apply(masked, calibration=x)
    assert small[2].weight.shape == (16, 3, 3, 8) and small[2].weight_mask.mask.shape == (16, 3, 3, 8)
    assert small[2].weight.numpy()[small[2].weight_mask.mask.numpy() == 0].tolist().count(0.0) > 0
    assert np.isfinite(small(x).numpy()).all()


def test_explain_and_report_say_what_changed():
    x, plan = inputs(32), Plan(RULES["all"])
    lines = {line.split()[0]: line for line in plan.explain(network(), x).splitlines()}
    text = lines["2/conv2d#0"]
    assert (
        "weight 32x3x3x16 -> 24x3x3x12" in text
        and "60% zeros" in text
        and "8 values" in text
        and "108 products" in text
    )
    table = plan.apply(network(), calibration=x).report().splitlines()
    row = next(line for line in table if line.startswith("2.weight"))
    assert "25% of the channels by l1, 60% zeros by magnitude, 8 values for a tensor, int8 weights" in row
    bits, zeros, before, after = row.split()[-4:]
    assert (bits, zeros, before) == ("3", "60%", f"{4 * 32 * 9 * 16:,}") and int(
        after.replace(",", "")
    ) < 24 * 9 * 12 * 3 / 8 + 24 * 9
    assert table[-1].startswith("all")
    plain = report(Plan(RULES["mask"]).apply(network()))
    assert "32" in plain and plain.splitlines()[1].split()[-2:] == [f"{4 * 16 * 9 * 2:,}"] * 2


NET = network()
TWICE = {Palettize(bits=2): "2.weight is already palettized", Prune(): "2.weight is already masked",
         Quantize(): "the network is already quantized"}  # fmt: skip


@pytest.mark.parametrize("method", TWICE)
def test_the_same_method_twice(method):
    once = Plan([("2", method)]).apply(NET, calibration=inputs(4))
    with pytest.raises(PlanError, match=TWICE[method]):
        Plan([("*", method)]).apply(once, calibration=inputs(4))


@pytest.mark.parametrize(
    ("first", "then", "text"),
    [
        ([("*", Palettize())], [("*", PruneChannels(0.5))], r"PruneChannels.*at ''.*changed nothing.*palettized, so write both rules"),
        ([("*", Palettize())], [("2", Prune())], r"Prune.*at '2': 2\.weight is already palettized; mask comes before table"),
        ([("*", Quantize())], [("2", Palettize())], "Palettize: the network is already quantized"),
        ([], [("1", Palettize(bits=2))], r"the rule \('1', Palettize\(bits=2.*changed nothing at '1'"),
        ([], [("*", Palettize()), ("4", Prune())], r"the rule \('4', Prune.*changed nothing at '4'"),
        ([], [("5", PruneChannels(0.5))], r"PruneChannels.*at '5' changed nothing: 5: output"),
        ([], [("0", PruneChannels(0.01))], "1% of 16 channels is none"),
    ],
)  # fmt: skip
def test_what_a_method_cannot_take(first, then, text):
    net = Plan(first).apply(NET, calibration=inputs(4))
    with pytest.raises(PlanError, match=text):
        Plan(then).apply(net, calibration=inputs(4))


def test_quantize_where_nothing_stands():
    net = nn.Sequential(nn.Linear(3, 4), nn.Identity())
    with pytest.raises(PlanError, match=r"Quantize.* at '1' changed nothing"):
        Plan([("0", Quantize()), ("1", Quantize(a=8, w=8))]).apply(net, calibration=np.ones((2, 3), np.float32))


def test_a_method_of_ones_own_stacks_and_an_unfinished_one_is_refused_at_once():
    class Halved(Reweighting):
        slot, kind, done = "factors", "half", "halved"

        def forward(self, w):
            return w * 0.5

    @dataclass(frozen=True)
    class Halve(Method):
        slot: ClassVar[str] = "factors"
        scheme = "half"

        @classmethod
        def apply(cls, net, chosen, calibration):
            for w in list(weights(net, chosen)):
                reparametrize(w.layer, w.name, Halved())
            return net

    net = network()
    small = Plan([("2", Prune(0.5)), ("2", Halve())]).apply(net)
    w = net[2].weight.numpy()
    np.testing.assert_array_equal(small[2].weight.numpy(), np.where(largest(w, w.size // 2).numpy(), w * np.float32(0.5), 0))
    with pytest.raises(TypeError, match="Empty has no scheme"):
        type("Empty", (Method,), {"slot": "mask"})
    with pytest.raises(TypeError, match="Empty has no apply"):
        type("Empty", (Method,), {"slot": "mask", "scheme": "none"})
    with pytest.raises(TypeError, match=r"Empty\.slot is 'maks'"):
        type("Empty", (Method,), {"slot": "maks"})


def test_compare_names_the_remedy_for_a_float_network(tmp_path):
    art = sh.export(NET, inputs(1), device="host", to=tmp_path)
    with pytest.raises(DeployError, match=r"Sequential is a float network; write small = Plan"):
        sh.compare(NET, art, inputs(2))
    small = Plan([("*", Quantize())]).apply(NET, calibration=inputs(8))
    with pytest.raises(DeployError, match="is a float32 artefact"):
        sh.compare(small, art, inputs(2))
