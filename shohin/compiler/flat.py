"""Loads and stores by flat index: affine forms, intervals, and the merging of loops that walk memory as one.

``Flat`` is a ``Load`` whose index is ``const + sum(coefficient * term)`` in elements; a term is a loop variable or,
where the index is not affine, any integer expression. Everything that a schedule asks (stride along a loop, does it
depend on the loop, may two loops be one) is read off these coefficients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from math import gcd

from shohin.core import dtypes
from shohin.core.axes import Shape
from shohin.core.dtypes import DType
from shohin.core.errors import IRError
from shohin.core.loop import Bin, Cast, Const, Expr, Load, Number, Select, Un, Var, children, rebuild
from shohin.core.nest import Buffer

Ranges = Mapping[str, tuple[int, int]]
"""Inclusive bounds of loop variables."""


@dataclass(frozen=True)
class Flat(Expr):
    """``buffer[const + sum(c * term)]`` by flat index."""

    buffer: str
    const: int
    terms: tuple[tuple[Expr, int], ...]
    type: DType
    pred: Expr | None
    pad: Number | None

    @property
    def dtype(self) -> DType:
        return self.type


@dataclass(frozen=True)
class Raw(Expr):
    """A conversion whose argument is known to be in range: C's own cast."""

    a: Expr
    type: DType

    @property
    def dtype(self) -> DType:
        return self.type


def parts(expr: Expr) -> tuple[Expr, ...]:
    """Children, ``Flat`` included."""
    if isinstance(expr, Flat):
        inner = tuple(t for t, _ in expr.terms)
        return (*inner, expr.pred) if expr.pred is not None else inner
    return (expr.a,) if isinstance(expr, Raw) else children(expr)


def remake(expr: Expr, new: tuple[Expr, ...]) -> Expr:
    if isinstance(expr, Flat):
        count = len(expr.terms)
        terms = tuple((t, c) for t, (_, c) in zip(new[:count], expr.terms))
        return replace(expr, terms=terms, pred=None if expr.pred is None else new[-1])
    return replace(expr, a=new[0]) if isinstance(expr, Raw) else rebuild(expr, new)


def rewrite(expr: Expr, rule: Callable[[Expr], Expr | None], memo: dict[int, tuple[Expr, Expr]] | None = None) -> Expr:
    """Bottom-up rewriting that visits a shared node once (fused expressions are graphs, not trees)."""
    memo = {} if memo is None else memo
    known = memo.get(id(expr))
    if known is not None:
        return known[1]
    old = parts(expr)
    new = tuple(rewrite(p, rule, memo) for p in old)
    made = remake(expr, new) if any(a is not b for a, b in zip(old, new)) else expr
    result = rule(made)
    result = made if result is None else result
    memo[id(expr)] = (expr, result)
    return result


def nodes(roots: Iterable[Expr]) -> list[Expr]:
    """Every node once, children first."""
    seen: set[int] = set()
    found: list[Expr] = []

    def visit(e: Expr) -> None:
        if id(e) in seen:
            return
        seen.add(id(e))
        for p in parts(e):
            visit(p)
        found.append(e)

    for root in roots:
        visit(root)
    return found


def variables(expr: Expr) -> set[str]:
    return {e.name for e in nodes([expr]) if isinstance(e, Var)}


# ---------------------------------------------------------------------------------------------- integers


def bounds(expr: Expr, ranges: Ranges) -> tuple[int, int] | None:
    """An interval that holds the integer expression, or ``None``."""
    match expr:
        case Const(value, _):
            return (int(value), int(value))
        case Var(name):
            return ranges.get(name)
        case Bin(op, a, b):
            x, y = bounds(a, ranges), bounds(b, ranges)
            if op == "mod" and y is not None and y[0] == y[1] and y[0] > 0:
                return x if x is not None and 0 <= x[0] and x[1] < y[0] else (0, y[0] - 1)
            if x is None or y is None:
                return None
            match op:
                case "add":
                    return (x[0] + y[0], x[1] + y[1])
                case "sub":
                    return (x[0] - y[1], x[1] - y[0])
                case "mul":
                    products = [p * q for p in x for q in y]
                    return (min(products), max(products))
                case "floordiv" if y[0] == y[1] and y[0] > 0:
                    return (x[0] // y[0], x[1] // y[0])
                case "min":
                    return (min(x[0], y[0]), min(x[1], y[1]))
                case "max":
                    return (max(x[0], y[0]), max(x[1], y[1]))
        case Select(_, a, b):
            x, y = bounds(a, ranges), bounds(b, ranges)
            return None if x is None or y is None else (min(x[0], y[0]), max(x[1], y[1]))
        case _:
            pass
    return None


def _truth(value: bool) -> Const:
    return Const(value, dtypes.bool_)


def simplify(expr: Expr, ranges: Ranges) -> Expr | None:
    """A rule for ``rewrite``: folds index arithmetic and the comparisons that the ranges decide."""
    if isinstance(expr, Flat) and expr.pred is not None and isinstance(expr.pred, Const):
        return replace(expr, pred=None, pad=None) if expr.pred.value else Const(_pad(expr), expr.type)
    if isinstance(expr, Un) and expr.op == "not" and isinstance(expr.a, Const):
        return _truth(not expr.a.value)
    if not isinstance(expr, Bin):
        return None
    op, a, b = expr.op, expr.a, expr.b
    if expr.dtype == dtypes.bool_ and op in ("and", "or"):
        for one, other in ((a, b), (b, a)):
            if isinstance(one, Const):
                return other if bool(one.value) == (op == "and") else one
        return None
    if a.dtype != dtypes.int32 or op not in _FOLD:
        return None
    x, y = bounds(a, ranges), bounds(b, ranges)
    if op in _DECIDE and x is not None and y is not None:
        decided = _DECIDE[op](x, y)
        if decided is not None:
            return _truth(decided)
    if (
        isinstance(a, Const)
        and isinstance(b, Const)
        and op not in _DECIDE
        and (b.value or op not in ("floordiv", "mod"))
    ):
        value = _FOLD[op](int(a.value), int(b.value))
        return Const(value, dtypes.int32) if -(2**31) <= value < 2**31 else None
    if isinstance(b, Const):
        if (op in ("add", "sub") and b.value == 0) or (op in ("mul", "floordiv") and b.value == 1):
            return a
        if (op == "mul" and b.value == 0) or (op == "mod" and b.value == 1):
            return Const(0, dtypes.int32)
        if x is not None and b.value > 0 and 0 <= x[0] and x[1] < b.value:
            if op == "mod":
                return a
            if op == "floordiv":
                return Const(0, dtypes.int32)
        if op in ("floordiv", "mod") and int(b.value) > 1:
            return _divide(op, a, int(b.value), ranges)
    if isinstance(a, Const) and ((op == "add" and a.value == 0) or (op == "mul" and a.value == 1)):
        return b
    return None


def _divide(op: str, a: Expr, n: int, ranges: Ranges) -> Expr | None:
    """``(n * whole + rest) // n`` and ``% n``: the whole leaves, and where ``0 <= rest < n`` so does the operation. Terms below
    a common divisor g of n and of all others leave too: ``(g * many + few) // n`` is ``many // (n / g)``."""
    const, terms = affine(a)
    whole, rest = {t: k // n for t, k in terms.items() if k % n == 0}, {t: k for t, k in terms.items() if k % n}
    inside = bounds(_total(const % n, rest), ranges)
    if inside is not None and inside[0] >= 0 and inside[1] < n:
        return _total(const % n, rest) if op == "mod" else _total(const // n, whole)
    if whole or not 0 <= const < n:
        left = Bin(op, _total(const % n, rest), Const(n, dtypes.int32))
        return left if op == "mod" else _total(const // n, {**whole, left: whole.get(left, 0) + 1})  # which may be a term of its own
    for g in sorted({gcd(k, n) for k in rest.values()} - {1}, reverse=True):
        many, few = {t: k // g for t, k in rest.items() if k % g == 0}, {t: k for t, k in rest.items() if k % g}
        small = bounds(_total(const % g, few), ranges)
        if small is not None and small[0] >= 0 and small[1] < g:
            left = Bin(op, _total(const // g, many), Const(n // g, dtypes.int32))
            return left if op == "floordiv" else _total(const % g, {left: g + few.pop(left, 0), **few})
    return None


def _total(const: int, terms: Mapping[Expr, int]) -> Expr:
    total: Expr | None = None
    for t, k in ((t, k) for t, k in terms.items() if k):
        one = t if k == 1 else Bin("mul", t, Const(k, dtypes.int32))
        total = one if total is None else Bin("add", total, one)
    number = Const(const, dtypes.int32)
    return number if total is None else Bin("add", total, number) if const else total


def _pad(flat: Flat) -> Number:
    if flat.pad is None:
        raise IRError(f"a predicated load of {flat.buffer} has no pad value")
    return flat.pad


Interval = tuple[int, int]
_FOLD: dict[str, Callable[[int, int], int]] = {
    "add": lambda a, b: a + b, "sub": lambda a, b: a - b, "mul": lambda a, b: a * b,
    "floordiv": lambda a, b: a // b, "mod": lambda a, b: a % b, "min": min, "max": max,
    "lt": lambda a, b: a < b, "le": lambda a, b: a <= b, "gt": lambda a, b: a > b, "ge": lambda a, b: a >= b,
    "eq": lambda a, b: a == b, "ne": lambda a, b: a != b,
}  # fmt: skip


def _less(x: Interval, y: Interval) -> bool | None:
    return True if x[1] < y[0] else False if x[0] >= y[1] else None


def _less_equal(x: Interval, y: Interval) -> bool | None:
    return True if x[1] <= y[0] else False if x[0] > y[1] else None


def _equal(x: Interval, y: Interval) -> bool | None:
    if x[1] < y[0] or y[1] < x[0]:
        return False
    return True if x[0] == x[1] == y[0] == y[1] else None


def _unequal(x: Interval, y: Interval) -> bool | None:
    same = _equal(x, y)
    return None if same is None else not same


_DECIDE: dict[str, Callable[[Interval, Interval], bool | None]] = {
    "lt": _less, "le": _less_equal, "gt": lambda x, y: _less(y, x), "ge": lambda x, y: _less_equal(y, x),
    "eq": _equal, "ne": _unequal,
}  # fmt: skip


# ---------------------------------------------------------------------------------------------- affine forms


def affine(expr: Expr) -> tuple[int, dict[Expr, int]]:
    """``const`` and coefficients by term; what is not affine is a term of its own."""
    match expr:
        case Const(value, _):
            return int(value), {}
        case Bin("add", a, b) | Bin("sub", a, b):
            sign = 1 if expr.op == "add" else -1
            c, terms = affine(a)
            d, more = affine(b)
            out = dict(terms)
            for t, k in more.items():
                out[t] = out.get(t, 0) + sign * k
            return c + sign * d, {t: k for t, k in out.items() if k}
        case Bin("mul", a, Const(k, _)) | Bin("mul", Const(k, _), a):
            c, terms = affine(a)
            return c * int(k), {t: v * int(k) for t, v in terms.items() if v * int(k)}
        case Un("neg", a):
            c, terms = affine(a)
            return -c, {t: -v for t, v in terms.items()}
        case Cast(a, type_, _, _) if type_ in (dtypes.int32, dtypes.int64) and a.dtype in (dtypes.int32, dtypes.int64):
            return affine(a)
        case _:
            return 0, {expr: 1}


def strides(shape: Shape) -> tuple[int, ...]:
    """Row-major, in elements."""
    out, step = [], 1
    for n in reversed(shape):
        out.append(step)
        step *= n
    return tuple(reversed(out))


def flat_index(index: tuple[Expr, ...], shape: Shape) -> tuple[int, tuple[tuple[Expr, int], ...]]:
    const, terms = 0, {}
    for e, stride, extent in zip(index, strides(shape), shape):
        if extent == 1 and isinstance(e, Var | Const):
            continue  # the only valid index is 0
        c, more = affine(e)
        const += c * stride
        for t, k in more.items():
            terms[t] = terms.get(t, 0) + k * stride
    return const, tuple((t, k) for t, k in terms.items() if k)


def flatten(expr: Expr, buffers: Mapping[str, Buffer], memo: dict[int, tuple[Expr, Expr]] | None = None) -> Expr:
    """Every ``Load`` as a ``Flat``."""

    def rule(e: Expr) -> Expr | None:
        if isinstance(e, Load):
            const, terms = flat_index(e.index, buffers[e.buffer].shape)
            return Flat(e.buffer, const, terms, e.type, e.pred, e.pad)
        return None

    return rewrite(expr, rule, memo)


def coefficient(flat: Flat, name: str) -> int:
    """The stride of an access along a loop (its affine part)."""
    return sum(c for t, c in flat.terms if isinstance(t, Var) and t.name == name)


def opaque(flat: Flat) -> set[str]:
    """Loop variables that an access uses in any other way: in a predicate or inside a term."""
    found = set() if flat.pred is None else variables(flat.pred)
    for t, _ in flat.terms:
        if not isinstance(t, Var):
            found |= variables(t)
    return found
