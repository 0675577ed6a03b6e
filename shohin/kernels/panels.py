"""Weights as the tiles read them: panels of neighbouring channels, term by term, the same for every instruction set.

A panel is [term][channel] of two vectors of the widest kind (16 lanes, fewer where there are fewer channels), so that a tile of
any width finds its vectors in it. Where the channels are no whole vectors, the last vector of the last panel ends with the last
channel (``TileShape.whole_panels``). Constants are brought into this form when a network is compiled or exported; cells that a
program does not write, once (kernel ``panels_f32``); anything else by the kernels, before they multiply.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from shohin.compiler.kernel import Declined, Kernel, Phase, Printer, Site, register
from shohin.kernels.common import HEAD, PREAMBLE, ceil_div, fill, transpose_function
from shohin.kernels.tile import Panel, TileShape, panel_table, tile_shape

Array = np.ndarray[Any, Any]
WIDEST = 16
"""Lanes of the widest vectors."""


@dataclass(frozen=True, kw_only=True)
class Panels:
    """``groups`` matrices of ``channels`` by ``terms``, the terms in two loops; strides in elements of the source, by group,
    channel, outer and inner term. ``whole``: all channels are one panel (depthwise)."""

    groups: int
    channels: int
    terms: tuple[int, int]
    strides: tuple[int, int, int, int]
    whole: bool = False
    kernel: str = "panels_f32"

    @property
    def count(self) -> int:
        return prod(self.terms)

    def storage(self, width: int = WIDEST) -> list[Panel]:
        """The panels as they are stored."""
        while width > self.channels:
            width = width // 2 if width > 4 else 1
        if self.whole:
            last = self.channels - width
            return [Panel(0, self.channels, 0, 0, ceil_div(self.channels, width), self.channels, last)]
        made = TileShape(width, 1, 2).whole_panels(self.channels)
        return [replace(p, base=p.first * self.count, ldb=p.vectors * width, lastb=(p.vectors - 1) * width) for p in made]

    def vector(self, width: int = WIDEST) -> int:
        """Lanes of the vectors of ``storage(width)``."""
        p = self.storage(width)[-1]
        return p.stop - p.first - p.lastb if self.whole else p.ldb - p.lastb

    @property
    def size(self) -> int:
        """Floats of one group."""
        last = self.storage()[-1]
        return last.base + last.ldb * self.count

    def reads(self, shape: TileShape) -> list[Panel]:
        """The panels of tiles of this shape, with their places in storage."""
        made, stored, vector = [], self.storage(), self.vector()
        for p in shape.whole_panels(self.channels):
            s = next(s for s in stored if s.first <= p.first and p.stop <= s.stop)

            def slot(channel: int, s: Panel = s) -> int:
                at = channel - s.first
                return at if self.whole or at + shape.width <= s.lastb or s.ldb == s.stop - s.first else at - (s.stop - s.first - vector) + s.lastb

            base = slot(p.first)
            made.append(replace(p, base=s.base + base, ldb=s.ldb, lastb=slot(p.stop - shape.width) - base))
        return made

    def numpy(self, data: Array) -> Array:
        """``data`` in this form, flat."""
        group, channel, outer, inner = (s * data.itemsize for s in self.strides)
        flat = np.ascontiguousarray(data)
        source = np.lib.stride_tricks.as_strided(flat, (self.groups, *self.terms, self.channels), (group, outer, inner, channel))
        source = source.reshape(self.groups, self.count, self.channels)
        panels = [source[:, :, self._channels(p)].reshape(self.groups, -1) for p in self.storage()]
        return np.ascontiguousarray(np.concatenate(panels, axis=1)).reshape(-1)

    def _channels(self, p: Panel) -> list[int]:
        if self.whole:
            return list(range(self.channels))
        return [*range(p.first, p.first + p.lastb), *range(p.stop - (p.ldb - p.lastb), p.stop)]

    # -- C
    @property
    def pieces(self) -> int:
        return self.groups * len(self.storage())

    def emit(self, site: Site, printer: Printer, name: str, source: str, target: str) -> str:
        """C of the function ``name`` whose piece ``chunk`` makes one panel of one group: of the buffer ``source``, at ``target``."""
        width = tile_shape(site.machine, self.channels).width
        table = self.storage(width) if self.whole else self.storage()
        vector = width if self.whole else self.vector()
        group, channel, outer, inner = self.strides
        turned = channel != 1 and inner == 1 and self.terms[0] == 1
        copy = (
            f"shohin_pack{width}(src, {channel}, dst, ldb, main, TERMS);\n"
            f"  shohin_pack{width}(src + tail * {channel}, {channel}, dst + p->lastb, ldb, V, TERMS);"
        ) if turned else fill(
            """\
for (long t = 0; t < $t; t++) for (long k = 0; k < $k; k++, src += $inner, dst += ldb) {
    for (long j = 0; j < main; j++) dst[j] = src[j * $channel];
    for (long j = 0; j < V; j++) dst[p->lastb + j] = src[(tail + j) * $channel];
    if (k == $k - 1) src += $outer - (long)$k * $inner;
  }""",
            t=self.terms[0], k=self.terms[1], inner=inner, outer=outer, channel=channel,
        )  # fmt: skip
        return (
            PREAMBLE
            + (transpose_function(width) if turned else "")
            + fill(
                HEAD
                + """\
  enum { TERMS = $terms, V = $vector, COUNT = $count };
  $table
  const long group = chunk / COUNT;
  const struct shohin_panel *p = panels + chunk % COUNT;
  const long ldb = p->ldb, main = (p->vectors - 1) * V, tail = p->stop - p->first - V;
  const float *src = $source + group * $group + p->first * $channel;
  float *dst = (float *)$target + group * $size + p->base;
  $copy
}
""",
                name=name,
                terms=self.count,
                vector=vector,
                count=len(table),
                table=panel_table(table),
                source=printer.pointer(source),
                target=target,
                group=group,
                channel=channel,
                size=self.size,
                copy=copy,
            )
        )


def _layout(site: Site) -> Panels:
    return site.attrs["layout"]


PANELS: Kernel = register(
    Kernel(
        name="panels_f32",
        op="",
        doc="weights into panels",
        predicate=lambda site: Declined("the lowering puts it where weights stay what they are"),
        ports=(),
        phases=(
            Phase(
                emit=lambda site, printer, name: _layout(site).emit(site, printer, name, site.operands[0].name, printer.pointer(site.results[0].name)),
                chunks=lambda site: _layout(site).pieces,
            ),
        ),
        workspace=lambda site: 0,
        shared=lambda site: 0,
        order="sequence",
        flops=lambda site: 0.0,
    )
)
