/* network for host, written by Shohin: network_run is the network.
 * Input: f32[1,6]
 * Output: f32[1,3]
 * Arena: 32 bytes, aligned to 16.
 *
 * layer       kernel      constants  result
 * 0/matmul#0  matmul_f32        224  f32[1,8] at 0
 * 2/matmul#0  matmul_f32        108  f32[1,3] output
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

#define network_ARENA_BYTES 32
#ifndef network_STEP /* what is done before each step and at the end: define it to read a clock or a cycle counter */
#define network_STEP(number, place) ((void)0)
#endif

/* 0, f32[1,8] */
static const _Alignas(SH_ALIGN) float network_c1[] = {
0.118926406f, -0.202859f, -0.29433912f, 0.37027988f, -0.11841555f, 0.07242835f, -0.0784326f, 0.17414524f};
#if ((defined(__GNUC__) && defined(__AVX512F__) && defined(__AVX512DQ__) && defined(__AVX512VL__))) || (!(defined(__GNUC__) && defined(__AVX512F__) && defined(__AVX512DQ__) && defined(__AVX512VL__)) && (defined(__GNUC__) && defined(__AVX2__) && defined(__FMA__)))
/* 0, f32[48] */
static const _Alignas(SH_ALIGN) float network_c4[] = {
-0.082428254f, 0.1583439f, 0.2346348f, 0.36099723f, 0.17441368f, 0.17969109f, 0.073070616f, -0.27059746f, 0.3106934f, -0.37796113f, -0.06931484f, 0.3404601f,
0.25097588f, -0.038697556f, -0.27157333f, 0.23283087f, 0.19245867f, -0.39236793f, 0.08543057f, -0.040558536f, 0.26914456f, -0.20483853f, 0.36512366f, 0.10512586f,
0.08612554f, -0.14742196f, -0.05978652f, -0.385591f, -0.3800503f, 0.103831366f, -0.32209682f, -0.37733904f, 0.3855833f, -0.29316592f, 0.3547973f, 0.13903123f,
0.12980913f, 0.3598466f, 0.27897388f, 0.34728605f, -0.11260218f, -0.18636785f, 0.15812571f, -0.11801118f, -0.37350884f, 0.2806533f, 0.25778857f, 0.26299345f};
#endif
/* 2, f32[1,3] */
static const _Alignas(SH_ALIGN) float network_c5[] = {
-0.124068856f, 0.09725933f, 0.11555848f};
#if ((defined(__GNUC__) && defined(__AVX512F__) && defined(__AVX512DQ__) && defined(__AVX512VL__))) || (!(defined(__GNUC__) && defined(__AVX512F__) && defined(__AVX512DQ__) && defined(__AVX512VL__)) && (defined(__GNUC__) && defined(__AVX2__) && defined(__FMA__)))
/* 2, f32[24] */
static const _Alignas(SH_ALIGN) float network_c8[] = {
-0.33056456f, 0.05905886f, -0.32846653f, -0.06790157f, 0.013048875f, 0.30727997f, -0.30576047f, 0.22191913f, 0.09642078f, -0.057590213f, 0.27402177f, -0.28136873f,
0.14951894f, -0.023707602f, -0.3450034f, 0.020204863f, -0.28014764f, 0.0034118295f, 0.032723024f, -0.23621707f, 0.091065004f, -0.19399865f, -0.34359375f, 0.07235973f};
#endif
#if (!(defined(__GNUC__) && defined(__AVX512F__) && defined(__AVX512DQ__) && defined(__AVX512VL__)) && !(defined(__GNUC__) && defined(__AVX2__) && defined(__FMA__)))
/* 0, f32[8,6] */
static const _Alignas(SH_ALIGN) float network_c2[] = {
-0.082428254f, 0.3106934f, 0.19245867f, 0.08612554f, 0.3855833f, -0.11260218f, 0.1583439f, -0.37796113f, -0.39236793f, -0.14742196f, -0.29316592f, -0.18636785f,
0.2346348f, -0.06931484f, 0.08543057f, -0.05978652f, 0.3547973f, 0.15812571f, 0.36099723f, 0.3404601f, -0.040558536f, -0.385591f, 0.13903123f, -0.11801118f,
0.17441368f, 0.25097588f, 0.26914456f, -0.3800503f, 0.12980913f, -0.37350884f, 0.17969109f, -0.038697556f, -0.20483853f, 0.103831366f, 0.3598466f, 0.2806533f,
0.073070616f, -0.27157333f, 0.36512366f, -0.32209682f, 0.27897388f, 0.25778857f, -0.27059746f, 0.23283087f, 0.10512586f, -0.37733904f, 0.34728605f, 0.26299345f};
#endif
#if (!(defined(__GNUC__) && defined(__AVX512F__) && defined(__AVX512DQ__) && defined(__AVX512VL__)) && !(defined(__GNUC__) && defined(__AVX2__) && defined(__FMA__)))
/* 2, f32[3,8] */
static const _Alignas(SH_ALIGN) float network_c5_v1[] = {
-0.33056456f, -0.32846653f, 0.013048875f, -0.30576047f, 0.09642078f, 0.27402177f, 0.14951894f, -0.3450034f, 0.05905886f, -0.06790157f, 0.30727997f, 0.22191913f,
-0.057590213f, -0.28136873f, -0.023707602f, 0.020204863f, -0.28014764f, 0.0034118295f, 0.032723024f, -0.23621707f, 0.091065004f, -0.19399865f, -0.34359375f, 0.07235973f};
#endif
#if defined(__GNUC__) && defined(__AVX512F__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
typedef float f32x8 __attribute__((vector_size(32)));
typedef float f32x8_u __attribute__((vector_size(32), aligned(4), may_alias));
static inline f32x8 sh_splat_f32x8(float x) { return (f32x8){x, x, x, x, x, x, x, x}; }
typedef int32_t i32x8 __attribute__((vector_size(32)));
typedef int32_t i32x8_u __attribute__((vector_size(32), aligned(4), may_alias));
static inline i32x8 sh_splat_i32x8(int32_t x) { return (i32x8){x, x, x, x, x, x, x, x}; }
static inline f32x8 sh_select_f32x8(i32x8 m, f32x8 a, f32x8 b) { return (f32x8)((m & (i32x8)a) | (~m & (i32x8)b)); }
#ifndef SHOHIN_KERNELS
#define SHOHIN_KERNELS
#if defined(__GNUC__)
#define SHOHIN_APART __attribute__((noinline)) // compiled by itself, once, not in every loop that calls it
#else
#define SHOHIN_APART
#endif
#if defined(__clang__)
#if defined(__x86_64__)
#define SHOHIN_WIDE __attribute__((min_vector_width(512)))  // Intel's tunings would split every zmm into two ymm
#else
#define SHOHIN_WIDE
#endif
#define SHOHIN_FMA(a, b, c) __builtin_elementwise_fma(a, b, c)
#else
#define SHOHIN_WIDE
#define SHOHIN_FMA(a, b, c) __extension__({ __typeof__(c) a_ = (a), b_ = (b), c_ = (c); \
  for (unsigned i_ = 0; i_ < sizeof c_ / sizeof(float); i_++) { c_[i_] = __builtin_fmaf(a_[i_], b_[i_], c_[i_]); } \
  c_; })
#endif
#define SHOHIN_INLINE SHOHIN_WIDE static inline __attribute__((always_inline))
struct shohin_run { long a, b, n; };
struct shohin_segment { int start, step, length, tap, taps, tap_step, source, source_step, tap_source; };
struct shohin_panel { int first, stop, load, base, vectors, ldb, lastb; };
struct shohin_tile {
  const float *a, *b; float *c; const struct shohin_run *runs;
  long count, rs, ks, ldb, ldc, last, lastb, io, at, i[4], step[3];
  long tiles, skip, lines, la, lc, turn[3]; // tiles side by side, ``skip`` apart in a; lines of them, apart in a and c, in i
};
#endif
#ifndef SHOHIN_V8
#define SHOHIN_V8
typedef float shohin_v8 __attribute__((vector_size(32)));
typedef float shohin_u8 __attribute__((vector_size(32), aligned(4)));
#define SHOHIN_SPLAT8(x) __extension__({ const float x_ = (x); (shohin_v8){x_, x_, x_, x_, x_, x_, x_, x_}; })
#endif
#ifndef SHOHIN_V8
#define SHOHIN_V8
typedef float shohin_v8 __attribute__((vector_size(32)));
typedef float shohin_u8 __attribute__((vector_size(32), aligned(4)));
#define SHOHIN_SPLAT8(x) __extension__({ const float x_ = (x); (shohin_v8){x_, x_, x_, x_, x_, x_, x_, x_}; })
#endif
#ifndef SHOHIN_CLOSE_8B1306E08B57
#define SHOHIN_CLOSE_8B1306E08B57
SHOHIN_INLINE shohin_v8 shohin_close_8b1306e08b57(void *const *b, shohin_v8 acc, long at, long i0, long i1, long i2, long i3, long io) {
  (void)b; (void)at; (void)i0; (void)i1; (void)i2; (void)i3; (void)io;
  return ({ const f32x8 e1 = (acc + ((f32x8)*(const f32x8_u *)&((float *)b[0])[at + io])); sh_select_f32x8((e1 < sh_splat_f32x8(0.0f)), sh_splat_f32x8(0.0f), e1); });
}
#endif
#ifndef SHOHIN_TILE8_1X1E_8B1306E08B57
#define SHOHIN_TILE8_1X1E_8B1306E08B57
SHOHIN_APART SHOHIN_WIDE static void shohin_tile8_1x1e_8b1306e08b57(const struct shohin_tile *t, void *const *b) {
  const long rs = t->rs, rs2 = 2 * rs, rs3 = 3 * rs, ks = t->ks, ldb = t->ldb, ldc = t->ldc;
  const long s0 = t->step[0], s1 = t->step[1], s2 = t->step[2];
  (void)b; (void)rs; (void)rs2; (void)rs3;
  for (long line = 0; line < t->lines; line++) {
    const float *a = t->a + line * t->la;
    float *c = t->c + line * t->lc;
    long at = t->at + line * t->lc, i0 = t->i[0] + line * t->turn[0], i1 = t->i[1] + line * t->turn[1], i2 = t->i[2] + line * t->turn[2];
    for (long tile = t->tiles; tile > 0; tile--, a += t->skip, c += 1 * ldc, at += 1 * ldc, i0 += 1 * s0, i1 += 1 * s1, i2 += 1 * s2) {
      shohin_v8 c0_0 = (shohin_v8){0};
      for (const struct shohin_run *run = t->runs, *end = run + t->count; run < end; run++) {
        const float *p0 = a + run->a + 0 * rs;
        const float *q = t->b + run->b * ldb;
        for (long n = run->n; n > 0; n--) {
          shohin_v8 s;
          const shohin_v8 b0 = *(const shohin_u8 *)(q + 0);
          s = SHOHIN_SPLAT8(*(p0 + 0));
          c0_0 = SHOHIN_FMA(s, b0, c0_0);
          p0 += ks; q += ldb;
        }
      }
      c0_0 = shohin_close_8b1306e08b57(b, c0_0, at + 0 * ldc, i0 + 0 * s0, i1 + 0 * s1, i2 + 0 * s2, t->i[3], t->io + 0);
      *(shohin_u8 *)(c + 0 * ldc + 0) = c0_0;
    }
  }
}
#endif
SHOHIN_WIDE static void network_f0(void *const *b, char *shared, char *scratch, long chunk, long chunks) {
  (void)b; (void)shared; (void)scratch; (void)chunk; (void)chunks;
  enum { M = 1, N = 8, K = 6, W = 8, R = 1 };
  static const struct shohin_panel panels[] = {{0, 8, 0, 0, 1, 8, 0}};
  const long z = chunk / 1, mine = chunk % 1;
  const float *a = ((float *)b[1]) + 0;
  const float *const bs = ((float *)b[3]) + 0;
  float *y = ((float *)b[2]) + z * M * N;
  const long mtiles = (M + R - 1) / R;
  const long m0 = mtiles * (mine / 1) / 1 * R, m1 = mtiles * (mine / 1 + 1) / 1 * R;
  const struct shohin_panel *const p0 = panels + 1 * (mine % 1) / 1, *const p1 = panels + 1 * (mine % 1 + 1) / 1;
  const struct shohin_run one = {0, 0, K};
  struct shohin_tile T = {.runs = &one, .count = 1, .rs = 6, .ks = 1, .ldc = N, .i = {z, 0, 0, 0}, .step = {0, 1, 0}, .lines = 1, .skip = R * 6};
  const long bottom = m1 < M ? m1 : M;
  for (long mb = m0; mb < bottom; mb += 1) {
    const long end = mb + 1 < bottom ? mb + 1 : bottom;
    for (const struct shohin_panel *p = p0; p < p1; p++) {
      const long first = p->first, vectors = p->vectors, last = p->stop - W - first;
      T.b = bs + p->base;
      T.ldb = p->ldb;
      T.io = first;
      T.last = last;
      T.lastb = p->lastb;
      for (long m = mb, rows; m < end; m += rows * T.tiles) {
        rows = end - m < R ? end - m : R;
        T.tiles = end - m < R ? 1 : (end - m) / R;
        T.a = a + m * 6;
        T.c = y + m * N + first;
        T.at = (z * M + m) * N;
        T.i[1] = m;
        switch (rows * 8 + vectors) { case 9: shohin_tile8_1x1e_8b1306e08b57(&T, b); break; }
      }
    }
  }
}

#ifndef SHOHIN_KERNELS
#define SHOHIN_KERNELS
#if defined(__GNUC__)
#define SHOHIN_APART __attribute__((noinline)) // compiled by itself, once, not in every loop that calls it
#else
#define SHOHIN_APART
#endif
#if defined(__clang__)
#if defined(__x86_64__)
#define SHOHIN_WIDE __attribute__((min_vector_width(512)))  // Intel's tunings would split every zmm into two ymm
#else
#define SHOHIN_WIDE
#endif
#define SHOHIN_FMA(a, b, c) __builtin_elementwise_fma(a, b, c)
#else
#define SHOHIN_WIDE
#define SHOHIN_FMA(a, b, c) __extension__({ __typeof__(c) a_ = (a), b_ = (b), c_ = (c); \
  for (unsigned i_ = 0; i_ < sizeof c_ / sizeof(float); i_++) { c_[i_] = __builtin_fmaf(a_[i_], b_[i_], c_[i_]); } \
  c_; })
#endif
#define SHOHIN_INLINE SHOHIN_WIDE static inline __attribute__((always_inline))
struct shohin_run { long a, b, n; };
struct shohin_segment { int start, step, length, tap, taps, tap_step, source, source_step, tap_source; };
struct shohin_panel { int first, stop, load, base, vectors, ldb, lastb; };
struct shohin_tile {
  const float *a, *b; float *c; const struct shohin_run *runs;
  long count, rs, ks, ldb, ldc, last, lastb, io, at, i[4], step[3];
  long tiles, skip, lines, la, lc, turn[3]; // tiles side by side, ``skip`` apart in a; lines of them, apart in a and c, in i
};
#endif
#ifndef SHOHIN_CLOSE_E36844858E6F
#define SHOHIN_CLOSE_E36844858E6F
SHOHIN_INLINE float shohin_close_e36844858e6f(void *const *b, float acc, long at, long i0, long i1, long i2, long i3, long io) {
  (void)b; (void)at; (void)i0; (void)i1; (void)i2; (void)i3; (void)io;
  return (acc + ((float *)b[0])[at + io]);
}
#endif
#ifndef SHOHIN_TILE1_1X1E_E36844858E6F
#define SHOHIN_TILE1_1X1E_E36844858E6F
SHOHIN_APART SHOHIN_WIDE static void shohin_tile1_1x1e_e36844858e6f(const struct shohin_tile *t, void *const *b) {
  const long rs = t->rs, rs2 = 2 * rs, rs3 = 3 * rs, ks = t->ks, ldb = t->ldb, ldc = t->ldc;
  const long s0 = t->step[0], s1 = t->step[1], s2 = t->step[2];
  (void)b; (void)rs; (void)rs2; (void)rs3;
  for (long line = 0; line < t->lines; line++) {
    const float *a = t->a + line * t->la;
    float *c = t->c + line * t->lc;
    long at = t->at + line * t->lc, i0 = t->i[0] + line * t->turn[0], i1 = t->i[1] + line * t->turn[1], i2 = t->i[2] + line * t->turn[2];
    for (long tile = t->tiles; tile > 0; tile--, a += t->skip, c += 1 * ldc, at += 1 * ldc, i0 += 1 * s0, i1 += 1 * s1, i2 += 1 * s2) {
      float c0_0 = 0.0f;
      for (const struct shohin_run *run = t->runs, *end = run + t->count; run < end; run++) {
        const float *p0 = a + run->a + 0 * rs;
        const float *q = t->b + run->b * ldb;
        for (long n = run->n; n > 0; n--) {
          float s;
          const float b0 = *(q + 0);
          s = *(p0 + 0);
          c0_0 = __builtin_fmaf(s, b0, c0_0);
          p0 += ks; q += ldb;
        }
      }
      c0_0 = shohin_close_e36844858e6f(b, c0_0, at + 0 * ldc, i0 + 0 * s0, i1 + 0 * s1, i2 + 0 * s2, t->i[3], t->io + 0);
      *(float *)(c + 0 * ldc + 0) = c0_0;
    }
  }
}
#endif
#ifndef SHOHIN_CLOSE_E36844858E6F
#define SHOHIN_CLOSE_E36844858E6F
SHOHIN_INLINE float shohin_close_e36844858e6f(void *const *b, float acc, long at, long i0, long i1, long i2, long i3, long io) {
  (void)b; (void)at; (void)i0; (void)i1; (void)i2; (void)i3; (void)io;
  return (acc + ((float *)b[0])[at + io]);
}
#endif
#ifndef SHOHIN_TILE1_1X2E_E36844858E6F
#define SHOHIN_TILE1_1X2E_E36844858E6F
SHOHIN_APART SHOHIN_WIDE static void shohin_tile1_1x2e_e36844858e6f(const struct shohin_tile *t, void *const *b) {
  const long rs = t->rs, rs2 = 2 * rs, rs3 = 3 * rs, ks = t->ks, ldb = t->ldb, ldc = t->ldc;
  const long last = t->last, lastb = t->lastb;
  (void)last; (void)lastb;
  const long s0 = t->step[0], s1 = t->step[1], s2 = t->step[2];
  (void)b; (void)rs; (void)rs2; (void)rs3;
  for (long line = 0; line < t->lines; line++) {
    const float *a = t->a + line * t->la;
    float *c = t->c + line * t->lc;
    long at = t->at + line * t->lc, i0 = t->i[0] + line * t->turn[0], i1 = t->i[1] + line * t->turn[1], i2 = t->i[2] + line * t->turn[2];
    for (long tile = t->tiles; tile > 0; tile--, a += t->skip, c += 1 * ldc, at += 1 * ldc, i0 += 1 * s0, i1 += 1 * s1, i2 += 1 * s2) {
      float c0_0 = 0.0f;
      float c0_1 = 0.0f;
      for (const struct shohin_run *run = t->runs, *end = run + t->count; run < end; run++) {
        const float *p0 = a + run->a + 0 * rs;
        const float *q = t->b + run->b * ldb;
        for (long n = run->n; n > 0; n--) {
          float s;
          const float b0 = *(q + 0);
          const float b1 = *(q + lastb);
          s = *(p0 + 0);
          c0_0 = __builtin_fmaf(s, b0, c0_0);
          c0_1 = __builtin_fmaf(s, b1, c0_1);
          p0 += ks; q += ldb;
        }
      }
      c0_0 = shohin_close_e36844858e6f(b, c0_0, at + 0 * ldc, i0 + 0 * s0, i1 + 0 * s1, i2 + 0 * s2, t->i[3], t->io + 0);
      c0_1 = shohin_close_e36844858e6f(b, c0_1, at + 0 * ldc, i0 + 0 * s0, i1 + 0 * s1, i2 + 0 * s2, t->i[3], t->io + last);
      *(float *)(c + 0 * ldc + 0) = c0_0;
      *(float *)(c + 0 * ldc + last) = c0_1;
    }
  }
}
#endif
SHOHIN_WIDE static void network_f1(void *const *b, char *shared, char *scratch, long chunk, long chunks) {
  (void)b; (void)shared; (void)scratch; (void)chunk; (void)chunks;
  enum { M = 1, N = 3, K = 8, W = 1, R = 1 };
  static const struct shohin_panel panels[] = {{0, 2, 0, 0, 2, 2, 1}, {2, 3, 2, 16, 1, 1, 0}};
  const long z = chunk / 1, mine = chunk % 1;
  const float *a = ((float *)b[1]) + 0;
  const float *const bs = ((float *)b[3]) + 0;
  float *y = ((float *)b[2]) + z * M * N;
  const long mtiles = (M + R - 1) / R;
  const long m0 = mtiles * (mine / 1) / 1 * R, m1 = mtiles * (mine / 1 + 1) / 1 * R;
  const struct shohin_panel *const p0 = panels + 2 * (mine % 1) / 1, *const p1 = panels + 2 * (mine % 1 + 1) / 1;
  const struct shohin_run one = {0, 0, K};
  struct shohin_tile T = {.runs = &one, .count = 1, .rs = 8, .ks = 1, .ldc = N, .i = {z, 0, 0, 0}, .step = {0, 1, 0}, .lines = 1, .skip = R * 8};
  const long bottom = m1 < M ? m1 : M;
  for (long mb = m0; mb < bottom; mb += 1) {
    const long end = mb + 1 < bottom ? mb + 1 : bottom;
    for (const struct shohin_panel *p = p0; p < p1; p++) {
      const long first = p->first, vectors = p->vectors, last = p->stop - W - first;
      T.b = bs + p->base;
      T.ldb = p->ldb;
      T.io = first;
      T.last = last;
      T.lastb = p->lastb;
      for (long m = mb, rows; m < end; m += rows * T.tiles) {
        rows = end - m < R ? end - m : R;
        T.tiles = end - m < R ? 1 : (end - m) / R;
        T.a = a + m * 8;
        T.c = y + m * N + first;
        T.at = (z * M + m) * N;
        T.i[1] = m;
        switch (rows * 8 + vectors) { case 9: shohin_tile1_1x1e_e36844858e6f(&T, b); break; case 10: shohin_tile1_1x2e_e36844858e6f(&T, b); break; }
      }
    }
  }
}

int network_run(const float *in0, float *out0, void *arena) {
    char *const a = arena;
    (void)a;
    (void)in0;
    (void)out0;
    network_STEP(0, "0/matmul#0");
    {  // 0/matmul#0: f32[1,6] in0 -> f32[1,8] a + 0
        void *const b[] = {(void *)network_c1, (void *)in0, a + 0, (void *)network_c4};
        network_f0(b, a + 0, a + 0, 0, 1);
    }
    network_STEP(1, "2/matmul#0");
    {  // 2/matmul#0: f32[1,8] a + 0 -> f32[1,3] out0
        void *const b[] = {(void *)network_c5, a + 0, out0, (void *)network_c8};
        network_f1(b, a + 0, a + 0, 0, 1);
    }
    network_STEP(2, "");
    return 0;
}

#elif defined(__GNUC__) && defined(__AVX2__) && defined(__FMA__)
typedef float f32x8 __attribute__((vector_size(32)));
typedef float f32x8_u __attribute__((vector_size(32), aligned(4), may_alias));
static inline f32x8 sh_splat_f32x8(float x) { return (f32x8){x, x, x, x, x, x, x, x}; }
typedef int32_t i32x8 __attribute__((vector_size(32)));
typedef int32_t i32x8_u __attribute__((vector_size(32), aligned(4), may_alias));
static inline i32x8 sh_splat_i32x8(int32_t x) { return (i32x8){x, x, x, x, x, x, x, x}; }
static inline f32x8 sh_select_f32x8(i32x8 m, f32x8 a, f32x8 b) { return (f32x8)((m & (i32x8)a) | (~m & (i32x8)b)); }
#ifndef SHOHIN_KERNELS
#define SHOHIN_KERNELS
#if defined(__GNUC__)
#define SHOHIN_APART __attribute__((noinline)) // compiled by itself, once, not in every loop that calls it
#else
#define SHOHIN_APART
#endif
#if defined(__clang__)
#if defined(__x86_64__)
#define SHOHIN_WIDE __attribute__((min_vector_width(512)))  // Intel's tunings would split every zmm into two ymm
#else
#define SHOHIN_WIDE
#endif
#define SHOHIN_FMA(a, b, c) __builtin_elementwise_fma(a, b, c)
#else
#define SHOHIN_WIDE
#define SHOHIN_FMA(a, b, c) __extension__({ __typeof__(c) a_ = (a), b_ = (b), c_ = (c); \
  for (unsigned i_ = 0; i_ < sizeof c_ / sizeof(float); i_++) { c_[i_] = __builtin_fmaf(a_[i_], b_[i_], c_[i_]); } \
  c_; })
#endif
#define SHOHIN_INLINE SHOHIN_WIDE static inline __attribute__((always_inline))
struct shohin_run { long a, b, n; };
struct shohin_segment { int start, step, length, tap, taps, tap_step, source, source_step, tap_source; };
struct shohin_panel { int first, stop, load, base, vectors, ldb, lastb; };
struct shohin_tile {
  const float *a, *b; float *c; const struct shohin_run *runs;
  long count, rs, ks, ldb, ldc, last, lastb, io, at, i[4], step[3];
  long tiles, skip, lines, la, lc, turn[3]; // tiles side by side, ``skip`` apart in a; lines of them, apart in a and c, in i
};
#endif
#ifndef SHOHIN_V8
#define SHOHIN_V8
typedef float shohin_v8 __attribute__((vector_size(32)));
typedef float shohin_u8 __attribute__((vector_size(32), aligned(4)));
#define SHOHIN_SPLAT8(x) __extension__({ const float x_ = (x); (shohin_v8){x_, x_, x_, x_, x_, x_, x_, x_}; })
#endif
#ifndef SHOHIN_V8
#define SHOHIN_V8
typedef float shohin_v8 __attribute__((vector_size(32)));
typedef float shohin_u8 __attribute__((vector_size(32), aligned(4)));
#define SHOHIN_SPLAT8(x) __extension__({ const float x_ = (x); (shohin_v8){x_, x_, x_, x_, x_, x_, x_, x_}; })
#endif
#ifndef SHOHIN_CLOSE_8B1306E08B57
#define SHOHIN_CLOSE_8B1306E08B57
SHOHIN_INLINE shohin_v8 shohin_close_8b1306e08b57(void *const *b, shohin_v8 acc, long at, long i0, long i1, long i2, long i3, long io) {
  (void)b; (void)at; (void)i0; (void)i1; (void)i2; (void)i3; (void)io;
  return ({ const f32x8 e1 = (acc + ((f32x8)*(const f32x8_u *)&((float *)b[0])[at + io])); sh_select_f32x8((e1 < sh_splat_f32x8(0.0f)), sh_splat_f32x8(0.0f), e1); });
}
#endif
#ifndef SHOHIN_TILE8_1X1E_8B1306E08B57
#define SHOHIN_TILE8_1X1E_8B1306E08B57
SHOHIN_APART SHOHIN_WIDE static void shohin_tile8_1x1e_8b1306e08b57(const struct shohin_tile *t, void *const *b) {
  const long rs = t->rs, rs2 = 2 * rs, rs3 = 3 * rs, ks = t->ks, ldb = t->ldb, ldc = t->ldc;
  const long s0 = t->step[0], s1 = t->step[1], s2 = t->step[2];
  (void)b; (void)rs; (void)rs2; (void)rs3;
  for (long line = 0; line < t->lines; line++) {
    const float *a = t->a + line * t->la;
    float *c = t->c + line * t->lc;
    long at = t->at + line * t->lc, i0 = t->i[0] + line * t->turn[0], i1 = t->i[1] + line * t->turn[1], i2 = t->i[2] + line * t->turn[2];
    for (long tile = t->tiles; tile > 0; tile--, a += t->skip, c += 1 * ldc, at += 1 * ldc, i0 += 1 * s0, i1 += 1 * s1, i2 += 1 * s2) {
      shohin_v8 c0_0 = (shohin_v8){0};
      for (const struct shohin_run *run = t->runs, *end = run + t->count; run < end; run++) {
        const float *p0 = a + run->a + 0 * rs;
        const float *q = t->b + run->b * ldb;
        for (long n = run->n; n > 0; n--) {
          shohin_v8 s;
          const shohin_v8 b0 = *(const shohin_u8 *)(q + 0);
          s = SHOHIN_SPLAT8(*(p0 + 0));
          c0_0 = SHOHIN_FMA(s, b0, c0_0);
          p0 += ks; q += ldb;
        }
      }
      c0_0 = shohin_close_8b1306e08b57(b, c0_0, at + 0 * ldc, i0 + 0 * s0, i1 + 0 * s1, i2 + 0 * s2, t->i[3], t->io + 0);
      *(shohin_u8 *)(c + 0 * ldc + 0) = c0_0;
    }
  }
}
#endif
SHOHIN_WIDE static void network_f0(void *const *b, char *shared, char *scratch, long chunk, long chunks) {
  (void)b; (void)shared; (void)scratch; (void)chunk; (void)chunks;
  enum { M = 1, N = 8, K = 6, W = 8, R = 1 };
  static const struct shohin_panel panels[] = {{0, 8, 0, 0, 1, 8, 0}};
  const long z = chunk / 1, mine = chunk % 1;
  const float *a = ((float *)b[1]) + 0;
  const float *const bs = ((float *)b[3]) + 0;
  float *y = ((float *)b[2]) + z * M * N;
  const long mtiles = (M + R - 1) / R;
  const long m0 = mtiles * (mine / 1) / 1 * R, m1 = mtiles * (mine / 1 + 1) / 1 * R;
  const struct shohin_panel *const p0 = panels + 1 * (mine % 1) / 1, *const p1 = panels + 1 * (mine % 1 + 1) / 1;
  const struct shohin_run one = {0, 0, K};
  struct shohin_tile T = {.runs = &one, .count = 1, .rs = 6, .ks = 1, .ldc = N, .i = {z, 0, 0, 0}, .step = {0, 1, 0}, .lines = 1, .skip = R * 6};
  const long bottom = m1 < M ? m1 : M;
  for (long mb = m0; mb < bottom; mb += 1) {
    const long end = mb + 1 < bottom ? mb + 1 : bottom;
    for (const struct shohin_panel *p = p0; p < p1; p++) {
      const long first = p->first, vectors = p->vectors, last = p->stop - W - first;
      T.b = bs + p->base;
      T.ldb = p->ldb;
      T.io = first;
      T.last = last;
      T.lastb = p->lastb;
      for (long m = mb, rows; m < end; m += rows * T.tiles) {
        rows = end - m < R ? end - m : R;
        T.tiles = end - m < R ? 1 : (end - m) / R;
        T.a = a + m * 6;
        T.c = y + m * N + first;
        T.at = (z * M + m) * N;
        T.i[1] = m;
        switch (rows * 8 + vectors) { case 9: shohin_tile8_1x1e_8b1306e08b57(&T, b); break; }
      }
    }
  }
}

#ifndef SHOHIN_KERNELS
#define SHOHIN_KERNELS
#if defined(__GNUC__)
#define SHOHIN_APART __attribute__((noinline)) // compiled by itself, once, not in every loop that calls it
#else
#define SHOHIN_APART
#endif
#if defined(__clang__)
#if defined(__x86_64__)
#define SHOHIN_WIDE __attribute__((min_vector_width(512)))  // Intel's tunings would split every zmm into two ymm
#else
#define SHOHIN_WIDE
#endif
#define SHOHIN_FMA(a, b, c) __builtin_elementwise_fma(a, b, c)
#else
#define SHOHIN_WIDE
#define SHOHIN_FMA(a, b, c) __extension__({ __typeof__(c) a_ = (a), b_ = (b), c_ = (c); \
  for (unsigned i_ = 0; i_ < sizeof c_ / sizeof(float); i_++) { c_[i_] = __builtin_fmaf(a_[i_], b_[i_], c_[i_]); } \
  c_; })
#endif
#define SHOHIN_INLINE SHOHIN_WIDE static inline __attribute__((always_inline))
struct shohin_run { long a, b, n; };
struct shohin_segment { int start, step, length, tap, taps, tap_step, source, source_step, tap_source; };
struct shohin_panel { int first, stop, load, base, vectors, ldb, lastb; };
struct shohin_tile {
  const float *a, *b; float *c; const struct shohin_run *runs;
  long count, rs, ks, ldb, ldc, last, lastb, io, at, i[4], step[3];
  long tiles, skip, lines, la, lc, turn[3]; // tiles side by side, ``skip`` apart in a; lines of them, apart in a and c, in i
};
#endif
#ifndef SHOHIN_CLOSE_E36844858E6F
#define SHOHIN_CLOSE_E36844858E6F
SHOHIN_INLINE float shohin_close_e36844858e6f(void *const *b, float acc, long at, long i0, long i1, long i2, long i3, long io) {
  (void)b; (void)at; (void)i0; (void)i1; (void)i2; (void)i3; (void)io;
  return (acc + ((float *)b[0])[at + io]);
}
#endif
#ifndef SHOHIN_TILE1_1X1E_E36844858E6F
#define SHOHIN_TILE1_1X1E_E36844858E6F
SHOHIN_APART SHOHIN_WIDE static void shohin_tile1_1x1e_e36844858e6f(const struct shohin_tile *t, void *const *b) {
  const long rs = t->rs, rs2 = 2 * rs, rs3 = 3 * rs, ks = t->ks, ldb = t->ldb, ldc = t->ldc;
  const long s0 = t->step[0], s1 = t->step[1], s2 = t->step[2];
  (void)b; (void)rs; (void)rs2; (void)rs3;
  for (long line = 0; line < t->lines; line++) {
    const float *a = t->a + line * t->la;
    float *c = t->c + line * t->lc;
    long at = t->at + line * t->lc, i0 = t->i[0] + line * t->turn[0], i1 = t->i[1] + line * t->turn[1], i2 = t->i[2] + line * t->turn[2];
    for (long tile = t->tiles; tile > 0; tile--, a += t->skip, c += 1 * ldc, at += 1 * ldc, i0 += 1 * s0, i1 += 1 * s1, i2 += 1 * s2) {
      float c0_0 = 0.0f;
      for (const struct shohin_run *run = t->runs, *end = run + t->count; run < end; run++) {
        const float *p0 = a + run->a + 0 * rs;
        const float *q = t->b + run->b * ldb;
        for (long n = run->n; n > 0; n--) {
          float s;
          const float b0 = *(q + 0);
          s = *(p0 + 0);
          c0_0 = __builtin_fmaf(s, b0, c0_0);
          p0 += ks; q += ldb;
        }
      }
      c0_0 = shohin_close_e36844858e6f(b, c0_0, at + 0 * ldc, i0 + 0 * s0, i1 + 0 * s1, i2 + 0 * s2, t->i[3], t->io + 0);
      *(float *)(c + 0 * ldc + 0) = c0_0;
    }
  }
}
#endif
#ifndef SHOHIN_CLOSE_E36844858E6F
#define SHOHIN_CLOSE_E36844858E6F
SHOHIN_INLINE float shohin_close_e36844858e6f(void *const *b, float acc, long at, long i0, long i1, long i2, long i3, long io) {
  (void)b; (void)at; (void)i0; (void)i1; (void)i2; (void)i3; (void)io;
  return (acc + ((float *)b[0])[at + io]);
}
#endif
#ifndef SHOHIN_TILE1_1X2E_E36844858E6F
#define SHOHIN_TILE1_1X2E_E36844858E6F
SHOHIN_APART SHOHIN_WIDE static void shohin_tile1_1x2e_e36844858e6f(const struct shohin_tile *t, void *const *b) {
  const long rs = t->rs, rs2 = 2 * rs, rs3 = 3 * rs, ks = t->ks, ldb = t->ldb, ldc = t->ldc;
  const long last = t->last, lastb = t->lastb;
  (void)last; (void)lastb;
  const long s0 = t->step[0], s1 = t->step[1], s2 = t->step[2];
  (void)b; (void)rs; (void)rs2; (void)rs3;
  for (long line = 0; line < t->lines; line++) {
    const float *a = t->a + line * t->la;
    float *c = t->c + line * t->lc;
    long at = t->at + line * t->lc, i0 = t->i[0] + line * t->turn[0], i1 = t->i[1] + line * t->turn[1], i2 = t->i[2] + line * t->turn[2];
    for (long tile = t->tiles; tile > 0; tile--, a += t->skip, c += 1 * ldc, at += 1 * ldc, i0 += 1 * s0, i1 += 1 * s1, i2 += 1 * s2) {
      float c0_0 = 0.0f;
      float c0_1 = 0.0f;
      for (const struct shohin_run *run = t->runs, *end = run + t->count; run < end; run++) {
        const float *p0 = a + run->a + 0 * rs;
        const float *q = t->b + run->b * ldb;
        for (long n = run->n; n > 0; n--) {
          float s;
          const float b0 = *(q + 0);
          const float b1 = *(q + lastb);
          s = *(p0 + 0);
          c0_0 = __builtin_fmaf(s, b0, c0_0);
          c0_1 = __builtin_fmaf(s, b1, c0_1);
          p0 += ks; q += ldb;
        }
      }
      c0_0 = shohin_close_e36844858e6f(b, c0_0, at + 0 * ldc, i0 + 0 * s0, i1 + 0 * s1, i2 + 0 * s2, t->i[3], t->io + 0);
      c0_1 = shohin_close_e36844858e6f(b, c0_1, at + 0 * ldc, i0 + 0 * s0, i1 + 0 * s1, i2 + 0 * s2, t->i[3], t->io + last);
      *(float *)(c + 0 * ldc + 0) = c0_0;
      *(float *)(c + 0 * ldc + last) = c0_1;
    }
  }
}
#endif
SHOHIN_WIDE static void network_f1(void *const *b, char *shared, char *scratch, long chunk, long chunks) {
  (void)b; (void)shared; (void)scratch; (void)chunk; (void)chunks;
  enum { M = 1, N = 3, K = 8, W = 1, R = 1 };
  static const struct shohin_panel panels[] = {{0, 2, 0, 0, 2, 2, 1}, {2, 3, 2, 16, 1, 1, 0}};
  const long z = chunk / 1, mine = chunk % 1;
  const float *a = ((float *)b[1]) + 0;
  const float *const bs = ((float *)b[3]) + 0;
  float *y = ((float *)b[2]) + z * M * N;
  const long mtiles = (M + R - 1) / R;
  const long m0 = mtiles * (mine / 1) / 1 * R, m1 = mtiles * (mine / 1 + 1) / 1 * R;
  const struct shohin_panel *const p0 = panels + 2 * (mine % 1) / 1, *const p1 = panels + 2 * (mine % 1 + 1) / 1;
  const struct shohin_run one = {0, 0, K};
  struct shohin_tile T = {.runs = &one, .count = 1, .rs = 8, .ks = 1, .ldc = N, .i = {z, 0, 0, 0}, .step = {0, 1, 0}, .lines = 1, .skip = R * 8};
  const long bottom = m1 < M ? m1 : M;
  for (long mb = m0; mb < bottom; mb += 1) {
    const long end = mb + 1 < bottom ? mb + 1 : bottom;
    for (const struct shohin_panel *p = p0; p < p1; p++) {
      const long first = p->first, vectors = p->vectors, last = p->stop - W - first;
      T.b = bs + p->base;
      T.ldb = p->ldb;
      T.io = first;
      T.last = last;
      T.lastb = p->lastb;
      for (long m = mb, rows; m < end; m += rows * T.tiles) {
        rows = end - m < R ? end - m : R;
        T.tiles = end - m < R ? 1 : (end - m) / R;
        T.a = a + m * 8;
        T.c = y + m * N + first;
        T.at = (z * M + m) * N;
        T.i[1] = m;
        switch (rows * 8 + vectors) { case 9: shohin_tile1_1x1e_e36844858e6f(&T, b); break; case 10: shohin_tile1_1x2e_e36844858e6f(&T, b); break; }
      }
    }
  }
}

int network_run(const float *in0, float *out0, void *arena) {
    char *const a = arena;
    (void)a;
    (void)in0;
    (void)out0;
    network_STEP(0, "0/matmul#0");
    {  // 0/matmul#0: f32[1,6] in0 -> f32[1,8] a + 0
        void *const b[] = {(void *)network_c1, (void *)in0, a + 0, (void *)network_c4};
        network_f0(b, a + 0, a + 0, 0, 1);
    }
    network_STEP(1, "2/matmul#0");
    {  // 2/matmul#0: f32[1,8] a + 0 -> f32[1,3] out0
        void *const b[] = {(void *)network_c5, a + 0, out0, (void *)network_c8};
        network_f1(b, a + 0, a + 0, 0, 1);
    }
    network_STEP(2, "");
    return 0;
}

#else

static void network_f0(void *const *restrict b, char *shared, char *scratch, long chunk, long chunks) {
    (void)b; (void)shared; (void)scratch; (void)chunk; (void)chunks;
    const float *const p0 = (const float *)b[0];
    const float *const p1 = (const float *)b[1];
    const float *const p2 = (const float *)b[2];
    float *const p3 = (float *)b[3];
    for (long f0t = 0; f0t < 2; ++f0t) {
        {
            const long f0s = 4 * f0t;
            float a0_0_0 = 0.0f;
            float a0_0_1 = 0.0f;
            float a0_0_2 = 0.0f;
            float a0_0_3 = 0.0f;
            for (long r0 = 0; r0 < 6; ++r0) {
                a0_0_0 = __builtin_fmaf(p0[r0], p1[6 * f0s + r0], a0_0_0);
                a0_0_1 = __builtin_fmaf(p0[r0], p1[6 * (f0s + 1) + r0], a0_0_1);
                a0_0_2 = __builtin_fmaf(p0[r0], p1[6 * (f0s + 2) + r0], a0_0_2);
                a0_0_3 = __builtin_fmaf(p0[r0], p1[6 * (f0s + 3) + r0], a0_0_3);
            }
            const float t1 = (a0_0_0 + p2[f0s]);
            p3[f0s] = ((t1 < 0.0f) ? 0.0f : t1);
            const float t2 = (a0_0_1 + p2[(f0s + 1)]);
            p3[(f0s + 1)] = ((t2 < 0.0f) ? 0.0f : t2);
            const float t3 = (a0_0_2 + p2[(f0s + 2)]);
            p3[(f0s + 2)] = ((t3 < 0.0f) ? 0.0f : t3);
            const float t4 = (a0_0_3 + p2[(f0s + 3)]);
            p3[(f0s + 3)] = ((t4 < 0.0f) ? 0.0f : t4);
        }
    }
}
static void network_f1(void *const *restrict b, char *shared, char *scratch, long chunk, long chunks) {
    (void)b; (void)shared; (void)scratch; (void)chunk; (void)chunks;
    const float *const p0 = (const float *)b[0];
    const float *const p1 = (const float *)b[1];
    const float *const p2 = (const float *)b[2];
    float *const p3 = (float *)b[3];
    for (long f0t = 0; f0t < 1; ++f0t) {
        {
            const long f0s = 3 * f0t;
            float a0_0_0 = 0.0f;
            float a0_0_1 = 0.0f;
            float a0_0_2 = 0.0f;
            for (long r0 = 0; r0 < 8; ++r0) {
                a0_0_0 = __builtin_fmaf(p0[r0], p1[8 * f0s + r0], a0_0_0);
                a0_0_1 = __builtin_fmaf(p0[r0], p1[8 * (f0s + 1) + r0], a0_0_1);
                a0_0_2 = __builtin_fmaf(p0[r0], p1[8 * (f0s + 2) + r0], a0_0_2);
            }
            p3[f0s] = (a0_0_0 + p2[f0s]);
            p3[(f0s + 1)] = (a0_0_1 + p2[(f0s + 1)]);
            p3[(f0s + 2)] = (a0_0_2 + p2[(f0s + 2)]);
        }
    }
}
int network_run(const float *in0, float *out0, void *arena) {
    char *const a = arena;
    (void)a;
    (void)in0;
    (void)out0;
    network_STEP(0, "0/matmul#0");
    {  // 0/matmul#0: f32[1,6] in0 -> f32[1,8] a + 0
        void *const b[] = {(void *)in0, (void *)network_c2, (void *)network_c1, a + 0};
        network_f0(b, a + 0, a + 0, 0, 1);
    }
    network_STEP(1, "2/matmul#0");
    {  // 2/matmul#0: f32[1,8] a + 0 -> f32[1,3] out0
        void *const b[] = {a + 0, (void *)network_c5_v1, (void *)network_c5, out0};
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
