"""dtypes are NumPy's, the narrow ones from ``ml_dtypes``; this page holds their names, kinds and promotion.

Promotion follows the Python array API standard: within a kind the wider one wins, between integers and
floats there is no promotion of arrays; Python numbers are *weak* and take the array's dtype.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from shohin.core.errors import DtypeError

DType = np.dtype[Any]

bool_ = np.dtype(np.bool_)
int8, int16, int32, int64 = (np.dtype(t) for t in (np.int8, np.int16, np.int32, np.int64))
uint8, uint16, uint32, uint64 = (np.dtype(t) for t in (np.uint8, np.uint16, np.uint32, np.uint64))
float16, float32, float64 = (np.dtype(t) for t in (np.float16, np.float32, np.float64))
bfloat16 = np.dtype(ml_dtypes.bfloat16)
int4, uint4 = np.dtype(ml_dtypes.int4), np.dtype(ml_dtypes.uint4)
int2, uint2 = np.dtype(ml_dtypes.int2), np.dtype(ml_dtypes.uint2)
complex64, complex128 = np.dtype(np.complex64), np.dtype(np.complex128)

SHORT: dict[DType, str] = {
    bool_: "b1", int2: "i2", uint2: "u2", int4: "i4", uint4: "u4", int8: "i8", int16: "i16", int32: "i32",
    int64: "i64", uint8: "u8", uint16: "u16", uint32: "u32", uint64: "u64", float16: "f16", bfloat16: "bf16",
    float32: "f32", float64: "f64", complex64: "c64", complex128: "c128",
}  # fmt: skip
BY_SHORT: dict[str, DType] = {short: dtype for dtype, short in SHORT.items()}

SIGNED = frozenset((int2, int4, int8, int16, int32, int64))
UNSIGNED = frozenset((uint2, uint4, uint8, uint16, uint32, uint64))
INTEGER = SIGNED | UNSIGNED
FLOATING = frozenset((float16, bfloat16, float32, float64))
COMPLEX = frozenset((complex64, complex128))
NUMERIC = INTEGER | FLOATING
ANY = NUMERIC | {bool_}
DEFAULT_FLOAT, DEFAULT_INT = float32, int64


def short(dtype: DType) -> str:
    """The name used in IR dumps.

    >>> short(float32)
    'f32'
    """
    return SHORT.get(dtype, dtype.name)


def kind(dtype: DType) -> str:
    """``bool``, ``int``, ``float`` or ``complex``."""
    if dtype == bool_:
        return "bool"
    if dtype in INTEGER:
        return "int"
    return "complex" if dtype in COMPLEX else "float"


def bits(dtype: DType) -> int:
    """Bits of one element, also of the packed narrow types."""
    narrow = {int2: 2, uint2: 2, int4: 4, uint4: 4}
    return narrow.get(dtype, dtype.itemsize * 8)


def as_dtype(value: Any) -> DType:
    """Anything that names a dtype, as one; an unknown one is a ``DtypeError``."""
    if value is float:
        return DEFAULT_FLOAT
    if value is int:
        return DEFAULT_INT
    try:
        return BY_SHORT[value] if isinstance(value, str) and value in BY_SHORT else np.dtype(value)
    except TypeError as error:
        raise DtypeError(f"{value!r} is not a dtype") from error


def of_scalar(value: bool | int | float | complex) -> DType:
    """The dtype that a Python number has when no array gives it one."""
    if isinstance(value, bool | np.bool_):
        return bool_
    if isinstance(value, int):
        return DEFAULT_INT
    return complex64 if isinstance(value, complex) else DEFAULT_FLOAT


def promote(*operands: tuple[DType, bool]) -> DType:
    """The common dtype of ``(dtype, weak)`` pairs.

    >>> promote((float32, False), (DEFAULT_FLOAT, True)).name
    'float32'
    >>> promote((int8, False), (uint8, False)).name
    'int16'
    """
    strong = [dtype for dtype, weak in operands if not weak]
    weak = [dtype for dtype, is_weak in operands if is_weak]
    if not strong:
        order = ("bool", "int", "float", "complex")
        return max(weak, key=lambda dtype: order.index(kind(dtype)))
    result = strong[0]
    for dtype in strong[1:]:
        result = _pair(result, dtype)
    rank = ("bool", "int", "float", "complex")
    for dtype in weak:
        if rank.index(kind(dtype)) > rank.index(kind(result)):
            result = _lift_weak(result, kind(dtype))
    return result


def _lift_weak(dtype: DType, wanted: str) -> DType:
    if wanted == "complex" and kind(dtype) == "float":
        return complex128 if dtype == float64 else complex64
    raise DtypeError(
        f"a Python {wanted} does not promote with an array of {dtype.name}; write astype(...) or a number of its kind"
    )


def _pair(a: DType, b: DType) -> DType:
    if a == b:
        return a
    kinds = {kind(a), kind(b)}
    if len(kinds) == 2 and kinds != {"float", "complex"}:
        raise DtypeError(f"{a.name} and {b.name} do not promote; write astype(...) on one of them")
    if kinds == {"int"}:
        if {a in SIGNED, b in SIGNED} == {True}:
            return max(a, b, key=bits)
        if {a in SIGNED, b in SIGNED} == {False}:
            return max(a, b, key=bits)
        signed, unsigned = (a, b) if a in SIGNED else (b, a)
        for wider in (int8, int16, int32, int64):
            if bits(wider) > bits(unsigned) and bits(wider) >= bits(signed):
                return wider
        raise DtypeError(f"{a.name} and {b.name} have no common integer type; write astype(...) on one of them")
    if {a, b} == {float16, bfloat16}:
        return float32
    if kinds == {"float"}:
        return max(a, b, key=bits)
    wide = float64 in (a, b) or complex128 in (a, b)
    return complex128 if wide else complex64
