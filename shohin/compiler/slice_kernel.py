"""The kernel ``slices``: a program of one slice (``slices.py``), run once for each, its temporaries in scratch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from shohin.compiler import program as programs
from shohin.compiler.builder import PLACEHOLDER, Emitted
from shohin.compiler.kernel import Declined, Kernel, Machine, Phase, Printer, Site, register
from shohin.compiler.plan import Plan, plan
from shohin.core.nest import Program

MOST = 64
"""Pieces at most: of many small slices several are one piece."""


@dataclass(frozen=True, eq=False)
class Inner:
    """One slice's program: its steps as C, where its temporaries lie in scratch."""

    program: Program
    steps: tuple[Emitted, ...]
    memory: Plan

    def calls(self) -> Iterator[tuple[str, tuple[str, ...], int, int, int]]:
        """(text, buffers, pieces, shared, scratch) of every function, in order."""
        for step, shared, scratch in zip(self.steps, self.memory.shared, self.memory.scratch, strict=True):
            for p in step.phases:
                if p.chunks:
                    yield p.function.text, p.function.slots, p.chunks, shared, scratch




@lru_cache(maxsize=64)
def _emitted(held: _Held, machine: Machine) -> Inner:
    program, m = held.program, replace(machine, threads=1)
    buffers = {b.name: b for b in program.buffers}
    steps = tuple(programs.emit_step(s, buffers, m) for s in program.steps)
    return Inner(program, steps, plan(program, [s.scratch for s in steps], [s.shared for s in steps]))


class _Held:
    """A program by identity, as a key that keeps it alive."""

    def __init__(self, program: Program) -> None:
        self.program = program

    def __hash__(self) -> int:
        return id(self.program)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Held) and other.program is self.program


def _inner(site: Site) -> Inner:
    return _emitted(_Held(site.call.attrs["program"]), site.machine)


def _emit(site: Site, printer: Printer, name: str) -> str:
    inner, attrs = _inner(site), site.call.attrs
    outer = (*site.call.operands, *site.call.results)
    ports = [b for role in ("input", "const", "output") for b in inner.program.buffers if b.role == role]
    moves = (*attrs["moves"], *(True for _ in site.results))
    where = {b.name: f"scratch + {at}" for b in inner.program.buffers if (at := inner.memory.offsets.get(b.name)) is not None}
    for b, buffer, moving in zip(ports, outer, moves, strict=True):
        where[b.name] = f"(char *){printer.pointer(buffer)}" + (f" + z * {b.nbytes}" if moving else "")
    texts: dict[str, str] = {}
    lines: list[str] = []
    for text, slots, pieces, shared, scratch in inner.calls():
        f = texts.setdefault(text, f"{name}_{len(texts)}")
        pointers = ", ".join(where[s] for s in slots) or "(void *)0"
        lines.append(f"{{ void *const p[] = {{{pointers}}}; for (long c = 0; c < {pieces}; c++) {f}(p, scratch + {shared}, scratch + {scratch}, c, {pieces}); }}")
    for step in inner.steps:
        for p in step.phases:
            printer.require(p.function.needs)
    functions = "\n".join(text.replace(PLACEHOLDER, f) for text, f in texts.items())
    body = "\n    ".join(lines)
    return f"""{functions}
static void {name}(void *const *b, char *shared, char *scratch, long chunk, long chunks) {{
  (void)shared;
  for (long z = {attrs["count"]} * chunk / chunks; z < {attrs["count"]} * (chunk + 1) / chunks; z++) {{
    {body}
  }}
}}
"""


KERNEL = register(
    Kernel(
        name="slices",
        op="",
        doc="a call's body, slice by slice",
        predicate=lambda site: Declined("the lowering puts it where a call declares slices"),
        ports=(),
        phases=(Phase(emit=_emit, chunks=lambda site: min(MOST, site.call.attrs["count"])),),
        workspace=lambda site: _inner(site).memory.arena_bytes,
        shared=lambda site: 0,
        order="sequence",
        flops=lambda site: site.call.attrs["count"] * sum(s.work for s in _inner(site).steps),
    )
)
"""No op's: the lowering puts it where a call declares slices."""

__all__ = ["KERNEL"]
