"""16-bit floats: stored as 16 bits, held as float32 between load and store, by integer operations that vectorize."""

from __future__ import annotations

from shohin.compiler.flat import Raw
from shohin.core import dtypes
from shohin.core.dtypes import DType
from shohin.core.loop import Const, Expr, Intrinsic, Un, equal, select

F32 = dtypes.float32


def _bits(x: Expr) -> Expr:
    return Un("bitcast_u32", x)


def _float(u: Expr) -> Expr:
    return Un("bitcast_f32", u)


def _u(value: int) -> Const:
    return Const(value, dtypes.uint32)


def bits(x: Expr, to: DType) -> Expr:
    """The 16 bits (as uint32) of float32 ``x`` rounded half to even to float16 or bfloat16."""
    u = _bits(x)
    if to == dtypes.bfloat16:
        rounded = (u + (((u >> _u(16)) & 1) + 0x7FFF)) >> _u(16)
        return select(equal(x, x), rounded, (u >> _u(16)) | 0x40)
    a = u & 0x7FFFFFFF
    sign = (u >> _u(16)) & 0x8000
    normal = ((a + ((a >> _u(13)) & 1)) + (0xC8000FFF)) >> _u(13)
    small = _bits(_float(a) + 0.5) - 0x3F000000
    value = select(a < 0x38800000, small, select(a >= 0x47800000, _u(0x7C00), normal))
    return select(a > 0x7F800000, ((a >> _u(13)) & 0x3FF) | 0x7E00, value) | sign


def value(u: Expr, source: DType) -> Expr:
    """float32 of 16 stored bits (as uint32)."""
    if source == dtypes.bfloat16:
        return _float(u << _u(16))
    a = u & 0x7FFF
    value = _bits(_float(a << _u(13)) * 2.0**112)
    value = select(a >= 0x7C00, (a << _u(13)) | 0x7F800000, value)
    return _float(value | ((u & 0x8000) << _u(16)))


def round_half(x: Expr, to: DType) -> Expr:
    """float32 rounded to the grid of a 16-bit float, still float32."""
    name = "f16" if to == dtypes.float16 else "bf16"
    return Intrinsic(f"{name}_value", (Intrinsic(f"{name}_bits", (x,), dtypes.uint32),), F32)


def hold(x: Expr, to: DType) -> Expr:
    """A 16-bit value after arithmetic: rounded to its grid."""
    return Raw(round_half(Raw(x, F32), to), to)
