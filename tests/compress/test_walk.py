"""Which regions the walk finds, and what it refuses."""

import numpy as np
import pytest

from shohin import nn
from shohin.compress import Plan, Quantize
from shohin.compress.walk import walk
from shohin.core.errors import QuantizationError
from shohin.core.op import Aval
from shohin.core.tensor import as_tensor
from shohin.ops import linear, math, move
from tests.compress.nets import SIZE, Awkward

F32 = np.dtype(np.float32)


def steps(forward, *shapes, **layers):
    """The steps of a function of one or more inputs and layers."""

    class Net(nn.Module):
        def __init__(self):
            for name, layer in layers.items():
                setattr(self, name, layer)

        def forward(self, *xs):
            return forward(self, *xs)

    program, _ = walk(Net(), [Aval(s, F32) for s in shapes], lambda path: False)
    return program


def kinds(program):
    return [s.kind for s in program.steps if s.kind != "entry"]


IMAGE = (2, 6, 6, 4)


def test_regions_of_the_awkward_network():
    program, _ = walk(Awkward(), [Aval((2, *SIZE), F32)], lambda path: False)
    assert program.refused == ()
    found = {s.place: s for s in program.steps}
    assert found["stem/conv2d#0"].nodes == ("stem/conv2d#0", "stem/add#0", "norm/batch_norm#0", "/relu6#0")
    assert found["stem/conv2d#0"].clamp == (0.0, 6.0)
    assert found["/add#1"].nodes == ("/add#0", "/add#1", "/relu#0") and found["/add#1"].signs == (1, 1, 1)
    assert found["/subtract#0"].signs == (1, -1)
    assert found["wide/conv2d#0"].terms == 576
    assert found["alone/batch_norm#0"].op is None
    assert sorted(np.unique(found["/window_sum2d#0"].n).tolist()) == [4, 6, 9]
    assert found["/window_sum2d#1"].n == 4
    assert {s.kind for s in program.steps} == {"entry", "contract", "table", "add", "mul", "pool", "concat", "move"}


def test_a_second_consumer_keeps_a_region_short():
    conv, norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
    one = steps(lambda net, x: nn.relu(net.norm(net.conv(x))), IMAGE, conv=conv, norm=norm)
    assert kinds(one) == ["contract"]

    def two(net, x):
        y = net.conv(x)
        return nn.relu(net.norm(y)) + y

    assert kinds(steps(two, IMAGE, conv=conv, norm=norm)) == ["contract", "contract", "add"]

    def out(net, x):
        y = net.norm(net.conv(x))
        return nn.relu(y), y

    assert kinds(steps(out, IMAGE, conv=conv, norm=norm)) == ["contract", "table"]


def test_clamps_compose_and_are_absorbed_by_sums_and_products_too():
    p = steps(lambda net, x, y: (nn.relu(x + y).clip(0.5, 4.0), nn.relu6(x * y)), IMAGE, IMAGE)
    assert [s.clamp for s in p.steps if s.kind in ("add", "mul")] == [(0.5, 4.0), (0.0, 6.0)]
    p = steps(lambda net, x: nn.relu(x), IMAGE)
    assert kinds(p) == ["table"]


def test_sums_of_more_than_four():
    p = steps(lambda net, a, b, c, d, e: a + b + c - d + e, *[IMAGE] * 5)
    assert [(s.kind, len(s.inputs), s.signs) for s in p.steps if s.kind == "add"] == [
        ("add", 4, (1, 1, 1, -1)),
        ("add", 2, (1, 1)),
    ]
    p = steps(lambda net, a, b, c: c - (a - b), *[IMAGE] * 3)
    assert [(s.inputs, s.signs) for s in p.steps if s.kind == "add"] == [((3, 4, 5), (1, -1, 1))]


def test_a_value_used_twice_by_one_op_closes_its_region():
    def twice(net, x):
        y = x + x.mean(axis=3, keepdims=True)
        return y + y

    p = steps(twice, IMAGE)
    assert [len(s.inputs) for s in p.steps if s.kind == "add"] == [2, 2]


def test_means_are_pools_and_plain_sums_have_the_divisor_one():
    p = steps(lambda net, x: (x.mean(axis=(1, 2)), x.sum(axis=3), x.mean(axis=-1, keepdims=True)), IMAGE)
    assert [(s.kind, float(s.n), s.terms) for s in p.steps if s.kind == "pool"] == [
        ("pool", 36, 36),
        ("pool", 1, 4),
        ("pool", 4, 4),
    ]


def test_constants_make_tables_and_vectors_over_channels_make_scalings():
    by = nn.Param(np.ones(4, np.float32))
    p = steps(lambda net, x: net.by * (3 - x / 2) + net.by, IMAGE, by=by)
    assert kinds(p) == ["table", "table", "contract"]
    last = p.steps[-1]
    assert last.op is None and last.weight == last.bias


def test_linear_layers_take_in_their_reshapes():
    p = steps(lambda net, x: nn.relu(net.fc(x)), (2, 5, 4), fc=nn.Linear(4, 3))
    assert [s.kind for s in p.steps] == ["entry", "move", "contract"] and p.steps[-1].shape == (2, 5, 3)
    w = nn.Param(np.ones((4, 3), np.float32))
    p = steps(lambda net, x: x @ net.w, (2, 4), w=w)
    assert p.steps[-1].axis == 1 and p.steps[-1].channels == 3


@pytest.mark.parametrize(
    ("forward", "place", "reason"),
    [
        (lambda net, x: x.cumulative_sum(axis=1), "/cumsum#0", "running sum"),
        (lambda net, x: math.maximum(x, x), "/maximum#0", "several tensors"),
        (lambda net, x: nn.log_softmax(x), "/log_softmax#0", "log-softmax"),
        (lambda net, x: math.floor(x) == x, "/equal#0", "several tensors"),
        (lambda net, x: move.pad(x, [(1, 1)] * 4, 3.0), "/pad#0", "it pads with 3.0"),
        (lambda net, x: x.prod(axis=1), "/prod#0", "a product has no integer definition"),
    ],
)  # fmt: skip
def test_what_has_no_rule_names_its_place(forward, place, reason):
    text = "\n".join(steps(forward, IMAGE).refused)
    assert text.startswith(f"{place}: ") and reason in text and "leave the place in float32" in text


def test_apply_names_all_that_is_refused_at_once():
    class Total(nn.Module):
        def forward(self, x):
            return x.cumulative_sum(axis=1)

    class Net(nn.Module):
        def __init__(self):
            self.a, self.total = nn.Linear(4, 4), Total()

        def forward(self, x):
            return nn.log_softmax(self.total(self.a(x)))

    with pytest.raises(QuantizationError) as error:
        Plan([("*", Quantize())]).apply(Net(), np.ones((4, 4), np.float32))
    lines = str(error.value).splitlines()
    assert lines[0].startswith("total/cumsum#0: cumsum cannot be quantized") and "('total', None)" in lines[0]
    assert lines[1].startswith("/log_softmax#0: ")


def test_a_shared_layer_has_one_weight_and_two_places():
    p = steps(lambda net, x: net.fc(net.fc(x)), (2, 4), fc=nn.Linear(4, 4))
    a, b = (s for s in p.steps if s.kind == "contract")
    assert a.weight == b.weight and (a.place, b.place) == ("fc/matmul#0", "fc/matmul#1")


def test_weights_may_be_computed():
    """A mask on a weight is part of the parameters' graph, not of the network."""
    mask = nn.Buffer(np.array([[1, 0, 1, 0]] * 3, np.float32))

    class Masked(nn.Module):
        def __init__(self):
            self.weight, self.mask = nn.Param(np.ones((3, 4), np.float32)), mask

        def forward(self, x):
            return linear.matmul(x, self.weight * self.mask, transpose_b=True)

    x = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
    net = Plan([("*", Quantize())]).apply(Masked(), x).eval()
    q_w = net.quantized.constants["/matmul#0"]["q_w"].numpy()
    assert (q_w == np.array([[127, 0, 127, 0]] * 3)).all()
    assert np.abs(net(as_tensor(x)).numpy() - x @ (np.ones((4, 3)) * mask.read().numpy().T)).max() < 0.05
