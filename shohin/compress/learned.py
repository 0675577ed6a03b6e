"""Learned steps (LSQ): the steps of grids and weights are Params, and the constants that follow from them are made in the training step.

A step is ``max(base (1 + r), 2^-40)`` with its calibrated value ``base`` and the Param r, 0 at first: the product is one rounded
operation, so that training and ``freeze`` have the same bits, and r is a relative change, which every optimizer moves by a
sensible amount. The gradient of r is scaled by ``1 / (base^2 sqrt(N Q))``, so that under plain SGD a step moves as in the paper; N
counts the weights of a channel or the features of an example, Q is the largest integer. What ships is frozen by the ordinary
definitions. Source: Esser et al. 2020 (arXiv:1902.08153), equation 3 and section 2.2. We differ: r instead of the step, a step
an output channel instead of a layer, zero points as calibrated.

Grids that a table or an operator that is quantized whole reads or makes keep their calibrated step, since their constants
are float64 tables; so do grids that a definition fixes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod, sqrt
from typing import Any

import numpy as np

from shohin.compress import definitions
from shohin.compress.steps import (
    Add,
    Concat,
    Contract,
    Entry,
    Float,
    Move,
    Mul,
    Pool,
    Program,
    Regrid,
    Step,
    Stored,
    made,
)
from shohin.compress.walk import module_of
from shohin.core.tensor import Tensor, as_tensor
from shohin.ops import math, move, quant

LEAST = 2.0**-40
MOVABLE = (Entry, Contract, Add, Mul, Pool, Concat, Regrid, Move, Stored, Float)
"""Steps whose constants can be made in training."""


def grids(program: Program, learn: Callable[[str], bool]) -> dict[str, int]:
    """The grids whose steps are trained, and how many features of an example stand on each; ``learn`` is asked the module that
    makes a grid (of an input: the network)."""
    found: dict[str, int] = {}
    barred = set(program.fixed) | set(program.probes)
    for step in program.steps:
        for k in (*step.inputs, *made(step)):
            value = program.values[k]
            if value.grid is None:
                continue
            if not isinstance(step, MOVABLE):
                barred.add(value.grid)
            place = value.grid.partition("/")
            if learn(place[0] if place[1] else ""):
                found.setdefault(value.grid, prod(value.shape[1:]))
    return {g: n for g, n in found.items() if g not in barred}


def layers(program: Program, learn: Callable[[str], bool]) -> list[Contract]:
    """The contractions whose weights' steps are trained."""
    steps = [s for s in program.steps if isinstance(s, Contract) and s.weight is not None and s.op is not None]
    return [s for s in steps if learn(module_of(s.place))]


def gained(base: Tensor, r: Tensor, count: int, top: Any) -> Tensor:
    """The step, from its base, its Param, and N and Q of the gradient's scale."""
    by = 1.0 / (base * base * math.sqrt(as_tensor(top) * float(count)))
    return math.maximum(base * (1.0 + quant.scale_gradient(r, move.broadcast_to(by, r.shape))), LEAST)


def start(w: np.ndarray[Any, Any], bits: int) -> np.ndarray[Any, Any]:
    """The first step of a channel's weights, w (out, ...): ``2 mean|w| / sqrt(Q)`` (section 2.1), at most max|w| / Q."""
    rows, top = np.abs(w.reshape(len(w), -1)), definitions.most(bits)
    first = np.minimum(2 * rows.mean(1) / sqrt(top), rows.max(1) / top)
    return np.maximum(first, LEAST).astype(np.float32)


def bound(M: Tensor, bits: int) -> Tensor:
    """The clamp of a multiplier, by the bits of the result (Q2, Q13)."""
    if bits == 8:
        return quant.bound_multiplier(M)
    most = definitions.GAIN[bits]
    return math.where(math.abs(M) < LEAST, math.zeros_like(M), math.clip(M, -most, most))


def constants(step: Step, x: Sequence[Any], y: Any) -> dict[str, Any]:
    """What a step keeps that follows from its grids, as tensors: ``freeze.constants`` with gradients. Grids are ``Scale``s."""
    made: dict[str, Any] = {}
    match step:
        case Add():
            top = x[0].s
            for g in x[1:]:
                top = math.maximum(top, g.s)
            m = [quant.quantize(g.s, top * 2.0**-14, 0.0, 2.0**14) * float(sign) for g, sign in zip(x, step.signs, strict=True)]
            made = {"m": m, "M": bound((top * 2.0**-14) / y.s, y.bits)}
        case Mul():
            made = {"M": bound((x[0].s * x[1].s) / y.s, y.bits)}
        case Pool():
            made = {"M": bound(x[0].s / (y.s * as_tensor(step.n)), y.bits)}
        case Concat():
            made = {"M": [bound(g.s / y.s, y.bits) for g in x]}
        case Regrid():
            made = {"M": bound(x[0].s / y.s, 16)}
        case _:
            pass
    low, high = y.limits
    clamp = getattr(step, "clamp", None)
    at = lambda v: float(low if v < 0 else high) if abs(v) == np.inf else quant.quantize(as_tensor(np.float32(v)), y.s, low - y.z, high - y.z) + y.z
    return {**made, "lo": at(-np.inf if clamp is None else clamp[0]), "hi": at(np.inf if clamp is None else clamp[1])}


__all__ = ["bound", "constants", "gained", "grids", "layers", "start"]
