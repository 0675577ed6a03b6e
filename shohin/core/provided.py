"""What a lower layer asks of a higher one, by name; imports go one way all the same.

``shohin/__init__.py``, which stands on everything, says where a name is to be had; it is loaded when it is first asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_LOADERS: dict[str, Callable[[], Any]] = {}


def provide(name: str, load: Callable[[], Any]) -> None:
    """``provided(name)`` is what ``load`` returns."""
    _LOADERS[name] = load


def provided(name: str) -> Any:
    """What was provided under that name.

    >>> provide("answer", lambda: 42)
    >>> provided("answer")
    42
    """
    if name not in _LOADERS:
        raise LookupError(f"nothing is provided as {name!r}; there are {', '.join(_LOADERS) or 'no names'}")
    return _LOADERS[name]()


__all__ = ["provide", "provided"]
