"""Normalizations: layers where their parameters are known, else the functions."""

from __future__ import annotations

from typing import Any

import numpy as np

from shohin import nn
from shohin.core.cells import Buffer, Param
from shohin.core.errors import ForeignError
from shohin.interop import layout
from shohin.interop.builder import Builder, Value, identity, reshape
from shohin.interop.network import Literal
from shohin.interop.words import arrange
from shohin.interop.words.contract import data_of, known
from shohin.interop.words.elementwise import elementwise
from shohin.nn import functional as F
from shohin.nn import norm
from shohin.ops import math, reduce


def batch_norm(b: Builder, x: Value, scale: Value | None, bias: Value | None, mean: Value, var: Value, *, eps: float, momentum: float = 0.1) -> Value:
    """Evaluation's batch normalization of (n, c, ...); ``momentum`` is the weight of a new batch in training."""
    order, c = layout.channels_last(x.rank), x.shape[1]
    if any(v is not None and v.shape != (c,) for v in (scale, bias, mean, var)):
        raise ForeignError(f"x {x.shape} has {c} channels; expected scale, bias, mean and variance of ({c},)")
    if not known(scale, bias, mean, var) or x.rank not in (2, 3, 4):
        return b.emit(_batch_norm, [b.lay(x, order), *(v if v is None else b.plain(v) for v in (scale, bias, mean, var))], order, {"eps": eps})

    def make() -> nn.Module:
        layer = (nn.BatchNorm2d if x.rank == 4 else nn.BatchNorm1d)(c, eps=eps, momentum=momentum)
        layer.weight = None if scale is None else Param(data_of(scale))
        layer.bias = None if bias is None else Param(data_of(bias))
        layer.running_mean, layer.running_var = Buffer(data_of(mean)), Buffer(data_of(var))
        return layer

    path = b.new_layer("batch_norm", ("batch_norm", *map(identity, (scale, bias, mean, var)), eps), make)
    return b.layer(path, [b.lay(x, order)], order)


def _batch_norm(x: Any, gamma: Any, beta: Any, mean: Any, var: Any, eps: float) -> Any:
    return norm.batch_norm(x, gamma, beta, mean, var, eps=eps)


def layer_norm(b: Builder, x: Value, scale: Value | None, bias: Value | None, axis: int, eps: float, rms: bool = False) -> Value:
    """Over the dims from ``axis`` on; ``rms``: without mean and bias."""
    dims = x.rank - arrange.axis_of(axis, x.rank, "axis")
    tail = x.shape[x.rank - dims :]
    order = x.order if x.order[x.rank - dims :] == layout.plain(x.rank)[x.rank - dims :] else layout.plain(x.rank)
    if not known(scale, bias) or any(v is not None and v.shape != tail for v in (scale, bias)) or (bias and not scale):
        y = b.emit(norm.rms_norm if rms else norm.layer_norm, [b.lay(x, order)], order, {"dims": dims, "eps": eps})
        y = y if scale is None else elementwise(b, math.multiply, y, scale)
        return y if bias is None else elementwise(b, math.add, y, bias)

    def make() -> nn.Module:
        layer = nn.RMSNorm(tail, eps=eps) if rms else nn.LayerNorm(tail, eps=eps)
        layer.weight = None if scale is None else Param(data_of(scale))
        if not rms:
            layer.bias = None if bias is None else Param(data_of(bias))
        return layer

    path = b.new_layer("layer_norm", ("layer_norm", identity(scale), identity(bias), tail, eps, rms), make)
    return b.layer(path, [b.lay(x, order)], order)


def divide(b: Builder, x: Value, y: Value) -> Value:
    """``x / y``; ``(x - mean) / sqrt(variance + eps)`` over the last dim, spelled out, is a layer norm, to which its weight and
    bias may come; ``exp(x - z)`` over its own sum along a dim is a softmax."""
    soft = _exponentials(b, x, y)
    if soft is not None:
        return b.emit(F.softmax, [soft[0]], soft[0].order, {"axis": soft[1]})
    found = _centred(b, x, y)
    if found is None:
        return elementwise(b, math.divide, x, y)
    source, eps = found
    n = source.shape[-1]
    path = b.new_layer("layer_norm", ("layer_norm", x.key), lambda: nn.LayerNorm(n, eps=eps, elementwise_affine=False), ("weight", "bias"))
    return b.layer(path, [source], source.order)


def _exponentials(b: Builder, x: Value, y: Value) -> tuple[Value, int] | None:
    """The value of whose exponentials, less what does not depend on the dim, x is and y the sum over it; and where the dim is stored."""

    def made(key: Any, *calls: Any) -> Any:
        step = b.made.get(key) if type(key) is int else None
        return step if step is not None and step.call in calls else None

    power, total = (None, None) if x.data is not None or y.data is not None or x.order != y.order else (made(x.key, math.exp), y.key)
    while (opened := made(total, reshape)) is not None:
        total = opened.inputs[0]
    summed, away = made(total, reduce.sum), made(power.inputs[0], math.subtract) if power else None
    if power is None or summed is None or away is None or summed.inputs[0] != x.key or len(summed.attrs["axis"]) != 1:
        return None
    (axis,) = summed.attrs["axis"]
    shape, shift = b.stored[x.key], away.inputs[1]
    one = tuple(1 if d == axis else n for d, n in enumerate(shape))
    if layout.stored(y.shape, y.order) != one or type(shift) is not int or b.stored[shift] != one or b.stored.get(away.inputs[0]) != shape:
        return None
    return Value(shape=x.shape, dtype=x.dtype, order=x.order, key=away.inputs[0]), axis


def _centred(b: Builder, x: Value, y: Value) -> tuple[Value, float] | None:
    """The value of which x is the distance from its mean and y the root of its variance and a number, over the last dim."""

    def made(key: Any, call: Any) -> tuple[Any, ...] | None:
        step = b.made.get(key) if type(key) is int else None
        return step.inputs if step is not None and step.call is call else None

    def mean(key: Any) -> Any:
        step = b.made.get(key) if type(key) is int else None
        along = step is not None and step.call is reduce.mean and step.attrs == {"axis": (x.rank - 1,), "keepdims": True}
        return step.inputs[0] if along and step is not None else None

    if x.data is not None or y.data is not None or x.order[-1:] != (x.rank - 1,) or y.order != x.order:
        return None
    apart, under = made(x.key, math.subtract), made(y.key, math.sqrt)
    added = made(under[0], math.add) if under else None
    if apart is None or added is None or mean(apart[1]) != apart[0] or not isinstance(added[1], Literal):
        return None
    inside = mean(added[0])
    square = made(inside, math.square) or made(inside, math.multiply)
    if square is None or any(made(k, math.subtract) != apart for k in square):
        return None
    return Value(shape=x.shape, dtype=x.dtype, order=x.order, key=apart[0]), float(added[1].value)


def group_norm(b: Builder, x: Value, scale: Value | None, bias: Value | None, groups: int, eps: float) -> Value:
    """Of (n, c, ...) over each example's positions and each group of channels; one group a channel is instance norm."""
    order, c = layout.channels_last(x.rank), x.shape[1]
    if groups < 1 or c % groups:
        raise ForeignError(f"{c} channels do not divide into {groups} groups")
    scale, bias = (_per_channel(v, c) for v in (scale, bias))
    if not known(scale, bias):
        return b.emit(_group_norm, [b.lay(x, order), *(v if v is None else b.plain(v) for v in (scale, bias))], order, {"groups": groups, "eps": eps})

    def make() -> nn.Module:
        layer = nn.GroupNorm(groups, c, eps=eps)
        layer.weight = None if scale is None else Param(data_of(scale))
        layer.bias = None if bias is None else Param(data_of(bias))
        return layer

    bare = scale is None and bias is None
    key = ("group_norm", x.key if bare else (identity(scale), identity(bias)), groups, eps)
    return b.layer(b.new_layer("group_norm", key, make, ("weight", "bias") if bare else ()), [b.lay(x, order)], order)


def instance_norm(b: Builder, x: Value, scale: Value, bias: Value, eps: float) -> Value:
    """Of (n, c, ...) over each example's and channel's positions; of the groups of channels of something else, without an effect
    of scale and bias, it is that one's group norm, to which weight and bias may come."""
    source = b.reshaped.get((x.key, x.shape, x.order)) if x.data is None else None
    plain = scale.data is not None and bias.data is not None and bool(np.all(scale.data == 1)) and not np.any(bias.data)
    if source is not None and plain and x.rank == 3 and source.rank >= 3 and source.shape[0] == x.shape[0] and source.shape[1] % x.shape[1] == 0:
        return arrange.shaped(b, group_norm(b, source, None, None, x.shape[1], eps), x.shape)
    return group_norm(b, x, scale, bias, x.shape[1], eps)


def _per_channel(v: Value | None, c: int) -> Value | None:
    """One number a group is one a channel."""
    if v is None or v.shape == (c,):
        return v
    if v.rank != 1 or v.data is None or c % v.shape[0]:
        raise ForeignError(f"scale and bias have shape {v.shape}, expected ({c},)")
    data = np.repeat(v.data, c // v.shape[0])
    return Value(shape=data.shape, dtype=v.dtype, order=(0,), data=data, name=v.name)


def _group_norm(x: Any, gamma: Any, beta: Any, groups: int, eps: float) -> Any:
    return norm.group_norm(x, groups, gamma, beta, eps=eps)


__all__ = ["batch_norm", "divide", "group_norm", "instance_norm", "layer_norm"]
