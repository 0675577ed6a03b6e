"""The demo: two networks on Fashion-MNIST, float, int8 after training, int8 trained; measured on what is shipped.

Every part that takes long resumes: training by epochs (``fit``), candidates by their finished record.
"""

from __future__ import annotations

import json
import os
import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import shohin as sh
from shohin import nn, optim
from shohin.cli.augment import crop_and_flip
from shohin.compress import Plan, Quantize
from shohin.core.errors import BudgetError, CheckpointError
from shohin.core.module import Module
from shohin.core.version import __version__
from shohin.data import Dataset, fashion_mnist
from shohin.deploy.budget import Budget
from shohin.deploy.export import export
from shohin.deploy.measure import Number, compare, measure
from shohin.nn.models import NETWORKS
from shohin.targets import get_target
from shohin.targets.host import CPU
from shohin.targets.toolchain import atomic
from shohin.train import Task, evaluate, fit

SCHEMA = 1
BUDGET = Budget(flash=128_000, ram=96_000)


@dataclass(frozen=True, kw_only=True)
class Config:
    """What a run is made of; the numbers of ``quick`` claim nothing."""

    quick: bool = False
    device: str = "cortex-m55"
    budget: Budget = BUDGET
    folder: Path = Path("runs/demo")
    fresh: bool = False
    seed: int = 0

    @property
    def epochs(self) -> int:
        return 1 if self.quick else 10

    @property
    def board_images(self) -> int:
        return 4 if self.quick else 64


def tasks(config: Config) -> tuple[dict[str, Task], Dataset]:
    """One task a network, with 5,000 training images held out for choosing; and the held-out images."""
    train, test = fashion_mnist()
    rest, valid = train.split(len(train) - len(train) // 12, key=config.seed)
    if config.quick:
        rest, test, valid = _first(rest, 6000), _first(test, 1000), _first(valid, 1000)
    found = {}
    for k, (name, build) in enumerate(NETWORKS.items()):
        sh.seed(config.seed + k)
        found[name] = Task(build(), rest, test, nn.cross_entropy, nn.accuracy, augment=crop_and_flip)
    return found, valid


def _first(data: Dataset, count: int) -> Dataset:
    return data.take(min(count, len(data)))


def train_float(config: Config, name: str, task: Task, valid: Dataset, console: Console) -> None:
    """``task.model`` trained in place; the run goes on where it was."""
    steps = len(task.train) // 64 * config.epochs
    opt = optim.adamw(1e-3, weight_decay=0.02).init(task.model)
    console.print(f"\n[bold]{name}[/bold]: float32, {config.epochs} epochs of {len(task.train):,} images")
    fit(task.model, task.loss_fn, task.train, opt, config.epochs, schedule=optim.one_cycle(6e-3, steps), augment=task.augment,
        test=valid, run=config.folder / f"{name}-float", seed=config.seed, fresh=config.fresh)  # fmt: skip


def opened(folder: Path) -> None:
    """Make the folder. Raises ``CheckpointError`` if it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".writable").write_text("")
        (folder / ".writable").unlink()
    except OSError as error:
        raise CheckpointError(f"cannot write to {folder}: {error.strerror}; choose another folder with --run") from error


def run(config: Config, console: Console) -> dict[str, Any]:
    """The whole job; returns what ``result.json`` holds. Raises ``BudgetError`` when no candidate fits."""
    started = time.perf_counter()
    folder = config.folder
    get_target(config.device)
    opened(folder)
    console.print("data: Fashion-MNIST")
    work, valid = tasks(config)
    candidates: list[dict[str, Any]] = []
    for name, task in work.items():
        net = task.model
        train_float(config, name, task, valid, console)
        candidates.append(_candidate(config, console, name, "float32", net, task, valid))
        plan = Plan([("*", Quantize(w=8, a=8))])
        calibration = _first(task.train, 256)
        small = plan.apply(net, calibration=calibration)
        candidates.append(_candidate(config, console, name, "int8", small, task, valid))
        trained = plan.apply(net, calibration=calibration)
        data, epochs = (_first(task.train, 20 * 64), 1) if config.quick else (task.train, 2)
        steps = len(data) // 64 * epochs
        opt = optim.adamw(1e-4, weight_decay=0.0).init(trained)
        console.print(f"{name}: quantization-aware training, {steps} steps")
        fit(trained, task.loss_fn, data, opt, epochs, schedule=optim.cosine(3e-4, steps), augment=task.augment, test=valid,
            run=folder / f"{name}-qat", seed=config.seed, fresh=config.fresh)  # fmt: skip
        candidates.append(_candidate(config, console, name, "int8-qat", trained, task, valid))
    fitting = [c for c in candidates if c["fits_budget"]]
    best = max(fitting, key=lambda c: c["valid_accuracy"]["value"]) if fitting else None
    result = {
        "schema": SCHEMA, "claim": not config.quick, "shohin": __version__, "device": config.device,
        "budget": {"flash_bytes": config.budget.flash, "ram_bytes": config.budget.ram}, "data": {"train": len(task.train), "valid": len(valid), "test": len(task.test)},
        "machine": {"processor": CPU.key, "cores": os.cpu_count(), "system": platform.platform(), "python": platform.python_version(), "numpy": np.__version__},
        "seconds": Number(round(time.perf_counter() - started, 1), "measured").__dict__, "candidates": candidates,
        "best": None if best is None else {"network": best["network"], "precision": best["precision"]},
    }  # fmt: skip
    with atomic(folder / "result.json") as path:
        path.write_text(json.dumps(result, indent=2) + "\n")
    show(result, console)
    if best is None:
        nearest = min(candidates, key=lambda c: len(c["over"]) * 1e9 + c["flash_bytes"]["value"])
        raise BudgetError(f"{nearest['network']} {nearest['precision']} came closest: {', '.join(nearest['over'])}; fewer channels or a smaller input would fit")
    return result


def _candidate(config: Config, console: Console, network: str, precision: str, net: Module, task: Task, valid: Dataset) -> dict[str, Any]:
    """Export, measure, compare; one record of ``candidates``."""
    integer = precision != "float32"
    console.print(f"{network} {precision}: exporting and measuring")
    home = config.folder / f"{network}-{precision}"
    art, host = (export(net, task.test.x[:1], device=device, to=home / device) for device in (config.device, "host"))
    metric = nn.accuracy
    found = measure(art, task.test, metric=metric, board=config.board_images, host=host)
    checked = compare(net, art, _first(task.test, 1000), board=config.board_images, host=host) if integer else None
    assert found.accuracy is not None
    ram = found.ram_bytes or Number(art.arena_bytes + art.sections.data + art.sections.bss, "measured")
    over = config.budget.excess(flash=found.flash_bytes.value, ram=ram.value)
    record = {
        "network": network, "precision": precision, "test_accuracy": found.accuracy, "valid_accuracy": Number(evaluate(net, valid, metric), "measured"),
        "flash_bytes": found.flash_bytes, "flash_by_section": asdict(art.sections), "arena_bytes": found.arena_bytes, "arena_observed": found.arena_observed,
        "stack_bytes": found.stack_bytes, "ram_bytes": ram, "latency_ms": dict(found.latency_ms),
        "board_instructions": found.instructions, "board_images": config.board_images if found.instructions else 0,
        "integer_mismatches": None if checked is None else Number(checked.differing, "measured"), "integers_compared": None if checked is None else checked.compared,
        "compared": None if checked is None else list(checked.ways), "fits_budget": not over, "over": over, "artefact": str(home / config.device),
        "notes": list(found.notes),
    }  # fmt: skip
    for note in found.notes:
        console.print(f"  {note}")
    return _plain(record)


def _plain(value: Any) -> Any:
    if isinstance(value, Number):
        return {"value": value.value, "how": value.how}
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value


def show(result: dict[str, Any], console: Console) -> None:
    """The table that people look at; kB are 1,000 bytes."""
    columns = ("network", "precision", "test acc.", "flash kB", "arena kB", "RAM kB", "host ms", "p95", "instructions", "differing", "fits")
    table = Table(*columns, title=None if result["claim"] else "no claim (--quick)", box=None, title_justify="left", padding=(0, 2, 0, 0))
    for column in table.columns:
        column.no_wrap, column.justify = True, "left" if column.header in ("network", "precision", "fits") else "right"
    for c in result["candidates"]:
        kilo = lambda key, c=c: f"{c[key]['value'] / 1000:.1f}"
        count = lambda key, c=c: "-" if c[key] is None else f"{c[key]['value']:,}"
        ms = c["latency_ms"]
        table.add_row(
            c["network"], c["precision"], f"{100 * c['test_accuracy']['value']:.2f} %", kilo("flash_bytes"), kilo("arena_bytes"), kilo("ram_bytes"),
            f"{ms['median']['value']:.3f}", f"{ms['p95']['value']:.3f}", count("board_instructions"), count("integer_mismatches"), "yes" if c["fits_budget"] else "no")  # fmt: skip
    console.print()
    console.print(table)
    b = result["budget"]
    limits = ", ".join(f"{name} {b[key]:,} bytes" for name, key in (("flash", "flash_bytes"), ("RAM", "ram_bytes")) if b[key])
    console.print(f"budget on {result['device']}: {limits or 'none'}. Measured: accuracy and ms (host library), flash, arena. Emulated: RAM and instructions of int8.", soft_wrap=True)
    if result["best"]:
        console.print(f"best that fits: [bold]{result['best']['network']} {result['best']['precision']}[/bold] ({result['seconds']['value']:.0f} s in all)")
