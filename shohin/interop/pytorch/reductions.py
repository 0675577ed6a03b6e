"""Operators that run along dims."""

from __future__ import annotations

from typing import Any

from shohin.core import dtypes
from shohin.core.dtypes import DType
from shohin.interop.builder import Builder, Value
from shohin.interop.foreign import Node
from shohin.interop.pytorch.table import operator, refuse
from shohin.interop.words import arrange
from shohin.interop.words import reduce as words
from shohin.interop.words.elementwise import cast
from shohin.nn import functional as F
from shohin.ops import reduce

Dims = int | tuple[int, ...] | None


def _over(b: Builder, f: Any, x: Value, dim: Dims, keepdim: bool, **attrs: Any) -> Value:
    """Over all dims where none is named; a tensor without dims has one of one element."""
    dims = (dim,) if isinstance(dim, int) else dim or None
    if x.rank == 0:
        return arrange.shaped(b, words.reduced(b, f, arrange.shaped(b, x, (1,)), None, False, **attrs), ())
    return words.reduced(b, f, x, dims, keepdim, **attrs)


@operator("mean.default", "mean.dim", "sum.default", "sum.dim_IntList", "prod.default", "prod.dim_int", becomes="`sh.mean`, `sh.sum`, `sh.prod`")
def total(b: Builder, node: Node, x: Value, dim: Dims = None, keepdim: bool = False, dtype: DType | None = None) -> Value:
    name = node.op.partition(".")[0]
    x = cast(b, x, dtype or (x.dtype if x.dtype in dtypes.FLOATING else dtypes.int64))
    return _over(b, {"mean": reduce.mean, "sum": reduce.sum, "prod": reduce.prod}[name], x, dim, keepdim)


@operator("amax.default", "amin.default", "max.default", "min.default", "any.default", "any.dim", "any.dims", "all.default", "all.dim", "all.dims",
          becomes="`sh.max`, `sh.min`, `sh.any`, `sh.all`")  # fmt: skip
def extreme(b: Builder, node: Node, x: Value, dim: Dims = None, keepdim: bool = False) -> Value:
    f = {"amax": reduce.max, "max": reduce.max, "amin": reduce.min, "min": reduce.min, "any": reduce.any, "all": reduce.all}[node.op.partition(".")[0]]
    return _over(b, f, cast(b, x, dtypes.bool_) if f in (reduce.any, reduce.all) else x, dim, keepdim)


@operator("max.dim", "min.dim", becomes="`sh.max` and `sh.argmax`, or the least")
def extreme_and_place(b: Builder, node: Node, x: Value, dim: int, keepdim: bool = False) -> tuple[Value, ...]:
    f, place = (reduce.max, reduce.argmax) if node.op == "max.dim" else (reduce.min, reduce.argmin)
    return _over(b, f, x, dim, keepdim), words.position(b, place, x, dim, keepdim, False)


@operator("argmax.default", "argmin.default", becomes="`sh.argmax`, `sh.argmin`")
def position(b: Builder, node: Node, x: Value, dim: int | None = None, keepdim: bool = False) -> Value:
    f = reduce.argmax if node.op == "argmax.default" else reduce.argmin
    if dim is not None:
        return words.position(b, f, x, dim, keepdim, False)
    found = words.position(b, f, arrange.shaped(b, x, (-1,)), 0, False, False)
    return arrange.shaped(b, found, (1,) * x.rank) if keepdim else found


@operator("var.correction", "var.dim", "std.correction", "std.dim", becomes="`sh.var`, `sh.std`")
def spread(b: Builder, node: Node, x: Value, dim: Any = None, unbiased: bool = True, keepdim: bool = False, correction: float | None = None) -> Value:
    f = reduce.var if node.op.startswith("var") else reduce.std
    return _over(b, f, x, dim, keepdim, correction=float(unbiased if correction is None else correction))


@operator("linalg_vector_norm.default", becomes="the root of a sum")
def vector_norm(b: Builder, node: Node, x: Value, ord: float | None = 2, dim: Dims = None, keepdim: bool = False, dtype: DType | None = None) -> Value:
    refuse(ord not in (None, 1, 2), f"the norm of degree {ord}; 1 and 2 are known here")
    return _over(b, words.l1 if ord == 1 else words.l2, x if dtype is None else cast(b, x, dtype), dim, keepdim)


@operator("logsumexp.default", becomes="`log(sum(exp(x)))`, stable")
def logsumexp(b: Builder, node: Node, x: Value, dim: Dims, keepdim: bool = False) -> Value:
    return _over(b, words.log_sum_exp, x, dim, keepdim)


@operator("softmax.int", "_softmax.default", "log_softmax.int", "_log_softmax.default", becomes="`nn.softmax`, `nn.log_softmax`")
def softmax(b: Builder, node: Node, x: Value, dim: int, dtype: Any = None) -> Value:
    x = x if not dtype or isinstance(dtype, bool) else cast(b, x, dtype)
    return words.along(b, F.log_softmax if "log" in node.op else F.softmax, x, dim)


@operator("cumsum.default", becomes="`sh.cumulative_sum`")
def cumsum(b: Builder, node: Node, x: Value, dim: int, dtype: DType | None = None) -> Value:
    x = cast(b, x, dtype or (x.dtype if x.dtype in dtypes.FLOATING else dtypes.int64))
    return words.along(b, words.running_sum, x, dim, exclusive=False, reverse=False)


@operator("topk.default", becomes="`sh.argsort`, `sh.take_along_axis`")
def top(b: Builder, node: Node, x: Value, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> tuple[Value, ...]:
    at = arrange.axis_of(dim, x.rank, "dim")
    refuse(not 0 <= k <= x.shape[at], f"k is {k}, the dim has {x.shape[at]} elements")
    return words.sorted_(b, x, at, k, largest)


@operator("sort.default", becomes="`sh.argsort`, `sh.take_along_axis`")
def sort(b: Builder, node: Node, x: Value, dim: int = -1, descending: bool = False) -> tuple[Value, ...]:
    return words.sorted_(b, x, dim, x.shape[arrange.axis_of(dim, x.rank, "dim")], descending)
