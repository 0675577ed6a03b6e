"""The table of ONNX operators: one rule each, in the words of ``interop.words``. ``docs/import.md`` is made from it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from shohin.core.errors import ForeignError
from shohin.interop.foreign import Node
from shohin.interop.rules import Rule, enter, refuse

TABLE: dict[str, Rule] = {}
BECOMES: dict[str, str] = {}
"""What an operator becomes, for the documentation."""


def operator(*names: str, becomes: str = "") -> Callable[[Rule], Rule]:
    """Declare the rule of some operators; ``becomes`` or the rule's docstring says what they become."""

    def put(rule: Rule) -> Rule:
        enter(TABLE, BECOMES, names, rule, becomes, rule.__doc__)
        return rule

    return put


def attr(node: Node, name: str, default: Any) -> Any:
    """An attribute; one of another type than the default is an error."""
    value = node.attrs.get(name, default)
    kinds = {int: int, float: (int, float), str: str, tuple: tuple}
    wanted = kinds.get(type(default))
    if wanted is not None and not isinstance(value, wanted):
        raise ForeignError(f"attribute {name} is {value!r}, expected {type(default).__name__}")
    return value


def needed(node: Node, name: str) -> Any:
    if name not in node.attrs:
        raise ForeignError(f"attribute {name} is missing")
    return node.attrs[name]


def dtype_of(code: int) -> np.dtype[Any]:
    """The dtype of a number of ONNX's enumeration."""
    if code not in DTYPES:
        raise ForeignError(f"element type {code} has no counterpart here")
    return DTYPES[code]


DTYPES: dict[int, np.dtype[Any]] = {}
"""Filled by ``read``, which knows the package."""

__all__ = ["BECOMES", "DTYPES", "TABLE", "attr", "dtype_of", "needed", "operator", "refuse"]
