"""What a budget of channels asks (``compress.to_budget.Meter``): flash and RAM of the artefact, modelled or measured instructions and ms."""

from __future__ import annotations

import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from shohin.compress.to_budget import Meter
from shohin.core.errors import DeployError
from shohin.core.module import Module
from shohin.costs.cost import by_place
from shohin.costs.observe import examples, observe
from shohin.costs.tables import board_table, host_table, learn
from shohin.deploy.artefact import Artefact
from shohin.deploy.cost import layers_of
from shohin.deploy.export import export
from shohin.deploy.library import build_library
from shohin.deploy.measure import on_board, to_input
from shohin.deploy.network import exported_graph
from shohin.targets import get_target

Array = np.ndarray[Any, Any]
TURNS = 60


def meter(device: str) -> Meter:
    """The meter of a device. ``constants`` are bytes of flash without the code, counted in the graph; ``flash`` and ``ram`` are the exported artefact's; ``ram``'s stack, ``instructions`` and ``ms`` are measured on
    request: in the emulator, and on this host with the artefact that is written for it."""
    target = get_target(device)

    def read(net: Module, xs: tuple[Array, ...], names: Collection[str], *, measured: bool) -> dict[str, float]:
        found: dict[str, float] = {}
        graph = exported_graph(net, examples(xs))
        with tempfile.TemporaryDirectory(prefix="shohin-meter-") as folder:
            work = Path(folder)
            if "constants" in names:
                found["constants"] = sum(p.constants for p in layers_of(graph))
            if {"flash", "ram"} & set(names) or (measured and "instructions" in names):
                art = export(net, xs, device=device, to=work / "device")
                found |= {"flash": art.flash_bytes, "ram": art.arena_bytes + art.sections.ram}
                if measured and {"ram", "instructions"} & set(names) and target.triple:
                    found |= _counted(art, xs, work)
            if "instructions" in names and "instructions" not in found:
                found["instructions"] = _total(by_place(graph, target, board_table(target.name)), f"instructions on {device}")
            if "ms" in names:
                found["ms"] = _timed(net, xs, work) if measured else 1e3 * _total(by_place(graph, get_target("host"), host_table(measure=True)), "ms")
        return {name: found[name] for name in names}

    return read


def _total(found: dict[str, float] | None, what: str) -> float:
    if found is None:
        raise DeployError(f"{what}: there is no table of costs; `python -m shohin.costs.fit DEVICE` makes one for an emulated board")
    return sum(found.values())


def _counted(art: Artefact, xs: tuple[Array, ...], work: Path) -> dict[str, float]:
    """Instructions and RAM with the stack, where the emulator is there and the network fits the board."""
    entries = to_input(art, build_library(art.folder, work / "entry"), xs if art.packed else xs[0])[:1]
    result, _ = on_board(art, entries, work / "board", 600.0)
    if result is None or not result.instructions:
        return {}
    return {"instructions": float(result.instructions[0])} | ({} if result.ram_bytes is None else {"ram": float(result.ram_bytes)})


def _timed(net: Module, xs: tuple[Array, ...], work: Path) -> float:
    """Median milliseconds of the host's artefact; its steps are kept."""
    art = export(net, xs, device="host", to=work / "host")
    library = build_library(art.folder, work / "library")
    found = library.latency(to_input(art, library, xs if art.packed else xs[0])[:1], TURNS)
    if not art.packed:
        learn(observe(net, xs, "host", art))
    return found.median * 1e3


__all__ = ["meter"]
