"""One network of many odd integer contractions and pools side by side: one input, one output, so that any target can run it."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

import shohin.kernels  # noqa: F401 (registers them)
from shohin.compiler import passes
from shohin.compiler.kernel import GENERIC, Machine
from shohin.compiler.lowering import lower
from shohin.core import dtypes
from shohin.core.graph import Graph
from shohin.core.nest import KernelCall, Program
from shohin.core.op import Aval
from shohin.core.tensor import Tensor, as_tensor
from shohin.core.trace import stage
from shohin.ops import linear, math, move, qlinear, quant

Op = Callable[[Tensor], Tensor]


class Cases:
    """Random layers; each takes a slice of the input and adds its int8 to the output."""

    def __init__(self, seed: int, count: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.layers: list[tuple[tuple[int, ...], Op, str]] = []
        fixed = [(1, 16, 3, 1), (3, 8, 3, 1), (37, 13, 1, 1), (13, 37, 5, 1), (16, 70, 1, 1), (64, 64, 1, 1), (32, 16, 3, 1), (37, 37, 3, 37), (64, 64, 3, 64), (6, 9, 3, 3), (6, 12, 3, 6), (32, 2, 1, 2), (80, 80, 2, 80)]
        for k in range(count):
            c, o, kernel, groups = fixed[k] if k < len(fixed) else self.draw()
            self.conv(c, o, kernel, groups, k)
        for k, (m, terms, n) in enumerate(((1, 64, 10), (1, 70, 5), (3, 9, 70), (5, 32, 4), (40, 130, 3))):
            self.matmul(m, terms, n, k)
        for c, kernel, stride, padding in ((1, 2, 2, 0), (16, 3, 2, 1), (17, 3, 1, 1), (64, 2, 1, 0), (37, 5, 3, 2), (300, 3, 2, 1)):
            self.pool(c, kernel, stride, padding)

    def draw(self) -> tuple[int, int, int, int]:
        pick = lambda *values: int(self.rng.choice(values))
        kind, kernel = pick(0, 1, 2), pick(1, 2, 3, 4, 5)
        if kind == 0:
            c = pick(2, 13, 16, 37, 48)
            return c, c, kernel, c
        if kind == 1:
            groups = pick(2, 3)
            return groups * pick(1, 4, 13), groups * pick(1, 5, 16), kernel, groups
        return pick(1, 3, 13, 16, 37, 32), pick(1, 4, 13, 37, 66), kernel, 1

    def close(self, acc: Tensor, terms: int, k: int) -> Tensor:
        """Mostly the usual epilogue, with extreme grids among them; every fifth is none that a kernel knows."""
        rng, o = self.rng, acc.shape[-1]
        z = int(rng.choice([-128, 127, 0, 5]))
        M = (rng.uniform(-1, 1, o) * 2 / np.sqrt(terms) / 70).astype(np.float32)
        M[rng.integers(0, o)] = [0, 1024, 2.0**-40, 0.5, -1024][k % 5]
        if k % 5 == 4:
            wide = acc + as_tensor(rng.integers(-99, 99, acc.shape).astype(np.int32))
            return math.astype(math.minimum(math.maximum(wide, -90), 100), dtypes.int8)
        q_b = rng.integers(-(2**22), 2**22, o) if k % 7 == 3 else rng.integers(-5000, 5000, o)
        return quant.requant(acc + as_tensor(q_b.astype(np.int32)), as_tensor(M), z=z, lo=max(-128, min(z, 100)), hi=127)

    def weights(self, *shape: int) -> Any:
        w = self.rng.integers(-127, 128, shape).astype(np.int8)
        w[self.rng.integers(0, shape[0])] = [127, -127][int(self.rng.integers(0, 2))]
        return w

    def conv(self, c: int, o: int, kernel: int, groups: int, k: int) -> None:
        rng = self.rng
        pick = lambda *values: int(rng.choice(values))
        kh, kw = kernel, kernel if k % 3 else pick(1, 2, 3)
        padding = tuple((pick(0, 1, 2), pick(0, 1, 2)) if k % 4 else (0, 0) for _ in range(2))
        stride, dilation = (pick(1, 1, 2), pick(1, 1, 2, 3)), (pick(1, 1, 2), pick(1, 1, 2)) if k % 3 == 0 else (1, 1)
        shape = (1, (kh - 1) * dilation[0] + pick(1, 3, 4), (kw - 1) * dilation[1] + pick(1, 2, 7, 9), c)
        w, zero = self.weights(o, kh, kw, c // groups), pick(-128, 127, 0, 3)
        attrs: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        body = lambda q: self.close_later(qlinear.qconv2d(q, as_tensor(w), zero=zero, **attrs), kh * kw * c // groups, k)
        self.layers.append((shape, body, f"conv {shape} -> {o} {kh}x{kw} {attrs}"))

    def matmul(self, m: int, terms: int, n: int, k: int) -> None:
        w = self.weights(n, terms)
        self.layers.append(((m, terms), lambda q: self.close_later(qlinear.qmatmul(q, as_tensor(w), zero=-3), terms, k), f"matmul {m} {terms} {n}"))

    def pool(self, c: int, kernel: int, stride: int, padding: int) -> None:
        body = lambda q: linear.max_pool2d(q, kernel, stride, padding)
        self.layers.append(((1, 7, 6, c), body, f"max pool {c} {kernel} {stride} {padding}"))

    def close_later(self, acc: Tensor, terms: int, k: int) -> Tensor:
        self.rng = np.random.default_rng(k)  # the same constants at every tracing
        return self.close(acc, terms, k)

    @property
    def size(self) -> int:
        return sum(prod(s) for s, _, _ in self.layers)

    def network(self, x: Tensor) -> Tensor:
        parts, at = [], 0
        for shape, body, _ in self.layers:
            part = move.reshape(x[0, at : at + prod(shape)], shape)
            parts.append(move.reshape(body(part), (-1,)))
            at += prod(shape)
        return move.reshape(move.concat(parts, axis=0), (1, -1))

    def graph(self) -> Graph:
        return stage(lambda x: [self.network(x)], [Aval((1, self.size), dtypes.int8)], ["x"]).graph

    def reference(self, x: np.ndarray) -> np.ndarray:
        return np.concatenate([self.network(as_tensor(row[None])).numpy() for row in x])

    def inputs(self, count: int) -> np.ndarray:
        x = np.random.default_rng(9).integers(-128, 128, (count, self.size)).astype(np.int8)
        x[0], x[1] = -128, 127
        return x


def program(graph: Graph, machine: Machine = GENERIC) -> Program:
    return lower(passes.optimize(graph), machine)


def kernels(made: Program) -> list[str]:
    return [s.kernel for s in made.steps if isinstance(s, KernelCall)]
