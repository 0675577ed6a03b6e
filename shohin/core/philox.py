"""Philox4x32-10: random integers as a pure function of a key and a counter.

Source: Salmon, Moraes, Dror, Shaw, *Parallel random numbers: as easy as 1, 2, 3*, SC 2011, section 3.3; constants and
known answers as in Random123. Nothing here has state, and nothing here rounds, so the integers are the same on every
machine and backend.

**Keys.** A key is ``uint32[2]``, low word first; where a function takes a key, an integer in ``[0, 2**64)`` will do.

**Counters.** A counter is ``uint32[4]``. Its words 0 to 2 say which block of which stream; word 3 names the use, so
that different uses of one key never meet:

====================  ==========================  =====================================================
word 3                words 0, 1, 2               use
====================  ==========================  =====================================================
``0``                 block (64 bits), free       draws (uniforms, normals, ...), laid out by their ops
``PERMUTATION``       block, epoch low, high      :func:`permutation`
``FOLD``              data low, data high, 0      :func:`fold_in`
====================  ==========================  =====================================================
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shohin.core.errors import AttrError

__all__ = ["FOLD", "PERMUTATION", "fold_in", "key_words", "permutation", "philox4x32"]

ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)  # golden ratio, sqrt(3) - 1: what a round adds to the key

PERMUTATION = 0x5045524D  # "PERM"
FOLD = 0x464F4C44  # "FOLD"

_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


def philox4x32(counter: ArrayLike, key: ArrayLike) -> NDArray[np.uint32]:
    """One block of four random words for each counter.

    A round is ``(c0, c1, c2, c3) -> (hi(m1 c2) ^ c1 ^ k0, lo(m1 c2), hi(m0 c0) ^ c3 ^ k1, lo(m0 c0))``; ten rounds,
    the key advanced by the Weyl constants between them.

    Args:
        counter: ``uint32[..., 4]``.
        key: ``uint32[..., 2]``; leading axes broadcast against the counter's.

    Returns:
        ``uint32[..., 4]``.

    >>> [hex(word) for word in philox4x32([0, 0, 0, 0], [0, 0])]
    ['0x6627e8d5', '0xe169c58d', '0xbc57ac4c', '0x9b00dbd8']
    """
    c = _words(counter, 4, "counter")
    k = _words(key, 2, "key")
    c0, c1, c2, c3 = (c[..., i] for i in range(4))
    k0, k1 = k[..., 0], k[..., 1]
    m0, m1 = (np.uint64(m) for m in MULTIPLIERS)
    w0, w1 = (np.uint64(w) for w in WEYL)
    for _ in range(ROUNDS):
        # A product of two 32-bit words fits 64 bits, so nothing wraps and no NumPy warning can arise.
        p0, p1 = m0 * c0, m1 * c2
        c0, c1, c2, c3 = (p1 >> _HALF) ^ c1 ^ k0, p1 & _LOW, (p0 >> _HALF) ^ c3 ^ k1, p0 & _LOW
        k0, k1 = (k0 + w0) & _LOW, (k1 + w1) & _LOW
    return np.stack(np.broadcast_arrays(c0, c1, c2, c3), axis=-1).astype(np.uint32)


def key_words(key: ArrayLike) -> NDArray[np.uint32]:
    """A key as ``uint32[..., 2]``, low word first; an integer in ``[0, 2**64)`` is split.

    Raises:
        AttrError: a negative or too large integer, or an array that is no ``uint32[..., 2]``.

    >>> key_words(2**32 + 7)
    array([7, 1], dtype=uint32)
    """
    if isinstance(key, (int, np.integer)) and not isinstance(key, bool):
        value = int(key)
        if not 0 <= value < 1 << 64:
            raise AttrError(f"key: got {value}, expected an integer in [0, 2**64); use `key % 2**64`")
        return np.array([value & 0xFFFFFFFF, value >> 32], np.uint32)
    return _words(key, 2, "key").astype(np.uint32)


def fold_in(key: ArrayLike, data: ArrayLike) -> NDArray[np.uint32]:
    """A new key from a key and a number: an epoch, a step, a lane of a ``vmap``.

    ``fold_in(key, data) = philox4x32((data low, data high, 0, FOLD), key)[:2]``: for one key, a bijection of its
    64-bit block cut to 64 bits, so two data give the same key with the chance of two random words being equal.

    Args:
        key: a key, or ``uint32[..., 2]``.
        data: an integer in ``[0, 2**64)``, or an unsigned integer array ``[...]`` of them.

    Returns:
        ``uint32[..., 2]``, one key for each datum.

    Raises:
        AttrError: data that are negative or not integers.

    >>> fold_in(0, 1).tolist() == fold_in(0, 2).tolist()
    False
    >>> fold_in(0, np.arange(3, dtype=np.uint32)).shape
    (3, 2)
    """
    words = _uint64(data, "data")
    zero = np.zeros_like(words)
    counter = np.stack([words & _LOW, words >> _HALF, zero, zero + np.uint64(FOLD)], axis=-1)
    return philox4x32(counter, key_words(key))[..., :2]


def permutation(n: int, key: ArrayLike, epoch: int = 0) -> NDArray[np.int64]:
    """The order of ``n`` items in an epoch: a permutation that depends on ``n``, ``key`` and ``epoch`` alone.

    Item ``j`` gets a random 64-bit word, and the order is the *stable* argsort of the words, so that equal words (a
    chance of ``n**2 / 2**65``) leave their items in order on every machine. The word of item ``j`` is the pair
    ``j % 2`` (low word first) of the block with counter ``(j // 2, epoch low, epoch high, PERMUTATION)``.

    Args:
        n: number of items, at most ``2**33``.
        key: a key.
        epoch: an integer in ``[0, 2**64)``.

    Returns:
        ``int64[n]``.

    Raises:
        AttrError: ``n`` or ``epoch`` out of range.

    >>> permutation(6, key=0, epoch=0).tolist() == permutation(6, key=0, epoch=1).tolist()
    False
    >>> sorted(permutation(6, key=0).tolist())
    [0, 1, 2, 3, 4, 5]
    """
    if not 0 <= n <= 1 << 33:
        raise AttrError(f"permutation: n is {n}, expected 0 to 2**33")
    low, high = _halves(epoch, "epoch")
    blocks = np.arange((n + 1) // 2, dtype=np.uint64)
    counter = np.empty((blocks.size, 4), np.uint64)
    counter[:, 0] = blocks
    counter[:, 1:] = (low, high, PERMUTATION)
    words = philox4x32(counter, key_words(key)).astype(np.uint64).reshape(-1, 2)[:n]
    return np.argsort(words[:, 0] | (words[:, 1] << _HALF), kind="stable").astype(np.int64)


def _halves(value: int, name: str) -> tuple[int, int]:
    """The two 32-bit halves of an integer in ``[0, 2**64)``, low first; ``name`` is for the error."""
    word = int(_uint64(value, name))
    return word & 0xFFFFFFFF, word >> 32


def _words(value: ArrayLike, count: int, name: str) -> NDArray[np.uint64]:
    """``value`` as 32-bit words ``[..., count]`` held in uint64, where products of words fit."""
    words = _uint64(value, name)
    if words.shape[-1:] != (count,) or (words > _LOW).any():
        shape = "x".join(map(str, words.shape)) or "a scalar"
        raise AttrError(f"{name}: got {shape}, expected uint32[..., {count}] with words below 2**32")
    return words


def _uint64(value: ArrayLike, name: str) -> NDArray[np.uint64]:
    array = np.asarray(value)
    if array.dtype.kind not in "iu" or (array.dtype.kind == "i" and (array < 0).any()):
        raise AttrError(f"{name}: got {value!r} ({array.dtype}), expected integers in [0, 2**64)")
    return array.astype(np.uint64)
