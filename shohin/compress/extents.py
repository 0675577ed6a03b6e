"""What a relation of axes says to quantization: how many terms a sum has, along which dims it may be cut, what is padding."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np

from shohin.core.axes import Solved
from shohin.core.graph import Node
from shohin.core.op import Op


def solved(node: Node) -> Solved:
    return node.op.solve([v.shape for v in node.operands], node.attrs)


def terms(relation: Solved) -> int:
    """How many elements, or products, one result sums."""
    return prod(relation.extents[a] for a in relation.reduced)


def cut(relation: Solved, channels: int) -> tuple[int, int] | None:
    """Dims of x and of the weight (its dim ``channels`` moved to the front) that hold one summed axis alone, which may
    therefore be cut into ranges; None where there is none (a grouped convolution)."""
    alone = lambda axis, d: d.kind != "window" and all(a == axis or relation.extents[a] == 1 for a in d.axes)
    for axis in relation.reduced:
        found = [[k for k, d in enumerate(dims) if axis in d.axes] for dims in relation.relation.operands]
        if all(len(dims) == 1 for dims in found):
            (x,), (w,) = found
            if alone(axis, relation.relation.operands[0][x]) and alone(axis, relation.relation.operands[1][w]):
                return x, w + 1 if w < channels else w
    return None


def empty_windows(relation: Solved) -> bool:
    """Does a window of the first operand lie in the padding alone?"""
    for d, n in zip(relation.relation.operands[0], relation.operands[0], strict=True):
        if d.kind == "window":
            at = np.full((1, 1), -d.padding[0])
            for k, (a, stride) in enumerate(zip(d.axes, d.strides, strict=True)):
                step = np.arange(relation.extents[a]) * int(stride)
                at = at + step[:, None] if k == 0 else (at[:, :, None] + step).reshape(len(at), -1)
            if not ((at >= 0) & (at < n)).any(1).all():
                return True
    return False


def fill(op: Op) -> str | None:
    """The attribute that is the value of what an op adds around its operand (``pad``)."""
    value = None if op.pad is None else op.pad.value
    return value if isinstance(value, str) and value in op.attrs else None


def filled(op: Op, attrs: Mapping[str, Any], zero: int, limits: tuple[int, int]) -> dict[str, Any]:
    """The attributes on integers: zero is the zero point, infinities are the ends of the range."""
    name = fill(op)
    if name is None:
        return dict(attrs)
    value = attrs[name]
    return {**attrs, name: zero if value == 0 else limits[value > 0]}


__all__ = ["cut", "empty_windows", "fill", "filled", "solved", "terms"]
