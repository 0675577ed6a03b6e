"""Layer, instance, group and RMS norm, and L2 normalization, of int8 (Q12 c): exact int32 sums, one division and one square root a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from shohin.compress import definitions as d
from shohin.compress.operators.facts import Array, bounded, config, f32, parameter, positions, real, rows, total
from shohin.compress.steps import Definition, Site, Whole
from shohin.compress.walk import Walk, rule
from shohin.core.graph import Node
from shohin.core.tensor import Tensor, as_tensor
from shohin.ops import math, move, quant

LONGEST = 32768
GAIN, SHIFT, SUM = 2.0**40, 2.0**20, 2**21


@rule("Q12 layer norm")
def layer_norm(w: Walk, node: Node) -> None:
    shape, dims = node.operands[0].shape, config(node)["dims"]
    _norm(w, node, Centred(), shape, range(len(shape) - dims, len(shape)), shape[len(shape) - dims :])


@rule("Q12 group norm")
def group_norm(w: Walk, node: Node) -> None:
    shape, groups = node.operands[0].shape, config(node)["groups"]
    last = (groups, shape[-1] // groups)
    _norm(w, node, Centred(), (shape[0], prod(shape[1:-1]), *last), (1, 3), last)


@rule("Q12 rms norm")
def rms_norm(w: Walk, node: Node) -> None:
    shape, dims = node.operands[0].shape, config(node)["dims"]
    _norm(w, node, RootMeanSquare(), shape, range(len(shape) - dims, len(shape)), shape[len(shape) - dims :])


@rule("Q12 l2 norm")
def l2_norm(w: Walk, node: Node) -> None:
    shape = node.operands[0].shape
    w.fixed[node.place] = (2.0**-7, 0, 8)
    _norm(w, node, Length(), shape, (config(node)["axis"] % len(shape),), ())


def _norm(w: Walk, node: Node, definition: Definition, view: Sequence[int], axis: Sequence[int], last: Sequence[int]) -> None:
    """``view`` is the shape under which a row lies along the dims ``axis``, ``last`` that of gain and bias, its last dims."""
    n = bounded(w, node, "a row", prod(view[k] for k in axis), LONGEST)
    at = positions(node)
    for argument, name in ((1, "gain"), (2, "bias")):
        if argument in at:
            parameter(w, node, at[argument], name)
    facts = {"view": tuple(view), "axis": tuple(axis), "last": tuple(last), "n": n, "eps": config(node)["eps"], "gain": at.get(1), "bias": at.get(2)}
    w.whole(node, definition, {0: w.value(node.operands[0])}, facts)


class _Affine(Definition):
    """``u = int(rhe(clip((float32(c) K) Gm, -2^21, 2^21)))``, ``q' = Q3(u + b, 2^-8) + z``: c and K are the norm's own."""

    def tables(self, step: Whole, x: Sequence[Any], y: Sequence[Any]) -> dict[str, Array]:
        s = f32(x[0].s)
        return {"eps": np.asarray(d.clip(f32(step.facts["eps"]) / (s * s), f32(2.0**-100), f32(2.0**100)), f32)}

    def fold(self, step: Whole, params: Mapping[int, Tensor], x: Sequence[Any], y: Sequence[Any]) -> dict[str, Tensor]:
        def of(name: str, default: float) -> Tensor:
            k = step.facts[name]
            return as_tensor(f32(default)) if k is None else move.reshape(params[k], step.facts["last"])

        gain = (of("gain", 1) / y[0].s) * 256.0
        bias = quant.requantize(of("bias", 0) / y[0].s, 256.0, -SHIFT, SHIFT)
        return {"G": math.where(math.abs(gain) < 1 / GAIN, 0.0, math.clip(gain, -GAIN, GAIN)), "b": math.astype(bias, np.int32)}

    def integers(self, step: Whole, site: Site) -> Sequence[Tensor]:
        c, K = self.scaled(step, site)
        u = quant.requant(real(c) * K, site.c["G"], lo=-SUM, hi=SUM, dtype=np.int32)
        return [move.reshape(site.close(u + site.c["b"], f32(2.0**-8)), site.q(0).shape)]

    def scaled(self, step: Whole, site: Site) -> tuple[Tensor, Tensor]:
        """(c, K), viewed as rows."""
        raise NotImplementedError(f"{type(self).__name__}.scaled")

    def reference(self, step: Whole, q: Sequence[Array], c: Mapping[str, Array], x: Sequence[Any], y: Sequence[Any]) -> Sequence[Array]:
        v = q[0].astype(np.int64).reshape(step.facts["view"])
        a, K = self.rows(v, step, c, x[0].z)
        with np.errstate(over="ignore"):
            u = d.rhe(d.clip((a.astype(f32) * K) * c["G"], f32(-SUM), f32(SUM))).astype(np.int64) + c["b"]
        return [d.requant(u, f32(2.0**-8), y[0].z, int(c["lo"]), int(c["hi"])).reshape(q[0].shape)]

    def rows(self, v: Array, step: Whole, c: Mapping[str, Array], z: int) -> tuple[Array, Array]:
        """(c, K) in NumPy."""
        raise NotImplementedError(f"{type(self).__name__}.rows")


class Centred(_Affine):
    """``T = sum q; m = rhe(T/n); o = T - n m; r = q - m; A = sum r r; v = A - o o / n; K = 1/(n sqrt(v/n + eps_q)); c = n r - o``."""

    def scaled(self, step: Whole, site: Site) -> tuple[Tensor, Tensor]:
        axis, n = step.facts["axis"], step.facts["n"]
        q = move.reshape(math.astype(site.q(0), np.int32), step.facts["view"])
        T = rows(q, axis)
        m = quant.requant(real(T) / float(n), f32(1), lo=-128, hi=127, dtype=np.int32)
        o, r = T - m * n, q - m
        v = real(rows(r * r, axis)) - real(o) * real(o) / float(n)
        return r * n - o, 1.0 / (math.sqrt(v / float(n) + site.c["eps"]) * float(n))

    def rows(self, v: Array, step: Whole, c: Mapping[str, Array], z: int) -> tuple[Array, Array]:
        axis, n = step.facts["axis"], step.facts["n"]
        T = total(v, axis)
        m = d.rhe(T.astype(f32) / f32(n)).astype(np.int64)
        o, r = T - n * m, v - m
        rest = total(r * r, axis).astype(f32) - (o * o).astype(f32) / f32(n)
        return n * r - o, f32(1) / (f32(n) * np.sqrt(rest / f32(n) + c["eps"]))


class RootMeanSquare(_Affine):
    """``c = q - z; A = sum c c; K = 1/sqrt(A/n + eps_q)``."""

    def scaled(self, step: Whole, site: Site) -> tuple[Tensor, Tensor]:
        c = move.reshape(site.centred(0), step.facts["view"])
        return c, 1.0 / math.sqrt(real(rows(c * c, step.facts["axis"])) / float(step.facts["n"]) + site.c["eps"])

    def rows(self, v: Array, step: Whole, c: Mapping[str, Array], z: int) -> tuple[Array, Array]:
        r = v - z
        return r, f32(1) / np.sqrt(total(r * r, step.facts["axis"]).astype(f32) / f32(step.facts["n"]) + c["eps"])


class Length(Definition):
    """``K = 128 / max(sqrt(A), clip(eps/s_x, 2^-60, 2^60))``, ``q' = Q3(q - z_x, K) + z`` on the grid 2^-7, 0."""

    def tables(self, step: Whole, x: Sequence[Any], y: Sequence[Any]) -> dict[str, Array]:
        return {"eps": np.asarray(d.clip(f32(step.facts["eps"]) / f32(x[0].s), f32(2.0**-60), f32(2.0**60)), f32)}

    def integers(self, step: Whole, site: Site) -> Sequence[Tensor]:
        c = site.centred(0)
        return [site.close(c, 128.0 / math.maximum(math.sqrt(real(rows(c * c, step.facts["axis"]))), site.c["eps"]))]

    def reference(self, step: Whole, q: Sequence[Array], c: Mapping[str, Array], x: Sequence[Any], y: Sequence[Any]) -> Sequence[Array]:
        v = q[0].astype(np.int64) - x[0].z
        K = f32(128) / np.maximum(np.sqrt(total(v * v, step.facts["axis"]).astype(f32)), c["eps"])
        return [d.requant(v, K, y[0].z, int(c["lo"]), int(c["hi"]))]
