"""The table of ATen operators: one rule each, in the words of ``interop.words``, with ATen's own names and defaults of arguments.

A node's ``attrs`` hold ``args`` and ``kwargs`` as the origin calls the operator, with an ``Operand`` or ``Extent`` wherever a value of
the graph stands; ``operator`` puts these in, so that a rule reads like the operator's signature. ``docs/import.md`` is made from it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from shohin.core import dtypes
from shohin.core.dtypes import DType
from shohin.interop.builder import Builder, Value, constant
from shohin.interop.foreign import Node
from shohin.interop.rules import Rule, enter, refuse
from shohin.interop.words.elementwise import cast

TABLE: dict[str, Rule] = {}
BECOMES: dict[str, str] = {}
"""What an operator becomes, for the documentation."""


@dataclass(frozen=True)
class Operand:
    """Among the arguments: the node's input of this number."""

    at: int


@dataclass(frozen=True)
class Extent:
    """Among the arguments: the node's input of this number, which is a number and must be known."""

    at: int


def operator(*names: str, becomes: str = "") -> Callable[[Rule], Rule]:
    """Declare the rule of some operators (``conv2d.default``); ``becomes`` or the rule's docstring says what they become."""

    def put(rule: Rule) -> Rule:
        def bound(b: Builder, node: Node, *operands: Value) -> Any:
            fill = lambda v: _filled(b, v, operands)
            return rule(b, node, *map(fill, node.attrs["args"]), **{k: fill(v) for k, v in node.attrs["kwargs"].items()})

        enter(TABLE, BECOMES, names, bound, becomes, rule.__doc__)
        return rule

    return put


def _filled(b: Builder, v: Any, operands: Sequence[Value]) -> Any:
    if isinstance(v, Operand):
        return operands[v.at]
    if isinstance(v, Extent):
        return b.number(operands[v.at], "an extent")
    return tuple(_filled(b, w, operands) for w in v) if isinstance(v, tuple) else v


def once(b: Builder, node: Node, v: Any) -> bool:
    """Whether an operand has this reader only."""
    return any(b.sole(n) for n in node.inputs if b.values[n] is v)


def sizes(v: Any, rank: int) -> tuple[int, ...]:
    """One number a dim, of a number or a list that may have one for all.

    >>> sizes((3,), 2), sizes(1, 2), sizes((1, 2), 2)
    ((3, 3), (1, 1), (1, 2))
    """
    several = (v,) if isinstance(v, int) else tuple(v)
    several = several * rank if len(several) == 1 else several
    refuse(len(several) != rank, f"{v} does not fit {rank} dims")
    return several


# --------------------------------------------------------------------------------------- numbers among tensors


def _kind(dtype: DType) -> int:
    return 0 if dtype == dtypes.bool_ else 2 if dtype in dtypes.FLOATING else 1


def common_dtype(*operands: Any) -> DType:
    """PyTorch's type of a result: that of the tensors with dims, unless a tensor without dims, or else a number, is of a higher
    kind (bool, integer, float)."""
    levels: list[list[DType]] = [[], [], []]
    for v in operands:
        if isinstance(v, Value):
            levels[0 if v.rank else 1].append(v.dtype)
        else:
            levels[2].append(dtypes.bool_ if isinstance(v, bool) else dtypes.int64 if isinstance(v, int) else dtypes.float32)
    best: DType | None = None
    for level in levels:
        for dtype in level:
            if best is None or _kind(dtype) > _kind(best):
                best = dtype
            elif _kind(dtype) == _kind(best) and level is levels[0] and best in level:
                best = np.promote_types(best, dtype)
    assert best is not None
    return best


def valued(v: Any, dtype: DType) -> Value:
    """A number as a constant."""
    return v if isinstance(v, Value) else constant(np.asarray(v, dtype))


def together(b: Builder, *operands: Any, floating: bool = False) -> list[Value]:
    """Tensors and numbers as values of one dtype, the common one; of floats with ``floating``."""
    dtype = common_dtype(*operands)
    if floating and dtype not in dtypes.FLOATING:
        dtype = dtypes.float32
    return [cast(b, v, dtype) if isinstance(v, Value) else valued(v, dtype) for v in operands]


__all__ = ["BECOMES", "TABLE", "Extent", "Operand", "common_dtype", "once", "operator", "refuse", "sizes", "together", "valued"]
