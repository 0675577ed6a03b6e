"""C of the int8 register tiles of x86: some positions by 4, 2 or 1 vectors of channels, closed and stored from the registers.

A tile walks runs of four bytes at a time (four terms, or two of int16), as the float tile walks terms: one broadcast a position, one load a vector of weights, one
``vpdpbusd`` (or ``vpmaddwd``) for each pair. Weights lie as [panel][run][terms / 4][vector][channel][4] (2, with two terms), a panel being what one tile computes; within
it the channels stand in the order in which narrowing leaves them sorted (``quads.order``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from shohin.kernels.common import ceil_div, fill
from shohin.kernels.instructions.quads import Quads

FORMS = (Quads(64), Quads(32, 2))
ROWS = {64: {4: 6, 2: 12, 1: 12}, 32: {2: 6, 1: 6}}
"""Positions of a tile by its vectors' bytes and their number: of 32 registers 24 hold sums, four weights, one what is broadcast; of 16
12, two and one."""

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



def panels(q: Quads, channels: int) -> list[Panel]:
    """Panels of four vectors, then of what is left.

    >>> [(p.first, p.count, p.vectors) for p in panels(Quads(64), 104)]
    [(0, 64, 4), (64, 32, 2), (96, 8, 1)]
    """
    made, at = [], 0
    while at < channels:
        left = channels - at
        vectors = 4 if 4 in ROWS[q.bytes] and left > 3 * q.lanes else 2 if left > q.lanes else 1
        made.append(Panel(at, min(left, q.lanes * vectors), vectors))
        at += q.lanes * vectors
    return made


def split(count: int, most: int) -> set[int]:
    """Sizes of tiles, as even as can be."""
    tiles = ceil_div(count, most)
    return {count // tiles, ceil_div(count, tiles)} if count else set()


def tile(q: Quads, rows: int, vectors: int) -> str:
    """C of ``shohin_q8_tile<bytes>_<rows>x<vectors>(t, n)``: ``n`` of its channels are stored."""
    bases = range(0, rows, 4)
    at = lambda r: f"p{r // 4 * 4} + {['0', 'step', '2 * step', '3 * step'][r % 4]}"
    sums = [(r, v) for r in range(rows) for v in range(vectors)]
    steps = [f"const {q.type} w{v} = {q.weights(f'w + {q.packed * v}')};" for v in range(vectors)]
    for r in range(rows):
        steps.append(f"x = {q.splat(at(r))}; " + " ".join(f"c{r}_{v} = {q.dot(f'c{r}_{v}', 'x', f'w{v}')};" for v in range(vectors)))
    closes = [q.store(f"y + {r} * l->o", q.close(vectors, [f"c{r}_{v}" for v in range(vectors)], "t->m"), vectors) for r in range(rows)]
    spills = [q.spill([f"c{r}_{v}" for v in range(vectors)], f"(int32_t *)t->y + {r} * l->o") for r in range(rows)]
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
        name=f"{q.bytes}_{rows}x{vectors}",
        type=q.type,
        advance=q.packed * vectors,
        size=q.lanes * vectors,
        sums="\n  ".join(f"{q.type} c{r}_{v} = {q.load(f't->bias + {q.lanes * v}')};" for r, v in sums),
        pointers=", ".join(f"*p{r} = t->rows[r] + t->offset + {r} * step" for r in bases),
        bump=", ".join(f"p{r} += 4" for r in bases),
        steps="\n      ".join(steps),
        closes="\n    ".join(closes),
        spills="\n    ".join(spills),
    )


def strip(q: Quads, counts: Iterable[int], channels: int) -> tuple[str, str]:
    """Name and C of the function that computes ``count`` positions, one of ``counts``, by all of ``channels``: tiles within panels."""
    widths = sorted({p.vectors for p in panels(q, channels)}, reverse=True)
    sizes = {v: sorted({s for c in set(counts) for s in split(c, ROWS[q.bytes][v])}) for v in widths}
    name = f"shohin_q8_strip{q.bytes}_" + "_".join(f"{v}x" + "_".join(map(str, sizes[v])) for v in widths)
    cases = "\n".join(f"        case {r * 8 + v}: shohin_q8_tile{q.bytes}_{r}x{v}(&t, n); break;" for v in widths for r in sizes[v])
    return name, q.code + STRUCT + "".join(tile(q, r, v) for v in widths for r in sizes[v]) + fill(
        """\
#ifndef $guard
#define $guard
/* $count positions from s.offset on, by so many channels: panels, and within them tiles. */
static void $name(struct shohin_q8_strip s, long count, long channels) {
  const long offset = s.offset, elements = s.m ? 1 : 4;
  for (long o = 0, vectors; o < channels; o += $lanes * vectors) {
    const long left = channels - o;
    vectors = $choice;
    const long n = left < $lanes * vectors ? left : $lanes * vectors, most = $most;
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
    s.w += s.runs * s.l->blocks * $packed * vectors;
    s.bias += $lanes * vectors;
    s.m += s.m ? $lanes * vectors : 0;
  }
}
#endif
""",
        guard=name.upper(),
        name=name,
        count="``count``",
        lanes=q.lanes,
        packed=q.packed,
        choice=(f"left > {3 * q.lanes} ? 4 : " if 4 in ROWS[q.bytes] else "") + f"left > {q.lanes} ? 2 : 1",
        most=f"vectors == 4 ? {ROWS[q.bytes].get(4)} : {ROWS[q.bytes][2]}" if 4 in ROWS[q.bytes] else ROWS[q.bytes][2],
        cases=cases,
    )  # fmt: skip
