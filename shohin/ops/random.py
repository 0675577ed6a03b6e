"""Random numbers: Philox4x32-10 by key and counter, the same bits on every backend.

A draw is a pure op of the key and the counter; the generator's state is two cells. Element i of a draw is word
i % 4 of block (counter + i // 4); a draw of n elements advances the counter by ceil(n / 4).
"""

from __future__ import annotations

import math as _math
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from shohin.core import dtypes, interp, loop
from shohin.core.axes import Shape
from shohin.core.cells import Buffer
from shohin.core.errors import StateError
from shohin.core.op import EXACT, NO_GRADIENT, Attr, Aval, Dtypes, Op, Quant, Sample, register
from shohin.core.philox import fold_in as _fold_in
from shohin.core.philox import key_words, philox4x32
from shohin.core.tensor import Tensor, as_tensor
from shohin.ops import index, math, move

U32 = dtypes.uint32
_U32 = frozenset({U32})


def _words(key: Any, counter: Any, count: int) -> Any:
    """``count`` words from block ``counter`` (lo, hi) on, for one key."""
    blocks = -(-count // 4)
    start = int(counter[0]) + (int(counter[1]) << 32)
    numbers = (start + np.arange(blocks, dtype=object)) if start + blocks >= 1 << 63 else start + np.arange(blocks, dtype=np.int64)
    c = np.zeros((blocks, 4), np.uint32)
    c[:, 0] = (numbers & 0xFFFFFFFF).astype(np.uint32)
    c[:, 1] = (numbers >> 32).astype(np.uint32)
    return philox4x32(c, np.asarray(key, np.uint32)).reshape(-1)[:count]


def _bits_numpy(key: Any, counter: Any, shape: Shape) -> Any:
    return _words(key, counter, prod(shape)).reshape(shape)


def _philox_word(k0: Any, k1: Any, lo: Any, hi: Any, index: Any) -> Any:
    """The meaning of the intrinsic: word ``index`` of the stream that starts at block (lo, hi)."""
    key, start = np.array([k0, k1], np.uint32), int(lo) + (int(hi) << 32)
    flat = np.asarray(index).reshape(-1)
    c = np.zeros((flat.size, 4), np.uint32)
    for j, i in enumerate(flat.tolist()):
        block = start + i // 4
        c[j, 0], c[j, 1] = block & 0xFFFFFFFF, block >> 32 & 0xFFFFFFFF
    return np.take_along_axis(philox4x32(c, key), (flat % 4)[:, None].astype(np.int64), 1).reshape(np.shape(index))


loop.INTRINSICS["philox_word"] = _philox_word


def _bits_nest(coords: Sequence[loop.Expr], load: Any, avals: Sequence[Aval], result: Aval, attrs: Mapping[str, Any]) -> loop.Expr:
    flat: loop.Expr = loop.const(0, dtypes.int32)
    for c, n in zip(coords, result.shape, strict=True):
        flat = flat * n + c
    at = lambda k, i: load(k, (loop.const(i, dtypes.int32),))
    return loop.Intrinsic("philox_word", (at(0, 0), at(0, 1), at(1, 0), at(1, 1), loop.cast(flat, U32)), U32)


_bits = register(Op(
    name="random_bits", kind="random", doc="uint32 words of Philox4x32-10 from a key and a counter of blocks.", source="Salmon et al. 2011",
    operands=("key", "counter"), results=("bits",), attrs={"shape": Attr(type="shape", operand=-1)},
    dtypes=Dtypes(accepted=(_U32, _U32), same=True, result=lambda found, a: (U32,), compute=lambda d: d, accumulator=lambda d: d), axes=None,
    shape=lambda operands, shape: [shape], body=None, combiner=None, identity=None, order=None, pad=None, fin=None, numpy=_bits_numpy, vjp=(NO_GRADIENT, NO_GRADIENT),
    nest=_bits_nest, batch=None, alias=False, quant=Quant.refuse("random bits have no grid"), tol=EXACT, edges=(),
    samples=lambda rng: [Sample((np.array([1, 2], np.uint32), np.array([7, 0], np.uint32)), {"shape": (3, 5)}),
                         Sample((np.array([1, 2], np.uint32), np.array([2**32 - 1, 3], np.uint32)), {"shape": (9,)})],
))  # fmt: skip


def _fold_nest(coords: Sequence[loop.Expr], load: Any, avals: Sequence[Aval], result: Aval, attrs: Mapping[str, Any]) -> loop.Expr:
    at = lambda i: load(0, (loop.const(i, dtypes.int32),))
    return loop.Intrinsic("philox_fold", (at(0), at(1), load(1, ()), loop.cast(coords[0], U32)), U32)


def _philox_fold(k0: Any, k1: Any, data: Any, word: Any) -> Any:
    folded = _fold_in(np.array([k0, k1], np.uint32), int(data))
    return np.asarray(folded)[np.asarray(word)]


loop.INTRINSICS["philox_fold"] = _philox_fold

_fold = register(Op(
    name="fold_in", kind="random", doc="Another key, from a key and a number.", source="Salmon et al. 2011", operands=("key", "data"), results=("key",), attrs={},
    dtypes=Dtypes(accepted=(_U32, _U32), same=True, result=lambda found, a: (U32,), compute=lambda d: d, accumulator=lambda d: d), axes=None,
    shape=lambda operands: [(2,)], body=None, combiner=None, identity=None, order=None, pad=None, fin=None, numpy=lambda key, data: np.asarray(_fold_in(key, int(data)), np.uint32),
    vjp=(NO_GRADIENT, NO_GRADIENT), nest=_fold_nest, batch=None, alias=False, quant=Quant.refuse("a key has no grid"), tol=EXACT, edges=(),
    samples=lambda rng: [Sample((np.array([1, 2], np.uint32), np.array(9, np.uint32)), {})],
))  # fmt: skip


# ------------------------------------------------------------------------------------------- the generator


class Generator:
    """A key (written by ``seed``) and a counter of blocks, both cells: compiled programs take and return them."""

    def __init__(self, seed: int = 0) -> None:
        self.key = Buffer(np.asarray(key_words(seed), np.uint32))
        self.counter = Buffer(np.zeros(2, np.uint32), join="max")  # lanes advance alike
        self.key.name, self.counter.name = "generator.key", "generator.counter"

    def seed(self, seed: int) -> None:
        if interp.current() is not interp.BASE:
            raise StateError(f"sh.seed cannot be called inside {interp.current().kind}; seed outside, or use sh.random.key")
        self.key.write(as_tensor(np.asarray(key_words(seed), np.uint32)))
        self.counter.write(as_tensor(np.zeros(2, np.uint32)))

    def bits(self, shape: Shape) -> Tensor:
        """uint32 words; the counter moves on."""
        counter = self.counter.read()
        out = interp.bind(_bits, [self.key.read(), counter], {"shape": shape})[0]
        self.counter.write(advance(counter, -(-prod(shape) // 4)))
        return out


def advance(counter: Tensor, blocks: int) -> Tensor:
    """The counter (lo, hi) moved on by ``blocks``."""
    step = as_tensor(np.array([blocks & 0xFFFFFFFF, blocks >> 32], np.uint32))
    moved = counter + step
    low, high = moved[:1], moved[1:]
    carry = math.astype(math.less(low, counter[:1]), U32)
    return move.concat([low, high + carry])


default = Generator()


def seed(value: int) -> None:
    """Start the default generator anew. Not inside a transformation."""
    default.seed(value)


# --------------------------------------------------------------------------------------------- explicit keys


def key(value: int) -> Tensor:
    """A key (2 words) from a number, for draws that use no state."""
    return as_tensor(np.asarray(key_words(value), np.uint32))


def fold_in(k: Tensor, data: Any) -> Tensor:
    """Another key, from a key and a number."""
    number = as_tensor(np.asarray(data, np.uint32)) if isinstance(data, int) else math.astype(as_tensor(data), U32)
    return interp.bind(_fold, [k, number], {})[0]


def split(k: Tensor, count: int = 2) -> list[Tensor]:
    """``count`` keys from one."""
    return [fold_in(k, i) for i in range(count)]


def bits(shape: int | Sequence[int], *, key: Tensor | None = None) -> Tensor:
    """uint32 words, from the default generator or from an explicit key."""
    wanted = (shape,) if isinstance(shape, int) else tuple(shape)
    if key is None:
        return default.bits(wanted)
    return interp.bind(_bits, [key, as_tensor(np.zeros(2, np.uint32))], {"shape": wanted})[0]


def uniform(shape: int | Sequence[int] = (), low: float = 0.0, high: float = 1.0, *, key: Tensor | None = None) -> Tensor:
    """float32 in [low, high), 24 random bits each: exactly rounded, so the same on every backend."""
    u = math.astype(bits(shape, key=key) >> 8, dtypes.float32) * (1.0 / 16777216.0)
    return u if (low, high) == (0.0, 1.0) else u * (high - low) + low


def normal(shape: int | Sequence[int] = (), mean: float = 0.0, std: float = 1.0, *, key: Tensor | None = None) -> Tensor:
    """float32 normals by Box and Muller (1958)."""
    wanted = (shape,) if isinstance(shape, int) else tuple(shape)
    u = uniform((2, *wanted), key=key)
    radius = math.sqrt(-2.0 * math.log(1.0 - u[0]))
    z = radius * math.cos(u[1] * (2.0 * _math.pi))
    return z if (mean, std) == (0.0, 1.0) else z * std + mean


def randint(low: int, high: int, shape: int | Sequence[int] = (), *, key: Tensor | None = None) -> Tensor:
    """int32 in [low, high): the high word of a product, of bias below (high - low) / 2^24."""
    span = high - low
    if not 0 < span <= 1 << 24:
        raise ValueError(f"randint: [{low}, {high}) must hold between 1 and 2^24 numbers")
    u = uniform(shape, key=key)
    return math.minimum(math.astype(math.floor(u * span), dtypes.int32), span - 1) + low


def bernoulli(p: float, shape: int | Sequence[int] = (), *, key: Tensor | None = None) -> Tensor:
    """True with probability ``p``."""
    return uniform(shape, key=key) < p


def permutation(n: int, *, key: Tensor | None = None) -> Tensor:
    """An order of n numbers, uniformly drawn."""
    return index.argsort(bits((n,), key=key))

__all__ = ["Generator", "bernoulli", "bits", "fold_in", "key", "normal", "permutation", "randint", "split", "uniform"]
