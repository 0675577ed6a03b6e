"""Convolutions of any window in float32, forward and input gradient: direct, in register tiles, nothing staged.

Taps outside the image are skipped, so positions of the result are grouped by the taps that they meet (``Segment``):
in a rectangle of segments all positions meet the same taps, and a tile is a run of positions along w, h or n,
whichever is long enough. The input gradient is the same loop over ``dy`` with taps walked backwards; for stride s
its positions fall into s x s phases, each with its own taps. Order: kh, kw, i (dx: kh, kw, o), one fma a term.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

from shohin.compiler.kernel import Kernel, Phase, PortSpec, Printer, Site, Verdict, register
from shohin.kernels.common import (
    BLOCK,
    CHUNKS,
    LOAD,
    PREAMBLE,
    STATISTIC,
    ceil_div,
    even,
    family,
    fill,
    is_float32,
    shares,
    wide_groups,
)
from shohin.kernels.numbered import Entries, Numbered, entries_of
from shohin.kernels.panels import Panels
from shohin.kernels.taps import Segment, segment_table, segments
from shohin.kernels.tile import CALL, TILES, Panel, TileShape, closing, depth_shape, far, panel_table, tile_shape, tiles

_L2 = 256 << 10


@dataclass(frozen=True)
class Direct:
    """A contraction over taps. ``source`` and ``result`` are (h, w, channels of all groups), ``k`` and ``o`` the
    channels of a group that are summed and made, ``kernel`` (kh, kw), ``rows`` and ``columns`` the segments of the
    result's axes. ``transposed``: the input gradient.
    ``entries``: they are stored as numbers of entries of a codebook. ``depth``: depthwise; one group of ``o`` channels, each summed by itself (``k`` is 1). ``reach``: stride, pad and span of the
    taps along h. ``staged``: lines of the source are made in scratch; ``folded``: sums are taken of the result's rows; ``ready``: the
    weights come in panels."""

    n: int
    source: tuple[int, int, int]
    result: tuple[int, int, int]
    k: int
    o: int
    groups: int
    kernel: tuple[int, int]
    rows: tuple[Segment, ...]
    columns: tuple[Segment, ...]
    transposed: bool
    depth: bool
    shape: TileShape
    reach: tuple[int, int, int]
    staged: bool
    folded: bool
    ready: bool
    threads: int
    entries: Entries | None

    @property
    def form(self) -> Panels | Numbered:
        """How constant weights are stored."""
        return self.layout if self.entries is None else Numbered(self.layout, self.entries)

    @property
    def layout(self) -> Panels:
        """[panel][kh][kw][k][channels of the panel]."""
        taps = prod(self.kernel)
        terms, strides = ((1, taps * self.k), (taps * self.k, 0, 1)) if self.depth or not self.transposed else ((taps, self.k), (1, self.o, taps * self.o))
        return Panels(groups=self.groups, channels=self.o, terms=terms, strides=(taps * self.k * self.o, *strides), whole=self.depth)

    @property
    def panels(self) -> list[Panel]:
        return self.layout.reads(self.shape)

    @property
    def joined(self) -> bool:
        """Whether the taps of one kernel row are one run: side by side in the source (depthwise: at one distance)."""
        steps = all(s.tap_step == 1 for s in self.columns)
        return steps and (self.depth or (self.groups == 1 and all(s.tap_source == 1 for s in self.columns)))

    @property
    def units(self) -> tuple[int, int]:
        """Images that are done together, and strips of rows that an image is cut into."""
        size = 4 * prod(self.source)
        if self.folded:
            size = max(size, 4 * prod(self.result))
        strips = ceil_div(size, _L2)
        if self.n < 8 and self.threads > 1:
            strips = max(strips, min(max(1, self.result[0] // 4), ceil_div(16, self.n)))
        images = max(1, min(8, self.n // 16)) if strips == 1 else 1
        if self.staged:
            images = max(1, min(images, _L2 // size))
        while self.folded and self.n // CHUNKS % images:
            images -= 1
        if strips > 1:  # as many for all threads
            strips = ceil_div(strips, self.threads) * self.threads
        return images, min(strips, self.result[0])

    @property
    def count(self) -> int:
        """Units; a piece is some panels of one, or all units of a chunk, in order."""
        images, strips = self.units
        return ceil_div(self.n, images) * strips

    @property
    def parts(self) -> int:
        """Pieces of the panels, where there are too few units for the threads."""
        if self.folded or self.staged:
            return 1
        flops = self.flops() * (4 if self.depth else 1)  # a quarter of the rate: a load a product
        return even(min(len(self.panels), ceil_div(shares(flops, self.threads), self.count)), self.threads)

    def lines(self, h0: int, h1: int) -> tuple[int, int]:
        """Lines of the source that rows ``h0`` to ``h1`` of the result read: also what ``_LINES`` says in C."""
        stride, pad, span = self.reach
        if self.transposed:
            lo, hi = max(h0 + pad - span, 0) // stride, (h1 - 1 + pad) // stride + 1
        else:
            lo, hi = h0 * stride - pad, (h1 - 1) * stride - pad + span + 1
        lo = min(max(lo, 0), self.source[0])
        return lo, min(max(hi, lo), self.source[0])

    @property
    def stage(self) -> int:
        """Floats of the staged lines of a unit."""
        images, strips = self.units
        height = ceil_div(self.result[0], strips)
        cuts = [self.lines(h, min(h + height, self.result[0])) for h in range(0, self.result[0], height)]
        return images * max(hi - lo for lo, hi in cuts) * self.source[1] * self.source[2]

    def lengths(self) -> set[int]:
        """Every length of a run of positions that the loops below meet."""
        images, strips = self.units
        height = ceil_div(self.result[0], strips)
        found = set()
        for n in {min(images, self.n), self.n % images or images}:
            for lo in range(0, self.result[0], height):
                for s in self.rows:
                    first = max(0, ceil_div(lo - s.start, s.step))
                    h = min(s.length, max(0, ceil_div(min(lo + height, self.result[0]) - s.start, s.step))) - first
                    found |= {(n, h, t.length)[direction(n, h, t.length)] for t in self.columns if h > 0}
        return found

    def flops(self) -> float:
        taps = [sum(s.length * s.taps for s in axis) for axis in (self.rows, self.columns)]
        return 2.0 * self.n * taps[0] * taps[1] * self.k * self.o * self.groups


def direction(n: int, h: int, w: int) -> int:
    """The axis along which tiles run: w if it holds four positions, then h, then n, else the longest."""
    if w >= 4 or (w >= h and w >= n):
        return 2
    return 1 if h >= 4 or h >= n else 0


_DIRECTION = "len[2] >= 4 || (len[2] >= len[1] && len[2] >= len[0]) ? 2 : len[1] >= 4 || len[1] >= len[0] ? 1 : 0"


def describe(transposed: bool, depth: bool) -> Callable[[Site], Direct]:
    def direct(site: Site) -> Direct:
        (n, *source), w = (b.shape for b in site.operands[:2])
        (_, *result), a = site.results[0].shape, site.attrs
        groups = 1 if depth else a["groups"]

        def axis(i: int) -> tuple[Segment, ...]:
            s, d, pad = a["stride"][i], a["dilation"][i], a["padding"][i][0]
            return tuple(segments(result[i], source[i], w[i + 1], s, d, pad, transposed=transposed))

        return Direct(
            n=n,
            source=(source[0], source[1], source[2]),
            result=(result[0], result[1], result[2]),
            k=1 if depth else source[2] // groups,
            o=result[2] // groups,
            groups=groups,
            kernel=(w[1], w[2]),
            rows=axis(0),
            columns=axis(1),
            transposed=transposed,
            depth=depth,
            shape=depth_shape(site.machine, result[2]) if depth else tile_shape(site.machine, result[2] // groups),
            reach=(a["stride"][0], a["padding"][0][0], (w[1] - 1) * a["dilation"][0]),
            staged=site.staged(0),
            folded=site.folded,
            ready=len(site.operands) > 2,
            threads=site.machine.threads,
            entries=entries_of(site),
        )

    return direct


_LINES = """
    const long top_ = $lo, end_ = $hi;  // lines that are read
    const long top = top_ < 0 ? 0 : top_ < SH ? top_ : SH, end = end_ < top ? top : end_ < SH ? end_ : SH, lines = end - top;
    const long image = 0;
    for (long i = n0; i < n1; i++)
      load(b, (float *)x + (i - n0) * lines * SW * SC, (i * SH + top) * SW, (i * SH + end) * SW);"""
_STATISTIC = """
    const long upto = first_row + (((n1 - 1) * RH + h1) * RW - first_row) / $block * $block;
    if (unit == u1 - 1) statistic(b, shared, chunk, done, n1 * RH * RW);
    else statistic(b, shared, chunk, done, upto);
    done = upto;"""


def _runs_end(q: Direct) -> int:
    """Bytes of scratch before the staged lines."""
    return ceil_div(24 * q.kernel[0] * q.kernel[1], 64) * 64


def _stage_end(q: Direct) -> int:
    """Bytes of scratch before a panel that is looked up."""
    return _runs_end(q) + 64 + (ceil_div(4 * q.stage, 64) * 64 if q.staged else 0)


def contract(q: Direct, site: Site, printer: Printer, name: str) -> str:
    shape, (images, strips), form = q.shape, q.units, q.form
    stride, pad, span = q.reach
    load = "\n    const long top = 0, lines = SH, image = n0;"
    if q.staged:
        lo, hi = ("(h0 + $pad - $span) / $stride", "(h1 - 1 + $pad) / $stride + 1") if q.transposed else ("h0 * $stride - $pad", "(h1 - 1) * $stride - $pad + $span + 1")
        load = fill(_LINES, lo=lo, hi=hi)
    names = {"n": "i0", "h": "i1", "w": "i2", **({"o": "0"} if q.depth else {"g": "i3"})}
    axes = (("n", q.n), ("h", q.result[0]), ("w", q.result[1]), *((("g", q.o),) if q.depth else (("g", q.groups), ("o", q.o))))
    close = closing(site, printer, shape.width, "g" if q.depth else "o", names, axes)
    run = tiles(shape, q.lengths(), q.panels, "de" if q.depth else "e" + far(q.layout.count, q.o), close)
    return (
        PREAMBLE
        + run.declare
        + (form.function(site) if isinstance(form, Numbered) else "")
        + printer.load(site.call.operands[0], f"{name}_load")
        + printer.statistic(f"{name}_statistic")
        + family(
            name,
            """\
  const long N = $n, SH = $sh, SW = $sw, SC = $sc, RH = $rh, RW = $rw, RC = $rc, K = $k, O = $o, KW = $kw;
  enum { W = $width };
  $weights
  struct shohin_run *runs = (struct shohin_run *)scratch;
  struct shohin_tile T = {.runs = runs};
  $units
  for (long unit = u0; unit < u1; unit++) {
    const long n0 = unit / $strips * $images, n1 = n0 + $images < N ? n0 + $images : N;
    const long h0 = unit % $strips * $height, h1 = h0 + $height < RH ? h0 + $height : RH;$load
    for (long group = 0; group < $groups; group++)
    for (const struct shohin_panel *panel = $from; panel < $to; panel++) {
      const long first = panel->first, vectors = panel->vectors;
      $fetch
      T.ldb = panel->ldb;
      T.io = first;
      T.last = panel->stop - first - W;
      T.lastb = panel->lastb;
      T.i[3] = group;
      for (long u = 0; u < $hsegs; u++) {
        const struct shohin_segment *hs = hseg + u;
        const long j0 = h0 > hs->start ? (h0 - hs->start + hs->step - 1) / hs->step : 0;
        long j1 = h1 > hs->start ? (h1 - hs->start + hs->step - 1) / hs->step : 0;
        if (j1 > hs->length) j1 = hs->length;
        if (j1 <= j0) continue;
        for (long v = 0; v < $wsegs; v++) {
          const struct shohin_segment *ws = wseg + v;
          long count = 0;
          for (long i = 0; i < hs->taps; i++) for (long j = 0; j < $run_taps; j++)
            runs[count++] = (struct shohin_run){
              (i * hs->tap_source * SW + j * ws->tap_source) * SC,
              ((hs->tap + i * hs->tap_step) * KW + ws->tap + j * ws->tap_step) * K, $run_length};
          T.count = count;
          const long len[3] = {n1 - n0, j1 - j0, ws->length};
          const long xs[3] = {lines * SW * SC, hs->source_step * SW * SC, ws->source_step * SC};
          const long ys[3] = {RH * RW * RC, (long)hs->step * RW * RC, ws->step * RC};
          const long d = $direction, e = d == 0 ? 1 : 0, f = d == 2 ? 1 : 2;
          const float *xb = x + ((image * lines + hs->source + j0 * hs->source_step - top) * SW + ws->source) * SC + group * K$shift;
          float *yb = y + ((n0 * RH + hs->start + j0 * hs->step) * RW + ws->start) * RC + group * O + first;
          const long step[3] = {1, hs->step, ws->step};
          T.rs = xs[d];
          T.ks = $ks;
          T.ldc = ys[d];
          T.lines = len[f];
          T.la = xs[f];
          T.lc = ys[f];
          for (long k = 0; k < 3; k++) {
            T.step[k] = k == d ? step[k] : 0;
            T.turn[k] = k == f ? step[k] : 0;
          }
          for (long g = 0; g < len[e]; g++)
          for (long t = 0, rows, q = (len[d] + $tile_rows - 1) / $tile_rows; t < len[d]; t += rows * T.tiles, q -= T.tiles) {
            rows = (len[d] - t + q - 1) / q;
            T.tiles = (len[d] - t) % q ? (len[d] - t) % q : q;
            T.a = xb + g * xs[e] + t * xs[d];
            T.c = yb + g * ys[e] + t * ys[d];
            T.skip = rows * xs[d];
            T.at = T.c - first - y;
            T.i[0] = n0 + (e == 0 ? g : d == 0 ? t : 0);
            T.i[1] = hs->start + (j0 + (e == 1 ? g : d == 1 ? t : 0)) * hs->step;
            T.i[2] = ws->start + (d == 2 ? t : 0) * ws->step;
            $call
          }
        }
      }
    }$statistic
  }
""",
            sizes=dict(
                n=q.n, sh=q.source[0], sw=q.source[1], sc=q.source[2], rh=q.result[0], rw=q.result[1], rc=q.result[2], k=q.k, o=q.o, kw=q.kernel[1],
                hsegs=len(q.rows), wsegs=len(q.columns), panels=len(q.panels), strips=strips, images=images, height=ceil_div(q.result[0], strips),
                groups=q.groups, packed=q.layout.size, parts=q.parts, each=q.count // CHUNKS, chunk=q.n // CHUNKS, stride=stride, pad=pad, span=span,
            ),
            given={
                "const float *x": f"(const float *)(scratch + {_runs_end(q)})" if q.staged else printer.pointer(site.operands[0].name),
                "const void *right": printer.pointer(site.operands[2].name) if q.ready else "shared",
                "float *y": printer.pointer(site.results[0].name),
                "const struct shohin_segment *hseg": "hseg",
                "const struct shohin_segment *wseg": "wseg",
                "const struct shohin_panel *panels": "panels",
                TILES: "tiles",
                **({LOAD: f"{name}_load"} if q.staged else {}),
                **({STATISTIC: f"{name}_statistic"} if q.folded else {}),
            },
            tables="\n  ".join([segment_table("hseg", q.rows), segment_table("wseg", q.columns), panel_table(q.panels), run.table]),
            width=shape.width,
            weights=form.begin(q.panels, "(const uint8_t *)right", _stage_end(q)) if isinstance(form, Numbered) else "const float *const weights = right;",
            fetch=form.fetch("panel", "group") if isinstance(form, Numbered) else "T.b = weights + group * $packed + panel->base;",
            **{"from": "panels", "to": "panels + $panels"} if q.parts == 1 else {"from": "panels + $panels * part / $parts", "to": "panels + $panels * (part + 1) / $parts"},
            ks="ws->tap_source * SC" if q.depth else "1",
            shift=" + first" if q.depth else "",
            load=load,
            units="const long u0 = chunk * $each, u1 = u0 + $each, first_row = chunk * $chunk * RH * RW;\n  long done = first_row;" if q.folded else "const long part = chunk % $parts, u0 = chunk / $parts, u1 = u0 + 1;\n  (void)part;",
            statistic=fill(_STATISTIC, block=BLOCK) if q.folded else "",
            run_taps="(ws->taps > 0)" if q.joined else "ws->taps",
            run_length="ws->taps * K" if q.joined else "K",
            direction=_DIRECTION,
            tile_rows=shape.rows,
            call=CALL,
        )
    )


def _claims(site: Site) -> Verdict:
    """Any window; groups only if each has some channels to fill a vector with."""
    return is_float32(site) and wide_groups(site, site.operands[0].shape[3], site.results[0].shape[3])


def kernel(name: str, op: str, doc: str, *, transposed: bool, depth: bool, predicate: Callable[[Site], Verdict]) -> Kernel:
    """Registers a contraction over taps; two phases, weights into panels and the loops."""
    direct = describe(transposed, depth)

    def workspace(site: Site) -> int:
        q = direct(site)
        return _stage_end(q) + (q.form.scratch if isinstance(q.form, Numbered) else 0)

    return register(
        Kernel(
            name=name,
            op=op,
            doc=doc,
            predicate=predicate,
            ports=(
                PortSpec(name="epilogue", value="acc", times="once per element", in_place=True),
                PortSpec(name="load", value="x", times="once per element, and once more per strip at its edges"),
                PortSpec(name="statistic", value="y", times="once per element", when=lambda site: site.results[0].shape[0] % CHUNKS == 0),
            ),
            phases=(
                Phase(
                    emit=lambda site, printer, name: direct(site).layout.emit(site, printer, name, site.operands[1].name, "shared"),
                    chunks=lambda site: 0 if direct(site).ready else direct(site).layout.pieces,
                ),
                Phase(
                    emit=lambda site, printer, name: contract(direct(site), site, printer, name),
                    chunks=lambda site: CHUNKS if site.folded else direct(site).count * direct(site).parts,
                ),
            ),
            workspace=workspace,
            shared=lambda site: 0 if direct(site).ready else 4 * direct(site).groups * direct(site).layout.size,
            layout=lambda site: direct(site).form,
            unpacks=() if transposed else ("depalettize",),
            order="sequence",
            flops=lambda site: direct(site).flops(),
        )
    )


FORWARD = kernel(
    "conv2d_direct_f32",
    "conv2d",
    "any window, direct, in register tiles",
    transposed=False,
    depth=False,
    predicate=_claims,
)
DX = kernel(
    "conv2d_dx_direct_f32",
    "conv2d_dx",
    "its input gradient, by phases of the result",
    transposed=True,
    depth=False,
    predicate=_claims,
)
