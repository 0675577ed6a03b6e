"""``sh.export``: a network as an artefact that a device's own compiler builds. Complete, or an error that says what is missing."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from shohin.compiler.captures import refusals
from shohin.compress.lowering import lower
from shohin.compress.palettize import pack_weights
from shohin.compress.quantized import Quantized
from shohin.core import interp, trees
from shohin.core.errors import DeployError, TargetError
from shohin.core.graph import Graph
from shohin.core.module import Module, mode
from shohin.core.op import Aval
from shohin.core.tensor import Tensor, as_tensor
from shohin.core.trace import prune, stage
from shohin.deploy.artefact import Artefact, Boundary, write_artefact
from shohin.deploy.source import Grid, write_c
from shohin.targets import get_target


def export(net: Module, example: Any, *, device: str, to: str | Path, name: str = "network") -> Artefact:
    """Writes the folder ``to`` for ``device`` and returns the artefact.

    ``example`` gives the input's shape (its first dim is the batch; the artefact takes one). A float network exports as
    float32, one from ``plan.apply`` as int8.
    """
    target = get_target(device)
    if not target.float_unit:
        raise TargetError(f"export: device={device!r} has no float unit (float_unit=False), and int8 networks too multiply float32 "
                          f"when they requantize; requantization in integers is not written yet")
    shape = tuple(np.shape(example)) if not isinstance(example, Tensor) else example.shape
    if len(shape) < 2:
        raise DeployError(f"export: example has shape {shape}, expected a batch of inputs")
    one = (1, *shape[1:])
    folder = Path(to)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise DeployError(f"export: cannot write to {folder}: {error.strerror or error}") from error
    with mode(net, training=False):
        if isinstance(net, Quantized):
            lowered = lower(net, Aval(one, np.dtype(np.float32)))
            graph = pack_weights(lowered.graph, net)
            if None in lowered.output_grids:
                raise DeployError(f"export: {lowered.places[0]} gives positions, not values; an artefact gives int8 values")
            grids = tuple(Grid(scale=float(g.s), zero=int(g.z)) for g in (*lowered.input_grids, *lowered.output_grids) if g is not None)
        else:
            graph, grids = float_graph(net, one), None
    text = write_c(graph, name, machines=target.machines, grids=grids, device=target.name)  # type: ignore[arg-type]
    (folder / "network.h").write_text(text.header, encoding="utf-8")
    (folder / "network.c").write_text(text.source, encoding="utf-8")
    x, y = graph.inputs[0], graph.outputs[0]
    grid = lambda k: {} if grids is None else {"scale": float(np.float32(grids[k].scale)), "zero": int(grids[k].zero)}
    return write_artefact(
        folder, device=target.name, inputs=(Boundary(name="x", shape=x.shape[1:], dtype=x.dtype.name, **grid(0)),),
        outputs=(Boundary(name="y", shape=y.shape[1:] or (1,), dtype=y.dtype.name, **grid(1)),), kernels=text.kernels, layout=text.layout)  # fmt: skip


def float_graph(net: Module, shape: tuple[int, ...]) -> Graph:
    """The network in evaluation mode with its cells' values as constants."""

    def run(x: Tensor) -> list[Tensor]:
        leaves, _ = trees.flatten(net(x))
        return [as_tensor(t) for t in leaves]

    staged = stage(run, [Aval(shape, np.dtype(np.float32))], ["x"], **refusals("export", [net]))
    if staged.writes:
        raise DeployError(f"export: {staged.writes[0]} is written in evaluation mode; state becomes inputs and outputs of the network")
    return with_constants(staged.graph, [interp.BASE.read(c) for c in staged.cells])


def with_constants(graph: Graph, values: list[Tensor]) -> Graph:
    """The trailing inputs bound to values."""
    n = len(graph.inputs) - len(values)
    consts = tuple((v, np.array(t.data)) for v, t in zip(graph.inputs[n:], values, strict=True))
    return prune(Graph(graph.inputs[:n], graph.names[:n], (*graph.consts, *consts), graph.nodes, graph.outputs))
