"""What a run depends on, as text by name: the network's structure, the data, the functions and numbers given to
``fit``.

Two runs of one digest go through the same bits, so one may go on where the other stopped. How many epochs there shall
be is no part of it: more epochs of the same run are the same run.
"""

from __future__ import annotations

import functools
import hashlib
import sys
import types
from collections.abc import Mapping
from string import hexdigits
from typing import Any

import numpy as np

from shohin.compiler.captures import lookups
from shohin.core.cells import Cell, Param
from shohin.core.module import Module

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
"""Bytecode is compared between equal versions of Python only."""


def _short(*parts: object) -> str:
    return hashlib.blake2b(repr(parts).encode(), digest_size=8).hexdigest()


def digest(parts: Mapping[str, str]) -> str:
    """32 hexadecimal digits of all parts.

    >>> digest({"batch": "64"}) == digest({"batch": "65"})
    False
    """
    return hashlib.blake2b(repr(sorted(parts.items())).encode(), digest_size=16).hexdigest()


def network(net: Module) -> str:
    """Paths, shapes, dtypes, ties, frozen cells, layers with their settings, and the code of ``forward`` where it is
    the user's; not the values.

    >>> class Half(Module):
    ...     def forward(self, x): return x * 0.5
    >>> network(Half()) == network(Half())
    True
    """
    cells = [
        (p, type(c).__name__, str(c.aval), c.requires_grad if isinstance(c, Param) else None)
        for p, c in net.cells().items()
    ]
    layers: list[object] = []
    codes: list[str] = []
    for path, m in net.modules().items():
        plain = [(k, _plain(v)) for k, v in m._entries() if not isinstance(v, Cell | Module)]
        layers.append((path, type(m).__qualname__, plain))
        if not type(m).__module__.startswith("shohin."):
            codes.append(_code(type(m).forward.__code__) if isinstance(type(m).forward, types.FunctionType) else "")
    return f"{type(net).__name__} {_short(cells, sorted(net.aliases().items()), layers)}#{_short(codes)}"


def _plain(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{value.shape}{_short(value.tobytes())}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_plain(v) for v in value if not isinstance(v, Cell | Module))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{k}: {_plain(v)}' for k, v in value.items() if not isinstance(v, Cell | Module))}}}"
    if isinstance(value, bool | int | float | str | type(None)):
        return repr(value)
    return function(value) if callable(value) else type(value).__qualname__


def function(f: Any) -> str:
    """A function as its name and, after ``#``, a hash of its code and of the plain values that it looks up.

    >>> function(None), function(function).split("#")[0]
    ('none', 'shohin.train.digest.function')
    """
    if f is None:
        return "none"
    if hasattr(f, "text"):
        return f"{f} of {function(f.__wrapped__)}" if hasattr(f, "__wrapped__") else str(f)
    if isinstance(f, functools.partial):
        return f"partial({function(f.func)}, {f.args!r}, {f.keywords!r})"
    f = getattr(f, "__wrapped__", f)
    f = f.__func__ if isinstance(f, types.MethodType) else f
    if not isinstance(f, types.FunctionType):
        return f"{type(f).__module__}.{type(f).__qualname__}"
    name = f"{f.__module__}.{f.__qualname__}"
    if f.__module__.startswith("shohin."):
        return f"{name}#"
    seen: list[tuple[str, str]] = []
    for read, at in lookups(f):
        try:
            value = read()
        except (NameError, ValueError):
            continue
        if isinstance(value, types.FunctionType):
            seen.append((at, _code(value.__code__)))
        elif isinstance(value, bool | int | float | str | bytes | type(None)):
            seen.append((at, repr(value)))
        elif isinstance(value, np.ndarray):
            seen.append((at, _plain(value)))
    return f"{name}#{_short(_code(f.__code__), f.__defaults__, seen)}"


def _code(code: types.CodeType) -> str:
    consts = [_code(c) if isinstance(c, types.CodeType) else repr(c) for c in code.co_consts]
    return _short(code.co_code, consts, code.co_names, code.co_varnames)


def differences(old: Mapping[str, str], new: Mapping[str, str], python: str) -> list[str]:
    """``name (old -> new)`` for each part that differs, the name alone where both are digests; code is compared only if ``python`` is this version."""
    strip = (lambda s: s) if python == PYTHON else (lambda s: s.split("#")[0])
    found: list[str] = []
    for name in sorted({*old, *new}):
        a, b = old.get(name, "none"), new.get(name, "none")
        if strip(a) != strip(b):
            same_name = a.split("#")[0] == b.split("#")[0]
            bare = all(len(s) == 32 and set(s) <= set(hexdigits) for s in (a, b))  # says nothing to a person
            found.append(name if bare else f"{name} ({'its code or a value that it looks up' if same_name else f'{a} -> {b}'})")
    return found


__all__ = ["PYTHON", "differences", "digest", "function", "network"]
