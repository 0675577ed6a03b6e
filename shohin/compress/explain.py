"""What a plan would do, as a table: place, scheme, reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from shohin.compress.calibration import batches
from shohin.compress.report import changes
from shohin.compress.slots import Method
from shohin.compress.steps import Contract, Entry, Float, Format, Move, Program, Regrid, Step, Stored, Whole
from shohin.compress.walk import module_of, walk
from shohin.core.module import Module
from shohin.core.op import Aval


def explain(before: Module, net: Module, example: Any, chosen: Mapping[str, Mapping[str, Method]]) -> str:
    """One line a region of ``net``, which is ``before`` with all slots but the integers filled; then what cannot be
    quantized, with reasons."""
    first = next(batches(example))
    changed = changes(before, net)
    stays_float = lambda path: "integers" not in chosen.get(path, {})
    format = lambda path: getattr(chosen.get(path, {}).get("integers"), "format", Format())
    program, _ = walk(net, [Aval(x.shape, x.dtype) for x in first], stays_float, format)
    rows = [("place", "scheme", "reason")]
    for step in program.steps:
        rows.append((step.place, *_line(step, program, changed)))
    widths = [max(len(r[i]) for r in rows) for i in range(2)]
    lines = [f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c}".rstrip() for a, b, c in rows]
    return "\n".join([*lines, *(f"refused: {text}" for text in program.refused)])


def _line(step: Step, program: Program, changed: Mapping[str, Sequence[str]]) -> tuple[str, str]:
    extra = changed.get(module_of(step.place), ())
    integers = f"int{program.values[step.output].bits}"
    match step:
        case Regrid():
            return integers, "another width for what reads it"
        case Stored():
            return integers, "a parameter on a grid of its own"
        case Entry():
            return integers, "float32 comes onto a grid"
        case Float():
            refused = any(text.startswith(f"{step.place}:") for text in program.refused)
            scheme = ", ".join(["float32", *(extra if step.op.kind == "contraction" else ())])
            return scheme, "refused, see below" if refused else "no Quantize rule takes this place"
        case Contract():
            absorbed = [n.partition("/")[2].partition("#")[0] for n in step.nodes[1:]]
            text = f"{step.terms} products a sum"
            scheme = ", ".join([f"int{program.values[step.inputs[0]].bits} x int{step.bits} -> int32 -> {integers}", *extra])
            return scheme, text + (f", takes in {', '.join(absorbed)}" if absorbed else "")
        case Whole():
            return integers, "one operator, quantized whole"
        case Move():
            return integers, "shares the grid of its input"
        case _:
            absorbed = [n.partition("/")[2].partition("#")[0] for n in step.nodes[1:]]
            own = "a table of 256" if step.kind == "table" else "a grid of its own"
            return integers, own + (f", takes in {', '.join(absorbed)}" if absorbed else "")
