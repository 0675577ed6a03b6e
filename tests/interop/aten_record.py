"""``python -m tests.interop.aten_record``: export all programs of ``aten.py``, whole and taken apart, and write them to ``aten.npz``. Needs torch."""

from __future__ import annotations

import json
import warnings
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from shohin.core.errors import ForeignError
from shohin.interop.pytorch.export import Origin, exported
from shohin.interop.pytorch.read import array, read
from tests.interop.aten import CASES
from tests.interop.recorded import FILE, text


def main() -> None:
    warnings.simplefilter("ignore")
    said: dict[str, Any] = {}
    arrays: dict[str, Any] = {}
    for case, make in CASES.items():
        module, inputs = make()
        program = exported(module, (inputs, {}))
        whole, seen = read(program), ""
        leaves = [array(v) for v in pytree.tree_leaves(inputs) if isinstance(v, torch.Tensor)]
        given = dict(zip([i.name for i in whole.inputs], leaves, strict=True))
        results = Origin(module, (inputs, {}), list(given))(given)
        targets = [n.target for n in program.graph.nodes if n.op == "call_function"]
        apart = any(torch.Tag.core not in t.tags for t in targets if isinstance(t, torch._ops.OpOverload))
        for kind in ("whole", "core") if apart else ("whole",):
            try:
                f = whole if kind == "whole" else read(program.run_decompositions())
            except ForeignError:
                continue
            now = json.dumps(text(f))
            if now == seen:
                continue
            seen = now
            said[f"{case}, {kind}"] = text(f)
            arrays |= {f"{case}, {kind}|constant|{k}": v for k, v in f.constants.items()}
            arrays |= {f"{case}, {kind}|in|{k}": v for k, v in given.items()} | {f"{case}, {kind}|out|{k}": v for k, v in enumerate(results)}
        print(case, flush=True)
    np.savez_compressed(FILE, programs=np.frombuffer(json.dumps(said).encode(), np.uint8), **arrays)


if __name__ == "__main__":
    main()
