"""Arm MVE (Helium), Armv8.1-M: 16 products added to a sum in a core register (``vmladava``)."""

from __future__ import annotations

import numpy as np

from shohin.kernels.instructions.record import Bytes, Dot, Instruction, InstructionSet, Operand, dot_products

GUARD = "defined(__ARM_FEATURE_MVE)"
_INT, _Q8, _Q16 = Operand("int32", 1, "int32_t"), Operand("int8", 16, "int8x16_t"), Operand("int16", 8, "int16x8_t")


def _products(half: int) -> Instruction:
    """Products of every other lane, as int16: two of them still fit, 2 * 128 * 127 < 2^15."""
    name = "bt"[half]
    return Instruction(
        name=f"product_{'even' if name == 'b' else 'odd'}", doc=f"eight products of {'odd' if half else 'even'} int8 lanes as int16 (vmull{name})",
        args=(("a", _Q8), ("b", _Q8)), result=_Q16, meaning=lambda a, b: a[half::2].astype(np.int16) * b[half::2],
        template=f"vmull{name}q_int_s8({{a}}, {{b}})", guard=GUARD, header="arm_mve.h",
    )  # fmt: skip



DOT16 = Instruction(
    name="dot16", doc="sixteen int8 products added to one int32 (vmladava)", args=(("acc", _INT), ("a", _Q8), ("b", _Q8)), result=_INT,
    meaning=dot_products, template="vmladavaq_s8({acc}, {a}, {b})", guard=GUARD, header="arm_mve.h",
)  # fmt: skip
EVEN, ODD = _products(0), _products(1)
LARGER = Instruction(
    name="larger_i8", doc="the larger of each of sixteen int8 (vmax)", args=(("a", _Q8), ("b", _Q8)), result=_Q8, meaning=np.maximum,
    template="vmaxq_s8({a}, {b})", guard=GUARD, header="arm_mve.h",
)  # fmt: skip
_REQUANT = """\
  /* Conversion and narrowing saturate, and bounds are integers: the same as a clip before the rounding. Every fourth lane
     together, so that two narrowings into even and odd lanes leave the order as it was. The eight registers are full: what
     is read from ``l`` inside the loop is not kept in one. */
  (void)lo; (void)hi;
  for (; n > 0; n -= 16, acc += 16, m += 16, y += 16) {
    const int32x4x4_t a = vld4q_s32(acc);
    const float32x4x4_t k = vld4q_f32(m);
#define SHOHIN_Q8_CLOSE(i) vcvtnq_s32_f32(vmulq_f32(vcvtq_f32_s32(a.val[i]), k.val[i]))
    int16x8_t even = vqmovnbq_s32(vuninitializedq_s16(), SHOHIN_Q8_CLOSE(0)), odd = vqmovnbq_s32(vuninitializedq_s16(), SHOHIN_Q8_CLOSE(1));
    even = vqaddq_n_s16(vqmovntq_s32(even, SHOHIN_Q8_CLOSE(2)), (int16_t)l->z);
    odd = vqaddq_n_s16(vqmovntq_s32(odd, SHOHIN_Q8_CLOSE(3)), (int16_t)l->z);
#undef SHOHIN_Q8_CLOSE
    const int8x16_t r = vqmovntq_s16(vqmovnbq_s16(vuninitializedq_s8(), even), odd);
    vstrbq_p_s8(y, vminq_s8(vmaxq_s8(r, vdupq_n_s8((int8_t)l->lo)), vdupq_n_s8((int8_t)l->hi)), vctp8q((uint32_t)n));
  }
"""
_TAPS = f"""\
static void shohin_q8_taps1(const int8_t *const *taps, long count, long offset, long step, const int8_t *w, long ld,
                            const int32_t *bias, int32_t *acc, long n) {{
  (void)step;
  for (long c = 0; c < n; c += 16) {{
    const long at = offset + c;
    const int8_t *v = w + c;
    int32x4x4_t s = vld4q_s32(bias + c);
    for (long t = 0; t < count; t += 2, v += 2 * ld) {{
      const int8x16_t x = vldrbq_s8(taps[t] + at), k = vldrbq_s8(v);
      int16x8_t even = {EVEN.c("x", "k")}, odd = {ODD.c("x", "k")};
      __asm__ volatile("" : "+w"(even), "+w"(odd) : : "memory"); /* there are eight registers: x and k are done with before y comes */
      const int8x16_t y = vldrbq_s8(taps[t + 1] + at);
      even = vaddq_s16(even, {EVEN.c("y", "vldrbq_s8(v + ld)")});
      s.val[0] = vaddq_s32(s.val[0], vmovlbq_s16(even)); s.val[2] = vaddq_s32(s.val[2], vmovltq_s16(even));
      __asm__ volatile("" : "+w"(odd) : : "memory"); /* the weights are read again */
      odd = vaddq_s16(odd, {ODD.c("y", "vldrbq_s8(v + ld)")});
      s.val[1] = vaddq_s32(s.val[1], vmovlbq_s16(odd)); s.val[3] = vaddq_s32(s.val[3], vmovltq_s16(odd));
    }}
    vst4q_s32(acc + c, s);
  }}
}}
"""
SET = InstructionSet(
    name="MVE", doc="Armv8.1-M with MVE", rank=10, guard=GUARD, header="arm_mve.h", mcpu="cortex_m55+mve_fp", features=frozenset(), instructions=(DOT16, EVEN, ODD, LARGER),
    dot=Dot(
        tile=2, positions=(3, 2, 1), sum="int32_t", start="{bias}", x="const int8x16_t {to} = vldrbq_s8({at});",
        w="const int8x16_t {to} = vldrbq_s8({at});", step=f"{{sum}} = {DOT16.c('{sum}', '{x}', '{w}')};", close="({at})[0] = {0}; ({at})[1] = {1};",
    ),
    bytes=Bytes(type="int8x16_t", load="vldrbq_s8({at})", store="vstrbq_s8({at}, {value})", fill="vdupq_n_s8({value})", larger=LARGER),
    requant=_REQUANT, requant_guard="(__ARM_FEATURE_MVE & 2)", taps={1: _TAPS}, copy="vstrbq_s8({to}, vldrbq_s8({at}))",
    lookup="vstrbq_s8(to, vldrbq_gather_offset_s8(book, vldrbq_u8(own)));",
)  # fmt: skip
