"""A factor that is constant along a sum, and a sign, leave it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import shohin as sh
from shohin.compiler import passes
from shohin.core.trace import stage

X = np.random.default_rng(0).standard_normal((6, 5, 7)).astype(np.float32)


def terms(f: Any, *arrays: np.ndarray) -> str:
    graph = passes.optimize(stage(lambda *v: [f(*v)], [sh.asarray(a).aval for a in arrays]).graph)
    (total,) = [n for n in graph.nodes if n.op.name == "sum"]
    made = {v: n.op.name for n in graph.nodes for v in n.results}
    return made.get(total.operands[0], "input")


@pytest.mark.parametrize(
    ("f", "factor"),
    [
        (lambda x, s: (x * s).sum(axis=(0, 1)), (7,)),
        (lambda x, s: (-(s * x)).sum(axis=(0, 1)), (7,)),
        (lambda x, s: (x * s).sum(axis=0), (1, 5, 1)),
        (lambda x, s: (x * s).sum(), ()),
        (lambda x, s: -(-x * s).sum(axis=2), (6, 5, 1)),
    ],
)
def test_it_leaves(f: Any, factor: tuple[int, ...]) -> None:
    s = np.random.default_rng(1).standard_normal(factor).astype(np.float32)
    assert terms(f, X, s) in ("input", "negative")
    np.testing.assert_allclose(np.asarray(sh.jit(f)(X, s).tolist()), np.asarray(f(sh.asarray(X), sh.asarray(s)).tolist()), rtol=1e-4, atol=1e-5)


def test_a_factor_that_varies_along_the_sum_stays() -> None:
    assert terms(lambda x, s: (x * s).sum(axis=(0, 1)), X, np.ones((5, 1), np.float32)) == "multiply"
    assert terms(lambda x, y: (x * y).sum(axis=(0, 1)), X, X) == "multiply"


def test_integers_are_left_alone() -> None:
    assert terms(lambda x, s: (x * s).sum(axis=0), np.ones((4, 3), np.int64), np.ones((3,), np.int64)) == "multiply"
