"""state.md, rule 11: arguments that are given away with ``donate=``."""

import numpy as np
import pytest

import shohin as sh
from shohin import nn
from tests.semantics.models import Dense, Hidden, X


def address(t):
    return t.data.ctypes.data


def advance(state, x):
    return state * 0.5 + x, x.sum()


def test_rule_11_a_donated_argument_becomes_the_result():
    step = sh.jit(advance, donate=0)
    state, expected = sh.zeros((8, 3)) + 1.0, np.ones((8, 3), np.float32)
    where = address(state)
    for _ in range(4):
        state, total = step(state, X)
        expected = expected * 0.5 + X
        np.testing.assert_allclose(state, expected, rtol=1e-6)
        assert address(state) == where
        np.testing.assert_allclose(float(total), X.sum(), rtol=1e-4, atol=1e-5)
    assert step.traces == ["first call"]


def test_rule_11_use_after_donation_names_the_argument():
    step = sh.jit(advance, donate=(0,))
    state = sh.zeros((8, 3)) + 1.0
    new, _ = step(state, X)
    for use in (
        lambda: state + 1,
        lambda: state.numpy(),
        lambda: float(state[0, 0]),
        lambda: step(state, X),
        lambda: sh.grad(lambda v: (v * state).sum())(new),
        lambda: Hidden().cells()["h"].write(state[0]),
    ):
        with pytest.raises(sh.LeakError, match=r"argument state of advance, which donates it.*Use the result, or leave state out of donate"):
            use()
    assert "f32[8,3]" in repr(state)
    step(new, X)
    with pytest.raises(sh.LeakError, match="argument state"):
        new.tolist()


def test_rule_11_what_somebody_else_holds_is_not_written_over():
    """A view, a second handle, a cell's value, a NumPy array and a constant stay as they are."""
    step = sh.jit(advance, donate=0)
    m = nn.Module()
    m.h = nn.Buffer(X)
    whole, array = sh.asarray(X) + 0.0, X.copy()
    view, again = whole[:2], sh.asarray(whole, copy=True)
    for given, kept in ((whole, view), (again, again.numpy()), (m.h, m.cells()["h"].read()), (array, array), (sh.const(X), X)):
        before = np.array(kept)
        new, _ = step(given, X)
        np.testing.assert_allclose(new, X * 1.5, rtol=1e-6)
        np.testing.assert_array_equal(np.array(kept), before)
    np.testing.assert_array_equal(m.h, X)


def test_rule_11_one_tensor_at_two_arguments():
    step = sh.jit(lambda a, b: a * 2.0 + b, donate=0)
    t = sh.asarray(np.float32([1, 2, 3])) + 0.0
    assert step(t, t).tolist() == [3, 6, 9]
    both = sh.jit(lambda a, b: (a + b, a - b), donate=(0, 1))
    t = sh.asarray(np.float32([1, 2, 3])) + 0.0
    p, q = both(t, t)
    assert p.tolist() == [2, 4, 6] and q.tolist() == [0, 0, 0]


def test_rule_11_a_donated_value_that_is_read_after_the_result_is_made():
    """The result may take the memory only once nobody reads the argument any more."""
    step = sh.jit(lambda a: (a[::-1] * 2.0, (a * a).sum(), a), donate=0)
    a, total, old = step(sh.asarray(np.float32([1, 2, 3])) + 0.0)
    assert (a.tolist(), float(total), old.tolist()) == ([6, 4, 2], 14, [1, 2, 3])


def test_rule_11_trees_and_names_are_donated():
    def step(x, state):
        return {"a": state["a"] + x, "b": state["b"] * x}

    run = sh.jit(step, donate=1)
    state = {"a": sh.ones(3) * 1.0, "b": sh.ones(3) * 2.0}
    for call in (lambda s: run(2.0, s), lambda s: run(2.0, state=s)):
        old = dict(state)
        state = call(state)
        for name in "ab":
            with pytest.raises(sh.LeakError, match=rf"argument state\['{name}'\] of step"):
                old[name].numpy()
    assert state["a"].tolist() == [5] * 3 and state["b"].tolist() == [8] * 3


def test_rule_11_a_donation_that_gains_nothing_is_an_error():
    x = sh.asarray(X) + 0.0
    for donate, message in (((1,), "names no argument"), ((-1,), "names no argument"), ((0.5,), "names no argument")):
        with pytest.raises(sh.StateError, match=message):
            sh.jit(lambda x: x, donate=donate)
    with pytest.raises(sh.StateError, match="no result has the shape and dtype of argument x.*leave it out of donate"):
        sh.jit(lambda x: x.sum(), donate=0)(x)
    with pytest.raises(sh.StateError, match="argument net holds a module.*in place anyway"):
        sh.jit(lambda net, x: net(x), donate=0)(Dense(), x)
    assert x.shape == (8, 3) and np.isfinite(x.numpy()).all(), "an error donates nothing"


def test_rule_11_inside_another_transformation_nothing_is_donated():
    step = sh.jit(lambda a: a * a, donate=0)
    a = sh.asarray(np.float32([1, 2, 3])) + 0.0
    assert sh.grad(lambda a: step(a).sum())(a).tolist() == [2, 4, 6]
    assert sh.jit(lambda a: step(a) + a)(a).tolist() == [2, 6, 12]
    assert a.tolist() == [1, 2, 3]
