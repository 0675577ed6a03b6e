"""Interval analysis of an integer graph: the range of every value, proved from the actual weights, or an error (Q5).

Ranges are those of single numbers (not of their relations), exact Python integers; a sum's range holds for every
partial sum in every order, so that no intermediate of a kernel overflows either.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from shohin.compress.definitions import reach
from shohin.core import dtypes
from shohin.core.errors import QuantizationError
from shohin.core.graph import Graph, Node, Var

Range = tuple[int, int]
Ranges = dict[Var, Range]
Array = np.ndarray[Any, Any]


def prove(graph: Graph, inputs: Sequence[Range]) -> Ranges:
    """The range of every integer value; a ``QuantizationError`` names the first place whose dtype cannot hold it."""
    found: Ranges = {}
    _visit(graph, inputs, {}, found, "")
    return found


def _visit(graph: Graph, inputs: Sequence[Range | None], known: Mapping[Var, Array], found: Ranges, at: str) -> None:
    data = {**dict(graph.consts), **known}
    for v, r in zip(graph.inputs, inputs, strict=True):
        if r is not None:
            found[v] = r
    for v, a in data.items():
        if v.dtype in dtypes.INTEGER:
            found[v] = (int(a.min()), int(a.max())) if a.size else (0, 0)
    for node in graph.nodes:
        place = node.place if not node.place.startswith("/") or not at else at
        if node.op.kind == "call":
            body: Graph = node.attrs["body"]
            passed = {b: data[v] for b, v in zip(body.inputs, node.operands, strict=True) if v in data}
            _visit(body, [found.get(v) for v in node.operands], passed, found, node.place)
            found.update((r, found[o]) for r, o in zip(node.results, body.outputs, strict=True))
            continue
        if node.op.name == "broadcast_to" and node.operands[0] in data:
            data[node.results[0]] = data[node.operands[0]]
        for v in node.results:
            if v.dtype in dtypes.INTEGER:
                found[v] = _range(node, found, data, place)
                info = np.iinfo(v.dtype)
                if not (info.min <= found[v][0] and found[v][1] <= info.max):
                    raise QuantizationError(
                        f"{place}: {node.op.name} may give {found[v][0]} to {found[v][1]}, which {v.dtype.name} does "
                        "not hold; split the layer or narrow its input"
                    )


def _range(node: Node, found: Ranges, data: Mapping[Var, Array], place: str) -> Range:
    rule = RULES.get(node.op.name)
    if rule is not None:
        return rule(node, [found.get(v, (0, 0)) for v in node.operands], data)
    if node.op.kind == "movement" or node.op.name in ("cast", "take", "max_pool2d", "max", "min"):
        return found[node.operands[0]]
    raise QuantizationError(f"{place}: the range of {node.op.name} is not known; an integer graph does not use it")


def _hull(*values: int) -> Range:
    return min(values), max(values)


def _sum(node: Node, x: Sequence[Range], data: Mapping[Var, Array]) -> Range:
    """Of n terms, fewer at the edges: zero is always among the partial sums."""
    n = (
        prod(node.attrs["kernel"])
        if "kernel" in node.attrs
        else prod(node.operands[0].shape) // max(prod(node.results[0].shape), 1)
    )
    return min(n * x[0][0], 0), max(n * x[0][1], 0)


def _product_sum(node: Node, x: Sequence[Range], data: Mapping[Var, Array]) -> Range:
    w = data.get(node.operands[1])
    if w is None:
        raise QuantizationError(f"{node.place}: a contraction whose weights are not constant has no proved range")
    zero = node.attrs["zero"]
    P, N = reach(w, np.zeros(w.shape[0], np.int64), x[0][0] - zero, x[0][1] - zero)
    return -int(N.max(initial=0)), int(P.max(initial=0))


def _requant(node: Node, x: Sequence[Range], data: Mapping[Var, Array]) -> Range:
    return node.attrs["lo"], node.attrs["hi"]


def _lookup(node: Node, x: Sequence[Range], data: Mapping[Var, Array]) -> Range:
    return x[1]


RULES: dict[str, Callable[..., Range]] = {
    "add": lambda node, x, data: (x[0][0] + x[1][0], x[0][1] + x[1][1]),
    "subtract": lambda node, x, data: (x[0][0] - x[1][1], x[0][1] - x[1][0]),
    "multiply": lambda node, x, data: _hull(*(a * b for a in x[0] for b in x[1])),
    "concat": lambda node, x, data: _hull(*(v for r in x for v in r)),
    "pad": lambda node, x, data: _hull(*x[0], int(node.attrs["value"])),
    "argmax": lambda node, x, data: (0, node.operands[0].shape[node.attrs["axis"]] - 1),
    "argmin": lambda node, x, data: (0, node.operands[0].shape[node.attrs["axis"]] - 1),
    "sum": _sum, "window_sum2d": _sum, "qconv2d": _product_sum, "qmatmul": _product_sum, "requant": _requant,
    "lookup": _lookup,
}  # fmt: skip
