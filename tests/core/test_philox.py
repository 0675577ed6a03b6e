"""Philox4x32-10 against Random123's known answers and an independent implementation in Python integers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shohin.core.errors import AttrError
from shohin.core.philox import FOLD, PERMUTATION, fold_in, key_words, permutation, philox4x32

word = st.integers(0, 2**32 - 1)

# Random123, tests/kat_vectors, the lines "philox4x32 10": counter, key, answer.
KNOWN = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def hexes(text):
    return [int(word, 16) for word in text.split()]


def reference(counter, key):
    """Written from the paper, in Python integers; the key is advanced before rounds 2 to 10."""
    x, k = list(counter), list(key)
    for r in range(10):
        if r:
            k = [(k[0] + 0x9E3779B9) % 2**32, (k[1] + 0xBB67AE85) % 2**32]
        hi0, lo0 = divmod(0xD2511F53 * x[0], 2**32)
        hi1, lo1 = divmod(0xCD9E8D57 * x[2], 2**32)
        x = [hi1 ^ x[1] ^ k[0], lo1, hi0 ^ x[3] ^ k[1], lo0]
    return x


@pytest.mark.parametrize("counter, key, answer", KNOWN)
def test_known_answers(counter, key, answer):
    got = philox4x32(np.array(hexes(counter), np.uint32), np.array(hexes(key), np.uint32))
    assert got.dtype == np.uint32
    assert got.tolist() == hexes(answer)


@given(st.lists(word, min_size=4, max_size=4), st.lists(word, min_size=2, max_size=2))
def test_equals_the_reference(counter, key):
    assert philox4x32(counter, key).tolist() == reference(counter, key)


def test_leading_axes_broadcast():
    counters = np.arange(3 * 5 * 4, dtype=np.uint32).reshape(3, 5, 4)
    keys = np.arange(5 * 2, dtype=np.uint32).reshape(5, 2)
    got = philox4x32(counters, keys)
    assert got.shape == (3, 5, 4)
    assert got[2, 3].tolist() == reference(counters[2, 3].tolist(), keys[3].tolist())
    assert philox4x32(counters[0, 0], keys).shape == (5, 4)
    assert philox4x32(np.zeros((0, 4), np.uint32), keys[0]).shape == (0, 4)


@given(word, st.integers(0, 2**64 - 1))
def test_fold_in_equals_its_definition(key, data):
    assert fold_in(key, data).tolist() == reference([data % 2**32, data >> 32, 0, FOLD], [key, 0])[:2]


def test_fold_in_of_lanes_equals_fold_in_of_each():
    lanes = np.arange(7)
    assert fold_in(3, lanes).tolist() == [fold_in(3, int(lane)).tolist() for lane in lanes]
    keys = fold_in(3, lanes)
    assert fold_in(keys, 9).tolist() == [fold_in(key, 9).tolist() for key in keys]


@given(st.integers(0, 40), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_permutation_equals_its_definition(n, key, epoch):
    words = []
    for j in range(n):
        block = reference([j // 2, epoch % 2**32, epoch >> 32, PERMUTATION], [key % 2**32, key >> 32])
        low, high = block[2 * (j % 2) : 2 * (j % 2) + 2]
        words.append((low + (high << 32), j))
    got = permutation(n, key, epoch)
    assert got.dtype == np.int64
    assert got.tolist() == [j for _, j in sorted(words)]


def test_permutation_of_a_data_set_is_one():
    order = permutation(60_000, key=0)
    assert np.array_equal(np.sort(order), np.arange(60_000))
    assert not np.array_equal(order, permutation(60_000, key=0, epoch=1))
    assert not np.array_equal(order, permutation(60_000, key=1))


def test_permutations_are_uniform():
    """All 24 orders of four items over 4,800 epochs: chi squared with 23 degrees of freedom, 0.1 % point 49.7."""
    seen = {}
    for epoch in range(4800):
        order = tuple(permutation(4, key=12345, epoch=epoch).tolist())
        seen[order] = seen.get(order, 0) + 1
    assert len(seen) == 24
    assert sum((count - 200) ** 2 / 200 for count in seen.values()) < 49.7


def test_key_words():
    assert key_words(2**64 - 1).tolist() == [2**32 - 1, 2**32 - 1]
    assert key_words(np.uint32([5, 6])).tolist() == [5, 6]
    assert permutation(9, key=2**32 + 7).tolist() == permutation(9, key=[7, 1]).tolist()


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: key_words(-1), r"key: got -1, expected an integer in \[0, 2\*\*64\)"),
        (lambda: key_words(2**64), r"expected an integer in \[0, 2\*\*64\)"),
        (lambda: key_words([1, 2, 3]), r"key: got 3, expected uint32\[\.\.\., 2\]"),
        (lambda: key_words([2**32, 0]), "words below"),
        (lambda: key_words(True), "key: got True"),
        (lambda: philox4x32([1.5, 0, 0, 0], [0, 0]), "counter: .*float64.*, expected integers"),
        (lambda: philox4x32(7, [0, 0]), "counter: got a scalar"),
        (lambda: fold_in(0, -3), "data: got -3"),
        (lambda: permutation(-1, 0), "n is -1"),
        (lambda: permutation(3, 0, epoch=-1), "epoch: got -1"),
    ],
)
def test_errors(call, message):
    with pytest.raises(AttrError, match=message):
        call()
