"""``python -m tests.fuzz --cases 20000 --seed 1``: many random cases, in batches, resumable; failures are printed as programs.

Each finished batch is a line of the log, and a run that finds its log goes on after it. Compiled batches are thrown away.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shohin.compiler import build
from shohin.targets.host import CPU
from tests.fuzz.run import Batch, Outcome, batch, run, run_sanitized

LEVELS = tuple(level for level in ("v3", "v4") if CPU.machine == "x86_64" and CPU.level >= level)
SIZE = 50
"""Cases of one program."""


def done(log: Path) -> dict[int, dict[str, Any]]:
    """The batches of a log by number; a line that was cut off is no batch."""
    found: dict[int, dict[str, Any]] = {}
    for line in log.read_text().splitlines() if log.exists() else ():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue
        found[entry["batch"]] = entry
    return found


def tried(b: Batch, how: Callable[[Batch], Outcome]) -> Outcome:
    """A batch that does not even compile is a failure of its own."""
    try:
        return how(b)
    except Exception as error:
        return Outcome({}, 0, (f"{type(error).__name__}: {error}\n    {b!r}",))


def main(arguments: list[str] | None = None) -> int:
    """Runs what the log lacks; the number of failures."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--levels", nargs="+", default=LEVELS, choices=("v3", "v4"), help="what programs are compiled for")
    parser.add_argument("--threads", type=int, default=3, help="programs run on 1 up to this many threads")
    parser.add_argument("--sanitize", action="store_true", help="kernels are built by gcc with its sanitizers, every buffer of exactly its bytes")
    parser.add_argument("--quick", action="store_true", help="compile without optimization, in a third of the time")
    parser.add_argument("--log", type=Path, help="default: runs/fuzz-SEED.jsonl")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after this time, to go on later")
    o = parser.parse_args(arguments)
    log = o.log or Path(f"runs/fuzz-{o.seed}.jsonl")
    log.parent.mkdir(parents=True, exist_ok=True)
    known, start = done(log), time.monotonic()
    if o.quick:
        build.FLAGS = (*build.FLAGS, "-O0")
    for number in range(-(-o.cases // SIZE)):
        if number in known or time.monotonic() - start > o.seconds:
            continue
        b = batch(o.seed, number, SIZE, o.levels, o.threads, 0.0 if o.sanitize else 0.15)
        with tempfile.TemporaryDirectory() as cache:
            os.environ["SHOHIN_CACHE"] = cache
            found = tried(b, run_sanitized if o.sanitize else run)
        for failure in found.failures:
            print(failure, flush=True)
        known[number] = {"batch": number, "cases": len(b.cases), "level": b.level, "threads": b.threads, "quick": o.quick, "kernels": found.kernels, "along": found.along, "failures": found.failures}
        with log.open("a") as file:
            file.write(json.dumps(known[number]) + "\n")
    return report(known)


def report(known: dict[int, dict[str, Any]]) -> int:
    kernels: Counter[str] = Counter()
    for entry in known.values():
        kernels.update(entry["kernels"])
    failures = sum(len(e["failures"]) for e in known.values())
    print(f"{sum(e['cases'] for e in known.values())} cases, {failures} failures; {sum(e['along'] for e in known.values())} nests were taken along")
    for name, count in sorted(kernels.items()):
        print(f"  {count:6} {name}")
    return failures


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
