"""Compiled code against the reference: all samples of all given ops as one program."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np

from shohin.compiler.jit import jit
from shohin.core import dtypes, interp
from shohin.core.op import Op, Sample
from shohin.core.tensor import Tensor, as_tensor
from shohin.testing.conformance import Problem, reference, samples_of
from shohin.testing.numeric import differences


def cases_of(op: Op, seed: int = 0) -> list[tuple[str, Sample]]:
    """The samples of a record, and all combinations of its edge values as one more."""
    cases = [(f"sample {k} {dict(s.attrs) or ''}".strip(), s) for k, s in enumerate(samples_of(op, seed))]
    if op.edges and cases and op.kind == "elementwise":
        first = cases[0][1]
        if len({a.dtype for a in first.operands}) == 1 and first.operands[0].dtype in dtypes.FLOATING:
            columns = zip(*product(op.edges, repeat=len(first.operands)), strict=True)
            with np.errstate(all="ignore"):
                values = tuple(np.asarray(c, np.float64).astype(first.operands[0].dtype) for c in columns)
            cases.append(("edges", Sample(values, first.attrs)))
    return cases


def compare(ops: Sequence[Op], seed: int = 0) -> list[Problem]:
    """One jitted function over every case of ``ops``; each result within its op's ``tol`` of NumPy."""
    cases = [(op, where, s) for op in ops for where, s in cases_of(op, seed)]

    def everything(operands: list[list[Tensor]]) -> list[list[Tensor]]:
        return [list(interp.bind(op, list(xs), s.attrs)) for (op, _, s), xs in zip(cases, operands, strict=True)]

    arguments: Any = [[as_tensor(a) for a in s.operands] for _, _, s in cases]
    found = jit(everything)(arguments)
    problems: list[Problem] = []
    for (op, where, s), results in zip(cases, found, strict=True):
        for r, expected in zip(results, reference(op, s.operands, s.attrs), strict=True):
            what = differences(np.asarray(r), expected.astype(r.dtype), op.tol)
            if what:
                problems.append(Problem(op.name, "compiled", where, what))
    return problems


def compiled_is_reference(op: Op, seed: int = 0) -> list[Problem] | str:
    """The compiled C of one op, or why there is nothing to compare."""
    if op.nest == "control":
        return "the op holds graphs and has no loops of its own"
    try:
        return compare([op], seed)
    except Exception as error:  # a program that does not compile is a finding
        return [Problem(op.name, "compiled", "the program", f"{type(error).__name__}: {error}")]
