"""Arithmetic of extents: numbers that follow from shapes, known when the network is imported."""

from __future__ import annotations

import math
import operator as python
from collections.abc import Callable
from typing import Any

import numpy as np

from shohin.interop.builder import Builder, Value, constant
from shohin.interop.foreign import Node
from shohin.interop.pytorch.table import operator

NUMBERS: dict[str, Callable[..., Any]] = {
    **{f"operator.{f.__name__}": f for f in (python.add, python.sub, python.mul, python.floordiv, python.truediv, python.mod, python.neg, python.pow,
                                            python.eq, python.ne, python.lt, python.le, python.gt, python.ge)},
    "math.ceil": math.ceil, "math.floor": math.floor, "math.trunc": math.trunc, "torch.sym_float": float, "torch.sym_int": int, "torch.sym_max": max,
    "torch.sym_min": min, "torch.sym_not": python.not_, "torch.sym_sqrt": math.sqrt,
}  # fmt: skip


@operator("sym_size.int", becomes="a constant")
def size(b: Builder, node: Node, x: Value, dim: int) -> Value:
    return constant(np.asarray(x.shape[dim], np.int64))


@operator("sym_numel.default", becomes="a constant")
def numel(b: Builder, node: Node, x: Value) -> Value:
    return constant(np.asarray(x.size, np.int64))


@operator(*NUMBERS, becomes="a constant")
def number(b: Builder, node: Node, *operands: Any) -> Value:
    found = NUMBERS[node.op](*operands)
    return constant(np.asarray(found, np.float64 if isinstance(found, float) else np.bool_ if isinstance(found, bool) else np.int64))
