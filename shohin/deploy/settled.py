"""``settled``: what a network computes of its constants alone is computed before it is exported.

Folding in the compiler takes exact ops only, since NumPy would give other bits for the rest. Here the rest is run by its compiled
program: a codebook found in evaluation, and the numbers of the weights' entries in it, leave as what they are.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from shohin.compiler.execute import compile_graph
from shohin.core.graph import Graph, Node, Var
from shohin.core.trace import prune

Array = np.ndarray[Any, Any]
EXACT = ("elementwise", "movement", "indexing", "generator")
"""Kinds whose small exact ops the compiler folds; they may also grow, as a broadcast does."""


def settled(graph: Graph) -> Graph:
    """The graph with constants for the results of sums, products, searches and inexact functions of constants, unless those take
    more bytes than what they are made of.

    >>> from shohin.core.trace import stage
    >>> from shohin.core.op import Aval
    >>> from shohin.core import dtypes
    >>> import shohin as sh
    >>> made = stage(lambda x: [x * sh.mean(sh.asarray([1.0, 2.0]))], [Aval((2,), dtypes.float32)], ["x"]).graph
    >>> [node.op.name for node in settled(made).nodes][-1:], len(settled(made).nodes) < len(made.nodes)
    (['multiply'], True)
    """
    size = lambda values: sum(int(np.prod(v.shape)) * v.dtype.itemsize for v in values)
    sources: dict[Var, frozenset[Var]] = {v: frozenset((v,)) for v, _ in graph.consts}
    fixed: list[Node] = []
    computed: list[Node] = []
    for node in graph.nodes:
        if node.op.kind not in ("random", "control", "storage") and node.operands and all(v in sources for v in node.operands):
            fixed.append(node)
            sources |= dict.fromkeys(node.results, frozenset[Var]().union(*(sources[v] for v in node.operands)))
            less = node.op.kind == "elementwise" and size(node.results) <= size(sources[node.results[0]])  # a mask and its weights
            if node.op.kind not in EXACT or node.op.tol.ulp > 0 or less:
                computed.append(node)
    inner = set(map(id, computed))
    read = {v for node in graph.nodes if id(node) not in inner for v in node.operands} | set(graph.outputs)
    gone = [node for node in computed if (own := read.intersection(node.results)) and size(own) <= size(sources[node.results[0]])]
    wanted = [v for node in gone for v in node.results if v in read]
    if not wanted:
        return graph
    data = dict(graph.consts)
    needed = [v for v in data if any(v in sources[w] for w in wanted)]
    alone = prune(Graph(tuple(needed), tuple(f"c{k}" for k in range(len(needed))), (), tuple(fixed), tuple(wanted)))
    found = compile_graph(alone)(*(np.ascontiguousarray(data[v]).reshape(v.shape) for v in needed))
    consts = (*graph.consts, *((v, np.array(a)) for v, a in zip(wanted, found, strict=True)))
    done = set(map(id, gone))
    return prune(Graph(graph.inputs, graph.names, consts, tuple(n for n in graph.nodes if id(n) not in done), graph.outputs))


__all__ = ["settled"]
