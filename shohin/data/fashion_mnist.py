"""Fashion-MNIST: 60,000 + 10,000 gray images of clothes, 28 x 28, in ten classes (MIT licence).

Source: Xiao, Rasul, Vollgraf, *Fashion-MNIST: a novel image dataset for benchmarking machine learning algorithms*,
arXiv:1708.07747.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from shohin.core.errors import DataError
from shohin.data.dataset import Dataset
from shohin.data.files import File, Source, debian_package, download, folder, obtain
from shohin.data.idx import parse_idx

__all__ = ["CLASSES", "MEAN", "STD", "fashion_mnist"]

CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip

# Mean and standard deviation of pixel / 255 over all training pixels.
MEAN = 0.2860406
STD = 0.3530242

FILES = (
    File(name="train-images-idx3-ubyte", size=47_040_016,
         sha256="c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"),
    File(name="train-labels-idx1-ubyte", size=60_008,
         sha256="bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"),
    File(name="t10k-images-idx3-ubyte", size=7_840_016,
         sha256="5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"),
    File(name="t10k-labels-idx1-ubyte", size=10_008,
         sha256="0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"),
)  # fmt: skip

# Debian compresses the files anew, so the sums above are of the decompressed files, which are the same everywhere.
SOURCES = (
    folder(Path("/usr/share/datasets/fashion-mnist")),
    debian_package("dataset-fashion-mnist", "usr/share/datasets/fashion-mnist"),
    download("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/", ".gz"),
    download("https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/", ".gz"),
)


def fashion_mnist(*, sources: Sequence[Source] = SOURCES) -> tuple[Dataset, Dataset]:
    """Fashion-MNIST, normalized: ``(pixel / 255 - MEAN) / STD``, rounded once from float64.

    Args:
        sources: where to look when the cache (:func:`shohin.data.cache_dir`) has no valid copy: by default Debian's
            package (installed, or fetched without root), then the public download and its mirror.

    Returns:
        ``(train, test)``: x float32 ``[60000 | 10000, 28, 28, 1]``, y int64, ten classes. About 220 MB of memory.

    Raises:
        DataError: the files cannot be had; the message tells all that was tried.

    >>> train, test = fashion_mnist()                                               # doctest: +SKIP
    >>> test                                                                        # doctest: +SKIP
    Dataset(10,000 examples, x float32 [28, 28, 1], y int64, classes T-shirt/top, Trouser, Pullover, Dress, ... (10))
    """
    paths = obtain("fashion-mnist", FILES, sources)
    return _read(paths, "train"), _read(paths, "t10k")


def _read(paths: dict[str, Path], part: str) -> Dataset:
    images_name, labels_name = f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte"
    images = parse_idx(paths[images_name].read_bytes(), images_name)
    labels = parse_idx(paths[labels_name].read_bytes(), labels_name)
    if images.dtype != np.uint8 or images.shape[1:] != (28, 28):
        raise DataError(f"{images_name}: holds {images.dtype} {images.shape}, expected uint8 images of 28 x 28")
    # A pixel has 256 values, so normalizing is a look-up: exact, and without a float64 copy of the images.
    table = ((np.arange(256) / 255 - MEAN) / STD).astype(np.float32)
    return Dataset(table[images][..., None], labels, classes=CLASSES)
