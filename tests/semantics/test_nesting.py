"""Random nestings, depth 1 to 4: eager = jit, every effect exactly once (300 in the normal run, 3000 marked slow)."""

import numpy as np
import pytest

import shohin as sh
from tests.semantics.nesting import TRANSPARENT, Cell, calls_of, draw, nest, start

PER_PROGRAM = 15


def eager(names, k):
    """Result, hidden state, calls and generator's counter after one eager run."""
    sh.seed(k)
    net = Cell()
    y = nest(names)(net, sh.asarray(start(k)))
    return y.numpy(), net.h.numpy(), float(net.calls), sh.random.default.counter.read().tolist()


def check(cases):
    """All cases of one program: eager each for itself, compiled together, state by state."""
    alone = {}
    for k in cases:
        names = draw(k)
        y, h, calls, counter = alone[k] = eager(names, k)
        where = f"case {k}: {' > '.join(names)}"
        assert calls == calls_of(names) and counter == [calls_of(names), 0], where
        assert np.all(np.isfinite(y)), where
        if names[0] in TRANSPARENT:  # the outermost transformation leaves the effects of what is inside
            _, inner_h, _, _ = eager(names[1:], k)
            np.testing.assert_allclose(h, inner_h, rtol=1e-4, atol=1e-5, err_msg=where)

    functions = [nest(draw(k)) for k in cases]

    def together(nets, vs):
        return [f(net, v) for f, net, v in zip(functions, nets, vs, strict=True)]

    sh.seed(cases[0])
    nets = [Cell() for _ in cases]
    vs = [sh.asarray(start(k)) for k in cases]
    ys = sh.jit(together)(nets, vs)
    counter = sh.random.default.counter.read().tolist()
    sh.seed(cases[0])
    others = [Cell() for _ in cases]
    expected = together(others, vs)
    assert counter == sh.random.default.counter.read().tolist()
    for k, net, other, y, e in zip(cases, nets, others, ys, expected, strict=True):
        where = f"case {k}: {' > '.join(draw(k))}"
        assert float(net.calls) == float(other.calls) == calls_of(draw(k)), where
        np.testing.assert_allclose(net.h, other.h, rtol=1e-3, atol=1e-4, err_msg=where)
        np.testing.assert_allclose(y, e, rtol=1e-2, atol=1e-3, err_msg=where)
        np.testing.assert_array_equal(net.w, Cell().w)


@pytest.mark.parametrize("first", range(0, 300, PER_PROGRAM))
def test_nestings(first):
    check(range(first, first + PER_PROGRAM))


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1000, 4000, 2 * PER_PROGRAM))
def test_more_nestings(first):
    check(range(first, first + 2 * PER_PROGRAM))


@pytest.mark.parametrize("k", range(8))
def test_a_nesting_as_a_program_of_its_own(k):
    check([k])
