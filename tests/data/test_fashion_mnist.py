"""Fashion-MNIST as it is: shapes, counts, normalization, known examples."""

import hashlib

import numpy as np
import pytest

from shohin.core.errors import DataError
from shohin.data.fashion_mnist import CLASSES, FILES, MEAN, STD
from shohin.data.fashion_mnist import fashion_mnist as load


def test_is_what_the_paper_says(fashion_mnist):
    train, test = fashion_mnist
    assert (len(train), len(test)) == (60_000, 10_000)
    for data, each in ((train, 6000), (test, 1000)):
        assert data.x.shape[1:] == (28, 28, 1) and data.x.dtype == np.float32
        assert data.y.dtype == np.int64 and data.classes == CLASSES
        assert np.bincount(data.y).tolist() == [each] * 10
    assert [CLASSES[y] for y in train.y[:4]] == ["Ankle boot", "T-shirt/top", "T-shirt/top", "Dress"]


def test_is_normalized_by_the_training_images(fashion_mnist):
    train, test = fashion_mnist
    assert abs(train.x.mean(dtype=np.float64)) < 1e-6
    assert abs(train.x.std(dtype=np.float64) - 1) < 1e-6
    assert abs(test.x.mean(dtype=np.float64)) < 1e-2


def test_pixels_come_back_exactly(fashion_mnist):
    """Undoing the normalization gives whole pixels, and with them the test file's own checksum."""
    _, test = fashion_mnist
    pixels = (test.x.astype(np.float64) * STD + MEAN) * 255
    assert np.abs(pixels - np.rint(pixels)).max() < 1e-4
    header = bytes([0, 0, 8, 3]) + np.array([10_000, 28, 28], ">u4").tobytes()
    content = header + np.rint(pixels).astype(np.uint8).tobytes()
    assert hashlib.sha256(content).hexdigest() == FILES[2].sha256


def test_without_any_source_the_error_is_clear(tmp_path, monkeypatch):
    monkeypatch.setenv("SHOHIN_CACHE", str(tmp_path))
    with pytest.raises(DataError, match="fashion-mnist: no source has train-images-idx3-ubyte, .*Tried:"):
        load(sources=())
