"""AVX-VNNI: ``vpdpbusd`` on 256 bits, for processors without AVX-512; all else is AVX2's."""

from __future__ import annotations

from dataclasses import replace

from shohin.kernels.instructions import avx2
from shohin.kernels.instructions.record import Dot, Instruction, Operand, dot_products

GUARD = "defined(__AVXVNNI__) && defined(__AVX2__)"
DOT4 = Instruction(
    name="dot4_u8s8_256", doc="eight lanes: four products of unsigned by signed bytes added to an int32 (vpdpbusd)",
    args=(("acc", Operand("int32", 8, "__m256i")), ("a", Operand("uint8", 32, "__m256i")), ("b", Operand("int8", 32, "__m256i"))),
    result=Operand("int32", 8, "__m256i"), meaning=dot_products, template="_mm256_dpbusd_avx_epi32({acc}, {a}, {b})",
    guard=GUARD, header="immintrin.h",
)  # fmt: skip
_CLOSE = """\
/* Two channels a vector, four partial sums each. */
static inline void shohin_q8_close(__m256i a, __m256i b, const int32_t *bias, int32_t *acc) {
  const __m256i t = _mm256_hadd_epi32(a, b), u = _mm256_hadd_epi32(t, t);
  const __m128i s = _mm_unpacklo_epi32(_mm256_castsi256_si128(u), _mm256_extracti128_si256(u, 1));
  _mm_storeu_si128((__m128i *)acc, _mm_add_epi32(s, _mm_loadu_si128((const __m128i *)bias)));
}
"""
SET = replace(
    avx2.SET, name="AVX_VNNI", doc="x86-64-v3 with 8-bit dot products", rank=30, guard=GUARD, mcpu="x86_64_v3+avxvnni",
    features=frozenset({"avx2", "avx_vnni"}), level="avxvnni", instructions=(DOT4, avx2.MADD),
    dot=Dot(
        tile=4, channels=2, positions=(4, 2, 1), sum="__m256i", start="_mm256_setzero_si256()",
        x="const __m256i {to} = _mm256_xor_si256(_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)({at}))), _mm256_set1_epi8(-128));",
        w="const __m256i {to} = _mm256_loadu_si256((const __m256i *)({at}));", step=f"{{sum}} = {DOT4.c('{sum}', '{x}', '{w}')};",
        close="shohin_q8_close({0}, {1}, {bias}, {at});", helpers=_CLOSE, unsigned=True, zero="_mm256_set1_epi8(-128)",
    ),
)  # fmt: skip
