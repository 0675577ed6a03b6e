"""Decisions for one nest: which axis is the vector, how wide, what is tiled, how many pieces for the threads.

Nothing here may change a bit of a result: the order of a reduction belongs to the op, a schedule only picks which
outputs are computed side by side. The emitter prints what the schedule says and decides nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

from shohin.compiler.flat import Flat, coefficient, opaque
from shohin.compiler.kernel import Machine
from shohin.compiler.shape import Shaped
from shohin.core.nest import Loop

PIECE = 32768
"""Element operations that a piece of work should have at least: a barrier costs about 3 us."""
MOST = 8
WIDTH = 16
TILE = 32
FREE_PARALLEL = 2048
"""From so many results on, a chunks8 reduction is split over the results and needs no partials in memory."""


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """``kind``: map, rows (lanes16: vectors along the reduction), columns (sequence, chunks8: vectors along ``lane``).

    ``width`` lanes, ``active`` of them when the axis is shorter; ``vectors`` side by side along ``lane``, ``unroll``
    along ``second``; ``blocks``: blocks of 32 rows at a time (chunks8); ``partials``: two phases with partial sums
    in shared memory; ``tile``: the second axis of a transposing map; ``prefix``: outer items split over the threads.
    """

    kind: str
    outer: tuple[Loop, ...]
    lane: Loop | None = None
    width: int = 1
    active: int = 1
    vectors: int = 1
    second: Loop | None = None
    unroll: int = 1
    blocks: int = 1
    partials: bool = False
    tile: Loop | None = None
    prefix: int = 0
    chunks: int = 1


@dataclass(frozen=True, kw_only=True)
class Options:
    """``vectors``: whether the C may use vector extensions; ``most``: pieces for the threads, 1 for serial code;
    ``sums``: vectors of 16 float32 that the registers hold as accumulators (8 with AVX-512, 4 with AVX2)."""

    vectors: bool = True
    most: int = MOST
    sums: int = 4


def options_of(m: Machine) -> Options:
    """What the loops may use of a host."""
    return Options(sums={"v4": 8, "v3": 4}.get(m.level, 4))


def pieces(work: float, limit: int, most: int = MOST) -> int:
    """How many pieces this much work is cut into."""
    return max(1, min(most, int(work // PIECE), limit))


def schedule(s: Shaped, options: Options) -> Schedule:
    """The decisions for a nest. Without vectors and threads it is the plain loops."""
    plan = _schedule(s, options)
    if options.vectors:
        return plan
    return replace(plan, width=1, active=1, vectors=min(plan.vectors, 4), blocks=1)


def _schedule(s: Shaped, options: Options) -> Schedule:
    if not s.folds:
        return _map(s, options.most)
    if s.serial:
        return Schedule(kind="rows" if s.order == "lanes16" and s.red else "columns", outer=s.free, width=1, active=1)
    return _rows(s, options.most) if s.order == "lanes16" and s.red else _columns(s, options.most, options.sums)


def _prefix(extents: list[int], chunks: int) -> int:
    """How many outer loops to flatten so that the pieces are even."""
    total = 1
    for i, n in enumerate(extents):
        if total >= 4 * chunks:
            return i
        total *= n
    return len(extents)


def _map(s: Shaped, most: int) -> Schedule:
    if s.serial or not s.free:
        return Schedule(kind="map", outer=s.free)
    inner = s.free[-1]
    tile = _transposed(s, inner)
    outer = tuple(v for v in s.free[:-1] if v is not tile)
    extents = [v.extent for v in outer]
    if tile is not None:
        extents += [-(-tile.extent // TILE), -(-inner.extent // TILE)]
    elif not outer:
        extents = [-(-inner.extent // 64)]
    work = s.points * s.ops
    chunks = pieces(work, prod(extents), most)
    return Schedule(
        kind="map", outer=outer, lane=inner, tile=tile, chunks=chunks, prefix=max(1, _prefix(extents, chunks))
    )


def _transposed(s: Shaped, inner: Loop) -> Loop | None:
    """The loop along which some load is contiguous, while along the innermost it jumps."""
    for a in s.accesses():
        if abs(coefficient(a, inner.name)) <= 1:
            continue
        for v in s.free[:-1]:
            if coefficient(a, v.name) == 1 and v.extent >= 4 and inner.extent >= 4:
                return v
    return None


def _rows(s: Shaped, most: int) -> Schedule:
    """Vectors along the innermost reduced loop; a few rows at a time hide the latency of the additions."""
    second = s.free[-1] if s.free and s.free[-1].extent >= 2 else None
    unroll = min(4 if s.ops <= 12 else 2, second.extent) if second else 1
    outer = tuple(v for v in s.free if v is not second)
    extents = [v.extent for v in outer] + ([-(-second.extent // unroll)] if second else [])
    work = s.points * s.terms * s.ops
    chunks = pieces(work, prod(extents), most)
    return Schedule(
        kind="rows",
        outer=outer,
        width=WIDTH,
        active=WIDTH,
        second=second,
        unroll=unroll,
        chunks=chunks,
        prefix=_prefix(extents, chunks),
    )


def _score(a: Flat, name: str) -> int:
    if name in opaque(a):
        return -4
    step = coefficient(a, name)
    return 2 if step == 1 else 0 if step == 0 else -4


def _columns(s: Shaped, most: int, sums: int) -> Schedule:
    loads = s.term_loads()
    lane = max(
        s.free,
        key=lambda v: (
            sum(_score(a, v.name) for a in loads) + sum(_score(t.target, v.name) for t in s.stores),
            v.extent >= 4,
            v is s.free[-1],
        ),
        default=None,
    )
    width, active, vectors = 1, 1, 1
    budget = max(2, sums if s.ops <= 12 else sums // 2 if s.ops <= 24 else sums // 4) // max(1, len(s.folds))
    budget = max(1, budget // 2 if any(t.itemsize == 8 for f in s.folds for t in f.dtypes) else budget)
    contiguous = lane is not None and (not loads or any(coefficient(a, lane.name) == 1 for a in loads))
    if lane is not None and contiguous and lane.extent >= 2:
        width = WIDTH
        while width // 2 >= lane.extent:
            width //= 2
        active = min(width, lane.extent)
        vectors = min(4, budget, lane.extent // width) or 1
    elif lane is not None:
        vectors = min(4, lane.extent)
    rest = [v for v in s.free if v is not lane and v.extent >= 2]
    reuse = [v for v in rest if any(coefficient(a, v.name) == 0 and v.name not in opaque(a) for a in loads)]
    second = reuse[-1] if reuse else rest[-1] if rest else None
    if reuse and width > 1:
        vectors = min(vectors, max(1, budget // 4))  # a loaded vector serves several rows
    chunked = s.order == "chunks8"
    partials = chunked and s.points < FREE_PARALLEL and s.terms > 64
    unroll = min(max(1, budget // vectors), 4, second.extent) if second and not partials else 1
    second = second if unroll > 1 else None
    blocks = 1
    if partials and vectors < 4:
        blocks = 8 if width == 1 else max(1, 4 // vectors)
    outer = tuple(v for v in s.free if v is not lane and v is not second)
    extents = [v.extent for v in outer]
    if second:
        extents.append(-(-second.extent // unroll))
    if lane:
        extents.append(-(-lane.extent // (vectors * active)))
    work = s.points * s.terms * s.ops
    chunks = pieces(work, prod(extents), most)
    return Schedule(
        kind="columns",
        outer=outer,
        lane=lane,
        width=width,
        active=active,
        vectors=vectors,
        second=second,
        unroll=unroll,
        blocks=blocks,
        partials=partials,
        chunks=chunks,
        prefix=_prefix(extents, chunks),
    )
