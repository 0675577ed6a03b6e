"""What the arguments of a transformed function hold: differentiated leaves and cells, and how trees of them look."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shohin.core import dtypes, trees
from shohin.core.cells import Cell, Param
from shohin.core.errors import GradientError
from shohin.core.interp import Frame
from shohin.core.module import Module
from shohin.core.tensor import Tensor, as_tensor


def modules_in(value: Any) -> list[Module]:
    """Modules reached through lists, tuples and dicts."""
    if isinstance(value, Module):
        return [value]
    if isinstance(value, list | tuple):
        return [m for v in value for m in modules_in(v)]
    return [m for v in value.values() for m in modules_in(v)] if isinstance(value, dict) else []


def hand_down(frame: Frame, result: Any) -> None:
    """Cells born in a frame that its result holds move to the parent."""
    for module in modules_in(result):
        frame.hand_down(module.cells().values())


def trainable(value: Any) -> dict[str, Param]:
    """The trained cells that an argument reaches, by path; several modules are told apart by their position."""
    found: dict[str, Param] = {}
    modules = modules_in(value)
    for k, module in enumerate(modules):
        for path, cell in module.cells(Param).items():
            if cell.requires_grad and cell not in found.values():
                found[path if len(modules) == 1 else f"{k}.{path}"] = cell
    return found


class Primal:
    """One differentiated argument: a module (its trainable cells) or a tree of floating tensors."""

    def __init__(self, value: Any, name: str) -> None:
        self.is_module = bool(modules_in(value))
        self.value = value
        if self.is_module:
            self.cells = trainable(value)
            self.leaves: list[Tensor] = []
            self.spec = None
            return
        self.cells = {}
        leaves, self.spec = trees.flatten(value)
        self.leaves = [as_tensor(v) for v in leaves]
        if not self.leaves:
            raise GradientError(f"{name}: the argument holds no tensor to differentiate")
        for t in self.leaves:
            if t.dtype not in dtypes.FLOATING:
                raise GradientError(f"{name}: the argument is {t.aval}; only floating-point tensors are differentiated, write astype(sh.float32)")

    def lifted(self, values: Sequence[Tensor]) -> Any:
        """The argument with its leaves replaced (a module passes as it is)."""
        assert self.spec is not None
        return trees.unflatten(self.spec, values)

    def tree(self, grads: Sequence[Any]) -> Any:
        """Values for leaves or cells, in the argument's form."""
        if self.is_module:
            return trees.Paths(zip(self.cells, grads, strict=True))
        assert self.spec is not None
        return trees.unflatten(self.spec, grads)


def cell_list(wrt: Any) -> dict[Cell, str]:
    """``wrt=`` as a dictionary: one cell, a list of cells, or values just read from cells."""
    items = wrt if isinstance(wrt, list | tuple) else [wrt]
    cells: dict[Cell, str] = {}
    for item in items:
        cell = item.cell if isinstance(item, Tensor) else item
        if not isinstance(cell, Cell):
            raise GradientError(f"wrt takes cells (net.weight.cell) or values just read from cells, got {type(item).__name__}")
        cells[cell] = cell.name
    return cells
