"""Loads as C: flat addresses of 64-bit integers, vectors where the lanes are neighbours, else lane by lane.

Nothing is ever read where a predicate is false: a uniform one guards the whole vector, one that differs by lane
guards each lane. Of a partial vector only ``active`` lanes are read.
"""

from __future__ import annotations

from collections.abc import Iterable

from shohin.compiler.ctext import HALF, kind_of, lane, literal, stored
from shohin.compiler.flat import Flat, bounds, parts
from shohin.compiler.names import Bound, Level, Value, paren
from shohin.core import dtypes
from shohin.core.errors import IRError
from shohin.core.loop import Bin, Const, Expr, Name, Var


class Memory(Level):
    """A level that can load."""

    def by_lane(self, e: Expr) -> bool:
        """Whether a value differs by lane."""
        if self.width == 0:
            return False
        if isinstance(e, Var | Name):
            return self.bound(e.name)[0].kind in ("lane", "vector")
        return any(self.by_lane(p) for p in parts(e))

    def index(self, e: Expr) -> tuple[str, int]:
        """An integer as C ``long``, and its depth; not by lane."""
        match e:
            case Const(v, _):
                return (str(int(v)) if v >= 0 else f"({int(v)})"), 0
            case Var(name):
                bound, depth = self.bound(name)
                return bound.text, depth
            case Bin("add" | "sub" | "mul", a, b):
                (x, dx), (y, dy) = self.index(a), self.index(b)
                return f"({x} {'+' if e.op == 'add' else '-' if e.op == 'sub' else '*'} {y})", max(dx, dy)
            case Bin("floordiv" | "mod", a, b):
                (x, dx), (y, dy) = self.index(a), self.index(b)
                span, by = bounds(a, self.code.ranges), bounds(b, self.code.ranges)
                if span and by and span[0] >= 0 and by[0] > 0:
                    return f"({x} {'/' if e.op == 'floordiv' else '%'} {y})", max(dx, dy)
                name = "fdiv" if e.op == "floordiv" else "fmodl"
                self.code.need("fn", name)
                return f"sh_{name}({x}, {y})", max(dx, dy)
            case Bin("min" | "max", a, b):
                (x, dx), (y, dy) = self.index(a), self.index(b)
                return f"({x} {'<' if e.op == 'min' else '>'} {y} ? {x} : {y})", max(dx, dy)
            case _:
                v = self.value(e)
                return f"(long){paren(v.text)}", v.depth

    def address(self, const: int, terms: Iterable[tuple[Expr, int]]) -> tuple[str, int]:
        """``const + sum(c * term)``, and its depth."""
        texts, depth = [], 0
        for t, c in terms:
            text, d = self.index(t)
            depth = max(depth, d)
            texts.append(text if c == 1 else f"{self.code.size(c)} * {text}" if c >= 0 else f"({c}) * {text}")
        text = " + ".join(texts)
        if const or not texts:
            text = f"{text} {'+' if const > 0 else '-'} {abs(const)}" if texts else str(const)
        return text, depth

    def load(self, e: Flat) -> Value:
        if self.by_lane(e):
            return self.load_lanes(e)
        where, depth = self.address(e.const, e.terms)
        text = f"{self.code.pointer(e.buffer)}[{where}]"
        if e.type in HALF:
            name = f"{dtypes.short(e.type)}_value"
            self.code.need("math", name, "f32", "1")
            text = f"sh_{name}_f32({text})"
        if e.pred is not None:
            p = self.value(e.pred)
            depth = max(depth, p.depth)
            text = f"({p.text} ? {text} : {literal(e.pad if e.pad is not None else 0, e.type)})"
        return Value(text, False, depth)

    def load_lanes(self, e: Flat) -> Value:
        kind = kind_of(stored(e.type))
        name, depth = self.lane_name()
        step = sum(c for t, c in e.terms if isinstance(t, Var) and t.name == name)
        others = [t for t, _ in e.terms if not (isinstance(t, Var) and t.name == name)]
        plain = step == 1 and not any(map(self.by_lane, others)) and (e.pred is None or not self.by_lane(e.pred))
        pad = literal(e.pad if e.pad is not None else 0, e.type) if e.type not in HALF else "0"
        vt = self.vec(kind)
        if plain:
            where, d = self.address(e.const, e.terms)
            depth = max(depth, d)
            pointer = self.code.pointer(e.buffer)
            if self.active < self.width:
                text = f"{self.helper('part', kind)}(&{pointer}[{where}], {self.active})"
            else:
                text = f"(({vt})*(const {vt}_u *)&{pointer}[{where}])"  # cast: gcc will not mix both types in a conditional
        else:
            text, d = self.gather(e, vt, pad)
            depth = max(depth, d)
        if e.type in HALF:
            fn = f"{dtypes.short(e.type)}_value"
            self.code.need("math", fn, "f32", str(self.width))
            text = f"sh_{fn}_{self.vec('f32')}(__builtin_convertvector({text}, {self.vec('u32')}))"
        mask = 0
        if e.type == dtypes.bool_:
            self.vec("i8")
            text, mask = f"({text} != 0)", 8
        if plain and e.pred is not None:
            p = self.value(e.pred)
            depth = max(depth, p.depth)
            if mask:
                other = self.splat(f"-({pad})", "i8")
            else:
                other = self.splat(literal(e.pad if e.pad is not None else 0, e.type), lane(e.type))
            text = f"({p.text} ? {text} : {other})"
        return Value(text, True, depth, mask)

    def gather(self, e: Flat, vt: str, pad: str) -> tuple[str, int]:
        """Lane by lane: strided or indirect, or under a predicate of the lane."""
        r, l = self.code.fresh("g_"), self.code.fresh("l_")
        name, _ = self.lane_name()
        start = self.bound(name)[0].text
        inner = self.child(self.scalar_names(l, f"({start} + {l})"), loop=True)
        inner.width = 0
        where, _ = inner.address(e.const, e.terms)
        item = f"{self.code.pointer(e.buffer)}[{where}]"
        if e.pred is not None:
            item = f"{inner.scalar(e.pred)} ? {item} : {pad}"
        lets = " ".join(inner.lines)
        zero = " = {0}" if self.active < self.width else ""
        loop = f"SH_UNROLL for (int {l} = 0; {l} < {self.active}; ++{l})"
        return f"({{ {vt} {r}{zero}; {loop} {{ {lets} {r}[{l}] = {item}; }} {r}; }})", self.depth

    def scalar_names(self, l: str, lane_text: str) -> dict[str, Bound]:
        names: dict[str, Bound] = {}
        scope = self
        while scope is not None:
            for n, b in scope.names.items():
                if n in names:
                    continue
                if b.kind == "lane":
                    names[n] = Bound(lane_text, "index")
                elif b.kind == "vector":
                    names[n] = Bound(f"{b.text}[{l}]", "scalar")
            scope = scope.parent
        return names

    def lane_name(self) -> tuple[str, int]:
        scope = self
        while scope is not None:
            for n, b in scope.names.items():
                if b.kind == "lane":
                    return n, scope.depth
            scope = scope.parent
        raise IRError("no lane variable is bound here")
