"""Convolutions, linear layers, normalizations, pooling, resizing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from shohin.core.errors import ForeignError
from shohin.interop import layout
from shohin.interop.builder import Builder, Value, constant
from shohin.interop.foreign import Node
from shohin.interop.onnx.table import attr, needed, operator, refuse
from shohin.interop.words import arrange, contract, norm, pool
from shohin.interop.words import reduce as reductions
from shohin.interop.words.elementwise import elementwise
from shohin.nn.resize import Along
from shohin.ops import math, move

Pairs = tuple[tuple[int, int], ...]


def spatial(node: Node, x: Value, kernel: Sequence[int]) -> tuple[tuple[int, ...], Pairs, tuple[int, ...]]:
    """Strides, padding as pairs and dilations of a windowed operator on x (n, c, ...)."""
    rank = x.rank - 2
    stride, dilation = attr(node, "strides", (1,) * rank), attr(node, "dilations", (1,) * rank)
    pads, auto = attr(node, "pads", (0,) * 2 * rank), attr(node, "auto_pad", "NOTSET")
    refuse(not rank == len(stride) == len(dilation) == len(kernel) or len(pads) != 2 * rank,
           f"strides {stride}, dilations {dilation}, pads {pads}, kernel {tuple(kernel)} do not fit x {x.shape}")  # fmt: skip
    refuse(min((*stride, *dilation, *kernel)) < 1 or min(pads, default=0) < 0, f"strides {stride}, dilations {dilation}, kernel {tuple(kernel)} or pads {pads} out of range")
    if auto in ("NOTSET", "VALID"):
        return stride, tuple(zip(pads[:rank], pads[rank:])) if auto == "NOTSET" else ((0, 0),) * rank, dilation
    refuse(auto not in ("SAME_UPPER", "SAME_LOWER"), f"auto_pad is {auto!r}")
    total = [max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0) for n, k, s, d in zip(x.shape[2:], kernel, stride, dilation)]
    pairs = tuple((t // 2, t - t // 2) if auto == "SAME_UPPER" else (t - t // 2, t // 2) for t in total)
    return stride, pairs, dilation


@operator("Conv", becomes="`nn.Conv2d`, `nn.DepthwiseConv2d`, `nn.Conv1d`")
def conv(b: Builder, node: Node, x: Value, w: Value, bias: Value | None = None) -> Value:
    refuse(w.rank != x.rank or x.rank < 3, f"x {x.shape} and w {w.shape} do not fit")
    stride, padding, dilation = spatial(node, x, w.shape[2:])
    return contract.conv(b, x, w, bias, stride=stride, padding=padding, dilation=dilation, groups=attr(node, "group", 1))


@operator("ConvTranspose", becomes="`nn.ConvTranspose2d`, `nn.ConvTranspose1d`")
def conv_transpose(b: Builder, node: Node, x: Value, w: Value, bias: Value | None = None) -> Value:
    refuse(w.rank != x.rank or x.rank < 3, f"x {x.shape} and w {w.shape} do not fit")
    rank, kernel = x.rank - 2, w.shape[2:]
    auto = attr(node, "auto_pad", "NOTSET")
    plain = Node(op=node.op, inputs=node.inputs, outputs=node.outputs, place=node.place, attrs={k: v for k, v in node.attrs.items() if k != "auto_pad"})
    stride, padding, dilation = spatial(plain, x, kernel)
    extra = attr(node, "output_padding", (0,) * rank)
    full = [s * (n - 1) + e + (k - 1) * d + 1 for n, s, e, k, d in zip(x.shape[2:], stride, extra, kernel, dilation)]
    wanted = node.attrs.get("output_shape")
    if wanted is None and auto in ("SAME_UPPER", "SAME_LOWER"):
        wanted = tuple(n * s for n, s in zip(x.shape[2:], stride))
    if wanted is not None:
        total = [f - n for f, n in zip(full, wanted[-rank:])]
        extra = tuple(e + max(-t, 0) for e, t in zip(extra, total))
        total = [max(t, 0) for t in total]
        padding = tuple((t // 2, t - t // 2) if auto == "SAME_UPPER" else (t - t // 2, t // 2) for t in total)
    return contract.conv(b, x, w, bias, stride=stride, padding=padding, dilation=dilation, groups=attr(node, "group", 1), transposed=True, output_padding=extra)


@operator("Gemm", becomes="`nn.Linear`, or `sh.matmul`")
def gemm(b: Builder, node: Node, x: Value, w: Value, bias: Value | None = None) -> Value:
    alpha, beta = float(attr(node, "alpha", 1.0)), float(attr(node, "beta", 1.0))
    refuse(x.rank != 2 or w.rank != 2, f"operands have shapes {x.shape}, {w.shape}, expected matrices")
    x = arrange.transpose(b, x, (1, 0)) if attr(node, "transA", 0) else x
    w = w if attr(node, "transB", 0) else arrange.transpose(b, w, (1, 0))  # (out, in)
    outputs = w.shape[0]
    vector = bias is None or (bias.data is not None and bias.shape in ((outputs,), (1, outputs)))
    if contract.known(w) and vector and x.data is None:
        return contract.linear(b, x, w, bias, alpha=alpha, beta=beta)
    y = contract.matmul(b, x, arrange.transpose(b, w, (1, 0)))
    y = y if alpha == 1 else elementwise(b, math.multiply, y, constant(np.asarray(alpha, y.dtype)))
    if bias is None:
        return y
    return elementwise(b, math.add, y, bias if beta == 1 else elementwise(b, math.multiply, bias, constant(np.asarray(beta, y.dtype))))


@operator("MatMul", becomes="`nn.Linear` where the right side is a known matrix, else `sh.matmul`")
def matmul(b: Builder, node: Node, x: Value, y: Value) -> Value:
    return contract.matmul(b, x, y)


# ------------------------------------------------------------------------------------------- normalization


@operator("BatchNormalization", becomes="`nn.BatchNorm2d`, `nn.BatchNorm1d`")
def batch_norm(b: Builder, node: Node, x: Value, scale: Value, bias: Value, mean: Value, var: Value) -> Value:
    refuse(bool(attr(node, "training_mode", 0)), "training_mode is on; export it for inference")
    return norm.batch_norm(b, x, scale, bias, mean, var, eps=attr(node, "epsilon", 1e-5), momentum=round(1 - attr(node, "momentum", 0.9), 7))


@operator("LayerNormalization", becomes="`nn.LayerNorm`")
def layer_norm(b: Builder, node: Node, x: Value, scale: Value, bias: Value | None = None) -> tuple[Value, ...]:
    axis, eps = attr(node, "axis", -1), attr(node, "epsilon", 1e-5)
    y = norm.layer_norm(b, x, scale, bias, axis, eps)
    if len(node.outputs) == 1:
        return (y,)
    dims = range(arrange.axis_of(axis, x.rank, "axis"), x.rank)
    mean = reductions.reduced(b, reductions.MEAN, x, dims, True)
    square = reductions.reduced(b, reductions.MEAN, elementwise(b, math.square, elementwise(b, math.subtract, x, mean)), dims, True)
    return y, mean, elementwise(b, _inverse_root, square, eps=eps)


def _inverse_root(var: Any, eps: float) -> Any:
    return 1 / math.sqrt(var + eps)


@operator("RMSNormalization", becomes="`nn.RMSNorm`")
def rms_norm(b: Builder, node: Node, x: Value, scale: Value) -> Value:
    return norm.layer_norm(b, x, scale, None, attr(node, "axis", -1), attr(node, "epsilon", 1e-5), rms=True)


@operator("InstanceNormalization", becomes="`nn.GroupNorm` with a group a channel; of a network's groups: their number")
def instance_norm(b: Builder, node: Node, x: Value, scale: Value, bias: Value) -> Value:
    return norm.instance_norm(b, x, scale, bias, attr(node, "epsilon", 1e-5))


@operator("GroupNormalization", becomes="`nn.GroupNorm`")
def group_norm(b: Builder, node: Node, x: Value, scale: Value, bias: Value) -> Value:
    return norm.group_norm(b, x, scale, bias, needed(node, "num_groups"), attr(node, "epsilon", 1e-5))


@operator("LpNormalization", becomes="a quotient")
def lp_norm(b: Builder, node: Node, x: Value) -> Value:
    refuse(attr(node, "p", 2) not in (1, 2), "p is neither 1 nor 2")
    return reductions.along(b, reductions.normalized, x, attr(node, "axis", -1), p=attr(node, "p", 2))


@operator("MeanVarianceNormalization", becomes="`(x - mean) / (std + 1e-9)`")
def mean_variance_norm(b: Builder, node: Node, x: Value) -> Value:
    axes = [arrange.axis_of(a, x.rank, "axes") for a in attr(node, "axes", (0, 2, 3))]
    return b.emit(_standardized, [b.lay(x, x.order)], x.order, {"axis": tuple(sorted(x.order.index(a) for a in axes))})


def _standardized(x: Any, axis: tuple[int, ...]) -> Any:
    mean = x.mean(axis=axis, keepdims=True)
    return (x - mean) / (math.sqrt(((x - mean) * (x - mean)).mean(axis=axis, keepdims=True)) + 1e-9)


@operator("LRN", becomes="a quotient, by a mean over neighbouring channels")
def local_response_norm(b: Builder, node: Node, x: Value) -> Value:
    size, order = needed(node, "size"), layout.channels_last(x.rank)
    refuse(not 0 < size <= 1 << 10, f"size is {size}")
    attrs = {"size": size, "alpha": attr(node, "alpha", 1e-4), "beta": attr(node, "beta", 0.75), "bias": attr(node, "bias", 1.0)}
    return b.emit(_lrn, [b.lay(x, order)], order, attrs)


def _lrn(x: Any, size: int, alpha: float, beta: float, bias: float) -> Any:
    lead, c = (size - 1) // 2, x.shape[-1]
    wide = move.pad(x * x, (*((0, 0),) * (x.ndim - 1), (lead, size - 1 - lead)))
    total = wide[..., :c]
    for k in range(1, size):
        total = total + wide[..., k : k + c]
    return x / math.pow(bias + total * (alpha / size), beta)


# ------------------------------------------------------------------------------------------------- pooling


@operator("MaxPool", "AveragePool", "LpPool", becomes="`sh.max_pool2d`, `sh.avg_pool2d`, with whatever padding they need")
def pooling(b: Builder, node: Node, x: Value) -> tuple[Value, ...]:
    kernel = needed(node, "kernel_shape")
    stride, padding, dilation = spatial(node, x, kernel)
    kind = {"MaxPool": "max", "AveragePool": "mean", "LpPool": "norm"}[node.op]
    return (pool.pool(
        b, x, kind, kernel=kernel, stride=stride, padding=padding, dilation=dilation, ceil=bool(attr(node, "ceil_mode", 0)),
        counts_padding=bool(attr(node, "count_include_pad", 0)), power=attr(node, "p", 2),
    ),)  # fmt: skip


@operator("GlobalAveragePool", "GlobalMaxPool", becomes="`sh.mean`, `sh.max`")
def global_pool(b: Builder, node: Node, x: Value) -> Value:
    f = reductions.MEAN if node.op == "GlobalAveragePool" else reductions.MAX
    return reductions.reduced(b, f, x, range(2, x.rank), True)


@operator("Resize", "Upsample", becomes="`nn.resize`")
def resize(b: Builder, node: Node, x: Value, roi: Value | None = None, scales: Value | None = None, sizes: Value | None = None) -> Value:
    if node.op == "Upsample" or b.version < 11:
        roi, scales = None, scales if scales is not None else roi
        coordinates, rule = "asymmetric", "floor"
    else:
        coordinates, rule = attr(node, "coordinate_transformation_mode", "half_pixel"), attr(node, "nearest_mode", "round_prefer_floor")
    axes = [arrange.axis_of(a, x.rank, "axes") for a in attr(node, "axes", tuple(range(x.rank)))]
    windows = b.array(roi, "roi").reshape(2, -1).T.tolist() if coordinates == "tf_crop_and_resize" else [(0.0, 1.0)] * len(axes)
    if sizes is not None and sizes.size:
        goals = _goals(x, axes, b.ints(sizes, "sizes"), attr(node, "keep_aspect_ratio_policy", "stretch"))
    else:
        by = attr(node, "scales", ()) if "scales" in node.attrs else [float(s) for s in b.array(scales, "scales").reshape(-1)]
        refuse(len(by) != len(axes) or any(not 0 < s < 1 << 16 for s in by), f"scales {by} do not fit {x.shape}")
        goals = [(int(np.floor(x.shape[a] * s * (w[1] - w[0]))), s) for a, s, w in zip(axes, by, windows)]
    to = {a: Along(size=size, scale=scale, window=tuple(w)) for a, (size, scale), w in zip(axes, goals, windows)
          if size != x.shape[a] or scale not in (None, 1.0) or w != (0.0, 1.0)}  # fmt: skip
    refuse(any(not 0 < t.size <= 1 << 16 for t in to.values()), f"sizes {[t.size for t in to.values()]} are out of range")
    outside: str | float = "skip" if attr(node, "exclude_outside", 0) else "edge"
    if coordinates == "tf_crop_and_resize":
        outside = float(attr(node, "extrapolation_value", 0.0))
    return pool.resized(
        b, x, to, mode={"nearest": "nearest", "linear": "linear", "cubic": "cubic"}.get(attr(node, "mode", "nearest"), "?"), coordinates=coordinates,
        nearest=rule, cubic=attr(node, "cubic_coeff_a", -0.75), antialias=bool(attr(node, "antialias", 0)), outside=outside,
    )  # fmt: skip


def _goals(x: Value, axes: Sequence[int], sizes: Sequence[int], policy: str) -> list[tuple[int, float | None]]:
    refuse(len(sizes) != len(axes), f"sizes {tuple(sizes)} do not fit {x.shape}")
    if policy == "stretch":
        return [(n, None) for n in sizes]
    ratios = [n / x.shape[a] for n, a in zip(sizes, axes)]
    scale = min(ratios) if policy == "not_larger" else max(ratios)
    return [(int(np.floor(x.shape[a] * scale + 0.5)), scale) for a in axes]


# --------------------------------------------------------------------------------------------------- einsum


@operator("Einsum", becomes="`sh.matmul` of two operands, or a sum and a turn of dims of one")
def einsum(b: Builder, node: Node, *xs: Value) -> Value:
    left, arrow, right = needed(node, "equation").replace(" ", "").partition("->")
    terms = left.split(",")
    refuse(len(terms) != len(xs) or len(xs) > 2, f"{len(xs)} operands for {left!r}; one or two are known here")
    free = max((x.rank - len(t.replace("...", "")) for t, x in zip(terms, xs) if "..." in t), default=0)
    names = [chr(ord("A") + k) for k in range(free)]
    terms = [t.replace("...", "".join(names[len(names) - (x.rank - len(t.replace("...", ""))) :])) if "..." in t else t for t, x in zip(terms, xs)]
    if not arrow:
        letters = "".join(terms)
        right = "".join(names) + "".join(sorted(c for c in set(letters) if letters.count(c) == 1 and c not in names))
    right = right.replace("...", "".join(names))
    for t, x in zip(terms, xs):
        refuse(len(t) != x.rank or len(set(t)) != len(t), f"the term {t!r} does not fit {x.shape}, or takes a diagonal")
    if len(xs) == 1:
        gone = [k for k, c in enumerate(terms[0]) if c not in right]
        kept = [c for c in terms[0] if c in right]
        y = reductions.reduced(b, reductions.SUM, xs[0], gone, False) if gone else xs[0]
        return arrange.transpose(b, y, [kept.index(c) for c in right])
    operands = list(xs)
    return _contracted(b, operands[0], operands[1], terms[0], terms[1], right)


def _contracted(b: Builder, x: Value, y: Value, s: str, t: str, out: str) -> Value:
    """``out`` of two operands: dims that both have and ``out`` keeps are a batch, those it drops are summed."""
    sizes = {**dict(zip(s, x.shape)), **dict(zip(t, y.shape))}
    x, s = _summed(b, x, s, t + out)
    y, t = _summed(b, y, t, s + out)
    batch = [c for c in s if c in t and c in out]
    inner = [c for c in s if c in t and c not in out]
    rows, columns = [c for c in s if c not in t], [c for c in t if c not in s]
    shape = lambda letters: tuple(sizes[c] for c in letters)
    size = lambda letters: int(np.prod(shape(letters)))
    p = arrange.shaped(b, arrange.transpose(b, x, [s.index(c) for c in batch + rows + inner]), (*shape(batch), size(rows), size(inner)))
    q = arrange.shaped(b, arrange.transpose(b, y, [t.index(c) for c in batch + inner + columns]), (*shape(batch), size(inner), size(columns)))
    z = arrange.shaped(b, contract.matmul(b, p, q), shape(batch + rows + columns))
    have = batch + rows + columns
    if set(out) - set(have):
        raise ForeignError(f"{out!r} has letters that no operand has")
    return arrange.transpose(b, z, [have.index(c) for c in out])


def _summed(b: Builder, x: Value, s: str, elsewhere: str) -> tuple[Value, str]:
    gone = [k for k, c in enumerate(s) if c not in elsewhere]
    return (reductions.reduced(b, reductions.SUM, x, gone, False), "".join(c for c in s if c in elsewhere)) if gone else (x, s)
