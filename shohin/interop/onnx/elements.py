"""Operators of elements."""

from __future__ import annotations

from typing import Any

import numpy as np

from shohin.core import dtypes
from shohin.interop.builder import Builder, Value, constant
from shohin.interop.foreign import Node
from shohin.interop.onnx.table import attr, dtype_of, needed, operator, refuse
from shohin.interop.words import activations, contract, moments, norm
from shohin.interop.words import elementwise as words
from shohin.nn import functional as F
from shohin.ops import extra, math
from shohin.ops.quotient import divide_no_nan

UNARY = {
    "Abs": math.abs, "Acos": extra.acos, "Acosh": extra.acosh, "Asin": extra.asin, "Asinh": extra.asinh, "Atan": extra.atan,
    "Atanh": extra.atanh, "BitwiseNot": math.bitwise_invert, "Ceil": math.ceil, "Cos": math.cos, "Cosh": extra.cosh, "Erf": math.erf, "Exp": math.exp,
    "Floor": math.floor, "IsNaN": math.isnan, "Log": math.log, "Neg": math.negative, "Not": math.logical_not,
    "Reciprocal": math.reciprocal, "Relu": math.relu, "Round": math.round, "Sigmoid": math.sigmoid, "Sign": math.sign, "Sin": math.sin,
    "Sinh": extra.sinh, "Sqrt": math.sqrt, "Tan": extra.tan, "Tanh": math.tanh,
}  # fmt: skip
BINARY = {
    "And": math.logical_and, "BitwiseAnd": math.bitwise_and, "BitwiseOr": math.bitwise_or, "BitwiseXor": math.bitwise_xor, "Equal": math.equal,
    "Greater": math.greater, "GreaterOrEqual": math.greater_equal, "Less": math.less, "LessOrEqual": math.less_equal, "Or": math.logical_or,
    "Sub": math.subtract, "Xor": math.logical_xor,
}  # fmt: skip


def _name(f: Any) -> str:
    own = getattr(f, "__name__", None) or f.op.name
    return f"`sh.{own}`"


def _declare() -> None:
    for name, f in UNARY.items():
        operator(name, becomes=_name(f))(lambda b, node, x, f=f: words.elementwise(b, f, x))
    for name, f in BINARY.items():
        operator(name, becomes=_name(f))(lambda b, node, x, y, f=f: words.elementwise(b, f, x, y))


_declare()


@operator("Add", becomes="`sh.add`; a vector after a layer without bias: its bias")
def add(b: Builder, node: Node, x: Value, y: Value) -> Value:
    return contract.add(b, x, y, *(b.sole(n) for n in node.inputs))


@operator("Mul", becomes="`sh.multiply`; a vector after a normalization without weight: its weight; the last product of a layer norm that is spelled out: `nn.LayerNorm`")
def multiply(b: Builder, node: Node, x: Value, y: Value) -> Value:
    return moments.normed(b, x, y) or contract.multiply(b, x, y, *(b.sole(n) for n in node.inputs))


@operator("Div", becomes="`sh.divide`; of integers towards zero; the quotient of a layer norm that is spelled out: `nn.LayerNorm`")
def divide(b: Builder, node: Node, x: Value, y: Value) -> Value:
    return norm.divide(b, x, y) if x.dtype in dtypes.FLOATING else words.elementwise(b, _toward_zero, x, y)


def _toward_zero(x: Any, y: Any) -> Any:
    if x.dtype in (dtypes.uint8, dtypes.uint16, dtypes.uint32, dtypes.uint64):
        return math.floor_divide(x, y)
    return math.sign(x) * math.sign(y) * math.floor_divide(math.abs(x), math.abs(y))


@operator("Mod", becomes="`sh.remainder`, or with the sign of the dividend (fmod)")
def mod(b: Builder, node: Node, x: Value, y: Value) -> Value:
    return words.elementwise(b, _fmod if attr(node, "fmod", 0) else math.remainder, x, y)


def _fmod(x: Any, y: Any) -> Any:
    if x.dtype in dtypes.FLOATING:
        return x - y * math.trunc(x / y)
    return x - y * _toward_zero(x, y)


@operator("Pow", becomes="`sh.pow`, `sh.square`, `sh.sqrt`")
def power(b: Builder, node: Node, x: Value, y: Value) -> Value:
    if y.data is not None and y.size == 1 and y.rank <= x.rank and float(y.data.reshape(())) in (2.0, 0.5) and (x.dtype in dtypes.FLOATING or float(y.data.reshape(())) == 2):
        return words.elementwise(b, math.square if float(y.data.reshape(())) == 2 else math.sqrt, x)
    if x.dtype in dtypes.FLOATING and y.dtype != x.dtype:
        y = words.cast(b, y, x.dtype)
    elif y.dtype != x.dtype:
        both = np.promote_types(x.dtype, y.dtype)
        return words.cast(b, words.elementwise(b, math.pow, words.cast(b, x, both), words.cast(b, y, both)), x.dtype)
    return words.elementwise(b, math.pow, x, y)


@operator("BitShift", becomes="`sh.bitwise_left_shift`, `sh.bitwise_right_shift`")
def shift(b: Builder, node: Node, x: Value, y: Value) -> Value:
    left = needed(node, "direction") == "LEFT"
    return words.elementwise(b, math.bitwise_left_shift if left else math.bitwise_right_shift, x, y)


@operator("Max", "Min", "Sum", becomes="`sh.maximum`, `sh.minimum`, `sh.add`, one after another")
def several(b: Builder, node: Node, *xs: Value) -> Value:
    return words.chain(b, {"Max": math.maximum, "Min": math.minimum, "Sum": math.add}[node.op], *xs)


@operator("Mean", becomes="`sh.add`, then the mean")
def mean(b: Builder, node: Node, *xs: Value) -> Value:
    total = words.chain(b, math.add, *xs)
    return words.elementwise(b, math.divide, total, constant(np.asarray(len(xs), total.dtype)))


@operator("Where", becomes="`sh.where`; 0 where a divisor is 0, else the quotient: one function")
def where(b: Builder, node: Node, c: Value, x: Value, y: Value) -> Value:
    sides = words.quotient(b, c, y) if x.data is not None and not x.data.any() else None
    return words.elementwise(b, math.where, c, x, y) if sides is None else words.elementwise(b, divide_no_nan, *sides)


@operator("Clip", becomes="`sh.relu`, `sh.relu6`, `sh.clip`")
def clip(b: Builder, node: Node, x: Value, low: Value | None = None, high: Value | None = None) -> Value:
    if b.version < 11:
        bounds = [node.attrs.get(k) for k in ("min", "max")]
        low, high = (None if v is None else constant(np.asarray(v, x.dtype)) for v in bounds)
    if all(v is None or v.data is not None for v in (low, high)):
        return words.clip(b, x, low, high)
    y = x if low is None else words.elementwise(b, math.maximum, x, low)
    return y if high is None else words.elementwise(b, math.minimum, y, high)


@operator("Cast", "CastLike", becomes="`sh.astype`")
def cast(b: Builder, node: Node, x: Value, like: Value | None = None) -> Value:
    to = like.dtype if like is not None else dtype_of(needed(node, "to"))
    if x.data is not None and x.dtype in dtypes.FLOATING and to in dtypes.INTEGER and to not in (dtypes.int4, dtypes.uint4):
        with np.errstate(invalid="ignore"):
            return constant(x.data.astype(to))
    return words.cast(b, x, to)


@operator("IsInf", becomes="`sh.isinf`")
def isinf(b: Builder, node: Node, x: Value) -> Value:
    return words.elementwise(b, _isinf, x, negative=bool(attr(node, "detect_negative", 1)), positive=bool(attr(node, "detect_positive", 1)))


def _isinf(x: Any, negative: bool, positive: bool) -> Any:
    found = math.equal(x, x) & False
    if positive:
        found = found | math.equal(x, float("inf"))
    return found | math.equal(x, -float("inf")) if negative else found


# ---------------------------------------------------------------------------------------------- activations


@operator("Elu", becomes="`nn.elu`")
def elu(b: Builder, node: Node, x: Value) -> Value:
    return words.elementwise(b, F.elu, x, alpha=attr(node, "alpha", 1.0))


@operator("LeakyRelu", becomes="`nn.leaky_relu`")
def leaky_relu(b: Builder, node: Node, x: Value) -> Value:
    return words.elementwise(b, F.leaky_relu, x, negative_slope=attr(node, "alpha", 0.01))


@operator("Gelu", becomes="`nn.gelu`")
def gelu(b: Builder, node: Node, x: Value) -> Value:
    return words.elementwise(b, F.gelu, x, approximate=attr(node, "approximate", "none"))


@operator("HardSigmoid", becomes="`nn.hardsigmoid`, or `sh.clip` of a line")
def hard_sigmoid(b: Builder, node: Node, x: Value) -> Value:
    return words.hard_sigmoid(b, x, attr(node, "alpha", 0.2), attr(node, "beta", 0.5))


@operator("HardSwish", becomes="`nn.hardswish`")
def hard_swish(b: Builder, node: Node, x: Value) -> Value:
    return words.elementwise(b, F.hardswish, x)


@operator("Swish", becomes="`nn.silu`, or a product with `sh.sigmoid`")
def swish(b: Builder, node: Node, x: Value) -> Value:
    alpha = attr(node, "alpha", 1.0)
    return words.elementwise(b, F.silu, x) if alpha == 1 else words.elementwise(b, _swish, x, alpha=alpha)


def _swish(x: Any, alpha: float) -> Any:
    return x * math.sigmoid(x * alpha)


@operator("Softplus", becomes="`log(1 + exp(x))`")
def softplus(b: Builder, node: Node, x: Value) -> Value:
    return words.elementwise(b, activations.softplus, x)


@operator("Softsign", becomes="`x / (1 + abs(x))`")
def softsign(b: Builder, node: Node, x: Value) -> Value:
    return words.elementwise(b, activations.softsign, x)


@operator("Mish", becomes="`x tanh(softplus(x))`")
def mish(b: Builder, node: Node, x: Value) -> Value:
    return words.elementwise(b, activations.mish, x)


@operator("Celu", becomes="`nn.elu`, scaled")
def celu(b: Builder, node: Node, x: Value) -> Value:
    return words.elementwise(b, activations.celu, x, alpha=attr(node, "alpha", 1.0))


@operator("Selu", becomes="`nn.elu`, scaled")
def selu(b: Builder, node: Node, x: Value) -> Value:
    return words.elementwise(b, activations.selu, x, alpha=attr(node, "alpha", 1.67326319217681884765625), gamma=attr(node, "gamma", 1.05070102214813232421875))


@operator("ThresholdedRelu", becomes="`sh.where`")
def thresholded_relu(b: Builder, node: Node, x: Value) -> Value:
    return words.elementwise(b, activations.thresholded, x, alpha=attr(node, "alpha", 1.0))


@operator("Shrink", becomes="`sh.where`")
def shrink(b: Builder, node: Node, x: Value) -> Value:
    return words.elementwise(b, activations.shrink, x, lambd=attr(node, "lambd", 0.5), bias=attr(node, "bias", 0.0))


@operator("PRelu", becomes="`sh.where`, the slope a Param")
def prelu(b: Builder, node: Node, x: Value, slope: Value) -> Value:
    return words.elementwise(b, activations.prelu, x, slope)


@operator("Identity", becomes="nothing")
def identity(b: Builder, node: Node, x: Value) -> Value:
    return x


@operator("Dropout", becomes="nothing")
def dropout(b: Builder, node: Node, x: Value, ratio: Value | None = None, training: Value | None = None) -> Value | tuple[Value, ...]:
    refuse(training is not None and bool(b.number(training, "training_mode")), "training_mode is on; export it for inference")
    if len(node.outputs) < 2:
        return x
    return x, words.elementwise(b, _kept, x)


def _kept(x: Any) -> Any:
    return math.equal(x, x) | True

