"""Places for what comes from a file: paths of layers and cells that are valid here and occur once."""

from __future__ import annotations

import re

from shohin.interop.network import Imported

_TAKEN = frozenset(dir(Imported))


def path_of(name: str) -> str:
    """A foreign name as a path: ``/features/features.0/conv/Conv`` in the origin's own words, without what cannot be an attribute.

    >>> path_of("/features/features.0/features.0.conv/weight")
    'features.0.conv.weight'
    >>> path_of("model_1/conv2d;model_1/bn/Add")
    'model_1.conv2d'
    """
    parts: list[str] = []
    above = ""
    for scope in re.split(r"[/:;,@\s]+", name.partition(";")[0]):
        own = scope[len(above) + 1 :] if above and scope.startswith(f"{above}.") else scope
        above = scope or above
        parts += own.split(".")
    clean = [re.sub(r"\W", "_", p).strip("_") for p in parts]
    return ".".join(f"{p}_" if p in _TAKEN else p for p in clean if p)


class Paths:
    """Paths that were given, so that no layer stands inside another and none twice."""

    def __init__(self) -> None:
        self._leaves: set[str] = set()
        self._above: set[str] = set()

    def above(self, path: str) -> str:
        """``path``, or the layer or cell inside which it would stand."""
        return next((p for p in _parents(path) if p in self._leaves), path)

    def give(self, wanted: str, fallback: str) -> str:
        """``wanted`` or ``fallback`` as a path of its own, with a number at its end if need be."""
        wanted = wanted or fallback
        path, count = wanted, 0
        while path in self._leaves or path in self._above or any(p in self._leaves for p in _parents(path)):
            count += 1
            inside = any(p in self._leaves for p in _parents(wanted))
            path = f"{wanted.replace('.', '_') if inside else wanted}_{count}"
        self._leaves.add(path)
        self._above.update(_parents(path))
        return path


def _parents(path: str) -> list[str]:
    parts = path.split(".")
    return [".".join(parts[:k]) for k in range(1, len(parts))]


__all__ = ["Paths", "path_of"]
