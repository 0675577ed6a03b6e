"""Bilinear resize of int8 (Q12 i): separable, weights of 11 bits, x first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from shohin.compress import definitions as d
from shohin.compress.operators.facts import Array, config, f32
from shohin.compress.steps import Definition, Site, Whole
from shohin.compress.walk import Walk, rule
from shohin.core.graph import Node
from shohin.core.tensor import Tensor
from shohin.nn.bilinear import positions
from shohin.ops import index, move, quant

ONE, BETWEEN = 2048, 4080


@rule("Q12 bilinear resize")
def bilinear(w: Walk, node: Node) -> None:
    given, shape = config(node), node.operands[0].shape
    axes = {axis: (shape[axis], given["size"][axis - 1], given["align_corners"]) for axis in (2, 1)}
    w.whole(node, Bilinear(), {0: w.value(node.operands[0])}, {"axes": axes})


class Bilinear(Definition):
    """``t = Q3((2048-w)(q0-z_x) + w(q1-z_x), 2^-7, 4080)`` along a row, ``q' = Q3((2048-w) t0 + w t1, (s_x/s_y) 2^-15) + z``."""

    def tables(self, step: Whole, x: Sequence[Any], y: Sequence[Any]) -> dict[str, Array]:
        found: dict[str, Array] = {"M": d.multiplier((f32(x[0].s) / f32(y[0].s)) * f32(2.0**-15), d.WIDE)}
        for axis, (n, size, corners) in step.facts["axes"].items():
            source = positions(n, size, corners)
            first = np.floor(source).astype(np.int32)
            w = np.rint(ONE * (source - first)).astype(np.int32)
            first, w = first + (w == ONE), np.where(w == ONE, 0, w)
            found |= {f"i{axis}": first.astype(np.int32), f"w{axis}": w.astype(np.int32)}
        return found

    def integers(self, step: Whole, site: Site) -> Sequence[Tensor]:
        t = quant.requant(self._mixed(step, site, site.centred(0), 2), f32(2.0**-7), lo=-BETWEEN, hi=BETWEEN, dtype=np.int32)
        return [site.close(self._mixed(step, site, t, 1), site.c["M"])]

    def _mixed(self, step: Whole, site: Site, v: Tensor, axis: int) -> Tensor:
        first, n = site.c[f"i{axis}"], step.facts["axes"][axis][0]
        w = move.reshape(site.c[f"w{axis}"], (-1, *(1,) * (3 - axis)))
        after = index.take(v, (first + 1).clip(0, n - 1), axis=axis)
        return index.take(v, first, axis=axis) * (ONE - w) + after * w

    def reference(self, step: Whole, q: Sequence[Array], c: Mapping[str, Array], x: Sequence[Any], y: Sequence[Any]) -> Sequence[Array]:
        v = q[0].astype(np.int64) - x[0].z
        for axis in (2, 1):
            i, w = c[f"i{axis}"], c[f"w{axis}"].astype(np.int64).reshape(-1, *(1,) * (3 - axis))
            acc = (ONE - w) * v.take(i, axis) + w * v.take(np.minimum(i + 1, v.shape[axis] - 1), axis)
            if axis == 2:
                v = d.requant(acc, f32(2.0**-7), 0, -BETWEEN, BETWEEN).astype(np.int64)
        return [d.requant(acc, c["M"], y[0].z, int(c["lo"]), int(c["hi"]))]
