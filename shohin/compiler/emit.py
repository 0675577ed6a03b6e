"""Nest -> C functions, one a phase: elementwise and movement nests here, reductions in ``emit_reduce``.

    static void NAME(void *const *restrict b, char *shared, char *scratch, long chunk, long chunks)

``b`` holds the buffers of this step, in ``Function.slots``. Piece ``chunk`` of ``chunks`` may run on any thread, in
any order; pieces write different places.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from shohin.compiler.builder import Builder, Emitted, Lines, Piece
from shohin.compiler.emit_reduce import emit_columns, emit_partials, emit_rows, emit_rows_plain
from shohin.compiler.schedule import TILE, Options, Schedule, schedule
from shohin.compiler.scope import Scope
from shohin.compiler.shape import Shaped, shape
from shohin.core.nest import Buffer, Loop, Nest


def emit_nest(nest: Nest, buffers: Mapping[str, Buffer], options: Options | None = None) -> Emitted:
    """All phases of a nest; an empty nest has none."""
    options = options or Options()
    s = shape(nest, buffers)
    if s.points == 0 or not s.stores:
        return Emitted(nest.place, (), 0, 0, 0)
    plan = schedule(s, options)
    work = float(s.points * s.terms * s.ops)
    if plan.kind == "map":
        phases, shared = (emit_map(s, plan, buffers),), 0
    elif plan.kind == "rows" and not options.vectors:
        phases, shared = (emit_rows_plain(s, plan, buffers),), 0
    elif plan.kind == "rows":
        phases, shared = (emit_rows(s, plan, buffers),), 0
    elif plan.partials:
        phases, shared = emit_partials(s, plan, buffers, options.most)
    else:
        phases, shared = (emit_columns(s, plan, buffers),), 0
    return Emitted(nest.place, phases, 0, shared, work)


def emit_map(s: Shaped, plan: Schedule, buffers: Mapping[str, Buffer]) -> Piece:
    build = Builder(s, plan, buffers)
    build.prepare()
    outer = [(v.name, v.extent) for v in plan.outer]
    chunked = plan.chunks > 1

    def point(scope: Scope) -> Lines:
        return build.store(scope, {}, False)

    inner = plan.lane
    if inner is None:
        lines = build.inside(build.root, outer, point)
    elif plan.tile is not None:
        lines = _tiled(build, outer, plan.tile, inner, point)
    elif not outer:
        n = inner.extent
        head = []
        lo, hi = "0", str(n)
        if chunked:
            blocks = -(-n // 64)
            head = [
                f"const long lo = 64 * ({blocks} * chunk / chunks);",
                f"const long end = 64 * ({blocks} * (chunk + 1) / chunks), hi = end < {n} ? end : {n};",
            ]
            lo, hi = "lo", "hi"
        lines = head + build.loop(build.root, inner, point, lo, hi, pragma=True)
    else:
        lines = build.spread(
            build.root,
            outer,
            min(plan.prefix, len(outer)),
            chunked,
            lambda scope: build.loop(scope, inner, point, pragma=True),
        )
    return Piece(build.function(lines), plan.chunks)


def _tiled(
    build: Builder, outer: list[tuple[str, int]], tile: Loop, inner: Loop, point: Callable[[Scope], Lines]
) -> Lines:
    """A transpose in tiles, so that both sides stay in cache."""
    u, v = f"{tile.name}t", f"{inner.name}t"
    items = [*outer, (u, -(-tile.extent // TILE)), (v, -(-inner.extent // TILE))]

    def body(scope: Scope) -> Lines:
        ends = [
            f"const long {n}0 = {TILE} * {n}, {n}1 = {n}0 + {TILE} < {e} ? {n}0 + {TILE} : {e};"
            for n, e in ((u, tile.extent), (v, inner.extent))
        ]
        loops = build.loop(
            scope, tile, lambda a: build.loop(a, inner, point, f"{v}0", f"{v}1", pragma=True), f"{u}0", f"{u}1"
        )
        return [*ends, *loops]

    plan = build.plan
    return build.spread(build.root, items, min(plan.prefix, len(items)), plan.chunks > 1, body)
