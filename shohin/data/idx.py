"""The IDX format of the MNIST family: a header of big-endian integers, then one array.

``00 00 TYPE NDIM``, ``NDIM`` extents as uint32, then the elements in row-major order, all big-endian.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shohin.core.errors import DataError

__all__ = ["parse_idx"]

TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def parse_idx(content: bytes, name: str = "IDX data") -> NDArray[Any]:
    """The array in an IDX file.

    Args:
        content: the file, not compressed.
        name: what errors call it.

    Returns:
        An array in the machine's byte order, of the type and shape that the header states.

    Raises:
        DataError: not an IDX file, an unknown type, fewer or more bytes than the header states.

    >>> parse_idx(bytes([0, 0, 8, 2, 0, 0, 0, 1, 0, 0, 0, 3, 7, 8, 9]))
    array([[7, 8, 9]], dtype=uint8)
    """
    if content[:2] == b"\x1f\x8b":
        raise DataError(f"{name}: is compressed by gzip; decompress it first")
    if len(content) < 4 or content[:2] != b"\0\0":
        raise DataError(f"{name}: starts with {content[:4].hex(' ') or 'nothing'}; an IDX file starts with 00 00")
    if content[2] not in TYPES:
        known = ", ".join(f"{code:02x}" for code in TYPES)
        raise DataError(f"{name}: element type {content[2]:02x} is unknown; IDX has {known}")
    dtype, start = np.dtype(TYPES[content[2]]), 4 + 4 * content[3]
    if len(content) < start:
        raise DataError(f"{name}: truncated in the header: {len(content)} of {start} bytes")
    shape = tuple(int(extent) for extent in np.frombuffer(content, ">u4", content[3], 4))
    expected = start + dtype.itemsize * math.prod(shape)
    if len(content) != expected:
        what = "truncated" if len(content) < expected else "too long"
        form = " x ".join(map(str, shape)) or "one"
        raise DataError(f"{name}: {what}: the header states {form} {dtype.name}, {expected:,} bytes in all, "
                        f"the file has {len(content):,}")  # fmt: skip
    return np.frombuffer(content, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))
