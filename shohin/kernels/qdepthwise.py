"""int8 depthwise convolutions: lanes are channels, taps in pairs.

Two products of int8 fit into int16 (2 * 128 * 127 < 2^15): MVE adds them there and widens the sum, 16 channels at a
time; AVX2 has ``vpmaddwd`` for a pair. Weights lie as [taps, an even number][channels in whole vectors of 16].
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from shohin.compiler.kernel import Kernel, Phase, PortSpec, Site, register
from shohin.kernels.qcommon import FINISH, PACKED, Layer, call, is_int8, shared, tail, up

Array = np.ndarray[Any, Any]


def _x86(positions: int, width: int) -> str:
    """C of one step of ``width`` channels by ``positions``: a pair of taps side by side is one ``vpmaddwd``."""
    v, mm, each = f"__m{16 * width}i", f"_mm{16 * width}", range(positions)
    load = f"_mm{'' if width == 16 else '256'}_loadu_si{8 * width}((const __m{8 * width}i *)({{}}))"
    wide = lambda at: f"{mm}_cvtepi8_epi16({load.format(at)})"
    whole = "si512" if width == 32 else "si256"
    sums = "\n      ".join(f"{v} a{p} = {mm}_setzero_{whole}(), b{p} = a{p};" for p in each)
    steps = "\n        ".join(
        f"x = {wide(f'e + {p} * step')}; y = {wide(f'f + {p} * step')}; "
        f"a{p} = {mm}_add_epi32(a{p}, {mm}_madd_epi16({mm}_unpacklo_epi16(x, y), k)); "
        f"b{p} = {mm}_add_epi32(b{p}, {mm}_madd_epi16({mm}_unpackhi_epi16(x, y), h));"
        for p in each
    )
    if width == 16:
        first, last = (f"_mm256_permute2x128_si256(a{{p}}, b{{p}}, {k})" for k in ("0x20", "0x31"))
    else:
        first, last = (
            f"_mm512_permutex2var_epi32(a{{p}}, _mm512_setr_epi32({', '.join(str(l * 4 + i + s) for l in lanes for s in (0, 16) for i in range(4))}), b{{p}})"
            for lanes in ((0, 1), (2, 3))
        )
    out = "\n      ".join(
        f"at = acc + {p} * SHOHIN_Q8_BLOCK + c; "
        + f"{mm}_storeu_{whole}((void *)at, {mm}_add_epi32({first.format(p=p)}, {mm}_loadu_{whole}((const void *)(bias + c)))); "
        + f"{mm}_storeu_{whole}((void *)(at + {width // 2}), {mm}_add_epi32({last.format(p=p)}, {mm}_loadu_{whole}((const void *)(bias + c + {width // 2}))));"
        for p in each
    )
    return f"""\
    for (; c + {width} <= n; c += {width}) {{
      const int8_t *v = w + c;
      int32_t *at;
      {sums}
      for (long t = 0; t < count; t += 2, v += 2 * ld) {{
        const int8_t *e = taps[t] + offset + c, *f = taps[t + 1] + offset + c;
        {v} x = {wide("v")}, y = {wide("v + ld")};
        const {v} k = {mm}_unpacklo_epi16(x, y), h = {mm}_unpackhi_epi16(x, y);
        {steps}
      }}
      {out}
    }}
"""


def _positions(positions: int, *widths: int) -> str:
    steps = "".join(_x86(positions, w) for w in widths)
    return f"""\
static void shohin_q8_taps{positions}(const int8_t *const *taps, long count, long offset, long step, const int8_t *w, long ld,
                           const int32_t *bias, int32_t *acc, long n) {{
  long c = 0;
  (void)step;
{steps}}}
"""


CODE = f"""
#ifndef SHOHIN_Q8_DEPTH
#define SHOHIN_Q8_DEPTH
#if defined(SHOHIN_Q8_VNNI)
{_positions(4, 32, 16)}{_positions(2, 32, 16)}{_positions(1, 32, 16)}#elif defined(SHOHIN_Q8_AVX2)
{_positions(3, 16)}{_positions(2, 16)}{_positions(1, 16)}#endif
""" + """\
/* Sums of n channels (whole vectors of 16) at p positions; tap t stands at taps[t] + offset, ld weights each. */
static void shohin_q8_taps(long p, const int8_t *const *taps, long count, long offset, long step, const int8_t *w, long ld,
                           const int32_t *bias, int32_t *acc, long n) {
#if defined(SHOHIN_Q8_VNNI)
  if (p == 4) shohin_q8_taps4(taps, count, offset, step, w, ld, bias, acc, n); else
#elif defined(SHOHIN_Q8_AVX2)
  if (p == 3) shohin_q8_taps3(taps, count, offset, step, w, ld, bias, acc, n); else
#endif
#if defined(SHOHIN_Q8_AVX2)
  if (p == 2) shohin_q8_taps2(taps, count, offset, step, w, ld, bias, acc, n);
  else shohin_q8_taps1(taps, count, offset, step, w, ld, bias, acc, n);
#else
  for (; p > 0; p--, offset += step, acc += SHOHIN_Q8_BLOCK)
  for (long c = 0; c < n; c += 16) {
    const int8_t *v = w + c;
#if defined(SHOHIN_Q8_MVE)
    int32x4x4_t s = vld4q_s32(bias + c);
    for (long t = 0; t < count; t += 2, v += 2 * ld) {
      const int8_t *x = taps[t] + offset + c, *y = taps[t + 1] + offset + c;
      int16x8_t z = vaddq_s16(vmullbq_int_s8(vldrbq_s8(x), vldrbq_s8(v)), vmullbq_int_s8(vldrbq_s8(y), vldrbq_s8(v + ld)));
      s.val[0] = vaddq_s32(s.val[0], vmovlbq_s16(z)); s.val[2] = vaddq_s32(s.val[2], vmovltq_s16(z));
      __asm__ volatile("" ::: "memory"); /* load again: there are eight registers */
      z = vaddq_s16(vmulltq_int_s8(vldrbq_s8(x), vldrbq_s8(v)), vmulltq_int_s8(vldrbq_s8(y), vldrbq_s8(v + ld)));
      s.val[1] = vaddq_s32(s.val[1], vmovlbq_s16(z)); s.val[3] = vaddq_s32(s.val[3], vmovltq_s16(z));
    }
    vst4q_s32(acc + c, s);
#else
    int32_t s[16];
    for (long i = 0; i < 16; i++) s[i] = bias[c + i];
    for (long t = 0; t < count; t++, v += ld) {
      const int8_t *x = taps[t] + offset + c;
      for (long i = 0; i < 16; i++) s[i] += x[i] * v[i];
    }
    for (long i = 0; i < 16; i++) acc[c + i] = s[i];
#endif
  }
#endif
}

static void shohin_q8_depthwise(const struct shohin_q8_layer *l, const int8_t *x, const int8_t *w, const int32_t *bias,
                                const float *m, void *y, char *scratch, long chunk, long chunks) {
  int32_t *acc = (int32_t *)scratch;
  const int8_t **taps = (const int8_t **)(scratch + (SHOHIN_Q8_TILE + 1) * SHOHIN_Q8_BLOCK * 4);
  const long all = l->kh * l->kw, count = all + (all & 1), ld = (l->c + 15) / 16 * 16;
  struct shohin_q8_rows s = {0};
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
    for (long q = 0, n; q < l->q; q += n) {
      n = shohin_q8_tile(l->q - q);
      for (long c = 0; c < l->c; c += SHOHIN_Q8_BLOCK) {
        const long some = l->c - c < SHOHIN_Q8_BLOCK ? l->c - c : SHOHIN_Q8_BLOCK;
        shohin_q8_taps(n, taps, count, q * l->sw * l->c + c, l->sw * l->c, w + c, ld, bias + c, acc, (some + 15) / 16 * 16);
        for (long i = 0; i < n; i++)
          shohin_q8_store(l, acc + i * SHOHIN_Q8_BLOCK, m ? m + c : m, y, (t * l->q + q + i) * l->c + c, some);
      }
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
    return taps.reshape(-1), *tail(site, data, 1)


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
        packed=PACKED,
    )
)
