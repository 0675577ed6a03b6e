"""``Quantize``: the slot ``integers``. Calibration, grids, and the module that computes with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from shohin.compress.method import Method
from shohin.compress.quantized import Quantized
from shohin.compress.steps import Entry, Float, Program
from shohin.compress.walk import module_of
from shohin.core.errors import PlanError
from shohin.core.module import Module, mode
from shohin.core.op import Aval
from shohin.core.tensor import Tensor
from shohin.data.dataset import Dataset

BATCH = 64


@dataclass(frozen=True)
class Quantize(Method):
    """Integers of ``w`` bits for weights (a scale an output channel) and ``a`` for activations (scale and zero point).

    Every operation is defined bit for bit in ``docs/quantization.md``. Source: Jacob et al. 2018 (arXiv:1712.05877).
    """

    w: int = 8
    a: int = 8
    slot: ClassVar[str] = "integers"
    needs_calibration: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if (self.w, self.a) != (8, 8):
            raise PlanError(
                f"Quantize(w={self.w}, a={self.a}): 8 bits are defined; fewer come with Palettize(bits=...)"
            )

    @property
    def scheme(self) -> str:
        return f"int{self.w} weights, int{self.a} activations"

    @classmethod
    def apply(cls, net: Module, chosen: Mapping[str, Method], calibration: Any) -> Module:
        first = next(batches(calibration))
        training = net.training
        cleared = [path for path in net.modules() if path not in chosen]
        avals = [Aval(x.shape, x.dtype) for x in first]
        small = Quantized(net, avals, cleared)
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


def batches(calibration: Any) -> Iterator[tuple[np.ndarray[Any, Any], ...]]:
    """float32 inputs of a data set, an array, or a tuple of arrays (one an input), up to 64 examples at a time."""
    if isinstance(calibration, Dataset):
        calibration = calibration.x
    arrays = tuple(map(_array, calibration)) if isinstance(calibration, tuple) else (_array(calibration),)
    if not arrays or any(a.ndim == 0 or len(a) != len(arrays[0]) or not len(a) for a in arrays):
        raise PlanError("calibration takes a data set, an array of examples, or a tuple of such arrays of one length")
    for start in range(0, len(arrays[0]), BATCH):
        yield tuple(a[start : start + BATCH] for a in arrays)


def _array(x: Any) -> np.ndarray[Any, Any]:
    array = x.numpy() if isinstance(x, Tensor) else np.asarray(x)
    if array.dtype != np.float32:
        raise PlanError(f"calibration data is {array.dtype}, expected float32 as the network takes it")
    return array
