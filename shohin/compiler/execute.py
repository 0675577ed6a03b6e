"""From a graph to something that runs: passes, lowering, kernels, build; kept by the graph's digest in this process."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from shohin.compiler import intrinsics, passes, steps, warm
from shohin.compiler.lowering import lower
from shohin.compiler.program import Compiled, Prepared, load, machine, prepare
from shohin.core.graph import Graph, walk
from shohin.core.op import SHIPPED

__all__ = ["compile_graph", "intrinsics", "passes", "steps", "threads"]


def threads() -> int:
    """How many threads programs use: ``SHOHIN_THREADS``, else the processors that this process may use."""
    return int(os.environ.get("SHOHIN_THREADS", "0")) or len(os.sched_getaffinity(0))


def compile_graph(graph: Graph, donated: Mapping[int, int] | None = None, *, steady: Sequence[int] = (), level: str = "native", count: int | None = None) -> Compiled:
    """The compiled form of a pure graph; output ``o`` takes the memory of input ``donated[o]``; what depends on the inputs ``steady``
    alone is computed once for many runs (``Program.once``)."""
    used = count or threads()

    def make() -> Prepared:
        return prepare(lower(passes.optimize(graph), machine(level, used), donated, steady), level=level, threads=used)

    if any(SHIPPED.get(node.op.name) is not node.op for node in walk(graph)):
        return load(make())  # a user's record: the graph's text names it, but does not hold its body
    pairs = sorted((donated or {}).items())
    return load(warm.prepared(warm.key_of(graph.digest, (pairs, sorted(steady)), level, used), make))
