"""Damaged files, in a process of their own with little memory: ``python -m tests.interop.mutations FILE COUNT SEED`` prints what
became of each kind as JSON. An importer that crashes, hangs or allocates ends the process."""

from __future__ import annotations

import json
import resource
import sys
from collections import Counter
from typing import Any

import numpy as np
import onnx

import shohin as sh
from shohin.interop.onnx.origin import Origin

MEMORY = 4 << 30


def skeleton(data: bytes) -> np.ndarray:
    """The bytes that are not weights: where a flipped bit changes the graph."""
    model, there = onnx.load_model_from_string(data), np.ones(len(data), bool)
    tensors = [*model.graph.initializer, *(a.t for n in model.graph.node for a in n.attribute if a.type == onnx.AttributeProto.TENSOR)]
    for tensor in tensors:
        if len(tensor.raw_data) > 64:
            at = data.find(tensor.raw_data)
            there[at : at + len(tensor.raw_data)] = False
    return np.flatnonzero(there)


def mutant(data: bytes, bones: np.ndarray, rng: np.random.Generator, k: int) -> bytes:
    """Every fourth truncated, every fourth with a flipped bit anywhere, the others with one to three in the graph."""
    damaged = bytearray(data)
    if k % 4 == 0:
        return bytes(damaged[: int(rng.integers(1, len(data)))])
    for _ in range(1 if k % 4 == 1 else int(rng.integers(1, 4))):
        at = int(rng.integers(len(data))) if k % 4 == 1 else int(rng.choice(bones))
        damaged[at] ^= 1 << int(rng.integers(8))
    return bytes(damaged)


def outcome(data: bytes, inputs: dict[str, Any]) -> str:
    try:
        net = sh.from_onnx(data, shape={k: v.shape for k, v in inputs.items()})
        got = net(*inputs.values())
    except sh.ShohinError:
        return "refused"
    try:
        wanted = Origin(onnx.load_model_from_string(data))(inputs)
    except Exception:
        return "the origin refuses"
    for a, b in zip(got if isinstance(got, tuple) else (got,), wanted, strict=True):
        x, y = a.numpy(), np.asarray(b)
        if not np.isfinite(x).all() or not np.isfinite(y).all():
            return "overflows"
        if x.shape != y.shape or not np.allclose(x, y, rtol=1e-3, atol=1e-4 * max(1.0, float(np.abs(y).max(initial=0)))):
            return "wrong"
    return "right"


def main(path: str, count: int, seed: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    with open(path, "rb") as stream:
        data = stream.read()
    rng, bones = np.random.default_rng(seed), skeleton(data)
    inputs = {}
    for v in onnx.load_model_from_string(data).graph.input:
        dims = [d.dim_value if d.dim_value > 0 else 1 if k == 0 else 48 for k, d in enumerate(v.type.tensor_type.shape.dim)]
        inputs[v.name] = rng.normal(size=dims).astype(np.float32)
    print(json.dumps(Counter(outcome(mutant(data, bones, rng, k), inputs) for k in range(count))))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
