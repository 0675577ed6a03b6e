"""int8 convolutions and products on x86: rows against panels of weights (``qtile``).

Rows come once into a ring, with their padding, as q + 128 in bytes, or (with vectors of 256 bits) as int16; kernel rows are read from it where they lie (with dilation or groups,
each tap is a run of its own). Where a position is a run of bytes that lie side by side (1x1, products), positions are taken in
blocks, across rows and images. The zero point's term and that of the 128 are in the bias: ``bias - (zero + 128) sum(w)``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from shohin.compiler.kernel import Declined, Kernel, Phase, Printer, Site, Verdict, register
from shohin.kernels import qconv
from shohin.kernels.common import ceil_div, fill, one_each
from shohin.kernels.instructions.quads import Quads, order, widest
from shohin.kernels.qcommon import FINISH, Layer, call, flipped, is_int8, unsigned_tail, up, widened
from shohin.kernels.qtile import FORMS, panels, strip

Array = np.ndarray[Any, Any]
_BLOCK = 32768
"""Bytes of positions that are taken together."""
_SLACK = 64
"""Bytes behind rows that may be read."""

_FLAT = """\
#ifndef $guard
#define $guard
static void $name(const struct shohin_q8_layer *l, const int8_t *x, const int8_t *w, const int32_t *bias, const float *m, void *y,
                  char *scratch, long chunk, long chunks) {
  const long all = (long)l->n * l->p * l->q, blocks = (all + $block - 1) / $block;
  const uint8_t *const row = (const uint8_t *)scratch;
  for (long k = blocks * chunk / chunks; k < blocks * (chunk + 1) / chunks; k++) {
    const long at = k * $block, count = all - at < $block ? all - at : $block;
    $copy(($type *)scratch, x + at * l->c, (size_t)(count * l->c));
    $strip((struct shohin_q8_strip){l, &row, 0, $element * l->c, 1, w, bias, m, (char *)y + at * l->o * (m ? 1 : 4)}, count, l->o);
  }
}
#endif
"""
_ROWS = """\
#ifndef $guard
#define $guard
static void $name(const struct shohin_q8_layer *l, const int8_t *x, const int8_t *w, const int32_t *bias, const float *m, void *y,
                  char *scratch, long chunk, long chunks) {
  const $type **rows = (const $type **)scratch;
  const long runs = l->kh * l->parts, each = l->o / l->groups, inside = l->c / l->groups;
  const long size = $padded * runs * l->blocks * $terms, elements = m ? 1 : 4;
  $rows s = {0};
  const long lo = (long)l->n * l->p * chunk / chunks, hi = (long)l->n * l->p * (chunk + 1) / chunks;
  for (long t = lo; t < hi; t++) {
    const long image = t / l->p, p = t - image * l->p;
    if (t == lo || p == 0) $begin(l, &s, x + image * l->h * l->w * l->c, ($type *)(rows + runs));
    $next(l, &s, p, rows);
    for (long a = l->kh - 1; a >= 0 && l->parts > 1; a--) {
      const $type *const row = rows[a];
      for (long b = l->parts - 1; b >= 0; b--) rows[a * l->parts + b] = row + b * l->part_step;
    }
    for (long g = 0; g < l->groups; g++)
      $strip((struct shohin_q8_strip){l, (const uint8_t *const *)rows, $element * g * inside, $element * l->sw * l->c, runs, w + g * size, bias + g * $padded, m ? m + g * $padded : m,
             (char *)y + (t * l->q * l->o + g * each) * elements}, l->q, each);
  }
}
#endif
"""


_UNSIGNED = {"copy": "shohin_q8_flip", "type": "int8_t", "rows": "struct shohin_q8_rows", "begin": "shohin_q8_unsigned_begin", "next": "shohin_q8_unsigned_rows"}
_WIDE = {"copy": "shohin_q8_widen", "type": "int16_t", "rows": "struct shohin_q8_wide_rows", "begin": "shohin_q8_wide_begin", "next": "shohin_q8_wide_rows"}


def _form(site: Site) -> Quads:
    """Four terms a lane where vectors have 512 bits, else two."""
    return FORMS[widest(site.machine) < 64]


def _layer(site: Site) -> Layer:
    a, (x, w, y) = site.attrs, (site.operands[0].shape, site.operands[1].shape, site.results[0].shape)
    if len(x) == 2:  # a product: rows are positions
        x, w, y = (x[0], 1, 1, x[1]), (w[0], 1, 1, w[1]), (y[0], 1, 1, y[1])
        a = {"stride": (1, 1), "dilation": (1, 1), "padding": ((0, 0), (0, 0)), "groups": 1, **a}
    (n, height, width, c), (o, kh, kw, inside), (_, p, q, _) = x, w, y
    (sh, sw), (dh, dw), groups = a["stride"], a["dilation"], a["groups"]
    (top, _), (left, right) = a["padding"]
    whole = dw == 1 and groups == 1  # a kernel row is one run of the image
    part = kw * c if whole else inside
    need = max((q - 1) * sw + (kw - 1) * dw + 1, left + (width if not (left or right) else 0), 1)
    return Layer(
        n=n, h=height, w=width, c=c, p=p, q=q, o=o, groups=groups, kh=kh, kw=kw, sh=sh, sw=sw, dh=dh, dw=dw, top=top, left=left,
        slots=(kh - 1) * dh + 1, width=need, blocks=ceil_div(part, _form(site).terms), patch=0, part=part, part_step=dw * c,
        parts=1 if whole else kw, zero=a["zero"],
    )  # fmt: skip


def _flat(site: Site, layer: Layer) -> bool:
    """Do a position's terms lie side by side, and positions one after another?"""
    return layer.kh == layer.kw == layer.sh == layer.sw == layer.groups == 1 and (layer.h, layer.w) == (layer.p, layer.q)


def _room(site: Site, layer: Layer) -> int:
    return _BLOCK // (layer.c * _form(site).element)


def _block(site: Site, layer: Layer) -> int:
    """Positions of a block: whole tiles, a share of what each thread does."""
    most = min(layer.n * layer.p * layer.q, max(12, _room(site, layer)))
    if site.machine.threads > 1:
        most = min(most, max(12, ceil_div(layer.n * layer.p * layer.q, 4 * site.machine.threads)))
    return most if most < 12 else most // 12 * 12 if most == _room(site, layer) else up(most, 12)


def _blocks(site: Site, layer: Layer) -> list[int]:
    """How many positions there are in blocks, each size once."""
    all_, block = layer.n * layer.p * layer.q, _block(site, layer)
    return [n for n in (min(all_, block), all_ % block) if n]


def _runs(layer: Layer) -> int:
    return layer.kh * layer.parts


def pack(site: Site, data: Mapping[str, Array]) -> tuple[Array, ...]:
    """Panels, bias with both constant terms, and multipliers if the epilogue is of the usual form."""
    layer, w, q = _layer(site), data[site.operands[1].name], _form(site)
    each, runs = layer.o // layer.groups, _runs(layer)
    bias, m = unsigned_tail(site, data, 128 if q.terms == 4 else 0)
    terms = np.zeros((layer.o, runs, q.terms * layer.blocks), np.int8)
    terms[:, :, : layer.part] = w.reshape(layer.o, runs, layer.part)
    parts: list[Array] = []
    for g in np.split(terms.reshape(layer.o, runs * layer.blocks, q.terms), layer.groups):
        for p in panels(q, each):
            lanes = np.array(order(p.vectors, q.lanes)) + p.first
            block = np.zeros((p.vectors * q.lanes, *g.shape[1:]), np.int8)
            there = lanes < each
            block[there] = g[lanes[there]]
            parts.append(block.reshape(p.vectors, q.lanes, -1, q.terms).transpose(2, 0, 1, 3).reshape(-1))
    more = () if m is None else (_spread(q, m.astype(np.float32), layer.groups),)
    return np.concatenate(parts), _spread(q, bias, layer.groups), *more


def _spread(q: Quads, values: Array, groups: int) -> Array:
    """Values of the channels in the order of their panels' lanes, zeros where there is none."""
    each, parts = len(values) // groups, []
    for g in np.split(values, groups):
        for p in panels(q, each):
            lanes = np.array(order(p.vectors, q.lanes)) + p.first
            parts.append(np.where(lanes < each, g[np.minimum(lanes, each - 1)], g.dtype.type(0)))
    return np.concatenate(parts)


def _emit(site: Site, printer: Printer, name: str) -> str:
    layer, q = _layer(site), _form(site)
    each, flat = layer.o // layer.groups, _flat(site, layer)
    function, text = strip(q, _blocks(site, layer) if flat else [layer.q], each)
    padded = sum(p.vectors * q.lanes for p in panels(q, each))
    whole = function.replace("strip", f"flat{_block(site, layer)}_" if flat else f"rows{padded}_")
    rows, copied = (_UNSIGNED, flipped()) if q.terms == 4 else (_WIDE, widened())
    body = fill(
        _FLAT if flat else _ROWS, guard=whole.upper(), name=whole, strip=function, block=_block(site, layer) if flat else 0, padded=padded,
        element=q.element, terms=q.terms, **rows,
    )  # fmt: skip
    return call(layer, whole, site, printer, name, copied + text + body)


def _chunks(site: Site) -> int:
    layer, most = _layer(site), 4 * site.machine.threads if site.machine.threads > 1 else 1
    pieces = ceil_div(layer.n * layer.p * layer.q, _block(site, layer)) if _flat(site, layer) else layer.n * layer.p
    return max(1, min(most, pieces))


def _workspace(site: Site) -> int:
    layer, element = _layer(site), _form(site).element
    if _flat(site, layer):
        return up(_block(site, layer) * layer.c * element + _SLACK, 16)
    return up(8 * _runs(layer) + (layer.slots + 1) * layer.row * element + _SLACK, 16)


def _claims(site: Site) -> Verdict:
    if not widest(site.machine):
        return Declined("the target is not surely x86 with AVX2")
    fits = is_int8(site)
    if fits and "groups" in site.attrs and one_each(site, site.operands[0], site.results[0]):
        return Declined("one group a channel")
    return fits


def _like(kernel: Kernel, op: str) -> Kernel:
    return register(replace(
        kernel, name=f"{op}_panels", doc="rows against panels of weights", predicate=_claims,
        phases=(Phase(emit=_emit, chunks=_chunks), FINISH), workspace=_workspace, pack=pack,
    ))  # fmt: skip


CONV2D, MATMUL = _like(qconv.CONV2D, "qconv2d"), _like(qconv.MATMUL, "qmatmul")
