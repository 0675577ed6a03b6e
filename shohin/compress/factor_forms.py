"""Forms of factors: how one layer becomes two or three plain ones whose product it is, at any rank.

A form knows a layer's full ranks, the energy (squared singular values) that each of them holds, what it costs, and how to build
the layers. Costs are exact but for borders: products an output position, and weights. No first factor has a bias, so that
padding with zeros means the same as before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from shohin import nn
from shohin.core.module import Module

Array = np.ndarray[Any, Any]
ROUNDS = 10
"""Turns of the alternating projections of Tucker-2."""


@dataclass(frozen=True)
class Cost:
    """``products`` an output position, and ``weights``."""

    products: float
    weights: int


@dataclass(frozen=True)
class Form:
    """One layer in one form. ``energies``: for each rank the squared singular values, falling."""

    name: str
    now: Cost
    energies: tuple[Array, ...]
    cost: Callable[[Sequence[int]], Cost]
    build: Callable[[Sequence[int]], list[Module]]

    @property
    def full(self) -> tuple[int, ...]:
        return tuple(map(len, self.energies))


def _svd(matrix: Array) -> tuple[Array, Array, Array]:
    return np.linalg.svd(matrix.astype(np.float64), full_matrices=False)


def _set(layer: Module, weight: Array, bias: Any = None) -> Module:
    layer.weight = np.ascontiguousarray(weight, np.float32)
    if bias is not None:
        layer.bias = bias.numpy()
    return layer


def _pads(padding: Any) -> Any:
    """The padding of the rows and of the columns, each as a convolution's own argument."""
    if isinstance(padding, str):
        return padding, padding
    h, w = (padding, padding) if isinstance(padding, int) else padding
    both = lambda p: (p, p) if isinstance(p, int) else tuple(p)
    return (both(h), (0, 0)), ((0, 0), both(w))


def svd(layer: Any) -> Form:
    """A linear layer, or a convolution of one tap, through r channels: W = (U sqrt(S)) (sqrt(S) V^T).

    Source: Eckart and Young 1936, the best approximation of rank r; the roots keep both factors' ranges alike.
    """
    conv = isinstance(layer, nn.Conv2d)
    w = layer.weight.numpy().reshape(len(layer.weight), -1)
    (out, inside), (u, s, v) = w.shape, _svd(w)

    def build(ranks: Sequence[int]) -> list[Module]:
        r, root = ranks[0], np.sqrt(s[: ranks[0]])
        first, last = root[:, None] * v[:r], u[:, :r] * root
        has = layer.bias is not None
        if not conv:
            return [_set(nn.Linear(inside, r, bias=False), first), _set(nn.Linear(r, out, bias=has), last, layer.bias)]
        return [_set(nn.Conv2d(inside, r, 1, layer.stride, layer.padding, bias=False), first.reshape(r, 1, 1, inside)),
                _set(nn.Conv2d(r, out, 1, bias=has), last.reshape(out, 1, 1, r), layer.bias)]  # fmt: skip

    cost = lambda ranks: Cost(ranks[0] * (inside + out), ranks[0] * (inside + out))
    return Form("svd", Cost(w.size, w.size), (s**2,), cost, build)


def tucker(layer: Any) -> Form:
    """A convolution as 1x1 to r channels, kh x kw from r to q, 1x1 to all: Tucker-2, over input and output channels.

    The bases start from the singular vectors of the two unfoldings and are improved in turn (each is the best for the other).
    Source: Kim et al. 2016 (arXiv:1511.06530), section 3; they choose ranks by variational Bayes, here they are given.
    """
    w = layer.weight.numpy().astype(np.float64)
    out, kh, kw, inside = w.shape
    by_in = lambda t: t.transpose(3, 0, 1, 2).reshape(inside, -1)
    (ui, si, _), (uo, so, _) = _svd(by_in(w)), _svd(w.reshape(out, -1))
    every = prod(layer.stride)

    def build(ranks: Sequence[int]) -> list[Module]:
        r, q = ranks
        a, b = ui[:, :r], uo[:, :q]
        for _ in range(ROUNDS if (r, q) != (inside, out) else 0):
            b = _svd(np.tensordot(w, a, (3, 0)).reshape(out, -1))[0][:, :q]
            a = _svd(by_in(np.tensordot(b, w, (0, 0))))[0][:, :r]
        core = np.tensordot(np.tensordot(b, w, (0, 0)), a, (3, 0))
        r, q = a.shape[1], b.shape[1]
        return [_set(nn.Conv2d(inside, r, 1, bias=False), a.T.reshape(r, 1, 1, inside)),
                _set(nn.Conv2d(r, q, (kh, kw), layer.stride, layer.padding, layer.dilation, bias=False), core),
                _set(nn.Conv2d(q, out, 1, bias=layer.bias is not None), b.reshape(out, 1, 1, q), layer.bias)]  # fmt: skip

    def cost(ranks: Sequence[int]) -> Cost:
        r, q = ranks
        return Cost(every * inside * r + kh * kw * r * q + q * out, inside * r + kh * kw * r * q + q * out)

    return Form("tucker", Cost(w.size, w.size), (si**2, so**2), cost, build)


def spatial(layer: Any) -> Form:
    """A convolution of kh x kw taps as one of kh x 1 to r channels, and one of 1 x kw: the best of rank r, from one decomposition.

    Source: Jaderberg et al. 2014 (arXiv:1405.3866), section 2.2, scheme 2, solved as in Tai et al. 2016 (arXiv:1511.06067), theorem 1.
    """
    w = layer.weight.numpy()
    out, kh, kw, inside = w.shape
    u, s, v = _svd(w.transpose(1, 3, 2, 0).reshape(kh * inside, kw * out))
    (sh, sw), (dh, dw), (rows, columns) = layer.stride, layer.dilation, _pads(layer.padding)

    def build(ranks: Sequence[int]) -> list[Module]:
        r, root = ranks[0], np.sqrt(s[: ranks[0]])
        first = (u[:, :r] * root).reshape(kh, inside, r).transpose(2, 0, 1).reshape(r, kh, 1, inside)
        last = (root[:, None] * v[:r]).reshape(r, kw, out).transpose(2, 1, 0).reshape(out, 1, kw, r)
        return [_set(nn.Conv2d(inside, r, (kh, 1), (sh, 1), rows, (dh, 1), bias=False), first),
                _set(nn.Conv2d(r, out, (1, kw), (1, sw), columns, (1, dw), bias=layer.bias is not None), last, layer.bias)]  # fmt: skip

    def cost(ranks: Sequence[int]) -> Cost:
        r = ranks[0]
        return Cost(sw * kh * inside * r + kw * r * out, kh * inside * r + kw * r * out)

    return Form("spatial", Cost(w.size, w.size), (s**2,), cost, build)


FORMS: dict[str, Callable[[Any], Form]] = {"svd": svd, "tucker": tucker, "spatial": spatial}

__all__ = ["FORMS", "Cost", "Form", "spatial", "svd", "tucker"]
