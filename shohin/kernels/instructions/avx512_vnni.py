"""AVX-512 with VNNI: ``vpdpbusd`` on 512 bits, 16 terms of four channels at a time."""

from __future__ import annotations

from dataclasses import replace

from shohin.kernels.instructions import avx2, x86
from shohin.kernels.instructions.record import Dot, Instruction, InstructionSet, Operand, dot_products

GUARD = "defined(__AVX512VNNI__) && defined(__AVX512BW__) && defined(__AVX512VL__)"
DOT4 = Instruction(
    name="dot4_u8s8", doc="sixteen lanes: four products of unsigned by signed bytes added to an int32 (vpdpbusd)",
    args=(("acc", Operand("int32", 16, "__m512i")), ("a", Operand("uint8", 64, "__m512i")), ("b", Operand("int8", 64, "__m512i"))),
    result=Operand("int32", 16, "__m512i"), meaning=dot_products, template="_mm512_dpbusd_epi32({acc}, {a}, {b})",
    guard=GUARD, header="immintrin.h",
)  # fmt: skip
DOT4_256, DOT4_128 = (
    replace(
        DOT4, name=f"dot4_u8s8_{bits}_evex", doc=f"{lanes} lanes of the same",
        args=(("acc", Operand("int32", lanes, c)), ("a", Operand("uint8", 4 * lanes, c)), ("b", Operand("int8", 4 * lanes, c))),
        result=Operand("int32", lanes, c), template=f"{mm}_dpbusd_epi32({{acc}}, {{a}}, {{b}})",
    )
    for bits, lanes, c, mm in ((256, 8, "__m256i", "_mm256"), (128, 4, "__m128i", "_mm"))
)  # fmt: skip
MADD = Instruction(
    name="dot2_i16_512", doc="sixteen lanes: two products of int16 added in int32 (vpmaddwd)",
    args=(("a", Operand("int16", 32, "__m512i")), ("b", Operand("int16", 32, "__m512i"))), result=Operand("int32", 16, "__m512i"),
    meaning=avx2.add_pairs, template="_mm512_madd_epi16({a}, {b})", guard=GUARD, header="immintrin.h",
)  # fmt: skip
_CLOSE = """\
/* The sums of 16 channels: lane l of part j holds four partial sums of channel 4 j + l. */
static inline void shohin_q8_close(__m512i a, __m512i b, __m512i c, __m512i d, const int32_t *bias, int32_t *acc) {
  const __m512i s = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
  const __m512i t = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
  const __m512i u = _mm512_add_epi32(_mm512_unpacklo_epi64(s, t), _mm512_unpackhi_epi64(s, t));
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  _mm512_storeu_si512(acc, _mm512_add_epi32(_mm512_permutexvar_epi32(order, u), _mm512_loadu_si512(bias)));
}
"""
_REQUANT = """\
  const __m512 a = _mm512_set1_ps(lo), c = _mm512_set1_ps(hi);
  const __m512i z = _mm512_set1_epi32(l->z);
#define SHOHIN_Q8_CLOSE(i) _mm512_add_epi32(z, _mm512_cvtps_epi32(_mm512_min_ps(_mm512_max_ps(_mm512_mul_ps( \\
  _mm512_cvtepi32_ps(_mm512_loadu_si512(acc + (i))), _mm512_loadu_ps(m + (i))), a), c)))
  long i = 0;
  for (; i + 64 <= n; i += 64) {
    const __m512i s = _mm512_packs_epi32(SHOHIN_Q8_CLOSE(i), SHOHIN_Q8_CLOSE(i + 16));
    const __m512i t = _mm512_packs_epi32(SHOHIN_Q8_CLOSE(i + 32), SHOHIN_Q8_CLOSE(i + 48));
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    _mm512_storeu_si512(y + i, _mm512_permutexvar_epi32(order, _mm512_packs_epi16(s, t)));
  }
  for (; i < n; i += 16) {
    const __mmask16 some = n - i < 16 ? (__mmask16)((1u << (n - i)) - 1) : (__mmask16)0xffff;
    _mm512_mask_cvtepi32_storeu_epi8(y + i, some, SHOHIN_Q8_CLOSE(i));
  }
#undef SHOHIN_Q8_CLOSE
"""
SET = InstructionSet(
    name="AVX512_VNNI", doc="x86-64-v4 with 8-bit dot products", rank=20, guard=GUARD, header="immintrin.h", mcpu="x86_64_v4+avx512vnni",
    features=frozenset("avx512f avx512bw avx512cd avx512dq avx512vl avx512_vnni".split()), level="vnni", instructions=(DOT4, DOT4_256, DOT4_128, MADD, avx2.MADD),
    dot=Dot(
        tile=16, channels=4, positions=(4, 2, 1), sum="__m512i", start="_mm512_setzero_si512()",
        x="const __m512i {to} = _mm512_xor_si512(_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)({at}))), _mm512_set1_epi8(-128));",
        w="const __m512i {to} = _mm512_loadu_si512({at});", step=f"{{sum}} = {DOT4.c('{sum}', '{x}', '{w}')};",
        close="shohin_q8_close({0}, {1}, {2}, {3}, {bias}, {at});", helpers=_CLOSE, unsigned=True, zero="_mm512_set1_epi8(-128)",
    ),
    bytes=avx2.BYTES, requant=_REQUANT, taps={n: x86.taps(n, 32, 16) for n in (4, 2, 1)}, lookup=avx2.LOOKUP,
    pick="_mm512_storeu_ps(to, _mm512_permutexvar_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)own)), _mm512_loadu_ps(book)));",
)  # fmt: skip
