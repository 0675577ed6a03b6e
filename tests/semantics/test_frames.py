"""state.md, rule 3: frames."""

import gc
import weakref

import numpy as np
import pytest

import shohin as sh
from shohin import nn, optim
from shohin.core import interp
from tests.semantics.models import Counter, Dense, Hidden, Net, Tied, X, loss_fn, same, state_of

WRAP = {
    "grad": lambda f: lambda net, x: sh.grad(lambda net, x: f(net, x).sum())(net, x),
    "vjp": lambda f: lambda net, x: sh.vjp(lambda x: f(net, x), x)[0],
    "jvp": lambda f: lambda net, x: sh.jvp(lambda x: f(net, x), (x,), (x,)),
    "vmap": lambda f: lambda net, x: sh.vmap(lambda v: f(net, v), in_axes=0)(x),
    "scan": lambda f: lambda net, x: sh.scan(lambda c, v: (c, f(net, v)), sh.asarray(0.0), x),
    "cond": lambda f: lambda net, x: sh.cond(x.sum() > -100, lambda x: f(net, x), lambda x: x, x),
    "checkpoint": lambda f: lambda net, x: sh.checkpoint(f)(net, x),
    "jit": lambda f: lambda net, x: sh.jit(f)(net, x),
    "call": lambda f: f,
}


class Boom(Exception):
    pass


@pytest.mark.parametrize("name", WRAP)
def test_rule_03_write_stays_in_frame(name, runner):
    """Inside, the write is seen; outside nothing moves before the frame closes; then it has moved once."""
    net = nn.Module()
    net.dense, net.seen = Dense(), Counter()
    seen = []

    def f(net, x):
        before = net.seen.count
        net.seen(x)
        seen.append((net.seen.count is not before, net.seen.cells()["count"].stored().item()))
        return net.dense(x)

    x = X[:, None] if name in ("vmap", "scan") else X
    runner(WRAP[name](f))(net, sh.asarray(x))
    assert all(inside for inside, _ in seen)
    if name != "call" or runner is sh.jit:
        assert all(outside == 0 for _, outside in seen)
    assert float(net.seen.count) == (8 if name == "scan" else 1)


@pytest.mark.parametrize("name", WRAP)
def test_rule_03_an_exception_drops_the_frame(name, runner):
    net = Net()
    if name == "vmap":
        net.norm = Counter()  # a lane has no batch to take the mean of
    sh.seed(3)
    before, counter = state_of(net), sh.random.default.counter.read().tolist()

    def f(net, x):
        net(x)
        raise Boom

    x = X[:, None] if name in ("vmap", "scan") else X
    if name == "call" and runner is not sh.jit:
        return  # plain eager code is the base frame: writes land at once
    for _ in range(2):
        with pytest.raises(Boom):
            runner(WRAP[name](f))(net, sh.asarray(x))
        same(before, state_of(net), 0)
        assert sh.random.default.counter.read().tolist() == counter


def test_rule_03_an_exception_in_mid_trace_then_the_same_call():
    """mlx-vlm#1654: a compiled function whose first trace fails must work when it is called again."""
    net, fail = Net(), [True]

    @sh.jit
    def step(net, x):
        y = net(x)
        if fail[0]:
            raise Boom
        return y

    with pytest.raises(Boom):
        step(net, X)
    fail[0] = False
    other = Net()
    sh.seed(0)
    a = step(net, X)
    sh.seed(0)
    np.testing.assert_allclose(a, other(X), rtol=1e-5, atol=1e-6)
    same(state_of(net), state_of(other))


def test_rule_03_closing_is_all_or_nothing(runner):
    """Two writes, the second refused: the first does not land either."""
    net = nn.Module()
    net.a, net.b = nn.Buffer(np.zeros((), np.float32), join="sum"), nn.Buffer(np.zeros((), np.float32))

    def f(net, x):
        def lane(v):
            net.a = v
            net.b = v
            return v

        return sh.vmap(lane)(x)

    with pytest.raises(sh.BatchError, match=r"b: f32\[\]"):
        runner(f)(net, sh.asarray([1.0, 2.0]))
    assert float(net.a) == 0 and float(net.b) == 0


@pytest.mark.parametrize("how", ["use", "number", "store", "return"])
@pytest.mark.parametrize("name", [n for n in WRAP if n != "call"])
def test_rule_03_a_leaked_tensor_is_an_error(name, how):
    net, leaked = nn.Module(), []
    net.dense, net.h = Dense(), nn.Buffer(np.zeros((8, 3), np.float32))

    def f(net, x):
        y = net.dense(x)
        leaked.append(y)
        return y

    x = X[:, None] if name in ("vmap", "scan") else X
    WRAP[name](f)(net, sh.asarray(x))
    t = leaked[0]
    if t.frame is None:
        return  # constant at that level: nothing leaked
    with pytest.raises(sh.LeakError, match="has ended; return the value"):
        if how == "use":
            t + 1
        elif how == "number":
            t.numpy()
        elif how == "store":
            net.h.cell.write(t) if t.shape == (8, 3) else t * 2
        else:
            sh.grad(lambda x: (x.sum(), t)[0] + t.sum())(sh.asarray(X))
    assert "in " in repr(t)


def test_rule_03_a_leaked_cell_is_an_error():
    kept = []

    def f(x):
        m = Counter()
        m(x)
        kept.append(m)
        return x.sum()

    for call in (lambda: sh.grad(f)(sh.asarray(X)), lambda: sh.jit(f)(X), lambda: sh.vmap(f)(sh.asarray(X))):
        call()
        with pytest.raises(sh.LeakError, match="count.*return the module"):
            kept[-1].count


def test_rule_03_a_returned_cell_moves_down(runner):
    """Cells born in a frame and returned live on, one level further down."""

    def f(x):
        m = Counter()
        m(x)
        m(x)
        return (x * x).sum(), m

    _, m = sh.grad(f, aux=True)(sh.asarray(X))
    assert float(m.count) == 2
    _, _, m = sh.vjp(f, sh.asarray(X), aux=True)
    assert float(m.count) == 2
    _, _, m = sh.jvp(f, (sh.asarray(X),), (sh.asarray(X),), aux=True)
    assert float(m.count) == 2
    m(X)
    assert float(m.count) == 3


def test_rule_03_a_module_made_in_a_program_is_returned():
    make = sh.jit(lambda x: Hidden())
    a, b = make(X), make(X)
    a(X[0])
    assert a is not b and a.h.tolist() != [0, 0, 0] and b.h.tolist() == [0, 0, 0]
    assert make.traces == ["first call"]
    gone = weakref.ref(a)
    del a
    gc.collect()
    assert gone() is None


class Made(nn.Module):
    """All that a module can hold: a tie, a list, a dict, a tuple, flags, modes, plain values."""

    def __init__(self, x):
        self.tied = Tied()
        self.tied.emb.eval()
        self.noise = nn.Param(sh.random.uniform(3), requires_grad=False)
        self.layers = [Dense(seed=1), {"b": nn.Buffer(x.sum(axis=0), join="max"), "k": (nn.Buffer(x[0]), 3)}]
        self.same = self.layers[0]
        self.table, self.rate = np.float32([1, 2]), 0.5
        self.layers[1]["b"] = self.layers[1]["b"] * 2.0

    def forward(self, x):
        return self.tied(x) * self.rate + self.layers[1]["b"]


def test_rule_03_a_returned_module_is_whole(runner):
    """Written before it is returned, with its ties, modes, flags and order; the random numbers are those of eager code."""
    sh.seed(3)
    expected = Made(sh.asarray(X))
    sh.seed(3)
    made = runner(lambda x: {"m": [Made(x)], "y": x.sum()})(sh.asarray(X))["m"][0]
    assert sh.random.default.counter.read().tolist() == [1, 0]
    same(state_of(expected), state_of(made))
    assert list(made.cells()) == list(expected.cells()) and made.aliases() == expected.aliases()
    assert [m.training for m in made.modules().values()] == [m.training for m in expected.modules().values()]
    assert not made.cells()["noise"].requires_grad and made.cells()["layers.1.b"].join == "max"
    assert made.same is made.layers[0] and made.table.tolist() == [1, 2] and made.layers[1]["k"][1] == 3
    np.testing.assert_allclose(made(X), expected(X), rtol=1e-5)
    made.rate = 1.0
    made.layers.append(Dense())
    g = sh.jit(lambda m, x: sh.grad(lambda m: m(x).sum())(m))(made, X)
    assert list(g) == ["tied.emb.weight", "tied.emb.bias", "tied.head.bias", *(f"layers.{k}.{n}" for k in (0, 2) for n in ("weight", "bias"))]


def test_rule_03_a_network_and_its_optimizer_come_out_of_a_program(runner):
    def make(x):
        net = Dense()
        opt = optim.adam(1e-2).init(net)
        opt.update(net, sh.grad(loss_fn)(net, x))
        return net, opt

    (a, opt), (b, own) = runner(make)(sh.asarray(X)), make(sh.asarray(X))
    for net, o in ((a, opt), (b, own)):
        o.update(net, sh.grad(loss_fn)(net, sh.asarray(X)))
    assert int(opt.count) == 2
    same(state_of(a), state_of(b), 1e-4)


def test_rule_03_a_returned_module_shares_what_it_took_from_an_argument(runner):
    """A submodule and a tied weight stay the argument's own, and the program holds them weakly."""

    def wrap(trunk, x):
        m = nn.Module()
        m.trunk, m.head = trunk, Dense(seed=2)
        m.head.weight = trunk.weight
        return m, trunk

    run, trunk = runner(wrap), Dense(seed=1)
    for _ in range(2):
        m, back = run(trunk, sh.asarray(X))
        assert m.trunk is trunk is back and m.head.cells()["weight"] is trunk.cells()["weight"]
        trunk.weight = trunk.weight * 2.0
        np.testing.assert_array_equal(m.head.weight, trunk.weight)
    gone = [weakref.ref(trunk), weakref.ref(trunk.cells()["weight"])]
    del m, trunk, back
    gc.collect()
    assert [g() for g in gone] == [None, None]


def test_rule_03_a_returned_module_through_other_transformations(runner):
    x = sh.asarray(X)

    class Random(nn.Module):
        def __init__(self):
            self.weight = nn.Param(sh.random.normal((3, 2)))

    lanes = runner(lambda: sh.vmap(Random, size=4)())()
    within = sh.vmap(sh.jit(Random), size=4)()
    for m in (lanes, within):
        assert m.weight.shape == (4, 3, 2) and not np.allclose(m.weight[0], m.weight[1])

    def f(v):
        m = Counter()
        m(v)
        return (v * v).sum(), m

    def outer(v):
        _, m = sh.grad(runner(f), aux=True)(v)
        m(v)
        return m

    for _ in range(2):
        m = runner(outer)(x)
        assert float(m.count) == 2
    m.count = 5.0
    assert float(m.count) == 5 and float(runner(outer)(x).count) == 2


def test_rule_03_a_returned_module_keeps_no_frame(runner):
    """What the frame held (a lane's values, a tape) goes with the frame."""
    kept = []

    def f(v):
        m = Counter()
        m(v)
        kept.append(weakref.ref(interp.current()))
        return (v * v).sum(), m

    _, m = runner(lambda v: sh.grad(f, aux=True)(v))(sh.asarray(X))
    wide = sh.vmap(Hidden, size=2)()
    gc.collect()
    assert kept[0]() is None and float(m.count) == 1 and wide.h.shape == (2, 3)


def test_rule_03_what_cannot_be_returned():
    net = Dense()
    with pytest.raises(sh.StateError, match=r"returns the cell weight.*return its value, or the module"):
        sh.jit(lambda net: net.cells())(net)

    def wrap(x):
        m = nn.Module()
        m.inner = Dense()
        m.inner.weight = net.weight
        return m

    with pytest.raises(sh.CaptureError, match=r"weight.*argument"):
        sh.jit(wrap)(X)


def test_rule_03_eager_code_is_the_base_frame():
    c = Counter()
    c(X)
    assert float(c.count) == 1


def test_rule_03_copy_reads_through_the_frame(runner):
    net = Hidden()

    def f(net, x):
        net(x)
        return sh.copy(net).h

    x = sh.asarray([1.0, 2.0, 3.0])
    np.testing.assert_allclose(runner(f)(net, x), net.h, rtol=1e-6)
