"""``widen``: integers of few bits that are stored packed, as int8, read where they stand.

Row r of ``packed`` holds the integers of ``shape[0]``'s row r one after another, ``bits`` each in two's complement, lowest bit
first. There is no codebook, so that small rows gain too: 9 weights of 4 bits are 5 bytes. Like ``depalettize`` the op is of
the kind ``storage``: never folded, inlined into its reader's loops.
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
from shohin.ops import move
from shohin.ops.palette import number_at, pack, row_bytes, unpack

Array = np.ndarray[Any, Any]


def pack_integers(w: Array, bits: int) -> Array:
    """Integers (rows, ...) in [-2^(bits-1), 2^(bits-1)) as uint8 (rows, bytes).

    >>> pack_integers(np.int8([[-1, 1, 0, -2]]), 2).tolist()
    [[135]]
    """
    return pack(w.reshape(len(w), -1).astype(np.int64) & (2**bits - 1), bits)


def _shape(operands: Sequence[Aval], shape: Shape, bits: int) -> Sequence[Shape]:
    wanted = (shape[0], row_bytes(prod(shape[1:]), bits))
    if not 1 < bits < 8 or operands[0].shape != wanted:
        raise ShapeError(f"widen: packed is {operands[0].shape}, expected {wanted} for weights {shape} of {bits} bits (2 to 7)")
    return [shape]


def _numpy(packed: Array, shape: Shape, bits: int) -> Array:
    half = 2 ** (bits - 1)
    return ((unpack(packed, bits, prod(shape[1:])) ^ half) - half).astype(np.int8).reshape(shape)


def _nest(coords: Sequence[loop.Expr], load: Any, avals: Sequence[Aval], result: Aval, attrs: Mapping[str, Any]) -> loop.Expr:
    code, _ = number_at(load, coords, result.shape, attrs["bits"], avals[0].shape[1] - 1)
    half = 2 ** (attrs["bits"] - 1)
    return loop.cast((code ^ half) - half, dtypes.int8)


def _lanes(operands: Sequence[Tensor], mask: Sequence[bool], size: int, attrs: Mapping[str, Any]) -> list[Tensor]:
    return [move.stack([interp.bind(_widen, [operands[0][k]], attrs)[0] for k in range(size)])]


def _samples(rng: np.random.Generator) -> list[Sample]:
    found = []
    for shape, bits in (((4, 2, 3, 2), 2), ((5, 7), 3), ((3, 9), 4), ((2, 5), 7)):
        w = rng.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), shape)
        found.append(Sample((pack_integers(w, bits),), {"shape": shape, "bits": bits}))
    return found


_widen = register(Op(
    name="widen", kind="storage", doc="int8 from packed integers of ``bits`` bits, two's complement.",
    source="docs/quantization.md, Q2", operands=("packed",), results=("w",),
    attrs={"shape": Attr(type="static"), "bits": Attr(type="static")},
    dtypes=Dtypes(accepted=(frozenset({dtypes.uint8}),), same=False, result=lambda found, a: (dtypes.int8,), compute=lambda d: d, accumulator=lambda d: d),
    axes=None, shape=_shape, body=None, combiner=None, identity=None, order=None, pad=None, fin=None, numpy=_numpy, vjp=(NO_GRADIENT,),
    nest=_nest, batch=_lanes, alias=False, quant=Quant.refuse("it makes weights; activations do not pass it"), tol=EXACT, samples=_samples, edges=(),
))  # fmt: skip


def widen(packed: Any, *, shape: Shape, bits: int) -> Tensor:
    """uint8 (rows, bytes) -> int8 of ``shape``.

    >>> widen(pack_integers(np.int8([[-1, 1, 0, -2]]), 2), shape=(1, 4), bits=2).tolist()
    [[-1, 1, 0, -2]]
    """
    return interp.bind(_widen, [as_tensor(packed)], {"shape": tuple(shape), "bits": int(bits)})[0]


__all__ = ["pack_integers", "widen"]
