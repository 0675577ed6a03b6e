"""Elementwise ops: one record each. Broadcasting and promotion happen before the op (``kinds``)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from shohin.core import dtypes, interp, loop
from shohin.core.dtypes import DType
from shohin.core.op import EXACT, NO_GRADIENT, STRAIGHT_THROUGH, Attr, Dtypes, Op, Quant, Sample, Tol, register
from shohin.core.tensor import Tensor, as_tensor
from shohin.ops import kinds
from shohin.ops.kinds import CAST, Function, broadcast, coerce, elementwise, to_dtype

API = "Python array API standard 2024.12"
FLOAT, NUMERIC, ANY = dtypes.FLOATING, dtypes.NUMERIC, dtypes.ANY
EXACT_FLOAT = Tol(0.5)
INF, NAN = math.inf, math.nan
BIG = (0.0, -0.0, 1.0, -1.0, INF, -INF, NAN, 3.4e38, 1e-40)


def _two(numpy: Any, accepted: frozenset[DType] = NUMERIC, tol: Tol = EXACT) -> dict[str, Any]:
    return {"numpy": numpy, "accepted": accepted, "operands": ("x1", "x2"), "source": API, "tol": tol}


# ---------------------------------------------------------------------------------------------- cast

_cast = register(Op(
    name="cast", kind="elementwise", doc="Converts every element to another dtype; floats to integers truncate.", source=API,
    operands=("x",), results=("y",), attrs={"dtype": Attr(type="dtype")},
    dtypes=Dtypes(accepted=(ANY,), same=True, result=lambda found, attrs: (attrs["dtype"],), compute=lambda d: d, accumulator=lambda d: d),
    axes=lambda shapes, attrs: f"{' '.join(kinds.names(len(shapes[0])))} -> {' '.join(kinds.names(len(shapes[0])))}", shape=None,
    body=lambda x, dtype: loop.not_equal(x, 0) if dtype == dtypes.bool_ else loop.cast(x, dtype), combiner=None, identity=None, order=None,
    pad=None, fin=None, numpy=lambda x, dtype: x != 0 if dtype == dtypes.bool_ else x.astype(dtype),
    vjp=(lambda x, y, g, dtype: astype(g, x.dtype),), nest="derived", batch=None, alias=True, quant=Quant("share"), tol=EXACT,
    samples=lambda rng: [Sample((rng.uniform(-5, 5, (3, 4)).astype(np.float32),), {"dtype": d}) for d in (dtypes.int32, dtypes.float64, dtypes.bool_)],
    edges=(),
))  # fmt: skip
CAST.append(_cast)


def astype(x: Any, dtype: Any, /, *, copy: bool = True, device: Any = None) -> Tensor:
    """``x`` converted to ``dtype``. Floats to integers truncate towards zero."""
    tensor, wanted = as_tensor(x), dtypes.as_dtype(dtype)
    return tensor if tensor.dtype == wanted else interp.bind(_cast, [tensor], {"dtype": wanted})[0]


# ------------------------------------------------------------------------------------------- arithmetic

def _products(r: Sequence[tuple[int, int]], attrs: Any) -> tuple[int, int]:
    found = [a * b for a in r[0] for b in r[1]]
    return min(found), max(found)


add = elementwise("add", body=lambda a, b: a + b, vjp=(lambda a, b, y, g: g, lambda a, b, y, g: g),
                  quant=Quant("rule", rule="Q7 add", signs=(1, 1), interval=lambda r, attrs: (r[0][0] + r[1][0], r[0][1] + r[1][1])), edges=BIG, **_two(np.add))  # fmt: skip
subtract = elementwise("subtract", body=lambda a, b: a - b, vjp=(lambda a, b, y, g: g, lambda a, b, y, g: -g),
                       quant=Quant("rule", rule="Q7 add", signs=(1, -1), interval=lambda r, attrs: (r[0][0] - r[1][1], r[0][1] - r[1][0])), edges=BIG, **_two(np.subtract))  # fmt: skip
multiply = elementwise("multiply", body=lambda a, b: a * b, vjp=(lambda a, b, y, g: g * b, lambda a, b, y, g: g * a),
                       quant=Quant("rule", rule="Q7 mul", interval=_products), edges=BIG, **_two(np.multiply))  # fmt: skip
divide = elementwise("divide", body=lambda a, b: a / b, vjp=(lambda a, b, y, g: g / b, lambda a, b, y, g: -g * y / b),
                     quant=Quant("rule", rule="Q12 quotient", divisor=1), edges=BIG, domain=(0.5, 3.0),
                     **_two(np.divide, FLOAT))  # fmt: skip
pow = elementwise("pow", body=lambda a, b: loop.pow(a, b), domain=(0.2, 2.5), edges=(0.0, 1.0, 2.0),
                  vjp=(lambda a, b, y, g: g * b * pow(a, where(equal(b, 0), ones_like(b), b - 1)), lambda a, b, y, g: g * where(equal(a, 0), zeros_like(y), y * log(where(equal(a, 0), ones_like(a), a)))),
                  quant=Quant.refuse("a power of two tensors has no integer definition"), **_two(np.power, tol=Tol(16)))  # fmt: skip
floor_divide = elementwise("floor_divide", body=lambda a, b: a // b, vjp=(NO_GRADIENT, NO_GRADIENT), domain=(1.0, 9.0), **_two(np.floor_divide))
remainder = elementwise("remainder", body=lambda a, b: a % b, vjp=(lambda a, b, y, g: g, lambda a, b, y, g: -g * floor(a / b)), domain=(1.0, 9.0), **_two(np.remainder))
maximum = elementwise("maximum", quant=Quant("clamp", rule="Q3", bounds=("constant", INF), interval=lambda r, attrs: (max(r[0][0], r[1][0]), max(r[0][1], r[1][1]))), body=lambda a, b: loop.select((a > b) | loop.isnan(a) if a.dtype in FLOAT else a > b, a, b), edges=BIG,
                      vjp=(lambda a, b, y, g: _share(greater(a, b), equal(a, b), g), lambda a, b, y, g: _share(less(a, b), equal(a, b), g)), **_two(np.maximum))  # fmt: skip
minimum = elementwise("minimum", quant=Quant("clamp", rule="Q3", bounds=(-INF, "constant"), interval=lambda r, attrs: (min(r[0][0], r[1][0]), min(r[0][1], r[1][1]))), body=lambda a, b: loop.select((a < b) | loop.isnan(a) if a.dtype in FLOAT else a < b, a, b), edges=BIG,
                      vjp=(lambda a, b, y, g: _share(less(a, b), equal(a, b), g), lambda a, b, y, g: _share(greater(a, b), equal(a, b), g)), **_two(np.minimum))  # fmt: skip
atan2 = elementwise("atan2", body=lambda a, b: loop.binary("atan2", a, b), domain=(0.3, 2.0),
                    vjp=(lambda a, b, y, g: g * b / (a * a + b * b), lambda a, b, y, g: -g * a / (a * a + b * b)), **_two(np.arctan2, FLOAT, Tol(4)))  # fmt: skip


def _share(wins: Tensor, ties: Tensor, g: Tensor) -> Tensor:
    """The winner takes the gradient, equal operands half each."""
    return where(wins, g, where(ties, g * 0.5, zeros_like(g)))


negative = elementwise("negative", numpy=np.negative, body=lambda x: -x, vjp=lambda x, y, g: -g, accepted=NUMERIC, source=API, tol=EXACT, edges=BIG)
abs = elementwise("abs", numpy=np.abs, body=lambda x: loop.Un("abs", x), vjp=lambda x, y, g: g * sign(x), accepted=NUMERIC, source=API, tol=EXACT, edges=BIG)
sign = elementwise("sign", numpy=np.sign, accepted=NUMERIC, source=API, tol=EXACT, edges=BIG, vjp=NO_GRADIENT,
                   body=lambda x: loop.select(x > 0, loop.const(1, x.dtype), loop.select(x < 0, loop.const(-1, x.dtype), loop.select(loop.equal(x, 0), loop.const(0, x.dtype), x))))  # fmt: skip
relu = elementwise("relu", numpy=lambda x: np.where(x < 0, np.zeros_like(x), x), body=lambda x: loop.select(x < 0, 0, x), edges=BIG, tol=EXACT,
                   vjp=lambda x, y, g: where(greater(y, 0), g, zeros_like(g)), accepted=NUMERIC, quant=Quant("clamp", rule="Q3", bounds=(0.0, INF)), source="Nair and Hinton 2010")  # fmt: skip
relu6 = elementwise("relu6", numpy=lambda x: np.minimum(np.where(x < 0, np.zeros_like(x), x), np.asarray(6, x.dtype)), edges=BIG, tol=EXACT,
                    body=lambda x: loop.select(x < 0, 0, loop.select(x > 6, 6, x)), quant=Quant("clamp", rule="Q3", bounds=(0.0, 6.0)),
                    vjp=lambda x, y, g: where(greater(x, 0) & less(x, 6), g, zeros_like(g)), source="Krizhevsky 2010")  # fmt: skip

# -------------------------------------------------------------------------------------------- functions

exp = elementwise("exp", numpy=np.exp, body=loop.exp, vjp=lambda x, y, g: g * y, source=API, edges=(0.0, INF, -INF, NAN, 88.0, -103.0))
expm1 = elementwise("expm1", numpy=np.expm1, body=loop.expm1, vjp=lambda x, y, g: g * (y + 1), source=API, edges=(0.0, 1e-10, -1e-5, INF, -INF))
log = elementwise("log", numpy=np.log, body=loop.log, vjp=lambda x, y, g: g / x, domain=(0.1, 9.0), source=API, edges=(0.0, 1.0, INF, -1.0, 1e-40), quant=Quant("table", rule="Q12 log"))
log1p = elementwise("log1p", numpy=np.log1p, body=loop.log1p, vjp=lambda x, y, g: g / (x + 1), domain=(-0.5, 3.0), source=API, edges=(0.0, 1e-10, -1.0))
sqrt = elementwise("sqrt", numpy=np.sqrt, body=loop.sqrt, vjp=lambda x, y, g: g * 0.5 / y, domain=(0.1, 9.0), source=API, tol=EXACT, edges=(0.0, INF, -1.0))
sin = elementwise("sin", numpy=np.sin, body=loop.sin, vjp=lambda x, y, g: g * cos(x), source=API, edges=(0.0, -0.0, 1000.0))
cos = elementwise("cos", numpy=np.cos, body=loop.cos, vjp=lambda x, y, g: -g * sin(x), source=API, edges=(0.0, 1000.0))
tanh = elementwise("tanh", numpy=np.tanh, body=loop.tanh, vjp=lambda x, y, g: g * (1 - y * y), source=API, edges=(0.0, 1e-6, 20.0, -INF, INF, NAN))
erf = elementwise("erf", numpy=lambda x: loop.evaluate(loop.erf(loop.Name("x", x.dtype)), {"x": x}), body=loop.erf,
                  vjp=lambda x, y, g: g * (2 / math.sqrt(math.pi)) * exp(-x * x), source="Abramowitz and Stegun 7.1.1", edges=(0.0, 1e-6, 5.0, -INF, INF))  # fmt: skip
sigmoid = elementwise("sigmoid", numpy=lambda x: 1 / (1 + np.exp(-x)), body=lambda x: 1.0 / (1.0 + loop.exp(-x)),
                      vjp=lambda x, y, g: g * y * (1 - y), source="logistic function", edges=(0.0, 100.0, -100.0, INF, -INF))  # fmt: skip

floor = elementwise("floor", numpy=np.floor, body=loop.floor, vjp=NO_GRADIENT, source=API, tol=EXACT, edges=BIG)
ceil = elementwise("ceil", numpy=np.ceil, body=loop.ceil, vjp=NO_GRADIENT, source=API, tol=EXACT, edges=BIG)
trunc = elementwise("trunc", numpy=np.trunc, body=loop.trunc, vjp=NO_GRADIENT, source=API, tol=EXACT, edges=BIG)
round = elementwise("round", numpy=np.rint, body=loop.rint, vjp=NO_GRADIENT, source=API, tol=EXACT, edges=(0.5, 1.5, -0.5, 2.5, INF, NAN), doc="Half to even.")
round_ste = elementwise("round_ste", numpy=np.rint, body=loop.rint, vjp=lambda x, y, g: g, source="Bengio et al. 2013, straight-through estimator", tol=STRAIGHT_THROUGH,
                        edges=(0.5, 1.5, -0.5), doc="Rounds half to even; the gradient passes straight through.", quant=Quant.refuse("it is part of a quantized network"))  # fmt: skip

# ------------------------------------------------------------------------------------------ comparisons


def _compare(name: str, numpy: Any, op: str, accepted: frozenset[DType]) -> Function:
    return elementwise(name, numpy=numpy, body=lambda a, b: loop.binary(op, a, b), vjp=(NO_GRADIENT, NO_GRADIENT), operands=("x1", "x2"),
                       dtypes_=to_dtype(accepted, 2, dtypes.bool_), source=API, tol=EXACT, edges=BIG)  # fmt: skip


equal = _compare("equal", np.equal, "eq", ANY)
not_equal = _compare("not_equal", np.not_equal, "ne", ANY)
less = _compare("less", np.less, "lt", NUMERIC)
less_equal = _compare("less_equal", np.less_equal, "le", NUMERIC)
greater = _compare("greater", np.greater, "gt", NUMERIC)
greater_equal = _compare("greater_equal", np.greater_equal, "ge", NUMERIC)
isnan = elementwise("isnan", numpy=np.isnan, body=loop.isnan, vjp=NO_GRADIENT, dtypes_=to_dtype(FLOAT, 1, dtypes.bool_), source=API, tol=EXACT, edges=BIG)
isfinite = elementwise("isfinite", numpy=np.isfinite, body=loop.isfinite, vjp=NO_GRADIENT, dtypes_=to_dtype(FLOAT, 1, dtypes.bool_), source=API, tol=EXACT, edges=BIG)

# ------------------------------------------------------------------------------------------ bits and logic

_BITS = dtypes.INTEGER | {dtypes.bool_}
_none = (NO_GRADIENT, NO_GRADIENT)


def _masked(r: Sequence[tuple[int, int]], attrs: Any) -> tuple[int, int]:
    """What ``and`` may give: at most an operand that has no sign, else as many bits as the longest."""
    plain = [high for low, high in r if low >= 0]
    return (0, min(plain)) if plain else (min(-(1 << (-1 - low).bit_length()) for low, _ in r), max(high for _, high in r))


def _shifted(r: Sequence[tuple[int, int]], attrs: Any) -> tuple[int, int]:
    found = [v >> s for v in r[0] for s in r[1]]
    return min(found), max(found)


_NO_TABLE = "a function of several tensors has no table"
bitwise_and = elementwise("bitwise_and", body=lambda a, b: a & b, vjp=_none, quant=Quant.refuse(_NO_TABLE, interval=_masked), **_two(np.bitwise_and, _BITS))
bitwise_or = elementwise("bitwise_or", body=lambda a, b: a | b, vjp=_none, **_two(np.bitwise_or, _BITS))
bitwise_xor = elementwise("bitwise_xor", body=lambda a, b: a ^ b, vjp=_none, **_two(np.bitwise_xor, _BITS))
bitwise_left_shift = elementwise("bitwise_left_shift", body=lambda a, b: a << b, vjp=_none, domain=(0, 5), **_two(np.left_shift, dtypes.INTEGER))
bitwise_right_shift = elementwise("bitwise_right_shift", body=lambda a, b: a >> b, vjp=_none, domain=(0, 5), quant=Quant.refuse(_NO_TABLE, interval=_shifted), **_two(np.right_shift, dtypes.INTEGER))
bitwise_invert = elementwise("bitwise_invert", numpy=np.invert, vjp=NO_GRADIENT, accepted=_BITS, source=API, tol=EXACT,
                             body=lambda x: loop.logical_not(x) if x.dtype == dtypes.bool_ else loop.Un("invert", x))  # fmt: skip
logical_not = elementwise("logical_not", numpy=np.logical_not, body=loop.logical_not, vjp=NO_GRADIENT, accepted=frozenset({dtypes.bool_}), source=API, tol=EXACT)
logical_and, logical_or, logical_xor = bitwise_and, bitwise_or, bitwise_xor

# ------------------------------------------------------------------------------------------------- where

_where = elementwise("where", numpy=lambda c, a, b: np.where(c, a, b), body=lambda c, a, b: loop.select(c, a, b), operands=("condition", "x1", "x2"),
                     vjp=(NO_GRADIENT, lambda c, a, b, y, g: where(c, g, zeros_like(g)), lambda c, a, b, y, g: where(c, zeros_like(g), g)),
                     dtypes_=Dtypes(accepted=(frozenset({dtypes.bool_}), ANY, ANY), same=False, result=lambda found, attrs: (found[1],),
                                    compute=kinds.compute_dtype, accumulator=kinds.compute_dtype),
                     samples=lambda rng: [Sample((rng.random((3, 4)) < 0.5, *rng.uniform(-1, 1, (2, 3, 4)).astype(np.float32)), {})],
                     quant=Quant.refuse(_NO_TABLE, interval=lambda r, attrs: (min(r[1][0], r[2][0]), max(r[1][1], r[2][1]))),
                     source=API, tol=EXACT).op  # fmt: skip


def where(condition: Any, x1: Any, x2: Any, /) -> Tensor:
    """``x1`` where ``condition`` else ``x2``; shapes broadcast, ``x1`` and ``x2`` promote."""
    a, b = coerce(x1, x2)
    return interp.bind(_where, broadcast(as_tensor(condition), a, b), {})[0]


def zeros_like(x: Tensor, /, *, dtype: Any = None, device: Any = None) -> Tensor:
    """Zeros of the shape of ``x``."""
    return full_like(x, 0, dtype=dtype)


def ones_like(x: Tensor, /, *, dtype: Any = None, device: Any = None) -> Tensor:
    """Ones of the shape of ``x``."""
    return full_like(x, 1, dtype=dtype)


def full_like(x: Tensor, /, fill_value: Any, *, dtype: Any = None, device: Any = None) -> Tensor:
    """``fill_value`` in the shape of ``x``."""
    wanted = x.dtype if dtype is None else dtypes.as_dtype(dtype)
    scalar = interp.current().constant(np.asarray(fill_value).astype(wanted))
    return scalar if not x.shape else interp.bind(kinds.BROADCAST[0], [scalar], {"shape": x.shape})[0]


def clip(x: Any, /, min: Any = None, max: Any = None) -> Tensor:
    """``x`` between ``min`` and ``max``; either may be missing."""
    y = as_tensor(x)
    if min is not None:
        y = maximum(y, min)
    return minimum(y, max) if max is not None else y


def square(x: Any, /) -> Tensor:
    """``x * x``."""
    return x * x


def reciprocal(x: Any, /) -> Tensor:
    """``1 / x``."""
    return 1 / x


__all__ = [n for n, v in list(globals().items()) if isinstance(v, Function)] + [  # pyright: ignore[reportUnsupportedDunderAll]
    "astype", "clip", "full_like", "ones_like", "reciprocal", "square", "where", "zeros_like", "logical_and", "logical_or", "logical_xor"]
