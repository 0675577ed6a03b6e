"""Attention of int8 as one operator (Q12 d): neither scores nor probabilities have a grid, so that none is calibrated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Any

import numpy as np

from shohin.compress import definitions as d
from shohin.compress.operators.facts import Array, bounded, config, f32, parameter, positions, real, rows
from shohin.compress.operators.softmax import LONGEST, exponential
from shohin.compress.steps import Definition, Site, Whole
from shohin.compress.walk import Walk, rule
from shohin.core.graph import Node
from shohin.core.tensor import Tensor, as_tensor
from shohin.ops import fixed, math, quant, reduce
from shohin.ops.linear import matmul

WIDEST, NOWHERE = 16384, -(2**30)


@rule("Q12 attention")
def attention(w: Walk, node: Node) -> None:
    q, k = node.operands[0].shape, node.operands[1].shape
    bounded(w, node, "the size of a head", q[-1], WIDEST)
    given, at = config(node), positions(node)
    most = given.get("max_keys") or k[-2]
    bounded(w, node, "the number of keys", most, LONGEST)
    if k[-2] > most:
        raise w.refuse(node, f"there are {k[-2]} keys, max_keys says at most {most}")
    if 3 in at:
        parameter(w, node, at[3], "mask")
    scale = given.get("scale")
    facts = {"causal": bool(given["causal"]), "scale": 1 / sqrt(q[-1]) if scale is None else scale, "mask": at.get(3), "keys": most}
    w.whole(node, Attention(), {i: w.operand(node, node.operands[i]) for i in range(3)}, facts)


class Attention(Definition):
    """``acc = sum (q - z_q)(k - z_k)``, ``e = L(X, Q3(max - acc, M_s, 0, 2^18-1), 9)`` rounded to 15 - sh bits, 0 where a query
    may not look; ``q' = Q3(sum e (v - z_v), (s_v/s_y) / sum e) + z``; ``M_s = ((s_q s_k) scale) 2^14``."""

    def tables(self, step: Whole, x: Sequence[Any], y: Sequence[Any]) -> dict[str, Array]:
        far = max(127 - x[2].z, 128 + x[2].z)
        sh = next(k for k in range(16) if ((32767 >> k) + 1) * step.facts["keys"] * far < 2**31)
        M = ((f32(x[0].s) * f32(x[1].s)) * f32(step.facts["scale"])) * f32(2.0**14)
        return {"M": d.multiplier(M, d.WIDE), "r": np.asarray(f32(x[2].s) / f32(y[0].s)), "sh": np.asarray(sh, np.int32), "half": np.asarray((1 << sh) >> 1, np.int32)}

    def fold(self, step: Whole, params: Mapping[int, Tensor], x: Sequence[Any], y: Sequence[Any]) -> dict[str, Tensor]:
        return {} if step.facts["mask"] is None else {"mask": params[step.facts["mask"]]}

    def integers(self, step: Whole, site: Site) -> Sequence[Tensor]:
        q, k, v = (site.centred(i) for i in range(3))
        c, acc = site.c, matmul(q, k, transpose_b=True)
        allowed = _allowed(step, acc.shape, c.get("mask"))
        seen = acc if allowed is None else math.where(as_tensor(allowed), acc, NOWHERE)
        away = reduce.max(seen, axis=-1, keepdims=True) - acc
        e = fixed.exp(quant.requant(away, c["M"], lo=0, hi=fixed.LIMIT, dtype=np.int32))
        e = (e + c["half"]) >> c["sh"]
        if allowed is not None:
            e = math.where(as_tensor(allowed), e, 0)
        D = rows(e, (-1,))
        K = math.where(math.equal(D, 0), 0.0, c["r"] / real(math.maximum(D, 1)))
        return [site.close(matmul(e, v), K)]

    def reference(self, step: Whole, q: Sequence[Array], c: Mapping[str, Array], x: Sequence[Any], y: Sequence[Any]) -> Sequence[Array]:
        a, b, v = (np.asarray(t, np.float64) - g.z for t, g in zip(q, x, strict=True))
        acc = np.matmul(a, np.swapaxes(b, -1, -2)).astype(np.int64)
        allowed = _allowed(step, acc.shape, c.get("mask"))
        allowed = np.broadcast_to(True if allowed is None else allowed, acc.shape)
        top = np.max(acc, axis=-1, keepdims=True, where=allowed, initial=NOWHERE)
        sh = int(c["sh"])
        e = np.where(allowed, (exponential(top - acc, c["M"]) + ((1 << sh) >> 1)) >> sh, 0)
        D = e.sum(-1, keepdims=True)
        K = np.where(D == 0, f32(0), f32(c["r"]) / np.maximum(D, 1).astype(f32)).astype(f32)
        A = np.matmul(e.astype(np.float64), v).astype(np.int64)
        return [d.requant(A, K, y[0].z, int(c["lo"]), int(c["hi"]))]


def _allowed(step: Whole, shape: Sequence[int], mask: Any) -> Any:
    """Where a query may look: the mask and, if causal, keys up to i + s - t; None: everywhere."""
    if not step.facts["causal"]:
        return mask
    rows, keys = shape[-2:]
    triangle = np.tril(np.ones((rows, keys), bool), keys - rows)
    return triangle if mask is None else mask & (as_tensor(triangle) if isinstance(mask, Tensor) else triangle)
