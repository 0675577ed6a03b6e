"""Sibling nests: folds over the same elements become one nest, which reads them once; so do functions of the same elements.

Batch norm's backward pass asks for three sums over one gradient; apart they are three passes over memory. A GELU that is made
again and its derivative share an erf. Two nests join where their loops and order are the same, they load a buffer in
common, and one may move to the place of the other: nothing between them writes what it reads or touches what it
writes. The order of each sum stays what it was, and so do its bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

from shohin.compiler.attach import SLOW
from shohin.compiler.segments import meet, passes, within
from shohin.core import loop
from shohin.core.loop import Expr
from shohin.core.nest import Nest, Step

MOST = 4
"""Accumulators of one nest: more would not stay in registers."""
NEAR = 16
"""Steps within which functions join: what is made again was not to wait."""
LEAST = 1024
"""Terms from which a pass over memory is worth saving."""


def joined(steps: Sequence[Step]) -> list[Step]:
    """The steps with siblings joined; nothing crosses a jump, or a place that one goes to."""
    return within(steps, _segment)


def _segment(steps: list[Step]) -> list[Step]:
    at = 0
    while at < len(steps):
        step = steps[at]
        if isinstance(step, Nest) and (_folds(step) or _functions(step)):
            for before in range(at - 1, -1 if _folds(step) else max(at - NEAR, -1), -1):
                other = steps[before]
                if not isinstance(other, Nest) or not _alike(other, step):
                    continue
                between = steps[before + 1 : at]
                if not meet(other, step) and passes(step, between):
                    steps[before : at + 1] = [_one(other, step), *between]
                    break
                if not meet(other, step) and passes(other, between):
                    steps[before : at + 1] = [*between, _one(other, step)]
                    at -= 1
                    break
            else:
                at += 1
                continue
            continue
        at += 1
    return steps


def _folds(nest: Nest) -> bool:
    return nest.order == "chunks8" and bool(nest.accs) and prod(v.extent for v in nest.red) >= LEAST


def _functions(nest: Nest) -> bool:
    """Elementwise, with a function that costs tens of operations (no kernel takes such a nest along)."""
    plain = not nest.accs and all(o.accumulate is None for o in nest.outs) and prod(v.extent for v in nest.free) >= LEAST
    return plain and any(isinstance(e, loop.Un | loop.Bin) and e.op in SLOW for o in nest.outs for e in loop.walk(o.value))


def _alike(a: Nest, b: Nest) -> bool:
    if (a.free, a.red, a.order) != (b.free, b.red, b.order):
        return False
    if _folds(a):
        return _folds(b) and len(a.accs) + len(b.accs) <= MOST and bool(_terms(a) & _terms(b))
    return _functions(a) and _functions(b) and len(a.outs) + len(b.outs) <= MOST and bool(_whole(a) & _whole(b))


def _whole(nest: Nest) -> set[str]:
    """Buffers that are read element by element."""
    every = {v.name for v in nest.free}
    loads = [e for o in nest.outs for e in loop.walk(o.value) if isinstance(e, loop.Load)]
    return {e.buffer for e in loads if every == {v.name for i in e.index for v in loop.walk(i) if isinstance(v, loop.Var)}}


def _terms(nest: Nest) -> set[str]:
    """Buffers that vary along the fold."""
    reduced = {v.name for v in nest.red}
    loads = [e for acc in nest.accs for t in acc.terms for e in loop.walk(t) if isinstance(e, loop.Load)]
    return {e.buffer for e in loads if any(isinstance(v, loop.Var) and v.name in reduced for i in e.index for v in loop.walk(i))}


def _one(a: Nest, b: Nest) -> Nest:
    """Both; the accumulators of ``b`` get a number that none of ``a`` has."""
    k = len(a.accs)
    new: dict[str, Expr] = {n: loop.Name(f"{n}_{k}", t) for acc in b.accs for n, t in zip(acc.names, acc.dtypes, strict=True)}
    accs = tuple(replace(acc, names=tuple(f"{n}_{k}" for n in acc.names)) for acc in b.accs)
    outs = tuple(replace(o, value=loop.substitute(o.value, new)) for o in b.outs)
    return replace(a, accs=(*a.accs, *accs), outs=(*a.outs, *outs), place=a.place if a.place == b.place else f"{a.place} + {b.place}")


__all__ = ["joined"]
