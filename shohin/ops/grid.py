"""``on_grid``: a value on a grid that is given, in floats; quantization takes the grid as it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shohin.core.op import Quant
from shohin.core.tensor import Tensor, as_tensor
from shohin.ops import math, move
from shohin.ops.composite import composite


@composite("on_grid", quant=Quant("rule", rule="Q1 given grid"), source="Jacob et al. 2018, section 2.1")
def _on_grid(x: Any, *, scale: tuple[float, ...], zero: int, low: int, high: int, axis: int) -> Tensor:
    s = move.asarray(scale, dtype=x.dtype)
    s = move.reshape(s, () if len(scale) == 1 else [-1 if d == axis else 1 for d in range(x.ndim)])
    return (math.clip(math.round_ste(x / s) + zero, float(low), float(high)) - zero) * s


def on_grid(x: Any, scale: float | Sequence[float], zero: int = 0, low: int = -128, high: int = 127, *, axis: int = 0) -> Tensor:
    """``(clip(rhe(x / s) + z, low, high) - z) s``: the nearest value of a grid; its gradient passes straight through inside the bounds.

    Shapes: x of any shape, the result alike; ``scale`` is a number, or one for each index of ``axis``. A plan that quantizes the place
    takes scale and zero point as they stand, and calibrates nothing there. Source: Jacob et al. 2018, section 2.1.

    >>> on_grid([0.26, -9.0], 0.5, low=-8, high=7).tolist()
    [0.5, -4.0]
    """
    numbers = tuple(float(s) for s in scale) if isinstance(scale, Sequence) else (float(scale),)
    return _on_grid(as_tensor(x), scale=numbers, zero=int(zero), low=int(low), high=int(high), axis=int(axis))


__all__ = ["on_grid"]
