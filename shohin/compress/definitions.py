"""The definitions of ``docs/quantization.md`` as NumPy: every operation float32, in the order written, each rounded.

These functions *are* the quantized network: ``freeze`` computes its constants with them, the reference and C read what
they gave. Source: ``docs/quantization.md`` (Q1, Q2, Q3, Q5, Q7, Q8); grids as Jacob et al. 2018 (arXiv:1712.05877).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from shohin.core.errors import QuantizationError
from shohin.ops.quant import clip

Array = np.ndarray[Any, Any]
f32 = np.float32
LEAST, MOST = f32(2.0**-40), f32(2.0**40)
EXACT_FLOAT, EXACT_INT = 2**24, 2**31
WIDE = 2.0**20
LIMIT_BIAS = f32(2.0**60)
BIAS = {8: 2.0**22, 16: 2.0**29}
"""By bits of a contraction's input: how large its q_b may become."""
GAIN = {8: 2.0**10, 16: WIDE}
"""By bits of a result: the largest multiplier."""
SUMS, MOST_TERMS = 49151, 2**15


def rhe(v: Any) -> Any:
    """Round half to even."""
    return np.rint(v)


# -------------------------------------------------------------------------------------------------- Q1, grids


LIMITS = {8: (-128, 127), 16: (-32767, 32767), 32: (1 - 2**22, 2**22 - 1)}
"""By bits: the integers of a grid (Q1; Q12 a, h)."""


@dataclass(frozen=True)
class Grid:
    """Integers of ``bits`` with q = x / s + z."""

    s: Any
    z: int
    bits: int = 8

    @property
    def limits(self) -> tuple[int, int]:
        return LIMITS[self.bits]

    @property
    def dtype(self) -> Any:
        return np.dtype(f"int{self.bits}")


def grid(mn: Any, mx: Any, place: str = "", bits: int = 8) -> Grid:
    """The grid of values in [mn, mx], zero included: Q1 (8 bits), or Q13 (16 bits, symmetric)."""
    if not (np.isfinite(mn) and np.isfinite(mx)):
        raise QuantizationError(
            f"{place or 'a value'} is not finite at calibration (min {mn}, max {mx}); look for NaN or inf in the "
            "calibration set or the weights"
        )
    with np.errstate(over="ignore"):
        mn, mx = min(f32(mn), f32(0)), max(f32(mx), f32(0))
        if bits == 16:
            return Grid(f32(clip(f32(max(-mn, mx) / f32(32767)), LEAST, MOST)), 0, 16)
        s = f32(clip(f32((mx - mn) / f32(255)), LEAST, MOST))
        z = int(clip(rhe(f32(-128) - f32(mn / s)), f32(-128), f32(127)))
    return Grid(s, z)


def power_grid(top: Any, bits: int, place: str = "") -> Grid:
    """Q12 (g, h): a scale that is a power of two, for values up to ``top``: 2^-14 (int16) or 2^-22 (int32) times
    2^max(0, ceil(log2(top)))."""
    if not np.isfinite(top):
        raise QuantizationError(f"{place} is not finite at calibration; look for NaN or inf in the calibration set or the weights")
    mantissa, exponent = np.frexp(f32(top))
    k = max(0, int(exponent) - (mantissa == 0.5))
    return Grid(f32(2.0 ** (k - {16: 14, 32: 22}[bits])), 0, bits)


def quantize(x: Any, g: Grid) -> Array:
    """Q1, the host's side of an input: a division; NaN gives the least integer, inf saturates."""
    lo, hi = g.limits
    with np.errstate(all="ignore"):
        v = clip(np.asarray(x, f32) / g.s, f32(lo - g.z), f32(hi - g.z))
    return (rhe(v).astype(np.int32) + g.z).astype(g.dtype)


def dequantize(q: Any, g: Grid) -> Array:
    """Q7, float output: ``float32(q - z) * s``."""
    return (np.asarray(q, np.int32) - g.z).astype(f32) * g.s


# ------------------------------------------------------------------------------- Q2, constants of a contraction


@dataclass(frozen=True)
class Own:
    """What a layer has of its own in Q2, an output channel: ``step`` instead of max|w| / top, ``shift`` added to b_eff; ``share``
    neighbouring channels have one max|w|, those of a codebook, whose integers are then the same for all of them."""

    step: Any = None
    shift: Any = None
    share: int = 1


OWN = Own()


@dataclass(frozen=True)
class Constants:
    """Of one contraction: ``q_w`` as w, the others one an output channel; ``widened``: s_w grew to hold the bias."""

    q_w: Array
    q_b: Array
    M: Array
    s_w: Array
    k: Array
    widened: Array


def gain(k: Any) -> Array:
    """|k| clipped to [2^-40, 2^40], sign kept, zero positive."""
    k = np.asarray(k, f32)
    return np.where(k < 0, -clip(-k, LEAST, MOST), clip(k, LEAST, MOST)).astype(f32)


def multiplier(M: Any, most: float = 2.0**10) -> Array:
    """``|M| > 2^10 -> +-2^10``, ``|M| < 2^-40 -> 0``: no output changes; no inf, NaN or subnormal is left. ``WIDE`` in Q12."""
    M = np.asarray(M, f32)
    return np.where(np.abs(M) < LEAST, f32(0), clip(M, f32(-most), f32(most))).astype(f32)


def fold(b: Any, norm: Sequence[Any] | None, channels: int) -> tuple[Array, Array]:
    """(k, b_eff); ``norm`` is (gamma, beta, mean, var, eps) or None, b may be None."""
    bias = np.zeros(channels, f32) if b is None else np.asarray(b, f32)
    if norm is None:
        return np.ones(channels, f32), bias
    gamma, beta, mean, var, eps = (np.asarray(v, f32) for v in norm)
    with np.errstate(all="ignore"):
        k = gain(gamma / np.sqrt(var + eps)) * np.ones(channels, f32)
        return k, ((bias - mean) * k + beta).astype(f32)


def most(bits: int) -> int:
    """The largest integer of a weight: 127, 7, 3, 1 for 8, 4, 3, 2 bits."""
    return 2 ** (bits - 1) - 1


def room(size: Any, top: Any, terms: int) -> Any:
    """Q13: the least s_w for which 32767 times the sum of |q_w| leaves an int32 room for q_b. ``size`` is the sum of
    ``rhe(256 |w| / max|w|)``, an integer in any order, ``top`` is max|w|; of arrays and tensors alike."""
    return top * ((size + terms / 2) / 256) / (SUMS - terms / 2)


def together(largest: Array, share: int) -> Array:
    """The largest of each ``share`` neighbours, for each of them.

    >>> together(np.float32([1, 3, 2]), 2).tolist()
    [3.0, 3.0, 2.0]
    """
    if share == 1 or not largest.size:
        return largest
    return np.repeat(np.maximum.reduceat(largest, np.arange(0, largest.size, share)), share)[: largest.size]


def contraction(w: Any, b: Any, norm: Sequence[Any] | None, s_x: Any, s_y: Any, place: str = "", bits: int = 8,
                own: Own = OWN, widths: tuple[int, int] = (8, 8)) -> Constants:  # fmt: skip
    """Q2, and Q13 where ``widths`` (bits of x and y) has a 16. w (out, ...), b (out,) or None. An error where it cannot hold:
    it names the place and the channel."""
    top_q = f32(most(bits))
    w = np.asarray(w, f32)
    out = w.shape[0]
    rows = w.reshape(out, -1)
    s_x, s_y = f32(s_x), f32(s_y)
    k, b_eff = fold(b, norm, out)
    with np.errstate(all="ignore"):
        b_eff = b_eff if own.shift is None else b_eff + np.asarray(own.shift, f32)
        largest = np.abs(rows).max(1, initial=0)
        top = together(largest, own.share) / top_q
        finite = np.isfinite(rows).all(1) & np.isfinite(b_eff) & np.isfinite(k)
        _refuse(~finite, place, "weights, bias or batch-norm values are not finite")
        _refuse(np.abs(b_eff) >= LIMIT_BIAS, place, "the bias is 2^60 or more")
        _refuse(top > MOST, place, f"the weights are above {most(bits)} * 2^40")
        top = top if own.step is None else np.asarray(own.step, f32)
        need = np.abs(b_eff) / ((s_x * np.abs(k)) * f32(BIAS[widths[0]]))
        if widths[0] == 16:
            _refuse(np.full(out, rows.shape[1] > MOST_TERMS), place, f"sums of more than {MOST_TERMS} products of int16 values")
            parts = rhe(clip(np.abs(rows) / (largest / f32(256))[:, None], f32(0), f32(256))).sum(1, dtype=f32)
            need = np.maximum(need, room(parts, largest, rows.shape[1]))
        s_w = np.maximum(np.maximum(top, need), LEAST)
        wide = s_w.reshape(-1, *(1,) * (w.ndim - 1))
        q_w = rhe(clip(w / wide, -top_q, top_q)).astype(np.int8)
        t = (s_x * s_w) * k
        M = multiplier(t / s_y, GAIN[widths[1]])
        q_b = rhe(b_eff / t).astype(np.int32)
    return Constants(q_w, q_b, M, s_w, k, need > np.maximum(top, LEAST))


def _refuse(bad: Array, place: str, what: str) -> None:
    if bad.any():
        raise QuantizationError(f"{place}: {what} (output channel {int(np.argmax(bad))})")


# ---------------------------------------------------------------------------------------------- Q3, requantization


def requant(acc: Any, M: Any, z: int, lo: int = -128, hi: int = 127) -> Array:
    """Q3: ``int(rhe(clip(float32(acc) * M, lo - z, hi - z))) + z``."""
    value = clip(np.asarray(acc).astype(f32) * np.asarray(M, f32), f32(lo - z), f32(hi - z))
    return rhe(value).astype(np.int32) + z


def bounds(clamp: tuple[float, float] | None, g: Grid) -> tuple[int, int]:
    """lo, hi of a clamp-like activation [a, b] on the grid; relu gives (z, 127)."""
    low, high = g.limits
    if clamp is None:
        return low, high

    def at(v: float) -> int:
        return g.z + int(rhe(clip(f32(v) / g.s, f32(low - g.z), f32(high - g.z))))

    with np.errstate(all="ignore"):
        return at(clamp[0]), at(clamp[1])


# ------------------------------------------------------------------------------------------------- Q5, range proof


def reach(q_w: Array, q_b: Array, low: int, high: int) -> tuple[Array, Array]:
    """(P, N) an output channel, for q - z in [low, high]: every partial sum, in any order, lies in [-N, P]."""
    rows = q_w.reshape(q_w.shape[0], -1).astype(np.int64)
    a, b, bias = rows * low, rows * high, q_b.astype(np.int64)
    P = np.maximum(np.maximum(a, b), 0).sum(1) + np.maximum(bias, 0)
    N = np.maximum(np.maximum(-a, -b), 0).sum(1) + np.maximum(-bias, 0)
    return P, N


def prove(q_w: Array, q_b: Array, low: int, high: int, place: str) -> int:
    """Q5: the largest of P and N, or an error when an int32 could not hold the sums."""
    P, N = reach(q_w, q_b, low, high)
    sums = np.maximum(P, N)
    if int(sums.max(initial=0)) >= EXACT_INT:
        k = int(sums.argmax())
        raise QuantizationError(
            f"{place}: sums of output channel {k} may reach {int(sums[k])}, an int32 holds 2^31 - 1; "
            f"{q_w[0].size} products are too many: split the layer or prune it"
        )
    return int(sums.max(initial=0))


# --------------------------------------------------------------------------------------------------- Q7, the others


def add_constants(scales: Sequence[Any], signs: Sequence[int], s_y: Any, bits: int = 8) -> tuple[Array, Array]:
    """(m, M) of a sum of 2 to 4 values: ``m_i = rhe((s_i / s_max) * 2^14)``, negative for a subtrahend."""
    s = np.asarray(scales, f32)
    top = s.max()
    m = rhe((s / top) * f32(2.0**14)).astype(np.int32) * np.asarray(signs, np.int32)
    with np.errstate(all="ignore"):
        return m, multiplier((top * f32(2.0**-14)) / f32(s_y), GAIN[bits])


def mul_multiplier(s_a: Any, s_b: Any, s_y: Any, bits: int = 8) -> Array:
    """Q7, product: ``M = (s_a * s_b) / s_y``."""
    with np.errstate(all="ignore"):
        return multiplier((f32(s_a) * f32(s_b)) / f32(s_y), GAIN[bits])


def pool_multiplier(s_x: Any, s_y: Any, n: Any, bits: int = 8) -> Array:
    """Q7, average pool: ``M_n = s_x / (s_y * float32(n))`` for every divisor in ``n``."""
    with np.errstate(all="ignore"):
        return multiplier(f32(s_x) / (f32(s_y) * np.asarray(n, f32)), GAIN[bits])


def regrid_multiplier(s_x: Any, s_y: Any) -> Array:
    """Q12 (a): ``M = s_x / s_y`` from one width to another."""
    with np.errstate(all="ignore"):
        return multiplier(f32(s_x) / f32(s_y), WIDE)


def concat_multiplier(s_i: Any, s_y: Any, bits: int = 8) -> Array:
    """Q7, concat: ``M_i = s_i / s_y``; an equal grid gives 1."""
    with np.errstate(all="ignore"):
        return multiplier(f32(s_i) / f32(s_y), GAIN[bits])


# --------------------------------------------------------------------------------------------------------- Q8, tables


def table(f: Callable[[Array], Array], x: Grid, y: Grid) -> Array:
    """Q8: 256 int8, for q = -128 ... 127, all in float64 from the float32 scales."""
    q = np.arange(-128, 128)
    with np.errstate(all="ignore"):
        value = np.asarray(f(np.float64(x.s) * (q - x.z)), np.float64)
        value = clip(value / np.float64(y.s), np.float64(-128 - y.z), np.float64(127 - y.z))
    return (rhe(value).astype(np.int32) + y.z).astype(np.int8)


def by_code(values: Array) -> Array:
    """A table for q = -128 ... 127 in the order of ``(uint8) q``, as it is stored (it vectorizes)."""
    return np.roll(values, 128)
