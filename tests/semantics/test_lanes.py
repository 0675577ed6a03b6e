"""state.md, rules 8 to 10: vmap, control flow, random numbers."""

import numpy as np
import pytest

import shohin as sh
from shohin import nn, optim
from tests.semantics.models import Counter, Dense, Dropout, Hidden, Norm, X, loss_fn


def test_rule_08_tensors_by_axis_0_modules_unbatched(runner):
    net = Dense()
    y = runner(lambda net, v: sh.vmap(lambda net, v: net(v))(net, v))(net, X)
    np.testing.assert_allclose(y, net(X), rtol=1e-5, atol=1e-6)


def test_rule_08_in_axes_and_out_axes(runner):
    f = lambda a, b: sh.vmap(lambda a, b: a * b, in_axes=(1, None), out_axes=1)(a, b)
    a, b = np.arange(6, dtype=np.float32).reshape(2, 3), np.float32([1, 2])
    np.testing.assert_allclose(runner(f)(a, b), a * b[:, None])


def test_rule_08_an_ensemble_is_what_vmap_of_a_constructor_returns(runner):
    class Random(nn.Module):
        def __init__(self):
            self.weight = nn.Param(sh.random.normal((3, 3)))
            self.mean = nn.Buffer(np.zeros(3, np.float32))

        def forward(self, v):
            self.mean = self.mean * 0.5 + v * 0.5
            return sh.matmul(self.weight, v)

    ensemble = sh.vmap(Random, size=4)()
    assert ensemble.weight.shape == (4, 3, 3) and ensemble.mean.shape == (4, 3)
    assert not np.allclose(ensemble.weight[0], ensemble.weight[1])
    opt = sh.vmap(optim.adam(1e-2).init, in_axes=0)(ensemble)
    assert opt.cells()["count"].shape == (4,)

    def step(net, opt, v):
        def one(net, opt, v):
            loss, g = sh.value_and_grad(lambda net, v: (net(v) ** 2).sum())(net, v)
            opt.update(net, g)
            return loss

        return sh.vmap(one, in_axes=(0, 0, None))(net, opt, v)

    before = ensemble.weight.numpy()
    losses = runner(step)(ensemble, opt, X[0])
    assert losses.shape == (4,) and not np.allclose(before, ensemble.weight)
    np.testing.assert_allclose(ensemble.mean, np.broadcast_to(X[0] * 0.5, (4, 3)), rtol=1e-5)
    assert opt.count.tolist() == [1, 1, 1, 1]
    for k in range(4):  # a lane is what training alone would give
        alone = Random()
        alone.weight = before[k]
        own = optim.adam(1e-2).init(alone)
        g = sh.grad(lambda net, v: (net(v) ** 2).sum())(alone, sh.asarray(X[0]))
        own.update(alone, g)
        np.testing.assert_allclose(alone.weight, ensemble.weight[k], rtol=1e-4, atol=1e-6)


def test_rule_08_a_batched_write_to_an_unbatched_cell(runner):
    """pytorch#85533: batch norm under vmap."""
    net = nn.Module()
    net.stem, net.norm = Dense(), Norm()
    f = lambda net, v: sh.vmap(lambda net, v: net.norm(net.stem(v)))(net, v)
    with pytest.raises(sh.BatchError, match=r"norm\.mean.*one value for all lanes.*in_axes.*join.*evaluation"):
        runner(f)(net, X[:, None])
    with sh.mode(net, training=False):
        assert runner(f)(net, X[:, None]).shape == (8, 1, 3)
    assert net.norm.mean.tolist() == [0, 0, 0]


@pytest.mark.parametrize("join, expected", [("max", 7.0), ("mean", 3.5), ("sum", 28.0)])
def test_rule_08_a_buffer_may_say_how_lanes_become_one(join, expected, runner):
    m = nn.Module()
    m.seen = nn.Buffer(np.float32(0), join=join)

    def lane(m, v):
        m.seen = v
        return m.seen * 1.0

    y = runner(lambda m, v: sh.vmap(lane)(m, v))(m, np.arange(8, dtype=np.float32))
    assert float(m.seen) == expected
    assert y.tolist() == list(range(8))


def test_rule_08_cells_by_kind(runner):
    net = Hidden()
    wide = sh.vmap(Hidden, size=2)()
    wide.w, wide.u = nn.Param(net.w), nn.Param(net.u)
    run = lambda m, v: sh.vmap(lambda m, v: m(v), in_axes=({nn.Param: None, nn.Buffer: 0}, 0))(m, v)
    runner(run)(wide, X[:2])
    np.testing.assert_allclose(wide.h[1], np.tanh(net.w.numpy() * X[1]), rtol=1e-5)


def test_rule_08_cell_shape_is_a_lanes():
    wide = sh.vmap(Hidden, size=2)()
    seen = []

    def f(m, v):
        seen.append(m.cells()["h"].shape)
        return m(v)

    sh.vmap(f, in_axes=(0, 0))(wide, sh.asarray(X[:2]))
    assert seen == [(3,)] and wide.cells()["h"].shape == (2, 3)


def test_rule_08_per_example_gradients(runner):
    net = Dense()

    def f(net, v):
        with sh.mode(net, training=False):
            return sh.vmap(sh.grad(loss_fn), in_axes=(None, 0))(net, v)

    g = runner(f)(net, X)
    for k in range(len(X)):
        np.testing.assert_allclose(
            g["weight"][k], sh.grad(loss_fn)(net, sh.asarray(X[k]))["weight"], rtol=1e-4, atol=1e-6
        )


def test_rule_08_written_buffers_of_an_ensemble_under_batch_norm(runner):
    wide = sh.vmap(Norm, size=3)()
    v = np.random.default_rng(0).normal(size=(3, 8, 3)).astype(np.float32)
    runner(lambda m, v: sh.vmap(lambda m, v: m(v), in_axes=(0, 0))(m, v))(wide, v)
    np.testing.assert_allclose(wide.mean, v.mean(1) * 0.1, rtol=1e-4, atol=1e-6)


# ------------------------------------------------------------------------------------------------ rule 9


def test_rule_09_bodies_are_traced_in_eager_too():
    calls = []
    sh.scan(lambda c, v: (calls.append(1), (c + v, c))[1], sh.asarray(0.0), sh.ones(5))
    assert len(calls) == 1


def test_rule_09_written_cells_are_carries(runner):
    net = Hidden()
    other = Hidden()
    runner(lambda net, v: sh.scan(lambda c, s: (c, net(s)), sh.asarray(0.0), v)[1])(net, X)
    for row in X:
        other(row)
    np.testing.assert_allclose(net.h, other.h, rtol=1e-5)


def test_rule_09_carries_are_checked(runner):
    with pytest.raises(sh.ShapeError, match=r"carry is f32\[\].*returns f32\[1\]"):
        runner(lambda v: sh.scan(lambda c, s: (c[None], s), sh.asarray(0.0), v))(X)
    with pytest.raises(sh.ShapeError, match="carry"):
        runner(lambda v: sh.scan(lambda c, s: (sh.astype(c, sh.int32), s), sh.asarray(0.0), v))(X)
    net = Hidden()

    def bad(c, s):
        net.h = sh.zeros(4)
        return c, s

    with pytest.raises(sh.StateError, match=r"h: f32\[3\]"):
        sh.scan(bad, sh.asarray(0.0), sh.asarray(X))


def test_rule_09_cond_joins_the_writes_of_both_branches(runner):
    a, b = Counter(), Counter()
    m = nn.Module()
    m.a, m.b = a, b
    run = runner(lambda m, p, v: sh.cond(p > 0, lambda v: m.a(v), lambda v: m.b(v) * 2, v))
    one = sh.asarray([1.0])
    assert run(m, sh.asarray(1.0), one).tolist() == [1]
    assert (float(a.count), float(b.count)) == (1, 0)
    assert run(m, sh.asarray(-1.0), one).tolist() == [2]
    assert (float(a.count), float(b.count)) == (1, 1)


def test_rule_09_branches_must_agree(runner):
    with pytest.raises(sh.ShapeError, match=r"cond: one branch gives f32\[8,3\].*other f32\[8\]"):
        runner(lambda v: sh.cond(v.sum() > 0, lambda v: v, lambda v: v[:, 0], v))(X)
    with pytest.raises(sh.ShapeError, match="structures"):
        runner(lambda v: sh.cond(v.sum() > 0, lambda v: v, lambda v: (v, v), v))(X)


def test_rule_09_modules_in_xs_are_sliced(runner):
    """Layers as one loop, their written cells stacked."""

    class Layer(nn.Module):
        def __init__(self):
            self.weight = nn.Param(sh.random.normal((3, 3)))
            self.last = nn.Buffer(np.zeros(3, np.float32))

        def forward(self, v):
            y = sh.tanh(sh.matmul(self.weight, v))
            self.last = y
            return y

    layers = sh.vmap(Layer, size=4)()
    run = runner(lambda layers, v: sh.scan(lambda v, layer: (layer(v), None), v, layers)[0])
    y = run(layers, X[0])
    v, rows = X[0], []
    for k in range(4):
        v = np.tanh(layers.weight[k].numpy() @ v)
        rows.append(v)
    np.testing.assert_allclose(y, v, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(layers.last, np.stack(rows), rtol=1e-4, atol=1e-6)
    g = runner(lambda layers, v: sh.grad(lambda m, v: sh.scan(lambda v, m: (m(v), None), v, m)[0].sum())(layers, v))(
        layers, X[0]
    )
    assert g["weight"].shape == (4, 3, 3) and float(abs(g["weight"]).min(axis=(1, 2)).min()) > 0


def test_rule_09_while_loop_has_no_reverse_mode(runner):
    f = lambda v: sh.while_loop(lambda s: s.sum() < 10, lambda s: s * 2, v).sum()
    assert float(runner(f)(sh.asarray([1.0, 2.0]))) == 12
    _, t = runner(lambda v: sh.jvp(f, (v,), (sh.ones_like(v),)))(sh.asarray([1.0, 2.0]))
    assert float(t) == 8
    with pytest.raises(sh.GradientError, match="while_loop has no reverse mode.*sh.scan"):
        runner(lambda v: sh.grad(f)(v))(sh.asarray([1.0, 2.0]))


def test_rule_09_while_loop_carries_written_cells(runner):
    c = Counter()
    run = runner(lambda c, v: sh.while_loop(lambda s: s < 100.0, lambda s: c(s) * 2, v))
    assert float(run(c, sh.asarray(1.0))) == 128
    assert float(c.count) == 7
    with pytest.raises(sh.StateError, match="test writes.*count"):
        runner(lambda c, v: sh.while_loop(lambda s: c(s) < 100.0, lambda s: s * 2, v))(c, sh.asarray(1.0))


def test_rule_09_reverse_and_length(runner):
    f = lambda v: sh.scan(lambda c, s: (c * 2 + s, c), sh.asarray(0.0), v, reverse=True)
    carry, ys = runner(f)(np.float32([1, 2, 3]))
    assert float(carry) == 17 and ys.tolist() == [8, 3, 0]
    n, _ = runner(lambda v: sh.scan(lambda c, _: (c + v, None), sh.asarray(0.0), length=5))(sh.asarray(2.0))
    assert float(n) == 10


# ----------------------------------------------------------------------------------------------- rule 10


def test_rule_10_seed_outside_only(runner):
    def f(v):
        sh.seed(1)
        return v

    for wrap in (sh.jit, lambda f: sh.grad(lambda v: f(v).sum()), sh.vmap):
        with pytest.raises(sh.StateError, match="sh.seed cannot be called inside"):
            wrap(f)(sh.asarray([1.0]))


def test_rule_10_the_same_numbers_eager_and_compiled():
    def draw():
        return (
            sh.random.uniform((2, 3)),
            sh.random.normal(5),
            sh.random.randint(0, 10, 4),
            sh.random.bernoulli(0.5, 6),
            sh.random.permutation(7),
        )

    sh.seed(11)
    a = draw()
    b = draw()
    sh.seed(11)
    run = sh.jit(draw)
    c, d = run(), run()
    for x, y in zip((*a, *b), (*c, *d), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)
    assert a[0].tolist() != b[0].tolist()


def test_rule_10_vmap_folds_the_lane_into_the_key_and_the_counter_stays_one(runner):
    sh.seed(1)
    y = runner(lambda v: sh.vmap(lambda v: v * 0 + sh.random.uniform(4))(v))(np.zeros((3, 4), np.float32))
    assert len({tuple(r) for r in y.tolist()}) == 3
    assert sh.random.default.counter.read().tolist() == [1, 0]
    key = sh.random.default.key.read()
    for k in range(3):
        np.testing.assert_array_equal(sh.random.uniform(4, key=sh.random.fold_in(key, k)), y[k])


def test_rule_10_cond_advances_by_the_larger_branch(runner):
    f = lambda p: sh.cond(p > 0, lambda: sh.random.uniform(9).sum(), lambda: sh.random.uniform(1).sum())
    counters = []
    for p in (1.0, -1.0):
        sh.seed(2)
        runner(f)(sh.asarray(p))
        counters.append(sh.random.default.counter.read().tolist())
    assert counters == [[3, 0], [3, 0]]


def test_rule_10_scan_draws_anew_each_step(runner):
    sh.seed(3)
    _, ys = runner(lambda: sh.scan(lambda c, _: (c, sh.random.uniform(2)), sh.asarray(0.0), length=3))()
    sh.seed(3)
    np.testing.assert_allclose(ys, np.stack([sh.random.uniform(2).numpy() for _ in range(3)]), rtol=1e-6)


def test_rule_10_explicit_keys_use_no_state(runner):
    before = sh.random.default.counter.read().tolist()
    key = sh.random.key(5)
    f = lambda k: (sh.random.uniform(3, key=k), *(sh.random.uniform(3, key=s) for s in sh.random.split(k)))
    a, b, c = runner(f)(key)
    assert sh.random.default.counter.read().tolist() == before
    assert len({tuple(t.tolist()) for t in (a, b, c)}) == 3
    np.testing.assert_array_equal(a, f(key)[0])


def test_rule_10_dropout_differs_by_call_and_repeats_by_seed(runner):
    drop = Dropout()
    run = runner(lambda d, v: d(v))
    sh.seed(1)
    a, b = run(drop, X), run(drop, X)
    sh.seed(1)
    np.testing.assert_array_equal(run(drop, X), a)
    assert not np.array_equal(a, b)


def test_batch_norm_under_vmap_checkpoint_and_scan(runner):
    """Each of the three used to update the statistics twice, or not at all, somewhere."""
    v = np.random.default_rng(1).normal(size=(4, 8, 3)).astype(np.float32)
    ways = {
        "checkpoint": lambda net, v: [sh.checkpoint(lambda n, u: n(u))(net, v[k]) for k in range(4)],
        "scan": lambda net, v: sh.scan(lambda c, u: (c, net(u)), sh.asarray(0.0), v),
        "scan of checkpoint": lambda net, v: sh.scan(
            lambda c, u: (c, sh.checkpoint(lambda n, u: n(u))(net, u)), sh.asarray(0.0), v
        ),
        "grad of scan": lambda net, v: sh.grad(
            lambda net: sh.scan(lambda c, u: (c + net(u).sum(), None), sh.asarray(0.0), v)[0]
        )(net),
    }
    expected = np.zeros(3)
    for k in range(4):
        expected = expected * 0.9 + v[k].mean(0) * 0.1
    for name, way in ways.items():
        net = Norm()
        runner(way)(net, v)
        np.testing.assert_allclose(net.mean, expected, rtol=1e-4, atol=1e-6, err_msg=name)
