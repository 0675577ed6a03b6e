"""Learning rates as functions of the update count (0 at the first update), in array operations.

The count may be a Python number or an integer tensor, also inside a compiled step: nothing is traced anew.
"""

from __future__ import annotations

import math as _math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from shohin.core import dtypes
from shohin.core.tensor import Tensor, as_tensor
from shohin.ops import math


@dataclass(frozen=True)
class Schedule:
    """``rule(count as float32) -> rate``. ``text`` is the call that made it, for ``repr`` and a run's digest."""

    text: str
    rule: Callable[[Tensor], Any] = field(compare=False)

    def __call__(self, count: Any) -> Tensor:
        return math.astype(as_tensor(self.rule(math.astype(as_tensor(count), dtypes.float32))), dtypes.float32)

    def __repr__(self) -> str:
        return self.text


def constant(lr: float) -> Schedule:
    """``lr`` always.

    >>> round(float(constant(0.1)(7)), 6)
    0.1
    """
    return Schedule(f"constant({lr!r})", lambda count: count * 0.0 + lr)


def _positive(name: str, steps: int) -> int:
    if not isinstance(steps, int) or isinstance(steps, bool) or steps < 1:
        raise ValueError(f"{name} is {steps!r}, expected a number of updates, at least 1")
    return steps


def _part(count: Tensor, first: float, steps: float) -> Tensor:
    """How much of ``steps`` updates from ``first`` on is done, in [0, 1]."""
    return math.clip((count - first) * (1.0 / steps), 0.0, 1.0)


def _wave(part: Tensor, start: float, end: float) -> Tensor:
    """Half a cosine from ``start`` to ``end``."""
    return end + (start - end) * (0.5 * (1.0 + math.cos(part * _math.pi)))


def linear_warmup(lr: float, steps: int, after: Schedule | None = None) -> Schedule:
    """From ``lr / steps`` up to ``lr`` over ``steps`` updates; then ``after`` (counted from there), or ``lr``.

    >>> [round(float(linear_warmup(0.4, 4)(i)), 4) for i in range(5)]
    [0.1, 0.2, 0.3, 0.4, 0.4]
    """
    n = _positive("linear_warmup: steps", steps)

    def rule(count: Tensor) -> Tensor:
        rising = math.minimum((count + 1.0) * (1.0 / n), 1.0) * lr
        if after is None:
            return rising
        return math.where(math.less(count, n), rising, after(math.maximum(count - n, 0.0)))

    return Schedule(f"linear_warmup({lr!r}, {steps}{'' if after is None else f', {after!r}'})", rule)


def cosine(lr: float, steps: int, *, warmup: int = 0, end: float = 0.0) -> Schedule:
    """Half a cosine from ``lr`` to ``end`` over ``steps`` updates, the first ``warmup`` of which rise linearly.

    Source: Loshchilov and Hutter 2017 (without restarts).

    >>> [round(float(cosine(1.0, 4)(i)), 4) for i in (0, 2, 4, 9)]
    [1.0, 0.5, 0.0, 0.0]
    """
    n = _positive("cosine: steps", steps)
    if not 0 <= warmup < n:
        raise ValueError(f"cosine: warmup is {warmup!r}, expected 0 to steps - 1 = {n - 1}")

    def rule(count: Tensor) -> Tensor:
        falling = _wave(_part(count, warmup, n - warmup), lr, end)
        return math.where(math.less(count, warmup), (count + 1.0) * (lr / warmup), falling) if warmup else falling

    said = [f", warmup={warmup}"] * bool(warmup) + [f", end={end!r}"] * bool(end)
    return Schedule(f"cosine({lr!r}, {steps}{''.join(said)})", rule)


def one_cycle(lr: float, steps: int, *, rise: float = 0.3, div: float = 25.0, final_div: float = 1e4) -> Schedule:
    """Half a cosine from ``lr / div`` up to ``lr`` over the fraction ``rise`` of ``steps``, another down to
    ``lr / div / final_div``. Source: Smith and Topin 2018, with PyTorch's defaults.

    >>> [round(float(one_cycle(1.0, 11)(i)), 4) for i in (0, 3, 10)]
    [0.04, 0.9797, 0.0]
    """
    n = _positive("one_cycle: steps", steps)
    if not 0 < rise < 1:
        raise ValueError(f"one_cycle: rise is {rise!r}, expected a fraction in (0, 1)")
    top, start = rise * n - 1, lr / div
    last = start / final_div

    def rule(count: Tensor) -> Tensor:
        up = _wave(_part(count, 0.0, max(top, 1e-6)), start, lr)
        down = _wave(_part(count, top, max(n - 1 - top, 1e-6)), lr, last)
        return math.where(math.less_equal(count, top), up, down)

    said = [f", rise={rise!r}"] * (rise != 0.3) + [f", div={div!r}"] * (div != 25.0)
    said += [f", final_div={final_div!r}"] * (final_div != 1e4)
    return Schedule(f"one_cycle({lr!r}, {steps}{''.join(said)})", rule)


__all__ = ["Schedule", "constant", "cosine", "linear_warmup", "one_cycle"]
