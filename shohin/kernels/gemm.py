"""Matrix products in float32: ``... m k, ... k n -> ... m n`` with either operand transposed, and 1x1 convolutions.

A convolution of one tap, stride 1 and no padding is a product of the tensor as it lies (rows n h w). The right side
is packed into panels of one tile's channels where it does not already lie so that vectors can be read from it; the left side is read where it lies, one broadcast a row. K is one sequence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import gcd, prod

from shohin.compiler.kernel import Declined, Kernel, Phase, PortSpec, Printer, Site, Verdict, register
from shohin.kernels.common import (
    BLOCK,
    CHUNKS,
    LOAD,
    PREAMBLE,
    STATISTIC,
    ceil_div,
    family,
    fill,
    is_float32,
    shares,
    transpose_function,
)
from shohin.kernels.numbered import Entries, Numbered, entries_of
from shohin.kernels.panels import Panels
from shohin.kernels.tile import (
    CALL,
    TILES,
    Panel,
    TileShape,
    closing,
    far,
    panel_table,
    side_function,
    tile_shape,
    tiles,
)

_L1, _L2 = 32 << 10, 512 << 10


@dataclass(frozen=True)
class Product:
    """``batch`` products of (m, k) by (k, n). Strides in elements: ``a`` (m, k), ``b`` (k, n); the batch axes are
    ``(name, extent, stride in a, stride in b)``, outermost first. ``axes``: what row m means to a port. ``ready``: ``b`` comes
    in panels, or (``entries``) as numbers of entries of a codebook."""

    m: int
    n: int
    k: int
    a: tuple[int, int]
    b: tuple[int, int]
    batch: tuple[tuple[str, int, int, int], ...]
    axes: tuple[tuple[str, int], ...]
    lane: str
    shape: TileShape
    staged: bool
    folded: bool
    threads: int
    ready: bool
    entries: Entries | None

    @property
    def form(self) -> Panels | Numbered:
        """How a constant ``b`` is stored."""
        return self.layout if self.entries is None else Numbered(self.layout, self.entries)

    @property
    def count(self) -> int:
        return prod(e for _, e, _, _ in self.batch)

    @property
    def layout(self) -> Panels:
        count = prod(e for _, e, _, sb in self.batch if sb)
        return Panels(groups=count, channels=self.n, terms=(1, self.k), strides=(self.k * self.n, self.b[1], 0, self.b[0]))

    @property
    def panels(self) -> list[Panel]:
        if self.packs and not self.near:
            return self.layout.reads(self.shape)
        made, width = self.shape.whole_panels(self.n), self.shape.width
        if self.near:
            return [replace(p, ldb=p.vectors * width, lastb=(p.vectors - 1) * width) for p in made]
        return [replace(p, base=p.first, ldb=self.n, lastb=p.stop - width - p.first) for p in made]

    @property
    def packs(self) -> bool:
        """Whether ``b`` is copied: it is transposed, or has a long stride that would thrash L1."""
        if self.b[1] != 1 or self.ready:
            return True
        return self.k * self.shape.panel * 4 > _L1 and self.m > 4 * self.shape.rows and self.n > self.shape.panel

    @property
    def near(self) -> bool:
        """Whether a panel of ``b`` is packed by the piece that needs it, just before: one piece has all rows, and they stay in
        cache while the panels pass."""
        plain = self.packs and not self.ready and not self.batch and not self.folded and not self.staged
        return plain and 4 * self.m * self.k <= self.cache and (self.threads == 1 or self.n >= 2 * self.threads * self.shape.panel)

    @property
    def rows(self) -> int:
        return self.shape.split(ceil_div(self.m, CHUNKS) if self.folded else self.m)[0]

    @property
    def sides(self) -> bool:
        """Whether ``a`` is copied, side by side for each tile: its rows lie as columns, so far apart that each step is a page of
        its own, and there are panels enough to read it again."""
        return self.a[0] == 1 and self.a[1] >= 512 and self.n >= 4 * self.shape.panel

    @property
    def sizes(self) -> tuple[int, ...]:
        """Rows of the tiles: whole ones, and the last of a piece."""
        size = ceil_div(self.m, CHUNKS)
        ends = {min(size, max(0, self.m - c * size)) % self.rows for c in range(CHUNKS)} if self.folded else {self.m % self.rows}
        return tuple(sorted({self.rows, *ends} - {0}))

    @property
    def block(self) -> int:
        """Rows of ``a`` that stay in L2 while all panels pass, and of the result, whose rows are met once a panel."""
        if self.near:
            return ceil_div(self.m, self.rows) * self.rows
        most = min(self.cache // (4 * self.k * self.rows), 2 * self.cache // (4 * self.n * self.rows))
        return max(1, min(most, ceil_div(self.m, self.rows))) * self.rows

    @property
    def cache(self) -> int:
        """Bytes of ``a`` that L2 holds beside the rest: processors with AVX-512 have 1 MB of it or more."""
        return _L2 if self.shape.rows > 6 else _L2 // 2

    @property
    def pieces(self) -> tuple[int, int]:
        """Pieces of m (whole tiles) and of n (whole panels), of all batches. The larger operand is cut first, so that no two threads
        read all of it. The rows of a chunk of eight where sums are taken of them; all of n where rows are staged for it."""
        if self.folded:
            return CHUNKS, 1
        pieces = shares(2.0 * self.count * self.m * self.n * self.k, self.threads)
        want = ceil_div(pieces, self.count)
        if pieces > 1:  # as many for all threads
            step = self.threads // gcd(self.threads, self.count)
            want = ceil_div(want, step) * step
        rows, panels = ceil_div(self.m, self.rows), len(self.shape.whole_panels(self.n))
        if self.near:
            return 1, min(panels, want)
        if self.staged:
            return min(rows, want), 1
        if self.n > self.m:
            n = min(panels, want)
            return min(rows, ceil_div(want, n)), n
        m = min(rows, want)
        return m, min(panels, ceil_div(want, m))


def _matmul(site: Site) -> Product:
    (sa, sb), attrs = [b.shape for b in site.operands[:2]], site.attrs
    m, k = sa[-2:][::-1] if attrs["transpose_a"] else sa[-2:]
    n = sb[-2] if attrs["transpose_b"] else sb[-1]
    rank = max(len(sa), len(sb)) - 2
    batch = []
    for j in range(rank - 1, -1, -1):
        ea, eb = (s[-3 - j] if len(s) > 2 + j else 1 for s in (sa, sb))
        batch.append((f"_{j}", max(ea, eb), prod(sa[-2 - j :]) if ea > 1 else 0, prod(sb[-2 - j :]) if eb > 1 else 0))
    axes: tuple[tuple[str, int], ...] = (("m", m),)
    if not attrs["transpose_a"]:  # rows of batches that share b are rows of one product
        while batch and batch[-1][3] == 0 and batch[-1][2] == m * k:
            name, extent, _, _ = batch.pop()
            axes, m = ((name, extent), *axes), m * extent
    return Product(
        m,
        n,
        k,
        (1, m) if attrs["transpose_a"] else (k, 1),
        (1, k) if attrs["transpose_b"] else (n, 1),
        tuple(batch),
        axes,
        "n",
        tile_shape(site.machine, n),
        site.staged(0),
        site.folded,
        site.machine.threads,
        len(site.operands) > 2,
        entries_of(site),
    )


def _pointwise(transposed: bool) -> Callable[[Site], Product]:
    def describe(site: Site) -> Product:
        n, h, w, k = site.operands[0].shape
        channels = site.results[0].shape[-1]
        return Product(
            n * h * w,
            channels,
            k,
            (k, 1),
            (channels, 1) if transposed else (1, k),
            (),
            (("n", n), ("h", h), ("w", w)),
            "o",
            tile_shape(site.machine, channels),
            site.staged(0),
            site.folded,
            site.machine.threads,
            len(site.operands) > 2,
            entries_of(site),
        )

    return describe


# ------------------------------------------------------------------------------------------------------ phases


def _packing(q: Product) -> tuple[str, str]:
    """C that puts a panel of ``b`` from ``src`` to ``dst``, [k][``width``]: what it needs, and the statement. The last vector begins
    at channel ``last`` of the panel."""
    if q.b[1] != 1:
        pack = f"shohin_pack{q.shape.width}"
        return transpose_function(q.shape.width), (
            f"{pack}(src, $bn, dst, width, width - W, K); {pack}(src + last * $bn, $bn, dst + width - W, width, W, K);"
        )
    return "", (
        "for (long k = 0; k < K; k++) for (long j = 0; j < width; j++) "
        "dst[k * width + j] = src[k * $bk + (j < width - W ? j : last + j - (width - W))];"
    )


_TILED = "const long m0 = mtiles * (mine / $pn) / $pm * R, m1 = mtiles * (mine / $pn + 1) / $pm * R;"
_CHUNKED = f"""\
const long size = (M + {CHUNKS - 1}) / {CHUNKS}, m0 = mine * size < M ? mine * size : M, m1 = m0 + size;
  long done = m0;
  (void)mtiles;"""
_STATISTIC = f"""
    const long upto = end < bottom ? m0 + (end - m0) / {BLOCK} * {BLOCK} : end;
    statistic(b, shared, mine, done, upto);
    done = upto;"""


_NEAR = """\
const float *src = bs + first * $bn;
      float *dst = (float *)scratch;
      const long width = p->ldb;
      $statement
      T.b = dst;"""
_SIDES = """
    float *side = (float *)(scratch + $at);
    for (long m = mb; m < end; m += R) $copy(a + m, $stride, side + (m - mb) * K, end - m < R ? end - m : R, M - m, K);"""


def _panel(q: Product) -> int:
    """Bytes of scratch for the panel that is packed just before it is read."""
    return 4 * q.k * q.shape.panel if q.near else 0


def _load(q: Product) -> str:
    """C that puts a block's rows of ``a`` into scratch."""
    if q.staged:
        return "\n    load(b, (float *)scratch, mb, end);"
    copy = f"shohin_side{q.shape.width}x{q.shape.rows}"
    return fill(_SIDES, at="$side", copy=copy, stride="$ak") if q.sides else ""


def _multiply(product: Product, site: Site, printer: Printer, name: str) -> str:
    q, shape, form = product, product.shape, product.form
    rows, (pm, pn) = q.rows, q.pieces
    strides = (1, shape.rows) if q.sides else q.a
    names, offsets, left, packed = {"g": "0"}, {"a": ["0"], "b": ["0"]}, "$z", q.layout.size
    for axis, extent, sa, sb in reversed(q.batch):
        index = f"({left} % {extent})"
        left = f"({left} / {extent})"
        names[axis] = index.replace("$z", "i0")
        index = index.replace("$z", "z")
        offsets["a"].append(f"{index} * {sa}")
        if sb:
            offsets["b"].append(f"{index} * {packed if q.packs else sb}")
            packed *= extent
    row, merged = ({"m": "i1"}, None) if len(q.axes) == 1 else ({}, {"i1": q.axes})
    axes = (*((name, e) for name, e, _, _ in q.batch), *q.axes, (q.lane, q.n))
    close = closing(site, printer, shape.width, q.lane, {**names, **row}, axes, merged)
    run = replace(tiles(shape, (), q.panels, ("ue" if q.a[0] == 1 else "e") + far(q.k, q.n), close), sizes=q.sizes)
    return (
        PREAMBLE
        + run.declare
        + (side_function(shape) if q.sides else "")
        + (_packing(q)[0] if q.near else "")
        + (form.function(site) if isinstance(form, Numbered) else "")
        + printer.load(site.call.operands[0], f"{name}_load")
        + printer.statistic(f"{name}_statistic")
        + family(
            name,
            """\
  enum { W = $w, R = $rows };
  const long M = $m, N = $n, K = $k;
  const long z = chunk / $pieces, mine = chunk % $pieces;
  const float *a = left + $oa;
  $weights
  float *y = result + z * M * N;
  const long mtiles = (M + R - 1) / R;
  $rows_of
  const struct shohin_panel *const p0 = panels + $panels * (mine % $pn) / $pn, *const p1 = panels + $panels * (mine % $pn + 1) / $pn;
  const struct shohin_run one = {0, 0, K};
  struct shohin_tile T = {.runs = &one, .count = 1, .rs = $sm, .ks = $sk, .ldc = N, .i = {z, 0, 0, 0}, .step = {0, 1, 0}, .lines = 1, .skip = $skip};
  const long bottom = m1 < M ? m1 : M;$empty
  for (long mb = m0; mb < bottom; mb += $block) {
    const long end = mb + $block < bottom ? mb + $block : bottom;$load
    for (const struct shohin_panel *p = p0; p < p1; p++) {
      const long first = p->first, vectors = p->vectors, last = p->stop - W - first;
      $panel
      T.ldb = p->ldb;
      T.io = first;
      T.last = last;
      T.lastb = p->lastb;
      for (long m = mb, rows; m < end; m += rows * T.tiles) {
        rows = end - m < R ? end - m : R;
        T.tiles = end - m < R ? 1 : (end - m) / R;
        T.a = $row;
        T.c = y + m * N + first;
        T.at = (z * M + m) * N;
        T.i[1] = m;
        $call
      }
    }$statistic
  }
""",
            sizes=dict(
                m=q.m, n=q.n, k=q.k, panels=len(q.panels), pieces=pm * pn, pm=pm, pn=pn, sm=strides[0], sk=strides[1], am=q.a[0], ak=q.a[1], bk=q.b[0], bn=q.b[1], block=q.block, side=_panel(q),
                skip=q.rows * (q.k if q.sides or q.staged else q.a[0]),
            ),
            given={
                "const float *left": "(const float *)scratch" if q.staged else printer.pointer(site.operands[0].name),
                "const void *right": "shared" if _copied(q) else printer.pointer(site.operands[-1].name),
                "float *result": printer.pointer(site.results[0].name),
                "const struct shohin_panel *panels": "panels",
                TILES: "tiles",
                **({LOAD: f"{name}_load"} if q.staged else {}),
                **({STATISTIC: f"{name}_statistic"} if q.folded else {}),
            },
            tables=f"{panel_table(q.panels)}\n  {run.table}",
            w=shape.width,
            rows=rows,
            row="a + (m - mb) * K" if q.staged else "side + (m - mb) / R * (R * K)" if q.sides else "a + m * $am",
            load=_load(q),
            rows_of=_CHUNKED if q.folded else _TILED,
            empty="\n  if (m0 == bottom) statistic(b, shared, mine, m0, m0);" if q.folded else "",
            statistic=_STATISTIC if q.folded else "",
            oa=" + ".join(offsets["a"]),
            weights=form.begin(q.panels, "(const uint8_t *)right", ceil_div(_side(q), 64) * 64)
            if isinstance(form, Numbered)
            else f"const float *const bs = (const float *)right + {' + '.join(offsets['b'])};",
            panel=fill(_NEAR, bn="$bn", statement=_packing(q)[1]) if q.near else form.fetch("p", "0") if isinstance(form, Numbered) else "T.b = bs + p->base;",
            call=CALL,
        )
    )


def _copied(q: Product) -> Panels | None:
    """The form into which ``b`` is brought before the product, if it is."""
    return q.layout if q.packs and not q.near and not q.ready else None


def _phases(describe: Callable[[Site], Product]) -> tuple[Phase, ...]:
    """Packing does nothing where ``b`` is read as it lies (no pieces)."""

    def packs(site: Site) -> int:
        layout = _copied(describe(site))
        return layout.pieces if layout else 0

    def pieces(site: Site) -> int:
        q = describe(site)
        return q.count * q.pieces[0] * q.pieces[1]

    return (
        Phase(emit=lambda site, printer, name: describe(site).layout.emit(site, printer, name, site.operands[1].name, "shared"), chunks=packs),
        Phase(emit=lambda site, printer, name: _multiply(describe(site), site, printer, name), chunks=pieces),
    )


def _side(q: Product) -> int:
    """Bytes of scratch for what is copied of both sides."""
    rows = ceil_div(q.block, q.shape.rows) * q.shape.rows
    return _panel(q) + (4 * (rows * q.k + q.shape.width) if q.staged or q.sides else 0)


def _workspace(q: Product) -> int:
    return ceil_div(_side(q), 64) * 64 + q.form.scratch if isinstance(q.form, Numbered) else _side(q)


def _by_rows(q: Product) -> bool:
    """Are the rows of the operand and of the result those of one product?"""
    return not q.batch and q.a == (q.k, 1)


def _kernel(
    name: str, op: str, doc: str, describe: Callable[[Site], Product], predicate: Callable[[Site], Verdict], unpacks: tuple[str, ...] = ("depalettize",)
) -> Kernel:
    def shared(site: Site) -> int:
        layout = _copied(describe(site))
        return 4 * layout.groups * layout.size if layout else 0

    def layout(site: Site) -> Panels | Numbered | None:
        q = describe(site)
        return q.form if q.packs or q.entries else None

    return register(
        Kernel(
            name=name,
            op=op,
            doc=doc,
            predicate=lambda site: is_float32(site) and predicate(site),
            ports=(
                PortSpec(name="epilogue", value="acc", times="once per element", in_place=True),
                PortSpec(name="load", value="a", times="once per element", when=lambda site: _by_rows(describe(site))),
                PortSpec(name="statistic", value="y", times="once per element", when=lambda site: _by_rows(describe(site))),
            ),
            phases=_phases(describe),
            workspace=lambda site: _workspace(describe(site)),
            shared=shared,
            layout=layout,
            unpacks=unpacks,
            order="sequence",
            flops=lambda site: 2.0 * describe(site).count * describe(site).m * describe(site).n * describe(site).k,
        )
    )


def is_pointwise(site: Site) -> Verdict:
    """One tap, stride 1, no padding, one group: the tensor is a matrix as it lies."""
    a, window = site.attrs, site.operands[1].shape[1:3]
    one = window == tuple(a["stride"]) == (1, 1) and a["groups"] == 1 and not any(p for side in a["padding"] for p in side)
    return one or Declined("it takes one tap, stride 1, no padding, one group")


def _multiplies(site: Site) -> Verdict:
    a, b = site.operands[:2]
    if min(len(a.shape), len(b.shape)) < 2:
        return Declined("an operand has fewer than two dims")
    rows = site.call.storage is None or (len(b.shape) == 2 and site.attrs["transpose_b"])
    return rows or Declined("packed weights, which it takes as (n, k)")


MATMUL = _kernel("matmul_f32", "matmul", "register tiles over m and n; b packed where that pays", _matmul, _multiplies)
POINTWISE = _kernel(
    "conv2d_pointwise_f32", "conv2d", "a 1x1 convolution as a matrix product", _pointwise(False), is_pointwise
)
POINTWISE_DX = _kernel(
    "conv2d_dx_pointwise_f32", "conv2d_dx", "its input gradient, likewise", _pointwise(True), is_pointwise, ()
)
