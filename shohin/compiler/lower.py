"""Compound operations in terms of simple ones, so that a printer has one meaning to print, in scalars and in lanes.

Conversions from float to integer never are undefined here: the value is clipped first (NaN gives the lower bound,
as in docs/quantization.md), where needed by the int32 or int64 range; without ``saturate`` the rest wraps, as NumPy on x86-64.
"""

from __future__ import annotations

import math

from shohin.compiler import half
from shohin.compiler.ctext import HALF
from shohin.compiler.flat import Raw
from shohin.core import dtypes
from shohin.core.dtypes import DType
from shohin.core.errors import IRError
from shohin.core.loop import Bin, Cast, Const, Expr, Fma, Intrinsic, Requant, Select, Un, clip, const, select


def lower(expr: Expr) -> Expr | None:
    """A rule for ``flat.rewrite``."""
    match expr:
        case Cast(a, type_, rounding, saturate):
            return _cast(a, type_, rounding, saturate)
        case Requant():
            return _requant(expr)
        case Fma(a, b, c) if expr.dtype in dtypes.INTEGER:
            return Bin("add", Bin("mul", a, b), c)
        case Un("isnan", a):
            return Bin("ne", a, a) if a.dtype in dtypes.FLOATING else const(False, dtypes.bool_)
        case Un("isfinite", a):
            if a.dtype not in dtypes.FLOATING:
                return const(True, dtypes.bool_)
            return Bin("eq", Bin("sub", a, a), const(0, a.dtype))
        case Un("abs", a):
            return _abs(a)
        case Bin("mul" | "div", a, b) if expr.dtype == dtypes.float32 and ((_from_int(a) and _power(b)) or (_power(a) and _from_int(b))):
            # clang 22 makes wrong MVE code of int -> float times a literal power of two (2^-16; 2^-1 under a predicate)
            hidden = [Intrinsic("opaque", (v,), dtypes.float32) if _power(v) else v for v in (a, b)]
            return Bin(expr.op, *hidden)
        case Un("floor" | "ceil" | "trunc" | "rint", a) if a.dtype not in dtypes.FLOATING:
            return a
        case Un("invert", a) if a.dtype == dtypes.bool_:
            return Un("not", a)
        case Un("not", a) if a.dtype != dtypes.bool_:
            return Bin("eq", a, const(0, a.dtype))
        case Bin("div", a, _) if a.dtype not in dtypes.FLOATING:
            raise IRError(f"div of {a.dtype.name}: cast to a float first, or use floordiv")
        case _:
            return None


def _from_int(e: Expr) -> bool:
    """Was it an integer just before?"""
    return isinstance(e, Cast | Raw) and e.a.dtype in dtypes.INTEGER


def _power(e: Expr) -> bool:
    """Is it a literal power of two?"""
    return isinstance(e, Const) and abs(math.frexp(float(e.value))[0]) == 0.5


def _abs(a: Expr) -> Expr:
    match a.dtype:
        case dtypes.float64:
            return Un("bitcast_f64", Bin("and", Un("bitcast_u64", a), const(2**63 - 1, dtypes.uint64)))
        case t if t in dtypes.FLOATING:
            bits = Bin("and", Un("bitcast_u32", a), const(2**31 - 1, dtypes.uint32))
            return Raw(Un("bitcast_f32", bits), t)
        case t if t in dtypes.SIGNED:
            return select(a < 0, Un("neg", a), a)
        case _:
            return a


def _cast(a: Expr, to: DType, rounding: str, saturate: bool) -> Expr:
    source = a.dtype
    if to == source:
        return a
    if to == dtypes.bool_:
        return Bin("ne", a, const(0, source))
    if to in HALF:
        wide = a if source in (*HALF, dtypes.float32) else Raw(a, dtypes.float32)
        return Raw(half.round_half(Raw(wide, dtypes.float32), to), to)
    if source in dtypes.FLOATING and to in dtypes.INTEGER:
        return _float_to_int(Un("rint", a) if rounding == "even" else a, to, saturate)
    if saturate and to in dtypes.INTEGER and source in dtypes.INTEGER:
        a = _clip_int(a, to)
    return _narrow(Raw(a, to), to)


def _narrow(x: Expr, to: DType) -> Expr:
    """Sub-byte integers live in bytes: wrap by shifts."""
    bits = dtypes.bits(to)
    if bits >= 8:
        return x
    if to in dtypes.SIGNED:
        return Bin("shr", Bin("shl", x, const(8 - bits, to)), const(8 - bits, to))
    return Bin("and", x, Const(2**bits - 1, to))


def limits(t: DType) -> tuple[int, int]:
    bits = dtypes.bits(t)
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if t in dtypes.SIGNED else (0, 2**bits - 1)


def _clip_int(a: Expr, to: DType) -> Expr:
    (lo, hi), (low, high) = limits(to), limits(a.dtype)
    if lo > low:
        a = select(a < Const(lo, a.dtype), Const(lo, a.dtype), a)
    if hi < high:
        a = select(a > Const(hi, a.dtype), Const(hi, a.dtype), a)
    return a


def _float_to_int(x: Expr, to: DType, saturate: bool) -> Expr:
    bits = dtypes.bits(to)
    double = x.dtype == dtypes.float64
    if bits < 32:
        if saturate:
            lo, hi = limits(to)
            return _narrow(Raw(Raw(clip(x, lo, hi), dtypes.int32), to), to)
        return _narrow(Raw(_float_to_int(x, dtypes.int32, False), to), to)
    if to == dtypes.uint32 and not saturate:
        return Raw(_float_to_int(x, dtypes.int64, False), to)
    lo, hi = limits(to)
    digits = 53 if double else 24
    top = hi if hi.bit_length() <= digits else 2 ** hi.bit_length() - 2 ** (hi.bit_length() - digits)
    if to in dtypes.UNSIGNED and not saturate:
        lo = 0
    inside = Raw(clip(x, lo, top), to)
    if not saturate or top == hi:
        return inside
    return Select(Bin("ge", x, const(2.0 ** hi.bit_length(), x.dtype)), Const(hi, to), inside)


def _small(r: Requant) -> bool:
    """Are both bounds, less z, surely below 2^22?"""
    if not (isinstance(r.lo, Const) and isinstance(r.hi, Const) and isinstance(r.z, Const)):
        return False
    return all(abs(int(b.value) - int(r.z.value)) < 1 << 22 for b in (r.lo, r.hi))


def _requant(r: Requant) -> Expr:
    """docs/quantization.md Q3, in its order: product, clamp by integer bounds, round half to even, add z."""
    f32, i32 = dtypes.float32, dtypes.int32

    def as_float(e: Expr) -> Expr:
        return e if e.dtype == f32 else Raw(e, f32)

    def as_int(e: Expr) -> Expr:
        return e if e.dtype == i32 else Raw(e, i32)

    z = as_int(r.z)
    M = Intrinsic("opaque", (r.M,), f32) if _power(r.M) else as_float(r.M)  # as for any product
    value = Bin("mul", as_float(r.acc), M)
    low = as_float(Bin("sub", as_int(r.lo), z))
    high = as_float(Bin("sub", as_int(r.hi), z))
    value = Bin("min", Bin("max", value, low), high)
    if _small(r):  # value + 1.5 * 2^23 is an integer, rounded half to even, whose low bits are the result's
        bits = Un("bitcast_u32", Bin("add", value, const(12582912.0, f32)))
        total: Expr = Raw(Bin("add", bits, Raw(Bin("sub", z, const(0x4B400000, i32)), dtypes.uint32)), i32)
    else:
        total = Bin("add", Raw(Un("rint", value), i32), z)
    return total if r.type == i32 else _narrow(Raw(total, r.type), r.type)
