"""The natural logarithm of an input of int32 (Q12 j): mel energies as a front end in fixed point gives them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log
from typing import Any

import numpy as np

from shohin.compress import definitions as d
from shohin.compress.operators.facts import Array, f32
from shohin.compress.steps import Definition, Site, Whole
from shohin.compress.walk import Walk, rule
from shohin.core.graph import Node
from shohin.core.tensor import Tensor
from shohin.ops import fixed


@rule("Q12 log")
def logarithm(w: Walk, node: Node) -> None:
    w.whole(node, Logarithm(), {0: w.ids[node.operands[0]]}, {})


class Logarithm(Definition):
    """``U = ((bits >> 23) - 127) 2^15 + L(G, (bits & 0x7fffff) >> 5, 9)`` of the bits of ``float32(max(x, 1))``; ``q = Q3(U, (ln 2
    2^-15)/s_y) + z``. The scale of x is 1: another one is a constant that is added behind."""

    smooth = False

    def tables(self, step: Whole, x: Sequence[Any], y: Sequence[Any]) -> dict[str, Array]:
        return {"M": d.multiplier(f32(log(2) * 2.0**-15) / f32(y[0].s), d.WIDE)}

    def integers(self, step: Whole, site: Site) -> Sequence[Tensor]:
        return [site.close(fixed.log2(site.q(0)), site.c["M"])]

    def reference(self, step: Whole, q: Sequence[Array], c: Mapping[str, Array], x: Sequence[Any], y: Sequence[Any]) -> Sequence[Array]:
        v = np.maximum(q[0], 1).astype(f32)
        fraction, exponent = np.frexp(v)  # v = fraction 2^exponent, fraction in [1/2, 1)
        a = ((fraction.astype(np.float64) * 2 - 1) * 2.0**18).astype(np.int64)
        i, f, t = a >> 9, a & 511, fixed.LOG.astype(np.int64)
        U = (exponent.astype(np.int64) - 1) * 32768 + ((t[i] * (512 - f) + t[i + 1] * f + 256) >> 9)
        return [d.requant(U, c["M"], y[0].z, int(c["lo"]), int(c["hi"]))]
