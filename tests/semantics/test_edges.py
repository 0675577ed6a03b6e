"""state.md, rules 4 and 5: what a program sees, and write-back."""

import dataclasses
import functools
from textwrap import dedent

import numpy as np
import pytest

import shohin as sh
from shohin import nn, optim
from shohin.compiler import captures, key
from tests.semantics.models import Dense, Net, Norm, X, loss_fn, same, state_of

# ------------------------------------------------------------------------------------------------ rule 4


def test_rule_04_a_captured_module_is_an_error():
    net = Dense()
    for wrap in (lambda f: sh.jit(f), lambda f: sh.grad(sh.jit(f)), lambda f: sh.jit(sh.jit(f))):
        with pytest.raises(sh.CaptureError, match=r"(weight|Dense).*argument"):
            wrap(lambda x: net(x).sum())(sh.asarray(X))


def test_rule_04_what_an_export_captures_is_an_error(tmp_path):
    """What would be shipped as a constant although the network does not hold it."""
    other, t = Dense(), sh.ones(3)
    for forward in (lambda x: other(x), lambda x: x + t, lambda x: x * other.bias):
        net = nn.Module()
        net.forward = forward
        with pytest.raises(sh.CaptureError, match=r"export (calls|uses|reads) .*pass it|pass the module"):
            sh.export(net, X[:1], device="host", to=tmp_path / "net")
    net.forward = lambda x: x * np.float32([1, 2, 3])
    sh.export(net, X[:1], device="host", to=tmp_path / "net")


def test_rule_04_calling_a_module_without_cells_is_a_capture_too():
    drop = nn.Module()
    drop.forward = lambda x: x
    with pytest.raises(sh.CaptureError, match="Module"):
        sh.jit(lambda x: drop(x))(X)


def test_rule_04_a_captured_tensor_is_an_error():
    t = sh.ones(3)
    with pytest.raises(sh.CaptureError, match=r"f32\[3\].*pass it"):
        sh.jit(lambda x: x + t)(X)
    with pytest.raises(sh.CaptureError):
        sh.grad(lambda x: sh.jit(lambda y: y * x)(x).sum())(sh.asarray(X))


def test_rule_04_a_constant_is_compared_at_each_call():
    """`k = 3` after the first call: the program is traced anew (mlx 'still prints 2')."""
    k = 2.0

    def f(x):
        return x * k

    run = sh.jit(f)
    one = sh.asarray([1.0])
    assert run(one).tolist() == [2.0]
    k = 3.0
    assert run(one).tolist() == [3.0]
    assert len(run.traces) == 2
    k = 2.0
    assert run(one).tolist() == [2.0] and len(run.traces) == 2


def test_rule_04_a_constant_of_a_function_called_by_name():
    table = np.float32([1, 2, 3])

    def inner(x):
        return x + table

    run = sh.jit(lambda x: inner(x))
    assert run(np.float32([0, 0, 0])).tolist() == [1, 2, 3]
    table = np.float32([5, 5, 5])
    assert run(np.float32([0, 0, 0])).tolist() == [5, 5, 5]
    table[0] = 9
    assert run(np.float32([0, 0, 0])).tolist() == [9, 5, 5]


def test_rule_04_const_is_a_constant():
    c = sh.const(np.float32([1, 2, 3]))
    double = sh.jit(lambda x: x * 2.0)
    assert double(c).tolist() == double(c).tolist() == [2, 4, 6]
    assert sh.jit(lambda x: x * c)(np.float32([1, 1, 1])).tolist() == [1, 2, 3]


def test_rule_04_a_name_bound_to_a_new_function():
    def act(x):
        return x * 2

    run = sh.jit(lambda x: act(x))
    one = sh.asarray([1.0])
    assert run(one).tolist() == [2]

    def act(x):  # noqa: F811
        return x * 3

    assert run(one).tolist() == [3]


def test_rule_04_constants_of_every_kind_are_compared():
    """-0.0 is not 0.0, nan is nan, True is not 1; text, functions, wrapped and bound ones are seen through."""
    k, text, act = 0.0, "mul", lambda y: y * scale
    scale = 2.0
    run = sh.jit(lambda x: sh.vmap(lambda y: act(y) if text == "mul" else y)(1.0 / (x * k + k)))
    one = np.float32([1])
    assert run(one).tolist() == [float("inf")]
    k = -0.0
    assert run(one).tolist() == [float("-inf")]
    k = float("nan")
    run(one)
    k = float("nan")
    assert np.isnan(run(one)).all() and len(run.traces) == 3
    k = 0.5
    assert run(one).tolist() == [2]
    scale = 3.0
    assert run(one).tolist() == [3], "looked up by a function that is called by name, inside vmap"
    act = functools.partial(lambda a, y: y * a * scale, 10.0)
    assert run(one).tolist() == [30]
    scale = 1.0
    assert run(one).tolist() == [10], "through a partial that was bound after the first call"
    act = sh.jit(lambda y: y + scale)
    assert run(one).tolist() == [2]
    scale = 2.0
    assert run(one).tolist() == [3], "through a compiled function"
    text = "no"
    assert run(one).tolist() == [1]
    flag = True
    run = sh.jit(lambda x: x * 2.0 if flag is True else x * 5.0)
    assert run(one).tolist() == [2]
    flag = 1
    assert run(one).tolist() == [5]


def test_rule_04_libraries_are_looked_up_but_not_through():
    """A call looks at the function's own names, not at those of all the libraries behind them."""

    def f(x):
        return x * len(dedent(text)) + scale(x)

    @functools.lru_cache
    def scale(x):
        return x * k

    text, k = " ab", 2.0
    assert {name for _, name in captures.lookups(f)} == {"len", "dedent", "text", "scale", "k"}


def test_rule_04_a_name_that_is_bound_later():
    """`abs` of the builtins until the module has one of its own."""
    space = {"sh": sh}
    exec("def f(x):\n    return abs(x)", space)
    run = sh.jit(space["f"])
    one = np.float32([-1])
    assert run(one).tolist() == [1]
    space["abs"] = lambda x: x * 7.0
    assert run(one).tolist() == [-7]
    del space["abs"]
    assert run(one).tolist() == [1]


def test_rule_04_contents_of_captured_containers_are_not_seen():
    """As the documentation of jit says: bind the name anew."""
    table = {"k": 2.0}
    run = sh.jit(lambda x: x * table["k"])
    one = np.float32([1])
    run(one)
    table["k"] = 3.0
    assert run(one).tolist() == [2]
    table = {"k": 3.0}
    assert run(one).tolist() == [3]


def test_rule_04_a_tensor_made_in_the_trace_is_no_capture():
    assert sh.jit(lambda x: x + sh.ones(3) + sh.asarray([1.0, 2.0, 3.0]))(np.zeros(3, np.float32)).tolist() == [2, 3, 4]


def test_rule_04_static_arguments():
    """By value with their type, by identity where a class says nothing, refused where they can change unseen."""

    @dataclasses.dataclass(frozen=True)
    class Config:
        k: float

    @dataclasses.dataclass
    class Loose:
        k: float

    class Plain:
        k = 2.0

    run = sh.jit(lambda x, c: x * (c.k if hasattr(c, "k") else (10 if c is True else 20)))
    one, plain = np.float32([1]), Plain()
    assert run(one, Config(3.0)).tolist() == run(one, Config(3.0)).tolist() == [3] and len(run.traces) == 1
    assert run(one, Config(4.0)).tolist() == [4]
    assert run(one, 1).tolist() == [20] and run(one, True).tolist() == [10] and run(one, 1).tolist() == [20]
    assert run(one, plain).tolist() == run(one, plain).tolist() == [2] and len(run.traces) == 5
    for bad in (Loose(1.0), {1, 2}):
        with pytest.raises(sh.StateError, match=rf"argument c is a {type(bad).__name__}, which can change unseen.*hashable"):
            run(one, bad)
    where = [sh.nn.Buffer(one)]
    with pytest.raises(sh.TraceError, match=r"argument c\[0\]: a cell was passed"):
        run(one, where)


def test_rule_04_kinds_of_arguments():
    run = sh.jit(lambda x, k, flag, how: x * k if flag and how == "mul" else x)
    x = sh.asarray([2.0])
    assert run(x, 3.0, True, "mul").tolist() == [6]
    assert run(x, 4.0, True, "mul").tolist() == [8] and len(run.traces) == 1, "floats are inputs"
    assert run(x, 4.0, False, "mul").tolist() == [2] and len(run.traces) == 2, "bools are the key"
    assert run(x, 4.0, True, "no").tolist() == [2] and len(run.traces) == 3
    half = sh.asarray(np.float16([2]))
    assert run(half, 4.0, True, "mul").dtype == sh.float16, "a float argument stays weak"


def test_rule_04_attributes_of_a_module_are_in_the_key():
    m = Dense()
    m.scale, m.table, m.n = 2.0, np.float32([1, 1, 1]), 1
    run = sh.jit(lambda m, x: x * m.scale * m.table * m.n)
    one = np.float32([1, 1, 1])
    assert run(m, one).tolist() == [2, 2, 2]
    m.scale = 3.0
    assert run(m, one).tolist() == [3, 3, 3]
    m.table = np.float32([1, 2, 1])
    assert run(m, one).tolist() == [3, 6, 3]
    m.n = 2
    assert run(m, one).tolist() == [6, 12, 6] and len(run.traces) == 4


def test_rule_04_private_attributes_are_in_the_key_too():
    m = Dense()
    m._scale, m._more, m._other = 2.0, [1, {"k": 1.0}], Dense()
    run = sh.jit(lambda m, x: x * m._scale * m._more[0] * m._more[1]["k"])
    one = np.float32([1, 1, 1])
    assert run(m, one).tolist() == [2, 2, 2]
    m._scale = 3.0
    assert run(m, one).tolist() == [3, 3, 3]
    m._more[0] = 2
    assert run(m, one).tolist() == [6, 6, 6]
    m._more[1]["k"] = 0.5
    assert run(m, one).tolist() == [3, 3, 3] and run.traces[3] == "m._more.1.k: 1.0 -> 0.5" + key.HINT
    m._other = Dense()
    run(m, one)
    assert len(run.traces) == 4
    with pytest.raises(sh.CaptureError, match="pass the module or cell"):
        sh.jit(lambda m, x: x + m._other.bias)(m, one)


def test_rule_04_the_generator_is_an_implicit_argument():
    run = sh.jit(lambda: sh.random.uniform(4))
    sh.seed(1)
    a, b = run(), run()
    assert a.tolist() != b.tolist() and len(run.traces) == 1
    sh.seed(1)
    np.testing.assert_array_equal(sh.random.uniform(4), a)
    np.testing.assert_array_equal(sh.random.uniform(4), b)


def test_rule_04_a_jitted_method_needs_a_module():
    class Plain:
        @sh.jit
        def f(self, x):
            return x

    with pytest.raises(sh.StateError, match="Plain is no nn.Module"):
        Plain().f(X)

    class Fine(Dense):
        @sh.jit
        def g(self, x):
            return self(x)

    m = Fine()
    np.testing.assert_allclose(m.g(X), m(X), rtol=1e-5, atol=1e-6)


def test_rule_04_an_argument_that_is_returned_comes_back_as_itself():
    net = Dense()
    run = sh.jit(lambda net, x: (net, x))
    x = sh.asarray(X)
    a, b = run(net, x)
    assert a is net and b.tolist() == x.tolist()


def test_rule_04_one_trunk_through_two_arguments(runner):
    """Actor and critic share a trunk: the gradient of both is the sum."""
    trunk = Dense(seed=4)

    def make(seed):
        m = nn.Module()
        m.trunk, m.head = trunk, Dense(seed=seed)
        return m

    def loss(actor, critic, x):
        return (actor.head(actor.trunk(x)) + critic.head(critic.trunk(x))).sum()

    actor, critic = make(1), make(2)
    ga, gc = runner(lambda a, c, x: sh.grad(loss, argnums=(0, 1))(a, c, x))(actor, critic, X)
    np.testing.assert_array_equal(ga["trunk.weight"], gc["trunk.weight"])
    one = sh.grad(loss, wrt=trunk.cells()["weight"])(actor, critic, sh.asarray(X))
    np.testing.assert_allclose(ga["trunk.weight"], one, rtol=1e-5)
    with pytest.raises(sh.BatchError, match="disagree"):
        sh.vmap(loss, in_axes=(0, None, None))(actor, critic, X)


def test_rule_04_a_module_captured_twice_names_the_same_cell():
    """The bug: a module reached by a closure and by an argument was two sets of weights."""
    net = Dense()

    def loss(net, x):
        return net(x).sum()

    def both(net2, x):
        return loss(net2, x) + loss(net, x)

    g = sh.grad(both)(net, sh.asarray(X))
    h = sh.grad(loss)(net, sh.asarray(X))
    np.testing.assert_allclose(g["weight"], 2 * h["weight"], rtol=1e-6)
    both_jit = sh.jit(lambda net2, x: sh.grad(both)(net2, x))
    np.testing.assert_allclose(both_jit(net, X)["weight"], g["weight"], rtol=1e-5)
    with pytest.raises(sh.CaptureError):
        both_jit(Dense(seed=1), X)


def test_rule_04_a_name_bound_to_a_new_module_between_two_calls():
    """tinygrad#16618, jax#28157: the compiled step must see the module that the name means now."""
    net = Dense(seed=1)

    @sh.jit
    def step(net, x):
        return net(x)

    first = step(net, X)
    net = Dense(seed=2)
    second = step(net, X)
    np.testing.assert_allclose(second, net(X), rtol=1e-5, atol=1e-6)
    assert not np.allclose(first, second)


def test_rule_04_one_function_serves_equal_modules():
    """Two modules of one structure get each its own writes (and its own trace: a closure may tell them apart)."""
    step = sh.jit(lambda net, x: net(x))
    a, b = Norm(), Norm()
    step(a, X)
    step(b, X)
    step(b, X)
    np.testing.assert_allclose(a.mean, X.mean(0) * 0.1, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(b.mean, X.mean(0) * 0.19, rtol=1e-4, atol=1e-6)


# ------------------------------------------------------------------------------------------------ rule 5


def test_rule_05_changed_cells_are_written_back(runner):
    net = Net()
    opt = optim.adam(1e-2).init(net)

    def step(net, opt, x):
        loss, g = sh.value_and_grad(loss_fn)(net, x)
        opt.update(net, g)
        return loss

    step = runner(step)
    before = state_of(net)
    losses = [float(step(net, opt, X)) for _ in range(3)]
    assert float(net.seen.count) == 3 and int(opt.count) == 3
    assert all(not np.array_equal(before[p], v) for p, v in state_of(net).items())
    assert len(losses) == 3


def test_rule_05_eager_and_compiled_training_agree():
    states = []
    for wrap in (lambda f: f, sh.jit):
        sh.seed(0)
        net = Net()
        opt = optim.sgd(1e-1, momentum=0.9).init(net)

        def step(net, opt, x):
            loss, g = sh.value_and_grad(loss_fn)(net, x)
            opt.update(net, g)
            return loss

        run = wrap(step)
        for _ in range(4):
            run(net, opt, X)
        states.append(state_of(net))
    same(*states, tol=2e-4)
