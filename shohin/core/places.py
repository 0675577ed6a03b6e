"""The places of a call: which op stands where (state.md 15). One scheme for graphs, plans, profiles, reports and the C.

A place is the path of the module within the outermost module called, the op, and its count there: ``body.0/add#0``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from shohin.core.axes import Shape
from shohin.core.dtypes import DType
from shohin.core.graph import Graph, subgraphs
from shohin.core.op import Aval
from shohin.core.tensor import Tensor
from shohin.core.trace import stage


@dataclass(frozen=True)
class Place:
    """``name`` is the whole (``body.0/add#0``), ``path`` the module's part of it; ``shape`` and ``dtype`` of the first result."""

    name: str
    path: str
    op: str
    shape: Shape
    dtype: DType

    def __str__(self) -> str:
        return f"{self.name}: {self.op} {Aval(self.shape, self.dtype)}"


class Places(tuple[Place, ...]):
    """The places of a call in order; ``str`` is a table, ``names`` the places alone."""

    __slots__ = ()

    @property
    def names(self) -> list[str]:
        return [p.name for p in self]

    def __str__(self) -> str:
        rows = [("place", "op", "result"), *((p.name, p.op, str(Aval(p.shape, p.dtype))) for p in self)]
        widths = [max(len(r[k]) for r in rows) for k in range(2)]
        return "\n".join(f"{a:{widths[0]}}  {b:{widths[1]}}  {c}" for a, b, c in rows)


def places(f: Callable[..., Any], *args: Any, **keywords: Any) -> Places:
    """The places of ``f(*args, **keywords)``, which is traced: nothing is computed, no cell is written, no random number drawn.

    >>> from shohin.core.tensor import as_tensor
    >>> [str(p) for p in places(lambda x: x + x, as_tensor([1.0, 2.0]))]
    ['/add#0: add f32[2]']
    """
    graph = stage(lambda: list(_tensors(f(*args, **keywords))), []).graph
    return Places(_places(graph))


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for v in value:
            yield from _tensors(v)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


def _places(graph: Graph) -> Iterator[Place]:
    """Those of bodies before the node that holds them; a composite is one place."""
    for node in graph.nodes:
        if node.op.kind != "call":
            for body in subgraphs(node):
                yield from _places(body)
        first = node.results[0]
        op = str(node.attrs.get("name", node.op.name)) if node.op.kind == "call" else node.op.name
        yield Place(node.place, node.place.rpartition("/")[0], op, first.shape, first.dtype)


__all__ = ["Place", "Places", "places"]
