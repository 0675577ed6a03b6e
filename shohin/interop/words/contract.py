"""Contractions: convolutions and linear layers where the weights are known, else the functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from shohin import nn
from shohin.compress.operators.given import OnGrid
from shohin.compress.weights import reparametrize
from shohin.core import dtypes
from shohin.core.cells import Param
from shohin.core.errors import ForeignError
from shohin.interop import layout
from shohin.interop.builder import Builder, Value, constant, identity, reshape
from shohin.interop.network import Path
from shohin.interop.words import arrange
from shohin.interop.words.elementwise import as_dtype, elementwise
from shohin.nn import functional as F
from shohin.ops import linear as ops
from shohin.ops import math, move

Pairs = tuple[tuple[int, int], ...]


def _tidy(padding: Pairs) -> Any:
    """Padding as a person would write it: a number, one a dim, or pairs."""
    if any(lo != hi for lo, hi in padding):
        return padding
    sizes = [lo for lo, _ in padding]
    return sizes[0] if len(set(sizes)) == 1 else tuple(sizes)


def known(*operands: Value | None) -> bool:
    return all(v is None or v.data is not None for v in operands)


def data_of(v: Value | None) -> Any:
    return None if v is None else v.data


def conv(b: Builder, x: Value, w: Value, bias: Value | None, *, stride: Sequence[int], padding: Pairs, dilation: Sequence[int],
         groups: int, transposed: bool = False, output_padding: Sequence[int] = ()) -> Value:  # fmt: skip
    """A convolution of (n, c, l) or (n, c, h, w) by w (out, in / groups, ...); transposed: w (in, out / groups, ...)."""
    rank = x.rank - 2
    if rank not in (1, 2) or w.rank != x.rank:
        raise ForeignError(f"x has shape {x.shape} and w {w.shape}; convolutions have 1 or 2 spatial dims here")
    if groups < 1 or x.shape[1] != (w.shape[0] if transposed else w.shape[1] * groups) or w.shape[0] % groups:
        raise ForeignError(f"x has {x.shape[1]} channels, which w {w.shape} with {groups} groups does not take")
    order, kernel = layout.channels_last(x.rank), w.shape[2:]
    last = layout.channels_last(w.rank)
    attrs: dict[str, Any] = {"stride": tuple(stride), "padding": padding, "dilation": tuple(dilation), "groups": groups}
    if transposed:
        attrs["output_padding"] = tuple(output_padding) or (0,) * rank
    if not known(w, bias):
        y = b.emit(_transposed if transposed else _conv, [b.to(x, order), b.lay(w, last)], order, attrs)
        return y if bias is None else elementwise(b, math.add, y, arrange.shaped(b, bias, (1, -1, *(1,) * rank)))
    outputs = w.shape[1] * groups if transposed else w.shape[0]
    weight, one = np.transpose(data_of(w), last), rank == 1
    settings = {k: v[0] if one else v for k, v in attrs.items() if k not in ("groups", "padding")}
    settings["padding"] = _tidy(padding) if not one or padding[0][0] == padding[0][1] else padding[0]

    def make() -> nn.Module:
        size = kernel[0] if one else kernel
        if not one and not transposed and groups == x.shape[1] > 1:
            layer: Any = nn.DepthwiseConv2d(x.shape[1], size, multiplier=outputs // groups, bias=False, **settings)
        else:
            kind = (nn.ConvTranspose1d if one else nn.ConvTranspose2d) if transposed else (nn.Conv1d if one else nn.Conv2d)
            layer = kind(x.shape[1], outputs, size, groups=groups, bias=False, **settings)
        return filled(layer, weight, data_of(bias), None if w.grid is None else np.transpose(w.grid, last))

    path = b.new_layer("conv", ("conv", transposed, identity(w), identity(bias), *sorted(attrs.items())), make, () if bias is not None else ("bias",))
    return b.layer(path, [b.lay(x, order)], order)


def filled(layer: Any, weight: Any, bias: Any, grid: Any = None) -> Any:
    """``grid``: the scales of weights that the origin holds as integers; the layer keeps to them if there is one for all or one an
    output channel."""
    if grid is not None and len(grid) == grid.size:
        reparametrize(layer, "weight", OnGrid(tuple(grid.reshape(-1).tolist())))
    layer.weight = Param(np.ascontiguousarray(weight))
    layer.bias = None if bias is None else Param(np.ascontiguousarray(bias).reshape(-1))
    return layer


def _high(f: Any, x: Any, w: Any, attrs: dict[str, Any]) -> Any:
    """One spatial dim as an image of height 1."""
    if x.ndim == 4:
        return f(x, w, **attrs)
    wide = {k: v if k == "groups" else (*(((0, 0),) if k == "padding" else (0,) if k == "output_padding" else (1,)), *v) for k, v in attrs.items()}
    return move.squeeze(f(move.expand_dims(x, axis=1), move.expand_dims(w, axis=1), **wide), 1)


def _conv(x: Any, w: Any, **attrs: Any) -> Any:
    return _high(ops.conv2d, x, w, attrs)


def _transposed(x: Any, w: Any, **attrs: Any) -> Any:
    return _high(ops.conv_transpose2d, x, w, attrs)


def linear(b: Builder, x: Value, w: Value, bias: Value | None, *, alpha: float = 1.0, beta: float = 1.0) -> Value:
    """``alpha x w' + beta bias`` with w (out, in) and bias (out,), known; x (..., in)."""
    if x.rank < 1 or w.rank != 2 or x.shape[-1] != w.shape[1]:
        raise ForeignError(f"x {x.shape} and w {w.shape} do not fit")

    tokens = _hot(b, x)
    if tokens is not None and bias is None and alpha == 1:
        return embedding(b, constant(data_of(w).T, w.name), tokens)

    def scaled(data: Any, by: float) -> Any:
        return data if data is None or by == 1 else data * np.asarray(by, data.dtype)

    weight, source, columns = scaled(data_of(w), alpha), x, ()
    found = _unflattened(b, x)
    if found is not None:
        source, places = found
        weight, columns = weight[:, places], tuple(b.stored[source.key])

    def make() -> nn.Module:
        layer = nn.Linear(w.shape[1], w.shape[0], bias=False)
        return filled(layer, weight, scaled(data_of(bias), beta), w.grid if alpha == 1 else None)

    path = b.new_layer("linear", ("linear", identity(w), identity(bias), w.shape, alpha, beta, columns), make, () if bias is not None else ("bias",))
    if source.order[-1] != source.rank - 1:
        source = b.plain(source)
    return b.layer(path, [b.lay(source, source.order)], source.order)


def _hot(b: Builder, x: Value) -> Value | None:
    """The integers of which x says with ones at which of 0, 1, 2 ... they stand; the product with it is a lookup."""

    def made(key: Any, *calls: Any) -> Any:
        step = b.made.get(key) if type(key) is int else None
        return step.inputs if step is not None and step.call in calls else None

    cast = made(x.key, as_dtype) if x.data is None and x.order == layout.plain(x.rank) else None
    equal = made(cast[0], math.equal) if cast else None
    opened = made(equal[0], reshape) if equal else None
    if equal is None or opened is None or not isinstance(equal[1], Path) or b.stored[opened[0]] != x.shape[:-1]:
        return None
    row, step = b.net._find(equal[1].path).numpy(), b.made.get(opened[0])
    dtype = row.dtype
    if dtype not in dtypes.INTEGER or row.shape[-1:] != x.shape[-1:] or not np.array_equal(row.reshape(-1), np.arange(x.shape[-1])):
        return None
    source = opened[0]
    if step is not None and step.call is as_dtype and any(v.key == step.inputs[0] for v in b._inputs):
        source = step.inputs[0]
    given = next((v for v in b._inputs if v.key == source), None)
    return Value(shape=x.shape[:-1], dtype=dtype if given is None else given.dtype, order=layout.plain(x.rank - 1), key=source)


def _unflattened(b: Builder, x: Value) -> tuple[Value, Any] | None:
    """Where x (n, features) was flattened with a turn of its dims: the same without the turn, and for each of its features
    which feature of x it is. So the turn is of weights, once, and not of activations."""
    flat = b.made.get(x.key) if x.data is None else None
    if flat is None or flat.call is not reshape or x.rank != 2:
        return None
    turn = b.made.get(flat.inputs[0])
    if turn is None or turn.call is not move.permute_dims:
        return None
    axes, lies = turn.attrs["axes"], b.stored[turn.inputs[0]]
    lead = 1 if x.shape[0] != 1 and lies[0] == x.shape[0] and axes[0] == 0 else 0
    if int(np.prod(lies[lead:])) != x.shape[1]:
        return None
    own = [a - lead for a in axes[lead:]]
    places = np.arange(x.shape[1]).reshape([lies[lead:][a] for a in own]).transpose(layout.inverse(own)).reshape(-1)
    before = Value(shape=lies, dtype=x.dtype, order=layout.plain(len(lies)), key=turn.inputs[0])
    return b.emit(reshape, [before], (0, 1), {"shape": layout.opened(x.shape, 1)}), places


def matmul(b: Builder, x: Value, y: Value) -> Value:
    """The product over the last dim of x and the last but one of y; leading dims broadcast."""
    if known(y) and y.rank == 2 and x.data is None and x.rank >= 1:
        return linear(b, x, arrange.transpose(b, y, (1, 0)), None)
    (p, ta), (q, tb) = (_sides(b, v) for v in (x, y))
    rank = max(x.rank, y.rank) if min(x.rank, y.rank) > 1 else max(x.rank, y.rank) - 1
    return b.emit(_matmul, [p, q], layout.plain(rank), {"transpose_a": ta, "transpose_b": tb})

def _sides(b: Builder, v: Value) -> tuple[Value, bool]:
    """The operand as it lies if that is its own order or its transpose."""
    r = v.rank
    if v.data is None and r >= 2 and v.order == (*range(r - 2), r - 1, r - 2):
        return Value(shape=layout.stored(v.shape, v.order), dtype=v.dtype, order=layout.plain(r), key=v.key), True
    return b.plain(v), False

def _matmul(a: Any, b: Any, transpose_a: bool, transpose_b: bool) -> Any:
    if transpose_a and a.ndim > 2 and b.ndim == 2:
        a, transpose_a = move.matrix_transpose(a), False
    return ops.matmul(a, b, transpose_a=transpose_a, transpose_b=transpose_b)

def embedding(b: Builder, w: Value, indices: Value) -> Value:
    """Rows of w (rows, features), which are not counted from the end, at ``indices``."""
    if not known(w) or indices.data is not None or w.rank != 2:
        return arrange.gather(b, w, indices, 0)

    def make() -> nn.Module:
        layer = nn.Embedding(*w.shape)
        layer.weight = Param(data_of(w))
        return layer

    path = b.new_layer("embedding", ("embedding", identity(w)), make)
    return b.layer(path, [b.plain(indices)], layout.plain(indices.rank + 1))

def attention(b: Builder, q: Value, k: Value, v: Value, mask: Value | None, *, causal: bool, scale: float | None) -> Value:
    """``softmax(q k' scale + mask) v``; a mask of bools says where a query may look, one of zeros and minus infinities likewise, any other
    is added. ``causal``: query i sees keys up to i."""
    rows, keys = q.shape[-2], k.shape[-2]
    if mask is not None and mask.data is not None and mask.dtype != dtypes.bool_ and np.isin(mask.data, (0, -np.inf)).all():
        mask = constant(mask.data == 0)
    if causal and rows != keys:
        mask, causal = constant(np.tril(np.ones((rows, keys), bool))), False
    if mask is None or mask.dtype == dtypes.bool_:
        return b.emit(F.attention, [b.plain(x) if x is not None else None for x in (q, k, v, mask)], layout.plain(q.rank), {"causal": causal, "scale": scale})
    scores = matmul(b, q, arrange.transpose(b, k, (*range(k.rank - 2), k.rank - 1, k.rank - 2)))
    by = constant(np.asarray(1 / np.sqrt(q.shape[-1]) if scale is None else scale, q.dtype))
    scores = elementwise(b, math.add, elementwise(b, math.multiply, scores, by), mask)
    return matmul(b, b.emit(F.softmax, [b.plain(scores)], layout.plain(scores.rank), {"axis": -1}), v)

def add(b: Builder, x: Value, y: Value, x_once: bool, y_once: bool) -> Value:
    """``x + y``; a vector over the channels of a layer without bias, whose result nobody else reads, becomes its bias."""
    return _with(b, "bias", math.add, x, y, x_once, y_once)

def multiply(b: Builder, x: Value, y: Value, x_once: bool, y_once: bool) -> Value:
    """``x y``; a vector after a normalization without a weight, whose result nobody else reads, becomes its weight."""
    return _with(b, "weight", math.multiply, x, y, x_once, y_once)

def _with(b: Builder, name: str, f: Any, x: Value, y: Value, x_once: bool, y_once: bool) -> Value:
    for v, w, once in ((x, y, x_once), (y, x, y_once)):
        if once and b.take(v, name, w):
            return v
    return elementwise(b, f, x, y)

__all__ = ["add", "attention", "conv", "data_of", "embedding", "filled", "known", "linear", "matmul", "multiply"]
