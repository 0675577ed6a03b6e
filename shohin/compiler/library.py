"""A program as one self-contained C11 file for an artefact: serial, constants inside, the arena as an argument.

    int NAME_run(const T *in0, ..., U *out0, ..., void *arena)     NAME_ARENA_BYTES, aligned to 16

Plain loops for the generic machine: no vector extensions, no statement expressions, no allocation; of libc ``memcpy``, of libm what is
exactly rounded (``sqrtf``, ``rintf`` ..., ``fmaf`` where the program says so).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from shohin.compiler import ctext
from shohin.compiler.builder import PLACEHOLDER, Emitted
from shohin.compiler.ctext import HALF, literal, stored
from shohin.compiler.emit import emit_nest
from shohin.compiler.kernel import GENERIC, KERNELS, Machine
from shohin.compiler.plan import Plan, plan, uses_of
from shohin.compiler.program import emit_kernel, merge
from shohin.compiler.schedule import Options
from shohin.core.dtypes import short
from shohin.core.errors import IRError
from shohin.core.nest import Buffer, Jump, KernelCall, Nest, Program, verify_nest


def emit_library(program: Program, name: str, *, machine: Machine = GENERIC, align: int = 16) -> str:
    """The C text. Kernel calls are emitted for ``machine``; outputs never lie over inputs.

    Raises ``IRError`` if the name is not a C identifier.
    """
    return emit_variants([Variant("", program, machine)], name, align=align).text


@dataclass(frozen=True)
class Variant:
    """A program lowered for ``machine``, in force where the preprocessor's ``condition`` holds (empty: always)."""

    condition: str
    program: Program
    machine: Machine


@dataclass(frozen=True)
class Library:
    """``text`` is the C. ``memory`` is the plan of the variant that sets the arena's size, ``constants`` the bytes of
    constants that each of its steps is the first to read."""

    text: str
    memory: Plan
    constants: tuple[int, ...]


def emit_variants(variants: Sequence[Variant], name: str, *, align: int = 16, about: str = "", header: str = "") -> Library:
    """The C of programs that do the same; the first whose condition holds is compiled. Constants stand once.

    It begins with a comment: ``about``, then the table of steps (of the first program); it includes ``header``.
    """
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise IRError(f"{name!r} is not a C identifier; choose another name for the library")
    constants: dict[tuple[Any, ...], tuple[str, str]] = {}
    users: dict[str, list[int]] = {}
    parts: list[str] = []
    tables: list[str] = []
    plans: list[tuple[Plan, tuple[int, ...]]] = []
    for k, v in enumerate(variants):
        text, memory, first, table, used = _emit(v, name, align, constants)
        for c in used:
            users.setdefault(c, []).append(k)
        tables.append(table)
        plans.append((memory, first))
        if v.condition or parts:
            parts.append(f"#{'elif' if parts else 'if'} {v.condition}" if v.condition else "#else")
        parts.append(text)
    if len(parts) > 1:
        parts.append("#endif\n")
    memory, first = max(plans, key=lambda p: p[0].arena_bytes)
    arena = memory.arena_bytes
    head = f"#define {name}_ARENA_BYTES {max(arena, 1)}\n{HOOK.replace('NAME', name)}"
    banner = _block([*about.splitlines(), f"Arena: {max(arena, 1):,} bytes, aligned to {align}.", "", *tables[0].splitlines()])
    include = [f'#include "{header}"'] if header else []
    hide = [HIDE] if any("sh_hide(" in p for p in parts) else []
    placed = (_where(variants, users[c], text) for c, text in constants.values())
    return Library("\n".join([banner, *include, ctext.HEADER, ALIGN, head, *hide, *placed, *parts]), memory, first)


def _where(variants: Sequence[Variant], users: Sequence[int], text: str) -> str:
    """A constant where a variant that reads it is in force."""
    if len(users) == len(variants):
        return text
    exact = lambda k: " && ".join([f"!({v.condition})" for v in variants[:k]] + [f"({v.condition})" for v in variants[k : k + 1] if v.condition])
    return f"#if {' || '.join(f'({exact(k)})' for k in users)}\n{text}\n#endif"


def _block(lines: Sequence[str]) -> str:
    return "/* " + "\n".join(f" * {_comment(line)}".rstrip() for line in lines)[3:] + "\n */"


ALIGN = """\
#if defined(__x86_64__) || defined(__aarch64__)
#define SH_ALIGN 64
#else
#define SH_ALIGN 16
#endif
"""

HOOK = """\
#ifndef NAME_STEP /* what is done before each step and at the end: define it to read a clock or a cycle counter */
#define NAME_STEP(number, place) ((void)0)
#endif
"""
HIDE = """\
/* Constants, as values that clang for MVE does not know: it makes wrong code of an int times a literal power of two. */
static inline const void *sh_hide(const void *constants) {
#if defined __clang__ && defined __ARM_FEATURE_MVE
    const void *volatile hidden = constants;
    return hidden;
#else
    return constants;
#endif
}
"""



def _emit(v: Variant, name: str, align: int, constants: dict[tuple[Any, ...], tuple[str, str]]) -> tuple[str, Plan, tuple[int, ...], str, set[str]]:
    """Functions of one variant, its memory, the bytes of constants that each step reads first, the table of its steps, the
    constants that it reads; adds to the constants (name and text by dtype, shape, bytes)."""
    program = replace(v.program, buffers=tuple(replace(b, alias=None) for b in v.program.buffers))
    buffers = {b.name: b for b in program.buffers}
    options = Options(vectors=v.machine.vector_bytes >= 16, most=1, sums={64: 8}.get(v.machine.vector_bytes, 4))
    steps = [
        Emitted(s.place, (), 0, 0, 0, s)
        if isinstance(s, Jump)
        else emit_nest(verify_nest(s, buffers), buffers, options)
        if isinstance(s, Nest)
        else emit_kernel(s, buffers, v.machine)
        for s in program.steps
    ]
    memory = plan(program, [s.scratch for s in steps], [s.shared for s in steps], align=align)
    functions = merge(steps)
    names = {text: f"{name}_f{i}" for i, text in enumerate(functions)}
    needs = [n for f in functions.values() for n in f.needs]
    used = {n for s in steps for p in s.phases for n in p.function.slots}
    where: dict[str, str] = {}
    mine: set[str] = set()
    roles = _roles(program)
    for b in program.buffers:
        if b.role == "const" and b.name in used:
            data = np.ascontiguousarray(program.data[b.name])
            key = (data.dtype.str, data.shape, data.tobytes())
            if key not in constants:
                taken = {c for c, _ in constants.values()}
                plain = f"{name}_{re.sub(r'[^A-Za-z0-9_]', '_', b.name)}"
                c = next(c for k in range(len(taken) + 1) if (c := f"{plain}_v{k}" if k else plain) not in taken)
                constants[key] = (c, _constant(c, b, data, roles.get(b.name, "")))
            mine.add(constants[key][0])
            where[b.name] = f"sh_hide({constants[key][0]})" if _powers(data) else constants[key][0]
    texts = [f.text.replace(PLACEHOLDER, names[text]) for text, f in functions.items()]
    text = "\n".join([ctext.render(needs), *texts, _run(program, name, steps, memory, names, where)])
    return text, memory, _first_read(steps, buffers), _table(program, steps, memory), mine


def _constants_of(step: Emitted, buffers: Mapping[str, Buffer]) -> set[str]:
    return {n for p in step.phases for n in p.function.slots if buffers[n].role == "const"}


def _first_read(steps: Sequence[Emitted], buffers: Mapping[str, Buffer]) -> tuple[int, ...]:
    """Bytes of constants by step; each counts where it is first read."""
    seen: set[str] = set()
    found: list[int] = []
    for step in steps:
        new = _constants_of(step, buffers) - seen
        seen |= new
        found.append(sum(buffers[n].nbytes for n in new))
    return tuple(found)


def _powers(data: np.ndarray[Any, Any]) -> bool:
    """Are there float32 powers of two, which clang for MVE must not know as literals?"""
    return data.dtype == np.float32 and bool((np.abs(np.frexp(data)[0]) == 0.5).any())


def _what(place: str) -> str:
    """The module of a place, or the place itself where no module is."""
    return place.rpartition("/")[0] or place


def _roles(program: Program) -> dict[str, str]:
    """Where constants are first read, and as what."""
    found: dict[str, str] = {}
    for step in program.steps:
        if isinstance(step, KernelCall):
            packed = KERNELS[step.kernel].packed
            for n, role in zip(step.operands[len(step.operands) - len(packed) :], packed):
                found.setdefault(n, f"{_what(step.place)}: {role}")
        if not isinstance(step, Jump):
            for n in uses_of(step, {b.name: b for b in program.buffers}).reads:
                found.setdefault(n, _what(step.place))
    return found


def _table(program: Program, steps: Sequence[Emitted], memory: Plan) -> str:
    """A line a step: its place, what carries it out, bytes of the constants that it reads, where its results lie."""
    buffers = {b.name: b for b in program.buffers}
    rows = [("layer", "kernel", "constants", "result")]
    for step, emitted in zip(program.steps, steps):
        if isinstance(step, Jump):
            rows.append((step.place, "jump", "", ""))
            continue
        read = _constants_of(emitted, buffers)
        results = [f"{_shape(buffers[n])} {'at ' + format(memory.offsets[n], ',') if n in memory.offsets else buffers[n].role}" for n in sorted(uses_of(step, buffers).writes)]
        rows.append((step.place, step.kernel if isinstance(step, KernelCall) else "loops", f"{sum(buffers[n].nbytes for n in read):,}", ", ".join(results)))
    widths = [max(len(r[k]) for r in rows) for k in range(3)]
    return "\n".join(f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}  {d}" for a, b, c, d in rows)


def _shape(b: Buffer) -> str:
    return f"{short(b.dtype)}[{','.join(map(str, b.shape))}]"


def _constant(name: str, b: Buffer, data: np.ndarray[Any, Any], role: str) -> str:
    flat = data.reshape(-1)
    if b.dtype in HALF:
        values = [str(v) for v in flat.view(np.uint16)]
    else:
        values = [literal(v.item() if hasattr(v, "item") else int(v), b.dtype) for v in flat]
    rows = [", ".join(values[i : i + 12]) for i in range(0, len(values), 12)] or ["0"]
    comment = f"/* {_comment(role)}, {_shape(b)} */\n" if role else ""
    return f"{comment}static const _Alignas(SH_ALIGN) {stored(b.dtype)} {name}[] = {{\n" + ",\n".join(rows) + "};"


def _run(
    program: Program, name: str, steps: Sequence[Emitted], memory: Plan, names: dict[str, str], constants: dict[str, str]
) -> str:
    inputs = [b for b in program.buffers if b.role == "input"]
    outputs = [b for b in program.buffers if b.role == "output"]
    params = [f"const {stored(b.dtype)} *in{i}" for i, b in enumerate(inputs)]
    params += [f"{stored(b.dtype)} *out{i}" for i, b in enumerate(outputs)]
    where = {b.name: f"(void *)in{i}" for i, b in enumerate(inputs)} | {
        b.name: f"out{i}" for i, b in enumerate(outputs)
    }
    where |= {n: f"(void *){c}" for n, c in constants.items()}
    where |= {n: f"a + {offset}" for n, offset in memory.offsets.items()}
    lines = [f"int {name}_run({', '.join([*params, 'void *arena'])}) {{", "    char *const a = arena;", "    (void)a;"]
    lines += [f"    (void){p.split('*')[-1]};" for p in params]
    buffers = {b.name: b for b in program.buffers}

    def at(used: Iterable[str]) -> str:
        """Buffers that a step reads or writes, constants left out."""
        return ", ".join(f"{_shape(buffers[n])} {where[n].removeprefix('(void *)')}" for n in sorted(used, key=list(buffers).index) if n in where and n not in constants)

    targets = {s.jump.to for s in steps if s.jump is not None}
    for i, step in enumerate(steps):
        if i in targets:
            lines.append(f"step{i}:;")
        if step.jump is not None:
            flag = step.jump.flag
            test = "" if flag is None else f"if ({'' if step.jump.when else '!'}*(const unsigned char *)({where[flag]})) "
            lines.append(f"    {test}goto step{step.jump.to};")
        lines.append(f'    {name}_STEP({i}, "{_comment(step.place).replace(chr(34), chr(39))}");')
        for k, piece in enumerate(step.phases):
            f = piece.function
            use = uses_of(program.steps[i], buffers)
            what = f"{step.place}: {at(use.reads)} -> {at(use.writes)}" if k == 0 else f"{step.place}, phase {k + 1}"
            slots = ", ".join(where[s] for s in f.slots) or "NULL"
            head, n = f"{names[f.text]}(b, a + {memory.shared[i]}, a + {memory.scratch[i]}", piece.chunks
            loop = f"for (long c = 0; c < {n}; ++c) {head}, c, {n});" if n > 1 else f"{head}, 0, 1);"
            lines += [
                f"    {{  // {_comment(what)}",
                f"        void *const b[] = {{{slots}}};",
                f"        {loop}",
                "    }",
            ]
    if len(steps) in targets:
        lines.append(f"step{len(steps)}:;")
    return "\n".join([*lines, f'    {name}_STEP({len(steps)}, "");', "    return 0;", "}", ""])


def _comment(place: str) -> str:
    return place.replace("\\", "/").replace("\n", " ").replace("*/", "* /").replace("/*", "/ *")
