"""What the float32 kernels share: the vector dialect, the register tile, the epilogue.

A *tile* is up to ``rows`` positions by ``vectors`` vectors of result channels, in named vector variables. It walks
*runs*: ``n`` steps from ``a`` (one scalar a row, broadcast) and ``b`` (whole vectors), one fma a term, so a result's
bits do not depend on the tile or on the vector's width. Matmul is one run, a convolution one run a tap, a weight
gradient one run a stretch of positions: all three share the tile's function, which knows no layer and is therefore
compiled once a file, however many layers there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from string import Template

from shohin.compiler.kernel import Declined, Machine, Printer, Site, Verdict
from shohin.core import dtypes
from shohin.core.nest import Buffer

BLOCK, CHUNKS = 32, 8
"""Rows in a block and chunks of a sum over batch and space (``chunks8``)."""

PREAMBLE = """\
#ifndef SHOHIN_KERNELS
#define SHOHIN_KERNELS
#if defined(__clang__)
#if defined(__x86_64__)
#define SHOHIN_WIDE __attribute__((min_vector_width(512)))  // Intel's tunings would split every zmm into two ymm
#else
#define SHOHIN_WIDE
#endif
#define SHOHIN_FMA(a, b, c) __builtin_elementwise_fma(a, b, c)
#else
#define SHOHIN_WIDE
#define SHOHIN_FMA(a, b, c) __extension__({ __typeof__(c) a_ = (a), b_ = (b), c_ = (c); \\
  for (unsigned i_ = 0; i_ < sizeof c_ / sizeof(float); i_++) { c_[i_] = __builtin_fmaf(a_[i_], b_[i_], c_[i_]); } \\
  c_; })
#endif
struct shohin_run { long a, b, n; };
struct shohin_segment { int start, step, length, tap, taps, tap_step, source, source_step, tap_source; };
struct shohin_panel { int first, stop, load, base, vectors; };
struct shohin_tile { const float *a, *b; float *c; const struct shohin_run *runs; long count, rs, ks, ldb, ldc; };
#endif
"""


def fill(text: str, **values: object) -> str:
    """C text with every ``$name`` replaced; an unknown one is a ``KeyError``."""
    return Template(text).substitute({k: str(v) for k, v in values.items()})


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)


@dataclass(frozen=True)
class Lanes:
    """Text of operations on ``width`` floats; one lane is a plain float."""

    width: int

    @property
    def type(self) -> str:
        return f"shohin_v{self.width}" if self.width > 1 else "float"

    @property
    def declare(self) -> str:
        """Vector types; ``u`` is the same type at any address."""
        w = self.width
        if w == 1:
            return ""
        return (
            f"#ifndef SHOHIN_V{w}\n#define SHOHIN_V{w}\n"
            f"typedef float shohin_v{w} __attribute__((vector_size({4 * w})));\n"
            f"typedef float shohin_u{w} __attribute__((vector_size({4 * w}), aligned(4)));\n"
            f"#define SHOHIN_SPLAT{w}(x) "
            f"__extension__({{ const float x_ = (x); (shohin_v{w}){{{', '.join(['x_'] * w)}}}; }})\n"
            "#endif\n"
        )

    def load(self, address: str) -> str:
        return f"*(const shohin_u{self.width} *)({address})" if self.width > 1 else f"*({address})"

    def store(self, address: str, value: str) -> str:
        return f"*({f'shohin_u{self.width}' if self.width > 1 else 'float'} *)({address}) = {value};"

    def splat(self, value: str) -> str:
        return f"SHOHIN_SPLAT{self.width}({value})" if self.width > 1 else value

    def fma(self, a: str, b: str, c: str) -> str:
        return f"SHOHIN_FMA({a}, {b}, {c})" if self.width > 1 else f"__builtin_fmaf({a}, {b}, {c})"

    @property
    def zero(self) -> str:
        return f"(shohin_v{self.width}){{0}}" if self.width > 1 else "0.0f"


def widths(count: int, width: int) -> list[tuple[int, int, int]]:
    """``(start, stop, width)``: ``count`` lanes as whole vectors, then narrower ones, then single ones.

    >>> widths(37, 16)
    [(0, 32, 16), (32, 36, 4), (36, 37, 1)]
    """
    parts, at = [], 0
    while at < count:
        stop = at + (count - at) // width * width
        if stop > at:
            parts.append((at, stop, width))
        at, width = stop, width // 2 if width > 4 else 1
    return parts


@dataclass(frozen=True)
class Panel:
    """Channels ``first`` to ``stop``, computed in ``vectors`` from channel ``load`` on; ``base`` is its place in packed
    storage, where every panel has whole vectors."""

    first: int
    stop: int
    load: int
    base: int
    vectors: int


def panel_table(panels: Sequence[Panel]) -> str:
    rows = ", ".join(f"{{{p.first}, {p.stop}, {p.load}, {p.base}, {p.vectors}}}" for p in panels)
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


def tile_shape(machine: Machine) -> TileShape:
    """32 vector registers of AVX-512 hold 14 x 2 sums, the 16 of AVX2 6 x 2 (4 x 24 spills: toolchain.md)."""
    width = max(4, min(16, machine.vector_bytes // 4))
    return TileShape(width, 14 if width == 16 else 6, 2)


def depth_shape(machine: Machine, channels: int, rows: int | None = None) -> TileShape:
    """Depthwise: up to four vectors of channels (no wider than there are channels), so that memory is walked in order;
    24 or 12 sums in all, ``rows`` at most."""
    width = wide = tile_shape(machine).width
    while width > channels:
        width = width // 2 if width > 4 else 1
    vectors = min(4, channels // width)
    most = (24 if wide == 16 else 12) // vectors
    return TileShape(width, min(rows or 12, most), vectors)


def is_float32(site: Site) -> Verdict:
    """All operands and the result are float32 and not empty, ports give float32, and there are vectors to use."""
    buffers = (*site.operands, *site.results)
    for dtype in [b.dtype for b in buffers] + [p.expr.dtype for p in site.call.ports]:
        if dtype != dtypes.float32:
            return Declined(f"{dtype.name}, it takes float32")
    if not all(b.size for b in buffers):
        return Declined("an operand or the result is empty")
    return site.machine.vector_bytes >= 16 or Declined("the target has no vectors")


def wide_groups(site: Site, *channels: int) -> Verdict:
    """One group, or enough channels in each to fill a vector with."""
    groups, least = site.attrs["groups"], min(channels) // site.attrs["groups"]
    return groups == 1 or least >= 4 or Declined(f"{groups} groups of {least} channels, it takes 4 or more in each")


def one_each(site: Site, *tensors: Buffer) -> Verdict:
    """As many groups as channels, more than one."""
    groups, channels = site.attrs["groups"], {b.shape[3] for b in tensors}
    return (groups > 1 and channels == {groups}) or Declined(f"{groups} groups, it takes one a channel of input and result")


# -------------------------------------------------------------------------------------------------- packing


def square(lanes: Lanes, load: Callable[[int], str]) -> tuple[list[str], list[str]]:
    """C that turns a square of ``width`` rows in registers, ``load(i)`` the address of row i, and the names of its columns. In
    step s, row i takes from row i + s the lanes whose number lacks the bit s."""
    width, step = lanes.width, 1
    text = [f"const {lanes.type} a{i} = {lanes.load(load(i))};" for i in range(width)]
    now = [f"a{i}" for i in range(width)]
    while step < width:
        low = ", ".join(str(x if not x & step else width + x - step) for x in range(width))
        high = ", ".join(str(x + step if not x & step else width + x) for x in range(width))
        new = list(now)
        for i in range(width):
            if not i & step:
                a, b = now[i], now[i + step]
                new[i], new[i + step] = f"s{step}_{i}", f"s{step}_{i + step}"
                text.append(f"const {lanes.type} {new[i]} = __builtin_shufflevector({a}, {b}, {low});")
                text.append(f"const {lanes.type} {new[i + step]} = __builtin_shufflevector({a}, {b}, {high});")
        now, step = new, 2 * step
    return text, now


def transpose_function(width: int) -> str:
    """C of ``shohin_pack<width>``: rows of ``src`` (``stride`` apart, ``left`` of them) become columns of ``dst``, zeros beside
    them: ``dst[k * cols + j] = j < left ? src[j * stride + k] : 0`` for ``k < count`` and ``j < cols``, whole vectors."""
    lanes, name = Lanes(width), f"shohin_pack{width}"
    text, columns = square(lanes, lambda i: f"src + (j + {i}) * stride + k")
    return lanes.declare + fill(
        """\
#ifndef $guard
#define $guard
SHOHIN_WIDE static void $name(const float *src, long stride, float *dst, long cols, long left, long count) {
  for (long j = 0; j < cols; j += $width) {
    long k = 0;
    if (j + $width <= left) for (; k + $width <= count; k += $width) {
      $square
    }
    for (; k < count; k++)
      for (long i = j; i < j + $width; i++) dst[k * cols + i] = i < left ? src[i * stride + k] : 0.0f;
  }
}
#endif
""",
        guard=name.upper(),
        name=name,
        width=width,
        square="\n      ".join([*text, *(lanes.store(f"dst + (k + {i}) * cols + j", c) for i, c in enumerate(columns))]),
    )


def side_function(shape: TileShape) -> str:
    """C of ``shohin_side<width>x<rows>``, the left side of one tile, from columns: ``dst[k * R + r] = src[k * stride + r]``
    for ``r < rows`` and ``k < count``. ``left`` rows may be read. Whole vectors are stored, so that ``dst`` is written up to
    a vector past its end."""
    lanes, name = Lanes(shape.width), f"shohin_side{shape.width}x{shape.rows}"
    return lanes.declare + fill(
        """\
#ifndef $guard
#define $guard
SHOHIN_WIDE static void $name(const float *src, long stride, float *dst, long rows, long left, long count) {
  long k = 0;
  if (left >= $width) for (; k < count; k++) $copy
  for (; k < count; k++) for (long r = 0; r < rows; r++) dst[k * $rows + r] = src[k * stride + r];
}
#endif
""",
        guard=name.upper(),
        name=name,
        width=shape.width,
        rows=shape.rows,
        copy=lanes.store(f"dst + k * {shape.rows}", lanes.load("src + k * stride")),
    )


# -------------------------------------------------------------------------------------------------- the tile


def tile_name(width: int, rows: int, vectors: int, kind: str) -> str:
    return f"shohin_tile{width}_{rows}x{vectors}{kind}"


def tile_function(width: int, rows: int, vectors: int, kind: str) -> str:
    """C of one register tile. Letters of ``kind``: ``u`` the rows of ``a`` are neighbours (stride 1); ``d`` depthwise,
    a row of ``a`` is vectors of channels, not one scalar; ``s`` the sums are added to what is in ``c`` (a block's sum
    to its chunk's) instead of stored."""
    lanes, name = Lanes(width), tile_name(width, rows, vectors, kind)
    sums = [(r, v) for r in range(rows) for v in range(vectors)]
    bases = [0] if "u" in kind else list(range(0, rows, 4))  # a pointer for four rows: x86 adds one scaled register
    row = lambda r: f"p0 + {r}" if "u" in kind else f"p{r // 4 * 4} + {['0', 'rs', 'rs2', 'rs3'][r % 4]}"
    pointers = ", ".join(f"*p{r} = t->a + run->a + {r} * rs" for r in bases)
    steps = [f"const {lanes.type} b{v} = {lanes.load(f'q + {v * width}')};" for v in range(vectors)]
    for r in range(rows):
        if "d" in kind:
            steps += [
                f"c{r}_{v} = {lanes.fma(lanes.load(f'{row(r)} + {v * width}'), f'b{v}', f'c{r}_{v}')};"
                for v in range(vectors)
            ]
        else:
            steps.append(f"s = {lanes.splat(f'*({row(r)})')};")
            steps += [f"c{r}_{v} = {lanes.fma('s', f'b{v}', f'c{r}_{v}')};" for v in range(vectors)]
    steps.append(" ".join(f"p{r} += ks;" for r in bases) + " q += ldb;")
    out = [(f"t->c + {r} * t->ldc + {v * width}", f"c{r}_{v}") for r, v in sums]
    return lanes.declare + fill(
        """\
#ifndef $guard
#define $guard
SHOHIN_WIDE static void $name(const struct shohin_tile *t) {
  const long rs = t->rs, rs2 = 2 * rs, rs3 = 3 * rs, ks = t->ks, ldb = t->ldb;
  $sums
  (void)rs; (void)rs2; (void)rs3;
  for (const struct shohin_run *run = t->runs, *end = run + t->count; run < end; run++) {
    const float $pointers;
    const float *q = t->b + run->b * ldb;
    for (long n = run->n; n > 0; n--) {
      $scalar
      $steps
    }
  }
  $out
}
#endif
""",
        guard=name.upper(),
        name=name,
        pointers=pointers,
        scalar="" if "d" in kind else f"{lanes.type} s;",
        steps="\n      ".join(steps),
        sums="\n  ".join(f"{lanes.type} c{r}_{v} = {lanes.zero};" for r, v in sums),
        out="\n  ".join(lanes.store(p, f"{lanes.load(p)} + {c}" if "s" in kind else c) for p, c in out),
    )


@dataclass(frozen=True)
class Tiles:
    """The tile functions that one kernel calls, and the call: by ``rows`` and ``vectors``, C variables."""

    width: int
    sizes: tuple[int, ...]
    vectors: tuple[int, ...]
    kind: str

    @property
    def declare(self) -> str:
        return "".join(tile_function(self.width, r, v, self.kind) for v in self.vectors for r in self.sizes)

    @property
    def call(self) -> str:
        """The tile is ``T``."""
        cases = [
            f"case {r * 8 + v}: {tile_name(self.width, r, v, self.kind)}(&T); break;"
            for v in self.vectors
            for r in self.sizes
        ]
        return f"switch (rows * 8 + vectors) {{ {' '.join(cases)} }}"


def tiles(shape: TileShape, lengths: Iterable[int], panels: Iterable[Panel], kind: str) -> Tiles:
    """The tiles for runs of ``lengths`` positions over ``panels``."""
    sizes = {r for n in set(lengths) for r in shape.split(n)}
    return Tiles(shape.width, tuple(sorted(sizes)), tuple(sorted({p.vectors for p in panels})), kind)


# -------------------------------------------------------------------------------------------------- the epilogue


def store_row(
    site: Site,
    printer: Printer,
    *,
    width: int,
    count: int,
    lane: str,
    first: str,
    stop: str,
    tile: str,
    out: str,
    names: Mapping[str, str],
    merged: Mapping[str, tuple[tuple[str, int], ...]] | None = None,
) -> str:
    """C that moves one row of sums from ``tile`` to ``out`` through the epilogue port, channels ``first`` to ``stop``
    (C expressions; panels start at whole vectors, ``count`` is the channels in all, so the widths are known here)."""
    port = site.port("epilogue")
    text = [f"long io = {first};"]
    for _, _, w in widths(count, width):
        lanes = Lanes(w)
        value = "acc"
        if port is not None:
            bound = {**names, "acc": "acc", lane: "io"}
            value = printer.lanes(port, bound, lane, w, merged) if w > 1 else printer.scalar(port, bound, merged)
        text.append(
            f"for (; io + {w} <= {stop}; io += {w}) {{ "
            f"const {lanes.type} acc = {lanes.load(f'{tile} + (io - {first})')}; "
            + lanes.store(f"{out} + io", value)
            + " }"
        )
    return "\n".join(text)


def declare_widths(count: int, width: int) -> str:
    return "".join(Lanes(w).declare for _, _, w in [(0, 0, width), *widths(count, width)])


# -------------------------------------------------------------------------------------------------- the function

HEAD = """\
SHOHIN_WIDE static void $name(void *const *b, char *shared, char *scratch, long chunk, long chunks) {
  (void)b; (void)shared; (void)scratch; (void)chunk; (void)chunks;
"""


def combine_chunks(name: str, result: str, groups: int, terms: int, channels: int, width: int, shift: int = 0) -> str:
    """C of a second phase: ``((0 + p0) + p1) + ... + p7`` of partials [chunk][group][term][channel], channels padded to
    vectors, stored as [group][channel][term], the weights' layout. Pieces are ranges of (group, term). ``shift``: how
    far the channels past the last whole vector lie behind their place (``depth_panels``)."""
    lanes = Lanes(width)
    return (
        PREAMBLE
        + lanes.declare
        + fill(
            HEAD
            + """\
  enum { G = $groups, T = $terms, C = $channels, PC = $padded };
  float *y = $result;
  const long each = (G * T + chunks - 1) / chunks, lo = chunk * each, hi = lo + each < G * T ? lo + each : G * T;
  for (long row = lo; row < hi; row++) {
    const float *p = (const float *)shared + row * PC;
    float *out = y + row / T * C * T + row % T;
    for (long c = 0; c < C; c += $width) {
      $vector sum = $zero;
      const long at = c + $width <= C ? c : c + $shift;
      for (long q = 0; q < $pieces; q++) sum += $load;
      for (long l = 0; l < $width && c + l < C; l++) out[(c + l) * T] = $lane;
    }
  }
}
""",
            name=name,
            result=result,
            groups=groups,
            terms=terms,
            channels=channels,
            padded=ceil_div(channels, width) * width,
            width=width,
            vector=lanes.type,
            zero=lanes.zero,
            pieces=CHUNKS,
            lane="sum[l]" if width > 1 else "sum",
            shift=shift,
            load=lanes.load("p + q * ((long)G * T * PC) + at"),
        )
    )
