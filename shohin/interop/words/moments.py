"""Layer norms that are spelled out by moments, ``(x - E[x]) (gamma / sqrt(max(0, E[x^2] - E[x]^2) + eps))``, over any one dim (JAX, Flax)."""

from __future__ import annotations

from typing import Any

import numpy as np

from shohin import nn
from shohin.interop import layout
from shohin.interop.builder import Builder, Value, constant, reshape
from shohin.interop.network import Literal, Path, Step
from shohin.interop.words import arrange
from shohin.interop.words.contract import multiply
from shohin.ops import math, reduce


def normed(b: Builder, x: Value, y: Value) -> Value | None:
    """The product of x and y as a layer norm, if that is what it is, in either order."""
    for apart, factor in ((x, y), (y, x)):
        found = _normed(b, apart, factor)
        if found is not None:
            return found
    return None


def _normed(b: Builder, apart: Value, factor: Value) -> Value | None:
    away = _made(b, apart.key if apart.data is None else None, math.subtract)
    if away is None or factor.data is not None:
        return None
    source, scale = _mean(b, away.inputs[1]), _scale(b, factor.key)
    if source is None or scale is None or source[0] != away.inputs[0] or scale[:2] != source or b.stored[source[0]] != layout.stored(apart.shape, apart.order):
        return None
    (key, axis), (_, _, eps, gamma) = source, scale
    dim, rank = apart.order[axis], apart.rank
    data = np.ones(1) if gamma is None else b.net._find(gamma.path).numpy()
    if gamma is not None and (factor.rank != rank or data.size != apart.shape[dim] or (data.shape[::-1] + (1,) * rank)[rank - 1 - axis] != data.size):
        return None
    order = (*(d for d in range(rank) if d != dim), dim)
    value = Value(shape=apart.shape, dtype=apart.dtype, order=apart.order, key=key)
    turned = arrange.transpose(b, value, order)
    lies = turned.order if turned.order[-1] == rank - 1 else layout.plain(rank)
    layer = lambda: nn.LayerNorm(apart.shape[dim], eps=eps, elementwise_affine=False)
    path = b.new_layer("layer_norm", ("layer_norm", key), layer, ("weight", "bias"))
    y = b.layer(path, [b.lay(turned, lies)], lies)
    if gamma is not None:
        y = multiply(b, y, constant(data.reshape(-1), next((k[0] for k, p in b._cells.items() if p is gamma), "")), True, True)
    return arrange.transpose(b, y, layout.inverse(order))


def _made(b: Builder, key: Any, *calls: Any) -> Step | None:
    """The step that made a value, seen through reshapes, if it calls one of these."""
    step = b.made.get(key) if type(key) is int else None
    while step is not None and step.call is reshape and reshape not in calls:
        step = b.made.get(step.inputs[0])
    return step if step is not None and step.call in calls else None


def _parts(step: Step | None) -> tuple[list[Any], list[float]]:
    """What a step reads, and the numbers among that."""
    inputs = () if step is None else step.inputs
    return [v for v in inputs if not isinstance(v, Literal)], [v.value for v in inputs if isinstance(v, Literal)]


def _mean(b: Builder, key: Any) -> tuple[int, int] | None:
    """The value whose mean along a stored dim this is, and the dim."""
    step, by = _made(b, key, reduce.mean, math.multiply), 1.0
    if step is not None and step.call is math.multiply:
        values, numbers = _parts(step)
        if len(values) != 1 or len(numbers) != 1:
            return None
        step, by = _made(b, values[0], reduce.sum), numbers[0]
        if step is None or len(step.attrs["axis"]) != 1 or abs(by * b.stored[step.inputs[0]][step.attrs["axis"][0]] - 1) > 1e-6:
            return None
    return (step.inputs[0], step.attrs["axis"][0]) if step is not None and len(step.attrs["axis"]) == 1 else None


def _square(b: Builder, key: Any) -> Any:
    step = _made(b, key, math.square, math.multiply)
    return step.inputs[0] if step is not None and len(set(step.inputs)) == 1 else None


def _scale(b: Builder, key: int) -> tuple[int, int, float, Path | None] | None:
    """(x, dim, eps, gamma) of ``gamma / sqrt(variance + eps)``."""
    root, gamma = _made(b, key, math.reciprocal, math.multiply), None
    if root is not None and root.call is math.multiply:
        cells = [v for v in root.inputs if isinstance(v, Path)]
        keys = [v for v in root.inputs if type(v) is int]
        if len(cells) != 1 or len(keys) != 1:
            return None
        gamma, root = cells[0], _made(b, keys[0], math.reciprocal)
    sqrt = None if root is None else _made(b, root.inputs[0], math.sqrt)
    added = None if sqrt is None else _made(b, sqrt.inputs[0], math.add)
    values, eps = _parts(added)
    if len(values) != 1 or len(eps) != 1:
        return None
    held = _made(b, values[0], math.maximum)
    if held is not None:
        values, floor = _parts(held)
        if floor != [0.0]:
            return None
    variance = _made(b, values[0], math.subtract)
    if variance is None:
        return None
    squares, mean = _mean(b, variance.inputs[0]), _mean(b, _square(b, variance.inputs[1]))
    if squares is None or mean is None or _square(b, squares[0]) != mean[0] or squares[1] != mean[1]:
        return None
    return mean[0], mean[1], float(np.float32(eps[0])), gamma


__all__ = ["normed"]
