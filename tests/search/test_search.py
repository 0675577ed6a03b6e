"""Searches: exact before training, without repeats, resumed, and honest about what does not fit."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

import shohin as sh
from shohin import nn, optim
from shohin.compress import Plan, Quantize
from shohin.core.errors import BudgetError, StateError
from shohin.search import Budget, Space, Trial, search
from shohin.search import attempt as study_module
from tests.targets.emulator import require_emulator


@pytest.fixture
def unmeasured(monkeypatch):
    """Bytes are real, the inferences are left out."""
    monkeypatch.setattr(
        study_module, "measure", lambda art, x, **more: SimpleNamespace(ram_bytes=None, instructions=None)
    )


RNG = np.random.default_rng(0)
X = RNG.standard_normal((64, 8, 8, 1)).astype(np.float32)
DATA = sh.data.Dataset(
    X + 1.0 * (np.arange(64) % 2)[:, None, None, None].astype(np.float32), np.arange(64) % 2, classes=("a", "b")
)


class Net(nn.Module):
    def __init__(self, width, depth):
        self.stem = nn.Conv2d(1, width, 3, stride=2, padding=1)
        self.body = [nn.Conv2d(width, width, 3, padding=1) for _ in range(depth)]
        self.head = nn.Linear(width, 2)

    def forward(self, x):
        x = nn.relu(self.stem(x))
        for layer in self.body:
            x = x + nn.relu(layer(x))
        return self.head(x.mean(axis=(1, 2)))


def build(t):
    net = Net(width=t.pick("width", [4, 8, 16]), depth=t.pick("depth", [1, 2]))
    return net, Plan([("*", Quantize())])


scored = []


def score(net):
    scored.append(net)
    return float(sum(c.read().size for c in net.cells(nn.Param).values()))


def run(tmp_path, budget=None, trials=64, f=build, **more):
    scored.clear()
    return search(
        f,
        score,
        calibration=DATA.take(16),
        device="cortex-m55",
        budget=budget or Budget(),
        trials=trials,
        run=tmp_path / "s",
        **more,
    )


def test_paths_are_drawn_without_repeats_until_none_is_left():
    def ask(t):
        return (t.pick("a", [1, 2, 3]), t.pick("b", "xy") if t.picks["a"] > 1 else None)

    orders = []
    for seed in (0, 0, 1):
        space, seen = Space(seed), []
        while not space.exhausted:
            t = Trial(space, len(seen))
            seen.append(ask(t))
            space.done(t.path)
        orders.append(seen)
        assert sorted(map(str, seen)) == sorted(map(str, [(1, None), (2, "x"), (2, "y"), (3, "x"), (3, "y")]))
    assert orders[0] == orders[1] != orders[2]


def test_what_cannot_fit_is_not_trained(tmp_path, unmeasured):
    study = run(tmp_path, Budget(flash="6 kB", ram="8 kB"))
    assert len(study.records) == 6 and 0 < len(study.rejected) < 6
    assert len(scored) == 6 - len(study.rejected)
    assert all("flash" in r.rejected and "of 6,000 bytes" in r.rejected and r.score is None for r in study.rejected)
    best = study.best
    assert best.score == max(r.score for r in study.front) and best.measured["flash"] <= 6000
    assert best.artefact.flash_bytes == best.measured["flash"] == best.predicted["flash"]
    assert "flash" in str(study.front) and "REJECTED" in str(study.rejected)
    assert all(a.score > b.score for a, b in zip(study.front, study.front[1:]))


def test_a_search_goes_on_and_repeats(tmp_path, unmeasured):
    first = run(tmp_path / "a", trials=3)
    log = (tmp_path / "a" / "s" / "log.jsonl").read_text()
    (tmp_path / "a" / "s" / "log.jsonl").write_text(log + '{"number": 3, "pi')  # ended while it wrote
    more = run(tmp_path / "a", trials=4)
    assert len(scored) == 1 and more.records[:3] == first.records
    whole = run(tmp_path / "b", trials=4)
    strip = lambda r: (r.number, r.path, r.predicted)
    assert [strip(r) for r in whole.records] == [strip(r) for r in more.records]
    assert len(run(tmp_path / "b", trials=4).records) == 4 and scored == []
    assert [json.loads(t)["number"] for t in (tmp_path / "a" / "s" / "log.jsonl").read_text().splitlines()[1:]] == [
        0,
        1,
        2,
        3,
    ]


def test_another_build_is_an_error_unless_forked(tmp_path, unmeasured):
    run(tmp_path, trials=1)

    def other(t):
        return Net(width=t.pick("width", [4]), depth=1), Plan([("*", Quantize())])

    with pytest.raises(StateError, match=r"holds another search.*build.*fork=True"):
        run(tmp_path, f=other, trials=1)
    with pytest.raises(StateError, match="budget"):
        run(tmp_path, Budget(flash="1 kB"), trials=1)
    study = run(tmp_path, f=other, trials=5, fork=True)
    assert [dict(r.picks) for r in study.records] == [{"width": "4"}]
    assert len(list((tmp_path / "s").glob("log-*.jsonl"))) == 1


def test_nothing_fits(tmp_path, unmeasured):
    with pytest.raises(BudgetError, match=r"none of 2 trials fits.*the closest: #\d.*width="):
        run(tmp_path, Budget(flash="1 kB"), trials=2).best


def test_a_network_that_cannot_be_built_is_rejected_with_the_reason(tmp_path, unmeasured):
    def odd(t):
        t.pick("k", [0])
        return nn.Sequential(nn.Conv2d(3, 2, 3), nn.Linear(2, 2)), Plan([("*", Quantize())])

    study = run(tmp_path, f=odd)
    assert "ShapeError" in study.rejected[0].rejected and "1 channels" in study.rejected[0].rejected
    with pytest.raises(BudgetError, match=r"none of 1 trials could be exported.*channels"):
        study.best


def test_programs_that_are_wrong_raise(tmp_path, unmeasured):
    with pytest.raises(StateError, match="asked twice with different options"):
        run(tmp_path / "a", f=lambda t: (t.pick("a", [1]), t.pick("a", [2])))
    with pytest.raises(StateError, match="build gives int"):
        run(tmp_path / "b", f=lambda t: t.pick("a", [1]))


def test_the_page_s_program(tmp_path):
    """The program of the interface page: train, measure on the board, choose."""
    require_emulator()
    train, valid = DATA.split(0.75)

    def trained(net):
        loss_fn = lambda net, x, y: nn.cross_entropy(net(x), y)
        sh.fit(net, loss_fn, train, optim.adamw(1e-2).init(net), epochs=2, batch=16, progress=False)
        return sh.evaluate(net, valid, nn.accuracy)

    limits = Budget(flash="64 kB", ram="32 kB", instructions=20e6)
    study = search(build, trained, calibration=train.take(16), device="cortex-m55", budget=limits,
                   trials=1, run=tmp_path)  # fmt: skip
    best = study.best
    assert best.score >= 0 and best.measured["instructions"] == best.predicted["instructions"] > 10_000
    assert best.measured["ram"] == best.predicted["ram"] and best.measured["flash"] <= 64_000
    assert "instructions" in str(study) and (tmp_path / "trials" / str(best.number) / "network.safetensors").is_file()
