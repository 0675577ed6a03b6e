"""The IDX parser: what it reads, and how it refuses what is not IDX."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shohin.core.errors import DataError
from shohin.data.idx import TYPES, parse_idx


def idx(array, code):
    header = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(TYPES[code]).tobytes()


@given(st.sampled_from(sorted(TYPES)), st.lists(st.integers(0, 4), max_size=3))
def test_reads_what_was_written(code, shape):
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(np.dtype(TYPES[code]).newbyteorder("="))
    got = parse_idx(idx(array, code))
    assert got.dtype == array.dtype and got.dtype.isnative
    assert np.array_equal(got, array)


GOOD = idx(np.zeros((2, 3)), 0x0C)


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "starts with nothing"),
        (b"\x1f\x8b\x08\0", "is compressed by gzip"),
        (b"<html>", "starts with 3c 68 74 6d; an IDX file starts with 00 00"),
        (b"\0\0\x07\1" + GOOD[4:], "element type 07 is unknown"),
        (GOOD[:9], "truncated in the header: 9 of 12 bytes"),
        (GOOD[:-1], "truncated: the header states 2 x 3 int32, 36 bytes in all, the file has 35"),
        (GOOD + b"\0", "too long"),
    ],
)
def test_refuses(content, message):
    with pytest.raises(DataError, match=f"^labels: {message}"):
        parse_idx(content, "labels")
