"""Cells: where tensors that change live. ``Param`` is trained, ``Buffer`` is kept (statistics, masks, scales).

A cell has one shape and dtype for life. Reading gives the value now, writing replaces it, both through the
current frame (``interp``). At the base the value is a NumPy array that compiled programs bind. A program that binds it
watches the cell: whatever replaces the array or hands it out marks the cell, and the program's next call looks at the
marked cells only (state.md 11, 13).
"""

from __future__ import annotations

import itertools
import sys
from typing import Any, Protocol
from weakref import ref

import numpy as np

from shohin.core import interp
from shohin.core.axes import Shape
from shohin.core.dtypes import FLOATING
from shohin.core.errors import LeakError, StateError
from shohin.core.op import Aval
from shohin.core.tensor import Tensor, as_tensor

serials = itertools.count()
"""Numbers for cells and modules, never given twice: an ``id`` is, once what had it is gone."""


class Watcher(Protocol):
    """What binds cells: ``marked`` are its numbers of the cells to look at before the next run, ``relied`` of those whose change it
    reports after it has written them in place."""

    marked: set[int]
    relied: set[int]


class Cell:
    """A place that holds one tensor. ``join`` says how the lanes of ``vmap`` become one value: max, mean, sum."""

    def __init__(self, value: Any, *, join: str | None = None) -> None:
        if join not in (None, "max", "mean", "sum"):
            raise StateError(f"join is {join!r}, expected 'max', 'mean', 'sum' or None")
        if isinstance(value, Cell):
            raise StateError("a cell cannot hold a cell; assign it to an attribute to tie it")
        tensor = as_tensor(value)
        self._shape, self.dtype, self.join = tensor.shape, tensor.dtype, join
        self.name = ""
        self._stored: Tensor | None = None
        self._unknown()
        frame = interp.current()
        if frame is interp.BASE:
            self.store(Tensor._make(np.array(tensor.data, order="C"), None, None, None))
        else:
            frame.new.add(self)
            frame.now[self] = tensor

    def _unknown(self) -> None:
        """No program knows this cell."""
        self.serial = next(serials)
        self.seen = False
        self._watchers: list[tuple[ref[Watcher], int]] = []
        self._marked = self._relied = False

    def __setstate__(self, state: dict[str, Any]) -> None:
        """A copy (``copy.deepcopy``, ``pickle``) is another cell."""
        self.__dict__.update(state)
        self._unknown()

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("serial", "seen", "_watchers", "_marked", "_relied")}

    def like(self, value: Any) -> Any:
        """A new cell of this kind and name that holds ``value``."""
        new = type(self)(value, join=self.join)
        new.name = self.name
        return new

    @property
    def shape(self) -> Shape:
        """As the current frame sees it: without the lanes of every ``vmap`` around that batches this cell."""
        return self._shape[self._lanes() :]

    @shape.setter
    def shape(self, value: Shape) -> None:
        self._shape = (*self._shape[: self._lanes()], *value)

    def _lanes(self) -> int:
        count, frame = 0, interp.current()
        while frame.parent is not None:
            count, frame = count + bool(frame.batched.get(self)), frame.parent
        return count

    @property
    def aval(self) -> Aval:
        return Aval(self.shape, self.dtype)

    def read(self) -> Tensor:
        """The value now, as the current frame sees it: a handle of its own that knows where it was read."""
        value = interp.current().read(self)
        handle = Tensor._make(value.payload, value.frame, value.payload, value.aval)
        handle.cell = self
        return handle

    def write(self, value: Any) -> None:
        """Replace the value; shape and dtype stay."""
        tensor = as_tensor(value)
        if tensor.weak and tensor.shape == self.shape:
            tensor = as_tensor(np.asarray(tensor.concrete(), self.dtype))
        if tensor.shape != self.shape or tensor.dtype != self.dtype:
            raise StateError(
                f"cell {self} keeps its shape and dtype; what is written is {tensor.aval}. "
                "Assign a new Param or Buffer to replace the cell"
            )
        interp.current().admit(tensor)
        interp.current().write(self, tensor)

    # -- the base frame's side
    def stored(self) -> Tensor:
        if self._stored is None:
            raise LeakError(f"cell {self} was born inside a transformation that has ended; return the module that holds it")
        self._mark()
        return self._stored

    def store(self, value: Tensor) -> None:
        if value.aval.shape != self._shape or value.aval.dtype != self.dtype:
            raise StateError(f"cell {self} cannot hold {value.aval}")
        array = value.payload if value.payload.flags.c_contiguous else np.array(value.payload, order="C")
        self._stored = Tensor._make(array, None, None, value.aval)
        self._mark()

    # -- the programs' side
    def watch(self, watcher: Watcher, number: int) -> None:
        """From now on ``watcher.marked`` gets ``number`` whenever the array is replaced or handed out."""
        self._watchers = [w for w in self._watchers if w[0]() is not None]
        self._watchers.append((ref(watcher), number))
        if self._relied:
            watcher.relied.add(number)

    def rely(self) -> None:
        """A program keeps something that it made of the value: who writes the cell in place reports that, once."""
        if not self._relied:
            self._relied = True
            for watcher, number in self._watchers:
                found = watcher()
                if found is not None:
                    found.relied.add(number)

    def changed(self) -> None:
        """The value was written in place."""
        self._relied = False
        self._mark()

    def _mark(self) -> None:
        if self._watchers and not self._marked:
            self._marked = True
            for watcher, number in self._watchers:
                found = watcher()
                if found is not None:
                    found.marked.add(number)

    def bound(self, *, written: bool) -> np.ndarray[Any, Any]:
        """The array for a program to bind. One that is written must be the cell's alone: while any Python object refers
        to it (a tensor, a view, a residual), the cell moves to a copy."""
        self._marked = False
        if self._stored is None:
            self.stored()
        if written and not self._alone():
            assert self._stored is not None
            self._stored = interp.make(self._stored.payload.copy())
            self._mark()
            self._marked = False
        assert self._stored is not None
        return self._stored.payload

    def _alone(self) -> bool:
        tensor, array = _references(self)
        flags = self._stored.payload.flags  # type: ignore[union-attr]
        return tensor <= _ALONE[0] and array <= _ALONE[1] and flags.owndata and flags.writeable

    def __str__(self) -> str:
        return f"{self.name or type(self).__name__}: {self.aval}"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self}>"


def _references(cell: Cell) -> tuple[int, int]:
    """How many references there are to a cell's tensor and to its array, counted from here."""
    tensor = cell._stored
    array = tensor.payload  # type: ignore[union-attr]
    return sys.getrefcount(tensor), sys.getrefcount(array)


_ALONE = _references(Cell(np.zeros(1, np.float32)))
"""The counts for a cell whose value nobody holds; how many they are differs between versions of Python."""


class Param(Cell):
    """A trained tensor. ``requires_grad=False`` freezes it (static: part of a compiled program's key)."""

    def __init__(self, value: Any, *, requires_grad: bool = True) -> None:
        super().__init__(value)
        self._requires_grad = requires_grad

    def like(self, value: Any) -> Any:
        new = type(self)(value, requires_grad=self._requires_grad)
        new.name = self.name
        return new

    @property
    def requires_grad(self) -> bool:
        return self._requires_grad and self.dtype in FLOATING

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        frame = interp.current()
        if not frame.allows_static_change(lambda f: self in f.new):
            raise StateError(f"{self}: requires_grad is static and cannot change inside {frame.kind}; set it outside")
        self._requires_grad = bool(value)
        if self.seen:
            touched()


class Buffer(Cell):
    """A tensor that is kept but not trained."""


_epoch = [0]


def touched() -> None:
    """The structure of a module that a program has seen has changed: programs look again before they reuse what they
    know."""
    _epoch[0] += 1


def epoch() -> int:
    return _epoch[0]
