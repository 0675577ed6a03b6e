"""Functions in fixed point (``docs/quantization.md``, Q12): tables between whose entries integers interpolate.

``EXP``, ``TANH``, ``LOG`` hold for all networks; no value of theirs lies nearer than 3.9e-4 to a tie, so that any libm gives them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from shohin.core import dtypes, interp, loop
from shohin.core.axes import Shape
from shohin.core.errors import BatchError, ShapeError
from shohin.core.op import EXACT, NO_GRADIENT, Attr, Aval, Dtypes, Op, Sample, register
from shohin.core.tensor import Tensor, as_tensor
from shohin.ops import quant
from shohin.ops.kinds import elementwise
from shohin.ops.qlinear import PART

Array = np.ndarray[Any, Any]
Attrs = Mapping[str, Any]
ENTRIES, LIMIT = 513, 2**18 - 1


def _constant(values: Array) -> Array:
    return np.minimum(np.rint(values), 32767).astype(np.uint16)


_I = np.arange(ENTRIES)
EXP = _constant(32767 * np.exp(-_I / 32))
"""exp(-a 2^-14) on 32767, for a in [0, 2^18)."""
TANH = _constant(32768 * np.tanh(_I / 64))
"""tanh(a 2^-15) on 2^15, for a in [0, 2^18)."""
LOG = _constant(32768 * np.log2(1 + _I / 512))
"""log2(1 + a 2^-18) on 2^15, for a in [0, 2^18)."""


# ------------------------------------------------------------------------------------------- interpolation


def _shape(operands: Sequence[Aval], shift: int, odd: bool) -> Sequence[Shape]:
    if operands[1].shape != (ENTRIES,):
        raise ShapeError(f"interpolate: the table is {operands[1]}, expected {ENTRIES} entries")
    return [operands[0].shape]


def _numpy(a: Array, table: Array, shift: int, odd: bool) -> Array:
    size = np.abs(a) if odd else a
    i, f, t = np.clip(size >> shift, 0, ENTRIES - 2), size & ((1 << shift) - 1), table.astype(np.int32)
    y = (t[i] * ((1 << shift) - f) + t[i + 1] * f + (1 << (shift - 1))) >> shift
    return np.where(a < 0, -y, y).astype(np.int32) if odd else y.astype(np.int32)


def _nest(coords: Sequence[loop.Expr], load: Any, avals: Sequence[Aval], result: Aval, attrs: Attrs) -> loop.Expr:
    shift, i32 = attrs["shift"], dtypes.int32
    a = load(0, tuple(coords))
    size = loop.select(a < 0, -a, a) if attrs["odd"] else a
    i, f = loop.clip(size >> loop.const(shift, i32), 0, ENTRIES - 2), size & ((1 << shift) - 1)
    low, high = loop.cast(load(1, (i,)), i32), loop.cast(load(1, (i + 1,)), i32)
    y = (low * ((1 << shift) - f) + high * f + (1 << (shift - 1))) >> loop.const(shift, i32)
    return loop.select(a < 0, -y, y) if attrs["odd"] else y


def _lanes(operands: Sequence[Tensor], mask: Sequence[bool], size: int, attrs: Attrs) -> list[Tensor]:
    if mask[1]:
        raise BatchError("interpolate: a table is one for all lanes; loop over networks instead of vmap")
    return [interp.bind(_interpolate, operands, attrs)[0]]


def _interval(ranges: Sequence[tuple[int, int]], attrs: Attrs) -> tuple[int, int]:
    top = ranges[1][1]
    return (-top, top) if attrs["odd"] else ranges[1]


def _samples(rng: np.random.Generator) -> list[Sample]:
    a = rng.integers(0, LIMIT + 1, (3, 5)).astype(np.int32)
    ends = np.asarray([0, 1, 511, 512, LIMIT, -1, -512, -LIMIT], np.int32)
    short = rng.integers(0, 2**16, 9).astype(np.int32)
    wide = rng.integers(0, 2**16, ENTRIES).astype(np.uint16)
    return [Sample((a, EXP), {"shift": 9, "odd": False}), Sample((ends, TANH), {"shift": 9, "odd": True}), Sample((short, wide), {"shift": 7, "odd": False})]


_interpolate: Op = register(Op(
    name="interpolate", kind="indexing", doc="``(T[i] (2^b - f) + T[i+1] f + 2^(b-1)) >> b`` with i = a >> b, f = a mod 2^b, b = ``shift``; with ``odd`` of |a|, with a's sign.",
    source="docs/quantization.md Q12 (a)", operands=("a", "table"), results=("y",), attrs={"shift": Attr(type="static"), "odd": Attr(type="static")},
    dtypes=Dtypes(accepted=(frozenset({dtypes.int32}), frozenset({dtypes.uint16})), same=False, result=lambda found, attrs: (dtypes.int32,), compute=lambda d: d, accumulator=lambda d: d),
    axes=None, shape=_shape, body=None, combiner=None, identity=None, order=None, pad=None, fin=None, numpy=_numpy, vjp=(NO_GRADIENT, NO_GRADIENT), nest=_nest, batch=_lanes,
    alias=False, quant=replace(PART, interval=_interval), tol=EXACT, samples=_samples, edges=(),
))  # fmt: skip


def interpolate(a: Any, table: Any, *, shift: int = 9, odd: bool = False) -> Tensor:
    """A function of int32 ``a`` in [0, 2^(9 + shift)) (of its size, with ``odd``), from its values at 513 even points.

    >>> interpolate(np.int32([0, 2**14]), EXP).tolist()
    [32767, 12054]
    """
    return interp.bind(_interpolate, [as_tensor(a), as_tensor(table)], {"shift": shift, "odd": odd})[0]


# ------------------------------------------------------------------------------------------------- functions


def exp(a: Any) -> Tensor:
    """``32767 exp(-a 2^-14)`` for int32 a in [0, 2^18)."""
    return interpolate(a, EXP)


def tanh(a: Any) -> Tensor:
    """``2^15 tanh(a 2^-15)`` for int32 \\|a\\| < 2^18."""
    return interpolate(a, TANH, odd=True)


def sigmoid(a: Any) -> Tensor:
    """``2^16 / (1 + exp(-a 2^-14))`` for int32 \\|a\\| < 2^18: in [1, 65535]."""
    return tanh(a) + 32768


_exponent = elementwise(
    "float_bits", numpy=lambda x: np.maximum(x, 1).astype(np.float32).view(np.int32), vjp=NO_GRADIENT, accepted=frozenset({dtypes.int32}), tol=EXACT, source="docs/quantization.md Q12 (j)",
    body=lambda x: loop.cast(loop.Un("bitcast_u32", loop.cast(loop.maximum(x, 1), dtypes.float32)), dtypes.int32), edges=(0, 1, -1, 2**31 - 1, 2**24 + 1),
    quant=replace(PART, interval=lambda r, attrs: (127 << 23, 158 << 23)), doc="The bits of float32(max(x, 1)).",
)  # fmt: skip


def log2(x: Any) -> Tensor:
    """``2^15 log2(max(x, 1))`` for int32 x.

    >>> log2(np.int32([-5, 1, 2, 1024, 3])).tolist()
    [0, 0, 32768, 327680, 51936]
    """
    bits = _exponent(as_tensor(x))
    whole = (bits >> 23) - 127
    return whole * 32768 + interpolate((bits & 0x7FFFFF) >> 5, LOG)


# ----------------------------------------------------------------------------------------- straight through

straight_through = elementwise(
    "straight_through", operands=("q", "v", "lo", "hi"), numpy=lambda q, v, lo, hi: q.copy(), body=lambda q, v, lo, hi: q,
    vjp=(NO_GRADIENT, lambda q, v, lo, hi, y, g: quant.inside(v, lo, hi, g), NO_GRADIENT, NO_GRADIENT), quant=PART, tol=quant.STRAIGHT_THROUGH,
    source="docs/quantization.md Q12 (k)", doc="``q``, whose gradient is that of ``v`` where lo <= v <= hi, else 0.",
)  # fmt: skip

__all__ = ["EXP", "LIMIT", "LOG", "TANH", "exp", "interpolate", "log2", "sigmoid", "straight_through", "tanh"]