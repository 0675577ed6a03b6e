"""Choices by what they are about, and strategies that fix them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from shohin import nn
from shohin.compress import Plan, Quantize
from shohin.core.errors import StateError
from shohin.search import Budget, Evolution, Random, Space, Trial, search
from shohin.search import attempt as study_module


def ways(ask, seed=0):
    space, found = Space(seed), []
    while not space.exhausted:
        t = Trial(space, len(found))
        found.append(ask(t))
        space.done(t.path)
    return found


def test_widths_repeats_bits_and_choices_are_all_their_ways():
    assert sorted(ways(lambda t: t.width("w", 30, min=8))) == [14, 22, 30]
    assert sorted(ways(lambda t: t.width("w", 64, min=16, step=16))) == [16, 32, 48, 64]
    assert sorted(ways(lambda t: t.bits("b", (8, 4, 2)))) == [2, 4, 8]
    assert sorted(len(n) for n in ways(lambda t: t.repeat("n", nn.ReLU, max=3, min=0))) == [0, 1, 2, 3]
    ops = [nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.relu]
    assert {id(op) for op in ways(lambda t: t.choice("op", ops))} == set(map(id, ops))


def test_repeated_blocks_have_weights_of_their_own():
    block = nn.Linear(4, 4)
    made = next(n for n in ways(lambda t: t.repeat("n", block, max=2)) if len(n) == 2)
    assert made[0] is not made[1] and len(made.cells(nn.Param)) == 4
    np.testing.assert_array_equal(made[0].weight.numpy(), made[1].weight.numpy())
    built = next(n for n in ways(lambda t: t.repeat("n", lambda: nn.Linear(4, 4), max=2)) if len(n) == 2)
    assert (built[0].weight.numpy() != built[1].weight.numpy()).any()


def test_a_choice_in_each_block_has_weights_of_its_own():
    block = lambda t: t.choice("op", [nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4))])
    for made in ways(lambda t: t.repeat("n", lambda: block(t), max=2, min=2)):
        assert type(made[0]) is type(made[1]) and made[0] is not made[1] and len(made.cells(nn.Param)) == 4


@pytest.mark.parametrize(
    ("ask", "text"),
    [
        (lambda t: t.width("w", 8, min=16), "expected 1 <= min <= most"),
        (lambda t: t.repeat("n", nn.ReLU, max=1, min=2), "expected 0 <= min <= max"),
        (lambda t: t.choice("op", [nn.ReLU(), 3]), "option 1 is 3, expected a module; for values write pick"),
        (lambda t: t.bits("b", (8, 4.0)), "4.0 is no number of bits"),
        (lambda t: (t.width("w", 16, min=8), t.width("w", 24, min=8)), "asked twice with different options"),
    ],
)
def test_what_a_trial_refuses(ask, text):
    with pytest.raises(StateError, match=text):
        ask(Trial(Space(0), 0))


def tried(strategy, target, sizes, trials, seed):
    """A search without networks: the score is the number of choices that are the target's."""
    space, records = Space(seed), []
    for number in range(trials):
        proposed = strategy.propose(records, np.random.default_rng([seed, number, 1]))
        t = Trial(space, number, proposed)
        found = [t.pick(f"c{k}", range(n)) for k, n in enumerate(sizes)]
        space.done(t.path)
        score = float(sum(a == b for a, b in zip(found, target)))
        choices = dict(zip(t.options, t.path))
        options = {n: len(texts) for n, texts in t.options.items()}
        records.append(SimpleNamespace(choices=choices, options=options, ordered=(), score=score, over=0.0, rejected="", path=t.path))
    return records


def test_evolution_climbs_where_chance_does_not():
    sizes, target = [6] * 8, [1, 5, 0, 3, 2, 4, 4, 1]
    best = {}
    for strategy in (Random(), Evolution(population=12, sample=6)):
        runs = [tried(strategy, target, sizes, 150, seed) for seed in range(6)]
        best[type(strategy)] = [max(r.score for r in records) for records in runs]
        assert all(len({r.path for r in records}) == 150 for records in runs)  # no way twice
        assert [r.path for r in runs[0]] == [r.path for r in tried(strategy, target, sizes, 150, 0)]
    assert np.mean(best[Evolution]) > np.mean(best[Random]) + 2, best


def test_evolution_takes_the_youngest_that_fit_and_changes_one_choice():
    record = lambda a, b, score, rejected="": SimpleNamespace(choices={"a": a, "b": b}, score=score, rejected=rejected)
    old, fit = record(9, 9, 99.0), [record(0, 1, 1.0), record(2, 3, 2.0)]
    records = [old, fit[0], record(8, 8, 88.0, "flash"), record(7, 7, None, "flash"), fit[1]]
    strategy = Evolution(population=2, sample=2)
    found = [strategy.propose(records, np.random.default_rng(k)) for k in range(20)]
    assert all(f in ({"a": 2}, {"b": 3}) for f in found) and {"a": 2} in found and {"b": 3} in found
    assert strategy.propose(records[:2], np.random.default_rng(0)) in ({"a": 9}, {"b": 9}, {"a": 9, "b": 9})
    assert Evolution(population=4).propose(records, np.random.default_rng(0)) == {}
    with pytest.raises(StateError, match="sample is a number from 1 to population"):
        Evolution(population=2, sample=3)


def test_a_search_by_evolution_goes_on_where_it_stood(tmp_path, monkeypatch):
    monkeypatch.setattr(study_module, "measure", lambda art, x, **more: SimpleNamespace(ram_bytes=None, instructions=None))
    x = np.random.default_rng(0).standard_normal((8, 6, 6, 1)).astype(np.float32)

    def build(t):
        w = t.width("w", 24, min=8)
        op = t.choice("op", [nn.Conv2d(w, w, 3, padding=1), nn.Conv2d(w, w, 3, padding=1, groups=w)])
        body = t.repeat("n", lambda: nn.Sequential(nn.Linear(w, w), nn.ReLU()), max=2)
        net = nn.Sequential(nn.Conv2d(1, w, 3), nn.ReLU(), op, nn.GlobalAvgPool(), body, nn.Linear(w, 2))
        return net, Plan([("*", Quantize(w=t.bits("b", (8, 4))))])

    score = lambda net: -float(sum(c.read().size for c in net.cells(nn.Param).values()))
    run = lambda folder, trials, **more: search(build, score, calibration=x, device="host", budget=Budget(), trials=trials, run=folder,
                                                **{"strategy": Evolution(population=2, sample=2), **more})  # fmt: skip
    run(tmp_path / "a", 3)
    more, whole = run(tmp_path / "a", 4), run(tmp_path / "b", 4)
    assert [r.path for r in more.records] == [r.path for r in whole.records] and len({r.path for r in more.records}) == 4
    assert {"w", "op", "n", "b"} == set(more.records[0].picks) and not more.rejected
    with pytest.raises(StateError, match="strategy"):
        run(tmp_path / "a", 6, strategy=Random())
