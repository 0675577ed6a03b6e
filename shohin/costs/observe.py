"""Steps of a network observed on a device: its program as the exporter makes it, with counts or seconds by step."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from shohin.compiler.execute import passes
from shohin.compiler.kernel import Machine
from shohin.compiler.lowering import lower
from shohin.core.errors import DeployError
from shohin.core.graph import Graph
from shohin.core.module import Module
from shohin.core.nest import Program
from shohin.core.op import Aval
from shohin.core.tensor import as_tensor
from shohin.costs.model import Observed
from shohin.costs.work import Work, works
from shohin.deploy.artefact import Artefact
from shohin.deploy.export import export, one_each
from shohin.deploy.library import build_library
from shohin.deploy.measure import to_input
from shohin.deploy.network import exported_graph
from shohin.deploy.timeline import timeline
from shohin.targets import get_target
from shohin.targets.board import QemuBoard
from shohin.targets.host import CPU
from shohin.targets.target import Target

Array = np.ndarray[Any, Any]


def examples(xs: Sequence[Any]) -> list[Aval]:
    """Batches of one of these inputs' shapes."""
    return one_each(as_tensor(x).aval for x in xs)


def machine_of(target: Target) -> Machine:
    """What the C that runs on this device is written for; of the host's variants, the one for its processor."""
    machines = [m for _, m in target.machines]
    return next((m for m in machines if target.triple or m.level in ("generic", CPU.level)), machines[-1])


def program_of(graph: Graph, target: Target) -> Program:
    """The steps that an artefact of this graph has on a device."""
    return lower(passes.optimize(graph), machine_of(target))


def places(program: Program, target: Target) -> list[tuple[str, Work]]:
    """Places and works of a program's steps; jumps are left out."""
    buffers = {b.name: b for b in program.buffers}
    found = works(program.steps, buffers, machine_of(target))
    return [(s.place, w) for s, w in zip(program.steps, found, strict=True) if w is not None]


def observe(net: Module, xs: tuple[Array, ...], device: str, art: Artefact | None = None, repeats: int = 30) -> list[Observed]:
    """What each step of ``net`` takes: instructions on an emulated board, seconds on one thread of this host.

    Raises ``EmulatorMissing`` without the board's emulator, ``DeployError`` for a device that gives neither.
    """
    target = get_target(device)
    with tempfile.TemporaryDirectory(prefix="shohin-observe-") as folder:
        art = art or export(net, tuple(x[:1] for x in xs), device=device, to=Path(folder) / "artefact")
        program = program_of(exported_graph(net, examples(xs)), target)
        took = _counted(art, xs, target, Path(folder)) if isinstance(target.strategy, QemuBoard) else _timed(art, xs, target, repeats)
    found = places(program, target)
    if len(found) != len(program.steps) or [p for p, _ in found] != [p for p, _ in took]:
        return []  # loops of whole steps: their counts are of the last turn
    return [Observed(w, t) for (_, w), (_, t) in zip(found, took, strict=True)]


def _counted(art: Artefact, xs: tuple[Array, ...], target: Target, work: Path) -> list[tuple[str, float]]:
    board = target.strategy
    assert isinstance(board, QemuBoard)
    entries = to_input(art, build_library(art.folder, work / "host"), xs if art.packed else xs[0][:1])[:1]
    result = board.run(board.build_stepped(target, art.folder, work / "board"), entries, 300.0)
    return [(place, float(n)) for (place, _), n in zip(art.kernels, result.steps, strict=True)]


def _timed(art: Artefact, xs: tuple[Array, ...], target: Target, repeats: int) -> list[tuple[str, float]]:
    if target.triple or art.packed:
        raise DeployError(f"observe: {target.name} tells neither instructions nor seconds by step")
    return [(t.place, t.seconds) for t in timeline(art, xs[0], repeats)]


__all__ = ["examples", "machine_of", "observe", "places", "program_of"]
