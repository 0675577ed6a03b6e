"""state.md, rules 1 and 2: cells and identity."""

from collections import deque
from types import SimpleNamespace

import numpy as np
import pytest

import shohin as sh
from shohin import nn, optim
from shohin.core.cells import Cell
from tests.semantics.models import Counter, Dense, Hidden, Tied, X, loss_fn, state_of


def plain(value):
    m = nn.Module()
    m.x = value
    return m


def test_rule_01_reading_gives_the_value_and_assigning_writes(runner):
    net = Hidden()
    assert isinstance(net.h, sh.Tensor) and isinstance(net.cells()["h"], nn.Buffer)

    def f(net, x):
        before = net.h
        net.h = before + x
        return before, net.h

    before, after = runner(f)(net, np.float32([1, 2, 3]))
    assert before.tolist() == [0, 0, 0] and after.tolist() == [1, 2, 3] == net.h.tolist()


def test_rule_01_a_value_that_was_read_is_no_alias(runner):
    """`prev = self.h` is the value now, whatever is written later."""
    net = Hidden()
    net.h = sh.ones(3)
    held = net.h

    def f(net):
        prev = net.h
        net.h = prev * 5.0
        return prev

    assert runner(f)(net).tolist() == [1, 1, 1]
    assert held.tolist() == [1, 1, 1] and net.h.tolist() == [5, 5, 5]


def test_rule_01_setting_items_of_what_was_read_changes_no_cell():
    net = Hidden()
    held = net.h
    with pytest.raises(sh.StateError, match=r"h.*assign the whole"):
        held[0] = 7.0
    assert net.h.tolist() == [0, 0, 0]
    mine = held + 0
    mine[0] = 7.0
    assert mine.tolist() == [7, 0, 0] and net.h.tolist() == [0, 0, 0]


def test_rule_01_augmented_assignment_writes():
    net = Hidden()
    cell = net.cells()["h"]
    net.h += 1.0
    assert net.cells()["h"] is cell and net.h.tolist() == [1, 1, 1]


def test_rule_01_a_cell_keeps_shape_and_dtype():
    net = Hidden()
    with pytest.raises(sh.StateError, match=r"h: f32\[3\].*f32\[4\]"):
        net.h = sh.zeros(4)
    with pytest.raises(sh.StateError, match="keeps its shape and dtype"):
        net.h = sh.zeros(3, dtype=sh.int32)


def test_rule_01_a_new_cell_replaces():
    net = Hidden()
    net.h = nn.Buffer(np.zeros(5, np.float32))
    assert net.h.shape == (5,)


def test_rule_01_what_was_just_read_from_a_param_ties():
    a, b = Dense(seed=1), Dense(seed=2)
    b.weight = a.weight
    a.weight = a.weight * 2
    np.testing.assert_array_equal(b.weight, a.weight)


def test_rule_01_a_tensor_that_was_written_is_not_what_was_read():
    """The same tensor written to two Params ties nothing, even if one of them was read in between."""
    a, b = Dense(seed=1), Dense(seed=2)
    t = sh.ones((3, 3))
    a.weight = t
    a.weight
    b.weight = t
    assert a.cells()["weight"] is not b.cells()["weight"]
    a.weight = t * 2
    assert float(b.weight[0, 0]) == 1.0


def test_rule_01_a_bare_tensor_says_what_to_write():
    with pytest.raises(sh.StateError, match=r"Module\.x is a bare tensor; write nn\.Param.*nn\.Buffer.*sh\.const"):
        plain(sh.zeros(3))
    with pytest.raises(sh.StateError, match=r"x\[1\]"):
        plain([1, sh.zeros(3)])


def test_rule_01_containers_read_values():
    c = lambda: nn.Param(np.ones(2, np.float32))
    m = nn.Module()
    m.l, m.t, m.d = [c(), c()], (c(), 3), {"a": c()}
    for value in (m.l[0], m.t[0], m.d["a"], *m.l, next(iter(m.d.values())), next(iter(m.t)), m.d.get("a")):
        assert isinstance(value, sh.Tensor)
    for value in (
        *(m.l + m.l),
        *reversed(m.l),
        *m.l.copy(),
        *dict(m.d).values(),
        *{**m.d}.values(),
        *m.t[:1],
        *list(m.l),
    ):
        assert isinstance(value, sh.Tensor)
    assert list(m.cells()) == ["l.0", "l.1", "t.0", "d.a"]
    m.l[0] = m.l[0] * 3
    assert m.l[0].tolist() == [3, 3] and isinstance(m.cells()["l.0"], Cell)
    m.d["a"] = sh.zeros(2)
    assert m.d["a"].tolist() == [0, 0]
    m.l.append(c())
    m.l += [c()]
    assert len(m.cells()) == 6


@pytest.mark.parametrize(
    "make", [lambda c: {c}, lambda c: deque([c]), lambda c: SimpleNamespace(w=c), lambda c: frozenset([c])]
)
@pytest.mark.parametrize("what", [lambda: nn.Param(np.ones(2, np.float32)), Dense])
def test_rule_01_a_cell_elsewhere_is_an_error_at_assignment(make, what):
    with pytest.raises(sh.StateError, match="list, tuple or dict"):
        plain(make(what()))


def test_rule_01_an_array_becomes_a_read_only_copy():
    a = np.zeros(3)
    m = plain(a)
    a[0] = 1
    assert m.x.tolist() == [0, 0, 0]
    with pytest.raises(ValueError):
        m.x[0] = 1


def test_rule_01_static_attributes_do_not_change_inside():
    class Calls(nn.Module):
        def __init__(self):
            self.calls = 0

        def forward(self, x):
            self.calls += 1
            return x

    m = Calls()
    m(X)
    m(X)
    assert m.calls == 2
    with pytest.raises(sh.StateError, match=r"Calls\.calls is static.*Buffer"):
        sh.jit(lambda m, x: m(x))(m, X)
    with pytest.raises(sh.StateError, match="static"):
        sh.scan(lambda c, x: (c, m(x)), sh.asarray(0.0), X)
    assert m.calls == 2


def test_rule_01_a_count_of_calls_counts_where_code_runs_once_a_call():
    """In eager, and inside grad and vmap of eager, which run the function once."""
    m = nn.Module()
    m.calls = 0

    def f(v):
        m.calls += 1
        return (v * v).sum()

    f(sh.asarray([1.0]))
    sh.grad(f)(sh.asarray([1.0]))
    sh.vmap(f)(sh.asarray([1.0, 2.0]))
    assert m.calls == 3
    for wrap in (sh.jit, lambda f: sh.grad(sh.jit(f)), sh.checkpoint):
        with pytest.raises(sh.StateError, match=r"Module\.calls is static.*hold it in nn\.Buffer, or change it outside"):
            wrap(f)(sh.asarray([1.0]))
    assert m.calls == 3


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.l.append(Dense()),
        lambda m: m.l.pop(),
        lambda m: m.l.extend([1]),
        lambda m: m.l.__setitem__(0, Dense()),
        lambda m: m.d.update(a=Dense()),
        lambda m: m.d.__setitem__("b", 1),
        lambda m: m.d.clear(),
        lambda m: setattr(m, "l", []),
        lambda m: setattr(m.l[0], "weight", nn.Param(np.zeros((3, 3), np.float32))),
        lambda m: delattr(m, "d"),
    ],
)
def test_rule_01_lists_and_dicts_do_not_change_inside_either(change):
    m = nn.Module()
    m.l, m.d = [Dense(), 2], {"a": Dense()}
    state = lambda: ([(path, id(v)) for path, v in m.named()], list(vars(m)), list(getattr(m, "d", "")), list(m.l))
    before = state()

    def f(m, x):
        change(m)
        return x

    with pytest.raises(sh.StateError, match="is static and cannot change inside"):
        sh.jit(f)(m, X)
    assert state() == before
    change(m)
    assert state() != before, "outside it does change"


def test_rule_01_what_is_built_inside_may_change_its_lists_and_mode(runner):
    def f(x):
        m = nn.Module()
        m.l = [Counter()]
        m.l.append(Dense())
        m.d = {}
        m.d["k"] = 2.0
        m.eval()
        return m.l[1](m.l[0](x)) * m.d["k"] if not m.l[1].training else x

    np.testing.assert_allclose(runner(f)(sh.asarray(X)), Dense()(X) * 2, rtol=1e-5, atol=1e-6)


def test_rule_01_a_module_built_inside_may_change(runner):
    def f(x):
        m = nn.Module()
        m.k = 1
        m.k += 1
        m.b = nn.Buffer(x)
        m.b = m.b * m.k
        return m.b

    assert runner(f)(sh.asarray([1.0, 2.0])).tolist() == [2, 4]


def test_rule_01_requires_grad_is_static(runner):
    net = Dense()

    def f(net):
        net.cells()["bias"].requires_grad = False
        return net.bias

    if runner is sh.jit:
        with pytest.raises(sh.StateError, match="requires_grad"):
            runner(f)(net)
        assert net.cells()["bias"].requires_grad


@pytest.mark.parametrize("make", [lambda: optim.sgd(0.1, momentum=0.9), lambda: optim.adamw(1e-2)])
def test_rule_01_optimizer_state_exists_before_the_first_trace(make, runner):
    net = Dense()
    opt = make().init(net)
    before = list(opt.cells())
    runner(lambda net, opt, x: opt.update(net, sh.grad(loss_fn)(net, x)))(net, opt, X)
    assert list(opt.cells()) == before and len(before) > 2


def test_rule_02_a_tied_weight_is_one_cell(runner):
    net = Tied()
    assert list(net.cells()) == ["emb.weight", "emb.bias", "head.bias"]
    assert net.aliases() == {"head.weight": "emb.weight"}
    g = runner(lambda net, x: sh.grad(loss_fn)(net, x))(net, X)
    assert list(g) == ["emb.weight", "emb.bias", "head.bias"]
    apart = Tied()
    apart.head.weight = nn.Param(apart.emb.weight)
    h = sh.grad(loss_fn)(apart, X)
    np.testing.assert_allclose(g["emb.weight"], h["emb.weight"] + h["head.weight"], rtol=1e-5, atol=1e-6)


def test_rule_02_a_tied_weight_has_one_optimizer_state(runner):
    net = Tied()
    opt = optim.adamw(1e-2).init(net)

    def step(net, opt, x):
        opt.update(net, sh.grad(loss_fn)(net, x))

    runner(step)(net, opt, X)
    assert list(net.cells()) == list(opt.paths) == ["emb.weight", "emb.bias", "head.bias"]
    np.testing.assert_array_equal(net.head.weight, net.emb.weight)


def test_rule_02_assigning_keeps_the_place_in_the_order():
    net = Tied()
    order = list(net.cells())
    net.emb.weight = nn.Param(net.emb.weight * 2)
    net.emb = Dense(seed=9)
    assert [p.split(".")[0] for p in net.cells()] == ["emb", "emb", "head", "head"]
    assert order[0] == next(iter(net.cells()))


def test_rule_02_an_optimizer_refuses_another_structure(runner):
    net = Dense()
    opt = optim.sgd(0.1).init(net)

    def step(net, opt, x):
        opt.update(net, sh.grad(loss_fn)(net, x))

    step = runner(step)
    step(net, opt, X)
    net.cells()["bias"].requires_grad = False
    with pytest.raises(sh.StateError, match=r"bias no longer there or frozen.*make a new one"):
        step(net, opt, X)
    step(net, optim.sgd(0.1).init(net), X)
    net.cells()["bias"].requires_grad = True
    with pytest.raises(sh.StateError, match="bias new|make a new"):
        step(net, _frozen(net), X)


def _frozen(net):
    net.cells()["bias"].requires_grad = False
    opt = optim.sgd(0.1).init(net)
    net.cells()["bias"].requires_grad = True
    return opt


def test_rule_02_a_copy_keeps_ties_and_shares_nothing():
    net = Tied()
    other = sh.copy(net)
    assert other.aliases() == net.aliases() and list(other.cells()) == list(net.cells())
    other.emb.weight = other.emb.weight * 0
    assert float(net.emb.weight.sum()) != 0
    counter = Counter()
    before = state_of(counter)
    sh.copy(counter)(X)
    assert before == state_of(counter)
