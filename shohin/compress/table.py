"""The slot ``table``: weights are few values. ``Tabling`` is all but the rule that says which values.

A layer's weight becomes ``depalettize(numbers, codebook)``, computed wherever the layer reads it, so that training
moves the codebook and everything else (quantization, export) needs nothing new. With ``dim`` an entry is a vector that as many
neighbours along the innermost dim take together.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from shohin.compress.kmeans import nearest
from shohin.compress.slots import Demo
from shohin.compress.stats import Stats
from shohin.compress.weights import Reweighting, Weight, WeightMethod
from shohin.core.cells import Buffer, Param
from shohin.core.errors import PlanError
from shohin.core.tensor import Tensor, as_tensor
from shohin.ops import palette

Array = np.ndarray[Any, Any]
Rule = Callable[[slice, Array, int], Array]
DIMS = (1, 2, 4, 8)
"""Values of an entry."""


@dataclass(frozen=True)
class Tabling(WeightMethod, abstract=True):
    """Base of methods that give weights 2^``bits`` values for each ``group`` output channels (None: for the tensor).

    Bits are 1 to 4, or 1 to 8 for vectors of ``dim`` (2, 4, 8) weights, so that a weight takes ``bits / dim``. A subclass has
    ``values``. Every weight takes the nearest one; training moves the values; which weight takes which stays.
    """

    bits: int = 2
    group: int | None = None
    dim: int = 1
    slot: ClassVar[str] = "table"
    demo: ClassVar[Demo] = ({"bits": 2}, {"bits": 4, "group": 16})
    supplied: ClassVar[tuple[str, ...]] = ("entries",)

    def __post_init__(self) -> None:
        name, most = type(self).__name__, 4 if self.dim == 1 else 8
        if self.dim not in DIMS:
            raise PlanError(f"{name}: dim is {self.dim!r}, expected {', '.join(map(str, DIMS))} neighbouring weights")
        if self.bits not in range(1, most + 1):
            remedy = "for 8 write Quantize(w=8)" if self.dim == 1 else f"2^8 vectors of {self.dim} are the most"
            raise PlanError(f"{name}: bits is {self.bits!r}, expected 1 to {most}; {remedy}")
        if self.group is not None and self.group < 1:
            raise PlanError(f"{name}: group is {self.group}, expected a positive number of output channels")

    @property
    def scheme(self) -> str:
        what = "values" if self.dim == 1 else f"vectors of {self.dim}"
        return f"{2**self.bits} {what} for {'a tensor' if self.group is None else f'{self.group} channels'}"

    def values(self, w: Tensor, stats: Stats, entries: int) -> Any:
        """``entries`` values for the weights w (n,) of one group; statistics are (n,) too. With ``dim`` all are (..., dim). Weights
        that a mask holds at 0 are not among them."""
        raise NotImplementedError(f"{type(self).__name__}.values")

    @classmethod
    def of(cls, function: Callable[..., Any]) -> Mapping[str, Any]:
        """What a subclass made of ``function(w, stats, *, entries, ...)`` has."""
        given = list(inspect.signature(function).parameters)[2:]

        def values(self: Any, w: Tensor, stats: Stats, entries: int) -> Any:
            return function(w, stats, **{n: entries if n == "entries" else getattr(self, n) for n in given})

        return {"values": values}

    def fits(self, w: Weight) -> None:
        """Refuse a weight whose neighbours do not make whole vectors, or share one with a mask's zero."""
        name, remedy = type(self).__name__, f"write ({w.place.rpartition('.')[0]!r}, None) after the rule, or another dim"
        if w.value.shape[-1] % self.dim:
            raise PlanError(f"{name} at {w.place}: vectors of {self.dim} do not divide the innermost dim of {w.value.shape}; {remedy}")
        zeros = np.equal(w.value.reshape(-1, self.dim), 0)
        if w.masked and (zeros.any(1) != zeros.all(1)).any():
            raise PlanError(f"{name} at {w.place}: a mask holds some of the {self.dim} weights of a vector at 0 and not others; {remedy}")

    def rule(self, w: Weight, stats: Stats) -> Rule:
        """``values`` of the group at some rows, ascending (vectors: as they come), if they are what they should be."""
        flat, name = _vectors(w.value, self.dim), type(self).__name__

        def found(rows: slice, free: Array, count: int) -> Array:
            own = Stats(name, {n: _vectors(np.asarray(a), self.dim)[rows][free] for n, a in stats.items()})
            made = as_tensor(self.values(as_tensor(flat[rows][free]), own, count)).numpy()
            wanted = (count,) if self.dim == 1 else (count, self.dim)
            if made.shape != wanted or made.dtype.kind != "f" or not np.isfinite(made).all():
                raise PlanError(
                    f"{name} at {w.place}: the values are {made.dtype}{list(made.shape)}"
                    f"{'' if made.dtype.kind != 'f' or np.isfinite(made).all() else ', not all finite'}, expected "
                    f"{' x '.join(map(str, wanted))} finite floats"
                )
            return np.sort(made) if self.dim == 1 else made

        return found

    def state(self, w: Weight, stats: Stats) -> Reweighting:
        self.fits(w)
        return Palette(w.value, self, w.value == 0 if w.masked else None, self.rule(w, stats))


def _vectors(a: Array, dim: int) -> Array:
    """(out, ...) as (out, terms), or (out, terms / dim, dim)."""
    return a.reshape(len(a), -1) if dim == 1 else a.reshape(len(a), -1, dim)


class Table(Reweighting):
    """What every table has: ``bits``, ``group``, ``dim``, the weight's shape, and the first codebook of each group with the numbers
    in it. Weights marked in ``zeros`` (a mask's) take an entry that is 0 and stays 0, and no others take it.
    ``rule(rows, free, count)`` gives the other entries of a group."""

    slot, kind, done = "table", "palette", "palettized"

    def __init__(self, w: Array, method: Tabling) -> None:
        self.shape, self.bits, self.dim, self.group = tuple(w.shape), method.bits, method.dim, min(method.group or len(w), len(w))

    def first(self, w: Array, zeros: Array | None, rule: Rule) -> tuple[Array, Array, Array | None]:
        """Codebooks (groups, 2^bits * dim), numbers (out, terms / dim), and 0 where an entry is a held zero (None: there is none)."""
        flat = _vectors(w, self.dim)
        held: Array = np.zeros(flat.shape[:2], bool)
        if zeros is not None:
            held = np.asarray(zeros.reshape(*held.shape, self.dim).all(2))
        codes, book = np.zeros(held.shape, np.int64), np.zeros((-(-len(w) // self.group), 2**self.bits, *flat.shape[2:]), np.float32)
        moves = np.ones(book.shape, np.float32)
        for g, start in enumerate(range(0, len(w), self.group)):
            rows = slice(start, start + self.group)
            free, spare = ~held[rows], int(held[rows].any())  # entry 0 is the held zero
            moves[g, :spare] = 0
            if free.any():
                book[g, spare:] = rule(rows, free, 2**self.bits - spare)
                codes[rows][free] = spare + nearest(flat[rows][free], book[g, spare:])
        return book.reshape(len(book), -1), codes, moves.reshape(len(book), -1) if held.any() else None

    @property
    def nbytes(self) -> int:
        """Bytes of packed numbers and codebooks."""
        return self.shape[0] * palette.row_bytes(int(np.prod(self.shape[1:])) // self.dim, self.bits) + -(-self.shape[0] // self.group) * 2**self.bits * self.dim * 4


class Palette(Table):
    """The numbers (packed, kept) and the codebook (trained) of one weight; ``forward`` is the weight."""

    replaces = True

    def __init__(self, w: Array, method: Tabling, zeros: Array | None, rule: Rule) -> None:
        super().__init__(w, method)
        book, codes, moves = self.first(w, zeros, rule)
        self.numbers = Buffer(palette.pack(codes, self.bits))
        self.codebook = Param(book)
        if moves is not None:
            self.moves = Buffer(moves)

    def forward(self, w: Any = None) -> Tensor:
        book: Any = self.codebook
        if hasattr(self, "moves"):
            book = book * self.moves
        return palette.depalettize(self.numbers, book, shape=self.shape, bits=self.bits, group=self.group, dim=self.dim)


__all__ = ["DIMS", "Palette", "Table", "Tabling", "nearest"]
