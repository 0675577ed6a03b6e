"""Rewrites ``bench/README.md`` from the raw results: of every row the latest. ``python -m bench report``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from bench import record
from bench.peers import PEERS, versions
from bench.sides import geometric
from bench.train import of_roof

README = Path(__file__).with_name("README.md")
HEAD = """# Benchmarks

`make bench` sets up the peers in `.venv-peers`, asks each question and rewrites this page; raw numbers are in `bench/results/`, one list
of runs a question. `python -m bench train|infer|kernels|compile [names]` asks one, `--dry` keeps the results as they are. Sides run in turn in one
session with the same number of threads; a number is the median over rounds of each round's median. Only ratios count: the machine is
virtual, with neighbours. `quickest` compares the best rounds of either side; where it says more than the ratio does, the machine was busy.
With `BENCH_CLOCK=cpu` rows of one thread are timed by CPU time on both sides, for a machine that others use at the same time.

The networks stand in `networks.py` and, by the same names, in `torch_networks.py`; `tests/nn/test_torch.py` holds them to equal outputs and
gradients. DS-CNN, ResNet-8 and MobileNets as in MLPerf Tiny and their papers; the transformer has 6 pre-norm layers, d 192, 3 heads, 128 frames.
"""


def latest(question: str, key: Callable[[dict[str, Any]], Any]) -> list[dict[str, Any]]:
    """Of each row the newest, in the order of first appearance, with what its run says of itself."""
    found: dict[Any, dict[str, Any]] = {}
    for run in record.runs(question):
        for row in run["rows"]:
            found[key(row)] = {**{k: v for k, v in run.items() if k != "rows"}, **row}
    return list(found.values())


def table(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    head = list(head)
    lines = [head, ["---"] * len(head), *([str(c) for c in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def under(rows: list[dict[str, Any]]) -> str:
    """Where and when these rows were taken."""
    said = set()
    for key in {(r["machine"]["cpu"], r["machine"]["level"], r["machine"]["vnni"], r["date"][:10], r.get("clock", "wall"), r["commit"]) for r in rows}:
        some = [r["machine"] for r in rows if (r["machine"]["cpu"], r["date"][:10], r["commit"]) == (key[0], key[3], key[5])]
        found = [m["load"] for m in some if "load" in m]
        loads = f"load average {min(found)} to {max(found)} on {some[0]['cpus']} CPUs" if found else "load not recorded"
        said.add(f"{key[0]} ({key[1]}{', VNNI' if key[2] else ''}), {key[3]}, {key[4]} clock, {loads}, Shohin {key[5]}")
    return "; ".join(sorted(said)) + "."


def ms(row: dict[str, Any], name: str) -> str:
    return f"{row['ms'][name]:.3g}" if name in row["ms"] else "-"


def train() -> str:
    rows = latest("train", lambda r: (r["network"], r["threads"]))
    if not rows:
        return ""
    parts = ["## A training step", "", "Forward, backward, SGD with momentum. Memory: ours is arena, cells and batch; PyTorch's the growth of peak resident memory. "
             "The roof is each step's max(FLOP / peak, bytes / bandwidth), summed; the fraction is that of the quickest round.", ""]
    for threads in sorted({r["threads"] for r in rows}, reverse=True):
        some = [r for r in rows if r["threads"] == threads]
        lines = [[f"{r['network']} b{r['batch']}", *(ms(r, m) for m in ("shohin", "eager", "channels_last", "compile")),
                  f"**{r['ratio']:.2f}x** {r['best']}" if r["ratio"] else "-", f"{r['ratio_quickest']:.2f}x" if r["ratio"] else "-",
                  f"{r['bytes']['shohin'] / 1e6:.0f} MB", f"{r['memory_ratio']:.2f}x" if r["memory_ratio"] else "-", f"{of_roof(r):.0%}" if "roof_ms" in r else "-"] for r in some]  # fmt: skip
        parts += [f"{threads} threads" if threads > 1 else "1 thread", ""]
        parts += [table(("network", "Shohin ms", "eager", "channels_last", "compile", "ratio to the best", "quickest", "memory", "of PyTorch's", "of the roof"), lines), ""]
        parts += [f"Geometric mean {geometric([r['ratio'] for r in some if r['ratio']]):.2f}x ({geometric([r['ratio_quickest'] for r in some if r['ratio']]):.2f}x by the quickest).", ""]
        parts += sorted({f"{r['network']}, {mode}: {note.splitlines()[-1][:160]}" for r in some for mode, note in r["notes"].items()}) + [""]
    return "\n".join([*parts, under(rows)])


def infer() -> str:
    rows = latest("infer", lambda r: (r["network"], r["kind"], r["threads"]))
    if not rows:
        return ""
    parts = ["## Inference, batch 1"]
    for kind, threads in sorted({(r["kind"], r["threads"]) for r in rows}):
        some = [r for r in rows if (r["kind"], r["threads"]) == (kind, threads)]
        names = list(dict.fromkeys(name for r in some for name in r["ms"]))
        lines = [[r["network"], *(ms(r, n) for n in names), f"**{r['ratio']:.2f}x** {r['best']}" if r["ratio"] else "-", f"{r['ratio_quickest']:.2f}x" if r["ratio"] else "-"] for r in some]
        parts += ["", f"### {kind}, {threads} thread{'s' if threads > 1 else ''}", "", table(("network, ms", *names, "ratio to the best", "quickest"), lines), ""]
        parts += [f"Geometric mean {geometric([r['ratio'] for r in some if r['ratio']]):.2f}x ({geometric([r['ratio_quickest'] for r in some if r['ratio']]):.2f}x by the quickest)."]
        if kind == "int8":
            noise = [[r["network"], *(f"{r['signal_to_noise_db'][n]:.1f}" if n in r["signal_to_noise_db"] else "-" for n in names)] for r in some]
            parts += ["", "Signal to noise against float32, dB (random weights):", "", table(("network", *names), noise)]
        parts += ["", *sorted({f"- {r['network']}, {who}: {note.splitlines()[-1][:160]}" for r in some for who, note in r["notes"].items()})]
    return "\n".join([*parts, "", under(rows)])


def kernels() -> str:
    rows = latest("kernels", lambda r: (r["name"], r["threads"]))
    if not rows:
        return ""
    gemm, rest = [r for r in rows if "peak" in r], [r for r in rows if "peak" not in r]
    first = table(("GEMM", "threads", "G/s", "peak G/s", "fraction"), ((r["name"], r["threads"], f"{r['rate'] / 1e9:.0f}", f"{r['peak'] / 1e9:.0f}", f"**{r['fraction']:.0%}**") for r in gemm))
    second = table(("kernel", "threads", "us", "GFLOP/s", "GB/s", "of the roof", "binds", "done by"),
                   ((r["name"], r["threads"], f"{r['us']:.0f}", f"{r['gflops']:.0f}", f"{r['gbytes']:.0f}", f"**{r['fraction']:.0%}**", r.get("bound", ""), r["kernel"]) for r in rest))  # fmt: skip
    about = ("The peak is a loop in registers that runs in turn with the GEMM on the same core. The roof is max(FLOP / that peak, bytes / the bandwidth of a "
             "working set of that size), bytes counted once a buffer and write-allocation not at all; above 100 % the data lay in a nearer cache.")  # fmt: skip
    return "\n".join(["## Kernels", "", about, "", first, "", second, "", under(rows)])


def compiling() -> str:
    runs = record.runs("compile")
    if not runs:
        return ""
    rows = latest("compile", lambda r: r["name"])
    lines = ((r["name"], r["steps"], f"{r['cold_s']:.2f}", f"{r['cold_processor_s']:.2f}", f"{r['warm_s']:.3f}", f"{r['warm_processor_s']:.3f}") for r in rows)
    calls = ((c["name"], f"{c['us']:.1f}") for c in runs[-1]["calls"])
    return "\n".join(["## Compiling, and calling", "", "Tracing, passes and the C compiler for a training step in a new process, imports excluded: with an empty cache, and with a filled one.", "",
                      table(("training step", "steps of C", "cold, s", "CPU s", "warm, s", "CPU s"), lines), "", table(("call, one thread", "us"), calls), "", under(rows)])  # fmt: skip


def main(argv: list[str]) -> None:
    if argv:
        raise SystemExit("report takes no arguments")
    peers = "Peers: " + ", ".join(f"{k} {v}" for k, v in versions().items()) + "." if PEERS.exists() else ""
    parts = [HEAD, *(p + "\n" for p in (train(), infer(), kernels(), compiling()) if p), peers]
    README.write_text("\n".join(parts) + "\n")
    print(f"rewrote {README}")
