"""The register tile: up to ``rows`` positions by ``vectors`` vectors of result channels, in named vector variables.

It walks *runs*: ``n`` steps from ``a`` (one scalar a row, broadcast) and ``b`` (whole vectors), one fma a term, so a result's
bits do not depend on the tile or on the vector's width. Matmul is one run, a convolution one run a tap, a weight gradient one
run a stretch of positions: all three share the tile's function, which knows no layer and is therefore compiled once a file,
however many layers there are. The epilogue is applied while the sums are in registers, by a function of one vector that is
inlined (``Close``): all values of a tile are made before the first is stored, so that what belongs to a channel alone is
computed once a tile, and what the epilogue reads may be written over.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from shohin.compiler.ctext import once
from shohin.compiler.kernel import Machine, Printer, Site
from shohin.kernels.common import Lanes, ceil_div, fill


@dataclass(frozen=True)
class Panel:
    """Channels ``first`` to ``stop``, computed in ``vectors`` from channel ``load`` on; ``base`` is its place in packed
    storage, ``ldb`` apart the terms there, ``lastb`` the place of the last vector."""

    first: int
    stop: int
    load: int
    base: int
    vectors: int
    ldb: int = 0
    lastb: int = 0


def panel_table(panels: Sequence[Panel]) -> str:
    rows = ", ".join(f"{{{p.first}, {p.stop}, {p.load}, {p.base}, {p.vectors}, {p.ldb}, {p.lastb}}}" for p in panels)
    return f"static const struct shohin_panel panels[] = {{{rows}}};"


@dataclass(frozen=True)
class TileShape:
    """``rows`` positions by ``vectors`` vectors of ``width`` channels; ``panel`` channels in all."""

    width: int
    rows: int
    vectors: int

    @property
    def panel(self) -> int:
        return self.width * self.vectors

    def whole_panels(self, channels: int) -> list[Panel]:
        """Panels of whole vectors, no wider than there are channels. Where the channels are no whole vectors the last one begins
        so that it ends with them: what it has in common with the vector before is made twice, within one panel.

        >>> [(p.first, p.stop, p.vectors) for p in TileShape(16, 14, 2).whole_panels(72)]
        [(0, 32, 2), (32, 48, 1), (48, 72, 2)]
        """
        count = ceil_div(channels, self.width)
        sizes = [min(self.vectors, count - at) for at in range(0, count, self.vectors)]
        if channels % self.width and sizes[-1] == 1 < len(sizes):
            sizes[-2:] = [sizes[-2] - 1, 2]
        made, at = [], 0
        for size in sizes:
            first = at * self.width
            made.append(Panel(first, min(first + size * self.width, channels), first, first, size))
            at += size
        return made

    def panels(self, channels: int) -> list[Panel]:
        """Whole panels, then one of as many vectors as the rest needs (read past the end: pad the operand)."""
        return [
            Panel(at, min(at + self.panel, channels), at, at, min(self.vectors, ceil_div(channels - at, self.width)))
            for at in range(0, channels, self.panel)
        ]

    def depth_panels(self, channels: int) -> list[Panel]:
        """Panels of whole vectors; a ragged rest is the last vector that fits, of which the end is kept."""
        whole = channels // self.width * self.width
        made = [
            Panel(at, min(at + self.panel, whole), at, at, (min(at + self.panel, whole) - at) // self.width)
            for at in range(0, whole, self.panel)
        ]
        return made + ([Panel(whole, channels, channels - self.width, whole, 1)] if whole < channels else [])

    def padded(self, channels: int) -> int:
        return ceil_div(channels, self.width) * self.width

    def split(self, length: int) -> list[int]:
        """Rows of each tile of a run of positions, as even as can be (26 in tiles of 14: 13 and 13)."""
        sizes, left = [], length
        for q in range(ceil_div(length, self.rows), 0, -1):
            sizes.append(ceil_div(left, q))
            left -= sizes[-1]
        return sizes


def _widest(machine: Machine) -> int:
    return max(4, min(16, machine.vector_bytes // 4))


def _fitting(width: int, channels: int) -> int:
    """The widest vector that ``channels`` fill."""
    while width > channels:
        width = width // 2 if width > 4 else 1
    return width


def tile_shape(machine: Machine, channels: int | None = None) -> TileShape:
    """32 vector registers of AVX-512 hold 14 x 2 sums, the 16 of AVX2 6 x 2 (4 x 24 spills: toolchain.md); vectors are no
    wider than ``channels``."""
    wide = _widest(machine)
    return TileShape(wide if channels is None else _fitting(wide, channels), 14 if wide == 16 else 6, 2)


def depth_shape(machine: Machine, channels: int, rows: int | None = None) -> TileShape:
    """Depthwise: up to four vectors of channels (no wider than there are channels), so that memory is walked in order;
    24 or 12 sums in all, ``rows`` at most."""
    wide = _widest(machine)
    width = _fitting(wide, channels)
    vectors = min(4, ceil_div(channels, width))
    most = (24 if wide == 16 else 12) // vectors
    return TileShape(width, min(rows or 12, most), vectors)


def side_function(shape: TileShape) -> str:
    """C of ``shohin_side<width>x<rows>``, the left side of one tile, from columns: ``dst[k * R + r] = src[k * stride + r]``
    for ``r < rows`` and ``k < count``. ``left`` rows may be read. Whole vectors are stored, so that ``dst`` is written up to
    a vector past its end."""
    lanes, name = Lanes(shape.width), f"shohin_side{shape.width}x{shape.rows}"
    return lanes.declare + once(name, fill(
        """\
SHOHIN_WIDE static void $name(const float *src, long stride, float *dst, long rows, long left, long count) {
  long k = 0;
  if (left >= $width) for (; k < count; k++) $copy
  for (; k < count; k++) for (long r = 0; r < rows; r++) dst[k * $rows + r] = src[k * stride + r];
}
""",
        name=name,
        width=shape.width,
        rows=shape.rows,
        copy=lanes.store(f"dst + k * {shape.rows}", lanes.load("src + k * stride")),
    ))  # fmt: skip


# ------------------------------------------------------------------------------------------------------ the end of a sum


@dataclass(frozen=True)
class Close:
    """What becomes of a vector of sums: the C function ``name(b, acc, at, i0, i1, i2, i3, io)`` of ``text``, or, without one,
    nothing. ``at`` is the place in the result of the row's channel 0, i0 to i3 its position."""

    name: str = ""
    text: str = ""

    def value(self, acc: str, row: int, channel: str) -> str:
        if not self.name:
            return acc
        where = ", ".join(f"i{k} + {row} * s{k}" for k in range(3))
        return f"{self.name}(b, {acc}, at + {row} * ldc, {where}, t->i[3], {channel})"


def closing(
    site: Site,
    printer: Printer,
    width: int,
    lane: str,
    names: Mapping[str, str],
    axes: tuple[tuple[str, int], ...],
    merged: Mapping[str, tuple[tuple[str, int], ...]] | None = None,
) -> Close:
    """The epilogue port as a ``Close``; ``names`` and ``merged`` say what its axes are in i0 to i3. ``axes`` are the result's:
    what lies like it is read at the result's own place, so that the text, and with it the tile, belongs to no one layer."""
    port = site.port("epilogue")
    if port is None:
        return Close()
    bound, lanes = {**names, "acc": "acc", lane: "io"}, Lanes(width)
    like = {"at": axes}
    value = printer.lanes(port, bound, lane, width, merged, like) if width > 1 else printer.scalar(port, bound, merged, like)
    name = "shohin_close_" + hashlib.sha256(f"{lanes.type} {value}".encode()).hexdigest()[:12]
    text = fill(
        """\
SHOHIN_INLINE $vector $name(void *const *b, $vector acc, long at, long i0, long i1, long i2, long i3, long io) {
  (void)b; (void)at; (void)i0; (void)i1; (void)i2; (void)i3; (void)io;
  return $value;
}
""",
        name=name,
        vector=lanes.type,
        value=value,
    )
    return Close(name, lanes.declare + once(name, text))


# ---------------------------------------------------------------------------------------------------------------- the tile

_AHEAD, _FAR = 24, 64 << 10
"""Terms that are prefetched ahead (14 cycles each), and bytes of ``b`` from which it surely comes from beyond L1."""


def far(terms: int, channels: int) -> str:
    """The letter of a tile's kind for a ``b`` of this size."""
    return "p" if 4 * terms * channels > _FAR else ""


def tile_name(width: int, rows: int, vectors: int, kind: str, close: Close) -> str:
    return f"shohin_tile{width}_{rows}x{vectors}{kind}{close.name.removeprefix('shohin_close')}"


@lru_cache(maxsize=512)
def tile_function(width: int, rows: int, vectors: int, kind: str, close: Close) -> str:
    """C of one register tile. Letters of ``kind``: ``u`` the rows of ``a`` are neighbours (stride 1); ``d`` depthwise,
    a row of ``a`` is vectors of channels, not one scalar; ``s`` the sums are added to what is in ``c`` (a block's sum
    to its chunk's) instead of stored; ``e`` the last of several vectors begins ``t->last`` channels (in ``b`` ``t->lastb``)
    behind the first; ``p`` terms of ``b`` are prefetched, for panels that come from afar."""
    lanes, name = Lanes(width), tile_name(width, rows, vectors, kind, close)
    sums = [(r, v) for r in range(rows) for v in range(vectors)]
    bases = [0] if "u" in kind else list(range(0, rows, 4))  # a pointer for four rows: x86 adds one scaled register
    row = lambda r: f"p0 + {r}" if "u" in kind else f"p{r // 4 * 4} + {['0', 'rs', 'rs2', 'rs3'][r % 4]}"
    ends = "e" in kind and vectors > 1
    channel = [f"{v * width}" for v in range(vectors)]
    inside = list(channel)
    if ends:
        channel[-1], inside[-1] = "last", "lastb"
    pointers = ", ".join(f"*p{r} = a + run->a + {r} * rs" for r in bases)
    steps = [f"const {lanes.type} b{v} = {lanes.load(f'q + {inside[v]}')};" for v in range(vectors)]
    if "p" in kind:
        steps += [f"__builtin_prefetch(q + {_AHEAD} * ldb + {at});" for at in range(0, vectors * width, 16)]
    for r in range(rows):
        if "d" in kind:
            steps += [
                f"c{r}_{v} = {lanes.fma(lanes.load(f'{row(r)} + {channel[v]}'), f'b{v}', f'c{r}_{v}')};"
                for v in range(vectors)
            ]
        else:
            steps.append(f"s = {lanes.splat(f'*({row(r)})')};")
            steps += [f"c{r}_{v} = {lanes.fma('s', f'b{v}', f'c{r}_{v}')};" for v in range(vectors)]
    steps.append(" ".join(f"p{r} += ks;" for r in bases) + " q += ldb;")
    by_vector = [(r, v) for v in range(vectors) for r in range(rows)]
    closes = [f"c{r}_{v} = {close.value(f'c{r}_{v}', r, f't->io + {channel[v]}')};" for r, v in by_vector] if close.name else []
    out = [(f"c + {r} * ldc + {channel[v]}", f"c{r}_{v}") for r, v in sums]
    start = ["at = t->at + line * t->lc", *(f"i{k} = t->i[{k}] + line * t->turn[{k}]" for k in range(3))] if close.name else []
    on = [f"at += {rows} * ldc", *(f"i{k} += {rows} * s{k}" for k in range(3))] if close.name else []
    return lanes.declare + close.text + once(name, fill(
        """\
SH_APART SHOHIN_WIDE static void $name(const struct shohin_tile *t, void *const *b) {
  const long rs = t->rs, rs2 = 2 * rs, rs3 = 3 * rs, ks = t->ks, ldb = t->ldb, ldc = t->ldc;$ends$moves
  (void)b; (void)rs; (void)rs2; (void)rs3;
  for (long line = 0; line < t->lines; line++) {
    const float *a = t->a + line * t->la;
    float *c = t->c + line * t->lc;$start
    for (long tile = t->tiles; tile > 0; tile--, a += t->skip, c += $rows * ldc$on) {
      $sums
      for (const struct shohin_run *run = t->runs, *end = run + t->count; run < end; run++) {
        const float $pointers;
        const float *q = t->b + run->b * ldb;
        for (long n = run->n; n > 0; n--) {
          $scalar
          $steps
        }
      }
      $closes
      $out
    }
  }
}
""",
        name=name,
        pointers=pointers,
        rows=rows,
        moves="\n  const long s0 = t->step[0], s1 = t->step[1], s2 = t->step[2];" if start else "",
        start=f"\n    long {', '.join(start)};" if start else "",
        on="".join(f", {o}" for o in on),
        ends="\n  const long last = t->last, lastb = t->lastb;\n  (void)last; (void)lastb;" if ends else "",
        scalar="" if "d" in kind else f"{lanes.type} s;",
        steps="\n          ".join(steps),
        sums="\n      ".join(f"{lanes.type} c{r}_{v} = {lanes.zero};" for r, v in sums),
        closes="\n      ".join(closes),
        out="\n      ".join(lanes.store(p, f"{lanes.load(p)} + {c}" if "s" in kind else c) for p, c in out),
    ))  # fmt: skip


@dataclass(frozen=True)
class Tiles:
    """The tile functions that one kernel calls: by ``rows`` and ``vectors``, C variables."""

    width: int
    sizes: tuple[int, ...]
    vectors: tuple[int, ...]
    kind: str
    close: Close = Close()

    @property
    def declare(self) -> str:
        return "".join(tile_function(self.width, r, v, self.kind, self.close) for v in self.vectors for r in self.sizes)

    @property
    def table(self) -> str:
        """C of a table ``tiles`` of them, by ``rows * 8 + vectors``; ``CALL`` calls one."""
        calls = [f"[{r * 8 + v}] = {tile_name(self.width, r, v, self.kind, self.close)}" for v in self.vectors for r in self.sizes]
        return f"static shohin_tile_call *const tiles[] = {{{', '.join(calls)}}};"


TILES = "shohin_tile_call *const *tiles"
CALL = "tiles[rows * 8 + vectors](&T, b);"


def tiles(shape: TileShape, lengths: Iterable[int], panels: Iterable[Panel], kind: str, close: Close = Close()) -> Tiles:
    """The tiles for runs of ``lengths`` positions over ``panels``."""
    sizes = {r for n in set(lengths) for r in shape.split(n)}
    return Tiles(shape.width, tuple(sorted(sizes)), tuple(sorted({p.vectors for p in panels})), kind, close)
