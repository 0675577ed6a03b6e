"""Branches, whose condition must be known."""

from __future__ import annotations

from shohin.interop.builder import Builder, Value
from shohin.interop.foreign import Foreign, Node
from shohin.interop.onnx.table import needed, operator, refuse


@operator("If", becomes="the branch that is taken; its condition must be known")
def branch(b: Builder, node: Node, condition: Value) -> tuple[Value, ...]:
    taken = needed(node, "then_branch" if b.number(condition, "the condition of If") else "else_branch")
    refuse(not isinstance(taken, Foreign), "its branch is not a graph")
    return b.inline(taken)
