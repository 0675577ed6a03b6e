"""``check_primitive``: everything that the registry's own ops are asked, for one primitive of a user's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shohin.core.errors import RecordError
from shohin.core.op import Op, get
from shohin.ops.kinds import Function
from shohin.testing.compiled import compiled_is_reference
from shohin.testing.conformance import CHECKS, Problem, run_check, samples_of
from shohin.testing.quantized import table_is_reference

EXTRA = {"compiled": compiled_is_reference, "quantization": table_is_reference}


@dataclass(frozen=True)
class Report:
    """Which checks ran, which were left out and why, and what they found."""

    op: str
    passed: tuple[str, ...]
    skipped: tuple[str, ...]
    problems: tuple[Problem, ...]

    def __str__(self) -> str:
        lines = [f"{self.op}: {'passed' if not self.problems else f'{len(self.problems)} problems'}"]
        lines += [f"  ok       {name}" for name in self.passed]
        lines += [f"  skipped  {text}" for text in self.skipped]
        lines += [f"  FAILED   {p.check}, {p.where}: {p.what}" for p in self.problems]
        return "\n".join(lines)


def check_primitive(primitive: Function | Op | str, *, skip: Sequence[str] = (), seed: int = 0) -> Report:
    """Shape, gradient, batching, second derivative, body, edges, compiled C, quantization: all against the reference.

    Returns the report, or raises an ``AssertionError`` that holds it. ``skip`` names checks to leave out; those that do
    not apply are left out by themselves (a straight-through estimator, ``Tol(..., slope=False)``, has no true gradient).
    """
    op = (
        primitive.op if isinstance(primitive, Function) else get(primitive) if isinstance(primitive, str) else primitive
    )
    known = [*CHECKS, *EXTRA]
    for name in skip:
        if name not in known:
            raise RecordError(f"check_primitive: no check {name!r}; there are {', '.join(known)}")
    passed: list[str] = []
    skipped: list[str] = [f"{name}: as asked" for name in skip]
    problems: list[Problem] = []
    if not samples_of(op, seed):
        problems.append(Problem(op.name, "samples", "record", "it has none, so nothing can be checked"))
    for name in known:
        if name in skip:
            continue
        found = run_check(op, name, seed) if name in CHECKS else EXTRA[name](op, seed)
        if isinstance(found, str):
            skipped.append(f"{name}: {found}")
        elif found:
            problems += found
        else:
            passed.append(name)
    report = Report(op.name, tuple(passed), tuple(skipped), tuple(problems))
    if problems:
        raise AssertionError(str(report))
    return report
