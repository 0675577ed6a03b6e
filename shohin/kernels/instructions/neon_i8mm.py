"""aarch64 NEON with ``smmla``: two positions by two channels, eight products each; all else is ``neon``'s."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from shohin.kernels.instructions import neon
from shohin.kernels.instructions.record import Array, Dot, Instruction


def _product(acc: Array, a: Array, b: Array) -> Array:
    """acc (2, 2) + a (2, 8) b^T (8, 2)."""
    product = a.reshape(2, 8).astype(np.int64) @ b.reshape(2, 8).astype(np.int64).T
    return (acc.reshape(2, 2) + product).astype(np.int32).reshape(-1)


GUARD = "defined(__aarch64__) && defined(__ARM_FEATURE_MATMUL_INT8)"
SMMLA = Instruction(
    name="product_2x8x2", doc="int32 (2, 2) plus the product of int8 (2, 8) and (8, 2) (smmla)", args=(("acc", neon.INT32), ("a", neon.INT8), ("b", neon.INT8)),
    result=neon.INT32, meaning=_product, template="vmmlaq_s32({acc}, {a}, {b})", guard=GUARD, header="arm_neon.h",
)  # fmt: skip
_LOAD = (
    "const int64x2_t {{to}}p = vreinterpretq_s64_s8(vld1q_s8({{at}})), {{to}}q = vreinterpretq_s64_s8(vld1q_s8({0})); "
    "const int8x16_t {{to}}a = vreinterpretq_s8_s64(vzip1q_s64({{to}}p, {{to}}q)), {{to}}b = vreinterpretq_s8_s64(vzip2q_s64({{to}}p, {{to}}q));"
)
_CLOSE = """\
/* Of two positions the sums of two channels side by side. */
static inline void shohin_q8_close(int32x4_t a, int32x4_t b, const int32_t *bias, int32_t *acc, int32_t *next) {
  const int32x4_t add = vld1q_s32(bias);
  const int64x2_t c = vreinterpretq_s64_s32(a), d = vreinterpretq_s64_s32(b);
  vst1q_s32(next, vaddq_s32(vreinterpretq_s32_s64(vzip2q_s64(c, d)), add));
  vst1q_s32(acc, vaddq_s32(vreinterpretq_s32_s64(vzip1q_s64(c, d)), add));
}
"""
SET = replace(
    neon.SET, name="NEON_I8MM", doc="aarch64 with smmla", rank=50, guard=GUARD, mcpu="generic+dotprod+i8mm", features=frozenset({"asimddp", "i8mm"}), instructions=(SMMLA,),
    dot=Dot(
        tile=4, rows=2, channels=2, positions=(4, 2, 1), sum="int32x4_t", start="vdupq_n_s32(0)", x=_LOAD.format("{next}"), w=_LOAD.format("{at} + 16"),
        step=f"{{sum}} = {SMMLA.c(SMMLA.c('{sum}', '{x}a', '{w}a'), '{x}b', '{w}b')};",
        close="shohin_q8_close({0}, {1}, {bias}, {at}, {next});", helpers=_CLOSE,
    ),
)  # fmt: skip
