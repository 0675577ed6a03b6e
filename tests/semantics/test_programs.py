"""state.md, rules 11, 12, 14: donation, mode, dtypes; and optimizers beside frozen layers."""

import re

import numpy as np
import pytest

import shohin as sh
from shohin import nn, optim
from shohin.compress import Plan, Quantize
from shohin.train.checkpoint import Position, load_run, save_run
from tests.semantics.models import Counter, Dense, Net, Norm, Tied, X, loss_fn, state_of


def train_step(net, opt, x):
    loss, g = sh.value_and_grad(loss_fn)(net, x)
    opt.update(net, g)
    return loss


# ----------------------------------------------------------------------------------------------- rule 11


def test_rule_11_no_tensor_in_anybodys_hands_changes(runner):
    net = Net()
    opt = optim.sgd(0.5).init(net)
    step = runner(train_step)
    step(net, opt, X)
    held = net.stem.weight
    view = net.stem.weight[0]
    array = net.stem.weight.numpy()
    seen = np.asarray(net.stem.weight)
    residual, back = sh.vjp(lambda n: n.stem(sh.asarray(X)).sum(), net)
    copies = [np.array(t) for t in (held, view, array, seen)]
    for _ in range(3):
        step(net, opt, X)
    for t, was in zip((held, view, array, seen), copies, strict=True):
        np.testing.assert_array_equal(np.array(t), was)
    assert not np.array_equal(net.stem.weight, copies[0])
    back(1.0)
    assert np.isfinite(float(residual))


def test_rule_11_a_buffer_is_updated_in_place_when_nobody_holds_it():
    c = Counter()
    run = sh.jit(lambda c, x: c(x))
    run(c, X)
    address = c.cells()["count"].stored().payload.__array_interface__["data"][0]
    run(c, X)
    assert c.cells()["count"].stored().payload.__array_interface__["data"][0] == address
    held = c.count
    run(c, X)
    assert float(held) == 2 and float(c.count) == 3


def test_rule_11_an_argument_is_not_changed():
    x = np.ones(4, np.float32)
    t = sh.asarray(x)
    y = sh.jit(lambda x: x + 1)(t)
    z = sh.jit(lambda x: x)(t)
    assert t.tolist() == [1] * 4 and y.tolist() == [2] * 4 and z.tolist() == [1] * 4
    x[0] = 9
    assert t.tolist() == [1] * 4


def test_rule_11_a_cell_made_of_an_array_does_not_share_it():
    a = np.zeros(3, np.float32)
    m = nn.Module()
    m.b = nn.Buffer(a)
    a[0] = 1
    assert m.b.tolist() == [0, 0, 0]
    t = sh.ones(3)
    m.b = t
    run = sh.jit(lambda m: setattr(m, "b", m.b + 1))
    run(m)
    run(m)
    assert t.tolist() == [1, 1, 1] and m.b.tolist() == [3, 3, 3]


def test_rule_11_a_returned_value_is_not_the_store():
    """What a step returns of a cell stays as it was when the next step writes the cell."""
    m = Counter()

    @sh.jit
    def step(m, x):
        m(x)
        return m.count

    kept = [step(m, X) for _ in range(3)]
    assert [float(k) for k in kept] == [1, 2, 3]


# ----------------------------------------------------------------------------------------------- rule 12


def test_rule_12_mode_is_scoped(runner):
    net = Net()
    net.body[0].eval()

    def f(net, x):
        with sh.mode(net, training=False):
            y = net(x)
            inside = (net.training, net.norm.training)
        return y, inside, (net.norm.training, net.body[0].training)

    _, inside, after = runner(f)(net, X)
    assert inside == (False, False) and after == (True, False)
    assert net.training and not net.body[0].training
    with pytest.raises(RuntimeError), sh.mode(net, training=False):
        raise RuntimeError
    assert net.training


def test_rule_12_train_and_eval_only_outside():
    net = Net()
    assert net.eval() is net and not net.norm.training
    assert net.train() is net and net.norm.training
    for wrap in (sh.jit, lambda f: lambda n, x: sh.grad(lambda n, x: f(n, x).sum())(n, x)):
        with pytest.raises(sh.StateError, match=r"sh\.mode"):
            wrap(lambda net, x: net.eval()(x))(net, sh.asarray(X))


def test_rule_12_mode_and_requires_grad_are_part_of_the_key():
    net = Net()
    run = sh.jit(lambda net, x: net(x))
    run(net, X)
    net.eval()
    a, b = run(net, X), run(net, X)
    np.testing.assert_array_equal(a, b)
    assert float(net.seen.count) == 3 and len(run.traces) == 2
    net.train()
    run(net, X)
    assert len(run.traces) == 2
    net.requires_grad_(False)
    run(net, X)
    assert len(run.traces) == 3
    assert "mode" in run.traces[1]


def test_rule_12_a_schedule_is_a_buffer_or_a_function(runner):
    net = Dense()
    opt = optim.sgd(lambda count: 0.1 / (1 + sh.astype(count, sh.float32))).init(net)
    step = runner(train_step)
    rates = []
    for _ in range(3):
        step(net, opt, X)
        rates.append(round(float(opt.lr), 4))
    assert rates == [0.1, 0.05, 0.0333]
    if runner is sh.jit:
        assert len(step.traces) == 1


def test_rule_12_writing_the_rate_traces_nothing_anew():
    net = Dense()
    opt = optim.sgd(0.1).init(net)
    step = sh.jit(train_step)
    step(net, opt, X)
    opt.lr = 0.01
    step(net, opt, X)
    assert len(step.traces) == 1 and abs(float(opt.lr) - 0.01) < 1e-8


def test_rule_12_traces_say_what_differed():
    """The path of each thing that differs, what it was and what it is, beside the program that is nearest."""
    run = sh.jit(lambda x, k: x * k)
    run(X, 1)
    run(X[:2], 1)
    run(X[:2], 2)
    run(X[:2], 2.0)
    assert run.traces == ["first call", "x: f32[8,3] -> f32[2,3]", "k: 1 -> 2", "k: 2 -> weak f32[]"]


def test_rule_12_traces_name_the_attribute():
    net, factor = Net(), 1.0

    @sh.jit
    def run(net, batch, how="plain"):
        return net(batch["x"]) * factor

    def why(*args, **keywords):
        run(*args, **keywords)
        return run.traces[-1]

    assert why(net, {"x": X}) == "first call"
    net.norm.eval()
    assert why(net, {"x": X}) == "net.norm: training mode -> evaluation mode"
    net.body[1].cells()["bias"].requires_grad = False
    assert why(net, {"x": X}) == "net.body.1.bias: f32[3] Param -> f32[3] frozen Param"
    net.body.append(Dense(seed=7))
    assert why(net, {"x": X}) == "net.body: list of 2 -> list of 3; net.body.2: new, Dense"
    net.body[0].weight = nn.Param(np.zeros((3, 3), np.float32))
    assert why(net, {"x": X}) == "net.body.0.weight: another f32[3,3] Param"
    net.body[0] = Dense(seed=8)
    assert why(net, {"x": X}) == "net.body.0: another Dense"
    assert why(net, {"x": X[:4]}) == "batch['x']: f32[8,3] -> f32[4,3]"
    assert why(net, {"x": X}, how="other") == "how: new, 'other'"
    factor = 2.0
    assert why(net, {"x": X}) == "captured factor: 1.0 -> 2.0"
    assert why(Net(), {"x": X}).startswith("net: another Net")
    net.norm.table = np.float32([1, 2])
    assert why(net, {"x": X}) == "net.norm.table: new, array([1.0, 2.0])"
    net.eval()
    assert "evaluation mode; and " in why(net, {"x": X}), "of many differences some are named and the rest counted"


def test_rule_12_a_float_attribute_that_changes_says_what_to_use():
    net = Dense()
    net.rate = 0.1
    run = sh.jit(lambda net, x: net(x) * net.rate)
    for net.rate in (0.1, 0.05, 0.025):
        np.testing.assert_allclose(run(net, X), net(X) * net.rate, rtol=1e-5, atol=1e-6)
    assert len(run.traces) == 3
    assert re.match(r"net\.rate: 0\.05 -> 0\.025 .*nn\.Buffer.*function of the count", run.traces[2])


def test_rule_12_evaluate_and_fit_restore_the_mode():
    net = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 2))
    net[1].eval()
    before = [m.training for m in net.modules().values()]
    data = sh.data.Dataset(X, np.arange(8) % 2)
    sh.evaluate(net, data, nn.accuracy, batch=4)
    assert [m.training for m in net.modules().values()] == before
    sh.fit(net, lambda n, x, y: nn.cross_entropy(n(x), y), data, optim.sgd(0.1).init(net), 1, 4, progress=False)
    assert [m.training for m in net.modules().values()] == before

    def fails(out, y):
        raise RuntimeError

    with pytest.raises(RuntimeError):
        sh.evaluate(net, data, fails)
    assert [m.training for m in net.modules().values()] == before


def test_rule_12_calibration_and_export_restore_the_mode(tmp_path):
    net = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 2))
    net[2].eval()
    modes = lambda m: [part.training for part in m.modules().values()]
    before = modes(net)
    small = Plan([("*", Quantize(w=8, a=8))]).apply(net, calibration=X)
    assert modes(net) == before
    sh.export(net, X[:1], device="host", to=tmp_path / "float")
    assert modes(net) == before
    small.train()
    before = modes(small)
    sh.export(small, X[:1], device="host", to=tmp_path / "small")
    assert modes(small) == before and all(before)


# ----------------------------------------------------------------------------------------------- rule 14


def test_rule_14_promotion(runner):
    f = runner(lambda a, b: a + b)
    kinds = lambda a, b: f(sh.zeros(2, dtype=a), sh.zeros(2, dtype=b)).dtype
    assert kinds(sh.int8, sh.uint8) == sh.int16 and kinds(sh.float16, sh.float32) == sh.float32
    assert kinds(sh.float16, sh.bfloat16) == sh.float32
    with pytest.raises(sh.DtypeError, match="int32 and float32 do not promote.*astype"):
        kinds(sh.int32, sh.float32)


def test_rule_14_python_numbers_are_weak(runner):
    for dtype in (sh.float16, sh.bfloat16, sh.float32, sh.float64, sh.int8):
        assert runner(lambda x: x * 2 + 1)(sh.zeros(2, dtype=dtype)).dtype == dtype
    with pytest.raises(sh.DtypeError, match="Python float.*int8"):
        runner(lambda x: x * 2.5)(sh.zeros(2, dtype=sh.int8))


def test_rule_14_arrays_become_tensors_at_a_call():
    class Kind(nn.Module):
        def forward(self, x, other=None):
            return isinstance(x, sh.Tensor), isinstance(other, sh.Tensor)

    assert Kind()(X, other=X) == (True, True)


def test_rule_14_half_computes_in_float32_and_rounds_once(runner):
    for dtype in (sh.float16, sh.bfloat16):
        x = sh.astype(sh.asarray(np.linspace(-3, 3, 50)), dtype)
        y = runner(lambda x: sh.exp(x))(x)
        assert y.dtype == dtype
        np.testing.assert_array_equal(y, np.exp(np.asarray(x).astype(np.float32)).astype(dtype))


def test_rule_14_an_embedding_takes_integers(runner):
    table = nn.Embedding(5, 3)
    for dtype in (np.int32, np.int64, np.uint8):
        assert runner(lambda t, i: t(i))(table, np.array([0, 4], dtype)).shape == (2, 3)
    with pytest.raises(sh.DtypeError, match="astype|integer"):
        runner(lambda t, i: t(i))(table, np.float32([0, 4]))


def test_rule_14_batch_norm_follows_pytorch(runner):
    """Momentum 0.1, unbiased running variance, the biased one for the batch."""
    net = nn.BatchNorm2d(3)
    v = np.random.default_rng(0).normal(2, 3, (4, 5, 5, 3)).astype(np.float32)
    y = runner(lambda net, v: net(v))(net, v)
    flat = v.reshape(-1, 3)
    np.testing.assert_allclose(y, (v - flat.mean(0)) / np.sqrt(flat.var(0) + 1e-5), rtol=1e-3, atol=1e-4)
    values = list(state_of(net).values())
    for expected in (0.1 * flat.mean(0), 0.9 + 0.1 * flat.var(0, ddof=1)):
        assert any(a.shape == (3,) and np.allclose(a, expected, rtol=1e-4) for a in values)


@pytest.mark.parametrize("bad", [np.zeros((2, 3), np.int64), np.zeros((2, 3), np.float64)])
def test_rule_14_a_float_layer_refuses_other_dtypes(bad, runner):
    layer = nn.Linear(3, 2)
    with pytest.raises(sh.DtypeError, match="astype"):
        runner(lambda net, x: net(x))(layer, bad)


# --------------------------------------------------------------------------------- optimizers and frozen layers


def test_an_optimizer_made_before_and_after_freezing(runner):
    """Made before: an error that names what is frozen. Made after: the frozen layer stays, its statistics move."""
    net = Net()
    before = optim.sgd(0.1).init(net)
    net.stem.requires_grad_(False)
    step = runner(train_step)
    with pytest.raises(sh.StateError, match=r"stem\.weight.*frozen"):
        step(net, before, X)
    after = optim.sgd(0.1).init(net)
    was = state_of(net)
    step(net, after, X)
    now = state_of(net)
    np.testing.assert_array_equal(was["stem.weight"], now["stem.weight"])
    assert not np.array_equal(was["body.0.weight"], now["body.0.weight"])
    assert not np.array_equal(was["norm.mean"], now["norm.mean"])


def test_tied_weights_through_grad_optimizer_and_checkpoint(tmp_path, runner):
    """One gradient, one state, one entry in the file; the tie is there again after loading."""
    net = Tied()
    opt = optim.adam(1e-2).init(net)
    runner(train_step)(net, opt, X)
    save_run(tmp_path / "run.safetensors", net, opt, Position(epoch=1, step=1, key=(0, 0), digest="d"))
    other = Tied()
    own = optim.adam(1e-2).init(other)
    load_run(tmp_path / "run.safetensors", other, own)
    assert list(state_of(net)) == ["emb.weight", "emb.bias", "head.bias"] and int(own.count) == 1
    np.testing.assert_array_equal(other.head.weight, net.emb.weight)
    for _ in range(2):
        runner(train_step)(net, opt, X)
        runner(train_step)(other, own, X)
    for path, value in state_of(net).items():
        np.testing.assert_array_equal(state_of(other)[path], value)


def test_the_norm_of_a_shared_program():
    run = sh.jit(lambda n, x: n(x))
    a, b = Norm(), Norm()
    run(a, X)
    run(b, X * 2)
    np.testing.assert_allclose(b.mean, 2 * a.mean.numpy(), rtol=1e-5, atol=1e-7)
