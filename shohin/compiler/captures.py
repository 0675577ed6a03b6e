"""What a jitted function looks up outside its arguments (state.md 4): constants, compared at each call.

Numbers, strings, NumPy arrays, functions and ``sh.const`` values that the function, or a plain function that it
calls by name, finds in its globals or closure are recorded; a name that is bound anew makes a new program.
"""

from __future__ import annotations

import dis
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

_PLAIN = (bool, int, float, str, bytes, type(None))
Lookup = tuple[Callable[[], Any], str]


def lookups(f: Callable[..., Any]) -> list[Lookup]:
    """(how to read it again, its name) for each name that ``f`` reads from outside, followed through plain functions."""
    found: list[Lookup] = []
    seen: set[int] = set()

    def visit(g: Any) -> None:
        g = g.__func__ if isinstance(g, types.MethodType) else getattr(g, "__wrapped__", g)
        if not isinstance(g, types.FunctionType) or id(g) in seen or (g.__module__ or "").startswith("shohin."):
            return
        seen.add(id(g))
        for name, read in _names(g):
            try:
                value = read()
            except (NameError, ValueError):
                continue
            found.append((read, name))
            if isinstance(value, types.FunctionType):
                visit(value)

    visit(f)
    return found


def _names(f: types.FunctionType) -> Iterator[tuple[str, Callable[[], Any]]]:
    table = f.__globals__
    for code in _codes(f.__code__):
        for instruction in dis.get_instructions(code):
            if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME") and instruction.argval in table:
                yield instruction.argval, lambda n=instruction.argval: table[n]
    for name, cell in zip(f.__code__.co_freevars, f.__closure__ or (), strict=True):
        yield name, lambda c=cell: c.cell_contents


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            yield from _codes(const)


def snapshot(names: list[Lookup]) -> tuple[Any, ...]:
    """What the names hold now, in a form that compares: plain values by value, arrays by content, the rest by identity."""
    return tuple((name, _form(_safe(read))) for read, name in names)


def _safe(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except (NameError, ValueError, KeyError):
        return None


def _form(value: Any) -> Any:
    if isinstance(value, _PLAIN):
        return (type(value).__name__, value)
    if isinstance(value, np.ndarray):
        return ("array", value.dtype.str, value.shape, value.tobytes() if value.nbytes <= 1 << 20 else id(value))
    return ("object", id(value))
