"""Products and quotients of two activations (Q12 m, n): a sum of products in int32, or one IEEE division an element."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from shohin.compress import definitions as d
from shohin.compress import extents
from shohin.compress.operators.facts import Array, bounded, f32, real
from shohin.compress.steps import Definition, Site, Whole
from shohin.compress.walk import Walk, rule
from shohin.core import interp
from shohin.core.graph import Node
from shohin.core.tensor import Tensor
from shohin.ops import math

MOST_TERMS = 2**31 // (255 * 255)


@rule("Q12 product")
def product(w: Walk, node: Node) -> None:
    bounded(w, node, "the number of terms", extents.terms(extents.solved(node)), MOST_TERMS)
    w.whole(node, Product(), {k: w.value(v) for k, v in enumerate(node.operands)}, {})


@rule("Q12 quotient")
def quotient(w: Walk, node: Node) -> None:
    w.whole(node, Quotient(), {k: w.value(v) for k, v in enumerate(node.operands)}, {})


class Product(Definition):
    """``acc = sum (a - z_a)(b - z_b)``; ``q' = Q3(acc, (s_a s_b)/s_y) + z``."""

    def tables(self, step: Whole, x: Sequence[Any], y: Sequence[Any]) -> dict[str, Array]:
        return {"M": d.multiplier((f32(x[0].s) * f32(x[1].s)) / f32(y[0].s), d.WIDE)}

    def integers(self, step: Whole, site: Site) -> Sequence[Tensor]:
        return [site.close(interp.bind(step.op, [site.centred(0), site.centred(1)], step.attrs)[0], site.c["M"])]

    def reference(self, step: Whole, q: Sequence[Array], c: Mapping[str, Array], x: Sequence[Any], y: Sequence[Any]) -> Sequence[Array]:
        a, b = (np.asarray(t, np.float64) - g.z for t, g in zip(q, x, strict=True))
        return [d.requant(step.op.numpy(a, b, **step.attrs), c["M"], y[0].z, int(c["lo"]), int(c["hi"]))]


class Quotient(Definition):
    """``K = ((s_a/s_b)/s_y) / float32(b - z_b)``, 0 where b is z_b; ``q' = Q3(a - z_a, K) + z``."""

    def tables(self, step: Whole, x: Sequence[Any], y: Sequence[Any]) -> dict[str, Array]:
        return {"r": d.multiplier((f32(x[0].s) / f32(x[1].s)) / f32(y[0].s), d.WIDE)}

    def integers(self, step: Whole, site: Site) -> Sequence[Tensor]:
        a, b = site.centred(0), site.centred(1)
        none = math.equal(b, 0)
        K = math.where(none, 0.0, site.c["r"] / real(math.where(none, 1, b)))
        return [site.close(a, K)]

    def reference(self, step: Whole, q: Sequence[Array], c: Mapping[str, Array], x: Sequence[Any], y: Sequence[Any]) -> Sequence[Array]:
        a, b = (np.asarray(t, np.int32) - g.z for t, g in zip(q, x, strict=True))
        K = np.where(b == 0, f32(0), f32(c["r"]) / np.where(b == 0, 1, b).astype(f32)).astype(f32)
        return [d.requant(a, K, y[0].z, int(c["lo"]), int(c["hi"]))]
