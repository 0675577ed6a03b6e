"""Arrays and text in one file in the safetensors format, written whole or not at all, read with every check."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from shohin.core import dtypes
from shohin.core.dtypes import DType
from shohin.core.errors import CheckpointError

Array = np.ndarray[Any, Any]
_CODES: dict[DType, str] = {
    dtypes.bool_: "BOOL", dtypes.int8: "I8", dtypes.uint8: "U8", dtypes.int16: "I16", dtypes.uint16: "U16",
    dtypes.int32: "I32", dtypes.uint32: "U32", dtypes.int64: "I64", dtypes.uint64: "U64", dtypes.float16: "F16",
    dtypes.bfloat16: "BF16",
    dtypes.float32: "F32", dtypes.float64: "F64",
}  # fmt: skip
_DTYPES = {code: dtype for dtype, code in _CODES.items()}
_NARROW = {
    d.name: d for d in (dtypes.int4, dtypes.uint4, dtypes.int2, dtypes.uint2)
}  # one a byte, named in the metadata
_MAX_HEADER = 100 << 20


def replace(path: Path, pieces: Iterable[bytes | memoryview]) -> None:
    """The file ``path`` with these bytes: a temporary file beside it, fsync, rename. Readers see the old one or the
    new.

    Raises:
        CheckpointError: the folder cannot be written or the disk is full; the old file is as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise cannot_write(path, error) from error


def cannot_write(path: Path, error: OSError) -> CheckpointError:
    """The error for a file that could not be written, with what to do."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        why = "the disk is full; free some space and start again"
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        why = "the folder cannot be written; give run= another one, or its rights back"
    else:
        why = f"{error.strerror or error}"
    kept = f"; the {path.name} of before is as it was" if path.exists() else ""
    return CheckpointError(f"{path} cannot be written: {why}{kept}")


def write(path: Path, arrays: Mapping[str, Array], metadata: Mapping[str, str]) -> None:
    """Arrays by name and text by name, with a checksum of the arrays' bytes in the metadata."""
    header: dict[str, Any] = {}
    pieces: list[memoryview] = []
    narrow: dict[str, str] = {}
    digest, at = hashlib.blake2b(digest_size=16), 0
    for name, array in arrays.items():
        stored = np.ascontiguousarray(array).reshape(array.shape)
        if stored.dtype.name in _NARROW:
            narrow[name] = stored.dtype.name
            stored = stored.astype(np.uint8 if stored.dtype.name.startswith("u") else np.int8)
        if stored.dtype not in _CODES:
            raise CheckpointError(f"{name} has dtype {stored.dtype}, which a checkpoint cannot hold")
        data = stored.reshape(-1).view(np.uint8).data if stored.size else memoryview(b"")
        header[name] = {
            "dtype": _CODES[stored.dtype],
            "shape": list(stored.shape),
            "data_offsets": [at, at + data.nbytes],
        }
        at += data.nbytes
        digest.update(data)
        pieces.append(data)
    text = {**metadata, "checksum": digest.hexdigest(), "narrow": json.dumps(narrow)}
    head = json.dumps({"__metadata__": text, **header}).encode()
    head += b" " * (-len(head) % 8)
    replace(path, [len(head).to_bytes(8, "little"), head, *pieces])


def read(path: Path) -> tuple[dict[str, Array], dict[str, str]]:
    """What ``write`` wrote, as writable arrays; any safetensors file will do.

    Raises:
        CheckpointError: no such file, or one that is truncated, corrupt or no safetensors file.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error
    size = int.from_bytes(raw[:8], "little")
    if len(raw) < 8 or (size <= _MAX_HEADER and len(raw) < 8 + size):
        raise CheckpointError(
            f"{path} is truncated: it has {len(raw)} bytes, not even its header; use an older copy or delete it"
        )
    try:
        header = json.loads(raw[8 : 8 + size])
        metadata = dict(header.pop("__metadata__", {}))
        entries: dict[str, tuple[DType, tuple[int, ...], int, int]] = {
            name: (_DTYPES[e["dtype"]], tuple(e["shape"]), int(e["data_offsets"][0]), int(e["data_offsets"][1]))
            for name, e in header.items()
        }
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} is no safetensors file, or a corrupt one: {error!r}") from error
    body = raw[8 + size :]
    end = max((e[3] for e in entries.values()), default=0)
    if len(body) < end:
        raise CheckpointError(
            f"{path} is truncated: {len(body)} of {end} bytes of arrays are there; use an older copy or delete it"
        )
    if "checksum" in metadata and hashlib.blake2b(body[:end], digest_size=16).hexdigest() != metadata["checksum"]:
        raise CheckpointError(f"{path} is corrupt: its checksum differs; use an older copy or delete it")
    narrow = json.loads(metadata.get("narrow", "{}"))
    arrays: dict[str, Array] = {}
    for name, (dtype, shape, start, stop) in entries.items():
        if int(np.prod(shape, dtype=np.int64)) * dtype.itemsize != stop - start:
            raise CheckpointError(f"{path} is corrupt: {name} has shape {shape} and {stop - start} bytes")
        array = np.frombuffer(body[start:stop], dtype).reshape(shape).copy()
        arrays[name] = array.astype(_NARROW[narrow[name]]) if name in narrow else array
    return arrays, metadata


__all__ = ["cannot_write", "read", "replace", "write"]
