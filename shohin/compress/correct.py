"""Bias correction: what rounding adds to a channel's mean is taken from its bias, layer after layer.

    d = k (W E[x] - W_q E[x_q])

x is what the layer reads in the float network, x_q what it reads now, both on the calibration set, W_q the weights as they are
rounded; d is stored (``shift``) and added to b_eff of Q2. Source: Nagel et al. 2019 (arXiv:1906.04721), appendix D (empirical),
before the activation; layers in order, so that each sees its inputs corrected.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from shohin.compress.sequential import Layer

Array = np.ndarray[Any, Any]


def shift(layer: Layer, rounded: Array) -> Array:
    """d, an output channel; ``rounded`` is the weight (out, ...) that ships, as real numbers."""
    means = [np.zeros(0), np.zeros(0)]
    rows = 0
    for pair in layer.inputs:
        parts = [layer.patches(x) for x in pair]
        rows += parts[0].shape[1]
        sums = [p.sum(1, dtype=np.float64) for p in parts]
        means = [m + s if m.size else s for m, s in zip(means, sums, strict=True)]
    x, q = (m[:, :, None] / rows for m in means)
    found = layer.matrix(layer.weight).astype(np.float64) @ x - layer.matrix(rounded).astype(np.float64) @ q
    return (layer.k * channels(layer, found)).astype(np.float32)


def channels(layer: Layer, matrix: Array) -> Array:
    """(groups, out of the group, 1) as (out,)."""
    full = np.broadcast_to(matrix, layer.matrix(layer.weight).shape)
    return layer.rows(np.ascontiguousarray(full)).reshape(len(layer.weight), -1)[:, 0]


__all__ = ["channels", "shift"]
