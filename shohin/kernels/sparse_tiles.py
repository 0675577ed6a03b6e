"""int8 convolutions and products that skip tiles of weights which are 0: 4 channels by 16 terms of a run, what ``qdot`` takes in a step.

For each four channels the tiles that are left are listed (kernel row, place in the run), and stored one after the other. A list of
pointers to the input's 16 bytes stands for the runs of the dense kernel, so that the same products run, fewer of them. Only in C for
devices, whose instructions multiply up to four channels at a time (MVE, DSP, NEON); on computers a list for each four channels
would leave most of a vector idle, and such layers are unpacked (``sparse``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from shohin.compiler.kernel import Declined, Phase, Printer, Site, Verdict, register
from shohin.kernels import qconv
from shohin.kernels.qcommon import FINISH, PACKED, Layer, call, is_int8, pack_dot, tail, up

Array = np.ndarray[Any, Any]

_TILES = """\
#ifndef SHOHIN_Q8_TILES
#define SHOHIN_Q8_TILES
static void shohin_q8_tiles(const struct shohin_q8_layer *l, const int8_t *x, const int8_t *w, const int32_t *bias,
                            const float *m, void *y, char *scratch, long chunk, long chunks) {
  int32_t *acc = (int32_t *)scratch;
  const int8_t **rows = (const int8_t **)(scratch + (SHOHIN_Q8_TILE + 1) * SHOHIN_Q8_BLOCK * 4);
  const int8_t **units = rows + l->kh + (l->kh & 1);
  int8_t *memory = (int8_t *)(units + 4 * l->kh * l->blocks);
  struct shohin_q8_rows s = {0};
  const long lo = (long)l->n * l->p * chunk / chunks, hi = (long)l->n * l->p * (chunk + 1) / chunks, step = l->sw * l->c;
  for (long t = lo; t < hi; t++) {
    const long image = t / l->p, p = t - image * l->p;
    const uint8_t *stored = (const uint8_t *)w;
    if (t == lo || p == 0) shohin_q8_begin(l, &s, x + image * l->h * l->w * l->c, memory);
    shohin_q8_rows(l, &s, p, rows);
    for (long o = 0; o < l->o; o += 16) { /* the sums of sixteen channels are closed together */
      const long fours = l->o - o < 16 ? (l->o - o + 3) / 4 : 4;
      const int8_t *tiles[4], **at = units;
      long counts[4];
      for (long f = 0; f < fours; f++) {
        const long count = counts[f] = stored[0] | stored[1] << 8;
        stored += 2;
        for (long k = 0; k < count; k++, stored += 2) *at++ = rows[stored[0]] + 16 * stored[1];
        tiles[f] = (const int8_t *)stored;
        stored += 64 * count;
      }
      const int32_t *add = bias + o;
#if defined(SHOHIN_Q8_UNSIGNED)
      for (long f = 0; f < fours; f++)
        shohin_q8_shift(tiles[f], bias + o + 4 * f, acc + SHOHIN_Q8_TILE * SHOHIN_Q8_BLOCK + 4 * f, counts[f], 1, 1);
      add = acc + SHOHIN_Q8_TILE * SHOHIN_Q8_BLOCK;
#endif
      for (long q = 0, n; q < l->q; q += n) {
        n = shohin_q8_tile(l->q - q);
        at = units;
        for (long f = 0; f < fours; at += counts[f++])
          shohin_q8_dot(n, at, q * step, counts[f], 1, step, tiles[f], add + 4 * f, acc + 4 * f, 1);
        for (long i = 0; i < n; i++)
          shohin_q8_store(l, acc + i * SHOHIN_Q8_BLOCK, m ? m + o : m, y, (t * l->q + q + i) * l->o + o, l->o - o < 16 ? l->o - o : 16);
      }
    }
  }
}
#endif
"""


def pack(site: Site, data: Mapping[str, Array]) -> tuple[Array, ...]:
    """For each four channels how many tiles there are, where they stand, and the tiles; at least one."""
    layer, w = qconv._layer(site), data[site.operands[1].name]
    tiles = pack_dot(w.reshape(layer.o, layer.kh, -1)).reshape(-1, layer.kh * layer.blocks, 64)
    parts: list[Array] = []
    for four in tiles:
        kept = np.flatnonzero(four.any(1))
        kept = kept if len(kept) else np.zeros(1, np.int64)
        where = np.stack([kept // layer.blocks, kept % layer.blocks], 1).astype(np.uint8).reshape(-1)
        parts += [np.array([len(kept) & 255, len(kept) >> 8], np.uint8), where, four[kept].reshape(-1).view(np.uint8)]
    return np.concatenate(parts).view(np.int8), *tail(site, data, 1)


def _emit(site: Site, printer: Printer, name: str) -> str:
    return call(_layer(site), "shohin_q8_tiles", site, printer, name, _TILES)


def _layer(site: Site) -> Layer:
    return replace(qconv._layer(site), staged=0)


def _claims(site: Site) -> Verdict:
    fits = is_int8(site, "densify_tiles")
    if not fits:
        return fits
    layer = _layer(site)
    if layer.patch or layer.kh > 255 or layer.blocks > 255 or 4 * layer.kh * layer.blocks > 4096:
        return Declined("its terms are gathered, or too many for its lists")
    return site.machine.vector_bytes == 0 or Declined("a computer's instructions multiply more than four channels at a time")


def _workspace(site: Site) -> int:
    layer = _layer(site)
    return layer.scratch + 8 * up(4 * layer.kh * layer.blocks, 2)


def _like(kernel: Any, op: str) -> Any:
    return register(replace(
        kernel, name=f"{op}_tiles", doc="tiles of 4 channels by 16 terms that are not 0, listed; the others are skipped", predicate=_claims,
        phases=(Phase(emit=_emit, chunks=qconv._chunks), FINISH), workspace=_workspace, pack=pack, packed=("tiles that are not 0, packed", *PACKED[1:]),
    ))  # fmt: skip


CONV2D, MATMUL = _like(qconv.CONV2D, "qconv2d"), _like(qconv.MATMUL, "qmatmul")
