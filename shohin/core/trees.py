"""Trees: nested lists, tuples, dicts and modules around leaves, flattened and built again.

A module contributes its cells by path; a ``Paths`` is the dictionary of values by path that ``grad`` returns for one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from shohin.core.module import Module
from shohin.core.tensor import Tensor


class Paths(dict[str, Any]):
    """Values by a module's paths: ``g["stem.weight"]`` or ``g.stem.weight``.

    >>> Paths({"stem.weight": 1, "stem.bias": 2}).stem.bias
    2
    """

    def __getattr__(self, name: str) -> Any:
        if name in self:
            return self[name]
        below = {k[len(name) + 1 :]: v for k, v in self.items() if k.startswith(name + ".")}
        if not below or name.startswith("__"):
            raise AttributeError(f"no path {name!r}; there are {', '.join(list(self)[:8])}")
        return Paths(below)


@dataclass(frozen=True)
class Spec:
    """The structure around leaves; hashable. ``kind``: leaf, none, list, tuple, dict, paths, module, static."""

    kind: str
    keys: tuple[Any, ...] = ()
    children: tuple[Spec, ...] = ()
    value: Any = None

    @property
    def size(self) -> int:
        return 1 if self.kind == "leaf" else sum(c.size for c in self.children)


LEAF = Spec("leaf")


def is_leaf(value: Any) -> bool:
    return isinstance(value, Tensor | np.ndarray | np.generic) or type(value) is float


def flatten(tree: Any, leaf: Callable[[Any], bool] = is_leaf) -> tuple[list[Any], Spec]:
    """Leaves in order, and the structure. Modules are leaves of kind ``module``: kept as values of the structure."""
    leaves: list[Any] = []

    def visit(value: Any) -> Spec:
        if leaf(value):
            leaves.append(value)
            return LEAF
        if isinstance(value, Module):
            return Spec("module", value=_Same(value))
        if isinstance(value, tuple):
            return Spec("tuple", (), tuple(visit(v) for v in value), value=type(value) if hasattr(value, "_fields") else None)
        if isinstance(value, list):
            return Spec("list", (), tuple(visit(v) for v in value))
        if isinstance(value, dict):
            kind = "paths" if isinstance(value, Paths) else "dict"
            return Spec(kind, tuple(value), tuple(visit(v) for v in value.values()))
        return Spec("static", value=value)

    return leaves, visit(tree)


class _Same:
    """An object compared by identity, so that structures with modules hash."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.value is self.value

    def __hash__(self) -> int:
        return id(self.value)


def unflatten(spec: Spec, leaves: Sequence[Any]) -> Any:
    """The tree of ``spec`` with these leaves."""
    rest = iter(leaves)

    def build(s: Spec) -> Any:
        match s.kind:
            case "leaf":
                return next(rest)
            case "tuple":
                parts = [build(c) for c in s.children]
                return s.value(*parts) if s.value is not None else tuple(parts)
            case "list":
                return [build(c) for c in s.children]
            case "dict" | "paths":
                items = {k: build(c) for k, c in zip(s.keys, s.children, strict=True)}
                return Paths(items) if s.kind == "paths" else items
            case "module":
                return s.value.value
            case _:
                return s.value

    return build(spec)


def map(function: Callable[..., Any], tree: Any, *others: Any) -> Any:
    """``function`` over corresponding leaves of trees of one structure.

    >>> map(lambda a, b: a + b, {"a": 1.0}, {"a": 2.0})
    {'a': 3.0}
    """
    leaves, spec = flatten(tree)
    columns = [leaves]
    for other in others:
        more, other_spec = flatten(other)
        if other_spec != spec:
            raise ValueError("trees have different structures")
        columns.append(more)
    return unflatten(spec, [function(*row) for row in zip(*columns, strict=True)])
