"""int8 max pooling: lanes are channels, 16 at a time; taps outside the image are left out.

Windows that lie in the image altogether, nearly all, have their taps written out with constant addresses.
"""

from __future__ import annotations

from shohin.compiler.kernel import Declined, Kernel, Phase, Printer, Site, Verdict, register
from shohin.core import dtypes
from shohin.kernels.common import fill
from shohin.kernels.instructions import Bytes, InstructionSet, branches, sets
from shohin.kernels.qdot import detect

MOST = 128
"""Vectors of a window, all taps and channels, up to which each is written out."""

_LAYER = """\
static void $name(void *const *b, char *shared, char *scratch, long chunk, long chunks) {
  enum { N = $n, H = $h, W = $w, C = $c, P = $p, Q = $q, KH = $kh, KW = $kw, SH = $sh, SW = $sw, TOP = $top, LEFT = $left };
  (void)shared; (void)scratch;
  for (long t = N * P * chunk / chunks, end = N * P * (chunk + 1) / chunks; t < end; t++) {
    const int8_t *const x = $x + t / P * (H * W * C), *rows[KH];
    int8_t *const y = $y + t * (Q * C);
    const long p = t % P * SH - TOP;
    if (p + KH <= 0 || p >= H) {
      memset(y, -128, Q * C);
      continue;
    }
    for (long a = 0; a < KH; a++) rows[a] = x + (p + a < 0 ? 0 : p + a < H ? p + a : H - 1) * (W * C); /* an edge twice changes nothing */
    for (long q = 0; q < Q; q++) {
$whole      const long s = q * SW - LEFT, from = s > 0 ? s : 0, upto = s + KW < W ? s + KW : W;
      if (from < upto) shohin_q8_largest(rows, KH, from * C, upto - from, y + q * C, C);
      else memset(y + q * C, -128, C);
    }
  }
}
"""
_WHOLE = """\
      enum { FIRST = $first, LAST = $last }; /* windows that are whole in their rows */
      if (q == FIRST) {
        $window(rows, FIRST * (SW * C) - LEFT * C, y + FIRST * C, LAST - FIRST);
        q = LAST - 1;
        continue;
      }
"""


def _border(among: tuple[InstructionSet, ...]) -> str:
    """C of the function for windows that are cut at the left or right."""

    def lanes(b: Bytes) -> str:
        return f"""\
  if (n >= 16) {{
    for (long i = 0; i < n; i += 16) {{
      const long first = i + 16 < n ? i : n - 16; /* the last vector may overlap the one before */
      {b.type} m = {b.fill.format(value="-128")};
      for (long a = 0; a < kh; a++) {{
        const int8_t *x = rows[a] + at + first;
        for (long s = columns; s > 0; s--, x += n) m = {b.larger.c("m", b.load.format(at="x"))};
      }}
      {b.store.format(at="y + first", value="m")};
    }}
    return;
  }}
"""

    return f"""\
/* The largest of each of n channels over some columns of kh rows. */
static void shohin_q8_largest(const int8_t *const *rows, long kh, long at, long columns, int8_t *y, long n) {{
{branches(among, lambda s: lanes(s.bytes) if s.bytes else "")}  for (long i = 0; i < n; i++) {{
    int8_t m = -128;
    for (long a = 0; a < kh; a++)
      for (long s = at + i; s < at + columns * n; s += n) m = rows[a][s] > m ? rows[a][s] : m;
    y[i] = m;
  }}
}}
"""


def _whole(among: tuple[InstructionSet, ...], name: str, kh: int, kw: int, step: int, c: int) -> str:
    """C of the function for whole windows, ``step`` elements apart: taps at constant distances from the rows' pointers."""
    starts = [*range(0, c - 15, 16), *([c - 16] if c % 16 else [])] if c >= 16 else []
    taps = [(f"x{a}", b * c) for a in range(kh) for b in range(kw)]

    def lanes(b: Bytes) -> str:
        load = lambda tap, i: b.load.format(at=f"{tap[0]} + {tap[1] + i}")
        lines = []
        for i in starts:
            lines += [f"m = {load(taps[0], i)};", *(f"m = {b.larger.c('m', load(t, i))};" for t in taps[1:])]
            lines.append(f"{b.store.format(at=f'y + {i}', value='m')};")
        return f"    {b.type} m;\n" + "".join(f"    {line}\n" for line in lines)

    at = lambda tap: f"{tap[0]}[i + {tap[1]}]"
    tests = "".join(f"      m = {at(t)} > m ? {at(t)} : m;\n" for t in taps[1:])
    plain = f"    for (long i = 0; i < {c}; i++) {{\n      int8_t m = {at(taps[0])};\n{tests}      y[i] = m;\n    }}\n"
    body = branches(among, lambda s: lanes(s.bytes) if s.bytes and starts else "", plain)
    pointers = ", ".join(f"*restrict x{a} = rows[{a}] + at" for a in range(kh))
    bump = ", ".join(f"x{a} += {step}" for a in range(kh))
    return f"""\
#ifndef {name.upper()}
#define {name.upper()}
static void {name}(const int8_t *const *rows, long at, int8_t *restrict y, long count) {{
  const int8_t {pointers};
  for (; count > 0; count--, {bump}, y += {c}) {{
{body}  }}
}}
#endif
"""


def _emit(site: Site, printer: Printer, name: str) -> str:
    among = sets(site.machine)
    (n, h, w, c), (_, p, q, _) = site.operands[0].shape, site.results[0].shape
    (kh, kw), (sh, sw), ((top, _), (left, _)) = (site.attrs[k] for k in ("kernel", "stride", "padding"))
    first, last = -(-left // sw), min(q, (w - kw + left) // sw + 1)
    window = f"shohin_q8_pool_{kh}x{kw}_{sw}_{c}"
    printer.helper(f"#ifndef SHOHIN_Q8_POOL\n#define SHOHIN_Q8_POOL\n#ifndef SHOHIN_Q8_TILE\n{detect(among)}#endif\n{_border(among)}#endif\n")
    whole = first < last and kh * kw * -(-c // 16) <= MOST
    if whole:
        printer.helper(_whole(among, window, kh, kw, sw * c, c))
    x, y = printer.pointer(site.operands[0].name), printer.pointer(site.results[0].name)
    return fill(_LAYER, name=name, n=n, h=h, w=w, c=c, p=p, q=q, kh=kh, kw=kw, sh=sh, sw=sw, top=top, left=left, x=x, y=y,
                whole=fill(_WHOLE, first=first, last=last, window=window) if whole else "")  # fmt: skip


def _chunks(site: Site) -> int:
    rows = site.results[0].shape[0] * site.results[0].shape[1]
    return max(1, min(4 * site.machine.threads if site.machine.threads > 1 else 1, rows))


def _claims(site: Site) -> Verdict:
    x, y = site.operands[0], site.results[0]
    if x.dtype != dtypes.int8:
        return Declined(f"{x.dtype.name}, it takes int8")
    return bool(x.size and y.size) or Declined("the operand or the result is empty")


MAX_POOL = register(
    Kernel(
        name="max_pool2d_int8",
        op="max_pool2d",
        doc="lanes are channels",
        predicate=_claims,
        ports=(),
        phases=(Phase(emit=_emit, chunks=_chunks),),
        workspace=lambda site: 0,
        shared=lambda site: 0,
        order="sequence",
        flops=lambda site: float(site.results[0].size * site.attrs["kernel"][0] * site.attrs["kernel"][1]),
    )
)
