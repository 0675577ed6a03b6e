"""A nest made ready for scheduling: flat loads, no loops of extent 1, loops that walk memory as one merged.

Names become canonical (``f0`` free, ``r0`` reduced, ``a0`` accumulators), so that equal layers give equal C text.
Merging never changes the order of a reduction: reduced loops keep their sequence, and under ``lanes16`` the
innermost joins the next only where its extent is a multiple of 16, so that every term keeps its lane.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from math import prod

from shohin.compiler.flat import Flat, affine, coefficient, flatten, nodes, opaque, parts, rewrite, simplify
from shohin.core import dtypes
from shohin.core.dtypes import DType
from shohin.core.errors import IRError
from shohin.core.loop import Bin, Const, Expr, Load, Name, Var, cast
from shohin.core.nest import Buffer, Loop, Nest


@dataclass(frozen=True)
class Store:
    """``target`` as a ``Flat`` (where), the value, and the combiner of an accumulating store."""

    target: Flat
    value: Expr
    accumulate: str | None


@dataclass(frozen=True)
class Fold:
    """An accumulator with canonical names; terms have the accumulators' dtypes."""

    names: tuple[str, ...]
    combiner: str
    init: tuple[Expr, ...]
    terms: tuple[Expr, ...]
    dtypes: tuple[DType, ...]


@dataclass(frozen=True)
class Shaped:
    free: tuple[Loop, ...]
    red: tuple[Loop, ...]
    folds: tuple[Fold, ...]
    stores: tuple[Store, ...]
    order: str
    place: str
    serial: bool
    """Stores may meet: points run in order on one thread, one by one."""

    @property
    def ranges(self) -> dict[str, tuple[int, int]]:
        return {v.name: (0, v.extent - 1) for v in (*self.free, *self.red)}

    @property
    def points(self) -> int:
        return prod(v.extent for v in self.free)

    @property
    def terms(self) -> int:
        return prod(v.extent for v in self.red) if self.folds else 1

    @property
    def ops(self) -> int:
        return len(nodes([*(t for f in self.folds for t in f.terms), *(s.value for s in self.stores)]))

    def roots(self) -> list[Expr]:
        folds = [e for f in self.folds for e in (*f.init, *f.terms)]
        return [*folds, *(e for s in self.stores for e in (s.target, s.value))]

    def accesses(self) -> list[Flat]:
        return [e for e in nodes(self.roots()) if isinstance(e, Flat)]

    def term_loads(self) -> list[Flat]:
        return [e for e in nodes(t for f in self.folds for t in f.terms) if isinstance(e, Flat)]


def shape(nest: Nest, buffers: Mapping[str, Buffer]) -> Shaped:
    """The nest, normalized. Raises ``IRError`` for what no order defines."""
    together = {len(a.names) > 1 and a.combiner != "moments" for a in nest.accs}
    if nest.order != "sequence" and len(together) == 2:
        raise IRError(
            f"nest {nest.place}: accumulators of several names run in sequence; give them a nest of their own"
        )
    order = "sequence" if True in together or not nest.accs else nest.order
    names = {n: f"a{i}" for i, n in enumerate(n for a in nest.accs for n in a.names)}
    memo: dict[int, tuple[Expr, Expr]] = {}
    renamed: dict[int, tuple[Expr, Expr]] = {}

    def flat(e: Expr) -> Expr:
        def name(x: Expr) -> Expr | None:
            return replace(x, name=names[x.name]) if isinstance(x, Name) and x.name in names else None

        return rewrite(flatten(e, buffers, memo), name, renamed)

    folds = tuple(
        Fold(
            tuple(names[n] for n in a.names),
            a.combiner,
            tuple(cast(flat(e), t) for e, t in zip(a.init, a.dtypes)),
            tuple(cast(flat(e), a.dtypes[0] if a.combiner == "fma" else a.dtypes[i]) for i, e in enumerate(a.terms)),
            a.dtypes,
        )
        for a in nest.accs
    )
    stores = []
    for out in nest.outs:
        buffer = buffers[out.buffer]
        where = flatten(Load(out.buffer, out.index, buffer.dtype), buffers)
        assert isinstance(where, Flat)
        stores.append(Store(where, flat(out.value), out.accumulate))
    shaped = Shaped(nest.free, nest.red if nest.accs else (), folds, tuple(stores), order, nest.place, False)
    shaped = _split(_fold_units(shaped))
    serial = any(s.accumulate or not _injective(s.target, shaped) for s in shaped.stores)
    shaped = replace(shaped, serial=serial)
    if not serial:
        shaped = replace(shaped, free=_by_stride(shaped))
    return _canonical(_merge(_merge(shaped, "free"), "red"))


def apply(shaped: Shaped, rule: Callable[[Expr], Expr | None]) -> Shaped:
    memo: dict[int, tuple[Expr, Expr]] = {}

    def go(e: Expr) -> Expr:
        return rewrite(e, rule, memo)

    folds = tuple(replace(f, init=tuple(map(go, f.init)), terms=tuple(map(go, f.terms))) for f in shaped.folds)
    stores = []
    for s in shaped.stores:
        target = go(s.target)
        assert isinstance(target, Flat)
        stores.append(replace(s, target=target, value=go(s.value)))
    return replace(shaped, folds=folds, stores=tuple(stores))


def _fold_units(shaped: Shaped) -> Shaped:
    units = {v.name for v in (*shaped.free, *shaped.red) if v.extent == 1}
    ranges = shaped.ranges

    def rule(e: Expr) -> Expr | None:
        if isinstance(e, Var) and e.name in units:
            return Const(0, dtypes.int32)
        if isinstance(e, Flat):
            const, terms = e.const, {}
            for t, c in e.terms:
                more, inner = affine(t)
                const += c * more
                for u, k in inner.items():
                    terms[u] = terms.get(u, 0) + c * k
            e = replace(e, const=const, terms=tuple((t, c) for t, c in terms.items() if c))
            simpler = simplify(e, ranges)
            return e if simpler is None else simpler
        return simplify(e, ranges)

    shaped = apply(shaped, rule)
    keep = lambda loops: tuple(v for v in loops if v.extent != 1)
    return replace(shaped, free=keep(shaped.free), red=keep(shaped.red))


def _split(shaped: Shaped) -> Shaped:
    """A loop that is only taken apart by / n and % n becomes two: the dims of a reshape, recovered. The order of a reduction
    stays; its 16 lanes want the innermost loop whole."""
    for _ in range(8):
        kept = shaped.red[-1].name if shaped.order == "lanes16" and shaped.red else ""
        extents = {v.name: v.extent for v in (*shaped.free, *shaped.red) if v.name != kept}
        parts: dict[str, set[int]] = {}
        for e in nodes(shaped.roots()):
            if isinstance(e, Bin) and e.op in ("floordiv", "mod") and isinstance(e.a, Var) and isinstance(e.b, Const):
                if (n := int(e.b.value)) > 1 and extents.get(e.a.name, 1) % n == 0 and extents[e.a.name] > n:
                    parts.setdefault(e.a.name, set()).add(n)
        if not parts:
            break
        name, found = next(iter(parts.items()))
        shaped = _halved(shaped, Loop(name, extents[name]), min(found))
    return shaped


def _halved(shaped: Shaped, loop: Loop, n: int) -> Shaped:
    """``loop`` as an outer one and one of ``n`` inside."""
    halves = (Loop(f"{loop.name}/{n}", loop.extent // n), Loop(f"{loop.name}%{n}", n))  # no axis has such a name
    whole = Bin("add", Bin("mul", Var(halves[0].name), Const(n, dtypes.int32)), Var(halves[1].name))
    shaped = apply(shaped, lambda e: whole if isinstance(e, Var) and e.name == loop.name else None)
    both = lambda loops: tuple(h for v in loops for h in (halves if v.name == loop.name else (v,)))
    return _fold_units(replace(shaped, free=both(shaped.free), red=both(shaped.red)))


def _injective(target: Flat, shaped: Shaped) -> bool:
    """Whether different points surely store to different places: strides that nest."""
    if target.pred is not None or any(not isinstance(t, Var) for t, _ in target.terms):
        return False
    steps = sorted((abs(coefficient(target, v.name)), v.extent) for v in shaped.free)
    reach = 1
    for stride, extent in steps:
        if stride < reach:
            return False
        reach = stride * (extent - 1) + reach
    return True


def _by_stride(shaped: Shaped) -> tuple[Loop, ...]:
    target = shaped.stores[0].target
    return tuple(sorted(shaped.free, key=lambda v: -abs(coefficient(target, v.name))))


def _merge(shaped: Shaped, side: str) -> Shaped:
    """Neighbours of one side whose every access has stride(outer) = stride(inner) * extent(inner)."""
    loops: list[Loop] = list(getattr(shaped, side))
    accesses = shaped.accesses()
    pinned = _values_of(shaped.roots())
    for a in accesses:
        pinned |= opaque(a)
    drop: set[str] = set()
    done: list[Loop] = []
    for v in reversed(loops):
        if done:
            inner = done[-1]
            innermost = len(done) == 1
            lanes = shaped.order == "lanes16" and side == "red" and innermost and inner.extent % 16 != 0
            fits = all(coefficient(a, v.name) == coefficient(a, inner.name) * inner.extent for a in accesses)
            if fits and not lanes and v.name not in pinned and inner.name not in pinned:
                drop.add(v.name)
                done[-1] = Loop(inner.name, inner.extent * v.extent)
                continue
        done.append(v)
    if not drop:
        return shaped

    def rule(e: Expr) -> Expr | None:
        if isinstance(e, Flat):
            return replace(e, terms=tuple((t, c) for t, c in e.terms if not (isinstance(t, Var) and t.name in drop)))
        return None

    merged = tuple(reversed(done))
    shaped = apply(shaped, rule)
    return replace(shaped, free=merged) if side == "free" else replace(shaped, red=merged)


def _values_of(roots: Iterable[Expr]) -> set[str]:
    """Loop variables that occur as values, outside of affine indices."""
    found: set[str] = set()
    for e in nodes(roots):
        if isinstance(e, Flat):
            continue
        found |= {p.name for p in parts(e) if isinstance(p, Var)}
    return found | {e.name for e in roots if isinstance(e, Var)}


def _canonical(shaped: Shaped) -> Shaped:
    new = {v.name: f"f{i}" for i, v in enumerate(shaped.free)} | {v.name: f"r{i}" for i, v in enumerate(shaped.red)}

    def rule(e: Expr) -> Expr | None:
        return Var(new[e.name]) if isinstance(e, Var) else None

    shaped = apply(shaped, rule)
    rename = lambda loops: tuple(Loop(new[v.name], v.extent) for v in loops)
    return replace(shaped, free=rename(shaped.free), red=rename(shaped.red))
