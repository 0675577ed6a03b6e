"""The slot ``table``: weights are few values. ``Tabling`` is all but the rule that says which values.

A layer's weight becomes ``depalettize(numbers, codebook)``, computed wherever the layer reads it, so that training
moves the codebook and everything else (quantization, export) needs nothing new.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from shohin.compress.stats import Stats
from shohin.compress.weights import Reweighting, Weight, WeightMethod
from shohin.core.cells import Buffer, Param
from shohin.core.errors import PlanError
from shohin.core.tensor import Tensor, as_tensor
from shohin.ops import palette

Array = np.ndarray[Any, Any]
Rule = Callable[[slice, Array, int], Array]


@dataclass(frozen=True)
class Tabling(WeightMethod, abstract=True):
    """Base of methods that give weights 2^``bits`` values (1 to 4 bits) for each ``group`` output channels (None: for the tensor).

    A subclass has ``values``. Every weight takes the nearest one; training moves the values; which weight takes which stays.
    """

    bits: int = 2
    group: int | None = None
    slot: ClassVar[str] = "table"
    supplied: ClassVar[tuple[str, ...]] = ("entries",)

    def __post_init__(self) -> None:
        name = type(self).__name__
        if self.bits not in (1, 2, 3, 4):
            raise PlanError(f"{name}: bits is {self.bits!r}, expected 1 to 4; for 8 write Quantize(w=8)")
        if self.group is not None and self.group < 1:
            raise PlanError(f"{name}: group is {self.group}, expected a positive number of output channels")

    def values(self, w: Tensor, stats: Stats, entries: int) -> Any:
        """``entries`` values for the weights w (n,) of one group; statistics are (n,) too. Weights that a mask holds at 0 are not
        among them."""
        raise NotImplementedError(f"{type(self).__name__}.values")

    @classmethod
    def of(cls, function: Callable[..., Any]) -> Mapping[str, Any]:
        """What a subclass made of ``function(w, stats, *, entries, ...)`` has."""
        given = list(inspect.signature(function).parameters)[2:]

        def values(self: Any, w: Tensor, stats: Stats, entries: int) -> Any:
            return function(w, stats, **{n: entries if n == "entries" else getattr(self, n) for n in given})

        return {"values": values}

    def state(self, w: Weight, stats: Stats) -> Reweighting:
        flat, name = w.value.reshape(len(w.value), -1), type(self).__name__

        def rule(rows: slice, free: Array, count: int) -> Array:
            own = Stats(name, {n: np.asarray(a)[rows][free] for n, a in stats.items()})
            found = as_tensor(self.values(as_tensor(flat[rows][free]), own, count)).numpy()
            if found.shape != (count,) or found.dtype.kind != "f" or not np.isfinite(found).all():
                raise PlanError(
                    f"{name} at {w.place}: the values are {found.dtype}{list(found.shape)}"
                    f"{'' if found.dtype.kind != 'f' or np.isfinite(found).all() else ', not all finite'}, expected "
                    f"{count} finite floats"
                )
            return np.sort(found)

        return Palette(w.value, self.bits, self.group, w.value == 0 if w.masked else None, rule)


class Palette(Reweighting):
    """The numbers (packed, kept) and the codebook (trained) of one weight; ``forward`` is the weight.

    Weights marked in ``zeros`` (a mask's) take an entry that is 0 and stays 0, and no others take it. ``rule(rows, free,
    count)`` gives the other entries of a group, ascending.
    """

    slot, kind, done, replaces = "table", "palette", "palettized", True

    def __init__(self, w: Array, bits: int, group: int | None, zeros: Array | None, rule: Rule) -> None:
        self.shape, self.bits, self.group = tuple(w.shape), bits, min(group or len(w), len(w))
        flat = w.reshape(len(w), -1)
        held = np.zeros(flat.shape, bool) if zeros is None else zeros.reshape(flat.shape)
        codes, book = np.zeros(flat.shape, np.int64), np.zeros((-(-len(w) // self.group), 2**bits), np.float32)
        for g, start in enumerate(range(0, len(w), self.group)):
            rows = slice(start, start + self.group)
            free, spare = ~held[rows], int(held[rows].any())  # entry 0 is the held zero
            if free.any():
                book[g, spare:] = rule(rows, free, 2**bits - spare)
                codes[rows][free] = spare + nearest(flat[rows][free], book[g, spare:])
        self.numbers = Buffer(palette.pack(codes, bits))
        self.codebook = Param(book)
        if held.any():
            moves = np.ones(book.shape, np.float32)
            moves[[held[k : k + self.group].any() for k in range(0, len(w), self.group)], 0] = 0
            self.moves = Buffer(moves)

    def forward(self, w: Any = None) -> Tensor:
        book: Any = self.codebook
        if hasattr(self, "moves"):
            book = book * self.moves
        return palette.depalettize(self.numbers, book, shape=self.shape, bits=self.bits, group=self.group)


def nearest(x: Array, values: Array) -> Array:
    """For each x the number of the nearest of the ascending ``values``."""
    return np.searchsorted((values[1:].astype(np.float64) + values[:-1]) / 2, x.astype(np.float64))


__all__ = ["Palette", "Tabling", "nearest"]
