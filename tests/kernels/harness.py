"""Compiles kernels by themselves: one C file for many sites, and an oracle in plain C loops.

The oracle states each op's order (design §5) once, with run-time sizes and scalar fma, and knows nothing of tiles.
"""

from __future__ import annotations

import ctypes
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import shohin.kernels  # noqa: F401 (registers them)
from shohin.compiler import ctext
from shohin.compiler.cprint import CPrinter
from shohin.compiler.ctext import Need
from shohin.compiler.kernel import Kernel, Machine, Site, claim
from shohin.core import dtypes, loop
from shohin.core.nest import Buffer, KernelCall, Port

FLAGS = "-shared -fPIC -nostdlib -fno-math-errno -fno-trapping-math -ffp-contract=off -Wall".split()
MACHINES = {
    "v4": Machine(level="v4", vector_bytes=64, features=frozenset(), threads=2),
    "v3": Machine(level="v3", vector_bytes=32, features=frozenset(), threads=2),
}


@dataclass
class Case:
    """One use of an op; ``port`` makes the epilogue from a function of (buffers' loads)."""

    op: str
    shapes: tuple[tuple[int, ...], ...]
    result: tuple[int, ...]
    attrs: Mapping[str, Any]
    port: loop.Expr | None = None
    extra: tuple[tuple[int, ...], ...] = ()
    machine: Machine = MACHINES["v4"]
    kernel: Kernel = field(init=False)
    site: Site = field(init=False)

    def __post_init__(self) -> None:
        names = [f"x{i}" for i in range(len(self.shapes))]
        operands = tuple(Buffer(n, s, dtypes.float32, "input") for n, s in zip(names, self.shapes))
        result = Buffer("y", self.result, dtypes.float32, "output")
        ports = () if self.port is None else (Port("epilogue", self.port),)
        call = KernelCall("", tuple(names), ("y",), self.attrs, ports, "test")
        self.site = Site(call=call, operands=operands, results=(result,), machine=self.machine)
        kernel = claim(self.op, self.site)
        assert kernel is not None, f"nothing claims {self.op} {self.shapes} {dict(self.attrs)}"
        self.kernel = kernel
        self.buffers = (
            *operands,
            result,
            *(Buffer(f"e{i}", s, dtypes.float32, "input") for i, s in enumerate(self.extra)),
        )

    def text(self, name: str, needs: dict[Need, None]) -> str:
        """C of all phases, ``<name>_<phase>``; adds to the helpers needed."""
        printer = CPrinter({x.name: x for x in self.buffers})
        printer.slots = {x.name: i for i, x in enumerate(self.buffers)}
        text = "\n".join(p.emit(self.site, printer, f"{name}_{i}") for i, p in enumerate(self.kernel.phases))
        needs.update(printer.needs)
        return text


def build(source: str, out: Path, mcpu: str) -> ctypes.CDLL:
    path = out.with_suffix(".c")
    path.write_text(source)
    cc = [sys.executable, "-m", "ziglang", "cc", f"-mcpu={mcpu}", "-fno-sanitize=undefined", "-O3", *FLAGS]
    subprocess.run([*cc, str(path), "-o", str(out)], check=True)
    return ctypes.CDLL(str(out))


MCPU = {"v4": "x86_64_v4", "v3": "x86_64_v3"}


class Compiled:
    """All cases in one library; ``prepare`` gives a run of one case on arrays."""

    def __init__(self, cases: Sequence[Case], out: Path, mcpu: str) -> None:
        self.cases = list(cases)
        self.library = build(self.text(self.cases), out, mcpu)

    @staticmethod
    def text(cases: Sequence[Case]) -> str:
        """``run<case>_<phase>`` is one piece, ``all<case>`` all phases in order."""
        parts: list[str] = []
        needs: dict[Need, None] = {}
        for i, case in enumerate(cases):
            parts.append(case.text(f"k{i}", needs))
            steps = ""
            for j, phase in enumerate(case.kernel.phases):
                parts.append(
                    f"void run{i}_{j}(void *const *b, char *sh, char *sc, long c, long n) "
                    f"{{ k{i}_{j}(b, sh, sc, c, n); }}"
                )
                n = phase.chunks(case.site)
                steps += f" for (long c = 0; c < {n}; c++) k{i}_{j}(b, sh, sc, c, {n});"
            parts.append(f"void all{i}(void *const *b, char *sh, char *sc) {{{steps} }}")
        return "\n".join([ctext.HEADER + ctext.render(needs), *parts, ""])

    def prepare(
        self,
        i: int,
        arrays: Sequence[np.ndarray],
        result: np.ndarray,
        order: Callable[[int], Sequence[int]] | None = None,
    ) -> Callable[[], None]:
        case = self.cases[i]
        everything = [*arrays[: len(case.shapes)], result, *arrays[len(case.shapes) :]]
        b = (ctypes.c_void_p * len(everything))(*[a.ctypes.data for a in everything])
        shared, scratch = (
            aligned([n // 4 + 1], np.nan) for n in (case.kernel.shared(case.site), case.kernel.workspace(case.site))
        )
        steps = []
        for j, phase in enumerate(case.kernel.phases):
            f = getattr(self.library, f"run{i}_{j}")
            f.argtypes = [ctypes.c_void_p] * 3 + [ctypes.c_long] * 2
            n = phase.chunks(case.site)
            steps += [(f, c, n) for c in order(n)] if order else []
        whole = getattr(self.library, f"all{i}")
        whole.argtypes = [ctypes.c_void_p] * 3

        def run() -> None:
            if order is None:
                whole(b, shared.ctypes.data, scratch.ctypes.data)
            for f, c, n in steps:
                f(b, shared.ctypes.data, scratch.ctypes.data, c, n)

        run.keep = (b, shared, scratch, everything)  # type: ignore[attr-defined]
        return run


ORACLE = r"""
typedef struct { long n, h, w, c, p, q, o, kh, kw, g, sh, sw, pt, pl, dh, dw; } D;  // x (n h w c), y (n p q o)
void oracle_conv2d(const D *d, const float *x, const float *w, float *y) {
  const long I = d->c / d->g, O = d->o / d->g;
  for (long n = 0; n < d->n; n++) for (long p = 0; p < d->p; p++) for (long q = 0; q < d->q; q++)
  for (long o = 0; o < d->o; o++) {
    float acc = 0;
    for (long a = 0; a < d->kh; a++) for (long b = 0; b < d->kw; b++) {
      const long r = p * d->sh + a * d->dh - d->pt, s = q * d->sw + b * d->dw - d->pl;
      if (r < 0 || r >= d->h || s < 0 || s >= d->w) continue;
      for (long i = 0; i < I; i++)
        acc = __builtin_fmaf(x[((n * d->h + r) * d->w + s) * d->c + o / O * I + i],
                             w[((o * d->kh + a) * d->kw + b) * I + i], acc);
    }
    y[((n * d->p + p) * d->q + q) * d->o + o] = acc;
  }
}
void oracle_conv2d_dx(const D *d, const float *g, const float *w, float *x) {
  const long I = d->c / d->g, O = d->o / d->g;
  for (long n = 0; n < d->n; n++) for (long r = 0; r < d->h; r++) for (long s = 0; s < d->w; s++)
  for (long c = 0; c < d->c; c++) {
    float acc = 0;
    for (long a = 0; a < d->kh; a++) for (long b = 0; b < d->kw; b++) {
      const long p = r + d->pt - a * d->dh, q = s + d->pl - b * d->dw;
      if (p < 0 || q < 0 || p % d->sh || q % d->sw || p / d->sh >= d->p || q / d->sw >= d->q) continue;
      for (long o = 0; o < O; o++) {
        const long k = c / I * O + o;
        acc = __builtin_fmaf(g[((n * d->p + p / d->sh) * d->q + q / d->sw) * d->o + k],
                             w[((k * d->kh + a) * d->kw + b) * I + c % I], acc);
      }
    }
    x[((n * d->h + r) * d->w + s) * d->c + c] = acc;
  }
}
void oracle_conv2d_dw(const D *d, const float *x, const float *g, float *w) {
  const long I = d->c / d->g, O = d->o / d->g, rows = d->n * d->p * d->q, size = (rows + 7) / 8;
  for (long o = 0; o < d->o; o++) for (long a = 0; a < d->kh; a++) for (long b = 0; b < d->kw; b++)
  for (long i = 0; i < I; i++) {
    float all = 0;
    for (long c = 0; c < 8; c++) {
      float chunk = 0;
      for (long first = c * size; first < (c + 1) * size && first < rows; first += 32) {
        float block = 0;
        for (long row = first; row < first + 32 && row < (c + 1) * size && row < rows; row++) {
          const long n = row / (d->p * d->q), p = row / d->q % d->p, q = row % d->q;
          const long r = p * d->sh + a * d->dh - d->pt, s = q * d->sw + b * d->dw - d->pl;
          if (r < 0 || r >= d->h || s < 0 || s >= d->w) continue;
          block = __builtin_fmaf(x[((n * d->h + r) * d->w + s) * d->c + o / O * I + i], g[row * d->o + o], block);
        }
        chunk += block;
      }
      all += chunk;
    }
    w[((o * d->kh + a) * d->kw + b) * I + i] = all;
  }
}
void oracle_matmul(long m, long n, long k, long am, long ak, long bk, long bn,
                   const float *a, const float *b, float *y) {
  for (long i = 0; i < m; i++) for (long j = 0; j < n; j++) {
    float acc = 0;
    for (long t = 0; t < k; t++) acc = __builtin_fmaf(a[i * am + t * ak], b[t * bk + j * bn], acc);
    y[i * n + j] = acc;
  }
}
"""


def aligned(shape: Sequence[int], values: Any = 0.0) -> np.ndarray:
    """A float32 array at a multiple of 64 bytes, as in an arena."""
    raw = np.empty(int(np.prod(shape)) + 16, np.float32)
    array = raw[(-raw.ctypes.data) % 64 // 4 :][: int(np.prod(shape))].reshape(shape)
    array[...] = values
    return array


def seconds(run: Callable[[], None], at_least: float = 0.05) -> float:
    """Best time of one run, over ``at_least`` seconds."""
    run()
    best, start = float("inf"), time.perf_counter()
    while time.perf_counter() - start < at_least:
        t = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - t)
    return best


def conv_case(
    op: str,
    n: int,
    h: int,
    w: int,
    c: int,
    o: int,
    kernel: tuple[int, int],
    stride: tuple[int, int] = (1, 1),
    padding: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0)),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
    **more: Any,
) -> Case:
    """A case of conv2d, conv2d_dx or conv2d_dw on input (n, h, w, c)."""
    (kh, kw), (p, q) = (
        kernel,
        (
            (d + sum(pad) - (k - 1) * e - 1) // s + 1
            for d, pad, k, e, s in zip((h, w), padding, kernel, dilation, stride)
        ),
    )
    x, y, weights = (n, h, w, c), (n, p, q, o), (o, kh, kw, c // groups)
    shapes, result = {"conv2d": ((x, weights), y), "conv2d_dx": ((y, weights), x), "conv2d_dw": ((x, y), weights)}[op]
    attrs = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return Case(op, shapes, result, attrs if op == "conv2d" else {**attrs, "shape": result}, **more)


def oracle(library: ctypes.CDLL, case: Case, arrays: Sequence[np.ndarray]) -> np.ndarray:
    """The result without ports."""
    y = np.full(case.result, np.nan, np.float32)
    at = [a.ctypes.data_as(ctypes.c_void_p) for a in (*arrays[:2], y)]
    if case.op == "matmul":
        ta, tb = case.attrs["transpose_a"], case.attrs["transpose_b"]
        sa, (m, n) = case.shapes[0], case.result[-2:]
        k = sa[-2] if ta else sa[-1]
        a, b = (
            np.ascontiguousarray(np.broadcast_to(v, (*case.result[:-2], *v.shape[-2:]))).reshape(-1, *v.shape[-2:])
            for v in arrays[:2]
        )
        out = y.reshape(-1, m, n)
        strides = (1, m) if ta else (k, 1), (1, k) if tb else (n, 1)
        for u, v, r in zip(a, b, out):
            library.oracle_matmul(
                *map(ctypes.c_long, (m, n, k, *strides[0], *strides[1])),
                *(ctypes.c_void_p(z.ctypes.data) for z in (u, v, r)),
            )
        return y
    shapes = (*case.shapes, case.result)
    x, w, o = {"conv2d": (0, 1, 2), "conv2d_dx": (2, 1, 0), "conv2d_dw": (0, 2, 1)}[case.op]
    (n, h, wd, c), (_, kh, kw, _), (_, p, q, k) = shapes[x], shapes[w], shapes[o]
    a = case.attrs
    d = (ctypes.c_long * 16)(
        n, h, wd, c, p, q, k, kh, kw, a["groups"], *a["stride"], a["padding"][0][0], a["padding"][1][0], *a["dilation"]
    )
    getattr(library, f"oracle_{case.op}")(d, *at)
    return y
