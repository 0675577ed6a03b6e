"""``python -m bench cost``: the errors of the cost models on networks that they have not seen.

Thirty sample networks (seeds from 2,000 on; the tables hold seeds below 300): int8 instructions on the emulated Cortex-M55 against the model,
int8 and float32 milliseconds of the host's artefact against the model, and whether flash and arena are the artefact's to the byte.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

from shohin.compress import Palettize, Plan, Quantize
from shohin.costs.cost import by_place, cost
from shohin.costs.observe import examples
from shohin.costs.samples import sample
from shohin.costs.tables import board_table, host_table
from shohin.deploy.export import export
from shohin.deploy.library import build_library
from shohin.deploy.measure import on_board, to_input
from shohin.deploy.network import exported_graph
from shohin.targets import get_target

FIRST = 2000


def ranks(values: list[float]) -> np.ndarray:
    order = np.argsort(values, kind="stable")
    found = np.empty(len(values))
    found[order] = np.arange(len(values))
    return found


def rank_correlation(a: list[float], b: list[float]) -> float:
    """Spearman's, for values without ties."""
    return float(np.corrcoef(ranks(a), ranks(b))[0, 1])


def one(seed: int, boards: bool, host: bool) -> dict[str, float]:
    net, x = sample(seed)
    small = Plan([("*", Quantize())]).apply(net, calibration=x)
    found: dict[str, float] = {"seed": seed}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        if boards:
            target, art = get_target("cortex-m55"), export(small, x[:1], device="cortex-m55", to=work / "board")
            result, why = on_board(art, to_input(art, build_library(art.folder, work / "entry"), x[:1]), work / "firmware", 300)
            if result is None or not result.instructions:
                raise SystemExit(why)
            counted = by_place(exported_graph(small, examples([x])), target, board_table("cortex-m55")) or {}
            found |= {"instructions": result.instructions[0], "instructions modelled": sum(counted.values())}
            packed = Plan([("*", Palettize(bits=4, group=1)), ("*", Quantize())]).apply(net, calibration=x)
            for name, each in (("dense", small), ("packed", packed)):
                said, art = cost(each, "cortex-m55")(x), export(each, x[:1], device="cortex-m55", to=work / name)
                found[f"bytes off, {name}"] = abs(said.flash - art.flash_bytes) + abs(said.arena - art.arena_bytes)
        for name, each in (("int8", small), ("float32", net)) if host else ():
            art = export(each, x[:1], device="host", to=work / f"host-{name}")
            library = build_library(art.folder, work / f"library-{name}")
            timed = by_place(exported_graph(each, examples([x])), get_target("host"), host_table(measure=True)) or {}
            found |= {f"ms {name}": 1e3 * library.latency(to_input(art, library, x[:1]), 100).median, f"ms {name} modelled": 1e3 * sum(timed.values())}
    return found


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench cost", description=__doc__)
    parser.add_argument("--networks", type=int, default=30)
    parser.add_argument("--skip", choices=("board", "host"))
    asked = parser.parse_args(arguments)
    rows = []
    for seed in range(FIRST, FIRST + asked.networks):
        rows.append(one(seed, asked.skip != "board", asked.skip != "host"))
        print(json.dumps(rows[-1]), flush=True)
    if "instructions" in rows[0]:
        error = np.array([abs(r["instructions modelled"] / r["instructions"] - 1) for r in rows])
        print(f"instructions: {int((error <= 0.05).sum())} of {len(rows)} within 5 %, median {np.median(error):.2%}, largest {error.max():.2%}")
        print("flash and arena: bytes off", ", ".join(f"{n} {sum(r[f'bytes off, {n}'] for r in rows):.0f}" for n in ("dense", "packed")))
    for name in ("int8", "float32"):
        if f"ms {name}" in rows[0]:
            a, b = ([r[f"ms {name}{more}"] for r in rows] for more in ("", " modelled"))
            error = np.abs(np.array(b) / np.array(a) - 1)
            print(f"host latency, {name}: rank correlation {rank_correlation(a, b):.3f}, median error {np.median(error):.1%}, largest {error.max():.1%}")
