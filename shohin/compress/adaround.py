"""AdaRound: whether each weight is rounded down or up, so that its layer's output stays closest on the calibration set.

    min over V of  ||W x - W_q(V) x_q||^2 / ||W x - W_0 x_q||^2  +  sum(1 - |2 h(V) - 1|^beta) / count
    W_q(V) = s clip(floor(W / s) + h(V), -top, top),    h(V) = clip(1.2 sigmoid(V) - 0.1, 0, 1)

x is the layer's input in the float network, x_q the one it gets when all layers before are quantized; W_0 is rounded to
nearest. beta goes from 20 to 2 by a cosine after a first fifth without the second term, and h is 0 or 1 at the end. Source: Nagel
et al. 2020 (arXiv:2004.10568), equations 21 to 24 and section 4.2.

We differ: the error is taken before the activation, so that it is a quadratic form of the inputs' second moments,
``E[x_q x_q']`` and ``E[W x x_q']``, and every step sees the whole calibration set instead of a batch, at the cost of one product
of small matrices, compiled; both terms are relative, so that one weight (1) serves all layers; and nearest rounding
is kept where the result is no better. With bias correction, which takes the mean, moments are about the mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi
from typing import Any

import numpy as np

import shohin.kernels as kernels
from shohin.compiler.jit import jit
from shohin.compress.definitions import most
from shohin.compress.sequential import Layer
from shohin.core.cells import Param
from shohin.core.module import Module
from shohin.core.tensor import Tensor, as_tensor
from shohin.ops import linear, math, reduce
from shohin.optim import adam
from shohin.transforms.grad import value_and_grad

Array = np.ndarray[Any, Any]
assert kernels  # the host's, for jit
GAMMA, ZETA, WARM, RATE = -0.1, 1.1, 0.2, 1e-2


@dataclass(frozen=True)
class Moments:
    """``G`` (groups, terms, terms) of the quantized input, ``C`` (groups, out, terms) of the float output with it, ``power``
    (groups, out) of the float output."""

    G: Array
    C: Array
    power: Array

    def error(self, w: Array) -> float:
        """The mean squared error of all outputs together with the weights w (groups, out, terms)."""
        w = w.astype(np.float64)
        return float(((w @ self.G) * w).sum() - 2 * (self.C * w).sum() + self.power.sum())


def moments(layer: Layer, centred: bool) -> Moments:
    """Second moments over the calibration set; about the mean if ``centred``."""
    w = layer.matrix(layer.weight).astype(np.float64)
    groups, out, terms = w.shape
    G, C, power = np.zeros((groups, terms, terms)), np.zeros((groups, out, terms)), np.zeros((groups, out))
    mean_q, mean_y, rows = np.zeros((groups, terms)), np.zeros((groups, out)), 0
    for x, q in layer.inputs:
        p = layer.patches(q)
        y = layer.patches(x) @ w.astype(np.float32).transpose(0, 2, 1)  # (groups, rows, out)
        G += p.transpose(0, 2, 1) @ p
        C += y.transpose(0, 2, 1) @ p
        power += np.square(y, dtype=np.float64).sum(1)
        mean_q, mean_y, rows = mean_q + p.sum(1, dtype=np.float64), mean_y + y.sum(1, dtype=np.float64), rows + p.shape[1]
    G, C, power, mean_q, mean_y = (v / rows for v in (G, C, power, mean_q, mean_y))
    if centred:
        G -= mean_q[:, :, None] * mean_q[:, None, :]
        C -= mean_y[:, :, None] * mean_q[:, None, :]
        power -= mean_y**2
    return Moments(G, C, power)


class Rounding(Module):
    """V of one layer."""

    def __init__(self, v: Array) -> None:
        self.v: Any = Param(v)


def soft(v: Any) -> Tensor:
    """h(V)."""
    return math.clip(math.sigmoid(v) * (ZETA - GAMMA) + GAMMA, 0.0, 1.0)


def objective(r: Rounding, low: Tensor, s: Tensor, G: Tensor, C: Tensor, top: Tensor, beta: Tensor, weight: Tensor) -> Tensor:
    """The two terms, the first without its constant part; G and C are divided by the error of nearest rounding."""
    h = soft(r.v)
    w = math.clip(low + h, -top, top) * s
    fit = reduce.sum((linear.matmul(w, G) - 2.0 * C) * w)
    off = 1.0 - math.pow(math.maximum(math.abs(2.0 * h - 1.0), 1e-6), beta)
    return fit + weight * reduce.mean(off)


@jit
def _step(r: Rounding, opt: Any, low: Tensor, s: Tensor, G: Tensor, C: Tensor, top: Tensor, beta: Tensor, weight: Tensor) -> Tensor:
    value, grads = value_and_grad(objective)(r, low, s, G, C, top, beta, weight)
    opt.update(r, grads)
    return value


def choose(layer: Layer, s_w: Array, bits: int, steps: int, centred: bool) -> Array:
    """The integers (out, ...) of the layer's weight for the steps s_w (out,)."""
    top = most(bits)
    rows = np.broadcast_to(s_w.reshape(-1, *(1,) * (layer.weight.ndim - 1)), layer.weight.shape)
    w, s = layer.matrix(layer.weight).astype(np.float32), layer.matrix(rows).astype(np.float32)
    found = moments(layer, centred)
    nearest = np.clip(np.rint(w / s), -top, top)
    least = found.error(nearest * s)
    low = np.floor(w / s)
    rest = np.clip(w / s - low, 0.01, 0.99)
    v = -np.log((ZETA - GAMMA) / (rest - GAMMA) - 1)
    if least > 0:
        r = Rounding(v.astype(np.float32))
        opt = adam(RATE).init(r)
        fixed = [as_tensor(a.astype(np.float32)) for a in (low, s, found.G / least, found.C / least)]
        for k in range(steps):
            t = max(0.0, (k / steps - WARM) / (1 - WARM))
            beta = 2 + 18 * 0.5 * (1 + cos(pi * t))
            _step(r, opt, *fixed, np.float32(top), np.float32(beta), np.float32(k >= WARM * steps))
        up = np.asarray(r.v.numpy()) >= 0
        q = np.where(w == 0, 0, np.clip(low + up, -top, top))
        if found.error(q * s) < least:
            nearest = q
    return layer.rows(nearest)


__all__ = ["Moments", "choose", "moments", "objective", "soft"]
