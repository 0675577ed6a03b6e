"""C of the int8 dot products: up to four positions by all result channels, for every instruction set, and plain.

Operands are runs of 16 bytes: position p reads ``blocks`` of them from each ``rows[r] + offset + p * step``; weights lie
as [channels / 4][runs * blocks][4][16], so that one layout serves all: 16 terms of one channel are one MVE or NEON
vector (``vmladava``, ``sdot``) and one AVX2 vector of int16 (``vpmaddwd``); of four channels one AVX-512 vector
(``vpdpbusd``). Sums are integers, so every order gives the same.

``vpdpbusd`` takes one side unsigned: q ^ 0x80 is q + 128, and 128 * sum(w) is taken off the bias beforehand.
"""

from __future__ import annotations

from collections.abc import Callable
from string import Template

_MVE, _VNNI, _AVX2, _NEON, _DSP = "SHOHIN_Q8_MVE", "SHOHIN_Q8_VNNI", "SHOHIN_Q8_AVX2", "SHOHIN_Q8_NEON", "SHOHIN_Q8_DSP"

MACROS = """\
/* int8 kernels: one meaning, written for the instructions that the compiler says the target has. */
#if defined(__ARM_FEATURE_MVE)
#include <arm_mve.h>
#define SHOHIN_Q8_MVE
#elif defined(__AVX512VNNI__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#include <immintrin.h>
#define SHOHIN_Q8_VNNI
#define SHOHIN_Q8_AVX2
#elif defined(__AVX2__)
#include <immintrin.h>
#define SHOHIN_Q8_AVX2
#elif defined(__ARM_FEATURE_DOTPROD) && defined(__aarch64__)
#include <arm_neon.h>
#define SHOHIN_Q8_NEON
#elif defined(__ARM_FEATURE_DSP) && defined(__ARM_FEATURE_SIMD32)
#include <arm_acle.h>
#define SHOHIN_Q8_DSP
#endif
#if defined(__GNUC__)
#define SHOHIN_Q8_COPY __builtin_memcpy /* with a constant size: no call, not even with -ffreestanding */
#else
#define SHOHIN_Q8_COPY memcpy
#endif
#define SHOHIN_Q8_BLOCK 64 /* channels of a pass */
#define SHOHIN_Q8_TILE 4 /* positions of a tile, at most */
"""

_HEAD = """\
static void shohin_q8_dot$n(const int8_t *const *rows, long offset, long runs, long blocks, long step, const int8_t *w,
                            const int32_t *bias, int32_t *acc, long groups) {
"""
_SIZE = "  const long size = runs * blocks * 64;\n"


def _function(positions: int, body: str) -> str:
    return Template(_HEAD).substitute(n=positions) + body + "}\n"


def _pairs(positions: int, inner: str) -> str:
    """Two channels at a time, sums in the core's registers; ``inner`` walks one run from ``x0`` ... and ``v``."""
    sums = [(p, c) for p in range(positions) for c in range(2)]
    declare = " ".join(f"int32_t c{p}{c} = bias[{c}];" for p, c in sums)
    stores = " ".join(f"acc[{p} * SHOHIN_Q8_BLOCK + {c}] = c{p}{c};" for p, c in sums)
    pointers = ", ".join(f"*x{p} = {'rows[r] + offset' if p == 0 else f'x{p - 1} + step'}" for p in range(positions))
    return _function(
        positions,
        f"""\
{_SIZE}  for (long g = 2 * groups, next = 32; g > 0; g--, w += next, next = size - next, bias += 2, acc += 2) {{
    const int8_t *v = w;
    {declare}
    long r = 0;
    do {{
      const int8_t {pointers};
      long k = blocks;
      do {{
        {inner}
      }} while (--k > 0);
    }} while (++r < runs);
    {stores}
  }}
""",
    )


def _mve(positions: int) -> str:
    each = range(positions)
    steps = [f"const int8x16_t w{c} = vldrbq_s8(v + {16 * c});" for c in range(2)] + ["v += 64; int8x16_t x;"]
    for p in each:
        steps.append(
            f"x = vldrbq_s8(x{p}); x{p} += 16; c{p}0 = vmladavaq_s8(c{p}0, x, w0); c{p}1 = vmladavaq_s8(c{p}1, x, w1);"
        )
    return _pairs(positions, "\n        ".join(steps))


def _dsp(positions: int) -> str:
    """Armv7E-M: four terms are two pairs of int16."""
    each = range(positions)
    steps = ["for (long i = 0; i < 16; i += 4, v += 4) {", "  uint32_t t;"]
    for p in each:
        steps.append(
            f"  __builtin_memcpy(&t, x{p}, 4); x{p} += 4; const int16x2_t a{p} = __sxtb16(t), b{p} = __sxtb16(__ror(t, 8));"
        )
    for c in range(2):
        use = " ".join(f"c{p}{c} = __smlad(b{p}, b, __smlad(a{p}, a, c{p}{c}));" for p in each)
        steps.append(
            f"  {{ __builtin_memcpy(&t, v + {16 * c}, 4); const int16x2_t a = __sxtb16(t), b = __sxtb16(__ror(t, 8)); {use} }}"
        )
    return _pairs(positions, "\n        ".join([*steps, "}", "v += 48;"]))


def _four(positions: int, *, vector: str, zero: str, weight: str, value: str, step: str, close: str) -> str:
    """Four channels by ``positions``, a vector of partial sums each; ``close`` adds up those of four channels."""
    declare = "\n    ".join(f"{vector} {', '.join(f'c{p}{c} = {zero}' for c in range(4))};" for p in range(positions))
    loads = " ".join(f"const {vector} x{p} = {value.format(at=f'x + {p} * step')};" for p in range(positions))
    loads = loads.replace(f"const {vector} x", "const SHOHIN_Q8_LANES x")
    steps = "\n        ".join(
        f"{{ const SHOHIN_Q8_LANES v = {weight.format(at=f'w + {16 * c}')}; "
        + " ".join(step.format(sum=f"c{p}{c}", x=f"x{p}") for p in range(positions))
        + " }"
        for c in range(4)
    )
    stores = "\n    ".join(
        close.format(*(f"c{p}{c}" for c in range(4)), at=f"acc + {p} * SHOHIN_Q8_BLOCK") for p in range(positions)
    )
    return _function(
        positions,
        f"""\
  for (long g = 0; g < groups; g++, bias += 4, acc += 4) {{
    {declare}
    for (long r = 0; r < runs; r++) {{
      const int8_t *x = rows[r] + offset;
      for (long k = 0; k < blocks; k++, w += 64, x += 16) {{
        {loads}
        {steps}
      }}
    }}
    {stores}
  }}
""",
    )


def _avx2(positions: int) -> str:
    wide = "_mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)({at})))"
    return _four(
        positions,
        vector="__m256i",
        zero="_mm256_setzero_si256()",
        weight=wide,
        value=wide,
        step="{sum} = _mm256_add_epi32({sum}, _mm256_madd_epi16({x}, v));",
        close="shohin_q8_close({0}, {1}, {2}, {3}, bias, {at});",
    )


_AVX2_CLOSE = """\
#define SHOHIN_Q8_LANES __m256i
static inline void shohin_q8_close(__m256i a, __m256i b, __m256i c, __m256i d, const int32_t *bias, int32_t *acc) {
  const __m256i t = _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
  const __m128i s = _mm_add_epi32(_mm256_castsi256_si128(t), _mm256_extracti128_si256(t, 1));
  _mm_storeu_si128((__m128i *)acc, _mm_add_epi32(s, _mm_loadu_si128((const __m128i *)bias)));
}
"""
_NEON_CLOSE = """\
#define SHOHIN_Q8_LANES int8x16_t
static inline void shohin_q8_close(int32x4_t a, int32x4_t b, int32x4_t c, int32x4_t d, const int32_t *bias, int32_t *acc) {
  vst1q_s32(acc, vaddq_s32(vpaddq_s32(vpaddq_s32(a, b), vpaddq_s32(c, d)), vld1q_s32(bias)));
}
"""


def _neon(positions: int) -> str:
    return _four(
        positions,
        vector="int32x4_t",
        zero="vdupq_n_s32(0)",
        weight="vld1q_s8({at})",
        value="vld1q_s8({at})",
        step="{sum} = vdotq_s32({sum}, {x}, v);",
        close="shohin_q8_close({0}, {1}, {2}, {3}, bias, {at});",
    )


_VNNI_CLOSE = """\
/* The sums of 16 channels: lane l of part j holds four partial sums of channel 4 j + l. */
static inline __m512i shohin_q8_close(__m512i a, __m512i b, __m512i c, __m512i d) {
  const __m512i s = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
  const __m512i t = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
  const __m512i u = _mm512_add_epi32(_mm512_unpacklo_epi64(s, t), _mm512_unpackhi_epi64(s, t));
  return _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), u);
}
/* bias - 128 * sum(w), for operands that come as q + 128. */
static void shohin_q8_shift(const int8_t *w, const int32_t *bias, int32_t *to, long size, long groups) {
  for (long g = 0; g < groups; g += 4) {
    __m512i c[4];
    for (long j = 0; j < 4; j++) {
      const int8_t *v = w + (g + j < groups ? g + j : groups - 1) * size;
      c[j] = _mm512_setzero_si512();
      for (long k = 0; k < size; k += 64) c[j] = _mm512_dpbusd_epi32(c[j], _mm512_set1_epi8(-128), _mm512_loadu_si512(v + k));
    }
    const __m512i sum = shohin_q8_close(c[0], c[1], c[2], c[3]);
    _mm512_storeu_si512(to + 4 * g, _mm512_sub_epi32(_mm512_loadu_si512(bias + 4 * g), sum));
  }
}
"""


def _vnni(positions: int) -> str:
    """16 channels a step; where fewer are left the last ones are computed twice and not stored by the caller."""
    each = range(positions)
    declare = "\n    ".join(
        f"__m512i {', '.join(f'c{p}{j} = _mm512_setzero_si512()' for j in range(4))};" for p in each
    )
    pointers = ", ".join(f"*w{j} = w + (g + {j} < groups ? g + {j} : groups - 1) * size" for j in range(4))
    loads = " ".join(f"const __m512i v{j} = _mm512_loadu_si512(w{j}); w{j} += 64;" for j in range(4))
    steps = "\n        ".join(
        f"u = _mm512_xor_si512(_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(x + {p} * step))), flip); "
        + " ".join(f"c{p}{j} = _mm512_dpbusd_epi32(c{p}{j}, u, v{j});" for j in range(4))
        for p in each
    )
    stores = "\n    ".join(
        f"_mm512_storeu_si512(acc + {p} * SHOHIN_Q8_BLOCK + 4 * g, "
        f"_mm512_add_epi32(shohin_q8_close(c{p}0, c{p}1, c{p}2, c{p}3), _mm512_loadu_si512(bias + 4 * g)));"
        for p in each
    )
    return _function(
        positions,
        f"""\
{_SIZE}  const __m512i flip = _mm512_set1_epi8(-128);
  for (long g = 0; g < groups; g += 4) {{
    const int8_t {pointers};
    {declare}
    for (long r = 0; r < runs; r++) {{
      const int8_t *x = rows[r] + offset;
      for (long k = 0; k < blocks; k++, x += 16) {{
        __m512i u;
        {loads}
        {steps}
      }}
    }}
    {stores}
  }}
""",
    )


_PLAIN = _function(
    1,
    """\
  (void)step;
  for (long g = 0; g < groups; g++, w += runs * blocks * 64)
  for (long c = 0; c < 4; c++) {
    int32_t sum = bias[4 * g + c];
    const int8_t *v = w + 16 * c;
    for (long r = 0; r < runs; r++) {
      const int8_t *x = rows[r] + offset;
      for (long k = 0; k < blocks; k++, x += 16, v += 64)
        for (long i = 0; i < 16; i++) sum += x[i] * v[i];
    }
    acc[4 * g + c] = sum;
  }
""",
)


def _sizes(make: Callable[[int], str], *positions: int) -> str:
    """The functions for so many positions, the largest first, and the choice between them."""
    tile = "".join(f"left >= {n} ? {n} : " for n in positions[:-1])
    cases = "".join(
        f"    case {n}: shohin_q8_dot{n}(rows, offset, runs, blocks, step, w, bias, acc, groups); break;\n"
        for n in positions[:-1]
    )
    return f"""{"".join(map(make, positions))}\
/* Positions of the next tile, of those left. */
static long shohin_q8_tile(long left) {{ return {tile}left > 0; }}
static void shohin_q8_dot(long n, const int8_t *const *rows, long offset, long runs, long blocks, long step,
                          const int8_t *w, const int32_t *bias, int32_t *acc, long groups) {{
  switch (n) {{
{cases}    default: shohin_q8_dot1(rows, offset, runs, blocks, step, w, bias, acc, groups);
  }}
}}
"""


DOTS = f"""\
#if defined({_MVE})
{_sizes(_mve, 3, 2, 1)}#elif defined({_VNNI})
{_VNNI_CLOSE}{_sizes(_vnni, 4, 2, 1)}#elif defined({_AVX2})
{_AVX2_CLOSE}{_sizes(_avx2, 3, 2, 1)}#elif defined({_NEON})
{_NEON_CLOSE}{_sizes(_neon, 4, 2, 1)}#elif defined({_DSP})
{_sizes(_dsp, 2, 1)}#else
{_sizes(lambda n: _PLAIN, 1)}#endif
"""
