"""``shohin demo --all``: every method of the package on the demo's networks, trained for an epoch or two, measured, in one report.

The methods and their options are those of the registry (``compress.demos``), so that a new one is in it. Each goes with int8 unless
it chooses the integers itself. Every candidate is kept: the same command goes on where it was, and carries out only what is new.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import shohin as sh
from shohin.cli.demo_job import Config, opened, tasks, train_float
from shohin.compress import Plan, Quantize
from shohin.compress.demos import plans
from shohin.deploy.artefact import load_artefact
from shohin.deploy.measure import EMULATED, MEASURED, Number, measure
from shohin.report.explored import Cost, Entry, Explored
from shohin.shipping.candidate import Candidate, plain
from shohin.shipping.kept import Kept
from shohin.shipping.shipment import Shipment
from shohin.targets import get_target
from shohin.train import Task

ALPHA = 0.5
"""Share of the loss that asks to answer like the float network, where distillation is shown."""
DISTILLED, LEAST = "distilled", Plan([("*", Quantize(w=2, calibrate="mse", learn=True))])
QUICK = 8 * 64
"""Images that a quick run trains on."""
COSTS = ("flash", "RAM", "instructions", "on this host")


def run(config: Config, console: Console, *, epochs: int) -> dict[str, Any]:
    """All methods on all networks; returns what ``result.json`` in ``folder/all`` holds."""
    started = time.perf_counter()
    get_target(config.device)
    opened(config.folder)
    console.print("data: Fashion-MNIST")
    work, valid = tasks(config)
    home = config.folder / "all"
    kept = Kept(home, {"quick": str(config.quick), "epochs": str(epochs), "device": config.device, "seed": str(config.seed)}, fresh=config.fresh, job="demo --all")
    found: dict[str, Shipment] = {}
    scores: dict[str, float | None] = {}
    for name, task in work.items():
        train_float(config, name, task, valid, console)
        for what, shipment in _shipments(config, name, task, valid, epochs).items():
            found[what] = shipment
            for c in shipment.candidates:
                said = kept.probe(f"test accuracy of {what}, {c.name}, {plain(c.flash.value)}", lambda c=c, t=task: {"value": _tested(c, t)})
                scores[f"{what}: {c.name}"] = said["value"]
    shown = _explored(config, found, scores, epochs)
    result = {
        "schema": 1, "claim": not config.quick, "device": config.device, "epochs": epochs, "seconds": plain(vars(Number(round(time.perf_counter() - started, 1), MEASURED))),
        "candidates": [{"network": what.partition(" ")[0], "test_accuracy": scores[f"{what}: {c.name}"], **c.to_json()} for what, s in found.items() for c in _own(what, s)],
        "skipped": [f"{what}: {line}" for what, s in found.items() for line in s.skipped],
    }  # fmt: skip
    kept.write("result.json", result)
    _show(shown, console)
    for line in result["skipped"]:
        console.print(f"left out: {line}", soft_wrap=True, markup=False)
    console.print(f"report       {sh.write_explored(shown, home / 'report.html')}", soft_wrap=True, markup=False)
    console.print(f"time         {result['seconds']['value']:.0f} s (measured)")
    return result


def _shipments(config: Config, name: str, task: Task, valid: Any, epochs: int) -> dict[str, Shipment]:
    """One shipment of a plan a method, and one that is distilled; judged on the held-out images."""
    train = task.train.take(min(QUICK, len(task.train))) if config.quick else task.train
    mine = replace(task, train=train, test=valid)
    more = {"device": config.device, "flash": config.budget.flash, "ram": config.budget.ram, "finetune": epochs, "seed": config.seed, "judged": len(valid), "fresh": config.fresh}
    whole = sh.ship(mine, plans=plans(), to=config.folder / "all" / name, name=name, **more)
    taught = sh.ship(mine, plans={DISTILLED: LEAST}, distill=ALPHA, to=config.folder / "all" / f"{name}-{DISTILLED}", name=name, **more)
    return {name: whole, f"{name} {DISTILLED}": taught}


def _tested(c: Candidate, task: Task) -> float | None:
    """Accuracy of the artefact's C on the test images, which nothing was chosen by."""
    found = measure(load_artefact(Path(c.folder) / "host"), task.test, metric=task.metric, board=1, repeats=1)
    return None if found.accuracy is None else float(found.accuracy.value)


def _own(what: str, shipment: Shipment) -> tuple[Candidate, ...]:
    """Its candidates, the float network only once."""
    return shipment.candidates[1:] if what.endswith(DISTILLED) else shipment.candidates


def _explored(config: Config, found: Mapping[str, Shipment], scores: Mapping[str, float | None], epochs: int) -> Explored:
    entries: list[Entry] = []
    known = {**plans(), DISTILLED: LEAST}
    for what, shipment in found.items():
        network = what.partition(" ")[0]
        for c in _own(what, shipment):
            values = {"flash": c.flash.value, "RAM": c.ram.value, "instructions": None if c.instructions is None else c.instructions.value, "on this host": c.latency_ms["median"].value}
            test = scores[f"{what}: {c.name}"]
            more = {} if test is None else {"on the test images": f"{100 * test:.2f} %"}
            entries.append(Entry(
                number=len(entries), name=f"{network}: {c.name}", score=c.score, costs={k: float(v) for k, v in values.items() if v is not None},
                choices={"network": network, "method": c.name}, more={"made by": c.about, **more},
                plan=known[c.name].to_toml() if c.name in known else "", why="; ".join(c.over(shipment.budget)),
            ))  # fmt: skip
    beats = lambda a, b: _key(a) != _key(b) and all(x <= y for x, y in zip(_key(a), _key(b), strict=True))
    fit = [e for e in entries if not e.why]
    front = {e.number for e in fit if not any(beats(o, e) for o in fit)}
    best = min(fit, key=_key, default=None)
    shown = [c for what, s in found.items() for c in _own(what, s)]
    integers = [c for c in shown if c.differing is not None]
    places = {} if best is None else {k: {"flash, bytes": v["flash"], "time on this host, µs": 1e3 * v["ms"]} for k, v in shown[best.number].by_layer.items()}
    limits = config.budget.limits()
    return Explored(
        title=f"Every method on Fashion-MNIST for {config.device}", score="accuracy on held-out images", percent=True,
        facts=[f"{len(entries)} candidates, at most {epochs} epochs a method after the float training; budget: {config.budget}." + (" A quick run, which claims nothing." if config.quick else ""),
               f"{sum(c.differing.value for c in integers if c.differing):,} of {sum(c.compared for c in integers):,} integers differ between module, reference, C here and on the device."],
        costs=[Cost(name="flash", unit="kB", how=MEASURED, limit=limits.get("flash"), scale=1000), Cost(name="RAM", unit="kB", how=EMULATED, limit=limits.get("ram"), scale=1000),
               Cost(name="instructions", unit="M", how=EMULATED, scale=1e6), Cost(name="on this host", unit="ms", how=MEASURED)],
        entries=[replace(e, front=e.number in front) for e in entries], best=None if best is None else best.number, places=places,
        notes=[f"{what}: {line}" for what, s in found.items() for line in s.skipped],
    )  # fmt: skip


def _key(e: Entry) -> tuple[float, ...]:
    return -(e.score or 0.0), *(e.costs.get(n, float("inf")) for n in COSTS)


def _show(found: Explored, console: Console) -> None:
    table = Table("candidate", "held-out", "test", "flash kB", "RAM kB", "instructions", "host ms", "fits", box=None, padding=(0, 2, 0, 0))
    for k, column in enumerate(table.columns):
        column.justify, column.no_wrap = "left" if k in (0, 7) else "right", True
    for e in found.entries:
        c = e.costs
        steps = f"{c['instructions']:,.0f}" if "instructions" in c else "-"
        table.add_row(e.name, f"{100 * (e.score or 0):.2f} %", e.more.get("on the test images", "-"), f"{c['flash'] / 1000:.1f}", f"{c['RAM'] / 1000:.1f}", steps,
                      f"{c['on this host']:.3f}", "no" if e.why else "yes *" if e.front else "yes")  # fmt: skip
    console.print()
    console.print(table)
    for line in found.facts:
        console.print(line, soft_wrap=True, markup=False)


__all__ = ["run"]
