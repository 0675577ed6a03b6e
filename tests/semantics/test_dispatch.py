"""state.md, rule 13: a call that is known walks nothing, and nothing stale is ever run."""

import copy
import gc
import pickle
import weakref
from threading import Thread

import numpy as np
import pytest

import shohin as sh
from shohin import nn, optim
from shohin.compiler.jit import Jit
from shohin.core import cells as cell_state
from tests.semantics.models import Counter, Dense, Hidden, Net, X, loss_fn, state_of


class Scale(nn.Module):
    def __init__(self):
        self.by = nn.Param(np.ones(1, np.float32))

    def forward(self, x):
        return x * self.by


def stack(n):
    net = nn.Module()
    net.layers = [Scale() for _ in range(n)]

    def forward(x):
        for layer in net.layers:
            x = layer(x)
        return x

    net.forward = forward
    return net


def train_step(net, opt, x):
    loss, g = sh.value_and_grad(loss_fn)(net, x)
    opt.update(net, g)
    return loss


@pytest.fixture
def no_walk(monkeypatch):
    """From when it is called, a call that looks at its arguments closely fails."""

    def forbid():
        def walk(self, args, keywords):
            raise AssertionError("the arguments were walked")

        monkeypatch.setattr(Jit, "_find", walk)

    return forbid


def test_rule_13_changes_in_lists_and_dicts_are_seen():
    net = Net()
    run = sh.jit(lambda net, x: net(x))
    shapes = lambda: len(run.traces)
    run(net, X)
    net.body.append(Dense(seed=8))
    run(net, X)
    assert shapes() == 2
    net.body.pop()
    run(net, X)
    net.body[0] = Dense(seed=9)
    sh.seed(4)
    a = run(net, X)
    sh.seed(4)
    b = sh.copy(net)(X)
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_rule_13_replacing_a_cell_is_seen():
    net = Dense()
    run = sh.jit(lambda net, x: net(x))
    run(net, X)
    net.weight = nn.Param(np.zeros((3, 3), np.float32))
    assert run(net, X).tolist() == np.zeros((8, 3)).tolist()
    net.bias.cell.write(sh.ones(3))
    assert run(net, X).tolist() == np.ones((8, 3)).tolist()


def test_rule_13_tying_after_the_first_call_is_seen():
    net = Net(depth=2)
    step = sh.jit(lambda net, x: sh.grad(loss_fn)(net, x))
    assert "body.1.weight" in step(net, X)
    net.body[1].weight = net.body[0].weight
    assert "body.1.weight" not in step(net, X)


def test_rule_13_programs_hold_no_module():
    """A compiled function keeps weak references to its arguments."""
    run = sh.jit(lambda net, x: net(x))
    net = Net()
    run(net, X)
    gone = weakref.ref(net)
    del net
    gc.collect()
    assert gone() is None


def test_rule_13_a_program_that_fails_writes_nothing():
    """An index out of range, a callback that raises: no cell has moved."""
    m = Counter()

    def f(m, x, i):
        m(x)
        return sh.take(x, i, axis=0)

    with pytest.raises(IndexError):
        f(m, sh.asarray(X), np.int64([99]))
    m.count = sh.asarray(0.0)
    with pytest.raises((IndexError, sh.ShapeError, sh.StateError)):
        sh.jit(lambda m, x: (m(x), x + sh.ones((5, 5))))(m, X)
    assert float(m.count) == 0




# ------------------------------------------------------------------------------------------------ the fast path


def test_rule_13_the_same_objects_are_not_walked(no_walk):
    net = Net()
    opt = optim.adamw(1e-2).init(net)
    step = sh.jit(train_step)
    evaluate = sh.jit(lambda net, batch, k, scale: net(batch["x"]) * scale + k)
    step(net, opt, X)
    evaluate(net, {"x": X}, 3, scale=1.0)
    no_walk()
    before = state_of(net)
    for x in (X, sh.asarray(X), X * 2):
        step(net, opt, x)
        evaluate(net, {"x": x}, 3, scale=2.5)
    assert int(opt.count) == 4 and not np.array_equal(before["stem.weight"], net.stem.weight)
    for other in (({"x": X[:2]}, 3), ({"x": X}, 4), ({"x": X}, True), ({"y": X}, 3), ({"x": X.astype(np.float64)}, 3)):
        with pytest.raises(AssertionError, match="walked"):
            evaluate(net, *other, scale=1.0)
    with pytest.raises(AssertionError, match="walked"):
        step(Net(), opt, X)


def test_rule_13_two_programs_in_turn(no_walk):
    """A train and an evaluation program, two networks and a smaller last batch alternate without a walk."""
    run = sh.jit(lambda net, x: net(x))
    a, b = Dense(seed=1), Dense(seed=2)
    calls = [(a, X), (b, X), (a, X[:2]), (b, X[:2])]
    expected = [run(*c).numpy() for c in calls]
    no_walk()
    for _ in range(2):
        for c, e in zip(calls, expected, strict=True):
            np.testing.assert_array_equal(run(*c), e)


def test_rule_13_a_known_call_gives_what_a_walk_gives():
    """Values written in eager, floats, views and read-only arrays reach the program."""
    run = sh.jit(lambda net, x, k: net(x) * k)
    net = Dense()
    views = [X, np.asfortranarray(X), np.broadcast_to(X[:1], X.shape), X[::-1], sh.asarray(X), sh.asarray(X.T).T]
    frozen = X.copy()
    frozen.flags.writeable = False
    for turn in range(3):
        for x in (*views, frozen, X, frozen):
            net.bias = sh.asarray(np.float32([turn, 1, 2]))
            np.testing.assert_allclose(run(net, x, 0.5 + turn), net(x) * (0.5 + turn), rtol=1e-5, atol=1e-6)
    assert run.traces == ["first call"]


# ------------------------------------------------------------------------------------------------ the epoch


def test_rule_13_only_what_a_program_has_seen_moves_the_epoch():
    net, other = Net(), Net()
    other(X)  # called in eager: no program has seen it
    run = sh.jit(lambda net, x: net(x))
    run(net, X)
    now = cell_state.epoch()
    other.body.append(Dense())
    other.eval()
    other.stem.weight = nn.Param(np.zeros((3, 3), np.float32))
    other.stem.requires_grad_(False)
    other.k = 3
    Net().eval()
    assert cell_state.epoch() == now
    changes = [
        lambda: net.body.append(Dense()),
        lambda: net.norm.eval(),
        lambda: setattr(net.stem, "weight", nn.Param(np.zeros((3, 3), np.float32))),
        lambda: net.stem.requires_grad_(False),
        lambda: setattr(net, "k", 3),
        lambda: delattr(net, "k"),
        lambda: setattr(net.body[0], "new", 1.0),
    ]
    for change in changes:
        run(net, X)
        now = cell_state.epoch()
        change()
        assert cell_state.epoch() > now
    run(net, X)
    now = cell_state.epoch()
    net.stem.weight = net.stem.weight * 2
    net.seen.count = 0.0
    assert cell_state.epoch() == now, "a write is no change of structure"


def test_rule_13_a_new_attribute_is_seen():
    m = Dense()
    run = sh.jit(lambda m, x: m(x) * getattr(m, "scale", 1.0))
    one = run(m, X).numpy()
    m.scale = 2.0
    np.testing.assert_allclose(run(m, X), 2 * one, rtol=1e-6)
    del m.scale
    np.testing.assert_allclose(run(m, X), one, rtol=1e-6)
    m.table = {"a": 1.0}
    run = sh.jit(lambda m, x: x * m.table["a"])
    assert run(m, X[0]).tolist() == X[0].tolist()
    m.table["a"] = 3.0
    assert run(m, X[0]).tolist() == (X[0] * 3).tolist()


def test_rule_13_a_module_assigned_to_a_seen_one_is_seen():
    net, new = Net(), Dense(seed=9)
    run = sh.jit(lambda net, x: net(x))
    net.eval()
    run(net, X)
    net.stem = new
    run(net, X)
    new.weight = nn.Param(np.zeros((3, 3), np.float32))
    np.testing.assert_allclose(run(net, X), net(X), rtol=1e-5, atol=1e-6)


# ------------------------------------------------------------------------------------------------ cells


def test_rule_13_only_cells_that_were_handed_out_are_looked_at():
    net = Net()
    opt = optim.adamw(1e-2).init(net)
    step = sh.jit(train_step)
    step(net, opt, X)
    (program,) = step.programs.values()
    assert program.marked == set()
    held = net.stem.weight
    net.norm.mean = np.zeros(3, np.float32)
    assert len(program.marked) == 2
    before = held.numpy()
    step(net, opt, X)
    assert program.marked == set()
    np.testing.assert_array_equal(held, before)
    step(net, opt, X)
    assert program.marked == set() and not np.array_equal(before, net.stem.weight)


def test_rule_13_a_cell_of_two_programs_moves_for_both():
    net = Hidden()
    write = sh.jit(lambda net, x: setattr(net, "h", net.h + x))
    reset = sh.jit(lambda net, x: setattr(net, "h", x * 1.0))
    read = sh.jit(lambda net: net.h * 1.0)
    one = np.ones(3, np.float32)
    held = []
    for turn in range(1, 4):
        write(net, one)
        assert read(net).tolist() == [2 * turn - 1] * 3
        held.append(net.h)  # the next write moves the cell, and the reader must follow
        write(net, one)
        assert read(net).tolist() == [2 * turn] * 3 == net.h.tolist()
    assert [float(h[0]) for h in held] == [1, 3, 5]
    held = net.h
    reset(net, one * 9)
    assert read(net).tolist() == [9] * 3 and held.tolist() == [6] * 3


def test_rule_13_swapped_cells(runner):
    """Each output takes the memory of the other's input."""
    m = nn.Module()
    m.a, m.b = nn.Buffer(np.float32([1, 2])), nn.Buffer(np.float32([3, 4]))

    def swap(m):
        m.a, m.b = m.b, m.a

    run = runner(swap)
    for k in range(1, 4):
        run(m)
        assert (m.a.tolist(), m.b.tolist()) == (([3, 4], [1, 2]) if k % 2 else ([1, 2], [3, 4]))


# ------------------------------------------------------------------------------------------------ lifetimes


@pytest.mark.parametrize("make", [Net, lambda: stack(3)], ids=["net", "a cycle"])
def test_rule_13_dead_modules_free_their_memory(make):
    """Modules, cells, arrays and the program for them, whichever way the program met them."""
    other = Dense()

    def step(nets, opt, x, how):
        loss = train_step(nets[0], opt, x)
        return nets, loss, how

    run = sh.jit(step)
    net = make()
    opt = optim.adam(1e-2).init(net)
    method = net.forward
    run([net, other], opt, X[:, :1] if make is not Net else X, method)
    run([net, other], opt, X[:, :1] if make is not Net else X, method)
    cell = next(iter(net.cells().values()))
    gone = [weakref.ref(o) for o in (net, opt, cell, cell.stored().payload)]
    assert len(run.programs) == 1
    del net, opt, cell, method
    gc.collect()
    assert [g() for g in gone] == [None] * 4
    assert run.programs == {} and run._recent == []


def test_rule_13_replaced_cells_are_freed():
    net = Dense()
    run = sh.jit(lambda net, x: net(x))
    run(net, X)
    gone = weakref.ref(net.cells()["weight"])
    net.weight = nn.Param(np.zeros((3, 3), np.float32))
    run(net, X)
    gc.collect()
    assert gone() is None


def test_rule_13_an_address_that_is_given_again_is_no_old_friend():
    """Modules and captured functions come and go at one address: each is a call of its own."""
    times = lambda k: lambda y: y * k
    act = None
    run = sh.jit(lambda net, x: act(net(x)))
    for k in range(20):
        net, act = Dense(seed=k), times(float(k))
        np.testing.assert_allclose(run(net, X), net(X) * float(k), rtol=1e-5, atol=1e-5)
        del net
        gc.collect()
    assert len(run.programs) == 0


@pytest.mark.parametrize("how", [sh.copy, copy.deepcopy, copy.copy, lambda net: pickle.loads(pickle.dumps(net))])
def test_rule_13_a_copy_is_another_module(how):
    """A program made for a network is not run for its copy, and does not write the original's cells."""
    net = Net()
    run = sh.jit(lambda net, x: net(x))
    run(net, X)
    other = how(net)
    before, was = state_of(net), float(other.seen.count)
    other.stem = Dense(seed=11)
    np.testing.assert_array_equal(net.stem.weight, before["stem.weight"])
    for k in (1, 2):
        run(other, X)
        assert float(other.seen.count) == was + k
    if how is not copy.copy:  # which shares its layers, as ever
        assert all(np.array_equal(v, before[p]) for p, v in state_of(net).items())
    net.body.append(Dense(seed=12))
    run(net, X)
    assert len(run.traces) == 3


def test_rule_13_a_program_may_be_called_from_threads():
    net, run = Counter(), sh.jit(lambda net, x: (net(x) * 2.0).sum())
    run(net, X)
    found = []

    def work():
        found.extend(float(run(net, X)) for _ in range(50))

    threads = [Thread(target=work) for _ in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(found) == 150 and len(set(found)) == 1 and float(net.count) == 151
