"""Folders and files as examples: labels, layouts, sizes, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shohin.core.errors import DataError
from shohin.data import Dataset, folder
from shohin.data.folder import Reading, read_folder

Image = pytest.importorskip("PIL.Image")


def picture(path: Path, height: int, width: int, channels: int = 3, value: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = (np.arange(height * width * channels).reshape(height, width, channels) + value) % 256
    Image.fromarray(pixels.astype(np.uint8).squeeze()).save(path)
    return path


def test_subfolders_are_labels(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        for k in range(3):
            picture(tmp_path / name / f"{k}.png", 4, 5, value=k)
    found = read_folder(tmp_path, Reading(shape=(4, 5, 3)))
    assert isinstance(found, Dataset)
    assert found.x.shape == (6, 4, 5, 3) and found.y.tolist() == [0, 0, 0, 1, 1, 1] and found.classes == ("cat", "dog")
    np.testing.assert_allclose(found.x[1].reshape(-1), (np.arange(60) + 1) / 255, rtol=1e-6)


def test_folders_named_by_numbers_give_them(tmp_path: Path) -> None:
    for name in ("7", "10"):
        picture(tmp_path / name / "a.png", 2, 2)
    found = read_folder(tmp_path)
    assert isinstance(found, Dataset)
    assert sorted(found.y.tolist()) == [7, 10] and found.classes is None


def test_pixels_are_normalized_and_laid_out_as_the_network_takes_them(tmp_path: Path) -> None:
    file = picture(tmp_path / "a.png", 6, 7)
    plain = read_folder(file)
    first = read_folder(file, Reading(shape=(3, 6, 7), mean=(0.5, 0.4, 0.3), std=(2.0,)))
    assert isinstance(plain, np.ndarray) and isinstance(first, np.ndarray)
    np.testing.assert_allclose(first[0], (np.moveaxis(plain[0], 2, 0) - np.array([0.5, 0.4, 0.3])[:, None, None]) / 2, rtol=1e-5, atol=1e-7)
    gray = read_folder(file, Reading(shape=(6, 7, 1)))
    assert isinstance(gray, np.ndarray) and gray.shape == (1, 6, 7, 1)


def test_arrays(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(5, 3, 2))
    np.save(tmp_path / "a.npy", x)
    np.savez(tmp_path / "b.npz", x=x.astype(np.float32), y=np.arange(5))
    assert np.shape(read_folder(tmp_path / "a.npy")) == (5, 3, 2)
    with_labels = read_folder(tmp_path / "b.npz", Reading(limit=2))
    assert isinstance(with_labels, Dataset) and with_labels.y.tolist() == [0, 2]
    (tmp_path / "one").mkdir()
    for k, v in enumerate(x):
        np.save(tmp_path / "one" / f"{k}.npy", v)
    np.testing.assert_array_equal(read_folder(tmp_path / "one"), x.astype(np.float32))
    np.testing.assert_array_equal(read_folder(tmp_path / "one", Reading(shape=(3, 2), limit=2)), x[[0, 2]].astype(np.float32))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda p: p / "nowhere", "no such file or folder"),
        (lambda p: p, "nothing to read; expected subfolders"),
        (lambda p: picture(p / "a.png", 4, 4).parent, r"a.png: 4 x 4 pixels, the network takes 5 x 5; pass resize=True"),
        (lambda p: (picture(p / "a.png", 5, 5).write_bytes(b"no image"), p)[1], "a.png: no image that can be read"),
        (lambda p: (picture(p / "a.png", 5, 5), (p / "a.png").write_bytes((p / "a.png").read_bytes()[:45]), p)[2], "a.png: no image that can be read"),
        (lambda p: (picture(p / "x" / "a.png", 5, 5), picture(p / "b.png", 5, 5), p)[2], "both files"),
        (lambda p: (np.save(p / "a.npy", np.zeros((5, 5, 3), np.uint8)), p)[1], "a.npy: uint8, expected float32"),
        (lambda p: (np.save(p / "a.npy", np.zeros((4, 5, 3))), p)[1], r"a.npy: shape \(4, 5, 3\), expected \(n, 5, 5, 3\)"),
        (lambda p: (np.save(p / "a.npy", np.full((5, 5, 3), np.nan)), p)[1], "a.npy: example 0 holds nan at"),
        (lambda p: ((p / "a.npy").write_bytes(b"\x93NUMPY"), p)[1], "a.npy: cannot be read"),
        (lambda p: (np.savez(p / "a.npz", z=np.zeros(3)), p)[1], "holds z, expected x"),
        (lambda p: ((p / "a.npz").write_bytes(b"PK\x03\x04 cut off"), p)[1], "a.npz: cannot be read"),
        (lambda p: ((p / "a.txt").write_text("x"), p / "a.txt")[1], "expected a folder, .npy, .npz or an image"),
    ],
)
def test_what_is_wrong_is_said(make, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said):
        read_folder(make(tmp_path), Reading(shape=(5, 5, 3)))


def test_other_sizes_are_fitted_where_asked(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", 40, 30)
    assert np.shape(read_folder(tmp_path, Reading(shape=(5, 5, 3), resize=True))) == (1, 5, 5, 3)


def test_without_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "Image", None)
    with pytest.raises(DataError, match=r"images need Pillow: pip install 'shohin\[images\]'"):
        read_folder(picture(tmp_path / "a.png", 5, 5))
