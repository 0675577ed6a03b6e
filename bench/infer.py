"""Question: how long is one inference, batch 1, beside ONNX Runtime, OpenVINO, ncnn and PyTorch; float32 on 1 and 2 threads, int8 on
one? ``python -m bench infer [NETWORK ...] [--threads 1 2] [--no-compile] [--no-int8]``.

Every engine gets the same weights, with batch-norm statistics taken from data, and its outputs are held against ours first."""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import shohin as sh
from bench import record
from bench.networks import INFERRED, Network, chosen
from bench.peers import python
from bench.sides import CLOCK_NAME, Peer, PeerFailed, Times, compared, geometric, in_turn, threads_for_clock, timed
from shohin.compress import Plan, Quantize
from shohin.deploy.library import HostLibrary, build_library

FLOAT = ("onnxruntime", "openvino", "ncnn", "torch-frozen", "torch-compile")
INT8 = ("onnxruntime-u8s8", "onnxruntime-s8s8", "openvino-nncf")
COMPILE_LIMIT = 300.0
Array = np.ndarray[Any, Any]


def prepared(n: Network, examples: int) -> tuple[Any, Array]:
    """The network with statistics of data, in evaluation mode, and examples (channels last)."""
    sh.seed(0)
    net = n.build()
    x = np.random.default_rng(0).standard_normal((examples, *n.shape)).astype(np.float32)
    norms = [m for m in net.modules().values() if hasattr(m, "momentum")]
    momenta = [m.momentum for m in norms]
    for m in norms:
        m.momentum = 1.0
    sh.jit(lambda net, x: net(x))(net, x)
    for m, old in zip(norms, momenta, strict=True):
        m.momentum = old
    return net.eval(), x


def channels_first(x: Array) -> Array:
    return np.ascontiguousarray(np.moveaxis(x, -1, 1)) if x.ndim == 4 else x


def written(n: Network, net: Any, x: Array, folder: Path) -> dict[str, str]:
    """Files for the peers; what could not be made, and why."""
    np.savez(folder / "weights.npz", **{k: np.asarray(c.read().data) for k, c in net.cells().items()})
    np.save(folder / "inputs.npy", channels_first(x))
    (folder / "about.json").write_text(json.dumps({"network": n.name}))
    command = [str(python()), str(Path(__file__).with_name("peer_models.py")), n.name, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        raise PeerFailed(done.stderr[-2000:])
    return {k: " ".join(v.split())[:300] for k, v in json.loads(lines[-1])["failed"].items()}


def difference(a: Array, b: Array) -> float:
    """Largest difference over the largest value."""
    return float(np.abs(a.reshape(b.shape) - b).max() / np.abs(b).max())


def started(names: tuple[str, ...], folder: Path, threads: int, notes: dict[str, str]) -> dict[str, Peer]:
    peers = {}
    for name in names:
        try:
            limit = COMPILE_LIMIT if name == "torch-compile" else 90
            peers[name] = Peer(python(), "peer_infer.py", name, str(folder), str(threads), timeout=limit, threads=threads)
        except PeerFailed as error:
            notes[name] = str(error).splitlines()[-1][:300]
    return peers


def outputs_of(peers: dict[str, Peer], folder: Path, notes: dict[str, str]) -> dict[str, Array]:
    found = {}
    for name, peer in peers.items():
        path = folder / f"{name}.npy"
        try:
            peer.ask(outputs=str(path))
            found[name] = np.load(path)
        except PeerFailed as error:
            notes[name] = str(error).splitlines()[-1][:300]
    return found


def raced(n: Network, kind: str, threads: int, mine: dict[str, Callable[[int], Times]], peers: dict[str, Peer], rounds: int, seconds: float) -> dict[str, Any]:
    """Ours (the quicker of the ways named) and the peers in turn."""
    found = in_turn({**mine, **{k: p.times for k, p in peers.items()}}, rounds, seconds)
    best = min(mine, key=lambda k: float(np.median(found[k])))
    rest = {k: v for k, v in found.items() if k == best or k not in mine}
    return {"network": n.name, "kind": kind, "threads": threads, **compared(rest, best), "ours": best,
            "ms": {k: float(np.median(v)) for k, v in found.items()}, "rounds_ms": found}  # fmt: skip


def library_of(net: Any, x: Array, folder: Path) -> HostLibrary:
    sh.export(net, x[:1], device="host", to=folder)
    return build_library(folder, folder / "build")


def float_row(n: Network, net: Any, x: Array, folder: Path, threads: int, a: argparse.Namespace, failed: dict[str, str]) -> dict[str, Any]:
    infer = sh.jit(lambda net, x: net(x), threads=threads)
    one = x[:1].copy()
    reference = np.asarray(sh.jit(lambda net, x: net(x))(net, x).data)
    mine: dict[str, Callable[[int], Times]] = {"shohin-jit": timed(lambda: infer(net, one).data)}
    errors = {"shohin-jit": difference(np.asarray(infer(net, one).data), reference[:1])}
    notes = dict(failed)
    if threads == 1:
        library = library_of(net, x, folder / "float")
        errors["shohin-library"] = difference(library.run(x), reference)
        mine["shohin-library"] = timed(lambda: library.run(one))
    peers = started(FLOAT if a.compile else FLOAT[:-1], folder, threads, notes)
    try:
        errors |= {k: difference(y, reference) for k, y in outputs_of(peers, folder, notes).items()}
        row = raced(n, "float32", threads, mine, peers, a.rounds, a.seconds)
    finally:
        for p in peers.values():
            p.close()
    return {**row, "difference": errors, "notes": notes}


# The artefact takes and gives int8, as on a device; peers take float32 and convert inside. ``-convert`` converts too, by two more
# calls from Python.
def int8_row(n: Network, net: Any, x: Array, folder: Path, a: argparse.Namespace, failed: dict[str, str]) -> dict[str, Any]:
    reference = np.asarray(sh.jit(lambda net, x: net(x))(net, x).data)
    small = Plan([("*", Quantize(w=8, a=8))]).apply(net, calibration=x)
    library = library_of(small, x, folder / "int8")
    one, notes = x[:1].copy(), {k: v for k, v in failed.items() if k.startswith("int8")}
    rows = x.reshape(len(x), -1)
    result = library.dequantize(library.run(library.quantize(rows)))
    peers = started(INT8, folder, 1, notes)
    flat = one.reshape(1, -1)
    q = library.quantize(flat)
    mine = {"shohin-int8": timed(lambda: library.run(q)), "shohin-int8-convert": timed(lambda: library.dequantize(library.run(library.quantize(flat))))}
    try:
        results = {"shohin-int8": result, **outputs_of(peers, folder, notes)}
        row = raced(n, "int8", 1, mine, peers, a.rounds, a.seconds)
    finally:
        for p in peers.values():
            p.close()
    noise = {k: float(10 * np.log10((reference**2).mean() / ((y.reshape(reference.shape) - reference) ** 2).mean())) for k, y in results.items()}
    return {**row, "signal_to_noise_db": noise, "notes": notes}


def said(r: dict[str, Any]) -> str:
    times = "  ".join(f"{k} {v:.3f}" for k, v in r["ms"].items())
    ratio = "no peer" if r["ratio"] is None else f"{r['ratio']:.2f}x {r['best']} (quickest {r['ratio_quickest']:.2f}x)"
    wrong = [f"{k} differs by {e:.1e}" for k, e in r.get("difference", {}).items() if e > 1e-3]
    noise = ["dB: " + "  ".join(f"{k} {v:.1f}" for k, v in r["signal_to_noise_db"].items())] if "signal_to_noise_db" in r else []
    notes = [f"{k}: {v}" for k, v in r["notes"].items()]
    return f"{r['network']:18} {r['kind']:8} {r['threads']} thr.  ms: {times}   {ratio}" + "".join(f"\n    {t[:200]}" for t in (*wrong, *noise, *notes))


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="bench infer", description=__doc__)
    parser.add_argument("networks", nargs="*")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.2, help="a side and round")
    parser.add_argument("--examples", type=int, default=32, help="for statistics, calibration and the comparison of outputs")
    parser.add_argument("--no-compile", dest="compile", action="store_false", help="leave torch.compile out")
    parser.add_argument("--no-int8", dest="int8", action="store_false")
    parser.add_argument("--no-float", dest="float", action="store_false")
    parser.add_argument("--dry", action="store_true", help="write no results")
    a = parser.parse_args(argv)
    rows = []

    def take(row: dict[str, Any]) -> None:
        rows.append(row)
        print(said(row), flush=True)
        if not a.dry:
            record.append("infer", [row], clock=CLOCK_NAME)

    for n in chosen(a.networks, INFERRED):
        with tempfile.TemporaryDirectory(prefix="bench-") as work:
            net, x = prepared(n, a.examples)
            failed = written(n, net, x, Path(work))
            for threads in threads_for_clock(a.threads) if a.float else []:
                take(float_row(n, net, x, Path(work), threads, a, failed))
            if a.int8 and n.convolutional:
                take(int8_row(n, net, x, Path(work), a, failed))
    for kind in ("float32", "int8"):
        ratios = [r["ratio"] for r in rows if r["kind"] == kind and r["ratio"]]
        if len(ratios) > 1:
            print(f"geometric mean, {kind}: {geometric(ratios):.2f}x")
