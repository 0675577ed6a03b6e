"""A step of a program as a cost model sees it: what it is, and the counts that its instructions and its time grow with.

Nothing here knows an op or a kernel: counts are made of extents, with the roundings (4, 16 lanes, blocks of 64 channels, tiles of 4
positions) that our kernels and C compilers' vector loops make. Which of them matter to a kernel is found by the fit.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, prod
from typing import Any

from shohin.compiler.kernel import Machine
from shohin.core import loop
from shohin.core.nest import Buffer, KernelCall, Nest, Step
from shohin.deploy.work import Values, work_of


@dataclass(frozen=True)
class Work:
    """``kind`` is all of a step but its sizes, ``family`` the wider class to whose model an unseen kind falls back; ``sizes`` tell
    steps of a kind apart, ``counts`` are what its cost grows with."""

    kind: str
    family: str
    sizes: tuple[int, ...]
    counts: tuple[float, ...]


def works(steps: Sequence[Step], buffers: Mapping[str, Buffer], machine: Machine) -> list[Work | None]:
    """What a model sees of each step of a program; None of a jump.

    A kernel that is called once in a program is another kind than one that layers share: the C compiler makes its sizes constants.
    """
    calls = Counter(s.kernel for s in steps if isinstance(s, KernelCall))
    return [
        _kernel(s, buffers, machine, calls[s.kernel] == 1) if isinstance(s, KernelCall) else _nest(s, buffers, machine) if isinstance(s, Nest) else None
        for s in steps
    ]


def _kernel(call: KernelCall, buffers: Mapping[str, Buffer], machine: Machine, alone: bool) -> Work:
    shapes = [buffers[n].shape for n in call.operands[:2]] + [buffers[n].shape for n in call.results[:1]]
    attrs = tuple(_integers(v) for _, v in sorted(call.attrs.items()))
    along = [_signature(n) for n in (*call.staged, *call.folds)]
    ports = _text(Counter(_name(e) for p in call.ports for e in loop.walk(p.expr) if not isinstance(e, loop.Var | loop.Name)))
    family = f"{call.kernel} {buffers[call.operands[0]].dtype.name}{' once' if alone else ''}"
    kind = family + _digest([ports, *along])
    sizes = tuple(n for s in shapes for n in s) + tuple(n for a in attrs[:8] for n in a if abs(n) < 1 << 20)
    return Work(kind, family, sizes, (*_moved(call, buffers, machine), *_windows(call, shapes)))


def _moved(step: Step, buffers: Mapping[str, Buffer], machine: Machine) -> tuple[float, ...]:
    took = work_of(step, buffers, machine)
    return (1.0, took.flop, took.bytes)


def _windows(call: KernelCall, shapes: list[tuple[int, ...]]) -> tuple[float, ...]:
    """Counts of a contraction or window: rows, positions, tiles, runs of 16 terms, lanes of channels, copied rows."""
    x, y = shapes[0], shapes[-1]
    o, w, h = y[-1], (y[-2] if len(y) > 2 else prod(y[:-1])), prod(y[:-2]) if len(y) > 2 else 1
    if len(shapes) > 2 and len(shapes[1]) == 4:
        kh, kw, inside = shapes[1][1], shapes[1][2], shapes[1][3]
    elif len(shapes) > 2:
        kh, kw, inside = 1, 1, shapes[1][-1]
    else:
        kh, kw, inside = *_pair(call.attrs.get("kernel", (1, 1))), 1
    stride, padding = _pair(call.attrs.get("stride", (1, 1))), call.attrs.get("padding", ((0, 0), (0, 0)))
    dilation, groups = _pair(call.attrs.get("dilation", (1, 1))), int(call.attrs.get("groups", 1))
    padded = any(n for pair in padding for n in pair)
    if kh * kw * max(stride) == 1 and not padded and groups == 1 and x[-1] % 16 == 0:
        h, w = 1, h * w
    each, part = o // groups or 1, kw * inside
    gathers = groups > 1 or dilation[1] > 1 or (kh > 1 and 4 * kh * _up(part, 16) > 5 * _up(kh * part, 16))
    blocks = ceil(kh * part / 16) if gathers else kh * ceil(part / 16)
    runs = 1 if gathers else kh
    passes, lanes = groups * ceil(each / 64), groups * ceil(each / 16)
    fours, calls = groups * ceil(each / 4), h * (w // 4 * 2 + (w % 4 > 0))
    copied = 0.0
    rows = x[1] if len(x) == 4 else 0
    if len(x) == 4 and (padded or part % 16):
        copied = float(passes * rows * ceil(x[2] * x[3] / 16))
    inner = (kh * ceil(part / 16) if groups == 1 else kh * kw * ceil(inside / 16)) if gathers else 0
    taps = ceil(kh * kw / 2)
    return (
        passes, passes * h, passes * h * ceil(w / 4), passes * calls, calls * fours, calls * fours * runs, calls * fours * blocks,
        h * w * fours, h * w * fours * runs, h * w * fours * blocks, h * w * lanes, h * w * passes,
        passes * h * w * gathers, passes * h * w * kh * gathers, passes * h * w * inner, copied, passes * rows * (copied > 0),
        h * w * ceil(o / 16), h * w * ceil(o / 16) * taps, h * w * ceil(o / 64), h * ceil(w / 4) * ceil(o / 64), h * kh * kw,
        rows * ceil((x[2] * x[3] if len(x) == 4 else x[-1]) / 16), h * w * kh * kw * ceil(o / 16), fours * blocks,
    )  # fmt: skip


def _nest(nest: Nest, buffers: Mapping[str, Buffer], machine: Machine) -> Work:
    free, red = [v.extent for v in nest.free if v.extent > 1], [v.extent for v in nest.red]
    points, terms, last = prod(free), prod(red), free[-1] if free else 1
    rest = points // last
    counts = [rest, points, rest * ceil(last / 4), rest * ceil(last / 16), rest * (last % 4), rest * (last % 16), rest // (free[-2] if len(free) > 1 else 1)]
    if red:
        counts += [points * terms, rest * terms, rest * ceil(last / 4) * terms, rest * ceil(last / 16) * terms, points * (terms // red[-1]), terms]
    else:
        counts += [0] * 6
    values = Values([e for a in nest.accs for e in (*a.terms, *a.init)] + [o.value for o in nest.outs])
    n = sum(1 for e in values if not isinstance(e, loop.Var))
    family = f"loops {'with' if red else 'without'} a fold"
    wide = tuple(float(c * k) for c in (points, rest * ceil(last / 4), points * terms if red else 0) for k in (1, n))
    sizes = tuple(v.extent for v in (*nest.free, *nest.red))
    fits = " by 16" if last % 16 == 0 else " by 4" if last % 4 == 0 else ""
    requants = sum(1 for e in values if isinstance(e, loop.Requant))
    family += f", {min(requants, 3)} requantizations"
    return Work(f"loops{_signature(nest)}{fits}", family, sizes, (*_moved(nest, buffers, machine), *wide, *map(float, counts)))


def _signature(nest: Nest) -> str:
    """A digest of a nest's expressions, without sizes, names and numbers."""
    def said(e: Any) -> str:
        match e:
            case loop.Var() | loop.Name():
                return "v"
            case loop.Load():
                inner = [said(i) for i in e.index if any(isinstance(x, loop.Load) for x in loop.walk(i))]
                return f"load {e.dtype.name}{len(e.index)}{'?' if e.pred is not None else ''}({' '.join(inner)})"
            case _ if not loop.children(e):
                return f"number {e.dtype.name}"
            case _:
                return f"{_name(e)}({' '.join(map(said, loop.children(e)))})"

    folds = [f"{a.combiner} {' '.join(map(said, a.terms))}" for a in nest.accs]
    return _digest([nest.order, str(sum(v.extent > 1 for v in nest.free)), str(len(nest.red)), *folds, *(said(o.value) for o in nest.outs)])


def _name(e: Any) -> str:
    return f"{type(e).__name__}.{getattr(e, 'op', getattr(e, 'fn', ''))}.{e.dtype.name}"


def _digest(texts: list[str]) -> str:
    return " #" + hashlib.sha256("\n".join(texts).encode()).hexdigest()[:10]


def _text(counter: Counter[str]) -> str:
    return ",".join(f"{k}*{n}" for k, n in sorted(counter.items()))


def _integers(value: Any) -> tuple[int, ...]:
    return tuple(_flat(value))


def _flat(value: Any) -> Iterator[int]:
    if isinstance(value, int):
        yield int(value)
    elif isinstance(value, tuple):
        for v in value:
            yield from _flat(v)


def _pair(value: Any) -> tuple[int, int]:
    return (value[0], value[-1]) if isinstance(value, tuple) else (value, value)


def _up(n: int, m: int) -> int:
    return -(-n // m) * m


__all__ = ["Work", "works"]
