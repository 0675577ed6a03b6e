/* network for host, written by Shohin: network_run is the network.
 * Input: i8[1,6], value (q - 15) * 0.01626291126012802
 * Output: i8[1,3], value (q - 32) * 0.004827420227229595
 * Arena: 1,504 bytes, aligned to 16.
 *
 * layer        kernel       constants  result
 * 0/qmatmul#0  qmatmul_dot        256  i8[1,8] at 1,488
 * 2/qmatmul#0  qmatmul_dot        192  i8[1,3] output
 */
#include "network.h"
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#if defined(__clang__)
#pragma clang diagnostic ignored "-Wpass-failed"
#pragma clang diagnostic ignored "-Wunused-function"
#define SH_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#define SH_UNROLL _Pragma("clang loop unroll(full)")
#elif defined(__GNUC__)
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wpsabi"
#define SH_INDEPENDENT _Pragma("GCC ivdep")
#define SH_UNROLL _Pragma("GCC unroll 16")
#else
#include <math.h>
#define SH_INDEPENDENT
#define SH_UNROLL
#define __builtin_fmaf fmaf
#define __builtin_fma fma
#define __builtin_sqrtf sqrtf
#define __builtin_sqrt sqrt
#define __builtin_rintf rintf
#define __builtin_rint rint
#define __builtin_floorf floorf
#define __builtin_floor floor
#define __builtin_ceilf ceilf
#define __builtin_ceil ceil
#define __builtin_truncf truncf
#define __builtin_trunc trunc
#define __builtin_copysignf copysignf
#define __builtin_copysign copysign
#define __builtin_inff() INFINITY
#define __builtin_inf() ((double)INFINITY)
#define __builtin_nanf(x) NAN
#define __builtin_nan(x) ((double)NAN)
#endif
#if defined(__GNUC__) && (defined(__AVX2__) || defined(__ARM_NEON)) /* a call in a loop would keep it from vectors */
#define SH_INLINE static inline __attribute__((always_inline))
#else
#define SH_INLINE static inline
#endif

#if defined(__x86_64__) || defined(__aarch64__)
#define SH_ALIGN 64
#else
#define SH_ALIGN 16
#endif

#define network_ARENA_BYTES 1504
#ifndef network_STEP /* what is done before each step and at the end: define it to read a clock or a cycle counter */
#define network_STEP(number, place) ((void)0)
#endif

/* 0: weights, packed, i8[128] */
static const _Alignas(SH_ALIGN) int8_t network_c5[] = {
-27, 102, 63, 28, 127, -37, 0, 0, 0, 0, 0, 0,
0, 0, 0, 0, 51, -122, -127, -48, -95, -60, 0, 0,
0, 0, 0, 0, 0, 0, 0, 0, 84, -25, 31, -21,
127, 57, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
119, 112, -13, -127, 46, -39, 0, 0, 0, 0, 0, 0,
0, 0, 0, 0, 58, 84, 90, -127, 43, -125, 0, 0,
0, 0, 0, 0, 0, 0, 0, 0, 63, -14, -72, 37,
127, 99, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
25, -94, 127, -112, 97, 90, 0, 0, 0, 0, 0, 0,
0, 0, 0, 0, -91, 78, 35, -127, 117, 89, 0, 0,
0, 0, 0, 0, 0, 0, 0, 0};
/* 0: bias with the zero point's term, i32[16] */
static const _Alignas(SH_ALIGN) int32_t network_c6[] = {
-1431, 1978, -10273, 6029, -2778, -2028, -3672, 2089, 0, 0, 0, 0,
0, 0, 0, 0};
/* 0: multipliers, f32[16] */
static const _Alignas(SH_ALIGN) float network_c7[] = {
0.0068363673f, 0.006956659f, 0.006290533f, 0.0068365037f, 0.0067382674f, 0.006380057f, 0.0064736195f, 0.0066901967f, 0.0f, 0.0f, 0.0f, 0.0f,
0.0f, 0.0f, 0.0f, 0.0f};
/* 2: weights, packed, i8[64] */
static const _Alignas(SH_ALIGN) int8_t network_c12[] = {
-122, -121, 5, -113, 35, 101, 55, -127, 0, 0, 0, 0,
0, 0, 0, 0, 24, -28, 127, 92, -24, -116, -10, 8,
0, 0, 0, 0, 0, 0, 0, 0, -104, 1, 12, -87,
34, -72, -127, 27, 0, 0, 0, 0, 0, 0, 0, 0,
0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
0, 0, 0, 0};
/* 2: bias with the zero point's term, i32[16] */
static const _Alignas(SH_ALIGN) int32_t network_c13[] = {
-43059, 14910, -34534, 0, 0, 0, 0, 0, 0, 0, 0, 0,
0, 0, 0, 0};
/* 2: multipliers, f32[16] */
static const _Alignas(SH_ALIGN) float network_c14[] = {
0.004064358f, 0.003619952f, 0.004047751f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f,
0.0f, 0.0f, 0.0f, 0.0f};
#if defined(__GNUC__) && defined(__AVX512F__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#ifndef SHOHIN_Q8
#define SHOHIN_Q8
/* int8 kernels: one meaning, written for the instructions that the compiler says the target has. */
#if defined(__ARM_FEATURE_MVE) /* Armv8.1-M with MVE */
#include <arm_mve.h>
#define SHOHIN_Q8_MVE
#define SHOHIN_Q8_COPY16(to, at) vstrbq_s8(to, vldrbq_s8(at))
#elif defined(__AVX512VNNI__) && defined(__AVX512BW__) && defined(__AVX512VL__) /* x86-64-v4 with 8-bit dot products */
#include <immintrin.h>
#define SHOHIN_Q8_AVX512_VNNI
#define SHOHIN_Q8_UNSIGNED
#elif defined(__AVXVNNI__) && defined(__AVX2__) /* x86-64-v3 with 8-bit dot products */
#include <immintrin.h>
#define SHOHIN_Q8_AVX_VNNI
#define SHOHIN_Q8_UNSIGNED
#elif defined(__AVX2__) /* x86-64-v3 */
#include <immintrin.h>
#define SHOHIN_Q8_AVX2
#define SHOHIN_Q8_STAGED
#elif defined(__aarch64__) && defined(__ARM_FEATURE_MATMUL_INT8) /* aarch64 with smmla */
#include <arm_neon.h>
#define SHOHIN_Q8_NEON_I8MM
#elif defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD) /* aarch64 with sdot */
#include <arm_neon.h>
#define SHOHIN_Q8_NEON_DOT
#elif defined(__ARM_FEATURE_DSP) && defined(__ARM_FEATURE_SIMD32) /* Armv7E-M */
#include <arm_acle.h>
#define SHOHIN_Q8_DSP
#endif
#if defined(__GNUC__)
#define SHOHIN_Q8_COPY __builtin_memcpy /* with a constant size: no call, not even with -ffreestanding */
#else
#define SHOHIN_Q8_COPY memcpy
#endif
#if !defined(SHOHIN_Q8_COPY16)
#define SHOHIN_Q8_COPY16(to, at) SHOHIN_Q8_COPY(to, at, 16)
#endif
#if defined(__clang__)
#define SHOHIN_Q8_RELOAD __asm__ volatile("" ::: "memory"); /* else values are kept in registers and sums are not */
#else
#define SHOHIN_Q8_RELOAD
#endif
#define SHOHIN_Q8_BLOCK 64 /* channels of a pass */
#define SHOHIN_Q8_TILE 4 /* positions of a tile, at most */

struct shohin_q8_layer { int32_t n, h, w, c, p, q, o, groups, kh, kw, sh, sw, dh, dw, top, left, slots, width, blocks, patch, part, part_step, parts, zero, staged, z, lo, hi; };

/* Rows of the input as a kernel's rows see them: in place, or with their padding in a ring; blank ones are all zero point. */
struct shohin_q8_rows { const int8_t *x; int8_t *blank, *ring; long next; };

static void shohin_q8_begin(const struct shohin_q8_layer *l, struct shohin_q8_rows *s, const int8_t *x, int8_t *memory) {
  s->x = x; s->blank = memory; s->ring = memory + l->width * l->c; s->next = 0;
  memset(memory, l->zero, (size_t)((l->slots + 1) * l->width * l->c));
}

/* The rows under result row p; rows come in order. */
static void shohin_q8_rows(const struct shohin_q8_layer *l, struct shohin_q8_rows *s, long p, const int8_t **rows) {
  const long first = p * l->sh - l->top, last = first + (l->kh - 1) * l->dh, size = l->w * l->c;
  if (l->slots) {
    const long room = (l->width - l->left) * l->c;
    for (long r = s->next > first ? s->next : first > 0 ? first : 0; r <= last && r < l->h; s->next = ++r)
      memcpy(s->ring + r % l->slots * l->width * l->c + l->left * l->c, s->x + r * size, (size_t)(size < room ? size : room));
  }
  for (long a = 0; a < l->kh; a++) {
    const long r = first + a * l->dh;
    rows[a] = r < 0 || r >= l->h ? s->blank : l->slots ? s->ring + r % l->slots * l->width * l->c : s->x + r * size;
  }
}


/* y = int(rhe(clip(acc * m, lo - z, hi - z))) + z (the clip first, so every conversion rounds alike). acc and m may be
   read to whole vectors of 16, y is not written past n. */
static void shohin_q8_requant(const struct shohin_q8_layer *l, const int32_t *acc, const float *m, int8_t *y, long n) {
  const float lo = (float)(l->lo - l->z), hi = (float)(l->hi - l->z);
#if defined(SHOHIN_Q8_MVE)
#if (__ARM_FEATURE_MVE & 2)
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
#else
  const int32_t z = l->z - 0x4b400000; /* v + 1.5 * 2^23 holds the rounded integer in its low bits */
  for (long i = 0; i < n; i++) {
    union { float f; int32_t i; } bits;
    float v = (float)acc[i] * m[i];
    v = v > lo ? v : lo;
    v = v < hi ? v : hi;
    bits.f = v + 12582912.0f;
    y[i] = (int8_t)(bits.i + z);
  }
#endif
#elif defined(SHOHIN_Q8_AVX512_VNNI)
  const __m512 a = _mm512_set1_ps(lo), c = _mm512_set1_ps(hi);
  const __m512i z = _mm512_set1_epi32(l->z);
#define SHOHIN_Q8_CLOSE(i) _mm512_add_epi32(z, _mm512_cvtps_epi32(_mm512_min_ps(_mm512_max_ps(_mm512_mul_ps( \
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
#elif defined(SHOHIN_Q8_AVX_VNNI)
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
#elif defined(SHOHIN_Q8_AVX2)
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
#elif defined(SHOHIN_Q8_NEON_I8MM)
  const float32x4_t a = vdupq_n_f32(lo), c = vdupq_n_f32(hi);
  const int32x4_t z = vdupq_n_s32(l->z);
#define SHOHIN_Q8_CLOSE(i) vaddq_s32(z, vcvtnq_s32_f32(vminq_f32(vmaxq_f32(vmulq_f32( \
  vcvtq_f32_s32(vld1q_s32(acc + (i))), vld1q_f32(m + (i))), a), c)))
  for (long i = 0; i < n; i += 16) {
    const int16x8_t s = vcombine_s16(vmovn_s32(SHOHIN_Q8_CLOSE(i)), vmovn_s32(SHOHIN_Q8_CLOSE(i + 4)));
    const int16x8_t t = vcombine_s16(vmovn_s32(SHOHIN_Q8_CLOSE(i + 8)), vmovn_s32(SHOHIN_Q8_CLOSE(i + 12)));
    const int8x16_t r = vcombine_s8(vmovn_s16(s), vmovn_s16(t));
    if (n - i >= 16) vst1q_s8(y + i, r);
    else memcpy(y + i, &r, (size_t)(n - i));
  }
#undef SHOHIN_Q8_CLOSE
#elif defined(SHOHIN_Q8_NEON_DOT)
  const float32x4_t a = vdupq_n_f32(lo), c = vdupq_n_f32(hi);
  const int32x4_t z = vdupq_n_s32(l->z);
#define SHOHIN_Q8_CLOSE(i) vaddq_s32(z, vcvtnq_s32_f32(vminq_f32(vmaxq_f32(vmulq_f32( \
  vcvtq_f32_s32(vld1q_s32(acc + (i))), vld1q_f32(m + (i))), a), c)))
  for (long i = 0; i < n; i += 16) {
    const int16x8_t s = vcombine_s16(vmovn_s32(SHOHIN_Q8_CLOSE(i)), vmovn_s32(SHOHIN_Q8_CLOSE(i + 4)));
    const int16x8_t t = vcombine_s16(vmovn_s32(SHOHIN_Q8_CLOSE(i + 8)), vmovn_s32(SHOHIN_Q8_CLOSE(i + 12)));
    const int8x16_t r = vcombine_s8(vmovn_s16(s), vmovn_s16(t));
    if (n - i >= 16) vst1q_s8(y + i, r);
    else memcpy(y + i, &r, (size_t)(n - i));
  }
#undef SHOHIN_Q8_CLOSE
#else
  const int32_t z = l->z - 0x4b400000; /* v + 1.5 * 2^23 holds the rounded integer in its low bits */
  for (long i = 0; i < n; i++) {
    union { float f; int32_t i; } bits;
    float v = (float)acc[i] * m[i];
    v = v > lo ? v : lo;
    v = v < hi ? v : hi;
    bits.f = v + 12582912.0f;
    y[i] = (int8_t)(bits.i + z);
  }
#endif
}

/* Sums of one position and up to a block of channels to the result: int8 through m, or as they are. */
static void shohin_q8_store(const struct shohin_q8_layer *l, const int32_t *acc, const float *m, void *y, long at, long n) {
  if (m) shohin_q8_requant(l, acc, m, (int8_t *)y + at, n);
  else memcpy((int32_t *)y + at, acc, (size_t)n * sizeof(int32_t));
}

#if defined(SHOHIN_Q8_MVE)
static void shohin_q8_dot3(const int8_t *const *rows, long offset, long runs, long blocks, long step, const int8_t *w,
                            const int32_t *bias, int32_t *acc, long groups) {
  const long size = runs * blocks * 64;
  for (long g = 2 * groups, next = 32; g > 0; g--, w += next, next = size - next, bias += 2, acc += 2) {
    const int8_t *v = w;
    int32_t c00 = bias[0], c01 = bias[1];
    int32_t c10 = bias[0], c11 = bias[1];
    int32_t c20 = bias[0], c21 = bias[1];
    long r = 0;
    do {
      const int8_t *x0 = rows[r] + offset, *x1 = x0 + step, *x2 = x1 + step;
      long k = blocks;
      do {
        const int8x16_t w0 = vldrbq_s8(v + 0);
        const int8x16_t w1 = vldrbq_s8(v + 16);
        const int8x16_t y0 = vldrbq_s8(x0); c00 = vmladavaq_s8(c00, y0, w0); c01 = vmladavaq_s8(c01, y0, w1);
        const int8x16_t y1 = vldrbq_s8(x1); c10 = vmladavaq_s8(c10, y1, w0); c11 = vmladavaq_s8(c11, y1, w1);
        const int8x16_t y2 = vldrbq_s8(x2); c20 = vmladavaq_s8(c20, y2, w0); c21 = vmladavaq_s8(c21, y2, w1);
        v += 64; x0 += 16; x1 += 16; x2 += 16;
      } while (--k > 0);
    } while (++r < runs);
    (acc + 0 * SHOHIN_Q8_BLOCK)[0] = c00; (acc + 0 * SHOHIN_Q8_BLOCK)[1] = c01;
    (acc + 1 * SHOHIN_Q8_BLOCK)[0] = c10; (acc + 1 * SHOHIN_Q8_BLOCK)[1] = c11;
    (acc + 2 * SHOHIN_Q8_BLOCK)[0] = c20; (acc + 2 * SHOHIN_Q8_BLOCK)[1] = c21;
  }
}
static void shohin_q8_dot2(const int8_t *const *rows, long offset, long runs, long blocks, long step, const int8_t *w,
                            const int32_t *bias, int32_t *acc, long groups) {
  const long size = runs * blocks * 64;
  for (long g = 2 * groups, next = 32; g > 0; g--, w += next, next = size - next, bias += 2, acc += 2) {
    const int8_t *v = w;
    int32_t c00 = bias[0], c01 = bias[1];
    int32_t c10 = bias[0], c11 = bias[1];
    long r = 0;
    do {
      const int8_t *x0 = rows[r] + offset, *x1 = x0 + step;
      long k = blocks;
      do {
        const int8x16_t w0 = vldrbq_s8(v + 0);
        const int8x16_t w1 = vldrbq_s8(v + 16);
        const int8x16_t y0 = vldrbq_s8(x0); c00 = vmladavaq_s8(c00, y0, w0); c01 = vmladavaq_s8(c01, y0, w1);
        const int8x16_t y1 = vldrbq_s8(x1); c10 = vmladavaq_s8(c10, y1, w0); c11 = vmladavaq_s8(c11, y1, w1);
        v += 64; x0 += 16; x1 += 16;
      } while (--k > 0);
    } while (++r < runs);
    (acc + 0 * SHOHIN_Q8_BLOCK)[0] = c00; (acc + 0 * SHOHIN_Q8_BLOCK)[1] = c01;
    (acc + 1 * SHOHIN_Q8_BLOCK)[0] = c10; (acc + 1 * SHOHIN_Q8_BLOCK)[1] = c11;
  }
}
static void shohin_q8_dot1(const int8_t *const *rows, long offset, long runs, long blocks, long step, const int8_t *w,
                            const int32_t *bias, int32_t *acc, long groups) {
  const long size = runs * blocks * 64;
  (void)step;
  for (long g = 2 * groups, next = 32; g > 0; g--, w += next, next = size - next, bias += 2, acc += 2) {
    const int8_t *v = w;
    int32_t c00 = bias[0], c01 = bias[1];
    long r = 0;
    do {
      const int8_t *x0 = rows[r] + offset;
      long k = blocks;
      do {
        const int8x16_t w0 = vldrbq_s8(v + 0);
        const int8x16_t w1 = vldrbq_s8(v + 16);
        const int8x16_t y0 = vldrbq_s8(x0); c00 = vmladavaq_s8(c00, y0, w0); c01 = vmladavaq_s8(c01, y0, w1);
        v += 64; x0 += 16;
      } while (--k > 0);
    } while (++r < runs);
    (acc + 0 * SHOHIN_Q8_BLOCK)[0] = c00; (acc + 0 * SHOHIN_Q8_BLOCK)[1] = c01;
  }
}
/* Positions of the next tile, of those left. */
static long shohin_q8_tile(long left) { return left >= 3 ? 3 : left >= 2 ? 2 : left > 0; }
static void shohin_q8_dot(long n, const int8_t *const *rows, long offset, long runs, long blocks, long step,
                          const int8_t *w, const int32_t *bias, int32_t *acc, long groups) {
  switch (n) {
    case 3: shohin_q8_dot3(rows, offset, runs, blocks, step, w, bias, acc, groups); break;
    case 2: shohin_q8_dot2(rows, offset, runs, blocks, step, w, bias, acc, groups); break;
    default: shohin_q8_dot1(rows, offset, runs, blocks, step, w, bias, acc, groups);
  }
}
#elif defined(SHOHIN_Q8_AVX512_VNNI)
/* The sums of 16 channels: lane l of part j holds four partial sums of channel 4 j + l. */
static inline void shohin_q8_close(__m512i a, __m512i b, __m512i c, __m512i d, const int32_t *bias, int32_t *acc) {
  const __m512i s = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
  const __m512i t = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
  const __m512i u = _mm512_add_epi32(_mm512_unpacklo_epi64(s, t), _mm512_unpackhi_epi64(s, t));
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  _mm512_storeu_si512(acc, _mm512_add_epi32(_mm512_permutexvar_epi32(order, u), _mm512_loadu_si512(bias)));
}
static void shohin_q8_dot4(const int8_t *const *rows, long offset, long runs, long blocks, long step, const int8_t *w,
                            const int32_t *bias, int32_t *acc, long groups) {
  const long size = runs * blocks * 64;
  for (long g = 0; g < groups; g += 4, bias += 16, acc += 16) {
    const int8_t *v0 = w + (g + 0 < groups ? g + 0 : groups - 1) * size, *v1 = w + (g + 1 < groups ? g + 1 : groups - 1) * size, *v2 = w + (g + 2 < groups ? g + 2 : groups - 1) * size, *v3 = w + (g + 3 < groups ? g + 3 : groups - 1) * size;
    __m512i c00 = _mm512_setzero_si512(), c01 = _mm512_setzero_si512(), c02 = _mm512_setzero_si512(), c03 = _mm512_setzero_si512();
    __m512i c10 = _mm512_setzero_si512(), c11 = _mm512_setzero_si512(), c12 = _mm512_setzero_si512(), c13 = _mm512_setzero_si512();
    __m512i c20 = _mm512_setzero_si512(), c21 = _mm512_setzero_si512(), c22 = _mm512_setzero_si512(), c23 = _mm512_setzero_si512();
    __m512i c30 = _mm512_setzero_si512(), c31 = _mm512_setzero_si512(), c32 = _mm512_setzero_si512(), c33 = _mm512_setzero_si512();
    long r = 0;
    do {
      const int8_t *x0 = rows[r] + offset, *x1 = x0 + step, *x2 = x1 + step, *x3 = x2 + step;
      long k = blocks;
      do {
        const __m512i w0 = _mm512_loadu_si512(v0);
        const __m512i w1 = _mm512_loadu_si512(v1);
        const __m512i w2 = _mm512_loadu_si512(v2);
        const __m512i w3 = _mm512_loadu_si512(v3);
        const __m512i y0 = _mm512_xor_si512(_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(x0))), _mm512_set1_epi8(-128)); c00 = _mm512_dpbusd_epi32(c00, y0, w0); c01 = _mm512_dpbusd_epi32(c01, y0, w1); c02 = _mm512_dpbusd_epi32(c02, y0, w2); c03 = _mm512_dpbusd_epi32(c03, y0, w3);
        const __m512i y1 = _mm512_xor_si512(_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(x1))), _mm512_set1_epi8(-128)); c10 = _mm512_dpbusd_epi32(c10, y1, w0); c11 = _mm512_dpbusd_epi32(c11, y1, w1); c12 = _mm512_dpbusd_epi32(c12, y1, w2); c13 = _mm512_dpbusd_epi32(c13, y1, w3);
        const __m512i y2 = _mm512_xor_si512(_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(x2))), _mm512_set1_epi8(-128)); c20 = _mm512_dpbusd_epi32(c20, y2, w0); c21 = _mm512_dpbusd_epi32(c21, y2, w1); c22 = _mm512_dpbusd_epi32(c22, y2, w2); c23 = _mm512_dpbusd_epi32(c23, y2, w3);
        const __m512i y3 = _mm512_xor_si512(_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(x3))), _mm512_set1_epi8(-128)); c30 = _mm512_dpbusd_epi32(c30, y3, w0); c31 = _mm512_dpbusd_epi32(c31, y3, w1); c32 = _mm512_dpbusd_epi32(c32, y3, w2); c33 = _mm512_dpbusd_epi32(c33, y3, w3);
        v0 += 64; v1 += 64; v2 += 64; v3 += 64; x0 += 16; x1 += 16; x2 += 16; x3 += 16;
      } while (--k > 0);
    } while (++r < runs);
    shohin_q8_close(c00, c01, c02, c03, bias, acc + 0 * SHOHIN_Q8_BLOCK);
    shohin_q8_close(c10, c11, c12, c13, bias, acc + 1 * SHOHIN_Q8_BLOCK);
    shohin_q8_close(c20, c21, c22, c23, bias, acc + 2 * SHOHIN_Q8_BLOCK);
    shohin_q8_close(c30, c31, c32, c33, bias, acc + 3 * SHOHIN_Q8_BLOCK);
  }
}
static void shohin_q8_dot2(const int8_t *const *rows, long offset, long runs, long blocks, long step, const int8_t *w,
                            const int32_t *bias, int32_t *acc, long groups) {
  const long size = runs * blocks * 64;
  for (long g = 0; g < groups; g += 4, bias += 16, acc += 16) {
    const int8_t *v0 = w + (g + 0 < groups ? g + 0 : groups - 1) * size, *v1 = w + (g + 1 < groups ? g + 1 : groups - 1) * size, *v2 = w + (g + 2 < groups ? g + 2 : groups - 1) * size, *v3 = w + (g + 3 < groups ? g + 3 : groups - 1) * size;
    __m512i c00 = _mm512_setzero_si512(), c01 = _mm512_setzero_si512(), c02 = _mm512_setzero_si512(), c03 = _mm512_setzero_si512();
    __m512i c10 = _mm512_setzero_si512(), c11 = _mm512_setzero_si512(), c12 = _mm512_setzero_si512(), c13 = _mm512_setzero_si512();
    long r = 0;
    do {
      const int8_t *x0 = rows[r] + offset, *x1 = x0 + step;
      long k = blocks;
      do {
        const __m512i w0 = _mm512_loadu_si512(v0);
        const __m512i w1 = _mm512_loadu_si512(v1);
        const __m512i w2 = _mm512_loadu_si512(v2);
        const __m512i w3 = _mm512_loadu_si512(v3);
        const __m512i y0 = _mm512_xor_si512(_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(x0))), _mm512_set1_epi8(-128)); c00 = _mm512_dpbusd_epi32(c00, y0, w0); c01 = _mm512_dpbusd_epi32(c01, y0, w1); c02 = _mm512_dpbusd_epi32(c02, y0, w2); c03 = _mm512_dpbusd_epi32(c03, y0, w3);
        const __m512i y1 = _mm512_xor_si512(_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(x1))), _mm512_set1_epi8(-128)); c10 = _mm512_dpbusd_epi32(c10, y1, w0); c11 = _mm512_dpbusd_epi32(c11, y1, w1); c12 = _mm512_dpbusd_epi32(c12, y1, w2); c13 = _mm512_dpbusd_epi32(c13, y1, w3);
        v0 += 64; v1 += 64; v2 += 64; v3 += 64; x0 += 16; x1 += 16;
      } while (--k > 0);
    } while (++r < runs);
    shohin_q8_close(c00, c01, c02, c03, bias, acc + 0 * SHOHIN_Q8_BLOCK);
    shohin_q8_close(c10, c11, c12, c13, bias, acc + 1 * SHOHIN_Q8_BLOCK);
  }
}
static void shohin_q8_dot1(const int8_t *const *rows, long offset, long runs, long blocks, long step, const int8_t *w,
                            const int32_t *bias, int32_t *acc, long groups) {
  const long size = runs * blocks * 64;
  (void)step;
  for (long g = 0; g < groups; g += 4, bias += 16, acc += 16) {
    const int8_t *v0 = w + (g + 0 < groups ? g + 0 : groups - 1) * size, *v1 = w + (g + 1 < groups ? g + 1 : groups - 1) * size, *v2 = w + (g + 2 < groups ? g + 2 : groups - 1) * size, *v3 = w + (g + 3 < groups ? g + 3 : groups - 1) * size;
    __m512i c00 = _mm512_setzero_si512(), c01 = _mm512_setzero_si512(), c02 = _mm512_setzero_si512(), c03 = _mm512_setzero_si512();
    long r = 0;
    do {
      const int8_t *x0 = rows[r] + offset;
      long k = blocks;
      do {
        const __m512i w0 = _mm512_loadu_si512(v0);
        const __m512i w1 = _mm512_loadu_si512(v1);
        const __m512i w2 = _mm512_loadu_si512(v2);
        const __m512i w3 = _mm512_loadu_si512(v3);
        const __m512i y0 = _mm512_xor_si512(_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(x0))), _mm512_set1_epi8(-128)); c00 = _mm512_dpbusd_epi32(c00, y0, w0); c01 = _mm512_dpbusd_epi32(c01, y0, w1); c02 = _mm512_dpbusd_epi32(c02, y0, w2); c03 = _mm512_dpbusd_epi32(c03, y0, w3);
        v0 += 64; v1 += 64; v2 += 64; v3 += 64; x0 += 16;
      } while (--k > 0);
    } while (++r < runs);
    shohin_q8_close(c00, c01, c02, c03, bias, acc + 0 * SHOHIN_Q8_BLOCK);
  }
}
static void shohin_q8_dot0(const int8_t *const *rows, long offset, long runs, long blocks, long step, const int8_t *w,
                            const int32_t *bias, int32_t *acc, long groups) {
  const long size = runs * blocks * 64;
  for (long g = 0; g < groups; g += 4, bias += 16, acc += 16) {
    const int8_t *v0 = w + (g + 0 < groups ? g + 0 : groups - 1) * size, *v1 = w + (g + 1 < groups ? g + 1 : groups - 1) * size, *v2 = w + (g + 2 < groups ? g + 2 : groups - 1) * size, *v3 = w + (g + 3 < groups ? g + 3 : groups - 1) * size;
    __m512i c00 = _mm512_setzero_si512(), c01 = _mm512_setzero_si512(), c02 = _mm512_setzero_si512(), c03 = _mm512_setzero_si512();
    long r = 0;
    do {
      (void)rows; (void)offset; (void)step;
      long k = blocks;
      do {
        const __m512i w0 = _mm512_loadu_si512(v0);
        const __m512i w1 = _mm512_loadu_si512(v1);
        const __m512i w2 = _mm512_loadu_si512(v2);
        const __m512i w3 = _mm512_loadu_si512(v3);
        c00 = _mm512_dpbusd_epi32(c00, _mm512_set1_epi8(-128), w0); c01 = _mm512_dpbusd_epi32(c01, _mm512_set1_epi8(-128), w1); c02 = _mm512_dpbusd_epi32(c02, _mm512_set1_epi8(-128), w2); c03 = _mm512_dpbusd_epi32(c03, _mm512_set1_epi8(-128), w3);
        v0 += 64; v1 += 64; v2 += 64; v3 += 64; 
      } while (--k > 0);
    } while (++r < runs);
    shohin_q8_close(c00, c01, c02, c03, bias, acc + 0 * SHOHIN_Q8_BLOCK);
  }
}
/* bias - 128 * sum(w): what operands that come as q + 128 are to begin with. */
static void shohin_q8_shift(const int8_t *w, const int32_t *bias, int32_t *to, long runs, long blocks, long groups) {
  shohin_q8_dot0((const int8_t *const *)0, 0, runs, blocks, 0, w, bias, to, groups);
  for (long i = 0; i < 4 * groups; i++) to[i] = (int32_t)(2u * (uint32_t)bias[i] - (uint32_t)to[i]);
}
/* Positions of the next tile, of those left. */
static long shohin_q8_tile(long left) { return left >= 4 ? 4 : left >= 2 ? 2 : left > 0; }
static void shohin_q8_dot(long n, const int8_t *const *rows, long offset, long runs, long blocks, long step,
                          const int8_t *w, const int32_t *bias, int32_t *acc, long groups) {
  switch (n) {
    case 4: shohin_q8_dot4(rows, offset, runs, blocks, step, w, bias, acc, groups); break;
    case 2: shohin_q8_dot2(rows, offset, runs, blocks, step, w, bias, acc, groups); break;
    default: shohin_q8_dot1(rows, offset, runs, blocks, step, w, bias, acc, groups);
  }
}
#elif defined(SHOHIN_Q8_AVX_VNNI)
/* Two channels a vector, four partial sums each. */
static inline void shohin_q8_close(__m256i a, __m256i b, const int32_t *bias, int32_t *acc) {
  const __m256i t = _mm256_hadd_epi32(a, b), u = _mm256_hadd_epi32(t, t);
  const __m128i s = _mm_unpacklo_epi32(_mm256_castsi256_si128(u), _mm256_extracti128_si256(u, 1));
  _mm_storeu_si128((__m128i *)acc, _mm_add_epi32(s, _mm_loadu_si128((const __m128i *)bias)));
}
static void shohin_q8_dot4(const int8_t *const *rows, long offset, long runs, long blocks, long step, const int8_t *w,
                            const int32_t *bias, int32_t *acc, long groups) {
  const long size = runs * blocks * 64;
  for (long g = groups; g > 0; g--, w += size, bias += 4, acc += 4) {
    const int8_t *v = w;
    __m256i c00 = _mm256_setzero_si256(), c01 = _mm256_setzero_si256();
    __m256i c10 = _mm256_setzero_si256(), c11 = _mm256_setzero_si256();
    __m256i c20 = _mm256_setzero_si256(), c21 = _mm256_setzero_si256();
    __m256i c30 = _mm256_setzero_si256(), c31 = _mm256_setzero_si256();
    long r = 0;
    do {
      const int8_t *x0 = rows[r] + offset, *x1 = x0 + step, *x2 = x1 + step, *x3 = x2 + step;
      long k = blocks;
      do {
        const __m256i w0 = _mm256_loadu_si256((const __m256i *)(v + 0));
        const __m256i w1 = _mm256_loadu_si256((const __m256i *)(v + 32));
        const __m256i y0 = _mm256_xor_si256(_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(x0))), _mm256_set1_epi8(-128)); c00 = _mm256_dpbusd_avx_epi32(c00, y0, w0); c01 = _mm256_dpbusd_avx_epi32(c01, y0, w1);
        const __m256i y1 = _mm256_xor_si256(_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(x1))), _mm256_set1_epi8(-128)); c10 = _mm256_dpbusd_avx_epi32(c10, y1, w0); c11 = _mm256_dpbusd_avx_epi32(c11, y1, w1);
        const __m256i y2 = _mm256_xor_si256(_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(x2))), _mm256_set1_epi8(-128)); c20 = _mm256_dpbusd_avx_epi32(c20, y2, w0); c21 = _mm256_dpbusd_avx_epi32(c21, y2, w1);
        const __m256i y3 = _mm256_xor_si256(_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(x3))), _mm256_set1_epi8(-128)); c30 = _mm256_dpbusd_avx_epi32(c30, y3, w0); c31 = _mm256_dpbusd_avx_epi32(c31, y3, w1);
        v += 64; x0 += 16; x1 += 16; x2 += 16; x3 += 16;
      } while (--k > 0);
    } while (++r < runs);
    shohin_q8_close(c00, c01, bias, acc + 0 * SHOHIN_Q8_BLOCK);
    shohin_q8_close(c10, c11, bias, acc + 1 * SHOHIN_Q8_BLOCK);
    shohin_q8_close(c20, c21, bias, acc + 2 * SHOHIN_Q8_BLOCK);
    shohin_q8_close(c30, c31, bias, acc + 3 * SHOHIN_Q8_BLOCK);
  }
}
static void shohin_q8_dot2(const int8_t *const *rows, long offset, long runs, long blocks, long step, const int8_t *w,
                            const int32_t *bias, int32_t *acc, long groups) {
  const long size = runs * blocks * 64;
  for (long g = groups; g > 0; g--, w += size, bias += 4, acc += 4) {
    const int8_t *v = w;
    __m256i c00 = _mm256_setzero_si256(), c01 = _mm256_setzero_si256();
    __m256i c10 = _mm256_setzero_si256(), c11 = _mm256_setzero_si256();
    long r = 0;
    do {
      const int8_t *x0 = rows[r] + offset, *x1 = x0 + step;
      long k = blocks;
      do {
        const __m256i w0 = _mm256_loadu_si256((const __m256i *)(v + 0));
        const __m256i w1 = _mm256_loadu_si256((const __m256i *)(v + 32));
        const __m256i y0 = _mm256_xor_si256(_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(x0))), _mm256_set1_epi8(-128)); c00 = _mm256_dpbusd_avx_epi32(c00, y0, w0); c01 = _mm256_dpbusd_avx_epi32(c01, y0, w1);
        const __m256i y1 = _mm256_xor_si256(_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(x1))), _mm256_set1_epi8(-128)); c10 = _mm256_dpbusd_avx_epi32(c10, y1, w0); c11 = _mm256_dpbusd_avx_epi32(c11, y1, w1);
        v += 64; x0 += 16; x1 += 16;
      } while (--k > 0);
    } while (++r < runs);
    shohin_q8_close(c00, c01, bias, acc + 0 * SHOHIN_Q8_BLOCK);
    shohin_q8_close(c10, c11, bias, acc + 1 * SHOHIN_Q8_BLOCK);
  }
}
static void shohin_q8_dot1(const int8_t *const *rows, long offset, long runs, long blocks, long step, const int8_t *w,
                            const int32_t *bias, int32_t *acc, long groups) {
  const long size = runs * blocks * 64;
  (void)step;
  for (long g = groups; g > 0; g--, w += size, bias += 4, acc += 4) {
    const int8_t *v = w;
    __m256i c00 = _mm256_setzero_si256(), c01 = _mm256_setzero_si256();
    long r = 0;
    do {
      const int8_t *x0 = rows[r] + offset;
      long k = blocks;
      do {
        const __m256i w0 = _mm256_loadu_si256((const __m256i *)(v + 0));
        const __m256i w1 = _mm256_loadu_si256((const __m256i *)(v + 32));
        const __m256i y0 = _mm256_xor_si256(_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(x0))), _mm256_set1_epi8(-128)); c00 = _mm256_dpbusd_avx_epi32(c00, y0, w0); c01 = _mm256_dpbusd_avx_epi32(c01, y0, w1);
        v += 64; x0 += 16;
      } while (--k > 0);
    } while (++r < runs);
    shohin_q8_close(c00, c01, bias, acc + 0 * SHOHIN_Q8_BLOCK);
  }
}
static void shohin_q8_dot0(const int8_t *const *rows, long offset, long runs, long blocks, long step, const int8_t *w,
                            const int32_t *bias, int32_t *acc, long groups) {
  const long size = runs * blocks * 64;
  for (long g = groups; g > 0; g--, w += size, bias += 4, acc += 4) {
    const int8_t *v = w;
    __m256i c00 = _mm256_setzero_si256(), c01 = _mm256_setzero_si256();
    long r = 0;
    do {
      (void)rows; (void)offset; (void)step;
      long k = blocks;
      do {
        const __m256i w0 = _mm256_loadu_si256((const __m256i *)(v + 0));
        const __m256i w1 = _mm256_loadu_si256((const __m256i *)(v + 32));
        c00 = _mm256_dpbusd_avx_epi32(c00, _mm256_set1_epi8(-128), w0); c01 = _mm256_dpbusd_avx_epi32(c01, _mm256_set1_epi8(-128), w1);
        v += 64; 
      } while (--k > 0);
    } while (++r < runs);
    shohin_q8_close(c00, c01, bias, acc + 0 * SHOHIN_Q8_BLOCK);
  }
}
/* bias - 128 * sum(w): what operands that come as q + 128 are to begin with. */
static void shohin_q8_shift(const int8_t *w, const int32_t *bias, int32_t *to, long runs, long blocks, long groups) {
  shohin_q8_dot0((const int8_t *const *)0, 0, runs, blocks, 0, w, bias, to, groups);
  for (long i = 0; i < 4 * groups; i++) to[i] = (int32_t)(2u * (uint32_t)bias[i] - (uint32_t)to[i]);
}
/* Positions of the next tile, of those left. */
static long shohin_q8_tile(long left) { return left >= 4 ? 4 : left >= 2 ? 2 : left > 0; }
static void shohin_q8_dot(long n, const int8_t *const *rows, long offset, long runs, long blocks, long step,
                          const int8_t *w, const int32_t *bias, int32_t *acc, long groups) {
  switch (n) {
    case 4: shohin_q8_dot4(rows, offset, runs, blocks, step, w, bias, acc, groups); break;
    case 2: shohin_q8_dot2(rows, offset, runs, blocks, step, w, bias, acc, groups); break;
    default: shohin_q8_dot1(rows, offset, runs, blocks, step, w, bias, acc, groups);
  }
}
#elif defined(SHOHIN_Q8_AVX2)
/* Four vectors of partial sums: each added up, and the bias. */
static inline void shohin_q8_close(__m256i a, __m256i b, __m256i c, __m256i d, const int32_t *bias, int32_t *acc) {
  const __m256i t = _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
  const __m128i s = _mm_add_epi32(_mm256_castsi256_si128(t), _mm256_extracti128_si256(t, 1));
  _mm_storeu_si128((__m128i *)acc, _mm_add_epi32(s, _mm_loadu_si128((const __m128i *)bias)));
}
static void shohin_q8_dot3(const int8_t *const *rows, long offset, long runs, long blocks, long step, const int8_t *w,
                            const int32_t *bias, int32_t *acc, long groups) {
  const long size = runs * blocks * 64;
  (void)offset; (void)step;
  for (long g = groups; g > 0; g--, w += size, bias += 4, acc += 4) {
    const int8_t *v = w;
    __m256i c00 = _mm256_setzero_si256(), c01 = _mm256_setzero_si256(), c02 = _mm256_setzero_si256(), c03 = _mm256_setzero_si256();
    __m256i c10 = _mm256_setzero_si256(), c11 = _mm256_setzero_si256(), c12 = _mm256_setzero_si256(), c13 = _mm256_setzero_si256();
    __m256i c20 = _mm256_setzero_si256(), c21 = _mm256_setzero_si256(), c22 = _mm256_setzero_si256(), c23 = _mm256_setzero_si256();
    long r = 0;
    do {
      const int16_t *x = (const int16_t *)(const void *)rows[r];
      long k = blocks;
      do {
        { const __m256i w0 = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(v + 0))); { const __m256i y0 = _mm256_loadu_si256((const __m256i *)(x + 0)); c00 = _mm256_add_epi32(c00, _mm256_madd_epi16(y0, w0)); } { const __m256i y1 = _mm256_loadu_si256((const __m256i *)(x + 16)); c10 = _mm256_add_epi32(c10, _mm256_madd_epi16(y1, w0)); } { const __m256i y2 = _mm256_loadu_si256((const __m256i *)(x + 32)); c20 = _mm256_add_epi32(c20, _mm256_madd_epi16(y2, w0)); } SHOHIN_Q8_RELOAD }
        { const __m256i w1 = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(v + 16))); { const __m256i y0 = _mm256_loadu_si256((const __m256i *)(x + 0)); c01 = _mm256_add_epi32(c01, _mm256_madd_epi16(y0, w1)); } { const __m256i y1 = _mm256_loadu_si256((const __m256i *)(x + 16)); c11 = _mm256_add_epi32(c11, _mm256_madd_epi16(y1, w1)); } { const __m256i y2 = _mm256_loadu_si256((const __m256i *)(x + 32)); c21 = _mm256_add_epi32(c21, _mm256_madd_epi16(y2, w1)); } SHOHIN_Q8_RELOAD }
        { const __m256i w2 = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(v + 32))); { const __m256i y0 = _mm256_loadu_si256((const __m256i *)(x + 0)); c02 = _mm256_add_epi32(c02, _mm256_madd_epi16(y0, w2)); } { const __m256i y1 = _mm256_loadu_si256((const __m256i *)(x + 16)); c12 = _mm256_add_epi32(c12, _mm256_madd_epi16(y1, w2)); } { const __m256i y2 = _mm256_loadu_si256((const __m256i *)(x + 32)); c22 = _mm256_add_epi32(c22, _mm256_madd_epi16(y2, w2)); } SHOHIN_Q8_RELOAD }
        { const __m256i w3 = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(v + 48))); { const __m256i y0 = _mm256_loadu_si256((const __m256i *)(x + 0)); c03 = _mm256_add_epi32(c03, _mm256_madd_epi16(y0, w3)); } { const __m256i y1 = _mm256_loadu_si256((const __m256i *)(x + 16)); c13 = _mm256_add_epi32(c13, _mm256_madd_epi16(y1, w3)); } { const __m256i y2 = _mm256_loadu_si256((const __m256i *)(x + 32)); c23 = _mm256_add_epi32(c23, _mm256_madd_epi16(y2, w3)); } SHOHIN_Q8_RELOAD }
        v += 64; x += 48;
      } while (--k > 0);
    } while (++r < runs);
    shohin_q8_close(c00, c01, c02, c03, bias, acc + 0 * SHOHIN_Q8_BLOCK);
    shohin_q8_close(c10, c11, c12, c13, bias, acc + 1 * SHOHIN_Q8_BLOCK);
    shohin_q8_close(c20, c21, c22, c23, bias, acc + 2 * SHOHIN_Q8_BLOCK);
  }
}
static void shohin_q8_dot2(const int8_t *const *rows, long offset, long runs, long blocks, long step, const int8_t *w,
                            const int32_t *bias, int32_t *acc, long groups) {
  const long size = runs * blocks * 64;
  (void)offset; (void)step;
  for (long g = groups; g > 0; g--, w += size, bias += 4, acc += 4) {
    const int8_t *v = w;
    __m256i c00 = _mm256_setzero_si256(), c01 = _mm256_setzero_si256(), c02 = _mm256_setzero_si256(), c03 = _mm256_setzero_si256();
    __m256i c10 = _mm256_setzero_si256(), c11 = _mm256_setzero_si256(), c12 = _mm256_setzero_si256(), c13 = _mm256_setzero_si256();
    long r = 0;
    do {
      const int16_t *x = (const int16_t *)(const void *)rows[r];
      long k = blocks;
      do {
        { const __m256i w0 = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(v + 0))); { const __m256i y0 = _mm256_loadu_si256((const __m256i *)(x + 0)); c00 = _mm256_add_epi32(c00, _mm256_madd_epi16(y0, w0)); } { const __m256i y1 = _mm256_loadu_si256((const __m256i *)(x + 16)); c10 = _mm256_add_epi32(c10, _mm256_madd_epi16(y1, w0)); } SHOHIN_Q8_RELOAD }
        { const __m256i w1 = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(v + 16))); { const __m256i y0 = _mm256_loadu_si256((const __m256i *)(x + 0)); c01 = _mm256_add_epi32(c01, _mm256_madd_epi16(y0, w1)); } { const __m256i y1 = _mm256_loadu_si256((const __m256i *)(x + 16)); c11 = _mm256_add_epi32(c11, _mm256_madd_epi16(y1, w1)); } SHOHIN_Q8_RELOAD }
        { const __m256i w2 = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(v + 32))); { const __m256i y0 = _mm256_loadu_si256((const __m256i *)(x + 0)); c02 = _mm256_add_epi32(c02, _mm256_madd_epi16(y0, w2)); } { const __m256i y1 = _mm256_loadu_si256((const __m256i *)(x + 16)); c12 = _mm256_add_epi32(c12, _mm256_madd_epi16(y1, w2)); } SHOHIN_Q8_RELOAD }
        { const __m256i w3 = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(v + 48))); { const __m256i y0 = _mm256_loadu_si256((const __m256i *)(x + 0)); c03 = _mm256_add_epi32(c03, _mm256_madd_epi16(y0, w3)); } { const __m256i y1 = _mm256_loadu_si256((const __m256i *)(x + 16)); c13 = _mm256_add_epi32(c13, _mm256_madd_epi16(y1, w3)); } SHOHIN_Q8_RELOAD }
        v += 64; x += 32;
      } while (--k > 0);
    } while (++r < runs);
    shohin_q8_close(c00, c01, c02, c03, bias, acc + 0 * SHOHIN_Q8_BLOCK);
    shohin_q8_close(c10, c11, c12, c13, bias, acc + 1 * SHOHIN_Q8_BLOCK);
  }
}
static void shohin_q8_dot1(const int8_t *const *rows, long offset, long runs, long blocks, long step, const int8_t *w,
                            const int32_t *bias, int32_t *acc, long groups) {
  const long size = runs * blocks * 64;
  (void)offset; (void)step;
  for (long g = groups; g > 0; g--, w += size, bias += 4, acc += 4) {
    const int8_t *v = w;
    __m256i c00 = _mm256_setzero_si256(), c01 = _mm256_setzero_si256(), c02 = _mm256_setzero_si256(), c03 = _mm256_setzero_si256();
    long r = 0;
    do {
      const int16_t *x = (const int16_t *)(const void *)rows[r];
      long k = blocks;
      do {
        { const __m256i w0 = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(v + 0))); { const __m256i y0 = _mm256_loadu_si256((const __m256i *)(x + 0)); c00 = _mm256_add_epi32(c00, _mm256_madd_epi16(y0, w0)); } SHOHIN_Q8_RELOAD }
        { const __m256i w1 = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(v + 16))); { const __m256i y0 = _mm256_loadu_si256((const __m256i *)(x + 0)); c01 = _mm256_add_epi32(c01, _mm256_madd_epi16(y0, w1)); } SHOHIN_Q8_RELOAD }
        { const __m256i w2 = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(v + 32))); { const __m256i y0 = _mm256_loadu_si256((const __m256i *)(x + 0)); c02 = _mm256_add_epi32(c02, _mm256_madd_epi16(y0, w2)); } SHOHIN_Q8_RELOAD }
        { const __m256i w3 = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(v + 48))); { const __m256i y0 = _mm256_loadu_si256((const __m256i *)(x + 0)); c03 = _mm256_add_epi32(c03, _mm256_madd_epi16(y0, w3)); } SHOHIN_Q8_RELOAD }
        v += 64; x += 16;
      } while (--k > 0);
    } while (++r < runs);
    shohin_q8_close(c00, c01, c02, c03, bias, acc + 0 * SHOHIN_Q8_BLOCK);
  }
}
static void shohin_q8_stage3(const int8_t *const *rows, long offset, long runs, long blocks, long step, int16_t *to) {
  (void)step;
  for (long r = 0; r < runs; r++) {
    const int8_t *x0 = rows[r] + offset, *x1 = x0 + step, *x2 = x1 + step;
    for (long k = blocks; k > 0; k--, to += 48) {
      _mm256_storeu_si256((__m256i *)(to + 0), _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(x0)))); x0 += 16;
      _mm256_storeu_si256((__m256i *)(to + 16), _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(x1)))); x1 += 16;
      _mm256_storeu_si256((__m256i *)(to + 32), _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(x2)))); x2 += 16;
    }
  }
}
static void shohin_q8_stage2(const int8_t *const *rows, long offset, long runs, long blocks, long step, int16_t *to) {
  (void)step;
  for (long r = 0; r < runs; r++) {
    const int8_t *x0 = rows[r] + offset, *x1 = x0 + step;
    for (long k = blocks; k > 0; k--, to += 32) {
      _mm256_storeu_si256((__m256i *)(to + 0), _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(x0)))); x0 += 16;
      _mm256_storeu_si256((__m256i *)(to + 16), _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(x1)))); x1 += 16;
    }
  }
}
static void shohin_q8_stage1(const int8_t *const *rows, long offset, long runs, long blocks, long step, int16_t *to) {
  (void)step;
  for (long r = 0; r < runs; r++) {
    const int8_t *x0 = rows[r] + offset;
    for (long k = blocks; k > 0; k--, to += 16) {
      _mm256_storeu_si256((__m256i *)(to + 0), _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(x0)))); x0 += 16;
    }
  }
}
/* n positions as [runs * blocks][n][16]. */
static void shohin_q8_stage(long n, const int8_t *const *rows, long offset, long runs, long blocks, long step, int16_t *to) {
  switch (n) {
    case 3: shohin_q8_stage3(rows, offset, runs, blocks, step, to); break;
    case 2: shohin_q8_stage2(rows, offset, runs, blocks, step, to); break;
    default: shohin_q8_stage1(rows, offset, runs, blocks, step, to);
  }
}
/* Positions of the next tile, of those left. */
static long shohin_q8_tile(long left) { return left >= 3 ? 3 : left >= 2 ? 2 : left > 0; }
static void shohin_q8_dot(long n, const int8_t *const *rows, long offset, long runs, long blocks, long step,
                          const int8_t *w, const int32_t *bias, int32_t *acc, long groups) {
  switch (n) {
    case 3: shohin_q8_dot3(rows, offset, runs, blocks, step, w, bias, acc, groups); break;
    case 2: shohin_q8_dot2(rows, offset, runs, blocks, step, w, bias, acc, groups); break;
    default: shohin_q8_dot1(rows, offset, runs, blocks, step, w, bias, acc, groups);
  }
}
#elif defined(SHOHIN_Q8_NEON_I8MM)
/* Of two positions the sums of two channels side by side. */
static inline void shohin_q8_close(int32x4_t a, int32x4_t b, const int32_t *bias, int32_t *acc, int32_t *next) {
  const int32x4_t add = vld1q_s32(bias);
  const int64x2_t c = vreinterpretq_s64_s32(a), d = vreinterpretq_s64_s32(b);
  vst1q_s32(next, vaddq_s32(vreinterpretq_s32_s64(vzip2q_s64(c, d)), add));
  vst1q_s32(acc, vaddq_s32(vreinterpretq_s32_s64(vzip1q_s64(c, d)), add));
}
static void shohin_q8_dot4(const int8_t *const *rows, long offset, long runs, long blocks, long step, const int8_t *w,
                            const int32_t *bias, int32_t *acc, long groups) {
  const long size = runs * blocks * 64;
  for (long g = groups; g > 0; g--, w += size, bias += 4, acc += 4) {
    const int8_t *v = w;
    int32x4_t c00 = vdupq_n_s32(0), c01 = vdupq_n_s32(0);
    int32x4_t c20 = vdupq_n_s32(0), c21 = vdupq_n_s32(0);
    long r = 0;
    do {
      const int8_t *x0 = rows[r] + offset, *x1 = x0 + step, *x2 = x1 + step, *x3 = x2 + step;
      long k = blocks;
      do {
        const int64x2_t w0p = vreinterpretq_s64_s8(vld1q_s8(v + 0)), w0q = vreinterpretq_s64_s8(vld1q_s8(v + 0 + 16)); const int8x16_t w0a = vreinterpretq_s8_s64(vzip1q_s64(w0p, w0q)), w0b = vreinterpretq_s8_s64(vzip2q_s64(w0p, w0q));
        const int64x2_t w1p = vreinterpretq_s64_s8(vld1q_s8(v + 32)), w1q = vreinterpretq_s64_s8(vld1q_s8(v + 32 + 16)); const int8x16_t w1a = vreinterpretq_s8_s64(vzip1q_s64(w1p, w1q)), w1b = vreinterpretq_s8_s64(vzip2q_s64(w1p, w1q));
        const int64x2_t y0p = vreinterpretq_s64_s8(vld1q_s8(x0)), y0q = vreinterpretq_s64_s8(vld1q_s8(x1)); const int8x16_t y0a = vreinterpretq_s8_s64(vzip1q_s64(y0p, y0q)), y0b = vreinterpretq_s8_s64(vzip2q_s64(y0p, y0q)); c00 = vmmlaq_s32(vmmlaq_s32(c00, y0a, w0a), y0b, w0b); c01 = vmmlaq_s32(vmmlaq_s32(c01, y0a, w1a), y0b, w1b);
        const int64x2_t y2p = vreinterpretq_s64_s8(vld1q_s8(x2)), y2q = vreinterpretq_s64_s8(vld1q_s8(x3)); const int8x16_t y2a = vreinterpretq_s8_s64(vzip1q_s64(y2p, y2q)), y2b = vreinterpretq_s8_s64(vzip2q_s64(y2p, y2q)); c20 = vmmlaq_s32(vmmlaq_s32(c20, y2a, w0a), y2b, w0b); c21 = vmmlaq_s32(vmmlaq_s32(c21, y2a, w1a), y2b, w1b);
        v += 64; x0 += 16; x1 += 16; x2 += 16; x3 += 16;
      } while (--k > 0);
    } while (++r < runs);
    shohin_q8_close(c00, c01, bias, acc + 0 * SHOHIN_Q8_BLOCK, acc + 1 * SHOHIN_Q8_BLOCK);
    shohin_q8_close(c20, c21, bias, acc + 2 * SHOHIN_Q8_BLOCK, acc + 3 * SHOHIN_Q8_BLOCK);
  }
}
static void shohin_q8_dot2(const int8_t *const *rows, long offset, long runs, long blocks, long step, const int8_t *w,
                            const int32_t *bias, int32_t *acc, long groups) {
  const long size = runs * blocks * 64;
  for (long g = groups; g > 0; g--, w += size, bias += 4, acc += 4) {
    const int8_t *v = w;
    int32x4_t c00 = vdupq_n_s32(0), c01 = vdupq_n_s32(0);
    long r = 0;
    do {
      const int8_t *x0 = rows[r] + offset, *x1 = x0 + step;
      long k = blocks;
      do {
        const int64x2_t w0p = vreinterpretq_s64_s8(vld1q_s8(v + 0)), w0q = vreinterpretq_s64_s8(vld1q_s8(v + 0 + 16)); const int8x16_t w0a = vreinterpretq_s8_s64(vzip1q_s64(w0p, w0q)), w0b = vreinterpretq_s8_s64(vzip2q_s64(w0p, w0q));
        const int64x2_t w1p = vreinterpretq_s64_s8(vld1q_s8(v + 32)), w1q = vreinterpretq_s64_s8(vld1q_s8(v + 32 + 16)); const int8x16_t w1a = vreinterpretq_s8_s64(vzip1q_s64(w1p, w1q)), w1b = vreinterpretq_s8_s64(vzip2q_s64(w1p, w1q));
        const int64x2_t y0p = vreinterpretq_s64_s8(vld1q_s8(x0)), y0q = vreinterpretq_s64_s8(vld1q_s8(x1)); const int8x16_t y0a = vreinterpretq_s8_s64(vzip1q_s64(y0p, y0q)), y0b = vreinterpretq_s8_s64(vzip2q_s64(y0p, y0q)); c00 = vmmlaq_s32(vmmlaq_s32(c00, y0a, w0a), y0b, w0b); c01 = vmmlaq_s32(vmmlaq_s32(c01, y0a, w1a), y0b, w1b);
        v += 64; x0 += 16; x1 += 16;
      } while (--k > 0);
    } while (++r < runs);
    shohin_q8_close(c00, c01, bias, acc + 0 * SHOHIN_Q8_BLOCK, acc + 1 * SHOHIN_Q8_BLOCK);
  }
}
static void shohin_q8_dot1(const int8_t *const *rows, long offset, long runs, long blocks, long step, const int8_t *w,
                            const int32_t *bias, int32_t *acc, long groups) {
  const long size = runs * blocks * 64;
  (void)step;
  for (long g = groups; g > 0; g--, w += size, bias += 4, acc += 4) {
    const int8_t *v = w;
    int32x4_t c00 = vdupq_n_s32(0), c01 = vdupq_n_s32(0);
    long r = 0;
    do {
      const int8_t *x0 = rows[r] + offset;
      long k = blocks;
      do {
        const int64x2_t w0p = vreinterpretq_s64_s8(vld1q_s8(v + 0)), w0q = vreinterpretq_s64_s8(vld1q_s8(v + 0 + 16)); const int8x16_t w0a = vreinterpretq_s8_s64(vzip1q_s64(w0p, w0q)), w0b = vreinterpretq_s8_s64(vzip2q_s64(w0p, w0q));
        const int64x2_t w1p = vreinterpretq_s64_s8(vld1q_s8(v + 32)), w1q = vreinterpretq_s64_s8(vld1q_s8(v + 32 + 16)); const int8x16_t w1a = vreinterpretq_s8_s64(vzip1q_s64(w1p, w1q)), w1b = vreinterpretq_s8_s64(vzip2q_s64(w1p, w1q));
        const int64x2_t y0p = vreinterpretq_s64_s8(vld1q_s8(x0)), y0q = vreinterpretq_s64_s8(vld1q_s8(x0)); const int8x16_t y0a = vreinterpretq_s8_s64(vzip1q_s64(y0p, y0q)), y0b = vreinterpretq_s8_s64(vzip2q_s64(y0p, y0q)); c00 = vmmlaq_s32(vmmlaq_s32(c00, y0a, w0a), y0b, w0b); c01 = vmmlaq_s32(vmmlaq_s32(c01, y0a, w1a), y0b, w1b);
        v += 64; x0 += 16;
      } while (--k > 0);
    } while (++r < runs);
    shohin_q8_close(c00, c01, bias, acc + 0 * SHOHIN_Q8_BLOCK, acc + 0 * SHOHIN_Q8_BLOCK);
  }
}
/* Positions of the next tile, of those left. */
static long shohin_q8_tile(long left) { return left >= 4 ? 4 : left >= 2 ? 2 : left > 0; }
static void shohin_q8_dot(long n, const int8_t *const *rows, long offset, long runs, long blocks, long step,
                          const int8_t *w, const int32_t *bias, int32_t *acc, long groups) {
  switch (n) {
    case 4: shohin_q8_dot4(rows, offset, runs, blocks, step, w, bias, acc, groups); break;
    case 2: shohin_q8_dot2(rows, offset, runs, blocks, step, w, bias, acc, groups); break;
    default: shohin_q8_dot1(rows, offset, runs, blocks, step, w, bias, acc, groups);
  }
}
#elif defined(SHOHIN_Q8_NEON_DOT)
static inline void shohin_q8_close(int32x4_t a, int32x4_t b, int32x4_t c, int32x4_t d, const int32_t *bias, int32_t *acc) {
  vst1q_s32(acc, vaddq_s32(vpaddq_s32(vpaddq_s32(a, b), vpaddq_s32(c, d)), vld1q_s32(bias)));
}
static void shohin_q8_dot4(const int8_t *const *rows, long offset, long runs, long blocks, long step, const int8_t *w,
                            const int32_t *bias, int32_t *acc, long groups) {
  const long size = runs * blocks * 64;
  for (long g = groups; g > 0; g--, w += size, bias += 4, acc += 4) {
    const int8_t *v = w;
    int32x4_t c00 = vdupq_n_s32(0), c01 = vdupq_n_s32(0), c02 = vdupq_n_s32(0), c03 = vdupq_n_s32(0);
    int32x4_t c10 = vdupq_n_s32(0), c11 = vdupq_n_s32(0), c12 = vdupq_n_s32(0), c13 = vdupq_n_s32(0);
    int32x4_t c20 = vdupq_n_s32(0), c21 = vdupq_n_s32(0), c22 = vdupq_n_s32(0), c23 = vdupq_n_s32(0);
    int32x4_t c30 = vdupq_n_s32(0), c31 = vdupq_n_s32(0), c32 = vdupq_n_s32(0), c33 = vdupq_n_s32(0);
    long r = 0;
    do {
      const int8_t *x0 = rows[r] + offset, *x1 = x0 + step, *x2 = x1 + step, *x3 = x2 + step;
      long k = blocks;
      do {
        const int8x16_t w0 = vld1q_s8(v + 0);
        const int8x16_t w1 = vld1q_s8(v + 16);
        const int8x16_t w2 = vld1q_s8(v + 32);
        const int8x16_t w3 = vld1q_s8(v + 48);
        const int8x16_t y0 = vld1q_s8(x0); c00 = vdotq_s32(c00, y0, w0); c01 = vdotq_s32(c01, y0, w1); c02 = vdotq_s32(c02, y0, w2); c03 = vdotq_s32(c03, y0, w3);
        const int8x16_t y1 = vld1q_s8(x1); c10 = vdotq_s32(c10, y1, w0); c11 = vdotq_s32(c11, y1, w1); c12 = vdotq_s32(c12, y1, w2); c13 = vdotq_s32(c13, y1, w3);
        const int8x16_t y2 = vld1q_s8(x2); c20 = vdotq_s32(c20, y2, w0); c21 = vdotq_s32(c21, y2, w1); c22 = vdotq_s32(c22, y2, w2); c23 = vdotq_s32(c23, y2, w3);
        const int8x16_t y3 = vld1q_s8(x3); c30 = vdotq_s32(c30, y3, w0); c31 = vdotq_s32(c31, y3, w1); c32 = vdotq_s32(c32, y3, w2); c33 = vdotq_s32(c33, y3, w3);
        v += 64; x0 += 16; x1 += 16; x2 += 16; x3 += 16;
      } while (--k > 0);
    } while (++r < runs);
    shohin_q8_close(c00, c01, c02, c03, bias, acc + 0 * SHOHIN_Q8_BLOCK);
    shohin_q8_close(c10, c11, c12, c13, bias, acc + 1 * SHOHIN_Q8_BLOCK);
    shohin_q8_close(c20, c21, c22, c23, bias, acc + 2 * SHOHIN_Q8_BLOCK);
    shohin_q8_close(c30, c31, c32, c33, bias, acc + 3 * SHOHIN_Q8_BLOCK);
  }
}
static void shohin_q8_dot2(const int8_t *const *rows, long offset, long runs, long blocks, long step, const int8_t *w,
                            const int32_t *bias, int32_t *acc, long groups) {
  const long size = runs * blocks * 64;
  for (long g = groups; g > 0; g--, w += size, bias += 4, acc += 4) {
    const int8_t *v = w;
    int32x4_t c00 = vdupq_n_s32(0), c01 = vdupq_n_s32(0), c02 = vdupq_n_s32(0), c03 = vdupq_n_s32(0);
    int32x4_t c10 = vdupq_n_s32(0), c11 = vdupq_n_s32(0), c12 = vdupq_n_s32(0), c13 = vdupq_n_s32(0);
    long r = 0;
    do {
      const int8_t *x0 = rows[r] + offset, *x1 = x0 + step;
      long k = blocks;
      do {
        const int8x16_t w0 = vld1q_s8(v + 0);
        const int8x16_t w1 = vld1q_s8(v + 16);
        const int8x16_t w2 = vld1q_s8(v + 32);
        const int8x16_t w3 = vld1q_s8(v + 48);
        const int8x16_t y0 = vld1q_s8(x0); c00 = vdotq_s32(c00, y0, w0); c01 = vdotq_s32(c01, y0, w1); c02 = vdotq_s32(c02, y0, w2); c03 = vdotq_s32(c03, y0, w3);
        const int8x16_t y1 = vld1q_s8(x1); c10 = vdotq_s32(c10, y1, w0); c11 = vdotq_s32(c11, y1, w1); c12 = vdotq_s32(c12, y1, w2); c13 = vdotq_s32(c13, y1, w3);
        v += 64; x0 += 16; x1 += 16;
      } while (--k > 0);
    } while (++r < runs);
    shohin_q8_close(c00, c01, c02, c03, bias, acc + 0 * SHOHIN_Q8_BLOCK);
    shohin_q8_close(c10, c11, c12, c13, bias, acc + 1 * SHOHIN_Q8_BLOCK);
  }
}
static void shohin_q8_dot1(const int8_t *const *rows, long offset, long runs, long blocks, long step, const int8_t *w,
                            const int32_t *bias, int32_t *acc, long groups) {
  const long size = runs * blocks * 64;
  (void)step;
  for (long g = groups; g > 0; g--, w += size, bias += 4, acc += 4) {
    const int8_t *v = w;
    int32x4_t c00 = vdupq_n_s32(0), c01 = vdupq_n_s32(0), c02 = vdupq_n_s32(0), c03 = vdupq_n_s32(0);
    long r = 0;
    do {
      const int8_t *x0 = rows[r] + offset;
      long k = blocks;
      do {
        const int8x16_t w0 = vld1q_s8(v + 0);
        const int8x16_t w1 = vld1q_s8(v + 16);
        const int8x16_t w2 = vld1q_s8(v + 32);
        const int8x16_t w3 = vld1q_s8(v + 48);
        const int8x16_t y0 = vld1q_s8(x0); c00 = vdotq_s32(c00, y0, w0); c01 = vdotq_s32(c01, y0, w1); c02 = vdotq_s32(c02, y0, w2); c03 = vdotq_s32(c03, y0, w3);
        v += 64; x0 += 16;
      } while (--k > 0);
    } while (++r < runs);
    shohin_q8_close(c00, c01, c02, c03, bias, acc + 0 * SHOHIN_Q8_BLOCK);
  }
}
/* Positions of the next tile, of those left. */
static long shohin_q8_tile(long left) { return left >= 4 ? 4 : left >= 2 ? 2 : left > 0; }
static void shohin_q8_dot(long n, const int8_t *const *rows, long offset, long runs, long blocks, long step,
                          const int8_t *w, const int32_t *bias, int32_t *acc, long groups) {
  switch (n) {
    case 4: shohin_q8_dot4(rows, offset, runs, blocks, step, w, bias, acc, groups); break;
    case 2: shohin_q8_dot2(rows, offset, runs, blocks, step, w, bias, acc, groups); break;
    default: shohin_q8_dot1(rows, offset, runs, blocks, step, w, bias, acc, groups);
  }
}
#elif defined(SHOHIN_Q8_DSP)
static void shohin_q8_dot2(const int8_t *const *rows, long offset, long runs, long blocks, long step, const int8_t *w,
                            const int32_t *bias, int32_t *acc, long groups) {
  const long size = runs * blocks * 64;
  for (long g = 2 * groups, next = 32; g > 0; g--, w += next, next = size - next, bias += 2, acc += 2) {
    const int8_t *v = w;
    int32_t c00 = bias[0], c01 = bias[1];
    int32_t c10 = bias[0], c11 = bias[1];
    long r = 0;
    do {
      const int8_t *x0 = rows[r] + offset, *x1 = x0 + step;
      long k = blocks;
      do {
        for (long i = 0; i < 16; i += 4) {
          uint32_t w0t; SHOHIN_Q8_COPY(&w0t, v + 0 + i, 4); const int16x2_t w0a = __sxtb16(w0t), w0b = __sxtb16(__ror(w0t, 8));
          uint32_t w1t; SHOHIN_Q8_COPY(&w1t, v + 16 + i, 4); const int16x2_t w1a = __sxtb16(w1t), w1b = __sxtb16(__ror(w1t, 8));
          uint32_t y0t; SHOHIN_Q8_COPY(&y0t, x0 + i, 4); const int16x2_t y0a = __sxtb16(y0t), y0b = __sxtb16(__ror(y0t, 8)); c00 = __smlad(y0b, w0b, __smlad(y0a, w0a, c00)); c01 = __smlad(y0b, w1b, __smlad(y0a, w1a, c01));
          uint32_t y1t; SHOHIN_Q8_COPY(&y1t, x1 + i, 4); const int16x2_t y1a = __sxtb16(y1t), y1b = __sxtb16(__ror(y1t, 8)); c10 = __smlad(y1b, w0b, __smlad(y1a, w0a, c10)); c11 = __smlad(y1b, w1b, __smlad(y1a, w1a, c11));
        }
        v += 64; x0 += 16; x1 += 16;
      } while (--k > 0);
    } while (++r < runs);
    (acc + 0 * SHOHIN_Q8_BLOCK)[0] = c00; (acc + 0 * SHOHIN_Q8_BLOCK)[1] = c01;
    (acc + 1 * SHOHIN_Q8_BLOCK)[0] = c10; (acc + 1 * SHOHIN_Q8_BLOCK)[1] = c11;
  }
}
static void shohin_q8_dot1(const int8_t *const *rows, long offset, long runs, long blocks, long step, const int8_t *w,
                            const int32_t *bias, int32_t *acc, long groups) {
  const long size = runs * blocks * 64;
  (void)step;
  for (long g = 2 * groups, next = 32; g > 0; g--, w += next, next = size - next, bias += 2, acc += 2) {
    const int8_t *v = w;
    int32_t c00 = bias[0], c01 = bias[1];
    long r = 0;
    do {
      const int8_t *x0 = rows[r] + offset;
      long k = blocks;
      do {
        for (long i = 0; i < 16; i += 4) {
          uint32_t w0t; SHOHIN_Q8_COPY(&w0t, v + 0 + i, 4); const int16x2_t w0a = __sxtb16(w0t), w0b = __sxtb16(__ror(w0t, 8));
          uint32_t w1t; SHOHIN_Q8_COPY(&w1t, v + 16 + i, 4); const int16x2_t w1a = __sxtb16(w1t), w1b = __sxtb16(__ror(w1t, 8));
          uint32_t y0t; SHOHIN_Q8_COPY(&y0t, x0 + i, 4); const int16x2_t y0a = __sxtb16(y0t), y0b = __sxtb16(__ror(y0t, 8)); c00 = __smlad(y0b, w0b, __smlad(y0a, w0a, c00)); c01 = __smlad(y0b, w1b, __smlad(y0a, w1a, c01));
        }
        v += 64; x0 += 16;
      } while (--k > 0);
    } while (++r < runs);
    (acc + 0 * SHOHIN_Q8_BLOCK)[0] = c00; (acc + 0 * SHOHIN_Q8_BLOCK)[1] = c01;
  }
}
/* Positions of the next tile, of those left. */
static long shohin_q8_tile(long left) { return left >= 2 ? 2 : left > 0; }
static void shohin_q8_dot(long n, const int8_t *const *rows, long offset, long runs, long blocks, long step,
                          const int8_t *w, const int32_t *bias, int32_t *acc, long groups) {
  switch (n) {
    case 2: shohin_q8_dot2(rows, offset, runs, blocks, step, w, bias, acc, groups); break;
    default: shohin_q8_dot1(rows, offset, runs, blocks, step, w, bias, acc, groups);
  }
}
#else
static void shohin_q8_dot1(const int8_t *const *rows, long offset, long runs, long blocks, long step, const int8_t *w,
                            const int32_t *bias, int32_t *acc, long groups) {
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
}
/* Positions of the next tile, of those left. */
static long shohin_q8_tile(long left) { return left > 0; }
static void shohin_q8_dot(long n, const int8_t *const *rows, long offset, long runs, long blocks, long step,
                          const int8_t *w, const int32_t *bias, int32_t *acc, long groups) {
  switch (n) {
    default: shohin_q8_dot1(rows, offset, runs, blocks, step, w, bias, acc, groups);
  }
}
#endif
#endif

#ifndef SHOHIN_Q8_CONV
#define SHOHIN_Q8_CONV
/* The taps of n positions side by side, in whole vectors of 16: a part's end is written over by the next one. */
static void shohin_q8_gather(const struct shohin_q8_layer *l, const int8_t *const *rows, long offset, long n, int8_t *to) {
  const long kh = l->kh, parts = l->parts, part = l->part, next = l->part_step, patch = l->patch, step = l->sw * l->c;
  for (; n > 0; n--, offset += step, to += patch) {
    int8_t *at = to;
    for (long a = 0; a < kh; a++) {
      const int8_t *from = rows[a] + offset;
      for (long b = parts; b > 0; b--, from += next, at += part) {
        long i = 0;
        do {
          SHOHIN_Q8_COPY16(at + i, from + i);
        } while ((i += 16) < part);
      }
    }
  }
}

#endif
#ifndef SHOHIN_Q8_CONVOLVE
#define SHOHIN_Q8_CONVOLVE
static void shohin_q8_conv(const struct shohin_q8_layer *l, const int8_t *x, const int8_t *w, const int32_t *bias,
                           const float *m, void *y, char *scratch, long chunk, long chunks) {
  int32_t *acc = (int32_t *)scratch;
  const int8_t **rows = (const int8_t **)(scratch + (SHOHIN_Q8_TILE + 1) * SHOHIN_Q8_BLOCK * 4 + l->staged);
  int8_t *patch = (int8_t *)(rows + l->kh + (l->kh & 1));
  const int8_t *const gathered = patch;
#if defined(SHOHIN_Q8_STAGED)
  const int8_t *const staged = (const int8_t *)(acc + (SHOHIN_Q8_TILE + 1) * SHOHIN_Q8_BLOCK);
#endif
  struct shohin_q8_rows s = {0};
  const long lo = (long)l->n * l->p * chunk / chunks, hi = (long)l->n * l->p * (chunk + 1) / chunks;
  const long each = l->o / l->groups, inside = l->c / l->groups, runs = l->patch ? 1 : l->kh;
  const long size = runs * l->blocks * 64, step = l->patch ? l->patch : l->sw * l->c;
  for (long group = 0; group < l->groups; group++)
  for (long first = 0; first < each; first += SHOHIN_Q8_BLOCK) {
    const long o = group * each + first, count = each - first < SHOHIN_Q8_BLOCK ? each - first : SHOHIN_Q8_BLOCK;
    const long fours = (count + 3) / 4;
    const int8_t *v = w + (group * ((each + 3) / 4) + first / 4) * size;
    const int32_t *add = bias + o;
#if defined(SHOHIN_Q8_UNSIGNED)
    int32_t *shifted = acc + SHOHIN_Q8_TILE * SHOHIN_Q8_BLOCK;
    shohin_q8_shift(v, add, shifted, runs, l->blocks, fours);
    add = shifted;
#endif
    for (long t = lo; t < hi; t++) {
      const long image = t / l->p, p = t - image * l->p;
      if (t == lo || p == 0) shohin_q8_begin(l, &s, x + image * l->h * l->w * l->c, patch + SHOHIN_Q8_TILE * l->patch + 16);
      shohin_q8_rows(l, &s, p, rows);
      for (long q = 0, n; q < l->q; q += n) {
        const int8_t *const *from = rows;
        long offset = q * l->sw * l->c;
        n = shohin_q8_tile(l->q - q);
        if (l->patch) {
          shohin_q8_gather(l, rows, offset + group * inside, n, patch);
          from = &gathered;
          offset = 0;
        }
#if defined(SHOHIN_Q8_STAGED)
        shohin_q8_stage(n, from, offset, runs, l->blocks, step, (void *)(acc + (SHOHIN_Q8_TILE + 1) * SHOHIN_Q8_BLOCK));
        shohin_q8_dot(n, &staged, 0, 1, runs * l->blocks, 0, v, add, acc, fours);
#else
        shohin_q8_dot(n, from, offset, runs, l->blocks, step, v, add, acc, fours);
#endif
        for (long i = 0; i < n; i++)
          shohin_q8_store(l, acc + i * SHOHIN_Q8_BLOCK, m ? m + o : m, y, (t * l->q + q + i) * l->o + o, count);
      }
    }
  }
}
#endif

static void network_f0(void *const *b, char *shared, char *scratch, long chunk, long chunks) {
  static const struct shohin_q8_layer layer = {
    .n = 1, .h = 1, .w = 1, .c = 6, .p = 1, .q = 1, .o = 8, .groups = 1, .kh = 1, .kw = 1, .sh = 1, .sw = 1,
    .dh = 1, .dw = 1, .slots = 1, .width = 1, .blocks = 1, .part = 6, .part_step = 6, .parts = 1,
    .zero = 15, .staged = 128, .z = -128, .lo = -128, .hi = 127
  };
  (void)shared;
  shohin_q8_conv(&layer, ((int8_t *)b[0]), ((int8_t *)b[1]), ((int32_t *)b[2]), ((float *)b[3]), ((int8_t *)b[4]), scratch, chunk, chunks);
}

static void network_f1(void *const *b, char *shared, char *scratch, long chunk, long chunks) {
  static const struct shohin_q8_layer layer = {
    .n = 1, .h = 1, .w = 1, .c = 8, .p = 1, .q = 1, .o = 3, .groups = 1, .kh = 1, .kw = 1, .sh = 1, .sw = 1,
    .dh = 1, .dw = 1, .slots = 1, .width = 1, .blocks = 1, .part = 8, .part_step = 8, .parts = 1,
    .zero = -128, .staged = 128, .z = 32, .lo = -128, .hi = 127
  };
  (void)shared;
  shohin_q8_conv(&layer, ((int8_t *)b[0]), ((int8_t *)b[1]), ((int32_t *)b[2]), ((float *)b[3]), ((int8_t *)b[4]), scratch, chunk, chunks);
}

int network_run(const int8_t *in0, int8_t *out0, void *arena) {
    char *const a = arena;
    (void)a;
    (void)in0;
    (void)out0;
    network_STEP(0, "0/qmatmul#0");
    {  // 0/qmatmul#0: i8[1,6] in0 -> i8[1,8] a + 1488
        void *const b[] = {(void *)in0, (void *)network_c5, (void *)network_c6, (void *)network_c7, a + 1488};
        network_f0(b, a + 0, a + 0, 0, 1);
    }
    network_STEP(1, "2/qmatmul#0");
    {  // 2/qmatmul#0: i8[1,8] a + 1488 -> i8[1,3] out0
        void *const b[] = {a + 1488, (void *)network_c12, (void *)network_c13, (void *)network_c14, out0};
        network_f1(b, a + 0, a + 0, 0, 1);
    }
    network_STEP(2, "");
    return 0;
}

#elif defined(__GNUC__) && defined(__AVX2__) && defined(__FMA__)
#ifndef SHOHIN_Q8
#define SHOHIN_Q8
/* int8 kernels: one meaning, written for the instructions that the compiler says the target has. */
#if defined(__ARM_FEATURE_MVE) /* Armv8.1-M with MVE */
#include <arm_mve.h>
#define SHOHIN_Q8_MVE
#define SHOHIN_Q8_COPY16(to, at) vstrbq_s8(to, vldrbq_s8(at))
#elif defined(__AVX512VNNI__) && defined(__AVX512BW__) && defined(__AVX512VL__) /* x86-64-v4 with 8-bit dot products */
#include <immintrin.h>
#define SHOHIN_Q8_AVX512_VNNI
#define SHOHIN_Q8_UNSIGNED
#elif defined(__AVXVNNI__) && defined(__AVX2__) /* x86-64-v3 with 8-bit dot products */
#include <immintrin.h>
#define SHOHIN_Q8_AVX_VNNI
#define SHOHIN_Q8_UNSIGNED
#elif defined(__AVX2__) /* x86-64-v3 */
#include <immintrin.h>
#define SHOHIN_Q8_AVX2
#define SHOHIN_Q8_STAGED
#elif defined(__aarch64__) && defined(__ARM_FEATURE_MATMUL_INT8) /* aarch64 with smmla */
#include <arm_neon.h>
#define SHOHIN_Q8_NEON_I8MM
#elif defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD) /* aarch64 with sdot */
#include <arm_neon.h>
#define SHOHIN_Q8_NEON_DOT
#elif defined(__ARM_FEATURE_DSP) && defined(__ARM_FEATURE_SIMD32) /* Armv7E-M */
#include <arm_acle.h>
#define SHOHIN_Q8_DSP
#endif
#if defined(__GNUC__)
#define SHOHIN_Q8_COPY __builtin_memcpy /* with a constant size: no call, not even with -ffreestanding */
#else
#define SHOHIN_Q8_COPY memcpy
#endif
#if !defined(SHOHIN_Q8_COPY16)
#define SHOHIN_Q8_COPY16(to, at) SHOHIN_Q8_COPY(to, at, 16)
#endif
#if defined(__clang__)
#define SHOHIN_Q8_RELOAD __asm__ volatile("" ::: "memory"); /* else values are kept in registers and sums are not */
#else
#define SHOHIN_Q8_RELOAD
#endif
#define SHOHIN_Q8_BLOCK 64 /* channels of a pass */
#define SHOHIN_Q8_TILE 4 /* positions of a tile, at most */

struct shohin_q8_layer { int32_t n, h, w, c, p, q, o, groups, kh, kw, sh, sw, dh, dw, top, left, slots, width, blocks, patch, part, part_step, parts, zero, staged, z, lo, hi; };

/* Rows of the input as a kernel's rows see them: in place, or with their padding in a ring; blank ones are all zero point. */
struct shohin_q8_rows { const int8_t *x; int8_t *blank, *ring; long next; };

static void shohin_q8_begin(const struct shohin_q8_layer *l, struct shohin_q8_rows *s, const int8_t *x, int8_t *memory) {
  s->x = x; s->blank = memory; s->ring = memory + l->width * l->c; s->next = 0;
  memset(memory, l->zero, (size_t)((l->slots + 1) * l->width * l->c));
}

/* The rows under result row p; rows come in order. */
static void shohin_q8_rows(const struct shohin_q8_layer *l, struct shohin_q8_rows *s, long p, const int8_t **rows) {
  const long first = p * l->sh - l->top, last = first + (l->kh - 1) * l->dh, size = l->w * l->c;
  if (l->slots) {
    const long room = (l->width - l->left) * l->c;
    for (long r = s->next > first ? s->next : first > 0 ? first : 0; r <= last && r < l->h; s->next = ++r)
      memcpy(s->ring + r % l->slots * l->width * l->c + l->left * l->c, s->x + r * size, (size_t)(size < room ? size : room));
  }
  for (long a = 0; a < l->kh; a++) {
    const long r = first + a * l->dh;
    rows[a] = r < 0 || r >= l->h ? s->blank : l->slots ? s->ring + r % l->slots * l->width * l->c : s->x + r * size;
  }
}


/* y = int(rhe(clip(acc * m, lo - z, hi - z))) + z (the clip first, so every conversion rounds alike). acc and m may be
   read to whole vectors of 16, y is not written past n. */
static void shohin_q8_requant(const struct shohin_q8_layer *l, const int32_t *acc, const float *m, int8_t *y, long n) {
  const float lo = (float)(l->lo - l->z), hi = (float)(l->hi - l->z);
#if defined(SHOHIN_Q8_MVE)
#if (__ARM_FEATURE_MVE & 2)
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
#else
  const int32_t z = l->z - 0x4b400000; /* v + 1.5 * 2^23 holds the rounded integer in its low bits */
  for (long i = 0; i < n; i++) {
    union { float f; int32_t i; } bits;
    float v = (float)acc[i] * m[i];
    v = v > lo ? v : lo;
    v = v < hi ? v : hi;
    bits.f = v + 12582912.0f;
    y[i] = (int8_t)(bits.i + z);
  }
#endif
#elif defined(SHOHIN_Q8_AVX512_VNNI)
  const __m512 a = _mm512_set1_ps(lo), c = _mm512_set1_ps(hi);
  const __m512i z = _mm512_set1_epi32(l->z);
#define SHOHIN_Q8_CLOSE(i) _mm512_add_epi32(z, _mm512_cvtps_epi32(_mm512_min_ps(_mm512_max_ps(_mm512_mul_ps( \
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
#elif defined(SHOHIN_Q8_AVX_VNNI)
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
#elif defined(SHOHIN_Q8_AVX2)
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
#elif defined(SHOHIN_Q8_NEON_I8MM)
  const float32x4_t a = vdupq_n_f32(lo), c = vdupq_n_f32(hi);
  const int32x4_t z = vdupq_n_s32(l->z);
#define SHOHIN_Q8_CLOSE(i) vaddq_s32(z, vcvtnq_s32_f32(vminq_f32(vmaxq_f32(vmulq_f32( \
  vcvtq_f32_s32(vld1q_s32(acc + (i))), vld1q_f32(m + (i))), a), c)))
  for (long i = 0; i < n; i += 16) {
    const int16x8_t s = vcombine_s16(vmovn_s32(SHOHIN_Q8_CLOSE(i)), vmovn_s32(SHOHIN_Q8_CLOSE(i + 4)));
    const int16x8_t t = vcombine_s16(vmovn_s32(SHOHIN_Q8_CLOSE(i + 8)), vmovn_s32(SHOHIN_Q8_CLOSE(i + 12)));
    const int8x16_t r = vcombine_s8(vmovn_s16(s), vmovn_s16(t));
    if (n - i >= 16) vst1q_s8(y + i, r);
    else memcpy(y + i, &r, (size_t)(n - i));
  }
#undef SHOHIN_Q8_CLOSE
#elif defined(SHOHIN_Q8_NEON_DOT)
  const float32x4_t a = vdupq_n_f32(lo), c = vdupq_n_f32(hi);
  const int32x4_t z = vdupq_n_s32(l->z);
#define SHOHIN_Q8_CLOSE(i) vaddq_s32(z, vcvtnq_s32_f32(vminq_f32(vmaxq_f32(vmulq_f32( \
  vcvtq_f32_s32(vld1q_s32(acc + (i))), vld1q_f32(m + (i))), a), c)))
  for (long i = 0; i < n; i += 16) {
    const int16x8_t s = vcombine_s16(vmovn_s32(SHOHIN_Q8_CLOSE(i)), vmovn_s32(SHOHIN_Q8_CLOSE(i + 4)));
    const int16x8_t t = vcombine_s16(vmovn_s32(SHOHIN_Q8_CLOSE(i + 8)), vmovn_s32(SHOHIN_Q8_CLOSE(i + 12)));
    const int8x16_t r = vcombine_s8(vmovn_s16(s), vmovn_s16(t));
    if (n - i >= 16) vst1q_s8(y + i, r);
    else memcpy(y + i, &r, (size_t)(n - i));
  }
#undef SHOHIN_Q8_CLOSE
#else
  const int32_t z = l->z - 0x4b400000; /* v + 1.5 * 2^23 holds the rounded integer in its low bits */
  for (long i = 0; i < n; i++) {
    union { float f; int32_t i; } bits;
    float v = (float)acc[i] * m[i];
    v = v > lo ? v : lo;
    v = v < hi ? v : hi;
    bits.f = v + 12582912.0f;
    y[i] = (int8_t)(bits.i + z);
  }
#endif
}

/* Sums of one position and up to a block of channels to the result: int8 through m, or as they are. */
static void shohin_q8_store(const struct shohin_q8_layer *l, const int32_t *acc, const float *m, void *y, long at, long n) {
  if (m) shohin_q8_requant(l, acc, m, (int8_t *)y + at, n);
  else memcpy((int32_t *)y + at, acc, (size_t)n * sizeof(int32_t));
}

#if defined(SHOHIN_Q8_MVE)
static void shohin_q8_dot3(const int8_t *const *rows, long offset, long runs, long blocks, long step, const int8_t *w,
                            const int32_t *bias, int32_t *acc, long groups) {
  const long size = runs * blocks * 64;
  for (long g = 2 * groups, next = 32; g > 0; g--, w += next, next = size - next, bias += 2, acc += 2) {
    const int8_t *v = w;
    int32_t c00 = bias[0], c01 = bias[1];
    int32_t c10 = bias[0], c11 = bias[1];
    int32_t c20 = bias[0], c21 = bias[1];
    long r = 0;
    do {
      const int8_t *x0 = rows[r] + offset, *x1 = x0 + step, *x2 = x1 + step;
      long k = blocks;
      do {
        const int8x16_t w0 = vldrbq_s8(v + 0);
        const int8x16_t w1 = vldrbq_s8(v + 16);
        const int8x16_t y0 = vldrbq_s8(x0); c00 = vmladavaq_s8(c00, y0, w0); c01 = vmladavaq_s8(c01, y0, w1);
        const int8x16_t y1 = vldrbq_s8(x1); c10 = vmladavaq_s8(c10, y1, w0); c11 = vmladavaq_s8(c11, y1, w1);
        const int8x16_t y2 = vldrbq_s8(x2); c20 = vmladavaq_s8(c20, y2, w0); c21 = vmladavaq_s8(c21, y2, w1);
        v += 64; x0 += 16; x1 += 16; x2 += 16;
      } while (--k > 0);
    } while (++r < runs);
    (acc + 0 * SHOHIN_Q8_BLOCK)[0] = c00; (acc + 0 * SHOHIN_Q8_BLOCK)[1] = c01;
    (acc + 1 * SHOHIN_Q8_BLOCK)[0] = c10; (acc + 1 * SHOHIN_Q8_BLOCK)[1] = c11;
    (acc + 2 * SHOHIN_Q8_BLOCK)[0] = c20; (acc + 2 * SHOHIN_Q8_BLOCK)[1] = c21;
  }
}
static void shohin_q8_dot2(const int8_t *const *rows, long offset, long runs, long blocks, long step, const int8_t *w,
                            const int32_t *bias, int32_t *acc, long groups) {
  const long size = runs * blocks * 64;
  for (long g = 2 * groups, next = 32; g > 0; g--, w += next, next = size - next, bias += 2, acc += 2) {
    const int8_t *v = w;
    int32_t c00 = bias[0], c01 = bias[1];
    int32_t c10 = bias[0], c11 = bias[1];
    long r = 0;
    do {
      const int8_t *x0 = rows[r] + offset, *x1 = x0 + step;
      long k = blocks;
      do {
        const int8x16_t w0 = vldrbq_s8(v + 0);
        const int8x16_t w1 = vldrbq_s8(v + 16);
        const int8x16_t y0 = vldrbq_s8(x0); c00 = vmladavaq_s8(c00, y0, w0); c01 = vmladavaq_s8(c01, y0, w1);
        const int8x16_t y1 = vldrbq_s8(x1); c10 = vmladavaq_s8(c10, y1, w0); c11 = vmladavaq_s8(c11, y1, w1);
        v += 64; x0 += 16; x1 += 16;
      } while (--k > 0);
    } while (++r < runs);
    (acc + 0 * SHOHIN_Q8_BLOCK)[0] = c00; (acc + 0 * SHOHIN_Q8_BLOCK)[1] = c01;
    (acc + 1 * SHOHIN_Q8_BLOCK)[0] = c10; (acc + 1 * SHOHIN_Q8_BLOCK)[1] = c11;
  }
}
static void shohin_q8_dot1(const int8_t *const *rows, long offset, long runs, long blocks, long step, const int8_t *w,
                            const int32_t *bias, int32_t *acc, long groups) {
  const long size = runs * blocks * 64;
  (void)step;
  for (long g = 2 * groups, next = 32; g > 0; g--, w += next, next = size - next, bias += 2, acc += 2) {
    const int8_t *v = w;
    int32_t c00 = bias[0], c01 = bias[1];
    long r = 0;
    do {
      const int8_t *x0 = rows[r] + offset;
      long k = blocks;
      do {
        const int8x16_t w0 = vldrbq_s8(v + 0);
        const int8x16_t w1 = vldrbq_s8(v + 16);
        const int8x16_t y0 = vldrbq_s8(x0); c00 = vmladavaq_s8(c00, y0, w0); c01 = vmladavaq_s8(c01, y0, w1);
        v += 64; x0 += 16;
      } while (--k > 0);
    } while (++r < runs);
    (acc + 0 * SHOHIN_Q8_BLOCK)[0] = c00; (acc + 0 * SHOHIN_Q8_BLOCK)[1] = c01;
  }
}
/* Positions of the next tile, of those left. */
static long shohin_q8_tile(long left) { return left >= 3 ? 3 : left >= 2 ? 2 : left > 0; }
static void shohin_q8_dot(long n, const int8_t *const *rows, long offset, long runs, long blocks, long step,
                          const int8_t *w, const int32_t *bias, int32_t *acc, long groups) {
  switch (n) {
    case 3: shohin_q8_dot3(rows, offset, runs, blocks, step, w, bias, acc, groups); break;
    case 2: shohin_q8_dot2(rows, offset, runs, blocks, step, w, bias, acc, groups); break;
    default: shohin_q8_dot1(rows, offset, runs, blocks, step, w, bias, acc, groups);
  }
}
#elif defined(SHOHIN_Q8_AVX512_VNNI)
/* The sums of 16 channels: lane l of part j holds four partial sums of channel 4 j + l. */
static inline void shohin_q8_close(__m512i a, __m512i b, __m512i c, __m512i d, const int32_t *bias, int32_t *acc) {
  const __m512i s = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
  const __m512i t = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
  const __m512i u = _mm512_add_epi32(_mm512_unpacklo_epi64(s, t), _mm512_unpackhi_epi64(s, t));
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  _mm512_storeu_si512(acc, _mm512_add_epi32(_mm512_permutexvar_epi32(order, u), _mm512_loadu_si512(bias)));
}
static void shohin_q8_dot4(const int8_t *const *rows, long offset, long runs, long blocks, long step, const int8_t *w,
                            const int32_t *bias, int32_t *acc, long groups) {
  const long size = runs * blocks * 64;
  for (long g = 0; g < groups; g += 4, bias += 16, acc += 16) {
    const int8_t *v0 = w + (g + 0 < groups ? g + 0 : groups - 1) * size, *v1 = w + (g + 1 < groups ? g + 1 : groups - 1) * size, *v2 = w + (g + 2 < groups ? g + 2 : groups - 1) * size, *v3 = w + (g + 3 < groups ? g + 3 : groups - 1) * size;
    __m512i c00 = _mm512_setzero_si512(), c01 = _mm512_setzero_si512(), c02 = _mm512_setzero_si512(), c03 = _mm512_setzero_si512();
    __m512i c10 = _mm512_setzero_si512(), c11 = _mm512_setzero_si512(), c12 = _mm512_setzero_si512(), c13 = _mm512_setzero_si512();
    __m512i c20 = _mm512_setzero_si512(), c21 = _mm512_setzero_si512(), c22 = _mm512_setzero_si512(), c23 = _mm512_setzero_si512();
    __m512i c30 = _mm512_setzero_si512(), c31 = _mm512_setzero_si512(), c32 = _mm512_setzero_si512(), c33 = _mm512_setzero_si512();
    long r = 0;
    do {
      const int8_t *x0 = rows[r] + offset, *x1 = x0 + step, *x2 = x1 + step, *x3 = x2 + step;
      long k = blocks;
      do {
        const __m512i w0 = _mm512_loadu_si512(v0);
        const __m512i w1 = _mm512_loadu_si512(v1);
        const __m512i w2 = _mm512_loadu_si512(v2);
        const __m512i w3 = _mm512_loadu_si512(v3);
        const __m512i y0 = _mm512_xor_si512(_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(x0))), _mm512_set1_epi8(-128)); c00 = _mm512_dpbusd_epi32(c00, y0, w0); c01 = _mm512_dpbusd_epi32(c01, y0, w1); c02 = _mm512_dpbusd_epi32(c02, y0, w2); c03 = _mm512_dpbusd_epi32(c03, y0, w3);
        const __m512i y1 = _mm512_xor_si512(_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(x1))), _mm512_set1_epi8(-128)); c10 = _mm512_dpbusd_epi32(c10, y1, w0); c11 = _mm512_dpbusd_epi32(c11, y1, w1); c12 = _mm512_dpbusd_epi32(c12, y1, w2); c13 = _mm512_dpbusd_epi32(c13, y1, w3);
        const __m512i y2 = _mm512_xor_si512(_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(x2))), _mm512_set1_epi8(-128)); c20 = _mm512_dpbusd_epi32(c20, y2, w0); c21 = _mm512_dpbusd_epi32(c21, y2, w1); c22 = _mm512_dpbusd_epi32(c22, y2, w2); c23 = _mm512_dpbusd_epi32(c23, y2, w3);
        const __m512i y3 = _mm512_xor_si512(_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(x3))), _mm512_set1_epi8(-128)); c30 = _mm512_dpbusd_epi32(c30, y3, w0); c31 = _mm512_dpbusd_epi32(c31, y3, w1); c32 = _mm512_dpbusd_epi32(c32, y3, w2); c33 = _mm512_dpbusd_epi32(c33, y3, w3);
        v0 += 64; v1 += 64; v2 += 64; v3 += 64; x0 += 16; x1 += 16; x2 += 16; x3 += 16;
      } while (--k > 0);
    } while (++r < runs);
    shohin_q8_close(c00, c01, c02, c03, bias, acc + 0 * SHOHIN_Q8_BLOCK);
    shohin_q8_close(c10, c11, c12, c13, bias, acc + 1 * SHOHIN_Q8_BLOCK);
    shohin_q8_close(c20, c21, c22, c23, bias, acc + 2 * SHOHIN_Q8_BLOCK);
    shohin_q8_close(c30, c31, c32, c33, bias, acc + 3 * SHOHIN_Q8_BLOCK);
  }
}
static void shohin_q8_dot2(const int8_t *const *rows, long offset, long runs, long blocks, long step, const int8_t *w,
                            const int32_t *bias, int32_t *acc, long groups) {
  const long size = runs * blocks * 64;
  for (long g = 0; g < groups; g += 4, bias += 16, acc += 16) {
    const int8_t *v0 = w + (g + 0 < groups ? g + 0 : groups - 1) * size, *v1 = w + (g + 1 < groups ? g + 1 : groups - 1) * size, *v2 = w + (g + 2 < groups ? g + 2 : groups - 1) * size, *v3 = w + (g + 3 < groups ? g + 3 : groups - 1) * size;
    __m512i c00 = _mm512_setzero_si512(), c01 = _mm512_setzero_si512(), c02 = _mm512_setzero_si512(), c03 = _mm512_setzero_si512();
    __m512i c10 = _mm512_setzero_si512(), c11 = _mm512_setzero_si512(), c12 = _mm512_setzero_si512(), c13 = _mm512_setzero_si512();
    long r = 0;
    do {
      const int8_t *x0 = rows[r] + offset, *x1 = x0 + step;
      long k = blocks;
      do {
        const __m512i w0 = _mm512_loadu_si512(v0);
        const __m512i w1 = _mm512_loadu_si512(v1);
        const __m512i w2 = _mm512_loadu_si512(v2);
        const __m512i w3 = _mm512_loadu_si512(v3);
        const __m512i y0 = _mm512_xor_si512(_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(x0))), _mm512_set1_epi8(-128)); c00 = _mm512_dpbusd_epi32(c00, y0, w0); c01 = _mm512_dpbusd_epi32(c01, y0, w1); c02 = _mm512_dpbusd_epi32(c02, y0, w2); c03 = _mm512_dpbusd_epi32(c03, y0, w3);
        const __m512i y1 = _mm512_xor_si512(_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(x1))), _mm512_set1_epi8(-128)); c10 = _mm512_dpbusd_epi32(c10, y1, w0); c11 = _mm512_dpbusd_epi32(c11, y1, w1); c12 = _mm512_dpbusd_epi32(c12, y1, w2); c13 = _mm512_dpbusd_epi32(c13, y1, w3);
        v0 += 64; v1 += 64; v2 += 64; v3 += 64; x0 += 16; x1 += 16;
      } while (--k > 0);
    } while (++r < runs);
    shohin_q8_close(c00, c01, c02, c03, bias, acc + 0 * SHOHIN_Q8_BLOCK);
    shohin_q8_close(c10, c11, c12, c13, bias, acc + 1 * SHOHIN_Q8_BLOCK);
  }
}
static void shohin_q8_dot1(const int8_t *const *rows, long offset, long runs, long blocks, long step, const int8_t *w,
                            const int32_t *bias, int32_t *acc, long groups) {
  const long size = runs * blocks * 64;
  (void)step;
  for (long g = 0; g < groups; g += 4, bias += 16, acc += 16) {
    const int8_t *v0 = w + (g + 0 < groups ? g + 0 : groups - 1) * size, *v1 = w + (g + 1 < groups ? g + 1 : groups - 1) * size, *v2 = w + (g + 2 < groups ? g + 2 : groups - 1) * size, *v3 = w + (g + 3 < groups ? g + 3 : groups - 1) * size;
    __m512i c00 = _mm512_setzero_si512(), c01 = _mm512_setzero_si512(), c02 = _mm512_setzero_si512(), c03 = _mm512_setzero_si512();
    long r = 0;
    do {
      const int8_t *x0 = rows[r] + offset;
      long k = blocks;
      do {
        const __m512i w0 = _mm512_loadu_si512(v0);
        const __m512i w1 = _mm512_loadu_si512(v1);
        const __m512i w2 = _mm512_loadu_si512(v2);
        const __m512i w3 = _mm512_loadu_si512(v3);
        const __m512i y0 = _mm512_xor_si512(_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(x0))), _mm512_set1_epi8(-128)); c00 = _mm512_dpbusd_epi32(c00, y0, w0); c01 = _mm512_dpbusd_epi32(c01, y0, w1); c02 = _mm512_dpbusd_epi32(c02, y0, w2); c03 = _mm512_dpbusd_epi32(c03, y0, w3);
        v0 += 64; v1 += 64; v2 += 64; v3 += 64; x0 += 16;
      } while (--k > 0);
    } while (++r < runs);
    shohin_q8_close(c00, c01, c02, c03, bias, acc + 0 * SHOHIN_Q8_BLOCK);
  }
}
static void shohin_q8_dot0(const int8_t *const *rows, long offset, long runs, long blocks, long step, const int8_t *w,
                            const int32_t *bias, int32_t *acc, long groups) {
  const long size = runs * blocks * 64;
  for (long g = 0; g < groups; g += 4, bias += 16, acc += 16) {
    const int8_t *v0 = w + (g + 0 < groups ? g + 0 : groups - 1) * size, *v1 = w + (g + 1 < groups ? g + 1 : groups - 1) * size, *v2 = w + (g + 2 < groups ? g + 2 : groups - 1) * size, *v3 = w + (g + 3 < groups ? g + 3 : groups - 1) * size;
    __m512i c00 = _mm512_setzero_si512(), c01 = _mm512_setzero_si512(), c02 = _mm512_setzero_si512(), c03 = _mm512_setzero_si512();
    long r = 0;
    do {
      (void)rows; (void)offset; (void)step;
      long k = blocks;
      do {
        const __m512i w0 = _mm512_loadu_si512(v0);
        const __m512i w1 = _mm512_loadu_si512(v1);
        const __m512i w2 = _mm512_loadu_si512(v2);
        const __m512i w3 = _mm512_loadu_si512(v3);
        c00 = _mm512_dpbusd_epi32(c00, _mm512_set1_epi8(-128), w0); c01 = _mm512_dpbusd_epi32(c01, _mm512_set1_epi8(-128), w1); c02 = _mm512_dpbusd_epi32(c02, _mm512_set1_epi8(-128), w2); c03 = _mm512_dpbusd_epi32(c03, _mm512_set1_epi8(-128), w3);
        v0 += 64; v1 += 64; v2 += 64; v3 += 64; 
      } while (--k > 0);
    } while (++r < runs);
    shohin_q8_close(c00, c01, c02, c03, bias, acc + 0 * SHOHIN_Q8_BLOCK);
  }
}
/* bias - 128 * sum(w): what operands that come as q + 128 are to begin with. */
static void shohin_q8_shift(const int8_t *w, const int32_t *bias, int32_t *to, long runs, long blocks, long groups) {
  shohin_q8_dot0((const int8_t *const *)0, 0, runs, blocks, 0, w, bias, to, groups);
  for (long i = 0; i < 4 * groups; i++) to[i] = (int32_t)(2u * (uint32_t)bias[i] - (uint32_t)to[i]);
}
/* Positions of the next tile, of those left. */
static long shohin_q8_tile(long left) { return left >= 4 ? 4 : left >= 2 ? 2 : left > 0; }
static void shohin_q8_dot(long n, const int8_t *const *rows, long offset, long runs, long blocks, long step,
                          const int8_t *w, const int32_t *bias, int32_t *acc, long groups) {
  switch (n) {
    case 4: shohin_q8_dot4(rows, offset, runs, blocks, step, w, bias, acc, groups); break;
    case 2: shohin_q8_dot2(rows, offset, runs, blocks, step, w, bias, acc, groups); break;
    default: shohin_q8_dot1(rows, offset, runs, blocks, step, w, bias, acc, groups);
  }
}
#elif defined(SHOHIN_Q8_AVX_VNNI)
/* Two channels a vector, four partial sums each. */
static inline void shohin_q8_close(__m256i a, __m256i b, const int32_t *bias, int32_t *acc) {
  const __m256i t = _mm256_hadd_epi32(a, b), u = _mm256_hadd_epi32(t, t);
  const __m128i s = _mm_unpacklo_epi32(_mm256_castsi256_si128(u), _mm256_extracti128_si256(u, 1));
  _mm_storeu_si128((__m128i *)acc, _mm_add_epi32(s, _mm_loadu_si128((const __m128i *)bias)));
}
static void shohin_q8_dot4(const int8_t *const *rows, long offset, long runs, long blocks, long step, const int8_t *w,
                            const int32_t *bias, int32_t *acc, long groups) {
  const long size = runs * blocks * 64;
  for (long g = groups; g > 0; g--, w += size, bias += 4, acc += 4) {
    const int8_t *v = w;
    __m256i c00 = _mm256_setzero_si256(), c01 = _mm256_setzero_si256();
    __m256i c10 = _mm256_setzero_si256(), c11 = _mm256_setzero_si256();
    __m256i c20 = _mm256_setzero_si256(), c21 = _mm256_setzero_si256();
    __m256i c30 = _mm256_setzero_si256(), c31 = _mm256_setzero_si256();
    long r = 0;
    do {
      const int8_t *x0 = rows[r] + offset, *x1 = x0 + step, *x2 = x1 + step, *x3 = x2 + step;
      long k = blocks;
      do {
        const __m256i w0 = _mm256_loadu_si256((const __m256i *)(v + 0));
        const __m256i w1 = _mm256_loadu_si256((const __m256i *)(v + 32));
        const __m256i y0 = _mm256_xor_si256(_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(x0))), _mm256_set1_epi8(-128)); c00 = _mm256_dpbusd_avx_epi32(c00, y0, w0); c01 = _mm256_dpbusd_avx_epi32(c01, y0, w1);
        const __m256i y1 = _mm256_xor_si256(_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(x1))), _mm256_set1_epi8(-128)); c10 = _mm256_dpbusd_avx_epi32(c10, y1, w0); c11 = _mm256_dpbusd_avx_epi32(c11, y1, w1);
        const __m256i y2 = _mm256_xor_si256(_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(x2))), _mm256_set1_epi8(-128)); c20 = _mm256_dpbusd_avx_epi32(c20, y2, w0); c21 = _mm256_dpbusd_avx_epi32(c21, y2, w1);
        const __m256i y3 = _mm256_xor_si256(_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(x3))), _mm256_set1_epi8(-128)); c30 = _mm256_dpbusd_avx_epi32(c30, y3, w0); c31 = _mm256_dpbusd_avx_epi32(c31, y3, w1);
        v += 64; x0 += 16; x1 += 16; x2 += 16; x3 += 16;
      } while (--k > 0);
    } while (++r < runs);
    shohin_q8_close(c00, c01, bias, acc + 0 * SHOHIN_Q8_BLOCK);
    shohin_q8_close(c10, c11, bias, acc + 1 * SHOHIN_Q8_BLOCK);
    shohin_q8_close(c20, c21, bias, acc + 2 * SHOHIN_Q8_BLOCK);
    shohin_q8_close(c30, c31, bias, acc + 3 * SHOHIN_Q8_BLOCK);
  }
}
static void shohin_q8_dot2(const int8_t *const *rows, long offset, long runs, long blocks, long step, const int8_t *w,
                            const int32_t *bias, int32_t *acc, long groups) {
  const long size = runs * blocks * 64;
  for (long g = groups; g > 0; g--, w += size, bias += 4, acc += 4) {
    const int8_t *v = w;
    __m256i c00 = _mm256_setzero_si256(), c01 = _mm256_setzero_si256();
    __m256i c10 = _mm256_setzero_si256(), c11 = _mm256_setzero_si256();
    long r = 0;
    do {
      const int8_t *x0 = rows[r] + offset, *x1 = x0 + step;
      long k = blocks;
      do {
        const __m256i w0 = _mm256_loadu_si256((const __m256i *)(v + 0));
        const __m256i w1 = _mm256_loadu_si256((const __m256i *)(v + 32));
        const __m256i y0 = _mm256_xor_si256(_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(x0))), _mm256_set1_epi8(-128)); c00 = _mm256_dpbusd_avx_epi32(c00, y0, w0); c01 = _mm256_dpbusd_avx_epi32(c01, y0, w1);
        const __m256i y1 = _mm256_xor_si256(_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(x1))), _mm256_set1_epi8(-128)); c10 = _mm256_dpbusd_avx_epi32(c10, y1, w0); c11 = _mm256_dpbusd_avx_epi32(c11, y1, w1);
        v += 64; x0 += 16; x1 += 16;
      } while (--k > 0);
    } while (++r < runs);
    shohin_q8_close(c00, c01, bias, acc + 0 * SHOHIN_Q8_BLOCK);
    shohin_q8_close(c10, c11, bias, acc + 1 * SHOHIN_Q8_BLOCK);
  }
}
static void shohin_q8_dot1(const int8_t *const *rows, long offset, long runs, long blocks, long step, const int8_t *w,
                            const int32_t *bias, int32_t *acc, long groups) {
  const long size = runs * blocks * 64;
  (void)step;
  for (long g = groups; g > 0; g--, w += size, bias += 4, acc += 4) {
    const int8_t *v = w;
    __m256i c00 = _mm256_setzero_si256(), c01 = _mm256_setzero_si256();
    long r = 0;
    do {
      const int8_t *x0 = rows[r] + offset;
      long k = blocks;
      do {
        const __m256i w0 = _mm256_loadu_si256((const __m256i *)(v + 0));
        const __m256i w1 = _mm256_loadu_si256((const __m256i *)(v + 32));
        const __m256i y0 = _mm256_xor_si256(_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(x0))), _mm256_set1_epi8(-128)); c00 = _mm256_dpbusd_avx_epi32(c00, y0, w0); c01 = _mm256_dpbusd_avx_epi32(c01, y0, w1);
        v += 64; x0 += 16;
      } while (--k > 0);
    } while (++r < runs);
    shohin_q8_close(c00, c01, bias, acc + 0 * SHOHIN_Q8_BLOCK);
  }
}
static void shohin_q8_dot0(const int8_t *const *rows, long offset, long runs, long blocks, long step, const int8_t *w,
                            const int32_t *bias, int32_t *acc, long groups) {
  const long size = runs * blocks * 64;
  for (long g = groups; g > 0; g--, w += size, bias += 4, acc += 4) {
    const int8_t *v = w;
    __m256i c00 = _mm256_setzero_si256(), c01 = _mm256_setzero_si256();
    long r = 0;
    do {
      (void)rows; (void)offset; (void)step;
      long k = blocks;
      do {
        const __m256i w0 = _mm256_loadu_si256((const __m256i *)(v + 0));
        const __m256i w1 = _mm256_loadu_si256((const __m256i *)(v + 32));
        c00 = _mm256_dpbusd_avx_epi32(c00, _mm256_set1_epi8(-128), w0); c01 = _mm256_dpbusd_avx_epi32(c01, _mm256_set1_epi8(-128), w1);
        v += 64; 
      } while (--k > 0);
    } while (++r < runs);
    shohin_q8_close(c00, c01, bias, acc + 0 * SHOHIN_Q8_BLOCK);
  }
}
/* bias - 128 * sum(w): what operands that come as q + 128 are to begin with. */
static void shohin_q8_shift(const int8_t *w, const int32_t *bias, int32_t *to, long runs, long blocks, long groups) {
  shohin_q8_dot0((const int8_t *const *)0, 0, runs, blocks, 0, w, bias, to, groups);
  for (long i = 0; i < 4 * groups; i++) to[i] = (int32_t)(2u * (uint32_t)bias[i] - (uint32_t)to[i]);
}
/* Positions of the next tile, of those left. */
static long shohin_q8_tile(long left) { return left >= 4 ? 4 : left >= 2 ? 2 : left > 0; }
static void shohin_q8_dot(long n, const int8_t *const *rows, long offset, long runs, long blocks, long step,
                          const int8_t *w, const int32_t *bias, int32_t *acc, long groups) {
  switch (n) {
    case 4: shohin_q8_dot4(rows, offset, runs, blocks, step, w, bias, acc, groups); break;
    case 2: shohin_q8_dot2(rows, offset, runs, blocks, step, w, bias, acc, groups); break;
    default: shohin_q8_dot1(rows, offset, runs, blocks, step, w, bias, acc, groups);
  }
}
#elif defined(SHOHIN_Q8_AVX2)
/* Four vectors of partial sums: each added up, and the bias. */
static inline void shohin_q8_close(__m256i a, __m256i b, __m256i c, __m256i d, const int32_t *bias, int32_t *acc) {
  const __m256i t = _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
  const __m128i s = _mm_add_epi32(_mm256_castsi256_si128(t), _mm256_extracti128_si256(t, 1));
  _mm_storeu_si128((__m128i *)acc, _mm_add_epi32(s, _mm_loadu_si128((const __m128i *)bias)));
}
static void shohin_q8_dot3(const int8_t *const *rows, long offset, long runs, long blocks, long step, const int8_t *w,
                            const int32_t *bias, int32_t *acc, long groups) {
  const long size = runs * blocks * 64;
  (void)offset; (void)step;
  for (long g = groups; g > 0; g--, w += size, bias += 4, acc += 4) {
    const int8_t *v = w;
    __m256i c00 = _mm256_setzero_si256(), c01 = _mm256_setzero_si256(), c02 = _mm256_setzero_si256(), c03 = _mm256_setzero_si256();
    __m256i c10 = _mm256_setzero_si256(), c11 = _mm256_setzero_si256(), c12 = _mm256_setzero_si256(), c13 = _mm256_setzero_si256();
    __m256i c20 = _mm256_setzero_si256(), c21 = _mm256_setzero_si256(), c22 = _mm256_setzero_si256(), c23 = _mm256_setzero_si256();
    long r = 0;
    do {
      const int16_t *x = (const int16_t *)(const void *)rows[r];
      long k = blocks;
      do {
        { const __m256i w0 = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(v + 0))); { const __m256i y0 = _mm256_loadu_si256((const __m256i *)(x + 0)); c00 = _mm256_add_epi32(c00, _mm256_madd_epi16(y0, w0)); } { const __m256i y1 = _mm256_loadu_si256((const __m256i *)(x + 16)); c10 = _mm256_add_epi32(c10, _mm256_madd_epi16(y1, w0)); } { const __m256i y2 = _mm256_loadu_si256((const __m256i *)(x + 32)); c20 = _mm256_add_epi32(c20, _mm256_madd_epi16(y2, w0)); } SHOHIN_Q8_RELOAD }
        { const __m256i w1 = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(v + 16))); { const __m256i y0 = _mm256_loadu_si256((const __m256i *)(x + 0)); c01 = _mm256_add_epi32(c01, _mm256_madd_epi16(y0, w1)); } { const __m256i y1 = _mm256_loadu_si256((const __m256i *)(x + 16)); c11 = _mm256_add_epi32(c11, _mm256_madd_epi16(y1, w1)); } { const __m256i y2 = _mm256_loadu_si256((const __m256i *)(x + 32)); c21 = _mm256_add_epi32(c21, _mm256_madd_epi16(y2, w1)); } SHOHIN_Q8_RELOAD }
        { const __m256i w2 = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(v + 32))); { const __m256i y0 = _mm256_loadu_si256((const __m256i *)(x + 0)); c02 = _mm256_add_epi32(c02, _mm256_madd_epi16(y0, w2)); } { const __m256i y1 = _mm256_loadu_si256((const __m256i *)(x + 16)); c12 = _mm256_add_epi32(c12, _mm256_madd_epi16(y1, w2)); } { const __m256i y2 = _mm256_loadu_si256((const __m256i *)(x + 32)); c22 = _mm256_add_epi32(c22, _mm256_madd_epi16(y2, w2)); } SHOHIN_Q8_RELOAD }
        { const __m256i w3 = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(v + 48))); { const __m256i y0 = _mm256_loadu_si256((const __m256i *)(x + 0)); c03 = _mm256_add_epi32(c03, _mm256_madd_epi16(y0, w3)); } { const __m256i y1 = _mm256_loadu_si256((const __m256i *)(x + 16)); c13 = _mm256_add_epi32(c13, _mm256_madd_epi16(y1, w3)); } { const __m256i y2 = _mm256_loadu_si256((const __m256i *)(x + 32)); c23 = _mm256_add_epi32(c23, _mm256_madd_epi16(y2, w3)); } SHOHIN_Q8_RELOAD }
        v += 64; x += 48;
      } while (--k > 0);
    } while (++r < runs);
    shohin_q8_close(c00, c01, c02, c03, bias, acc + 0 * SHOHIN_Q8_BLOCK);
    shohin_q8_close(c10, c11, c12, c13, bias, acc + 1 * SHOHIN_Q8_BLOCK);
    shohin_q8_close(c20, c21, c22, c23, bias, acc + 2 * SHOHIN_Q8_BLOCK);
  }
}
static void shohin_q8_dot2(const int8_t *const *rows, long offset, long runs, long blocks, long step, const int8_t *w,
                            const int32_t *bias, int32_t *acc, long groups) {
  const long size = runs * blocks * 64;
  (void)offset; (void)step;
  for (long g = groups; g > 0; g--, w += size, bias += 4, acc += 4) {
    const int8_t *v = w;
    __m256i c00 = _mm256_setzero_si256(), c01 = _mm256_setzero_si256(), c02 = _mm256_setzero_si256(), c03 = _mm256_setzero_si256();
    __m256i c10 = _mm256_setzero_si256(), c11 = _mm256_setzero_si256(), c12 = _mm256_setzero_si256(), c13 = _mm256_setzero_si256();
    long r = 0;
    do {
      const int16_t *x = (const int16_t *)(const void *)rows[r];
      long k = blocks;
      do {
        { const __m256i w0 = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(v + 0))); { const __m256i y0 = _mm256_loadu_si256((const __m256i *)(x + 0)); c00 = _mm256_add_epi32(c00, _mm256_madd_epi16(y0, w0)); } { const __m256i y1 = _mm256_loadu_si256((const __m256i *)(x + 16)); c10 = _mm256_add_epi32(c10, _mm256_madd_epi16(y1, w0)); } SHOHIN_Q8_RELOAD }
        { const __m256i w1 = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(v + 16))); { const __m256i y0 = _mm256_loadu_si256((const __m256i *)(x + 0)); c01 = _mm256_add_epi32(c01, _mm256_madd_epi16(y0, w1)); } { const __m256i y1 = _mm256_loadu_si256((const __m256i *)(x + 16)); c11 = _mm256_add_epi32(c11, _mm256_madd_epi16(y1, w1)); } SHOHIN_Q8_RELOAD }
        { const __m256i w2 = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(v + 32))); { const __m256i y0 = _mm256_loadu_si256((const __m256i *)(x + 0)); c02 = _mm256_add_epi32(c02, _mm256_madd_epi16(y0, w2)); } { const __m256i y1 = _mm256_loadu_si256((const __m256i *)(x + 16)); c12 = _mm256_add_epi32(c12, _mm256_madd_epi16(y1, w2)); } SHOHIN_Q8_RELOAD }
        { const __m256i w3 = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(v + 48))); { const __m256i y0 = _mm256_loadu_si256((const __m256i *)(x + 0)); c03 = _mm256_add_epi32(c03, _mm256_madd_epi16(y0, w3)); } { const __m256i y1 = _mm256_loadu_si256((const __m256i *)(x + 16)); c13 = _mm256_add_epi32(c13, _mm256_madd_epi16(y1, w3)); } SHOHIN_Q8_RELOAD }
        v += 64; x += 32;
      } while (--k > 0);
    } while (++r < runs);
    shohin_q8_close(c00, c01, c02, c03, bias, acc + 0 * SHOHIN_Q8_BLOCK);
    shohin_q8_close(c10, c11, c12, c13, bias, acc + 1 * SHOHIN_Q8_BLOCK);
  }
}
static void shohin_q8_dot1(const int8_t *const *rows, long offset, long runs, long blocks, long step, const int8_t *w,
                            const int32_t *bias, int32_t *acc, long groups) {
  const long size = runs * blocks * 64;
  (void)offset; (void)step;
  for (long g = groups; g > 0; g--, w += size, bias += 4, acc += 4) {
    const int8_t *v = w;
    __m256i c00 = _mm256_setzero_si256(), c01 = _mm256_setzero_si256(), c02 = _mm256_setzero_si256(), c03 = _mm256_setzero_si256();
    long r = 0;
    do {
      const int16_t *x = (const int16_t *)(const void *)rows[r];
      long k = blocks;
      do {
        { const __m256i w0 = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(v + 0))); { const __m256i y0 = _mm256_loadu_si256((const __m256i *)(x + 0)); c00 = _mm256_add_epi32(c00, _mm256_madd_epi16(y0, w0)); } SHOHIN_Q8_RELOAD }
        { const __m256i w1 = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(v + 16))); { const __m256i y0 = _mm256_loadu_si256((const __m256i *)(x + 0)); c01 = _mm256_add_epi32(c01, _mm256_madd_epi16(y0, w1)); } SHOHIN_Q8_RELOAD }
        { const __m256i w2 = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(v + 32))); { const __m256i y0 = _mm256_loadu_si256((const __m256i *)(x + 0)); c02 = _mm256_add_epi32(c02, _mm256_madd_epi16(y0, w2)); } SHOHIN_Q8_RELOAD }
        { const __m256i w3 = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(v + 48))); { const __m256i y0 = _mm256_loadu_si256((const __m256i *)(x + 0)); c03 = _mm256_add_epi32(c03, _mm256_madd_epi16(y0, w3)); } SHOHIN_Q8_RELOAD }
        v += 64; x += 16;
      } while (--k > 0);
    } while (++r < runs);
    shohin_q8_close(c00, c01, c02, c03, bias, acc + 0 * SHOHIN_Q8_BLOCK);
  }
}
static void shohin_q8_stage3(const int8_t *const *rows, long offset, long runs, long blocks, long step, int16_t *to) {
  (void)step;
  for (long r = 0; r < runs; r++) {
    const int8_t *x0 = rows[r] + offset, *x1 = x0 + step, *x2 = x1 + step;
    for (long k = blocks; k > 0; k--, to += 48) {
      _mm256_storeu_si256((__m256i *)(to + 0), _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(x0)))); x0 += 16;
      _mm256_storeu_si256((__m256i *)(to + 16), _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(x1)))); x1 += 16;
      _mm256_storeu_si256((__m256i *)(to + 32), _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(x2)))); x2 += 16;
    }
  }
}
static void shohin_q8_stage2(const int8_t *const *rows, long offset, long runs, long blocks, long step, int16_t *to) {
  (void)step;
  for (long r = 0; r < runs; r++) {
    const int8_t *x0 = rows[r] + offset, *x1 = x0 + step;
    for (long k = blocks; k > 0; k--, to += 32) {
      _mm256_storeu_si256((__m256i *)(to + 0), _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(x0)))); x0 += 16;
      _mm256_storeu_si256((__m256i *)(to + 16), _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(x1)))); x1 += 16;
    }
  }
}
static void shohin_q8_stage1(const int8_t *const *rows, long offset, long runs, long blocks, long step, int16_t *to) {
  (void)step;
  for (long r = 0; r < runs; r++) {
    const int8_t *x0 = rows[r] + offset;
    for (long k = blocks; k > 0; k--, to += 16) {
      _mm256_storeu_si256((__m256i *)(to + 0), _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(x0)))); x0 += 16;
    }
  }
}
/* n positions as [runs * blocks][n][16]. */
static void shohin_q8_stage(long n, const int8_t *const *rows, long offset, long runs, long blocks, long step, int16_t *to) {
  switch (n) {
    case 3: shohin_q8_stage3(rows, offset, runs, blocks, step, to); break;
    case 2: shohin_q8_stage2(rows, offset, runs, blocks, step, to); break;
    default: shohin_q8_stage1(rows, offset, runs, blocks, step, to);
  }
}
/* Positions of the next tile, of those left. */
static long shohin_q8_tile(long left) { return left >= 3 ? 3 : left >= 2 ? 2 : left > 0; }
static void shohin_q8_dot(long n, const int8_t *const *rows, long offset, long runs, long blocks, long step,
                          const int8_t *w, const int32_t *bias, int32_t *acc, long groups) {
  switch (n) {
    case 3: shohin_q8_dot3(rows, offset, runs, blocks, step, w, bias, acc, groups); break;
    case 2: shohin_q8_dot2(rows, offset, runs, blocks, step, w, bias, acc, groups); break;
    default: shohin_q8_dot1(rows, offset, runs, blocks, step, w, bias, acc, groups);
  }
}
#elif defined(SHOHIN_Q8_NEON_I8MM)
/* Of two positions the sums of two channels side by side. */
static inline void shohin_q8_close(int32x4_t a, int32x4_t b, const int32_t *bias, int32_t *acc, int32_t *next) {
  const int32x4_t add = vld1q_s32(bias);
  const int64x2_t c = vreinterpretq_s64_s32(a), d = vreinterpretq_s64_s32(b);
  vst1q_s32(next, vaddq_s32(vreinterpretq_s32_s64(vzip2q_s64(c, d)), add));
  vst1q_s32(acc, vaddq_s32(vreinterpretq_s32_s64(vzip1q_s64(c, d)), add));
}
static void shohin_q8_dot4(const int8_t *const *rows, long offset, long runs, long blocks, long step, const int8_t *w,
                            const int32_t *bias, int32_t *acc, long groups) {
  const long size = runs * blocks * 64;
  for (long g = groups; g > 0; g--, w += size, bias += 4, acc += 4) {
    const int8_t *v = w;
    int32x4_t c00 = vdupq_n_s32(0), c01 = vdupq_n_s32(0);
    int32x4_t c20 = vdupq_n_s32(0), c21 = vdupq_n_s32(0);
    long r = 0;
    do {
      const int8_t *x0 = rows[r] + offset, *x1 = x0 + step, *x2 = x1 + step, *x3 = x2 + step;
      long k = blocks;
      do {
        const int64x2_t w0p = vreinterpretq_s64_s8(vld1q_s8(v + 0)), w0q = vreinterpretq_s64_s8(vld1q_s8(v + 0 + 16)); const int8x16_t w0a = vreinterpretq_s8_s64(vzip1q_s64(w0p, w0q)), w0b = vreinterpretq_s8_s64(vzip2q_s64(w0p, w0q));
        const int64x2_t w1p = vreinterpretq_s64_s8(vld1q_s8(v + 32)), w1q = vreinterpretq_s64_s8(vld1q_s8(v + 32 + 16)); const int8x16_t w1a = vreinterpretq_s8_s64(vzip1q_s64(w1p, w1q)), w1b = vreinterpretq_s8_s64(vzip2q_s64(w1p, w1q));
        const int64x2_t y0p = vreinterpretq_s64_s8(vld1q_s8(x0)), y0q = vreinterpretq_s64_s8(vld1q_s8(x1)); const int8x16_t y0a = vreinterpretq_s8_s64(vzip1q_s64(y0p, y0q)), y0b = vreinterpretq_s8_s64(vzip2q_s64(y0p, y0q)); c00 = vmmlaq_s32(vmmlaq_s32(c00, y0a, w0a), y0b, w0b); c01 = vmmlaq_s32(vmmlaq_s32(c01, y0a, w1a), y0b, w1b);
        const int64x2_t y2p = vreinterpretq_s64_s8(vld1q_s8(x2)), y2q = vreinterpretq_s64_s8(vld1q_s8(x3)); const int8x16_t y2a = vreinterpretq_s8_s64(vzip1q_s64(y2p, y2q)), y2b = vreinterpretq_s8_s64(vzip2q_s64(y2p, y2q)); c20 = vmmlaq_s32(vmmlaq_s32(c20, y2a, w0a), y2b, w0b); c21 = vmmlaq_s32(vmmlaq_s32(c21, y2a, w1a), y2b, w1b);
        v += 64; x0 += 16; x1 += 16; x2 += 16; x3 += 16;
      } while (--k > 0);
    } while (++r < runs);
    shohin_q8_close(c00, c01, bias, acc + 0 * SHOHIN_Q8_BLOCK, acc + 1 * SHOHIN_Q8_BLOCK);
    shohin_q8_close(c20, c21, bias, acc + 2 * SHOHIN_Q8_BLOCK, acc + 3 * SHOHIN_Q8_BLOCK);
  }
}
static void shohin_q8_dot2(const int8_t *const *rows, long offset, long runs, long blocks, long step, const int8_t *w,
                            const int32_t *bias, int32_t *acc, long groups) {
  const long size = runs * blocks * 64;
  for (long g = groups; g > 0; g--, w += size, bias += 4, acc += 4) {
    const int8_t *v = w;
    int32x4_t c00 = vdupq_n_s32(0), c01 = vdupq_n_s32(0);
    long r = 0;
    do {
      const int8_t *x0 = rows[r] + offset, *x1 = x0 + step;
      long k = blocks;
      do {
        const int64x2_t w0p = vreinterpretq_s64_s8(vld1q_s8(v + 0)), w0q = vreinterpretq_s64_s8(vld1q_s8(v + 0 + 16)); const int8x16_t w0a = vreinterpretq_s8_s64(vzip1q_s64(w0p, w0q)), w0b = vreinterpretq_s8_s64(vzip2q_s64(w0p, w0q));
        const int64x2_t w1p = vreinterpretq_s64_s8(vld1q_s8(v + 32)), w1q = vreinterpretq_s64_s8(vld1q_s8(v + 32 + 16)); const int8x16_t w1a = vreinterpretq_s8_s64(vzip1q_s64(w1p, w1q)), w1b = vreinterpretq_s8_s64(vzip2q_s64(w1p, w1q));
        const int64x2_t y0p = vreinterpretq_s64_s8(vld1q_s8(x0)), y0q = vreinterpretq_s64_s8(vld1q_s8(x1)); const int8x16_t y0a = vreinterpretq_s8_s64(vzip1q_s64(y0p, y0q)), y0b = vreinterpretq_s8_s64(vzip2q_s64(y0p, y0q)); c00 = vmmlaq_s32(vmmlaq_s32(c00, y0a, w0a), y0b, w0b); c01 = vmmlaq_s32(vmmlaq_s32(c01, y0a, w1a), y0b, w1b);
        v += 64; x0 += 16; x1 += 16;
      } while (--k > 0);
    } while (++r < runs);
    shohin_q8_close(c00, c01, bias, acc + 0 * SHOHIN_Q8_BLOCK, acc + 1 * SHOHIN_Q8_BLOCK);
  }
}
static void shohin_q8_dot1(const int8_t *const *rows, long offset, long runs, long blocks, long step, const int8_t *w,
                            const int32_t *bias, int32_t *acc, long groups) {
  const long size = runs * blocks * 64;
  (void)step;
  for (long g = groups; g > 0; g--, w += size, bias += 4, acc += 4) {
    const int8_t *v = w;
    int32x4_t c00 = vdupq_n_s32(0), c01 = vdupq_n_s32(0);
    long r = 0;
    do {
      const int8_t *x0 = rows[r] + offset;
      long k = blocks;
      do {
        const int64x2_t w0p = vreinterpretq_s64_s8(vld1q_s8(v + 0)), w0q = vreinterpretq_s64_s8(vld1q_s8(v + 0 + 16)); const int8x16_t w0a = vreinterpretq_s8_s64(vzip1q_s64(w0p, w0q)), w0b = vreinterpretq_s8_s64(vzip2q_s64(w0p, w0q));
        const int64x2_t w1p = vreinterpretq_s64_s8(vld1q_s8(v + 32)), w1q = vreinterpretq_s64_s8(vld1q_s8(v + 32 + 16)); const int8x16_t w1a = vreinterpretq_s8_s64(vzip1q_s64(w1p, w1q)), w1b = vreinterpretq_s8_s64(vzip2q_s64(w1p, w1q));
        const int64x2_t y0p = vreinterpretq_s64_s8(vld1q_s8(x0)), y0q = vreinterpretq_s64_s8(vld1q_s8(x0)); const int8x16_t y0a = vreinterpretq_s8_s64(vzip1q_s64(y0p, y0q)), y0b = vreinterpretq_s8_s64(vzip2q_s64(y0p, y0q)); c00 = vmmlaq_s32(vmmlaq_s32(c00, y0a, w0a), y0b, w0b); c01 = vmmlaq_s32(vmmlaq_s32(c01, y0a, w1a), y0b, w1b);
        v += 64; x0 += 16;
      } while (--k > 0);
    } while (++r < runs);
    shohin_q8_close(c00, c01, bias, acc + 0 * SHOHIN_Q8_BLOCK, acc + 0 * SHOHIN_Q8_BLOCK);
  }
}
/* Positions of the next tile, of those left. */
static long shohin_q8_tile(long left) { return left >= 4 ? 4 : left >= 2 ? 2 : left > 0; }
static void shohin_q8_dot(long n, const int8_t *const *rows, long offset, long runs, long blocks, long step,
                          const int8_t *w, const int32_t *bias, int32_t *acc, long groups) {
  switch (n) {
    case 4: shohin_q8_dot4(rows, offset, runs, blocks, step, w, bias, acc, groups); break;
    case 2: shohin_q8_dot2(rows, offset, runs, blocks, step, w, bias, acc, groups); break;
    default: shohin_q8_dot1(rows, offset, runs, blocks, step, w, bias, acc, groups);
  }
}
#elif defined(SHOHIN_Q8_NEON_DOT)
static inline void shohin_q8_close(int32x4_t a, int32x4_t b, int32x4_t c, int32x4_t d, const int32_t *bias, int32_t *acc) {
  vst1q_s32(acc, vaddq_s32(vpaddq_s32(vpaddq_s32(a, b), vpaddq_s32(c, d)), vld1q_s32(bias)));
}
static void shohin_q8_dot4(const int8_t *const *rows, long offset, long runs, long blocks, long step, const int8_t *w,
                            const int32_t *bias, int32_t *acc, long groups) {
  const long size = runs * blocks * 64;
  for (long g = groups; g > 0; g--, w += size, bias += 4, acc += 4) {
    const int8_t *v = w;
    int32x4_t c00 = vdupq_n_s32(0), c01 = vdupq_n_s32(0), c02 = vdupq_n_s32(0), c03 = vdupq_n_s32(0);
    int32x4_t c10 = vdupq_n_s32(0), c11 = vdupq_n_s32(0), c12 = vdupq_n_s32(0), c13 = vdupq_n_s32(0);
    int32x4_t c20 = vdupq_n_s32(0), c21 = vdupq_n_s32(0), c22 = vdupq_n_s32(0), c23 = vdupq_n_s32(0);
    int32x4_t c30 = vdupq_n_s32(0), c31 = vdupq_n_s32(0), c32 = vdupq_n_s32(0), c33 = vdupq_n_s32(0);
    long r = 0;
    do {
      const int8_t *x0 = rows[r] + offset, *x1 = x0 + step, *x2 = x1 + step, *x3 = x2 + step;
      long k = blocks;
      do {
        const int8x16_t w0 = vld1q_s8(v + 0);
        const int8x16_t w1 = vld1q_s8(v + 16);
        const int8x16_t w2 = vld1q_s8(v + 32);
        const int8x16_t w3 = vld1q_s8(v + 48);
        const int8x16_t y0 = vld1q_s8(x0); c00 = vdotq_s32(c00, y0, w0); c01 = vdotq_s32(c01, y0, w1); c02 = vdotq_s32(c02, y0, w2); c03 = vdotq_s32(c03, y0, w3);
        const int8x16_t y1 = vld1q_s8(x1); c10 = vdotq_s32(c10, y1, w0); c11 = vdotq_s32(c11, y1, w1); c12 = vdotq_s32(c12, y1, w2); c13 = vdotq_s32(c13, y1, w3);
        const int8x16_t y2 = vld1q_s8(x2); c20 = vdotq_s32(c20, y2, w0); c21 = vdotq_s32(c21, y2, w1); c22 = vdotq_s32(c22, y2, w2); c23 = vdotq_s32(c23, y2, w3);
        const int8x16_t y3 = vld1q_s8(x3); c30 = vdotq_s32(c30, y3, w0); c31 = vdotq_s32(c31, y3, w1); c32 = vdotq_s32(c32, y3, w2); c33 = vdotq_s32(c33, y3, w3);
        v += 64; x0 += 16; x1 += 16; x2 += 16; x3 += 16;
      } while (--k > 0);
    } while (++r < runs);
    shohin_q8_close(c00, c01, c02, c03, bias, acc + 0 * SHOHIN_Q8_BLOCK);
    shohin_q8_close(c10, c11, c12, c13, bias, acc + 1 * SHOHIN_Q8_BLOCK);
    shohin_q8_close(c20, c21, c22, c23, bias, acc + 2 * SHOHIN_Q8_BLOCK);
    shohin_q8_close(c30, c31, c32, c33, bias, acc + 3 * SHOHIN_Q8_BLOCK);
  }
}
static void shohin_q8_dot2(const int8_t *const *rows, long offset, long runs, long blocks, long step, const int8_t *w,
                            const int32_t *bias, int32_t *acc, long groups) {
  const long size = runs * blocks * 64;
  for (long g = groups; g > 0; g--, w += size, bias += 4, acc += 4) {
    const int8_t *v = w;
    int32x4_t c00 = vdupq_n_s32(0), c01 = vdupq_n_s32(0), c02 = vdupq_n_s32(0), c03 = vdupq_n_s32(0);
    int32x4_t c10 = vdupq_n_s32(0), c11 = vdupq_n_s32(0), c12 = vdupq_n_s32(0), c13 = vdupq_n_s32(0);
    long r = 0;
    do {
      const int8_t *x0 = rows[r] + offset, *x1 = x0 + step;
      long k = blocks;
      do {
        const int8x16_t w0 = vld1q_s8(v + 0);
        const int8x16_t w1 = vld1q_s8(v + 16);
        const int8x16_t w2 = vld1q_s8(v + 32);
        const int8x16_t w3 = vld1q_s8(v + 48);
        const int8x16_t y0 = vld1q_s8(x0); c00 = vdotq_s32(c00, y0, w0); c01 = vdotq_s32(c01, y0, w1); c02 = vdotq_s32(c02, y0, w2); c03 = vdotq_s32(c03, y0, w3);
        const int8x16_t y1 = vld1q_s8(x1); c10 = vdotq_s32(c10, y1, w0); c11 = vdotq_s32(c11, y1, w1); c12 = vdotq_s32(c12, y1, w2); c13 = vdotq_s32(c13, y1, w3);
        v += 64; x0 += 16; x1 += 16;
      } while (--k > 0);
    } while (++r < runs);
    shohin_q8_close(c00, c01, c02, c03, bias, acc + 0 * SHOHIN_Q8_BLOCK);
    shohin_q8_close(c10, c11, c12, c13, bias, acc + 1 * SHOHIN_Q8_BLOCK);
  }
}
static void shohin_q8_dot1(const int8_t *const *rows, long offset, long runs, long blocks, long step, const int8_t *w,
                            const int32_t *bias, int32_t *acc, long groups) {
  const long size = runs * blocks * 64;
  (void)step;
  for (long g = groups; g > 0; g--, w += size, bias += 4, acc += 4) {
    const int8_t *v = w;
    int32x4_t c00 = vdupq_n_s32(0), c01 = vdupq_n_s32(0), c02 = vdupq_n_s32(0), c03 = vdupq_n_s32(0);
    long r = 0;
    do {
      const int8_t *x0 = rows[r] + offset;
      long k = blocks;
      do {
        const int8x16_t w0 = vld1q_s8(v + 0);
        const int8x16_t w1 = vld1q_s8(v + 16);
        const int8x16_t w2 = vld1q_s8(v + 32);
        const int8x16_t w3 = vld1q_s8(v + 48);
        const int8x16_t y0 = vld1q_s8(x0); c00 = vdotq_s32(c00, y0, w0); c01 = vdotq_s32(c01, y0, w1); c02 = vdotq_s32(c02, y0, w2); c03 = vdotq_s32(c03, y0, w3);
        v += 64; x0 += 16;
      } while (--k > 0);
    } while (++r < runs);
    shohin_q8_close(c00, c01, c02, c03, bias, acc + 0 * SHOHIN_Q8_BLOCK);
  }
}
/* Positions of the next tile, of those left. */
static long shohin_q8_tile(long left) { return left >= 4 ? 4 : left >= 2 ? 2 : left > 0; }
static void shohin_q8_dot(long n, const int8_t *const *rows, long offset, long runs, long blocks, long step,
                          const int8_t *w, const int32_t *bias, int32_t *acc, long groups) {
  switch (n) {
    case 4: shohin_q8_dot4(rows, offset, runs, blocks, step, w, bias, acc, groups); break;
    case 2: shohin_q8_dot2(rows, offset, runs, blocks, step, w, bias, acc, groups); break;
    default: shohin_q8_dot1(rows, offset, runs, blocks, step, w, bias, acc, groups);
  }
}
#elif defined(SHOHIN_Q8_DSP)
static void shohin_q8_dot2(const int8_t *const *rows, long offset, long runs, long blocks, long step, const int8_t *w,
                            const int32_t *bias, int32_t *acc, long groups) {
  const long size = runs * blocks * 64;
  for (long g = 2 * groups, next = 32; g > 0; g--, w += next, next = size - next, bias += 2, acc += 2) {
    const int8_t *v = w;
    int32_t c00 = bias[0], c01 = bias[1];
    int32_t c10 = bias[0], c11 = bias[1];
    long r = 0;
    do {
      const int8_t *x0 = rows[r] + offset, *x1 = x0 + step;
      long k = blocks;
      do {
        for (long i = 0; i < 16; i += 4) {
          uint32_t w0t; SHOHIN_Q8_COPY(&w0t, v + 0 + i, 4); const int16x2_t w0a = __sxtb16(w0t), w0b = __sxtb16(__ror(w0t, 8));
          uint32_t w1t; SHOHIN_Q8_COPY(&w1t, v + 16 + i, 4); const int16x2_t w1a = __sxtb16(w1t), w1b = __sxtb16(__ror(w1t, 8));
          uint32_t y0t; SHOHIN_Q8_COPY(&y0t, x0 + i, 4); const int16x2_t y0a = __sxtb16(y0t), y0b = __sxtb16(__ror(y0t, 8)); c00 = __smlad(y0b, w0b, __smlad(y0a, w0a, c00)); c01 = __smlad(y0b, w1b, __smlad(y0a, w1a, c01));
          uint32_t y1t; SHOHIN_Q8_COPY(&y1t, x1 + i, 4); const int16x2_t y1a = __sxtb16(y1t), y1b = __sxtb16(__ror(y1t, 8)); c10 = __smlad(y1b, w0b, __smlad(y1a, w0a, c10)); c11 = __smlad(y1b, w1b, __smlad(y1a, w1a, c11));
        }
        v += 64; x0 += 16; x1 += 16;
      } while (--k > 0);
    } while (++r < runs);
    (acc + 0 * SHOHIN_Q8_BLOCK)[0] = c00; (acc + 0 * SHOHIN_Q8_BLOCK)[1] = c01;
    (acc + 1 * SHOHIN_Q8_BLOCK)[0] = c10; (acc + 1 * SHOHIN_Q8_BLOCK)[1] = c11;
  }
}
static void shohin_q8_dot1(const int8_t *const *rows, long offset, long runs, long blocks, long step, const int8_t *w,
                            const int32_t *bias, int32_t *acc, long groups) {
  const long size = runs * blocks * 64;
  (void)step;
  for (long g = 2 * groups, next = 32; g > 0; g--, w += next, next = size - next, bias += 2, acc += 2) {
    const int8_t *v = w;
    int32_t c00 = bias[0], c01 = bias[1];
    long r = 0;
    do {
      const int8_t *x0 = rows[r] + offset;
      long k = blocks;
      do {
        for (long i = 0; i < 16; i += 4) {
          uint32_t w0t; SHOHIN_Q8_COPY(&w0t, v + 0 + i, 4); const int16x2_t w0a = __sxtb16(w0t), w0b = __sxtb16(__ror(w0t, 8));
          uint32_t w1t; SHOHIN_Q8_COPY(&w1t, v + 16 + i, 4); const int16x2_t w1a = __sxtb16(w1t), w1b = __sxtb16(__ror(w1t, 8));
          uint32_t y0t; SHOHIN_Q8_COPY(&y0t, x0 + i, 4); const int16x2_t y0a = __sxtb16(y0t), y0b = __sxtb16(__ror(y0t, 8)); c00 = __smlad(y0b, w0b, __smlad(y0a, w0a, c00)); c01 = __smlad(y0b, w1b, __smlad(y0a, w1a, c01));
        }
        v += 64; x0 += 16;
      } while (--k > 0);
    } while (++r < runs);
    (acc + 0 * SHOHIN_Q8_BLOCK)[0] = c00; (acc + 0 * SHOHIN_Q8_BLOCK)[1] = c01;
  }
}
/* Positions of the next tile, of those left. */
static long shohin_q8_tile(long left) { return left >= 2 ? 2 : left > 0; }
static void shohin_q8_dot(long n, const int8_t *const *rows, long offset, long runs, long blocks, long step,
                          const int8_t *w, const int32_t *bias, int32_t *acc, long groups) {
  switch (n) {
    case 2: shohin_q8_dot2(rows, offset, runs, blocks, step, w, bias, acc, groups); break;
    default: shohin_q8_dot1(rows, offset, runs, blocks, step, w, bias, acc, groups);
  }
}
#else
static void shohin_q8_dot1(const int8_t *const *rows, long offset, long runs, long blocks, long step, const int8_t *w,
                            const int32_t *bias, int32_t *acc, long groups) {
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
}
/* Positions of the next tile, of those left. */
static long shohin_q8_tile(long left) { return left > 0; }
static void shohin_q8_dot(long n, const int8_t *const *rows, long offset, long runs, long blocks, long step,
                          const int8_t *w, const int32_t *bias, int32_t *acc, long groups) {
  switch (n) {
    default: shohin_q8_dot1(rows, offset, runs, blocks, step, w, bias, acc, groups);
  }
}
#endif
#endif

#ifndef SHOHIN_Q8_CONV
#define SHOHIN_Q8_CONV
/* The taps of n positions side by side, in whole vectors of 16: a part's end is written over by the next one. */
static void shohin_q8_gather(const struct shohin_q8_layer *l, const int8_t *const *rows, long offset, long n, int8_t *to) {
  const long kh = l->kh, parts = l->parts, part = l->part, next = l->part_step, patch = l->patch, step = l->sw * l->c;
  for (; n > 0; n--, offset += step, to += patch) {
    int8_t *at = to;
    for (long a = 0; a < kh; a++) {
      const int8_t *from = rows[a] + offset;
      for (long b = parts; b > 0; b--, from += next, at += part) {
        long i = 0;
        do {
          SHOHIN_Q8_COPY16(at + i, from + i);
        } while ((i += 16) < part);
      }
    }
  }
}

#endif
#ifndef SHOHIN_Q8_CONVOLVE
#define SHOHIN_Q8_CONVOLVE
static void shohin_q8_conv(const struct shohin_q8_layer *l, const int8_t *x, const int8_t *w, const int32_t *bias,
                           const float *m, void *y, char *scratch, long chunk, long chunks) {
  int32_t *acc = (int32_t *)scratch;
  const int8_t **rows = (const int8_t **)(scratch + (SHOHIN_Q8_TILE + 1) * SHOHIN_Q8_BLOCK * 4 + l->staged);
  int8_t *patch = (int8_t *)(rows + l->kh + (l->kh & 1));
  const int8_t *const gathered = patch;
#if defined(SHOHIN_Q8_STAGED)
  const int8_t *const staged = (const int8_t *)(acc + (SHOHIN_Q8_TILE + 1) * SHOHIN_Q8_BLOCK);
#endif
  struct shohin_q8_rows s = {0};
  const long lo = (long)l->n * l->p * chunk / chunks, hi = (long)l->n * l->p * (chunk + 1) / chunks;
  const long each = l->o / l->groups, inside = l->c / l->groups, runs = l->patch ? 1 : l->kh;
  const long size = runs * l->blocks * 64, step = l->patch ? l->patch : l->sw * l->c;
  for (long group = 0; group < l->groups; group++)
  for (long first = 0; first < each; first += SHOHIN_Q8_BLOCK) {
    const long o = group * each + first, count = each - first < SHOHIN_Q8_BLOCK ? each - first : SHOHIN_Q8_BLOCK;
    const long fours = (count + 3) / 4;
    const int8_t *v = w + (group * ((each + 3) / 4) + first / 4) * size;
    const int32_t *add = bias + o;
#if defined(SHOHIN_Q8_UNSIGNED)
    int32_t *shifted = acc + SHOHIN_Q8_TILE * SHOHIN_Q8_BLOCK;
    shohin_q8_shift(v, add, shifted, runs, l->blocks, fours);
    add = shifted;
#endif
    for (long t = lo; t < hi; t++) {
      const long image = t / l->p, p = t - image * l->p;
      if (t == lo || p == 0) shohin_q8_begin(l, &s, x + image * l->h * l->w * l->c, patch + SHOHIN_Q8_TILE * l->patch + 16);
      shohin_q8_rows(l, &s, p, rows);
      for (long q = 0, n; q < l->q; q += n) {
        const int8_t *const *from = rows;
        long offset = q * l->sw * l->c;
        n = shohin_q8_tile(l->q - q);
        if (l->patch) {
          shohin_q8_gather(l, rows, offset + group * inside, n, patch);
          from = &gathered;
          offset = 0;
        }
#if defined(SHOHIN_Q8_STAGED)
        shohin_q8_stage(n, from, offset, runs, l->blocks, step, (void *)(acc + (SHOHIN_Q8_TILE + 1) * SHOHIN_Q8_BLOCK));
        shohin_q8_dot(n, &staged, 0, 1, runs * l->blocks, 0, v, add, acc, fours);
#else
        shohin_q8_dot(n, from, offset, runs, l->blocks, step, v, add, acc, fours);
#endif
        for (long i = 0; i < n; i++)
          shohin_q8_store(l, acc + i * SHOHIN_Q8_BLOCK, m ? m + o : m, y, (t * l->q + q + i) * l->o + o, count);
      }
    }
  }
}
#endif

static void network_f0(void *const *b, char *shared, char *scratch, long chunk, long chunks) {
  static const struct shohin_q8_layer layer = {
    .n = 1, .h = 1, .w = 1, .c = 6, .p = 1, .q = 1, .o = 8, .groups = 1, .kh = 1, .kw = 1, .sh = 1, .sw = 1,
    .dh = 1, .dw = 1, .slots = 1, .width = 1, .blocks = 1, .part = 6, .part_step = 6, .parts = 1,
    .zero = 15, .staged = 128, .z = -128, .lo = -128, .hi = 127
  };
  (void)shared;
  shohin_q8_conv(&layer, ((int8_t *)b[0]), ((int8_t *)b[1]), ((int32_t *)b[2]), ((float *)b[3]), ((int8_t *)b[4]), scratch, chunk, chunks);
}

static void network_f1(void *const *b, char *shared, char *scratch, long chunk, long chunks) {
  static const struct shohin_q8_layer layer = {
    .n = 1, .h = 1, .w = 1, .c = 8, .p = 1, .q = 1, .o = 3, .groups = 1, .kh = 1, .kw = 1, .sh = 1, .sw = 1,
    .dh = 1, .dw = 1, .slots = 1, .width = 1, .blocks = 1, .part = 8, .part_step = 8, .parts = 1,
    .zero = -128, .staged = 128, .z = 32, .lo = -128, .hi = 127
  };
  (void)shared;
  shohin_q8_conv(&layer, ((int8_t *)b[0]), ((int8_t *)b[1]), ((int32_t *)b[2]), ((float *)b[3]), ((int8_t *)b[4]), scratch, chunk, chunks);
}

int network_run(const int8_t *in0, int8_t *out0, void *arena) {
    char *const a = arena;
    (void)a;
    (void)in0;
    (void)out0;
    network_STEP(0, "0/qmatmul#0");
    {  // 0/qmatmul#0: i8[1,6] in0 -> i8[1,8] a + 1488
        void *const b[] = {(void *)in0, (void *)network_c5, (void *)network_c6, (void *)network_c7, a + 1488};
        network_f0(b, a + 0, a + 0, 0, 1);
    }
    network_STEP(1, "2/qmatmul#0");
    {  // 2/qmatmul#0: i8[1,8] a + 1488 -> i8[1,3] out0
        void *const b[] = {a + 1488, (void *)network_c12, (void *)network_c13, (void *)network_c14, out0};
        network_f1(b, a + 0, a + 0, 0, 1);
    }
    network_STEP(2, "");
    return 0;
}

#else
#ifndef SHOHIN_Q8
#define SHOHIN_Q8
/* int8 kernels: one meaning, written for the instructions that the compiler says the target has. */
#if defined(__ARM_FEATURE_MVE) /* Armv8.1-M with MVE */
#include <arm_mve.h>
#define SHOHIN_Q8_MVE
#define SHOHIN_Q8_COPY16(to, at) vstrbq_s8(to, vldrbq_s8(at))
#elif defined(__AVX512VNNI__) && defined(__AVX512BW__) && defined(__AVX512VL__) /* x86-64-v4 with 8-bit dot products */
#include <immintrin.h>
#define SHOHIN_Q8_AVX512_VNNI
#define SHOHIN_Q8_UNSIGNED
#elif defined(__AVXVNNI__) && defined(__AVX2__) /* x86-64-v3 with 8-bit dot products */
#include <immintrin.h>
#define SHOHIN_Q8_AVX_VNNI
#define SHOHIN_Q8_UNSIGNED
#elif defined(__aarch64__) && defined(__ARM_FEATURE_MATMUL_INT8) /* aarch64 with smmla */
#include <arm_neon.h>
#define SHOHIN_Q8_NEON_I8MM
#elif defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD) /* aarch64 with sdot */
#include <arm_neon.h>
#define SHOHIN_Q8_NEON_DOT
#elif defined(__ARM_FEATURE_DSP) && defined(__ARM_FEATURE_SIMD32) /* Armv7E-M */
#include <arm_acle.h>
#define SHOHIN_Q8_DSP
#endif
#if defined(__GNUC__)
#define SHOHIN_Q8_COPY __builtin_memcpy /* with a constant size: no call, not even with -ffreestanding */
#else
#define SHOHIN_Q8_COPY memcpy
#endif
#if !defined(SHOHIN_Q8_COPY16)
#define SHOHIN_Q8_COPY16(to, at) SHOHIN_Q8_COPY(to, at, 16)
#endif
#if defined(__clang__)
#define SHOHIN_Q8_RELOAD __asm__ volatile("" ::: "memory"); /* else values are kept in registers and sums are not */
#else
#define SHOHIN_Q8_RELOAD
#endif
#define SHOHIN_Q8_BLOCK 64 /* channels of a pass */
#define SHOHIN_Q8_TILE 4 /* positions of a tile, at most */

struct shohin_q8_layer { int32_t n, h, w, c, p, q, o, groups, kh, kw, sh, sw, dh, dw, top, left, slots, width, blocks, patch, part, part_step, parts, zero, staged, z, lo, hi; };

/* Rows of the input as a kernel's rows see them: in place, or with their padding in a ring; blank ones are all zero point. */
struct shohin_q8_rows { const int8_t *x; int8_t *blank, *ring; long next; };

static void shohin_q8_begin(const struct shohin_q8_layer *l, struct shohin_q8_rows *s, const int8_t *x, int8_t *memory) {
  s->x = x; s->blank = memory; s->ring = memory + l->width * l->c; s->next = 0;
  memset(memory, l->zero, (size_t)((l->slots + 1) * l->width * l->c));
}

/* The rows under result row p; rows come in order. */
static void shohin_q8_rows(const struct shohin_q8_layer *l, struct shohin_q8_rows *s, long p, const int8_t **rows) {
  const long first = p * l->sh - l->top, last = first + (l->kh - 1) * l->dh, size = l->w * l->c;
  if (l->slots) {
    const long room = (l->width - l->left) * l->c;
    for (long r = s->next > first ? s->next : first > 0 ? first : 0; r <= last && r < l->h; s->next = ++r)
      memcpy(s->ring + r % l->slots * l->width * l->c + l->left * l->c, s->x + r * size, (size_t)(size < room ? size : room));
  }
  for (long a = 0; a < l->kh; a++) {
    const long r = first + a * l->dh;
    rows[a] = r < 0 || r >= l->h ? s->blank : l->slots ? s->ring + r % l->slots * l->width * l->c : s->x + r * size;
  }
}


/* y = int(rhe(clip(acc * m, lo - z, hi - z))) + z (the clip first, so every conversion rounds alike). acc and m may be
   read to whole vectors of 16, y is not written past n. */
static void shohin_q8_requant(const struct shohin_q8_layer *l, const int32_t *acc, const float *m, int8_t *y, long n) {
  const float lo = (float)(l->lo - l->z), hi = (float)(l->hi - l->z);
#if defined(SHOHIN_Q8_MVE)
#if (__ARM_FEATURE_MVE & 2)
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
#else
  const int32_t z = l->z - 0x4b400000; /* v + 1.5 * 2^23 holds the rounded integer in its low bits */
  for (long i = 0; i < n; i++) {
    union { float f; int32_t i; } bits;
    float v = (float)acc[i] * m[i];
    v = v > lo ? v : lo;
    v = v < hi ? v : hi;
    bits.f = v + 12582912.0f;
    y[i] = (int8_t)(bits.i + z);
  }
#endif
#elif defined(SHOHIN_Q8_AVX512_VNNI)
  const __m512 a = _mm512_set1_ps(lo), c = _mm512_set1_ps(hi);
  const __m512i z = _mm512_set1_epi32(l->z);
#define SHOHIN_Q8_CLOSE(i) _mm512_add_epi32(z, _mm512_cvtps_epi32(_mm512_min_ps(_mm512_max_ps(_mm512_mul_ps( \
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
#elif defined(SHOHIN_Q8_AVX_VNNI)
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
#elif defined(SHOHIN_Q8_NEON_I8MM)
  const float32x4_t a = vdupq_n_f32(lo), c = vdupq_n_f32(hi);
  const int32x4_t z = vdupq_n_s32(l->z);
#define SHOHIN_Q8_CLOSE(i) vaddq_s32(z, vcvtnq_s32_f32(vminq_f32(vmaxq_f32(vmulq_f32( \
  vcvtq_f32_s32(vld1q_s32(acc + (i))), vld1q_f32(m + (i))), a), c)))
  for (long i = 0; i < n; i += 16) {
    const int16x8_t s = vcombine_s16(vmovn_s32(SHOHIN_Q8_CLOSE(i)), vmovn_s32(SHOHIN_Q8_CLOSE(i + 4)));
    const int16x8_t t = vcombine_s16(vmovn_s32(SHOHIN_Q8_CLOSE(i + 8)), vmovn_s32(SHOHIN_Q8_CLOSE(i + 12)));
    const int8x16_t r = vcombine_s8(vmovn_s16(s), vmovn_s16(t));
    if (n - i >= 16) vst1q_s8(y + i, r);
    else memcpy(y + i, &r, (size_t)(n - i));
  }
#undef SHOHIN_Q8_CLOSE
#elif defined(SHOHIN_Q8_NEON_DOT)
  const float32x4_t a = vdupq_n_f32(lo), c = vdupq_n_f32(hi);
  const int32x4_t z = vdupq_n_s32(l->z);
#define SHOHIN_Q8_CLOSE(i) vaddq_s32(z, vcvtnq_s32_f32(vminq_f32(vmaxq_f32(vmulq_f32( \
  vcvtq_f32_s32(vld1q_s32(acc + (i))), vld1q_f32(m + (i))), a), c)))
  for (long i = 0; i < n; i += 16) {
    const int16x8_t s = vcombine_s16(vmovn_s32(SHOHIN_Q8_CLOSE(i)), vmovn_s32(SHOHIN_Q8_CLOSE(i + 4)));
    const int16x8_t t = vcombine_s16(vmovn_s32(SHOHIN_Q8_CLOSE(i + 8)), vmovn_s32(SHOHIN_Q8_CLOSE(i + 12)));
    const int8x16_t r = vcombine_s8(vmovn_s16(s), vmovn_s16(t));
    if (n - i >= 16) vst1q_s8(y + i, r);
    else memcpy(y + i, &r, (size_t)(n - i));
  }
#undef SHOHIN_Q8_CLOSE
#else
  const int32_t z = l->z - 0x4b400000; /* v + 1.5 * 2^23 holds the rounded integer in its low bits */
  for (long i = 0; i < n; i++) {
    union { float f; int32_t i; } bits;
    float v = (float)acc[i] * m[i];
    v = v > lo ? v : lo;
    v = v < hi ? v : hi;
    bits.f = v + 12582912.0f;
    y[i] = (int8_t)(bits.i + z);
  }
#endif
}

/* Sums of one position and up to a block of channels to the result: int8 through m, or as they are. */
static void shohin_q8_store(const struct shohin_q8_layer *l, const int32_t *acc, const float *m, void *y, long at, long n) {
  if (m) shohin_q8_requant(l, acc, m, (int8_t *)y + at, n);
  else memcpy((int32_t *)y + at, acc, (size_t)n * sizeof(int32_t));
}

#if defined(SHOHIN_Q8_MVE)
static void shohin_q8_dot3(const int8_t *const *rows, long offset, long runs, long blocks, long step, const int8_t *w,
                            const int32_t *bias, int32_t *acc, long groups) {
  const long size = runs * blocks * 64;
  for (long g = 2 * groups, next = 32; g > 0; g--, w += next, next = size - next, bias += 2, acc += 2) {
    const int8_t *v = w;
    int32_t c00 = bias[0], c01 = bias[1];
    int32_t c10 = bias[0], c11 = bias[1];
    int32_t c20 = bias[0], c21 = bias[1];
    long r = 0;
    do {
      const int8_t *x0 = rows[r] + offset, *x1 = x0 + step, *x2 = x1 + step;
      long k = blocks;
      do {
        const int8x16_t w0 = vldrbq_s8(v + 0);
        const int8x16_t w1 = vldrbq_s8(v + 16);
        const int8x16_t y0 = vldrbq_s8(x0); c00 = vmladavaq_s8(c00, y0, w0); c01 = vmladavaq_s8(c01, y0, w1);
        const int8x16_t y1 = vldrbq_s8(x1); c10 = vmladavaq_s8(c10, y1, w0); c11 = vmladavaq_s8(c11, y1, w1);
        const int8x16_t y2 = vldrbq_s8(x2); c20 = vmladavaq_s8(c20, y2, w0); c21 = vmladavaq_s8(c21, y2, w1);
        v += 64; x0 += 16; x1 += 16; x2 += 16;
      } while (--k > 0);
    } while (++r < runs);
    (acc + 0 * SHOHIN_Q8_BLOCK)[0] = c00; (acc + 0 * SHOHIN_Q8_BLOCK)[1] = c01;
    (acc + 1 * SHOHIN_Q8_BLOCK)[0] = c10; (acc + 1 * SHOHIN_Q8_BLOCK)[1] = c11;
    (acc + 2 * SHOHIN_Q8_BLOCK)[0] = c20; (acc + 2 * SHOHIN_Q8_BLOCK)[1] = c21;
  }
}
static void shohin_q8_dot2(const int8_t *const *rows, long offset, long runs, long blocks, long step, const int8_t *w,
                            const int32_t *bias, int32_t *acc, long groups) {
  const long size = runs * blocks * 64;
  for (long g = 2 * groups, next = 32; g > 0; g--, w += next, next = size - next, bias += 2, acc += 2) {
    const int8_t *v = w;
    int32_t c00 = bias[0], c01 = bias[1];
    int32_t c10 = bias[0], c11 = bias[1];
    long r = 0;
    do {
      const int8_t *x0 = rows[r] + offset, *x1 = x0 + step;
      long k = blocks;
      do {
        const int8x16_t w0 = vldrbq_s8(v + 0);
        const int8x16_t w1 = vldrbq_s8(v + 16);
        const int8x16_t y0 = vldrbq_s8(x0); c00 = vmladavaq_s8(c00, y0, w0); c01 = vmladavaq_s8(c01, y0, w1);
        const int8x16_t y1 = vldrbq_s8(x1); c10 = vmladavaq_s8(c10, y1, w0); c11 = vmladavaq_s8(c11, y1, w1);
        v += 64; x0 += 16; x1 += 16;
      } while (--k > 0);
    } while (++r < runs);
    (acc + 0 * SHOHIN_Q8_BLOCK)[0] = c00; (acc + 0 * SHOHIN_Q8_BLOCK)[1] = c01;
    (acc + 1 * SHOHIN_Q8_BLOCK)[0] = c10; (acc + 1 * SHOHIN_Q8_BLOCK)[1] = c11;
  }
}
static void shohin_q8_dot1(const int8_t *const *rows, long offset, long runs, long blocks, long step, const int8_t *w,
                            const int32_t *bias, int32_t *acc, long groups) {
  const long size = runs * blocks * 64;
  (void)step;
  for (long g = 2 * groups, next = 32; g > 0; g--, w += next, next = size - next, bias += 2, acc += 2) {
    const int8_t *v = w;
    int32_t c00 = bias[0], c01 = bias[1];
    long r = 0;
    do {
      const int8_t *x0 = rows[r] + offset;
      long k = blocks;
      do {
        const int8x16_t w0 = vldrbq_s8(v + 0);
        const int8x16_t w1 = vldrbq_s8(v + 16);
        const int8x16_t y0 = vldrbq_s8(x0); c00 = vmladavaq_s8(c00, y0, w0); c01 = vmladavaq_s8(c01, y0, w1);
        v += 64; x0 += 16;
      } while (--k > 0);
    } while (++r < runs);
    (acc + 0 * SHOHIN_Q8_BLOCK)[0] = c00; (acc + 0 * SHOHIN_Q8_BLOCK)[1] = c01;
  }
}
/* Positions of the next tile, of those left. */
static long shohin_q8_tile(long left) { return left >= 3 ? 3 : left >= 2 ? 2 : left > 0; }
static void shohin_q8_dot(long n, const int8_t *const *rows, long offset, long runs, long blocks, long step,
                          const int8_t *w, const int32_t *bias, int32_t *acc, long groups) {
  switch (n) {
    case 3: shohin_q8_dot3(rows, offset, runs, blocks, step, w, bias, acc, groups); break;
    case 2: shohin_q8_dot2(rows, offset, runs, blocks, step, w, bias, acc, groups); break;
    default: shohin_q8_dot1(rows, offset, runs, blocks, step, w, bias, acc, groups);
  }
}
#elif defined(SHOHIN_Q8_AVX512_VNNI)
/* The sums of 16 channels: lane l of part j holds four partial sums of channel 4 j + l. */
static inline void shohin_q8_close(__m512i a, __m512i b, __m512i c, __m512i d, const int32_t *bias, int32_t *acc) {
  const __m512i s = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
  const __m512i t = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
  const __m512i u = _mm512_add_epi32(_mm512_unpacklo_epi64(s, t), _mm512_unpackhi_epi64(s, t));
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  _mm512_storeu_si512(acc, _mm512_add_epi32(_mm512_permutexvar_epi32(order, u), _mm512_loadu_si512(bias)));
}
static void shohin_q8_dot4(const int8_t *const *rows, long offset, long runs, long blocks, long step, const int8_t *w,
                            const int32_t *bias, int32_t *acc, long groups) {
  const long size = runs * blocks * 64;
  for (long g = 0; g < groups; g += 4, bias += 16, acc += 16) {
    const int8_t *v0 = w + (g + 0 < groups ? g + 0 : groups - 1) * size, *v1 = w + (g + 1 < groups ? g + 1 : groups - 1) * size, *v2 = w + (g + 2 < groups ? g + 2 : groups - 1) * size, *v3 = w + (g + 3 < groups ? g + 3 : groups - 1) * size;
    __m512i c00 = _mm512_setzero_si512(), c01 = _mm512_setzero_si512(), c02 = _mm512_setzero_si512(), c03 = _mm512_setzero_si512();
    __m512i c10 = _mm512_setzero_si512(), c11 = _mm512_setzero_si512(), c12 = _mm512_setzero_si512(), c13 = _mm512_setzero_si512();
    __m512i c20 = _mm512_setzero_si512(), c21 = _mm512_setzero_si512(), c22 = _mm512_setzero_si512(), c23 = _mm512_setzero_si512();
    __m512i c30 = _mm512_setzero_si512(), c31 = _mm512_setzero_si512(), c32 = _mm512_setzero_si512(), c33 = _mm512_setzero_si512();
    long r = 0;
    do {
      const int8_t *x0 = rows[r] + offset, *x1 = x0 + step, *x2 = x1 + step, *x3 = x2 + step;
      long k = blocks;
      do {
        const __m512i w0 = _mm512_loadu_si512(v0);
        const __m512i w1 = _mm512_loadu_si512(v1);
        const __m512i w2 = _mm512_loadu_si512(v2);
        const __m512i w3 = _mm512_loadu_si512(v3);
        const __m512i y0 = _mm512_xor_si512(_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(x0))), _mm512_set1_epi8(-128)); c00 = _mm512_dpbusd_epi32(c00, y0, w0); c01 = _mm512_dpbusd_epi32(c01, y0, w1); c02 = _mm512_dpbusd_epi32(c02, y0, w2); c03 = _mm512_dpbusd_epi32(c03, y0, w3);
        const __m512i y1 = _mm512_xor_si512(_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(x1))), _mm512_set1_epi8(-128)); c10 = _mm512_dpbusd_epi32(c10, y1, w0); c11 = _mm512_dpbusd_epi32(c11, y1, w1); c12 = _mm512_dpbusd_epi32(c12, y1, w2); c13 = _mm512_dpbusd_epi32(c13, y1, w3);
        const __m512i y2 = _mm512_xor_si512(_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(x2))), _mm512_set1_epi8(-128)); c20 = _mm512_dpbusd_epi32(c20, y2, w0); c21 = _mm512_dpbusd_epi32(c21, y2, w1); c22 = _mm512_dpbusd_epi32(c22, y2, w2); c23 = _mm512_dpbusd_epi32(c23, y2, w3);
        const __m512i y3 = _mm512_xor_si512(_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(x3))), _mm512_set1_epi8(-128)); c30 = _mm512_dpbusd_epi32(c30, y3, w0); c31 = _mm512_dpbusd_epi32(c31, y3, w1); c32 = _mm512_dpbusd_epi32(c32, y3, w2); c33 = _mm512_dpbusd_epi32(c33, y3, w3);
        v0 += 64; v1 += 64; v2 += 64; v3 += 64; x0 += 16; x1 += 16; x2 += 16; x3 += 16;
      } while (--k > 0);
    } while (++r < runs);
    shohin_q8_close(c00, c01, c02, c03, bias, acc + 0 * SHOHIN_Q8_BLOCK);
    shohin_q8_close(c10, c11, c12, c13, bias, acc + 1 * SHOHIN_Q8_BLOCK);
    shohin_q8_close(c20, c21, c22, c23, bias, acc + 2 * SHOHIN_Q8_BLOCK);
    shohin_q8_close(c30, c31, c32, c33, bias, acc + 3 * SHOHIN_Q8_BLOCK);
  }
}
static void shohin_q8_dot2(const int8_t *const *rows, long offset, long runs, long blocks, long step, const int8_t *w,
                            const int32_t *bias, int32_t *acc, long groups) {
  const long size = runs * blocks * 64;
  for (long g = 0; g < groups; g += 4, bias += 16, acc += 16) {
    const int8_t *v0 = w + (g + 0 < groups ? g + 0 : groups - 1) * size, *v1 = w + (g + 1 < groups ? g + 1 : groups - 1) * size, *v2 = w + (g + 2 < groups ? g + 2 : groups - 1) * size, *v3 = w + (g + 3 < groups ? g + 3 : groups - 1) * size;
    __m512i c00 = _mm512_setzero_si512(), c01 = _mm512_setzero_si512(), c02 = _mm512_setzero_si512(), c03 = _mm512_setzero_si512();
    __m512i c10 = _mm512_setzero_si512(), c11 = _mm512_setzero_si512(), c12 = _mm512_setzero_si512(), c13 = _mm512_setzero_si512();
    long r = 0;
    do {
      const int8_t *x0 = rows[r] + offset, *x1 = x0 + step;
      long k = blocks;
      do {
        const __m512i w0 = _mm512_loadu_si512(v0);
        const __m512i w1 = _mm512_loadu_si512(v1);
        const __m512i w2 = _mm512_loadu_si512(v2);
        const __m512i w3 = _mm512_loadu_si512(v3);
        const __m512i y0 = _mm512_xor_si512(_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(x0))), _mm512_set1_epi8(-128)); c00 = _mm512_dpbusd_epi32(c00, y0, w0); c01 = _mm512_dpbusd_epi32(c01, y0, w1); c02 = _mm512_dpbusd_epi32(c02, y0, w2); c03 = _mm512_dpbusd_epi32(c03, y0, w3);
        const __m512i y1 = _mm512_xor_si512(_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(x1))), _mm512_set1_epi8(-128)); c10 = _mm512_dpbusd_epi32(c10, y1, w0); c11 = _mm512_dpbusd_epi32(c11, y1, w1); c12 = _mm512_dpbusd_epi32(c12, y1, w2); c13 = _mm512_dpbusd_epi32(c13, y1, w3);
        v0 += 64; v1 += 64; v2 += 64; v3 += 64; x0 += 16; x1 += 16;
      } while (--k > 0);
    } while (++r < runs);
    shohin_q8_close(c00, c01, c02, c03, bias, acc + 0 * SHOHIN_Q8_BLOCK);
    shohin_q8_close(c10, c11, c12, c13, bias, acc + 1 * SHOHIN_Q8_BLOCK);
  }
}
static void shohin_q8_dot1(const int8_t *const *rows, long offset, long runs, long blocks, long step, const int8_t *w,
                            const int32_t *bias, int32_t *acc, long groups) {
  const long size = runs * blocks * 64;
  (void)step;
  for (long g = 0; g < groups; g += 4, bias += 16, acc += 16) {
    const int8_t *v0 = w + (g + 0 < groups ? g + 0 : groups - 1) * size, *v1 = w + (g + 1 < groups ? g + 1 : groups - 1) * size, *v2 = w + (g + 2 < groups ? g + 2 : groups - 1) * size, *v3 = w + (g + 3 < groups ? g + 3 : groups - 1) * size;
    __m512i c00 = _mm512_setzero_si512(), c01 = _mm512_setzero_si512(), c02 = _mm512_setzero_si512(), c03 = _mm512_setzero_si512();
    long r = 0;
    do {
      const int8_t *x0 = rows[r] + offset;
      long k = blocks;
      do {
        const __m512i w0 = _mm512_loadu_si512(v0);
        const __m512i w1 = _mm512_loadu_si512(v1);
        const __m512i w2 = _mm512_loadu_si512(v2);
        const __m512i w3 = _mm512_loadu_si512(v3);
        const __m512i y0 = _mm512_xor_si512(_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(x0))), _mm512_set1_epi8(-128)); c00 = _mm512_dpbusd_epi32(c00, y0, w0); c01 = _mm512_dpbusd_epi32(c01, y0, w1); c02 = _mm512_dpbusd_epi32(c02, y0, w2); c03 = _mm512_dpbusd_epi32(c03, y0, w3);
        v0 += 64; v1 += 64; v2 += 64; v3 += 64; x0 += 16;
      } while (--k > 0);
    } while (++r < runs);
    shohin_q8_close(c00, c01, c02, c03, bias, acc + 0 * SHOHIN_Q8_BLOCK);
  }
}
static void shohin_q8_dot0(const int8_t *const *rows, long offset, long runs, long blocks, long step, const int8_t *w,
                            const int32_t *bias, int32_t *acc, long groups) {
  const long size = runs * blocks * 64;
  for (long g = 0; g < groups; g += 4, bias += 16, acc += 16) {
    const int8_t *v0 = w + (g + 0 < groups ? g + 0 : groups - 1) * size, *v1 = w + (g + 1 < groups ? g + 1 : groups - 1) * size, *v2 = w + (g + 2 < groups ? g + 2 : groups - 1) * size, *v3 = w + (g + 3 < groups ? g + 3 : groups - 1) * size;
    __m512i c00 = _mm512_setzero_si512(), c01 = _mm512_setzero_si512(), c02 = _mm512_setzero_si512(), c03 = _mm512_setzero_si512();
    long r = 0;
    do {
      (void)rows; (void)offset; (void)step;
      long k = blocks;
      do {
        const __m512i w0 = _mm512_loadu_si512(v0);
        const __m512i w1 = _mm512_loadu_si512(v1);
        const __m512i w2 = _mm512_loadu_si512(v2);
        const __m512i w3 = _mm512_loadu_si512(v3);
        c00 = _mm512_dpbusd_epi32(c00, _mm512_set1_epi8(-128), w0); c01 = _mm512_dpbusd_epi32(c01, _mm512_set1_epi8(-128), w1); c02 = _mm512_dpbusd_epi32(c02, _mm512_set1_epi8(-128), w2); c03 = _mm512_dpbusd_epi32(c03, _mm512_set1_epi8(-128), w3);
        v0 += 64; v1 += 64; v2 += 64; v3 += 64; 
      } while (--k > 0);
    } while (++r < runs);
    shohin_q8_close(c00, c01, c02, c03, bias, acc + 0 * SHOHIN_Q8_BLOCK);
  }
}
/* bias - 128 * sum(w): what operands that come as q + 128 are to begin with. */
static void shohin_q8_shift(const int8_t *w, const int32_t *bias, int32_t *to, long runs, long blocks, long groups) {
  shohin_q8_dot0((const int8_t *const *)0, 0, runs, blocks, 0, w, bias, to, groups);
  for (long i = 0; i < 4 * groups; i++) to[i] = (int32_t)(2u * (uint32_t)bias[i] - (uint32_t)to[i]);
}
/* Positions of the next tile, of those left. */
static long shohin_q8_tile(long left) { return left >= 4 ? 4 : left >= 2 ? 2 : left > 0; }
static void shohin_q8_dot(long n, const int8_t *const *rows, long offset, long runs, long blocks, long step,
                          const int8_t *w, const int32_t *bias, int32_t *acc, long groups) {
  switch (n) {
    case 4: shohin_q8_dot4(rows, offset, runs, blocks, step, w, bias, acc, groups); break;
    case 2: shohin_q8_dot2(rows, offset, runs, blocks, step, w, bias, acc, groups); break;
    default: shohin_q8_dot1(rows, offset, runs, blocks, step, w, bias, acc, groups);
  }
}
#elif defined(SHOHIN_Q8_AVX_VNNI)
/* Two channels a vector, four partial sums each. */
static inline void shohin_q8_close(__m256i a, __m256i b, const int32_t *bias, int32_t *acc) {
  const __m256i t = _mm256_hadd_epi32(a, b), u = _mm256_hadd_epi32(t, t);
  const __m128i s = _mm_unpacklo_epi32(_mm256_castsi256_si128(u), _mm256_extracti128_si256(u, 1));
  _mm_storeu_si128((__m128i *)acc, _mm_add_epi32(s, _mm_loadu_si128((const __m128i *)bias)));
}
static void shohin_q8_dot4(const int8_t *const *rows, long offset, long runs, long blocks, long step, const int8_t *w,
                            const int32_t *bias, int32_t *acc, long groups) {
  const long size = runs * blocks * 64;
  for (long g = groups; g > 0; g--, w += size, bias += 4, acc += 4) {
    const int8_t *v = w;
    __m256i c00 = _mm256_setzero_si256(), c01 = _mm256_setzero_si256();
    __m256i c10 = _mm256_setzero_si256(), c11 = _mm256_setzero_si256();
    __m256i c20 = _mm256_setzero_si256(), c21 = _mm256_setzero_si256();
    __m256i c30 = _mm256_setzero_si256(), c31 = _mm256_setzero_si256();
    long r = 0;
    do {
      const int8_t *x0 = rows[r] + offset, *x1 = x0 + step, *x2 = x1 + step, *x3 = x2 + step;
      long k = blocks;
      do {
        const __m256i w0 = _mm256_loadu_si256((const __m256i *)(v + 0));
        const __m256i w1 = _mm256_loadu_si256((const __m256i *)(v + 32));
        const __m256i y0 = _mm256_xor_si256(_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(x0))), _mm256_set1_epi8(-128)); c00 = _mm256_dpbusd_avx_epi32(c00, y0, w0); c01 = _mm256_dpbusd_avx_epi32(c01, y0, w1);
        const __m256i y1 = _mm256_xor_si256(_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(x1))), _mm256_set1_epi8(-128)); c10 = _mm256_dpbusd_avx_epi32(c10, y1, w0); c11 = _mm256_dpbusd_avx_epi32(c11, y1, w1);
        const __m256i y2 = _mm256_xor_si256(_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(x2))), _mm256_set1_epi8(-128)); c20 = _mm256_dpbusd_avx_epi32(c20, y2, w0); c21 = _mm256_dpbusd_avx_epi32(c21, y2, w1);
        const __m256i y3 = _mm256_xor_si256(_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(x3))), _mm256_set1_epi8(-128)); c30 = _mm256_dpbusd_avx_epi32(c30, y3, w0); c31 = _mm256_dpbusd_avx_epi32(c31, y3, w1);
        v += 64; x0 += 16; x1 += 16; x2 += 16; x3 += 16;
      } while (--k > 0);
    } while (++r < runs);
    shohin_q8_close(c00, c01, bias, acc + 0 * SHOHIN_Q8_BLOCK);
    shohin_q8_close(c10, c11, bias, acc + 1 * SHOHIN_Q8_BLOCK);
    shohin_q8_close(c20, c21, bias, acc + 2 * SHOHIN_Q8_BLOCK);
    shohin_q8_close(c30, c31, bias, acc + 3 * SHOHIN_Q8_BLOCK);
  }
}
static void shohin_q8_dot2(const int8_t *const *rows, long offset, long runs, long blocks, long step, const int8_t *w,
                            const int32_t *bias, int32_t *acc, long groups) {
  const long size = runs * blocks * 64;
  for (long g = groups; g > 0; g--, w += size, bias += 4, acc += 4) {
    const int8_t *v = w;
    __m256i c00 = _mm256_setzero_si256(), c01 = _mm256_setzero_si256();
    __m256i c10 = _mm256_setzero_si256(), c11 = _mm256_setzero_si256();
    long r = 0;
    do {
      const int8_t *x0 = rows[r] + offset, *x1 = x0 + step;
      long k = blocks;
      do {
        const __m256i w0 = _mm256_loadu_si256((const __m256i *)(v + 0));
        const __m256i w1 = _mm256_loadu_si256((const __m256i *)(v + 32));
        const __m256i y0 = _mm256_xor_si256(_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(x0))), _mm256_set1_epi8(-128)); c00 = _mm256_dpbusd_avx_epi32(c00, y0, w0); c01 = _mm256_dpbusd_avx_epi32(c01, y0, w1);
        const __m256i y1 = _mm256_xor_si256(_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(x1))), _mm256_set1_epi8(-128)); c10 = _mm256_dpbusd_avx_epi32(c10, y1, w0); c11 = _mm256_dpbusd_avx_epi32(c11, y1, w1);
        v += 64; x0 += 16; x1 += 16;
      } while (--k > 0);
    } while (++r < runs);
    shohin_q8_close(c00, c01, bias, acc + 0 * SHOHIN_Q8_BLOCK);
    shohin_q8_close(c10, c11, bias, acc + 1 * SHOHIN_Q8_BLOCK);
  }
}
static void shohin_q8_dot1(const int8_t *const *rows, long offset, long runs, long blocks, long step, const int8_t *w,
                            const int32_t *bias, int32_t *acc, long groups) {
  const long size = runs * blocks * 64;
  (void)step;
  for (long g = groups; g > 0; g--, w += size, bias += 4, acc += 4) {
    const int8_t *v = w;
    __m256i c00 = _mm256_setzero_si256(), c01 = _mm256_setzero_si256();
    long r = 0;
    do {
      const int8_t *x0 = rows[r] + offset;
      long k = blocks;
      do {
        const __m256i w0 = _mm256_loadu_si256((const __m256i *)(v + 0));
        const __m256i w1 = _mm256_loadu_si256((const __m256i *)(v + 32));
        const __m256i y0 = _mm256_xor_si256(_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(x0))), _mm256_set1_epi8(-128)); c00 = _mm256_dpbusd_avx_epi32(c00, y0, w0); c01 = _mm256_dpbusd_avx_epi32(c01, y0, w1);
        v += 64; x0 += 16;
      } while (--k > 0);
    } while (++r < runs);
    shohin_q8_close(c00, c01, bias, acc + 0 * SHOHIN_Q8_BLOCK);
  }
}
static void shohin_q8_dot0(const int8_t *const *rows, long offset, long runs, long blocks, long step, const int8_t *w,
                            const int32_t *bias, int32_t *acc, long groups) {
  const long size = runs * blocks * 64;
  for (long g = groups; g > 0; g--, w += size, bias += 4, acc += 4) {
    const int8_t *v = w;
    __m256i c00 = _mm256_setzero_si256(), c01 = _mm256_setzero_si256();
    long r = 0;
    do {
      (void)rows; (void)offset; (void)step;
      long k = blocks;
      do {
        const __m256i w0 = _mm256_loadu_si256((const __m256i *)(v + 0));
        const __m256i w1 = _mm256_loadu_si256((const __m256i *)(v + 32));
        c00 = _mm256_dpbusd_avx_epi32(c00, _mm256_set1_epi8(-128), w0); c01 = _mm256_dpbusd_avx_epi32(c01, _mm256_set1_epi8(-128), w1);
        v += 64; 
      } while (--k > 0);
    } while (++r < runs);
    shohin_q8_close(c00, c01, bias, acc + 0 * SHOHIN_Q8_BLOCK);
  }
}
/* bias - 128 * sum(w): what operands that come as q + 128 are to begin with. */
static void shohin_q8_shift(const int8_t *w, const int32_t *bias, int32_t *to, long runs, long blocks, long groups) {
  shohin_q8_dot0((const int8_t *const *)0, 0, runs, blocks, 0, w, bias, to, groups);
  for (long i = 0; i < 4 * groups; i++) to[i] = (int32_t)(2u * (uint32_t)bias[i] - (uint32_t)to[i]);
}
/* Positions of the next tile, of those left. */
static long shohin_q8_tile(long left) { return left >= 4 ? 4 : left >= 2 ? 2 : left > 0; }
static void shohin_q8_dot(long n, const int8_t *const *rows, long offset, long runs, long blocks, long step,
                          const int8_t *w, const int32_t *bias, int32_t *acc, long groups) {
  switch (n) {
    case 4: shohin_q8_dot4(rows, offset, runs, blocks, step, w, bias, acc, groups); break;
    case 2: shohin_q8_dot2(rows, offset, runs, blocks, step, w, bias, acc, groups); break;
    default: shohin_q8_dot1(rows, offset, runs, blocks, step, w, bias, acc, groups);
  }
}
#elif defined(SHOHIN_Q8_NEON_I8MM)
/* Of two positions the sums of two channels side by side. */
static inline void shohin_q8_close(int32x4_t a, int32x4_t b, const int32_t *bias, int32_t *acc, int32_t *next) {
  const int32x4_t add = vld1q_s32(bias);
  const int64x2_t c = vreinterpretq_s64_s32(a), d = vreinterpretq_s64_s32(b);
  vst1q_s32(next, vaddq_s32(vreinterpretq_s32_s64(vzip2q_s64(c, d)), add));
  vst1q_s32(acc, vaddq_s32(vreinterpretq_s32_s64(vzip1q_s64(c, d)), add));
}
static void shohin_q8_dot4(const int8_t *const *rows, long offset, long runs, long blocks, long step, const int8_t *w,
                            const int32_t *bias, int32_t *acc, long groups) {
  const long size = runs * blocks * 64;
  for (long g = groups; g > 0; g--, w += size, bias += 4, acc += 4) {
    const int8_t *v = w;
    int32x4_t c00 = vdupq_n_s32(0), c01 = vdupq_n_s32(0);
    int32x4_t c20 = vdupq_n_s32(0), c21 = vdupq_n_s32(0);
    long r = 0;
    do {
      const int8_t *x0 = rows[r] + offset, *x1 = x0 + step, *x2 = x1 + step, *x3 = x2 + step;
      long k = blocks;
      do {
        const int64x2_t w0p = vreinterpretq_s64_s8(vld1q_s8(v + 0)), w0q = vreinterpretq_s64_s8(vld1q_s8(v + 0 + 16)); const int8x16_t w0a = vreinterpretq_s8_s64(vzip1q_s64(w0p, w0q)), w0b = vreinterpretq_s8_s64(vzip2q_s64(w0p, w0q));
        const int64x2_t w1p = vreinterpretq_s64_s8(vld1q_s8(v + 32)), w1q = vreinterpretq_s64_s8(vld1q_s8(v + 32 + 16)); const int8x16_t w1a = vreinterpretq_s8_s64(vzip1q_s64(w1p, w1q)), w1b = vreinterpretq_s8_s64(vzip2q_s64(w1p, w1q));
        const int64x2_t y0p = vreinterpretq_s64_s8(vld1q_s8(x0)), y0q = vreinterpretq_s64_s8(vld1q_s8(x1)); const int8x16_t y0a = vreinterpretq_s8_s64(vzip1q_s64(y0p, y0q)), y0b = vreinterpretq_s8_s64(vzip2q_s64(y0p, y0q)); c00 = vmmlaq_s32(vmmlaq_s32(c00, y0a, w0a), y0b, w0b); c01 = vmmlaq_s32(vmmlaq_s32(c01, y0a, w1a), y0b, w1b);
        const int64x2_t y2p = vreinterpretq_s64_s8(vld1q_s8(x2)), y2q = vreinterpretq_s64_s8(vld1q_s8(x3)); const int8x16_t y2a = vreinterpretq_s8_s64(vzip1q_s64(y2p, y2q)), y2b = vreinterpretq_s8_s64(vzip2q_s64(y2p, y2q)); c20 = vmmlaq_s32(vmmlaq_s32(c20, y2a, w0a), y2b, w0b); c21 = vmmlaq_s32(vmmlaq_s32(c21, y2a, w1a), y2b, w1b);
        v += 64; x0 += 16; x1 += 16; x2 += 16; x3 += 16;
      } while (--k > 0);
    } while (++r < runs);
    shohin_q8_close(c00, c01, bias, acc + 0 * SHOHIN_Q8_BLOCK, acc + 1 * SHOHIN_Q8_BLOCK);
    shohin_q8_close(c20, c21, bias, acc + 2 * SHOHIN_Q8_BLOCK, acc + 3 * SHOHIN_Q8_BLOCK);
  }
}
static void shohin_q8_dot2(const int8_t *const *rows, long offset, long runs, long blocks, long step, const int8_t *w,
                            const int32_t *bias, int32_t *acc, long groups) {
  const long size = runs * blocks * 64;
  for (long g = groups; g > 0; g--, w += size, bias += 4, acc += 4) {
    const int8_t *v = w;
    int32x4_t c00 = vdupq_n_s32(0), c01 = vdupq_n_s32(0);
    long r = 0;
    do {
      const int8_t *x0 = rows[r] + offset, *x1 = x0 + step;
      long k = blocks;
      do {
        const int64x2_t w0p = vreinterpretq_s64_s8(vld1q_s8(v + 0)), w0q = vreinterpretq_s64_s8(vld1q_s8(v + 0 + 16)); const int8x16_t w0a = vreinterpretq_s8_s64(vzip1q_s64(w0p, w0q)), w0b = vreinterpretq_s8_s64(vzip2q_s64(w0p, w0q));
        const int64x2_t w1p = vreinterpretq_s64_s8(vld1q_s8(v + 32)), w1q = vreinterpretq_s64_s8(vld1q_s8(v + 32 + 16)); const int8x16_t w1a = vreinterpretq_s8_s64(vzip1q_s64(w1p, w1q)), w1b = vreinterpretq_s8_s64(vzip2q_s64(w1p, w1q));
        const int64x2_t y0p = vreinterpretq_s64_s8(vld1q_s8(x0)), y0q = vreinterpretq_s64_s8(vld1q_s8(x1)); const int8x16_t y0a = vreinterpretq_s8_s64(vzip1q_s64(y0p, y0q)), y0b = vreinterpretq_s8_s64(vzip2q_s64(y0p, y0q)); c00 = vmmlaq_s32(vmmlaq_s32(c00, y0a, w0a), y0b, w0b); c01 = vmmlaq_s32(vmmlaq_s32(c01, y0a, w1a), y0b, w1b);
        v += 64; x0 += 16; x1 += 16;
      } while (--k > 0);
    } while (++r < runs);
    shohin_q8_close(c00, c01, bias, acc + 0 * SHOHIN_Q8_BLOCK, acc + 1 * SHOHIN_Q8_BLOCK);
  }
}
static void shohin_q8_dot1(const int8_t *const *rows, long offset, long runs, long blocks, long step, const int8_t *w,
                            const int32_t *bias, int32_t *acc, long groups) {
  const long size = runs * blocks * 64;
  (void)step;
  for (long g = groups; g > 0; g--, w += size, bias += 4, acc += 4) {
    const int8_t *v = w;
    int32x4_t c00 = vdupq_n_s32(0), c01 = vdupq_n_s32(0);
    long r = 0;
    do {
      const int8_t *x0 = rows[r] + offset;
      long k = blocks;
      do {
        const int64x2_t w0p = vreinterpretq_s64_s8(vld1q_s8(v + 0)), w0q = vreinterpretq_s64_s8(vld1q_s8(v + 0 + 16)); const int8x16_t w0a = vreinterpretq_s8_s64(vzip1q_s64(w0p, w0q)), w0b = vreinterpretq_s8_s64(vzip2q_s64(w0p, w0q));
        const int64x2_t w1p = vreinterpretq_s64_s8(vld1q_s8(v + 32)), w1q = vreinterpretq_s64_s8(vld1q_s8(v + 32 + 16)); const int8x16_t w1a = vreinterpretq_s8_s64(vzip1q_s64(w1p, w1q)), w1b = vreinterpretq_s8_s64(vzip2q_s64(w1p, w1q));
        const int64x2_t y0p = vreinterpretq_s64_s8(vld1q_s8(x0)), y0q = vreinterpretq_s64_s8(vld1q_s8(x0)); const int8x16_t y0a = vreinterpretq_s8_s64(vzip1q_s64(y0p, y0q)), y0b = vreinterpretq_s8_s64(vzip2q_s64(y0p, y0q)); c00 = vmmlaq_s32(vmmlaq_s32(c00, y0a, w0a), y0b, w0b); c01 = vmmlaq_s32(vmmlaq_s32(c01, y0a, w1a), y0b, w1b);
        v += 64; x0 += 16;
      } while (--k > 0);
    } while (++r < runs);
    shohin_q8_close(c00, c01, bias, acc + 0 * SHOHIN_Q8_BLOCK, acc + 0 * SHOHIN_Q8_BLOCK);
  }
}
/* Positions of the next tile, of those left. */
static long shohin_q8_tile(long left) { return left >= 4 ? 4 : left >= 2 ? 2 : left > 0; }
static void shohin_q8_dot(long n, const int8_t *const *rows, long offset, long runs, long blocks, long step,
                          const int8_t *w, const int32_t *bias, int32_t *acc, long groups) {
  switch (n) {
    case 4: shohin_q8_dot4(rows, offset, runs, blocks, step, w, bias, acc, groups); break;
    case 2: shohin_q8_dot2(rows, offset, runs, blocks, step, w, bias, acc, groups); break;
    default: shohin_q8_dot1(rows, offset, runs, blocks, step, w, bias, acc, groups);
  }
}
#elif defined(SHOHIN_Q8_NEON_DOT)
static inline void shohin_q8_close(int32x4_t a, int32x4_t b, int32x4_t c, int32x4_t d, const int32_t *bias, int32_t *acc) {
  vst1q_s32(acc, vaddq_s32(vpaddq_s32(vpaddq_s32(a, b), vpaddq_s32(c, d)), vld1q_s32(bias)));
}
static void shohin_q8_dot4(const int8_t *const *rows, long offset, long runs, long blocks, long step, const int8_t *w,
                            const int32_t *bias, int32_t *acc, long groups) {
  const long size = runs * blocks * 64;
  for (long g = groups; g > 0; g--, w += size, bias += 4, acc += 4) {
    const int8_t *v = w;
    int32x4_t c00 = vdupq_n_s32(0), c01 = vdupq_n_s32(0), c02 = vdupq_n_s32(0), c03 = vdupq_n_s32(0);
    int32x4_t c10 = vdupq_n_s32(0), c11 = vdupq_n_s32(0), c12 = vdupq_n_s32(0), c13 = vdupq_n_s32(0);
    int32x4_t c20 = vdupq_n_s32(0), c21 = vdupq_n_s32(0), c22 = vdupq_n_s32(0), c23 = vdupq_n_s32(0);
    int32x4_t c30 = vdupq_n_s32(0), c31 = vdupq_n_s32(0), c32 = vdupq_n_s32(0), c33 = vdupq_n_s32(0);
    long r = 0;
    do {
      const int8_t *x0 = rows[r] + offset, *x1 = x0 + step, *x2 = x1 + step, *x3 = x2 + step;
      long k = blocks;
      do {
        const int8x16_t w0 = vld1q_s8(v + 0);
        const int8x16_t w1 = vld1q_s8(v + 16);
        const int8x16_t w2 = vld1q_s8(v + 32);
        const int8x16_t w3 = vld1q_s8(v + 48);
        const int8x16_t y0 = vld1q_s8(x0); c00 = vdotq_s32(c00, y0, w0); c01 = vdotq_s32(c01, y0, w1); c02 = vdotq_s32(c02, y0, w2); c03 = vdotq_s32(c03, y0, w3);
        const int8x16_t y1 = vld1q_s8(x1); c10 = vdotq_s32(c10, y1, w0); c11 = vdotq_s32(c11, y1, w1); c12 = vdotq_s32(c12, y1, w2); c13 = vdotq_s32(c13, y1, w3);
        const int8x16_t y2 = vld1q_s8(x2); c20 = vdotq_s32(c20, y2, w0); c21 = vdotq_s32(c21, y2, w1); c22 = vdotq_s32(c22, y2, w2); c23 = vdotq_s32(c23, y2, w3);
        const int8x16_t y3 = vld1q_s8(x3); c30 = vdotq_s32(c30, y3, w0); c31 = vdotq_s32(c31, y3, w1); c32 = vdotq_s32(c32, y3, w2); c33 = vdotq_s32(c33, y3, w3);
        v += 64; x0 += 16; x1 += 16; x2 += 16; x3 += 16;
      } while (--k > 0);
    } while (++r < runs);
    shohin_q8_close(c00, c01, c02, c03, bias, acc + 0 * SHOHIN_Q8_BLOCK);
    shohin_q8_close(c10, c11, c12, c13, bias, acc + 1 * SHOHIN_Q8_BLOCK);
    shohin_q8_close(c20, c21, c22, c23, bias, acc + 2 * SHOHIN_Q8_BLOCK);
    shohin_q8_close(c30, c31, c32, c33, bias, acc + 3 * SHOHIN_Q8_BLOCK);
  }
}
static void shohin_q8_dot2(const int8_t *const *rows, long offset, long runs, long blocks, long step, const int8_t *w,
                            const int32_t *bias, int32_t *acc, long groups) {
  const long size = runs * blocks * 64;
  for (long g = groups; g > 0; g--, w += size, bias += 4, acc += 4) {
    const int8_t *v = w;
    int32x4_t c00 = vdupq_n_s32(0), c01 = vdupq_n_s32(0), c02 = vdupq_n_s32(0), c03 = vdupq_n_s32(0);
    int32x4_t c10 = vdupq_n_s32(0), c11 = vdupq_n_s32(0), c12 = vdupq_n_s32(0), c13 = vdupq_n_s32(0);
    long r = 0;
    do {
      const int8_t *x0 = rows[r] + offset, *x1 = x0 + step;
      long k = blocks;
      do {
        const int8x16_t w0 = vld1q_s8(v + 0);
        const int8x16_t w1 = vld1q_s8(v + 16);
        const int8x16_t w2 = vld1q_s8(v + 32);
        const int8x16_t w3 = vld1q_s8(v + 48);
        const int8x16_t y0 = vld1q_s8(x0); c00 = vdotq_s32(c00, y0, w0); c01 = vdotq_s32(c01, y0, w1); c02 = vdotq_s32(c02, y0, w2); c03 = vdotq_s32(c03, y0, w3);
        const int8x16_t y1 = vld1q_s8(x1); c10 = vdotq_s32(c10, y1, w0); c11 = vdotq_s32(c11, y1, w1); c12 = vdotq_s32(c12, y1, w2); c13 = vdotq_s32(c13, y1, w3);
        v += 64; x0 += 16; x1 += 16;
      } while (--k > 0);
    } while (++r < runs);
    shohin_q8_close(c00, c01, c02, c03, bias, acc + 0 * SHOHIN_Q8_BLOCK);
    shohin_q8_close(c10, c11, c12, c13, bias, acc + 1 * SHOHIN_Q8_BLOCK);
  }
}
static void shohin_q8_dot1(const int8_t *const *rows, long offset, long runs, long blocks, long step, const int8_t *w,
                            const int32_t *bias, int32_t *acc, long groups) {
  const long size = runs * blocks * 64;
  (void)step;
  for (long g = groups; g > 0; g--, w += size, bias += 4, acc += 4) {
    const int8_t *v = w;
    int32x4_t c00 = vdupq_n_s32(0), c01 = vdupq_n_s32(0), c02 = vdupq_n_s32(0), c03 = vdupq_n_s32(0);
    long r = 0;
    do {
      const int8_t *x0 = rows[r] + offset;
      long k = blocks;
      do {
        const int8x16_t w0 = vld1q_s8(v + 0);
        const int8x16_t w1 = vld1q_s8(v + 16);
        const int8x16_t w2 = vld1q_s8(v + 32);
        const int8x16_t w3 = vld1q_s8(v + 48);
        const int8x16_t y0 = vld1q_s8(x0); c00 = vdotq_s32(c00, y0, w0); c01 = vdotq_s32(c01, y0, w1); c02 = vdotq_s32(c02, y0, w2); c03 = vdotq_s32(c03, y0, w3);
        v += 64; x0 += 16;
      } while (--k > 0);
    } while (++r < runs);
    shohin_q8_close(c00, c01, c02, c03, bias, acc + 0 * SHOHIN_Q8_BLOCK);
  }
}
/* Positions of the next tile, of those left. */
static long shohin_q8_tile(long left) { return left >= 4 ? 4 : left >= 2 ? 2 : left > 0; }
static void shohin_q8_dot(long n, const int8_t *const *rows, long offset, long runs, long blocks, long step,
                          const int8_t *w, const int32_t *bias, int32_t *acc, long groups) {
  switch (n) {
    case 4: shohin_q8_dot4(rows, offset, runs, blocks, step, w, bias, acc, groups); break;
    case 2: shohin_q8_dot2(rows, offset, runs, blocks, step, w, bias, acc, groups); break;
    default: shohin_q8_dot1(rows, offset, runs, blocks, step, w, bias, acc, groups);
  }
}
#elif defined(SHOHIN_Q8_DSP)
static void shohin_q8_dot2(const int8_t *const *rows, long offset, long runs, long blocks, long step, const int8_t *w,
                            const int32_t *bias, int32_t *acc, long groups) {
  const long size = runs * blocks * 64;
  for (long g = 2 * groups, next = 32; g > 0; g--, w += next, next = size - next, bias += 2, acc += 2) {
    const int8_t *v = w;
    int32_t c00 = bias[0], c01 = bias[1];
    int32_t c10 = bias[0], c11 = bias[1];
    long r = 0;
    do {
      const int8_t *x0 = rows[r] + offset, *x1 = x0 + step;
      long k = blocks;
      do {
        for (long i = 0; i < 16; i += 4) {
          uint32_t w0t; SHOHIN_Q8_COPY(&w0t, v + 0 + i, 4); const int16x2_t w0a = __sxtb16(w0t), w0b = __sxtb16(__ror(w0t, 8));
          uint32_t w1t; SHOHIN_Q8_COPY(&w1t, v + 16 + i, 4); const int16x2_t w1a = __sxtb16(w1t), w1b = __sxtb16(__ror(w1t, 8));
          uint32_t y0t; SHOHIN_Q8_COPY(&y0t, x0 + i, 4); const int16x2_t y0a = __sxtb16(y0t), y0b = __sxtb16(__ror(y0t, 8)); c00 = __smlad(y0b, w0b, __smlad(y0a, w0a, c00)); c01 = __smlad(y0b, w1b, __smlad(y0a, w1a, c01));
          uint32_t y1t; SHOHIN_Q8_COPY(&y1t, x1 + i, 4); const int16x2_t y1a = __sxtb16(y1t), y1b = __sxtb16(__ror(y1t, 8)); c10 = __smlad(y1b, w0b, __smlad(y1a, w0a, c10)); c11 = __smlad(y1b, w1b, __smlad(y1a, w1a, c11));
        }
        v += 64; x0 += 16; x1 += 16;
      } while (--k > 0);
    } while (++r < runs);
    (acc + 0 * SHOHIN_Q8_BLOCK)[0] = c00; (acc + 0 * SHOHIN_Q8_BLOCK)[1] = c01;
    (acc + 1 * SHOHIN_Q8_BLOCK)[0] = c10; (acc + 1 * SHOHIN_Q8_BLOCK)[1] = c11;
  }
}
static void shohin_q8_dot1(const int8_t *const *rows, long offset, long runs, long blocks, long step, const int8_t *w,
                            const int32_t *bias, int32_t *acc, long groups) {
  const long size = runs * blocks * 64;
  (void)step;
  for (long g = 2 * groups, next = 32; g > 0; g--, w += next, next = size - next, bias += 2, acc += 2) {
    const int8_t *v = w;
    int32_t c00 = bias[0], c01 = bias[1];
    long r = 0;
    do {
      const int8_t *x0 = rows[r] + offset;
      long k = blocks;
      do {
        for (long i = 0; i < 16; i += 4) {
          uint32_t w0t; SHOHIN_Q8_COPY(&w0t, v + 0 + i, 4); const int16x2_t w0a = __sxtb16(w0t), w0b = __sxtb16(__ror(w0t, 8));
          uint32_t w1t; SHOHIN_Q8_COPY(&w1t, v + 16 + i, 4); const int16x2_t w1a = __sxtb16(w1t), w1b = __sxtb16(__ror(w1t, 8));
          uint32_t y0t; SHOHIN_Q8_COPY(&y0t, x0 + i, 4); const int16x2_t y0a = __sxtb16(y0t), y0b = __sxtb16(__ror(y0t, 8)); c00 = __smlad(y0b, w0b, __smlad(y0a, w0a, c00)); c01 = __smlad(y0b, w1b, __smlad(y0a, w1a, c01));
        }
        v += 64; x0 += 16;
      } while (--k > 0);
    } while (++r < runs);
    (acc + 0 * SHOHIN_Q8_BLOCK)[0] = c00; (acc + 0 * SHOHIN_Q8_BLOCK)[1] = c01;
  }
}
/* Positions of the next tile, of those left. */
static long shohin_q8_tile(long left) { return left >= 2 ? 2 : left > 0; }
static void shohin_q8_dot(long n, const int8_t *const *rows, long offset, long runs, long blocks, long step,
                          const int8_t *w, const int32_t *bias, int32_t *acc, long groups) {
  switch (n) {
    case 2: shohin_q8_dot2(rows, offset, runs, blocks, step, w, bias, acc, groups); break;
    default: shohin_q8_dot1(rows, offset, runs, blocks, step, w, bias, acc, groups);
  }
}
#else
static void shohin_q8_dot1(const int8_t *const *rows, long offset, long runs, long blocks, long step, const int8_t *w,
                            const int32_t *bias, int32_t *acc, long groups) {
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
}
/* Positions of the next tile, of those left. */
static long shohin_q8_tile(long left) { return left > 0; }
static void shohin_q8_dot(long n, const int8_t *const *rows, long offset, long runs, long blocks, long step,
                          const int8_t *w, const int32_t *bias, int32_t *acc, long groups) {
  switch (n) {
    default: shohin_q8_dot1(rows, offset, runs, blocks, step, w, bias, acc, groups);
  }
}
#endif
#endif

#ifndef SHOHIN_Q8_CONV
#define SHOHIN_Q8_CONV
/* The taps of n positions side by side, in whole vectors of 16: a part's end is written over by the next one. */
static void shohin_q8_gather(const struct shohin_q8_layer *l, const int8_t *const *rows, long offset, long n, int8_t *to) {
  const long kh = l->kh, parts = l->parts, part = l->part, next = l->part_step, patch = l->patch, step = l->sw * l->c;
  for (; n > 0; n--, offset += step, to += patch) {
    int8_t *at = to;
    for (long a = 0; a < kh; a++) {
      const int8_t *from = rows[a] + offset;
      for (long b = parts; b > 0; b--, from += next, at += part) {
        long i = 0;
        do {
          SHOHIN_Q8_COPY16(at + i, from + i);
        } while ((i += 16) < part);
      }
    }
  }
}

#endif
#ifndef SHOHIN_Q8_CONVOLVE
#define SHOHIN_Q8_CONVOLVE
static void shohin_q8_conv(const struct shohin_q8_layer *l, const int8_t *x, const int8_t *w, const int32_t *bias,
                           const float *m, void *y, char *scratch, long chunk, long chunks) {
  int32_t *acc = (int32_t *)scratch;
  const int8_t **rows = (const int8_t **)(scratch + (SHOHIN_Q8_TILE + 1) * SHOHIN_Q8_BLOCK * 4 + l->staged);
  int8_t *patch = (int8_t *)(rows + l->kh + (l->kh & 1));
  const int8_t *const gathered = patch;
#if defined(SHOHIN_Q8_STAGED)
  const int8_t *const staged = (const int8_t *)(acc + (SHOHIN_Q8_TILE + 1) * SHOHIN_Q8_BLOCK);
#endif
  struct shohin_q8_rows s = {0};
  const long lo = (long)l->n * l->p * chunk / chunks, hi = (long)l->n * l->p * (chunk + 1) / chunks;
  const long each = l->o / l->groups, inside = l->c / l->groups, runs = l->patch ? 1 : l->kh;
  const long size = runs * l->blocks * 64, step = l->patch ? l->patch : l->sw * l->c;
  for (long group = 0; group < l->groups; group++)
  for (long first = 0; first < each; first += SHOHIN_Q8_BLOCK) {
    const long o = group * each + first, count = each - first < SHOHIN_Q8_BLOCK ? each - first : SHOHIN_Q8_BLOCK;
    const long fours = (count + 3) / 4;
    const int8_t *v = w + (group * ((each + 3) / 4) + first / 4) * size;
    const int32_t *add = bias + o;
#if defined(SHOHIN_Q8_UNSIGNED)
    int32_t *shifted = acc + SHOHIN_Q8_TILE * SHOHIN_Q8_BLOCK;
    shohin_q8_shift(v, add, shifted, runs, l->blocks, fours);
    add = shifted;
#endif
    for (long t = lo; t < hi; t++) {
      const long image = t / l->p, p = t - image * l->p;
      if (t == lo || p == 0) shohin_q8_begin(l, &s, x + image * l->h * l->w * l->c, patch + SHOHIN_Q8_TILE * l->patch + 16);
      shohin_q8_rows(l, &s, p, rows);
      for (long q = 0, n; q < l->q; q += n) {
        const int8_t *const *from = rows;
        long offset = q * l->sw * l->c;
        n = shohin_q8_tile(l->q - q);
        if (l->patch) {
          shohin_q8_gather(l, rows, offset + group * inside, n, patch);
          from = &gathered;
          offset = 0;
        }
#if defined(SHOHIN_Q8_STAGED)
        shohin_q8_stage(n, from, offset, runs, l->blocks, step, (void *)(acc + (SHOHIN_Q8_TILE + 1) * SHOHIN_Q8_BLOCK));
        shohin_q8_dot(n, &staged, 0, 1, runs * l->blocks, 0, v, add, acc, fours);
#else
        shohin_q8_dot(n, from, offset, runs, l->blocks, step, v, add, acc, fours);
#endif
        for (long i = 0; i < n; i++)
          shohin_q8_store(l, acc + i * SHOHIN_Q8_BLOCK, m ? m + o : m, y, (t * l->q + q + i) * l->o + o, count);
      }
    }
  }
}
#endif

static void network_f0(void *const *b, char *shared, char *scratch, long chunk, long chunks) {
  static const struct shohin_q8_layer layer = {
    .n = 1, .h = 1, .w = 1, .c = 6, .p = 1, .q = 1, .o = 8, .groups = 1, .kh = 1, .kw = 1, .sh = 1, .sw = 1,
    .dh = 1, .dw = 1, .slots = 1, .width = 1, .blocks = 1, .part = 6, .part_step = 6, .parts = 1,
    .zero = 15, .z = -128, .lo = -128, .hi = 127
  };
  (void)shared;
  shohin_q8_conv(&layer, ((int8_t *)b[0]), ((int8_t *)b[1]), ((int32_t *)b[2]), ((float *)b[3]), ((int8_t *)b[4]), scratch, chunk, chunks);
}

static void network_f1(void *const *b, char *shared, char *scratch, long chunk, long chunks) {
  static const struct shohin_q8_layer layer = {
    .n = 1, .h = 1, .w = 1, .c = 8, .p = 1, .q = 1, .o = 3, .groups = 1, .kh = 1, .kw = 1, .sh = 1, .sw = 1,
    .dh = 1, .dw = 1, .slots = 1, .width = 1, .blocks = 1, .part = 8, .part_step = 8, .parts = 1,
    .zero = -128, .z = 32, .lo = -128, .hi = 127
  };
  (void)shared;
  shohin_q8_conv(&layer, ((int8_t *)b[0]), ((int8_t *)b[1]), ((int32_t *)b[2]), ((float *)b[3]), ((int8_t *)b[4]), scratch, chunk, chunks);
}

int network_run(const int8_t *in0, int8_t *out0, void *arena) {
    char *const a = arena;
    (void)a;
    (void)in0;
    (void)out0;
    network_STEP(0, "0/qmatmul#0");
    {  // 0/qmatmul#0: i8[1,6] in0 -> i8[1,8] a + 1360
        void *const b[] = {(void *)in0, (void *)network_c5, (void *)network_c6, (void *)network_c7, a + 1360};
        network_f0(b, a + 0, a + 0, 0, 1);
    }
    network_STEP(1, "2/qmatmul#0");
    {  // 2/qmatmul#0: i8[1,8] a + 1360 -> i8[1,3] out0
        void *const b[] = {a + 1360, (void *)network_c12, (void *)network_c13, (void *)network_c14, out0};
        network_f1(b, a + 0, a + 0, 0, 1);
    }
    network_STEP(2, "");
    return 0;
}

#endif


#if (defined __FLT_EVAL_METHOD__ && __FLT_EVAL_METHOD__ != 0) || defined __FAST_MATH__
#error "this network's integers need plain float arithmetic: build without -ffast-math and with FLT_EVAL_METHOD 0"
#endif

/* Is this build's arithmetic the one that the integers are defined by? 0, or the number of the test that fails. */
int network_selfcheck(void) {
  volatile float magic = 12582912.0f, a, b, c, r;
  a = 0.5f; r = (a + magic) - magic; if (r != 0.0f) return 1;       /* ties to even */
  a = 1.5f; r = (a + magic) - magic; if (r != 2.0f) return 2;
  a = -2.5f; r = (a + magic) - magic; if (r != -2.0f) return 3;
  a = 16777217.0f / 3.0f; b = 3.0f; r = 5.0f / b; if (r != 0x1.aaaaaap+0f) return 4; /* a true division */
  a = 0x1.000002p+0f; b = 0x1.fffffcp-1f; c = -1.0f; r = a * b; r = r + c; if (r != 0.0f) return 5; /* no contraction */
  a = 1.0f; b = 0x1p-24f; r = a + b; if (r != 1.0f) return 6;       /* round to nearest */
  r = -a - b; if (r != -1.0f) return 7;
  a = 0x1.73e1bcp+0f; b = 0x1.8d5cc4p+0f; r = a / b; if (r != 0x1.df2b18p-1f) return 8; /* quotients and roots that */
  a = 0x1.381688p+0f; b = 0x1.94453cp+0f; r = a / b; if (r != 0x1.8b40bep-1f) return 9; /* estimates miss */
  return 0;
}

/* q = round_half_even(clip(x / s, -128 - z, 127 - z)) + z; NaN gives -128. The clip comes first, so that adding and
   subtracting 1.5 * 2^23 rounds exactly. */
void network_quantize(const float *in, int8_t *out) {
  for (long i = 0; i < 6; i++) {
    float v = in[i] / 0x1.0a73980000000p-6f;
    v = v > -143.0f ? v : -143.0f;
    v = v < 112.0f ? v : 112.0f;
    const float r = v + 12582912.0f;
    out[i] = (int8_t)((int32_t)(r - 12582912.0f) + (15));
  }
}

void network_dequantize(const int8_t *in, float *out) {
  for (long i = 0; i < 3; i++) out[i] = (float)(in[i] - (32)) * 0x1.3c5eac0000000p-8f;
}
