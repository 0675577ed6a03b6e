"""Nests that a kernel does on its way, row by row, instead of a pass over memory of their own (ir.md, ports).

A ``chunks8`` reduction over a kernel's result joins the kernel (port ``statistic``): batch norm's statistics and its backward
sums are taken while the rows are in cache. An elementwise value that kernels read is made by them in scratch (port ``load``)
and lies nowhere in memory: normalization and activation, and the gradient of batch norm; who else reads it, element by
element, computes it too. Which ports a kernel has it says itself; a nest moves only where nothing between its place and the
kernel's writes what it reads or touches what it writes.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod

from shohin.compiler.flat import Flat, nodes
from shohin.compiler.kernel import KERNELS, Machine, Site
from shohin.compiler.plan import touched
from shohin.compiler.rows import folded_rows, staged_rows
from shohin.compiler.schedule import Options
from shohin.compiler.segments import within
from shohin.core import loop
from shohin.core.loop import Expr
from shohin.core.nest import Buffer, KernelCall, Nest, Step

MOST = 32
"""Operations of a value that is made anew by each kernel that reads it."""
SLOW = frozenset("exp log expm1 log1p sin cos tanh erf pow atan2 div".split())
"""Functions of tens of operations: a value that holds one is never computed twice."""


def attached(steps: Sequence[Step], buffers: Mapping[str, Buffer], machine: Machine, options: Options) -> list[Step]:
    """The steps with nests moved into the kernels that take them."""
    read: dict[str, int] = {}
    for step in steps:
        for name in touched(step)[0]:
            read[name] = read.get(name, 0) + 1

    def change(part: list[Step]) -> list[Step]:
        if not any(isinstance(s, KernelCall) for s in part):
            return part
        stretch = _Stretch(part, buffers, machine, options)
        stretch.folds()
        stretch.loads(read)
        return [s for s in stretch.steps if s is not None]

    return within(steps, change)


class _Stretch:
    """Steps without jumps among them, and by buffer the places where it is read and written. A step that has moved leaves
    ``None``, so that places stay."""

    def __init__(self, steps: list[Step], buffers: Mapping[str, Buffer], machine: Machine, options: Options) -> None:
        self.steps: list[Step | None] = list(steps)
        self.buffers, self.machine, self.options = buffers, machine, options
        self.reads: dict[str, list[int]] = {}
        self.writes: dict[str, list[int]] = {}
        for k, step in enumerate(steps):
            for names, index in zip(touched(step), (self.reads, self.writes), strict=True):
                for n in names:
                    index.setdefault(n, []).append(k)

    def put(self, k: int, step: Step | None) -> None:
        """``step`` in the place ``k``, and the index after it."""
        old = self.steps[k]
        for where, names in enumerate(touched(old) if old is not None else ()):
            for n in names:
                (self.reads, self.writes)[where][n].remove(k)
        for where, names in enumerate(touched(step) if step is not None else ()):
            for n in names:
                insort((self.reads, self.writes)[where].setdefault(n, []), k)
        self.steps[k] = step

    def within(self, index: Mapping[str, list[int]], name: str, lo: int, hi: int) -> bool:
        """Does a step strictly between ``lo`` and ``hi`` touch ``name``?"""
        at = index.get(name, [])
        k = bisect_left(at, lo + 1)
        return k < len(at) and at[k] < hi

    def takes(self, call: KernelCall, port: str, operand: int = 0) -> bool:
        take = lambda names: tuple(self.buffers[n] for n in names)
        site = Site(call=call, operands=take(call.operands), results=take(call.results), machine=self.machine)
        return KERNELS[call.kernel].takes(port, site, operand)

    # -- statistic
    def folds(self) -> None:
        for at, nest in enumerate(self.steps):
            if not isinstance(nest, Nest) or nest.order != "chunks8":
                continue
            reads, writes = touched(nest)
            before = max((k for n in reads for k in self.writes.get(n, ()) if k < at), default=-1)
            call = self.steps[before] if before >= 0 else None
            if not isinstance(call, KernelCall) or call.results[0] not in reads or not self.takes(call, "statistic"):
                continue
            met = any(self.within(index, n, before - 1, at) for n in writes for index in (self.reads, self.writes))
            own = {o.buffer for fold in call.folds for o in fold.outs}  # whole only when the kernel has ended
            if met or own & reads or folded_rows(nest, self.buffers, call.results[0], self.options) is None:
                continue
            self.put(at, None)
            self.put(before, replace(call, folds=(*call.folds, nest)))

    # -- load
    def loads(self, read: Mapping[str, int]) -> None:
        for at, nest in enumerate(self.steps):
            if not isinstance(nest, Nest) or nest.accs or len(nest.outs) != 1:
                continue
            name = nest.outs[0].buffer
            readers = self.reads.get(name, [])
            if len(readers) != read.get(name, 0) or not self._movable(nest, readers):
                continue
            new = {k: self._making(step, nest) for k in readers if (step := self.steps[k]) is not None}
            if all(new.values()) and any(isinstance(s, KernelCall) and name in s.operands for s in new.values()):
                for k, step in new.items():
                    self.put(k, step)
                self.put(at, None)

    def _movable(self, nest: Nest, readers: Sequence[int]) -> bool:
        """Is the value cheap enough for every reader, and does what it is made of stay until the last one?"""
        out = nest.outs[0]
        if self.buffers[out.buffer].role != "temp" or out.index != tuple(loop.Var(v.name) for v in nest.free) or not readers:
            return False
        rows = staged_rows(nest, self.buffers)
        if rows is None:
            return False
        value = nodes([rows.shaped.stores[0].value])
        large = {e.buffer for e in value if isinstance(e, Flat) and 2 * self.buffers[e.buffer].size > rows.count * rows.width}
        slow = any(isinstance(e, loop.Un | loop.Bin) and e.op in SLOW for e in value)
        if slow or len(value) > MOST or not large or (len(large) > 1 and len(readers) > 2):
            return False
        return not any(self.within(self.writes, n, readers[0] - 1, readers[-1]) for n in touched(nest)[0])

    def _making(self, step: Step, nest: Nest) -> Step | None:
        """``step`` as it is when it makes the value for itself, or None: a kernel in scratch, others where they read it."""
        name = nest.outs[0].buffer
        new = self._inlined(step, nest)
        if isinstance(new, KernelCall):
            if name in new.operands:
                if new.operands.count(name) != 1 or not self.takes(new, "load", new.operands.index(name)):
                    return None
                new = replace(new, staged=(*new.staged, nest))
            if any(folded_rows(n, self.buffers, new.results[0], self.options) is None for n in new.folds):
                return None
        return None if name in touched(new)[0] else new

    def _inlined(self, step: Step, nest: Nest) -> Step:
        """``step`` with the value in the place of its loads, where each element is asked for once."""
        name, value = nest.outs[0].buffer, nest.outs[0].value
        size = self.buffers[name].size

        def rule(x: Expr) -> Expr | None:
            if not isinstance(x, loop.Load) or x.buffer != name or x.pred is not None:
                return None
            return loop.substitute(value, {v.name: i for v, i in zip(nest.free, x.index, strict=True)})

        def put(e: Expr) -> Expr:
            return loop.transform(e, rule)

        def inside(n: Nest) -> Nest:
            if prod(v.extent for v in (*n.free, *n.red)) > size:
                return n
            accs = tuple(replace(a, init=tuple(map(put, a.init)), terms=tuple(map(put, a.terms))) for a in n.accs)
            outs = tuple(replace(o, index=tuple(map(put, o.index)), value=put(o.value)) for o in n.outs)
            return replace(n, accs=accs, outs=outs)

        if isinstance(step, Nest):
            return inside(step)
        if not isinstance(step, KernelCall):
            return step
        large = self.buffers[step.results[0]].size > size
        ports = step.ports if large else tuple(replace(p, expr=put(p.expr)) for p in step.ports)
        return replace(step, ports=ports, folds=tuple(map(inside, step.folds)))


__all__ = ["SLOW", "attached"]
