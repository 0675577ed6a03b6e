"""The loop IR, expressions: pure scalar arithmetic over names, indices and loads.

One language for the bodies of ops, for fused nests and for the ports of hand-written kernels. An expression
is frozen data with a dtype; Python operators build it, ``evaluate`` gives its meaning in NumPy, a target's
printer gives its text. Integers never contract, floats never contract unless an ``Fma`` says so.

>>> x = Name("x", dtypes.float32)
>>> print(x * clip(x + 3, 0, 6) / 6)
((x * min(max((x + 3.0), 0.0), 6.0)) / 6.0)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from shohin.core import dtypes
from shohin.core.dtypes import DType
from shohin.core.errors import IRError

Number = bool | int | float

UNARY = frozenset(
    "neg abs not floor ceil trunc rint sqrt exp log expm1 log1p sin cos tanh erf isnan isfinite bitcast_u32 "
    "bitcast_f32 bitcast_u64 bitcast_f64 invert".split()
)
BINARY = frozenset("add sub mul div mod floordiv pow max min and or xor shl shr eq ne lt le gt ge mulhi atan2".split())
COMPARE = frozenset("eq ne lt le gt ge".split())
_SIGN = {"add": "+", "sub": "-", "mul": "*", "div": "/", "mod": "%", "floordiv": "//", "and": "&", "or": "|",
         "xor": "^", "shl": "<<", "shr": ">>", "eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">",
         "ge": ">="}  # fmt: skip


@dataclass(frozen=True)
class Expr:
    """A scalar expression; ``dtype`` is known at every node."""

    @property
    def dtype(self) -> DType:
        raise IRError(f"{type(self).__name__} has no dtype")

    def __add__(self, other: Operand) -> Expr: return binary("add", self, other)
    def __radd__(self, other: Operand) -> Expr: return binary("add", other, self)
    def __sub__(self, other: Operand) -> Expr: return binary("sub", self, other)
    def __rsub__(self, other: Operand) -> Expr: return binary("sub", other, self)
    def __mul__(self, other: Operand) -> Expr: return binary("mul", self, other)
    def __rmul__(self, other: Operand) -> Expr: return binary("mul", other, self)
    def __truediv__(self, other: Operand) -> Expr: return binary("div", self, other)
    def __rtruediv__(self, other: Operand) -> Expr: return binary("div", other, self)
    def __floordiv__(self, other: Operand) -> Expr: return binary("floordiv", self, other)
    def __mod__(self, other: Operand) -> Expr: return binary("mod", self, other)
    def __and__(self, other: Operand) -> Expr: return binary("and", self, other)
    def __or__(self, other: Operand) -> Expr: return binary("or", self, other)
    def __xor__(self, other: Operand) -> Expr: return binary("xor", self, other)
    def __lshift__(self, other: Operand) -> Expr: return binary("shl", self, other)
    def __rshift__(self, other: Operand) -> Expr: return binary("shr", self, other)
    def __lt__(self, other: Operand) -> Expr: return binary("lt", self, other)
    def __le__(self, other: Operand) -> Expr: return binary("le", self, other)
    def __gt__(self, other: Operand) -> Expr: return binary("gt", self, other)
    def __ge__(self, other: Operand) -> Expr: return binary("ge", self, other)
    def __neg__(self) -> Expr: return Un("neg", self)
    def __abs__(self) -> Expr: return Un("abs", self)

    def __bool__(self) -> bool:
        raise IRError("a body is one expression: write loop.select(condition, a, b) instead of a Python branch")


Operand = Expr | Number


@dataclass(frozen=True)
class Const(Expr):
    value: Number
    type: DType

    @property
    def dtype(self) -> DType:
        return self.type

    def __str__(self) -> str:
        return repr(self.value)


@dataclass(frozen=True)
class Var(Expr):
    """A loop index (int32 in the IR; a target may widen it)."""

    name: str

    @property
    def dtype(self) -> DType:
        return dtypes.int32

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Name(Expr):
    """A value bound elsewhere: an operand of a body, an accumulator, a port's parameter."""

    name: str
    type: DType

    @property
    def dtype(self) -> DType:
        return self.type

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Load(Expr):
    """``buffer[index]``; where ``pred`` is false nothing is read and the value is ``pad``."""

    buffer: str
    index: tuple[Expr, ...]
    type: DType
    pred: Expr | None = None
    pad: Number | None = None

    @property
    def dtype(self) -> DType:
        return self.type

    def __str__(self) -> str:
        text = f"{self.buffer}[{', '.join(map(str, self.index))}]"
        return text if self.pred is None else f"({text} if {self.pred} else {self.pad})"


@dataclass(frozen=True)
class Un(Expr):
    op: str
    a: Expr

    def __post_init__(self) -> None:
        if self.op not in UNARY:
            raise IRError(f"unknown unary operation {self.op!r}")

    @property
    def dtype(self) -> DType:
        special = {"not": dtypes.bool_, "isnan": dtypes.bool_, "isfinite": dtypes.bool_,
                   "bitcast_u32": dtypes.uint32, "bitcast_f32": dtypes.float32,
                   "bitcast_u64": dtypes.uint64, "bitcast_f64": dtypes.float64}  # fmt: skip
        return special.get(self.op, self.a.dtype)

    def __str__(self) -> str:
        return f"-{self.a}" if self.op == "neg" else f"{self.op}({self.a})"


@dataclass(frozen=True)
class Bin(Expr):
    op: str
    a: Expr
    b: Expr

    def __post_init__(self) -> None:
        if self.op not in BINARY:
            raise IRError(f"unknown binary operation {self.op!r}")
        if self.op not in ("shl", "shr") and self.a.dtype != self.b.dtype:
            raise IRError(f"{self.op}: operands are {self.a.dtype.name} and {self.b.dtype.name}; write a cast")

    @property
    def dtype(self) -> DType:
        return dtypes.bool_ if self.op in COMPARE else self.a.dtype

    def __str__(self) -> str:
        sign = _SIGN.get(self.op)
        return f"({self.a} {sign} {self.b})" if sign else f"{self.op}({self.a}, {self.b})"


@dataclass(frozen=True)
class Fma(Expr):
    """``a * b + c``, rounded once."""

    a: Expr
    b: Expr
    c: Expr

    @property
    def dtype(self) -> DType:
        return self.c.dtype

    def __str__(self) -> str:
        return f"fma({self.a}, {self.b}, {self.c})"


@dataclass(frozen=True)
class Select(Expr):
    """``a`` where ``condition`` else ``b``; both may be computed."""

    condition: Expr
    a: Expr
    b: Expr

    @property
    def dtype(self) -> DType:
        return self.a.dtype

    def __str__(self) -> str:
        return f"select({self.condition}, {self.a}, {self.b})"


@dataclass(frozen=True)
class Cast(Expr):
    """Conversion. ``round``: ``trunc`` as in C, or ``even`` (half to even). ``saturate`` clamps to the range first."""

    a: Expr
    type: DType
    round: str = "trunc"
    saturate: bool = False

    @property
    def dtype(self) -> DType:
        return self.type

    def __str__(self) -> str:
        return f"{dtypes.short(self.type)}({self.a})"


@dataclass(frozen=True)
class Requant(Expr):
    """docs/quantization.md Q3: ``int(rhe(clip(float32(acc) * M, lo - z, hi - z))) + z``; one op, so that a target may emit it in integers."""

    acc: Expr
    M: Expr
    z: Expr
    lo: Expr
    hi: Expr
    type: DType

    @property
    def dtype(self) -> DType:
        return self.type

    def __str__(self) -> str:
        return f"requant({self.acc}, {self.M}, {self.z}, {self.lo}, {self.hi})"


@dataclass(frozen=True)
class Intrinsic(Expr):
    """A named function with a meaning in NumPy and a template per target (``INTRINSICS``)."""

    name: str
    args: tuple[Expr, ...]
    type: DType

    @property
    def dtype(self) -> DType:
        return self.type

    def __str__(self) -> str:
        return f"{self.name}({', '.join(map(str, self.args))})"


def const(value: Number, dtype: DType) -> Const:
    """A literal of ``dtype``; the value is what that dtype holds."""
    held = np.asarray(value).astype(dtype).item()
    return Const(held, dtype)


def as_expr(value: Operand, like: Expr) -> Expr:
    return value if isinstance(value, Expr) else const(value, like.dtype)


def binary(op: str, a: Operand, b: Operand) -> Expr:
    """A binary node; a Python number takes the other operand's dtype."""
    if isinstance(a, Expr):
        return Bin(op, a, as_expr(b, a))
    if isinstance(b, Expr):
        return Bin(op, as_expr(a, b), b)
    raise IRError(f"{op}: one of the operands must be an expression")


def minimum(a: Operand, b: Operand) -> Expr:
    return binary("min", a, b)


def maximum(a: Operand, b: Operand) -> Expr:
    return binary("max", a, b)


def clip(x: Expr, lo: Operand, hi: Operand) -> Expr:
    """``min(max(x, lo), hi)``; NaN gives ``lo`` (docs/quantization.md)."""
    return minimum(maximum(x, lo), hi)


def select(condition: Expr, a: Operand, b: Operand) -> Expr:
    if isinstance(a, Expr):
        return Select(condition, a, as_expr(b, a))
    if isinstance(b, Expr):
        return Select(condition, as_expr(a, b), b)
    raise IRError("select: one of the values must be an expression")


def equal(a: Operand, b: Operand) -> Expr:
    return binary("eq", a, b)


def not_equal(a: Operand, b: Operand) -> Expr:
    return binary("ne", a, b)


def unary(op: str) -> Callable[[Expr], Expr]:
    return lambda x: Un(op, x)


exp, log, expm1, log1p, sqrt = (unary(op) for op in ("exp", "log", "expm1", "log1p", "sqrt"))
sin, cos, tanh, erf, floor, ceil, trunc, rint = (
    unary(op) for op in ("sin", "cos", "tanh", "erf", "floor", "ceil", "trunc", "rint")
)
isnan, isfinite, logical_not = unary("isnan"), unary("isfinite"), unary("not")


def cast(x: Expr, dtype: DType, round: str = "trunc", saturate: bool = False) -> Expr:
    return x if x.dtype == dtype else Cast(x, dtype, round, saturate)


def pow(a: Operand, b: Operand) -> Expr:
    return binary("pow", a, b)


# ---------------------------------------------------------------------------------------------- walking


def children(expr: Expr) -> tuple[Expr, ...]:
    match expr:
        case Load(_, index, _, pred, _):
            return (*index, pred) if pred is not None else index
        case Un(_, a) | Cast(a, _, _, _):
            return (a,)
        case Bin(_, a, b):
            return (a, b)
        case Fma(a, b, c) | Select(a, b, c):
            return (a, b, c)
        case Requant(acc, m, z, lo, hi, _):
            return (acc, m, z, lo, hi)
        case Intrinsic(_, args, _):
            return args
        case _:
            return ()


def rebuild(expr: Expr, parts: tuple[Expr, ...]) -> Expr:
    """``expr`` with other children (as ``children`` lists them)."""
    match expr:
        case Load(_, index, _, pred, _):
            return replace(expr, index=parts[: len(index)], pred=None if pred is None else parts[-1])
        case Un() | Cast():
            return replace(expr, a=parts[0])
        case Bin():
            return replace(expr, a=parts[0], b=parts[1])
        case Fma():
            return replace(expr, a=parts[0], b=parts[1], c=parts[2])
        case Select():
            return replace(expr, condition=parts[0], a=parts[1], b=parts[2])
        case Requant():
            acc, m, z, lo, hi = parts
            return Requant(acc, m, z, lo, hi, expr.type)
        case Intrinsic():
            return replace(expr, args=parts)
        case _:
            return expr


def transform(expr: Expr, rule: Callable[[Expr], Expr | None]) -> Expr:
    """Bottom-up rewriting: ``rule`` returns another node, or ``None`` to keep it. Fused expressions are graphs: a shared
    node is visited once."""
    memo: dict[int, Expr] = {}

    def go(e: Expr) -> Expr:
        if id(e) in memo:
            return memo[id(e)]
        parts = children(e)
        new = tuple(go(part) for part in parts)
        made = rebuild(e, new) if any(a is not b for a, b in zip(parts, new, strict=True)) else e
        result = rule(made)
        memo[id(e)] = made if result is None else result
        return memo[id(e)]

    return go(expr)


def substitute(expr: Expr, values: Mapping[str, Expr]) -> Expr:
    """Replace every ``Var`` and ``Name`` that ``values`` names."""
    return transform(expr, lambda e: values.get(e.name) if isinstance(e, Var | Name) else None)


def walk(expr: Expr) -> list[Expr]:
    """All nodes, children first, each once."""
    found: dict[int, Expr] = {}

    def visit(e: Expr) -> None:
        if id(e) not in found:
            for part in children(e):
                visit(part)
            found[id(e)] = e

    visit(expr)
    return list(found.values())


# ---------------------------------------------------------------------------------------------- meaning

INTRINSICS: dict[str, Callable[..., Any]] = {"opaque": lambda x: x}
"""Meaning in NumPy of every intrinsic; a target's file holds the template."""


def evaluate(expr: Expr, env: Mapping[str, Any]) -> Any:
    """The value of ``expr`` in NumPy; ``env`` gives arrays for names, index variables and buffers.

    >>> float(evaluate(Name("x", dtypes.float32) * 2, {"x": np.float32(1.5)}))
    3.0
    """
    with np.errstate(all="ignore"):
        return _evaluate(expr, env)


def _evaluate(expr: Expr, env: Mapping[str, Any]) -> Any:
    match expr:
        case Const(value, dtype):
            return np.asarray(value).astype(dtype)
        case Var(name) | Name(name, _):
            return env[name]
        case Load(buffer, index, _, pred, pad):
            where = tuple(np.asarray(_evaluate(i, env)) for i in index)
            array = env[buffer]
            if pred is None:
                return array[where]
            safe = tuple(np.clip(i, 0, n - 1) for i, n in zip(where, array.shape, strict=True))
            return np.where(_evaluate(pred, env), array[safe], np.asarray(pad).astype(array.dtype))
        case Select(condition, a, b):
            return np.where(_evaluate(condition, env), _evaluate(a, env), _evaluate(b, env))
        case Cast(a, dtype, rounding, saturate):
            return _cast(_evaluate(a, env), dtype, rounding, saturate)
        case Fma(a, b, c):
            return _fma(np.asarray(_evaluate(a, env)), np.asarray(_evaluate(b, env)), np.asarray(_evaluate(c, env)), expr.dtype)
        case Requant(acc, m, z, lo, hi, dtype):
            zero = np.asarray(_evaluate(z, env)).astype(np.int32)
            value = np.asarray(_evaluate(acc, env)).astype(np.float32) * np.asarray(_evaluate(m, env)).astype(np.float32)
            low = (np.asarray(_evaluate(lo, env)).astype(np.int32) - zero).astype(np.float32)
            high = (np.asarray(_evaluate(hi, env)).astype(np.int32) - zero).astype(np.float32)
            value = np.where(value > low, value, low)
            value = np.where(value < high, value, high)
            return (np.rint(value).astype(np.int32) + zero).astype(dtype)
        case Intrinsic(name, args, dtype):
            return np.asarray(INTRINSICS[name](*(_evaluate(a, env) for a in args))).astype(dtype)
        case Un(op, a):
            return _UNARY[op](np.asarray(_evaluate(a, env)))
        case Bin(op, a, b):
            x, y = np.asarray(_evaluate(a, env)), np.asarray(_evaluate(b, env))
            return _BINARY[op](x, y)
        case _:
            raise IRError(f"{type(expr).__name__} has no meaning")


def _fma(a: Any, b: Any, c: Any, dtype: DType) -> Any:
    """``a b + c`` rounded once. In float64 a product of two float32 is exact, and the sum is rounded to odd (Boldo and
    Melquiond 2008), so that rounding it again to float32 is as if it were the first time."""
    if dtype == dtypes.float64:
        return (a.astype(np.longdouble) * b + c).astype(dtype)
    p, c = a.astype(np.float64) * b.astype(np.float64), c.astype(np.float64)
    s = np.asarray(p + c)
    back = s - p
    lost = (p - (s - back)) + (c - back)
    even = (s.view(np.uint64) & 1) == 0
    odd = np.where(np.isfinite(lost) & (lost != 0) & even, np.nextafter(s, np.copysign(np.inf, lost)), s)
    return odd.astype(dtype)


def _cast(x: Any, dtype: DType, rounding: str, saturate: bool) -> Any:
    x = np.asarray(x)
    if dtype in dtypes.INTEGER and x.dtype in dtypes.FLOATING:
        x = np.rint(x) if rounding == "even" else np.trunc(x)
    if saturate and dtype in dtypes.INTEGER:
        info = np.iinfo(dtype)
        x = np.clip(x, info.min, info.max)
    return x.astype(dtype)


def _erf(x: Any) -> Any:
    return _ERF(x).astype(x.dtype)


def _max(a: Any, b: Any) -> Any:
    return np.where(a > b, a, b)  # C's `a > b ? a : b`: NaN in a gives b


def _min(a: Any, b: Any) -> Any:
    return np.where(a < b, a, b)


def _mulhi(a: Any, b: Any) -> Any:
    return ((a.astype(np.uint64) * b.astype(np.uint64)) >> np.uint64(32)).astype(np.uint32)


_ERF = np.vectorize(math.erf, otypes=[np.float64])
_UNARY: dict[str, Callable[[Any], Any]] = {
    "neg": np.negative, "abs": np.abs, "not": np.logical_not, "floor": np.floor, "ceil": np.ceil,
    "trunc": np.trunc, "rint": np.rint, "sqrt": np.sqrt, "exp": np.exp, "log": np.log, "expm1": np.expm1,
    "log1p": np.log1p, "sin": np.sin, "cos": np.cos, "tanh": np.tanh, "erf": _erf, "isnan": np.isnan,
    "isfinite": np.isfinite, "invert": np.invert, "bitcast_u32": lambda a: a.view(np.uint32),
    "bitcast_f32": lambda a: a.view(np.float32), "bitcast_u64": lambda a: a.view(np.uint64),
    "bitcast_f64": lambda a: a.view(np.float64),
}  # fmt: skip
_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "mod": np.mod,
    "floordiv": np.floor_divide, "pow": np.power, "max": _max, "min": _min, "and": np.bitwise_and,
    "or": np.bitwise_or, "xor": np.bitwise_xor, "shl": np.left_shift, "shr": np.right_shift, "eq": np.equal,
    "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
    "mulhi": _mulhi, "atan2": np.arctan2,
}  # fmt: skip
