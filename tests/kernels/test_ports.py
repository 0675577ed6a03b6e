"""Nests that kernels take along (ports load and statistic): the same bits as passes of their own, over odd sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import shohin as sh
import shohin.kernels
from shohin import nn
from shohin.compiler import lowering, passes
from shohin.compiler.build import cpu_features
from shohin.compiler.program import compile_program, machine
from shohin.core.nest import KernelCall, Program
from shohin.core.trace import stage
from shohin.ops import linear


@dataclass(frozen=True)
class Case:
    """Two convolutions with a batch norm and an activation between; ``groups`` of the second: 1 or all channels."""

    n: int
    size: tuple[int, int]
    channels: tuple[int, int, int]
    kernel: int
    stride: int
    depthwise: bool
    level: str
    threads: int

    def graph(self) -> Any:
        i, c, o = self.channels
        o = c if self.depthwise else o
        second = {"stride": self.stride, "padding": self.kernel // 2, "groups": c if self.depthwise else 1}

        def loss(w1: Any, w2: Any, gamma: Any, beta: Any, x: Any, t: Any) -> Any:
            y = linear.conv2d(x, w1)
            z, _, _ = nn.batch_norm(y, gamma, beta, training=True)
            out = linear.conv2d(nn.relu6(z), w2, **second)
            a, _, _ = nn.batch_norm(out, training=True)
            return (nn.hardswish(a) * t).sum()

        h, w = ((s + 2 * (self.kernel // 2) - self.kernel) // self.stride + 1 for s in self.size)
        shapes = [(c, 1, 1, i), (o, self.kernel, self.kernel, 1 if self.depthwise else c), (c,), (c,), (self.n, *self.size, i), (self.n, h, w, o)]
        grads = sh.grad(loss, argnums=(0, 1, 2, 3, 4))
        rng = np.random.default_rng(0)
        arrays = [rng.standard_normal(s).astype(np.float32) for s in shapes]
        graph = stage(lambda *v: list(grads(*v)), [sh.asarray(a).aval for a in arrays]).graph
        return graph, arrays


def _plain(program: Program) -> Program:
    """The nests before and after their kernels."""
    steps: list[Any] = []
    for step in program.steps:
        if isinstance(step, KernelCall):
            made = {out.buffer for s in steps if not isinstance(s, KernelCall) and hasattr(s, "outs") for out in s.outs}
            steps += [n for n in step.staged if n.outs[0].buffer not in made]
            steps += [KernelCall(step.kernel, step.operands, step.results, step.attrs, step.ports, step.place), *step.folds]
        else:
            steps.append(step)
    return Program(program.buffers, tuple(steps), program.data)


def check(case: Case) -> tuple[int, int]:
    graph, arrays = case.graph()
    program = lowering.lower(passes.optimize(graph), machine(case.level, case.threads))
    calls = [s for s in program.steps if isinstance(s, KernelCall)]
    got = compile_program(program, level=case.level, threads=case.threads)(*arrays)
    want = compile_program(_plain(program), level=case.level, threads=1)(*arrays)
    for g, w in zip(got, want, strict=True):
        np.testing.assert_array_equal(g, w)
    return sum(len(s.staged) for s in calls), sum(len(s.folds) for s in calls)


LEVELS = ["v3", "v4"] if "avx512f" in cpu_features() else ["v3"]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("depthwise", "kernel", "stride"), [(True, 3, 1), (True, 5, 2), (False, 3, 1), (False, 3, 2), (False, 1, 1)])
def test_taken_along(level: str, depthwise: bool, kernel: int, stride: int) -> None:
    """Of a batch of whole chunks every port is used, and changes no bit."""
    loads, folds = check(Case(16, (12, 9), (8, 24, 20), kernel, stride, depthwise, level, 2))
    assert loads >= 4 and folds >= 3


@settings(max_examples=6, deadline=None)
@given(st.data())
def test_any_size(data: st.DataObject) -> None:
    draw = data.draw
    sizes = st.integers(1, 19)
    check(Case(
        n=draw(st.sampled_from([1, 2, 3, 7, 8, 16, 24])), size=(draw(sizes), draw(sizes)), channels=(draw(st.integers(1, 20)), draw(st.integers(1, 40)), draw(st.integers(1, 40))),
        kernel=draw(st.sampled_from([1, 3, 5])), stride=draw(st.integers(1, 3)), depthwise=draw(st.booleans()), level=draw(st.sampled_from(LEVELS)), threads=draw(st.sampled_from([1, 2, 5])),
    ))  # fmt: skip


@pytest.mark.parametrize("depthwise", [False, True])
def test_a_reduction_that_reads_another_one_waits_for_it(depthwise: bool) -> None:
    """Mean and variance in two passes: the second reads what the first has only when the kernel has ended."""

    def f(x: Any, w: Any) -> tuple[Any, Any]:
        y = linear.conv2d(x, w, groups=w.shape[0] if depthwise else 1)
        mean = y.mean(axis=(0, 1, 2))
        return mean, ((y - mean) * (y - mean)).mean(axis=(0, 1, 2))

    rng = np.random.default_rng(0)
    x = rng.normal(1.0, 0.2, (16, 12, 9, 16)).astype(np.float32)
    w = rng.normal(1.0, 0.2, (16, 3, 3, 1) if depthwise else (16, 1, 1, 16)).astype(np.float32)
    for got, want in zip(sh.jit(f)(x, w), f(sh.asarray(x), sh.asarray(w)), strict=True):
        np.testing.assert_allclose(got.numpy(), want.numpy(), rtol=1e-4)
