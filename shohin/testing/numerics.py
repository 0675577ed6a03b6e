"""``python -m shohin.testing.numerics docs/numerics.md``: measures how far float results lie from the truth and writes the tables.

Bits of compiled programs are the same on every machine, so what is measured here holds anywhere.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf, prod
from pathlib import Path
from typing import Any

import numpy as np

import shohin.kernels
from shohin.compiler.lowering import lower
from shohin.compiler.program import compile_program, machine
from shohin.core import dtypes, interp
from shohin.core.nest import KernelCall
from shohin.core.op import Aval
from shohin.core.tensor import Tensor
from shohin.core.trace import stage
from shohin.ops import kinds
from shohin.testing.bounds import ROUNDING, Sum, roundings, summed
from shohin.testing.functions import EDGES, STATED, Worst, compiled, pairs, spread, sweep, truth, worst

assert shohin.kernels  # registers them

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]
DRAWS: dict[str, Callable[[np.random.Generator, Shape], Array]] = {
    "normal": lambda rng, shape: rng.standard_normal(shape).astype(np.float32),
    "positive": lambda rng, shape: rng.random(shape, np.float32),
}
"""Values to measure on: of both signs, where errors cancel, and of one sign, where partial sums grow."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A use of an op that sums."""

    op: str
    shapes: tuple[Shape, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def arrays(self, draw: str) -> list[Array]:
        rng = np.random.default_rng(0)
        return [DRAWS[draw](rng, s) for s in self.shapes]

    def result(self, *operands: Tensor) -> Tensor:
        return interp.bind(kinds.get(self.op), list(operands), self.attrs)[0]

    def summed(self, draw: str) -> Sum:
        return summed(kinds.get(self.op), self.arrays(draw), self.attrs)

    @property
    def kernel(self) -> str:
        """Who computes it on a processor with AVX2."""
        graph = stage(lambda *v: [self.result(*v)], [Aval(s, dtypes.float32) for s in self.shapes]).graph
        return next((s.kernel for s in lower(graph, machine("v3", 1)).steps if isinstance(s, KernelCall)), "derived loops")


def product(m: int, k: int, n: int, ta: bool = False, tb: bool = False) -> Case:
    return Case(op="matmul", shapes=((k, m) if ta else (m, k), (n, k) if tb else (k, n)), attrs={"transpose_a": ta, "transpose_b": tb})


def convolution(op: str, n: int, size: int, c: int, o: int, kernel: int, groups: int = 1) -> Case:
    pad = kernel // 2
    attrs: dict[str, Any] = {"stride": (1, 1), "padding": ((pad, pad), (pad, pad)), "dilation": (1, 1), "groups": groups}
    x, y, w = (n, size, size, c), (n, size, size, o), (o, kernel, kernel, c // groups)
    shapes, result = {"conv2d": ((x, w), y), "conv2d_dx": ((y, w), x), "conv2d_dw": ((x, y), w)}[op]
    return Case(op=op, shapes=shapes, attrs=attrs if op == "conv2d" else {**attrs, "shape": result})


CASES = (
    *(product(24, k, 40) for k in (16, 256, 4096)), product(24, 256, 40, ta=True), product(24, 256, 40, tb=True),
    *(product(2, k, 64, tb=True) for k in (64, 1024, 4096)),
    *(convolution("conv2d", 1, 9, c, 24, 3) for c in (3, 16, 256)), *(convolution("conv2d", 1, 9, c, 24, 1) for c in (16, 960)),
    *(convolution("conv2d", 1, 1, c, 64, 1) for c in (64, 1280)), *(convolution("conv2d", 2, 9, 32, 32, k, 32) for k in (3, 7)),
    *(convolution("conv2d_dx", 1, 9, 24, o, 3) for o in (16, 256)), *(convolution("conv2d_dx", 1, 9, 24, o, 1) for o in (16, 960)),
    *(convolution("conv2d_dx", 2, 9, 32, 32, k, 32) for k in (3, 7)),
    *(convolution("conv2d_dw", n, s, 8, 16, 3) for n, s in ((1, 8), (8, 28), (32, 56))),
    *(convolution("conv2d_dw", n, s, 16, 16, 3, 16) for n, s in ((1, 8), (8, 28), (32, 56))),
    *(Case(op="sum", shapes=((16, n),), attrs={"axis": (1,)}) for n in (64, 4096, 1 << 16)),
    *(Case(op="sum", shapes=((n, s, s, 8),), attrs={"axis": (0, 1, 2)}) for n, s in ((1, 8), (8, 28), (32, 56))),
    *(Case(op="window_sum2d", shapes=((1, 14, 14, 8),), attrs={"kernel": (k, k), "stride": (k, k), "padding": ((0, 0), (0, 0))}) for k in (2, 7, 14)),
)  # fmt: skip


def measured(cases: Sequence[Case], level: str = "native") -> Iterator[tuple[Case, str, Array, Sum]]:
    """All cases in one program, on each kind of values: the case, the kind, the result, the truth."""
    counts = [len(c.shapes) for c in cases]

    def everything(*values: Tensor) -> list[Tensor]:
        rest = iter(values)
        return [c.result(*(next(rest) for _ in range(n))) for c, n in zip(cases, counts, strict=True)]

    graph = stage(everything, [Aval(s, dtypes.float32) for c in cases for s in c.shapes]).graph
    program = compile_program(lower(graph, machine(level, 1)), level=level, threads=1)
    for draw in DRAWS:
        for case, y in zip(cases, program(*(a for c in cases for a in c.arrays(draw))), strict=True):
            yield case, draw, y, case.summed(draw)


def variance(offset: float, shape: Shape = (32, 28, 28, 8)) -> tuple[float, float]:
    """Of ``moments`` over all but the last dim, on values of deviation 1 around ``offset``: the condition number
    sqrt(1 + mean^2 / var), and the largest relative error of the variance in roundings (2^-24)."""
    x = (offset + np.random.default_rng(1).standard_normal(shape)).astype(np.float32)
    axis = tuple(range(len(shape) - 1))
    graph = stage(lambda v: list(interp.bind(kinds.get("moments"), [v], {"axis": axis})), [Aval(shape, dtypes.float32)]).graph
    _, found = compile_program(lower(graph, machine("native", 1)), threads=1)(x)
    wide = x.astype(np.float64)
    true = wide.var(axis)
    condition = np.sqrt(1 + wide.mean(axis) ** 2 / true)
    return float(condition.max()), float((abs(found - true) / true).max() / ROUNDING)


# ---------------------------------------------------------------------------------------------- the page


def kernels_table() -> list[str]:
    """A row a case: errors in units of 2^-24 sum |a| |b|."""
    worst_of: dict[int, dict[str, float]] = {}
    for k, (_, draw, y, s) in enumerate(measured(CASES)):
        worst_of.setdefault(k % len(CASES), {})[draw] = float((abs(y - s.true) / np.where(s.sizes, s.sizes, 1)).max() / ROUNDING)
    rows = ["| kernel | operands | terms | order | normal | positive | bound |", "|---|---|---:|---|---:|---:|---:|"]
    for k, case in enumerate(CASES):
        s, attrs = case.summed("normal"), case.attrs
        marks = [name for name in ("transpose_a", "transpose_b") if attrs.get(name)]
        marks += [f"{name} {attrs[name]}" for name in ("groups", "kernel") if attrs.get(name, 1) != 1]
        what = " · ".join("x".join(map(str, shape)) for shape in case.shapes) + (f" ({', '.join(marks)})" if marks else "")
        name = case.kernel if case.kernel != "derived loops" else f"loops of `{case.op}`"
        rows.append(f"| {name} | {what} | {prod(s.extents):,} | {s.order} | {worst_of[k]['normal']:.2f} | {worst_of[k]['positive']:.2f} | {roundings(s.extents, s.order):,} |")
    return rows


def variance_table() -> list[str]:
    rows = ["| mean / deviation | condition | error of the variance, 2^-24 | bound |", "|---:|---:|---:|---:|"]
    for offset in OFFSETS:
        condition, error = variance(offset)
        rows.append(f"| {offset:g} | {condition:.3g} | {error:.1f} | {variance_bound(condition):.0f} |")
    return rows


def variance_bound(condition: float) -> float:
    """The stated error of a variance in units of 2^-24 of it; joining blocks' means costs more the farther they lie from zero."""
    return 16 + condition / 4


OFFSETS = (0.0, 10.0, 1000.0)
"""Means of values of deviation 1 on which a variance is measured."""


def functions_table(step: int) -> list[str]:
    """A row a function; of float32 all arguments, or each ``step``-th."""
    rows = ["| function | float32, ulp | at | arguments | stated | float64, ulp | arguments | stated |", "|---|---:|---|---:|---:|---:|---:|---:|"]
    for name, stated in STATED.items():
        single, double = measured_function(name, step)
        at = ", ".join(f"{x:.9g}" for x in single.at)
        rows.append(f"| `{name}` | {single.ulp:.3f} | {at} | {single.arguments:,} | {stated.float32:g} | {double.ulp:.2f} | {double.arguments:,} | {stated.float64:g} |")
    return rows


def measured_function(name: str, step: int) -> tuple[Worst, Worst]:
    """Errors in float32 and in float64."""
    two = name in ("pow", "atan2")
    double = worst(name, *(pairs(dtypes.float64) if two else (spread(dtypes.float64),)), limit=STATED[name].limit[1])
    if not two:
        return sweep(name, step), double
    single = Worst(0.0, (), 0)
    for seed in range(max(1, 256 // step)):
        single |= worst(name, *pairs(dtypes.float32, seed=seed))
    return single, double


def far_table() -> list[str]:
    """Sine and cosine far from zero: the largest absolute error in each range."""
    rows = ["| abs(x) up to | " + " | ".join(f"{b:.3g}" for b in FAR[1:]) + " |", "|---|" + "---:|" * (len(FAR) - 1)]
    for name in ("sin", "cos"):
        errors = []
        for low, high in pairwise(FAR):
            x = np.exp2(np.random.default_rng(0).uniform(np.log2(low), np.log2(high), 1 << 18)).astype(np.float32)
            errors.append(abs(compiled(name, dtypes.float32, x.size)(x) - truth(name, x)).max())
        rows.append(f"| `{name}` | " + " | ".join(f"{e:.1e}" for e in errors) + " |")
    return rows


FAR = (1.0, 1e4, 1e6, 2.0**22)


def edges_table() -> list[str]:
    """What each function of one gives at the edges."""
    rows = ["| function | " + " | ".join(_number(x) for x in EDGES) + " |", "|---|" + "---|" * len(EDGES)]
    x = np.array(EDGES, np.float32)
    for name in STATED:
        if name not in ("pow", "atan2"):
            rows.append(f"| `{name}` | " + " | ".join(_number(y) for y in compiled(name, dtypes.float32, len(x))(x)) + " |")
    return rows


def _number(x: float) -> str:
    return "nan" if x != x else f"{float(x):g}" if abs(x) != inf else "inf" if x > 0 else "-inf"


def write(path: Path, step: int = 1) -> None:
    """Puts the tables between their marks, ``<!-- table NAME -->`` and ``<!-- end -->``."""
    tables = {"kernels": kernels_table, "variance": variance_table, "functions": lambda: functions_table(step), "far": far_table, "edges": edges_table}
    text = path.read_text()
    for name, table in tables.items():
        text, count = re.subn(rf"(<!-- table {name} -->\n).*?(<!-- end -->)", lambda m, t=table: m[1] + "\n".join(t()) + "\n" + m[2], text, flags=re.DOTALL)
        if count != 1:
            raise ValueError(f"{path}: {count} places for the table {name}, expected one: <!-- table {name} --> and <!-- end -->")
    path.write_text(text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m shohin.testing.numerics", description=__doc__)
    parser.add_argument("page", type=Path)
    parser.add_argument("--step", type=int, default=1, help="look at each STEP-th float32 (1: at all)")
    chosen = parser.parse_args()
    write(chosen.page, chosen.step)
