"""Cost models: exact where they say so, near what the emulator counts, differentiable, and safe with damaged files."""

from __future__ import annotations

import numpy as np
import pytest

import shohin as sh
from shohin import nn
from shohin.compress import Plan, Quantize
from shohin.core.errors import DeployError, ShapeError
from shohin.costs import tables
from shohin.costs.model import Observed, fit, non_negative
from shohin.costs.relaxed import relaxed_cost, relaxed_peak, relaxed_widths, smooth_maximum
from shohin.costs.samples import sample
from shohin.costs.table import Table
from shohin.costs.work import Work
from shohin.deploy.cost import places_of
from shohin.targets import get_target
from shohin.transforms.channels import channels
from tests.targets.emulator import require_emulator


@pytest.fixture(scope="module")
def quantized():
    net, x = sample(2003)
    return Plan([("*", Quantize())]).apply(net, calibration=x), x


def test_instructions_by_place_add_up(quantized):
    net, x = quantized
    found = sh.cost(net, "cortex-m55")(x)
    assert found.instructions == pytest.approx(sum(p.instructions for p in found.places))
    assert {p.place for p in found.places if p.macs and not p.instructions} == set() and found.flop == 2 * found.macs
    assert "instructions (modelled)" in str(found)
    assert sh.cost(net, "cortex-m4")(x).instructions is None  # no table of that board


def test_instructions_are_near_what_the_emulator_counts(quantized, tmp_path):
    require_emulator()
    net, x = quantized
    art = sh.export(net, x[:1], device="cortex-m55", to=tmp_path)
    counted = sh.measure(art, x[:1], board=1, repeats=5).instructions.value
    assert sh.cost(net, "cortex-m55")(x).instructions == pytest.approx(counted, rel=0.1)


def test_a_board_counts_by_step(quantized, tmp_path):
    require_emulator()
    net, x = quantized
    target = get_target("cortex-m55")
    art = sh.export(net, x[:1], device="cortex-m55", to=tmp_path / "a")
    entries = art.library.quantize(x[:1].reshape(1, -1))
    plain = target.strategy.run(target.strategy.build(target, art.folder, tmp_path / "b"), entries, 60)
    stepped = target.strategy.run(target.strategy.build_stepped(target, art.folder, tmp_path / "c"), entries, 60)
    assert plain.steps == () and len(stepped.steps) == len(art.kernels)
    assert sum(stepped.steps) == pytest.approx(plain.instructions[0], rel=0.01)
    np.testing.assert_array_equal(plain.outputs, stepped.outputs)


def test_a_fit_finds_factors_and_keeps_them_from_being_negative():
    rng = np.random.default_rng(0)
    true = np.array([50.0, 3.0, 0.0, 7.0])
    rows = [Observed(Work("k", "f", tuple(map(int, c)), tuple(map(float, c))), float(true @ c)) for c in np.c_[np.ones(60), rng.integers(1, 99, (60, 3))]]
    model = fit(rows, 1.0)
    np.testing.assert_allclose(model.factors["k"], true, atol=0.02)
    a, b = rng.standard_normal((30, 6)), rng.standard_normal(30)
    x = non_negative(a, b)
    slope = a.T @ (a @ x - b)  # the optimality conditions
    assert (x >= 0).all() and slope.min() > -1e-6 and np.abs(slope[x > 0]).max() < 1e-6


def test_a_step_that_was_observed_is_not_modelled():
    rows = [Observed(Work("k", "f", (n,), (1.0, float(n))), 10.0 + n) for n in range(1, 30)]
    table = Table("instructions", "x", 1.0, tuple(rows)).with_rows([Observed(Work("k", "f", (3,), (1.0, 3.0)), 12.5)])
    assert table(Work("k", "f", (3,), (1.0, 3.0))) == (12.5, True)  # the lesser of two
    value, seen = table(Work("k", "f", (40,), (1.0, 40.0)))
    assert not seen and value == pytest.approx(50.0, rel=0.01)
    assert table(Work("new", "f", (40,), (1.0, 40.0)))[0] == pytest.approx(50.0, rel=0.02)  # its family's factors


def test_tables_are_kept_and_damage_is_seen(tmp_path):
    table = Table("seconds", "cpu", 1e-7, (Observed(Work("k", "f", (3, 4), (1.0, 2.0)), 3e-6),))
    path = tmp_path / "t.json.gz"
    table.save(path)
    assert Table.load(path) == table
    data = path.read_bytes()
    for bad in (data[:-9], b"", data[:20] + b"xx" + data[22:], b"not gzip"):
        path.write_bytes(bad)
        with pytest.raises(DeployError, match="cannot be read"):
            Table.load(path)


def test_a_damaged_host_table_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setenv("SHOHIN_CACHE", str(tmp_path))
    tables.host_path().parent.mkdir(parents=True)
    tables.host_path().write_bytes(b"damaged")
    net, x = nn.Linear(8, 4), np.zeros((1, 8), np.float32)
    with pytest.warns(RuntimeWarning, match=r"cost table .* cannot be read.*measured again"):
        assert sh.cost(net, "cortex-m55")(x).ms is None


@pytest.mark.slow
def test_a_damaged_host_table_is_measured_again(tmp_path, monkeypatch):
    monkeypatch.setenv("SHOHIN_CACHE", str(tmp_path))
    monkeypatch.setattr(tables, "HOST_NETWORKS", 1)
    assert tables.host_table(measure=False) is None
    first = tables.host_table(measure=True)
    assert len(first.rows) > 8 and tables.host_table(measure=False) == first
    tables.host_path().write_bytes(tables.host_path().read_bytes()[:-20])
    with pytest.warns(RuntimeWarning, match=r"cost table .* cannot be read.*measured again"):
        again = tables.host_table(measure=True)
    assert {o.work.kind for o in again.rows} == {o.work.kind for o in first.rows}
    net, x = sample(0)
    found = sh.cost(net)(x)
    assert found.ms > 0 and found.ms == pytest.approx(sum(p.ms for p in found.places))


def test_expected_cost_has_the_candidates_as_gradient():
    table = {"a": [{"flash": 10.0, "ms": 1.0}, {"flash": 30.0}], "b": [{"flash": 5.0}]}
    p = np.array([0.25, 0.75], np.float32)
    loss = lambda p: relaxed_cost(table, {"a": p})["flash"]
    assert float(loss(sh.asarray(p))) == 30.0
    np.testing.assert_allclose(sh.grad(loss)(sh.asarray(p)).numpy(), [10.0, 30.0])
    with pytest.raises(ShapeError, match="2 candidates"):
        relaxed_cost(table, {"a": np.ones(3, np.float32)})


def test_relaxed_widths_are_exact_at_whole_channels_and_differentiable():
    net = nn.Sequential(nn.Conv2d(2, 8, 3, padding=1), nn.ReLU(), nn.DepthwiseConv2d(8, 3, padding=1), nn.Conv2d(8, 4, 1), nn.Flatten(), nn.Linear(4 * 36, 3))
    x = np.ones((1, 6, 6, 2), np.float32)
    widths = relaxed_widths(channels(net)(x))
    macs = lambda net: sum(p.macs for p in places_of(net, x.shape))
    parameters = lambda net: sum(c.read().size for c in net.cells().values())
    keep = {"0.weight": np.repeat([1.0, 0.0], [6, 2]).astype(np.float32), "3.weight": np.repeat([1.0, 0.0], [3, 1]).astype(np.float32)}
    small = nn.Sequential(nn.Conv2d(2, 6, 3, padding=1), nn.ReLU(), nn.DepthwiseConv2d(6, 3, padding=1), nn.Conv2d(6, 3, 1), nn.Flatten(), nn.Linear(3 * 36, 3))
    for k, each in (({}, net), (keep, small)):
        found = widths(k)
        assert float(found["macs"]) == macs(each) and float(found["parameters"]) == parameters(each)
    p = sh.asarray(np.full(8, 0.5, np.float32))
    for name in ("macs", "parameters", "activations"):
        f = lambda p, name=name: widths({"0.weight": p})[name]
        slope = sh.grad(f)(p).numpy()
        step = (float(f(p + 0.001)) - float(f(p - 0.001))) / 0.002
        assert (slope > 0).all() and slope.sum() == pytest.approx(step, rel=1e-2)


def test_a_smooth_peak_bounds_the_arena_and_follows_bits(tmp_path):
    net, x = sample(3)
    art = sh.export(net, x[:1], device="host", to=tmp_path)
    live = max(s.live for s in art.layout.steps)
    peak = float(relaxed_peak(art.layout, {}))
    assert art.layout.arena_if(lambda b: 1) <= peak <= 1.1 * live
    places = {b.place for b in art.layout.blocks}
    f = lambda bits: relaxed_peak(art.layout, dict.fromkeys(places, bits / 8))
    assert float(f(sh.asarray(np.float32(4.0)))) == pytest.approx(peak / 2, rel=1e-5)
    assert float(sh.grad(f)(sh.asarray(np.float32(8.0)))) == pytest.approx(peak / 8, rel=1e-4)
    values = np.array([3.0, 9.0, 8.9], np.float32)
    assert 9.0 <= float(smooth_maximum(values)) <= 9.0 * (1 + np.log(3) / 50)
