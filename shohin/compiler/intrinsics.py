"""C templates of the intrinsics that the ops declare (``core.loop.INTRINSICS`` has their meaning)."""

from shohin.compiler.scope import INTRINSICS, CIntrinsic

_PHILOX = """\
static inline void shohin_philox(uint32_t *c, uint32_t k0, uint32_t k1) {
  for (int r = 0; r < 10; r++) {
    const uint64_t a = (uint64_t)0xD2511F53u * c[0], b = (uint64_t)0xCD9E8D57u * c[2];
    const uint32_t x0 = (uint32_t)(b >> 32) ^ c[1] ^ k0, x2 = (uint32_t)(a >> 32) ^ c[3] ^ k1;
    c[1] = (uint32_t)b; c[3] = (uint32_t)a; c[0] = x0; c[2] = x2;
    k0 += 0x9E3779B9u; k1 += 0xBB67AE85u;
  }
}
static inline uint32_t shohin_philox_word(uint32_t k0, uint32_t k1, uint32_t lo, uint32_t hi, uint32_t i) {
  const uint64_t block = ((uint64_t)hi << 32 | lo) + i / 4;
  uint32_t c[4] = {(uint32_t)block, (uint32_t)(block >> 32), 0, 0};
  shohin_philox(c, k0, k1);
  return c[i % 4];
}
static inline uint32_t shohin_philox_fold(uint32_t k0, uint32_t k1, uint32_t data, uint32_t word) {
  uint32_t c[4] = {data, 0, 0, 0x464F4C44u};
  shohin_philox(c, k0, k1);
  return c[word];
}
"""
INTRINSICS["philox_word"] = CIntrinsic(scalar="shohin_philox_word({0}, {1}, {2}, {3}, {4})", helper=_PHILOX)
INTRINSICS["philox_fold"] = CIntrinsic(scalar="shohin_philox_fold({0}, {1}, {2}, {3})", helper=_PHILOX)
