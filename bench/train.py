"""Question: how long is a training step (forward, backward, SGD with momentum), and how much memory does it take, beside
PyTorch's eager, channels_last and ``torch.compile``? ``python -m bench train [NETWORK ...] [--threads 1 2] [--no-compile]``."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import shohin as sh
from bench import record
from bench.networks import TRAINED, Network, chosen
from bench.peers import python
from bench.sides import CLOCK_NAME, Peer, PeerFailed, Times, compared, geometric, in_turn, threads_for_clock, timed
from shohin import nn, optim

MODES = ("eager", "channels_last", "compile")
COMPILE_LIMIT = 420.0
"""Seconds after which ``torch.compile`` is given up."""


def loss_fn(net: Any, x: Any, y: Any) -> Any:
    return nn.cross_entropy(net(x), y)


def step_of(n: Network, threads: int) -> tuple[Any, tuple[Any, ...]]:
    """The compiled training step and its arguments."""
    sh.seed(0)
    net = n.build()
    opt = optim.sgd(0.01, momentum=0.9).init(net)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((n.batch, *n.shape)).astype(np.float32), rng.integers(0, n.classes, n.batch)

    def step(net: Any, opt: Any, x: Any, y: Any) -> Any:
        loss, grads = sh.value_and_grad(loss_fn)(net, x, y)
        opt.update(net, grads)
        return loss

    return sh.jit(step, threads=threads), (net, opt, x, y)


def ours(n: Network, threads: int) -> tuple[Callable[[int], Times], dict[str, Any]]:
    step, args = step_of(n, threads)
    start = time.perf_counter()
    float(step(*args))
    first = time.perf_counter() - start
    program = step.lower(*args)
    cells = sum(c.stored().payload.nbytes for c in program.cells)
    data = sum(a.nbytes for a in args[2:])
    memory = program.compiled.arena_bytes + cells + data

    def at_roof() -> float:
        """Milliseconds of the step if each of its parts ran at the roof (``shohin profile``)."""
        return 1e3 * sum(r.at_roof for r in sh.profile(step, *args, repeats=5).rows)

    return timed(lambda: float(step(*args))), {"first_s": first, "bytes": memory, "arena_bytes": program.compiled.arena_bytes, "at_roof": at_roof}


def row(n: Network, threads: int, modes: tuple[str, ...], rounds: int, seconds: float) -> dict[str, Any]:
    side, about = ours(n, threads)
    sides, memory, notes, peers = {"shohin": side}, {"shohin": about["bytes"]}, {}, []
    first = {"shohin": about["first_s"]}
    version = None
    try:
        for mode in modes:
            if mode == "channels_last" and len(n.shape) != 3:
                continue
            try:
                limit = COMPILE_LIMIT if mode == "compile" else 60
                peer = Peer(python(), "torch_train.py", n.name, str(n.batch), str(threads), mode, timeout=limit, threads=threads)
            except PeerFailed as error:
                notes[mode] = str(error)
                continue
            peers.append((mode, peer))
            sides[mode], first[mode], version = peer.times, peer.hello["first_s"], peer.hello["torch"]
        found = in_turn(sides, rounds, seconds)
        roof_ms = about["at_roof"]()
        memory |= {mode: peer.ask(memory=True)["bytes"] for mode, peer in peers}
    finally:
        for _, peer in peers:
            peer.close()
    least = min((memory[mode] for mode, _ in peers), default=None)
    return {
        "network": n.name, "batch": n.batch, "threads": threads, "torch": version, **compared(found), "rounds_ms": found,
        "first_s": first, "bytes": memory, "arena_bytes": about["arena_bytes"], "roof_ms": roof_ms,
        "memory_ratio": about["bytes"] / least if least else None, "notes": notes,
    }  # fmt: skip


def of_roof(r: dict[str, Any]) -> float:
    """The fraction of the roof in the quickest round: what the roof was measured at is the best of several, too."""
    return r["roof_ms"] / min(r["rounds_ms"]["shohin"])


def said(r: dict[str, Any]) -> str:
    times = "  ".join(f"{k} {v:.2f}" for k, v in r["ms"].items())
    ratio = "no peer" if r["ratio"] is None else f"{r['ratio']:.2f}x (quickest {r['ratio_quickest']:.2f}x), memory {r['memory_ratio']:.2f}x, {of_roof(r):.0%} of the roof"
    notes = "".join(f"\n    {k}: {v.splitlines()[-1][:150]}" for k, v in r["notes"].items())
    return f"{r['network']:18} b{r['batch']:<3} {r['threads']} thr.  ms: {times}   {ratio}{notes}"


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="bench train", description=__doc__)
    parser.add_argument("networks", nargs="*")
    parser.add_argument("--threads", type=int, nargs="+", default=[2, 1])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.4, help="a side and round")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out (it takes minutes a network)")
    parser.add_argument("--dry", action="store_true", help="write no results")
    a = parser.parse_args(argv)
    modes = MODES[:2] if a.no_compile else MODES
    rows = []
    for n in chosen(a.networks, TRAINED):
        for threads in threads_for_clock(a.threads):
            rows.append(row(n, threads, modes, a.rounds, a.seconds))
            print(said(rows[-1]), flush=True)
            if not a.dry:
                record.append("train", rows[-1:], optimizer="sgd momentum 0.9", clock=CLOCK_NAME)
    for threads in a.threads:
        ratios = [r["ratio"] for r in rows if r["threads"] == threads and r["ratio"]]
        if len(ratios) > 1:
            print(f"geometric mean, {threads} threads: {geometric(ratios):.2f}x; median memory {statistics.median(r['memory_ratio'] for r in rows if r['memory_ratio']):.2f}x")
