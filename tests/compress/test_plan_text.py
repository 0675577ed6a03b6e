"""Plans as text: there and back, and clear errors for what a file says wrongly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest

from shohin import nn
from shohin.compress import Method, Palettize, Plan, Prune, PruneChannels, Quantize
from shohin.core.errors import PlanError


@dataclass(frozen=True)
class Limit:
    size: int = 3
    name: str = "a"


@dataclass(frozen=True)
class OddMethod(Method):
    limit: Limit | None = None
    f: Any = None
    slot: ClassVar[str] = "mask"
    scheme = "odd"  # pyright: ignore

    @classmethod
    def apply(cls, net, chosen, calibration):
        return net


class OwnLayer(nn.Module):
    pass


PLANS = [
    Plan([("*", Quantize(w=4)), (nn.Conv2d, Prune(0.75, ramp=(0, 2000), pattern="2:8")), ("re:a.[0-9]+\\.b", None)]),
    Plan([(nn.DepthwiseConv2d, None), ("head", Palettize(bits=2, group=16)), ("\"quoted\" ü", PruneChannels(0.25, "l2"))]),
    Plan([(OwnLayer, OddMethod(limit=Limit(5, "x"))), ("*", OddMethod())]),
    Plan([("*", Prune(1e-05))]),
]


@pytest.mark.parametrize("plan", PLANS, ids=range(len(PLANS)))
def test_there_and_back(plan, tmp_path):
    text = plan.to_toml()
    assert Plan.from_toml(text) == plan and hash(Plan.from_toml(text)) == hash(plan)
    (tmp_path / "plan.toml").write_text(text, encoding="utf-8")
    assert Plan.from_toml(tmp_path / "plan.toml") == Plan.from_toml(str(tmp_path / "plan.toml")) == plan


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("[[rule]", "no TOML"),
        ("x = 1", "'x' is unknown"),
        ("rule = 3", r"no \[\[rule\]\]"),
        ('[[rule]]\nmethod = "Prune"', "either place"),
        ('[[rule]]\nplace = "*"\nlayer = "Conv2d"\nmethod = "Prune"', "either place"),
        ('[[rule]]\nplace = "*"\nmethod = "Prume"', "'Prume' is unknown; near: Prune"),
        ('[[rule]]\nplace = "*"', "None.* is unknown"),
        ('[[rule]]\nlayer = "Conv2"\nmethod = "none"', "no layer type 'Conv2' is loaded; near: Conv2d"),
        ('[[rule]]\nplace = "*"\nmethod = "Prune"\nsparsty = 0.5', "no field 'sparsty'; near: sparsity"),
        ('[[rule]]\nplace = "*"\nmethod = "none"\nw = 8', "has no fields, got w"),
        ('[[rule]]\nplace = "*"\nmethod = "Quantize"\nw = 5', "rule 1: .*weights of 2, 3, 4 or 8"),
        ('[[rule]]\nplace = "*"\nmethod = "OddMethod"\nlimit = {sise = 3}', "Limit has no field 'sise'; near: size"),
    ],
)
def test_what_a_text_says_wrongly(text, error):
    with pytest.raises(PlanError, match=error):
        Plan.from_toml(text)


def test_what_no_text_can_say():
    with pytest.raises(PlanError, match="f is function, which no text can say"):
        Plan([("*", OddMethod(f=lambda: 0))]).to_toml()
    with pytest.raises(PlanError, match="cannot be read: No such file"):
        Plan.from_toml("none.toml")


def test_explain_without_an_example():
    net = nn.Sequential(nn.Conv2d(2, 16, 3), nn.ReLU(), nn.Conv2d(16, 8, 3), nn.GlobalAvgPool(), nn.Linear(8, 4))
    plan = Plan([(nn.Conv2d, Palettize(bits=2)), ("*", Quantize()), ("4", None)])
    rows = {tuple(line.split()[:2]): line for line in plan.explain(net).splitlines()}
    table = rows["0.weight", "table"]
    assert "rule 1: Conv2d" in table and table.split()[-2] == f"{16 * 9 * 2 * 4:,}"
    packed = int(table.split()[-1].replace(",", ""))
    assert 16 * 9 * 2 / 4 <= packed <= 16 * 9 * 2 / 4 + 64
    assert "cleared by rule 3: '4'" in rows["4.weight", "none"] and f"{4 * (288 + 1152 + 32):,}" in plan.explain(net).splitlines()[-1].split()
    asks = Plan([("*", PruneChannels(0.5)), ("*", Quantize())])
    assert "give an example" in asks.explain(net) and "?" in asks.explain(net)
    told = asks.explain(net, np.zeros((1, 8, 8, 2), np.float32))
    assert "?" not in told and "0/conv2d#0" in told
    row = next(line for line in told.splitlines() if line.split()[:2] == ["2.weight", "channels"])
    assert row.split()[-2:] == [f"{8 * 9 * 16 * 4:,}", f"{4 * 9 * 8 * 4:,}"]



def test_the_estimate_is_what_the_report_says_after():
    net = nn.Sequential(nn.Conv2d(4, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.GlobalAvgPool(), nn.Linear(16, 4))
    x = np.random.default_rng(0).standard_normal((8, 8, 8, 4)).astype(np.float32)
    plan = Plan([("*", PruneChannels(0.25)), ("2", Prune(0.75)), ("4", Palettize(bits=2)), ("*", Quantize(w=4))])
    last = lambda text: {line.split()[0]: line.split()[-1].strip("~") for line in text.splitlines()}
    said, done = last(plan.explain(net, x).partition("\nregions\n")[0]), last(plan.apply(net, calibration=x).report())
    assert said.keys() == done.keys() and all(said[k] == done[k] for k in done if k != "place")
