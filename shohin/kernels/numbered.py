"""Weights of float32 kernels that are stored as numbers of entries of a codebook (``ops/palette``).

The numbers lie in the order of the panels that the tiles read (``panels``). A panel is looked up into scratch just before it is
multiplied; then it is the same code, so the bits are those of dense weights. Constants hold numbers and codebooks only, and no
memory holds more than a panel of the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from shohin.compiler.kernel import Site
from shohin.kernels.common import ceil_div, fill
from shohin.kernels.instructions import InstructionSet, sets
from shohin.kernels.panels import Panels
from shohin.kernels.planes import pack_planes, unpacked
from shohin.kernels.tile import Panel

Array = np.ndarray[Any, Any]
BLOCK = 64
"""Numbers whose planes lie together."""


@dataclass(frozen=True)
class Entries:
    """Numbers of ``bits``, entries of ``dim`` neighbours along the innermost terms, a codebook for ``share`` channels."""

    bits: int
    dim: int
    share: int


def entries_of(site: Site) -> Entries | None:
    """How a site's weights are stored, None for dense ones."""
    a = site.call.storage
    return None if a is None else Entries(a["bits"], a["dim"], a["group"])


@dataclass(frozen=True)
class Numbered:
    """A form of the weights that ``panels`` would hold dense: uint8, the codebooks, then the numbers panel by panel."""

    panels: Panels
    entries: Entries
    kernel: str = ""
    groups: int = 1

    @property
    def books(self) -> int:
        """Codebooks."""
        return ceil_div(self.panels.groups * self.panels.channels, self.entries.share)

    @property
    def book(self) -> int:
        """Floats of a codebook."""
        return 2**self.entries.bits * self.entries.dim

    @property
    def floats(self) -> int:
        """Floats of all codebooks; a vector of them can be read from the first."""
        return ceil_div(self.books * self.book, 16) * 16

    @property
    def rows(self) -> int:
        """Numbers of a channel."""
        return self.panels.count // self.entries.dim

    @property
    def places(self) -> list[int]:
        """Where the numbers of each stored panel begin, and where those of a group end, in bytes."""
        ends = [0]
        for p in self.panels.storage():
            ends.append(ends[-1] + ceil_div(self.rows * p.ldb, BLOCK) * BLOCK * self.entries.bits // 8)
        return ends

    @property
    def size(self) -> int:
        return 4 * self.floats + self.panels.groups * self.places[-1]

    def numpy(self, data: Array) -> Array:
        """``data`` in this form."""
        bits, dim = self.entries.bits, self.entries.dim
        words = np.ascontiguousarray(data, np.float32).view(np.uint32).reshape(len(data), -1, dim)
        books, numbers = np.zeros((self.floats,), np.uint32), np.zeros(words.shape[:2], np.uint8)
        for k in range(self.books):
            rows = slice(k * self.entries.share, (k + 1) * self.entries.share)
            found, codes = np.unique(words[rows].reshape(-1, dim), axis=0, return_inverse=True)
            books[k * self.book : k * self.book + found.size] = found.reshape(-1)
            numbers[rows] = codes.reshape(numbers[rows].shape)
        (outer, inner), (group, channel, far, _) = self.panels.terms, self.panels.strides
        stored = replace(self.panels, terms=(outer, inner // dim), strides=(group // dim, channel // dim, far // dim, 1))
        flat = stored.numpy(numbers).reshape(self.panels.groups, -1)
        cuts = np.cumsum([self.rows * p.ldb for p in self.panels.storage()])
        pad = lambda a: np.concatenate([a, np.zeros(-len(a) % BLOCK, a.dtype)]).reshape(-1, BLOCK)
        made = [pack_planes(pad(part), bits).reshape(-1) for own in flat for part in np.split(own, cuts[:-1])]
        return np.concatenate([books.view(np.uint8), *made])

    # -- C
    @property
    def scratch(self) -> int:
        """Bytes: the codebooks, the largest panel, its numbers, and where its lanes' codebooks begin."""
        lanes = max(p.ldb for p in self.panels.storage())
        return 4 * (self.floats + lanes * self.panels.count + 16) + ceil_div(lanes * self.rows, BLOCK) * BLOCK + 4 * lanes

    @property
    def _name(self) -> str:
        return f"shohin_entries{self.entries.bits}x{self.entries.dim}" + ("" if self.books == 1 else "_books")

    def function(self, site: Site) -> str:
        """C of the function that looks up a panel."""
        bits, dim = self.entries.bits, self.entries.dim
        quick = self.books == 1 and dim == 1 and bits <= 4
        among = tuple(s for s in sets(site.machine) if s.pick) if quick else ()
        if quick:
            look = f"  for (long i = 0; i < count; i += 16, own += 16, to += 16) {{\n{_picked(among)}  }}\n"
        else:
            books = "" if self.books == 1 else fill(_BOOKS, block=BLOCK, book=self.book)
            at = ("" if self.books == 1 else "off[j] + ") + ("own[r * lanes + j]" if dim == 1 else f"{dim} * own[r * lanes + j] + d")
            look = fill(_LOOK, books=books, dim=dim, at=at)
        include = "".join(f"#if {s.guard}\n#include <{s.header}>\n#endif\n" for s in among)
        return include + fill(_FUNCTION, guard=self._name.upper(), name=self._name, bits=bits, dim=dim, block=BLOCK, numbers=unpacked(bits, BLOCK, "    "), look=look)

    def begin(self, tiles: Sequence[Panel], blob: str, at: int) -> str:
        """C that stands before the panels ``tiles`` are met: their places in the constant ``blob``; ``weights``, a panel in scratch."""
        stored, places, rows = self.panels.storage(), self.places, []
        for p in tiles:
            k = next(k for k, s in enumerate(stored) if s.first <= p.first and p.stop <= s.stop)
            s = stored[k]
            tail = 0 if self.panels.whole else s.stop - s.ldb  # the channel of lane 0, had the last vector's lanes no overlap
            last = s.ldb if self.panels.whole else s.lastb
            rows.append(f"{{{places[k]}, {s.base}, {s.ldb}, {s.first}, {tail}, {last}}}")
        return fill(_BEGIN, rows=", ".join(rows), blob=blob, at=at, floats=self.floats)

    def fetch(self, panel: str, group: str) -> str:
        """The statements that set ``T.b`` to a tile's panel, which is looked up unless it lies in scratch already."""
        return fill(
            _FETCH, panel=panel, group=group, size=self.places[-1], name=self._name, channels=self.panels.channels,
            share=self.entries.share, rows=self.rows,
        )  # fmt: skip


def _picked(among: Sequence[InstructionSet]) -> str:
    plain = "    for (long j = 0; j < 16; j++) to[j] = book[own[j]];\n"
    parts = [f"#{'el' if k else ''}if {s.guard}\n    {s.pick}\n" for k, s in enumerate(among)]
    return "".join([*parts, "#else\n", plain, "#endif\n"]) if parts else plain


_FUNCTION = """\
#ifndef $guard
#define $guard
#ifndef SHOHIN_STORED
#define SHOHIN_STORED
struct shohin_stored { long at, base, lanes, first, tail, last; };
#endif
/* A panel of ``rows`` entries of $dim weights a lane, from their numbers of $bits bits, as [rows][$dim][lanes]. */
SHOHIN_WIDE static void $name(const uint8_t *from, const float *book, long channel, long share, const struct shohin_stored *s, long rows, float *to) {
  const long lanes = s->lanes, count = rows * lanes;
  uint8_t *own = (uint8_t *)(to + count * $dim + 16), *n = own;
  for (long k = 0; k < count; k += $block, n += $block) {
$numbers\
  }
  (void)channel; (void)share;
$look\
}
#endif
"""
_BOOKS = """\
  int *const off = (int *)(own + (count + $block - 1) / $block * $block);
  for (long j = 0; j < lanes; j++) off[j] = (int)((channel + j + (j < s->last ? s->first : s->tail)) / share * $book);
"""
_LOOK = """\
$books\
  for (long r = 0; r < rows; r++)
    for (long d = 0; d < $dim; d++, to += lanes)
      for (long j = 0; j < lanes; j++) to[j] = book[$at];
"""
_BEGIN = """\
static const struct shohin_stored stored[] = {$rows};
  float *const book = (float *)(scratch + $at), *const weights = book + $floats;
  const uint8_t *const blob = $blob, *const numbers = blob + 4 * $floats;
  for (long i = 0; i < 4 * $floats; i++) ((uint8_t *)book)[i] = blob[i];
  long held = -1;"""
_FETCH = """\
const struct shohin_stored *const s = stored + ($panel - panels);
      if (held != $group * $size + s->at) {
        held = $group * $size + s->at;
        $name(numbers + held, book, $group * $channels, $share, s, $rows, weights);
      }
      T.b = weights + $panel->base - s->base;"""

__all__ = ["Entries", "Numbered", "entries_of"]
