"""A program, compiled for this host: emit, plan, build, bind, run.

``bind`` writes addresses into one table that the C functions read; only what changed is written again. ``run`` is one
foreign call for all steps, without the interpreter lock.
"""

from __future__ import annotations

import ctypes
import functools
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from shohin.compiler import ctext
from shohin.compiler.build import StepRecord, begin, build_all, cpu_features, pool, resolved, runtime
from shohin.compiler.builder import PLACEHOLDER, Emitted, Function, Piece
from shohin.compiler.cprint import CPrinter
from shohin.compiler.ctext import Need
from shohin.compiler.emit import emit_nest
from shohin.compiler.kernel import KERNELS, Machine, Site
from shohin.compiler.plan import Plan, plan
from shohin.compiler.rows import Rows, fold_bytes, fold_end, folded_rows, staged_rows
from shohin.compiler.schedule import PIECE, options_of
from shohin.compiler.timing import step_seconds
from shohin.core.errors import IRError
from shohin.core.loop import Load, Var
from shohin.core.nest import Buffer, Jump, KernelCall, Loop, Nest, Out, Program, Step, verify_nest

Array = np.ndarray[Any, Any]
UNIT = 40_000
"""Characters of C from which a program is split into two files, built side by side."""
LARGE = 500_000
"""Characters from which a file is built while the next one is emitted."""


def machine(level: str, threads: int) -> Machine:
    """What kernels may know of this host at ``level``."""
    reached = resolved(level)
    return Machine(
        level=reached,
        vector_bytes={"v4": 64, "v3": 32}.get(reached, 16),
        features=cpu_features() if level == "native" else frozenset(),
        threads=threads,
    )


def emit_kernel(call: KernelCall, buffers: Mapping[str, Buffer], m: Machine) -> Emitted:
    kernel = KERNELS.get(call.kernel)
    if kernel is None:
        raise IRError(f"{call.place}: no kernel is called {call.kernel}")
    site = Site(
        call=call,
        operands=tuple(buffers[n] for n in call.operands),
        results=tuple(buffers[n] for n in call.results),
        machine=m,
    )
    options, shared = options_of(m), kernel.shared(site)
    staged = [rows for n in call.staged if (rows := staged_rows(n, buffers)) is not None]
    folds: list[tuple[Rows, int]] = []
    for nest in call.folds:
        rows = folded_rows(nest, buffers, call.results[0], options)
        assert rows is not None, f"{call.place}: {nest}"
        shared = -(-shared // 64) * 64
        folds.append((rows, shared))
        shared += fold_bytes(rows)
    phases = []
    for phase in kernel.phases:
        printer = CPrinter(buffers, staged, folds)
        if phase.chunks(site):
            text = phase.emit(site, printer, PLACEHOLDER)
            phases.append(Piece(Function(text, tuple(printer.needs), tuple(printer.slots)), phase.chunks(site)))
    phases += [fold_end(rows, buffers, options.most, offset) for rows, offset in folds]
    return Emitted(call.place, tuple(phases), kernel.workspace(site), shared, kernel.flops(site))


def emit_step(step: Step, buffers: Mapping[str, Buffer], m: Machine) -> Emitted:
    if isinstance(step, Jump):
        return Emitted(step.place, (), 0, 0, 0, step)
    if isinstance(step, Nest):
        return emit_nest(verify_nest(step, buffers), buffers, options_of(m))
    return emit_kernel(step, buffers, m)


@dataclass(frozen=True)
class Unit:
    """C text of one file, and the names of its functions in the order of its table."""

    text: str
    names: tuple[str, ...]


def merge(steps: Sequence[Emitted]) -> dict[str, Function]:
    """Equal functions once, by text; the value's name is its position."""
    return {p.function.text: p.function for s in steps for p in s.phases}


class Units:
    """Functions by files: equal texts once, under the name of their first. A file is given to ``ready`` as soon as it is large,
    to be built while more is emitted."""

    def __init__(self, ready: Callable[[Unit], None] | None = None) -> None:
        self.known: set[str] = set()
        self.open: list[tuple[str, Function]] = []
        self.helpers: set[str] = set()
        self.size = 0
        self.done: list[Unit] = []
        self.ready = ready

    def add(self, emitted: Emitted) -> None:
        for piece in emitted.phases:
            f = piece.function
            if f.text not in self.known:
                self.open.append((f"f{len(self.known)}", f))
                self.known.add(f.text)
                self.size += len(ctext.without(f.text, self.helpers))
        if self.size > LARGE:
            self._close([self.open])

    def finish(self) -> list[Unit]:
        """All files; what is left is two of like size if it is worth two."""
        parts: list[list[tuple[str, Function]]] = [[] for _ in range(2 if self.size > UNIT and len(self.open) > 3 else 1)]
        sizes = [0] * len(parts)
        for name, f in sorted(self.open, key=lambda one: -len(one[1].text)):
            k = sizes.index(min(sizes))
            parts[k].append((name, f))
            sizes[k] += len(f.text)
        self._close([p for p in parts if p])
        return self.done

    def _close(self, parts: Sequence[list[tuple[str, Function]]]) -> None:
        for part in parts:
            self.done.append(unit(part))
            if self.ready is not None:
                self.ready(self.done[-1])
        self.open, self.helpers, self.size = [], set(), 0


def unit(part: Sequence[tuple[str, Function]]) -> Unit:
    part = sorted(part, key=lambda one: int(one[0][1:]))
    needs: list[Need] = [n for _, f in part for n in f.needs]
    helpers: set[str] = set()
    texts = [ctext.without(f.text, helpers).replace(PLACEHOLDER, name) for name, f in part]
    table = ", ".join(f"(void *){name}" for name, _ in part)
    text = "\n\n".join([ctext.HEADER + ctext.render(needs), *texts, f"void *const shohin_functions[] = {{{table}}};\n"])
    return Unit(text, tuple(name for name, _ in part))


def with_copies(program: Program, copies: Sequence[tuple[str, str]]) -> Program:
    """The program with a copy step at the end for every output that could not be written in place."""
    steps = list(program.steps)
    buffers = {b.name: b for b in program.buffers}
    for source, target in copies:
        b = buffers[source]
        loops = tuple(Loop(f"i{k}", n) for k, n in enumerate(b.shape))
        index = tuple(Var(v.name) for v in loops)
        steps.append(
            Nest(loops, (), (), (Out(target, index, Load(source, index, b.dtype)),), "sequence", f"copy to {target}")
        )
    return replace(program, steps=tuple(steps))


class Compiled:
    """A program ready to run. Not for two threads at once: the second waits."""

    def __init__(
        self,
        program: Program,
        steps: Sequence[Emitted],
        memory: Plan,
        built: Sequence[Unit],
        files: Sequence[Any],
        threads: int,
    ):
        self.program, self.plan, self.threads = program, memory, threads
        self.source = "\n".join(u.text for u in built)
        self.arena_bytes = memory.arena_bytes
        self.lock = threading.Lock()
        self._libraries = [ctypes.CDLL(str(f)) for f in files]
        address: dict[str, int] = {}
        for unit, library in zip(built, self._libraries):
            table = (ctypes.c_void_p * len(unit.names)).in_dll(library, "shohin_functions")
            address.update({n: int(p) for n, p in zip(unit.names, table) if p})
        self._names = {text: f"f{i}" for i, text in enumerate(merge(steps))}
        self.inputs = [b for b in program.buffers if b.role == "input"]
        self.results = [b for b in program.buffers if b.role == "output"]
        self._layout(steps, address)
        self._due = True
        raw = np.zeros(memory.arena_bytes + 64, np.uint8)
        skip = -raw.ctypes.data % 64
        self._arena = raw[skip : skip + memory.arena_bytes]
        self._arena_at = raw.ctypes.data + skip
        self._keep: dict[str, Array] = {}
        self._raw = raw
        self._at: dict[str, int] = {}
        for name, offset in memory.offsets.items():
            self._point(name, self._arena_at + offset)
        for b in program.buffers:
            if b.role == "const":
                self._bind(b, np.ascontiguousarray(program.data[b.name]), "constant")
            elif b.role == "kept":
                self._bind(b, aligned(b), "kept")
        self._pool = pool(threads)
        self._run = runtime().shohin_run
        self.outputs: list[Array] = []

    def _layout(self, steps: Sequence[Emitted], address: Mapping[str, int]) -> None:
        records: list[StepRecord] = []
        self._places: list[str] = []
        self.step_of: list[int] = []
        """Of every phase that a run takes, the number of its step in the program."""
        self._where: dict[str, list[int]] = {}
        size = 0
        begins: list[int] = []
        jumps: list[tuple[int, Jump]] = []
        for i, step in enumerate(steps):
            begins.append(len(records))
            self.step_of += [i] * (1 if step.jump is not None else len(step.phases))
            if step.jump is not None:
                jumps.append((len(records), step.jump))
                records.append(
                    StepRecord(None, size, 0, 0, 0, 0, 0, 1 if step.jump.flag is None else 2 if step.jump.when else 3)
                )
                self._places.append(step.place)
                if step.jump.flag is not None:
                    self._where.setdefault(step.jump.flag, []).append(size)
                    size += 1
                continue
            small = step.work < 2 * PIECE or self.threads == 1
            stride = -(-step.scratch // 64) * 64
            for piece in step.phases:
                records.append(
                    StepRecord(
                        address[self._names[piece.function.text]],
                        size,
                        self.plan.shared[i],
                        self.plan.scratch[i],
                        stride,
                        piece.chunks,
                        int(small or piece.chunks == 1),
                        0,
                    )
                )
                self._places.append(step.place)
                for name in piece.function.slots:
                    self._where.setdefault(name, []).append(size)
                    size += 1
        begins.append(len(records))
        self._once = begins[self.program.once]
        for at, jump in jumps:
            records[at].chunks = begins[jump.to] - self._once
        self.step_of = self.step_of[self._once :]
        self._table = np.zeros(max(size, 1), np.uint64)
        self._steps = (StepRecord * max(len(records), 1))(*records)
        self._count = len(records)

    def _point(self, name: str, where: int) -> None:
        if self._at.get(name) == where:
            return
        self._at[name] = where
        for i in self._where.get(name, ()):
            self._table[i] = where
        for other, target in self.plan.over.items():
            if target == name:
                self._point(other, where)

    def _bind(self, b: Buffer, array: Array, what: str) -> None:
        if array.dtype != b.dtype or array.shape != b.shape:
            raise IRError(
                f"{what} {b.name}: {array.dtype.name}{list(array.shape)} came, "
                f"{b.dtype.name}{list(b.shape)} is expected"
            )
        if not array.flags.c_contiguous:
            raise IRError(f"{what} {b.name} is not contiguous; pass np.ascontiguousarray(...)")
        self._keep[b.name] = array
        self._point(b.name, array.ctypes.data)

    def bind(self, inputs: Sequence[Array], outputs: Sequence[Array] | None = None) -> None:
        """Point the program at these arrays. Outputs that are aliased to an input live in it; the others are
        allocated once, unless ``outputs`` gives them (in the order of the program, without the aliased ones)."""
        if len(inputs) != len(self.inputs):
            raise IRError(f"{len(inputs)} inputs came, {len(self.inputs)} are expected")
        for b, array in zip(self.inputs, inputs):
            if self._keep.get(b.name) is not array:
                self._bind(b, array, "input")
        free = [b for b in self.results if b.alias is None]
        if outputs is not None:
            for b, array in zip(free, outputs, strict=True):
                self._bind(b, array, "output")
        for b in free:
            if b.name not in self._keep:
                self._bind(b, np.empty(b.shape, b.dtype), "output")
        self.outputs = [self._keep[b.alias or b.name] for b in self.results]
        self._due = True

    def run(self) -> list[Array]:
        """All steps; the outputs, in the order of the program (the same arrays at every run)."""
        with self.lock:
            if self._due:
                self.prepare(self._table)
                self._due = False
            self._run(self._pool, *self._main(), self._table.ctypes.data, self._arena_at)
        return self.outputs

    def _main(self) -> tuple[Any, int]:
        """The records of the steps that each run takes, and how many they are."""
        return ctypes.byref(self._steps, self._once * ctypes.sizeof(StepRecord)), self._count - self._once

    @property
    def keeps(self) -> bool:
        """Are there steps whose results stay between runs (``Program.once``)?"""
        return self._once > 0

    def prepare(self, table: Array) -> None:
        """Run those steps; to be called with ``lock`` held."""
        self._run(self._pool, self._steps, self._once, table.ctypes.data, self._arena_at)

    def table(self) -> Array:
        """A copy of the table, with constants and temporaries in it, for a caller that binds its own arrays
        (``entries``, ``start``)."""
        return self._table.copy()

    def entries(self, name: str) -> tuple[int, ...]:
        """Where in the table the address of a buffer stands, and of what lies over it."""
        over = [i for other, target in self.plan.over.items() if target == name for i in self.entries(other)]
        return (*self._where.get(name, ()), *over)

    def start(self, table: Array) -> Callable[[], Any]:
        """What runs all steps on ``table``; to be called with ``lock`` held, for the arena is one. A program that has no
        parallel step wakes no thread."""
        parallel = any(not s.serial and not s.kind for s in self._steps[self._once : self._count])
        at = (self._pool if parallel else None, *self._main(), ctypes.c_void_p(table.ctypes.data), ctypes.c_void_p(self._arena_at))
        return functools.partial(self._run, *at)

    def profile(self, inputs: Sequence[Array], repeats: int = 10) -> list[tuple[str, float]]:
        """(place, median seconds) of every phase of a run, on copies of these inputs; ``step_of`` says of which step of
        the program each is a phase. Steps whose results stay are not among them."""
        self.bind([np.array(a) for a in inputs], [np.empty(b.shape, b.dtype) for b in self.results if b.alias is None])
        self.run()
        steps = self._steps[self._once : self._count]
        with self.lock:
            times = step_seconds(self._pool, steps, len(steps), self._table, self._arena_at, repeats)
        return list(zip(self._places[self._once :], np.median(times, axis=0).tolist()))

    def __repr__(self) -> str:
        return f"<compiled: {len(self.program.steps)} steps, arena {self.arena_bytes:,} bytes, {self.threads} threads>"

    def __str__(self) -> str:
        """Buffers and steps, then the memory plan (``source`` is the C)."""
        return f"{self!r}\n{self.program}\n{self.plan}"

    def __call__(self, *inputs: Array) -> list[Array]:
        """``bind`` with new output arrays, and ``run``."""
        self.bind(inputs, [np.empty(b.shape, b.dtype) for b in self.results if b.alias is None])
        return self.run()


def aligned(b: Buffer) -> Array:
    """Memory for a buffer, at a multiple of 64 bytes."""
    raw = np.zeros(b.nbytes + 64, np.uint8)
    return raw[-raw.ctypes.data % 64 :][: b.nbytes].view(b.dtype).reshape(b.shape)


def processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Prepared:
    """All that compiling found out before the C compiler: plain data, kept on disk for a warm start (``warm``)."""

    program: Program
    steps: tuple[Emitted, ...]
    memory: Plan
    units: tuple[Unit, ...]
    level: str
    threads: int


def prepare(program: Program, *, level: str = "native", threads: int | None = None) -> Prepared:
    """Emit and plan ``program`` for this host; ``threads`` defaults to the number of processors."""
    count = threads or processors()
    m = machine(level, count)
    buffers = {b.name: b for b in program.buffers}
    made = Units(lambda one: begin(one.text, level=level))
    steps: list[Emitted] = []

    def emit(some: Sequence[Step]) -> None:
        for step in some:
            steps.append(emit_step(step, buffers, m))
            made.add(steps[-1])

    emit(program.steps)
    stride = [-(-s.scratch // 64) * 64 * count for s in steps]
    memory = plan(program, stride, [s.shared for s in steps])
    if memory.copies:
        extended = with_copies(program, memory.copies)
        extra = extended.steps[len(program.steps) :]
        emit(extra)
        none = (0,) * len(extra)
        memory = replace(memory, scratch=(*memory.scratch, *none), shared=(*memory.shared, *none))
    return Prepared(program, tuple(steps), memory, tuple(made.finish()), level, count)


def load(prepared: Prepared) -> Compiled:
    """Build (or find) the objects and bind the table."""
    files = build_all([u.text for u in prepared.units], level=prepared.level) if prepared.units else []
    return Compiled(prepared.program, prepared.steps, prepared.memory, prepared.units, files, prepared.threads)


def compile_program(program: Program, *, level: str = "native", threads: int | None = None) -> Compiled:
    """``prepare`` and ``load``."""
    return load(prepare(program, level=level, threads=threads))
