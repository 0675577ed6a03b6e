"""``Quantize``: the slot ``integers``. Calibration, grids, and the module that computes with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from shohin.compress.calibration import batches
from shohin.compress.equalize import equalize
from shohin.compress.quantized import Quantized
from shohin.compress.ranges import CHOICES
from shohin.compress.refine import refine
from shohin.compress.slots import Demo, Method
from shohin.compress.steps import Entry, Float, Format, Program
from shohin.compress.walk import module_of
from shohin.core.errors import PlanError
from shohin.core.module import Module, mode
from shohin.core.op import Aval

ROUNDINGS = ("nearest", "adaround")


@dataclass(frozen=True)
class Quantize(Method):
    """Integers of ``w`` bits (8, 4, 3, 2) for weights (a scale an output channel), 8 (scale and zero point) or 16 (symmetric)
    for activations.

    Args:
        calibrate: ``"minmax"``, ``"percentile"`` (``percentile`` of the values are inside) or ``"mse"`` (least squared error; of weights
            too): what a grid's range is (``ranges.py``).
        rounding: ``"nearest"``, or ``"adaround"``: each weight up or down as suits the layer's output (``adaround.py``), by ``steps``
            steps of its optimizer.
        learn: scales of weights and activations are Params that train with the network (LSQ, ``learned.py``).
        correct: the mean error of each channel is taken from its bias (``correct.py``).
        equalize: ranges of channels are evened between layers before all else, where a ReLU or nothing lies between (``equalize.py``).

    These are fields of one method because they choose how one slot is filled: the last rule that matches says it all. Fewer
    than 8 bits are stored packed, with the values that occur beside each output channel's numbers, where that saves a quarter. Every
    operation is defined bit for bit in ``docs/quantization.md``. Source: Jacob et al. 2018 (arXiv:1712.05877).

    >>> Quantize(w=4, calibrate="mse", rounding="adaround").scheme
    'int4 weights, int8 activations, mse, adaround'
    """

    w: int = 8
    a: int = 8
    calibrate: str = "minmax"
    percentile: float = 99.99
    rounding: str = "nearest"
    steps: int = 1000
    learn: bool = False
    correct: bool = False
    equalize: bool = False
    slot: ClassVar[str] = "integers"
    demo: ClassVar[Demo] = ({}, {"w": 4, "rounding": "adaround", "steps": 300}, {"w": 2, "calibrate": "mse", "learn": True})
    needs_calibration: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.w not in (2, 3, 4, 8) or self.a not in (8, 16):
            raise PlanError(f"Quantize(w={self.w}, a={self.a}): weights of 2, 3, 4 or 8 bits are defined, activations of 8 or 16")
        for name, value, known in (("calibrate", self.calibrate, CHOICES), ("rounding", self.rounding, ROUNDINGS)):
            if value not in known:
                raise PlanError(f"Quantize: {name} is {value!r}, expected one of {', '.join(known)}")
        if not 50 < self.percentile <= 100:
            raise PlanError(f"Quantize: percentile is {self.percentile}, expected the per cent of values inside the range, 50 to 100")
        if self.steps < 1:
            raise PlanError(f"Quantize: steps is {self.steps}, expected a positive number of AdaRound's optimizer steps")

    @property
    def format(self) -> Format:
        return Format(self.w, self.a, self.learn)

    @property
    def scheme(self) -> str:
        chosen = [self.calibrate] if self.calibrate != "minmax" else []
        chosen += [self.rounding] if self.rounding != "nearest" else []
        chosen += [text for on, text in ((self.learn, "learned steps"), (self.correct, "bias corrected"), (self.equalize, "equalized")) if on]
        return ", ".join([f"int{self.w} weights, int{self.a} activations", *chosen])

    @classmethod
    def apply(cls, net: Module, chosen: Mapping[str, Method], calibration: Any) -> Module:
        rules = {path: m for path, m in chosen.items() if isinstance(m, Quantize)}
        first = next(batches(calibration))
        training = net.training
        cleared = [path for path in net.modules() if path not in rules]
        avals = [Aval(x.shape, x.dtype) for x in first]
        equalize(net, avals, [path for path, m in rules.items() if m.equalize])
        small = Quantized(net, avals, cleared, {path: m.format for path, m in rules.items()})
        _refuse_idle(small.program(*avals)[0], chosen)
        with mode(small, training=False):
            for xs in batches(calibration):
                small.observe(*xs)
            refine(small, rules, calibration)
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
