"""AVX2: pairs of int16 products (``vpmaddwd``).

``vpmaddubsw`` has twice the products, and saturates: 255 * 127 * 2 is beyond int16. With |x| and w * sign(x) it is exact
(128 * 127 * 2 < 2^15), but then takes as many operations as this.
"""

from __future__ import annotations

import numpy as np

from shohin.kernels.instructions import x86
from shohin.kernels.instructions.record import Array, Bytes, Dot, Instruction, InstructionSet, Operand


def add_pairs(a: Array, b: Array) -> Array:
    return (a.astype(np.int64) * b.astype(np.int64)).reshape(-1, 2).sum(axis=1).astype(np.int32)


GUARD = "defined(__AVX2__)"
MADD = Instruction(
    name="dot2_i16", doc="eight lanes: two products of int16 added in int32 (vpmaddwd)",
    args=(("a", Operand("int16", 16, "__m256i")), ("b", Operand("int16", 16, "__m256i"))), result=Operand("int32", 8, "__m256i"),
    meaning=add_pairs, template="_mm256_madd_epi16({a}, {b})", guard=GUARD, header="immintrin.h",
)  # fmt: skip
WIDEN = Instruction(
    name="widen_i8", doc="sixteen int8 as int16 (vpmovsxbw)",
    args=(("a", Operand("int8", 16, "__m128i")),), result=Operand("int16", 16, "__m256i"),
    meaning=lambda a: a.astype(np.int16), template="_mm256_cvtepi8_epi16({a})", guard=GUARD, header="immintrin.h",
)  # fmt: skip

_LOAD = WIDEN.c("_mm_loadu_si128((const __m128i *)({at}))")
_CLOSE = """\
/* Four vectors of partial sums: each added up, and the bias. */
static inline void shohin_q8_close(__m256i a, __m256i b, __m256i c, __m256i d, const int32_t *bias, int32_t *acc) {
  const __m256i t = _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
  const __m128i s = _mm_add_epi32(_mm256_castsi256_si128(t), _mm256_extracti128_si256(t, 1));
  _mm_storeu_si128((__m128i *)acc, _mm_add_epi32(s, _mm_loadu_si128((const __m128i *)bias)));
}
"""
DOT = Dot(
    tile=4, positions=(3, 2, 1), sum="__m256i", start="_mm256_setzero_si256()",
    x="const __m256i {to} = _mm256_loadu_si256((const __m256i *)({at}));", w=f"const __m256i {{to}} = {_LOAD};",
    step=f"{{sum}} = _mm256_add_epi32({{sum}}, {MADD.c('{x}', '{w}')});",
    close="shohin_q8_close({0}, {1}, {2}, {3}, {bias}, {at});", helpers=_CLOSE,
    staged=("int16_t", f"_mm256_storeu_si256((__m256i *)({{to}}), {_LOAD});"),
)  # fmt: skip
REQUANT = """\
  const __m256 a = _mm256_set1_ps(lo), c = _mm256_set1_ps(hi);
  const __m256i z = _mm256_set1_epi32(l->z);
  for (long i = 0; i < n; i += 16) {
    __m256 v = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_loadu_si256((const __m256i *)(acc + i))), _mm256_loadu_ps(m + i));
    __m256 w = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_loadu_si256((const __m256i *)(acc + i + 8))), _mm256_loadu_ps(m + i + 8));
    v = _mm256_min_ps(_mm256_max_ps(v, a), c);
    w = _mm256_min_ps(_mm256_max_ps(w, a), c);
    const __m256i s = _mm256_packs_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(v), z), _mm256_add_epi32(_mm256_cvtps_epi32(w), z));
    const __m256i t = _mm256_permute4x64_epi64(s, 0xd8);
    const __m128i r = _mm_packs_epi16(_mm256_castsi256_si128(t), _mm256_extracti128_si256(t, 1));
    if (n - i >= 16) _mm_storeu_si128((__m128i *)(y + i), r);
    else memcpy(y + i, &r, (size_t)(n - i));
  }
"""
LARGER = Instruction(
    name="larger_i8", doc="the larger of each of sixteen int8 (vpmaxsb)", args=(("a", Operand("int8", 16, "__m128i")), ("b", Operand("int8", 16, "__m128i"))),
    result=Operand("int8", 16, "__m128i"), meaning=np.maximum, template="_mm_max_epi8({a}, {b})", guard=GUARD, header="immintrin.h",
)  # fmt: skip
BYTES = Bytes(
    type="__m128i", load="_mm_loadu_si128((const __m128i *)({at}))", store="_mm_storeu_si128((__m128i *)({at}), {value})", fill="_mm_set1_epi8({value})", larger=LARGER,
)  # fmt: skip
LOOKUP = "_mm_storeu_si128((__m128i *)to, _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)book), _mm_loadu_si128((const __m128i *)own)));"
PICK = """\
for (long h = 0; h < 16; h += 8) {
      const __m256i k = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(own + h)));
      const __m256 lo = _mm256_permutevar8x32_ps(_mm256_loadu_ps(book), k), hi = _mm256_permutevar8x32_ps(_mm256_loadu_ps(book + 8), k);
      _mm256_storeu_ps(to + h, _mm256_blendv_ps(lo, hi, _mm256_castsi256_ps(_mm256_slli_epi32(k, 28))));
    }"""

SET = InstructionSet(
    name="AVX2", doc="x86-64-v3", rank=40, guard=GUARD, header="immintrin.h", mcpu="x86_64_v3", features=frozenset({"avx2"}),
    instructions=(MADD, WIDEN, LARGER), dot=DOT, requant=REQUANT,
    bytes=BYTES,
    taps={n: x86.taps(n, 16) for n in (3, 2, 1)}, lookup=LOOKUP, pick=PICK,
)  # fmt: skip
