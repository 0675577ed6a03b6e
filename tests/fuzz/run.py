"""Runs cases: many in one program, with kernels and by derived loops alone, against each other and against the truth."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

import shohin.kernels  # noqa: F401 (registers them)
from shohin.compiler import passes
from shohin.compiler.kernel import KERNELS, Machine
from shohin.compiler.lowering import lower
from shohin.compiler.program import compile_program, machine
from shohin.core.graph import Graph
from shohin.core.nest import KernelCall, Program
from shohin.core.op import Aval
from shohin.core.tensor import Tensor
from shohin.core.trace import stage
from tests.fuzz.cases import Case, draw
from tests.kernels.exact import Exact

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Batch:
    """Cases that share a program, and what it is compiled for."""

    cases: tuple[Case, ...]
    level: str
    threads: int


def batch(seed: int, number: int, size: int, levels: Sequence[str], threads: int = 3, strange: float = 0.15) -> Batch:
    """Batch ``number`` of a run: the same whenever it is asked for, and whatever ran before. ``strange``: how many batches
    have infinities, NaN and the like among their values."""
    rng = np.random.default_rng((seed, number))
    special = bool(rng.random() < strange)
    cases = tuple(draw(rng, special) for _ in range(size))
    return Batch(cases, levels[int(rng.integers(0, len(levels)))], int(rng.integers(1, threads + 1)))


@dataclass(frozen=True)
class Outcome:
    """How many cases a hand-written kernel ran, by its name, how many nests were taken along, and what went wrong, a text a case."""

    kernels: dict[str, int]
    along: int
    failures: tuple[str, ...]


def graph_of(cases: Sequence[Case], operands: Sequence[Sequence[Array]]) -> tuple[Graph, list[int]]:
    """All cases side by side, and how many outputs each has."""
    counts: list[int] = []

    def everything(*values: Tensor) -> list[Tensor]:
        rest, found = list(values), []
        for case, arrays in zip(cases, operands, strict=True):
            own, rest = rest[: len(arrays)], rest[len(arrays) :]
            outputs = case.outputs(*own)
            counts.append(len(outputs))
            found += outputs
        return found

    graph = stage(everything, [Aval(a.shape, a.dtype) for arrays in operands for a in arrays]).graph
    return passes.optimize(graph), counts


def lowered(graph: Graph, m: Machine) -> tuple[Program, Program]:
    """The program with kernels, and that of the derived loops."""
    with_kernels = lower(graph, m)
    with mock.patch.dict(KERNELS, clear=True):
        return with_kernels, lower(graph, m)


def calls(b: Batch) -> list[KernelCall]:
    """The kernels that would run."""
    program = lower(graph_of(b.cases, [case.arrays() for case in b.cases])[0], machine(b.level, b.threads))
    return [s for s in program.steps if isinstance(s, KernelCall)]


def run(b: Batch) -> Outcome:
    """Compile and compare. Inputs and outputs stand at any multiple of their element's size."""
    operands = [case.arrays() for case in b.cases]
    graph, counts = graph_of(b.cases, operands)
    program, loops = lowered(graph, machine(b.level, b.threads))
    rng = np.random.default_rng(len(b.cases))
    inputs = [shifted(rng, a) for arrays in operands for a in arrays]
    made = compile_program(program, level=b.level, threads=b.threads)
    made.bind(inputs, [shifted(rng, np.zeros(r.shape, r.dtype)) for r in made.results])
    got, want = made.run(), compile_program(loops, level="v3", threads=1)(*inputs)
    failures: list[str] = []
    for case, arrays, count in zip(b.cases, operands, counts, strict=True):
        problem = judge(case, arrays, got[:count], want[:count])
        failures += [] if problem is None else [f"{problem}\n{program_of(case, b)}"]
        got, want = got[count:], want[count:]
    return outcome([s for s in program.steps if isinstance(s, KernelCall)], failures)


def outcome(taken: Sequence[KernelCall], failures: Sequence[str]) -> Outcome:
    names = [s.kernel for s in taken]
    return Outcome({n: names.count(n) for n in sorted({*names})}, sum(len(s.staged) + len(s.folds) for s in taken), tuple(failures))


def run_sanitized(b: Batch) -> Outcome:
    """The kernels built by gcc with its address and undefined-behaviour sanitizers, each buffer of exactly its bytes; results
    are compared with those of the derived loops."""
    operands = [case.arrays() for case in b.cases]
    graph, counts = graph_of(b.cases, operands)
    _, loops = lowered(graph, machine(b.level, b.threads))
    want = compile_program(loops, level="v3", threads=1)(*[a for arrays in operands for a in arrays])
    exact, m = Exact(), machine(b.level, b.threads)
    taken: list[KernelCall] = []
    for case, arrays, count in zip(b.cases, operands, counts, strict=True):
        program = lower(graph_of([case], [arrays])[0], m)
        taken += [s for s in program.steps if isinstance(s, KernelCall)]
        exact.add(program, m, arrays, want[:count])
        want = want[count:]
    with tempfile.TemporaryDirectory() as folder:
        found = exact.failures(Path(folder), f"-march=x86-64-{b.level}", "-O0")
    return outcome(taken, [f"{what}\n{program_of(b.cases[k], b, 'run_sanitized')}" for k, what in found.items()])


def shifted(rng: np.random.Generator, a: Array) -> Array:
    """A copy that begins at an odd multiple of its element's size, or at an even one, past a line of the cache."""
    size = a.dtype.itemsize
    raw = np.zeros(a.nbytes + 128, np.uint8)
    at = -raw.ctypes.data % 64 + size * int(rng.integers(0, 64 // size))
    moved = raw[at : at + a.nbytes].view(a.dtype).reshape(a.shape)
    moved[...] = a
    return moved


def judge(case: Case, arrays: Sequence[Array], got: Sequence[Array], want: Sequence[Array]) -> str | None:
    """What is wrong with the results of one case. Among special values the sign of a zero is free: a sum that has underflowed
    to -0 stays so where a tap is skipped, as kernels do, and becomes 0 where the tap adds a zero, as loops do (docs/decisions.md)."""
    free = getattr(case, "special", False)
    for k, (g, w) in enumerate(zip(got, want, strict=True)):
        differs = ~((g == w) & (free | (np.signbit(g) == np.signbit(w))) | (g != g) & (w != w))
        if differs.any():
            at = tuple(int(i) for i in np.argwhere(differs)[0])
            return f"output {k}: {int(differs.sum())} of {g.size} elements are not the loops', the first at {at}: {g[at]!r} instead of {w[at]!r}"
    known = case.truth(arrays)
    if known is not None:
        with np.errstate(invalid="ignore"):  # a window that lies in the padding altogether has no largest element but -inf
            error = np.where(got[0] == known[0], 0, abs(got[0].astype(np.float64) - known[0]))
        excess = np.where(error <= known[1], 0, error)
        if excess.any():
            at = tuple(int(i) for i in np.unravel_index(int(np.argmax(excess)), error.shape))
            return f"the error at {at} is {error[at]}, at most {known[1][at]} is allowed: {got[0][at]!r} instead of {known[0][at]!r}"
    return None


def program_of(case: Case, b: Batch, how: str = "run") -> str:
    """A program that repeats the case."""
    return (
        "    from tests.fuzz.cases import Contraction, Integer, Pool\n"
        f"    from tests.fuzz.run import Batch, {how}\n"
        f"    print({how}(Batch(({case!r},), {b.level!r}, {b.threads})))"
    )
