"""FLOP and bytes of a program's steps, counted from what the steps say: nests by their expressions, kernels by their records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from math import prod
from typing import Any

from shohin.compiler.kernel import KERNELS, Machine, Site
from shohin.core import dtypes, loop
from shohin.core.dtypes import FLOATING
from shohin.core.loop import Expr
from shohin.core.nest import Buffer, Jump, KernelCall, Nest, Step

TERM = {"fma": 2, "moments": 4}
"""Operations of a combiner on one term, where it is not one a name."""


@dataclass(frozen=True)
class Work:
    """``flop``: float operations, an fma is two, a function such as exp one; what depends on fewer loops counts once there.
    ``bytes``: each buffer once, read or written, as far as the step touches it: what no cache can save. ``int8``: a kernel's
    products are of integers, which have a roof of their own."""

    flop: float
    bytes: float
    int8: bool = False


def work_of(step: Step, buffers: Mapping[str, Buffer], machine: Machine) -> Work:
    """The work of one step of a program on ``machine``.

    >>> from shohin.compiler.kernel import GENERIC
    >>> from shohin.core import dtypes
    >>> from shohin.core.nest import Loop, Out
    >>> x = loop.Load("x", (loop.Var("i"),), dtypes.float32)
    >>> step = Nest((Loop("i", 10),), (), (), (Out("y", (loop.Var("i"),), x * x + 1.0),), "sequence", "square")
    >>> work_of(step, {n: Buffer(n, (10,), dtypes.float32, "temp") for n in "xy"}, GENERIC)
    Work(flop=20, bytes=80, int8=False)
    """
    if isinstance(step, Jump):
        return Work(0, 0)
    if isinstance(step, Nest):
        flop, moved = _nest(step, buffers)
        return Work(flop, sum(moved.values()))
    return _kernel(step, buffers, machine)


def _nest(nest: Nest, buffers: Mapping[str, Buffer]) -> tuple[float, dict[str, int]]:
    """FLOP, and bytes by buffer."""
    extents = {v.name: v.extent for v in (*nest.free, *nest.red)}
    whole = prod(extents.values())
    values = Values([e for a in nest.accs for e in (*a.terms, *a.init)] + [o.value for o in nest.outs])
    flop = sum(prod(extents[v] for v in values.loops(e)) for e in values if _counts(e))
    flop += sum(whole * TERM.get(a.combiner, len(a.names)) for a in nest.accs if a.dtypes[0] in FLOATING)
    moved: dict[str, int] = {}
    for e in values.loads():
        b = buffers[e.buffer]
        moved[b.name] = min(b.nbytes, moved.get(b.name, 0) + _touched(b, values.loops(e), extents))
    for o in nest.outs:
        reached = {x.name for i in o.index for x in loop.walk(i) if isinstance(x, loop.Var)}
        moved[o.buffer] = moved.get(o.buffer, 0) + _touched(buffers[o.buffer], reached, extents)
    return flop, moved


def _kernel(call: KernelCall, buffers: Mapping[str, Buffer], machine: Machine) -> Work:
    """The kernel's own, its epilogue's an element of the result, and that of the nests which it does on the way: what they
    hand over lies in scratch, and what they reduce is in cache."""
    operands, results = tuple(buffers[n] for n in call.operands), tuple(buffers[n] for n in call.results)
    site = Site(call=call, operands=operands, results=results, machine=machine)
    flop = KERNELS[call.kernel].flops(site)
    moved = {b.name: b.nbytes for b in (*operands, *results)}
    if KERNELS[call.kernel].layout is not None and len(call.operands) > 2:
        moved.pop(operands[1].name)  # read in another form
    for port in call.ports:
        values = Values([port.expr])
        moved |= {e.buffer: min(buffers[e.buffer].nbytes, results[0].size * e.type.itemsize) for e in values.loads()}
        flop += results[0].size * sum(1 for e in values if _counts(e))
    for nest in (*call.staged, *call.folds):
        more, touched = _nest(nest, buffers)
        flop += more
        moved |= {b: max(n, moved.get(b, 0)) for b, n in touched.items()}
    for nest in call.staged:
        for out in nest.outs:
            moved.pop(out.buffer, None)
    return Work(flop, sum(moved.values()), operands[0].dtype == dtypes.int8)


def _counts(e: Expr) -> bool:
    """Is this a float operation?"""
    floats = e.dtype in FLOATING or (isinstance(e, loop.Bin) and e.op in loop.COMPARE and e.a.dtype in FLOATING)
    return floats and isinstance(e, loop.Bin | loop.Un | loop.Fma | loop.Intrinsic)


class Values:
    """The different values beneath some expressions, each once however often it is written; what stands in an index or a
    predicate is no value. ``loops(e)``: the loops that a value depends on."""

    def __init__(self, roots: Iterable[Expr]) -> None:
        self._numbers: dict[int, int] = {}
        self._keys: dict[tuple[Any, ...], int] = {}
        self._depends: list[frozenset[str]] = []
        self._held: list[Expr] = []
        self._chosen: dict[int, Expr] = {}
        for e in roots:
            self._choose(e)

    def __iter__(self) -> Iterator[Expr]:
        return iter(self._chosen.values())

    def loads(self) -> list[loop.Load]:
        """The different loads."""
        return [e for e in self._chosen.values() if isinstance(e, loop.Load)]

    def loops(self, e: Expr) -> frozenset[str]:
        return self._depends[self._number(e)]

    def _choose(self, e: Expr) -> None:
        n = self._number(e)
        if n not in self._chosen:
            self._chosen[n] = e
            for part in () if isinstance(e, loop.Load) else loop.children(e):
                self._choose(part)

    def _number(self, e: Expr) -> int:
        """Equal expressions have one number; children first, so that shared parts are looked at once."""
        if id(e) in self._numbers:
            return self._numbers[id(e)]
        parts = [self._number(part) for part in loop.children(e)]
        own = tuple(v for f in fields(e) if not _is_expr(v := getattr(e, f.name)))
        key = (type(e), own, *parts)
        if key not in self._keys:
            self._keys[key] = len(self._keys)
            named = frozenset((e.name,)) if isinstance(e, loop.Var) else frozenset()
            self._depends.append(named.union(*(self._depends[p] for p in parts)))
        self._held.append(e)  # so that its id stays its own
        self._numbers[id(e)] = self._keys[key]
        return self._keys[key]


def _is_expr(v: Any) -> bool:
    return isinstance(v, Expr) or (isinstance(v, tuple) and any(isinstance(x, Expr) for x in v))


def _touched(b: Buffer, loops: Iterable[str], extents: Mapping[str, int]) -> int:
    """Bytes of ``b`` that indices over these loops reach: as many elements as the loops have points, at most all."""
    return min(b.nbytes, prod(extents[n] for n in loops) * b.dtype.itemsize)


__all__ = ["Values", "Work", "work_of"]
