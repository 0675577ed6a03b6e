"""Question: how good is a compressed network for its bytes and milliseconds, beside ONNX Runtime's quantization, NNCF with OpenVINO,
coremltools' palettizer and torchao? ``python -m bench compress [--network N ...] [--plan P ...] [--seed S ...] [--no-peers] ...``.

Ours is ``shohin bench compress`` (``shohin/cli/compress_bench.py``), whose options these are. The peers get the same float networks and
the same calibration examples, on the closed track; each takes the rows that it can."""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from bench import record
from bench.peers import python, versions
from shohin.cli import compress_bench
from shohin.cli.compress_bench import FASHION, Config, Job, Log
from shohin.nn.models import NETWORKS
from shohin.shipping.subject import CALIBRATION

LIMIT = 1800.0
"""Seconds that all sides together may take for one network."""


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="bench compress", description=__doc__)
    for name, default in (("network", list(NETWORKS)), ("plan", []), ("track", list(compress_bench.TRACKS))):
        parser.add_argument(f"--{name}", nargs="+", default=default)
    parser.add_argument("--budget", nargs="+", type=float, default=[1.0])
    parser.add_argument("--seed", nargs="+", type=int, default=[0])
    for name, default in (("float-epochs", 10), ("epochs", 2), ("images", 0), ("workers", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--device", default="cortex-m55")
    parser.add_argument("--out", type=Path, default=Path("runs/bench-compress"))
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--only-peers", action="store_true")
    parser.add_argument("--dry", action="store_true", help="keep bench/results as it is")
    a = parser.parse_args(arguments)
    config = Config(networks=tuple(a.network), plans=tuple(a.plan), budgets=tuple(a.budget), seeds=tuple(a.seed), tracks=tuple(a.track), device=a.device,
                    float_epochs=a.float_epochs, epochs=a.epochs, images=a.images, workers=a.workers, folder=a.out)  # fmt: skip
    console = Console(highlight=False, width=160)
    if not a.only_peers:
        compress_bench.run(config, console)
    if not a.no_peers:
        peers(config, console)
    log = Log(config.folder / "rows.jsonl", compress_bench.shared(config), write=False)
    rows = [{**job.__dict__, **row} for job, row in log.rows.items()]
    compress_bench.write(config.folder, rows)
    lines = compress_bench.summary(rows)
    compress_bench.show(lines, console)
    if not a.dry:
        notes = {r["plan"]: r["note"] for r in rows if r.get("note")}
        record.append("compress", lines, settings=compress_bench.shared(config), notes=notes, peers={} if a.no_peers else versions())


def peers(config: Config, console: Console) -> None:
    """A row a side and float network, kept in the same log."""
    log = Log(config.folder / "rows.jsonl", compress_bench.shared(config))
    for network in config.networks:
        for seed in config.seeds:
            job = lambda side, n=network, s=seed: Job(task=FASHION, network=n, plan=side, budget=1.0, seed=s, track="closed")
            missing = [side for side in SIDES if job(side) not in log.rows or "error" in log.rows[job(side)]]
            if not missing:
                continue
            for row in asked(config, network, seed, missing):
                side = row.pop("side")
                log.append(job(side), {"ram": None, "instructions": None, "differing": None, "compared": 0, **row})
                console.print(f"{network}, seed {seed}, {side}: {row.get('error') or round(row['accuracy'], 4)}", markup=False, soft_wrap=True)


def asked(config: Config, network: str, seed: int, sides: list[str]) -> list[dict[str, Any]]:
    """The sides' rows, from the peers' interpreter."""
    compress_bench.train_float(config, FASHION, network, seed)
    task = compress_bench.trained(config, FASHION, network, seed)
    some = np.random.default_rng(seed).permutation(len(task.train))[:CALIBRATION]
    first = lambda x: np.ascontiguousarray(np.moveaxis(x, -1, 1))
    with tempfile.TemporaryDirectory(prefix="shohin-bench-") as name:
        folder = Path(name)
        np.savez(folder / "weights.npz", **{k: np.asarray(c.read().data) for k, c in task.model.cells().items()})
        for file, array in (("calibration", first(task.train.x[some])), ("test", first(task.test.x)), ("labels", task.test.y)):
            np.save(folder / f"{file}.npy", array)
        command = [str(python()), str(Path(__file__).with_name("peer_compress.py")), network, str(folder), *sides]
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)
        rows = [{"test": len(task.test), **json.loads(line)} for line in done.stdout.splitlines() if line.startswith('{"side"')]
    if done.returncode or not rows:
        raise SystemExit(f"the peers' process ended with {done.returncode}: {done.stderr[-2000:]}")
    return rows


SIDES = ("onnxruntime float32", "onnxruntime int8 u8s8", "onnxruntime int8 s8s8", "onnxruntime int8 entropy", "nncf + openvino int8", "coremltools 4-bit palettes",
         "coremltools 2-bit palettes", "torchao int8")  # fmt: skip
"""Those of ``peer_compress``, which only the peers' interpreter can import."""
