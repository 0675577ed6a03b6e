"""Activation functions: elementwise records, each quantized by a table (docs/quantization.md Q8), and ``stop_gradient``."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from shohin.core import dtypes, loop
from shohin.core.op import EXACT, NO_GRADIENT, SHARE, STRAIGHT_THROUGH, TABLE, Quant, Tol
from shohin.core.tensor import Tensor, as_tensor
from shohin.ops.kinds import elementwise
from shohin.ops.math import BIG, erf, exp, expm1, greater, less, sigmoid, tanh, where, zeros_like

_NEAR = Tol(8, 1e-6)  # sums that cancel far from zero: small values are right to 1e-6, not to a ulp
_POINTS = (-6.0, -3.0, -1e-6, 0.0, 1e-6, 3.0, 6.0)
_ROOT, _TANH = 1 / math.sqrt(2), math.sqrt(2 / math.pi)


def _of_body(body: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The NumPy reference of an expression of one variable: the expression itself, evaluated."""
    return lambda x: loop.evaluate(body(loop.Name("x", x.dtype)), {"x": x})


hardswish = elementwise(
    "hardswish", numpy=lambda x: x * np.clip(x + 3, 0, 6) / 6, body=lambda x: x * loop.clip(x + 3, 0, 6) / 6,
    vjp=lambda x, y, g: g * where(less(x, -3), zeros_like(x), where(greater(x, 3), zeros_like(x) + 1, (2 * x + 3) / 6)),
    edges=_POINTS, quant=TABLE, tol=Tol(4), source="Howard et al. 2019, section 5.2", doc="x clip(x + 3, 0, 6) / 6.",
)  # fmt: skip
hardsigmoid = elementwise(
    "hardsigmoid", numpy=lambda x: np.clip(x + 3, 0, 6) / 6, body=lambda x: loop.clip(x + 3, 0, 6) / 6,
    vjp=lambda x, y, g: where(greater(x, -3) & less(x, 3), g / 6, zeros_like(g)),
    edges=_POINTS, quant=Quant("table", grid=(2.0**-8, -128)), tol=Tol(4), domain=(-2.9, 2.9), source="Howard et al. 2019, section 5.2", doc="clip(x + 3, 0, 6) / 6.",
)  # fmt: skip
silu = elementwise(
    "silu", numpy=lambda x: x / (1 + np.exp(-x)), body=lambda x: x / (1.0 + loop.exp(-x)), vjp=lambda x, y, g: _silu_vjp(x, y, g),
    edges=_POINTS, quant=TABLE, tol=Tol(4), source="Elfwing et al. 2017; Ramachandran et al. 2017 (swish)", doc="x sigmoid(x).",
)  # fmt: skip


def _silu_vjp(x: Tensor, y: Tensor, g: Tensor) -> Tensor:
    s = sigmoid(x)
    return g * (s + y * (1 - s))


def _gelu_body(x: Any) -> Any:
    return 0.5 * x * (1.0 + loop.erf(x * _ROOT))


def _gelu_tanh_body(x: Any) -> Any:
    return 0.5 * x * (1.0 + loop.tanh(_TANH * (x + 0.044715 * x * x * x)))


def _gelu_vjp(x: Tensor, y: Tensor, g: Tensor) -> Tensor:
    return g * (0.5 * (1 + erf(x * _ROOT)) + x * exp(-0.5 * x * x) * (1 / math.sqrt(2 * math.pi)))


def _gelu_tanh_vjp(x: Tensor, y: Tensor, g: Tensor) -> Tensor:
    t = tanh(_TANH * (x + 0.044715 * x * x * x))
    return g * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * _TANH * (1 + 0.134145 * x * x))


_gelu = elementwise(
    "gelu", numpy=_of_body(_gelu_body), body=_gelu_body, vjp=_gelu_vjp, edges=_POINTS, quant=TABLE, tol=_NEAR,
    source="Hendrycks and Gimpel 2016", doc="x times the normal distribution function: x (1 + erf(x / sqrt 2)) / 2.",
)  # fmt: skip
_gelu_tanh = elementwise(
    "gelu_tanh", numpy=_of_body(_gelu_tanh_body), body=_gelu_tanh_body, vjp=_gelu_tanh_vjp, edges=_POINTS, quant=TABLE, tol=_NEAR,
    source="Hendrycks and Gimpel 2016, section 2", doc="gelu with tanh in place of erf.",
)  # fmt: skip


def gelu(x: Any, /, *, approximate: str = "none") -> Tensor:
    """``x (1 + erf(x / sqrt 2)) / 2``, or with ``approximate="tanh"`` the form of section 2 of the paper.

    >>> round(float(gelu(as_tensor(1.0))), 4)
    0.8413
    """
    if approximate not in ("none", "tanh"):
        raise ValueError(f"gelu: approximate is {approximate!r}, expected 'none' or 'tanh'")
    return (_gelu if approximate == "none" else _gelu_tanh)(x)


_leaky_relu = elementwise(
    "leaky_relu", attrs={"slope": 0.25}, edges=_POINTS, numpy=lambda x, slope: np.where(x < 0, x * np.asarray(slope, x.dtype), x),
    body=lambda x, slope: loop.select(x < 0, x * slope, x), tol=EXACT, source="Maas et al. 2013", doc="x, or slope x below zero.",
    vjp=lambda x, y, g, slope: where(greater(x, 0), g, g * slope),
)  # fmt: skip
_elu = elementwise(
    "elu", attrs={"alpha": 0.25}, edges=_POINTS, numpy=lambda x, alpha: np.where(x < 0, np.expm1(np.minimum(x, 0)) * np.asarray(alpha, x.dtype), x),
    body=lambda x, alpha: loop.select(x < 0, loop.expm1(loop.minimum(x, 0)) * alpha, x), tol=Tol(4), source="Clevert et al. 2015",
    doc="x, or alpha (exp(x) - 1) below zero.", vjp=lambda x, y, g, alpha: where(greater(x, 0), g, g * alpha * (expm1(x) + 1)),
)  # fmt: skip


def leaky_relu(x: Any, /, negative_slope: float = 0.01) -> Tensor:
    """``x`` where it is positive, else ``negative_slope * x``.

    >>> leaky_relu(as_tensor([-2.0, 2.0]), 0.5).tolist()
    [-1.0, 2.0]
    """
    return _leaky_relu(as_tensor(x), slope=float(negative_slope))


def elu(x: Any, /, alpha: float = 1.0) -> Tensor:
    """``x`` where it is positive, else ``alpha * (exp(x) - 1)``.

    >>> elu(as_tensor([0.0, 2.0])).tolist()
    [0.0, 2.0]
    """
    return _elu(as_tensor(x), alpha=float(alpha))


stop_gradient = elementwise(
    "stop_gradient", numpy=lambda x: x.copy(), body=lambda x: x, vjp=NO_GRADIENT, accepted=dtypes.NUMERIC, quant=SHARE, tol=STRAIGHT_THROUGH,
    edges=BIG, source="Bergstra et al. 2010 (Theano's disconnected_grad)", doc="``x`` itself, a constant for every derivative.",
)  # fmt: skip

__all__ = ["elu", "gelu", "hardsigmoid", "hardswish", "leaky_relu", "silu", "stop_gradient"]
