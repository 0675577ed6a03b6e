"""Functions of elements: any order of dims does, as long as all operands have the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from shohin.core import dtypes
from shohin.core.dtypes import DType
from shohin.core.errors import ForeignError
from shohin.interop import layout
from shohin.interop.builder import Builder, Value, constant, reshape
from shohin.interop.layout import Order
from shohin.interop.words.patterns import spelled
from shohin.nn import functional as F
from shohin.ops import math


def widened(b: Builder, v: Value, rank: int) -> Value:
    """The value with leading dims of one element, as broadcasting adds them."""
    extra = rank - v.rank
    if not extra:
        return v
    shape = (*(1,) * extra, *v.shape)
    if v.data is not None:
        return constant(v.data.reshape(shape), v.name)
    order = (*range(extra), *(d + extra for d in v.order))
    return b.emit(reshape, [v], order, {"shape": layout.opened(layout.stored(shape, order), -1)})


def common(values: list[Value]) -> Order:
    """The order that most elements of results have already; an order of a convolution's wins over the origin's."""
    rank = max(v.rank for v in values)
    there = [v for v in values if v.data is None and v.rank == rank]
    if not there:
        return layout.plain(rank)
    return max(there, key=lambda v: (v.size, v.order != layout.plain(rank))).order


def aligned(b: Builder, values: list[Value]) -> tuple[list[Value], Order]:
    """All values with one rank, in one order."""
    order = common(values)
    return [b.lay(widened(b, v, len(order)), order) for v in values], order


def elementwise(b: Builder, f: Callable[..., Any], *operands: Value | None, **attrs: Any) -> Value:
    """``f`` of operands that broadcast (None is passed on). A constant of one element is a number in the program, and one of
    a vector over the channels loses its leading dims, so that plans and kernels see what they are."""
    values = [v for v in operands if v is not None]
    for v, w in (values, values[::-1]) if f in NEUTRAL and len(values) == 2 else ():
        if v.data is None and w.data is not None and w.dtype == v.dtype and w.size == 1 and w.rank <= v.rank and w.data.item() == NEUTRAL[f]:
            return v
    made, order = aligned(b, values)
    if all(v.data is not None for v in values):
        inputs: list[Any] = list(made)
    else:
        kinds = {v.dtype for v in values if v.data is None}
        inputs = [_small(b, v, kinds, len(order)) for v in made]
    if not attrs and len(inputs) == len(operands):
        known = spelled(b, f, inputs)
        if known is not None and b.stored[known[0]] == np.broadcast_shapes(*(layout.stored(v.shape, v.order) for v in inputs if isinstance(v, Value))):
            x = next(v for v in inputs if isinstance(v, Value))
            return b.emit(known[1], [replace(x, shape=layout.foreign(b.stored[known[0]], order), key=known[0])], order, known[2])
    rest = iter(inputs)
    return b.emit(f, [v if v is None else next(rest) for v in operands], order, attrs)


NEUTRAL: dict[Any, float] = {math.add: 0, math.multiply: 1}
"""The number with which a function changes nothing."""


def _small(b: Builder, v: Value, kinds: set[DType], rank: int) -> Any:
    if v.data is None:
        return v
    if v.size == 1 and v.dtype in kinds and v.dtype != dtypes.bool_ and rank:
        return v.data.reshape(()).item()
    lead = next((k for k, n in enumerate(v.shape) if n != 1), v.rank)
    return constant(v.data.reshape(v.shape[lead:]), v.name) if lead else v


def chain(b: Builder, f: Callable[..., Any], *operands: Value) -> Value:
    """``f`` of two, over any number of operands."""
    total = operands[0]
    for v in operands[1:]:
        total = elementwise(b, f, total, v)
    return total


def quotient(b: Builder, none: Value, y: Value) -> tuple[Value, Value] | None:
    """Dividend and divisor, if y is a quotient and ``none`` says where its divisor is 0."""
    division, zero = (b.made.get(v.key) if v.data is None else None for v in (y, none))
    if division is None or zero is None or division.call is not math.divide or zero.call is not math.equal:
        return None
    x, by = division.inputs
    if zero.inputs[0] != by or getattr(zero.inputs[1], "value", None) != 0 or type(x) is not int or type(by) is not int:
        return None
    of = lambda key: Value(shape=layout.foreign(b.stored[key], y.order), dtype=y.dtype, order=y.order, key=key)
    return (of(x), of(by)) if len(b.stored[x]) == len(b.stored[by]) == y.rank else None


def clip(b: Builder, x: Value, low: Value | None, high: Value | None) -> Value:
    """``x`` between two numbers; the plain activations among these are called by their name."""
    bounds = tuple(None if v is None else b.number(v, "a bound of Clip") for v in (low, high))
    if x.dtype in dtypes.FLOATING:
        top = float("inf")
        if bounds in ((0.0, None), (0.0, top)):
            return elementwise(b, math.relu, x)
        if bounds == (0.0, 6.0):
            return elementwise(b, math.relu6, x)
    return elementwise(b, math.clip, x, min=bounds[0], max=bounds[1])


def hard_sigmoid(b: Builder, x: Value, alpha: float, beta: float) -> Value:
    """``clip(alpha x + beta, 0, 1)``: ours by name where alpha is 1/6 and beta 1/2."""
    if abs(alpha - 1 / 6) < 1e-7 and beta == 0.5:
        return elementwise(b, F.hardsigmoid, x)
    return elementwise(b, _clipped_line, x, alpha=alpha, beta=beta)


def _clipped_line(x: Any, alpha: float, beta: float) -> Any:
    return math.clip(x * alpha + beta, 0.0, 1.0)


def cast(b: Builder, x: Value, dtype: DType) -> Value:
    """The value in another dtype."""
    if dtype not in dtypes.ANY:
        raise ForeignError(f"casts to {dtype}, which has no counterpart here")
    return x if x.dtype == dtype else elementwise(b, as_dtype, x, dtype=dtype)


def as_dtype(x: Any, dtype: DType) -> Any:
    """``astype`` as a step calls it."""
    return math.astype(x, dtype)


__all__ = ["aligned", "as_dtype", "cast", "chain", "clip", "elementwise", "hard_sigmoid", "quotient", "widened"]
