"""Quantizing and dequantizing: constants are folded to the floats they stand for, pairs on activations become one function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from ml_dtypes import iinfo

from shohin.core import dtypes
from shohin.interop import layout
from shohin.interop.builder import Builder, Value, constant, renamed, reshape
from shohin.interop.foreign import Node
from shohin.interop.onnx import layers
from shohin.interop.onnx.table import attr, dtype_of, operator, refuse
from shohin.interop.words import arrange, contract, pool
from shohin.interop.words.elementwise import cast, elementwise
from shohin.ops import math, move
from shohin.ops.grid import on_grid


def _spread(b: Builder, v: Value, x: Value, axis: int, block: int) -> Value:
    """A scale or zero point, one for all, one a slice of ``axis``, or one a block of it, as it broadcasts to x."""
    if v.size == 1:
        return arrange.shaped(b, v, ())
    at = arrange.axis_of(axis, x.rank, "axis")
    if block:
        refuse(v.rank != x.rank, f"scales of blocks have shape {v.shape}, x {x.shape}")
        return constant(np.repeat(b.array(v, "scale"), block, axis=at)[tuple(slice(n) for n in x.shape)])
    refuse(v.shape != (x.shape[at],), f"scale or zero point has shape {v.shape}, expected ({x.shape[at]},)")
    return arrange.shaped(b, v, [x.shape[at] if d == at else 1 for d in range(x.rank)])


def _positive(scale: Value) -> None:
    found = None if scale.data is None else np.asarray(scale.data, np.float32)
    refuse(found is not None and not (np.isfinite(found) & (found > 0)).all(), "a scale is not a positive number")


@operator("QuantizeLinear", becomes="`sh.round`, `sh.clip`, `sh.astype`")
def quantize(b: Builder, node: Node, x: Value, scale: Value, zero: Value | None = None) -> Value:
    to = zero.dtype if zero is not None else dtype_of(attr(node, "output_dtype", 2) or 2)
    refuse(to not in dtypes.INTEGER, f"{to} is not a type of integers")
    axis, block = attr(node, "axis", 1), attr(node, "block_size", 0)
    _positive(scale)
    scale = _spread(b, scale, x, axis, block)
    zero = constant(np.zeros((), np.float32)) if zero is None else cast(b, _spread(b, zero, x, axis, block), dtypes.float32)
    return elementwise(b, _quantized, cast(b, x, dtypes.float32), cast(b, scale, dtypes.float32), zero, dtype=to)


def _quantized(x: Any, scale: Any, zero: Any, dtype: Any) -> Any:
    return math.astype(_on_grid(x, scale, zero, dtype), dtype)


def _on_grid(x: Any, scale: Any, zero: Any, dtype: Any) -> Any:
    limits = iinfo(dtype)
    return math.clip(math.round_ste(x / scale) + zero, float(limits.min), float(limits.max))


@operator("DequantizeLinear", becomes="`(q - zero) scale`; after its quantizing: one function with a straight-through gradient, whose grid a plan takes")
def dequantize(b: Builder, node: Node, q: Value, scale: Value, zero: Value | None = None) -> Value:
    return real(b, q, scale, zero, attr(node, "axis", 1), attr(node, "block_size", 0))


def real(b: Builder, q: Value, scale: Value, zero: Value | None, axis: int, block: int = 0) -> Value:
    """What integers stand for; a constant keeps its scales, an activation that was quantized just before is one function."""
    to = scale.dtype
    _positive(scale)
    if q.data is not None and scale.data is not None and (zero is None or zero.data is not None):
        grid = b.array(_spread(b, scale, q, axis, block), "scale").astype(np.float32)
        offset = np.float32(0) if zero is None else b.array(_spread(b, zero, q, axis, block), "zero").astype(np.float32)
        centred = q.data.astype(np.float32) - offset
        symmetric = np.all(offset == {dtypes.int8: 0, dtypes.uint8: 128}.get(q.dtype)) and not block and (centred > -128).all()
        own = grid.reshape((1,) * (q.rank - grid.ndim) + grid.shape) if symmetric else None
        return replace(constant((centred * grid).astype(to), q.name), grid=own)
    mine = [0.0 if v is None else float(v.data.reshape(-1)[0]) if v.data is not None and v.size == 1 else None for v in (scale, zero)]
    if q.data is None and to == dtypes.float32 and None not in mine:
        found = _stands_for(b, q.key, q.dtype, mine)
        if found is not None:
            return renamed(found, q.shape, q.order)
    scale = _spread(b, scale, q, axis, block)
    x = cast(b, q, dtypes.float32)
    if zero is not None:
        x = elementwise(b, math.subtract, x, cast(b, _spread(b, zero, q, axis, block), dtypes.float32))
    return cast(b, elementwise(b, math.multiply, x, cast(b, scale, dtypes.float32)), to)


def _stands_for(b: Builder, key: int, dtype: Any, grid: Sequence[Any]) -> Value | None:
    """What the integers ``key`` stand for, as it lies in memory, if they were quantized to this grid and moved since."""
    step = b.made.get(key)
    if step is None or type(step.inputs[0]) is not int:
        return None
    if step.call is _quantized:
        if [getattr(v, "value", v) for v in step.inputs[1:]] != list(grid):
            return None
        limits, rank = iinfo(dtype), len(b.stored[key])
        return _once(b, on_grid, step.inputs[0], {"scale": grid[0], "zero": int(grid[1]), "low": int(limits.min), "high": int(limits.max)}, rank)
    x = _stands_for(b, step.inputs[0], dtype, grid) if step.call in (move.permute_dims, reshape) or pool.is_max(step) else None
    return None if x is None else _once(b, step.call, x.key, step.attrs, len(b.stored[key]))


def _once(b: Builder, call: Any, key: int, attrs: Mapping[str, Any], rank: int) -> Value:
    """A function of one float value as it lies in memory, its result of ``rank`` dims; what has been asked for before is there."""
    of = lambda k: Value(shape=b.stored[k], dtype=dtypes.float32, order=layout.plain(len(b.stored[k])), key=k)
    made = next((s.outputs[0] for s in b.steps if s.call is call and s.inputs == (key,) and s.attrs == attrs), None)
    return b.emit(call, [of(key)], layout.plain(rank), attrs) if made is None else of(made)


def _back(b: Builder, x: Value, scale: Value, zero: Value) -> Value:
    """Onto a grid of one scale."""
    step, offset = (arrange.shaped(b, v, ()) for v in (scale, zero))
    return elementwise(b, _quantized, x, step, cast(b, offset, dtypes.float32), dtype=zero.dtype)


def _bias(b: Builder, bias: Value, x_scale: Value, w_scale: Value) -> Value:
    """A bias on the product of both scales."""
    unit = b.array(x_scale, "x_scale").reshape(()) * b.array(w_scale, "w_scale").reshape(-1)
    return constant((b.array(bias, "bias").astype(np.float32) * unit).astype(np.float32), bias.name)


@operator("QLinearConv", becomes="the convolution of what its integers stand for, between two grids")
def conv(b: Builder, node: Node, x: Value, x_scale: Value, x_zero: Value, w: Value, w_scale: Value, w_zero: Value, y_scale: Value, y_zero: Value,
         bias: Value | None = None) -> Value:  # fmt: skip
    bias = None if bias is None else _bias(b, bias, x_scale, w_scale)
    y = layers.conv(b, node, real(b, x, x_scale, x_zero, 1), real(b, w, w_scale, w_zero, 0), bias)
    return _back(b, y, y_scale, y_zero)


def _both(word: Any) -> Any:
    """A function of two values between grids; operands in ONNX Runtime's order."""

    def rule(b: Builder, node: Node, x: Value, x_scale: Value, x_zero: Value, w: Value, w_scale: Value, w_zero: Value, y_scale: Value, y_zero: Value) -> Value:
        return _back(b, elementwise(b, word, real(b, x, x_scale, x_zero, 0), real(b, w, w_scale, w_zero, 0)), y_scale, y_zero)

    return rule


operator("com.microsoft.QLinearAdd", becomes="`sh.add` between grids")(_both(math.add))
operator("com.microsoft.QLinearMul", becomes="`sh.multiply` between grids")(_both(math.multiply))


@operator("com.microsoft.QGemm", becomes="`Gemm` of what its integers stand for, between two grids")
def gemm(b: Builder, node: Node, x: Value, x_scale: Value, x_zero: Value, w: Value, w_scale: Value, w_zero: Value, bias: Value | None = None,
         y_scale: Value | None = None, y_zero: Value | None = None) -> Value:  # fmt: skip
    bias = None if bias is None else _bias(b, bias, x_scale, w_scale)
    y = layers.gemm(b, node, real(b, x, x_scale, x_zero, 0), real(b, w, w_scale, w_zero, 0 if attr(node, "transB", 0) else 1), bias)
    return y if y_scale is None or y_zero is None else _back(b, y, y_scale, y_zero)


@operator("QLinearMatMul", becomes="the product of what its integers stand for, between two grids")
def matmul(b: Builder, node: Node, x: Value, x_scale: Value, x_zero: Value, w: Value, w_scale: Value, w_zero: Value, y_scale: Value, y_zero: Value) -> Value:
    row, column = x_scale.size > 1, w_scale.size > 1
    y = contract.matmul(b, real(b, x, x_scale, x_zero, -2 if row else 0), real(b, w, w_scale, w_zero, -1 if column else 0))
    return _back(b, y, y_scale, y_zero)
