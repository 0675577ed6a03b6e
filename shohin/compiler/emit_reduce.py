"""Reductions: the three orders of ``core.nest``, with outputs side by side in lanes or the reduction itself in lanes.

``columns``: every lane is an output, so a lane does exactly what the scalar code does; ``rows``: the 16 lanes are the
order ``lanes16`` itself; ``partials``: the 8 chunks of ``chunks8`` run in parallel and are combined in their order.
Tiles at the end of an axis overlap the one before: the same outputs computed twice, with equal bits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from shohin.compiler.builder import Builder, Lines, Piece, indent
from shohin.compiler.ctext import HALF, ctype, kind_of
from shohin.compiler.ctext import lane as lane_kind
from shohin.compiler.names import Bound, Code
from shohin.compiler.schedule import WIDTH, Schedule, pieces
from shohin.compiler.scope import Scope
from shohin.compiler.shape import Shaped
from shohin.core import dtypes
from shohin.core.dtypes import DType
from shohin.core.nest import Buffer, Loop

BLOCK, CHUNKS = 32, 8


class Tile:
    """The instances computed side by side: ``(tag, names)`` each; ``start`` lines bind the tile's origin."""

    def __init__(self, plan: Schedule, code: Code | None = None):
        self.plan, self.code = plan, code
        self.vec = plan.width > 1
        self.items: list[tuple[str, int]] = []
        self.start: Lines = []
        second, lane = plan.second, plan.lane
        if second:
            self.add(second, plan.unroll)
        if lane:
            self.add(lane, plan.vectors * plan.active)
        self.instances: list[tuple[str, dict[str, Bound]]] = []
        for i in range(plan.unroll if second else 1):
            for j in range(plan.vectors if lane else 1):
                names: dict[str, Bound] = {}
                if second:
                    names[second.name] = Bound(_plus(f"{second.name}s", i), "index")
                if lane:
                    names[lane.name] = Bound(_plus(f"{lane.name}s", j * plan.active), "lane" if self.vec else "index")
                self.instances.append((f"_{i}_{j}", names))

    def add(self, v: Loop, size: int) -> None:
        count = -(-v.extent // size)
        t = f"{v.name}t"
        self.items.append((t, count))
        origin = f"{size} * {t}"
        anyhow = self.code is not None and self.code.sizes is not None  # one text, whether tiles overlap or not
        if v.extent % size or anyhow:
            last = self.code.size(v.extent - size) if self.code and anyhow else str(v.extent - size)
            origin = f"{origin} < {last} ? {origin} : {last}"
        self.start.append(f"const long {v.name}s = {origin};")


def _plus(text: str, n: int) -> str:
    return f"({text} + {n})" if n else text


def _enter(build: Builder, scope: Scope, tile: Tile, body: Callable[[Scope], Lines]) -> Lines:
    """A block with the tile's origin and the lanes' width."""
    plan = build.plan
    inner = scope.child({}, plan.width if tile.vec else 0, plan.active if tile.vec else 0)
    lines = body(inner)
    return ["{", *(f"    {x}" for x in [*tile.start, *inner.lines, *lines]), "}"]


def emit_columns(s: Shaped, plan: Schedule, buffers: Mapping[str, Buffer]) -> Piece:
    """One phase: every piece does some outputs, all of their reduction."""
    build = Builder(s, plan, buffers)
    build.prepare()
    tile = Tile(plan)
    outer = [(v.name, v.extent) for v in plan.outer]
    chunked = s.order == "chunks8"

    def point(scope: Scope) -> Lines:
        lines: Lines = []
        for tag, names in tile.instances:
            lines += build.declare(scope, tag, tile.vec, names)
        if s.terms:
            lines += _chunks(build, scope, tile) if chunked else _sequence(build, scope, tile)
        for tag, names in tile.instances:
            lines += build.store(scope, names | build.state_names(tag, tile.vec), tile.vec)
        return lines

    items = [*outer, *tile.items]
    lines = build.spread(
        build.root,
        items,
        min(plan.prefix, len(items)),
        plan.chunks > 1,
        lambda scope: _enter(build, scope, tile, point),
    )
    return Piece(build.function(lines), plan.chunks)


def _sequence(build: Builder, scope: Scope, tile: Tile) -> Lines:
    def body(inner: Scope) -> Lines:
        lines: Lines = []
        for tag, names in tile.instances:
            lines += build.step(inner, tag, tile.vec, names)
        return lines

    return build.reduction(scope, build.s.red, body)


def _rows_of(build: Builder, row: str) -> tuple[Lines, dict[str, Bound]]:
    """The reduced loops' indices at flat row ``row``."""
    red = build.s.red
    if not red:
        return [], {}
    if len(red) == 1:
        return [], {red[0].name: Bound(row, "index")}
    lines: Lines = []
    names: dict[str, Bound] = {}
    step = build.s.terms
    for i, v in enumerate(red):
        step //= v.extent
        text = row if step == 1 else f"{row} / {step}"
        name = build.code.fresh("g_")
        lines.append(f"const long {name} = {text if i == 0 else f'{text} % {v.extent}'};")
        names[v.name] = Bound(name, "index")
    return lines, names


def _chunks(build: Builder, scope: Scope, tile: Tile) -> Lines:
    """All 8 chunks of the outputs of this tile, one after another."""
    rows = build.s.terms
    size = -(-rows // CHUNKS)

    def chunk(inner: Scope) -> Lines:
        lines = [f"const long last = first + {size} < {rows} ? first + {size} : {rows};"]
        for tag, names in tile.instances:
            lines += build.declare(inner, f"_t{tag}", tile.vec, names)

        def finish(at: Scope, blocks: int) -> Lines:
            return [
                line
                for tag, names in tile.instances
                for line in build.merge(at.child(names), f"_t{tag}", _accs(build, f"_p0{tag}"), tile.vec, counts=("block - first", "rows"))
            ]

        lines += build.block(
            inner,
            f"for (long block = first; block < last; block += {BLOCK})",
            {"block": Bound("block", "index")},
            partial(_block, build, tile, 0, finish),
        )
        for tag, names in tile.instances:
            counts = (f"(first < {rows} ? first : {rows})", "(last > first ? last - first : 0)")
            lines += build.merge(inner.child(names), tag, _accs(build, f"_t{tag}"), tile.vec, counts=counts)
        return lines

    # empty chunks at the end add their identity too
    return build.block(
        scope,
        f"for (long first = 0; first < {CHUNKS * size}; first += {size})",
        {"first": Bound("first", "index")},
        chunk,
    )


def _accs(build: Builder, tag: str) -> dict[str, str]:
    return {n: n + tag for f, *_ in build.folds for n in f.names}


def _block(build: Builder, tile: Tile, blocks: int, finish: Callable[[Scope, int], Lines], scope: Scope) -> Lines:
    """``blocks`` blocks of 32 rows from ``block`` on (0: one, up to ``last``), each from the identity: ``a_p<k><tag>``."""
    lines: Lines = []
    end = f"{BLOCK}"
    if not blocks:
        blocks = 1
        lines.append(f"const long rows = last - block < {BLOCK} ? last - block : {BLOCK};")
        end = "rows"
    for k in range(blocks):
        for tag, names in tile.instances:
            lines += build.declare(scope, f"_p{k}{tag}", tile.vec, names)

    def row(at: Scope, step: Callable[..., Lines]) -> Lines:
        steps: Lines = []
        for k in range(blocks):
            pre, where = _rows_of(build, _plus("block + row", BLOCK * k) if k else "(block + row)")
            inner = at.child(where)
            found: Lines = []
            for tag, names in tile.instances:
                found += step(inner, f"_p{k}{tag}", tile.vec, names)
            steps += [*pre, *inner.lines, *found]
        return steps

    def walk(step: Callable[..., Lines]) -> Lines:
        head = f"for (long row = 0; row < {end}; ++row)"
        return build.block(scope, head, {"row": Bound("row", "index")}, lambda at: row(at, step))

    lines += walk(build.step)
    if build.second:
        for k in range(blocks):
            for tag, _ in tile.instances:
                lines += build.centre(f"_p{k}{tag}", end)
        lines += walk(build.squares)
    return [*lines, *finish(scope, blocks if end == f"{BLOCK}" else 0)]


# ---------------------------------------------------------------------------------------------- partials


def emit_partials(s: Shaped, plan: Schedule, buffers: Mapping[str, Buffer], most: int) -> tuple[tuple[Piece, ...], int]:
    """chunks8 in two phases: piece c sums chunk c of all outputs into ``shared``; then chunks are added in order."""
    return (_first(s, plan, buffers), combine(s, plan, buffers, most)), partial_bytes(s)


def partial_bytes(s: Shaped) -> int:
    return _layout(s)[1]


def _layout(s: Shaped) -> tuple[dict[str, int], int]:
    """Byte offset of each accumulator's [8][2][points] in shared memory, of each chunk's turn, and the total. A block's sums
    go from one half of the [2] to the other, since tiles at the end of an axis overlap; ``turn`` is the half that holds them."""
    offsets, total = {}, 0
    for f in s.folds:
        for n, t in zip(f.names, f.dtypes):
            offsets[n] = total
            total += -(-2 * CHUNKS * s.points * _held(t)[1] // 64) * 64
    return offsets | {"turn": total}, total + 64 * CHUNKS


def _held(t: DType) -> tuple[str, int]:
    """C type and bytes of a partial result in memory."""
    return ctype(t), 4 if t in HALF else t.itemsize


def _shared(build: Builder, base: int = 0) -> Lines:
    offsets = {n: build.code.size(base + at) for n, at in _layout(build.s)[0].items()}
    lines = [f"long *const turns = (long *)(shared + {offsets['turn']});"]
    for f in build.s.folds:
        for n, t in zip(f.names, f.dtypes):
            lines.append(f"{_held(t)[0]} *const m_{n} = ({_held(t)[0]} *)(shared + {offsets[n]});")
    return lines


def _position(build: Builder, names: Mapping[str, Bound]) -> str:
    """Flat index of an output among all of the nest's points; the lane axis is innermost."""
    plan = build.plan
    order = [v for v in build.s.free if v is not plan.lane] + ([plan.lane] if plan.lane else [])
    text, step = [], 1
    for v in reversed(order):
        at = names[v.name].text if v.name in names else v.name
        text.append(at if step == 1 else f"{build.code.size(step)} * {at}")
        step *= v.extent
    return " + ".join(reversed(text)) or "0"


def _move(build: Builder, scope: Scope, tile: Tile, tag: str, where: str, to_memory: bool, values: str) -> Lines:
    """Accumulators ``a<tag>`` to or from shared memory at ``where``."""
    lines: Lines = []
    plan = build.plan
    for f in build.s.folds:
        for n, t in zip(f.names, f.dtypes):
            acc, memory = n + tag, f"m_{n}[{where}]"
            if not tile.vec:
                lines.append(f"{memory} = ({_held(t)[0]}){acc};" if to_memory else f"{values}{acc} = {memory};")
                continue
            c = _held(t)[0]
            kind = "i8" if t == dtypes.bool_ else kind_of(c)
            vt = scope.vec(kind)
            if to_memory:
                temp = build.code.fresh("s_")
                lines += [f"const {vt} {temp} = {acc};", f"memcpy(&{memory}, &{temp}, {plan.active} * sizeof({c}));"]
            else:
                part = f"{scope.helper('part', kind)}((const void *)&{memory}, {plan.active})"
                lines.append(f"{vt if values else ''} {acc} = {part};".strip())
    return lines


def _first(s: Shaped, plan: Schedule, buffers: Mapping[str, Buffer]) -> Piece:
    """All rows of a chunk."""
    build = Builder(s, plan, buffers)
    build.prepare()
    rows, size = s.terms, -(-s.terms // CHUNKS)
    lines = [
        *_shared(build),
        f"const long first = {size} * chunk < {rows} ? {size} * chunk : {rows};",
        f"const long last = first + {size} < {rows} ? first + {size} : {rows};",
        "long block = first;",
        *_start(build),
        *_blocks(build),
    ]
    return Piece(build.function(lines), CHUNKS)


def some_rows(build: Builder) -> Lines:
    """Rows ``from`` to ``upto`` of a chunk; those before it were here."""
    rows, size = (build.code.size(n) for n in (build.s.terms, -(-build.s.terms // CHUNKS)))
    return [
        *_shared(build),
        f"const long first = {size} * chunk < {rows} ? {size} * chunk : {rows}, last = upto;",
        "long block = from;",
        "if (from == first) {",
        *indent(_start(build)),
        "}",
        *_blocks(build),
    ]


def _items(build: Builder, tile: Tile) -> list[tuple[str, int]]:
    return [(v.name, v.extent) for v in build.plan.outer] + tile.items


def _half(build: Builder, turn: str, names: Mapping[str, Bound]) -> str:
    return f"{build.code.size(build.s.points)} * (2 * chunk + {turn}) + {_position(build, names)}"


def _start(build: Builder) -> Lines:
    """The identity into the first half."""
    tile = Tile(replace(build.plan, vectors=1), build.code)

    def point(scope: Scope) -> Lines:
        lines: Lines = []
        for tag, names in tile.instances:
            lines += build.declare(scope, f"_t{tag}", tile.vec, names)
            lines += _move(build, scope, tile, f"_t{tag}", _half(build, "0", names), True, "")
        return lines

    inside = build.inside(build.root, _items(build, tile), lambda scope: _enter(build, scope, tile, point))
    return ["turns[8 * chunk] = 0;", *inside]


def _blocks(build: Builder) -> Lines:
    """The blocks from ``block`` to ``last``, each of all outputs, so that memory is walked once and in order."""
    return _some_blocks(build, Tile(build.plan, build.code), build.plan.blocks) + _some_blocks(build, Tile(replace(build.plan, vectors=1), build.code), 0)


def _some_blocks(build: Builder, tile: Tile, count: int) -> Lines:
    """Whole blocks, ``count`` at a time; 0: what is left, one by one (rarely run, so kept short)."""

    def finish(at: Scope, blocks: int) -> Lines:
        return [
            line
            for tag, names in tile.instances
            for k in range(blocks or 1)
            for line in build.merge(
                at.child(names),
                f"_t{tag}",
                _accs(build, f"_p{k}{tag}"),
                tile.vec,
                counts=(_plus("block - first", BLOCK * k), f"{BLOCK}" if blocks else "rows"),
            )
        ]

    def point(scope: Scope) -> Lines:
        lines: Lines = []
        for tag, names in tile.instances:
            lines += _declare_loaded(build, scope, tile, f"_t{tag}", _half(build, "turn", names))
        lines += _block(build, tile, count, finish, scope)
        for tag, names in tile.instances:
            lines += _move(build, scope, tile, f"_t{tag}", _half(build, "(1 - turn)", names), True, "")
        return lines

    def body(scope: Scope) -> Lines:
        inside = build.inside(scope, _items(build, tile), lambda inner: _enter(build, inner, tile, point))
        return ["const long turn = turns[8 * chunk];", *inside, "turns[8 * chunk] = 1 - turn;"]

    head = f"for (; block {f'+ {BLOCK * count} <=' if count else '<'} last; block += {BLOCK * (count or 1)})"
    return build.block(build.root, head, {"block": Bound("block", "index")}, body)


def _declare_loaded(build: Builder, scope: Scope, tile: Tile, tag: str, where: str) -> Lines:
    lines: Lines = []
    for f in build.s.folds:
        for n, t in zip(f.names, f.dtypes):
            lines.append(f"{build.acc_type(scope, t, tile.vec)} {n}{tag};")
    return lines + _move(build, scope, tile, tag, where, False, "")


def combine(s: Shaped, plan: Schedule, buffers: Mapping[str, Buffer], most: int, base: int = 0) -> Piece:
    """The second phase: the chunks' sums, in order, and what is stored of them."""
    build = Builder(s, plan, buffers)
    build.prepare()
    tile = Tile(plan)
    items = [(v.name, v.extent) for v in plan.outer] + tile.items
    size = -(-s.terms // CHUNKS)

    def point(scope: Scope) -> Lines:
        lines: Lines = []
        for tag, names in tile.instances:
            lines += build.declare(scope, tag, tile.vec, names)

        def chunk(inner: Scope) -> Lines:
            body: Lines = []
            for tag, names in tile.instances:
                body += _declare_loaded(build, inner, tile, f"_t{tag}", f"{s.points} * (2 * c + turns[8 * c]) + {_position(build, names)}")
                counts = (f"(c * {size} < {s.terms} ? c * {size} : {s.terms})", f"(c * {size} + {size} < {s.terms} ? {size} : c * {size} < {s.terms} ? {s.terms} - c * {size} : 0)")
                body += build.merge(inner.child(names), tag, _accs(build, f"_t{tag}"), tile.vec, counts=counts)
            return body

        lines += build.block(scope, f"for (long c = 0; c < {CHUNKS}; ++c)", {"c": Bound("c", "index")}, chunk)
        for tag, names in tile.instances:
            lines += build.store(scope, names | build.state_names(tag, tile.vec), tile.vec)
        return lines

    chunks = pieces(float(s.points * CHUNKS * 4), max(1, s.points // 64), most)
    lines = [
        *_shared(build, base),
        *build.spread(build.root, items, len(items), chunks > 1, lambda scope: _enter(build, scope, tile, point)),
    ]
    return Piece(build.function(lines), chunks)


# ---------------------------------------------------------------------------------------------- rows


def emit_rows(s: Shaped, plan: Schedule, buffers: Mapping[str, Buffer]) -> Piece:
    """lanes16: one vector of 16 accumulators along the innermost reduced loop, then the tree 8, 4, 2, 1."""
    build = Builder(s, plan, buffers)
    build.prepare()
    plan_rows = Schedule(kind="rows", outer=plan.outer, second=plan.second, unroll=plan.unroll)
    tile = Tile(plan_rows)
    tile.vec = True
    *outer_red, lane = s.red
    whole, rest = lane.extent // WIDTH * WIDTH, lane.extent % WIDTH
    outer = [(v.name, v.extent) for v in plan.outer]

    def steps(scope: Scope, at: str) -> Lines:
        lines: Lines = []
        for tag, names in tile.instances:
            lines += build.step(scope, tag, True, names | {lane.name: Bound(at, "lane")})
        return lines

    def body(scope: Scope) -> Lines:
        lines: Lines = []
        if whole:
            head = f"for (long {lane.name} = 0; {lane.name} < {whole}; {lane.name} += {WIDTH})"
            lines += build.block(
                scope, head, {lane.name: Bound(lane.name, "lane")}, lambda inner: steps(inner, lane.name)
            )
        if rest:
            lines += _part(build, scope, tile, lane, whole, rest)
        return lines

    def point(scope: Scope) -> Lines:
        lines: Lines = []
        for tag, names in tile.instances:
            lines += build.declare(scope, tag, True, names)
        if s.terms:
            lines += build.reduction(scope, tuple(outer_red), body)
        scalar = scope.child({})
        scalar.width = 0
        for tag, names in tile.instances:
            lines += _tree(build, scope, tag)
            lines += build.store(scalar, names | build.state_names(f"_s{tag}", False), False)
        return [*scalar.lines, *lines]

    def enter(scope: Scope) -> Lines:
        inner = scope.child({}, WIDTH, WIDTH)
        lines = point(inner)
        return ["{", *(f"    {x}" for x in [*tile.start, *inner.lines, *lines]), "}"]

    items = [*outer, *tile.items]
    lines = build.spread(build.root, items, min(plan.prefix, len(items)), plan.chunks > 1, enter)
    return Piece(build.function(lines), plan.chunks)


def emit_rows_plain(s: Shaped, plan: Schedule, buffers: Mapping[str, Buffer]) -> Piece:
    """lanes16 in plain C: the 16 lanes are an array."""
    build = Builder(s, plan, buffers)
    build.prepare()
    lane = s.red[-1].name

    def point(scope: Scope) -> Lines:
        lines: Lines = []
        for f, init, _, _ in build.folds:
            c = build.acc_type(scope, f.dtypes[0], False)
            lines += [
                f"{c} {f.names[0]}_l[{WIDTH}];",
                f"for (int l = 0; l < {WIDTH}; ++l) {f.names[0]}_l[l] = {scope.scalar(init[0])};",
            ]
        if s.terms:
            lines += build.reduction(scope, s.red, lambda inner: build.step(inner, f"_l[{lane} % {WIDTH}]", False, {}))

        def join(inner: Scope) -> Lines:
            body: Lines = []
            for f, *_ in build.folds:
                body += build.merge(inner, "_l[l]", {f.names[0]: f"{f.names[0]}_l[l + w]"}, False, f.names[0])
            return body

        tree = build.block(scope, "for (int l = 0; l < w; ++l)", {"l": Bound("l", "index")}, join)
        lines += [f"for (int w = {WIDTH // 2}; w > 0; w /= 2) {{", *(f"    {x}" for x in tree), "}"]
        return lines + build.store(scope, build.state_names("_l[0]", False), False)

    items = [(v.name, v.extent) for v in s.free]
    return Piece(build.function(build.spread(build.root, items, len(items), plan.chunks > 1, point)), plan.chunks)


def _part(build: Builder, scope: Scope, tile: Tile, lane: Loop, start: int, rest: int) -> Lines:
    """The last ``rest`` terms go to lanes 0 .. rest - 1; the other lanes keep what they have."""
    lines: Lines = []
    for tag, names in tile.instances:
        inner = scope.child(
            {**names, lane.name: Bound(str(start), "lane"), **build.state_names(tag, True)}, WIDTH, rest
        )
        updates: Lines = []
        for f, _, exprs, _ in build.folds:
            t = f.dtypes[0]
            kind = "i8" if t == dtypes.bool_ else lane_kind(t)
            bits = int(kind[1:])
            ints = inner.vec(f"i{bits}")
            mask = f"({ints}){{{', '.join('-1' if i < rest else '0' for i in range(WIDTH))}}}"
            name = f"{f.names[0]}{tag}"
            updates.append(
                f"{name} = {inner.helper('select', kind)}({mask}, {build.text(inner, exprs[0], True)}, {name});"
            )
        lines += ["{", *(f"    {x}" for x in [*inner.lines, *updates]), "}"]
    return lines


def _tree(build: Builder, scope: Scope, tag: str) -> Lines:
    """Lane j takes lane j + 8, then + 4, + 2, + 1; the result is ``a_s<tag>``."""
    lines: Lines = []
    for f, _, _, merge in build.folds:
        name, t = f.names[0], f.dtypes[0]
        now = f"{name}{tag}"
        width = WIDTH
        while width > 1:
            half = width // 2
            vec = half > 1
            at = scope.child({}, half, half)
            if not vec:
                at.width = 0
            low, high = build.code.fresh("lo_"), build.code.fresh("hi_")
            kind = build.acc_type(at, t, vec)
            for n, offset in ((low, 0), (high, half)):
                picks = ", ".join(str(offset + i) for i in range(half))
                if vec:
                    lines.append(f"const {kind} {n} = __builtin_shufflevector({now}, {now}, {picks});")
                else:
                    sign = "-" if t == dtypes.bool_ else ""
                    lines.append(f"const {kind} {n} = {sign}{now}[{offset}];")
            sort = "vector" if vec else "scalar"
            inner = at.child({name: Bound(low, sort), f"{name}_": Bound(high, sort)})
            inner.width = at.width
            text = build.text(inner, merge[0], vec)
            now = build.code.fresh("h_") if vec else f"{name}_s{tag}"
            lines += [*inner.lines, f"const {kind} {now} = {text};"]
            width = half
    return lines
