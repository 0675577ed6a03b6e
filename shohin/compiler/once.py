"""Steps whose results stay between runs: panels of weights, scales of norms, slices, whatever reads only what stays.

They come first in a program (``Program.once``), their results have memory of their own, and a program that is bound to cells
runs them only after one of those cells has reported a change.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from shohin.compiler.plan import touched
from shohin.compiler.segments import within
from shohin.core.nest import Buffer, Jump, Step


def split(steps: Sequence[Step], buffers: dict[str, Buffer], steady: Iterable[str]) -> tuple[list[Step], list[Step]]:
    """The steps that need not be run again while the inputs ``steady`` stay, and the others; what the first write becomes
    ``kept``. What an output is written to, or what two steps write, is made at every run."""
    stays = set(steady)
    if not stays:
        return [], list(steps)
    writers = Counter(n for s in steps for n in touched(s)[1])
    constant = {b.name for b in buffers.values() if b.role == "const"}
    first: list[Step] = []
    for step in steps:
        reads, writes = touched(step)
        alone = all(buffers[n].role == "temp" and writers[n] == 1 for n in writes)
        if not isinstance(step, Jump) and alone and reads and reads <= stays | constant:
            first.append(step)
            stays |= writes
    for n in stays:
        if buffers[n].role == "temp":
            buffers[n] = replace(buffers[n], role="kept")
    gone = set(map(id, first))
    return first, within(steps, lambda part: [s for s in part if id(s) not in gone])


def joined(first: Sequence[Step], rest: Sequence[Step]) -> tuple[Step, ...]:
    """One behind the other; jumps of ``rest`` go where they went."""
    return (*first, *(replace(s, to=s.to + len(first)) if isinstance(s, Jump) else s for s in rest))


__all__ = ["joined", "split"]
