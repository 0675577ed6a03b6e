"""Resizing along dims: each element of the result is a weighted sum of a few of the input's, the same for all other dims."""

from __future__ import annotations

import math as _math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from shohin.core.errors import ShapeError
from shohin.core.tensor import Tensor, as_tensor
from shohin.nn.bilinear import resize_bilinear
from shohin.ops import index, move

Array = np.ndarray[Any, Any]

COORDINATES = ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric", "tf_crop_and_resize")
NEAREST = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")


@dataclass(frozen=True, kw_only=True)
class Along:
    """Resizing of one dim to ``size``. ``scale`` is size / extent unless given (it may be what was meant before rounding);
    ``window``: the part of the input, from 0 to 1, that ``tf_crop_and_resize`` takes."""

    size: int
    scale: float | None = None
    window: tuple[float, float] = (0.0, 1.0)


def resize(x: Any, to: Mapping[int, Along | int], *, mode: str = "nearest", coordinates: str = "half_pixel", nearest: str = "round_prefer_floor",
           cubic: float = -0.75, antialias: bool = False, outside: str | float = "edge") -> Tensor:  # fmt: skip
    """``x`` with other extents along some dims, by nearest neighbour, linear or cubic interpolation.

    ``to``: dim -> its new extent (or an ``Along``). ``coordinates`` says where the centre of an element of the result lies in
    the input: "half_pixel" is PyTorch's ``align_corners=False`` and OpenCV's, "asymmetric" TensorFlow 1's. ``antialias``
    widens the filter when the result is smaller. ``outside``: elements beyond the border are those of the "edge", have no
    weight ("skip"), or, with tf_crop_and_resize, make the result a number.
    Source: the operator Resize of ONNX; Keys 1981 (cubic, coefficient ``cubic``).

    >>> resize(move.asarray([[1.0, 3.0]]), {1: 4}, mode="linear").tolist()
    [[1.0, 1.5, 2.5, 3.0]]
    """
    tensor = as_tensor(x)
    for name, value, allowed in (("mode", mode, ("nearest", "linear", "cubic")), ("coordinates", coordinates, COORDINATES), ("nearest", nearest, NEAREST)):
        if value not in allowed:
            raise ValueError(f"resize: {name} is {value!r}, expected one of {', '.join(map(repr, allowed))}")
    goals = {axis: Along(size=goal) if isinstance(goal, int) else goal for axis, goal in to.items()}
    plain = mode == "linear" and outside == "edge" and not antialias and coordinates in ("half_pixel", "align_corners")
    if plain and tensor.ndim == 4 and sorted(goals) == [1, 2] and all(_whole(tensor.shape[axis], along) for axis, along in goals.items()):
        return resize_bilinear(tensor, (goals[1].size, goals[2].size), align_corners=coordinates == "align_corners")
    for axis, along in goals.items():
        n = tensor.shape[axis]
        if along.size < 1 or n < 1:
            raise ShapeError(f"resize: dim {axis} of {tensor.shape} cannot become {along.size}")
        at, scale = _centres(n, along, coordinates)
        if mode == "nearest":
            if along.size % n == 0 and np.array_equal(_nearest(at, nearest, n), np.arange(along.size) // (along.size // n)):
                tensor = _repeated(tensor, axis, along.size // n)
            elif along.size != n or not np.array_equal(_nearest(at, nearest, n), np.arange(n)):
                tensor = index.take(tensor, as_tensor(_nearest(at, nearest, n)), axis=axis)
        else:
            places, weights = _taps(at, n, mode, scale if antialias else 1.0, cubic, outside == "skip")
            tensor = _weighted(tensor, axis, places, weights)
        if isinstance(outside, float) and coordinates == "tf_crop_and_resize":
            beyond = (at < 0) | (at > n - 1)
            if beyond.any():
                shape = [along.size if d == axis else 1 for d in range(tensor.ndim)]
                tensor = tensor * as_tensor((~beyond).astype(tensor.dtype).reshape(shape)) + as_tensor((beyond * outside).astype(tensor.dtype).reshape(shape))
    return tensor


def _whole(n: int, along: Along) -> bool:
    """Is all of the input meant, at the scale that the sizes have?"""
    return n > 0 and along.size > 0 and along.window == (0.0, 1.0) and along.scale in (None, along.size / n)


def _centres(n: int, along: Along, coordinates: str) -> tuple[Array, float]:
    """Where each element of the result lies in the input, and the scale (result / input)."""
    m, (start, end) = along.size, along.window
    scale = m / n if along.scale is None else along.scale
    i = np.arange(m, dtype=np.float64)
    if coordinates == "asymmetric":
        at = i / scale
    elif coordinates == "align_corners":
        wide = n * scale if along.scale is not None else m
        at = i * (n - 1) / (wide - 1) if wide != 1 else np.zeros(m)
    elif coordinates == "tf_crop_and_resize":
        at = start * (n - 1) + i * (end - start) * (n - 1) / (m - 1) if m > 1 else np.full(m, 0.5 * (start + end) * (n - 1))
    elif coordinates == "pytorch_half_pixel" and m == 1:
        at = np.full(1, -0.5)
    else:
        at = (i + 0.5) / scale - 0.5
        if coordinates == "half_pixel_symmetric":
            at = at + n / 2 * (1 - m / (scale * n))
    return at, scale


def _nearest(at: Array, rule: str, n: int) -> Array:
    if rule == "round_prefer_floor":
        found = np.ceil(at - 0.5)
    elif rule == "round_prefer_ceil":
        found = np.floor(at + 0.5)
    else:
        found = np.floor(at) if rule == "floor" else np.ceil(at)
    return np.clip(found, 0, n - 1).astype(np.int64)


def _taps(at: Array, n: int, mode: str, scale: float, a: float, skip: bool) -> tuple[Array, Array]:
    """For each element of the result the input's elements it sums, (m, taps), and their weights."""
    shrink = min(scale, 1.0)
    reach = (1 if mode == "linear" else 2) / shrink
    count = 2 * _math.ceil(reach)
    first = np.floor(at).astype(np.int64) - count // 2 + 1
    places = first[:, None] + np.arange(count)
    d = np.abs(at[:, None] - places) * shrink
    if mode == "linear":
        w = np.maximum(1 - d, 0)
    else:
        near = ((a + 2) * d - (a + 3)) * d * d + 1
        far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
        w = np.where(d <= 1, near, np.where(d < 2, far, 0.0))
    if skip:
        w = np.where((places < 0) | (places >= n), 0.0, w)
    return np.clip(places, 0, n - 1), w / w.sum(axis=1, keepdims=True)


def _repeated(x: Tensor, axis: int, times: int) -> Tensor:
    if times == 1:
        return x
    wide = move.broadcast_to(move.expand_dims(x, axis=axis + 1), (*x.shape[: axis + 1], times, *x.shape[axis + 1 :]))
    return move.reshape(wide, (*x.shape[:axis], x.shape[axis] * times, *x.shape[axis + 1 :]))


def _weighted(x: Tensor, axis: int, places: Array, weights: Array) -> Tensor:
    m, shape = len(places), [len(places) if d == axis else 1 for d in range(x.ndim)]
    total = None
    for k in range(places.shape[1]):
        w = weights[:, k].astype(x.dtype)
        if not w.any():
            continue
        same = m == x.shape[axis] and np.array_equal(places[:, k], np.arange(m))
        part = x if same else index.take(x, as_tensor(places[:, k]), axis=axis)
        part = part if np.all(w == 1) else part * as_tensor(w.reshape(shape))
        total = part if total is None else total + part
    assert total is not None
    return total


__all__ = ["Along", "resize"]
