"""Exported programs as plain data: foreign graphs, inputs and PyTorch's results in one file, so that the table is tested without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from shohin.interop.foreign import Foreign, Input, Node, verify
from shohin.interop.pytorch.table import Extent, Operand

FILE = Path(__file__).with_name("aten.npz")


def _plain(v: Any) -> Any:
    if isinstance(v, tuple):
        return [_plain(w) for w in v]
    if isinstance(v, Operand | Extent):
        return {type(v).__name__: v.at}
    if isinstance(v, np.dtype):
        return {"dtype": v.name}
    return {"number": str(v)} if isinstance(v, float) and not np.isfinite(v) else v


def _read(v: Any) -> Any:
    if isinstance(v, list):
        return tuple(map(_read, v))
    if isinstance(v, dict):
        kind, value = next(iter(v.items()))
        return {"Operand": Operand, "Extent": Extent, "dtype": np.dtype, "number": float}[kind](value)
    return v


def text(f: Foreign) -> Any:
    """All of a graph but its constants."""
    return {
        "inputs": [[i.name, list(i.shape), i.dtype.name] for i in f.inputs], "outputs": f.outputs, "untrained": sorted(f.untrained),
        "nodes": [[n.op, n.inputs, n.outputs, [_plain(n.attrs["args"]), {k: _plain(v) for k, v in n.attrs["kwargs"].items()}], n.place] for n in f.nodes],
    }  # fmt: skip


def graph(said: Any, constants: Mapping[str, Any]) -> Foreign:
    nodes = tuple(
        Node(op=op, inputs=tuple(i), outputs=tuple(o), attrs={"args": _read(a), "kwargs": {k: _read(v) for k, v in kw.items()}}, place=place)
        for op, i, o, (a, kw), place in said["nodes"]
    )
    inputs = tuple(Input(name=n, shape=tuple(s), dtype=np.dtype(d)) for n, s, d in said["inputs"])
    return verify(Foreign(inputs=inputs, constants=constants, nodes=nodes, outputs=tuple(said["outputs"]), version=0, untrained=frozenset(said["untrained"])))


def load() -> dict[str, tuple[Foreign, dict[str, Any], list[Any]]]:
    """By name: the graph, the inputs, the results."""
    with np.load(FILE) as arrays:
        by: dict[str, dict[str, Any]] = {}
        for key in arrays.files:
            if key != "programs":
                name, kind, own = key.split("|", 2)
                by.setdefault(name, {}).setdefault(kind, {})[own] = arrays[key]
        said = json.loads(bytes(arrays["programs"]).decode())
    found = {}
    for name, program in said.items():
        own = by.get(name, {})
        outputs = own.get("out", {})
        found[name] = graph(program, own.get("constant", {})), own.get("in", {}), [outputs[str(k)] for k in range(len(outputs))]
    return found


__all__ = ["FILE", "graph", "load", "text"]
