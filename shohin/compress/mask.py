"""The slot ``mask``: some weights of a layer are 0. ``Masking`` is all but the rule that says which.

With ``ramp=(begin, end)`` the sparsity grows from 0 to its end value between those optimizer updates, by
``s * (1 - (1 - t)^3)`` in steps, and the rule is asked anew at each step, inside the compiled training step. Source: Zhu
and Gupta 2017 (arXiv:1710.01878), equation 1.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from shohin.compress.stats import Stats
from shohin.compress.weights import Reweighting, Weight, WeightMethod, names, stack
from shohin.core import dtypes
from shohin.core.cells import Buffer, Cell
from shohin.core.errors import PlanError
from shohin.core.module import Module
from shohin.core.tensor import Tensor, as_tensor
from shohin.ops import math, move
from shohin.ops.activations import stop_gradient
from shohin.optim.optimizer import UPDATE_HOOKS
from shohin.transforms.control import cond

STEPS = 20
"""How many times a ramp asks the rule anew."""


@dataclass(frozen=True)
class Masking(WeightMethod, abstract=True):
    """Base of methods that mask weights: a subclass has ``keep`` and, for a ramp, the field ``sparsity``.

    ``ramp``: the updates between which the sparsity grows. A masked weight gets no gradient and keeps the value behind the mask;
    with ``straight`` it gets that of the effective weight (straight-through) and may come back at a later step of the ramp.
    """

    ramp: tuple[int, int] | None = field(default=None, kw_only=True)
    straight: bool = field(default=False, kw_only=True)
    slot: ClassVar[str] = "mask"
    supplied: ClassVar[tuple[str, ...]] = ()
    steps: ClassVar[int] = STEPS

    def __post_init__(self) -> None:
        name, sparsity = type(self).__name__, getattr(self, "sparsity", None)
        if sparsity is not None and not 0 < sparsity < 1:
            raise PlanError(f"{name}: sparsity is {sparsity}, expected a fraction between 0 and 1")
        if self.ramp is not None:
            whole = len(self.ramp) == 2 and all(isinstance(n, int) for n in self.ramp)
            if not whole or not 0 <= self.ramp[0] < self.ramp[1]:
                raise PlanError(f"{name}: ramp is {self.ramp}, expected two counts of optimizer updates, begin < end")
            if sparsity is None:
                raise PlanError(f"{name}: a ramp moves the argument 'sparsity', which the method does not have")

    def keep(self, w: Tensor, stats: Stats, sparsity: Any) -> Any:
        """Marks the weights that stay: bool, as w (out, terms). With a ramp ``sparsity`` is a traced float64."""
        raise NotImplementedError(f"{type(self).__name__}.keep")

    @classmethod
    def of(cls, function: Callable[..., Any]) -> Mapping[str, Any]:
        """What a subclass made of ``function(w, stats, *, ...)`` has."""
        given = list(inspect.signature(function).parameters)[2:]

        def keep(self: Any, w: Tensor, stats: Stats, sparsity: Any) -> Any:
            return function(w, stats, **{n: sparsity if n == "sparsity" else getattr(self, n) for n in given})

        return {"keep": keep}

    def judged(self, w: Tensor, stats: Stats, sparsity: Any, place: str = "") -> Tensor:
        """``keep``, if it is what it should be."""
        found = self.keep(w, stats, sparsity)
        mask = as_tensor(found)
        if mask.shape != w.shape or mask.dtype != dtypes.bool_:
            raise PlanError(
                f"{type(self).__name__}{' at ' + place if place else ''}: the mask is {mask.dtype.name}{list(mask.shape)}, "
                f"expected bool{list(w.shape)}, true where a weight of w (out, terms) stays"
            )
        return mask

    def state(self, w: Weight, stats: Stats) -> Reweighting:
        mask = np.ones(w.value.shape, bool)
        if self.ramp is None:
            mask = self.judged(w.rows, stats, getattr(self, "sparsity", None), w.place).numpy().reshape(mask.shape)
        return self.hold(mask, stats)

    def hold(self, mask: Any, stats: Stats) -> Mask:
        """The cells of one weight with this first mask."""
        return Mask(self, mask, stats)


class Mask(Reweighting):
    """``mask`` (bool, kept): the weight where it holds, 0 elsewhere. With a ramp also ``count``, the updates so far."""

    slot, kind, done = "mask", "mask", "masked"

    def __init__(self, method: Masking, mask: Any, stats: Stats) -> None:
        self.mask: Any = Buffer(mask)
        self.method = method
        if method.ramp is not None:
            self.count: Any = Buffer(np.zeros((), np.int32))
            self.inputs = {name: Buffer(np.asarray(a)) for name, a in stats.items()}

    def forward(self, w: Any) -> Tensor:
        masked = math.where(self.mask, w, 0.0)
        return w + stop_gradient(masked - w) if self.method.straight else masked

    def advance(self, w: Tensor) -> None:
        """After an optimizer update; ``w`` is the weight without the mask."""
        if self.method.ramp is None:
            return
        (begin, end), shape = self.method.ramp, self.mask.shape
        count = self.count + 1
        self.count = count
        at = count - begin
        due = ((at % max(1, (end - begin) // self.method.steps) == 0) & (at >= 0) & (count < end)) | (count == end)
        left = 1.0 - math.astype(at, dtypes.float64) / float(end - begin)
        sparsity = (1.0 - left * left * left) * float(vars(self.method)["sparsity"])

        def anew(w: Tensor, sparsity: Tensor) -> Tensor:
            stats = Stats(type(self.method).__name__, {n: self.inputs[n] for n in self.inputs})
            return self.method.judged(w, stats, sparsity)

        rows = move.reshape(w, (shape[0], -1))
        before = move.reshape(self.mask, rows.shape)
        self.mask = move.reshape(cond(due, anew, lambda w, sparsity: before, rows, sparsity), shape)


def advance(net: Module) -> None:
    """Every mask of ``net`` that has a ramp, one update on."""
    for layer in net.modules().values():
        for name in names(layer):
            states = stack(layer, name)
            for k, state in enumerate(states):
                if isinstance(state, Mask) and state.method.ramp is not None:
                    w = object.__getattribute__(layer, "__dict__").get(name)
                    w = w.read() if isinstance(w, Cell) else w
                    for before in states[:k]:
                        w = before.forward(w)
                    state.advance(w)


UPDATE_HOOKS.append(advance)

__all__ = ["STEPS", "Mask", "Masking"]
