"""The ONNX project's own tests of single operators, as the package generates them."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.backend.test.case.node import collect_testcases

import shohin as sh
from shohin.interop.builder import NeedsConstant
from shohin.interop.onnx.table import TABLE


@dataclass(frozen=True)
class Case:
    name: str
    model: Any
    sets: tuple[Any, ...]
    rtol: float
    atol: float


@cache
def cases() -> dict[str, Case]:
    """All that the package has, by name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = collect_testcases(None)
    return {c.name: Case(c.name, c.model, tuple(c.data_sets), c.rtol, c.atol) for c in found if c.model is not None}


def operators(model: Any) -> set[str]:
    def walk(graph: Any) -> Any:
        for node in graph.node:
            yield node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
            for a in node.attribute:
                if a.type == onnx.AttributeProto.GRAPH:
                    yield from walk(a.g)

    found = set(walk(model.graph)) - {"Constant"}
    for f in model.functions:
        found |= {n.op_type for n in f.node} - {"Constant"}
        found.discard(f.name)
    return found


def claimed(model: Any) -> bool:
    return operators(model) <= set(TABLE)


def _array(value: Any) -> Any:
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


def run(case: Case, all_fixed: bool) -> None:
    """Import the case and compare; operands that must be known are fixed, and with ``all_fixed`` all but the first."""
    for inputs, outputs in case.sets:
        names = [v.name for v in case.model.graph.input]
        inputs, outputs = ([_array(v) for v in values] for values in (inputs, outputs))
        arrays = dict(zip(names, inputs, strict=True))
        fixed = {n: arrays[n] for n in names[1:]} if all_fixed else {}
        while True:
            free = [n for n in names if n not in fixed]
            try:
                net = sh.from_onnx(case.model, shape={n: np.shape(arrays[n]) for n in free}, fixed=fixed)
                break
            except sh.ForeignError as error:
                wanted = [n for n in free if f"({n!r}) depends on" in str(error)]
                if not wanted and "depends on the network's inputs" in str(error):  # through some arithmetic
                    wanted = [n for n in free if np.asarray(arrays[n]).dtype.kind in "iub"]
                if not wanted:
                    raise
                fixed = {**fixed, **{n: arrays[n] for n in wanted}}
        got = net(*(np.asarray(arrays[n]) for n in free))
        got = got if isinstance(got, tuple) else (got,)
        assert len(got) == len(outputs)
        for a, b in zip(got, outputs, strict=True):
            mine, theirs = a.numpy(), np.asarray(b)
            assert mine.dtype == theirs.dtype, f"{mine.dtype}, expected {theirs.dtype}"
            assert mine.shape == theirs.shape, f"{mine.shape}, expected {theirs.shape}"
            if mine.dtype.kind in "biu":
                assert np.array_equal(mine, theirs), f"{mine.reshape(-1)[:8]} != {theirs.reshape(-1)[:8]}"
            else:
                np.testing.assert_allclose(mine.astype(np.float64), theirs.astype(np.float64), rtol=case.rtol, atol=case.atol)


__all__ = ["Case", "NeedsConstant", "cases", "claimed", "operators", "run"]
