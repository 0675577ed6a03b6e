"""CIFAR-10: 50,000 + 10,000 colour photographs, 32 x 32, in ten classes.

Source: Krizhevsky, *Learning multiple layers of features from tiny images*, 2009. The *binary* archive is read: unlike
the Python one it has no pickles, which can run code.
"""

from __future__ import annotations

import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shohin.core.errors import DataError
from shohin.data.dataset import Dataset
from shohin.data.files import File, Source, download, obtain

__all__ = ["CLASSES", "MEAN", "STD", "cifar10", "read_archive"]

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

# Mean and standard deviation of pixel / 255 over the training images, for red, green, blue (as commonly published).
MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2470, 0.2435, 0.2616)

ARCHIVE = File(name="cifar-10-binary.tar.gz", size=170_052_171,
               sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd")  # fmt: skip
SOURCES = (download("https://www.cs.toronto.edu/~kriz/"),)

_RECORD = 1 + 3 * 32 * 32  # label, then the red, green and blue plane


def cifar10(*, sources: Sequence[Source] = SOURCES) -> tuple[Dataset, Dataset]:
    """CIFAR-10, normalized per channel: ``(pixel / 255 - MEAN) / STD``, rounded once from float64.

    Returns:
        ``(train, test)``: x float32 ``[50000 | 10000, 32, 32, 3]``, y int64, ten classes. About 740 MB of memory.

    Raises:
        DataError: the archive cannot be had, or is not what it should be.

    >>> train, test = cifar10()                                                     # doctest: +SKIP
    """
    return read_archive(obtain("cifar10", [ARCHIVE], sources)[ARCHIVE.name])


def read_archive(path: Path) -> tuple[Dataset, Dataset]:
    """``(train, test)`` from an archive of CIFAR-10's binary layout.

    Raises:
        DataError: a file is missing from the archive, or its length is no number of records.
    """
    batches: dict[str, bytes] = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                stream = archive.extractfile(member) if member.isfile() else None
                if stream is not None:
                    batches[Path(member.name).name] = stream.read()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DataError(f"{path}: cannot be read as an archive: {error}") from error
    train = [_read(batches, f"data_batch_{i}.bin", path) for i in range(1, 6)]
    return _data_set(train), _data_set([_read(batches, "test_batch.bin", path)])


def _read(batches: dict[str, bytes], name: str, path: Path) -> NDArray[np.uint8]:
    if name not in batches:
        raise DataError(f"{path}: holds no {name}; it has {', '.join(sorted(batches)) or 'no files'}")
    if not batches[name] or len(batches[name]) % _RECORD:
        raise DataError(f"{path}: {name} has {len(batches[name]):,} bytes, expected a multiple of {_RECORD:,}")
    return np.frombuffer(batches[name], np.uint8).reshape(-1, _RECORD)


def _data_set(parts: list[NDArray[np.uint8]]) -> Dataset:
    records = np.concatenate(parts)
    planes = records[:, 1:].reshape(-1, 3, 32, 32)
    x = np.empty((len(records), 32, 32, 3), np.float32)
    for c in range(3):
        x[..., c] = ((np.arange(256) / 255 - MEAN[c]) / STD[c]).astype(np.float32)[planes[:, c]]
    return Dataset(x, records[:, 0], classes=CLASSES)
