"""Is the cleverer method the better one? Five pairs of methods on one float network, several seeds: ``python -m bench.orderings``.

Each run is a line of JSON in ``RUN/runs.jsonl`` and is not done again; float networks are trained once a seed, in ``RUN/float-SEED``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import shohin as sh
from shohin import nn, optim
from shohin.cli.demo_job import Config, tasks
from shohin.compress import DKM, PDP, Palettize, Plan, Prune, PruneChannels, Quantize
from shohin.core.module import Module
from shohin.targets.budget import Budget
from shohin.train import Task

DEVICE = "cortex-m55"
RULES = Callable[[int, int], list[tuple[str, Any]]]
"""The plan's rules, of the updates that training takes and the flash that a side may fill."""


@dataclass(frozen=True)
class Side:
    name: str
    rules: RULES
    trained: bool = True


@dataclass(frozen=True)
class Ordering:
    """``sides``: the first is expected to be at least as good as each of the others."""

    sides: tuple[Side, ...]
    flash: bool = False


def _within(flash: int) -> PruneChannels:
    return PruneChannels(budget=Budget(flash=flash), device=DEVICE, importance="taylor")


def _ramp(n: int) -> tuple[int, int]:
    """The mask closes in the first two thirds of training."""
    return 0, 2 * n // 3


ORDERINGS = {
    "2-bit tables": Ordering((Side("DKM", lambda n, f: [("*", DKM(bits=2))]), Side("k-means", lambda n, f: [("*", Palettize(bits=2))]))),
    "W4 after training": Ordering((
        Side("AdaRound", lambda n, f: [("*", Quantize(w=4, rounding="adaround"))], False), Side("nearest", lambda n, f: [("*", Quantize(w=4))], False))),
    "W2 trained": Ordering((Side("LSQ", lambda n, f: [("*", Quantize(w=2, learn=True))]), Side("min-max", lambda n, f: [("*", Quantize(w=2))]))),
    "85 % zeros": Ordering((Side("PDP", lambda n, f: [("*", PDP(0.85, ramp=_ramp(n)))]), Side("magnitude", lambda n, f: [("*", Prune(0.85, ramp=_ramp(n)))]))),
    "equal flash": Ordering((
        Side("channels + int8", lambda n, f: [("*", _within(f)), ("*", Quantize())]), Side("channels, float32", lambda n, f: [("*", _within(f))]),
        Side("integers of 4 bits", lambda n, f: [("*", Quantize(w=4))])), flash=True),
}  # fmt: skip


def flash_of(net: Module, task: Task) -> int:
    with tempfile.TemporaryDirectory() as folder:
        return sh.export(net, task.test.x[:1], device=DEVICE, to=folder).flash_bytes


def float_network(asked: argparse.Namespace, seed: int) -> Task:
    """The demo's network and data, trained in float32; a run that is there is read."""
    task = tasks(Config(seed=seed))[0][asked.network]
    steps = len(task.train) // 64 * asked.float_epochs
    opt = optim.adamw(1e-3, weight_decay=0.02).init(task.model)
    sh.fit(task.model, task.loss_fn, task.train, opt, asked.float_epochs, schedule=optim.one_cycle(6e-3, steps), augment=task.augment,
           run=asked.run / f"{asked.network}-float-{seed}", seed=seed, progress=False)  # fmt: skip
    return task


def one(asked: argparse.Namespace, task: Task, side: Side, seed: int, flash: int) -> dict[str, Any]:
    """A side's network, trained for its epochs where it trains; all test images."""
    images = min(len(task.train), round(asked.epochs * len(task.train)))
    epochs = max(1, round(asked.epochs))
    updates = images // 64 * epochs
    sh.seed(seed)
    calibration = task.train.take(256)
    net = Plan(side.rules(updates, flash)).apply(task.model, calibration=calibration)
    before = sh.evaluate(net, task.test, nn.accuracy)
    if side.trained:
        opt = optim.adamw(1e-3, weight_decay=0.0).init(net)
        sh.fit(net, task.loss_fn, task.train.take(images), opt, epochs, schedule=optim.cosine(1e-3, updates), augment=task.augment, seed=seed, progress=False)
    found = {"untrained": before, "accuracy": sh.evaluate(net, task.test, nn.accuracy), "updates": updates if side.trained else 0}
    return {**found, "flash": flash_of(net, task)} if flash else found


def table(rows: list[dict[str, Any]]) -> str:
    """Mean and standard deviation of the seeds; the difference of the first side to each other is of pairs of equal seeds."""
    lines = ["| | seeds | accuracy | less than the first by | holds | flash |", "|---|---|---|---|---|---|"]
    for name, ordering in ORDERINGS.items():
        mine = {s.name: {r["seed"]: r for r in rows if (r["ordering"], r["side"]) == (name, s.name)} for s in ordering.sides}
        first = mine[ordering.sides[0].name]
        for k, (side, found) in enumerate(mine.items()):
            if not found:
                continue
            gaps = [100 * (first[s]["accuracy"] - r["accuracy"]) for s, r in found.items() if s in first] if k else []
            size = f"{statistics.mean(r['flash'] for r in found.values()) / 1000:.1f} kB" if ordering.flash else ""
            held = f"{sum(g >= 0 for g in gaps)} of {len(gaps)}" if gaps else ""
            lines.append(f"| {name}: {side} | {len(found)} | {_spread([100 * r['accuracy'] for r in found.values()])} | {_spread(gaps)} | {held} | {size} |")
    return "\n".join(lines)


def _spread(values: list[float]) -> str:
    if not values:
        return ""
    return f"{statistics.mean(values):.2f}" + (f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else "")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.orderings", description=__doc__)
    parser.add_argument("--network", default="resnet8")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=float, default=1 / 3, help="of training with the method; a fraction takes that many of the images")
    parser.add_argument("--float-epochs", type=int, default=2)
    parser.add_argument("--only", nargs="*", choices=list(ORDERINGS), help="these orderings")
    parser.add_argument("--run", type=Path, default=Path("runs/orderings"))
    asked = parser.parse_args()
    asked.run.mkdir(parents=True, exist_ok=True)
    path = asked.run / "runs.jsonl"
    settings = {"network": asked.network, "epochs": round(asked.epochs, 4), "float_epochs": asked.float_epochs}
    rows = [r for r in map(json.loads, path.read_text().splitlines() if path.exists() else []) if settings.items() <= r.items()]
    done = {(r["ordering"], r["side"], r["seed"]) for r in rows}
    wanted = [n for n in ORDERINGS if asked.only is None or n in asked.only]

    def record(row: dict[str, Any]) -> None:
        rows.append({**settings, **row})
        with path.open("a") as file:
            file.write(json.dumps(rows[-1]) + "\n")
        print(f"seed {row['seed']}  {row['ordering']}: {row['side']:20} {100 * row['accuracy']:.2f}  ({row['seconds']:.0f} s)", flush=True)

    every = [("float32", "float32"), *((n, s.name) for n in wanted for s in ORDERINGS[n].sides)]
    for seed in range(asked.seeds):
        if all((*pair, seed) in done for pair in every):
            continue
        started = time.perf_counter()
        task = float_network(asked, seed)
        if ("float32", "float32", seed) not in done:
            record({"ordering": "float32", "side": "float32", "seed": seed, "accuracy": sh.evaluate(task.model, task.test, nn.accuracy), "seconds": time.perf_counter() - started})
        for name in wanted:
            open_ = [s for s in ORDERINGS[name].sides if (name, s.name, seed) not in done]
            flash = flash_of(Plan([("*", Quantize(w=4))]).apply(task.model, calibration=task.train.take(256)), task) if open_ and ORDERINGS[name].flash else 0
            for side in open_:
                started = time.perf_counter()
                found = one(asked, task, side, seed, flash)
                record({"ordering": name, "side": side.name, "seed": seed, **found, "seconds": time.perf_counter() - started})
    exact = [100 * r["accuracy"] for r in rows if r["ordering"] == "float32"]
    print(f"\n{asked.network}, float32 {_spread(exact)}, {settings['epochs']:g} epochs with each method\n\n{table(rows)}")


if __name__ == "__main__":
    main()
