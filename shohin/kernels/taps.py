"""Which taps of a window lie inside the image, along one axis: positions grouped by the taps that they meet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd


@dataclass(frozen=True)
class Segment:
    """Positions of a result axis that meet the same taps: ``length`` positions from ``start``, ``step`` apart; taps
    ``tap + j * tap_step`` for ``j < taps``. Position p and tap j read ``source + p * source_step + j * tap_source``."""

    start: int
    step: int
    length: int
    tap: int
    taps: int
    tap_step: int
    source: int
    source_step: int
    tap_source: int


def segments(
    result: int, source: int, kernel: int, stride: int, dilation: int, pad: int, *, transposed: bool
) -> list[Segment]:
    """All positions of one axis, grouped by the taps that lie inside ``source``; taps outside are skipped.

    Forward, position p reads ``p * stride + t * dilation - pad``; transposed (the gradient of the input) it reads
    ``(p + pad - t * dilation) / stride`` where that is whole, so positions fall into ``stride`` phases.

    >>> [(s.start, s.length, s.tap, s.taps) for s in segments(5, 5, 3, 1, 1, 1, transposed=False)]
    [(0, 1, 1, 2), (1, 3, 0, 3), (4, 1, 0, 2)]
    """

    def reads(p: int) -> list[tuple[int, int]]:
        if not transposed:
            found = [(t, p * stride + t * dilation - pad) for t in range(kernel)]
        else:
            found = [
                (t, (p + pad - t * dilation) // stride) for t in range(kernel) if (p + pad - t * dilation) % stride == 0
            ]
        return [(t, at) for t, at in found if 0 <= at < source]

    step = stride if transposed else 1
    common = gcd(stride, dilation)
    tap_step, tap_source = (stride // common, -(dilation // common)) if transposed else (1, dilation)
    made: list[Segment] = []
    for phase in range(min(step, result)):
        taps: list[int] | None = None
        for p in range(phase, result, step):
            found = reads(p)
            here = [t for t, _ in found]
            if here == taps:
                last = made.pop()
                made.append(
                    Segment(
                        last.start,
                        step,
                        last.length + 1,
                        *[getattr(last, f) for f in ("tap", "taps", "tap_step", "source", "source_step", "tap_source")],
                    )
                )
            else:
                first, at = found[0] if found else (0, 0)
                made.append(
                    Segment(p, step, 1, first, len(found), tap_step, at, 1 if transposed else stride, tap_source)
                )
            taps = here
    return made


def segment_table(name: str, rows: Sequence[Segment]) -> str:
    """The segments as a constant table, fields in the order of ``Segment``."""
    text = ", ".join("{" + ", ".join(str(getattr(s, f)) for f in Segment.__dataclass_fields__) + "}" for s in rows)
    return f"static const struct shohin_segment {name}[] = {{{text}}};"
