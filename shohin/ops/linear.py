"""Contractions: matmul and convolution, each linear in both operands; max pooling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ml_dtypes import iinfo

from shohin.core import dtypes, interp, loop
from shohin.core.axes import Shape
from shohin.core.errors import ShapeError
from shohin.core.op import EXACT, NO_GRADIENT, Attr, Aval, Dtypes, Op, Pad, Quant, Sample, Tol, register
from shohin.core.tensor import Tensor, as_tensor
from shohin.ops import kinds, move
from shohin.ops.kinds import coerce, contraction
from shohin.ops.math import API

Attrs = Mapping[str, Any]


def _f32(rng: np.random.Generator, *shape: int) -> Any:
    return rng.uniform(-1, 1, shape).astype(np.float32)


# ---------------------------------------------------------------------------------------------- matmul


def _matmul_axes(shapes: Sequence[Shape], attrs: Attrs) -> str:
    rank = len(shapes[0])
    if rank < 2 or len(shapes[1]) != rank:
        raise ShapeError(f"matmul: operands have shapes {shapes[0]}, {shapes[1]}; the op takes two of one rank, at least 2")
    batch = " ".join(f"_{rank - 3 - i}" for i in range(rank - 2))
    a = "k m" if attrs["transpose_a"] else "m k"
    b = "n k" if attrs["transpose_b"] else "k n"
    return f"{batch} {a}, {batch} {b} -> {batch} m n"


def _matmul_numpy(a: Any, b: Any, transpose_a: bool, transpose_b: bool) -> Any:
    integer = a.dtype.kind in "iu"
    x, y = (np.swapaxes(v, -1, -2) if t else v for v, t in ((a, transpose_a), (b, transpose_b)))
    return np.matmul(x.astype(np.float64), y.astype(np.float64)).astype(np.int32) if integer else np.matmul(x, y)


def _matmul_da(a: Tensor, b: Tensor, y: Tensor, g: Tensor, transpose_a: bool, transpose_b: bool) -> Tensor:
    return _mm(b, g, transpose_b, True) if transpose_a else _mm(g, b, False, not transpose_b)


def _matmul_db(a: Tensor, b: Tensor, y: Tensor, g: Tensor, transpose_a: bool, transpose_b: bool) -> Tensor:
    return _mm(g, a, True, transpose_a) if transpose_b else _mm(a, g, not transpose_a, False)


_PRODUCTS = dtypes.FLOATING | {dtypes.int8, dtypes.int16, dtypes.int32, dtypes.uint8}
_matmul = register(Op(
    name="matmul", kind="contraction", doc="Sums of products over k: rows of a with columns of b, for each leading index.", source=API, operands=("a", "b"), results=("y",),
    attrs={"transpose_a": Attr(type="static"), "transpose_b": Attr(type="static")},
    dtypes=Dtypes(accepted=(_PRODUCTS, _PRODUCTS), same=False, result=lambda found, attrs: (kinds.product_dtype("matmul", found),), compute=kinds.compute_dtype,
                  accumulator=lambda d: dtypes.int32 if d in dtypes.INTEGER else kinds.compute_dtype(d)),
    axes=_matmul_axes, shape=None, body=lambda x, w, **attrs: (x, w), combiner="fma", identity=lambda d: 0, order="sequence", pad=None, fin=None,
    numpy=kinds.in_compute(_matmul_numpy), vjp=(_matmul_da, _matmul_db), nest="derived", batch=None, alias=False, tol=Tol(64, 1e-5),
    quant=Quant("rule", rule="Q2 contraction", integer=lambda attrs: None if attrs["transpose_a"] else ("qmatmul", {})),
    samples=lambda rng: [Sample((_f32(rng, *((4, 3) if ta else (3, 4))), _f32(rng, *((5, 4) if tb else (4, 5)))), {"transpose_a": ta, "transpose_b": tb})
                         for ta in (False, True) for tb in (False, True)] + [Sample((_f32(rng, 2, 3, 4), _f32(rng, 2, 4, 5)), {"transpose_a": False, "transpose_b": False})],
    edges=(),
))  # fmt: skip


def _mm(a: Tensor, b: Tensor, transpose_a: bool = False, transpose_b: bool = False) -> Tensor:
    return interp.bind(_matmul, [a, b], {"transpose_a": transpose_a, "transpose_b": transpose_b})[0]


def matmul(x1: Any, x2: Any, /, *, transpose_a: bool = False, transpose_b: bool = False) -> Tensor:
    """Matrix product over the last two dims; leading dims broadcast, a 1-d operand is a row or column."""
    a, b = coerce(x1, x2)
    if not a.ndim or not b.ndim:
        raise ShapeError("matmul: operands need at least one dim")
    row, column = a.ndim == 1, b.ndim == 1
    a = move.reshape(a, (1, -1)) if row else a
    b = move.reshape(b, (-1, 1)) if column else b
    if a.shape[-2 if transpose_a else -1] != b.shape[-1 if transpose_b else -2]:
        raise ShapeError(f"matmul: {a.shape} and {b.shape} do not fit: the inner extents are {a.shape[-2 if transpose_a else -1]} and {b.shape[-1 if transpose_b else -2]}")
    if b.ndim == 2 and a.ndim > 2 and not transpose_a:
        lead = a.shape[:-1]
        y = move.reshape(_mm(move.reshape(a, (-1, a.shape[-1])), b, False, transpose_b), (*lead, b.shape[-2 if transpose_b else -1]))
    else:
        try:
            batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        except ValueError as error:
            raise ShapeError(f"matmul: leading dims of {a.shape} and {b.shape} do not broadcast") from error
        y = _mm(move.broadcast_to(a, (*batch, *a.shape[-2:])), move.broadcast_to(b, (*batch, *b.shape[-2:])), transpose_a, transpose_b)
    if row or column:
        y = move.reshape(y, (*y.shape[:-2], *(() if row else (y.shape[-2],)), *(() if column else (y.shape[-1],))))
    return y


# ------------------------------------------------------------------------------------------- convolution

_CONV_ATTRS = {
    "stride": Attr(type="static"), "padding": Attr(type="static"), "dilation": Attr(type="static"), "groups": Attr(type="extent", axis="g"),
}  # fmt: skip


def _conv_samples(rng: np.random.Generator) -> list[Sample]:
    def make(x: Shape, w: Shape, stride: int = 1, pad: Any = 0, dilation: int = 1, groups: int = 1) -> Sample:
        padding = pad if isinstance(pad, tuple) else ((pad, pad), (pad, pad))
        return Sample((_f32(rng, *x), _f32(rng, *w)), {"stride": (stride, stride), "padding": padding, "dilation": (dilation, dilation), "groups": groups})

    return [make((2, 6, 5, 3), (4, 3, 3, 3), 1, 1), make((1, 7, 8, 4), (6, 3, 3, 2), 2, 1, 1, 2), make((2, 7, 7, 5), (5, 3, 3, 1), 1, 1, 1, 5),
            make((1, 8, 9, 2), (3, 3, 2, 2), 2, ((0, 1), (1, 0))), make((1, 9, 9, 2), (2, 3, 3, 2), 1, 2, 2), make((2, 4, 4, 6), (5, 1, 1, 6))]  # fmt: skip


_conv2d = contraction(
    "conv2d", operands=("x", "w"), attrs=_CONV_ATTRS, quant=Quant("rule", rule="Q2 contraction"), samples=_conv_samples, instead=lambda operands, attrs: _phases(*operands, **attrs),
    axes="n (h*stride.0+kh*dilation.0~padding.0) (w*stride.1+kw*dilation.1~padding.1) (g i), (g o) kh kw i -> n h w (g o) | g=groups",
    source="LeCun et al. 1989; layout NHWC, weights (out, kh, kw, in/groups)", doc="Cross-correlation over windows; taps outside the image are skipped.",
).op  # fmt: skip

Pair = int | Sequence[int]


def pair(value: Pair, name: str) -> tuple[int, int]:
    both = (value, value) if isinstance(value, int) else tuple(value)
    if len(both) != 2:
        raise ShapeError(f"{name}: {value!r} is not an integer or a pair")
    return int(both[0]), int(both[1])


def padding_of(value: Any, size: Sequence[int], kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int], name: str) -> tuple[tuple[int, int], ...]:
    """Padding as ((before, after), ...): an integer, a pair of them, pairs, ``valid``, ``same`` (stride 1) or ``same_tf``."""
    if value == "valid":
        return ((0, 0),) * len(kernel)
    if value in ("same", "same_tf"):
        if value == "same" and any(s != 1 for s in stride):
            raise ShapeError(f"{name}: padding='same' needs stride 1 (as in PyTorch); padding='same_tf' is TensorFlow's rule")
        found = []
        for n, k, s, d in zip(size, kernel, stride, dilation, strict=True):
            total = max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
            found.append((total // 2, total - total // 2))
        return tuple(found)
    if isinstance(value, str):
        raise ShapeError(f"{name}: padding {value!r} is none of 'valid', 'same', 'same_tf'")
    both = (value,) * len(kernel) if isinstance(value, int) else tuple(value)
    return tuple((int(p), int(p)) if isinstance(p, int) else (int(p[0]), int(p[1])) for p in both)


def conv2d(x: Any, w: Any, /, *, stride: Pair = 1, padding: Any = 0, dilation: Pair = 1, groups: int = 1) -> Tensor:
    """2-d convolution, channels last.

    Shapes: x (n, h, w, groups*i), w (groups*o, kh, kw, i) -> (n, h', w', groups*o) with
    h' = floor((h + pad - dilation*(kh-1) - 1) / stride) + 1.
    """
    a, b = coerce(x, w)
    if a.ndim != 4 or b.ndim != 4:
        raise ShapeError(f"conv2d: x and w need 4 dims (n h w c) and (out kh kw in/groups), got {a.shape} and {b.shape}")
    if groups < 1 or a.shape[3] != groups * b.shape[3] or b.shape[0] % groups:
        raise ShapeError(f"conv2d: x has {a.shape[3]} channels, w {b.shape} with groups={groups} takes {groups * b.shape[3]}, and {b.shape[0]} outputs must divide by {groups}")
    s, d = pair(stride, "conv2d: stride"), pair(dilation, "conv2d: dilation")
    p = padding_of(padding, a.shape[1:3], b.shape[1:3], s, d, "conv2d")
    return interp.bind(_conv2d, [a, b], {"stride": s, "padding": p, "dilation": d, "groups": int(groups)})[0]


def conv_transpose2d(x: Any, w: Any, /, *, stride: Pair = 1, padding: Any = 0, output_padding: Pair = 0, dilation: Pair = 1, groups: int = 1) -> Tensor:
    """The transpose of ``conv2d``: x (n, h, w, o), w (o, kh, kw, i/groups) -> (n, h'', w'', i)."""
    a, b = coerce(x, w)
    s, d, extra = pair(stride, "stride"), pair(dilation, "dilation"), pair(output_padding, "output_padding")
    p = padding_of(padding, (0, 0), b.shape[1:3], s, d, "conv_transpose2d")
    sizes = [(n - 1) * s[i] - sum(p[i]) + d[i] * (b.shape[1 + i] - 1) + extra[i] + 1 for i, n in enumerate(a.shape[1:3])]
    attrs = {"stride": s, "padding": p, "dilation": d, "groups": groups, "shape": (a.shape[0], *sizes, b.shape[3] * groups)}
    return interp.bind(kinds.get("conv2d_dx"), [a, b], attrs)[0]


def _phases(x: Tensor, w: Tensor, stride: Shape, padding: Any, dilation: Shape, groups: int, shape: Shape) -> Tensor | None:
    """A transposed convolution as one convolution whose channels are the outputs of a step of the stride (its phases), which then move to their
    places; None with dilation, or where the result is larger than what the windows reach.

    Result t = a s + r is the sum over j of x[a - j] w[j s + r]. Source: Shi et al. 2016 (arXiv:1609.07009).
    """
    size, (n, *image, _) = w.shape[1:3], x.shape
    taps = [-(-k // s) for k, s in zip(size, stride, strict=True)]
    ends = [(p[0], p[0] + extent) for p, extent in zip(padding, shape[1:3], strict=True)]
    full = [(m + t - 1) * s for m, t, s in zip(image, taps, stride, strict=True)]
    if tuple(dilation) != (1, 1) or any(a < 0 or b > m for (a, b), m in zip(ends, full, strict=True)):
        return None
    w = move.pad(w, [(0, 0), *((0, t * s - k) for t, s, k in zip(taps, stride, size, strict=True)), (0, 0)])
    w = move.reshape(w, (groups, -1, taps[0], stride[0], taps[1], stride[1], w.shape[3]))
    w = move.permute_dims(move.flip(w, axis=(2, 4)), (0, 3, 5, 6, 2, 4, 1))
    w = move.reshape(w, (-1, *taps, w.shape[-1]))
    y = conv2d(x, w, padding=tuple((t - 1, t - 1) for t in taps), groups=groups)
    y = move.reshape(y, (*y.shape[:3], groups, *stride, -1))
    y = move.reshape(move.permute_dims(y, (0, 1, 4, 2, 5, 3, 6)), (n, *full, -1))
    return y[:, ends[0][0] : ends[0][1], ends[1][0] : ends[1][1]]


# ----------------------------------------------------------------------------------------------- pooling

_POOL_ATTRS = {"kernel": Attr(type="static"), "stride": Attr(type="static"), "padding": Attr(type="static")}
_POOL_AXES = "n (h*stride.0+kh~padding.0) (w*stride.1+kw~padding.1) c -> n h w c | kh=kernel.0 kw=kernel.1"


def _merge_lanes(op: str) -> Any:
    """Lanes become images: the batch of lanes and n are one dim."""

    def batch(operands: Sequence[Tensor], mask: Sequence[bool], size: int, attrs: Attrs) -> list[Tensor]:
        wide = [o if m else move.broadcast_to(move.expand_dims(o, axis=0), (size, *o.shape)) for o, m in zip(operands, mask, strict=True)]
        out = interp.bind(kinds.get(op), [move.reshape(o, (-1, *o.shape[2:])) for o in wide], attrs)
        return [move.reshape(y, (size, -1, *y.shape[1:])) for y in out]

    return batch


def _windows(x: Any, kernel: Shape, stride: Shape, padding: Any, fill: Any) -> Any:
    padded = np.pad(x, ((0, 0), *padding, (0, 0)), constant_values=fill)
    view = np.lib.stride_tricks.sliding_window_view(padded, kernel, axis=(1, 2))
    return view[:, :: stride[0], :: stride[1]]


def _lowest(dtype: Any) -> Any:
    return -np.inf if np.dtype(dtype) in dtypes.FLOATING else int(iinfo(dtype).min)


def _max_pool_vjp(x: Tensor, y: Tensor, g: Tensor, kernel: Shape, stride: Shape, padding: Any) -> Tensor:
    return interp.bind(_unpool, [x, y, g], {"kernel": kernel, "stride": stride, "padding": padding})[0]


_max_pool = register(Op(
    name="max_pool2d", kind="window", doc="The largest of each window.", source="Ranzato et al. 2007", operands=("x",), results=("y",), attrs=_POOL_ATTRS,
    dtypes=kinds.same_dtype(dtypes.NUMERIC, 1), axes=_POOL_AXES, shape=None, body=lambda x: x, combiner="max", identity=_lowest, order="sequence",
    pad=Pad("identity", "multiply"), fin=None, numpy=lambda x, kernel, stride, padding: _windows(x, kernel, stride, padding, _lowest(x.dtype)).max((-1, -2)), vjp=(_max_pool_vjp,),
    nest="derived", batch=None, alias=False, quant=Quant("share"), tol=EXACT, edges=(),
    samples=lambda rng: [Sample((_f32(rng, 2, 6, 7, 3),), {"kernel": (2, 2), "stride": (2, 2), "padding": ((0, 0), (0, 0))}),
                         Sample((_f32(rng, 1, 6, 7, 3),), {"kernel": (3, 3), "stride": (2, 2), "padding": ((1, 1), (1, 1))})],
))  # fmt: skip


def _unpool_numpy(x: Any, y: Any, g: Any, kernel: Shape, stride: Shape, padding: Any) -> Any:
    """Each window's gradient to its first largest element."""
    (t, b), (lo, r) = padding
    padded = np.pad(x, ((0, 0), (t, b), (lo, r), (0, 0)), constant_values=_lowest(x.dtype))
    out = np.zeros_like(padded)
    taken = np.zeros(y.shape, bool)
    for kh in range(kernel[0]):
        for kw in range(kernel[1]):
            box = np.s_[:, kh : kh + (y.shape[1] - 1) * stride[0] + 1 : stride[0], kw : kw + (y.shape[2] - 1) * stride[1] + 1 : stride[1]]
            hit = (padded[box] == y) & ~taken
            taken |= hit
            out[box] += np.where(hit, g, 0)
    return out[:, t : out.shape[1] - b, lo : out.shape[2] - r]


def _unpool_nest(coords: Sequence[loop.Expr], load: Any, avals: Sequence[Aval], result: Aval, attrs: Attrs) -> loop.Expr:
    """For each element: over the windows that hold it, g where it is the window's first largest."""
    (kh, kw), (sh, sw), ((t, _), (left, _)) = attrs["kernel"], attrs["stride"], attrs["padding"]
    n, h, w, c = coords
    (_, height, width, _), (_, oh, ow, _) = avals[0].shape, avals[1].shape
    value: loop.Expr = loop.const(0, result.dtype)
    me = load(0, coords)
    for i in range(kh):
        for j in range(kw):
            row, col = h + (t - i), w + (left - j)
            fits = (row >= 0) & (col >= 0)
            if sh > 1:
                fits = fits & loop.equal(row % sh, 0)
            if sw > 1:
                fits = fits & loop.equal(col % sw, 0)
            r, q = row // sh, col // sw
            fits = fits & (r < oh) & (q < ow)
            top = load(1, (n, r, q, c), fits, 0)
            first = fits & loop.equal(me, top)
            for a in range(kh):
                for b in range(kw):
                    if (a, b) < (i, j):
                        y, x = h + (a - i), w + (b - j)
                        inside = fits & (y >= 0) & (y < height) & (x >= 0) & (x < width)
                        first = first & loop.logical_not(inside & loop.equal(load(0, (n, y, x, c), inside, 0), top))
            value = value + loop.select(first, load(2, (n, r, q, c), fits, 0), 0.0)
    return value


_unpool = register(Op(
    name="max_pool2d_dx", kind="window", doc="The gradient of max_pool2d: each window's cotangent at its first largest element.", source="as PyTorch",
    operands=("x", "y", "g"), results=("dx",), attrs=_POOL_ATTRS, dtypes=kinds.same_dtype(dtypes.FLOATING, 3), axes=None, shape=lambda operands, **attrs: [operands[0].shape],
    body=None, combiner=None, identity=None, order=None, pad=None, fin=None, numpy=_unpool_numpy,
    vjp=(NO_GRADIENT, NO_GRADIENT, lambda x, y, g, dx, ct, kernel, stride, padding: _pick(x, y, ct, kernel, stride, padding)), nest=_unpool_nest, batch=_merge_lanes("max_pool2d_dx"), alias=False,
    quant=Quant.refuse("a gradient runs in training only"), tol=Tol(4, 1e-6), samples=lambda rng: [_unpool_sample(rng)], edges=(),
))  # fmt: skip


def _unpool_sample(rng: np.random.Generator) -> Sample:
    attrs = {"kernel": (3, 3), "stride": (2, 2), "padding": ((1, 1), (1, 1))}
    x = _f32(rng, 1, 6, 7, 3)
    y = _max_pool.numpy(x, **attrs)
    return Sample((x, y, _f32(rng, *y.shape)), attrs)


def _pick(x: Tensor, y: Tensor, ct: Tensor, kernel: Shape, stride: Shape, padding: Any) -> Tensor:
    """The transpose of ``max_pool2d_dx`` in g: the cotangent at each window's first largest element."""
    return interp.bind(_pick_op, [x, y, ct], {"kernel": kernel, "stride": stride, "padding": padding})[0]


def _pick_numpy(x: Any, y: Any, ct: Any, kernel: Shape, stride: Shape, padding: Any) -> Any:
    view = _windows(x, kernel, stride, padding, _lowest(x.dtype)).reshape(*y.shape, -1)
    at = view.argmax(-1)[..., None]
    return np.take_along_axis(_windows(ct, kernel, stride, padding, 0).reshape(*y.shape, -1), at, -1)[..., 0]


def _pick_nest(coords: Sequence[loop.Expr], load: Any, avals: Sequence[Aval], result: Aval, attrs: Attrs) -> loop.Expr:
    (kh, kw), (sh, sw), ((t, _), (left, _)) = attrs["kernel"], attrs["stride"], attrs["padding"]
    n, h, w, c = coords
    _, height, width, _ = avals[0].shape
    top, value = load(1, coords), loop.const(0, result.dtype)
    for i in reversed(range(kh)):
        for j in reversed(range(kw)):
            y, x = h * sh + (i - t), w * sw + (j - left)
            inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
            hit = inside & loop.equal(load(0, (n, y, x, c), inside, 0), top)
            value = loop.select(hit, load(2, (n, y, x, c), inside, 0), value)
    return value


_pick_op = register(Op(
    name="max_pool2d_pick", kind="window", doc="A second tensor's element where each window of the first is largest.", source="as PyTorch", operands=("x", "y", "t"), results=("p",),
    attrs=_POOL_ATTRS, dtypes=kinds.same_dtype(dtypes.FLOATING, 3), axes=None, shape=lambda operands, **attrs: [operands[1].shape], body=None, combiner=None, identity=None, order=None,
    pad=None, fin=None, numpy=_pick_numpy, vjp=(NO_GRADIENT, NO_GRADIENT, lambda x, y, t, p, g, **attrs: interp.bind(_unpool, [x, y, g], attrs)[0]), nest=_pick_nest, batch=_merge_lanes("max_pool2d_pick"),
    alias=False, quant=Quant.refuse("a gradient runs in training only"), tol=EXACT, samples=lambda rng: [_pick_sample(rng)], edges=(),
))  # fmt: skip


def _pick_sample(rng: np.random.Generator) -> Sample:
    s = _unpool_sample(rng)
    return Sample((s.operands[0], s.operands[1], _f32(rng, *s.operands[0].shape)), s.attrs)


_window_sum = register(Op(
    name="window_sum2d", kind="window", doc="The sum of each window.", source="LeCun et al. 1989", operands=("x",), results=("y",), attrs=_POOL_ATTRS,
    dtypes=kinds.same_dtype(dtypes.NUMERIC, 1), axes=_POOL_AXES, shape=None, body=lambda x: x, combiner="add", identity=lambda d: 0, order="sequence", pad=Pad(0, "skip"), fin=None,
    numpy=kinds.in_compute(lambda x, kernel, stride, padding: _windows(x, kernel, stride, padding, 0).sum((-1, -2), dtype=x.dtype)),
    vjp=(lambda x, y, g, kernel, stride, padding: _spread_windows(x, g, kernel, stride, padding),), nest="derived", batch=None, alias=False,
    quant=Quant("rule", rule="Q7 average pool"), tol=Tol(16, 1e-6), edges=(),
    samples=lambda rng: [Sample((_f32(rng, 2, 6, 7, 3),), {"kernel": (3, 2), "stride": (2, 2), "padding": ((1, 1), (0, 1))})],
))  # fmt: skip


def _spread_windows(x: Tensor, g: Tensor, kernel: Shape, stride: Shape, padding: Any) -> Tensor:
    """The transpose of a sum of windows: a depthwise ``conv2d_dx`` with ones."""
    c = x.shape[3]
    ones = move.ones((c, *kernel, 1), dtype=x.dtype)
    attrs = {"stride": stride, "padding": padding, "dilation": (1, 1), "groups": c, "shape": x.shape}
    return interp.bind(kinds.get("conv2d_dx"), [g, ones], attrs)[0]


def _pool_attrs(x: Tensor, kernel: Pair, stride: Pair | None, padding: Any, name: str) -> dict[str, Any]:
    if x.ndim != 4:
        raise ShapeError(f"{name}: x needs 4 dims (n h w c), got {x.shape}")
    k = pair(kernel, f"{name}: kernel_size")
    s = k if stride is None else pair(stride, f"{name}: stride")
    return {"kernel": k, "stride": s, "padding": padding_of(padding, x.shape[1:3], k, s, (1, 1), name)}


def max_pool2d(x: Any, kernel_size: Pair, stride: Pair | None = None, padding: Any = 0) -> Tensor:
    """The largest of each window of x (n, h, w, c); padding never wins."""
    tensor = as_tensor(x)
    return interp.bind(_max_pool, [tensor], _pool_attrs(tensor, kernel_size, stride, padding, "max_pool2d"))[0]


def avg_pool2d(x: Any, kernel_size: Pair, stride: Pair | None = None, padding: Any = 0, count_include_pad: bool = True) -> Tensor:
    """The mean of each window of x (n, h, w, c). The divisor counts the window's elements inside the padded input,
    or only real ones without ``count_include_pad``."""
    tensor = as_tensor(x)
    attrs = _pool_attrs(tensor, kernel_size, stride, padding, "avg_pool2d")
    total = interp.bind(_window_sum, [tensor], attrs)[0]
    size = np.ones((1, *tensor.shape[1:3], 1), np.float32)
    pads = attrs["padding"]
    if count_include_pad:
        size, pads = np.pad(size, ((0, 0), *pads, (0, 0)), constant_values=1), ((0, 0), (0, 0))
    counts = _window_sum.numpy(size, kernel=attrs["kernel"], stride=attrs["stride"], padding=pads)[:, : total.shape[1], : total.shape[2]].astype(tensor.dtype)
    return total / (float(counts.flat[0]) if np.all(counts == counts.flat[0]) else as_tensor(counts))


def tensordot(x1: Any, x2: Any, /, *, axes: int | tuple[Sequence[int], Sequence[int]] = 2) -> Tensor:
    """The sum of products over pairs of dims."""
    a, b = as_tensor(x1), as_tensor(x2)
    left, right = (list(range(a.ndim - axes, a.ndim)), list(range(axes))) if isinstance(axes, int) else ([kinds.dim_of(i, a.ndim, "tensordot: axis") for i in axes[0]], [kinds.dim_of(i, b.ndim, "tensordot: axis") for i in axes[1]])
    free_a, free_b = [i for i in range(a.ndim) if i not in left], [i for i in range(b.ndim) if i not in right]
    rows = move.reshape(move.permute_dims(a, free_a + left), (-1, int(np.prod([a.shape[i] for i in left]))))
    cols = move.reshape(move.permute_dims(b, right + free_b), (rows.shape[1], -1))
    return move.reshape(matmul(rows, cols), tuple(a.shape[i] for i in free_a) + tuple(b.shape[i] for i in free_b))


__all__ = ["avg_pool2d", "conv2d", "conv_transpose2d", "matmul", "max_pool2d", "tensordot"]
