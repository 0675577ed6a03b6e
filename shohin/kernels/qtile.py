"""C of the int8 register tiles of x86: some positions by 4, 2 or 1 vectors of channels, closed and stored from the registers.

A tile walks runs of four bytes at a time, as the float tile walks terms: one broadcast a position, one load a vector of weights, one
``vpdpbusd`` for each pair. Weights lie as [panel][run][4 bytes][vector][channel][4], a panel being what one tile computes; within
it the channels stand in the order in which narrowing leaves them sorted (``quads.order``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from shohin.kernels.common import ceil_div, fill
from shohin.kernels.instructions.quads import Quads

Q = Quads(64)
ROWS = {4: 6, 2: 12, 1: 12}
"""Positions of a tile by its vectors: 24 sums, four weights and what is broadcast fill 32 registers."""

STRUCT = """\
#ifndef SHOHIN_Q8_STRIP
#define SHOHIN_Q8_STRIP
struct shohin_q8_strip { const struct shohin_q8_layer *l; const uint8_t *const *rows; long offset, step, runs; const int8_t *w; const int32_t *bias; const float *m; void *y; };
#endif
"""


@dataclass(frozen=True)
class Panel:
    """``vectors`` vectors of channels from ``first`` on, of which ``count`` are there."""

    first: int
    count: int
    vectors: int

    @property
    def width(self) -> int:
        return Q.lanes * self.vectors


def panels(channels: int) -> list[Panel]:
    """Panels of four vectors, then of what is left.

    >>> [(p.first, p.count, p.vectors) for p in panels(104)]
    [(0, 64, 4), (64, 32, 2), (96, 8, 1)]
    """
    made, at = [], 0
    while at < channels:
        left = channels - at
        vectors = 4 if left > 3 * Q.lanes else 2 if left > Q.lanes else 1
        made.append(Panel(at, min(left, Q.lanes * vectors), vectors))
        at += Q.lanes * vectors
    return made


def split(count: int, most: int) -> set[int]:
    """Sizes of tiles, as even as can be."""
    tiles = ceil_div(count, most)
    return {count // tiles, ceil_div(count, tiles)} if count else set()


def tile(rows: int, vectors: int) -> str:
    """C of ``shohin_q8_tile<rows>x<vectors>(t, n)``: ``n`` of its channels are stored."""
    bases = range(0, rows, 4)
    at = lambda r: f"p{r // 4 * 4} + {['0', 'step', '2 * step', '3 * step'][r % 4]}"
    sums = [(r, v) for r in range(rows) for v in range(vectors)]
    steps = [f"const {Q.type} w{v} = {Q.load(f'w + {64 * v}')};" for v in range(vectors)]
    for r in range(rows):
        steps.append(f"x = {Q.splat(at(r))}; " + " ".join(f"c{r}_{v} = {Q.dot(f'c{r}_{v}', 'x', f'w{v}')};" for v in range(vectors)))
    closes = [Q.store(f"y + {r} * l->o", Q.close(vectors, [f"c{r}_{v}" for v in range(vectors)], "t->m"), vectors) for r in range(rows)]
    spills = [Q.spill([f"c{r}_{v}" for v in range(vectors)], f"(int32_t *)t->y + {r} * l->o") for r in range(rows)]
    return fill(
        """\
#ifndef SHOHIN_Q8_TILE$name
#define SHOHIN_Q8_TILE$name
static void shohin_q8_tile$name(const struct shohin_q8_strip *t, long n) {
  const struct shohin_q8_layer *const l = t->l;
  const long step = t->step;
  const int8_t *w = t->w;
  $sums
  for (long r = 0; r < t->runs; r++) {
    const uint8_t $pointers;
    for (long k = l->blocks; k > 0; k--, w += $advance, $bump) {
      $type x;
      $steps
    }
  }
  if (t->m) {
    int8_t *const y = (int8_t *)t->y;
    $closes
  } else {
    int32_t sums[$size];
    $spills
  }
}
#endif
""",
        name=f"{rows}x{vectors}",
        type=Q.type,
        advance=64 * vectors,
        size=16 * vectors,
        sums="\n  ".join(f"{Q.type} c{r}_{v} = {Q.load(f't->bias + {16 * v}')};" for r, v in sums),
        pointers=", ".join(f"*p{r} = t->rows[r] + t->offset + {r} * step" for r in bases),
        bump=", ".join(f"p{r} += 4" for r in bases),
        steps="\n      ".join(steps),
        closes="\n    ".join(closes),
        spills="\n    ".join(spills),
    )


def strip(counts: Iterable[int], channels: int) -> tuple[str, str]:
    """Name and C of the function that computes ``count`` positions, one of ``counts``, by all of ``channels``: tiles within panels."""
    widths = sorted({p.vectors for p in panels(channels)}, reverse=True)
    sizes = {v: sorted({s for c in set(counts) for s in split(c, ROWS[v])}) for v in widths}
    name = "shohin_q8_strip_" + "_".join(f"{v}x" + "_".join(map(str, sizes[v])) for v in widths)
    cases = "\n".join(f"        case {r * 8 + v}: shohin_q8_tile{r}x{v}(&t, n); break;" for v in widths for r in sizes[v])
    return name, Q.code + STRUCT + "".join(tile(r, v) for v in widths for r in sizes[v]) + fill(
        """\
#ifndef $guard
#define $guard
/* $count positions from s.offset on, by so many channels: panels, and within them tiles. */
static void $name(struct shohin_q8_strip s, long count, long channels) {
  const long offset = s.offset, elements = s.m ? 1 : 4;
  for (long o = 0, vectors; o < channels; o += 16 * vectors) {
    const long left = channels - o;
    vectors = left > 48 ? 4 : left > 16 ? 2 : 1;
    const long n = left < 16 * vectors ? left : 16 * vectors, most = vectors == 4 ? $wide : $narrow;
    struct shohin_q8_strip t = s;
    t.y = (char *)s.y + o * elements;
    for (long q = 0, tiles = (count + most - 1) / most, r; q < count; q += r, tiles--) {
      r = (count - q + tiles - 1) / tiles;
      t.offset = offset + q * s.step;
      switch (r * 8 + vectors) {
$cases
      }
      t.y = (char *)t.y + r * s.l->o * elements;
    }
    s.w += s.runs * s.l->blocks * 64 * vectors;
    s.bias += 16 * vectors;
    s.m += s.m ? 16 * vectors : 0;
  }
}
#endif
""",
        guard=name.upper(),
        name=name,
        count="``count``",
        wide=ROWS[4],
        narrow=ROWS[2],
        cases=cases,
    )  # fmt: skip
