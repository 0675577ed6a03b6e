"""FLOP and bytes are those of the steps, time is within a run, the table says who did what; the roof is a rate of this machine."""

from dataclasses import replace

import numpy as np
import pytest

import shohin as sh
from shohin import nn, optim
from shohin.compiler.kernel import GENERIC
from shohin.core import dtypes, loop
from shohin.core.nest import Acc, Buffer, Jump, KernelCall, Loop, Nest, Out
from shohin.deploy.profile import layer_of, op_of, profile
from shohin.deploy.roofline import Roof, roof
from shohin.deploy.work import Values, Work, work_of

F32 = dtypes.float32
I, J, K = (loop.Var(n) for n in "ijk")


def buffers(**shapes):
    return {n: Buffer(n, s, F32, "temp") for n, s in shapes.items()}


def load(name, *index):
    return loop.Load(name, index, F32)


def test_a_matrix_product_counts_two_a_term_and_each_buffer_once():
    fold = Acc(("acc",), "fma", (loop.const(0, F32),), (load("a", I, K), load("b", K, J)), (F32,))
    step = Nest((Loop("i", 4), Loop("j", 5)), (Loop("k", 6),), (fold,), (Out("y", (I, J), loop.Name("acc", F32)),), "sequence", "matmul")
    assert work_of(step, buffers(a=(4, 6), b=(6, 5), y=(4, 5)), GENERIC) == Work(2 * 4 * 5 * 6, 4 * (24 + 30 + 20))


def test_what_depends_on_fewer_loops_counts_there():
    scale = loop.Un("sqrt", load("v", J) + 1.0)  # 2 a channel
    step = Nest((Loop("i", 100), Loop("j", 3)), (), (), (Out("y", (I, J), load("x", I, J) * scale),), "sequence", "scaled")
    assert work_of(step, buffers(x=(100, 3), v=(3,), y=(100, 3)), GENERIC) == Work(2 * 3 + 300, 4 * (300 + 3 + 300))


def test_a_part_that_is_written_twice_counts_once():
    part = load("x", I) * 2.0
    twin = load("x", I) * 2.0
    step = Nest((Loop("i", 10),), (), (), (Out("y", (I,), part + twin),), "sequence", "twice")
    assert work_of(step, buffers(x=(10,), y=(10,)), GENERIC) == Work(20, 80)


def test_a_deep_chain_of_shared_parts_is_counted_in_no_time():
    e = load("x", I)
    for _ in range(200):  # as a tree it has 2^200 nodes
        e = e + e
    step = Nest((Loop("i", 10),), (), (), (Out("y", (I,), e),), "sequence", "deep")
    assert work_of(step, buffers(x=(10,), y=(10,)), GENERIC).flop == 2000


def test_a_slice_moves_what_it_touches_and_an_index_is_no_work():
    step = Nest((Loop("i", 10),), (), (), (Out("y", (I,), load("x", I + 5)),), "sequence", "slice")
    assert work_of(step, buffers(x=(1000,), y=(10,)), GENERIC) == Work(0, 80)
    assert work_of(Jump(0, None, True, "loop"), {}, GENERIC) == Work(0, 0)


def test_values_know_their_loops():
    values = Values([load("x", I) * load("v", J)])
    assert {frozenset(values.loops(e)) for e in values.loads()} == {frozenset("i"), frozenset("j")}


@pytest.fixture(scope="module")
def step():
    sh.seed(0)
    net = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.GlobalAvgPool(), nn.Linear(16, 4))
    opt = optim.sgd(0.1).init(net)

    def step(net, opt, x, y):
        loss, grads = sh.value_and_grad(lambda net, x, y: nn.cross_entropy(net(x), y))(net, x, y)
        opt.update(net, grads)
        return loss

    return sh.jit(step, threads=1), net, opt, np.ones((8, 12, 12, 3), np.float32), np.zeros(8, np.int64)


def test_a_training_step(step):
    f, net, opt, x, y = step
    before = {k: c.read().data.copy() for k, c in net.cells().items()}
    found = profile(f, net, opt, x, y, repeats=3)
    assert all(np.array_equal(before[k], c.read().data) for k, c in net.cells().items())  # nothing is written
    forward = next(r for r in found.rows if r.place.startswith("0/conv2d"))
    taps = sum(min(i + 1, 11) - max(i - 1, 0) + 1 for i in range(12)) ** 2  # those inside the image, over all positions
    assert forward.kernel and forward.flop >= 2 * 8 * taps * 3 * 16
    assert forward.bytes >= 4 * (x.size + 16 * 27 + 8 * 144 * 16)
    assert any(not r.kernel for r in found.rows) and any("conv2d_dw" in r.kernel for r in found.rows)
    assert 0 < found.seconds < 60 * found.whole + 0.1 and all(r.seconds >= 0 for r in found.rows)
    assert sum(r.seconds for r in found.by_kernel().values()) == pytest.approx(found.seconds)
    assert sum(r.flop for r in found.by_layer().values()) == pytest.approx(sum(r.flop for r in found.rows))
    assert found.top(1)[0].seconds == max(r.seconds for r in found.rows)
    assert forward.place in str(found) and "in derived loops" in found.summary()


def test_a_contraction_that_no_kernel_takes_says_who_declined():
    a = np.ones((8, 8), np.float64)
    row = next(r for r in profile(sh.jit(lambda a: a @ a, threads=1), a, repeats=2).rows if "matmul" in r.place)
    assert row.kernel == "" and "declined by" in row.why and "matmul_f32" in row.why


def test_a_loop_of_whole_steps_adds_up_its_turns():
    def turns(n):
        return sh.jit(lambda x: sh.scan(lambda c, _: (sh.sin(c) @ c, c.sum()), x, None, length=n)[0], threads=1)

    x = np.full((96, 96), 1e-3, np.float32)
    few, many = (profile(turns(n), x, repeats=5).seconds for n in (4, 64))
    assert many > 4 * few


def test_what_is_no_compiled_function():
    with pytest.raises(TypeError, match="sh.jit"):
        profile(lambda x: x, np.ones(3))


def test_places():
    assert (op_of("stem'/conv2d_dw#0"), layer_of("stem'/conv2d_dw#0")) == ("conv2d_dw", "stem'")
    assert (op_of("copy to in3"), layer_of("/relu#0")) == ("copy", "(no layer)")


def test_the_roof_is_a_rate_of_this_machine():
    found = roof(1)
    assert 1e8 < found.flops < 1e13 and all(1e8 < rate < 1e13 for _, rate in found.bandwidth)
    assert found is roof(1)
    with pytest.raises(ValueError, match="at least 1"):
        roof(0)
    small = Roof(100.0, 400.0, ((10, 50.0), (20, 25.0)), 1)
    assert small.seconds(200, 10) == 2.0 and small.seconds(200, 10, int8=True) == 0.5 and small.seconds(0, 15) == 15 / 25
    assert small.seconds(0, 100) == 4.0  # larger than all that was measured: the slowest


def test_what_a_kernel_makes_in_scratch_is_work_and_no_traffic():
    sh.seed(0)
    net = nn.Sequential(nn.Conv2d(8, 16, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 8, 1))
    f = sh.jit(lambda net, x: sh.value_and_grad(lambda net, x: (net(x) * net(x)).mean())(net, x)[1], threads=1)
    program = f.lower(net, np.ones((4, 16, 16, 8), np.float32)).compiled.program
    table = {b.name: b for b in program.buffers}
    fused = [s for s in program.steps if isinstance(s, KernelCall) and s.staged]
    assert fused
    for call in fused:
        with_nests, without = (work_of(c, table, GENERIC) for c in (call, replace(call, staged=(), folds=())))
        made = {o.buffer for nest in call.staged for o in nest.outs}
        assert with_nests.flop > without.flop
        read = {e.buffer for nest in call.staged for o in nest.outs for e in loop.walk(o.value) if isinstance(e, loop.Load)}
        assert with_nests.bytes <= without.bytes - sum(table[b].nbytes for b in made) + sum(table[b].nbytes for b in read | {o.buffer for n in call.folds for o in n.outs})
