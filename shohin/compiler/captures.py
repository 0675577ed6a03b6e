"""What a jitted function looks up outside its arguments (state.md 4): constants, compared at each call.

Numbers, strings, NumPy arrays, functions and ``sh.const`` values that the function, or a plain function that it
calls by name, finds in its globals or closure are recorded; a name that is bound anew makes a new program. What is
compared by identity is held weakly where Python allows it: a program keeps no module alive, and no ``id`` is trusted,
since it is given again once its object is gone.
"""

from __future__ import annotations

import dis
import os
import sysconfig
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache, partial
from typing import Any
from weakref import ref

import numpy as np

from shohin.core.cells import Cell
from shohin.core.errors import CaptureError
from shohin.core.module import Module
from shohin.core.tensor import Tensor

_PLAIN = (bool, int, str, bytes, type(None), complex)
_HELD = (type, types.ModuleType, types.BuiltinFunctionType)
Lookup = tuple[Callable[[], Any], str]
LARGE = 1 << 20
"""Bytes from which an array is compared by identity: its contents are not looked at on every call."""


class Absent:
    """What a name that is not bound holds."""

    def __repr__(self) -> str:
        return "unbound"


ABSENT = Absent()


class Same:
    """An object by identity, held weakly if that can be.

    >>> Same(print) == Same(print), Same(print) == Same(len)
    (True, False)
    """

    __slots__ = ("_hash", "read", "text")

    def __init__(self, value: Any) -> None:
        self._hash = id(value)
        self.text = _name(value)
        try:
            self.read: Callable[[], Any] = ref(value)
        except TypeError:
            self.read = lambda: value

    def __eq__(self, other: object) -> bool:
        mine = self.read()
        return isinstance(other, Same) and mine is not None and other.read() is mine

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return self.text


class Contents:
    """An array by its contents."""

    __slots__ = ("key", "text")

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.key = (array.dtype.str, array.shape, array.tobytes())
        self.text = f"an array {array.dtype.name}{list(array.shape)}"
        if array.size <= 8:
            self.text = f"array({array.tolist()})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Contents) and other.key == self.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return self.text


def form(value: Any) -> Any:
    """A value in a form that compares and hashes: plain ones with their type, floats by their digits (-0.0 is not 0.0, nan
    is nan), arrays by contents, tuples by parts, the rest by identity.

    >>> form(0.0) == form(-0.0), form(1) == form(True), form(np.ones(2)) == form(np.ones(2))
    (False, False, True)
    """
    if isinstance(value, float):
        return Literal(repr(value), "float")
    if isinstance(value, _PLAIN):
        return Literal(repr(value), type(value).__name__)
    if isinstance(value, np.ndarray) and value.nbytes <= LARGE and value.dtype != object:
        return Contents(value)
    if type(value) is tuple:
        return tuple(map(form, value))
    if isinstance(value, types.MethodType):
        return (Same(value.__func__), Same(value.__self__))
    return Same(value)


class Literal(tuple[str, str]):
    """A plain value as (digits, type)."""

    __slots__ = ()

    def __new__(cls, text: str, kind: str) -> Literal:
        return super().__new__(cls, (text, kind))

    def __repr__(self) -> str:
        return self[0]


def _name(value: Any) -> str:
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    return f"{'a' if name is None else 'the'} {type(value).__name__}{'' if name is None else f' {name}'}"


def lookups(f: Callable[..., Any]) -> list[Lookup]:
    """(how to read it, its name) for each name that ``f`` reads from outside, followed through the functions found there.

    Functions of Shohin's own (``sh.grad(loss)``) and of installed libraries are followed to what they wrap, and no further.
    """
    found: list[Lookup] = []
    seen: set[int] = set()

    def visit(g: Any) -> None:
        g = g.__func__ if isinstance(g, types.MethodType) else g
        if id(g) in seen or isinstance(g, type):
            return
        seen.add(id(g))
        visit_if_function(g.func if isinstance(g, partial) else getattr(g, "__wrapped__", None))
        if not isinstance(g, types.FunctionType):
            return
        library = str(g.__globals__.get("__name__")).startswith("shohin.") or _installed(g.__code__.co_filename)
        for read, name in _reads(g, closure_only=library):
            if not library:
                found.append((read, name))
            visit_if_function(_now(read))

    def visit_if_function(value: Any) -> None:
        wraps = hasattr(type(value), "__get__") and hasattr(value, "__wrapped__")
        if wraps or isinstance(value, types.FunctionType | types.MethodType | partial):
            visit(value)

    visit(f)
    return found


_LIBRARIES = tuple({sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")})


@lru_cache(maxsize=4096)
def _installed(file: str) -> bool:
    """Whether code is that of Python or of an installed package: its names are nobody's to bind anew."""
    return file.startswith(_LIBRARIES)


def _reads(f: types.FunctionType, closure_only: bool) -> Iterator[Lookup]:
    if not closure_only:
        for name in _global_names(f.__code__):
            yield partial(f.__globals__.get, name, ABSENT), name
    for name, cell in zip(f.__code__.co_freevars, f.__closure__ or (), strict=True):
        yield partial(getattr, cell, "cell_contents"), name


@lru_cache(maxsize=4096)
def _global_names(code: types.CodeType) -> tuple[str, ...]:
    names = [i.argval for i in dis.get_instructions(code) if i.opname in ("LOAD_GLOBAL", "LOAD_NAME")]
    inner = [n for const in code.co_consts if isinstance(const, types.CodeType) for n in _global_names(const)]
    return tuple(dict.fromkeys((*names, *inner)))


def _now(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except ValueError:  # a closure's name that is not bound yet
        return ABSENT


def refusals(name: str, modules: Iterable[Module], also: Iterable[Cell] = ()) -> dict[str, Any]:
    """For ``stage``: refuse what none of these modules reaches (state.md 4)."""
    modules = list(modules)
    known = {*also, *(c for m in modules for c in m.cells().values())}
    reached = {id(m) for root in modules for m in root.modules().values()}

    def cell(found: Cell) -> None:
        if found not in known:
            raise CaptureError(f"{name} reads {found}, which none of its arguments reaches; pass the module or cell that holds it as an argument")

    def tensor(found: Tensor) -> None:
        raise CaptureError(f"{name} uses a tensor {found.aval} from outside that is no argument; pass it, hold it in a module, or make it a constant with sh.const")

    def module(found: Module) -> None:
        if id(found) not in reached:
            raise CaptureError(f"{name} calls a {type(found).__name__} that none of its arguments reaches; pass it, or the module that holds it, as an argument")

    return {"capture_cell": cell, "capture_tensor": tensor, "capture_module": module}


class Captures:
    """What the names that a function looks up hold at one time."""

    def __init__(self, names: Sequence[Lookup]) -> None:
        values = [(read, name, _now(read)) for read, name in names]
        self.forms = tuple((name, form(value)) for _, name, value in values)
        self.empty = not names
        self._held: list[tuple[Callable[[], Any], Any]] = []
        self._weak: list[tuple[Callable[[], Any], Callable[[], Any]]] = []
        self._arrays: list[tuple[Callable[[], Any], Contents]] = []
        for (read, _, value), (_, key) in zip(values, self.forms, strict=True):
            if isinstance(key, Contents):
                self._arrays.append((read, key))
            elif isinstance(key, Literal) or value is ABSENT or isinstance(value, _HELD):
                self._held.append((read, value))
            elif isinstance(key, Same):
                self._weak.append((read, key.read))
            elif isinstance(value, types.MethodType):
                self._weak.append((read, ref(value)))
            else:
                self._held.append((read, value))

    def unchanged(self) -> bool:
        """Does every name hold the same object, and every array the same contents? Quick, and may say no too often."""
        try:
            for read, value in self._held:
                if read() is not value:
                    return False
            for read, known in self._weak:
                value = read()
                if value is None or value is not known():
                    return False
            for read, key in self._arrays:
                if Contents(read()) != key:
                    return False
        except (ValueError, AttributeError):
            return False
        return True
