"""Nests by ranges of rows, as C functions that a kernel calls: its ``load`` and ``statistic`` ports.

A row is all of a tensor's dims but the last, flattened. ``stage_function`` writes rows of an elementwise nest into scratch;
``fold_function`` takes finished rows into the partial sums of a ``chunks8`` nest, whose second phase (``emit_reduce``)
follows the kernel's own. Both do per element what the nest by itself does, so that bits do not depend on where it ran.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from math import prod

from shohin.compiler import emit_reduce
from shohin.compiler.builder import PLACEHOLDER, Builder, Lines, Piece, indent
from shohin.compiler.ctext import Need, ctype, once, stored
from shohin.compiler.schedule import Options, Schedule, schedule
from shohin.compiler.scope import Scope
from shohin.compiler.shape import Shaped, shape
from shohin.core.nest import Buffer, Nest


@dataclass(frozen=True)
class Rows:
    """A nest made ready: ``count`` rows of ``width`` elements."""

    shaped: Shaped
    count: int
    width: int
    plan: Schedule | None


def staged_rows(nest: Nest, buffers: Mapping[str, Buffer]) -> Rows | None:
    """An elementwise nest that makes every element of one buffer and walks all its operands by rows; else None."""
    if nest.accs or len(nest.outs) != 1 or nest.outs[0].accumulate:
        return None
    target = buffers[nest.outs[0].buffer]
    s = shape(nest, buffers)
    width = target.shape[-1] if target.shape else 0
    store = s.stores[0].target if s.stores else None
    if store is None or s.serial or store.const or s.points != target.size or not 1 <= len(s.free) <= 2:
        return None
    if len(s.free) == 2 and s.free[-1].extent != width:
        return None
    return Rows(s, prod(target.shape[:-1]), width, None)


def folded_rows(nest: Nest, buffers: Mapping[str, Buffer], result: str, options: Options) -> Rows | None:
    """A ``chunks8`` nest over all rows of ``result`` with partial sums, for every element of a row; else None."""
    whole = buffers[result].shape
    if nest.order != "chunks8" or not nest.accs or len(whole) < 2:
        return None
    s = shape(nest, buffers)
    if len(s.red) != 1 or len(s.free) != 1 or s.red[0].extent != prod(whole[:-1]) or s.free[0].extent != whole[-1]:
        return None
    if not any(a.buffer == result for a in s.term_loads()):
        return None
    plan = schedule(s, options)
    return Rows(s, s.red[0].extent, whole[-1], plan) if plan.partials else None


def _function(build: Builder, head: str, lines: Lines) -> str:
    """C of a helper in a kernel's file: its ``b`` is the kernel's."""
    pointers = [f"const {stored(build.buffers[n].dtype)} *const p{slot} = (const {stored(build.buffers[n].dtype)} *)b[{slot}];"
                for n, slot in build.slots.items()]  # fmt: skip
    unused = [f"(void)p{slot};" for slot in build.slots.values()]
    return "\n".join([f"static void {head} {{", *indent([*pointers, " ".join(unused), *build.root.lines, *lines]), "}", ""])


def stage_function(rows: Rows, buffers: Mapping[str, Buffer], slots: dict[str, int], name: str) -> tuple[str, Builder]:
    """``name(b, to, from, upto)`` writes rows ``from`` to ``upto`` to ``to``."""
    s, width = rows.shaped, rows.width
    plan = Schedule(kind="map", outer=s.free[:-1], lane=s.free[-1])
    build = Builder(s, plan, buffers)
    build.slots = slots
    build.prepare()
    element = ctype(s.stores[0].target.type)
    inner = s.free[-1]
    flat = len(s.free) == 1
    place = f"{inner.name} - from * {width}" if flat else f"({s.free[0].name} - from) * {width} + {inner.name}"

    def point(scope: Scope) -> Lines:
        at = scope.child({})
        text = at.scalar(build.stores[0][2])
        return [*at.lines, f"to[{place}] = {text};"]

    if flat:
        lines = build.loop(build.root, inner, point, f"from * {width}", f"upto * {width}", pragma=True)
    else:
        lines = build.loop(build.root, s.free[0], lambda scope: build.loop(scope, inner, point, pragma=True), "from", "upto")
    return _function(build, f"{name}(void *const *restrict b, {element} *restrict to, long from, long upto)", lines), build


@dataclass(frozen=True)
class FoldFunction:
    """C of ``name(b, g, shared, chunk, from, upto)``, which takes rows ``from`` to ``upto`` of a chunk, in order; ``from`` and ``upto``
    are whole blocks from its first row, or its end. Its ``b`` is ``buffers``, its ``g`` is ``sizes``, its partial sums are at
    ``shared``: a text for all layers that take the same sums."""

    name: str
    text: str
    buffers: tuple[str, ...]
    sizes: tuple[int, ...]
    needs: tuple[Need, ...]


def fold_function(rows: Rows, buffers: Mapping[str, Buffer]) -> FoldFunction:
    assert rows.plan is not None
    build = Builder(rows.shaped, rows.plan, buffers)
    build.code.sizes = {}
    build.prepare()
    lines = emit_reduce.some_rows(build)
    sizes = tuple(build.code.sizes)
    known = [f"const long {', '.join(f'g{k} = g[{k}]' for k in range(len(sizes)))};"]
    text = _function(build, f"{PLACEHOLDER}(void *const *restrict b, const long *restrict g, char *shared, long chunk, long from, long upto)", [*known, *lines])
    name = f"sh_fold_{sha256(text.encode()).hexdigest()[:12]}"
    text = once(name, f"SH_APART {text.replace(PLACEHOLDER, name)}")
    return FoldFunction(name, text, tuple(build.slots), sizes, tuple(build.code.needs))


def fold_bytes(rows: Rows) -> int:
    return emit_reduce.partial_bytes(rows.shaped)


def fold_end(rows: Rows, buffers: Mapping[str, Buffer], most: int, offset: int) -> Piece:
    assert rows.plan is not None
    return emit_reduce.combine(rows.shaped, rows.plan, buffers, most, offset)


__all__ = ["FoldFunction", "Rows", "fold_bytes", "fold_end", "fold_function", "folded_rows", "stage_function", "staged_rows"]
