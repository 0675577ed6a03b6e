"""What a compiled function returns: the tree around its tensors, and modules that were made inside (state.md 3).

An argument that is returned comes back as itself. A module made inside is built anew by each call, its cells from results
of the program; what it holds of the arguments (a tied weight, a submodule) it then shares with them. Nothing here keeps
an argument alive.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from weakref import ref

from shohin.core import trees
from shohin.core.cells import Cell
from shohin.core.errors import StateError
from shohin.core.interp import Frame
from shohin.core.module import Module, rebuild
from shohin.core.tensor import Tensor, as_tensor


class _Born:
    """Stands for a cell born inside: result ``number`` is its value."""

    def __init__(self, cell: Cell, number: int) -> None:
        self.cell, self.number = cell, number


class _Outer:
    """Stands for a module or cell from outside."""

    def __init__(self, value: Any) -> None:
        self.read: Callable[[], Any] = ref(value)


class Results:
    """Made in the trace from what the function returned: ``tensors`` are the results of the graph, ``build`` makes the tree
    of a call from their values."""

    def __init__(self, tree: Any, frame: Frame) -> None:
        leaves, self.spec = trees.flatten(tree, leaf=lambda v: trees.is_leaf(v) or isinstance(v, Module | Cell))
        self.tensors: list[Tensor] = []
        self._frame: Frame | None = frame
        self._born: dict[Cell, _Born] = {}
        self._parts = [self._part(v) for v in leaves]
        self._frame = None
        self._plain = self.spec.kind == "leaf" and isinstance(self._parts[0], int)
        self.count = len(self.tensors)

    def _part(self, value: Any) -> Any:
        if isinstance(value, Cell):
            raise StateError(f"a compiled function returns the cell {value}; return its value, or the module that holds it")
        if isinstance(value, Module):
            return rebuild(value, self._stand_in)
        self.tensors.append(as_tensor(value))
        return len(self.tensors) - 1

    def _stand_in(self, value: Any) -> Any:
        """In the pattern of a module: what stands for a cell or for a module from outside."""
        assert self._frame is not None
        if isinstance(value, Module):
            return None if self._frame.holds(value._born) else _Outer(value)
        if not isinstance(value, Cell):
            return None
        if value not in self._frame.new:
            self._frame.read(value)  # one that no argument reaches, or that was born further in, is an error
            return _Outer(value)
        if value not in self._born:
            self.tensors.append(self._frame.now[value])
            self._born[value] = _Born(value, len(self.tensors) - 1)
        return self._born[value]

    def build(self, values: Sequence[Tensor]) -> Any:
        """The tree with these values; new modules with cells of the current frame."""
        if self._plain:
            return values[0]
        made: dict[_Born, Cell] = {}

        def place(stand_in: Any) -> Any:
            if isinstance(stand_in, _Outer):
                return stand_in.read()
            if isinstance(stand_in, _Born):
                if stand_in not in made:
                    made[stand_in] = stand_in.cell.like(values[stand_in.number])
                return made[stand_in]
            return None

        return trees.unflatten(self.spec, [values[p] if isinstance(p, int) else rebuild(p, place) for p in self._parts])

    def release(self) -> None:
        """Forget the tensors of the trace."""
        self.tensors = []


__all__ = ["Results"]
