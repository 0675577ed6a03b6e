"""What a definition asks of the float operator, be it a composite or a record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from shohin.compress.walk import Walk
from shohin.core.graph import Node, Var
from shohin.core.tensor import Tensor
from shohin.ops import math, reduce

Array = np.ndarray[Any, Any]
f32 = np.float32


def config(node: Node) -> Mapping[str, Any]:
    """The operator's attributes."""
    return dict(node.attrs["config"]) if node.op.kind == "call" else node.attrs


def positions(node: Node) -> dict[int, int]:
    """The operand that each argument of the operator is; one that was left out is not there."""
    given: Sequence[int] = config(node).get("operands", range(len(node.operands)))
    return {argument: k for k, argument in enumerate(given)}


def parameter(w: Walk, node: Node, k: int, name: str) -> Var:
    """Operand k, which must not depend on the input."""
    if w.active(node.operands[k]):
        raise w.refuse(node, f"its {name} depends on the input")
    return node.operands[k]


def bounded(w: Walk, node: Node, name: str, value: int, most: int) -> int:
    """``value``, or an error that says what it is of and how much the definition holds."""
    if value > most:
        raise w.refuse(node, f"{name} is {value}, the definition holds to {most}")
    return value


def rows(x: Tensor, axis: Sequence[int]) -> Tensor:
    """The sum over ``axis``, in int32, whose dims stay as 1."""
    return reduce.sum(x, axis=tuple(axis), dtype=np.int32, keepdims=True)


def real(x: Tensor) -> Tensor:
    """An integer as float32, rounded to the nearest."""
    return math.astype(x, np.float32)


def total(x: Array, axis: Sequence[int]) -> Array:
    """``rows`` of the reference."""
    return np.sum(np.asarray(x, np.int64), axis=tuple(axis), keepdims=True)
