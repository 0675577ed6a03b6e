"""state.md, rules 6 and 7: what grad differentiates, and effects that happen once."""

import numpy as np
import pytest

import shohin as sh
from shohin import nn, optim
from tests.semantics.models import Counter, Dense, Dropout, Hidden, Net, Norm, Tied, X, loss_fn, same, state_of

x = lambda: sh.asarray(X)


def test_rule_06_the_trainable_cells_of_an_argument(runner):
    net = Net()
    net.stem.cells()["bias"].requires_grad = False
    g = runner(lambda net, v: sh.grad(loss_fn)(net, v))(net, X)
    assert list(g) == [p for p, c in net.cells(nn.Param).items() if p != "stem.bias"]
    assert g.body["0.weight"].shape == (3, 3)


def test_rule_06_argnums_and_trees(runner):
    f = lambda a, b, c: (a["k"][0] * b).sum() + c.sum()
    args = ({"k": [sh.asarray([1.0, 2.0])]}, sh.asarray([3.0, 4.0]), sh.asarray([5.0]))
    ga, gc = runner(lambda *a: sh.grad(f, argnums=(0, 2))(*a))(*args)
    assert ga["k"][0].tolist() == [3, 4] and gc.tolist() == [1]
    assert sh.grad(f, argnums=-1)(*args).tolist() == [1]


def test_rule_06_identity_decides(runner):
    """A cell in wrt counts whichever way it is reached; all else is constant."""
    net = Dense()

    def f(net, v):
        return sh.grad(lambda v: net(v).sum(), wrt=net.cells()["weight"])(v)

    g = runner(f)(net, X)
    np.testing.assert_allclose(g, np.broadcast_to(X.sum(0), (3, 3)), rtol=1e-5, atol=1e-6)


def test_rule_06_assigning_what_is_differentiated(runner):
    net = Dense()

    def f(net, v):
        net.weight = net.weight * 2
        return net(v).sum()

    with pytest.raises(sh.StateError, match=r"weight.*sh\.copy"):
        runner(lambda net, v: sh.grad(f)(net, v))(net, X)
    with pytest.raises(sh.StateError, match=r"weight.*sh\.copy"):
        runner(lambda net, v: sh.jvp(lambda n: f(n, v), (net,), ({"weight": sh.ones((3, 3))},)))(net, X)


def test_rule_06_maml(runner):
    """fast = copy; an inner step; the gradient flows through it to the original."""
    net = Dense()

    def loss(net, v):
        y = net(v)
        return (y * y).mean()

    def outer(net, v):
        fast = sh.copy(net)
        optim.sgd(0.1).init(fast).update(fast, sh.grad(loss)(fast, v))
        return loss(fast, v)

    g = runner(lambda net, v: sh.grad(outer)(net, v))(net, X)
    w = net.weight.numpy().astype(np.float64)

    def plain(w, b):
        def value(w, b):
            return np.mean((X @ w.T + b) ** 2)

        r = X @ w.T + b
        gw, gb = 2 * r.T @ X / r.size, 2 * r.sum(0) / r.size
        return value(w - 0.1 * gw, b - 0.1 * gb)

    b = np.zeros(3)
    for i, j in np.ndindex(3, 3):
        d = np.zeros((3, 3))
        d[i, j] = 1e-5
        np.testing.assert_allclose(
            g["weight"].numpy()[i, j], (plain(w + d, b) - plain(w - d, b)) / 2e-5, rtol=2e-3, atol=1e-5
        )


def test_rule_06_hessian_vector_product(runner):
    """jvp(grad(loss), (net,), (d,)) is the Hessian-vector product."""
    net = Dense()
    d = {"weight": sh.ones((3, 3)), "bias": sh.ones(3)}

    def loss(net):
        return sh.tanh(net(x())).sum()

    def f(net, d):
        return sh.jvp(sh.grad(loss), (net,), (d,))[1]

    hv = (
        runner(f)(net, d)
        if runner is not sh.jit
        else runner(lambda net, d, v: sh.jvp(sh.grad(lambda n: sh.tanh(n(v)).sum()), (net,), (d,))[1])(net, d, X)
    )
    w = net.weight.numpy().astype(np.float64)

    def gradient(t):
        y = np.tanh(X @ (w + t).T + t)
        return ((1 - y * y).T @ X), (1 - y * y).sum(0)

    up, down = gradient(1e-5), gradient(-1e-5)
    np.testing.assert_allclose(hv["weight"], (up[0] - down[0]) / 2e-5, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(hv["bias"], (up[1] - down[1]) / 2e-5, rtol=1e-3, atol=1e-4)


def test_rule_06_aux(runner):
    f = lambda v: ((v * v).sum(), {"twice": v * 2})
    (value, aux), g = runner(lambda v: sh.value_and_grad(f, aux=True)(v))(sh.asarray([1.0, 2.0]))
    assert float(value) == 5 and aux["twice"].tolist() == [2, 4] and g.tolist() == [2, 4]


def test_rule_06_gradients_of_what_is_not_used_are_zero(runner):
    net = Tied()
    g = runner(lambda net, v: sh.grad(lambda net, v: net.emb(v).sum())(net, v))(net, X)
    assert g["head.bias"].tolist() == [0, 0, 0]


# ------------------------------------------------------------------------------------------------ rule 7

NEST = {
    "plain": lambda f, net, v: f(net, v),
    "checkpoint": lambda f, net, v: sh.checkpoint(f)(net, v),
    "jit": lambda f, net, v: sh.jit(f)(net, v),
    "cond": lambda f, net, v: sh.cond(v.sum() > -1e6, lambda v: f(net, v), lambda v: v * 0, v),
    "scan": lambda f, net, v: sh.scan(lambda c, s: (c, f(net, s)), sh.asarray(0.0), v[None])[1][0],
    "grad": lambda f, net, v: sh.grad(lambda w: f(net, w).sum())(v),
    "vjp": lambda f, net, v: sh.vjp(lambda w: f(net, w), v)[0],
    "jvp": lambda f, net, v: sh.jvp(lambda w: f(net, w), (v,), (v,))[1],
    "while": lambda f, net, v: sh.while_loop(
        lambda s: s[0] < 1, lambda s: (s[0] + 1, f(net, s[1])), (sh.asarray(np.int32(0)), v)
    )[1],
}


@pytest.mark.parametrize("name", NEST)
def test_rule_07_effects_happen_once(name, runner):
    """Statistics move once, random numbers advance once, however often backward passes run."""
    net, expected = Net(), Net()

    def step(net, v):
        f = lambda net, v: NEST[name](lambda n, u: n(u), net, v).sum()
        if name == "while":
            return f(net, v)
        return sh.value_and_grad(f)(net, v)[0]

    sh.seed(5)
    runner(step)(net, x())
    counter = sh.random.default.counter.read().tolist()
    sh.seed(5)
    expected(x())
    assert sh.random.default.counter.read().tolist() == counter
    same(state_of(expected), state_of(net), 1e-5)


@pytest.mark.parametrize("name", [n for n in NEST if n != "while"])
def test_rule_07_a_written_value_carries_its_gradient(name, runner):
    """Backpropagation through a hidden state held in a buffer, across calls and transformations."""
    net = Hidden()
    if name in ("grad", "jvp"):
        return  # the hidden state is then differentiated twice; test_rule_07_through_two_levels

    def loss(net, xs):
        for k in range(3):
            NEST[name](lambda n, v: n(v), net, xs[k])
        return (net.h * net.h).sum()

    g = runner(lambda net, xs: sh.grad(loss)(net, xs))(net, X[:3])
    w, u = net.w.numpy().astype(np.float64), net.u.numpy().astype(np.float64)

    def plain(w, u):
        h = np.zeros(3)
        for k in range(3):
            h = np.tanh(w * X[k] + u * h)
        return (h * h).sum()

    for i in range(3):
        d = np.zeros(3)
        d[i] = 1e-5
        np.testing.assert_allclose(g["w"].numpy()[i], (plain(w + d, u) - plain(w - d, u)) / 2e-5, rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(g["u"].numpy()[i], (plain(w, u + d) - plain(w, u - d)) / 2e-5, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["grad", "vjp", "jvp"])
def test_rule_07_it_leaves_as_a_plain_value(name, runner):
    how = {
        "grad": lambda f, net, v: sh.grad(lambda net, v: f(net, v).sum())(net, v),
        "vjp": lambda f, net, v: sh.vjp(f, net, v)[0],
        "jvp": lambda f, net, v: sh.jvp(f, (net, v), ({"w": sh.ones(3)}, sh.ones(3))),
    }[name]
    net = Hidden()
    runner(lambda net, v: how(lambda net, v: net(v), net, v))(net, sh.asarray(X[0]))
    assert net.h.frame is None
    np.testing.assert_allclose(net.h, np.tanh(net.w.numpy() * X[0]), rtol=1e-5)


def test_rule_07_a_pullback_may_be_called_again(runner):
    net = Net()

    def f(net, v):
        y, back = sh.vjp(lambda net: net(v), net)
        one = back(sh.ones_like(y))[0]
        two = back(sh.ones_like(y))[0]
        three = back(sh.ones_like(y) * 2)[0]
        return one, two, three

    one, two, three = runner(f)(net, X)
    assert float(net.seen.count) == 1
    for path in one:
        np.testing.assert_allclose(one[path], two[path], rtol=1e-6)
        np.testing.assert_allclose(2 * one[path].numpy(), three[path], rtol=1e-4, atol=1e-6)


def test_rule_07_a_pullback_after_its_cells_have_changed():
    """The residuals are the values of the forward pass, whatever is written afterwards."""
    net = Dense()
    _, back = sh.vjp(lambda net, v: sh.tanh(net(v)).sum(), net, x())
    before = {k: v.numpy() for k, v in back(1.0)[0].items()}
    net.weight = net.weight * 0
    after = back(1.0)[0]
    same(before, {k: v.numpy() for k, v in after.items()}, 0)


def test_rule_07_custom_vjp(runner):
    f = sh.custom_vjp(lambda v: v * v, lambda args, outs, cts: cts * 10.0)
    assert runner(lambda v: sh.grad(lambda v: f(v).sum())(v))(sh.asarray([1.0, 2.0])).tolist() == [10, 10]
    g = sh.custom_vjp(
        lambda a, b: (a * b, a + b), lambda args, outs, cts: (cts[0] * args[1] + cts[1], cts[0] * args[0] + cts[1])
    )
    ga, gb = runner(lambda a, b: sh.grad(lambda a, b: sum(o.sum() for o in g(a, b)), argnums=(0, 1))(a, b))(
        sh.asarray([2.0]), sh.asarray([5.0])
    )
    assert ga.tolist() == [6] and gb.tolist() == [3]


def test_rule_07_a_backward_rule_is_pure(runner):
    net, counter = Dense(), Counter()
    for rule in (
        lambda args, outs, cts: cts * sh.random.uniform(3),
        lambda args, outs, cts: (counter(cts), cts)[1],
        lambda args, outs, cts: cts * net.weight[0],
    ):
        f = sh.custom_vjp(lambda v: v * v, rule)
        with pytest.raises((sh.GradientError, sh.CaptureError), match="backward rule|argument"):
            runner(lambda v, f=f: sh.grad(lambda v: f(v).sum())(v))(sh.asarray([1.0, 2.0, 3.0]))
    assert float(counter.count) == 0


def test_rule_07_a_captured_value_that_is_differentiated(runner):
    def outer(v):
        f = sh.custom_vjp(lambda a: a * v, lambda args, outs, cts: cts)
        return f(v).sum()

    with pytest.raises(sh.GradientError, match="captured value.*pass it as an argument"):
        runner(lambda v: sh.grad(outer)(v))(sh.asarray([1.0]))
    net = Dense()

    def through_cell(net, v):
        f = sh.custom_vjp(lambda a: a * net.bias, lambda args, outs, cts: cts)
        return f(v).sum()

    with pytest.raises(sh.GradientError, match="captured value.*pass it as an argument"):
        runner(lambda net, v: sh.grad(through_cell)(net, v))(net, X)


def test_rule_07_checkpoint_replays_the_same_random_numbers(runner):
    drop = Dropout()

    def value(wrap):
        sh.seed(7)
        f = lambda d, v: sh.grad(lambda v: (wrap(lambda d, v: d(v))(d, v) * v).sum())(v)
        return runner(f)(drop, x())

    np.testing.assert_allclose(value(lambda f: f), value(sh.checkpoint), rtol=1e-6)


def test_rule_07_checkpoint_updates_batch_norm_once(runner):
    """pytorch#62471."""
    net = Norm()
    runner(lambda net, v: sh.grad(lambda net, v: sh.checkpoint(lambda n, v: n(v))(net, v).sum())(net, v))(net, X)
    np.testing.assert_allclose(net.mean, X.mean(0) * 0.1, rtol=1e-5, atol=1e-7)


def test_rule_07_second_order_through_scan(runner):
    """grad(grad(scan)) was silently 0 because an extra result had no cotangent."""

    def f(v):
        carry, ys = sh.scan(lambda c, s: (sh.sin(c * s), c * c), v, sh.asarray([1.0, 2.0, 3.0]))
        return carry + ys.sum()

    def plain(v):
        total, c = 0.0, v
        for s in (1.0, 2.0, 3.0):
            total += c * c
            c = np.sin(c * s)
        return total + c

    second = runner(lambda v: sh.grad(sh.grad(f))(v))(sh.asarray(0.3))
    h = 1e-4
    np.testing.assert_allclose(float(second), (plain(0.3 + h) - 2 * plain(0.3) + plain(0.3 - h)) / h**2, rtol=1e-3)


@pytest.mark.parametrize("kind", ["cond", "checkpoint", "jit", "max_pool", "vmap"])
def test_rule_07_second_order_through_ops_with_extra_results(kind, runner):
    def f(v):
        if kind == "cond":
            return sh.cond(v.sum() > 0, lambda v: (sh.sin(v) ** 3).sum(), lambda v: v.sum(), v)
        if kind == "checkpoint":
            return sh.checkpoint(lambda v: (sh.sin(v) ** 3).sum())(v)
        if kind == "jit":
            return sh.jit(lambda v: (sh.sin(v) ** 3).sum())(v)
        if kind == "vmap":
            return sh.vmap(lambda v: sh.sin(v) ** 3)(v).sum()
        return (sh.max_pool2d(sh.reshape(sh.sin(v) ** 3, (1, 2, 2, 1)), 1)).sum()

    v = np.float32([0.3, 0.5, 0.7, 0.9])
    second = runner(lambda v: sh.grad(lambda v: sh.grad(f)(v).sum())(v))(v)
    s, c = np.sin(v), np.cos(v)
    np.testing.assert_allclose(second, 6 * s * c * c - 3 * s**3, rtol=1e-3, atol=1e-5)
