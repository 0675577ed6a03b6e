"""Sides of a comparison, timed in turn: ours in this process, a peer in a process of its own that answers JSON lines.

``BENCH_CLOCK=cpu`` times rows of one thread by the process's CPU time, on either side: for a machine that others use too. The
default is the wall clock; results say which it was."""

from __future__ import annotations

import json
import os
import select
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

Times = list[float]
CLOCK_NAME = os.environ.get("BENCH_CLOCK", "wall")
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
if CLOCK_NAME not in CLOCKS:
    raise SystemExit(f"BENCH_CLOCK={CLOCK_NAME}: expected wall or cpu")
CLOCK = CLOCKS[CLOCK_NAME]


def threads_for_clock(threads: Sequence[int]) -> list[int]:
    """The thread counts that the clock can time: CPU time adds up over threads, so one only."""
    return [t for t in threads if t == 1 or CLOCK_NAME == "wall"]


class PeerFailed(RuntimeError):
    """A peer that ended, took too long, or said why it cannot."""


class Peer:
    """A script of ``bench`` under the peers' interpreter: one request line, one answer line, both JSON."""

    def __init__(self, python: Path, script: str, *args: str, timeout: float = 60, threads: int = 0) -> None:
        self._errors = tempfile.TemporaryFile("w+")
        env = {**os.environ, "PYTHONUNBUFFERED": "1"}
        if threads:
            env |= {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        command = [str(python), str(Path(__file__).with_name(script)), *args]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True, env=env)
        self.hello = self._answer(timeout)

    def ask(self, timeout: float = 120, **request: Any) -> Any:
        assert self._process.stdin
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass
        return self._answer(timeout)

    def _answer(self, timeout: float) -> Any:
        assert self._process.stdout
        end = time.monotonic() + timeout
        while True:
            ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                self.close()
                raise PeerFailed(f"no answer in {timeout:.0f} s")
            line = self._process.stdout.readline()
            if not line:
                self._errors.seek(0)
                raise PeerFailed(self._errors.read()[-2000:].strip() or f"ended with {self._process.wait()}")
            if line.startswith("{"):  # whatever else libraries print
                break
        found = json.loads(line)
        if "error" in found:
            raise PeerFailed(found["error"])
        return found

    def times(self, count: int) -> Times:
        """Milliseconds of ``count`` runs."""
        return self.ask(count=count)["ms"]

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream:
                stream.close()


def timed(step: Callable[[], Any]) -> Callable[[int], Times]:
    """A side from a function: milliseconds of ``count`` calls."""

    def run(count: int) -> Times:
        found = []
        for _ in range(count):
            start = CLOCK()
            step()
            found.append(1e3 * (CLOCK() - start))
        return found

    return run


def in_turn(sides: Mapping[str, Callable[[int], Times]], rounds: int, seconds: float) -> dict[str, Times]:
    """Medians of each round, the sides one after another and in another order each round; about ``seconds`` a side and round."""
    counts = {}
    for name, side in sides.items():
        once = statistics.median(side(3))
        counts[name] = max(2, min(2000, int(1e3 * seconds / once)))
    found: dict[str, Times] = {name: [] for name in sides}
    names = list(sides)
    for r in range(rounds):
        for name in names[r % len(names) :] + names[: r % len(names)]:
            time.sleep(0.02)  # a peer's threads stop spinning
            side = sides[name]
            side(1)
            found[name].append(statistics.median(side(counts[name])))
    return found


def compared(found: Mapping[str, Times], ours: str = "shohin") -> dict[str, Any]:
    """Medians over the rounds, the best peer, and how many times faster ours is: by medians of rounds, and by the quickest."""
    medians = {name: statistics.median(t) for name, t in found.items()}
    peers = [n for n in medians if n != ours]
    if not peers:
        return {"ms": medians, "best": None, "ratio": None, "ratio_quickest": None}
    best = min(peers, key=lambda n: medians[n])
    ratio = statistics.median(p / o for p, o in zip(found[best], found[ours], strict=True))
    return {"ms": medians, "best": best, "ratio": ratio, "ratio_quickest": min(min(found[n]) for n in peers) / min(found[ours])}


def geometric(ratios: Sequence[float]) -> float:
    return statistics.geometric_mean(ratios) if ratios else float("nan")
