"""Question: how near do single kernels come to the roof? ``python -m bench kernels [NAME ...] [--threads 1 2] [--level v3]``.

GEMM against register-only loops that run in turn with it on the same core; large and pointwise convolutions, depthwise, an
elementwise chain and a sum over positions against max(arithmetic, memory), whichever binds; then every kernel of a layer's
forward and backward pass (``--layers``), by the profile."""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import shohin as sh
from bench import record
from bench.infer import library_of
from bench.sides import CLOCK, CLOCK_NAME, threads_for_clock
from shohin import nn
from shohin.compiler.program import machine
from shohin.compress import Plan, Quantize
from shohin.core.nest import KernelCall
from shohin.deploy.profile import profile
from shohin.deploy.roofline import Loops, roof
from shohin.deploy.work import work_of

GEMM = 1024
Array = np.ndarray[Any, Any]


def random(*shape: int) -> Array:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@dataclass(frozen=True)
class Case:
    """A function of arrays, compiled; its largest step is the kernel in question."""

    name: str
    f: Callable[..., Any]
    shapes: tuple[tuple[int, ...], ...]


def conv(n: int, size: int, inputs: int, outputs: int, k: int, stride: int = 1, groups: int = 1) -> tuple[Callable[..., Any], tuple[tuple[int, ...], ...]]:
    f = lambda x, w: sh.conv2d(x, w, stride=stride, padding=k // 2, groups=groups)
    return f, ((n, size, size, inputs), (outputs, k, k, inputs // groups))


CASES = (
    Case("conv 3x3 64->64, 8x56x56", *conv(8, 56, 64, 64, 3)),
    Case("conv 3x3 128->128, 8x28x28", *conv(8, 28, 128, 128, 3)),
    Case("conv 3x3 256->256, 8x14x14", *conv(8, 14, 256, 256, 3)),
    Case("conv 1x1 96->576, 8x14x14", *conv(8, 14, 96, 576, 1)),
    Case("conv 1x1 16->96, 8x112x112", *conv(8, 112, 16, 96, 1)),
    Case("depthwise 3x3 64, 1x56x56", *conv(1, 56, 64, 64, 3, groups=64)),
    Case("depthwise 3x3 48, 32x48x48", *conv(32, 48, 48, 48, 3, groups=48)),
    Case("depthwise 3x3 stride 2, 96, 8x112x112", *conv(8, 112, 96, 96, 3, 2, 96)),
    Case("chain relu6(a x + b) + x, 16 M", lambda x, a, b: sh.relu6(x * a + b) + x, ((1 << 24,), (), ())),
    Case("chain relu6(a x + b) + x, 128 k", lambda x, a, b: sh.relu6(x * a + b) + x, ((1 << 17,), (), ())),
    Case("sum over positions, 8x112x112x96", lambda x: x.sum(axis=(0, 1, 2)), ((8, 112, 112, 96),)),
)
LAYERS = (
    ("3x3 1->16 28", 28, 1, 16, 3, 1, 1), ("3x3 16->16 28", 28, 16, 16, 3, 1, 1), ("3x3 16->32 28 s2", 28, 16, 32, 3, 2, 1),
    ("3x3 32->32 14", 14, 32, 32, 3, 1, 1), ("3x3 32->64 14 s2", 14, 32, 64, 3, 2, 1), ("3x3 64->64 7", 7, 64, 64, 3, 1, 1),
    ("1x1 16->32 28 s2", 28, 16, 32, 1, 2, 1), ("1x1 64->64 14", 14, 64, 64, 1, 1, 1), ("3x3 3->32 28 s2", 28, 3, 32, 3, 2, 1),
    ("depthwise 64 14", 14, 64, 64, 3, 1, 64), ("depthwise 64 14 s2", 14, 64, 64, 3, 2, 64), ("3x3 13->37 15", 15, 13, 37, 3, 1, 1),
    ("1x1 13->37 15", 15, 13, 37, 1, 1, 1), ("depthwise 37 15", 15, 37, 37, 3, 1, 37),
)  # fmt: skip
"""Name, size, channels in and out, kernel, stride, groups; batch 64."""


def seconds(run: Callable[[], Any], at_least: float = 0.02) -> float:
    """Best of the runs in ``at_least`` seconds."""
    best, end = float("inf"), time.perf_counter() + at_least
    while time.perf_counter() < end:
        start = CLOCK()
        run()
        best = min(best, CLOCK() - start)
    return best


def against(peak: Callable[[], float], run: Callable[[], Any], work: float, rounds: int) -> dict[str, float]:
    """Work a second beside the peak's, in turn; the fraction is the median of the rounds'."""
    run()
    peaks, rates = [], []
    for _ in range(rounds):
        peaks.append(peak())
        rates.append(work / seconds(run))
        peaks[-1] = max(peaks[-1], peak())
    return {"rate": statistics.median(rates), "peak": statistics.median(peaks), "fraction": statistics.median(r / p for r, p in zip(rates, peaks)),
            "fraction_best": max(rates) / max(peaks)}  # fmt: skip


def gemm_float(threads: int, level: str, rounds: int) -> dict[str, Any]:
    a, b = random(GEMM, GEMM), random(GEMM, GEMM)
    program = sh.jit(lambda a, b: a @ b, threads=threads, level=level).lower(a, b).compiled
    program.bind([a, b])
    found = against(Loops(threads, CLOCK).flops, program.run, 2.0 * GEMM**3, rounds)
    return {"name": f"GEMM {GEMM}^3 float32", "threads": threads, **found}


def gemm_int8(rounds: int) -> dict[str, Any]:
    """A linear layer as an exported int8 artefact: requantization and copying rows in and out are within."""
    sh.seed(0)
    net, x = nn.Linear(GEMM, GEMM, bias=False), random(1, GEMM, GEMM)
    with tempfile.TemporaryDirectory() as work:
        library = library_of(Plan([("*", Quantize(w=8, a=8))]).apply(net, calibration=x), x, Path(work))
        q = library.quantize(x.reshape(1, -1))
        found = against(Loops(1, CLOCK).int8, lambda: library.run(q), 2.0 * GEMM**3, rounds)
    return {"name": f"GEMM {GEMM}^3 int8 with requantization", "threads": 1, **found}


def case_row(case: Case, threads: int, level: str) -> dict[str, Any]:
    arrays = [random(*s) for s in case.shapes]
    program = sh.jit(case.f, threads=threads, level=level).lower(*arrays).compiled
    program.bind(arrays)
    steps = program.program.steps
    works = [work_of(s, {b.name: b for b in program.program.buffers}, machine(level, threads)) for s in steps]
    flop, moved = sum(w.flop for w in works), sum(w.bytes for w in works)
    top = roof(threads, CLOCK)
    program.run()
    least = seconds(program.run, 0.4)
    kernels = [s.kernel for s in steps if isinstance(s, KernelCall)]
    return {
        "name": case.name, "threads": threads, "kernel": ", ".join(kernels) or "loops", "us": 1e6 * least, "gflops": flop / least / 1e9,
        "gbytes": moved / least / 1e9, "bound": "memory" if moved / top.bytes_per_second(moved) > flop / top.flops else "arithmetic",
        "fraction": top.seconds(flop, moved) / least, "steps": len(steps),
    }  # fmt: skip


def layer_rows(threads: int, level: str) -> list[dict[str, Any]]:
    rows = []
    for name, size, inputs, outputs, k, stride, groups in LAYERS:
        f, (x, w) = conv(64, size, inputs, outputs, k, stride, groups)

        def both(x: Any, w: Any, g: Any, f: Any = f) -> Any:
            y, back = sh.vjp(f, x, w)
            return y, back(g)

        out = sh.jit(f)(np.zeros(x, np.float32), np.zeros(w, np.float32)).shape
        found = profile(sh.jit(both, threads=threads, level=level), random(*x), random(*w), random(*out), repeats=15)
        for r in found.rows:
            if r.flop:
                rows.append({"name": f"{name}: {r.place}", "threads": threads, "kernel": r.kernel or "loops", "us": 1e6 * r.seconds,
                             "gflops": r.flop / r.seconds / 1e9, "gbytes": r.bytes / r.seconds / 1e9, "fraction": r.roofline})  # fmt: skip
    return rows


def said(r: dict[str, Any]) -> str:
    if "peak" in r:
        return f"{r['name']:42} {r['threads']} thr. {r['rate'] / 1e9:8.1f} of {r['peak'] / 1e9:.1f} G/s  {r['fraction']:5.0%} (best of each {r['fraction_best']:.0%})"
    bound = f"  {r['bound']} binds" if "bound" in r else ""
    return f"{r['name']:42} {r['threads']} thr. {r['us']:10.1f} us {r['gflops']:8.1f} GFLOP/s {r['gbytes']:7.1f} GB/s {r['fraction']:5.0%}{bound}  {r['kernel']}"


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="bench kernels", description=__doc__)
    parser.add_argument("names", nargs="*", help="only rows whose name holds one of these")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--level", default="native")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--layers", action="store_true", help="every kernel of small layers' forward and backward pass, too")
    parser.add_argument("--dry", action="store_true", help="write no results")
    a = parser.parse_args(argv)
    wanted = lambda name: not a.names or any(n in name for n in a.names)
    rows: list[dict[str, Any]] = []

    def take(row: dict[str, Any]) -> None:
        rows.append(row)
        print(said(row), flush=True)

    for threads in threads_for_clock(a.threads):
        if wanted("GEMM float32"):
            take(gemm_float(threads, a.level, a.rounds))
    if wanted("GEMM int8"):
        take(gemm_int8(a.rounds))
    for threads in threads_for_clock(a.threads):
        for case in CASES:
            if wanted(case.name):
                take(case_row(case, threads, a.level))
        for row in layer_rows(threads, a.level) if a.layers else []:
            take(row)
    roofs = {str(t): {"flops": roof(t, CLOCK).flops, "int8": roof(t, CLOCK).int8, "bandwidth": dict(roof(t, CLOCK).bandwidth)} for t in threads_for_clock(a.threads)}
    if not a.dry:
        record.append("kernels", rows, level=a.level, roofs=roofs, clock=CLOCK_NAME)
