"""Values that wait for late readers are made again where what they come from is kept; the bits stay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import shohin as sh
from shohin import nn
from shohin.compiler import passes, recompute
from shohin.compiler.lowering import lower
from shohin.compiler.program import compile_program, machine
from shohin.core.graph import Graph
from shohin.core.trace import stage
from shohin.ops import math
from shohin.ops.linear import matmul

PASSES = [p for p in passes.PASSES if p is not recompute.recompute]


def traced(f: Callable[..., Any], *arrays: np.ndarray) -> Graph:
    graph = stage(lambda *xs: [f(*xs)], [sh.asarray(a).aval for a in arrays]).graph
    for one in PASSES:
        graph = one(graph)
    return graph


def late(x: Any, w: Any, keep: bool, link: Callable[[Any], Any]) -> Any:
    """gelu(x w) is read at once and, far behind, by a contraction; ``keep`` reads x w there too."""
    h = matmul(x, w)
    a = link(h)
    y = matmul(a, w)
    for _ in range(recompute.FAR):
        y = math.sin(y)
    return matmul(a, y) + h if keep else matmul(a, y)


def ops(graph: Graph, name: str) -> int:
    return sum(n.op.name == name for n in graph.nodes)


def square(n: int = 256) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return tuple(rng.standard_normal((n, n)).astype(np.float32) / n for _ in range(2))  # type: ignore[return-value]


def test_a_chain_of_what_is_kept_runs_again() -> None:
    x, w = square()
    graph = traced(lambda x, w: late(x, w, True, nn.functional.gelu), x, w)
    again = recompute.recompute(graph)
    assert (ops(graph, "gelu"), ops(again, "gelu")) == (1, 2)
    before, after = (compile_program(lower(g, machine("native", 1)), threads=1) for g in (graph, again))
    np.testing.assert_array_equal(before(x, w)[0], after(x, w)[0])
    assert after.plan.peak <= before.plan.peak


def test_what_would_have_to_wait_instead_is_kept() -> None:
    x, w = square()
    graph = traced(lambda x, w: late(x, w, False, nn.functional.gelu), x, w)
    assert ops(recompute.recompute(graph), "gelu") == 1


def test_small_values_and_near_readers_stay() -> None:
    x, w = square(64)
    assert ops(recompute.recompute(traced(lambda x, w: late(x, w, True, nn.functional.gelu), x, w)), "gelu") == 1
    x, w = square()
    near = traced(lambda x, w: matmul(a := nn.functional.gelu(h := matmul(x, w)), matmul(a, h)) + h, x, w)
    assert ops(recompute.recompute(near), "gelu") == 1


def test_random_numbers_are_drawn_once() -> None:
    x, w = square()
    net = nn.Dropout(0.5)

    def f(x: Any, w: Any) -> Any:
        return late(x, w, True, lambda h: net(h))

    with_draws = stage(lambda x, w: [f(x, w)], [sh.asarray(x).aval, sh.asarray(w).aval]).graph
    for one in PASSES:
        with_draws = one(with_draws)
    count = lambda g: sum(n.op.kind == "random" for n in g.nodes)
    assert count(recompute.recompute(with_draws)) == count(with_draws) > 0
