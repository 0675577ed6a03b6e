"""``distill``: its value and gradient against NumPy, compiled, under methods, with stored logits, resumed, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

import shohin as sh
from shohin import nn, optim
from shohin.compress import PDP, Factorize, Plan, Quantize, distill, with_logits
from shohin.core.errors import CheckpointError, DataError, PlanError, ShapeError
from shohin.train.fit import training_step

F32 = np.float32
X = np.random.default_rng(0).normal(size=(64, 6, 6, 2)).astype(F32)
Y = np.random.default_rng(1).integers(0, 4, 64)
DATA = sh.data.Dataset(X, Y)


def network(width=8, seed=0):
    sh.seed(seed)
    return nn.Sequential(nn.Conv2d(2, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.GlobalAvgPool(), nn.Linear(width, 4))


def loss(net, x, y):
    return nn.cross_entropy(net(x), y)


def softened(v, t):
    e = np.exp(v.astype(np.float64) / t)
    return e / e.sum(1, keepdims=True)


def expected(net, teacher, x, y, alpha, t):
    out, target = net(x).numpy(), teacher(x).numpy()
    p, q = softened(target, t), softened(out, t)
    hard = -np.log(softened(out, 1)[np.arange(len(y)), y]).mean()
    return (1 - alpha) * hard + alpha * t * t * (p * np.log(p / q)).sum(1).mean()


def test_the_value_is_hintons_and_the_teacher_is_a_constant():
    small, teacher = network().eval(), network(16, 1).train()
    taught = distill(loss, teacher, alpha=0.7, temperature=3.0)
    got = sh.jit(lambda net, x, y: sh.value_and_grad(taught)(net, x, y))
    value, grads = got(small, X, Y)
    teacher.eval()
    assert np.isclose(float(value), expected(small, teacher, X, Y, 0.7, 3.0), rtol=1e-5)  # batch norm as in evaluation
    assert grads.keys() == small.cells(nn.Param).keys()
    teacher[4].bias = np.ones(4, F32)  # its values are those of then
    assert float(got(small, X, Y)[0]) == float(value)
    assert np.isclose(float(distill(loss, teacher, alpha=0)(small, X, Y)), float(loss(small, X, Y)))


def test_the_gradient_of_the_soft_part_at_a_high_temperature():
    """Hinton et al., equation 4: for large T it is that of half the squared distance of centred logits, over the classes."""
    sh.seed(0)
    out, target = (np.random.default_rng(k).normal(size=(5, 7)).astype(F32) for k in (0, 1))
    t = 300.0
    soft = lambda v: sh.compress.distill(lambda net, x, y: sh.sum(net(x)) * 0, nn.Identity(), alpha=1.0, temperature=t)(lambda x: v, sh.asarray(target), Y[:5])
    centred = (out - out.mean(1, keepdims=True)) - (target - target.mean(1, keepdims=True))
    np.testing.assert_allclose(sh.grad(soft)(sh.asarray(out)).numpy(), centred / 7 / 5, rtol=0.02, atol=1e-4)


def test_statistics_of_batch_norm_move_once():
    one, two = network(), network()
    for net, f in ((one, loss), (two, distill(loss, network(16, 1)))):
        sh.jit(lambda net, x, y, f=f: f(net, x, y))(net.train(), X, Y)
    np.testing.assert_array_equal(one[1].running_mean.numpy(), two[1].running_mean.numpy())


def test_stored_logits_are_the_same_loss():
    teacher, small = network(16, 1), network().eval()
    stored = with_logits(teacher, DATA, batch=24)
    assert stored.y.shape == (64, 5) and (stored.y[:, 0] == Y).all()
    a = distill(loss, teacher, alpha=0.3)(small, X, Y)
    b = distill(loss, None, alpha=0.3)(small, stored.x, stored.y)
    assert np.isclose(float(a), float(b), rtol=1e-5)
    history = sh.fit(small, distill(loss, None), stored, optim.sgd(0.1).init(small), 2, 16, test=DATA, metric=nn.accuracy, seed=0, progress=False)
    assert history[-1].loss < history[0].loss


def test_it_teaches_what_a_plan_made_and_a_quantized_network_may_teach():
    teacher = network(16, 1).eval()
    plan = Plan([("0", Factorize(rank=2, form="spatial")), ("4", PDP(0.5, ramp=(0, 6))), ("4", Quantize())])
    small = plan.apply(network(4), calibration=X).train()
    opt, taught = optim.sgd(0.05).init(small), distill(loss, teacher, alpha=0.9)
    step = training_step(taught)
    losses = [float(step(small, opt, X, Y)) for _ in range(8)]
    assert losses[-1] < losses[0] and len(step.traces) == 1
    assert (small.eval()._net[4].weight.numpy() == 0).mean() == 0.5
    pupil = network(4, 3).eval()
    again = distill(loss, small, alpha=1.0, temperature=2.0)
    out, target = pupil(X).numpy(), small(X).numpy()
    p, q = softened(target, 2), softened(out, 2)
    assert np.isclose(float(again(pupil, X, Y)), 4 * (p * np.log(p / q)).sum(1).mean(), rtol=1e-4)


def test_a_run_goes_on_and_knows_its_teacher(tmp_path):
    def job(epochs, **other):
        net = network()
        taught = distill(loss, network(16, 1), **other)
        sh.fit(net, taught, DATA, optim.sgd(0.1).init(net), epochs, 16, run=tmp_path / "run", seed=0, progress=False)
        return net

    job(1)
    twice, whole = job(2), network()
    sh.fit(whole, distill(loss, network(16, 1)), DATA, optim.sgd(0.1).init(whole), 2, 16, seed=0, progress=False)
    np.testing.assert_array_equal(twice[4].weight.numpy(), whole[4].weight.numpy())
    with pytest.raises(CheckpointError, match="differs in loss .*alpha=0.5.* -> .*alpha=0.1"):
        job(2, alpha=0.1)


def test_what_it_refuses():
    small, teacher = network(), network(16, 1)
    with pytest.raises(PlanError, match="distill: alpha is 1.5 and temperature 4.0, expected a share"):
        distill(loss, teacher, alpha=1.5)
    with pytest.raises(PlanError, match="temperature 0"):
        distill(loss, teacher, temperature=0)
    with pytest.raises(PlanError, match="teacher is ndarray, expected a module of logits"):
        distill(loss, X)
    with pytest.raises(PlanError, match="loss is Sequential, expected a function"):
        distill(teacher, teacher)
    with pytest.raises(PlanError, match="the loss calls net 2 times, expected once"):
        distill(lambda net, x, y: sh.mean(net(x) + net(x)), teacher)(small, X, Y)
    with pytest.raises(PlanError, match="calls net 0 times"):
        distill(lambda net, x, y: sh.mean(x), teacher)(small, X, Y)
    with pytest.raises(ShapeError, match=r"the network gives f32\[64,4\] and the teacher f32\[64,3\]"):
        distill(loss, nn.Sequential(nn.Flatten(), nn.Linear(72, 3)))(small, X, Y)
    with pytest.raises(ShapeError, match=r"y is i64\[64\], expected a label and logits"):
        distill(loss, None)(small, X, Y)
    with pytest.raises(DataError, match="with_logits: y is float64.*expected integer labels"):
        with_logits(teacher, sh.data.Dataset(X, Y * 1.0))
