"""What the float32 kernels share: the vector dialect, packing, the form of a kernel's functions. Their tile: ``tile``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from string import Template

from shohin.compiler.ctext import once
from shohin.compiler.kernel import Declined, Printer, Site, Verdict
from shohin.core import dtypes
from shohin.core.nest import Buffer

BLOCK, CHUNKS = 32, 8
"""Rows in a block and chunks of a sum over batch and space (``chunks8``)."""

PREAMBLE = once(
    "shohin_kernels",
    """\
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
#define SHOHIN_INLINE SHOHIN_WIDE static inline __attribute__((always_inline))
struct shohin_run { long a, b, n; };
struct shohin_segment { int start, step, length, tap, taps, tap_step, source, source_step, tap_source; };
struct shohin_panel { int first, stop, load, base, vectors, ldb, lastb; };
struct shohin_tile {
  const float *a, *b; float *c; const struct shohin_run *runs;
  long count, rs, ks, ldb, ldc, last, lastb, io, at, i[4], step[3];
  long tiles, skip, lines, la, lc, turn[3]; // tiles side by side, ``skip`` apart in a; lines of them, apart in a and c, in i
};
typedef void shohin_tile_call(const struct shohin_tile *t, void *const *b);
""",
)


def fill(text: str, **values: object) -> str:
    """C text with every ``$name`` replaced; an unknown one is a ``KeyError``."""
    return Template(text).substitute({k: str(v) for k, v in values.items()})


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def shares(flops: float, threads: int) -> int:
    """Into how many pieces this much work is cut: up to four a thread of 64 kFLOP or more, several times what a barrier costs; as
    many for all threads. One for one thread."""
    return threads * min(4, int(flops) // (threads << 16)) or 1 if threads > 1 else 1


def even(pieces: int, threads: int) -> int:
    """At most so many pieces, as many for all threads where there are enough."""
    return pieces - pieces % threads if pieces > threads else pieces


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
        return once(
            f"shohin_v{w}_",
            f"typedef float shohin_v{w} __attribute__((vector_size({4 * w})));\n"
            f"typedef float shohin_u{w} __attribute__((vector_size({4 * w}), aligned(4)));\n"
            f"#define SHOHIN_SPLAT{w}(x) "
            f"__extension__({{ const float x_ = (x); (shohin_v{w}){{{', '.join(['x_'] * w)}}}; }})\n",
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
    """C of ``shohin_pack<width>``: ``cols`` rows of ``src``, whole vectors, ``stride`` apart, become columns of ``dst``:
    ``dst[k * ldb + j] = src[j * stride + k]`` for ``k < count`` and ``j < cols``."""
    lanes, name = Lanes(width), f"shohin_pack{width}"
    text, columns = square(lanes, lambda i: f"src + (j + {i}) * stride + k")
    return lanes.declare + once(name, fill(
        """\
SHOHIN_WIDE static void $name(const float *src, long stride, float *dst, long ldb, long cols, long count) {
  for (long j = 0; j < cols; j += $width) {
    long k = 0;
    for (; k + $width <= count; k += $width) {
      $square
    }
    for (; k < count; k++)
      for (long i = j; i < j + $width; i++) dst[k * ldb + i] = src[i * stride + k];
  }
}
""",
        name=name,
        width=width,
        square="\n      ".join([*text, *(lanes.store(f"dst + (k + {i}) * ldb + j", c) for i, c in enumerate(columns))]),
    ))  # fmt: skip


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

LOAD = "void (*load)(void *const *restrict, float *restrict, long, long)"
STATISTIC = "void (*statistic)(void *const *restrict, char *, long, long, long)"
"""Parameters for what ``Printer.load`` and ``Printer.statistic`` print."""


def family(name: str, text: str, *, sizes: Mapping[str, int], given: Mapping[str, str], tables: str = "", **fixed: object) -> str:
    """C of the function ``name`` of one layer, and before it, once a file, of the one that does the work for all layers of its form.

    ``text`` is that one's body. In it ``$key`` is, of ``sizes``, a variable of type long, whatever its number is in a layer; of
    ``fixed``, text (which may hold sizes). ``given`` are further parameters by declaration, and what the layer passes;
    ``tables`` are constants of the layer, which it may pass.
    """
    body = Template(Template(text).safe_substitute({k: str(v) for k, v in fixed.items()}))
    body = body.substitute({k: f"g_{k}" for k in sizes})
    known = ", ".join(f"g_{k} = g[{i}]" for i, k in enumerate(sizes))
    parameters = "".join(f", {p}" for p in given)
    shared = fill(
        """\
SH_APART SHOHIN_WIDE static void $at(void *const *b, char *shared, char *scratch, long chunk, long chunks, const long *g$parameters) {
  (void)b; (void)shared; (void)scratch; (void)chunk; (void)chunks;
  const long $known;
$body}
""",
        at="$at", parameters=parameters, known=known, body=body,
    )  # fmt: skip
    at = "shohin_family_" + sha256(shared.encode()).hexdigest()[:12]
    return once(at, shared.replace("$at", at)) + fill(
        """\
SHOHIN_WIDE static void $name(void *const *b, char *shared, char *scratch, long chunk, long chunks) {
  static const long g[] = {$numbers};
  $tables
  $at(b, shared, scratch, chunk, chunks, g$passed);
}
""",
        name=name, numbers=", ".join(map(str, sizes.values())), tables=tables, at=at,
        passed="".join(f", {v}" for v in given.values()),
    )  # fmt: skip


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
