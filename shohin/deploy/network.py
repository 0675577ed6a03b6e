"""What is exported: a pure graph with the grids of its inputs and outputs, alone or between functions before and after it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from shohin.compiler.captures import refusals
from shohin.compress.definitions import Grid
from shohin.compress.integer import aval_of
from shohin.compress.lowering import lower
from shohin.compress.palettize import pack_weights
from shohin.compress.quantized import Quantized
from shohin.compress.sparse import pack_zeros
from shohin.core import dtypes, interp, trees
from shohin.core.errors import DeployError
from shohin.core.graph import Graph
from shohin.core.module import Module, mode
from shohin.core.op import Aval
from shohin.core.tensor import Tensor, as_tensor
from shohin.core.trace import prune, run, stage
from shohin.deploy.settled import settled
from shohin.ops import math


@dataclass(frozen=True, kw_only=True)
class Network:
    """``graph``; a grid an input and an output, None where it is float32 or an index."""

    graph: Graph
    inputs: tuple[Grid | None, ...]
    outputs: tuple[Grid | None, ...]

    @property
    def grids(self) -> tuple[Grid | None, ...]:
        return (*self.inputs, *self.outputs)


def network(net: Module, avals: Sequence[Aval]) -> Network:
    """The graph of a network in evaluation mode, integers if it is quantized.

    Raises:
        DeployError: an output of positions, or state that is written.
    """
    if not isinstance(net, Quantized):
        graph = settled(float_graph(net, avals))
        return Network(graph=graph, inputs=(None,) * len(avals), outputs=(None,) * len(graph.outputs))
    lowered = lower(net, *avals)
    if None in lowered.output_grids:
        place = lowered.places[lowered.output_grids.index(None)]
        raise DeployError(f"export: {place} gives positions, not values; an artefact gives int8 values. Positions come of post=lambda y: y.argmax(axis=-1)")
    return Network(graph=pack_zeros(pack_weights(lowered.graph, net)), inputs=lowered.input_grids, outputs=lowered.output_grids)


def exported_graph(net: Module, avals: Sequence[Aval]) -> Graph:
    """The graph that an artefact holds, for this batch: constants for cells, integers and packed weights where it is compressed."""
    with mode(net, training=False):
        return network(net, avals).graph


def between(net: Module, avals: Sequence[Aval], pre: Callable[..., Any] | None = None, post: Callable[..., Any] | None = None) -> Network:
    """The network with ``pre`` before it and ``post`` after it, both functions of real values and traced into one graph: inputs on
    ``avals``, then ``pre``, Q1 onto the network's grids, the network, back to real values, ``post``.

    Raises:
        CaptureError: a function reads a module or cell; DeployError: what it gives cannot cross the boundary.
    """
    flat = lambda f: lambda *xs: [as_tensor(t) for t in trees.flatten(f(*xs))[0]]
    if pre is None:
        inner = network(net, avals)
        avals, first = [v.aval for v in inner.graph.inputs], None
    else:
        first = stage(flat(pre), avals, **refusals("export: pre", [])).graph
        inner = network(net, one_each(v.aval for v in first.outputs))

    def whole(*xs: Tensor) -> list[Tensor]:
        if first is not None:
            xs = tuple(x if g is None else _onto(x, g) for x, g in zip(run(first, xs), inner.inputs, strict=True))
        found = run(inner.graph, xs)
        return found if post is None else _narrow(flat(post)(*(y if g is None else _real(y, g) for y, g in zip(found, inner.outputs, strict=True))))

    graph = stage(whole, avals, ["x"] if len(avals) == 1 else [f"x{k}" for k in range(len(avals))], **refusals("export: post", [])).graph
    return Network(graph=graph, inputs=inner.inputs if pre is None else (None,) * len(avals), outputs=inner.outputs if post is None else (None,) * len(graph.outputs))


def _onto(x: Tensor, g: Grid) -> Tensor:
    """Q1: ``round_half_even(clip(x / s, lo - z, hi - z)) + z``, as the host does it."""
    lo, hi = (float(n - g.z) for n in g.limits)
    return math.astype(math.round(math.clip(math.astype(x, np.float32) / float(g.s), lo, hi)) + float(g.z), g.dtype)


def _real(q: Tensor, g: Grid) -> Tensor:
    return (math.astype(q, np.float32) - float(g.z)) * float(g.s)


def _narrow(values: Sequence[Tensor]) -> list[Tensor]:
    """Positions, which are int64, as a device's int32."""
    return [math.astype(v, np.int32) if v.dtype == dtypes.int64 else v for v in values]


def one_each(avals: Iterable[Aval]) -> list[Aval]:
    """Inputs for a batch of one: an index as it is, else float32."""
    return [Aval((1, *a.shape[1:]), aval_of(a).dtype) for a in avals]


def float_graph(net: Module, avals: Sequence[Aval]) -> Graph:
    """The network in evaluation mode with its cells' values as constants."""

    def forward(*xs: Tensor) -> list[Tensor]:
        leaves, _ = trees.flatten(net(*xs))
        return [as_tensor(t) for t in leaves]

    names = ["x"] if len(avals) == 1 else [f"x{k}" for k in range(len(avals))]
    staged = stage(forward, avals, names, **refusals("export", [net]))
    if staged.writes:
        raise DeployError(f"export: {staged.writes[0]} is written in evaluation mode; make it an input and an output of the network, and name both in state=")
    return with_constants(staged.graph, [interp.BASE.read(c) for c in staged.cells])


def with_constants(graph: Graph, values: list[Tensor]) -> Graph:
    """The trailing inputs bound to values."""
    n = len(graph.inputs) - len(values)
    consts = tuple((v, np.array(t.data)) for v, t in zip(graph.inputs[n:], values, strict=True))
    return prune(Graph(graph.inputs[:n], graph.names[:n], (*graph.consts, *consts), graph.nodes, graph.outputs))


__all__ = ["Network", "between", "exported_graph", "float_graph", "network", "one_each", "with_constants"]
