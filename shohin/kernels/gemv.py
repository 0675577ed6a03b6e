"""A few rows by a matrix that lies as (n, k), in float32: linear layers and 1x1 convolutions of one position.

Packing such a matrix would take three times the memory traffic of reading it. A square of ``width`` rows by ``width`` terms is
turned in registers instead, and each of its columns is one term of ``width`` results. K is one sequence, as in ``gemm``.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from shohin.compiler.kernel import Declined, Kernel, Phase, PortSpec, Printer, Site, Verdict, register
from shohin.kernels.common import HEAD, PREAMBLE, Lanes, declare_widths, even, fill, is_float32, square, store_row
from shohin.kernels.gemm import is_pointwise
from shohin.kernels.tile import tile_shape

MOST = 4
"""Rows up to which the matrix is read as it lies; from then on packing it is cheaper than turning it for each."""
_PIECE = 32 << 10
Axes = Callable[[Site], tuple[str, list[tuple[str, int]]]]
"""The result's axis of lanes, and those of its rows."""


def _sizes(site: Site) -> tuple[int, int, int]:
    """(m, n, k)."""
    a, b = site.operands[0].shape, site.operands[1].shape
    return prod(a[:-1]), b[0], a[-1]


def _pieces(site: Site) -> int:
    _, n, k = _sizes(site)
    return even(max(1, min(16, 4 * n * k // _PIECE, n // tile_shape(site.machine).width)), site.machine.threads)


def _emit(axes: Axes, site: Site, printer: Printer, name: str) -> str:
    (m, n, k), width = _sizes(site), tile_shape(site.machine).width
    lanes, (lane, rows) = Lanes(width), axes(site)
    text, columns = square(lanes, lambda i: f"w + {i} * K + k")
    steps = [
        f"c{r} = {lanes.fma(lanes.splat(f'a[{r} * K + k + {i}]'), column, f'c{r}')};"
        for i, column in enumerate(columns)
        for r in range(m)
    ]
    merged = {"im": tuple(rows)} if len(rows) > 1 else None
    store = store_row(
        site, printer, width=width, count=n, lane=lane, first="first", stop="stop", tile="(tile + first - at)", out="(y + im * N)",
        names={"g": "0"} if merged else {rows[0][0]: "im", "g": "0"}, merged=merged,
    )  # fmt: skip
    return (
        PREAMBLE
        + declare_widths(n, width)
        + lanes.declare
        + fill(
            HEAD
            + """\
  enum { N = $n, K = $k, W = $width };
  const float *a = $a, *b_ = $b;
  float *y = $y, *tile = (float *)scratch;
  const long blocks = (N + W - 1) / W, lo = blocks * chunk / $pieces * W, hi = blocks * (chunk + 1) / $pieces * W;
  for (long first = lo; first < hi && first < N; first += W) {
    const long stop = first + W < N ? first + W : N, at = stop - W < 0 ? 0 : stop - W;  // the last vector overlaps
    const float *w = b_ + at * K;
    $start
    long k = 0;
    for (; k + W <= K; k += W) {
      $square
    }
    for (; k < K; k++) {
      $vector t = $zero;
      for (long i = 0; i < W; i++) t[i] = w[i * K + k];
      $rest
    }
    $rows
  }
}
""",
            name=name,
            n=n,
            k=k,
            width=width,
            pieces=_pieces(site),
            a=printer.pointer(site.operands[0].name),
            b=printer.pointer(site.operands[1].name),
            y=printer.pointer(site.results[0].name),
            vector=lanes.type,
            zero=lanes.zero,
            start="\n    ".join(f"{lanes.type} c{r} = {lanes.zero};" for r in range(m)),
            square="\n      ".join([*text, *steps]),
            rest="\n      ".join(f"c{r} = {lanes.fma(lanes.splat(f'a[{r} * K + k]'), 't', f'c{r}')};" for r in range(m)),
            rows="\n    ".join(
                f"{{ const long im = {r}; (void)im; {lanes.store('tile', f'c{r}')}\n{store} }}" for r in range(m)
            ),
        )
    )


def _kernel(name: str, op: str, axes: Axes, predicate: Callable[[Site], Verdict]) -> Kernel:
    def claims(site: Site) -> Verdict:
        fits = is_float32(site) and predicate(site)
        if not fits:
            return fits
        (m, n, k), width = _sizes(site), tile_shape(site.machine).width
        if m > MOST:
            return Declined(f"{m} rows, it takes up to {MOST}")
        return min(n, k) >= width or Declined(f"{n} columns of {k} terms, it takes {width} or more of both")

    return register(
        Kernel(
            name=name,
            op=op,
            doc="a few rows by a matrix as it lies, turned in registers",
            predicate=claims,
            ports=(PortSpec(name="epilogue", value="acc", times="once per element", in_place=True),),
            phases=(Phase(emit=lambda site, printer, name: _emit(axes, site, printer, name), chunks=_pieces),),
            workspace=lambda site: 4 * tile_shape(site.machine).width,
            shared=lambda site: 0,
            order="sequence",
            flops=lambda site: 2.0 * prod(_sizes(site)),
        )
    )


MATMUL = _kernel(
    "matmul_vector_f32",
    "matmul",
    lambda site: ("n", [("m", site.operands[0].shape[0])]),
    lambda site: (len(site.operands[0].shape) == len(site.operands[1].shape) == 2 and site.attrs["transpose_b"] and not site.attrs["transpose_a"])
    or Declined("it takes a as (m, k) and b as (n, k), without leading dims"),
)
POINTWISE = _kernel(
    "conv2d_vector_f32", "conv2d", lambda site: ("o", list(zip("nhw", site.operands[0].shape[:3], strict=True))), is_pointwise
)
