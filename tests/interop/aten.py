"""Small programs of PyTorch, at least one for every operator of the table, as plain functions of tensors. Needs torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
Case = tuple[nn.Module, tuple[Any, ...]]
CASES: dict[str, Callable[[], Case]] = {}


class Call(nn.Module):
    """A function as a module; ``parts`` are its weights and layers, which the function gets first."""

    def __init__(self, f: Callable[..., Any], parts: nn.Module | None = None) -> None:
        super().__init__()
        self.f, self.parts = f, parts

    def forward(self, *xs: Any) -> Any:
        return self.f(*xs) if self.parts is None else self.f(self.parts, *xs)


def case(name: str, f: Callable[..., Any], *inputs: Any, parts: nn.Module | None = None) -> None:
    assert name not in CASES, name
    CASES[name] = lambda: (Call(f, parts).eval(), inputs)


def layer(name: str, module: nn.Module, *inputs: Any) -> None:
    assert name not in CASES, name
    CASES[name] = lambda: (module.eval(), inputs)


def r(*shape: int) -> torch.Tensor:
    return torch.randn(*shape)


def pos(*shape: int) -> torch.Tensor:
    return torch.rand(*shape) + 0.5


def ints(high: int, *shape: int) -> torch.Tensor:
    return torch.randint(0, high, shape)


x = r(3, 4, 5)
for f in ("abs", "atan", "asinh", "ceil", "cos", "cosh", "erf", "exp", "expm1", "floor", "neg", "relu", "round", "sigmoid", "sign", "sin", "sinh", "square", "tan", "tanh", "trunc",
          "isnan", "isinf", "logical_not"):  # fmt: skip
    case(f, getattr(torch, f), x * 2)
for f in ("acos", "asin", "atanh"):
    case(f, getattr(torch, f), x.clamp(-0.9, 0.9))
for f in ("log", "log10", "log1p", "log2", "reciprocal", "rsqrt", "sqrt"):
    case(f, getattr(torch, f), pos(3, 4))
case("acosh", torch.acosh, pos(3, 4) + 1)
for f in ("hardsigmoid", "hardswish", "silu", "mish", "selu", "relu6", "hardtanh", "softplus", "logsigmoid", "elu", "celu", "leaky_relu", "hardshrink", "softshrink", "gelu", "glu",
          "softsign", "tanhshrink"):  # fmt: skip
    case(f"nn.{f}", (lambda g: lambda x: g(x * 4))(getattr(F, f)), r(3, 4, 6))
case("gelu tanh", lambda x: F.gelu(x, approximate="tanh"), x)
case("elu alpha", lambda x: F.elu(x, 0.5), x)
case("softplus beta", lambda x: F.softplus(x, 2.0, 5.0), x * 4)
case("threshold", lambda x: F.threshold(x, 0.3, -1.0), x)
layer("prelu", nn.PReLU(4), r(2, 4, 3, 3))
layer("prelu one", nn.PReLU(), x)
case("sqrt of integers", lambda x: torch.sqrt(x), ints(9, 3, 4))

y = r(3, 4, 5)
case("add", lambda a, b: a + b, x, y)
case("add number", lambda a: a + 2, x)
case("add integer and number", lambda a: a + 1.5, ints(9, 3, 4))
case("add alpha", lambda a, b: torch.add(a, b, alpha=3), x, y)
case("add integer to float", lambda a, b: a + b, x, ints(5, 4, 5))
case("sub", lambda a, b: a - b, x, y)
case("sub alpha", lambda a, b: torch.sub(a, b, alpha=2), x, y)
case("rsub", lambda a: 1 - a, x)
case("rsub tensors", lambda a, b: torch.rsub(a, b), x, y)
case("mul", lambda a, b: a * b * 0.5, x, r(5))
case("div", lambda a, b: a / b, x, pos(3, 4, 5))
case("div number", lambda a: a / 3, x)
case("div integers", lambda a, b: a / b, ints(9, 3, 4), ints(9, 3, 4) + 1)
case("div floor", lambda a, b: torch.div(a, b, rounding_mode="floor"), x * 9, pos(3, 4, 5))
case("div trunc", lambda a: torch.div(a, 2, rounding_mode="trunc"), ints(19, 3, 4) - 9)
case("div trunc floats", lambda a, b: torch.div(a, b, rounding_mode="trunc"), x * 9, pos(3, 4, 5))
case("floor_divide", lambda a, b: a // b, ints(19, 3, 4) - 9, ints(4, 3, 4) + 1)
case("fmod", lambda a: torch.fmod(a, 1.5), x * 4)
case("fmod tensors", torch.fmod, x * 4, pos(3, 4, 5))
case("remainder", lambda a: a % 1.5, x * 4)
case("remainder tensors", torch.remainder, ints(19, 3, 4) - 9, ints(4, 3, 4) + 1)
case("pow", lambda a: a.pow(2) + a.abs() ** 0.5 + a.pow(3), x)
case("pow negative", lambda a: a.pow(-1) + a.pow(-0.5), pos(3, 4))
case("pow tensors", torch.pow, pos(3, 4, 5), y)
case("pow of a number", lambda a: 2**a, x)
case("maximum", torch.maximum, x, y)
case("minimum", torch.minimum, x, y)
case("atan2", torch.atan2, x, y)
case("clamp", lambda a: a.clamp(-0.5, 0.7), x)
case("clamp of integers", lambda a: a.clamp(2, 5), ints(9, 3, 4))
case("clamp tensors", lambda a, b: torch.clamp(a, b, b + 1), x, y)
case("clamp_min", lambda a: torch.clamp_min(a, 0.1), x)
case("clamp_max", lambda a: torch.clamp_max(a, 0.1), x)
for f in ("eq", "ne", "lt", "le", "gt", "ge"):
    case(f, getattr(torch, f), ints(3, 3, 4), ints(3, 3, 4))
    case(f"{f} number", (lambda g: lambda a: g(a, 1))(getattr(torch, f)), ints(3, 3, 4))
for f in ("bitwise_and", "bitwise_or", "bitwise_xor"):
    case(f, getattr(torch, f), ints(9, 3, 4), ints(9, 3, 4))
    case(f"{f} number", (lambda g: lambda a: g(a, 3))(getattr(torch, f)), ints(9, 3, 4))
case("bitwise_not", torch.bitwise_not, ints(9, 3, 4))
for f in ("logical_and", "logical_or", "logical_xor"):
    case(f, getattr(torch, f), ints(2, 3, 4), ints(2, 3, 4))
case("where", lambda a, b: torch.where(a > b, a, b), x, y)
case("where number", lambda a: torch.where(a > 0, a, 0.0), x)
case("where numbers", lambda a: torch.where(a > 0, 1.0, -1.0), x)
case("where number first", lambda a: torch.where(a > 0, 0.5, a), x)
case("masked_fill", lambda a: a.masked_fill(a > 0, -1.0), x)
case("masked_fill by a tensor", lambda a: a.masked_fill(a > 0, torch.tensor(2.0)), x)
case("to", lambda a: a.to(torch.int32) + a.int(), x * 4)
case("type_as", lambda a, b: a.type_as(b) + b, ints(5, 3, 4), r(3, 4))
case("scalar_tensor", lambda a: torch.where(a > 0, a, torch.scalar_tensor(3.0)), x)
case("dropout", lambda a: F.dropout(a, 0.5, training=False) + 1, x)
case("feature dropout", lambda a: F.dropout1d(a, 0.5, training=False) + F.alpha_dropout(a, training=False), x)
case("clone", lambda a: a.clone().contiguous().detach() + 1, x)
case("alias", lambda a: torch.ops.aten.alias(a) + 1, x)
case("full", lambda a: a + torch.full((4, 5), 0.5) + torch.zeros(5) + torch.ones(5), x)
case("full_like", lambda a: torch.full_like(a, 2.0) * a + torch.ones_like(a) + torch.zeros_like(a), x)
case("new_zeros", lambda a: a + a.new_zeros(5) + a.new_ones(5), x)
case("arange", lambda a: a + torch.arange(5) + torch.arange(1, 6) + torch.arange(0, 2.5, 0.5), x)

# ------------------------------------------------------------------------------------------------ layers

image = r(2, 4, 9, 8)
layer("conv2d", nn.Conv2d(4, 6, 3, 2, 1), image)
layer("conv2d depthwise", nn.Conv2d(4, 8, 3, padding=1, groups=4, bias=False), image)
layer("conv2d groups dilation", nn.Conv2d(4, 6, (3, 2), padding=(2, 1), dilation=(2, 1), groups=2), image)
layer("conv2d same", nn.Conv2d(4, 6, 4, padding="same"), image)
layer("conv2d circular", nn.Conv2d(4, 6, 3, padding=1, padding_mode="circular"), image)
layer("conv2d of one image", nn.Conv2d(4, 6, 3), image[0])
layer("conv1d", nn.Conv1d(4, 6, 3, 2, 1), r(2, 4, 11))
layer("conv1d valid", nn.Conv1d(4, 6, 3, padding="valid", groups=2), r(2, 4, 11))
layer("conv_transpose2d", nn.ConvTranspose2d(4, 6, 3, 2, 1, output_padding=1), image)
layer("conv_transpose2d groups", nn.ConvTranspose2d(4, 6, 3, 2, groups=2, bias=False), image)
layer("conv_transpose1d", nn.ConvTranspose1d(4, 6, 4, 2, 1), r(2, 4, 9))
case("conv2d of two inputs", lambda a, w: F.conv2d(a, w, padding=1), image, r(6, 4, 3, 3))
layer("linear", nn.Linear(5, 3), x)
layer("linear without bias", nn.Linear(5, 3, bias=False), r(2, 5))
case("linear of three inputs", F.linear, x, r(3, 5), r(3))
case("mm", torch.mm, r(3, 4), r(4, 5))
case("bmm", torch.bmm, r(3, 4, 5), r(3, 5, 2))
case("matmul", torch.matmul, r(2, 3, 4, 5), r(5, 2))
case("addmm", torch.addmm, r(5), r(3, 4), r(4, 5))
case("addmm scaled", lambda b, a, c: torch.addmm(b, a, c, beta=0.5, alpha=2.0), r(3, 5), r(3, 4), r(4, 5))
case("baddbmm", torch.baddbmm, r(3, 4, 2), r(3, 4, 5), r(3, 5, 2))
case("einsum", lambda a, b: torch.einsum("bij,bjk->bik", a, b), r(3, 4, 5), r(3, 5, 2))
layer("embedding", nn.Embedding(7, 4), ints(7, 2, 5))
case("embedding of two inputs", lambda w, i: F.embedding(i, w), r(7, 4), ints(7, 2, 5))
for name, m in {"batch norm": nn.BatchNorm2d(4), "batch norm bare": nn.BatchNorm2d(4, affine=False)}.items():
    m.running_mean, m.running_var = r(4), pos(4)
    layer(name, m, image)
layer("batch norm of vectors", nn.BatchNorm1d(4), r(3, 4))
layer("layer norm", nn.LayerNorm(5), x)
layer("layer norm of two dims", nn.LayerNorm((4, 5), elementwise_affine=False), x)
layer("rms norm", nn.RMSNorm(5, eps=1e-6), x)
layer("group norm", nn.GroupNorm(2, 4), image)
layer("instance norm", nn.InstanceNorm2d(4, affine=True), image)
q, k, v = r(2, 3, 6, 4), r(2, 3, 6, 4), r(2, 3, 6, 4)
case("attention", F.scaled_dot_product_attention, q, k, v)
case("attention causal", lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.3), q, k, v)
case("attention causal, more keys", lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True), q[:, :, :4], k, v)
case("attention mask", lambda q, k, v: F.scaled_dot_product_attention(q, k, v, torch.ones(6, 6, dtype=torch.bool).tril(1)), q, k, v)
case("attention bias", lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v, m), q, k, v, r(6, 6))
case("attention grouped", lambda q, k, v: F.scaled_dot_product_attention(q, k, v, enable_gqa=True), r(2, 6, 5, 4), r(2, 3, 5, 4), r(2, 3, 5, 4))
layer("multi-head attention", nn.MultiheadAttention(8, 2, batch_first=True), r(2, 5, 8), r(2, 5, 8), r(2, 5, 8))
layer("transformer layer", nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True, activation="gelu"), r(2, 5, 8))
layer("max pool", nn.MaxPool2d(3, 2, 1), image)
layer("max pool ceil", nn.MaxPool2d(3, 2, ceil_mode=True), image)
layer("max pool 1d", nn.MaxPool1d(2), r(2, 4, 9))
layer("avg pool", nn.AvgPool2d(2), image)
layer("avg pool padded", nn.AvgPool2d(3, 2, 1), image)
layer("avg pool not counted", nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False), image)
layer("avg pool 1d", nn.AvgPool1d(3, 2), r(2, 4, 9))
layer("adaptive avg pool", nn.AdaptiveAvgPool2d(1), image)
layer("adaptive avg pool even", nn.AdaptiveAvgPool2d((3, 4)), image)
layer("adaptive avg pool uneven", nn.AdaptiveAvgPool2d((4, 3)), image)
layer("adaptive avg pool 1d", nn.AdaptiveAvgPool1d(3), r(2, 4, 10))
layer("adaptive max pool", nn.AdaptiveMaxPool2d((4, 2)), image)
layer("adaptive max pool 1d", nn.AdaptiveMaxPool1d(3), r(2, 4, 10))
for mode in ("nearest", "nearest-exact", "bilinear", "bicubic"):
    case(f"upsample {mode}", (lambda m: lambda a: F.interpolate(a, scale_factor=2, mode=m))(mode), image)
    case(f"upsample {mode} to a size", (lambda m: lambda a: F.interpolate(a, size=(7, 13), mode=m))(mode), image)
case("upsample by a fraction", lambda a: F.interpolate(a, scale_factor=1.7, mode="bilinear"), image)
case("upsample corners", lambda a: F.interpolate(a, size=(5, 12), mode="bilinear", align_corners=True), image)
case("downsample smooth", lambda a: F.interpolate(a, size=(5, 3), mode="bilinear", antialias=True), image)
case("downsample cubic smooth", lambda a: F.interpolate(a, size=(5, 3), mode="bicubic", antialias=True), image)
for mode in ("nearest", "nearest-exact", "linear"):
    case(f"upsample 1d {mode}", (lambda m: lambda a: F.interpolate(a, scale_factor=3, mode=m))(mode), r(2, 4, 5))
layer("pixel shuffle", nn.PixelShuffle(2), image)
layer("pixel unshuffle", nn.PixelUnshuffle(2), r(2, 3, 4, 6))
layer("channel shuffle", nn.ChannelShuffle(2), image)

series = r(3, 6, 4)
for name, m in {
    "lstm": nn.LSTM(4, 5, batch_first=True), "lstm two layers both ways": nn.LSTM(4, 5, 2, batch_first=True, bidirectional=True), "lstm steps first": nn.LSTM(4, 5),
    "lstm without bias": nn.LSTM(4, 5, bias=False, batch_first=True), "gru": nn.GRU(4, 5, batch_first=True), "gru two layers": nn.GRU(4, 5, 2, batch_first=True),
    "gru both ways": nn.GRU(4, 5, batch_first=True, bidirectional=True), "rnn": nn.RNN(4, 5, batch_first=True), "rnn relu two layers both ways": nn.RNN(4, 5, 2, nonlinearity="relu", bidirectional=True),
}.items():  # fmt: skip
    layer(name, m, series)
layer("gru with a state", nn.GRU(4, 5, batch_first=True), series, r(1, 3, 5))
layer("lstm with states", nn.LSTM(4, 5, batch_first=True), series, (r(1, 3, 5), r(1, 3, 5)))
layer("gru of one series", nn.GRU(4, 5), r(6, 4))
layer("lstm cell", nn.LSTMCell(4, 5), r(3, 4))
layer("gru cell", nn.GRUCell(4, 5), r(3, 4))

# ------------------------------------------------------------------------------------------------ movement

case("view", lambda a: a.view(3, 20).reshape(-1, 10), x)
case("flatten", lambda a: a.flatten(1) * a.flatten(-2).flatten(1), x)
case("unflatten", lambda a: a.unflatten(1, (2, -1)), x)
case("permute", lambda a: a.permute(2, 0, -2), x)
case("transpose", lambda a: a.transpose(-1, 1), x)
case("t", lambda a: a.t() * 2, r(3, 4))
case("T", lambda a: a.T * 2, r(3, 4))
case("movedim", lambda a: a.movedim(0, 2) * a.movedim((0, 1), (2, 0)).permute(1, 0, 2).movedim(0, 1).sum(), x)
case("squeeze", lambda a: a.squeeze() * 2, r(3, 1, 4, 1))
case("squeeze one", lambda a: a.squeeze(1) * 2, r(3, 1, 4, 1))
case("squeeze some", lambda a: a.squeeze((1, 3)) * 2, r(3, 1, 4, 1))
case("unsqueeze", lambda a: a.unsqueeze(1).unsqueeze(-1), x)
case("expand", lambda a: a.expand(3, -1, 5) + 1, r(3, 4, 1))
case("expand_as", lambda a, b: a.expand_as(b) + 1, r(3, 4, 1), x)
case("repeat", lambda a: a.repeat(2, 1, 3) + 1, x)
case("tile", lambda a: torch.tile(a, (2, 3)) + 1, x)
case("repeat_interleave", lambda a: a.repeat_interleave(2, 1), x)
case("cat", lambda a, b: torch.cat([a, b], 1), x, r(3, 2, 5))
case("stack", lambda a, b: torch.stack([a, b], -1), x, y)
case("slice", lambda a: a[:, 1:, ::2], x)
case("slice from the end", lambda a: a[:, -3:-1], x)
case("narrow", lambda a: a.narrow(1, 1, 2) + 1, x)
case("select", lambda a: a[:, 1] + a[:, -1], x)
case("unbind", lambda a: sum(a.unbind(1)), x)
case("split", lambda a: torch.split(a, 3, 2)[1], x)
case("split by sizes", lambda a: torch.split(a, [1, 3], 1), x)
case("chunk", lambda a: a.chunk(2, 1)[0] * a.chunk(2, 1)[1], x)
case("index_select", lambda a, i: a.index_select(1, i), x, ints(4, 3))
case("gather", lambda a, i: a.gather(1, i), x, ints(4, 3, 2, 5))
case("index", lambda a, i: a[:, i], x, ints(4, 2, 3) - 2)
case("index of two dims", lambda a, i, j: a[:, i, j], x, ints(4, 6), ints(5, 6) - 5)
case("flip", lambda a: a.flip(1, -1), x)
case("roll", lambda a: a.roll(2, 1), x)
case("roll two", lambda a: a.roll((1, -2), (1, 2)), x)
case("roll flat", lambda a: torch.roll(a, 3) + 1, x)
case("pad", lambda a: F.pad(a, (1, 2, -1, 1), value=0.5), x)
case("pad reflect", lambda a: F.pad(a, (2, 1), mode="reflect"), x)
case("pad reflect 2d", lambda a: F.pad(a, (2, 1, 1, 1), mode="reflect"), image)
case("pad edge", lambda a: F.pad(a, (2, 1), mode="replicate"), x)
case("pad edge 2d", lambda a: F.pad(a, (2, 1, 0, 3), mode="replicate"), image)
layer("pad by layers", nn.Sequential(nn.ReflectionPad2d(1), nn.ReplicationPad2d(1), nn.ConstantPad2d(1, 2.0), nn.ZeroPad2d(1)), image)
layer("pad by layers 1d", nn.Sequential(nn.ReflectionPad1d(1), nn.ReplicationPad1d(1)), r(2, 3, 5))
case("triangles", lambda a: a.tril() + a.triu(1), r(2, 4, 4))
case("one_hot", lambda i: F.one_hot(i, 5), ints(5, 3, 2))

# ------------------------------------------------------------------------------------------------ reductions

case("mean", lambda a: a.mean((1, 2)) + a.mean(), x)
case("mean kept", lambda a: a.mean(-1, keepdim=True), x)
case("sum", lambda a: a.sum(1) + a.sum(), x)
case("sum of integers", lambda a: a.sum(1), ints(9, 3, 4))
case("prod", lambda a: a.prod(1) + a.prod(), x)
case("amax", lambda a: a.amax((1, 2)) + a.max(), x)
case("amin", lambda a: a.amin(1) + a.min(), x)
case("max of a dim", lambda a: a.max(1), x)
case("min of a dim", lambda a: a.min(-1, keepdim=True), x)
case("any", lambda a: (a > 1).any(1) ^ (a > 2).any(), x)
case("any of dims", lambda a: torch.any(a > 1, dim=(1, 2)), x)
case("all", lambda a: (a > -1).all(1) ^ (a > -2).all(), x)
case("all of dims", lambda a: torch.all(a > -1, dim=(1, 2)), x)
case("argmax", lambda a: a.argmax(1) + a.argmax(), x)
case("argmin", lambda a: a.argmin(-1, keepdim=True), x)
case("var", lambda a: a.var(1) + a.var(-1, correction=0).mean(), x)
case("var of all", lambda a: a.var() + a.std(), x)
case("std", lambda a: a.std((1, 2), unbiased=False), x)
case("norm", lambda a: a.norm(dim=1) + torch.linalg.vector_norm(a, 1, dim=1), x)
case("norm classic", lambda a: F.normalize(a, dim=1), x)
case("logsumexp", lambda a: a.logsumexp(1), x)
case("softmax", lambda a: a.softmax(1), x)
case("softmax in another type", lambda a: F.softmax(a, -1, dtype=torch.float32), x)
case("log_softmax", lambda a: a.log_softmax(-1), x)
case("cumsum", lambda a: a.cumsum(1), x)
case("topk", lambda a: a.topk(2, 1), x)
case("sort", lambda a: a.sort(1, descending=True), x)
case("numel", lambda a: a * (a.numel() // a.shape[0]) + a.shape[0] % 2, x)


class Table(nn.Module):
    """The bias of positions as vision transformers have it: rows of a table by known places; a class token for each example."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.token = nn.Parameter(r(7, 4)), nn.Parameter(r(1, 1, 4))
        self.register_buffer("places", ints(7, 3, 3), persistent=False)

    def forward(self, x: Any) -> Any:
        return torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.table[self.places.view(-1)].view(3, 3, 4).mean(0)[:1]


layer("table and token", Table(), r(3, 5, 4))

__all__ = ["CASES", "Call"]
