"""int8 depthwise convolutions on x86: columns of up to four rows, interleaved, so that a lane of 32 bits holds one channel's taps.

A column of taps is then one ``vpdpbusd`` against the weights of that column, for as many channels as there are lanes; neighbouring
positions share columns, and sums are closed and stored from the registers. Where the channels are no whole vectors and the stride
along w is 1, a row of results is taken as one run of bytes (positions and channels alike), with the weights repeated at the period
at which channels and vectors meet. Weights lie as [block][four rows][column][vector][channel][4].
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import lcm
from typing import Any

import numpy as np

from shohin.compiler.kernel import Declined, Printer, Site, Verdict, register
from shohin.kernels import qdepthwise
from shohin.kernels.common import ceil_div, fill, one_each
from shohin.kernels.instructions.quads import Quads, order, widest
from shohin.kernels.qcommon import FINISH, Layer, call, flipped, is_int8, unsigned_tail, up
from shohin.kernels.qtile import split

Array = np.ndarray[Any, Any]
_PERIODS = 9
"""Blocks of repeated weights, at most."""


@dataclass(frozen=True)
class Shape:
    """``rows`` positions of ``bytes`` channels by a window; ``apart``: no two positions read a column in common."""

    bytes: int
    rows: int
    kernel: tuple[int, int]
    stride: int
    dilation: int
    apart: bool

    @property
    def name(self) -> str:
        kh, kw = self.kernel
        return f"shohin_q8_columns{self.bytes}x{self.rows}_{kh}x{kw}_{self.stride}_{self.dilation}{'f' if self.apart else ''}"

    @property
    def code(self) -> str:
        """C of the function: ``tap`` bytes from pixel to pixel, ``step`` from position to position, ``next`` in the result."""
        q, (kh, kw) = Quads(self.bytes), self.kernel
        lines: list[str] = []
        for first in range(0, kh, 4):
            rows = [min(first + i, kh - 1) for i in range(4)]
            uses: dict[tuple[int, int], list[tuple[int, int]]] = {}
            for r in range(self.rows):
                for b in range(kw):
                    column = b * self.dilation + (0 if self.apart else r * self.stride)
                    uses.setdefault((r if self.apart else 0, column), []).append((r, b))
            for (r, column), users in sorted(uses.items()):
                lines.append(f"SHOHIN_Q8_COLUMN{self.bytes}({', '.join(f'rows[{k}]' for k in rows)}, at + {r} * step + {column} * tap)")
                for r_, b in users:
                    where = (first // 4 * kw + b) * 4
                    lines.append(" ".join(
                        f"c{r_}_{v} = {q.dot(f'c{r_}_{v}', f'v{v}', q.load(f'w + {(where + v) * self.bytes}'))};" for v in range(4)
                    ))  # fmt: skip
                lines.append("}")
        sums = "\n  ".join(f"{q.type} c{r}_{v} = {q.load(f'bias + {v * q.lanes}')};" for r in range(self.rows) for v in range(4))
        closes = "\n    ".join(q.store(f"y + {r} * next", q.close(4, [f"c{r}_{v}" for v in range(4)], "m"), 4) for r in range(self.rows))
        spills = "\n    ".join(q.spill([f"c{r}_{v}" for v in range(4)], f"(int32_t *)out + {r} * next") for r in range(self.rows))
        return q.code + _column(q) + fill(
            """\
#ifndef $guard
#define $guard
static void $name(const struct shohin_q8_layer *l, const uint8_t *const *rows, long at, long step, long tap,
                  const int8_t *w, const int32_t *bias, const float *m, char *out, long next, long n) {
  $sums
  (void)step;
  $lines
  if (m) {
    int8_t *const y = (int8_t *)out;
    $closes
  } else {
    int32_t sums[$bytes];
    $spills
  }
}
#endif
""",
            guard=self.name.upper(), name=self.name, sums=sums, lines="\n  ".join(lines), closes=closes, spills=spills, bytes=self.bytes,
        )  # fmt: skip


def _column(q: Quads) -> str:
    """C of the macro that declares ``v0`` to ``v3``: four rows' bytes side by side, channel by channel within 128 bits."""
    mm, load = q.mm, lambda r: q.load(f"({r}) + (at_)")
    lines = [f"const {q.type} {r}_ = {load(r)};" for r in "abcd"]
    for k, (x, y) in enumerate((("a", "b"), ("c", "d"))):
        lines.append(f"const {q.type} l{k}_ = {mm}_unpacklo_epi8({x}_, {y}_), h{k}_ = {mm}_unpackhi_epi8({x}_, {y}_);")
    for v, half in ((0, "l"), (2, "h")):
        lines.append(f"const {q.type} v{v} = {mm}_unpacklo_epi16({half}0_, {half}1_), v{v + 1} = {mm}_unpackhi_epi16({half}0_, {half}1_);")
    guard = f"SHOHIN_Q8_COLUMN{q.bytes}"
    return f"#ifndef {guard}\n#define {guard}(a, b, c, d, at_) {{ " + " \\\n  ".join(lines) + "\n#endif\n"


_LAYER = """\
#ifndef $guard
#define $guard
static void $name(const struct shohin_q8_layer *l, const int8_t *x, const int8_t *w, const int32_t *bias, const float *m, void *y,
                  char *scratch, long chunk, long chunks) {
  const int8_t **rows = (const int8_t **)scratch;
  const uint8_t *const *from = (const uint8_t *const *)scratch;
  const long step = l->sw * l->c, tap = l->c;
  struct shohin_q8_rows s = {0};
  const long lo = (long)l->n * l->p * chunk / chunks, hi = (long)l->n * l->p * (chunk + 1) / chunks;
  for (long t = lo; t < hi; t++) {
    const long image = t / l->p, p = t - image * l->p;
    if (t == lo || p == 0) shohin_q8_unsigned_begin(l, &s, x + image * l->h * l->w * l->c, (int8_t *)(rows + l->kh + (l->kh & 1)));
    shohin_q8_unsigned_rows(l, &s, p, rows);
    const long each = m ? 1 : 4;
    char *const out = (char *)y + t * l->q * l->c * each;
    $body
  }
}
#endif
"""
_RUN = """\
for (long i = 0, k = 0; i < l->q * l->c; i += $bytes, k = k + 1 < $period ? k + 1 : 0)
      $function(l, from, i, step, tap, w + k * $size, bias + k * $bytes, m ? m + k * $bytes : m, out + i * each, 0, l->q * l->c - i);"""
_CHANNELS = """\
long c = 0;
    const int8_t *v = w;
    $widths"""
_WIDTH = """\
for (; $condition; c += $bytes, v += $size)
      for (long q = 0, tiles = $tiles, r; q < l->q; q += r, tiles--) {
        r = (l->q - q + tiles - 1) / tiles;
        switch (r) {
$cases
        }
      }"""


def _layer(site: Site) -> Layer:
    """As the other kernel's, with all rows in the ring."""
    layer, ((_, _), (left, right)) = qdepthwise._layer(site), site.attrs["padding"]
    need = max((layer.q - 1) * layer.sw + (layer.kw - 1) * layer.dw + 1, left + (layer.w if not (left or right) else 0), 1)
    return replace(layer, slots=(layer.kh - 1) * layer.dh + 1, width=need)


def _period(site: Site, layer: Layer) -> int:
    """Blocks after which channels and vectors meet, where a row is taken as one run; 0 where channels are taken by themselves."""
    size = widest(site.machine)
    period = lcm(layer.c, size) // size
    return period if layer.sw == 1 and layer.c % size and period <= _PERIODS and layer.q * layer.c > size // 2 else 0


def _blocks(site: Site, layer: Layer) -> list[Array]:
    """The channels of each block of weights, -1 where there is none."""
    most, c = widest(site.machine), layer.c
    if period := _period(site, layer):
        return list((np.arange(period * most) % c).reshape(period, most))
    made, at = [], 0
    for size in (64, 32, 16):
        while size <= most and at + (size if size > 16 else 1) <= c:
            lanes = np.arange(at, at + size)
            made.append(np.where(lanes < c, lanes, -1))
            at += size
    return made


def pack(site: Site, data: Mapping[str, Array]) -> tuple[Array, ...]:
    """Weights by blocks, the bias with both constant terms, multipliers if the epilogue is of the usual form."""
    layer, w = _layer(site), data[site.operands[1].name].reshape(site.operands[0].shape[3], *site.operands[1].shape[1:3])
    total, m = unsigned_tail(site, data)
    c, kh, kw = w.shape
    taps = np.zeros((c + 1, ceil_div(kh, 4), 4, kw), np.int8)  # the last stands for no channel
    taps.reshape(c + 1, -1, kw)[:c, :kh] = w
    weights, biases, multipliers = [], [], []
    for channels in _blocks(site, layer):
        lanes = channels[order(4, len(channels) // 4)]
        weights.append(taps[lanes].reshape(4, -1, *taps.shape[1:]).transpose(2, 4, 0, 1, 3).reshape(-1))
        biases.append(np.where(lanes < 0, 0, total[lanes]))
        if m is not None:
            multipliers.append(np.where(lanes < 0, 0, m[lanes]))
    more = (np.concatenate(multipliers).astype(np.float32),) if multipliers else ()
    return np.concatenate(weights), np.concatenate(biases).astype(np.int32), *more


_ROWS = 4
"""Positions of a tile: 16 sums and a column of four vectors."""


def _emit(site: Site, printer: Printer, name: str) -> str:
    layer, most = _layer(site), widest(site.machine)
    shape = lambda size, rows, apart=False: Shape(size, rows, (layer.kh, layer.kw), layer.sw, layer.dw, apart)
    period, size = _period(site, layer), ceil_div(layer.kh, 4) * layer.kw * 4
    if period:
        used = [shape(most, 1, True)]
        body = fill(_RUN, bytes=most, period=period, size=size * most, function=used[0].name)
        whole = f"{used[0].name}_{period}"
    else:
        tiles = sorted(split(layer.q, _most(site)))
        widths = [b for b in (64, 32, 16) if b <= most and any(len(k) == b for k in _blocks(site, layer))]
        used = [shape(b, r) for b in widths for r in tiles]
        case = lambda b, r: f"          case {r}: {shape(b, r).name}(l, from, q * step + c, step, tap, v, bias + c, m ? m + c : m, out + (q * l->c + c) * each, l->c, l->c - c); break;"
        texts = [
            fill(_WIDTH, condition=f"c + {b} <= l->c" if b > 16 else "c < l->c", bytes=b, size=size * b, tiles=f"(l->q + {_most(site) - 1}) / {_most(site)}",
                 cases="\n".join(case(b, r) for r in tiles))
            for b in widths
        ]  # fmt: skip
        body = fill(_CHANNELS, widths="\n    ".join(texts))
        whole = f"{shape(most, max(tiles)).name}_" + "_".join(map(str, (*tiles, *widths)))
    body = fill(_LAYER, guard=whole.upper(), name=whole, body=body)
    return call(layer, whole, site, printer, name, flipped() + "".join(s.code for s in used) + body)


def _most(site: Site) -> int:
    return _ROWS if widest(site.machine) == 64 else 2


def _workspace(site: Site) -> int:
    layer = _layer(site)
    return up(8 * up(layer.kh, 2) + (layer.slots + 1) * layer.row + 64, 16)


def _claims(site: Site) -> Verdict:
    if not widest(site.machine):
        return Declined("the target is not surely x86 with AVX2")
    return is_int8(site) and one_each(site, site.operands[0], site.results[0])


COLUMNS = register(
    replace(
        qdepthwise.DEPTHWISE,
        name="qconv2d_columns",
        doc="a lane holds one channel's taps of four rows",
        predicate=_claims,
        phases=(replace(qdepthwise.DEPTHWISE.phases[0], emit=_emit), FINISH),
        workspace=_workspace,
        pack=pack,
    )
)
