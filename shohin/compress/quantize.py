"""``Quantize``: the slot ``integers``. Calibration, grids, and the module that computes with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from shohin.compress.calibration import batches
from shohin.compress.quantized import Quantized
from shohin.compress.slots import Method
from shohin.compress.steps import Entry, Float, Program
from shohin.compress.walk import module_of
from shohin.core.errors import PlanError
from shohin.core.module import Module, mode
from shohin.core.op import Aval


@dataclass(frozen=True)
class Quantize(Method):
    """Integers of ``w`` bits (8, 4, 3, 2) for weights (a scale an output channel), 8 for activations (scale and zero point).

    Fewer than 8 bits are stored packed, with the values that occur beside each output channel's numbers, where that saves a quarter.

    Every operation is defined bit for bit in ``docs/quantization.md``. Source: Jacob et al. 2018 (arXiv:1712.05877).
    """

    w: int = 8
    a: int = 8
    slot: ClassVar[str] = "integers"
    needs_calibration: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.w not in (2, 3, 4, 8) or self.a != 8:
            raise PlanError(f"Quantize(w={self.w}, a={self.a}): weights of 2, 3, 4 or 8 bits are defined, activations of 8")

    @property
    def scheme(self) -> str:
        return f"int{self.w} weights, int{self.a} activations"

    @classmethod
    def apply(cls, net: Module, chosen: Mapping[str, Method], calibration: Any) -> Module:
        first = next(batches(calibration))
        training = net.training
        cleared = [path for path in net.modules() if path not in chosen]
        avals = [Aval(x.shape, x.dtype) for x in first]
        small = Quantized(net, avals, cleared, {path: m.w for path, m in chosen.items() if isinstance(m, Quantize)})
        _refuse_idle(small.program(*avals)[0], chosen)
        with mode(small, training=False):
            for xs in batches(calibration):
                small.observe(*xs)
            small.settle()
        return small.train(training)


def _refuse_idle(program: Program, chosen: Mapping[str, Method]) -> None:
    steps = [step for step in program.steps if not isinstance(step, Float | Entry)]
    found = {module_of(place) for step in steps for place in (step.place, *step.nodes)}
    for method in {id(m): m for m in chosen.values()}.values():
        places = [path for path, m in chosen.items() if m is method]
        if not found.intersection(places):
            raise PlanError(
                f"{method} at {', '.join(map(repr, places[:3]))} changed nothing: no op of the network stands there; name "
                "places that plan.explain(net, x) lists, or leave the rule out"
            )
