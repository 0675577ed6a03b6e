"""int8 convolutions and products: runs of 16 bytes against weights packed for them (``qdot``).

Where a kernel row is a run of its own (``kw * c`` bytes as they lie in the image) nothing is copied but padding; where
that would waste much of a run, as with one or three channels, or channels are dilated or in groups, the taps of a
position are gathered into one patch first. A product of matrices is a convolution of one tap.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from shohin.compiler.kernel import Kernel, Phase, PortSpec, Printer, Site, register
from shohin.kernels.instructions import sets
from shohin.kernels.qcommon import FINISH, PACKED, Layer, call, is_int8, pack_dot, shared, tail, up
from shohin.kernels.qdot import staged

Array = np.ndarray[Any, Any]

_ROW = 4096
"""Bytes of a matrix that is copied as one row where its rows are no whole vectors."""

CONV = """
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
"""


def _layer(site: Site) -> Layer:
    """What is gathered, what is read where it lies."""
    a, (x, w, y) = site.attrs, (site.operands[0].shape, site.operands[1].shape, site.results[0].shape)
    if len(x) == 2:  # a product: rows are positions
        rows = (1, x[0]) if x[0] * x[1] <= _ROW else (x[0], 1)
        x, w, y = (1, *rows, x[1]), (w[0], 1, 1, w[1]), (1, *rows, y[1])
        a = {"stride": (1, 1), "dilation": (1, 1), "padding": ((0, 0), (0, 0)), "groups": 1, **a}
    (n, height, width, c), (o, kh, kw, inside), (_, p, q, _) = x, w, y
    (sh, sw), (dh, dw), groups = a["stride"], a["dilation"], a["groups"]
    (top, bottom), (left, right) = a["padding"]
    padded = bool(left or right)
    if kh == kw == sh == sw == 1 and not (top or bottom or padded) and groups == 1 and c % 16 == 0 and site.machine.threads == 1:
        n, height, width, p, q = 1, 1, n * height * width, 1, n * p * q
    whole = dw == 1 and groups == 1  # a kernel row is one run of the image
    part = kw * c if whole else inside
    terms = kh * kw * inside
    gathers = not whole or (kh > 1 and kh * up(part, 16) * 4 > 5 * up(terms, 16))
    in_place = not padded and part % 16 == 0 and whole
    blocks = up(terms if gathers else part, 16) // 16
    need = max((q - 1) * sw + (kw - 1) * dw + 1, left + (width if not padded else 0), 1)
    return Layer(
        n=n, h=height, w=width, c=c, p=p, q=q, o=o, groups=groups, kh=kh, kw=kw, sh=sh, sw=sw, dh=dh, dw=dw, top=top, left=left,
        slots=0 if in_place else (kh - 1) * dh + 1,
        width=(width if top or bottom else 0) if in_place else need,
        blocks=blocks, staged=staged(sets(site.machine)) * (1 if gathers else kh) * blocks,
        patch=up(terms, 16) if gathers else 0,
        part=part, part_step=dw * c, parts=1 if whole else kw, zero=a["zero"],
    )  # fmt: skip


def pack(site: Site, data: Mapping[str, Array]) -> tuple[Array, ...]:
    """Weights in the order in which runs are read, a bias that holds the zero point's term, multipliers."""
    layer, w = _layer(site), data[site.operands[1].name]
    runs = 1 if layer.patch else layer.kh
    grouped = w.reshape(layer.groups, layer.o // layer.groups, runs, -1)
    return np.concatenate([pack_dot(g) for g in grouped]), *tail(site, data, layer.groups)


def _emit(site: Site, printer: Printer, name: str) -> str:
    return call(_layer(site), "shohin_q8_conv", site, printer, name, CONV)


def _chunks(site: Site) -> int:
    layer = _layer(site)
    return max(1, min(4 * site.machine.threads if site.machine.threads > 1 else 1, layer.n * layer.p))


def _kernel(op: str, doc: str) -> Kernel:
    return register(
        Kernel(
            name=f"{op}_dot",
            op=op,
            doc=doc,
            predicate=is_int8,
            ports=(PortSpec(name="epilogue", value="acc", times="once per element", last="requant"),),
            phases=(Phase(emit=_emit, chunks=_chunks), FINISH),
            workspace=lambda site: _layer(site).scratch,
            shared=shared,
            order="sequence",
            flops=lambda site: 2.0 * site.results[0].size * (site.operands[1].size // site.operands[1].shape[0]),
            pack=pack,
            packed=PACKED,
        )
    )


CONV2D = _kernel("qconv2d", "runs of 16 bytes against packed weights; patches are gathered where runs would be short")
MATMUL = _kernel("qmatmul", "rows as runs of 16 bytes against packed weights")
