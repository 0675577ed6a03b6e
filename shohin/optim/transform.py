"""A transform of gradients: a pure pair (start, step), composed by ``chain``.

A transform turns the gradients of named parameters into updates, with a state of its own; an ``Optimizer``
(``optimizer.py``) holds the state in Buffers and adds the updates to a network's parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from shohin.core import dtypes
from shohin.core.errors import StateError
from shohin.core.module import Module
from shohin.core.tensor import Tensor, as_tensor
from shohin.ops import math, move, reduce
from shohin.optim.optimizer import Optimizer

Values = Mapping[str, Tensor]
"""Tensors by a network's paths."""
State = dict[str, Any]
"""Named entries; each is a tensor, or tensors by path."""
Rate = float | Callable[[Any], Any]
"""A learning rate: a number, or a function of the update count (a float32 scalar, 0 at the first update)."""


@dataclass(frozen=True, kw_only=True)
class Transform:
    """``start(params) -> state``; ``step(updates, params, state, lr) -> (updates, state)``, all by path.

    ``rate`` is the learning rate that this transform multiplies by (at most one in a chain has one). ``text`` is what
    ``repr`` says: the call that makes this transform.

    >>> sign = Transform(text="sign()", step=lambda u, p, s, lr: ({k: math.sign(g) for k, g in u.items()}, s))
    >>> chain(sign, scale_by_rate(0.1))
    chain(sign(), scale_by_rate(0.1))
    """

    text: str
    step: Callable[[Values, Values, State, Tensor], tuple[dict[str, Tensor], State]]
    start: Callable[[Values], State] = lambda params: {}
    rate: Rate | None = None

    def init(self, net: Module) -> Optimizer:
        """The optimizer for ``net``'s trainable parameters, at count 0; it holds no reference to ``net``."""
        return Optimizer(self, net)

    def __repr__(self) -> str:
        return self.text


def call_text(name: str, *args: Any, **keywords: Any) -> str:
    """``name(1, b=2)``, leaving out what is None or zero.

    >>> call_text("sgd", 0.1, momentum=0.9, nesterov=False)
    'sgd(0.1, momentum=0.9)'
    """
    say = lambda v: getattr(v, "__name__", repr(v)) if callable(v) and not hasattr(v, "text") else repr(v)
    parts = [say(a) for a in args] + [f"{k}={say(v)}" for k, v in keywords.items() if v]
    return f"{name}({', '.join(parts)})"


def chain(*transforms: Transform) -> Transform:
    """One transform after another: each takes the updates that the one before gave.

    Raises:
        StateError: two of them multiply by a learning rate.

    >>> chain(clip_by_global_norm(1.0), scale_by_rate(0.1))
    chain(clip_by_global_norm(1.0), scale_by_rate(0.1))
    """
    for k, t in enumerate(transforms):
        if not isinstance(t, Transform):
            raise StateError(f"chain: argument {k} is {type(t).__name__}, expected a transform such as optim.sgd(0.1)")
    rates = [t for t in transforms if t.rate is not None]
    if len(rates) > 1:
        raise StateError(f"chain: {rates[0]} and {rates[1]} both have a learning rate; keep one")

    def start(params: Values) -> State:
        return {f"{i}.{name}": entry for i, t in enumerate(transforms) for name, entry in t.start(params).items()}

    def step(updates: Values, params: Values, state: State, lr: Tensor) -> tuple[dict[str, Tensor], State]:
        out, new = dict(updates), {}
        for i, t in enumerate(transforms):
            own = {name[len(f"{i}.") :]: entry for name, entry in state.items() if name.startswith(f"{i}.")}
            out, own = t.step(out, params, own, lr)
            new.update({f"{i}.{name}": entry for name, entry in own.items()})
        return out, new

    text = f"chain({', '.join(map(repr, transforms))})"
    return Transform(text=text, start=start, step=step, rate=rates[0].rate if rates else None)


def named(text: str, *transforms: Transform) -> Transform:
    """``chain`` under a name of its own; entries of the state keep their own names, which must differ."""

    def start(params: Values) -> State:
        return {name: entry for t in transforms for name, entry in t.start(params).items()}

    def step(updates: Values, params: Values, state: State, lr: Tensor) -> tuple[dict[str, Tensor], State]:
        out, new = dict(updates), dict(state)
        for t in transforms:
            out, new = t.step(out, params, new, lr)
        return out, new

    rates = [t.rate for t in transforms if t.rate is not None]
    return Transform(text=text, start=start, step=step, rate=rates[0] if rates else None)


def zeros(params: Values) -> dict[str, Tensor]:
    """A zero for every parameter."""
    return {path: move.zeros(p.shape, dtype=p.dtype) for path, p in params.items()}


def scale_by_rate(lr: Rate) -> Transform:
    """Updates times ``-lr``: the last link of a chain."""

    def step(updates: Values, params: Values, state: State, lr: Tensor) -> tuple[dict[str, Tensor], State]:
        return {path: -(math.astype(lr, u.dtype) * u) for path, u in updates.items()}, state

    return Transform(text=call_text("scale_by_rate", lr), step=step, rate=checked_rate(lr))


def checked_rate(lr: Rate) -> Rate:
    """``lr`` itself, if it is a positive number or a function."""
    if not callable(lr) and not (isinstance(lr, int | float | np.floating) and 0 <= lr < float("inf")):
        raise ValueError(f"the learning rate is {lr!r}, expected a number of at least 0, or a function of the count")
    return lr


def add_decayed_weights(weight_decay: float) -> Transform:
    """Updates plus ``weight_decay`` times the parameter. Source: Krogh and Hertz 1991."""

    def step(updates: Values, params: Values, state: State, lr: Tensor) -> tuple[dict[str, Tensor], State]:
        return {path: u + params[path] * weight_decay for path, u in updates.items()}, state

    return Transform(text=call_text("add_decayed_weights", weight_decay), step=step)


def clip_by_global_norm(max_norm: float) -> Transform:
    """Updates times ``min(1, max_norm / norm)``, where ``norm`` is that of all updates together.

    Source: Pascanu et al. 2013, algorithm 1. The divisor is norm + 1e-6, as in PyTorch.
    """
    if not max_norm > 0:
        raise ValueError(f"clip_by_global_norm: max_norm is {max_norm!r}, expected a positive number")

    def step(updates: Values, params: Values, state: State, lr: Tensor) -> tuple[dict[str, Tensor], State]:
        dtype = dtypes.float64 if any(u.dtype == dtypes.float64 for u in updates.values()) else dtypes.float32
        total = as_tensor(np.zeros((), dtype))
        for u in updates.values():
            wide = math.astype(u, dtype)
            total = total + reduce.sum(wide * wide)
        factor = math.minimum(max_norm / (math.sqrt(total) + 1e-6), 1.0)
        return {path: u * math.astype(factor, u.dtype) for path, u in updates.items()}, state

    return Transform(text=call_text("clip_by_global_norm", max_norm), step=step)


__all__ = [
    "Rate",
    "State",
    "Transform",
    "Values",
    "add_decayed_weights",
    "chain",
    "clip_by_global_norm",
    "scale_by_rate",
]
