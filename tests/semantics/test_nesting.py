"""Random nestings, depth 1 to 4: eager = jit, every effect exactly once (300 in the normal run, 3000 marked slow)."""

import numpy as np
import pytest

import shohin as sh
from shohin.ops.control import run_numpy
from tests.semantics.nesting import TRANSPARENT, Cell, calls_of, draw, nest, start

PER_PROGRAM = 15


def eager(names, k):
    """Result, hidden state, calls and generator's counter after one eager run."""
    sh.seed(k)
    net = Cell()
    y = nest(names)(net, sh.asarray(start(k)))
    return y.numpy(), net.h.numpy(), float(net.calls), sh.random.default.counter.read().tolist()


def compiled(together, nets, vs):
    return sh.jit(together)(nets, vs)


def staged(together, nets, vs):
    """The program that jit would compile, by the NumPy references of its ops."""
    program = sh.trace(together)(nets, vs)
    values = [t.numpy() for t in vs] + [c.read().numpy() for c in program.cells]
    out = run_numpy(program.graph, values)
    for cell, value in zip(program.writes, out[len(vs) :], strict=True):
        cell.write(value)
    return out[: len(vs)]


def check(cases, run=compiled):
    """All cases of one program: eager one after another, then staged or compiled together, state by state."""
    functions = [nest(draw(k)) for k in cases]
    vs = [sh.asarray(start(k)) for k in cases]
    sh.seed(cases[0])
    others, expected, drawn = [Cell() for _ in cases], [], 0
    for k, f, net, v in zip(cases, functions, others, vs, strict=True):
        names = draw(k)
        where = f"case {k}: {' > '.join(names)}"
        expected.append(f(net, v))
        drawn += calls_of(names)
        assert float(net.calls) == calls_of(names), where
        assert sh.random.default.counter.read().tolist() == [drawn, 0], where
        assert np.all(np.isfinite(expected[-1])), where

    def together(nets, vs):
        return [f(net, v) for f, net, v in zip(functions, nets, vs, strict=True)]

    sh.seed(cases[0])
    nets = [Cell() for _ in cases]
    ys = run(together, nets, vs)
    assert sh.random.default.counter.read().tolist() == [drawn, 0]
    for k, net, other, y, e in zip(cases, nets, others, ys, expected, strict=True):
        where = f"case {k}: {' > '.join(draw(k))}"
        assert float(net.calls) == calls_of(draw(k)), where
        np.testing.assert_allclose(net.h, other.h, rtol=1e-3, atol=1e-4, err_msg=where)
        np.testing.assert_allclose(y, e, rtol=1e-2, atol=1e-3, err_msg=where)
        np.testing.assert_array_equal(net.w, Cell().w)


@pytest.mark.parametrize("k", [k for k in range(300) if draw(k)[0] in TRANSPARENT][::8])
def test_the_outermost_leaves_the_effects_of_what_is_inside(k):
    names = draw(k)
    _, h, calls, counter = eager(names, k)
    _, inner_h, inner_calls, inner_counter = eager(names[1:], k)
    np.testing.assert_allclose(h, inner_h, rtol=1e-4, atol=1e-5)
    assert (calls, counter) == (inner_calls, inner_counter)


@pytest.mark.parametrize("first", range(0, 75, PER_PROGRAM))
def test_nestings_compiled(first):
    check(range(first, first + PER_PROGRAM))


@pytest.mark.parametrize("first", range(75, 300, PER_PROGRAM))
def test_nestings_staged(first):
    check(range(first, first + PER_PROGRAM), staged)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1000, 4000, 2 * PER_PROGRAM))
def test_more_nestings(first):
    check(range(first, first + 2 * PER_PROGRAM))


@pytest.mark.parametrize("k", range(4))
def test_a_nesting_as_a_program_of_its_own(k):
    check([k])
