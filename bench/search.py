"""``python -m bench search``: what a search finds on Fashion-MNIST for the Cortex-M55, and against the hand-made DS-CNN.

One supernet serves two questions: the best network in 32 kB of flash and 32 kB of RAM, and the best one that takes no more instructions than DS-CNN
(64 channels, 4 blocks). Evolution asks ways with inherited weights, int8 after training; the best of each are trained on, in float and then
as integers, and measured on the artefact, with test images that nothing was chosen by. DS-CNN gets as many epochs of the same training; the
finalists have those of the supernet before them, which DS-CNN has not.
Everything goes on where it was ended: the same command again. ``--quick`` is a trial of the script and claims nothing.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import shohin as sh
from bench.record import append
from shohin import nn, optim
from shohin.cli.augment import crop_and_flip
from shohin.compress import Plan, Quantize
from shohin.data import Dataset
from shohin.nn.models import DSCNN
from shohin.search import Budget, Evolution, OneShot, Record, search
from shohin.search.shared import EXAMPLES, Inherited
from shohin.search.ways import way
from shohin.targets.toolchain import atomic

DEVICE = "cortex-m55"
PLAN = Plan([("*", Quantize())])


@dataclass(frozen=True, kw_only=True)
class Config:
    folder: Path
    quick: bool = False
    workers: int = 2

    @property
    def supernet(self) -> OneShot:
        return OneShot(epochs=1, stages=1, samples=1) if self.quick else OneShot(epochs=6, stages=3, samples=1, then=Evolution(population=12, sample=4))

    @property
    def trials(self) -> int:
        return 2 if self.quick else 24

    @property
    def epochs(self) -> tuple[int, int]:
        """Of float and of integer training, of a finalist and of DS-CNN."""
        return (1, 1) if self.quick else (12, 2)


class Separable(nn.Module):
    """Depthwise and pointwise convolution with a way around."""

    def __init__(self, width: int, kernel: int) -> None:
        self.depthwise, self.norm1 = nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width, bias=False), nn.BatchNorm2d(width)
        self.pointwise, self.norm2 = nn.Conv2d(width, width, 1, bias=False), nn.BatchNorm2d(width)

    def forward(self, x: Any) -> Any:
        return x + nn.relu(self.norm2(self.pointwise(nn.relu(self.norm1(self.depthwise(x))))))


class Dense(nn.Module):
    """A 3x3 convolution with a way around."""

    def __init__(self, width: int) -> None:
        self.conv, self.norm = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)

    def forward(self, x: Any) -> Any:
        return x + nn.relu(self.norm(self.conv(x)))


class Searched(nn.Module):
    """28 x 28 -> 14 x 14 -> 7 x 7, with separable blocks at the larger size and either kind at the smaller."""

    def __init__(self, t: Any) -> None:
        first, second = t.width("first", 64, min=16, step=16), t.width("second", 96, min=32, step=16)
        kernel, deep = t.kernel("kernel", (3, 5)), t.kernel("deep kernel", (3, 5))
        self.stem, self.norm = nn.Conv2d(1, first, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(first)
        self.early = t.repeat("early", lambda: Separable(first, kernel), max=4)
        self.down, self.norm2 = nn.Conv2d(first, second, t.kernel("down", (1, 3)), stride=2, padding=t.picks["down"] // 2, bias=False), nn.BatchNorm2d(second)
        self.late = t.repeat("late", lambda: t.choice("late op", [Separable(second, deep), Dense(second)]), max=2)
        self.head = nn.Linear(second, 10)

    def forward(self, x: Any) -> Any:
        x = self.early(nn.relu(self.norm(self.stem(x))))
        return self.head(self.late(nn.relu(self.norm2(self.down(x)))).mean(axis=(1, 2)))


def build(t: Any) -> tuple[nn.Module, Plan]:
    return Searched(t), PLAN


@lru_cache(maxsize=1)
def data() -> tuple[Dataset, Dataset, Dataset]:
    """To train on, to choose by, and to judge by."""
    train, test = sh.data.fashion_mnist()
    return (*train.split(len(train) - len(train) // 12, key=0), test)


def task(config: Config) -> sh.Task:
    train, valid, _ = data()
    return sh.Task(nn.Identity(), train.take(2048) if config.quick else train, valid, nn.cross_entropy, nn.accuracy, augment=crop_and_flip)


def score(net: nn.Module) -> float:
    """What a way with inherited weights is worth: int8 on held-out images."""
    return float(sh.evaluate(net, data()[1].take(2500), nn.accuracy))


def finished(config: Config, name: str, make: Callable[[], nn.Module]) -> dict[str, Any]:
    """Trains a network in float, then as integers, exports and measures it; kept in one file when all is done."""
    folder = config.folder / "finalists" / name
    done = folder / "result.json"
    if done.is_file():
        return json.loads(done.read_text())
    (train, valid, test), work, (epochs, more) = data(), task(config), config.epochs
    sh.seed(0)
    net, steps = make(), len(work.train) // 64
    fit = lambda module, rate, n, schedule, run: sh.fit(
        module, work.loss_fn, work.train, optim.adamw(rate, weight_decay=0.02 if run == "float" else 0.0).init(module), n, schedule=schedule, augment=crop_and_flip,
        run=folder / run, seed=0, progress=False)  # fmt: skip
    fit(net, 1e-3, epochs, optim.one_cycle(6e-3, steps * epochs), "float")
    small = PLAN.apply(net, calibration=train.take(256))
    fit(small, 1e-4, more, optim.cosine(3e-4, steps * more), "integers")
    art = sh.export(small, test.x[:1], device=DEVICE, to=folder / "artefact")
    found = sh.measure(art, test, metric=nn.accuracy, board=4)
    same = sh.compare(small, art, test.take(64), board=4)
    number = lambda n: None if n is None else n.value
    result = {
        "name": name, "valid": float(sh.evaluate(small, valid, nn.accuracy)), "test": number(found.accuracy), "flash": art.flash_bytes,
        "ram": number(found.ram_bytes), "instructions": number(found.instructions), "differing": same.differing, "compared": same.compared,
    }  # fmt: skip
    with atomic(done) as temporary:
        temporary.write_text(json.dumps(result))
    return result


def asked(config: Config, name: str, budget: Budget) -> list[Record]:
    """The ways that come best with inherited weights, within the budget."""
    run = config.folder / name
    kept = config.folder / "supernet"
    if kept.is_dir() and not (run / "supernet").is_dir():
        shutil.copytree(kept, run / "supernet")
    study = search(build, score, calibration=data()[0].take(256), device=DEVICE, budget=budget, trials=config.trials, run=run, task=task(config), strategy=config.supernet,
                   workers=config.workers, progress=lambda s: print(s.records[-1] if s.records else f"{name}: {budget}", flush=True))  # fmt: skip
    if not kept.is_dir():
        shutil.copytree(run / "supernet", kept)
    _ = study.best  # an error says what came closest
    return sorted((r for r in study.records if not r.rejected), key=lambda r: -(r.score or 0))[:2]


def finalist(config: Config, name: str, record: Record) -> dict[str, Any]:
    """A way of a search, trained on from its inherited weights."""

    def make() -> nn.Module:
        found = way(build, 0, record.choices)
        Inherited(str(config.folder / name / "supernet" / "shared.safetensors"), data()[0].x[:EXAMPLES])(found.net, found.trial)
        return found.net

    picks = {k: v.partition(",")[0] for k, v in record.picks.items()}
    return {**finished(config, f"{name}-{record.number}", make), "picks": picks}


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench search")
    parser.add_argument("--run", type=Path, default=Path("runs/bench-search"))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--dry", action="store_true", help="keep the results as they are")
    given = parser.parse_args(arguments)
    config = Config(folder=given.run, quick=given.quick, workers=given.workers)
    started, cpu = time.perf_counter(), time.process_time()
    hand = finished(config, "ds-cnn", DSCNN)
    show("hand-made DS-CNN", hand)
    questions = {"board": Budget(flash="32 kB", ram="32 kB"), "equal": Budget(instructions=hand["instructions"])}
    rows: dict[str, Any] = {"ds-cnn": hand}
    for name, budget in questions.items():
        made = [finalist(config, name, r) for r in asked(config, name, budget)]
        rows[name] = best = max((m for m in made if not budget.excess(flash=m["flash"], ram=m["ram"], instructions=m["instructions"])), key=lambda m: m["valid"])
        show(f"{name} ({budget})", best)
    print(f"board: {rows['board']['test']:.4f} (goal 0.9100); against DS-CNN: {100 * (rows['equal']['test'] - hand['test']):+.2f} points (goal +1.00)")
    print(f"{time.perf_counter() - started:.0f} s of this start, {time.process_time() - cpu:.0f} s of processor in this process")
    if not config.quick and not given.dry:
        append("search", [{"question": name, **row} for name, row in rows.items()])


def show(what: str, row: dict[str, Any]) -> None:
    print(f"{what}: test {row['test']:.4f}, valid {row['valid']:.4f}, flash {row['flash']:,}, RAM {row['ram']:,}, {row['instructions']:,} instructions, "
          f"{row['differing']:,} of {row['compared']:,} integers differ", flush=True)  # fmt: skip
