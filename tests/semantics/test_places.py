"""state.md, rule 15: one scheme of places."""

import re

import numpy as np
import pytest

import shohin as sh
from shohin import nn
from shohin.compress import Plan, Quantize
from tests.semantics.models import Dense, Net, X, loss_fn, state_of


def places(f, *args):
    return [n.place for n in sh.trace(f)(*args).graph.nodes]


def test_rule_15_the_path_within_the_outermost_module_called():
    net = Net().eval()
    found = places(lambda x: net(x), X)
    assert "stem/matmul#0" in found and "body.0/matmul#0" in found and "body.1/tanh#0" not in found


def test_rule_15_one_scheme_whoever_calls():
    """The place of a weight is the same under loss, jit and grad, whatever the parameters are called."""
    net = Net()
    net.eval()
    a = places(lambda x: net(x), X)
    b = places(lambda x: loss_fn(net, x), X)
    assert [p for p in b if "stem" in p] == [p for p in a if "stem" in p]


def test_rule_15_backward_places_have_a_prime():
    net = Dense()
    found = places(lambda x: sh.grad(lambda n: n(x).sum())(net)["weight"], X)
    assert any(p.endswith("'") or "'/" in p or "'#" in p for p in found)


def test_rule_15_called_twice_counts_twice():
    net = Dense()
    found = places(lambda x: net(net(x)), X)
    assert [p for p in found if "matmul" in p] == ["/matmul#0", "/matmul#1"]


def test_rule_15_argument_names_tell_two_roots_apart():
    a, b = Net().eval(), Net().eval()
    run = sh.jit(lambda a, b, x: a(x) + b(x))
    found = [n.place for n in run.lower(a, b, X).graph.nodes]
    assert "a:stem/matmul#0" in found and "b:stem/matmul#0" in found
    one = sh.jit(lambda a, x: a(x))
    assert "stem/matmul#0" in [n.place for n in one.lower(a, X).graph.nodes]


def test_rule_15_one_weight_place_and_two_activation_places():
    """A module called twice: its weight is one cell under one path, its ops stand at two places."""
    net = nn.Module()
    net.inner = Dense()
    net.forward = lambda x: net.inner(net.inner(x))
    traced = sh.trace(lambda net, x: net(x))(net, X)
    assert [c.name for c in traced.cells] == ["inner.weight", "inner.bias"]
    assert [p for p in net.places(X).names if "matmul" in p] == ["inner/matmul#0", "inner/matmul#1"]


def test_rule_15_the_places_of_a_call():
    """Path, op and shape, in the present mode; nothing is computed, written or drawn."""
    net = Net()
    before, counter = state_of(net), sh.random.default.counter.read().tolist()
    found = net.places(X)
    assert all(np.array_equal(v, before[p]) for p, v in state_of(net).items())
    assert sh.random.default.counter.read().tolist() == counter
    first = found[0]
    assert (first.name, first.path, first.op, first.shape, first.dtype) == ("stem/matmul#0", "stem", "matmul", (8, 3), sh.float32)
    assert {p.path for p in found} >= {"stem", "norm", "drop", "body.0", "body.1", "seen", ""}
    assert "drop/random_bits#0" in found.names and "drop/random_bits#0" not in net.eval().places(X).names
    lines = str(found).splitlines()
    assert lines[0].split() == ["place", "op", "result"] and lines[1].split() == ["stem/matmul#0", "matmul", "f32[8,3]"]
    assert len(lines) == len(found) + 1 and str(first) == "stem/matmul#0: matmul f32[8,3]"


def test_rule_15_places_are_those_of_programs_and_profiles():
    net = Net().eval()
    names = net.places(X).names
    run = sh.jit(lambda net, x: net(x), threads=1)
    program = run.lower(net, X)
    assert [n.place for n in program.graph.nodes] == names
    steps = {s.place for s in program.compiled.program.steps}
    assert {"stem/matmul#0", "body.1/matmul#0"} <= steps <= set(names)
    assert {place for place, _ in run.profile(net, X, repeats=1)} == steps


def test_rule_15_plans_and_the_generated_c_have_the_same_places(tmp_path):
    """A plan's places are those of the call; the C's differ in the op alone, which is the integer one."""

    class Small(nn.Module):
        def __init__(self):
            self.body, self.head = [nn.Linear(3, 4), nn.Linear(4, 4)], nn.Linear(4, 2)

        def forward(self, x):
            for layer in self.body:
                x = nn.relu(layer(x))
            return self.head(x)

    net = Small()
    found = net.places(X)
    plan = Plan([("*", Quantize(w=8, a=8))])
    planned = [line.split()[0] for line in str(plan.explain(net, X)).splitlines()]
    planned = [p for p in planned if "#" in p]
    assert {"body.0/matmul#0", "body.1/matmul#0", "head/matmul#0"} <= set(planned) <= set(found.names)
    small = plan.apply(net, calibration=X)
    assert {p.path for p in small.places(X)} >= {"body.0", "body.1", "head"}
    sh.export(small, X[:1], device="host", to=tmp_path / "net")
    text = (tmp_path / "net" / "network.c").read_text()
    in_c = {path for path in re.findall(r"([\w.]*)/\w+#\d+", text)}
    assert {"body.0", "body.1", "head"} <= in_c <= {p.path for p in found}


def test_rule_15_places_inside_bodies():
    """The body of a loop stands before the loop; a composite is one place."""
    net = nn.Module()
    net.layer, net.norm = Dense(), nn.BatchNorm2d(3)

    def forward(x):
        y = sh.scan(lambda c, v: (c, net.layer(v)), sh.asarray(0.0), x)[1]
        return net.norm(y.reshape((2, 2, 2, 3)))

    net.forward = forward
    found = net.eval().places(X)
    assert found.names.index("layer/matmul#0") < found.names.index("/scan#0")
    assert [(p.op, p.shape) for p in found if p.path == "norm"] == [("batch_norm", (2, 2, 2, 3))]


def test_rule_15_an_error_names_the_place():
    class Last(nn.Module):
        def __init__(self):
            self.kept = nn.Buffer(np.zeros((), np.float32))

        def forward(self, x):
            self.kept = x.sum()
            return x

    net = nn.Module()
    net.body = [Dense(), Last()]
    net.forward = lambda x: net.body[1](net.body[0](x))
    with pytest.raises(sh.BatchError, match=r"body\.1 writes another one in each lane"):
        sh.vmap(net)(sh.asarray(X))
