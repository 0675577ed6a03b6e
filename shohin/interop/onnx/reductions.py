"""Operators that run along dims."""

from __future__ import annotations

from typing import Any

from shohin.core import dtypes
from shohin.interop.builder import Builder, Value
from shohin.interop.foreign import Node
from shohin.interop.onnx.shapes import axes_of
from shohin.interop.onnx.table import attr, operator
from shohin.interop.words import reduce as words
from shohin.nn import functional as F
from shohin.ops import math, move, reduce

REDUCTIONS = {
    "ReduceMax": reduce.max, "ReduceMean": reduce.mean, "ReduceMin": reduce.min, "ReduceProd": reduce.prod, "ReduceSum": reduce.sum,
    "ReduceL1": words.l1, "ReduceL2": words.l2, "ReduceLogSum": words.log_sum, "ReduceLogSumExp": words.log_sum_exp, "ReduceSumSquare": words.sum_of_squares,
}  # fmt: skip


@operator(*REDUCTIONS, becomes="`sh.sum`, `sh.mean`, `sh.max`, `sh.min`, `sh.prod`, with what they are of")
def reduction(b: Builder, node: Node, x: Value, axes: Value | None = None) -> Value:
    dims = axes_of(b, node, axes)
    if dims is None or not dims:
        if attr(node, "noop_with_empty_axes", 0):
            return _of_itself(b, node, x)
        dims = None
    f = REDUCTIONS[node.op]
    if x.dtype == dtypes.bool_:
        f = _BOOLEAN[f]
    elif x.dtype not in dtypes.FLOATING and f in (reduce.sum, reduce.prod, reduce.mean):
        return words.reduced(b, _in_dtype, x, dims, bool(attr(node, "keepdims", 1)), f=f)
    return words.reduced(b, f, x, dims, bool(attr(node, "keepdims", 1)))


def _of_itself(b: Builder, node: Node, x: Value) -> Value:
    """Over no dims: the function of each element alone."""
    one = {"ReduceL1": math.abs, "ReduceL2": math.abs, "ReduceLogSum": math.log, "ReduceSumSquare": math.square}.get(node.op)
    return x if one is None else words.each(b, one, x)


def _in_dtype(x: Any, f: Any, axis: Any, keepdims: bool) -> Any:
    """Integers stay what they are."""
    if f is reduce.mean:
        n = 1
        for a in axis:
            n *= x.shape[a]
        return reduce.sum(x, axis=axis, keepdims=keepdims, dtype=x.dtype) // n
    return f(x, axis=axis, keepdims=keepdims, dtype=x.dtype)


_BOOLEAN: dict[Any, Any] = {reduce.max: reduce.any, reduce.min: reduce.all}


@operator("ArgMax", "ArgMin", becomes="`sh.argmax`, `sh.argmin`")
def position(b: Builder, node: Node, x: Value) -> Value:
    f = reduce.argmax if node.op == "ArgMax" else reduce.argmin
    return words.position(b, f, x, attr(node, "axis", 0), bool(attr(node, "keepdims", 1)), bool(attr(node, "select_last_index", 0)))


SOFT: dict[str, Any] = {"Softmax": F.softmax, "LogSoftmax": F.log_softmax}


@operator(*SOFT, becomes="`nn.softmax`, `nn.log_softmax`")
def softmax(b: Builder, node: Node, x: Value) -> Value:
    if b.version < 13:
        return words.over_rest(b, SOFT[node.op], x, attr(node, "axis", 1))
    return words.along(b, SOFT[node.op], x, attr(node, "axis", -1))


@operator("Hardmax", becomes="`sh.one_hot` of `sh.argmax`")
def hardmax(b: Builder, node: Node, x: Value) -> Value:
    return words.along(b, _hardmax, x, attr(node, "axis", -1)) if b.version >= 13 else words.over_rest(b, _hardmax, x, attr(node, "axis", 1))


def _hardmax(x: Any, axis: int) -> Any:
    first = reduce.argmax(x, axis=axis, keepdims=True)
    return math.astype(math.equal(move.iota(x.shape, axis, first.dtype), first), x.dtype)
