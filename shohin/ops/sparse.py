"""``densify``: weights that are stored as a bit each and the values that are not 0, read where they stand.

The weight is a matrix (out, terms), cut into blocks of A rows by B terms (1 by 1: single weights). Bit c of row r of
``bits``, in words of 32, lowest bit first, says whether block (r, c) is kept; ``values`` are the kept blocks, row after row;
``starts`` counts, for each word, those before it. So the value of any weight is found by one count of bits. Like
``depalettize`` (``ops/palette``) the op is of the kind ``storage``: never folded, inlined into its reader's loops.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from shohin.core import dtypes, interp, loop
from shohin.core.axes import Shape
from shohin.core.errors import ShapeError
from shohin.core.op import EXACT, NO_GRADIENT, Attr, Aval, Dtypes, Op, Quant, Sample, register
from shohin.core.tensor import Tensor, as_tensor
from shohin.ops import kinds, move

Array = np.ndarray[Any, Any]
Attrs = Mapping[str, Any]
WORD = 32
TILE = (4, 16)
"""The blocks of ``densify_tiles``: what int8 kernels multiply in one step."""


def extent(shape: Shape, block: tuple[int, int]) -> tuple[int, int]:
    """Blocks down and along a weight of ``shape``."""
    return -(-shape[0] // block[0]), -(-prod(shape[1:]) // block[1])


def pack(w: Array, block: tuple[int, int] = (1, 1)) -> tuple[Array, Array, Array]:
    """The operands ``bits``, ``values``, ``starts`` for a weight; a block stays if anything in it is not 0.

    >>> bits, values, starts = pack(np.int8([[0, 5, 0], [7, 0, -1]]))
    >>> bits.tolist(), values.tolist(), starts.tolist()
    ([[2], [5]], [[5], [7], [-1]], [[0], [1]])
    """
    (a, b), (p, q) = block, extent(w.shape, block)
    flat = w.reshape(len(w), -1)
    padded = np.pad(flat, ((0, p * a - flat.shape[0]), (0, q * b - flat.shape[1])))
    blocks = padded.reshape(p, a, q, b).transpose(0, 2, 1, 3).reshape(p, q, a * b)
    kept = (blocks != 0).any(2)
    words = -(-q // WORD)
    wide = np.zeros((p, words * WORD), bool)
    wide[:, :q] = kept
    bits = np.packbits(wide, axis=1, bitorder="little").view("<u4").astype(np.uint32)
    counts = np.concatenate([[0], np.cumsum(wide.reshape(-1, WORD).sum(1))[:-1]])
    values = blocks[kept] if kept.any() else np.zeros((1, a * b), w.dtype)
    return bits, values, counts.reshape(p, words).astype(np.uint16 if counts[-1] < 1 << 16 else np.int32)


def unpack(bits: Array, values: Array, shape: Shape, block: tuple[int, int]) -> Array:
    """The weight of ``pack``'s arrays."""
    (a, b), (p, q) = block, extent(shape, block)
    kept = np.unpackbits(bits.astype("<u4").view(np.uint8), axis=1, bitorder="little")[:, :q].astype(bool)
    blocks = np.zeros((p, q, a * b), values.dtype)
    blocks[kept] = values[: int(kept.sum())]
    return blocks.reshape(p, q, a, b).transpose(0, 2, 1, 3).reshape(p * a, q * b)[: shape[0], : prod(shape[1:])].reshape(shape)


def _shape(operands: Sequence[Aval], shape: Shape, block: tuple[int, int]) -> Sequence[Shape]:
    p, q = extent(shape, block)
    bits, values, starts = (o.shape for o in operands)
    wanted = (p, -(-q // WORD))
    for what, found, expected in (("bits", bits, wanted), ("values", values[1:], (block[0] * block[1],)), ("starts", starts, wanted)):
        if found != expected:
            raise ShapeError(f"densify: {what} is {found}, expected {expected} for weights {shape} in blocks of {block}")
    return [shape]


def _numpy(bits: Array, values: Array, starts: Array, shape: Shape, block: tuple[int, int]) -> Array:
    return unpack(bits, values, shape, block)


def _count(word: loop.Expr) -> loop.Expr:
    """The ones of a uint32, as int32: sums of neighbouring bits, pairs, and fours (Warren 2012, figure 5-2)."""
    x = word - ((word >> 1) & 0x55555555)
    x = (x & 0x33333333) + ((x >> 2) & 0x33333333)
    return loop.cast((((x + (x >> 4)) & 0x0F0F0F0F) * 0x01010101) >> 24, dtypes.int32)


def _nest(coords: Sequence[loop.Expr], load: Any, avals: Sequence[Aval], result: Aval, attrs: Attrs) -> loop.Expr:
    a, b = attrs["block"]
    column: loop.Expr = loop.const(0, dtypes.int32)
    for c, n in zip(coords[1:], result.shape[1:], strict=True):
        column = column * n + c
    row, at = coords[0] // a, column // b
    word = load(0, (row, at // WORD))
    shift = loop.cast(at % WORD, dtypes.uint32)
    bit = (word >> shift) & 1
    rank = loop.cast(load(2, (row, at // WORD)), dtypes.int32) + _count(word & ((loop.const(1, dtypes.uint32) << shift) - 1))
    kept = loop.equal(bit, 1)
    value = load(1, (loop.select(kept, rank, 0), (coords[0] % a) * b + column % b))
    return loop.select(kept, value, 0)


def _values_vjp(bits: Tensor, values: Tensor, starts: Tensor, y: Tensor, g: Tensor, shape: Shape, block: tuple[int, int]) -> Tensor:
    """A value's gradient is that of its weight; what is not stored goes to a place before the first."""
    numbers = as_tensor(np.arange(1, values.size + 1, dtype=np.int32).reshape(values.shape))
    where = interp.bind(_densify, [bits, numbers, starts], {"shape": shape, "block": block})[0]
    attrs = {"axis": 0, "batch_dims": 0, "shape": (values.size + 1,)}
    found = interp.bind(kinds.get("scatter_add"), [move.reshape(g, (-1,)), move.reshape(where, (-1,))], attrs)[0]
    return move.reshape(found[1:], values.shape)


def _lanes(operands: Sequence[Tensor], mask: Sequence[bool], size: int, attrs: Attrs) -> list[Tensor]:
    lane = lambda k: [o[k] if m else o for o, m in zip(operands, mask, strict=True)]
    return [move.stack([interp.bind(_densify, lane(k), attrs)[0] for k in range(size)])]


_SOME = (((4, 2, 3, 2), (1, 1), 0.5), ((5, 70), (1, 1), 0.2), ((7, 9), (2, 4), 0.5), ((3, 2, 20), (4, 1), 0.9))
_TILED = (((6, 2, 3, 8), TILE, 0.5), ((5, 70), TILE, 0.3))


def _samples(rng: np.random.Generator, some: Any = _SOME) -> list[Sample]:
    found = []
    for shape, block, share in some:
        p, q = extent(shape, block)
        chosen = np.random.default_rng(0).random((p, q)) < share  # the same for every lane: their values are as many
        kept = np.repeat(np.repeat(chosen, block[0], 0), block[1], 1)[: shape[0], : prod(shape[1:])]
        kept[0, 0] = True
        w = rng.uniform(0.1, 1, shape).astype(np.float32) * kept.reshape(shape)
        found.append(Sample(pack(w, block), {"shape": shape, "block": block}))
    return found


_densify = register(Op(
    name="densify", kind="storage", doc="Weights from a bit for each block and the blocks that are not 0.",
    source="Buluç et al. 2011 (doi:10.1109/IPDPS.2011.73), bitmasked blocks; Jacobson 1989 for counts a word",
    operands=("bits", "values", "starts"), results=("w",),
    attrs={"shape": Attr(type="static"), "block": Attr(type="static")},
    dtypes=Dtypes(accepted=(frozenset({dtypes.uint32}), dtypes.FLOATING | {dtypes.int8, dtypes.int32}, frozenset({dtypes.uint16, dtypes.int32})), same=False,
                  result=lambda found, a: (found[1],), compute=lambda d: d, accumulator=lambda d: d),
    axes=None, shape=_shape, body=None, combiner=None, identity=None, order=None, pad=None, fin=None, numpy=_numpy,
    vjp=(NO_GRADIENT, _values_vjp, NO_GRADIENT),
    nest=_nest, batch=_lanes, alias=False, quant=Quant.refuse("it makes weights; activations do not pass it"),
    tol=EXACT, samples=_samples, edges=(),
))  # fmt: skip

register(replace(
    _densify, name="densify_tiles", doc="The same in blocks of 4 rows by 16 terms, for kernels that skip them.",
    source="Gale et al. 2020 (arXiv:2006.10901) for blocks as large as a kernel's step", samples=lambda rng: _samples(rng, _TILED),
))  # fmt: skip


def densify(bits: Any, values: Any, starts: Any, *, shape: Shape, block: tuple[int, int] = (1, 1)) -> Tensor:
    """uint32 (rows, words), (kept, A B) and counts (rows, words) -> weights of ``shape``.

    >>> densify(*pack(np.float32([[0, 2.5], [-1, 0]])), shape=(2, 2)).tolist()
    [[0.0, 2.5], [-1.0, 0.0]]
    """
    attrs = {"shape": tuple(shape), "block": tuple(block)}
    return interp.bind(_densify, [as_tensor(bits), as_tensor(values), as_tensor(starts)], attrs)[0]


__all__ = ["TILE", "WORD", "densify", "extent", "pack", "unpack"]
