"""A foreign graph: what every importer reads its origin into, before anything is decided about it.

Names are the origin's. Nothing of layers, layouts or ops of ours is in here, so that one builder serves every origin.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from shohin.core.dtypes import DType
from shohin.core.errors import ForeignError

Array = np.ndarray[Any, Any]
Dim = int | str


@dataclass(frozen=True, kw_only=True)
class Input:
    """An input of the network; a dim that is not known is its symbol (``"?k"`` where the origin has no name for it)."""

    name: str
    shape: tuple[Dim, ...]
    dtype: DType


@dataclass(frozen=True, kw_only=True, eq=False)
class Node:
    """One operator of the origin. ``inputs`` and ``outputs`` are names of values, ``""`` where one is left out.

    ``attrs`` hold numbers, strings, tuples, arrays, or a ``Foreign`` (a branch). ``place`` is the path of the layer that it
    belongs to (``features.0.conv``), or empty.
    """

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: Mapping[str, Any]
    place: str

    def __str__(self) -> str:
        return f"{self.op} at {self.place or ', '.join(self.outputs)}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Foreign:
    """A graph in topological order. ``version`` says by which edition of its operators it was written; ``untrained``: constants
    that training leaves alone, where the origin tells."""

    inputs: tuple[Input, ...]
    constants: Mapping[str, Array]
    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]
    version: int
    untrained: frozenset[str] = frozenset()


def walk(foreign: Foreign) -> Iterator[Node]:
    """All nodes, those of branches too."""
    for node in foreign.nodes:
        yield node
        for value in node.attrs.values():
            if isinstance(value, Foreign):
                yield from walk(value)


def needed(foreign: Foreign) -> Foreign:
    """The graph without nodes that no output needs."""
    wanted, kept = set(foreign.outputs), []
    for node in reversed(foreign.nodes):
        if wanted.intersection(node.outputs):
            kept.append(node)
            inside = [v for v in node.attrs.values() if isinstance(v, Foreign)]
            wanted.update(node.inputs, *(v.outputs for v in inside), *(n.inputs for v in inside for n in walk(v)))
    return replace(foreign, nodes=tuple(reversed(kept)))


def verify(foreign: Foreign, outer: frozenset[str] = frozenset()) -> Foreign:
    """Every value is defined once and before it is read; returns the graph.

    Raises:
        ForeignError: naming the value and the node.
    """
    defined = {i.name for i in foreign.inputs} | set(foreign.constants) | outer
    for node in foreign.nodes:
        for name in node.inputs:
            if name and name not in defined:
                raise ForeignError(f"{node}: reads {name!r}, which nothing before it defines; the file is damaged")
        for value in node.attrs.values():
            if isinstance(value, Foreign):
                verify(value, frozenset(defined))
        for name in node.outputs:
            if name and name in defined:
                raise ForeignError(f"{node}: defines {name!r} a second time; the file is damaged")
            defined.add(name)
    for name in foreign.outputs:
        if name not in defined:
            raise ForeignError(f"the graph returns {name!r}, which nothing defines; the file is damaged")
    return foreign


__all__ = ["Foreign", "Input", "Node", "needed", "verify", "walk"]
