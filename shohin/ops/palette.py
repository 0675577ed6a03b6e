"""``depalettize``: weights that are stored as packed numbers of entries of a codebook, read where they stand.

An entry is ``dim`` values, which neighbours along the innermost dim take together. Row r of ``packed`` holds the entry numbers
of ``shape[0]``'s row r one after another, ``bits`` each, lowest bit first; rows ``r * group ... (r + 1) * group - 1`` look
into row r of the codebook, where the entries lie one after another. The compiler never folds the op (its kind is
``storage``), and where both operands are constants it takes the shifts and the load into the loops of the consumer: an
artefact holds the numbers and the codebook, and no memory holds the weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from shohin.core import dtypes, interp, loop
from shohin.core.axes import Shape
from shohin.core.errors import ShapeError
from shohin.core.op import EXACT, NO_GRADIENT, Attr, Aval, Dtypes, Op, Quant, Sample, register
from shohin.core.tensor import Tensor, as_tensor
from shohin.ops import kinds, math, move, reduce

Array = np.ndarray[Any, Any]
Attrs = Mapping[str, Any]


def row_bytes(columns: int, bits: int) -> int:
    """Bytes of a row of ``columns`` numbers."""
    return -(-columns * bits // 8)


def pack(codes: Array, bits: int) -> Array:
    """Numbers (rows, columns) below 2^bits as uint8 (rows, bytes).

    >>> pack(np.array([[1, 2, 3, 0, 1]]), 2).tolist()
    [[57, 1]]
    """
    rows, columns = codes.shape
    lanes = (codes[:, :, None].astype(np.uint8) >> np.arange(bits, dtype=np.uint8)) & 1
    wide = np.zeros((rows, row_bytes(columns, bits) * 8), np.uint8)
    wide[:, : columns * bits] = lanes.reshape(rows, -1)
    return np.packbits(wide, axis=1, bitorder="little")


def unpack(packed: Array, bits: int, columns: int) -> Array:
    """The numbers (rows, columns), int32, of ``pack``'s bytes."""
    lanes = np.unpackbits(packed, axis=1, bitorder="little")[:, : columns * bits].reshape(len(packed), columns, bits)
    return (lanes.astype(np.int32) << np.arange(bits)).sum(2, dtype=np.int32)


def packed_numbers(codes: Any, bits: int) -> Tensor:
    """``pack`` as ops, for numbers (rows, columns) that a program computes."""
    codes, lanes = math.astype(codes, dtypes.int32), as_tensor(np.arange(bits, dtype=np.int32))
    rows, columns = codes.shape
    ones = math.bitwise_and(math.bitwise_right_shift(move.expand_dims(codes, axis=-1), lanes), 1)
    size = row_bytes(columns, bits)
    wide = move.pad(move.reshape(ones, (rows, columns * bits)), ((0, 0), (0, size * 8 - columns * bits)))
    powers = as_tensor(2 ** np.arange(8, dtype=np.int32))
    return math.astype(reduce.sum(move.reshape(wide, (rows, size, 8)) * powers, axis=-1), dtypes.uint8)


def _shape(operands: Sequence[Aval], shape: Shape, bits: int, group: int, dim: int) -> Sequence[Shape]:
    packed, book = operands[0].shape, operands[1].shape
    if dim < 1 or shape[-1] % dim or len(shape) < 2:
        raise ShapeError(f"depalettize: entries of {dim} values do not divide the innermost dim of weights {shape}")
    wanted = (shape[0], row_bytes(prod(shape[1:]) // dim, bits)), (-(-shape[0] // group), 2**bits * dim)
    for what, found, expected in (("packed", packed, wanted[0]), ("codebook", book, wanted[1])):
        if found != expected:
            raise ShapeError(f"depalettize: {what} is {found}, expected {expected} for weights {shape}, entries of {dim} values, {bits} bits")
    return [shape]


def _numpy(packed: Array, book: Array, shape: Shape, bits: int, group: int, dim: int) -> Array:
    codes = unpack(packed, bits, prod(shape[1:]) // dim)
    return book.reshape(len(book), -1, dim)[np.arange(shape[0])[:, None] // group, codes].reshape(shape)


def number_at(load: Any, coords: Sequence[loop.Expr], shape: Shape, bits: int, last: int, dim: int = 1) -> tuple[loop.Expr, loop.Expr]:
    """Expressions of the number that the weight at ``coords`` has in rows of ``last + 1`` bytes, and of its place in the entry."""
    column: loop.Expr = loop.const(0, dtypes.int32)
    for c, n in zip(coords[1:-1], shape[1:-1], strict=True):
        column = column * n + c
    column = column * (shape[-1] // dim) + (coords[-1] if dim == 1 else coords[-1] // dim)
    bit = column * bits
    byte = bit >> 3
    value = loop.cast(load(0, (coords[0], byte)), dtypes.int32)
    if 8 % bits:  # a number may lie across two bytes
        value = value | (loop.cast(load(0, (coords[0], loop.minimum(byte + 1, last))), dtypes.int32) << 8)
    within = loop.const(0, dtypes.int32) if dim == 1 else coords[-1] % dim
    return (value >> (bit & 7)) & (2**bits - 1), within


def _nest(coords: Sequence[loop.Expr], load: Any, avals: Sequence[Aval], result: Aval, attrs: Attrs) -> loop.Expr:
    dim, one = attrs["dim"], avals[1].shape[0] == 1
    code, within = number_at(load, coords, result.shape, attrs["bits"], avals[0].shape[1] - 1, dim)
    entry = code if dim == 1 else code * dim + within
    return load(1, (loop.const(0, dtypes.int32) if one else coords[0] // attrs["group"], entry))


def _book_vjp(packed: Tensor, book: Tensor, y: Tensor, g: Tensor, shape: Shape, bits: int, group: int, dim: int) -> Tensor:
    """An entry's gradient is the sum of those of the weights that it stands for."""
    numbers = as_tensor(np.arange(book.size, dtype=np.int32).reshape(book.shape))
    where = interp.bind(_depalettize, [packed, numbers], {"shape": shape, "bits": bits, "group": group, "dim": dim})[0]
    attrs = {"axis": 0, "batch_dims": 0, "shape": (book.size,)}
    found = interp.bind(kinds.get("scatter_add"), [move.reshape(g, (-1,)), move.reshape(where, (-1,))], attrs)[0]
    return move.reshape(found, book.shape)


def _lanes(operands: Sequence[Tensor], mask: Sequence[bool], size: int, attrs: Attrs) -> list[Tensor]:
    lane = lambda k: [o[k] if m else o for o, m in zip(operands, mask, strict=True)]
    return [move.stack([interp.bind(_depalettize, lane(k), attrs)[0] for k in range(size)])]


def _samples(rng: np.random.Generator) -> list[Sample]:
    found = []
    cases = ((4, 2, 3, 2), 2, 4, 1), ((5, 7), 3, 2, 1), ((3, 9), 1, 1, 1), ((2, 5), 4, 2, 1), ((3, 2, 1, 4), 3, 2, 2), ((2, 8), 1, 2, 4)
    for shape, bits, group, dim in cases:
        codes = rng.integers(0, 2**bits, (shape[0], prod(shape[1:]) // dim))
        book = rng.uniform(-1, 1, (-(-shape[0] // group), 2**bits * dim)).astype(np.float32)
        found.append(Sample((pack(codes, bits), book), {"shape": shape, "bits": bits, "group": group, "dim": dim}))
    return found


_depalettize = register(Op(
    name="depalettize", kind="storage",
    doc="Weights from packed numbers of entries of a codebook, one codebook for each ``group`` rows, ``dim`` values an entry.",
    source="Han et al. 2016, section 3 (weight sharing); Stock et al. 2020, section 3 (vectors)", operands=("packed", "codebook"), results=("w",),
    attrs={"shape": Attr(type="static"), "bits": Attr(type="static"), "group": Attr(type="static"), "dim": Attr(type="static")},
    dtypes=Dtypes(accepted=(frozenset({dtypes.uint8}), dtypes.FLOATING | {dtypes.int8, dtypes.int32}), same=False,
                  result=lambda found, a: (found[1],), compute=lambda d: d, accumulator=lambda d: d),
    axes=None, shape=_shape, body=None, combiner=None, identity=None, order=None, pad=None, fin=None, numpy=_numpy,
    vjp=(NO_GRADIENT, _book_vjp),
    nest=_nest, batch=_lanes, alias=False, quant=Quant.refuse("it makes weights; activations do not pass it"),
    tol=EXACT, samples=_samples, edges=(),
))  # fmt: skip


def depalettize(packed: Any, codebook: Any, *, shape: Shape, bits: int, group: int | None = None, dim: int = 1) -> Tensor:
    """uint8 (rows, bytes) and (codebooks, 2^bits * dim) -> weights of ``shape``; ``group`` rows share a codebook (or all).

    >>> depalettize(pack(np.array([[0, 3, 1]]), 2), np.float32([[-1, 0, 1, 2]]), shape=(1, 3), bits=2).tolist()
    [[-1.0, 2.0, 0.0]]
    >>> depalettize(pack(np.array([[1, 0]]), 1), np.float32([[1, 2, 3, 4]]), shape=(1, 4), bits=1, dim=2).tolist()
    [[3.0, 4.0, 1.0, 2.0]]
    """
    attrs = {"shape": tuple(shape), "bits": int(bits), "group": int(group or shape[0]), "dim": int(dim)}
    return interp.bind(_depalettize, [as_tensor(packed), as_tensor(codebook)], attrs)[0]


__all__ = ["depalettize", "number_at", "pack", "packed_numbers", "row_bytes", "unpack"]
