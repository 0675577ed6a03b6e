"""Tables of int8 on x86 with 512 bits: 64 at a time by shuffles, from a table that stays in registers.

With VBMI two ``vpermi2b`` look up the halves of the table and the sign chooses; without it, sixteen shuffles of 16 entries each:
a byte whose upper four bits are another row's gets its highest bit set, for which a shuffle gives 0.
"""

from __future__ import annotations

from shohin.compiler.kernel import Declined, Kernel, Phase, Printer, Site, Verdict, register
from shohin.core import dtypes
from shohin.kernels.common import even, fill
from shohin.kernels.instructions import sets
from shohin.kernels.instructions.quads import put, widest
from shohin.kernels.qdot import detect

LEAST = 256
"""Elements from which the table is worth loading."""

_LOOKUP = """\
#ifndef SHOHIN_Q8_LOOKUP
#define SHOHIN_Q8_LOOKUP
static void shohin_q8_lookup(const int8_t *x, const int8_t *table, int8_t *y, long size) {
#if defined(__AVX512VBMI__)
  const __m512i t0 = _mm512_loadu_si512(table), t1 = _mm512_loadu_si512(table + 64), t2 = _mm512_loadu_si512(table + 128), t3 = _mm512_loadu_si512(table + 192);
#else
  __m512i rows[16];
  for (int k = 0; k < 16; k++) rows[k] = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(table + 16 * k)));
#endif
  for (long i = 0; i < size; i += 64) {
    const long n = size - i;
    const __m512i v = _mm512_maskz_loadu_epi8(n >= 64 ? ~0ull : (1ull << n) - 1, x + i);
#if defined(__AVX512VBMI__)
    const __m512i r = _mm512_mask_blend_epi8(_mm512_movepi8_mask(v), _mm512_permutex2var_epi8(t0, v, t1), _mm512_permutex2var_epi8(t2, v, t3));
#else
    __m512i r = _mm512_setzero_si512();
    for (int k = 0; k < 16; k++) {
      const __m512i at = _mm512_adds_epu8(_mm512_xor_si512(v, _mm512_set1_epi8((char)(16 * k))), _mm512_set1_epi8(0x70));
      r = _mm512_or_si512(r, _mm512_shuffle_epi8(rows[k], at));
    }
#endif
    shohin_q8_put64(y + i, r, n);
  }
}
#endif
"""
_STEP = """\
static void $name(void *const *b, char *shared, char *scratch, long chunk, long chunks) {
  const long from = $size * chunk / chunks, upto = $size * (chunk + 1) / chunks;
  (void)shared; (void)scratch;
  shohin_q8_lookup($x + from, $table, $y + from, upto - from);
}
"""


def _emit(site: Site, printer: Printer, name: str) -> str:
    printer.helper(f"#ifndef SHOHIN_Q8_LOOKUP_BASE\n#define SHOHIN_Q8_LOOKUP_BASE\n#ifndef SHOHIN_Q8_TILE\n{detect(sets(site.machine))}#endif\n#endif\n{put(64)}{_LOOKUP}")
    x, table, y = (printer.pointer(b.name) for b in (*site.operands, *site.results))
    return fill(_STEP, name=name, size=f"{site.results[0].size}L", x=x, table=table, y=y)


def _claims(site: Site) -> Verdict:
    q, table = site.operands
    if widest(site.machine) < 64:
        return Declined("the target is not surely x86 with AVX-512")
    if not q.dtype == table.dtype == dtypes.int8:
        return Declined(f"{q.dtype.name} and {table.dtype.name}, it takes int8")
    return q.size >= LEAST or Declined(f"{q.size} elements, it takes {LEAST} or more")


LOOKUP = register(
    Kernel(
        name="lookup_int8",
        op="lookup",
        doc="64 at a time by shuffles",
        predicate=_claims,
        ports=(),
        phases=(Phase(emit=_emit, chunks=lambda site: max(1, even(min(4 * site.machine.threads, site.results[0].size >> 14), site.machine.threads))),),
        workspace=lambda site: 0,
        shared=lambda site: 0,
        order="sequence",
        flops=lambda site: 0.0,
    )
)
