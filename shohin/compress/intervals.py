"""Interval analysis of an integer graph: the range of every value, proved from the actual weights, or an error (Q5).

Ranges are those of single numbers (not of their relations), exact Python integers; a sum's range holds for every
partial sum in every order, so that no intermediate of a kernel overflows either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from shohin.compress.definitions import reach
from shohin.compress.extents import fill, solved, terms
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
        if isinstance(node.attrs.get("body"), Graph):
            _turns(node, data, found, place)
            continue
        for v in node.results:
            if v.dtype in dtypes.INTEGER:
                found[v] = _range(node, found, data, place)
                info = np.iinfo(v.dtype)
                if not (info.min <= found[v][0] and found[v][1] <= info.max):
                    raise QuantizationError(
                        f"{place}: {node.op.name} may give {found[v][0]} to {found[v][1]}, which {v.dtype.name} does "
                        "not hold; split the layer or narrow its input"
                    )


def _turns(node: Node, data: Mapping[Var, Array], found: Ranges, place: str) -> None:
    """A scan: the carry's range is one that a turn of the body keeps."""
    body: Graph = node.attrs["body"]
    k, carry = node.attrs["consts"], node.attrs["carry"]
    passed = {b: data[v] for b, v in zip(body.inputs[:k], node.operands, strict=False) if v in data}
    ranges = [found.get(v) for v in node.operands]
    for _ in range(2):
        _visit(body, ranges, passed, found, place)
        made = [found.get(v) for v in body.outputs]
        joined = [_join(a, b) for a, b in zip(ranges[k : k + carry], made, strict=False)]
        if joined == ranges[k : k + carry]:
            found.update((v, r) for v, r in zip(node.results, made, strict=True) if r is not None)
            return
        ranges[k : k + carry] = joined
    raise QuantizationError(f"{place}: what {node.op.name} carries has no proved range; close it with a clip at every turn")


def _join(a: Range | None, b: Range | None) -> Range | None:
    return None if a is None or b is None else (min(a[0], b[0]), max(a[1], b[1]))


def _range(node: Node, found: Ranges, data: Mapping[Var, Array], place: str) -> Range:
    op, x = node.op, [found.get(v, (0, 0)) for v in node.operands]
    if op.quant.interval is not None:
        return op.quant.interval(x, node.attrs)
    if op.combiner == "fma" and len(x) == 2:
        return _products(node, x, data.get(node.operands[1]))
    if op.combiner == "add" and len(x) == 1:  # fewer terms at the edges: zero is always among the partial sums
        n = terms(solved(node))
        return min(n * x[0][0], 0), max(n * x[0][1], 0)
    if op.nest == "arg":
        return 0, terms(solved(node)) - 1
    if op.quant.kind == "share" and x:
        name = fill(op)
        return x[0] if name is None else (min(x[0][0], int(node.attrs[name])), max(x[0][1], int(node.attrs[name])))
    raise QuantizationError(f"{place}: the range of {op.name} is not known; an integer graph does not use it")


def _products(node: Node, ranges: Sequence[Range], w: Array | None) -> Range:
    x, zero = ranges[0], node.attrs.get("zero")
    if w is None or zero is None:  # of two activations
        found = [a * b for a in x for b in ranges[1]]
        n = terms(solved(node))
        return min(n * min(found), 0), max(n * max(found), 0)
    P, N = reach(w, np.zeros(w.shape[0], np.int64), x[0] - zero, x[1] - zero)
    return -int(N.max(initial=0)), int(P.max(initial=0))
