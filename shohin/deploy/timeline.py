"""Seconds by step of an artefact: its C is built for this machine with a clock between the steps."""

from __future__ import annotations

import ctypes
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shohin.core.errors import TargetError
from shohin.deploy.artefact import Artefact
from shohin.targets.host import host
from shohin.targets.native import native_flags
from shohin.targets.toolchain import call, find_compiler

SOURCE = """\
#define _POSIX_C_SOURCE 200809L
#include <stdint.h>
#include <string.h>
#include <time.h>

static double *shohin_times, shohin_last;
static const char *shohin_places[COUNT];
static int shohin_at;

static double shohin_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void shohin_step(int number, const char *place)
{
    if (shohin_at >= 0) shohin_times[shohin_at] += shohin_now() - shohin_last;
    shohin_at = number;
    shohin_places[number] = place;
    shohin_last = shohin_now();
}

const char *shohin_place(int number) { return shohin_places[number]; }

#define NAME_STEP(number, place) shohin_step(number, place)
#include "network.c"

/* seconds[r][k]: of step k in run r, a warm one before it */
int shohin_timeline(const ELEMENT *in, ELEMENT *out, void *arena, int repeats, int steps, double *seconds)
{
    double nothing[COUNT];
    int failed = 0;
    for (int r = -1; r < repeats; ++r) {
        shohin_times = r < 0 ? nothing : seconds + r * steps;
        memset(shohin_times, 0, (size_t)steps * sizeof(double));
        shohin_at = -1;
        failed |= NAME_run(in, out, arena);
    }
    return failed;
}
"""


@dataclass(frozen=True)
class Timed:
    """A step's place and its median seconds."""

    place: str
    seconds: float


def timeline(art: Artefact, x: np.ndarray, repeats: int = 50) -> tuple[Timed, ...]:
    """Median seconds of each step of one inference on the first of ``x`` (n, ...), float32: one thread of this machine.

    A clock between the steps costs some 50 ns each. Raises ``BuildError`` where the C does not build.

    >>> import shohin as sh
    >>> art = sh.export(sh.nn.Linear(4, 2), np.zeros((1, 4), np.float32), device="host", to="linear")
    >>> [t.place for t in timeline(art, np.ones((1, 4), np.float32))] == [place for place, _ in art.kernels]
    True
    """
    source = art.source
    text = (art.folder / "network.c").read_text(encoding="utf-8")
    n = 1 + max((int(k) for k in re.findall(rf"^ *{source.name}_STEP\((\d+),", text, re.MULTILINE)), default=0)
    rows = np.ascontiguousarray(np.asarray(x[:1], np.float32).reshape(1, -1))
    if art.inputs[0].dtype == "int8":
        rows = art.library.quantize(rows)
    rows, out = source.inputs(rows), np.empty((1, source.output_size), source.dtype)
    compiler, target = find_compiler(), host()
    driver = re.sub("NAME|ELEMENT|COUNT", lambda m: {"NAME": source.name, "ELEMENT": source.element, "COUNT": str(n)}[m[0]], SOURCE)
    seconds = np.zeros((repeats, n), np.float64)
    memory = np.zeros(source.arena_bytes + 64, np.uint8)
    with tempfile.TemporaryDirectory(prefix="shohin-timeline-") as folder:
        file, shared = Path(folder) / "timeline.c", Path(folder) / "timeline.so"
        file.write_text(driver, encoding="utf-8")
        call([*compiler.command, *native_flags(compiler, target), "-I", source.folder, "-shared", file, "-o", shared],
             doing=f"building {source.name} with a clock")  # fmt: skip
        library = ctypes.CDLL(str(shared))
        at = lambda a: ctypes.c_void_p(a.ctypes.data)
        arena = ctypes.c_void_p(memory.ctypes.data + -memory.ctypes.data % 64)
        library.shohin_place.restype = ctypes.c_char_p
        failed = library.shohin_timeline(at(rows), at(out), arena, repeats, n, at(seconds))
        places = [(library.shohin_place(k) or b"").decode() for k in range(n)]
    if failed:
        raise TargetError(f"{source.name}_run failed for the input that is timed")
    middle = np.median(seconds, axis=0)
    return tuple(Timed(p, float(s)) for p, s in zip(places, middle, strict=True) if p)


__all__ = ["Timed", "timeline"]
