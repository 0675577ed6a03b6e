"""``shohin ship`` and ``shohin compress``: the terminal's side of ``sh.ship``, without and with plans."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import shohin as sh
from shohin.cli.network_file import load_network, numbers, shape_of
from shohin.cli.plan_files import plans_of
from shohin.core.errors import BudgetError, DataError
from shohin.core.module import Module
from shohin.data.folder import Reading, read_folder
from shohin.deploy.budget import Budget
from shohin.shipping.candidate import Candidate
from shohin.shipping.ship import Shipment, ship
from shohin.shipping.subject import input_shape
from shohin.shipping.teller import Teller
from shohin.train import Task

WIDE = 180
"""Columns of a terminal that hold the whole table; else it is two."""
CHECKED = 16
"""Inputs on which an imported network is compared with its origin."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """The command's options, as they were written."""

    model: Path
    data: Path | None
    device: str
    flash: str | None
    ram: str | None
    finetune: int
    out: Path
    shape: str | None = None
    resize: bool = False
    mean: str | None = None
    std: str | None = None
    limit: int = 2000
    seed: int = 0
    fresh: bool = False
    json: bool = False
    plans: tuple[Path, ...] = ()
    rules: tuple[str, ...] = ()
    planned: bool = False
    distill: float = 0.0


def run(config: Config, console: Console) -> Shipment:
    """Ship, show, report. Raises ``BudgetError`` where nothing fits; all that was found is kept and shown before."""
    told = Teller(Console(stderr=True, highlight=False) if config.json else console)
    net, data = _inputs(config)
    plans = plans_of(config.plans, config.rules) if config.planned else None  # after the task, whose methods they may name
    found = ship(net, data, plans=plans, distill=config.distill, at=_at(config.model) if config.model.suffix.lower() == ".onnx" else None, device=config.device, flash=config.flash, ram=config.ram, to=config.out, finetune=config.finetune, seed=config.seed,
                 name=config.model.stem, fresh=config.fresh, progress=told)  # fmt: skip
    note = _report(found)
    if config.json:
        print(json.dumps(found.to_json(), indent=1))
    else:
        show(found, console)
        console.print(note, soft_wrap=True)
    if found.best is None:
        closest = max(found.candidates[1:], key=lambda c: (-len(c.over(found.budget)), c.score))
        raise BudgetError(f"{closest.name} came closest: {', '.join(closest.over(found.budget))}. {' '.join(found.short)}")
    return found


def _inputs(config: Config) -> tuple[Any, Any]:
    shape = shape_of(config.shape)
    net = load_network(config.model, shape=shape)
    if isinstance(net, Task):
        if config.data is not None:
            raise DataError(f"--data {config.data}: {config.model} is a task, which brings its own data; leave --data out")
        return net, None
    if config.data is None:
        raise DataError("--data is missing: a folder with some hundred inputs (subfolders are labels), .npy or .npz")
    mean, std = numbers(config.mean, "mean") or (0.0,), numbers(config.std, "std") or (1.0,)
    reading = Reading(shape=shape or input_shape(net), resize=config.resize, mean=mean, std=std, limit=config.limit)
    data = read_folder(config.data, reading)
    if config.model.suffix.lower() == ".onnx":
        x = getattr(data, "x", data)
        net = load_network(config.model, shape=shape, check=x[:CHECKED])
    return net, data


def _at(path: Path) -> Callable[[tuple[int, ...]], Module]:
    """The network of an ONNX file, imported for examples of another shape."""

    def at(shape: tuple[int, ...]) -> Module:
        net = load_network(path, shape=shape)
        return net.model if isinstance(net, Task) else net

    return at


def _report(found: Shipment) -> str:
    try:
        return f"report       {sh.write_report(found)}"
    except ModuleNotFoundError as error:
        return f"report       none: it needs {error.name} (pip install 'shohin[report]'; the same command then only writes it)"


def show(found: Shipment, console: Console) -> None:
    """The table that people look at; kB are 1,000 bytes."""
    labels = any(c.accuracy for c in found.candidates)
    front = {c.name for c in found.front}
    answers, sizes = ["accuracy" if labels else "agrees", "SNR dB", "differ", "fits"], ["flash kB", "code", "data", "arena kB", "peak at", "RAM kB", "instructions", "host ms"]
    for heads in ([*sizes, *answers],) if console.width >= WIDE else (answers, sizes):
        table = Table("candidate", *heads, box=None, padding=(0, 2, 0, 0))
        for column in table.columns:
            column.no_wrap, column.justify = True, "left" if column.header in ("candidate", "peak at", "fits") else "right"
        for c in found.candidates:
            cells = _cells(c, labels, " *" if c.name in front else "", found.budget)
            table.add_row(c.name, *(cells[h] for h in heads))
        console.print(table)
    integers = [c for c in found.candidates if c.differing is not None]
    differing, compared = sum(c.differing.value for c in integers if c.differing), sum(c.compared for c in integers)
    ways = f"{differing:,} of {compared:,} integers differ between {', '.join(integers[-1].ways)}" if integers else "no candidate is of integers"
    console.print(f"\n{ways}", soft_wrap=True)
    console.print("measured: accuracy, agreement, SNR, flash, arena, ms on this host; emulated: instructions and the stack in RAM; * on the front", soft_wrap=True)
    for note in dict.fromkeys(n for c in found.candidates for n in c.notes):
        console.print(f"note: {note}", soft_wrap=True)
    for line in found.short:
        console.print(f"{next(c for c in found.candidates if c.integer).name} falls short: {line}", soft_wrap=True)
    for line in found.doubts:
        console.print(f"warning: {line}", soft_wrap=True, style="bold yellow", markup=False)
    for line in found.skipped:
        console.print(f"not tried: {line}", soft_wrap=True)
    console.print()
    if found.best is not None:
        console.print(f"best         [bold]{found.best.name}[/bold] ({found.best.about})", soft_wrap=True)
        console.print(f"artefact     {found.folder / 'artefact'} (cmake, make, network.hpp)", soft_wrap=True)
    console.print(f"checkpoint   {found.checkpoint} (sh.load)", soft_wrap=True)
    estimate = f", {found.estimate:.0f} s were estimated for the first candidates" if found.estimate else ""
    console.print(f"time         {found.seconds:.0f} s (measured){estimate}", soft_wrap=True)


def _cells(c: Candidate, labels: bool, star: str, budget: Budget) -> dict[str, str]:
    kilo = lambda n: f"{n / 1000:.1f}"
    share = c.accuracy if labels else c.agreement
    return {
        "accuracy" if labels else "agrees": "-" if share is None else f"{100 * share.value:.2f} %", "SNR dB": "-" if c.snr is None else f"{c.snr.value:.1f}",
        "flash kB": kilo(c.flash.value), "code": kilo(c.sections["text"]), "data": kilo(c.sections["rodata"] + c.sections["data"]),
        "arena kB": kilo(c.arena.value), "peak at": str(c.peak["layer"]), "RAM kB": kilo(c.ram.value),
        "instructions": "-" if c.instructions is None else f"{c.instructions.value:,}", "host ms": f"{c.latency_ms['median'].value:.3f}",
        "differ": "-" if c.differing is None else f"{c.differing.value:,}", "fits": "no" if c.over(budget) else f"yes{star}",
    }  # fmt: skip


__all__ = ["Config", "run", "show"]
