"""Question: how long is a training step of the demo's networks beside PyTorch's? Batch 64, 28x28x1, AdamW, 2 threads.

Both run in one session in turn (PyTorch eager, channels_last, in a process of its own), warm; medians of medians.
"""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np

import shohin as sh
from bench.peers import python
from shohin import nn, optim
from shohin.nn.models import NETWORKS
from shohin.targets.host import CPU

THREADS, ROUNDS, STEPS = 2, 7, 8


def ours(name: str) -> Any:
    sh.seed(0)
    net = NETWORKS[name]()
    opt = optim.adamw(1e-3).init(net)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((64, 28, 28, 1)).astype(np.float32), rng.integers(0, 10, 64)

    @sh.jit
    def step(net: Any, opt: Any, x: Any, y: Any) -> Any:
        loss, grads = sh.value_and_grad(lambda net, x, y: nn.cross_entropy(net(x), y))(net, x, y)
        opt.update(net, grads)
        return loss

    start = time.perf_counter()
    float(step(net, opt, x, y))
    first = time.perf_counter() - start
    return lambda: float(step(net, opt, x, y)), first


def main() -> dict[str, Any]:
    peer = subprocess.Popen([str(python()), str(Path(__file__).with_name("torch_step.py")), str(THREADS)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert peer.stdin and peer.stdout
    version = peer.stdout.readline().strip()

    def theirs(name: str, count: int) -> list[float]:
        assert peer.stdin and peer.stdout
        peer.stdin.write(f"{name} {count}\n")
        peer.stdin.flush()
        return [float(t) for t in peer.stdout.readline().split()]

    rows = []
    for name in NETWORKS:
        step, first = ours(name)
        step()
        theirs(name, 3)
        mine, other = [], []
        for _ in range(ROUNDS):
            times = []
            for _ in range(STEPS):
                start = time.perf_counter()
                step()
                times.append(1e3 * (time.perf_counter() - start))
            mine.append(statistics.median(times))
            other.append(statistics.median(theirs(name, STEPS)))
        ratio = statistics.median(o / m for m, o in zip(mine, other, strict=True))
        rows.append({"network": name, "shohin_ms": mine, "torch_ms": other, "first_call_s": first, "ratio": ratio})
        print(f"{name:10} shohin {statistics.median(mine):7.2f} ms   PyTorch {statistics.median(other):7.2f} ms   {ratio:.2f}x   first call {first:.2f} s", flush=True)
    peer.stdin.close()
    peer.wait()
    return {"question": "train_step", "machine": CPU.model, "features": CPU.key, "system": platform.platform(), "torch": version, "threads": THREADS, "rows": rows}


if __name__ == "__main__":
    print(json.dumps(main()))
