"""The optimizer as state: structure, transformations, schedules."""

import gc
import math
import weakref

import numpy as np
import pytest

import shohin as sh
from shohin import nn, optim

X = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
Y = X[:, :1] * 2 + 1


def loss(net, x, y):
    return nn.mse_loss(net(x), y)


def update(net, opt, x=X, y=Y):
    value, grads = sh.value_and_grad(loss)(net, x, y)
    opt.update(net, grads)
    return value


def net():
    sh.seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))


def test_it_holds_no_reference_to_the_network():
    n = net()
    opt = optim.adam().init(n)
    there = weakref.ref(n)
    del n
    gc.collect()
    assert there() is None and opt.paths == ("0.weight", "0.bias", "2.weight", "2.bias")


def test_state_lies_in_buffers_by_path():
    opt = optim.adam().init(net())
    assert [p for p in opt.cells() if p.endswith("2.bias")] == ["state.mean.2.bias", "state.square.2.bias"]
    assert opt.cells(nn.Param) == {} and list(opt.cells())[:2] == ["count", "lr"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda n: setattr(n[0].weight.cell, "requires_grad", False), "0.weight no longer there or frozen"),
        (lambda n: n.append(nn.Linear(1, 1)), "3.weight, 3.bias new"),
        (lambda n: setattr(n[2], "bias", None), "2.bias no longer there"),
        (
            lambda n: setattr(n[2], "weight", nn.Param(np.zeros((2, 4), np.float32))),
            r"2.weight is f32\[2,4\], but its state",
        ),
    ],
)
def test_another_structure_is_an_error(change, says):
    n = net()
    opt = optim.adam().init(n)
    update(n, opt)
    change(n)
    with pytest.raises(sh.StateError, match=says):
        opt.update(n, sh.grad(lambda m: sum((p.read() ** 2).sum() for p in m.parameters()))(n))
    assert int(opt.count) == 1


def test_frozen_from_the_start_is_left_alone():
    n = net()
    n[0].requires_grad_(False)
    before = n[0].weight.numpy()
    opt = optim.adam(0.1).init(n)
    update(n, opt)
    assert opt.paths == ("2.weight", "2.bias")
    np.testing.assert_array_equal(n[0].weight.numpy(), before)


def test_wrong_calls():
    n = net()
    opt = optim.sgd(0.1).init(n)
    with pytest.raises(sh.StateError, match="gradients are Tensor"):
        opt.update(n, sh.asarray(1.0))
    with pytest.raises(sh.StateError, match="gradients are weight, bias"):
        opt.update(n, sh.grad(lambda m, x: m(x).sum())(nn.Linear(3, 1), X))
    with pytest.raises(sh.StateError, match="the network is list"):
        optim.sgd(0.1).init([n])
    with pytest.raises(sh.StateError, match="no trainable parameter"):
        optim.sgd(0.1).init(nn.ReLU())
    with pytest.raises(sh.StateError, match="no learning rate"):
        optim.clip_by_global_norm(1.0).init(n)
    with pytest.raises(sh.StateError, match="both have a learning rate"):
        optim.chain(optim.sgd(0.1), optim.adam())
    with pytest.raises(sh.StateError, match="argument 0 is float"):
        optim.chain(0.1)


def test_a_number_as_rate_can_change_without_a_new_program():
    n = nn.Linear(3, 1)
    opt = optim.sgd(0.1).init(n)
    step = sh.jit(update)
    step(n, opt, X, Y)
    opt.lr = 0.0
    before = n.weight.numpy()
    step(n, opt, X, Y)
    np.testing.assert_array_equal(n.weight.numpy(), before)
    assert step.traces == ["first call"]


def test_a_schedule_follows_the_count():
    seen = []
    n = nn.Linear(3, 1)
    opt = optim.sgd(optim.linear_warmup(0.4, 4)).init(n)
    step = sh.jit(update)
    for _ in range(5):
        step(n, opt, X, Y)
        seen.append(round(float(opt.lr), 5))
    assert seen == [0.1, 0.2, 0.3, 0.4, 0.4] and step.traces == ["first call"]
    assert repr(opt) == "Optimizer(sgd(linear_warmup(0.4, 4)), 2 parameters, 5 updates)"


def test_a_plain_function_is_a_schedule():
    n = nn.Linear(3, 1)
    opt = optim.sgd(lambda count: 0.1 / (count + 1)).init(n)
    for k in range(3):
        update(n, opt)
        assert float(opt.lr) == pytest.approx(0.1 / (k + 1))


def test_schedules_are_their_formulas():
    half = lambda part, a, b: b + (a - b) * (1 + math.cos(math.pi * part)) / 2
    rule = optim.cosine(2.0, 20, warmup=5, end=0.5)
    for i in range(25):
        want = 2.0 * (i + 1) / 5 if i < 5 else half(min((i - 5) / 15, 1), 2.0, 0.5)
        assert float(rule(i)) == pytest.approx(want, abs=1e-6)
    rule = optim.one_cycle(1.0, 100)
    for i in (0, 10, 29, 60, 99):
        want = half(i / 29, 0.04, 1.0) if i <= 29 else half((i - 29) / 70, 1.0, 0.04 / 1e4)
        assert float(rule(i)) == pytest.approx(want, abs=1e-6)
    rule = optim.linear_warmup(1.0, 4, optim.cosine(1.0, 10))
    assert [round(float(rule(i)), 4) for i in (0, 3, 4, 9)] == [0.25, 1.0, 1.0, 0.5]
    assert repr(rule) == "linear_warmup(1.0, 4, cosine(1.0, 10))"
    assert float(optim.constant(0.3)(sh.asarray(np.int32(7)))) == pytest.approx(0.3)


@pytest.mark.parametrize(
    "rule", [optim.sgd(0.1, momentum=0.9), optim.adam(0.1), optim.chain(optim.clip_by_global_norm(1.0), optim.sgd(0.2))]
)
def test_maml_differentiates_through_an_update(rule):
    """On a copy; the gradient through the inner step equals finite differences, in float64."""
    n = nn.Linear(3, 1)
    for name in ("weight", "bias"):
        setattr(n, name, nn.Param(getattr(n, name).astype(sh.float64)))
    x, y = X.astype(np.float64), Y.astype(np.float64)

    def meta(m):
        fast = sh.copy(m)
        rule.init(fast).update(fast, sh.grad(loss)(fast, x, y))
        return loss(fast, x[:4], y[:4])

    g = sh.grad(meta)(n)
    again = sh.jit(sh.grad(meta))(n)
    for name in ("weight", "bias"):
        start, d = getattr(n, name).numpy(), 1e-5
        probe = np.zeros_like(start)
        probe.flat[0] = d
        ends = []
        for sign in (1, -1):
            setattr(n, name, sh.asarray(start + sign * probe))
            ends.append(float(meta(n)))
        setattr(n, name, sh.asarray(start))
        assert (ends[0] - ends[1]) / (2 * d) == pytest.approx(float(g[name].numpy().flat[0]), rel=2e-3)
        np.testing.assert_allclose(again[name].numpy(), g[name].numpy(), rtol=1e-6)


def test_updating_what_is_being_differentiated_says_copy():
    n = nn.Linear(3, 1)

    def wrong(m):
        optim.sgd(0.1).init(m).update(m, sh.grad(loss)(m, X, Y))
        return loss(m, X, Y)

    with pytest.raises(sh.StateError, match=r"sh\.copy"):
        sh.grad(wrong)(n)


@pytest.mark.parametrize("rule", [optim.sgd(0.1), optim.adamw(0.1), optim.lion(0.01)])
def test_an_ensemble_trains_as_its_members(rule):
    sh.seed(0)
    ensemble = sh.vmap(lambda i: nn.Linear(3, 1))(sh.arange(3))
    opt = sh.vmap(rule.init, in_axes=0)(ensemble)
    singles = []
    for k in range(3):
        one = nn.Linear(3, 1)
        one.weight, one.bias = ensemble.weight[k], ensemble.bias[k]
        singles.append((one, rule.init(one)))
    for _ in range(3):
        sh.vmap(update, in_axes=(0, 0, None, None))(ensemble, opt, X, Y)
        for one, own in singles:
            update(one, own)
    assert opt.count.tolist() == [3, 3, 3]
    for k, (one, _) in enumerate(singles):
        np.testing.assert_allclose(ensemble.weight.numpy()[k], one.weight.numpy(), rtol=1e-5, atol=1e-6)


def test_float16_parameters_stay_float16():
    n = nn.Linear(3, 1)
    for name in ("weight", "bias"):
        setattr(n, name, nn.Param(getattr(n, name).astype(sh.float16)))
    opt = optim.adam(0.1).init(n)
    opt.update(n, sh.grad(lambda m: (m.weight**2).sum() + m.bias.sum())(n))
    assert n.weight.dtype == sh.float16 and opt.state["mean"]["weight"].dtype == sh.float16
