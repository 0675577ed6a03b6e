"""From an op's record to its meaning in the loop IR.

Two forms: ``pointwise`` ops say which expression stands at given coordinates (elementwise, movement, indexing,
generators), so that a consumer can take it in place of a load; ``nests`` gives the loops of all others. Operands are
asked for through ``At``: (operand number, coordinates, guard, pad) -> expression.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

from shohin.core import dtypes, loop
from shohin.core.axes import Dim, Solved
from shohin.core.dtypes import DType
from shohin.core.errors import IRError, RecordError
from shohin.core.graph import Node
from shohin.core.loop import Expr, Var
from shohin.core.nest import Acc, Loop, Nest, Out
from shohin.ops.kinds import fold_order

At = Callable[..., Expr]
Temp = Callable[[tuple[int, ...], DType], str]
Attrs = Mapping[str, Any]


def is_pointwise(node: Node) -> bool:
    """Does every element of the result follow from an expression at its coordinates?"""
    op = node.op
    return callable(op.nest) or op.kind == "elementwise" or (op.kind == "movement" and op.nest == "derived")


def is_folded(node: Node) -> bool:
    """Is the op one nest of loops from its relation, whose stored value may be carried further before it is stored?"""
    return node.op.nest == "derived" and not is_pointwise(node)


def pointwise(node: Node, coords: Sequence[Expr], at: At) -> Expr:
    """The expression at ``coords``; 16-bit floats compute in float32 and round once."""
    op, result = node.op, node.results[0]
    if callable(op.nest):
        load = lambda k, index, pred=None, pad=None: at(k, tuple(index), pred, pad)
        return op.nest(tuple(coords), load, [v.aval for v in node.operands], result.aval, node.attrs)
    if op.kind == "elementwise":
        values = [_widened(op, at(k, tuple(coords), None, None)) for k in range(len(node.operands))]
        body = op.body
        assert body is not None
        return loop.cast(body(*values, **node.attrs), result.dtype)
    solved = op.solve([v.shape for v in node.operands], node.attrs)
    names: dict[str, Expr] = {}
    for d, c in zip(solved.relation.results[0], coords, strict=True):
        _bind_result(d, c, solved, names)
    index, pred = _index(solved.relation.operands[0], node.operands[0].shape, names, solved.extents)
    pad = None if op.pad is None else node.attrs.get(op.pad.value, op.pad.value) if isinstance(op.pad.value, str) else op.pad.value
    return at(0, index, pred, pad)


def _widened(op: Any, x: Expr) -> Expr:
    wide = op.dtypes.compute(x.dtype)
    return loop.cast(x, wide)


def _called(function: Callable[..., Any], values: Sequence[Expr], attrs: Attrs) -> Any:
    """A record's body or fin on ``values``, with the attributes that its signature takes."""
    taken = inspect.signature(function).parameters if attrs else {}
    every = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in taken.values())
    return function(*values, **{k: v for k, v in attrs.items() if every or k in taken})


def _term(op: Any, x: Expr, attrs: Attrs, kind: DType, guard: Expr | None = None, outside: Any = 0) -> Expr:
    """What a fold takes of the element ``x``: the body on it, in the accumulator's dtype (in the compute dtype where that one
    would lose: a test on floats that counts in integers). Where the guard fails a body's term is ``outside``."""
    x = _widened(op, x)
    lossy = (x.dtype in dtypes.FLOATING and kind not in dtypes.FLOATING) or kind == dtypes.bool_
    wide = x if lossy else loop.cast(x, kind)
    term = wide if op.body is None else _called(op.body, (wide,), attrs)
    if not isinstance(term, Expr):
        raise RecordError(f"op {op.name!r}: the body of a fold by {op.combiner} gives {type(term).__name__}, expected one expression")
    cast = loop.not_equal(term, 0) if kind == dtypes.bool_ and term.dtype != kind else loop.cast(term, kind)
    return cast if guard is None or term is wide else loop.select(guard, cast, loop.const(outside, kind))


def _bind_result(d: Dim, c: Expr, solved: Solved, names: dict[str, Expr]) -> None:
    if d.kind == "axis":
        names[d.axes[0]] = c
    elif d.kind == "product":
        for a in reversed(d.axes[1:]):
            n = solved.extents[a]
            names[a], c = (c % n, c // n)
        names[d.axes[0]] = c


def _index(dims: Sequence[Dim], shape: Sequence[int], names: Mapping[str, Expr], extents: Mapping[str, int]) -> tuple[tuple[Expr, ...], Expr | None]:
    """An operand's index and the guard under which it is in range."""
    index: list[Expr] = []
    guard: Expr | None = None
    for d, n in zip(dims, shape, strict=True):
        if d.kind == "one":
            index.append(loop.const(0, dtypes.int32))
        elif d.kind == "axis":
            index.append(names[d.axes[0]])
        elif d.kind == "product":
            flat: Expr = names[d.axes[0]]
            for a in d.axes[1:]:
                flat = flat * extents[a] + names[a]
            index.append(flat)
        else:
            lo, hi = d.padding
            terms = [names[a] if s == 1 else names[a] * int(s) for a, s in zip(d.axes, d.strides, strict=True)]
            at = terms[0]
            for t in terms[1:]:
                at = at + t
            at = at - lo if lo > 0 else at + (-lo) if lo < 0 else at
            if lo > 0 or hi > 0:
                tests = ([at >= 0] if lo > 0 else []) + ([at < n] if hi > 0 else [])
                for t in tests:
                    guard = t if guard is None else guard & t
            index.append(at)
    return tuple(index), guard


# ------------------------------------------------------------------------------------------------- nests


def nests(node: Node, outs: Sequence[str], at: At, temp: Temp) -> list[Nest]:
    """The loops of an op that is not pointwise; ``outs`` are its results' buffers, ``temp`` makes another one."""
    special = _SPECIAL.get(node.op.nest) if isinstance(node.op.nest, str) else None
    if special is not None:
        return special(node, outs, at, temp)
    return [_related(node, outs[0], at)]


def _related(node: Node, out: str, at: At) -> Nest:
    """Loops from the relation: result dims are free, the rest is folded with the combiner."""
    op, result = node.op, node.results[0]
    solved = op.solve([v.shape for v in node.operands], node.attrs)
    rel, extents = solved.relation, solved.extents
    free: list[Loop] = []
    names: dict[str, Expr] = {}
    store: list[Expr] = []
    inverse: list[tuple[Dim, Expr]] = []
    for k, d in enumerate(rel.results[0]):
        if d.kind == "window":
            name = f"r{k}"
            free.append(Loop(name, result.shape[k]))
            store.append(Var(name))
            inverse.append((d, Var(name)))
        else:
            for a in d.axes:
                free.append(Loop(a, extents[a]))
                names[a] = Var(a)
            store.append(_index([d], [result.shape[k]], names, extents)[0][0])
    leads = {d.axes[0] for d, _ in inverse}
    red = [Loop(a, extents[a]) for a in solved.reduced if a not in leads]
    names.update({v.name: Var(v.name) for v in red})
    guard: Expr | None = None
    for d, r in inverse:  # r = lead*step + taps - lo, solved for the lead
        lo, step = d.padding[0], int(d.strides[0])
        t: Expr = r + lo if lo else r
        for a, s in zip(d.axes[1:], d.strides[1:], strict=True):
            t = t - (names[a] if s == 1 else names[a] * int(s))
        tests = [t >= 0]
        if step > 1:
            tests.append(loop.equal(t % step, 0))
        lead = t // step if step > 1 else t
        tests.append(lead < extents[d.axes[0]])
        names[d.axes[0]] = lead
        for test in tests:
            guard = test if guard is None else guard & test
    indices = []
    for dims, v in zip(rel.operands, node.operands, strict=True):
        index, own = _index(dims, v.shape, names, extents)
        if own is not None:
            guard = own if guard is None else guard & own
        indices.append(index)
    kind = op.dtypes.accumulator(result.dtype if op.combiner == "fma" else node.operands[0].dtype)
    identity = op.identity(kind)
    pad = identity if op.combiner != "fma" else 0
    if op.pad is not None and isinstance(op.pad.value, str) and op.pad.value in node.attrs:
        pad = node.attrs[op.pad.value]
    elif op.pad is not None and op.pad.mode == "multiply" and op.pad.value != "identity":
        pad = op.pad.value
    values = [at(k, index, guard, pad if guard is not None else None) for k, index in enumerate(indices)]
    skips = op.pad is None or op.pad.mode == "skip" or op.pad.value == "identity"
    combiner = op.combiner or "add"
    if combiner == "fma":
        wide = [loop.cast(v, kind) for v in values]
        terms = _factors(op, wide, node.attrs)
        if guard is not None and skips and any(t not in wide for t in terms):
            terms = tuple(loop.select(guard, loop.cast(t, kind), loop.const(0, kind)) for t in terms)
        if kind in dtypes.INTEGER:
            combiner, terms = "add", (terms[0] * terms[1],)
    else:
        terms = (_term(op, values[0], node.attrs, kind, guard if skips else None, identity),)
    acc = Acc(("acc",), combiner, (loop.const(identity, kind),), terms, (kind,))
    order = op.order or fold_order(len(node.operands[0].shape), node.attrs.get("axis", ()))
    if not red:  # nothing to fold: one term
        red = [Loop("once", 1)]
    total: Expr = loop.Name("acc", kind)
    if op.fin is not None:
        total = _called(op.fin, (total,), node.attrs)
    return Nest(tuple(free), tuple(red), (acc,), (Out(out, tuple(store), loop.cast(total, result.dtype)),), order, node.place)


def _factors(op: Any, values: Sequence[Expr], attrs: Attrs) -> tuple[Expr, ...]:
    """The two factors whose product an ``fma`` adds."""
    found = tuple(values) if op.body is None else _called(op.body, values, attrs)
    if not isinstance(found, tuple) or len(found) != 2:
        raise RecordError(f"op {op.name!r}: combiner fma needs a body that gives two factors (a, b)")
    return found


def _free(shape: Sequence[int], skip: int | None = None) -> tuple[list[Loop], list[Expr]]:
    loops = [Loop(f"i{k}", n) for k, n in enumerate(shape) if k != skip]
    return loops, [Var(f"i{k}") for k in range(len(shape))]


def _arg(node: Node, outs: Sequence[str], at: At, temp: Temp) -> list[Nest]:
    """Value and position fold together; the first of equal ones stays, NaN wins."""
    axis, shape = node.attrs["axis"], node.operands[0].shape
    free, coords = _free(shape, axis)
    x = at(0, tuple(coords), None, None)
    x = _term(node.op, x, node.attrs, node.op.dtypes.compute(x.dtype))
    first = at(0, tuple(loop.const(0, dtypes.int32) if k == axis else c for k, c in enumerate(coords)), None, None)
    first = _term(node.op, first, node.attrs, x.dtype)
    acc = Acc(("best", "place"), node.op.combiner or "max", (first, loop.const(0, dtypes.int64)), (x, loop.cast(coords[axis], dtypes.int64)), (x.dtype, dtypes.int64))
    store = tuple(c for k, c in enumerate(coords) if k != axis)
    return [Nest(tuple(free), (Loop(f"i{axis}", shape[axis]),), (acc,), (Out(outs[0], store, loop.Name("place", dtypes.int64)),), "sequence", node.place)]


def _moments(node: Node, outs: Sequence[str], at: At, temp: Temp) -> list[Nest]:
    """Mean and variance: in one pass where leading dims are folded; a row's own by two folds over it."""
    axis, x = node.attrs["axis"], node.operands[0]
    loops, coords = _free(x.shape)
    free = tuple(v for k, v in enumerate(loops) if k not in axis)
    red = tuple(v for k, v in enumerate(loops) if k in axis) or (Loop("once", 1),)
    store = tuple(c for k, c in enumerate(coords) if k not in axis)
    kind, count = node.op.dtypes.compute(x.dtype), prod(v.extent for v in red)
    order, zero = fold_order(len(x.shape), axis), loop.const(0, kind)
    term = loop.cast(at(0, tuple(coords), None, None), kind)

    def result(k: int, value: Expr) -> Out:
        return Out(outs[k], store, loop.cast(value, node.results[k].dtype))

    if order == "chunks8":
        acc = Acc(("mean", "m2"), "moments", (zero, zero), (term,), (kind, kind))
        return [Nest(free, red, (acc,), (result(0, loop.Name("mean", kind)), result(1, loop.Name("m2", kind) / count)), order, node.place)]
    mean = temp(node.results[0].shape, kind)
    first = Acc(("acc",), "add", (zero,), (term,), (kind,))
    kept = Out(mean, store, loop.Name("acc", kind) / count)
    away = term - loop.Load(mean, store, kind)
    second = Acc(("acc",), "add", (zero,), (away * away,), (kind,))
    return [Nest(free, red, (first,), (kept, result(0, kept.value)), order, node.place), Nest(free, red, (second,), (result(1, loop.Name("acc", kind) / count),), order, node.place)]


def _running(node: Node, outs: Sequence[str], at: At, temp: Temp) -> list[Nest]:
    """Each element is the fold of those up to it, in order."""
    axis, shape = node.attrs["axis"], node.operands[0].shape
    free, coords = _free(shape)
    inner = Var("j")
    index = tuple(inner if k == axis else c for k, c in enumerate(coords))
    kind = node.op.dtypes.accumulator(node.operands[0].dtype)
    guard = inner <= coords[axis]
    identity = node.op.identity(kind)
    term = _term(node.op, at(0, index, guard, identity), node.attrs, kind, guard, identity)
    acc = Acc(("acc",), node.op.combiner or "add", (loop.const(identity, kind),), (term,), (kind,))
    return [Nest(tuple(free), (Loop("j", shape[axis]),), (acc,), (Out(outs[0], tuple(coords), loop.cast(loop.Name("acc", kind), node.results[0].dtype)),), "sequence", node.place)]


def _rank(node: Node, outs: Sequence[str], at: At, temp: Temp) -> list[Nest]:
    """A stable argsort: each element's rank is a count, and its position is stored there."""
    axis, shape = node.attrs["axis"], node.operands[0].shape
    free, coords = _free(shape)
    mine = at(0, tuple(coords), None, None)
    other = at(0, tuple(Var("j") if k == axis else c for k, c in enumerate(coords)), None, None)
    mine, other = (loop.cast(v, node.op.dtypes.compute(v.dtype)) for v in (mine, other))
    down = node.attrs["descending"]
    ahead = other > mine if down else other < mine
    tie = loop.equal(other, mine)
    if mine.dtype in dtypes.FLOATING:  # NaN stands last, first when descending
        if down:
            ahead = ahead | (loop.isnan(other) & loop.logical_not(loop.isnan(mine)))
        else:
            ahead = ahead | (loop.isnan(mine) & loop.logical_not(loop.isnan(other)))
        tie = tie | (loop.isnan(other) & loop.isnan(mine))
    before = ahead | (tie & (Var("j") < coords[axis]))
    acc = Acc(("rank",), "add", (loop.const(0, dtypes.int32),), (loop.cast(before, dtypes.int32),), (dtypes.int32,))
    ranks = temp(shape, dtypes.int32)
    count = Nest(tuple(free), (Loop("j", shape[axis]),), (acc,), (Out(ranks, tuple(coords), loop.Name("rank", dtypes.int32)),), "sequence", node.place)
    spot = tuple(loop.Load(ranks, tuple(coords), dtypes.int32) if k == axis else c for k, c in enumerate(coords))
    return [count, Nest(tuple(free), (), (), (Out(outs[0], spot, loop.cast(coords[axis], dtypes.int64)),), "sequence", node.place)]


def _scatter(node: Node, outs: Sequence[str], at: At, temp: Temp) -> list[Nest]:
    """Zeros, then updates added in the order of the indices."""
    axis, b, shape = node.attrs["axis"], node.attrs["batch_dims"], node.attrs["shape"]
    g, i = node.operands
    kind = node.results[0].dtype
    loops, coords = _free(g.shape)
    k = len(i.shape) - b
    where = at(1, (*coords[:b], *coords[axis : axis + k]), None, None)
    spot = loop.cast(loop.clip(where, 0, shape[axis] - 1), dtypes.int32)
    store = (*coords[:axis], spot, *coords[axis + k :])
    zero_loops, zero_coords = _free(shape)
    zero = Nest(tuple(zero_loops), (), (), (Out(outs[0], tuple(zero_coords), loop.const(0, kind)),), "sequence", node.place)
    add = Nest(tuple(loops), (), (), (Out(outs[0], store, at(0, tuple(coords), None, None), "add"),), "sequence", node.place)
    return [zero, add]


def _last(node: Node, outs: Sequence[str], at: At, temp: Temp) -> list[Nest]:
    n = node.operands[0].shape[0]
    hit = loop.equal(loop.cast(at(0, (Var("j"),), None, None), dtypes.int32), Var("i0"))
    term = loop.select(hit, loop.cast(Var("j"), dtypes.int64), loop.const(-1, dtypes.int64))
    acc = Acc(("acc",), "max", (loop.const(-1, dtypes.int64),), (term,), (dtypes.int64,))
    out = Out(outs[0], (Var("i0"),), loop.Name("acc", dtypes.int64))
    return [Nest((Loop("i0", node.attrs["size"]),), (Loop("j", n),), (acc,), (out,), "sequence", node.place)]


_SPECIAL: dict[Any, Callable[[Node, Sequence[str], At, Temp], list[Nest]]] = {"arg": _arg, "moments": _moments, "running": _running, "rank": _rank, "scatter": _scatter, "last": _last}


def check(node: Node) -> None:
    """Every op has loops; one that has none says so here."""
    if node.op.nest == "control":
        raise IRError(f"{node.op.name} @ {node.place} holds a graph and is lowered before this")


__all__ = ["check", "is_folded", "is_pointwise", "nests", "pointwise"]
