"""Ops that a quantized network is made of: rounding onto a grid, requantization, tables (``docs/quantization.md``, Q1-Q10).

``quantize``, ``requantize`` and ``lookup_ste`` work on float32 tensors that hold integers and have straight-through
gradients, zero where the clip acted; ``requant`` and ``lookup`` are the same on integers, for deployed programs.
Rounding's forward value is rint's own, never ``x + stop_gradient(r - x)``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from shohin.core import dtypes, interp, loop
from shohin.core.axes import Shape
from shohin.core.errors import BatchError, ShapeError
from shohin.core.op import EXACT, NO_GRADIENT, STRAIGHT_THROUGH, Attr, Aval, Dtypes, Op, Sample, Tol, register
from shohin.core.tensor import Tensor, as_tensor
from shohin.ops import kinds, math
from shohin.ops.kinds import broadcast, elementwise, names
from shohin.ops.qlinear import PART

Array = np.ndarray[Any, Any]
Attrs = Mapping[str, Any]
SMALL, GAIN, MOST = 2.0**-40, 2.0**40, 2.0**10


def clip(v: Any, a: Any, b: Any) -> Any:
    """``v > a ? v : a``, then ``v < b ? v : b``: NaN gives ``a``."""
    v = np.where(v > a, v, a)
    return np.where(v < b, v, b)


# ------------------------------------------------------------------------------- onto a grid, straight through


def inside(v: Tensor, lo: Tensor, hi: Tensor, g: Tensor) -> Tensor:
    """``g`` where lo <= v <= hi, else 0: the gradient of a clip."""
    return math.where(math.greater_equal(v, lo) & math.less_equal(v, hi), g, math.zeros_like(g))


def _draw(scale: tuple[float, float]) -> Callable[[np.random.Generator], list[Sample]]:
    def samples(rng: np.random.Generator) -> list[Sample]:
        def one(*shape: int) -> Sample:
            x = rng.uniform(-3, 3, shape).astype(np.float32)
            return Sample((x, rng.uniform(*scale, shape).astype(np.float32), np.full(shape, -60, np.float32), np.full(shape, 70, np.float32)), {})

        return [one(5), one(3, 4)]

    return samples


quantize = elementwise(
    "quantize", operands=("x", "s", "lo", "hi"), numpy=lambda x, s, lo, hi: np.rint(clip(x / s, lo, hi)), body=lambda x, s, lo, hi: loop.rint(loop.clip(x / s, lo, hi)),
    vjp=(lambda x, s, lo, hi, y, g: inside(x / s, lo, hi, g / s), lambda x, s, lo, hi, y, g: inside(x / s, lo, hi, -g * x / (s * s)), NO_GRADIENT, NO_GRADIENT),
    quant=PART, tol=STRAIGHT_THROUGH, source="docs/quantization.md Q1", samples=_draw((0.02, 0.1)), doc="``rhe(clip(x / s, lo, hi))``: the integer of a grid of step s; its gradient is that of x / s inside the bounds, else 0.",
)  # fmt: skip
requantize = elementwise(
    "requantize", operands=("acc", "M", "lo", "hi"), numpy=lambda acc, M, lo, hi: np.rint(clip(acc * M, lo, hi)), body=lambda acc, M, lo, hi: loop.rint(loop.clip(acc * M, lo, hi)),
    vjp=(lambda acc, M, lo, hi, y, g: inside(acc * M, lo, hi, g * M), lambda acc, M, lo, hi, y, g: inside(acc * M, lo, hi, g * acc),
         lambda acc, M, lo, hi, y, g: math.where(acc * M < lo, g, math.zeros_like(g)), lambda acc, M, lo, hi, y, g: math.where(acc * M > hi, g, math.zeros_like(g))),
    quant=PART, tol=STRAIGHT_THROUGH, source="docs/quantization.md Q3", samples=_draw((20.0, 60.0)), doc="``rhe(clip(acc * M, lo, hi))`` on float32 integers; its gradient is that of the clip.",
)  # fmt: skip
bound_gain = elementwise(
    "bound_gain", numpy=lambda k: np.where(k < 0, -clip(-k, np.asarray(SMALL, k.dtype), np.asarray(GAIN, k.dtype)), clip(k, np.asarray(SMALL, k.dtype), np.asarray(GAIN, k.dtype))),
    body=lambda k: loop.select(k < 0, -loop.clip(-k, SMALL, GAIN), loop.clip(k, SMALL, GAIN)), vjp=lambda k, y, g: g, quant=PART, tol=STRAIGHT_THROUGH, source="docs/quantization.md Q2",
    edges=(0.0, -0.0, 1e-20, -1e-20, 1e20, -1e20), doc="k with 2^-40 <= |k| <= 2^40, its sign kept, zero positive; the gradient passes.",
)  # fmt: skip
bound_multiplier = elementwise(
    "bound_multiplier", numpy=lambda m: np.where(np.abs(m) < np.asarray(SMALL, m.dtype), np.zeros_like(m), clip(m, np.asarray(-MOST, m.dtype), np.asarray(MOST, m.dtype))),
    body=lambda m: loop.select(loop.Un("abs", m) < SMALL, 0.0, loop.clip(m, -MOST, MOST)), vjp=lambda m, y, g: g, quant=PART, tol=STRAIGHT_THROUGH, source="docs/quantization.md Q2",
    edges=(0.0, 1e-13, -1e-13, 1025.0, -1e30), doc="M with |M| > 2^10 -> +-2^10 and |M| < 2^-40 -> 0; the gradient passes.",
)  # fmt: skip

scale_gradient = elementwise(
    "scale_gradient", operands=("x", "by"), numpy=lambda x, by: x.copy(), body=lambda x, by: x, vjp=(lambda x, by, y, g: g * by, NO_GRADIENT), quant=PART, tol=STRAIGHT_THROUGH,
    source="Esser et al. 2020 (arXiv:1902.08153), section 2.2", doc="x itself, whose gradient is multiplied by ``by``.",
)  # fmt: skip

# ----------------------------------------------------------------------------------------- requantization, Q3


def _requant_numpy(acc: Array, M: Array, z: int, lo: int, hi: int, dtype: Any) -> Array:
    value = clip(acc.astype(np.float32) * M, np.float32(lo - z), np.float32(hi - z))
    return (np.rint(value).astype(np.int32) + z).astype(dtype)


def _requant_body(acc: loop.Expr, M: loop.Expr, z: int, lo: int, hi: int, dtype: Any) -> loop.Expr:
    i32 = lambda n: loop.const(n, dtypes.int32)
    return loop.Requant(acc, M, i32(z), i32(lo), i32(hi), dtype)


def _requant_samples(rng: np.random.Generator) -> list[Sample]:
    acc = rng.integers(-90000, 90000, (3, 4)).astype(np.int32)
    m = rng.uniform(1e-3, 4e-3, (3, 4)).astype(np.float32)
    ties = Sample((np.arange(-9, 9, dtype=np.int32), np.full(18, 0.5, np.float32)), {"z": 3, "lo": -128, "hi": 127, "dtype": dtypes.int8})
    real = Sample(((acc * m).astype(np.float32), m * 500), {"z": 7, "lo": -(2**22) + 8, "hi": 2**22 - 1, "dtype": dtypes.int32})
    return [real, Sample((acc, m), {"z": -5, "lo": -5, "hi": 127, "dtype": dtypes.int8}), ties, Sample((acc * 20000, m), {"z": 0, "lo": -32767, "hi": 32767, "dtype": dtypes.int16})]


_I32 = frozenset({dtypes.int32})
_requant = register(Op(
    name="requant", kind="elementwise", doc="``int(rhe(clip(float32(acc) * M, lo - z, hi - z))) + z``; acc is int32, or float32 as it is.", source="docs/quantization.md Q3", operands=("acc", "M"), results=("q",),
    attrs={n: Attr(type="static") for n in ("z", "lo", "hi")} | {"dtype": Attr(type="dtype")},
    dtypes=Dtypes(accepted=(_I32 | {dtypes.float32}, frozenset({dtypes.float32})), same=False, result=lambda found, a: (a["dtype"],), compute=lambda d: d, accumulator=lambda d: d),
    axes=lambda shapes, attrs: f"{' '.join(names(len(shapes[0])))}, {' '.join(names(len(shapes[0])))} -> {' '.join(names(len(shapes[0])))}", shape=None, body=_requant_body, combiner=None,
    identity=None, order=None, pad=None, fin=None, numpy=_requant_numpy, vjp=(NO_GRADIENT, NO_GRADIENT), nest="derived", batch=None, alias=False, tol=EXACT,
    quant=replace(PART, interval=lambda r, attrs: (attrs["lo"], attrs["hi"])), samples=_requant_samples, edges=(),
))  # fmt: skip


def requant(acc: Any, M: Any, *, z: int = 0, lo: int = -128, hi: int = 127, dtype: Any = dtypes.int8) -> Tensor:
    """int32 (or float32) ``acc`` times float32 ``M`` (broadcast), rounded half to even onto the integers lo..hi around the zero point z."""
    a, m = broadcast(as_tensor(acc), as_tensor(M))
    return interp.bind(_requant, [a, m], {"z": int(z), "lo": int(lo), "hi": int(hi), "dtype": dtypes.as_dtype(dtype)})[0]


# --------------------------------------------------------------------------------------------------- tables

_CODES = frozenset({dtypes.int8, dtypes.int32, dtypes.float32})


def _table_shape(operands: Sequence[Aval], **attrs: Any) -> Sequence[Shape]:
    for o in operands[1:]:
        if o.shape != (256,):
            raise ShapeError(f"lookup: a table is {o}, expected 256 entries")
    return [operands[0].shape]


def _lookup_numpy(q: Array, table: Array, *rest: Array) -> Array:
    return table[q.astype(np.int32) & 255]


def _lookup_nest(coords: Sequence[loop.Expr], load: Any, avals: Sequence[Aval], result: Aval, attrs: Attrs) -> loop.Expr:
    return load(1, (loop.cast(load(0, tuple(coords)), dtypes.int32) & 255,))


def _lookup_lanes(name: str) -> Callable[..., list[Tensor]]:
    def batch(operands: Sequence[Tensor], mask: Sequence[bool], size: int, attrs: Attrs) -> list[Tensor]:
        if any(mask[1:]):
            raise BatchError(f"{name}: a table is one for all lanes; loop over networks instead of vmap")
        return [interp.bind(kinds.get(name), operands, attrs)[0]]

    return batch


def _lookup_samples(extra: int) -> Callable[[np.random.Generator], list[Sample]]:
    def samples(rng: np.random.Generator) -> list[Sample]:
        q = rng.integers(-128, 128, (3, 5)).astype(np.int8)
        table = rng.integers(-128, 128, 256).astype(np.int8)
        if not extra:
            return [Sample((q, table), {}), Sample((q.astype(np.int32) * 9, table.astype(np.int32)), {}), Sample((np.arange(-128, 128, dtype=np.int8), table), {})]
        return [Sample((q.astype(np.float32), table.astype(np.float32), rng.uniform(-1, 1, 256).astype(np.float32)), {})]

    return samples


def _lookup(name: str, operands: tuple[str, ...], vjp: tuple[Any, ...], doc: str, tol: Tol = EXACT) -> Op:
    return register(Op(
        name=name, kind="indexing", doc=doc, source="docs/quantization.md Q8", operands=operands, results=("y",), attrs={},
        dtypes=Dtypes(accepted=(_CODES, dtypes.NUMERIC), same=False, result=lambda found, a: (found[1],), compute=lambda d: d, accumulator=lambda d: d),
        axes=None, shape=_table_shape, body=None, combiner=None, identity=None, order=None, pad=None, fin=None, numpy=_lookup_numpy, vjp=vjp, nest=_lookup_nest,
        batch=_lookup_lanes(name), alias=False, quant=replace(PART, interval=lambda r, attrs: r[1]), tol=tol, samples=_lookup_samples(len(operands) - 2), edges=(),
    ))  # fmt: skip


_plain = _lookup("lookup", ("q", "table"), (NO_GRADIENT, NO_GRADIENT), "``table[(uint8) q]``: any function of an int8, as a table of 256.")
_ste = _lookup("lookup_ste", ("q", "table", "slope"), (lambda q, table, slope, y, g: g * lookup(q, slope), NO_GRADIENT, NO_GRADIENT), "``lookup`` whose gradient is a table too.", STRAIGHT_THROUGH)


def lookup(q: Any, table: Any) -> Tensor:
    """``table[(uint8) q]`` for q (int8, int32, or float32 that holds such integers) of any shape."""
    return interp.bind(_plain, [as_tensor(q), as_tensor(table)], {})[0]


def lookup_ste(q: Tensor, table: Tensor, slope: Tensor) -> Tensor:
    """``lookup`` with the gradient ``g * slope[(uint8) q]``."""
    return interp.bind(_ste, [q, table, slope], {})[0]


__all__ = [
    "PART", "bound_gain", "bound_multiplier", "clip", "inside", "lookup", "lookup_ste", "quantize", "requant", "requantize", "scale_gradient",
]  # fmt: skip
