"""Weight gradients of convolutions in float32: a matrix product over positions, summed in ``chunks8``.

Rows are the positions (n h w) of ``dy``; a block of 32 is summed in registers and added to its chunk's partial in
memory, [group][kh kw i][o]; the second phase adds the eight chunks and turns them into the weights' layout. Within a
block a tap reads *runs*: stretches of positions for which it lies inside the image. With few input channels all taps
of a block are first gathered into a patch [kh kw i][position], zeros outside. A zero there gives the same bits as a
skipped tap while ``dy`` is finite (the sums start from +0, so the sign of a zero is lost); other blocks go one by one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from shohin.compiler.ctext import once
from shohin.compiler.kernel import Kernel, Phase, PortSpec, Printer, Site, Verdict, register
from shohin.kernels.common import (
    BLOCK,
    CHUNKS,
    LOAD,
    PREAMBLE,
    Lanes,
    ceil_div,
    combine_chunks,
    family,
    fill,
    is_float32,
    wide_groups,
)
from shohin.kernels.tile import CALL, TILES, TileShape, tile_shape, tiles

_FEW = 8  # input channels of a group below which a tap alone makes too small a tile


@dataclass(frozen=True)
class Gradient:
    """``x`` and ``dy`` are (h, w, channels of all groups), ``i`` and ``o`` a group's channels. ``staged``: x is made in scratch
    by a window of rows that moves on with the blocks, ``dy`` by blocks."""

    n: int
    x: tuple[int, int, int]
    dy: tuple[int, int, int]
    i: int
    o: int
    groups: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    pad: tuple[int, int]
    shape: TileShape
    staged: tuple[bool, bool]

    @property
    def taps(self) -> int:
        return self.kernel[0] * self.kernel[1]

    @property
    def partial(self) -> int:
        """Floats of one group's partial."""
        return self.taps * self.i * self.shape.padded(self.o)

    @property
    def gathers(self) -> bool:
        return self.i < _FEW and self.taps > 1

    @property
    def stages(self) -> bool:
        """Whether ``dy`` is copied, padded with zeros to whole vectors."""
        return self.o % self.shape.width != 0

    def inside(self, axis: int) -> list[tuple[int, int, int]]:
        """``(first, stop, source)`` for each tap of an axis: positions at which it lies inside, and its offset."""
        rows, s = [], self.stride[axis]
        for t in range(self.kernel[axis]):
            at = t * self.dilation[axis] - self.pad[axis]
            lo = max(0, ceil_div(-at, s))
            rows.append((lo, max(lo, min(self.dy[axis], (self.x[axis] - 1 - at) // s + 1)), at))
        return rows

    def needs(self, row: int, stop: int) -> tuple[int, int]:
        """Rows of x, by whole lines, that the rows of a block of ``dy`` meet: also what ``_WINDOW`` says in C."""
        (p, q, _), h, s, pad = self.dy, self.x[0], self.stride[0], self.pad[0]
        top, bottom, span = row // q, (stop - 1) // q, (self.kernel[0] - 1) * self.dilation[0]
        lo, hi = max(top % p * s - pad, 0), min(bottom % p * s - pad + span + 1, h)
        return (top // p * h + min(lo, h)) * self.x[1], (bottom // p * h + max(hi, 0)) * self.x[1]

    @property
    def window(self) -> int:
        """Rows of x in scratch."""
        rows = self.n * self.dy[0] * self.dy[1]
        size = ceil_div(rows, CHUNKS)
        starts = {r for c in range(0, rows, size) for r in range(c, min(c + size, rows), BLOCK)}
        most = max(hi - lo for lo, hi in (self.needs(r, min(r + BLOCK, rows)) for r in starts))
        return min(self.n * self.x[0] * self.x[1], max(most, _WINDOW_BYTES // (4 * self.x[2])))

    @property
    def scratch(self) -> int:
        """Floats of what is staged."""
        return (BLOCK * self.dy[2] if self.staged[1] else 0) + (self.window * self.x[2] if self.staged[0] else 0)

    def flops(self) -> float:
        taps = [sum(stop - first for first, stop, _ in self.inside(axis)) for axis in (0, 1)]
        return 2.0 * self.n * taps[0] * taps[1] * self.i * self.o * self.groups


def gradient(site: Site) -> Gradient:
    (x, dy), w, a = [b.shape for b in site.operands], site.results[0].shape, site.attrs
    return Gradient(
        n=x[0],
        x=(x[1], x[2], x[3]),
        dy=(dy[1], dy[2], dy[3]),
        i=w[3],
        o=dy[3] // a["groups"],
        groups=a["groups"],
        kernel=(w[1], w[2]),
        stride=(a["stride"][0], a["stride"][1]),
        dilation=(a["dilation"][0], a["dilation"][1]),
        pad=(a["padding"][0][0], a["padding"][1][0]),
        shape=tile_shape(site.machine),
        staged=(site.staged(0), site.staged(1)),
    )


def load_functions(q: Gradient, site: Site, printer: Printer, name: str) -> str:
    return "".join(printer.load(n, f"{name}_load{k}") for k, n in enumerate(site.call.operands))


def given(q: Gradient, site: Site, printer: Printer, name: str, at: int) -> dict[str, str]:
    """The operands, and what makes their rows: at ``at`` in scratch lie staged rows, first ``dy``'s, then x's."""
    x, dy = (printer.pointer(b.name) for b in site.operands)
    staged = [f"(const float *)(scratch + {at + (4 * BLOCK * q.dy[2] if q.staged[1] else 0)})", f"(const float *)(scratch + {at})"]
    return {
        "const float *left": staged[0] if q.staged[0] else x,
        "const float *right": staged[1] if q.staged[1] else dy,
        **{LOAD.replace("load", f"load{k}"): f"{name}_load{k}" for k in (0, 1) if q.staged[k]},
    }


def load_rows(q: Gradient) -> str:
    """C that makes the rows of one block: ``x`` holds rows from ``base`` on, ``dyr`` is ``dy`` from ``row`` on."""
    made = "\n    load1(b, (float *)dy, row, end);\n    const float *dyr = dy;" if q.staged[1] else "\n    const float *dyr = dy + row * DC;"
    return (_WINDOW if q.staged[0] else "") + made


def sizes(q: Gradient) -> dict[str, int]:
    """Of the functions below, and of ``load_rows``."""
    return dict(
        p=q.dy[0], q=q.dy[1], dc=q.dy[2], h=q.x[0], w=q.x[1], c=q.x[2], kh=q.kernel[0], kw=q.kernel[1], sh=q.stride[0], sw=q.stride[1], pad=q.pad[0],
        span=(q.kernel[0] - 1) * q.dilation[0], window=q.window if q.staged[0] else 0, all=q.n * q.x[0] * q.x[1], rows=q.n * q.dy[0] * q.dy[1],
    )  # fmt: skip


TAPS = {"const int (*h_in)[3]": "h_in", "const int (*w_in)[3]": "w_in"}
_WINDOW_BYTES = 128 << 10
_WINDOW = """
    {
      const long top = row / $q, bottom = (end - 1) / $q;
      long lo = top % $p * $sh - $pad, hi = bottom % $p * $sh - $pad + $span + 1;
      lo = (top / $p * $h + (lo < 0 ? 0 : lo < $h ? lo : $h)) * $w;
      hi = (bottom / $p * $h + (hi < 0 ? 0 : hi < $h ? hi : $h)) * $w;
      if (hi > loaded) {
        base = lo;
        loaded = lo + $window < $all ? lo + $window : $all;
        load0(b, (float *)x, base, loaded);
      }
    }"""
RUNS = once("shohin_runs", """\
struct shohin_plane { long p, q, h, w, c, sh, sw; };  // lines and columns of dy, x, its steps
SH_APART static long shohin_runs(struct shohin_run *runs, long row, long stop, const int *h_in, const int *w_in, long base, const struct shohin_plane *s) {
  // runs of one tap in rows row..stop-1: offset in x, row in the block, length
  long count = 0, line = row / s->q, q = row % s->q, n = line / s->p, p = line % s->p, at = 0;
  while (row < stop) {
    const long left = stop - row < s->q - q ? stop - row : s->q - q, end = q + left;
    const long lo = q > w_in[0] ? q : w_in[0], hi = end < w_in[1] ? end : w_in[1];
    if (p >= h_in[0] && p < h_in[1] && lo < hi) {
      const long a = ((n * s->h + p * s->sh + h_in[2]) * s->w + lo * s->sw + w_in[2] - base) * s->c, b = at + lo - q;
      struct shohin_run *last = runs + count - 1;
      if (count && last->b + last->n == b && last->a + last->n * (s->sw * s->c) == a) last->n += hi - lo;
      else runs[count++] = (struct shohin_run){a, b, hi - lo};
    }
    at += left; row += left; q = 0;
    if (++p == s->p) { p = 0; n++; }
  }
  return count;
}
""")  # fmt: skip
PLANE = "const struct shohin_plane plane = {$p, $q, $h, $w, $c, $sh, $sw};"


def tap_table(q: Gradient, axis: int) -> str:
    """What ``inside`` says, as a constant table: ``h_in`` or ``w_in``."""
    rows = ", ".join("{" + ", ".join(map(str, t)) + "}" for t in q.inside(axis))
    return f"static const int {'hw'[axis]}_in[][3] = {{{rows}}};"


_BY_TAP = """\
    for (long kh = 0; kh < KH; kh++) for (long kw = 0; kw < KW; kw++) {
      T.count = shohin_runs(runs, row, end, h_in[kh], w_in[kw], base, &plane);
      if (!T.count) continue;
      $panels
        for (long i = 0, rows, q = (I + R - 1) / R; i < I; i += rows * T.tiles, q -= T.tiles) {
          rows = (I - i + q - 1) / q;
          T.tiles = (I - i) % q ? (I - i) % q : q;
          T.skip = rows;
          T.a = x + i;
          T.c = partial + ((kh * KW + kw) * I + i) * PO + first;
          $call
        }
      }
    }"""

_GATHERED = """\
    unsigned special = 0;
    for (long r = row; r < end; r++) for (long o = 0; o < O; o++) {
      unsigned bits;
      __builtin_memcpy(&bits, dyr + (r - row) * DC + o, 4);
      special |= (bits & 0x7f800000u) == 0x7f800000u;
    }
    if (special) {
      for (long kh = 0; kh < KH; kh++) for (long kw = 0; kw < KW; kw++) {
        const long count = shohin_runs(runs, row, end, h_in[kh], w_in[kw], base, &plane);
        for (long i = 0; i < I; i++) for (long o = 0; o < O; o++) {
          float sum = 0.0f;
          for (long j = 0; j < count; j++) for (long t = 0; t < runs[j].n; t++)
            sum = __builtin_fmaf(x[runs[j].a + i + t * $step], dyr[(runs[j].b + t) * DC + o], sum);
          partial[((kh * KW + kw) * I + i) * PO + o] += sum;
        }
      }
      continue;
    }
    for (long kh = 0; kh < KH; kh++) for (long kw = 0; kw < KW; kw++) {
      float *out = patch + (kh * KW + kw) * I * 32;
      const long count = shohin_runs(runs, row, end, h_in[kh], w_in[kw], base, &plane);
      for (long t = 0; t < I * 32; t++) out[t] = 0.0f;
      for (long j = 0; j < count; j++) for (long i = 0; i < I; i++) {
        const float *from = x + runs[j].a + i;
        float *to = out + i * 32 + runs[j].b;
        for (long t = 0; t < runs[j].n; t++) to[t] = from[t * $step];
      }
    }
    *runs = (struct shohin_run){0, 0, end - row};
    T.count = 1;
    $panels
      for (long j = 0, rows, q = (TI + R - 1) / R; j < TI; j += rows * T.tiles, q -= T.tiles) {
        rows = (TI - j + q - 1) / q;
        T.tiles = (TI - j) % q ? (TI - j) % q : q;
        T.skip = rows * 32;
        T.a = patch + j * 32;
        T.c = partial + j * PO + first;
        $call
      }
    }"""


def _accumulate(q: Gradient, site: Site, printer: Printer, name: str) -> str:
    shape = q.shape
    run = tiles(shape, [q.taps * q.i if q.gathers else q.i], shape.panels(q.o), "s" if q.gathers else "us")
    panels = fill(
        """for (long first = 0; first < O; first += P) {
        const long vectors = (O - first < P ? O - first + W - 1 : P) / W;
        T.b = $b;
        T.ldb = $ldb;""",
        b="stage + first" if q.stages else "dyr + first",
        ldb="PO" if q.stages else "DC",
    )
    stage = (
        ""
        if not q.stages
        else """
    for (long r = row; r < end; r++)
      for (long o = 0; o < PO; o++) stage[(r - row) * PO + o] = o < O ? dyr[(r - row) * DC + o] : 0.0f;"""
    )
    return (
        PREAMBLE
        + Lanes(shape.width).declare
        + run.declare
        + RUNS
        + load_functions(q, site, printer, name)
        + family(
            name,
            """\
  enum { R = $r, P = $panel, W = $width };
  const long I = $i, O = $o, PO = $po, DC = $dc, KH = $kh, KW = $kw, TI = $ti, ROWS = $rows;
  $plane
  const long group = chunk % $groups, size = (ROWS + $pieces - 1) / $pieces, from = chunk / $groups * size;
  const long to = from + size < ROWS ? from + size : ROWS;
  const float *x = left + group * I, *dy = right + group * O;
  float *partial = (float *)shared + chunk * $partial;
  struct shohin_run *runs = (struct shohin_run *)scratch;
  float *stage = (float *)(scratch + 32 * sizeof *runs), *patch = stage + $stage_size;
  struct shohin_tile T = {.runs = runs, .rs = $rs, .ks = $ks, .ldc = PO, .lines = 1};
  (void)stage; (void)patch; (void)TI; (void)I; (void)O;
  for (long j = 0; j < $partial; j++) partial[j] = 0.0f;
  long base = 0, loaded = 0;  // rows of x that are staged
  (void)loaded;
  for (long row = from; row < to; row += $block) {
    const long end = row + $block < to ? row + $block : to;$load$stage
$body
  }
""",
            sizes={
                **sizes(q),
                **dict(i=q.i, o=q.o, po=shape.padded(q.o), ti=q.taps * q.i, groups=q.groups, partial=q.partial, stage_size=_stage(q)),
                **dict(rs=BLOCK if q.gathers else 1, ks=1 if q.gathers else q.stride[1] * q.x[2], step=q.stride[1] * q.x[2]),
            },
            given={**given(q, site, printer, name, _staged_at(q)), **TAPS, TILES: "tiles"},
            tables=f"{tap_table(q, 0)}\n  {tap_table(q, 1)}\n  {run.table}",
            r=shape.rows,
            panel=shape.panel,
            width=shape.width,
            plane=PLANE,
            pieces=CHUNKS,
            block=BLOCK,
            load=load_rows(q),
            stage=stage,
            body=(_GATHERED if q.gathers else _BY_TAP).replace("$panels", panels).replace("$call", CALL),
        )
    )


def _stage(q: Gradient) -> int:
    return BLOCK * q.shape.padded(q.o) if q.stages else 0


def _staged_at(q: Gradient) -> int:
    """Bytes of scratch before the staged rows."""
    return ceil_div(32 * 24 + 4 * (_stage(q) + (BLOCK * q.taps * q.i if q.gathers else 0)), 64) * 64


def _workspace(site: Site) -> int:
    q = gradient(site)
    return _staged_at(q) + 4 * q.scratch


def _combine(site: Site, printer: Printer, name: str) -> str:
    q = gradient(site)
    return combine_chunks(name, printer.pointer(site.results[0].name), q.groups, q.taps * q.i, q.o, q.shape.width)


def _claims(site: Site) -> Verdict:
    """Any window; groups only if each has some channels to fill a vector with."""
    return is_float32(site) and wide_groups(site, *(b.shape[3] for b in site.operands))


def load_ports(when: Callable[[Site], bool] | None) -> tuple[PortSpec, ...]:
    """Both operands; of several groups each would make all rows anew."""
    return (
        PortSpec(name="load", value="x", times="once per element, and once more where windows overlap", when=when),
        PortSpec(name="load", value="dy", operand=1, times="once per element", when=when),
    )


DW: Kernel = register(
    Kernel(
        name="conv2d_dw_f32",
        op="conv2d_dw",
        doc="positions in blocks of 32, register tiles over input and output channels",
        predicate=_claims,
        ports=load_ports(lambda site: site.attrs["groups"] == 1),
        phases=(
            Phase(
                emit=lambda site, printer, name: _accumulate(gradient(site), site, printer, name),
                chunks=lambda site: CHUNKS * site.attrs["groups"],
            ),
            Phase(
                emit=_combine, chunks=lambda site: max(1, min(16, gradient(site).partial * gradient(site).groups >> 12))
            ),
        ),
        workspace=_workspace,
        shared=lambda site: CHUNKS * gradient(site).groups * gradient(site).partial * 4,
        order="chunks8",
        flops=lambda site: gradient(site).flops(),
    )
)
