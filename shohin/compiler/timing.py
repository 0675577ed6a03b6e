"""The time of each step within one run of a program: a clock is read between the steps, in the same foreign call.

A step that is run by itself would wake the pool anew and find other caches; here only a few tens of nanoseconds, and a
barrier behind a parallel step, are added. On one thread the clock is that thread's CPU time (0.2 us a step), so that what
else the machine does is left out; on several it is the wall's, since threads wait for each other.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any

import numpy as np

from shohin.compiler.build import StepRecord, build, runtime

SOURCE = """
#include <time.h>
/* b[0]: when the clock was last read; b[1]: nanoseconds of this step so far */
static void stamp(clockid_t clock, void *const *b) {
    struct timespec t;
    clock_gettime(clock, &t);
    long *last = b[0], *sum = b[1], now = (long)(t.tv_sec % 1000000) * 1000000000L + t.tv_nsec;
    *sum += now - *last;
    *last = now;
}
void shohin_stamp_wall(void *const *b, char *shared, char *scratch, long chunk, long chunks) { stamp(CLOCK_MONOTONIC, b); }
void shohin_stamp_thread(void *const *b, char *shared, char *scratch, long chunk, long chunks) { stamp(CLOCK_THREAD_CPUTIME_ID, b); }
"""


@functools.cache
def _library() -> ctypes.CDLL:
    return ctypes.CDLL(str(build(SOURCE, level="generic")))


def step_seconds(pool: int | None, steps: Any, count: int, table: np.ndarray[Any, Any], arena: int, repeats: int) -> np.ndarray[Any, Any]:
    """Seconds (repeats, count) of the first ``count`` records of ``steps``; turns of a loop add up."""
    stamp = _library().shohin_stamp_thread if pool is None else _library().shohin_stamp_wall
    function = ctypes.cast(stamp, ctypes.c_void_p).value
    clock = np.zeros(count + 2, np.int64)  # when last read, what lay before the first step, the steps
    at = clock.ctypes.data
    slots = np.array([a for k in range(count + 1) for a in (at, at + 8 * (k + 1))], np.uint64)
    extended = np.concatenate([table, slots])
    records: list[StepRecord] = []
    for k in range(count + 1):
        records.append(StepRecord(function, len(table) + 2 * k, 0, 0, 0, 1, 1, 0))
        if k < count:
            s = steps[k]
            target = 2 * s.chunks + 1 if s.kind else s.chunks  # jumps lead past the stamp: their time is their target's
            records.append(StepRecord(s.fn, s.table, s.shared, s.scratch, s.stride, target, s.serial, s.kind))
    stamped = (StepRecord * len(records))(*records)
    found = np.zeros((repeats, count))
    for r in range(repeats):
        clock[1:] = 0
        runtime().shohin_run(pool, stamped, len(records), extended.ctypes.data, arena)
        found[r] = clock[2:] * 1e-9
    return found


__all__ = ["step_seconds"]
