"""``Dataset``: arrays of equal length, checked once, and the batches that they are read in."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shohin.core.errors import DataError
from shohin.core.philox import fold_in, key_words, permutation

__all__ = ["Dataset"]

_SPLIT = 0x53504C54  # "SPLT": a split is no epoch's order, so it has a key of its own
_CHECK_BYTES = 1 << 24  # NaN are looked for in pieces of 16 MB, so that the check needs no second copy of the data

Array = NDArray[Any]


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Examples ``x`` and their labels ``y``: two arrays of equal length, and the names of the classes, if any.

    Args:
        x: ``[n, ...]``; images are float32 ``[n, height, width, channel]``, series ``[n, length, channel]``.
        y: ``[n, ...]``; class labels (with ``classes``) become int64, targets of a regression stay as they are.
        classes: the names of the classes. With them, labels are checked to lie in ``[0, len(classes))``.

    The arrays are held as read-only views. Memory is not copied, so a caller who goes on writing to his own array
    changes the data set; NaN written that way are not found.

    Raises:
        DataError: lengths that differ, no examples, NaN or infinity, a label out of range; each names the row.

    >>> data = Dataset(np.zeros((4, 2), np.float32), [0, 1, 1, 0], classes=("left", "right"))
    >>> data
    Dataset(4 examples, x float32 [2], y int64, classes left, right)
    >>> [y.tolist() for x, y in data.batches(2, key=0, epoch=0)]
    [[1, 0], [0, 1]]
    >>> x, y = data[1]
    """

    x: Array
    y: Array
    classes: tuple[str, ...] | None = None

    def __init__(self, x: ArrayLike, y: ArrayLike, classes: Sequence[str] | None = None) -> None:
        names = None if classes is None else _checked_names(classes)
        xs, ys = _checked_array("x", x), _checked_array("y", y)
        if len(xs) != len(ys):
            raise DataError(f"Dataset: x has {len(xs)} rows and y has {len(ys)}; every example needs one label")
        if len(xs) == 0:
            raise DataError("Dataset: there are no examples")
        if names is not None:
            ys = _checked_labels(ys, names)
        self._set(xs, ys, names)

    def _set(self, x: Array, y: Array, classes: tuple[str, ...] | None) -> None:
        object.__setattr__(self, "x", _read_only(x))
        object.__setattr__(self, "y", _read_only(y))
        object.__setattr__(self, "classes", classes)

    def _rows(self, index: Any) -> Dataset:
        """Some of the rows; they have been checked already."""
        x, y = self.x[index], self.y[index]
        if len(x) == 0:
            raise DataError(f"Dataset: {index!r} selects none of the {len(self)} examples")
        part = object.__new__(Dataset)
        part._set(x, y, self.classes)
        return part

    def __len__(self) -> int:
        return len(self.x)

    @overload
    def __getitem__(self, index: int) -> tuple[Array, Array]: ...
    @overload
    def __getitem__(self, index: slice | Sequence[int] | Array) -> Dataset: ...
    def __getitem__(self, index: Any) -> tuple[Array, Array] | Dataset:
        """One example ``(x, y)`` by number; a data set by slice, list of numbers or boolean mask."""
        if isinstance(index, (int, np.integer)):
            return self.x[index], self.y[index]
        return self._rows(index if isinstance(index, slice) else np.asarray(index))

    def __repr__(self) -> str:
        def form(a: Array) -> str:
            return f"{a.dtype} [{', '.join(map(str, a.shape[1:]))}]" if a.ndim > 1 else str(a.dtype)

        names = "" if self.classes is None else f", classes {_short(self.classes)}"
        return f"Dataset({len(self):,} examples, x {form(self.x)}, y {form(self.y)}{names})"

    def digest(self) -> str:
        """32 hexadecimal digits that change with any value, shape, dtype or class name; it reads all of the data."""
        h = hashlib.blake2b(digest_size=16)
        for a in (self.x, self.y):
            h.update(f"{a.dtype}{a.shape}".encode())
            h.update(np.ascontiguousarray(a).view(np.uint8).data if a.size else b"")
        h.update(repr(self.classes).encode())
        return h.hexdigest()

    def take(self, n: int) -> Dataset:
        """The first ``n`` examples, without a copy.

        Raises:
            DataError: ``n`` is not in ``1 .. len(self)``.

        >>> len(Dataset(np.zeros((4, 2)), np.zeros(4)).take(3))
        3
        """
        if not _is_count(n) or not 1 <= n <= len(self):
            raise DataError(f"take: n is {n!r}, expected 1 to {len(self)} (the data set's length)")
        return self._rows(slice(0, n))

    def split(self, part: float, *, key: ArrayLike | None = 0) -> tuple[Dataset, Dataset]:
        """Two data sets that share no example: the first of ``part``, the second of the rest.

        Args:
            part: a float in ``(0, 1)`` is a fraction, an int a number of examples.
            key: chooses the examples (a Philox permutation; the same key, the same split). Both halves are copies, in
                shuffled order. ``None`` cuts without shuffling or copying.

        Raises:
            DataError: ``part`` leaves nothing on one side.

        >>> train, valid = Dataset(np.zeros((10, 2)), np.arange(10)).split(0.8)
        >>> len(train), len(valid), sorted([*train.y, *valid.y]) == list(range(10))
        (8, 2, True)
        """
        n = len(self)
        if isinstance(part, (float, np.floating)) and 0 < part < 1:
            first = round(float(part) * n)
        elif _is_count(part):
            first = int(part)
        else:
            raise DataError(f"split: part is {part!r}, expected a fraction in (0, 1) or a number of examples (an int)")
        if not 0 < first < n:
            raise DataError(f"split: {part!r} of {n} examples leaves {max(first, 0)} and {n - first}; both need one")
        if key is None:
            return self._rows(slice(0, first)), self._rows(slice(first, n))
        order = permutation(n, fold_in(key, _SPLIT))
        return self._rows(order[:first]), self._rows(order[first:])

    def map(
        self,
        x: Callable[[Array], ArrayLike] | None = None,
        *,
        y: Callable[[Array], ArrayLike] | None = None,
        classes: Sequence[str] | None = None,
    ) -> Dataset:
        """A new data set, with functions of whole arrays applied once, now (an augmentation belongs into ``fit``).

        Args:
            x: ``x[n, ...] -> [n, ...]``.
            y: ``y[n, ...] -> [n, ...]``.
            classes: new names, where ``y`` changes the meaning of the labels; without them the old ones hold.

        Raises:
            DataError: a function changes the number of rows, or as in the constructor.

        >>> data = Dataset(np.ones((4, 8, 8, 1), np.float32), [0, 1, 2, 1], classes="abc")
        >>> data.map(lambda x: x[:, ::2, ::2], y=lambda y: y > 0, classes=("a", "other"))
        Dataset(4 examples, x float32 [4, 4, 1], y int64, classes a, other)
        """
        xs = self.x if x is None else np.asarray(x(self.x))
        ys = self.y if y is None else np.asarray(y(self.y))
        for name, new in (("x", xs), ("y", ys)):
            if new.shape[:1] != (len(self),):
                raise DataError(
                    f"map: the function of {name} returned shape {new.shape} for {len(self)} rows; it is called once "
                    "with the whole array and keeps the first axis"
                )
        return Dataset(xs, ys, self.classes if classes is None else classes)

    def batches(
        self, n: int, shuffle: bool = True, *, key: ArrayLike = 0, epoch: int = 0
    ) -> Iterator[tuple[Array, Array]] | Iterator[tuple[Array, Array, NDArray[np.bool_]]]:
        """The batches of one epoch, each of exactly ``n`` examples.

        Args:
            n: examples a batch.
            shuffle: ``True`` yields ``(x, y)`` in the order ``permutation(len(self), key, epoch)`` and drops the rest
                that fills no batch. ``False`` yields ``(x, y, mask)`` in the order of the data; the last batch is
                padded with zeros, and ``mask``, ``bool[n]``, is True for real examples.
            key: of the order; the same key and epoch give the same batches, on every machine.
            epoch: which of the key's orders. *A loop over epochs passes it*; without, every epoch has the same order.

        Raises:
            DataError: ``n`` below one, or (shuffling) above the number of examples, where nothing would be yielded.

        >>> data = Dataset(np.arange(5.0), np.arange(5))
        >>> [(y.tolist(), mask.tolist()) for x, y, mask in data.batches(3, shuffle=False)]
        [([0, 1, 2], [True, True, True]), ([3, 4, 0], [True, True, False])]
        >>> [len(y) for x, y in data.batches(2)]
        [2, 2]
        """
        if not _is_count(n) or n < 1:
            raise DataError(f"batches: n is {n!r}, expected a number of examples, at least 1")
        if not shuffle:
            return self._in_order(n)
        if n > len(self):
            raise DataError(
                f"batches: a batch of {n} from {len(self)} examples would yield nothing, for the rest is dropped; "
                f"use n <= {len(self)}, or shuffle=False, which pads"
            )
        return self._shuffled(n, permutation(len(self), key_words(key), epoch))

    def _shuffled(self, n: int, order: NDArray[np.int64]) -> Iterator[tuple[Array, Array]]:
        for start in range(0, len(self) - n + 1, n):
            rows = order[start : start + n]
            yield self.x[rows], self.y[rows]

    def _in_order(self, n: int) -> Iterator[tuple[Array, Array, NDArray[np.bool_]]]:
        for start in range(0, len(self), n):
            x, y = self.x[start : start + n], self.y[start : start + n]
            real = len(x)
            yield _padded(x, n), _padded(y, n), np.arange(n) < real


def _is_count(n: object) -> bool:
    return isinstance(n, (int, np.integer)) and not isinstance(n, bool)


def _padded(a: Array, n: int) -> Array:
    if len(a) == n:
        return a
    out = np.zeros((n, *a.shape[1:]), a.dtype)
    out[: len(a)] = a
    return out


def _read_only(a: Array) -> Array:
    view = a.view()
    view.flags.writeable = False
    return view


def _short(names: Sequence[str], limit: int = 4) -> str:
    return ", ".join(names) if len(names) <= limit else f"{', '.join(names[:limit])}, ... ({len(names)})"


def _checked_names(classes: Sequence[str]) -> tuple[str, ...]:
    names = tuple(classes)
    for i, name in enumerate(names):
        if not isinstance(name, str):
            raise DataError(f"Dataset: classes[{i}] is {name!r}, expected the name of a class")
        if name in names[:i]:
            raise DataError(f"Dataset: classes[{names.index(name)}] and classes[{i}] are both {name!r}")
    return names


def _checked_array(name: str, value: ArrayLike) -> Array:
    try:
        a = np.asarray(value)
    except ValueError as error:
        raise DataError(f"Dataset: {name} is no array: {error}") from error
    if a.dtype.kind in "OSUMm" or a.dtype.names is not None:
        raise DataError(f"Dataset: {name} has dtype {a.dtype}, expected numbers; encode it first")
    if a.ndim == 0:
        raise DataError(f"Dataset: {name} is a single value, expected an array whose first axis counts the examples")
    if a.dtype.kind in "fcV":  # V: bfloat16, float8 and others of ml_dtypes
        step = max(1, _CHECK_BYTES // max(1, a[:1].nbytes))
        for start in range(0, len(a), step):
            try:
                finite = np.isfinite(a[start : start + step])
            except TypeError:  # an integer type of ml_dtypes: nothing to check
                break
            if not finite.all():
                row, *rest = np.argwhere(~finite)[0].tolist()
                row += start
                where = f" at {rest}" if rest else ""
                raise DataError(
                    f"Dataset: {name}, row {row} holds {a[(row, *rest)]}{where}; drop the row or fill the value in"
                )
    return a


def _checked_labels(y: Array, classes: tuple[str, ...]) -> Array:
    if y.dtype.kind not in "iub":
        raise DataError(f"Dataset: y has dtype {y.dtype}; with classes, labels are integers: use y.astype('int64')")
    if y.dtype.kind == "b":
        y = y.astype(np.int64)
    wrong = (y < 0) | (y >= len(classes))
    if wrong.any():
        row, *rest = np.argwhere(wrong)[0].tolist()
        where = f" at {rest}" if rest else ""
        raise DataError(
            f"Dataset: y, row {row} is {int(y[(row, *rest)])}{where}, expected 0 to {len(classes) - 1} "
            f"(the {len(classes)} classes {_short(classes)}); {int(wrong.sum())} label(s) in all are out of range"
        )
    return y.astype(np.int64, copy=False)
