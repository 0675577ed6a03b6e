"""Convolutions, linear layers, attention, normalizations, pooling, resizing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from shohin.interop.builder import Builder, Value
from shohin.interop.foreign import Node
from shohin.interop.pytorch.elements import scaled
from shohin.interop.pytorch.table import operator, refuse, sizes
from shohin.interop.words import arrange, contract, norm, pool
from shohin.interop.words.elementwise import elementwise
from shohin.nn.resize import Along
from shohin.ops import math

Pairs = tuple[tuple[int, int], ...]
Sizes = int | Sequence[int]


def _batched(b: Builder, x: Value, rank: int) -> tuple[Value, bool]:
    """An example without its dim is one of a batch of one."""
    return (arrange.unsqueeze(b, x, [0]), True) if x.rank == rank - 1 else (x, False)


def _padding(given: Any, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> Pairs:
    if given == "same":
        refuse(any(s != 1 for s in stride), "padding 'same' needs stride 1")
        total = [d * (k - 1) for k, d in zip(kernel, dilation)]
        return tuple((t // 2, t - t // 2) for t in total)
    return tuple((p, p) for p in sizes(0 if given == "valid" else given, len(kernel)))


def _conv(b: Builder, x: Value, w: Value, bias: Value | None, stride: Sizes, padding: Any, dilation: Sizes, groups: int, transposed: bool = False,
          output_padding: Sizes = 0) -> Value:  # fmt: skip
    x, single = _batched(b, x, w.rank)
    rank, kernel = w.rank - 2, w.shape[2:]
    stride, dilation = sizes(stride, rank), sizes(dilation, rank)
    y = contract.conv(
        b, x, w, bias, stride=stride, padding=_padding(padding, kernel, stride, dilation), dilation=dilation, groups=groups, transposed=transposed,
        output_padding=sizes(output_padding, rank) if transposed else (),
    )  # fmt: skip
    return arrange.squeeze(b, y, [0]) if single else y


@operator("conv1d.default", "conv1d.padding", "conv2d.default", "conv2d.padding", becomes="`nn.Conv2d`, `nn.DepthwiseConv2d`, `nn.Conv1d`")
def conv(b: Builder, node: Node, x: Value, w: Value, bias: Value | None = None, stride: Sizes = 1, padding: Any = 0, dilation: Sizes = 1, groups: int = 1) -> Value:
    return _conv(b, x, w, bias, stride, padding, dilation, groups)


@operator("conv_transpose1d.default", "conv_transpose2d.input", becomes="`nn.ConvTranspose2d`, `nn.ConvTranspose1d`")
def conv_transpose(b: Builder, node: Node, x: Value, w: Value, bias: Value | None = None, stride: Sizes = 1, padding: Any = 0, output_padding: Sizes = 0,
                   groups: int = 1, dilation: Sizes = 1) -> Value:  # fmt: skip
    return _conv(b, x, w, bias, stride, padding, dilation, groups, True, output_padding)


@operator("convolution.default", becomes="the convolution that it is")
def convolution(b: Builder, node: Node, x: Value, w: Value, bias: Value | None, stride: Sizes, padding: Any, dilation: Sizes, transposed: bool, output_padding: Sizes,
                groups: int) -> Value:  # fmt: skip
    return _conv(b, x, w, bias, stride, padding, dilation, groups, transposed, output_padding)


@operator("linear.default", becomes="`nn.Linear`; `sh.matmul` where the weights are not known")
def linear(b: Builder, node: Node, x: Value, w: Value, bias: Value | None = None) -> Value:
    if contract.known(w, bias) and x.data is None:
        return contract.linear(b, x, w, bias)
    y = contract.matmul(b, x, arrange.transpose(b, w, (1, 0)))
    return y if bias is None else elementwise(b, math.add, y, bias)


@operator("addmm.default", "baddbmm.default", becomes="`nn.Linear`, or `sh.matmul` and a sum")
def addmm(b: Builder, node: Node, bias: Value, x: Value, y: Value, beta: float = 1, alpha: float = 1) -> Value:
    if contract.known(y, bias) and y.rank == 2 and x.data is None and bias.shape == (y.shape[1],):
        return contract.linear(b, x, arrange.transpose(b, y, (1, 0)), bias, alpha=float(alpha), beta=float(beta))
    product = contract.matmul(b, x, y)
    return elementwise(b, math.add, product if alpha == 1 else scaled(b, product, alpha), bias if beta == 1 else scaled(b, bias, beta))


@operator("mm.default", "bmm.default", "matmul.default", becomes="`nn.Linear` where the right side is a known matrix, else `sh.matmul`")
def matmul(b: Builder, node: Node, x: Value, y: Value) -> Value:
    return contract.matmul(b, x, y)


@operator("embedding.default", becomes="`nn.Embedding`; `sh.take` where the table is not known")
def embedding(b: Builder, node: Node, w: Value, indices: Value, padding_idx: int = -1, scale_grad_by_freq: bool = False, sparse: bool = False) -> Value:
    return contract.embedding(b, w, indices)


@operator("scaled_dot_product_attention.default", becomes="`nn.attention`; with a mask of numbers its parts")
def attention(b: Builder, node: Node, q: Value, k: Value, v: Value, attn_mask: Value | None = None, dropout_p: float = 0.0, is_causal: bool = False,
              scale: float | None = None, enable_gqa: bool = False) -> Value:  # fmt: skip
    refuse(dropout_p > 0, "it drops out; call eval() before it is exported")
    k, v = (_heads(b, x, q) if enable_gqa else x for x in (k, v))
    return contract.attention(b, q, k, v, attn_mask, causal=is_causal, scale=scale)


def _heads(b: Builder, x: Value, q: Value) -> Value:
    """Heads of keys (n, h, s, d) that several of queries share, one for each of these."""
    n, heads, *rest = x.shape
    each = q.shape[1] // heads
    return arrange.shaped(b, arrange.expand(b, arrange.unsqueeze(b, x, [2]), (n, heads, each, *rest)), (n, heads * each, *rest)) if each > 1 else x


# ------------------------------------------------------------------------------------------- normalization


@operator("_native_batch_norm_legit_no_training.default", becomes="`nn.BatchNorm2d`, `nn.BatchNorm1d`")
def native_batch_norm(b: Builder, node: Node, x: Value, weight: Value | None, bias: Value | None, mean: Value, var: Value, momentum: float, eps: float) -> tuple[Value, ...]:
    return (norm.batch_norm(b, x, weight, bias, mean, var, eps=eps, momentum=momentum),)


@operator("layer_norm.default", becomes="`nn.LayerNorm`")
def layer_norm(b: Builder, node: Node, x: Value, shape: Sequence[int], weight: Value | None = None, bias: Value | None = None, eps: float = 1e-5,
               cudnn_enable: bool = True) -> Value:  # fmt: skip
    return norm.layer_norm(b, x, weight, bias, -len(shape), eps)


@operator("native_layer_norm.default", becomes="`nn.LayerNorm`")
def native_layer_norm(b: Builder, node: Node, x: Value, shape: Sequence[int], weight: Value | None, bias: Value | None, eps: float) -> tuple[Value, ...]:
    return (norm.layer_norm(b, x, weight, bias, -len(shape), eps),)


@operator("rms_norm.default", becomes="`nn.RMSNorm`")
def rms_norm(b: Builder, node: Node, x: Value, shape: Sequence[int], weight: Value | None = None, eps: float | None = None) -> Value:
    return norm.layer_norm(b, x, weight, None, -len(shape), float(np.finfo(np.float32).eps) if eps is None else eps, rms=True)


@operator("group_norm.default", becomes="`nn.GroupNorm`")
def group_norm(b: Builder, node: Node, x: Value, groups: int, weight: Value | None = None, bias: Value | None = None, eps: float = 1e-5, cudnn_enabled: bool = True) -> Value:
    return norm.group_norm(b, x, weight, bias, groups, eps)


@operator("native_group_norm.default", becomes="`nn.GroupNorm`")
def native_group_norm(b: Builder, node: Node, x: Value, weight: Value | None, bias: Value | None, n: int, c: int, area: int, groups: int, eps: float) -> tuple[Value, ...]:
    return (norm.group_norm(b, x, weight, bias, groups, eps),)


@operator("instance_norm.default", becomes="`nn.GroupNorm` with a group a channel")
def instance_norm(b: Builder, node: Node, x: Value, weight: Value | None, bias: Value | None, mean: Value | None, var: Value | None, use_input_stats: bool, momentum: float,
                  eps: float, cudnn_enabled: bool = True) -> Value:  # fmt: skip
    if not use_input_stats and mean is not None and var is not None:
        return norm.batch_norm(b, x, weight, bias, mean, var, eps=eps, momentum=momentum)
    return norm.group_norm(b, x, weight, bias, x.shape[1], eps)


# ------------------------------------------------------------------------------------------------- pooling


def _pool(b: Builder, node: Node, kind: str, x: Value, kernel: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes, ceil: bool, counts_padding: bool = False) -> Value:
    rank = 1 if "1d" in node.op else 2
    x, single = _batched(b, x, rank + 2)
    kernel = sizes(kernel, rank)
    pairs = tuple((p, p) for p in sizes(padding, rank))
    stride = sizes(stride, rank) if stride else kernel
    y = pool.pool(b, x, kind, kernel=kernel, stride=stride, padding=pairs, dilation=sizes(dilation, rank), ceil=ceil, counts_padding=counts_padding)
    return arrange.squeeze(b, y, [0]) if single else y


@operator("max_pool1d.default", "max_pool2d.default", becomes="`sh.max_pool2d`")
def max_pool(b: Builder, node: Node, x: Value, kernel: Sizes, stride: Sizes = (), padding: Sizes = 0, dilation: Sizes = 1, ceil_mode: bool = False) -> Value:
    return _pool(b, node, "max", x, kernel, stride, padding, dilation, ceil_mode)


@operator("max_pool2d_with_indices.default", becomes="`sh.max_pool2d`; the positions have no counterpart")
def max_pool_with_indices(b: Builder, node: Node, x: Value, kernel: Sizes, stride: Sizes = (), padding: Sizes = 0, dilation: Sizes = 1,
                          ceil_mode: bool = False) -> tuple[Value, ...]:  # fmt: skip
    return (_pool(b, node, "max", x, kernel, stride, padding, dilation, ceil_mode),)


@operator("avg_pool1d.default", "avg_pool2d.default", becomes="`sh.avg_pool2d`, with whatever padding it needs")
def avg_pool(b: Builder, node: Node, x: Value, kernel: Sizes, stride: Sizes = (), padding: Sizes = 0, ceil_mode: bool = False, count_include_pad: bool = True,
             divisor_override: int | None = None) -> Value:  # fmt: skip
    refuse(divisor_override is not None, f"divisor_override is {divisor_override}")
    return _pool(b, node, "mean", x, kernel, stride, padding, 1, ceil_mode, count_include_pad)


@operator("adaptive_avg_pool1d.default", "adaptive_avg_pool2d.default", "_adaptive_avg_pool2d.default",
          becomes="`sh.mean`, `sh.avg_pool2d`, or means of parts where these are not of one size")  # fmt: skip
def adaptive_avg_pool(b: Builder, node: Node, x: Value, size: Sequence[int | None]) -> Value:
    return pool.adaptive(b, x, "mean", size)


@operator("adaptive_max_pool1d.default", "adaptive_max_pool2d.default", becomes="`sh.max`, `sh.max_pool2d`; the positions have no counterpart")
def adaptive_max_pool(b: Builder, node: Node, x: Value, size: Sequence[int | None]) -> tuple[Value, ...]:
    return (pool.adaptive(b, x, "max", size),)


# ------------------------------------------------------------------------------------------------ resizing


def _resized(b: Builder, x: Value, size: Sequence[int] | None, scales: Sequence[float | None] | None, **attrs: Any) -> Value:
    rank = x.rank - 2
    by = list(scales) if scales else [None] * rank
    goals = list(size) if size is not None else [int(n * float(s or 1)) for n, s in zip(x.shape[2:], by)]
    to = {d + 2: Along(size=int(n), scale=s if s else None) for d, (n, s) in enumerate(zip(goals, by)) if n != x.shape[d + 2] or s not in (None, 1.0)}
    return pool.resized(b, x, to, **attrs)


@operator("upsample_nearest1d.vec", "upsample_nearest2d.vec", "_upsample_nearest_exact1d.vec", "_upsample_nearest_exact2d.vec", becomes="`nn.resize`")
def upsample_nearest(b: Builder, node: Node, x: Value, output_size: Any, scale_factors: Any) -> Value:
    """``floor(i / scale)``, or of the centres where it is exact."""
    exact = "exact" in node.op
    return _resized(b, x, output_size, scale_factors, mode="nearest", coordinates="half_pixel" if exact else "asymmetric", nearest="round_prefer_ceil" if exact else "floor")


@operator("upsample_linear1d.vec", "upsample_bilinear2d.vec", "upsample_bicubic2d.vec", "_upsample_bilinear2d_aa.vec", "_upsample_bicubic2d_aa.vec", becomes="`nn.resize`")
def upsample(b: Builder, node: Node, x: Value, output_size: Any, align_corners: bool, scale_factors: Any) -> Value:
    smooth, antialias = "cubic" in node.op, "_aa" in node.op
    return _resized(
        b, x, output_size, scale_factors, mode="cubic" if smooth else "linear", coordinates="align_corners" if align_corners else "half_pixel",
        cubic=-0.5 if antialias else -0.75, antialias=antialias, outside="skip" if antialias else "edge",
    )  # fmt: skip


@operator("pixel_shuffle.default", becomes="`sh.reshape`, one turn of dims")
def pixel_shuffle(b: Builder, node: Node, x: Value, upscale_factor: int) -> Value:
    return arrange.depth_to_space(b, x, upscale_factor, True)


@operator("pixel_unshuffle.default", becomes="`sh.reshape`, one turn of dims")
def pixel_unshuffle(b: Builder, node: Node, x: Value, downscale_factor: int) -> Value:
    return arrange.space_to_depth(b, x, downscale_factor, True)
