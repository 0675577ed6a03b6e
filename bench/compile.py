"""Question: how long does compiling take, cold and warm, and what does a call cost? ``python -m bench compile``.

Each compile runs in a process of its own with a cache folder of its own: cold with an empty one, warm with what the cold one left.
Seconds are those of tracing, passes and the C compiler, imports excluded."""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import shohin as sh
from bench import record
from bench.networks import chosen
from bench.sides import CLOCK, CLOCK_NAME
from bench.train import step_of
from shohin import nn, optim

DEFAULT = ("mobilenetv2-1.0", "mobilenetv2-0.35", "ds-cnn", "transformer")


def child(name: str) -> None:
    """One first call, reported as a JSON line."""
    n = chosen([name], ())[0]
    step, args = step_of(n, 2)
    import shohin.kernels  # noqa: F401 (imports are not what is measured)

    start, busy = time.perf_counter(), processor_seconds()
    program = step.lower(*args)
    lowered, used = time.perf_counter(), processor_seconds() - busy
    float(step(*args))
    end = time.perf_counter()
    print(json.dumps({"compile_s": lowered - start, "processor_s": used, "first_run_s": end - lowered, "steps": len(program.compiled.program.steps), "characters": len(program.compiled.source)}))


def processor_seconds() -> float:
    """CPU time of this process and of the compilers that it waited for: on a busy machine it says more than the wall clock."""
    return sum(u.ru_utime + u.ru_stime for u in (resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))


def compiled(name: str, cache: str) -> dict[str, Any]:
    env = {**os.environ, "SHOHIN_CACHE": cache, "ZIG_GLOBAL_CACHE_DIR": os.path.join(cache, "zig")}
    done = subprocess.run([sys.executable, "-m", "bench.compile", "--child", name], capture_output=True, text=True, env=env)
    if done.returncode:
        raise SystemExit(f"compiling {name} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def compile_row(name: str, rounds: int) -> dict[str, Any]:
    cold, warm = [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(prefix="bench-cache-") as cache:
            cold.append(compiled(name, cache))
            warm += [compiled(name, cache) for _ in range(2)]
    middle = lambda found, key: statistics.median(f[key] for f in found)
    return {"name": name, "cold_s": middle(cold, "compile_s"), "warm_s": middle(warm, "compile_s"),
            "cold_processor_s": middle(cold, "processor_s"), "warm_processor_s": middle(warm, "processor_s"), "cold_rounds_s": [c["compile_s"] for c in cold],
            "warm_rounds_s": [w["compile_s"] for w in warm], "steps": cold[0]["steps"], "characters": cold[0]["characters"]}  # fmt: skip


def microseconds(call: Callable[[], Any], rounds: int = 25, count: int = 200) -> float:
    """Median over rounds of the time of one call."""
    call()
    found = []
    for _ in range(rounds):
        start = CLOCK()
        for _ in range(count):
            call()
        found.append(1e6 * (CLOCK() - start) / count)
    return statistics.median(found)


def calls() -> list[dict[str, Any]]:
    """Calls of programs that do next to nothing, on one thread: what remains is the call."""
    x = sh.asarray(np.ones(8, np.float32))
    add = sh.jit(lambda x: x + 1, threads=1)
    array = np.ones(8, np.float32)
    found = [("tensor only, 8 floats", lambda: add(x)), ("the same, array as argument", lambda: add(array))]
    net = nn.Sequential(*(nn.Linear(4, 4) for _ in range(4)))
    net.eval()
    infer = sh.jit(lambda net, x: net(x), threads=1)
    small = sh.asarray(np.ones((1, 4), np.float32))
    found.append(("a module of 8 cells, inference", lambda: infer(net, small)))
    for layers in (4, 50):
        deep = nn.Sequential(*(nn.Linear(4, 4) for _ in range(layers)))
        opt = optim.sgd(0.0, momentum=0.9).init(deep)

        def step(net: Any, opt: Any, x: Any) -> Any:
            loss, grads = sh.value_and_grad(lambda net, x: (net(x) * net(x)).mean())(net, x)
            opt.update(net, grads)
            return loss

        fast = sh.jit(step, threads=1)
        found.append((f"training step, {2 * layers} parameters", lambda fast=fast, deep=deep, opt=opt: fast(deep, opt, small)))
        program = fast.lower(deep, opt, small)
        program.compiled.bind([np.array(a) for a in [small.data, *(c.stored().payload for c in program.cells)]])
        found.append((f"of that the program itself, {2 * layers} parameters", program.compiled.run))
    return [{"name": name, "us": microseconds(call)} for name, call in found]


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="bench compile", description=__doc__)
    parser.add_argument("networks", nargs="*")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--dry", action="store_true", help="write no results")
    a = parser.parse_args(argv)
    if a.child:
        return child(a.child)
    rows = []
    for n in chosen(a.networks, DEFAULT):
        rows.append(compile_row(n.name, a.rounds))
        r = rows[-1]
        print(f"{r['name']:20} training step of {r['steps']} steps: cold {r['cold_s']:.2f} s ({r['cold_processor_s']:.2f} s of CPU), warm {r['warm_s']:.3f} s ({r['warm_processor_s']:.3f})", flush=True)
    overhead = calls()
    for c in overhead:
        print(f"call: {c['name']:45} {c['us']:8.2f} us", flush=True)
    if not a.dry:
        record.append("compile", rows, calls=overhead, clock=CLOCK_NAME)


if __name__ == "__main__":
    main(sys.argv[1:])
