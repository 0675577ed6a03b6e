"""From a graph to something that runs: passes, lowering, kernels, build; kept by the graph's digest in this process."""

from __future__ import annotations

import os
from collections.abc import Mapping

from shohin.compiler import intrinsics, passes, steps
from shohin.compiler.lowering import lower
from shohin.compiler.program import Compiled, compile_program, machine
from shohin.core.graph import Graph

__all__ = ["compile_graph", "intrinsics", "passes", "steps", "threads"]


def threads() -> int:
    """How many threads programs use: ``SHOHIN_THREADS``, else the processors that this process may use."""
    return int(os.environ.get("SHOHIN_THREADS", "0")) or len(os.sched_getaffinity(0))


def compile_graph(graph: Graph, donated: Mapping[int, int] | None = None, *, level: str = "native", count: int | None = None) -> Compiled:
    """The compiled form of a pure graph; output ``o`` takes the memory of input ``donated[o]``."""
    used = count or threads()
    flat = passes.optimize(graph)
    return compile_program(lower(flat, machine(level, used), donated), level=level, threads=used)
