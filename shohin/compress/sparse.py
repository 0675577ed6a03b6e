"""How zeros are stored: a weight with many is kept in an artefact as a bit a weight (or a block) and what is not 0 (``ops/sparse``).

It is the data that decide, not the method that made them: zeros of a mask, of a table, or of rounding are stored alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from shohin.core.graph import Graph, Node, Var
from shohin.core.op import get
from shohin.core.trace import prune
from shohin.kernels.qcommon import pack_dot
from shohin.kernels.sparse import FORMS
from shohin.ops import sparse

Array = np.ndarray[Any, Any]
BLOCKS = ((1, 1), (2, 1), (4, 1), (8, 1), (16, 1), (1, 2), (1, 4), (1, 8), (1, 16), sparse.TILE)
"""The blocks that are tried: A output channels by B terms."""
LEAST = 16
"""Terms from which a row is stored so: the depthwise kernels take dense rows."""


def pack_zeros(graph: Graph) -> Graph:
    """The program with the weights of contractions stored without their zeros where that is the least, and a quarter less
    than the weight itself: the same values."""
    known = dict(graph.consts)
    stored = {n.results[0]: n for n in graph.nodes if n.op.kind == "storage" and all(v in known for v in n.operands)}
    consts = list(graph.consts)
    nodes: list[Node] = []
    for node in graph.nodes:
        v = node.operands[1] if node.op.kind == "contraction" and len(node.operands) > 1 else None
        if v is not None and (v in known or v in stored):
            now = [known[v]] if v in known else [known[o] for o in stored[v].operands]
            w: Array = known[v] if v in known else stored[v].op.numpy(*now, **stored[v].attrs)
            block, size = smallest(w)
            if pays(size, w.nbytes, sum(a.nbytes for a in now)):
                made = [(Var(a.shape, a.dtype), a) for a in sparse.pack(w, block)]
                operands, dense = tuple(o for o, _ in made), Var(v.shape, v.dtype)
                consts += made
                op = get("densify_tiles" if block == sparse.TILE else "densify")
                nodes.append(Node(op, operands, {"shape": v.shape, "block": block}, (dense,), node.place))
                node = Node(node.op, tuple(dense if o is v else o for o in node.operands), node.attrs, node.results, node.place)
        nodes.append(node)
    return prune(Graph(graph.inputs, graph.names, tuple(consts), tuple(nodes), graph.outputs))


def pays(size: int, dense: int, now: int) -> bool:
    """Is ``size`` bytes a quarter less than the dense weight, and less than what is stored now?"""
    return 4 * size <= 3 * dense and size < now


def smallest(w: Array, blocks: Sequence[tuple[int, int]] = BLOCKS) -> tuple[tuple[int, int], int]:
    """Of the blocks that w (out, ...) may be cut into, that with the fewest bits and values; and the bytes that an artefact holds:
    of int8 those of a kernel's best form (``kernels/sparse``), else bits, values, and a count for every word of bits.

    >>> w = np.zeros((4, 64), np.int8)
    >>> w[:, ::4] = 1
    >>> smallest(w)
    ((4, 1), 72)
    """
    rows = w.reshape(len(w), -1)
    if rows.shape[1] < LEAST:
        return (1, 1), w.nbytes
    sizes = {block: _bytes(rows, *block) for block in blocks}
    block = min(sizes, key=sizes.__getitem__)
    if 10 * sizes.get(sparse.TILE, rows.nbytes) <= 11 * sizes[block]:
        block = sparse.TILE  # which kernels skip, for a tenth more
    if w.dtype != np.int8:
        return block, sum(a.nbytes for a in sparse.pack(w, block))
    fours = pack_dot(rows[:, None]).reshape(-(-len(rows) // 4), -1)
    return block, min(sum(len(form(four)) for four in fours) for form in FORMS)


def speed(w: Array) -> str:
    """What the zeros of w are worth in time, in words."""
    if smallest(w)[0] != sparse.TILE:
        return "no faster"
    rows = w.reshape(len(w), -1)
    p, q = sparse.extent(rows.shape, sparse.TILE)
    return f"{1 - (len(sparse.pack(w, sparse.TILE)[1]) / (p * q)):.0%} of its tiles skipped by kernels for devices"


def _bytes(rows: Array, a: int, b: int) -> int:
    p, q = sparse.extent(rows.shape, (a, b))
    padded = np.pad(rows != 0, ((0, p * a - rows.shape[0]), (0, q * b - rows.shape[1])))
    kept = int(padded.reshape(p, a, q, b).any((1, 3)).sum())
    return p * -(-q // 8) + kept * a * b * rows.itemsize


__all__ = ["BLOCKS", "LEAST", "pack_zeros", "pays", "smallest", "speed"]
