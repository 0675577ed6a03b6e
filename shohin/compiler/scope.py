"""The operations of the loop IR as C, in scalars and in lanes.

With lanes, an expression that depends on the lane variable or on a vector name is a vector of ``width`` values; the
rest stays scalar and is splat where they meet. A condition in lanes is a mask of 0 / -1 as wide as what was compared.
"""

from __future__ import annotations

from dataclasses import dataclass

from shohin.compiler import ctext, mathlib
from shohin.compiler.ctext import Need, ctype, lane, literal, unsigned, vector
from shohin.compiler.flat import Flat, Raw
from shohin.compiler.memory import Memory
from shohin.compiler.names import Bound, Code, Value, paren
from shohin.core import dtypes
from shohin.core.dtypes import DType
from shohin.core.errors import IRError
from shohin.core.loop import Bin, Const, Expr, Fma, Intrinsic, Name, Select, Un, Var


class Scope(Memory):
    """A level that prints any expression."""

    def compute(self, e: Expr) -> Value:
        match e:
            case Const(v, t):
                return Value(literal(v, t), False, 0, 0, True)
            case Var(name):
                bound, depth = self.bound(name)
                if bound.kind == "lane":
                    iota = self.helper("iota", "i32")
                    return Value(f"({self.splat(f'(int32_t)({bound.text})', 'i32')} + {iota}())", True, depth)
                return Value(f"(int32_t){bound.text}", False, depth)
            case Name(name, t):
                bound, depth = self.bound(name)
                return Value(bound.text, bound.kind == "vector", depth, 8 if t == dtypes.bool_ else 0, True)
            case Flat():
                return self.load(e)
            case Raw(a, to):
                return self.convert(self.value(a), a.dtype, to)
            case Un():
                return self.unary(e)
            case Bin():
                return self.binary(e)
            case Fma(a, b, c):
                return self.call_wide("fma", (a, b, c), e.dtype)
            case Select():
                return self.select(e)
            case Intrinsic(name, args, t):
                return self.intrinsic(name, args, t)
            case _:
                raise IRError(f"{type(e).__name__} cannot be printed as C")

    def join(self, *values: Value) -> tuple[bool, int]:
        return any(v.vec for v in values), max((v.depth for v in values), default=0)

    def convert(self, v: Value, source: DType, to: DType) -> Value:
        if source == dtypes.bool_:
            if not v.vec:
                return Value(f"({ctype(to)})({v.text})", False, v.depth)
            bits = 64 if lane(to)[1:] == "64" else int(lane(to)[1:])
            ones = f"({self.vec(f'i{bits}')})({self.mask(v, bits)} & 1)"
            return Value(f"__builtin_convertvector({ones}, {self.vec(lane(to))})", True, v.depth)
        if to == dtypes.bool_:
            raise IRError("a conversion to bool is a comparison")
        if lane(source) == lane(to):
            return v
        if v.vec:
            return Value(f"__builtin_convertvector({v.text}, {self.vec(lane(to))})", True, v.depth)
        return Value(f"({ctype(to)}){paren(v.text)}", False, v.depth)

    def unary(self, e: Un) -> Value:
        op, t = e.op, e.a.dtype
        if op in mathlib.FUNCTIONS:
            return self.math(op, (e.a,), t)
        v = self.value(e.a)
        vec, depth = v.vec, v.depth
        match op:
            case "not":
                return Value(f"~{v.text}" if vec else f"!{paren(v.text)}", vec, depth, v.mask)
            case "neg" if t in dtypes.FLOATING:
                return Value(f"(-{v.text})", vec, depth)
            case "neg" if vec:
                return Value(f"({self.vec(lane(t))})(0 - {self.as_unsigned(v.text, t)})", True, depth)
            case "neg":
                return Value(f"({ctype(t)})(0u - ({unsigned(t)}){v.text})", False, depth)
            case "invert":
                return Value(f"({self.vec(lane(t)) if vec else ctype(t)})(~{v.text})", vec, depth)
            case "bitcast_u32" | "bitcast_f32" | "bitcast_u64" | "bitcast_f64":
                if vec:
                    return Value(f"(({self.vec(lane(e.dtype))}){v.text})", True, depth)
                name = ("bits_f" if op[8] == "u" else "float_f") + op[9:]
                self.code.need("fn", name)
                return Value(f"sh_{name}({v.text})", False, depth)
            case _:
                return self.call_wide(op, (e.a,), t)

    def as_unsigned(self, text: str, t: DType) -> str:
        return f"({self.vec('u' + lane(t)[1:])}){text}"

    def call_wide(self, name: str, args: tuple[Expr, ...], t: DType) -> Value:
        """fma, sqrt, rint ...: compiler builtins, exactly rounded."""
        values = [self.value(a) for a in args]
        vec, depth = self.join(*values)
        if vec:
            texts = [self.wide(v, t) for v in values]
            return Value(f"{self.helper(name, lane(t))}({', '.join(texts)})", True, depth)
        suffix = "" if t == dtypes.float64 else "f"
        return Value(f"__builtin_{name}{suffix}({', '.join(v.text for v in values)})", False, depth)

    def math(self, name: str, args: tuple[Expr, ...], t: DType) -> Value:
        values = [self.value(a) for a in args]
        vec, depth = self.join(*values)
        kind = lane(t)
        width = self.width if vec else 1
        self.code.need("math", name, kind, str(width))
        texts = [self.wide(v, a.dtype) if vec else v.text for v, a in zip(values, args)]
        suffix = vector(kind, width) if vec else kind
        return Value(f"sh_{name}_{suffix}({', '.join(texts)})", vec, depth)

    def binary(self, e: Bin) -> Value:
        op, t = e.op, e.a.dtype
        if op in _COMPARE and t == dtypes.int32 and _is_index(e.a) and _is_index(e.b) and not self.by_lane(e):
            (a, da), (b, db) = self.index(e.a), self.index(e.b)
            return Value(f"({a} {_COMPARE[op]} {b})", False, max(da, db))
        if op in ("pow", "atan2") and t in dtypes.FLOATING:
            return self.math(op, (e.a, e.b), t)
        a, b = self.value(e.a), self.value(e.b)
        vec, depth = self.join(a, b)
        if t == dtypes.bool_:
            return self.logic(op, a, b, vec, depth)
        floating = t in dtypes.FLOATING
        if op in _COMPARE:
            if vec:
                bits = int(lane(t)[1:])
                self.vec(f"i{bits}")
                return Value(f"({self.wide(a, t)} {_COMPARE[op]} {self.wide(b, t)})", True, depth, bits)
            return Value(f"({a.text} {_COMPARE[op]} {b.text})", False, depth)
        sign = {"add": "+", "sub": "-", "mul": "*", "and": "&", "or": "|", "xor": "^", "div": "/"}.get(op)
        if sign and floating:
            texts = (self.wide(a, t), self.wide(b, t)) if vec else (a.text, b.text)
            return Value(f"({texts[0]} {sign} {texts[1]})", vec, depth)
        if sign and vec:
            x, y = self.wide(a, t), self.wide(b, t)
            if op in ("and", "or", "xor") or t in dtypes.UNSIGNED:
                return Value(f"({x} {sign} {y})", True, depth)
            return Value(
                f"({self.vec(lane(t))})({self.as_unsigned(x, t)} {sign} {self.as_unsigned(y, t)})", True, depth
            )
        if sign:
            c = ctype(t)
            if c in ("uint32_t", "uint64_t") or op in ("and", "or", "xor"):
                wrapped = f"({a.text} {sign} {b.text})"
                return Value(
                    wrapped if c in ("uint32_t", "uint64_t", "int32_t", "int64_t") else f"({c}){wrapped}", False, depth
                )
            u = unsigned(t)
            return Value(f"({c})(({u}){a.text} {sign} ({u}){b.text})", False, depth)
        match op:
            case "max" | "min":
                if vec:
                    return Value(f"{self.helper(op, lane(t))}({self.wide(a, t)}, {self.wide(b, t)})", True, depth)
                return self.scalar_call(f"{op}_{lane(t)}", a, b)
            case "shl" | "shr":
                return self.shift(op, e, a, b)
            case "pow":
                name = f"ipow_{lane(t)}"
            case "mulhi":
                name = "mulhi_u32"
            case _:
                name = f"{op}_{lane(t)}"
        if not vec:
            return self.scalar_call(name, a, b)
        self.code.need("fn", name)
        return self.each(f"sh_{name}({{0}}, {{1}})", (a, b), (t, t), t)

    def scalar_call(self, name: str, *args: Value) -> Value:
        self.code.need("fn", name)
        return Value(f"sh_{name}({', '.join(a.text for a in args)})", False, self.join(*args)[1])

    def shift(self, op: str, e: Bin, a: Value, b: Value) -> Value:
        t = e.a.dtype
        bits = 8 * t.itemsize
        vec, depth = self.join(a, b)
        known = isinstance(e.b, Const) and 0 <= int(e.b.value) < bits
        if vec and known:
            count = self.splat(str(int(e.b.value)), lane(t)) if isinstance(e.b, Const) else ""
            x = self.as_unsigned(self.wide(a, t), t) if op == "shl" else self.wide(a, t)
            y = self.as_unsigned(count, t) if op == "shl" else count
            return Value(f"({self.vec(lane(t))})({x} {'<<' if op == 'shl' else '>>'} {y})", True, depth)
        u, c = unsigned(t), ctype(t)
        text = f"({c})(({u}){{0}} << {{1}})" if op == "shl" else f"({c})({{0}} >> {{1}})"
        if not known:
            over = "0" if op == "shl" or t in dtypes.UNSIGNED else f"({c})({{0}} < 0 ? -1 : 0)"
            text = f"({{1}} >= 0 && {{1}} < {bits} ? {text} : {over})"
            if e.b.dtype in dtypes.UNSIGNED:
                text = text.replace("{1} >= 0 && ", "")
        if vec:
            return self.each(text, (a, b), (t, e.b.dtype), t)
        if not known:
            a, b = self.keep(a, t), self.keep(b, e.b.dtype)
        return Value(text.format(a.text, b.text), False, depth)

    def logic(self, op: str, a: Value, b: Value, vec: bool, depth: int) -> Value:
        sign = {"and": "&", "mul": "&", "min": "&", "or": "|", "add": "|", "max": "|", "xor": "^", "ne": "^"}.get(op)
        if not vec:
            compare = {"eq": "==", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
            return Value(f"({a.text} {sign or compare[op]} {b.text})", False, depth)
        bits = max(v.mask for v in (a, b) if v.vec)
        x, y = self.mask(a, bits), self.mask(b, bits)
        if sign:
            return Value(f"({x} {sign} {y})", True, depth, bits)
        text = {
            "eq": f"~({x} ^ {y})",
            "lt": f"(~{x} & {y})",
            "gt": f"({x} & ~{y})",
            "le": f"(~{x} | {y})",
            "ge": f"({x} | ~{y})",
        }
        return Value(text[op], True, depth, bits)

    def select(self, e: Select) -> Value:
        c, a, b = self.value(e.condition), self.value(e.a), self.value(e.b)
        vec, depth = self.join(c, a, b)
        if not vec:
            return Value(f"({c.text} ? {a.text} : {b.text})", False, depth)
        if e.dtype == dtypes.bool_:
            bits = max(v.mask for v in (c, a, b) if v.vec)
            m, x, y = self.mask(c, bits), self.mask(a, bits), self.mask(b, bits)
            return Value(
                f"sh_select_{vector(f'i{bits}', self.width)}({m}, {x}, {y})"
                if self.helper("select", f"i{bits}")
                else "",
                True,
                depth,
                bits,
            )
        x, y = self.wide(a, e.dtype), self.wide(b, e.dtype)
        if not c.vec:
            return Value(f"({c.text} ? {x} : {y})", True, depth)
        kind = lane(e.dtype)
        return Value(f"{self.helper('select', kind)}({self.mask(c, int(kind[1:]))}, {x}, {y})", True, depth)

    def each(self, template: str, args: tuple[Value, ...], types: tuple[DType, ...], t: DType) -> Value:
        """Lane by lane, where there is no vector form."""
        texts = []
        depth = self.join(*args)[1]
        for v, a in zip(args, types):
            kept = self.keep(v, a)
            texts.append(f"{kept.text}[l]" if v.vec else kept.text)
        r, out = self.code.fresh("g_"), self.vec(lane(t))
        body = f"SH_UNROLL for (int l = 0; l < {self.width}; ++l) {r}[l] = {template.format(*texts)};"
        return Value(f"({{ {out} {r}; {body} {r}; }})", True, depth)

    def intrinsic(self, name: str, args: tuple[Expr, ...], t: DType) -> Value:
        if name in mathlib.FUNCTIONS:
            return self.math(name, args, t)
        known = INTRINSICS.get(name)
        if known is None:
            raise IRError(f"the intrinsic {name} has no template for C; put one into compiler.scope.INTRINSICS")
        if known.helper:
            self.code.need("text", known.helper)
        values = [self.value(a) for a in args]
        vec, depth = self.join(*values)
        if not vec:
            return Value(known.scalar.format(*(v.text for v in values)), False, depth)
        if known.lanes:
            texts = [self.wide(v, a.dtype) for v, a in zip(values, args)]
            return Value(known.lanes.format(*texts, width=self.width), True, depth)
        return self.each(known.scalar, tuple(values), tuple(a.dtype for a in args), t)


def _is_index(e: Expr) -> bool:
    return e.dtype == dtypes.int32 and (
        isinstance(e, Var | Const)
        or (
            isinstance(e, Bin)
            and e.op in ("add", "sub", "mul", "floordiv", "mod", "min", "max")
            and _is_index(e.a)
            and _is_index(e.b)
        )
    )


_COMPARE = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}


@dataclass(frozen=True, kw_only=True)
class CIntrinsic:
    """Template of an intrinsic: ``{0}``, ``{1}`` are its arguments; ``lanes`` also has ``{width}``."""

    scalar: str
    lanes: str | None = None
    helper: str = ""


INTRINSICS: dict[str, CIntrinsic] = {
    "opaque": CIntrinsic(
        scalar="sh_opaque({0})",
        helper="/* x, as a value that clang for MVE does not know: it makes wrong code of an int times a literal power of two */\n"
        "static inline float sh_opaque(float x) {\n#if defined __clang__ && defined __ARM_FEATURE_MVE\n"
        "    volatile float y = x;\n    return y;\n#else\n    return x;\n#endif\n}\n",
    )
}


def math_function(name: str, kind: str, width: int) -> tuple[list[Need], str]:
    """The C text of one of ``mathlib``'s functions, and what it needs."""
    params, body = mathlib.FUNCTIONS[name](dtypes.BY_SHORT[kind])
    code = Code(pointer=lambda buffer: buffer)
    lanes = width > 1
    names = {p.name: Bound(p.name, "vector" if lanes else "scalar") for p in params}
    scope = Scope(code, None, names, width if lanes else 0)
    (prepared,) = scope.prepare([body])
    result = scope.value(prepared)
    text = result.text
    out = scope.vec(lane(body.dtype)) if lanes else ctype(body.dtype)
    args = ", ".join(f"{scope.vec(lane(p.type)) if lanes else ctype(p.type)} {p.name}" for p in params)
    suffix = vector(kind, width) if lanes else kind
    lines = "".join(f"    {line}\n" for line in scope.lines)
    return list(code.needs), f"SH_INLINE {out} sh_{name}_{suffix}({args}) {{\n{lines}    return {text};\n}}"


ctext.MATH = math_function
