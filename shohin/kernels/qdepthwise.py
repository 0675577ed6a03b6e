"""int8 depthwise convolutions: lanes are channels, taps in pairs.

Two products of int8 fit into int16 (2 * 128 * 127 < 2^15): MVE adds them there and widens the sum, 16 channels at a
time; AVX2 has ``vpmaddwd`` for a pair. Weights lie as [taps, an even number][channels in whole vectors of 16].
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from shohin.compiler.kernel import Kernel, Phase, PortSpec, Site, Verdict, register
from shohin.kernels.common import one_each
from shohin.kernels.instructions import InstructionSet, branches, sets
from shohin.kernels.qcommon import FINISH, PACKED, Layer, call, is_int8, shared, tail, up

Array = np.ndarray[Any, Any]


_PLAIN = """\
static void shohin_q8_taps1(const int8_t *const *taps, long count, long offset, long step, const int8_t *w, long ld,
                            const int32_t *bias, int32_t *acc, long n) {
  (void)step;
  for (long c = 0; c < n; c += 16) {
    const int8_t *v = w + c;
    int32_t s[16];
    for (long i = 0; i < 16; i++) s[i] = bias[c + i];
    for (long t = 0; t < count; t++, v += ld) {
      const int8_t *x = taps[t] + offset + c;
      for (long i = 0; i < 16; i++) s[i] += x[i] * v[i];
    }
    for (long i = 0; i < 16; i++) acc[c + i] = s[i];
  }
}
"""
_HEAD = """\
/* Sums of n channels (whole vectors of 16) at p positions; tap t stands at taps[t] + offset, ld weights each. */
static void shohin_q8_taps(long p, const int8_t *const *taps, long count, long offset, long step, const int8_t *w, long ld,
                           const int32_t *bias, int32_t *acc, long n) {
"""
_LAYER = """\
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
"""


def _taps(functions: Mapping[int, str]) -> str:
    """The functions for so many positions, and the choice between them: as many as are left."""
    cases = "".join(f"  for (; p >= {n}; p -= {n}, offset += {n} * step, acc += {n} * SHOHIN_Q8_BLOCK)\n    shohin_q8_taps{n}(taps, count, offset, step, w, ld, bias, acc, n);\n" for n in sorted(functions, reverse=True))
    return "".join(functions.values()) + _HEAD + cases + "}\n"


def code(among: tuple[InstructionSet, ...]) -> str:
    """C of ``shohin_q8_depthwise``, which all layers of a file share."""
    taps = branches(among, lambda s: _taps(s.taps) if s.taps else "", _taps({1: _PLAIN}))
    return f"#ifndef SHOHIN_Q8_DEPTH\n#define SHOHIN_Q8_DEPTH\n{taps}\n{_LAYER}#endif\n"


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
        width=(width if top or bottom else 0) if in_place else max((q - 1) * sw + (kw - 1) * dw + 1, left),
        blocks=0, patch=0, part=c, part_step=dw * c, parts=kw, zero=a["zero"],
    )  # fmt: skip


def _pack(site: Site, data: Mapping[str, Array]) -> tuple[Array, ...]:
    w = data[site.operands[1].name]
    c, kh, kw, _ = w.shape
    taps = np.zeros((up(kh * kw, 2), up(c, 16)), np.int8)
    taps[: kh * kw, :c] = w.reshape(c, -1).T
    return taps.reshape(-1), *tail(site, data, 1)


def _claims(site: Site) -> Verdict:
    return is_int8(site) and one_each(site, site.operands[0], site.results[0])


DEPTHWISE = register(
    Kernel(
        name="qconv2d_depthwise",
        op="qconv2d",
        doc="lanes are channels, taps in pairs",
        predicate=_claims,
        ports=(PortSpec(name="epilogue", value="acc", times="once per element", last="requant"),),
        phases=(
            Phase(
                emit=lambda site, printer, name: call(_layer(site), "shohin_q8_depthwise", site, printer, name, code(sets(site.machine))),
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
