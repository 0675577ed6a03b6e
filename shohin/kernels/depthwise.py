"""Depthwise convolutions in float32 (one filter a channel): forward, input gradient, weight gradient.

Forward and input gradient are the loops of ``conv`` with vectors of channels in the place of a broadcast scalar. The
weight gradient goes through blocks of 32 positions (``chunks8``); a tile holds the taps of up to three kernel rows
that lie inside the image for the whole block, or of one, so that a tap outside is skipped. Where the channels are no
whole vectors the last vector overlaps the one before and only its end is kept: nothing is read past a row.
"""

from __future__ import annotations

from dataclasses import replace

from shohin.compiler.kernel import Kernel, Phase, Printer, Site, Verdict, register
from shohin.kernels.common import BLOCK, CHUNKS, PREAMBLE, Lanes, combine_chunks, family, is_float32, one_each
from shohin.kernels.conv import kernel
from shohin.kernels.conv_dw import (
    PLANE,
    RUNS,
    TAPS,
    Gradient,
    given,
    gradient,
    load_functions,
    load_ports,
    load_rows,
    sizes,
    tap_table,
)
from shohin.kernels.tile import CALL, TILES, TileShape, depth_shape, panel_table, tiles

_ROWS = 3


def _claims(site: Site) -> Verdict:
    return is_float32(site) and one_each(site, site.operands[0], site.results[0])


def _claims_dw(site: Site) -> Verdict:
    return is_float32(site) and one_each(site, *site.operands)


def _shape(q: Gradient, site: Site) -> TileShape:
    return depth_shape(site.machine, q.dy[2], _ROWS)


def _accumulate(site: Site, printer: Printer, name: str) -> str:
    q = gradient(site)
    shape, channels = _shape(q, site), q.dy[2]
    panels = shape.depth_panels(channels)
    run = replace(tiles(shape, (), panels, "ds"), sizes=tuple(range(1, min(shape.rows, q.kernel[0]) + 1)))
    return (
        PREAMBLE
        + Lanes(shape.width).declare
        + run.declare
        + RUNS
        + load_functions(q, site, printer, name)
        + family(
            name,
            """\
  const long P = $p, Q = $q, C = $c, DC = $dc, PC = $pc, KH = $kh, KW = $kw, ROWS = $rows;
  $plane
  const long size = (ROWS + $pieces - 1) / $pieces, from = chunk * size, to = from + size < ROWS ? from + size : ROWS;
  const float *x = left, *dy = right;
  float *partial = (float *)shared + chunk * (KH * KW * PC);
  struct shohin_run *runs = (struct shohin_run *)scratch;
  struct shohin_tile T = {.runs = runs, .rs = $rs, .ks = $ks, .ldb = C, .ldc = KW * PC, .tiles = 1, .lines = 1};
  for (long j = 0; j < KH * KW * PC; j++) partial[j] = 0.0f;
  long base = 0, loaded = 0;  // rows of x that are staged
  (void)loaded;
  for (long row = from; row < to; row += $block) {
    const long end = row + $block < to ? row + $block : to, top = row / Q, bottom = (end - 1) / Q;$load
    const int one = top / P == bottom / P;  // the block's lines are p0..p1 of one image, or touch two
    const long p0 = one ? top % P : 0, p1 = one ? bottom % P : P - 1;
    for (long kh = 0, rows; kh < KH; kh += rows) {
      for (rows = 0; rows < $most && kh + rows < KH && h_in[kh + rows][0] <= p0 && p1 < h_in[kh + rows][1];) rows++;
      if (!rows) rows = 1;
      for (long kw = 0; kw < KW; kw++) {
        T.count = shohin_runs(runs, row, end, h_in[kh], w_in[kw], base, &plane);
        if (!T.count) continue;
        for (const struct shohin_panel *p = panels; p < panels + $panels; p++) {
          const long vectors = p->vectors;
          T.a = x + p->load;
          T.b = dyr + p->load;
          T.c = partial + (kh * KW + kw) * PC + p->base;
          $call
        }
      }
    }
  }
""",
            sizes={**sizes(q), **dict(pc=shape.padded(channels), panels=len(panels), rs=q.dilation[0] * q.x[1] * q.x[2], ks=q.stride[1] * q.x[2])},
            given={**given(q, site, printer, name, 24 * BLOCK), **TAPS, "const struct shohin_panel *panels": "panels", TILES: "tiles"},
            tables=f"{tap_table(q, 0)}\n  {tap_table(q, 1)}\n  {panel_table(panels)}\n  {run.table}",
            plane=PLANE,
            pieces=CHUNKS,
            block=BLOCK,
            load=load_rows(q),
            most=shape.rows,
            call=CALL,
        )
    )


def _combine(site: Site, printer: Printer, name: str) -> str:
    q = gradient(site)
    shape = _shape(q, site)
    last = shape.depth_panels(q.dy[2])[-1]
    return combine_chunks(
        name, printer.pointer(site.results[0].name), 1, q.taps, q.dy[2], shape.width, last.first - last.load
    )


def _shared(site: Site) -> int:
    """Partials, and a vector past them that the combination of a ragged last panel may read."""
    q = gradient(site)
    shape = _shape(q, site)
    return 4 * (CHUNKS * q.taps * shape.padded(q.dy[2]) + shape.width)


FORWARD = kernel(
    "conv2d_depthwise_f32",
    "conv2d",
    "vectors of channels, tiles of positions",
    transposed=False,
    depth=True,
    predicate=_claims,
)
DX = kernel(
    "conv2d_dx_depthwise_f32",
    "conv2d_dx",
    "its input gradient, by phases",
    transposed=True,
    depth=True,
    predicate=_claims,
)
DW: Kernel = register(
    Kernel(
        name="conv2d_dw_depthwise_f32",
        op="conv2d_dw",
        doc="blocks of 32 positions, up to three kernel rows in a tile",
        predicate=_claims_dw,
        ports=load_ports(None),
        phases=(Phase(emit=_accumulate, chunks=lambda site: CHUNKS), Phase(emit=_combine, chunks=lambda site: 1)),
        workspace=lambda site: 24 * BLOCK + 4 * gradient(site).scratch,
        shared=_shared,
        order="chunks8",
        flops=lambda site: gradient(site).flops(),
    )
)
