"""The rules: sgd, adam, adamw, rmsprop, lion. Formulas and defaults as in PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from shohin.core.tensor import Tensor, as_tensor
from shohin.ops import math
from shohin.optim.transform import (
    Rate,
    State,
    Transform,
    Values,
    add_decayed_weights,
    call_text,
    checked_rate,
    named,
    scale_by_rate,
    zeros,
)

Result = tuple[dict[str, Tensor], State]


def _finish(text: str, lr: Rate, *transforms: Transform | None) -> Transform:
    return named(text, *(t for t in transforms if t is not None), scale_by_rate(lr))


def _decay(weight_decay: float) -> Transform | None:
    if weight_decay < 0:
        raise ValueError(f"weight_decay is {weight_decay!r}, expected a number of at least 0")
    return add_decayed_weights(weight_decay) if weight_decay else None


def _fraction(name: str, value: float) -> float:
    if not 0 <= value < 1:
        raise ValueError(f"{name} is {value!r}, expected a number in [0, 1)")
    return float(value)


def momentum_trace(momentum: float, nesterov: bool = False) -> Transform:
    """``v = momentum v + g``; the update is v, or ``g + momentum v`` with ``nesterov``.

    Source: Polyak 1964; Sutskever et al. 2013, section 2.
    """
    _fraction("momentum", momentum)

    def step(updates: Values, params: Values, state: State, lr: Tensor) -> Result:
        v = {path: state["velocity"][path] * momentum + g for path, g in updates.items()}
        out = {path: g + v[path] * momentum for path, g in updates.items()} if nesterov else v
        return out, {**state, "velocity": v}

    return Transform(
        text=call_text("momentum_trace", momentum, nesterov=nesterov), start=lambda p: {"velocity": zeros(p)}, step=step
    )


def sgd(lr: Rate, momentum: float = 0.0, nesterov: bool = False, weight_decay: float = 0.0) -> Transform:
    """Stochastic gradient descent: ``p -= lr v``, ``v = momentum v + g + weight_decay p``.

    Source: Robbins and Monro 1951; Sutskever et al. 2013 for the two kinds of momentum, in PyTorch's form.

    >>> sgd(0.1, momentum=0.9, nesterov=True)
    sgd(0.1, momentum=0.9, nesterov=True)
    """
    if nesterov and not momentum:
        raise ValueError("sgd: nesterov needs a momentum above 0")
    checked_rate(lr)
    trace = momentum_trace(momentum, nesterov) if momentum else None
    return _finish(
        call_text("sgd", lr, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay),
        lr,
        _decay(weight_decay),
        trace,
    )


def scale_by_adam(betas: Sequence[float] = (0.9, 0.999), eps: float = 1e-8) -> Transform:
    """``m / (sqrt(v) + eps)`` with the bias of both means corrected. Source: Kingma and Ba 2015, algorithm 1.

    ``1 - beta^t`` is kept as ``c = beta c + (1 - beta)``: no power, the same bits everywhere.
    """
    b1, b2 = _fraction("betas[0]", betas[0]), _fraction("betas[1]", betas[1])

    def start(params: Values) -> State:
        zero = as_tensor(np.float32(0))
        return {"mean": zeros(params), "square": zeros(params), "mean_weight": zero, "square_weight": zero}

    def step(updates: Values, params: Values, state: State, lr: Tensor) -> Result:
        m = {path: state["mean"][path] * b1 + g * (1 - b1) for path, g in updates.items()}
        v = {path: state["square"][path] * b2 + (g * g) * (1 - b2) for path, g in updates.items()}
        c1 = state["mean_weight"] * b1 + (1 - b1)
        c2 = state["square_weight"] * b2 + (1 - b2)
        root = math.sqrt(c2)
        out: dict[str, Tensor] = {}
        for path, mean in m.items():
            down = math.sqrt(v[path]) / math.astype(root, mean.dtype) + eps
            out[path] = mean / math.astype(c1, mean.dtype) / down
        return out, {**state, "mean": m, "square": v, "mean_weight": c1, "square_weight": c2}

    return Transform(text=call_text("scale_by_adam", betas=tuple(betas), eps=eps), start=start, step=step)


def adam(
    lr: Rate = 1e-3, betas: Sequence[float] = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0.0
) -> Transform:
    """Adam; ``weight_decay`` is added to the gradient (for the decoupled one see ``adamw``).

    Source: Kingma and Ba 2015, algorithm 1.

    >>> adam(1e-3)
    adam(0.001)
    """
    checked_rate(lr)
    return _finish(
        _adam_text("adam", lr, betas, eps, weight_decay, 0.0), lr, _decay(weight_decay), scale_by_adam(betas, eps)
    )


def adamw(
    lr: Rate = 1e-3, betas: Sequence[float] = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 1e-2
) -> Transform:
    """Adam with decoupled weight decay: ``p -= lr (m / (sqrt(v) + eps) + weight_decay p)``.

    Source: Loshchilov and Hutter 2019, algorithm 2, with the decay times lr as in PyTorch.

    >>> adamw(3e-3, weight_decay=0.05)
    adamw(0.003, weight_decay=0.05)
    """
    checked_rate(lr)
    return _finish(
        _adam_text("adamw", lr, betas, eps, weight_decay, 1e-2), lr, scale_by_adam(betas, eps), _decay(weight_decay)
    )


def _adam_text(name: str, lr: Rate, betas: Sequence[float], eps: float, weight_decay: float, default: float) -> str:
    said: dict[str, Any] = {}
    if tuple(betas) != (0.9, 0.999):
        said["betas"] = tuple(betas)
    if eps != 1e-8:
        said["eps"] = eps
    text = call_text(name, lr, **said)
    return text if weight_decay == default else f"{text[:-1]}, weight_decay={weight_decay!r})"


def rmsprop(
    lr: Rate = 1e-2, alpha: float = 0.99, eps: float = 1e-8, momentum: float = 0.0, weight_decay: float = 0.0
) -> Transform:
    """``g / (sqrt(v) + eps)``, ``v = alpha v + (1 - alpha) g^2``, then momentum. Source: Tieleman and Hinton 2012,
    lecture 6.5.

    >>> rmsprop(0.01, momentum=0.9)
    rmsprop(0.01, alpha=0.99, momentum=0.9)
    """
    a = _fraction("alpha", alpha)
    checked_rate(lr)

    def step(updates: Values, params: Values, state: State, lr: Tensor) -> Result:
        v = {path: state["square"][path] * a + (g * g) * (1 - a) for path, g in updates.items()}
        return {path: g / (math.sqrt(v[path]) + eps) for path, g in updates.items()}, {**state, "square": v}

    scale = Transform(text="scale_by_rms()", start=lambda p: {"square": zeros(p)}, step=step)
    text = call_text("rmsprop", lr, alpha=alpha, momentum=momentum, weight_decay=weight_decay)
    return _finish(text, lr, _decay(weight_decay), scale, momentum_trace(momentum) if momentum else None)


def lion(lr: Rate = 1e-4, betas: Sequence[float] = (0.9, 0.99), weight_decay: float = 0.0) -> Transform:
    """``p -= lr (sign(b1 m + (1 - b1) g) + weight_decay p)``, then ``m = b2 m + (1 - b2) g``.

    Source: Chen et al. 2023, algorithm 2.

    >>> lion(1e-4)
    lion(0.0001, betas=(0.9, 0.99))
    """
    b1, b2 = _fraction("betas[0]", betas[0]), _fraction("betas[1]", betas[1])
    checked_rate(lr)

    def step(updates: Values, params: Values, state: State, lr: Tensor) -> Result:
        m = state["mean"]
        out = {path: math.sign(m[path] * b1 + g * (1 - b1)) for path, g in updates.items()}
        return out, {**state, "mean": {path: m[path] * b2 + g * (1 - b2) for path, g in updates.items()}}

    scale = Transform(text="scale_by_lion()", start=lambda p: {"mean": zeros(p)}, step=step)
    return _finish(
        call_text("lion", lr, betas=tuple(betas), weight_decay=weight_decay), lr, scale, _decay(weight_decay)
    )


__all__ = ["adam", "adamw", "lion", "momentum_trace", "rmsprop", "scale_by_adam", "sgd"]
