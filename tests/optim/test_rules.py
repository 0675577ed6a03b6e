"""Each rule against plain NumPy over some steps, on a quadratic, tied, clipped, compiled."""

import math

import numpy as np
import pytest

import shohin as sh
from shohin import nn, optim

START = {"a": np.float64([1.0, -2.0, 3.0]), "b": np.float64([[0.5, -0.5]])}
TARGET = {"a": np.float64([0.0, 1.0, 2.0]), "b": np.float64([[2.0, -1.0]])}


class Two(nn.Module):
    def __init__(self):
        self.a, self.b = (nn.Param(START[k].astype(np.float32)) for k in "ab")


def bowl(net):
    return ((net.a - TARGET["a"].astype(np.float32)) ** 2).sum() + 2 * (
        (net.b - TARGET["b"].astype(np.float32)) ** 2
    ).sum()


def slope(p):
    return {"a": 2 * (p["a"] - TARGET["a"]), "b": 4 * (p["b"] - TARGET["b"])}


# ------------------------------------------------------------------------------- the rules in plain NumPy


def sgd(p, g, s, t, lr=0.05, momentum=0.0, nesterov=False, wd=0.0):
    g = g + wd * p
    if momentum:
        s["v"] = momentum * s.get("v", 0) + g
        g = g + momentum * s["v"] if nesterov else s["v"]
    return p - lr * g


def adam(p, g, s, t, lr=0.05, b1=0.9, b2=0.999, eps=1e-8, wd=0.0, decoupled=0.0):
    g = g + wd * p
    s["m"] = b1 * s.get("m", 0) + (1 - b1) * g
    s["v"] = b2 * s.get("v", 0) + (1 - b2) * g * g
    step = (s["m"] / (1 - b1**t)) / (np.sqrt(s["v"] / (1 - b2**t)) + eps)
    return p - lr * (step + decoupled * p)


def rmsprop(p, g, s, t, lr=0.05, alpha=0.99, eps=1e-8, momentum=0.0):
    s["v"] = alpha * s.get("v", 0) + (1 - alpha) * g * g
    g = g / (np.sqrt(s["v"]) + eps)
    if momentum:
        s["b"] = g = momentum * s.get("b", 0) + g
    return p - lr * g


def lion(p, g, s, t, lr=0.05, b1=0.9, b2=0.99, wd=0.0):
    m = s.get("m", np.zeros_like(p))
    s["m"] = b2 * m + (1 - b2) * g
    return p - lr * (np.sign(b1 * m + (1 - b1) * g) + wd * p)


RULES = {
    "sgd": (optim.sgd(0.05), sgd),
    "sgd decay": (optim.sgd(0.05, weight_decay=0.1), lambda *a: sgd(*a, wd=0.1)),
    "momentum": (optim.sgd(0.05, momentum=0.9), lambda *a: sgd(*a, momentum=0.9)),
    "nesterov": (optim.sgd(0.05, 0.9, True, 0.1), lambda *a: sgd(*a, momentum=0.9, nesterov=True, wd=0.1)),
    "adam": (optim.adam(0.05), adam),
    "adam decay": (optim.adam(0.05, (0.8, 0.99), 1e-3, 0.1), lambda *a: adam(*a, b1=0.8, b2=0.99, eps=1e-3, wd=0.1)),
    "adamw": (optim.adamw(0.05), lambda *a: adam(*a, decoupled=0.01)),
    "rmsprop": (optim.rmsprop(0.05), rmsprop),
    "rmsprop momentum": (optim.rmsprop(0.05, 0.9, momentum=0.5), lambda *a: rmsprop(*a, alpha=0.9, momentum=0.5)),
    "lion": (optim.lion(0.05, weight_decay=0.1), lambda *a: lion(*a, wd=0.1)),
}
each_rule = pytest.mark.parametrize("name", RULES)


def update(net, opt):
    loss, grads = sh.value_and_grad(bowl)(net)
    opt.update(net, grads)
    return loss


@each_rule
@pytest.mark.parametrize("compiled", [False, True])
def test_equals_numpy_over_five_steps(name, compiled):
    rule, plain = RULES[name]
    net = Two()
    opt = rule.init(net)
    step = sh.jit(update) if compiled else update
    p, state = dict(START), {k: {} for k in START}
    for t in range(1, 6):
        step(net, opt)
        g = slope(p)
        p = {k: plain(p[k], g[k], state[k], t) for k in p}
        for k in p:
            np.testing.assert_allclose(getattr(net, k).numpy(), p[k], rtol=2e-5, atol=2e-6, err_msg=f"step {t}")
    assert int(opt.count) == 5 and float(opt.lr) == pytest.approx(0.05)
    if compiled:
        assert step.traces == ["first call"]


@each_rule
def test_finds_the_bottom_of_a_bowl(name):
    net = Two()
    opt = RULES[name][0].init(net)
    step = sh.jit(update)
    first = float(step(net, opt))
    for _ in range(200):
        last = float(step(net, opt))
    assert last < 0.05 * first


@each_rule
def test_a_tied_parameter_has_one_state(name):
    class Tied(nn.Module):
        def __init__(self):
            self.a = nn.Param(np.float32([1.0, 2.0]))
            self.b = self.a

    net = Tied()
    assert net.aliases() == {"b": "a"}
    opt = RULES[name][0].init(net)
    opt.update(net, sh.grad(lambda m: (m.a * m.b).sum())(net))  # the gradient is the sum, 2 a
    assert opt.paths == ("a",) and not any(path.endswith(".b") for path in opt.cells())
    p = RULES[name][1](np.float64([1, 2]), np.float64([2, 4]), {}, 1)
    np.testing.assert_allclose(net.a.numpy(), p, rtol=1e-5)
    np.testing.assert_array_equal(net.a.numpy(), net.b.numpy())


@each_rule
def test_repr_is_the_call(name):
    rule = RULES[name][0]
    again = eval(repr(rule), {k: getattr(optim, k) for k in optim.__all__})
    assert repr(again) == repr(rule)
    assert repr(rule.init(Two())) == f"Optimizer({rule!r}, 2 parameters, 0 updates)"


def test_a_chain_goes_in_order():
    net, clip = Two(), 0.5
    opt = optim.chain(optim.clip_by_global_norm(clip), optim.sgd(0.1, momentum=0.9)).init(net)
    p, v = dict(START), {k: 0.0 for k in START}
    for _ in range(3):
        update(net, opt)
        g = slope(p)
        scale = min(1, clip / (math.sqrt(sum((x**2).sum() for x in g.values())) + 1e-6))
        v = {k: 0.9 * v[k] + g[k] * scale for k in p}
        p = {k: p[k] - 0.1 * v[k] for k in p}
    for k in p:
        np.testing.assert_allclose(getattr(net, k).numpy(), p[k], rtol=1e-5)
    small = optim.chain(optim.clip_by_global_norm(1e6), optim.sgd(0.1)).init(Two())
    net = Two()
    update(net, small)
    np.testing.assert_allclose(net.a.numpy(), START["a"] - 0.1 * slope(START)["a"], rtol=1e-6)


def test_a_rule_of_ones_own():
    sign = optim.Transform(text="sign()", step=lambda u, p, s, lr: ({k: sh.sign(g) for k, g in u.items()}, s))
    net = Two()
    update(net, optim.chain(sign, optim.scale_by_rate(0.5)).init(net))
    np.testing.assert_allclose(net.a.numpy(), START["a"] - 0.5 * np.sign(slope(START)["a"]))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: optim.sgd(-1.0), "learning rate is -1.0"),
        (lambda: optim.sgd("fast"), "learning rate is 'fast'"),
        (lambda: optim.sgd(0.1, momentum=1.0), "momentum is 1.0"),
        (lambda: optim.sgd(0.1, nesterov=True), "needs a momentum"),
        (lambda: optim.adam(0.1, betas=(0.9, 1.5)), r"betas\[1\] is 1.5"),
        (lambda: optim.adamw(0.1, weight_decay=-1), "weight_decay is -1"),
        (lambda: optim.clip_by_global_norm(0), "max_norm is 0"),
        (lambda: optim.cosine(0.1, 0), "steps is 0"),
        (lambda: optim.cosine(0.1, 5, warmup=5), "warmup is 5"),
        (lambda: optim.one_cycle(0.1, 5, rise=1.0), "rise is 1.0"),
    ],
)
def test_settings_that_cannot_be(make, says):
    with pytest.raises(ValueError, match=says):
        make()
