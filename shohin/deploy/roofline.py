"""The host's roof, measured: what arithmetic alone and memory alone reach on this many threads."""

from __future__ import annotations

import ctypes
import functools
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from shohin.compiler.build import build, resolved

SIZES = tuple(1 << k for k in range(15, 29))
"""Bytes of the working sets at which memory is measured, all threads together."""
TURNS, MOST_ROUNDS = 2_000_000, 40

SOURCE = """
typedef float V __attribute__((vector_size(%(bytes)d), aligned(4)));
typedef float W __attribute__((vector_size(%(bytes)d)));

/* n times 12 independent fused multiply-adds in registers */
void shohin_peak(const float *p, float *out, long n) {
  W m = *(const V *)p, c = *(const V *)(p + 16);
  W x0 = m, x1 = m, x2 = m, x3 = m, x4 = m, x5 = m, x6 = m, x7 = m, x8 = m, x9 = m, xa = m, xb = m;
  for (long i = 0; i < n; i++) {
    __asm__ volatile("" : "+x"(m));  /* or the loop would be one multiplication */
#define F(x) x = __builtin_elementwise_fma(x, m, c);
    F(x0) F(x1) F(x2) F(x3) F(x4) F(x5) F(x6) F(x7) F(x8) F(x9) F(xa) F(xb)
  }
  *(V *)out = x0 + x1 + x2 + x3 + x4 + x5 + x6 + x7 + x8 + x9 + xa + xb;
}

/* n times 12 independent exact int8 dot products of 4 in registers: VNNI, else two instructions on AVX2 */
long shohin_peak_int8(long n) {
#if defined(__AVX512VNNI__)
  for (long i = 0; i < n; i++)
#define D(k) "vpdpbusd %%%%zmm30, %%%%zmm31, %%%%zmm" #k "\\n"
    __asm__ volatile(D(0) D(1) D(2) D(3) D(4) D(5) D(6) D(7) D(8) D(9) D(10) D(11)
      ::: "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11");
  return 12L * 64 * 2;
#elif defined(__AVX2__)
  for (long i = 0; i < n; i++)
#define D(k, t) "vpmaddwd %%%%ymm14, %%%%ymm15, %%%%ymm" #t "\\n vpaddd %%%%ymm" #t ", %%%%ymm" #k ", %%%%ymm" #k "\\n"
    __asm__ volatile(D(0, 8) D(1, 9) D(2, 10) D(3, 11) D(4, 12) D(5, 13)
      ::: "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13");
  return 6L * 16 * 2;
#else
  return 0;
#endif
}

/* y = a x + b over n floats, n a multiple of 64, `times` times */
void shohin_stream(const float *restrict x, float *restrict y, long n, long times) {
  for (long t = 0; t < times; t++) {
    __asm__ volatile("" : : "r"(x), "r"(y) : "memory");
    for (long i = 0; i < n; i += %(lanes)d) *(V *)(y + i) = *(const V *)(x + i) * 1.5f + 0.25f;
  }
}
"""
WIDTH = {"v4": 64, "v3": 32}


@dataclass(frozen=True)
class Roof:
    """``flops``: float32 operations a second, an fma is two; ``int8``: the same of exact int8 products (0: not known here).
    ``bandwidth``: bytes a second, read and written alike, by the size of the working set. ``threads`` together."""

    flops: float
    int8: float
    bandwidth: tuple[tuple[int, float], ...]
    threads: int

    def bytes_per_second(self, size: float) -> float:
        """The bandwidth of the smallest measured working set that holds ``size`` bytes."""
        return next((rate for limit, rate in self.bandwidth if size <= limit), self.bandwidth[-1][1])

    def seconds(self, flop: float, moved: float, *, int8: bool = False) -> float:
        """The least time that this work can take: arithmetic or memory, whichever binds.

        >>> Roof(1e9, 4e9, ((1 << 20, 1e9),), 1).seconds(flop=2e6, moved=1e6)
        0.002
        """
        return max(flop / (self.int8 if int8 and self.int8 else self.flops), moved / self.bytes_per_second(moved))


class Loops:
    """Loops that do nothing else, on ``threads`` threads; each call runs one for some milliseconds and gives its rate by
    ``clock``."""

    def __init__(self, threads: int, clock: Callable[[], float] = time.perf_counter) -> None:
        self.threads, self._clock = threads, clock
        self._width = WIDTH.get(resolved("native"), 16)
        self._library = ctypes.CDLL(str(build(SOURCE % {"bytes": self._width, "lanes": self._width // 4})))
        self._library.shohin_peak_int8.restype = ctypes.c_long
        self._workers = ThreadPoolExecutor(threads)
        self._floats = [np.full(64, 0.5, np.float32) for _ in range(threads)]

    def flops(self) -> float:
        """Float32 operations a second in registers."""
        job = lambda k: self._library.shohin_peak(_at(self._floats[k][:32]), _at(self._floats[k][32:]), ctypes.c_long(TURNS))
        return self.threads * TURNS * 12 * (self._width // 4) * 2 / self._seconds(job)

    def int8(self) -> float:
        """Exact int8 operations a second in registers: ``vpdpbusd``, or ``vpmaddwd`` on AVX2; 0 elsewhere."""
        each = int(self._library.shohin_peak_int8(ctypes.c_long(1)))
        return self.threads * TURNS * each / self._seconds(lambda k: self._library.shohin_peak_int8(ctypes.c_long(TURNS))) if each else 0.0

    def stream(self, size: int) -> Callable[[], float]:
        """Bytes a second of reading one array and writing another, ``size`` bytes together."""
        each = size // self.threads // 8 // 64 * 64
        x, y = (np.ones((self.threads, each), np.float32) for _ in range(2))
        times = max(1, (1 << 28) // size)
        job = lambda k: self._library.shohin_stream(_at(x[k]), _at(y[k]), ctypes.c_long(each), ctypes.c_long(times))
        return lambda: self.threads * each * 8 * times / self._seconds(job)

    def _seconds(self, job: Callable[[int], object]) -> float:
        start = self._clock()
        if self.threads == 1:
            job(0)
        else:
            list(self._workers.map(job, range(self.threads)))
        return self._clock() - start


@functools.cache
def roof(threads: int = 1, clock: Callable[[], float] = time.perf_counter) -> Roof:
    """Measured once in a process for each number of threads; some seconds.

    Raises ``ValueError`` for fewer threads than one.
    """
    if threads < 1:
        raise ValueError(f"roof: threads is {threads}, expected at least 1")
    loops = Loops(threads, clock)
    bandwidth = tuple((size, _best(loops.stream(size))) for size in SIZES)
    return Roof(_best(loops.flops), _best(loops.int8), bandwidth, threads)


def _at(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def _best(rate: Callable[[], float]) -> float:
    """The highest rate, when eight more rounds have not bettered it by 2 %: a roof is what was reached once."""
    best, since = 0.0, 0
    for _ in range(MOST_ROUNDS):
        found = rate()
        since = 0 if found > 1.02 * best else since + 1
        best = max(best, found)
        if since == 8:
            break
    return best


__all__ = ["Loops", "Roof", "roof"]
