"""Rules, patterns, places that stay float, and what a plan says before it acts."""

import numpy as np
import pytest

from shohin import nn
from shohin.compress import Plan, Quantize
from shohin.compress.integer import integers
from shohin.compress.lowering import lower
from shohin.core.errors import PlanError, QuantizationError
from shohin.core.op import Aval
from shohin.core.tensor import as_tensor
from shohin.data.dataset import Dataset
from tests.compress.nets import Awkward, images, trained

Q = Quantize()


class Block(nn.Module):
    def __init__(self, c):
        self.conv, self.norm = nn.Conv2d(c, c, 3, padding=1), nn.BatchNorm2d(c)

    def forward(self, x):
        return nn.relu(self.norm(self.conv(x)))


class Net(nn.Module):
    def __init__(self):
        self.stem = nn.Conv2d(3, 4, 3)
        self.body = [Block(4) for _ in range(2)]
        self.head = nn.Linear(4, 5)

    def forward(self, x):
        x = self.stem(x)
        for block in self.body:
            x = block(x)
        return self.head(x.mean(axis=(1, 2)))


def chosen(*rules):
    return sorted(path for path, slots in Plan(list(rules)).resolve(Net()).items() if slots)


EVERY = sorted(["", "stem", "head", *(f"body.{i}{m}" for i in range(2) for m in ("", ".conv", ".norm"))])


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ([("*", Q)], EVERY),
        ([("stem", Q)], ["stem"]),
        ([("body.*", Q)], [p for p in EVERY if p.startswith("body")]),
        ([("body.1", Q)], ["body.1", "body.1.conv", "body.1.norm"]),
        ([("*conv", Q)], ["body.0.conv", "body.1.conv"]),
        ([(nn.Conv2d, Q)], ["body.0.conv", "body.1.conv", "stem"]),
        ([(Block, Q), (nn.BatchNorm2d, None)], ["body.0", "body.0.conv", "body.1", "body.1.conv"]),
        ([("re:body\\.[01]", Q)], [p for p in EVERY if p.startswith("body")]),
        ([("*", Q), ("head", None)], [p for p in EVERY if p != "head"]),
        ([("head", None), ("*", Q)], EVERY),
    ],
)
def test_patterns(rules, expected):
    assert chosen(*rules) == expected


def test_the_last_rule_wins_in_its_slot():
    plan = Plan([("*", Q), ("stem", None), ("stem", Quantize(w=8))])
    assert plan.resolve(Net())["stem"] == {"integers": Quantize(w=8, a=8)}


@pytest.mark.parametrize(
    ("pattern", "near"),
    [
        ("haed", "head"),
        ("body.2", "body"),
        ("re:stern", "stem"),
        (nn.Conv1d, "near: Conv2d"),
        ("body.*.convolution", "conv"),
    ],
)
def test_a_pattern_without_match_prints_near_names(pattern, near):
    with pytest.raises(PlanError, match="matches no place") as error:
        Plan([("*", Q), (pattern, None)]).resolve(Net())
    assert near in str(error.value)


@pytest.mark.parametrize(
    ("rules", "text"),
    [
        ([("*",)], "a rule is"), ([(3, Q)], "neither a string nor a layer type"), ([("*", "int8")], "is no method"),
        ([("re:(", Q)], "no regular expression"), ([(int, Q)], "neither a string nor a layer type"),
    ],
)  # fmt: skip
def test_rules_that_are_none(rules, text):
    with pytest.raises(PlanError, match=text):
        Plan(rules)


def test_other_widths_are_refused():
    with pytest.raises(PlanError, match=r"Quantize\(w=5, a=8\): weights of 2, 3, 4 or 8 bits"):
        Quantize(w=5)


def test_calibration_is_needed_and_checked():
    plan = Plan([("*", Q)])
    with pytest.raises(PlanError, match="needs calibration="):
        plan.apply(Net())
    with pytest.raises(PlanError, match="float64, expected float32"):
        plan.apply(Net(), images(4).astype(np.float64))
    with pytest.raises(PlanError, match="of one length"):
        plan.apply(Net(), (images(4), images(3)))


def test_a_data_set_calibrates_as_its_array():
    plan, x = Plan([("*", Q)]), images(100)
    net = trained()
    a = plan.apply(net, x)
    b = plan.apply(net, Dataset(x, np.arange(100) % 5))
    c = plan.apply(net, as_tensor(x))
    assert a.grids() == b.grids() == c.grids()


def test_the_mode_stays():
    plan, net = Plan([("*", Q)]), Net()
    assert plan.apply(net.train(), images(4)).training and not plan.apply(net.eval(), images(4)).training


def test_a_cleared_place_stays_float():
    net, x = trained().eval(), images(40, 7)
    small = Plan([("*", Q), ("head", None), ("gate", None)]).apply(net, x).eval()
    assert small.quantized.constants.keys() & {"head/matmul#0", "gate.up/matmul#0"} == set()
    a, b = net(as_tensor(x)).numpy(), small(as_tensor(x)).numpy()
    assert 10 * np.log10((a**2).sum() / ((a - b) ** 2).sum()) > 20
    assert len(np.unique(b)) > 190  # not on a grid of 256
    with pytest.raises(QuantizationError, match="stay float32") as error:
        lower(small, Aval(x.shape, np.dtype(np.float32)))
    assert "head/matmul#0" in str(error.value)
    with pytest.raises(QuantizationError, match="gate/.*stays float32"):
        integers(small, x)


def test_explain_has_a_line_a_region_and_every_refusal():
    class Odd(Awkward):
        def forward(self, x):
            return nn.log_softmax(super().forward(x))

    text = Plan([("*", Q), ("gate", None)]).explain(Odd(), images(1))
    lines = {line.split()[0]: line for line in text.splitlines()}
    assert "27 products a sum, takes in add, batch_norm, relu6" in lines["stem/conv2d#0"]
    assert "no Quantize rule takes this place" in lines["gate.up/matmul#0"]
    assert "shares the grid of its input" in lines["/max_pool2d#0"] and "a table of 256" in lines["/hardswish#0"]
    assert "refused" in lines["/log_softmax#0"] and text.splitlines()[-1].startswith("refused: /log_softmax#0")
