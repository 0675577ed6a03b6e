"""``profile``: where the time of a compiled function goes, step by step, beside what its work would take at the roof."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import shohin.kernels
from shohin.compiler.jit import Jit
from shohin.compiler.program import machine, with_copies
from shohin.core.nest import Jump, KernelCall, Program, Step
from shohin.deploy.roofline import Roof, roof
from shohin.deploy.work import work_of

assert shohin.kernels  # the host's kernels must be registered before anything is compiled


@dataclass(frozen=True, kw_only=True)
class Row:
    """One step. ``kernel``: its hand-written kernel, or "" for loops that were derived from the records; ``why``: which
    kernels of its op declined it, and for what reason."""

    place: str
    kernel: str
    why: str
    seconds: float
    flop: float
    bytes: float
    at_roof: float

    @property
    def roofline(self) -> float:
        """The fraction of the roof that was reached."""
        return self.at_roof / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class Profile:
    """All steps in their order. ``whole``: median seconds of the program at one go (with a clock between its steps it takes longer)."""

    rows: tuple[Row, ...]
    whole: float
    roof: Roof
    arena_bytes: int

    @property
    def seconds(self) -> float:
        return sum(r.seconds for r in self.rows)

    def top(self, count: int = 25) -> list[Row]:
        """The longest steps first."""
        return sorted(self.rows, key=lambda r: -r.seconds)[:count]

    def by(self, key: Callable[[Row], str]) -> dict[str, Row]:
        """Rows summed by ``key(row)``, the longest first: by kernel, by layer."""
        groups: dict[str, list[Row]] = defaultdict(list)
        for r in self.rows:
            groups[key(r)].append(r)
        summed = {k: _sum(k, rows) for k, rows in groups.items()}
        return dict(sorted(summed.items(), key=lambda item: -item[1].seconds))

    def by_kernel(self) -> dict[str, Row]:
        return self.by(lambda r: r.kernel or f"loops: {op_of(r.place)}")

    def by_layer(self) -> dict[str, Row]:
        return self.by(lambda r: layer_of(r.place))

    def __str__(self) -> str:
        return "\n".join([self.summary(), "", *table(self.top(), self.seconds), "", *table(self.by_kernel().values(), self.seconds)])

    def summary(self) -> str:
        kernels = sum(r.seconds for r in self.rows if r.kernel) / (self.seconds or 1)
        flop, moved = sum(r.flop for r in self.rows), sum(r.bytes for r in self.rows)
        return (
            f"{1e3 * self.whole:.3f} ms, {self.roof.threads} threads; {len(self.rows)} steps, with a clock between {1e3 * self.seconds:.3f} ms, "
            f"{kernels:.0%} in kernels, {1 - kernels:.0%} in derived loops; {flop / 1e9:.3f} GFLOP, {moved / 1e6:.1f} MB moved, "
            f"arena {self.arena_bytes / 1e6:.1f} MB; roof {self.roof.flops / 1e9:.0f} GFLOP/s, "
            f"{self.roof.bytes_per_second(1 << 20) / 1e9:.0f} GB/s for 1 MB, {self.roof.bytes_per_second(1 << 28) / 1e9:.0f} GB/s for 256 MB"
        )


def op_of(place: str) -> str:
    """The op in a place: ``conv2d_dw`` of ``stem/conv2d_dw#3``."""
    return place.rpartition("/")[2].partition("#")[0].split(" ")[0]


def layer_of(place: str) -> str:
    return place.rpartition("/")[0] or "(no layer)"


def _sum(name: str, rows: Sequence[Row]) -> Row:
    total = lambda field: sum(getattr(r, field) for r in rows)
    kernels, reasons = {r.kernel for r in rows}, {r.why for r in rows}
    return Row(
        place=f"{name} ({len(rows)})" if len(rows) > 1 else name, kernel=kernels.pop() if len(kernels) == 1 else "", why=reasons.pop() if len(reasons) == 1 else "",
        seconds=total("seconds"), flop=total("flop"), bytes=total("bytes"), at_roof=total("at_roof"),
    )  # fmt: skip


def table(rows: Iterable[Row], whole: float) -> list[str]:
    """Lines of plain text, with heads."""
    lines = [f"{'share':>6} {'us':>9} {'GFLOP/s':>8} {'GB/s':>7} {'MFLOP':>9} {'MB':>8} {'roof':>5}  {'kernel':28} place"]
    for r in rows:
        s = r.seconds or 1e-12
        what = r.kernel or "loops"
        lines.append(
            f"{r.seconds / (whole or 1):6.1%} {1e6 * r.seconds:9.1f} {r.flop / s / 1e9:8.1f} {r.bytes / s / 1e9:7.1f} {r.flop / 1e6:9.2f} "
            f"{r.bytes / 1e6:8.3f} {r.roofline:5.0%}  {what:28} {r.place}{f' [{r.why}]' if r.why else ''}"
        )
    return lines


def _why(step: Step, program: Program) -> str:
    """Which kernels declined this step and why; nothing where there are none for its op."""
    reasons = [program.declined[place] for place in step.place.split(" + ") if place in program.declined]
    return f"declined by {'; '.join(reasons)}" if reasons else ""


def profile(f: Jit, *args: Any, repeats: int = 20, **keywords: Any) -> Profile:
    """Time, FLOP, bytes and fraction of the roofline of every step of the program that ``f`` runs for these arguments.

    ``f`` is a function under ``sh.jit``; nothing is written to its modules. FLOP and bytes are counted from the program's
    steps, the roof is measured on this machine with as many threads as the program uses. On one thread times are its CPU
    time, on several the wall's.

    Raises ``TypeError`` if ``f`` is not compiled.

    >>> import numpy as np
    >>> from shohin.compiler.jit import jit
    >>> found = profile(jit(lambda x: x * 2 + 1, threads=1), np.ones((1024, 1024), np.float32), repeats=3)
    >>> [(r.place, r.kernel, r.flop, r.bytes) for r in found.rows]
    [('/add#0', '', 2097152, 8388608)]
    """
    if not isinstance(f, Jit):
        raise TypeError(f"profile: {f!r} is not compiled; write profile(sh.jit(f), ...)")
    program = f.lower(*args, **keywords)
    compiled = program.compiled
    timed = f.profile(*args, repeats=repeats, **keywords)
    seconds: dict[int, float] = defaultdict(float)
    for k, (_, t) in zip(compiled.step_of, timed, strict=True):
        seconds[k] += t
    buffers = {b.name: b for b in compiled.program.buffers}
    m, top = machine(f.levels[0], compiled.threads), roof(compiled.threads, clock_of(compiled.threads))
    rows = []
    for k, step in enumerate(with_copies(compiled.program, compiled.plan.copies).steps):
        if isinstance(step, Jump) or k < compiled.program.once:
            continue
        work = work_of(step, buffers, m)
        kernel = step.kernel if isinstance(step, KernelCall) else ""
        rows.append(
            Row(
                place=step.place, kernel=kernel, why="" if kernel else _why(step, compiled.program), seconds=seconds[k], flop=work.flop,
                bytes=work.bytes, at_roof=top.seconds(work.flop, work.bytes, int8=work.int8),
            )
        )  # fmt: skip
    return Profile(tuple(rows), _whole(f, args, keywords, repeats), top, compiled.arena_bytes)


def clock_of(threads: int) -> Callable[[], float]:
    """The clock of a profile: a thread's CPU time on one, so that what else the machine does is left out."""
    return time.thread_time if threads == 1 else time.perf_counter


def _whole(f: Jit, args: Sequence[Any], keywords: Mapping[str, Any], repeats: int) -> float:
    """Median seconds of all steps at one go, on copies: ``profile`` has bound them."""
    compiled = f.lower(*args, **keywords).compiled
    clock, times = clock_of(compiled.threads), []
    for _ in range(repeats):
        start = clock()
        compiled.run()
        times.append(clock() - start)
    return float(np.median(times))


__all__ = ["Profile", "Row", "profile", "table"]
