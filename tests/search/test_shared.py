"""Weights that all ways share, and the networks that are trained with them: parts, mixtures, resumed trainings."""

from __future__ import annotations

import numpy as np
import pytest

import shohin as sh
from shohin import nn
from shohin.core.errors import DeployError, NonFiniteError, StateError
from shohin.search import (
    Budget,
    Evolution,
    Gumbel,
    OneShot,
    Random,
    Space,
    Trial,
    expected,
    gumbel,
    oneshot,
    relaxed,
    search,
    shared,
)
from shohin.search import attempt as attempt_module
from shohin.search.strategies import Setting
from shohin.search.ways import drawn, spread, way
from tests.search import toy

RNG = np.random.default_rng(0)
Y = np.arange(96) % 2
X = (RNG.standard_normal((96, 6, 6, 1)) + 2.0 * Y[:, None, None, None]).astype(np.float32)
DATA = sh.data.Dataset(X, Y, classes="ab")
TASK = sh.Task(nn.Identity(), DATA, DATA, nn.cross_entropy, nn.accuracy)


class Net(nn.Module):
    def __init__(self, t):
        w, k = t.width("w", 8, min=4, step=2), t.kernel("k", (3, 5))
        self.stem, self.norm = nn.Conv2d(1, w, k, padding=k // 2), nn.BatchNorm2d(w)
        self.op = t.choice("op", [nn.Conv2d(w, w, 3, padding=1), nn.Conv2d(w, w, 3, padding=1, groups=w), nn.sigmoid])
        self.body = t.repeat("n", lambda: nn.Sequential(nn.Conv2d(w, w, 1), nn.BatchNorm2d(w), nn.ReLU()), max=2, min=0)
        self.head = nn.Linear(w, 2)

    def forward(self, x):
        x = nn.relu(self.norm(self.stem(x)))
        return self.head(self.body(x + self.op(x)).mean(axis=(1, 2)))


build = Net


@pytest.fixture
def unmeasured(monkeypatch):
    """Nothing is exported; flash is the number of parameters."""
    numbers = lambda self, net, x, to, budget, board: {"flash": int(toy.size(net)), "ram": 0, "instructions": None}
    monkeypatch.setattr(attempt_module.Work, "_numbers", numbers)
    monkeypatch.setattr(attempt_module, "save", lambda net, path: None)


def run(folder, strategy, **more):
    score = more.pop("score", lambda net: float(sh.evaluate(net, DATA, nn.accuracy)))
    return search(build, score, calibration=X, device="host", run=folder, strategy=strategy, **{"task": TASK, "budget": Budget(), "trials": 3, **more})


def all_ways():
    return [way(build, 0, {"w": w, "k": k, "op": op, "n": n}) for w in (0, 2) for k in (0, 1) for op in (0, 1, 2) for n in (0, 1, 2)]


def test_spread_reaches_every_option_and_covers_every_way():
    ways = spread(build, 0)
    assert ways[0].size == max(w.size for w in all_ways()) and ways[-1].trial.picks["w"] == 4 and len(ways[-1].trial.picks) == 4
    assert {w.trial.choices["op"] for w in ways} == {0, 1, 2}
    whole = shared.Shared((w.net, w.trial) for w in ways)
    assert all(whole.holds(w.net, w.trial) for w in all_ways())
    wide = drawn(lambda t: (t.pick("a", [0]), nn.Linear(3, 3))[1], 0, RNG)
    assert not whole.holds(wide.net, wide.trial)


def test_ways_are_parts_and_the_gradient_goes_to_the_whole():
    """One step's gradient is the sum of those of the networks by themselves, put where their parts lie."""
    ways = [w for k, w in enumerate(all_ways()) if k % 7 == 0]
    whole = shared.Shared((w.net, w.trial) for w in spread(build, 0))
    lend = [shared.lent(w.net, w.trial) for w in ways]
    x, y = X[:8], Y[:8]

    def loss(whole, nets):
        for give, net in zip(lend, nets.nets, strict=True):
            give(whole, net)
        return sum(nn.cross_entropy(net(x), y) for net in nets.nets)

    found = sh.grad(loss)(whole, oneshot.Stage(ways))
    expected_ = {name: np.zeros(value.shape, np.float64) for name, value in whole.weights.items()}
    for w in ways:
        names, cells = shared.keys(w.net, w.trial), w.net.cells(nn.Param)
        grads = sh.grad(lambda net: nn.cross_entropy(net(x), y))(w.net)
        for path, key in names.items():
            name = key.replace(".", "/")
            at = shared.part(whole.weights[name].shape, cells[path].shape)
            np.testing.assert_array_equal(whole.weights[name].numpy()[at], cells[path].read().numpy())
            expected_[name][at] += grads[path].numpy()
    for name, g in expected_.items():
        np.testing.assert_allclose(found[f"weights.{name}"].numpy(), g, rtol=1e-4, atol=1e-5)


def test_a_mixture_at_its_corners_is_the_way_itself():
    """All 36 ways: gates of 0 and 1, and the same weights, give the same answers as the network that build makes."""
    space = relaxed.relaxed(build, 0)
    assert space.counts == {"w": 3, "k": 2, "op": 3, "n": 3}
    weights = {k: RNG.standard_normal(v.shape).astype(np.float32) for k, v in space.shared.arrays().items()}
    space = relaxed.Space(space.net, shared.Shared.of(weights), space.counts, space.names, space.masks)
    for w in all_ways():
        gates = {name: np.eye(space.counts[name], dtype=np.float32)[k] for name, k in w.trial.choices.items()}
        space.set(space.shared, space.net, {n: sh.asarray(g) for n, g in gates.items()})
        shared.lent(w.net, w.trial)(space.shared, w.net)
        with sh.mode(w.net, training=False), sh.mode(space.net, training=False):
            np.testing.assert_allclose(space.net(X[:4]).numpy(), w.net(X[:4]).numpy(), rtol=2e-4, atol=2e-4, err_msg=str(w.trial.picks))


def test_what_cannot_be_weighed_is_left_to_chance():
    def odd(t):
        net = nn.Sequential(*(nn.Linear(4, 4) for _ in range(t.pick("depth", [1, 2]))), nn.Linear(4, t.pick("last", [2, 4])))
        t.bits("b", (4, 8))
        return net

    assert relaxed.relaxed(odd, 0).counts == {"last": 2}


@pytest.mark.parametrize("strategy", [OneShot(epochs=8, stages=1, samples=1, batch=16, rate=1e-2, then=Random()), Gumbel(epochs=8, warmup=1, batch=16, rate=1e-2)], ids=["oneshot", "gumbel"])  # fmt: skip
def test_trials_start_with_what_was_trained_and_a_killed_training_goes_on(tmp_path, unmeasured, monkeypatch, strategy):
    """With an augmentation that draws, and prices that build ways between epochs: neither is drawn otherwise after a new start."""
    module = oneshot if isinstance(strategy, OneShot) else gumbel
    name = "supernet" if isinstance(strategy, OneShot) else "gumbel"
    monkeypatch.setattr(expected.Prices, "_asked", lambda self, wanted: np.float32([way(build, 0, wanted).size / 2000]))
    task = sh.Task(nn.Identity(), DATA, DATA, nn.cross_entropy, nn.accuracy, augment=lambda x: x + 0.1 * sh.random.normal(x.shape))
    go = lambda folder: run(folder, strategy, task=task, budget=Budget(flash=2000))
    study = go(tmp_path / "a")
    assert np.mean([r.score for r in study.records]) > 0.8 and len({r.path for r in study.records}) == 3
    saved, real = [], module.save_run

    def ended(path, *rest):
        real(path, *rest)
        saved.append(path)
        if len(saved) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(module, "save_run", ended)
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path / "b")
    go(tmp_path / "b")
    assert len(saved) == 8  # the first epochs were not made again
    a, b = ((tmp_path / f / name / "shared.safetensors").read_bytes() for f in "ab")
    assert a == b and go(tmp_path / "b").records and len(saved) == 8


def test_choices_learn_what_they_cost():
    """Prices alone: with nothing over its limit theta stays; over it, the cheap option wins."""
    mixture = gumbel.Mixture(shared.Shared(()), {"op": 2}, 1, pace=10.0)
    grad = lambda: sh.grad(lambda part: mixture.price())(mixture.thetas)["by.op"].numpy()
    mixture.priced(np.float32([0.5]), {"op": np.float32([[0.0], [0.2]])})
    assert not grad().any()
    mixture.priced(np.float32([1.5]), {"op": np.float32([[0.0], [0.2]])})
    g = grad()
    e = 0.5 + 0.5 * 0.2
    np.testing.assert_allclose(g, 10 * 0.25 * 0.2 * (1 + 2 * e) * np.float32([-1, 1]), rtol=1e-4)  # d/dtheta of softmax at 1/2


def test_prices_are_the_exported_constants(tmp_path):
    setting = Setting(build=build, task=TASK, calibration=X, device="cortex-m55", budget=Budget(flash=10_000, instructions=1e6), folder=tmp_path, seed=0)
    prices = expected.Prices(setting)
    base, adds = prices.around({"w": 3}, {"w": 2, "k": 0, "op": 1, "n": 1})
    art = sh.export(way(build, 0, {"w": 2, "k": 0, "op": 1, "n": 1}).net, X[:1], device="cortex-m55", to=tmp_path / "x")
    np.testing.assert_allclose(base[0], art.flash_bytes / 10_000, rtol=1e-6)
    assert not adds["w"][2].any() and (adds["w"][0] < adds["w"][1]).all() and (adds["w"][1] < 0).all()


def test_errors_say_what_is_missing(tmp_path, unmeasured):
    with pytest.raises(StateError, match="OneShot trains a network of its own: pass search"):
        search(build, toy.size, calibration=X, device="host", budget=Budget(), run=tmp_path / "a", strategy="oneshot")
    with pytest.raises(StateError, match="nothing in this space can be weighed"):
        search(lambda t: nn.Linear(6, 6), toy.size, calibration=X, device="host", budget=Budget(), run=tmp_path / "b", strategy="gumbel", task=TASK)
    with pytest.raises(StateError, match="stages is a number from 1 to epochs"):
        OneShot(epochs=1, stages=2)
    with pytest.raises(StateError, match="0 <= warmup < epochs"):
        Gumbel(epochs=2, warmup=2)
    bad = sh.Task(nn.Identity(), DATA, DATA, nn.cross_entropy, nn.accuracy, augment=lambda x: x / 0.0)
    with pytest.raises(NonFiniteError, match="OneShot: the loss is nan at epoch 1"):
        search(build, toy.size, calibration=X, device="host", budget=Budget(), run=tmp_path / "c", strategy=OneShot(epochs=1, stages=1, samples=0, batch=16), task=bad)


def test_a_layer_under_two_names_of_shapes_is_refused():
    with pytest.raises(StateError, match="make them options of a t.choice"):
        shared.Shared([(nn.Linear(2, 2), Trial(Space(0), 0)), (nn.Conv2d(2, 2, 1), Trial(Space(0), 0))])


def test_evolution_runs_over_inherited_weights(tmp_path, unmeasured):
    assert OneShot().then == Evolution() and "then=Evolution" in repr(OneShot())


def test_a_device_without_a_table_is_an_error(tmp_path):
    setting = Setting(build=build, task=TASK, calibration=X, device="cortex-m4", budget=Budget(instructions=1e6), folder=tmp_path, seed=0)
    with pytest.raises(DeployError, match="there is no table of costs"):
        expected.Prices(setting).around({"w": 3}, {"w": 2, "k": 0, "op": 1, "n": 1})
