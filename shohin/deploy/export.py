"""``sh.export``: a network as an artefact that a device's own compiler builds. Complete, or an error that says what is missing."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from shohin.compiler.captures import refusals
from shohin.compress.integer import aval_of
from shohin.compress.lowering import lower
from shohin.compress.palettize import pack_weights
from shohin.compress.quantized import Quantized
from shohin.compress.sparse import pack_zeros
from shohin.core import interp, trees
from shohin.core.errors import DeployError, TargetError
from shohin.core.graph import Graph, Var
from shohin.core.module import Module, mode
from shohin.core.op import Aval
from shohin.core.tensor import Tensor, as_tensor
from shohin.core.trace import prune, stage
from shohin.deploy.artefact import Artefact, Boundary, write_artefact
from shohin.deploy.source import Grid, write_c
from shohin.targets import get_target


def export(net: Module, example: Any, *, device: str, to: str | Path, name: str = "network") -> Artefact:
    """Writes the folder ``to`` for ``device`` and returns the artefact.

    ``example`` gives the input's shape (its first dim is the batch; the artefact takes one), or is a tuple of examples, one an
    input. A float network exports as float32, one from ``plan.apply`` as integers.
    """
    target = get_target(device)
    if not target.float_unit:
        raise TargetError(f"export: device={device!r} has no float unit (float_unit=False), and int8 networks too multiply float32 "
                          f"when they requantize; requantization in integers is not written yet")
    avals = [e.aval if isinstance(e, Tensor) else Aval(np.shape(e), np.asarray(e).dtype) for e in (example if isinstance(example, tuple) else (example,))]
    for a in avals:
        if not a.shape or (len(avals) == 1 and len(a.shape) < 2):
            raise DeployError(f"export: example has shape {a.shape}, expected a batch of inputs")
    ones = one_each(avals)
    folder = Path(to)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise DeployError(f"export: cannot write to {folder}: {error.strerror or error}") from error
    with mode(net, training=False):
        if isinstance(net, Quantized):
            lowered = lower(net, *ones)
            graph = pack_zeros(pack_weights(lowered.graph, net))
            if None in lowered.output_grids:
                place = lowered.places[lowered.output_grids.index(None)]
                raise DeployError(f"export: {place} gives positions, not values; an artefact gives int8 values")
            both = (*lowered.input_grids, *lowered.output_grids)
            grids = [None if g is None else Grid(scale=float(g.s), zero=int(g.z), limits=g.limits) for g in both]
        else:
            graph, grids = float_graph(net, ones), None
    text = write_c(graph, name, machines=target.machines, grids=grids, device=target.name)  # type: ignore[arg-type]
    (folder / "network.h").write_text(text.header, encoding="utf-8")
    (folder / "network.c").write_text(text.source, encoding="utf-8")
    every = [None] * (len(graph.inputs) + len(graph.outputs)) if grids is None else grids

    def boundaries(letter: str, values: Sequence[Var], given: Sequence[Grid | None]) -> tuple[Boundary, ...]:
        grid = lambda g: {} if g is None else {"scale": float(np.float32(g.scale)), "zero": g.zero}
        names = [letter] if len(values) == 1 else [f"{letter}{k}" for k in range(len(values))]
        return tuple(Boundary(name=n, shape=v.shape[1:] or (1,), dtype=v.dtype.name, **grid(g)) for n, v, g in zip(names, values, given, strict=True))

    n = len(graph.inputs)
    return write_artefact(folder, device=target.name, inputs=boundaries("x", graph.inputs, every[:n]),
                          outputs=boundaries("y", graph.outputs, every[n:]), kernels=text.kernels, layout=text.layout)  # fmt: skip


def one_each(avals: Iterable[Aval]) -> list[Aval]:
    """Inputs for a batch of one: an index as it is, else float32."""
    return [Aval((1, *a.shape[1:]), aval_of(a).dtype) for a in avals]


def float_graph(net: Module, avals: Sequence[Aval]) -> Graph:
    """The network in evaluation mode with its cells' values as constants."""

    def run(*xs: Tensor) -> list[Tensor]:
        leaves, _ = trees.flatten(net(*xs))
        return [as_tensor(t) for t in leaves]

    names = ["x"] if len(avals) == 1 else [f"x{k}" for k in range(len(avals))]
    staged = stage(run, avals, names, **refusals("export", [net]))
    if staged.writes:
        raise DeployError(f"export: {staged.writes[0]} is written in evaluation mode; state becomes inputs and outputs of the network")
    return with_constants(staged.graph, [interp.BASE.read(c) for c in staged.cells])


def with_constants(graph: Graph, values: list[Tensor]) -> Graph:
    """The trailing inputs bound to values."""
    n = len(graph.inputs) - len(values)
    consts = tuple((v, np.array(t.data)) for v, t in zip(graph.inputs[n:], values, strict=True))
    return prune(Graph(graph.inputs[:n], graph.names[:n], (*graph.consts, *consts), graph.nodes, graph.outputs))
