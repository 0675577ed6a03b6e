"""The current interpreter and its frame: the one mechanism behind eager evaluation, tracing, grad, vmap.

``bind(op, operands, attrs)`` asks the current interpreter to carry out an op. Every transformation is a
``Frame`` with a parent; a rule runs with the parent current, so reads recurse outward and each level lifts a
value once. Cells are read and written through the frame too (state.md 3): ``now`` holds their values here,
``written`` what closes to the parent. The base frame evaluates with NumPy and lives forever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import numpy as np

from shohin.core.errors import LeakError, StateError
from shohin.core.op import Aval, Op

if TYPE_CHECKING:
    from shohin.core.cells import Cell
    from shohin.core.tensor import Tensor

Array = np.ndarray[Any, Any]


class Level:
    """Where something was made: a frame's place among the others, which outlives the frame and holds nothing of it."""

    __slots__ = ("parent",)

    def __init__(self, parent: Level | None) -> None:
        self.parent = parent


class Frame:
    """One level of interpretation. Subclasses give ``bind``, ``constant``, ``lift_cell`` and ``lower``.

    ``keeps_calls``: composites are recorded here by name. ``differentiates``: a backward pass is recorded here."""

    kind = "frame"
    online = keeps_calls = differentiates = False
    batched: Mapping[Cell, bool] = {}

    def __init__(self, parent: Frame | None) -> None:
        self.parent = parent
        self.level = Level(None if parent is None else parent.level)
        self.open = True
        self.now: dict[Cell, Tensor] = {}
        self.written: dict[Cell, str] = {}
        self.new: set[Cell] = set()
        self.counts: dict[str, int] = {}

    # -- what an interpreter is
    def bind(self, op: Op, operands: Sequence[Tensor], attrs: Mapping[str, Any]) -> tuple[Tensor, ...]:
        raise NotImplementedError(f"{type(self).__name__}.bind")

    def constant(self, array: Array) -> Tensor:
        """A tensor of known data at this level."""
        with self.outside():
            return current().constant(array)

    def lift_cell(self, cell: Cell, value: Tensor) -> Tensor:
        """The parent's value of a cell, as a value here."""
        return value

    def lower(self, cell: Cell, value: Tensor) -> Tensor:
        """A written value, as the parent shall see it."""
        return value

    def peek(self, tensor: Tensor) -> Tensor | None:
        """What stands for a tensor of this level one level further out; ``None`` where nothing concrete does."""
        return None

    # -- cells
    def read(self, cell: Cell) -> Tensor:
        if cell in self.now:
            return self.now[cell]
        with self.outside():
            value = current().read(cell)
        self.now[cell] = value = self.lift_cell(cell, value)
        return value

    def write(self, cell: Cell, value: Tensor) -> None:
        self.check_write(cell, value)
        self.now[cell] = value
        self.written.setdefault(cell, place())

    def check_write(self, cell: Cell, value: Tensor) -> None:
        """Refuses a write before it happens; transformations add reasons of their own."""

    def writes(self) -> list[tuple[Cell, Tensor]]:
        """Every write that closes to the parent, lowered by one level; cells born here die unless returned."""
        return [(cell, self.lower(cell, self.now[cell])) for cell in self.written if cell not in self.new]

    def hand_down(self, cells: Iterable[Cell]) -> None:
        """Cells born here that are returned live on in the parent."""
        for cell in cells:
            if cell in self.new:
                with self.outside():
                    current().adopt(cell, self.lower_born(cell, self.now[cell]))

    def lower_born(self, cell: Cell, value: Tensor) -> Tensor:
        """The value of a returned cell, as the parent shall hold it."""
        return self.lower(cell, value)

    def adopt(self, cell: Cell, value: Tensor) -> None:
        """Take over a cell that was born one level further in."""
        self.new.add(cell)
        self.now[cell] = value

    def close(self) -> None:
        """Hand all writes to the parent, or none: all are lowered and checked before the first one lands."""
        writes = self.writes()
        self.open = False
        with self.outside():
            frame = current()
            while frame.parent is not None:
                for cell, value in writes:
                    frame.check_write(cell, value)
                frame = frame.parent
            for cell, value in writes:
                current().write(cell, value)

    def allows_static_change(self, born: Callable[[Frame], bool]) -> bool:
        """May something static change here? Online frames (grad, vmap) run once a call and allow it; a trace does not,
        unless the thing was born inside it (``born(frame)``)."""
        frame: Frame = self
        while frame.parent is not None and not born(frame):
            if not frame.online:
                return False
            frame = frame.parent
        return True

    def called(self, module: Any, born: Level) -> None:
        """A module is called here; it was made in ``born``. A trace may refuse one that no argument reaches."""
        if not self.holds(born) and self.parent is not None:
            self.parent.called(module, born)

    # -- levels
    @contextmanager
    def outside(self) -> Iterator[None]:
        """The parent is current inside."""
        assert self.parent is not None
        token = _current.set(self.parent)
        try:
            yield
        finally:
            _current.reset(token)

    @contextmanager
    def inside(self) -> Iterator[None]:
        """This frame is current inside; an exception drops it with all its writes."""
        token = _current.set(self)
        try:
            yield
        except BaseException:
            self.open = False
            raise
        finally:
            _current.reset(token)

    def encloses(self, frame: Frame | None) -> bool:
        """Is ``frame`` this one or one of its ancestors?"""
        at: Frame | None = self
        while at is not None:
            if at is frame:
                return True
            at = at.parent
        return frame is None

    def holds(self, born: Level) -> bool:
        """Was something made here or further in? What was made there and returned belongs here too."""
        level: Level | None = born
        while level is not None and level is not self.level:
            level = level.parent
        return level is not None

    def admit(self, tensor: Tensor) -> Tensor:
        """The tensor, if it may be used here; a ``LeakError`` if its frame has ended or is further in."""
        frame = tensor.frame
        if isinstance(frame, Donated):
            raise LeakError(f"a tensor {tensor.aval} is used here, but {frame.what}")
        if frame is not None and not (frame.open and self.encloses(frame)):
            what = "has ended" if not frame.open else "is not around this one"
            raise LeakError(
                f"a tensor {tensor.aval} made inside {frame.kind} is used here, but that frame {what}; "
                "return the value from the transformed function instead of storing it"
            )
        return tensor


class Base(Frame):
    """Eager evaluation: NumPy, writes land at once."""

    kind = "eager"

    def __init__(self) -> None:
        super().__init__(None)

    def bind(self, op: Op, operands: Sequence[Tensor], attrs: Mapping[str, Any]) -> tuple[Tensor, ...]:
        avals = op.infer([self.admit(t).aval for t in operands], attrs)
        with np.errstate(all="ignore"):
            found = op.numpy(*(t.data for t in operands), **attrs)
        arrays = found if isinstance(found, tuple) else (found,)
        return tuple(make(_hold(a, aval)) for a, aval in zip(arrays, avals, strict=True))

    def constant(self, array: Array) -> Tensor:
        return make(array)

    def read(self, cell: Cell) -> Tensor:
        return cell.stored()

    def write(self, cell: Cell, value: Tensor) -> None:
        if value.frame is not None:
            raise LeakError(f"cell {cell}: a value made inside {value.frame.kind} is stored after that frame has ended")
        cell.store(value)

    def adopt(self, cell: Cell, value: Tensor) -> None:
        cell.store(make(np.array(value.data, order="C")))


class Donated(Frame):
    """Where tensors are whose memory was given to a result of a program; ``what`` says to which, and what to do."""

    kind = "a donation"

    def __init__(self, what: str) -> None:
        super().__init__(None)
        self.open, self.what = False, what


def _hold(array: Any, aval: Aval) -> Array:
    out = np.asarray(array)
    if out.dtype != aval.dtype:
        out = out.astype(aval.dtype)
    if out.shape != aval.shape:
        raise StateError(f"the NumPy reference gave {out.shape} where the record says {aval}")
    return out


_tensor_class: list[type[Any]] = []


def make(array: Array, frame: Frame | None = None, payload: Any = None, aval: Aval | None = None) -> Tensor:
    """A tensor of ``frame``: at the base it holds ``array``, elsewhere the frame's ``payload``."""
    return _tensor_class[0]._make(array, frame, payload, aval)


BASE = Base()
_current: ContextVar[Frame] = ContextVar("shohin_interpreter", default=BASE)


def current() -> Frame:
    """The interpreter that carries out ops now."""
    return _current.get()


def bind(op: Op, operands: Sequence[Tensor], attrs: Mapping[str, Any]) -> tuple[Tensor, ...]:
    """Carry out one op under the current interpreter."""
    return _current.get().bind(op, operands, attrs)


# ------------------------------------------------------------------------------------------------ places

_at: ContextVar[str] = ContextVar("shohin_place", default="")


@contextmanager
def at(path: str) -> Iterator[None]:
    """Ops inside stand at ``path``, a module's path within the outermost module called."""
    token = _at.set(path)
    try:
        yield
    finally:
        _at.reset(token)


def place() -> str:
    """The path of the module whose code runs now, within the outermost module called."""
    return _at.get()
