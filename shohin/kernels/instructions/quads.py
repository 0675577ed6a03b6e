"""Four terms a lane on x86: vectors of ``bytes`` bytes in which a lane of 32 bits holds four unsigned bytes, or four weights, of one channel.

A sum of 16, 8 or 4 channels takes four terms by one ``vpdpbusd``; where no set has it, by two ``vpmaddwd`` on the bytes' even and
odd halves, which is exact (``vpmaddubsw`` would saturate). Operands are q + 128, so that they are unsigned; 128 sum(w) is taken off
the bias when constants are packed.

Sums are closed in the registers: float32(acc) * m, at most 2^30, rounded to even; then z is added and the result clipped as
int16 and int8, which saturate. This equals rounding after the clip, since the clip's ends are integers.
"""

from __future__ import annotations

from dataclasses import dataclass

from shohin.compiler.kernel import Machine
from shohin.kernels.instructions import avx2, avx512_vnni, avx_vnni
from shohin.kernels.instructions.record import Instruction

SETS: dict[int, tuple[Instruction, ...]] = {64: (avx512_vnni.DOT4,), 32: (avx512_vnni.DOT4_256, avx_vnni.DOT4), 16: (avx512_vnni.DOT4_128,)}
"""The instructions for a vector of so many bytes, those to prefer first."""


def widest(machine: Machine) -> int:
    """Bytes of the widest vectors that C for ``machine`` may name instructions of; 0 where that is not x86 for sure."""
    return {"v4": 64, "v3": 32}.get(machine.level, 0)


@dataclass(frozen=True)
class Quads:
    """Names of the C for vectors of ``bytes`` bytes; ``code`` is the text of the functions. With two ``terms`` a lane holds int16, and
    weights are widened as they are loaded: ``vpmaddwd``, for processors that have no more."""

    bytes: int
    terms: int = 4

    @property
    def element(self) -> int:
        """Bytes of a term of an operand."""
        return 4 // self.terms

    @property
    def packed(self) -> int:
        """Bytes of the weights of a vector."""
        return self.lanes * self.terms

    @property
    def lanes(self) -> int:
        return self.bytes // 4

    @property
    def type(self) -> str:
        return f"__m{8 * self.bytes}i"

    @property
    def mm(self) -> str:
        return f"_mm{8 * self.bytes}" if self.bytes > 16 else "_mm"

    @property
    def whole(self) -> str:
        return "si512" if self.bytes == 64 else f"si{8 * self.bytes}"

    def load(self, at: str) -> str:
        return f"{self.mm}_loadu_{self.whole}((const void *)({at}))"

    def splat(self, at: str) -> str:
        """The four bytes at ``at`` in every lane."""
        return f"{self.mm}_set1_epi32(shohin_q8_four({at}))"

    def weights(self, at: str) -> str:
        return self.load(at) if self.terms == 4 else avx2.WIDEN.c(f"_mm_loadu_si128((const __m128i *)({at}))")

    def dot(self, acc: str, x: str, w: str) -> str:
        return f"shohin_q8_quad{self.bytes}({acc}, {x}, {w})" if self.terms == 4 else f"{self.mm}_add_epi32({acc}, {avx2.MADD.c(x, w)})"

    def close(self, vectors: int, sums: list[str], m: str) -> str:
        """int8 of 4, 2 or 1 vectors of sums, by the layer ``l``."""
        return f"shohin_q8_close{self.bytes}x{vectors}(l, {', '.join(sums)}, {m})"

    def store(self, at: str, value: str, vectors: int) -> str:
        """Store the first ``n`` bytes of what ``close`` gave."""
        return f"shohin_q8_put{self.lanes * vectors}({at}, {value}, n);"

    def spill(self, sums: list[str], to: str) -> str:
        """Store the first ``n`` sums as they are, by way of the array ``sums``."""
        stores = " ".join(f"{self.mm}_storeu_{self.whole}((void *)(sums + {self.lanes * v}), {c});" for v, c in enumerate(sums))
        return f"{stores} shohin_q8_spill(sums, {len(sums)}, {self.lanes}, {to}, n);"

    @property
    def code(self) -> str:
        return _code(self, (4,) if self.bytes == 16 else (4, 2, 1))


def order(vectors: int, lanes: int) -> list[int]:
    """The channel of each lane of ``vectors`` vectors, so that narrowing leaves them in order: packing works on 128 bits apart.

    >>> order(2, 8)
    [0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 12, 13, 14, 15]
    """
    return [4 * vectors * (lane // 4) + 4 * v + lane % 4 for v in range(vectors) for lane in range(lanes)]


BASE = """\
#ifndef SHOHIN_Q8_FOUR
#define SHOHIN_Q8_FOUR
static inline int32_t shohin_q8_four(const uint8_t *at) {
  int32_t four;
  memcpy(&four, at, 4);
  return four;
}
/* Sums as they are: back into the channels' order. */
static void shohin_q8_spill(const int32_t *sums, long vectors, long lanes, int32_t *y, long n) {
  for (long c = 0; c < n && c < vectors * lanes; c++) y[c] = sums[c / 4 % vectors * lanes + c / (4 * vectors) * 4 + c % 4];
}
#endif
"""


def put(size: int) -> str:
    """C of ``shohin_q8_put<size>(y, value, n)``: the first ``n`` bytes of a vector, or ``size`` of them."""
    bits = max(16, size)
    v, mm = f"__m{8 * bits}i", f"_mm{8 * bits}" if bits > 16 else "_mm"
    whole = {64: "_mm512_storeu_si512", 32: "_mm256_storeu_si256", 16: "_mm_storeu_si128", 8: "_mm_storel_epi64"}[size]
    ones = {64: "~0ull : (1ull << n) - 1", 32: "~0u : (1u << n) - 1", 16: "0xffffu : (1u << n) - 1", 8: "0xffu : (1u << n) - 1"}[size]
    return f"""\
#ifndef SHOHIN_Q8_PUT{size}
#define SHOHIN_Q8_PUT{size}
static inline __attribute__((always_inline)) void shohin_q8_put{size}(int8_t *y, {v} value, long n) {{
#if defined(__AVX512BW__) && defined(__AVX512VL__)
  {mm}_mask_storeu_epi8(y, (__mmask{bits})(n >= {size} ? {ones}), value);
#else
  if (n >= {size}) {whole}((void *)y, value);
  else memcpy(y, &value, (size_t)n);
#endif
}}
#endif
"""


def _code(q: Quads, closes: tuple[int, ...]) -> str:
    v, mm, size = q.type, q.mm, q.bytes
    parts, word = [], "#if"
    for i in SETS[size]:
        parts.append(f"{word} {i.guard}\n  return {i.c('acc', 'x', 'w')};\n")
        word = "#elif"
    even = f"{mm}_and_si512(x, low)" if size == 64 else f"{mm}_and_si{8 * size}(x, low)"
    text = f"""\
#ifndef SHOHIN_Q8_QUAD{size}
#define SHOHIN_Q8_QUAD{size}
/* acc plus, in each lane, four products of unsigned by signed bytes. */
static inline __attribute__((always_inline)) {v} shohin_q8_quad{size}({v} acc, {v} x, {v} w) {{
{"".join(parts)}#else
  const {v} low = {mm}_set1_epi16(255);
  const {v} even = {mm}_madd_epi16({even}, {mm}_srai_epi16({mm}_slli_epi16(w, 8), 8));
  const {v} odd = {mm}_madd_epi16({mm}_srli_epi16(x, 8), {mm}_srai_epi16(w, 8));
  return {mm}_add_epi32(acc, {mm}_add_epi32(even, odd));
#endif
}}
static inline __attribute__((always_inline)) {v} shohin_q8_round{size}({v} acc, const float *m) {{
  return {mm}_cvtps_epi32({mm}_min_ps({mm}_mul_ps({mm}_cvtepi32_ps(acc), {mm}_loadu_ps(m)), {mm}_set1_ps(0x1p30f)));
}}
static inline __attribute__((always_inline)) {v} shohin_q8_half{size}(const struct shohin_q8_layer *l, {v} a, {v} b, const float *m, const float *k) {{
  const {v} s = {mm}_packs_epi32(shohin_q8_round{size}(a, m), shohin_q8_round{size}(b, k));
  return {mm}_adds_epi16(s, {mm}_set1_epi16((short)l->z));
}}
"""
    for n in closes:
        sums = ", ".join(f"{v} {c}" for c in "abcd"[:n])
        wide = max(16, size * n // 4)
        out, om = f"__m{8 * wide}i", f"_mm{8 * wide}" if wide > 16 else "_mm"
        half = f"shohin_q8_half{size}(l, a, {f'b, m, m + {q.lanes}' if n > 1 else 'a, m, m'})"
        if n == 4:
            body = f"{mm}_packs_epi16({half}, shohin_q8_half{size}(l, c, d, m + {2 * q.lanes}, m + {3 * q.lanes}))"
        elif size == 32:  # each half of the vector has its bytes twice
            order = "_mm256_setr_epi32(0, 1, 4, 5, 0, 1, 4, 5)" if n == 2 else "_mm256_setr_epi32(0, 4, 0, 4, 0, 4, 0, 4)"
            body = f"_mm256_castsi256_si128(_mm256_permutevar8x32_epi32(_mm256_packs_epi16({half}, _mm256_setzero_si256()), {order}))"
        elif n == 2:
            body = f"{mm}_cvtsepi16_epi8({half})"
        else:
            body = "_mm256_cvtsepi16_epi8(_mm256_adds_epi16(_mm512_cvtsepi32_epi16(shohin_q8_round64(a, m)), _mm256_set1_epi16((short)l->z)))"
        text += f"""\
static inline __attribute__((always_inline)) {out} shohin_q8_close{size}x{n}(const struct shohin_q8_layer *l, {sums}, const float *m) {{
  return {om}_max_epi8({om}_min_epi8({body}, {om}_set1_epi8((char)l->hi)), {om}_set1_epi8((char)l->lo));
}}
"""
    return BASE + text + "#endif\n" + "".join(put(size * n // 4) for n in closes)
