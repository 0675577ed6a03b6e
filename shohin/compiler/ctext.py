"""C text: type names, literals, vector typedefs and the small helper functions that printed expressions call.

A printer collects *needs* (keys); ``render`` turns them into the text that stands before the functions, each helper
once and after what it uses. Helpers are plain C11; vectors need GCC's vector extensions (gcc 12, clang).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import numpy as np

from shohin.core import dtypes
from shohin.core.dtypes import DType
from shohin.core.errors import IRError

Need = tuple[str, ...]
"""``("vec", "f32", "16")``, ``("fn", name)``, ``("math", "exp", "f32", "16")`` ..."""

VALUE: dict[DType, str] = {
    dtypes.bool_: "uint8_t", dtypes.int2: "int8_t", dtypes.uint2: "uint8_t", dtypes.int4: "int8_t",
    dtypes.uint4: "uint8_t", dtypes.int8: "int8_t", dtypes.uint8: "uint8_t", dtypes.int16: "int16_t",
    dtypes.uint16: "uint16_t", dtypes.int32: "int32_t", dtypes.uint32: "uint32_t", dtypes.int64: "int64_t",
    dtypes.uint64: "uint64_t", dtypes.float16: "float", dtypes.bfloat16: "float", dtypes.float32: "float",
    dtypes.float64: "double",
}  # fmt: skip
"""The C type in which a value is held; 16-bit floats are float32 between their load and their store."""

_VECTOR: dict[str, str] = {
    "f32": "float", "f64": "double", "i8": "int8_t", "u8": "uint8_t", "i16": "int16_t", "u16": "uint16_t",
    "i32": "int32_t", "u32": "uint32_t", "i64": "int64_t", "u64": "uint64_t",
}  # fmt: skip
_SHORT_OF = {text: short for short, text in _VECTOR.items()}
HALF = (dtypes.float16, dtypes.bfloat16)


def ctype(dtype: DType) -> str:
    """The C type of a value."""
    if dtype not in VALUE:
        raise IRError(f"{dtype.name} has no C type; lower it to real numbers before the compiler")
    return VALUE[dtype]


def stored(dtype: DType) -> str:
    """The C type of an element in memory."""
    return "uint16_t" if dtype in HALF else ctype(dtype)


def lane(dtype: DType) -> str:
    """Short name of the element of a vector that holds values of ``dtype`` (``f32``, ``i8`` ...)."""
    return _SHORT_OF[ctype(dtype)]


def kind_of(c: str) -> str:
    """Short name of a C element type.

    >>> kind_of("uint16_t")
    'u16'
    """
    return _SHORT_OF[c]


def unsigned(dtype: DType) -> str:
    """The unsigned type in which arithmetic on ``dtype`` wraps without being undefined."""
    return "uint64_t" if dtypes.bits(dtype) == 64 else "uint32_t"


def literal(value: bool | int | float, dtype: DType) -> str:
    """A C literal that has exactly the value.

    >>> literal(0.1, dtypes.float32), literal(-3, dtypes.int32), literal(float("-inf"), dtypes.float32)
    ('0.1f', '-3', '-__builtin_inff()')
    """
    if dtype == dtypes.bool_:
        return "1" if value else "0"
    if dtype in dtypes.INTEGER:
        number = int(value)
        suffix = {dtypes.uint32: "u", dtypes.uint64: "ull", dtypes.int64: "ll"}.get(dtype, "")
        if dtype == dtypes.int32 and number == -(2**31):
            return "(-2147483647 - 1)"
        if dtype == dtypes.int64 and number == -(2**63):
            return "(-9223372036854775807ll - 1)"
        return f"{number}{suffix}"
    single = dtype != dtypes.float64
    f = "f" if single else ""
    held = float(value)
    if held != held:
        return f'__builtin_nan{f}("")'
    if held in (float("inf"), float("-inf")):
        return ("-" if held < 0 else "") + f"__builtin_inf{f}()"
    text = str(np.float32(held)) if single else repr(held)
    if not any(c in text for c in ".e"):
        text += ".0"
    return text + f


def vector(kind: str, width: int) -> str:
    return f"{kind}x{width}"


# ---------------------------------------------------------------------------------------------- helpers

_FN: dict[str, tuple[tuple[Need, ...], str]] = {}


def _add(name: str, text: str, *uses: Need) -> None:
    _FN[name] = (uses, text.strip("\n"))


def _typed() -> None:
    for kind in _VECTOR:
        c = _VECTOR[kind]
        _add(f"max_{kind}", f"static inline {c} sh_max_{kind}({c} a, {c} b) {{ return a > b ? a : b; }}")
        _add(f"min_{kind}", f"static inline {c} sh_min_{kind}({c} a, {c} b) {{ return a < b ? a : b; }}")
        # reductions let NaN through: it wins once and stays
        nan = " || b != b" if kind[0] == "f" else ""
        _add(f"redmax_{kind}", f"static inline {c} sh_redmax_{kind}({c} a, {c} b) {{ return b > a{nan} ? b : a; }}")
        _add(f"redmin_{kind}", f"static inline {c} sh_redmin_{kind}({c} a, {c} b) {{ return b < a{nan} ? b : a; }}")
        if kind[0] == "f":
            continue
        zero = f"static inline {c} sh_%s_{kind}({c} a, {c} b) {{\n    if (b == 0) return 0;\n"
        if kind[0] == "i":
            u = "uint64_t" if kind == "i64" else "uint32_t"
            minus = f"    if (b == -1) return {{}};\n    const {c} q = ({c})(a / b), r = ({c})(a % b);\n"
            _add(
                f"floordiv_{kind}",
                zero % "floordiv"
                + minus.format(f"({c})(0u - ({u})a)")
                + f"    return ({c})(q - (r != 0 && (r ^ b) < 0));\n}}",
            )
            _add(
                f"mod_{kind}",
                zero % "mod"
                + minus.replace("q = (" + c + ")(a / b), ", "").format("0")
                + f"    return ({c})(r != 0 && (r ^ b) < 0 ? r + b : r);\n}}",
            )
        else:
            _add(f"floordiv_{kind}", zero % "floordiv" + f"    return ({c})(a / b);\n}}")
            _add(f"mod_{kind}", zero % "mod" + f"    return ({c})(a % b);\n}}")
        u = "uint64_t" if kind.endswith("64") else "uint32_t"
        _add(
            f"ipow_{kind}",
            f"""
static inline {c} sh_ipow_{kind}({c} a, {c} n) {{
    {u} base = ({u})a, r = 1;
    for ({u} e = ({u})n; e != 0 && n > 0; e >>= 1) {{
        if (e & 1u) r *= base;
        base *= base;
    }}
    return ({c})r;
}}""",
        )


def _floats() -> None:
    for kind, c, u, f, mant, one in (
        ("f32", "float", "uint32_t", "f", 23, "1u"),
        ("f64", "double", "uint64_t", "", 52, "(uint64_t)1"),
    ):
        big = 8 if kind == "f32" else 11
        _add(
            f"bits_{kind}",  # a union, since memcpy is a call where the compiler is told -ffreestanding
            f"static inline {u} sh_bits_{kind}({c} x) {{ const union {{ {c} x; {u} u; }} v = {{.x = x}}; return v.u; }}",
        )
        _add(
            f"float_{kind}",
            f"static inline {c} sh_float_{kind}({u} u) {{ const union {{ {u} u; {c} x; }} v = {{.u = u}}; return v.x; }}",
        )
        # exact remainder by shift and subtract: the same bits on every machine, no libm
        _add(
            f"fmod_{kind}",
            f"""
static inline {c} sh_fmod_{kind}({c} a, {c} b) {{
    {u} x = sh_bits_{kind}(a), y = sh_bits_{kind}(b);
    const {u} sign = x & ({one} << {mant + big}), top = {one} << {mant};
    x ^= sign;
    y &= ({one} << {mant + big}) - 1;
    if (y == 0 || x >= ((({one} << {big}) - 1) << {mant}) || b != b) return (a * b) / (a * b);
    if (x < y) return a;
    long ex = (long)(x >> {mant}), ey = (long)(y >> {mant});
    x = ex == 0 ? x : (x & (top - 1)) | top;
    y = ey == 0 ? y : (y & (top - 1)) | top;
    for (ex += ex == 0; x < top; x <<= 1) --ex;
    for (ey += ey == 0; y < top; y <<= 1) --ey;
    while (ex > ey && x != 0) {{
        if (x >= y) x -= y;
        x <<= 1;
        --ex;
    }}
    if (x >= y) x -= y;
    if (x == 0) return sh_float_{kind}(sign);
    for (; x < top; x <<= 1) --ey;
    x = ey > 0 ? (x - top) | (({u})ey << {mant}) : x >> (1 - ey);
    return sh_float_{kind}(x | sign);
}}""",
            ("fn", f"bits_{kind}"),
            ("fn", f"float_{kind}"),
        )
        _add(
            f"mod_{kind}",
            f"""
static inline {c} sh_mod_{kind}({c} a, {c} b) {{
    const {c} r = sh_fmod_{kind}(a, b);
    if (r == 0) return __builtin_copysign{f}(({c})0, b);
    return (r < 0) != (b < 0) ? r + b : r;
}}""",
            ("fn", f"fmod_{kind}"),
        )
        _add(
            f"floordiv_{kind}",
            f"""
static inline {c} sh_floordiv_{kind}({c} a, {c} b) {{
    if (b == 0) return a / b;
    const {c} r = sh_fmod_{kind}(a, b);
    {c} q = (a - r) / b;
    if (r != 0 && (b < 0) != (r < 0)) q -= 1;
    if (q == 0) return __builtin_copysign{f}(({c})0, a / b);
    const {c} w = __builtin_floor{f}(q);
    return q - w > ({c})0.5 ? w + 1 : w;
}}""",
            ("fn", f"fmod_{kind}"),
        )


_typed()
_floats()
_add(
    "mulhi_u32",
    "static inline uint32_t sh_mulhi_u32(uint32_t a, uint32_t b) { return (uint32_t)(((uint64_t)a * b) >> 32); }",
)
_add(
    "fdiv",
    "static inline long sh_fdiv(long a, long b) { const long q = a / b; return q - (a % b != 0 && (a ^ b) < 0); }",
)
_add(
    "fmodl",
    "static inline long sh_fmodl(long a, long b) { const long r = a % b; return r != 0 && (r ^ b) < 0 ? r + b : r; }",
)
_add(
    "requant",
    """
static inline int32_t sh_requant(float acc, float m, int32_t z, int32_t lo, int32_t hi) {
    const float a = (float)(lo - z), c = (float)(hi - z);
    float v = acc * m;
    v = v > a ? v : a;
    v = v < c ? v : c;
    return (int32_t)__builtin_rintf(v) + z;
}""",
)


# ---------------------------------------------------------------------------------------------- vectors


def _vec(kind: str, width: int) -> str:
    c, t = _VECTOR[kind], vector(kind, width)
    bits = int(kind[1:])
    size = width * bits // 8
    return (
        f"typedef {c} {t} __attribute__((vector_size({size})));\n"
        f"typedef {c} {t}_u __attribute__((vector_size({size}), aligned({bits // 8}), may_alias));\n"
        f"static inline {t} sh_splat_{t}({c} x) {{ return ({t}){{{', '.join(['x'] * width)}}}; }}"
    )


def _vec_fn(name: str, kind: str, width: int) -> tuple[list[Need], str]:
    """Helpers on vectors; ``name`` is the operation."""
    c, t = _VECTOR[kind], vector(kind, width)
    f = "f" if kind == "f32" else ""
    ints = vector("i" + kind[1:], width)
    need: list[Need] = [("vec", kind, str(width)), ("vec", "i" + kind[1:], str(width))]
    match name:
        case "select":
            return need, (
                f"static inline {t} sh_select_{t}({ints} m, {t} a, {t} b) "
                f"{{ return ({t})((m & ({ints})a) | (~m & ({ints})b)); }}"
            )
        case "max" | "min" | "redmax" | "redmin":
            op = ">" if name.endswith("max") else "<"
            first, second = ("a", "b") if name in ("max", "min") else ("b", "a")
            nan = " | (b != b)" if name.startswith("red") and kind[0] == "f" else ""
            need.append(("vfn", "select", kind, str(width)))
            return need, (
                f"static inline {t} sh_{name}_{t}({t} a, {t} b) "
                f"{{ return sh_select_{t}(({ints})({first} {op} {second}){nan}, {first}, {second}); }}"
            )
        case "fma" | "sqrt" | "floor" | "ceil" | "trunc" | "rint":
            args = ("a", "b", "c") if name == "fma" else ("a",)
            fast = {"rint": "roundeven"}.get(name, name)
            decl = ", ".join(f"{t} {a}" for a in args)
            each = ", ".join(a + "[i]" for a in args)
            return need, (
                f"static inline {t} sh_{name}_{t}({decl}) {{\n"
                "#if defined(__clang__)\n"
                f"    return __builtin_elementwise_{fast}({', '.join(args)});\n#else\n    {t} r;\n"
                f"    for (int i = 0; i < {width}; ++i) r[i] = __builtin_{name}{f}({each});\n"
                f"    return r;\n#endif\n}}"
            )
        case "part":
            return need, (
                f"static inline {t} sh_part_{t}(const {c} *p, int n) "
                f"{{ {t} r = {{0}}; memcpy(&r, p, (size_t)n * sizeof(*p)); return r; }}"
            )
        case "iota":
            return (
                need,
                f"static inline {t} sh_iota_{t}(void) {{ return ({t}){{{', '.join(map(str, range(width)))}}}; }}",
            )
        case "tree":
            return need, ""
        case _:
            raise IRError(f"no vector helper {name}")


MATH: Callable[[str, str, int], tuple[list[Need], str]] | None = None
"""Printer of our own transcendental functions; ``cprint`` sets it (it needs the expression printer)."""


def render(needs: Iterable[Need]) -> str:
    """The helpers' text, each once, after what it uses."""
    done: dict[Need, str] = {}

    def visit(need: Need) -> None:
        if need in done:
            return
        if need[0] == "vec":
            uses, text = [], _vec(need[1], int(need[2]))
        elif need[0] == "vfn":
            uses, text = _vec_fn(need[1], need[2], int(need[3]))
        elif need[0] == "fn":
            uses, text = _FN[need[1]]
        elif need[0] == "text":
            uses, text = [], need[1]
        else:
            assert MATH is not None
            uses, text = MATH(need[1], need[2], int(need[3]))
        for use in uses:
            visit(use)
        done[need] = text

    order = {"vec": 0, "text": 1, "fn": 2, "vfn": 3, "math": 4}
    for need in sorted(set(needs), key=lambda n: (order[n[0]], n)):
        visit(need)
    return "\n".join(text for text in done.values() if text)


def once(name: str, text: str) -> str:
    """``text`` in a guard, for helpers that several functions of a file bring along.

    >>> print(once("sh_one", "static int sh_one;\\n"), end="")
    #ifndef SH_ONE
    #define SH_ONE
    static int sh_one;
    #endif /* SH_ONE */
    """
    guard = name.upper()
    return f"#ifndef {guard}\n#define {guard}\n{text}#endif /* {guard} */\n"


_ONCE = re.compile(r"#ifndef (\w+)\n#define \1\n.*?#endif /\* \1 \*/\n", re.DOTALL)


def without(text: str, seen: set[str]) -> str:
    """``text`` less what stands in a guard of ``once`` that is in ``seen``; adds the others to it. No guard may stand inside an ``#if``."""

    def keep(found: re.Match[str]) -> str:
        new = found[1] not in seen
        seen.add(found[1])
        return found[0] if new else ""

    return _ONCE.sub(keep, text)


HEADER = """\
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#if defined(__clang__)
#pragma clang diagnostic ignored "-Wpass-failed"
#pragma clang diagnostic ignored "-Wunused-function"
#define SH_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#define SH_UNROLL _Pragma("clang loop unroll(full)")
#elif defined(__GNUC__)
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wpsabi"
#define SH_INDEPENDENT _Pragma("GCC ivdep")
#define SH_UNROLL _Pragma("GCC unroll 16")
#else
#include <math.h>
#define SH_INDEPENDENT
#define SH_UNROLL
#define __builtin_fmaf fmaf
#define __builtin_fma fma
#define __builtin_sqrtf sqrtf
#define __builtin_sqrt sqrt
#define __builtin_rintf rintf
#define __builtin_rint rint
#define __builtin_floorf floorf
#define __builtin_floor floor
#define __builtin_ceilf ceilf
#define __builtin_ceil ceil
#define __builtin_truncf truncf
#define __builtin_trunc trunc
#define __builtin_copysignf copysignf
#define __builtin_copysign copysign
#define __builtin_inff() INFINITY
#define __builtin_inf() ((double)INFINITY)
#define __builtin_nanf(x) NAN
#define __builtin_nan(x) ((double)NAN)
#endif
#if defined(__GNUC__) && (defined(__AVX2__) || defined(__ARM_NEON)) /* a call in a loop would keep it from vectors */
#define SH_INLINE static inline __attribute__((always_inline))
#else
#define SH_INLINE static inline
#endif
#if defined(__GNUC__)
#define SH_APART __attribute__((noinline)) /* compiled once, not in every loop that calls it */
#else
#define SH_APART
#endif
"""
