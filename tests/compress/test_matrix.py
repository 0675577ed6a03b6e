"""Every pair and triple of methods, generated from what is registered: end to end, or refused with a reason."""

from __future__ import annotations

import numpy as np
import pytest

import shohin as sh
from shohin import nn
from shohin.compress import Plan, Quantized
from shohin.compress.demos import combined, demos, without_demo
from shohin.compress.slots import SLOTS
from shohin.core.errors import DeployError, PlanError, QuantizationError


class Net(nn.Module):
    """A stem, a residual block with batch norm, a depthwise layer, a head."""

    def __init__(self):
        self.stem, self.norm = nn.Conv2d(2, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.conv = nn.Conv2d(16, 16, 3, padding=1)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.head = nn.Linear(16, 8)

    def forward(self, x):
        x = nn.relu(self.norm(self.stem(x)))
        x = x + nn.relu(self.conv(x))
        return self.head(nn.relu(self.depthwise(x)).mean(axis=(1, 2)))


X = np.random.default_rng(0).standard_normal((24, 6, 6, 2)).astype(np.float32)
Y = np.arange(24) % 8


def loss(net, x, y):
    return nn.cross_entropy(net(x), y)


def end_to_end(methods, tmp_path):
    """Apply, one training step, export, compare; the reason where it is refused."""
    sh.seed(0)
    net = Net()
    with sh.mode(net, training=True):
        net(X)
    plan = Plan([("*", m) for m in methods])
    try:
        assert Plan.from_toml(plan.to_toml()) == plan
        assert plan.explain(net).splitlines()[0].split()[0] == "place"
        small = plan.apply(net, calibration=sh.data.Dataset(X, Y))
        before = {k: c.read().numpy() for k, c in small.cells(nn.Param).items()}
        _, grads = sh.value_and_grad(loss)(small.train(), X[:8], Y[:8])
        sh.optim.sgd(1e-2).init(small).update(small, grads)
        assert any((before[k] != c.read().numpy()).any() for k, c in small.cells(nn.Param).items())
        small = small.eval()
        art = sh.export(small, X[:1], device="host", to=tmp_path)
    except (PlanError, QuantizationError, DeployError) as error:
        return str(error)
    if isinstance(small, Quantized):
        found = sh.compare(small, art, X[:8])
        assert found.differing == 0 and found.compared > 0, found
    else:
        np.testing.assert_allclose(sh.measure(art, X[:8], repeats=1).outputs, small(X[:8]).numpy(), rtol=1e-3, atol=1e-4)
    return ""


ALL = {**combined(2), **combined(3)}
FIRST = {m.slot: n for n, m in reversed(demos().items())}
FAST = [name for name in combined(2) if all(n in FIRST.values() for n in name.split(", "))]


def held(name, tmp_path):
    reason = end_to_end(ALL[name], tmp_path)
    assert not reason or (len(reason) > 40 and any(w in reason for w in ("write", "leave", "name", "needs", "replace", "give"))), reason


@pytest.mark.parametrize("name", FAST)
def test_one_method_a_slot(name, tmp_path):
    held(name, tmp_path)


def test_all_slots_at_once(tmp_path):
    (every,) = [ms for n, ms in combined(len(SLOTS)).items() if n.split(", ") == list(reversed(FIRST.values()))]
    assert not end_to_end(every, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in ALL if n not in FAST])
def test_every_pair_and_triple(name, tmp_path):
    held(name, tmp_path)


def test_every_method_has_a_demo():
    assert not without_demo(), "a method that takes no defaults says in demo = ({...},) what is shown of it"
    assert {m.slot for m in demos().values()} == set(SLOTS)
