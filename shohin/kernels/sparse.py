"""int8 convolutions and products whose weights are stored without their zeros (``ops/sparse``).

The weights lie in the order in which ``qconv`` reads them, four channels at a time, in the smallest of three forms: a bit a weight, then
the values; where few are left, numbers of 4 bits that say how many zeros come before the next value (15: that many and no
value), then the values; or, where four channels have their zeros in common (blocks 4x1), a bit for the four. Before a pass of channels its weights are unpacked into scratch; then it is the same code as for dense
ones, so it is no faster. Constants hold no zeros. Source: Han et al. 2016 (arXiv:1510.00149), section 2, for the distances.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from shohin.compiler.kernel import Declined, Phase, Printer, Site, Verdict, register
from shohin.kernels import palette, qconv
from shohin.kernels.common import one_each
from shohin.kernels.palette import ROOM, size_of, unpacking
from shohin.kernels.qcommon import FINISH, PACKED, Layer, call, is_int8, pack_dot, tail

Array = np.ndarray[Any, Any]
DENSIFY = ("densify", "densify_tiles")
LARGEST = 32768
"""Bytes of four unpacked channels, at most."""

_SPREAD = """\
#ifndef SHOHIN_Q8_SPREAD
#define SHOHIN_Q8_SPREAD
#if defined(__GNUC__)
#define SHOHIN_Q8_LOWEST(bits) __builtin_ctz(bits)
#else
static int SHOHIN_Q8_LOWEST(uint32_t bits) {
  int i = 0;
  for (; !(bits & 1); bits >>= 1) i++;
  return i;
}
#endif
/* ``size`` weights from a bit each (32 at a time) and their values. */
static const uint8_t *shohin_q8_spread_bits(const uint8_t *from, int8_t *to, long size) {
  const uint8_t *values = from + size / 8;
  memset(to, 0, (size_t)size);
  for (; size > 0; size -= 32, from += 4, to += 32)
    for (uint32_t bits = from[0] | from[1] << 8 | from[2] << 16 | (uint32_t)from[3] << 24; bits; bits &= bits - 1)
      to[SHOHIN_Q8_LOWEST(bits)] = (int8_t)*values++;
  return values;
}

/* ``size`` weights from distances of 4 bits, and values; how many distances there are comes first. */
static const uint8_t *shohin_q8_spread_gaps(const uint8_t *from, int8_t *to, long size) {
  const long count = from[0] | from[1] << 8;
  const uint8_t *const gaps = from + 2, *values = gaps + (count + 1) / 2;
  memset(to, 0, (size_t)size);
  for (long k = 0; k < count; k++) {
    const long gap = gaps[k / 2] >> k % 2 * 4 & 15;
    to += gap;
    if (gap < 15) *to++ = (int8_t)*values++;
  }
  return values;
}

/* ``size`` weights from a bit for the same weight of four channels, and their values. */
static const uint8_t *shohin_q8_spread_fours(const uint8_t *from, int8_t *to, long size) {
  const uint8_t *values = from + size / 32;
  for (; size > 0; size -= 64, from += 2, to += 64) {
    uint32_t bits = from[0] | (uint32_t)from[1] << 8;
    for (long i = 0; i < 16; i++, bits >>= 1) {
      for (long c = 0; c < 4; c++) to[16 * c + i] = (int8_t)(values[c] & (0u - (bits & 1)));
      values += 4 * (bits & 1);
    }
  }
  return values;
}

static const uint8_t *shohin_q8_spread(int form, const uint8_t *from, int8_t *to, long size) {
  return form == 0 ? shohin_q8_spread_bits(from, to, size) : form == 1 ? shohin_q8_spread_gaps(from, to, size) : shohin_q8_spread_fours(from, to, size);
}

#endif
"""
_BEGIN = "  const uint8_t *stored = (const uint8_t *)w + 1;\n"
_NEXT = """\
    for (long four = 0; four < fours; four++) stored = shohin_q8_spread(*w, stored, v + four * size, size);
"""


def bits(four: Array) -> Array:
    """The weights of four channels as bits and values."""
    return np.concatenate([np.packbits(four != 0, bitorder="little"), four[four != 0].view(np.uint8)])


def gaps(four: Array) -> Array:
    """The same as distances and values.

    >>> gaps(np.int8([0, 7] + [0] * 16 + [5])).tolist()
    [3, 0, 241, 1, 7, 5]
    """
    zeros = np.diff(np.flatnonzero(four), prepend=-1) - 1
    ends = np.cumsum(zeros // 15 + 1)
    codes = np.full(ends[-1] if len(ends) else 0, 15, np.uint8)
    codes[ends - 1] = zeros % 15
    even = np.concatenate([codes, np.zeros(len(codes) % 2, np.uint8)])
    count = np.array([len(codes) & 255, len(codes) >> 8], np.uint8)
    return np.concatenate([count, even[::2] | even[1::2] << 4, four[four != 0].view(np.uint8)])


def shared_bits(four: Array) -> Array:
    """The same as bits that four channels share, and values, four at a time."""
    units = four.reshape(-1, 4, 16).transpose(0, 2, 1)
    kept = (units != 0).any(2)
    return np.concatenate([np.packbits(kept.reshape(-1), bitorder="little"), units[kept].reshape(-1).view(np.uint8)])


FORMS = (bits, gaps, shared_bits)


def _pass(layer: Layer) -> int:
    """Channels whose weights are unpacked at a time, or 0."""
    fitting = next((n for n in (16, 8, 4) if n // 4 * size_of(layer) <= ROOM), 0)
    return fitting or (4 if size_of(layer) <= LARGEST else 0)


def pack(site: Site, data: Mapping[str, Array]) -> tuple[Array, ...]:
    """Which form it is, then four channels after the other."""
    layer, w = qconv._layer(site), data[site.operands[1].name]
    runs = 1 if layer.patch else layer.kh
    grouped = w.reshape(layer.groups, layer.o // layer.groups, runs, -1)
    fours = np.concatenate([pack_dot(g).reshape(-1, size_of(layer)) for g in grouped])
    forms = [[np.full(1, kind, np.uint8), *map(form, fours)] for kind, form in enumerate(FORMS)]
    blob = min(map(np.concatenate, forms), key=len)
    spare = 0 if _pass(layer) == 16 else 16  # whole vectors are read from the first channel of any pass
    more = [np.concatenate([a, np.zeros(spare, a.dtype)]) for a in tail(site, data, layer.groups)]
    return np.concatenate([blob, np.zeros(4, np.uint8)]).view(np.int8), *more  # what lies behind the last value is read


def _emit(site: Site, printer: Printer, name: str) -> str:
    layer = qconv._layer(site)
    channels = _pass(layer)
    function = f"shohin_q8_sparse_{channels}"
    return call(layer, function, site, printer, name, _SPREAD + unpacking(function, channels, _BEGIN, _NEXT))


def _claims(site: Site) -> Verdict:
    fits = is_int8(site, site.operands[1].role if site.operands[1].role in DENSIFY else DENSIFY[0])
    if fits and "groups" in site.attrs and one_each(site, site.operands[0], site.results[0]):
        return Declined("one group a channel")
    return fits and (_pass(qconv._layer(site)) > 0 or Declined("four unpacked channels are larger than its scratch"))


def _workspace(site: Site) -> int:
    layer = qconv._layer(site)
    return layer.scratch + _pass(layer) // 4 * size_of(layer)


def _like(kernel: Any, op: str) -> Any:
    return register(replace(
        kernel, name=f"{op}_sparse", doc="some channels at a time unpacked from what is not 0, then runs of 16 bytes", predicate=_claims,
        phases=(Phase(emit=_emit, chunks=qconv._chunks), FINISH), workspace=_workspace, pack=pack,
        packed=("weights that are not 0, packed", *PACKED[1:]),
    ))  # fmt: skip


CONV2D, MATMUL = _like(palette.CONV2D, "qconv2d"), _like(palette.MATMUL, "qmatmul")
