"""``Palettize``: the slot ``table``, by k-means, and how tables are stored under integers.

With ``Quantize`` above it, each row of integers takes few values too, and ``pack_weights`` stores them as numbers and a
codebook of int8.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from shohin.compress.part import Part
from shohin.compress.stats import Stats
from shohin.compress.table import Palette, Tabling, nearest
from shohin.core.graph import Graph, Node, Var
from shohin.core.module import Module
from shohin.core.op import get
from shohin.core.tensor import Tensor
from shohin.core.trace import prune
from shohin.ops import palette

Array = np.ndarray[Any, Any]
ROUNDS = 100


@dataclass(frozen=True)
class Palettize(Tabling):
    """Weights of 2^``bits`` values (1 to 4 bits), by k-means for each ``group`` output channels (None: for the tensor).

    Training moves the values; which weight takes which stays. Source: Han et al. 2016 (arXiv:1510.00149), section 3.
    """

    @property
    def scheme(self) -> str:
        return f"{2**self.bits} values for {'a tensor' if self.group is None else f'{self.group} channels'}"

    def values(self, w: Tensor, stats: Stats, entries: int) -> Array:
        return kmeans(w.numpy(), entries, line=entries == 2**self.bits)


def kmeans(x: Array, k: int, line: bool = True) -> Array:
    """k values, ascending, float32, that Lloyd's steps lead to; deterministic.

    They start from a line over the range of x, or else (weights around a gap) from its quantiles.

    >>> kmeans(np.float32([0, 0, 1, 1, 5, 5]), 4).tolist()
    [0.0, 1.0, 5.0, 5.0]
    """
    v = np.sort(x.astype(np.float64))
    sums = np.concatenate([[0.0], np.cumsum(v)])
    centres = v[0] + (v[-1] - v[0]) * np.arange(k) / max(k - 1, 1) if line else np.quantile(v, (np.arange(k) + 0.5) / k)
    for _ in range(ROUNDS):
        cut = np.concatenate([[0], np.searchsorted(v, (centres[1:] + centres[:-1]) / 2), [len(v)]])
        count = np.diff(cut)
        means = (sums[cut[1:]] - sums[cut[:-1]]) / np.maximum(count, 1)
        new = np.where(count > 0, means, centres)
        if np.array_equal(new, centres):
            break
        centres = np.sort(new)
    used = np.unique(nearest(x, centres.astype(np.float32)))
    values = centres.astype(np.float32)
    spare = np.setdiff1d(np.arange(k), used)  # an entry that no weight takes repeats its neighbour
    values[spare] = values[used[np.minimum(np.searchsorted(used, spare), len(used) - 1)]]
    return np.sort(values)


def pack_weights(graph: Graph, net: Module) -> Graph:
    """The integer program of ``net`` with the weights of palettized layers, and those of fewer than 8 bits, packed where that saves
    a quarter: the same values."""
    own = getattr(net, "weight_bits", lambda path: 8)  # a Quantized, which imports this module
    widths = {path: [own(path)] for path in net.modules()}
    for path, m in net.modules().items():
        if isinstance(m, Palette | Part) and m.bits:
            widths[path.rpartition(".")[0]].insert(0, m.bits)
    data = dict(graph.consts)
    nodes: list[Node] = []
    consts = list(graph.consts)
    for node in graph.nodes:
        place = node.place.partition("/")[0]
        if node.op.kind == "contraction" and place in widths and node.operands[1] in data:
            found = smallest(data[node.operands[1]], widths[place])
            if found is not None:
                bits, *arrays = found
                numbers, book = (Var(a.shape, a.dtype) for a in arrays)
                consts += [(numbers, arrays[0]), (book, arrays[1])]
                w = Var(node.operands[1].shape, node.operands[1].dtype)
                attrs = {"shape": w.shape, "bits": bits, "group": 1}
                nodes.append(Node(get("depalettize"), (numbers, book), attrs, (w,), node.place))
                node = Node(node.op, (node.operands[0], w), node.attrs, node.results, node.place)
        nodes.append(node)
    return prune(Graph(graph.inputs, graph.names, tuple(consts), tuple(nodes), graph.outputs))


def smallest(w: Array, widths: Sequence[int]) -> tuple[int, Array, Array] | None:
    """Bits, numbers and a codebook a row, of the first of ``widths`` that the rows' values fit and that saves a quarter; or None."""
    rows = w.reshape(len(w), -1)
    for bits in (b for b in widths if b < 8):
        book = np.zeros((len(w), 2**bits), w.dtype)
        codes = np.zeros(rows.shape, np.int64)
        for r, row in enumerate(rows):
            values, codes[r] = np.unique(row, return_inverse=True)
            if len(values) > 2**bits:
                break
            book[r, : len(values)] = values
        else:
            numbers = palette.pack(codes, bits)
            if 4 * (numbers.nbytes + book.nbytes) <= 3 * w.nbytes:
                return bits, numbers, book
    return None


__all__ = ["Palettize", "kmeans", "pack_weights", "smallest"]
