"""CIFAR-10's reader on a small archive in its format."""

import io
import tarfile

import numpy as np
import pytest

from shohin.core.errors import DataError
from shohin.data.cifar10 import CLASSES, MEAN, STD, cifar10, read_archive

NAMES = [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]


def archive(path, files):
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture
def records():
    rng = np.random.default_rng(0)
    made = {name: rng.integers(0, 256, (2, 3073)).astype(np.uint8) for name in NAMES}
    for i, name in enumerate(NAMES):
        made[name][:, 0] = [i, 9]
    return made


def test_reads_the_binary_layout(tmp_path, records):
    files = {"batches.meta.txt": b"airplane\n", **{name: r.tobytes() for name, r in records.items()}}
    train, test = read_archive(archive(tmp_path / "c.tar.gz", files))
    assert train.x.shape == (10, 32, 32, 3) and train.x.dtype == np.float32
    assert train.y.tolist() == [0, 9, 1, 9, 2, 9, 3, 9, 4, 9] and test.y.tolist() == [5, 9]
    assert train.classes == CLASSES
    for row, column, c in [(0, 0, 0), (31, 2, 1), (7, 30, 2)]:
        pixel = records["data_batch_2.bin"][1, 1 + c * 1024 + row * 32 + column]
        assert train.x[3, row, column, c] == np.float32((pixel / 255 - MEAN[c]) / STD[c])


def test_refuses(tmp_path, records):
    files = {name: r.tobytes() for name, r in records.items()}
    with pytest.raises(DataError, match="holds no data_batch_4.bin; it has data_batch_1.bin, "):
        read_archive(archive(tmp_path / "1", {n: c for n, c in files.items() if "4" not in n}))
    with pytest.raises(DataError, match="test_batch.bin has 6,145 bytes, expected a multiple of 3,073"):
        read_archive(archive(tmp_path / "2", {**files, "test_batch.bin": files["test_batch.bin"][:-1]}))
    with pytest.raises(DataError, match="y, row 0 is 77"):
        read_archive(archive(tmp_path / "3", {**files, "test_batch.bin": bytes([77]) * 3073}))
    (tmp_path / "4").write_bytes(b"no archive")
    with pytest.raises(DataError, match="cannot be read as an archive"):
        read_archive(tmp_path / "4")


def test_without_any_source_the_error_is_clear(tmp_path, monkeypatch):
    monkeypatch.setenv("SHOHIN_CACHE", str(tmp_path))
    with pytest.raises(DataError, match="cifar10: no source has cifar-10-binary.tar.gz"):
        cifar10(sources=())
