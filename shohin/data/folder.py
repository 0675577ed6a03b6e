"""A folder or file as examples: subfolders are labels, else ``.npy``, ``.npz`` or unlabelled images.

Images need Pillow (``pip install 'shohin[images]'``); they become float32, ``(v / 255 - mean) / std``, in the layout of the
network's input.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shohin.core.errors import DataError
from shohin.data.dataset import Dataset

try:
    from PIL import Image
except ImportError:  # an extra: asked for where the first image is met
    Image = None  # type: ignore[assignment]

__all__ = ["PICTURES", "PLAIN", "Reading", "read_folder"]

Array = np.ndarray[Any, Any]
PICTURES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".pgm", ".ppm", ".tif", ".tiff", ".webp")
ARRAYS = (".npy", ".npz")


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How files become examples.

    Args:
        shape: of one example, without the batch; by default that of the first one. An image network's channels (1, 3 or 4)
            stand last, or first where only the first dim is 1, 3 or 4.
        resize: fit images of other sizes (bilinear); otherwise they are an error.
        mean, std: one number, or one a channel.
        limit: at most so many examples, spread evenly over the files.
    """

    shape: tuple[int, ...] | None = None
    resize: bool = False
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    limit: int | None = None

    def __post_init__(self) -> None:
        if any(not s > 0 for s in self.std):
            raise DataError(f"std is {self.std}, expected positive numbers")

    @property
    def channels_first(self) -> bool:
        s = self.shape
        return s is not None and len(s) == 3 and s[0] in (1, 3, 4) and s[2] not in (1, 3, 4)


PLAIN = Reading()


def read_folder(path: str | Path, reading: Reading = PLAIN) -> Dataset | Array:
    """A ``Dataset`` where there are labels, else float32 examples (n, ...).

    ``.npz`` holds ``x``, and ``y`` if there are labels; a ``.npy`` in a folder is one example (or several, where ``shape``
    says that its first dim counts them). Subfolders whose names are all numbers give these as labels, others their
    position in alphabetical order.

    Raises:
        DataError: nothing to read, files of other sizes, dtypes or formats, NaN or infinity; each names the file.

    >>> np.save("x.npy", np.ones((5, 2), np.float32))
    >>> read_folder("x.npy").shape
    (5, 2)
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"data {path}: no such file or folder")
    if path.is_file():
        return _one_file(path, reading)
    groups = sorted((d for d in path.iterdir() if d.is_dir() and not d.name.startswith(".")), key=lambda d: d.name)
    found = [(d, _files(d)) for d in groups]
    found = [(d, files) for d, files in found if files]
    own = _files(path)
    if found and own:
        raise DataError(
            f"data {path}: both files ({own[0].name}, ...) and subfolders that would be labels ({found[0][0].name}, ...); "
            "move the files into subfolders, or name one of them"
        )
    if not found and not own:
        raise DataError(
            f"data {path}: nothing to read; expected subfolders (labels) with images or .npy files, or such files themselves "
            f"(images: {', '.join(PICTURES)})"
        )
    if not found:
        if len(own) == 1 and own[0].suffix == ".npz":
            return _one_file(own[0], reading)
        x, _ = _stack([(f, 0) for f in own], reading)
        return x
    names = [d.name for d, _ in found]
    numbers = all(n.isdecimal() for n in names)
    labels = [int(n) for n in names] if numbers else list(range(len(names)))
    x, y = _stack([(f, label) for (_, files), label in zip(found, labels, strict=True) for f in files], reading)
    return Dataset(x, y, classes=None if numbers else names)


def _files(folder: Path) -> list[Path]:
    return sorted(f for f in folder.iterdir() if f.is_file() and f.suffix.lower() in (*PICTURES, *ARRAYS))


def _one_file(path: Path, reading: Reading) -> Dataset | Array:
    kind = path.suffix.lower()
    if kind not in (*ARRAYS, *PICTURES):
        raise DataError(f"data {path}: expected a folder, .npy, .npz or an image")
    if kind in PICTURES:
        return _stack([(path, 0)], reading)[0]
    found = _loaded(path)
    if isinstance(found, dict) and "x" not in found:
        raise DataError(f"data {path}: holds {', '.join(found) or 'nothing'}, expected x (and y for labels)")
    x = _examples(found["x"] if isinstance(found, dict) else found, path, reading.shape, single=False)
    keep = _spread(len(x), reading.limit)
    y = found.get("y") if isinstance(found, dict) else None
    return x[keep] if y is None else Dataset(x, y)[np.asarray(keep)]


def _stack(files: Sequence[tuple[Path, int]], reading: Reading) -> tuple[Array, Array]:
    """Examples and labels of the files, read one by one, all of one shape."""
    parts: list[Array] = []
    labels: list[int] = []
    shape, first = reading.shape, files[0][0]
    for k in _spread(len(files), reading.limit):
        file, label = files[k]
        part = _picture(file, shape, reading)[None] if file.suffix.lower() in PICTURES else _array(file, shape)
        if shape is None:
            shape, first = part.shape[1:], file
        if part.shape[1:] != shape:
            raise DataError(f"data {file}: an example of shape {part.shape[1:]}, but {first} has {shape}")
        parts.append(part)
        labels += [label] * len(part)
    return np.concatenate(parts), np.asarray(labels, np.int64)


def _spread(count: int, limit: int | None) -> list[int]:
    """``limit`` of ``count`` numbers, evenly spaced.

    >>> _spread(10, 4), _spread(3, 4)
    ([0, 2, 5, 7], [0, 1, 2])
    """
    return list(range(count)) if limit is None or count <= limit else [k * count // limit for k in range(limit)]


def _array(file: Path, shape: tuple[int, ...] | None) -> Array:
    found = _loaded(file)
    if isinstance(found, dict):
        raise DataError(f"data {file}: an .npz stands alone; give it itself instead of its folder")
    return _examples(found, file, shape, single=True)


def _loaded(file: Path) -> Any:
    try:
        found = np.load(file, allow_pickle=False)
        return found if isinstance(found, np.ndarray) else dict(found.items())
    except (OSError, ValueError, EOFError, KeyError) as error:
        raise DataError(f"data {file}: cannot be read ({error})") from error
    except Exception as error:  # a zip archive that is cut off has an error class of its own
        raise DataError(f"data {file}: cannot be read ({type(error).__name__}: {error})") from error


def _examples(x: Array, file: Path, shape: tuple[int, ...] | None, *, single: bool) -> Array:
    """float32 (n, ...)."""
    if x.dtype.kind != "f":
        raise DataError(f"data {file}: {x.dtype}, expected float32 as the network takes it; scale it and write x.astype('float32')")
    if shape is not None and x.shape == shape:
        x = x[None]
    elif shape is None and single:
        x = x[None]
    elif x.ndim < 2 or (shape is not None and x.shape[1:] != shape):
        raise DataError(f"data {file}: shape {x.shape}, expected (n, {', '.join(map(str, shape or ('...',)))})")
    if len(x) == 0:
        raise DataError(f"data {file}: no examples")
    x = np.ascontiguousarray(x, np.float32)
    _finite(x, str(file))
    return x


def _finite(x: Array, what: str) -> None:
    if not np.isfinite(x).all():
        row, *rest = np.argwhere(~np.isfinite(x))[0].tolist()
        raise DataError(f"data {what}: example {row} holds {x[(row, *rest)]} at {rest}; leave it out or fill the value in")


def _picture(file: Path, shape: tuple[int, ...] | None, reading: Reading) -> Array:
    """One image as float32 of ``shape``."""
    if Image is None:
        raise DataError(f"data {file}: images need Pillow: pip install 'shohin[images]' (or give .npy files)")
    if shape is not None and len(shape) != 3:
        raise DataError(f"data {file}: an image, but the network takes {shape}; give .npy files of that shape")
    first = reading.channels_first
    height, width, channels = (None, None, None) if shape is None else (shape[1], shape[2], shape[0]) if first else shape
    try:
        with Image.open(file) as image:
            gray = 1 if image.mode in ("1", "L", "I", "I;16") else 3
            wanted = {1: "L", 3: "RGB", 4: "RGBA"}.get(channels or gray)
            if wanted is None:
                raise DataError(f"data {file}: an image has 1, 3 or 4 channels, the network takes {shape}")
            if height is not None and width is not None and (image.height, image.width) != (height, width):
                if not reading.resize:
                    raise DataError(
                        f"data {file}: {image.width} x {image.height} pixels, the network takes {width} x {height}; "
                        "pass resize=True (--resize), or prepare the images"
                    )
                image = image.convert(wanted).resize((width, height), Image.Resampling.BILINEAR)
            pixels = np.asarray(image.convert(wanted), np.float32)
    except (OSError, SyntaxError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"data {file}: no image that can be read ({error})") from error
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    mean, std = (np.asarray(list(_each(v, pixels.shape[2], file)), np.float32) for v in (reading.mean, reading.std))
    pixels = (pixels / np.float32(255) - mean) / std
    return np.ascontiguousarray(np.moveaxis(pixels, 2, 0) if first else pixels)


def _each(values: Sequence[float], channels: int, file: Path) -> Iterator[float]:
    if len(values) not in (1, channels):
        raise DataError(f"data {file}: {len(values)} means or deviations for {channels} channels; give one, or one a channel")
    yield from (values if len(values) == channels else [values[0]] * channels)
