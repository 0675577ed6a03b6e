"""aarch64 NEON with ``sdot``: four products of int8 added to each of four int32."""

from __future__ import annotations

import numpy as np

from shohin.kernels.instructions.record import Bytes, Dot, Instruction, InstructionSet, Operand, dot_products

GUARD = "defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD)"
INT8, INT32 = Operand("int8", 16, "int8x16_t"), Operand("int32", 4, "int32x4_t")
SDOT = Instruction(
    name="dot4_s8s8", doc="four lanes: four products of int8 added to an int32 (sdot)", args=(("acc", INT32), ("a", INT8), ("b", INT8)), result=INT32,
    meaning=dot_products, template="vdotq_s32({acc}, {a}, {b})", guard=GUARD, header="arm_neon.h",
)  # fmt: skip
LARGER = Instruction(
    name="larger_i8", doc="the larger of each of sixteen int8 (smax)", args=(("a", INT8), ("b", INT8)), result=INT8, meaning=np.maximum,
    template="vmaxq_s8({a}, {b})", guard=GUARD, header="arm_neon.h",
)  # fmt: skip
REQUANT = """\
  const float32x4_t a = vdupq_n_f32(lo), c = vdupq_n_f32(hi);
  const int32x4_t z = vdupq_n_s32(l->z);
#define SHOHIN_Q8_CLOSE(i) vaddq_s32(z, vcvtnq_s32_f32(vminq_f32(vmaxq_f32(vmulq_f32( \\
  vcvtq_f32_s32(vld1q_s32(acc + (i))), vld1q_f32(m + (i))), a), c)))
  for (long i = 0; i < n; i += 16) {
    const int16x8_t s = vcombine_s16(vmovn_s32(SHOHIN_Q8_CLOSE(i)), vmovn_s32(SHOHIN_Q8_CLOSE(i + 4)));
    const int16x8_t t = vcombine_s16(vmovn_s32(SHOHIN_Q8_CLOSE(i + 8)), vmovn_s32(SHOHIN_Q8_CLOSE(i + 12)));
    const int8x16_t r = vcombine_s8(vmovn_s16(s), vmovn_s16(t));
    if (n - i >= 16) vst1q_s8(y + i, r);
    else memcpy(y + i, &r, (size_t)(n - i));
  }
#undef SHOHIN_Q8_CLOSE
"""
_TAPS = """\
static void shohin_q8_taps1(const int8_t *const *taps, long count, long offset, long step, const int8_t *w, long ld,
                            const int32_t *bias, int32_t *acc, long n) {
  (void)step;
  for (long c = 0; c < n; c += 16) {
    const int8_t *v = w + c;
    int32x4_t s0 = vld1q_s32(bias + c), s1 = vld1q_s32(bias + c + 4), s2 = vld1q_s32(bias + c + 8), s3 = vld1q_s32(bias + c + 12);
    for (long t = 0; t < count; t += 2, v += 2 * ld) {
      const int8x16_t x = vld1q_s8(taps[t] + offset + c), y = vld1q_s8(taps[t + 1] + offset + c), k = vld1q_s8(v), h = vld1q_s8(v + ld);
      const int16x8_t a = vmlal_s8(vmull_s8(vget_low_s8(x), vget_low_s8(k)), vget_low_s8(y), vget_low_s8(h));
      const int16x8_t b = vmlal_s8(vmull_s8(vget_high_s8(x), vget_high_s8(k)), vget_high_s8(y), vget_high_s8(h));
      s0 = vaddw_s16(s0, vget_low_s16(a)); s1 = vaddw_s16(s1, vget_high_s16(a));
      s2 = vaddw_s16(s2, vget_low_s16(b)); s3 = vaddw_s16(s3, vget_high_s16(b));
    }
    vst1q_s32(acc + c, s0); vst1q_s32(acc + c + 4, s1); vst1q_s32(acc + c + 8, s2); vst1q_s32(acc + c + 12, s3);
  }
}
"""
_CLOSE = """\
static inline void shohin_q8_close(int32x4_t a, int32x4_t b, int32x4_t c, int32x4_t d, const int32_t *bias, int32_t *acc) {
  vst1q_s32(acc, vaddq_s32(vpaddq_s32(vpaddq_s32(a, b), vpaddq_s32(c, d)), vld1q_s32(bias)));
}
"""
SET = InstructionSet(
    name="NEON_DOT", doc="aarch64 with sdot", rank=60, guard=GUARD, header="arm_neon.h", mcpu="generic+dotprod", features=frozenset({"asimddp"}), instructions=(SDOT, LARGER),
    dot=Dot(
        tile=4, positions=(4, 2, 1), sum="int32x4_t", start="vdupq_n_s32(0)", x="const int8x16_t {to} = vld1q_s8({at});",
        w="const int8x16_t {to} = vld1q_s8({at});", step=f"{{sum}} = {SDOT.c('{sum}', '{x}', '{w}')};",
        close="shohin_q8_close({0}, {1}, {2}, {3}, {bias}, {at});", helpers=_CLOSE,
    ),
    bytes=Bytes(type="int8x16_t", load="vld1q_s8({at})", store="vst1q_s8({at}, {value})", fill="vdupq_n_s8({value})", larger=LARGER),
    requant=REQUANT, taps={1: _TAPS}, lookup="vst1q_s8(to, vqtbl1q_s8(vld1q_s8(book), vld1q_u8(own)));",
)  # fmt: skip
