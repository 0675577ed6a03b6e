"""``trace(f)(*args)``: the graph of a function, readable, with places; ``const`` marks a captured array as one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from shohin.core import trees
from shohin.core.cells import Cell
from shohin.core.graph import Graph
from shohin.core.module import roots
from shohin.core.tensor import Constant, Tensor, as_tensor
from shohin.core.trace import stage
from shohin.transforms.arguments import modules_in


@dataclass(frozen=True)
class Traced:
    """``graph`` takes the arguments' tensors in order, then the values of ``cells``; it returns the results, then ``writes``."""

    graph: Graph
    cells: tuple[Cell, ...]
    writes: tuple[Cell, ...]
    outputs: trees.Spec

    def __str__(self) -> str:
        """The graph; a comment at its end names the cells that the last outputs are written to."""
        names = ", ".join(c.name or "a cell" for c in self.writes)
        return f"{self.graph}  // the last {len(self.writes)} outputs are written to {names}" if names else str(self.graph)


def trace(f: Callable[..., Any]) -> Callable[..., Traced]:
    """A function that stages ``f`` on its arguments and returns the program instead of running it.

    >>> print(trace(lambda x: x * 2)(as_tensor([1.0])).graph.nodes[-1].op.name)
    multiply
    """

    def run(*args: Any, **keywords: Any) -> Traced:
        leaves, spec = trees.flatten((args, keywords))
        tensors = [as_tensor(v) for v in leaves]
        for module in modules_in((*_around(f), args, keywords)):
            module.cells()  # a cell's name is its first path
        found: list[trees.Spec] = []

        def flat(*values: Tensor) -> list[Tensor]:
            a, k = trees.unflatten(spec, values)
            with roots(f, a, k):
                out, out_spec = trees.flatten(f(*a, **k))
            found.append(out_spec)
            return [as_tensor(o) for o in out]

        staged = stage(flat, [t.aval for t in tensors])
        if staged.tensors:
            values = staged.tensors
            raise ValueError(f"trace: the function captures {len(values)} tensors, the first {values[0].aval}; pass them as arguments")
        return Traced(staged.graph, staged.cells, staged.writes, found[0])

    return run


def _around(f: Any) -> list[Any]:
    """What a function may reach besides its arguments: itself, its object, what it closes over, globals that it names."""
    code, found = getattr(f, "__code__", None), [f, getattr(f, "__self__", None)]
    for cell in getattr(f, "__closure__", None) or ():
        with contextlib.suppress(ValueError):  # not assigned yet
            found.append(cell.cell_contents)
    return found + [f.__globals__[n] for n in code.co_names if n in f.__globals__] if code else found


def const(x: Any) -> Tensor:
    """An array that a compiled function may look up without its being an argument; compared at each call."""
    array = np.array(x.concrete() if isinstance(x, Tensor) else x)
    array = array.astype(np.float32) if array.dtype == np.float64 and not isinstance(x, np.ndarray) else array
    array.flags.writeable = False
    return Constant._make(array, None, None, None)
