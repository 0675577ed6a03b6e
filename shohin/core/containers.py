"""What a module holds beside cells and modules: lists, tuples and dicts whose cells read as their values.

They report changes of structure to whoever has seen them, so that a compiled program notices a new structure without
walking it at each call (state.md 13), and change inside a transformation only if they were made there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from types import FunctionType, MethodType, ModuleType
from typing import Any, SupportsIndex, TypeGuard, overload

import numpy as np

from shohin.core import interp
from shohin.core.cells import Cell, Param, touched
from shohin.core.errors import StateError
from shohin.core.tensor import Constant, Tensor

PROGRAM, PATHS = 1, 2
"""Who keeps something that follows from a module's structure, and so hears of changes: compiled programs, the cache of
paths. A module, list or dict has a bit for each; what nobody has seen changes silently."""
path_epoch = [0]


def changed(seen: int) -> None:
    if seen & PROGRAM:
        touched()
    if seen & PATHS:
        path_epoch[0] += 1


class Held:
    """Base of ``Module``, by which containers know one."""


class CellList(list[Any]):
    """A module's list: an entry that is a cell reads as its value; changes are reported."""

    seen = 0

    born: interp.Level

    def __new__(cls, *_: Any) -> Any:
        self = super().__new__(cls)
        self.born = interp.current().level
        return self

    def __getstate__(self) -> None:
        """A copy (``copy.deepcopy``, ``pickle``) is born where it is made, and nobody has seen it."""

    @overload
    def __getitem__(self, index: SupportsIndex) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: Any) -> Any:
        value = list.__getitem__(self, index)
        return [_value(v) for v in value] if isinstance(index, slice) else _value(value)

    def __iter__(self) -> Iterator[Any]:
        return (_value(v) for v in list.__iter__(self))

    def raw(self) -> Iterator[Any]:
        return list.__iter__(self)

    def __reversed__(self) -> Iterator[Any]:
        return reversed(list(self))

    def __add__(self, other: Any) -> list[Any]:
        return list(self) + list(other)

    def __radd__(self, other: Any) -> list[Any]:
        return list(other) + list(self)

    def copy(self) -> list[Any]:
        return list(self)

    def __setitem__(self, index: Any, value: Any) -> None:
        if isinstance(index, int):
            old = list.__getitem__(self, index)
            if writes(old, value):
                old.write(value)
                return
        refuse_change(f"[{index}] of a module's list", self.born)
        list.__setitem__(self, index, wrap(value, f"[{index}]"))
        changed(self.seen)


class CellTuple(tuple[Any, ...]):
    """A module's tuple that holds cells, likewise; it never changes."""

    def __getitem__(self, index: Any) -> Any:
        value = tuple.__getitem__(self, index)
        return tuple(map(_value, value)) if isinstance(index, slice) else _value(value)

    def __iter__(self) -> Iterator[Any]:
        return (_value(v) for v in tuple.__iter__(self))

    def __add__(self, other: Any) -> tuple[Any, ...]:
        return (*self, *other)

    def raw(self) -> Iterator[Any]:
        return tuple.__iter__(self)


class CellDict(dict[Any, Any]):
    """A module's dict, likewise."""

    seen = 0

    born: interp.Level

    def __new__(cls, *_: Any) -> Any:
        self = super().__new__(cls)
        self.born = interp.current().level
        return self

    def __getstate__(self) -> None:
        """A copy (``copy.deepcopy``, ``pickle``) is born where it is made, and nobody has seen it."""

    def __iter__(self) -> Iterator[Any]:  # dict(d) and {**d} then go through __getitem__
        return dict.__iter__(self)

    def copy(self) -> dict[Any, Any]:
        return dict(self.items())

    def setdefault(self, key: Any, default: Any = None) -> Any:
        if key not in self:
            self[key] = default
        return self[key]

    def __getitem__(self, key: Any) -> Any:
        return _value(dict.__getitem__(self, key))

    def get(self, key: Any, default: Any = None) -> Any:
        return self[key] if key in self else default

    def values(self) -> Any:
        return [_value(v) for v in dict.values(self)]

    def items(self) -> Any:
        return [(k, _value(v)) for k, v in dict.items(self)]

    def raw(self) -> Any:
        return dict.items(self)

    def __setitem__(self, key: Any, value: Any) -> None:
        old = dict.get(self, key)
        if writes(old, value):
            old.write(value)
            return
        refuse_change(f"[{key!r}] of a module's dict", self.born)
        dict.__setitem__(self, key, wrap(value, f"[{key!r}]"))
        changed(self.seen)


def _reporting(cls: type[Any], names: str) -> None:
    for name in names.split():
        original = getattr(cls.__mro__[1], name)

        def method(self: Any, *args: Any, _original: Any = original, _name: str = name, **keywords: Any) -> Any:
            refuse_change(f"{_name} of a module's {cls.__mro__[1].__name__}", self.born)
            if _name in ("append", "insert"):
                args = (*args[:-1], wrap(args[-1], f".{_name}"))
            elif _name in ("extend", "__iadd__"):
                args = ([wrap(v, f".{_name}") for v in args[0]],)
            elif _name in ("update", "__ior__"):
                args = ({k: wrap(v, f"[{k!r}]") for k, v in dict(*args, **keywords).items()},)
                keywords = {}
            changed(self.seen)
            result = _original(self, *args, **keywords)
            return self if _name in ("__iadd__", "__ior__") else _value(result)

        setattr(cls, name, method)


_reporting(CellList, "append extend insert pop remove clear __delitem__ __iadd__ reverse sort")
_reporting(CellDict, "pop popitem clear update __ior__ __delitem__")


def refuse_change(what: str, born: interp.Level) -> None:
    frame = interp.current()
    if not frame.allows_static_change(lambda f: f.holds(born)):
        raise StateError(f"{what} is static and cannot change inside {frame.kind}; hold it in nn.Buffer, or change it outside")


def _value(entry: Any) -> Any:
    return entry.read() if isinstance(entry, Cell) else entry


def writes(old: Any, value: Any) -> TypeGuard[Cell]:
    """Is this assignment a write? Tensors, arrays and numbers are written to a cell; what was just read from another
    Param ties."""
    if not isinstance(old, Cell):
        return False
    if isinstance(value, Tensor):
        return not (isinstance(value.cell, Param) and isinstance(old, Param) and value.cell is not old)
    return isinstance(value, np.ndarray | np.generic | bool | int | float)


def wrap(value: Any, where: str) -> Any:
    """Containers become reporting ones, arrays read-only copies; a bare tensor is an error."""
    if isinstance(value, Cell | Held | Constant):
        return value
    if isinstance(value, Tensor):
        if isinstance(value.cell, Param):
            return value.cell
        raise StateError(f"{where} is a bare tensor; write nn.Param(x) if it is trained, nn.Buffer(x) if it is kept, sh.const(x) if it never changes")
    if isinstance(value, list):
        raw = value.raw() if isinstance(value, CellList) else value
        return CellList(wrap(v, f"{where}[{i}]") for i, v in enumerate(raw))
    if isinstance(value, dict):
        raw = value.raw() if isinstance(value, CellDict) else value.items()
        new = CellDict()
        for k, v in raw:
            dict.__setitem__(new, k, wrap(v, f"{where}[{k!r}]"))
        return new
    if isinstance(value, tuple):
        raw = value.raw() if isinstance(value, CellTuple) else value
        items = tuple(wrap(v, f"{where}[{i}]") for i, v in enumerate(raw))
        if type(value) not in (tuple, CellTuple):
            _refuse_hidden(items, where)
            return value
        return CellTuple(items) if any(isinstance(v, Cell) for v in items) else items
    if isinstance(value, np.ndarray):
        copy = value.copy()
        copy.flags.writeable = False
        return copy
    if isinstance(value, set | frozenset | deque):
        _refuse_hidden(value, where)
    elif not isinstance(value, type | FunctionType | MethodType | ModuleType):
        _refuse_hidden(getattr(value, "__dict__", {}).values(), where)
    return value


def _refuse_hidden(items: Iterable[Any], where: str) -> None:
    for v in items:
        if isinstance(v, Cell | Held):
            raise StateError(f"{where} holds a {type(v).__name__} where nothing would find it; use a module, list, tuple or dict")
