"""What a network gives at each place, as real numbers: the float module and the quantized one side by side.

A place is that of the last op that a quantized step stands for, so that both have values where their graphs agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from shohin.compress import definitions
from shohin.compress.integer import integers
from shohin.compress.parameters import Parameters
from shohin.compress.quantized import Quantized
from shohin.compress.steps import Program
from shohin.compress.walk import kept, traced
from shohin.core.errors import NonFiniteError
from shohin.core.graph import Graph
from shohin.core.module import Module, mode
from shohin.core.op import Aval
from shohin.core.tensor import as_tensor
from shohin.core.trace import run

Array = np.ndarray[Any, Any]
ENTRY = "input"


def float_values(net: Module, x: Array) -> dict[str, Array]:
    """By place what each op gives for x (n, ...), in evaluation mode; the input stands under ``input``.

    >>> from shohin import nn
    >>> found = float_values(nn.Sequential(nn.Linear(2, 3), nn.ReLU()), np.ones((1, 2), np.float32))
    >>> list(found)[0], [v.shape for v in found.values()][-1]
    ('input', (1, 3))
    """
    whole, cells, _ = traced(net, [Aval(x.shape, np.dtype(np.float32))], kept)
    active = Parameters(whole, whole.inputs[:1], cells).active
    nodes = [n for n in whole.nodes if any(v in active for v in n.operands)]
    wanted = tuple(n.results[0] for n in nodes)
    graph = Graph(whole.inputs, whole.names, whole.consts, whole.nodes, wanted)
    with mode(net, training=False), np.errstate(all="ignore"):
        values = run(graph, [as_tensor(x), *(c.read() for c in cells.values())])
    return {ENTRY: x, **{n.place: np.asarray(v.data) for n, v in zip(nodes, values, strict=True)}}


def integer_values(net: Quantized, x: Array, *, reference: bool = False) -> dict[str, Array]:
    """int8 by place: of the module, or of its Python integer reference."""
    with mode(net, training=False):
        found = integers(net, x) if reference else net.integers(x)
    return {_last(program_of(net, x), place): q for place, q in found.items()}


def real_values(net: Quantized, found: Mapping[str, Array], x: Array) -> dict[str, Array]:
    """float32 by place from int8 by place; positions (argmax) stay what they are."""
    program, grids = program_of(net, x), net.grids()
    grid = {step.nodes[-1] if step.nodes else step.place: grids.get(program.values[step.output].grid or "") for step in program.steps}
    real = lambda place, q: q.astype(np.float32) if (g := grid[place]) is None or q.dtype != np.int8 else definitions.dequantize(q, g)
    return {place: real(place, q) for place, q in found.items()}


def program_of(net: Quantized, x: Array) -> Program:
    return net.program(Aval(x.shape, np.dtype(np.float32)))[0]


def _last(program: Program, place: str) -> str:
    """The place of the last op of the step at ``place``."""
    return next((s.nodes[-1] for s in program.steps if s.place == place and s.nodes), place)


def snr(reference: Array, value: Array) -> float:
    """Signal to noise in dB: ``10 log10(sum reference^2 / sum (value - reference)^2)``; infinite where nothing differs.

    >>> round(snr(np.array([1.0, -1.0]), np.array([1.1, -1.0])), 2)
    23.01
    """
    r, v = reference.astype(np.float64), value.astype(np.float64)
    noise = float(((v - r) ** 2).sum())
    signal = float((r**2).sum())
    if noise == 0:
        return float("inf")
    return 10 * float(np.log10(signal / noise)) if signal else float("-inf")


def refuse_non_finite(net: Module, x: Array, y: Array) -> None:
    """Raises ``NonFiniteError`` with the first place where outputs y (n, ...) of x (n, ...) became NaN or infinite."""
    rows = np.flatnonzero(~np.isfinite(y.reshape(len(y), -1)).all(1))
    if not len(rows):
        return
    row = int(rows[0])
    for place, v in float_values(net, x[row : row + 1]).items():
        if v.dtype.kind == "f" and not np.isfinite(v).all():
            bad = v[~np.isfinite(v)][0]
            raise NonFiniteError(
                f"{place} gives {bad} for example {row} ({len(rows)} of {len(y)} examples are so); look for an overflow, a "
                "logarithm or division of zero there, or weights that are not finite"
            )
    raise NonFiniteError(f"the network's output for example {row} is not finite")


__all__ = ["ENTRY", "float_values", "integer_values", "program_of", "real_values", "refuse_non_finite", "snr"]
