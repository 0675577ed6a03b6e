"""Operators of elements."""

from __future__ import annotations

from typing import Any

import numpy as np

from shohin.core import dtypes
from shohin.interop.builder import Builder, Value, constant
from shohin.interop.foreign import Node
from shohin.interop.pytorch.table import common_dtype, once, operator, refuse, together, valued
from shohin.interop.words import activations, arrange, contract, norm
from shohin.interop.words import elementwise as words
from shohin.nn import functional as F
from shohin.ops import extra, math

UNARY = {
    "abs": math.abs, "bitwise_not": math.bitwise_invert, "ceil": math.ceil, "floor": math.floor, "hardsigmoid": F.hardsigmoid, "hardswish": F.hardswish,
    "isinf": extra.isinf, "isnan": math.isnan, "mish": activations.mish, "neg": math.negative, "relu": math.relu,
    "relu6": math.relu6, "round": math.round, "selu": activations.selu, "sign": math.sign, "silu": F.silu, "square": math.square, "trunc": math.trunc,
}  # fmt: skip
FLOATS = {
    "acos": extra.acos, "acosh": extra.acosh, "asin": extra.asin, "asinh": extra.asinh, "atan": extra.atan, "atanh": extra.atanh, "cos": math.cos,
    "cosh": extra.cosh, "erf": math.erf, "exp": math.exp, "expm1": math.expm1, "log": math.log, "log10": extra.log10, "log1p": math.log1p,
    "log2": extra.log2, "reciprocal": math.reciprocal, "sigmoid": math.sigmoid, "sin": math.sin, "sinh": extra.sinh, "sqrt": math.sqrt,
    "tan": extra.tan, "tanh": math.tanh,
}  # fmt: skip
"""Their results are floats."""
BINARY = {
    "bitwise_and": math.bitwise_and, "bitwise_or": math.bitwise_or, "bitwise_xor": math.bitwise_xor, "eq": math.equal, "ge": math.greater_equal,
    "gt": math.greater, "le": math.less_equal, "lt": math.less, "ne": math.not_equal, "remainder": math.remainder,
}  # fmt: skip


def name_of(f: Any) -> str:
    own = getattr(f, "__name__", None) or f.op.name
    return f"`{'nn' if getattr(f, '__module__', '') == F.__name__ else 'sh'}.{own.strip('_')}`"


def _declare() -> None:
    for name, f in UNARY.items():
        operator(f"{name}.default", becomes=name_of(f))(lambda b, node, x, f=f: words.elementwise(b, f, x))
    for name, f in FLOATS.items():
        operator(f"{name}.default", becomes=name_of(f))(lambda b, node, x, f=f: words.elementwise(b, f, *together(b, x, floating=True)))
    for name, f in BINARY.items():
        operator(f"{name}.Tensor", f"{name}.Scalar", becomes=name_of(f))(lambda b, node, x, y, f=f: words.elementwise(b, f, *together(b, x, y)))
    for name, f in {"maximum": math.maximum, "minimum": math.minimum, "atan2": math.atan2}.items():
        operator(f"{name}.default", becomes=name_of(f))(lambda b, node, x, y, f=f: words.elementwise(b, f, *together(b, x, y)))
    operator("logical_not.default", becomes=name_of(math.logical_not))(lambda b, node, x: words.elementwise(b, math.logical_not, words.cast(b, x, dtypes.bool_)))
    for name, f in {"logical_and": math.logical_and, "logical_or": math.logical_or, "logical_xor": math.logical_xor}.items():
        operator(f"{name}.default", becomes=name_of(f))(lambda b, node, x, y, f=f: words.elementwise(b, f, *(words.cast(b, v, dtypes.bool_) for v in (x, y))))


_declare()


@operator("add.Tensor", "add.Scalar", becomes="`sh.add`; a vector after a layer without bias: its bias")
def add(b: Builder, node: Node, x: Any, y: Any, alpha: float = 1) -> Value:
    if alpha != 1:
        y = scaled(b, y, alpha)
    p, q = together(b, x, y)
    return contract.add(b, p, q, once(b, node, x), once(b, node, y))


def scaled(b: Builder, x: Any, by: float) -> Any:
    return words.elementwise(b, math.multiply, *together(b, x, by)) if isinstance(x, Value) else x * by


@operator("sub.Tensor", becomes="`sh.subtract`")
def sub(b: Builder, node: Node, x: Any, y: Any, alpha: float = 1) -> Value:
    return words.elementwise(b, math.subtract, *together(b, x, scaled(b, y, alpha) if alpha != 1 else y))


@operator("rsub.Tensor", "rsub.Scalar", becomes="`sh.subtract`")
def rsub(b: Builder, node: Node, x: Any, y: Any, alpha: float = 1) -> Value:
    return sub(b, node, y, x, alpha)


@operator("mul.Tensor", "mul.Scalar", becomes="`sh.multiply`; a vector after a normalization without weight: its weight")
def mul(b: Builder, node: Node, x: Any, y: Any) -> Value:
    p, q = together(b, x, y)
    return contract.multiply(b, p, q, once(b, node, x), once(b, node, y))


@operator("div.Tensor", "div.Tensor_mode", "floor_divide.default",
          becomes="`sh.divide`, `sh.floor_divide`; the quotient of a layer norm that is spelled out: `nn.LayerNorm`")  # fmt: skip
def div(b: Builder, node: Node, x: Any, y: Any, rounding_mode: str | None = None) -> Value:
    if node.op == "floor_divide.default":
        rounding_mode = "floor"
    p, q = together(b, x, y, floating=rounding_mode is None)
    if rounding_mode is None:
        return norm.divide(b, p, q)
    return words.elementwise(b, math.floor_divide if rounding_mode == "floor" else _toward_zero, p, q)


def _toward_zero(x: Any, y: Any) -> Any:
    if x.dtype in dtypes.FLOATING:
        return math.trunc(x / y)
    return math.sign(x) * math.sign(y) * math.floor_divide(math.abs(x), math.abs(y))


@operator("fmod.Tensor", "fmod.Scalar", becomes="the remainder with the sign of the dividend")
def fmod(b: Builder, node: Node, x: Any, y: Any) -> Value:
    return words.elementwise(b, _fmod, *together(b, x, y))


def _fmod(x: Any, y: Any) -> Any:
    return x - y * _toward_zero(x, y)


@operator("pow.Tensor_Scalar", "pow.Tensor_Tensor", "pow.Scalar", becomes="`sh.pow`, `sh.square`, `sh.sqrt`, `sh.reciprocal`")
def power(b: Builder, node: Node, x: Any, y: Any) -> Value:
    floats = common_dtype(x, y) in dtypes.FLOATING
    known = {2: math.square, **({0.5: math.sqrt, -0.5: _rsqrt, -1: math.reciprocal} if floats else {})}.get(y) if not isinstance(y, Value) else None
    p, q = together(b, x, y)
    return words.elementwise(b, math.pow, p, q) if known is None else words.elementwise(b, known, p)


@operator("rsqrt.default", becomes="`1 / sh.sqrt`")
def rsqrt(b: Builder, node: Node, x: Value) -> Value:
    return words.elementwise(b, _rsqrt, *together(b, x, floating=True))


def _rsqrt(x: Any) -> Any:
    return math.reciprocal(math.sqrt(x))


@operator("clamp.default", "clamp.Tensor", "clamp_min.default", "clamp_max.default", "hardtanh.default", becomes="`sh.relu`, `sh.relu6`, `sh.clip`")
def clamp(b: Builder, node: Node, x: Value, *bounds: Any, min: Any = None, max: Any = None, min_val: Any = None, max_val: Any = None) -> Value:
    low, high = (*bounds, None, None)[:2]
    low, high = next((v for v in (low, min, min_val) if v is not None), None), next((v for v in (high, max, max_val) if v is not None), None)
    if node.op == "hardtanh.default":
        low, high = -1.0 if low is None else low, 1.0 if high is None else high
    if node.op == "clamp_max.default":
        low, high = None, low if high is None else high
    given = [v for v in (low, high) if v is not None]
    x, *_ = together(b, x, *given)
    low, high = (None if v is None else words.cast(b, v, x.dtype) if isinstance(v, Value) else valued(v, x.dtype) for v in (low, high))
    if all(v is None or (v.data is not None and v.size == 1) for v in (low, high)):
        return words.clip(b, x, low, high)
    x = x if low is None else words.elementwise(b, math.maximum, x, low)
    return x if high is None else words.elementwise(b, math.minimum, x, high)


@operator("where.self", "where.ScalarOther", "where.ScalarSelf", "where.Scalar", becomes="`sh.where`")
def where(b: Builder, node: Node, c: Value, x: Any, y: Any) -> Value:
    return words.elementwise(b, math.where, words.cast(b, c, dtypes.bool_), *together(b, x, y))


@operator("masked_fill.Scalar", "masked_fill.Tensor", becomes="`sh.where`")
def masked_fill(b: Builder, node: Node, x: Value, mask: Value, value: Any) -> Value:
    v = words.cast(b, value, x.dtype) if isinstance(value, Value) else valued(value, x.dtype)
    return words.elementwise(b, math.where, mask, v, x)


@operator("_to_copy.default", "type_as.default", becomes="`sh.astype`")
def to(b: Builder, node: Node, x: Value, like: Value | None = None, dtype: Any = None) -> Value:
    wanted = like.dtype if like is not None else dtype
    return x if wanted is None else words.cast(b, x, wanted)


@operator("scalar_tensor.default", becomes="a constant")
def scalar_tensor(b: Builder, node: Node, s: Any, dtype: Any = dtypes.float32) -> Value:
    return valued(s, dtype)


@operator("alias.default", "clone.default", "detach.default", becomes="nothing")
def identity(b: Builder, node: Node, x: Value) -> Value:
    return x


# ---------------------------------------------------------------------------------------------- activations


@operator("gelu.default", becomes="`nn.gelu`")
def gelu(b: Builder, node: Node, x: Value, approximate: str = "none") -> Value:
    return words.elementwise(b, F.gelu, x, approximate=approximate)


@operator("elu.default", becomes="`nn.elu`, scaled if it must be")
def elu(b: Builder, node: Node, x: Value, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0) -> Value:
    refuse(input_scale != 1, f"input_scale is {input_scale}")
    return words.elementwise(b, F.elu, x, alpha=float(alpha)) if scale == 1 else words.elementwise(b, activations.selu, x, alpha=alpha, gamma=scale)


@operator("celu.default", becomes="`nn.elu`, scaled")
def celu(b: Builder, node: Node, x: Value, alpha: float = 1.0) -> Value:
    return words.elementwise(b, activations.celu, x, alpha=float(alpha))


@operator("leaky_relu.default", becomes="`nn.leaky_relu`")
def leaky_relu(b: Builder, node: Node, x: Value, negative_slope: float = 0.01) -> Value:
    return words.elementwise(b, F.leaky_relu, x, negative_slope=float(negative_slope))


@operator("softplus.default", becomes="`log(1 + exp(beta x)) / beta`")
def softplus(b: Builder, node: Node, x: Value, beta: float = 1, threshold: float = 20) -> Value:
    return words.elementwise(b, activations.softplus, x) if beta == 1 and threshold == 20 else words.elementwise(b, _softplus, x, beta=beta, threshold=threshold)


def _softplus(x: Any, beta: float, threshold: float) -> Any:
    return math.where(math.greater(x * beta, threshold), x, activations.softplus(x * beta) / beta)


@operator("log_sigmoid.default", becomes="`-log(1 + exp(-x))`")
def log_sigmoid(b: Builder, node: Node, x: Value) -> Value:
    return words.elementwise(b, _log_sigmoid, x)


def _log_sigmoid(x: Any) -> Any:
    return -activations.softplus(-x)


@operator("threshold.default", becomes="`sh.where`")
def threshold(b: Builder, node: Node, x: Value, threshold: float, value: float) -> Value:
    return words.elementwise(b, _threshold, x, threshold=threshold, value=value)


def _threshold(x: Any, threshold: float, value: float) -> Any:
    return math.where(math.greater(x, threshold), x, value)


@operator("prelu.default", becomes="`sh.where`, the slope a Param")
def prelu(b: Builder, node: Node, x: Value, slope: Value) -> Value:
    lies = arrange.shaped(b, slope, (1, -1, *(1,) * (x.rank - 2))) if slope.rank == 1 and x.rank > 1 else slope
    return words.elementwise(b, activations.prelu, x, lies)


@operator("glu.default", becomes="a half times `sh.sigmoid` of the other")
def glu(b: Builder, node: Node, x: Value, dim: int = -1) -> Value:
    at = arrange.axis_of(dim, x.rank, "dim")
    one, other = arrange.split(b, x, at, (x.shape[at] // 2,) * 2)
    return words.elementwise(b, math.multiply, one, words.elementwise(b, math.sigmoid, other))


# ---------------------------------------------------------------------------------------------- constants


@operator("full.default", "full_like.default", becomes="a constant")
def full(b: Builder, node: Node, size: Any, fill_value: Any, dtype: Any = None) -> Value:
    wanted = dtype if dtype is not None else size.dtype if isinstance(size, Value) else common_dtype(fill_value)
    return arrange.expand(b, valued(fill_value, wanted), size.shape if isinstance(size, Value) else size)


@operator("zeros.default", "ones.default", "zeros_like.default", "ones_like.default", "new_zeros.default", "new_ones.default", becomes="a constant")
def filled(b: Builder, node: Node, x: Any, size: Any = None, dtype: Any = None) -> Value:
    wanted = dtype if dtype is not None else x.dtype if isinstance(x, Value) else dtypes.float32
    shape = size if size is not None else x.shape if isinstance(x, Value) else x
    return arrange.expand(b, valued(1 if "ones" in node.op else 0, wanted), shape)


@operator("arange.default", "arange.start", "arange.start_step", becomes="a constant")
def arange(b: Builder, node: Node, *given: Any, dtype: Any = None) -> Value:
    start, end, step = {1: (0, *given, 1), 2: (*given, 1), 3: given}[len(given)]
    refuse(step == 0 or abs((end - start) / step) > 1 << 24, f"{start} to {end} by {step} is out of range")
    wanted = dtype if dtype is not None else common_dtype(start, end, step)
    return constant(np.arange(start, end, step).astype(wanted))
