"""Every kernel's GFLOP/s on layers of ResNet-8 and DS-CNN and the FMA peak: ``python -m tests.kernels.speed v4``."""

from __future__ import annotations

import ctypes
import sys
import tempfile
from pathlib import Path

import numpy as np

from tests.kernels.harness import MACHINES, Case, Compiled, aligned, build, conv_case, seconds

OPS = ("conv2d", "conv2d_dx", "conv2d_dw")
PEAK = """
typedef float V __attribute__((vector_size(%d)));
__attribute__((min_vector_width(512))) void peak(const float *p, float *out, long n) {
  V m = *(V *)p, c = *(V *)(p + 16), x0 = m, x1 = m, x2 = m, x3 = m, x4 = m, x5 = m, x6 = m, x7 = m, x8 = m, x9 = m;
  for (long i = 0; i < n; i++) {
    __asm__ volatile("" : "+x"(m));
#define F(x) x = __builtin_elementwise_fma(x, m, c);
    F(x0) F(x1) F(x2) F(x3) F(x4) F(x5) F(x6) F(x7) F(x8) F(x9)
  }
  *(V *)out = x0 + x1 + x2 + x3 + x4 + x5 + x6 + x7 + x8 + x9;
}
"""


def same(k: int) -> tuple[tuple[int, int], tuple[int, int]]:
    return ((k // 2, k // 2), (k // 2, k // 2))


def layers(level: str) -> list[tuple[str, Case]]:
    m = MACHINES[level]
    made = []
    for name, size, c, o, k, s, pad, g in [
        ("3x3 1->16 28", 28, 1, 16, (3, 3), 1, same(3), 1),
        ("3x3 16->16 28", 28, 16, 16, (3, 3), 1, same(3), 1),
        ("3x3 16->32 28 s2", 28, 16, 32, (3, 3), 2, same(3), 1),
        ("3x3 32->32 14", 14, 32, 32, (3, 3), 1, same(3), 1),
        ("3x3 32->64 14 s2", 14, 32, 64, (3, 3), 2, same(3), 1),
        ("3x3 64->64 7", 7, 64, 64, (3, 3), 1, same(3), 1),
        ("1x1 16->32 28 s2", 28, 16, 32, (1, 1), 2, same(1), 1),
        ("1x1 64->64 14", 14, 64, 64, (1, 1), 1, same(1), 1),
        ("10x4 1->64 49x10 s2", 0, 1, 64, (10, 4), 2, ((4, 5), (1, 2)), 1),
        ("3x3 3->32 28 s2", 28, 3, 32, (3, 3), 2, same(3), 1),
        ("dw3x3 64 14", 14, 64, 64, (3, 3), 1, same(3), 64),
        ("dw3x3 64 14 s2", 14, 64, 64, (3, 3), 2, same(3), 64),
    ]:
        for op in OPS:
            h, w = (size, size) if size else (49, 10)
            made.append((f"{op:9} {name}", conv_case(op, 64, h, w, c, o, k, (s, s), pad, groups=g, machine=m)))
    for n in (512,):
        for ta, tb in ((False, False), (True, False), (False, True)):
            made.append(
                (
                    f"matmul    {n} {ta:d}{tb:d}",
                    Case("matmul", ((n, n), (n, n)), (n, n), {"transpose_a": ta, "transpose_b": tb}, machine=m),
                )
            )
    return made


def peak(level: str, folder: Path) -> float:
    """GFLOP/s of fma alone, one thread."""
    library = build(PEAK % MACHINES[level].vector_bytes, folder / f"peak{level}.so", "native")
    data, out, n = aligned([64], 0.5), aligned([16]), 300_000
    at = [ctypes.c_void_p(x.ctypes.data) for x in (data, out)]
    return n * 10 * MACHINES[level].vector_bytes / 2 / seconds(lambda: library.peak(*at, ctypes.c_long(n)), 0.2) / 1e9


def main(levels: list[str], only: str = "") -> None:
    folder, rng = Path(tempfile.mkdtemp()), np.random.default_rng(0)
    for level in levels:
        top = peak(level, folder)
        named = [(k, c) for k, c in layers(level) if only in k]
        compiled = Compiled(
            [c for _, c in named], folder / f"speed{level}.so", {"v4": "native", "v3": "x86_64_v3"}[level]
        )
        print(f"{level}: FMA peak {top:.0f} GFLOP/s")
        for i, (name, case) in enumerate(named):
            arrays = [aligned(s, rng.standard_normal(s)) for s in case.shapes]
            t = seconds(compiled.prepare(i, arrays, aligned(case.result)))
            speed = case.kernel.flops(case.site) / t / 1e9  # taps inside the image only
            print(f"{name:32} {case.kernel.name:26} {t * 1e6:9.1f} us {speed:7.1f} GFLOP/s {speed / top:5.0%}")


if __name__ == "__main__":
    main([a for a in sys.argv[1:] if a in MACHINES] or ["v4"], " ".join(a for a in sys.argv[1:] if a not in MACHINES))
