"""Softmax of int8 or int16 (Q12 b): a table or an interpolated exponential, an int32 sum, one division a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from shohin.compress import definitions as d
from shohin.compress.operators.facts import Array, bounded, config, f32, real, rows
from shohin.compress.steps import Definition, Site, Whole
from shohin.compress.walk import Walk, rule
from shohin.core.graph import Node
from shohin.core.tensor import Tensor
from shohin.ops import fixed, math, quant, reduce

LONGEST = 65536


@rule("Q12 softmax")
def softmax(w: Walk, node: Node) -> None:
    x = node.operands[0]
    axis = config(node)["axis"] % len(x.shape)
    bounded(w, node, "a row", x.shape[axis], LONGEST)
    source = w.gridded(x)
    if w.values[source].bits == 32:
        source = w.value(x)
    w.fixed[node.place] = (2.0**-8, -128, 8)
    w.whole(node, Softmax(), {0: source}, {"axis": axis, "bits": w.values[source].bits})


class Softmax(Definition):
    """``e = E[max - q]`` of int8, ``L(X, Q3(max - q, s_x 2^14, 0, 2^18-1), 9)`` of int16; ``q' = Q3(e, (1/s_y) / sum e) + z``."""

    def tables(self, step: Whole, x: Sequence[Any], y: Sequence[Any]) -> dict[str, Array]:
        found: dict[str, Array] = {"r": np.asarray(f32(1) / f32(y[0].s))}
        if step.facts["bits"] == 8:
            e = d.rhe(32767 * np.exp(-np.float64(x[0].s) * np.arange(256)))
            return {**found, "E": e.astype(np.uint16)}
        return {**found, "M": d.multiplier(f32(x[0].s) * f32(2.0**14), d.WIDE)}

    def integers(self, step: Whole, site: Site) -> Sequence[Tensor]:
        q, c, axis = math.astype(site.q(0), np.int32), site.c, (step.facts["axis"],)
        away = reduce.max(q, axis=axis, keepdims=True) - q
        if "E" in c:
            e = math.astype(quant.lookup(away, c["E"]), np.int32)
        else:
            e = fixed.exp(quant.requant(away, c["M"], lo=0, hi=fixed.LIMIT, dtype=np.int32))
        return [site.close(e, c["r"] / real(rows(e, axis)))]

    def reference(self, step: Whole, q: Sequence[Array], c: Mapping[str, Array], x: Sequence[Any], y: Sequence[Any]) -> Sequence[Array]:
        v, axis = q[0].astype(np.int64), step.facts["axis"]
        away = v.max(axis, keepdims=True) - v
        e = c["E"][away].astype(np.int64) if "E" in c else exponential(away, c["M"])
        total = e.sum(axis, keepdims=True)
        return [d.requant(e, f32(c["r"]) / total.astype(f32), y[0].z, int(c["lo"]), int(c["hi"]))]


def exponential(away: Array, M: Array) -> Array:
    """32767 exp(-away M 2^-14), interpolated."""
    a = d.requant(away, M, 0, 0, 2**18 - 1).astype(np.int64)
    i, f, t = a >> 9, a & 511, fixed.EXP.astype(np.int64)
    return (t[i] * (512 - f) + t[i + 1] * f + 256) >> 9
