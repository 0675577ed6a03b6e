"""Depthwise sums on x86: a pair of taps side by side is one ``vpmaddwd``."""

from __future__ import annotations


def _step(positions: int, width: int) -> str:
    """C of one step of ``width`` channels by ``positions``."""
    v, mm, each = f"__m{16 * width}i", f"_mm{16 * width}", range(positions)
    load = f"_mm{'' if width == 16 else '256'}_loadu_si{8 * width}((const __m{8 * width}i *)({{}}))"
    wide = lambda at: f"{mm}_cvtepi8_epi16({load.format(at)})"
    whole = "si512" if width == 32 else "si256"
    sums = "\n      ".join(f"{v} a{p} = {mm}_setzero_{whole}(), b{p} = a{p};" for p in each)
    steps = "\n        ".join(
        f"x = {wide(f'e + {p} * step')}; y = {wide(f'f + {p} * step')}; "
        f"a{p} = {mm}_add_epi32(a{p}, {mm}_madd_epi16({mm}_unpacklo_epi16(x, y), k)); "
        f"b{p} = {mm}_add_epi32(b{p}, {mm}_madd_epi16({mm}_unpackhi_epi16(x, y), h));"
        for p in each
    )
    if width == 16:
        first, last = (f"_mm256_permute2x128_si256(a{{p}}, b{{p}}, {k})" for k in ("0x20", "0x31"))
    else:
        order = lambda lanes: ", ".join(str(l * 4 + i + s) for l in lanes for s in (0, 16) for i in range(4))
        first, last = (
            f"_mm512_permutex2var_epi32(a{{p}}, _mm512_setr_epi32({order(lanes)}), b{{p}})" for lanes in ((0, 1), (2, 3))
        )
    add = lambda sums, p, at: f"{mm}_add_epi32({sums.format(p=p)}, {mm}_loadu_{whole}((const void *)(bias + c{at})))"
    out = "\n      ".join(
        f"at = acc + {p} * SHOHIN_Q8_BLOCK + c; {mm}_storeu_{whole}((void *)at, {add(first, p, '')}); "
        f"{mm}_storeu_{whole}((void *)(at + {width // 2}), {add(last, p, f' + {width // 2}')});"
        for p in each
    )
    return f"""\
  for (; c + {width} <= n; c += {width}) {{
    const int8_t *v = w + c;
    int32_t *at;
    {sums}
    for (long t = 0; t < count; t += 2, v += 2 * ld) {{
      const int8_t *e = taps[t] + offset + c, *f = taps[t + 1] + offset + c;
      {v} x = {wide("v")}, y = {wide("v + ld")};
      const {v} k = {mm}_unpacklo_epi16(x, y), h = {mm}_unpackhi_epi16(x, y);
      {steps}
    }}
    {out}
  }}
"""


def taps(positions: int, *widths: int) -> str:
    """C of ``shohin_q8_taps<positions>``: channels in steps of ``widths``, the widest first."""
    steps = "".join(_step(positions, w) for w in widths)
    return f"""\
static void shohin_q8_taps{positions}(const int8_t *const *taps, long count, long offset, long step, const int8_t *w, long ld,
                            const int32_t *bias, int32_t *acc, long n) {{
  long c = 0;
  (void)step;
{steps}}}
"""
