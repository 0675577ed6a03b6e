"""int8 depthwise convolutions: lanes are channels, taps in pairs.

Two products of int8 fit into int16 (2 * 128 * 127 < 2^15): MVE adds them there and widens the sum, 16 channels at a
time; AVX2 has ``vpmaddwd`` for a pair. Weights lie as [taps, an even number][channels in whole vectors of 16].
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from shohin.compiler.kernel import Kernel, Phase, PortSpec, Printer, Site, register
from shohin.kernels.qcommon import FINISH, Layer, call, is_int8, shared, tail, up

Array = np.ndarray[Any, Any]

CODE = """
#ifndef SHOHIN_Q8_DEPTH
#define SHOHIN_Q8_DEPTH
/* Sums of n channels (whole vectors of 16) at one position; tap t stands at taps[t] + offset, ld weights each. */
static void shohin_q8_taps(const int8_t *const *taps, long count, long offset, const int8_t *w, long ld,
                           const int32_t *bias, int32_t *acc, long n) {
  for (long c = 0; c < n; c += 16, offset += 16, w += 16, bias += 16, acc += 16) {
    const int8_t *v = w;
#if defined(SHOHIN_Q8_MVE)
    int32x4x4_t s = vld4q_s32(bias);
    for (long t = 0; t < count; t += 2, v += 2 * ld) {
      const int8_t *x = taps[t] + offset, *y = taps[t + 1] + offset;
      int16x8_t p = vaddq_s16(vmullbq_int_s8(vldrbq_s8(x), vldrbq_s8(v)), vmullbq_int_s8(vldrbq_s8(y), vldrbq_s8(v + ld)));
      s.val[0] = vaddq_s32(s.val[0], vmovlbq_s16(p)); s.val[2] = vaddq_s32(s.val[2], vmovltq_s16(p));
      __asm__ volatile("" ::: "memory"); /* load again: there are eight registers */
      p = vaddq_s16(vmulltq_int_s8(vldrbq_s8(x), vldrbq_s8(v)), vmulltq_int_s8(vldrbq_s8(y), vldrbq_s8(v + ld)));
      s.val[1] = vaddq_s32(s.val[1], vmovlbq_s16(p)); s.val[3] = vaddq_s32(s.val[3], vmovltq_s16(p));
    }
    vst4q_s32(acc, s);
#elif defined(SHOHIN_Q8_AVX2)
    __m256i low = _mm256_setzero_si256(), high = _mm256_setzero_si256();
    for (long t = 0; t < count; t += 2, v += 2 * ld) {
      const __m256i x = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(taps[t] + offset)));
      const __m256i y = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(taps[t + 1] + offset)));
      const __m256i k = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)v));
      const __m256i h = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(v + ld)));
      low = _mm256_add_epi32(low, _mm256_madd_epi16(_mm256_unpacklo_epi16(x, y), _mm256_unpacklo_epi16(k, h)));
      high = _mm256_add_epi32(high, _mm256_madd_epi16(_mm256_unpackhi_epi16(x, y), _mm256_unpackhi_epi16(k, h)));
    }
    const __m256i a = _mm256_permute2x128_si256(low, high, 0x20), b = _mm256_permute2x128_si256(low, high, 0x31);
    _mm256_storeu_si256((__m256i *)acc, _mm256_add_epi32(a, _mm256_loadu_si256((const __m256i *)bias)));
    _mm256_storeu_si256((__m256i *)(acc + 8), _mm256_add_epi32(b, _mm256_loadu_si256((const __m256i *)(bias + 8))));
#else
    for (long i = 0; i < 16; i++) acc[i] = bias[i];
    for (long t = 0; t < count; t++, v += ld) {
      const int8_t *x = taps[t] + offset;
      for (long i = 0; i < 16; i++) acc[i] += x[i] * v[i];
    }
#endif
  }
}

static void shohin_q8_depthwise(const struct shohin_q8_layer *l, const int8_t *x, const int8_t *w, const int32_t *bias,
                                const float *m, void *y, char *scratch, long chunk, long chunks) {
  int32_t *acc = (int32_t *)scratch;
  const int8_t **taps = (const int8_t **)(scratch + (SHOHIN_Q8_TILE + 1) * SHOHIN_Q8_BLOCK * 4);
  const long all = l->kh * l->kw, count = all + (all & 1), ld = (l->c + 15) / 16 * 16;
  struct shohin_q8_rows s;
  const long lo = (long)l->n * l->p * chunk / chunks, hi = (long)l->n * l->p * (chunk + 1) / chunks;
  for (long t = lo; t < hi; t++) {
    const long image = t / l->p, p = t - image * l->p;
    if (t == lo || p == 0) shohin_q8_begin(l, &s, x + image * l->h * l->w * l->c, (int8_t *)(taps + count));
    shohin_q8_rows(l, &s, p, taps);
    for (long a = l->kh - 1; a >= 0; a--) {
      const int8_t *row = taps[a];
      for (long b = l->kw - 1; b >= 0; b--) taps[a * l->kw + b] = row + b * l->part_step;
    }
    taps[count - 1] = taps[all - 1];
    for (long q = 0; q < l->q; q++)
      for (long c = 0; c < l->c; c += SHOHIN_Q8_BLOCK) {
        const long n = l->c - c < SHOHIN_Q8_BLOCK ? l->c - c : SHOHIN_Q8_BLOCK;
        shohin_q8_taps(taps, count, q * l->sw * l->c + c, w + c, ld, bias + c, acc, n);
        shohin_q8_store(l, acc, m ? m + c : m, y, (t * l->q + q) * l->c + c, n);
      }
  }
}
#endif
"""


def _layer(site: Site) -> Layer:
    a, (n, height, width, c), (_, kh, kw, _), (_, p, q, _) = (
        site.attrs,
        *(b.shape for b in (*site.operands[:2], site.results[0])),
    )
    (sh, sw), (dh, dw) = a["stride"], a["dilation"]
    (top, bottom), (left, right) = a["padding"]
    in_place = not (left or right) and c % 16 == 0
    return Layer(
        n=n, h=height, w=width, c=c, p=p, q=q, o=c, groups=c, kh=kh, kw=kw, sh=sh, sw=sw, dh=dh, dw=dw, top=top, left=left,
        slots=0 if in_place else (kh - 1) * dh + 1,
        width=(width if top or bottom else 0) if in_place else (q - 1) * sw + (kw - 1) * dw + 1,
        blocks=0, patch=0, part=c, part_step=dw * c, parts=kw, zero=a["zero"],
    )  # fmt: skip


def _pack(site: Site, data: Mapping[str, Array]) -> tuple[Array, ...]:
    w = data[site.operands[1].name]
    c, kh, kw, _ = w.shape
    taps = np.zeros((up(kh * kw, 2), up(c, 16)), np.int8)
    taps[: kh * kw, :c] = w.reshape(c, -1).T
    return taps.reshape(-1), *tail(site, data)


def _claims(site: Site) -> bool:
    groups = site.attrs["groups"]
    return is_int8(site) and groups > 1 and site.operands[0].shape[3] == site.results[0].shape[3] == groups


DEPTHWISE = register(
    Kernel(
        name="qconv2d_depthwise",
        op="qconv2d",
        doc="lanes are channels, taps in pairs",
        predicate=_claims,
        ports=(PortSpec(name="epilogue", value="acc", times="once per element", last="requant"),),
        phases=(
            Phase(
                emit=lambda site, printer, name: call(_layer(site), "shohin_q8_depthwise", site, printer, name, CODE),
                chunks=lambda site: max(1, min(4 * site.machine.threads if site.machine.threads > 1 else 1, _layer(site).n * _layer(site).p)),
            ),
            FINISH,
        ),
        workspace=lambda site: _layer(site).scratch,
        shared=shared,
        order="sequence",
        flops=lambda site: 2.0 * site.results[0].size * site.operands[1].shape[1] * site.operands[1].shape[2],
        pack=_pack,
    )
)
