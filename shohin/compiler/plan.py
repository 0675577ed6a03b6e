"""The memory plan: every temporary at an offset of one arena, by lifetime; donated inputs written in place.

Greedy best fit, largest first. An elementwise step may write its result over an operand that dies there, where it
reads that operand at the very index that it writes. An output that is aliased to an input is written into the
input's memory at once if no later step needs the old value; else it gets a temporary and a copy at the end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from shohin.compiler.flat import Flat, flatten, nodes
from shohin.compiler.kernel import KERNELS
from shohin.core.errors import IRError
from shohin.core.loop import Expr, Load
from shohin.core.nest import Buffer, Jump, KernelCall, Nest, Program, Step


@dataclass(frozen=True)
class Use:
    """What a step reads, writes, and which buffers it reads only at the index where it writes (by written buffer)."""

    reads: frozenset[str]
    writes: frozenset[str]
    same: Mapping[str, frozenset[str]]


@dataclass(frozen=True)
class Block:
    """A piece of the arena: bytes, the first and the last step that need it, and where it is."""

    name: str
    size: int
    first: int
    last: int
    offset: int = 0


@dataclass(frozen=True)
class Plan:
    """``offsets`` of temporaries; ``over``: buffers that share another one's memory; ``copies`` (from, to) at the end;
    ``scratch`` and ``shared``: offsets by step; ``live``: bytes in use at each step."""

    offsets: Mapping[str, int]
    over: Mapping[str, str]
    copies: tuple[tuple[str, str], ...]
    scratch: tuple[int, ...]
    shared: tuple[int, ...]
    arena_bytes: int
    live: tuple[int, ...]
    blocks: tuple[Block, ...]
    places: tuple[str, ...] = field(default=())

    @property
    def peak(self) -> int:
        """The most bytes in use at once; the arena is larger by what the placement wastes."""
        return max(self.live, default=0)

    def __str__(self) -> str:
        lines = [f"arena {self.arena_bytes} bytes, peak in use {self.peak}"]
        for i, live in enumerate(self.live):
            place = self.places[i] if i < len(self.places) else ""
            lines.append(f"  step {i:<4} {live:>12}  {place}")
        for b in sorted(self.blocks, key=lambda b: (b.offset, b.first)):
            lines.append(f"  {b.offset:>10} + {b.size:<10} steps {b.first}-{b.last}  {b.name}")
        lines += [f"  {a} lies over {b}" for a, b in self.over.items()]
        lines += [f"  {a} is copied to {b} at the end" for a, b in self.copies]
        return "\n".join(lines)


def touched(step: Step) -> tuple[frozenset[str], frozenset[str]]:
    """Names of the buffers that a step reads, and that it writes; its ports' loads count."""
    if isinstance(step, Jump):
        return frozenset(() if step.flag is None else (step.flag,)), frozenset()
    if isinstance(step, KernelCall):
        loads = {e.buffer for p in step.ports for e in nodes([p.expr]) if isinstance(e, Load)}
        before, after = ([touched(n) for n in group] for group in (step.staged, step.folds))
        writes = frozenset(step.results).union(*(w for _, w in after))
        reads = frozenset((*step.operands, *loads)).difference(*(w for _, w in before)).union(*(r for r, _ in (*before, *after)))
        return reads - frozenset(step.results), writes
    reads = {e.buffer for e in nodes(_roots(step)) if isinstance(e, Load)}
    reads |= {o.buffer for o in step.outs if o.accumulate}
    return frozenset(reads), frozenset(o.buffer for o in step.outs)


def _roots(nest: Nest) -> list[Expr]:
    return [*(e for a in nest.accs for e in (*a.init, *a.terms)), *(e for o in nest.outs for e in (*o.index, o.value))]


def uses_of(step: Step, buffers: Mapping[str, Buffer]) -> Use:
    """What a step touches, and where it may write over what it reads."""
    reads, writes = touched(step)
    if isinstance(step, KernelCall):
        return Use(reads, writes, _at_ports(step, buffers))
    return Use(reads, writes, _same(step, buffers, _roots(step)) if isinstance(step, Nest) else {})


def _at_ports(call: KernelCall, buffers: Mapping[str, Buffer]) -> dict[str, frozenset[str]]:
    """Buffers like the result that the kernel reads only where it stores the result's element, through its epilogue."""
    kernel, port = KERNELS.get(call.kernel), next((p for p in call.ports if p.index), None)
    if port is None or kernel is None or not any(p.name == port.name and p.in_place for p in kernel.ports):
        return {}
    result = buffers[call.results[0]]
    elsewhere = touched(replace(call, ports=()))[0]
    loads: dict[str, list[Load]] = {}
    for e in nodes([port.expr]):
        if isinstance(e, Load):
            loads.setdefault(e.buffer, []).append(e)
    like = lambda b: (b.shape, b.dtype.itemsize) == (result.shape, result.dtype.itemsize)
    found = {n for n, at in loads.items() if like(buffers[n]) and n not in elsewhere and all(e.index == port.index and e.pred is None for e in at)}
    return {result.name: frozenset(found)}


def _same(nest: Nest, buffers: Mapping[str, Buffer], roots: Sequence[Expr]) -> dict[str, frozenset[str]]:
    if nest.accs or any(o.accumulate for o in nest.outs):
        return {}
    loads: dict[str, list[Flat]] = {}
    for e in nodes(flatten(r, buffers) for r in roots):
        if isinstance(e, Flat):
            loads.setdefault(e.buffer, []).append(e)
    found: dict[str, frozenset[str]] = {}
    for out in nest.outs:
        if any(isinstance(e, Load) for e in nodes(out.index)):
            continue
        where = flatten(Load(out.buffer, out.index, buffers[out.buffer].dtype), buffers)
        assert isinstance(where, Flat)
        if sum(o.buffer == out.buffer for o in nest.outs) > 1 or not _each_once(nest, where, buffers[out.buffer]):
            continue
        width = buffers[out.buffer].dtype.itemsize
        found[out.buffer] = frozenset(
            b
            for b, flats in loads.items()
            if buffers[b].dtype.itemsize == width
            and buffers[b].size == buffers[out.buffer].size
            and all(f.pred is None and f.const == where.const and dict(f.terms) == dict(where.terms) for f in flats)
        )
    return found


def _each_once(nest: Nest, where: Flat, buffer: Buffer) -> bool:
    """Whether the nest stores every element exactly once: as many points as elements, strides that nest."""
    extents = {v.name: v.extent for v in nest.free if v.extent > 1}
    points = 1
    for n in extents.values():
        points *= n
    steps = sorted(
        (c, extents.get(getattr(t, "name", ""), 0))
        for t, c in where.terms
        if extents.get(getattr(t, "name", ""), 2) > 1
    )
    reach = 1
    for stride, extent in steps:
        if stride != reach or extent == 0:
            return False
        reach *= extent
    return reach == points == buffer.size and where.const == 0


def plan(
    program: Program, scratch: Sequence[int], shared: Sequence[int], *, align: int = 64, in_place: bool = True
) -> Plan:
    """Places everything; ``scratch`` and ``shared`` are bytes by step."""
    buffers = {b.name: b for b in program.buffers}
    uses = [uses_of(s, buffers) for s in program.steps]
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for i, u in enumerate(uses):
        for name in u.reads | u.writes:
            first.setdefault(name, i)
            last[name] = i
    _check_written(program, uses)
    loops = [(s.to, i) for i, s in enumerate(program.steps) if isinstance(s, Jump) and s.to <= i]
    _around(loops, uses, first, last)
    over, copies = _aliases(program, buffers, uses, first, loops)
    end = len(uses)
    copied = {a for a, _ in copies}
    for start, stop in sorted(loops, key=lambda loop: loop[1] - loop[0]):  # a copied output outlives every loop that writes it
        for name in copied & first.keys():
            if start <= first[name] <= stop:
                first[name] = start
    temps = [b for b in program.buffers if (b.role == "temp" or b.name in copied) and b.name in first]
    span = {b.name: (first[b.name], end if b.name in copied else last[b.name]) for b in temps}
    root = {b.name: b.name for b in temps}
    if in_place:
        _reuse(uses, buffers, span, root, over)
    groups: dict[str, list[str]] = {}
    for name in root:
        groups.setdefault(_find(root, name), []).append(name)
    blocks = [
        Block(
            members[0],
            max(_round(buffers[m].nbytes, align) for m in members),
            min(span[m][0] for m in members),
            max(span[m][1] for m in members),
        )
        for members in groups.values()
    ]
    for kind, sizes in (("scratch", scratch), ("shared", shared)):
        blocks += [Block(f"<{kind} {i}>", _round(n, align), i, i) for i, n in enumerate(sizes) if n]
    placed = place(blocks)
    at = {b.name: b.offset for b in placed}
    offsets = {m: at[members[0]] for members in groups.values() for m in members}
    steps = range(end)
    live = tuple(sum(b.size for b in placed if b.first <= i <= b.last) for i in steps)
    return Plan(
        offsets,
        over,
        tuple(copies),
        tuple(at.get(f"<scratch {i}>", 0) for i in steps),
        tuple(at.get(f"<shared {i}>", 0) for i in steps),
        max((b.offset + b.size for b in placed), default=0),
        live,
        tuple(placed),
        tuple(s.place for s in program.steps),
    )


def _round(n: int, align: int) -> int:
    return -(-n // align) * align


def place(blocks: Sequence[Block]) -> list[Block]:
    """Offsets such that blocks alive at one step do not overlap: largest first, into the tightest gap that fits."""
    placed: list[Block] = []
    for block in sorted(blocks, key=lambda b: (-b.size, b.first, b.name)):
        others = sorted((p for p in placed if p.first <= block.last and block.first <= p.last), key=lambda p: p.offset)
        best, best_gap, at = None, None, 0
        for p in others:
            gap = p.offset - at
            if gap >= block.size and (best_gap is None or gap < best_gap):
                best, best_gap = at, gap
            at = max(at, p.offset + p.size)
        offset = at if best is None else best
        placed.append(Block(block.name, block.size, block.first, block.last, offset))
    return placed


def _around(loops: Sequence[tuple[int, int]], uses: Sequence[Use], first: dict[str, int], last: dict[str, int]) -> None:
    """A value that a loop carries round, or that lives on both sides of it, needs its memory for the whole loop; one
    that each turn writes before it reads, and that nobody else uses, does not."""
    for start, end in loops:
        inside = range(start, end + 1)
        for name in {n for i in inside for n in uses[i].reads | uses[i].writes}:
            at = next(i for i in inside if name in uses[i].reads | uses[i].writes)
            local = start <= first[name] and last[name] <= end and name not in uses[at].reads
            if not local:
                first[name], last[name] = min(first[name], start), max(last[name], end)


def _check_written(program: Program, uses: Sequence[Use]) -> None:
    written = {b.name for b in program.buffers if b.role in ("input", "const")}
    for i, u in enumerate(uses):
        missing = [n for n in u.reads if n not in written and n not in u.writes]
        if missing:
            raise IRError(f"step {i} ({program.steps[i].place}) reads {missing[0]} before any step has written it")
        written |= u.writes
    lost = [b.name for b in program.buffers if b.role == "output" and b.name not in written]
    if lost:
        raise IRError(f"output {lost[0]} is written by no step")


def _aliases(
    program: Program,
    buffers: Mapping[str, Buffer],
    uses: Sequence[Use],
    first: Mapping[str, int],
    loops: Sequence[tuple[int, int]],
) -> tuple[dict[str, str], list[tuple[str, str]]]:
    over: dict[str, str] = {}
    copies: list[tuple[str, str]] = []
    for b in program.buffers:
        if b.alias is None or b.role != "output":
            continue
        target = buffers[b.alias]
        if target.role != "input" or (target.nbytes, target.dtype) != (b.nbytes, b.dtype):
            raise IRError(f"output {b.name} is aliased to {b.alias}, which is not an input of the same size and dtype")
        if any(other.alias == b.alias and other is not b for other in program.buffers):
            raise IRError(f"two outputs are aliased to the input {b.alias}")
        writer = first[b.name]
        later = any(b.alias in u.reads for u in uses[writer + 1 :])
        now = b.alias in uses[writer].reads and b.alias not in uses[writer].same.get(b.name, frozenset())
        if later or now or any(a <= writer <= z for a, z in loops):
            copies.append((b.name, b.alias))
        else:
            over[b.name] = b.alias
    return over, copies


def _find(root: dict[str, str], name: str) -> str:
    while root[name] != name:
        name = root[name]
    return name


def _reuse(
    uses: Sequence[Use],
    buffers: Mapping[str, Buffer],
    span: Mapping[str, tuple[int, int]],
    root: dict[str, str],
    over: Mapping[str, str],
) -> None:
    """Join a temporary with an operand that dies where it is born."""
    for i, u in enumerate(uses):
        taken: set[str] = set()
        for name in sorted(u.writes):
            if name not in span or span[name][0] != i:
                continue
            for source in sorted(u.same.get(name, ())):
                if source in span and source not in taken and source not in u.writes and span[source][1] == i:
                    root[_find(root, name)] = _find(root, source)
                    taken.add(source)
                    break
