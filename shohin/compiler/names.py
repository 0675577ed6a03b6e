"""Scopes, their names and constants: what of an expression is shared, and where its constant stands.

``Code`` numbers equal expressions and counts their uses; a ``Level`` is one level of a loop nest. What is used twice,
or needs nothing of the innermost loops, becomes a ``const`` in the outermost level where all that it needs is known.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self

from shohin.compiler.ctext import Need, ctype, lane, vector
from shohin.compiler.flat import Flat, Ranges, Raw, parts, rewrite
from shohin.compiler.lower import lower
from shohin.core import dtypes
from shohin.core.dtypes import DType
from shohin.core.errors import IRError
from shohin.core.loop import Bin, Cast, Const, Expr, Intrinsic, Name, Un, Var


@dataclass(frozen=True)
class Bound:
    """C text of a name, and what it is: ``index`` (a long), ``lane`` (a long, the first of the lanes), ``scalar``
    or ``vector``."""

    text: str
    kind: str


@dataclass(frozen=True)
class Value:
    """Printed: text, whether it is a vector, the depth of the scope it belongs to, bits of a lane mask, atom or not."""

    text: str
    vec: bool
    depth: int
    mask: int = 0
    atom: bool = False


@dataclass
class Code:
    """What all scopes of one function share. ``sizes``: extents and strides of a function that serves all of them, by the number
    of the parameter; None where they stand in its text."""

    pointer: Callable[[str], str]
    needs: dict[Need, None] = field(default_factory=dict)
    ranges: Ranges = field(default_factory=dict)
    counter: int = 0
    uses: Counter[int] = field(default_factory=Counter)
    ids: dict[tuple, int] = field(default_factory=dict)
    known: dict[int, tuple[Expr, int]] = field(default_factory=dict)
    lowered: dict[int, tuple[Expr, Expr]] = field(default_factory=dict)
    prefix: str = "t"
    sizes: dict[int, int] | None = None

    def size(self, n: int) -> str:
        """C of an extent or stride."""
        return str(n) if self.sizes is None else f"g{self.sizes.setdefault(n, len(self.sizes))}"

    def need(self, *key: str) -> None:
        self.needs.setdefault(key, None)

    def fresh(self, hint: str = "") -> str:
        self.counter += 1
        return f"{hint or self.prefix}{self.counter}"

    def intern(self, e: Expr) -> int:
        """One number for equal expressions."""
        hit = self.known.get(id(e))
        if hit is not None:
            return hit[1]
        kids = tuple(self.intern(p) for p in parts(e))
        match e:
            case Const(v, t):
                key = ("c", repr(v), t)
            case Var(n):
                key = ("v", n)
            case Name(n, t):
                key = ("n", n, t)
            case Flat():
                key = ("l", e.buffer, e.const, tuple(c for _, c in e.terms), e.pred is None, repr(e.pad), kids)
            case Un() | Bin():
                key = (type(e), e.op, kids)
            case Raw() | Cast():
                key = (type(e), e.dtype, kids)
            case Intrinsic():
                key = ("i", e.name, e.type, kids)
            case _:
                key = (type(e), kids)
        number = self.ids.setdefault(key, len(self.ids))
        self.known[id(e)] = (e, number)
        return number

    def prepare(self, expr: Expr) -> Expr:
        """Lowered, interned, its uses counted."""
        expr = self.fix(expr)
        seen: set[int] = set()

        def count(e: Expr) -> None:
            number = self.intern(e)
            self.uses[number] += 1
            if number in seen or self.uses[number] > 1:
                return
            seen.add(number)
            for p in parts(e):
                count(p)

        count(expr)
        return expr

    def fix(self, expr: Expr) -> Expr:
        while True:
            new = rewrite(expr, lower, {})
            if new is expr:
                return expr
            expr = new


class Level:
    """One level; ``lines`` are its constants, in order."""

    def __init__(
        self,
        code: Code,
        parent: Self | None,
        names: Mapping[str, Bound],
        width: int = 0,
        active: int = 0,
        loop: bool = False,
    ):
        self.code, self.parent, self.names = code, parent, dict(names)
        self.depth = 0 if parent is None else parent.depth + 1
        self.level = (parent.level if parent else 0) + loop
        self.width = width or (parent.width if parent else 0)
        self.active = active or (parent.active if parent else 0) or self.width
        self.lines: list[str] = []
        self.memo: dict[int, Value] = {}

    def child(self, names: Mapping[str, Bound], width: int = 0, active: int = 0, loop: bool = False) -> Self:
        """A scope inside; ``loop``: its code runs many times, so that what it shares with this one moves out."""
        return type(self)(self.code, self, names, width, active, loop)

    # -------------------------------------------------------------------------------------- names and constants

    def bound(self, name: str) -> tuple[Bound, int]:
        scope: Self | None = self
        while scope is not None:
            if name in scope.names:
                return scope.names[name], scope.depth
            scope = scope.parent
        raise IRError(f"the name {name} is not bound here")

    def at(self, depth: int) -> Self:
        scope: Self = self
        while scope.depth > depth and scope.parent is not None:
            scope = scope.parent
        return scope

    def keep(self, value: Value, dtype: DType) -> Value:
        """The value in a constant of its scope."""
        if value.atom:
            return value
        scope = self.at(value.depth)
        name = self.code.fresh()
        scope.lines.append(f"const {self.type_of(value, dtype)} {name} = {value.text};")
        return Value(name, value.vec, value.depth, value.mask, True)

    def type_of(self, value: Value, dtype: DType) -> str:
        if not value.vec:
            return "int" if dtype == dtypes.bool_ else ctype(dtype)
        return self.vec(f"i{value.mask}" if dtype == dtypes.bool_ else lane(dtype))

    def vec(self, kind: str) -> str:
        self.code.need("vec", kind, str(self.width))
        return vector(kind, self.width)

    def helper(self, name: str, kind: str) -> str:
        self.code.need("vfn", name, kind, str(self.width))
        return f"sh_{name}_{vector(kind, self.width)}"

    # -------------------------------------------------------------------------------------- values

    def prepare(self, exprs: Iterable[Expr]) -> list[Expr]:
        """Call once for all expressions of a scope before printing them, so that sharing is known."""
        return [self.code.prepare(e) for e in exprs]

    def value(self, e: Expr) -> Value:
        """``e`` (prepared) for use in this scope."""
        number = self.code.intern(e)
        scope: Self | None = self
        while scope is not None:
            hit = scope.memo.get(number)
            if hit is not None and (self.width or not hit.vec):
                return hit
            scope = scope.parent
        v = self.compute(e)
        trivial = v.atom or isinstance(e, Const)
        if not trivial and (self.code.uses[number] > 1 or self.at(v.depth).level < self.level):
            v = self.keep(v, e.dtype)
        if v.atom:
            self.at(v.depth).memo[number] = v
        return v

    def scalar(self, e: Expr) -> str:
        v = self.value(e)
        if v.vec:
            raise IRError("a scalar was asked for, but the value differs by lane")
        return v.text

    def vector(self, e: Expr) -> str:
        """As a vector in any case; a bool as 0/1 bytes."""
        v = self.value(e)
        if e.dtype == dtypes.bool_:
            return f"(({self.vec('u8')})({self.mask(v, 8)}) & 1)"
        return self.wide(v, e.dtype)

    def wide(self, v: Value, dtype: DType) -> str:
        return v.text if v.vec else self.splat(v.text, lane(dtype))

    def splat(self, text: str, kind: str) -> str:
        self.vec(kind)
        return f"sh_splat_{vector(kind, self.width)}({text})"

    def mask(self, v: Value, bits: int) -> str:
        """A condition as a vector of 0 / -1."""
        want = self.vec(f"i{bits}")
        if not v.vec:
            return self.splat(f"-({v.text})", f"i{bits}")
        return v.text if v.mask == bits else f"__builtin_convertvector({v.text}, {want})"

    def compute(self, e: Expr) -> Value:
        """Text of one node; ``Scope`` knows the operations."""
        raise NotImplementedError(f"{type(self).__name__}.compute")


def paren(text: str) -> str:
    """``text`` as an operand: in parentheses unless it is a name, a number or a call."""
    simple = text.replace("_", "a").isalnum() or text[0] == "(" or text.startswith("sh_")
    return text if simple else f"({text})"
