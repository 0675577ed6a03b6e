"""``Palettize``: the slot ``table``, by k-means, and how weights of few values are stored under integers.

With ``Quantize`` above a table, rows of integers take few values too, and weights of fewer than 8 bits lie in a small range:
``pack_weights`` stores them in the smallest of the forms that hold them exactly.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from shohin.compress.kmeans import kmeans, lbg
from shohin.compress.part import Part
from shohin.compress.stats import Stats
from shohin.compress.table import Table, Tabling
from shohin.core.graph import Graph, Node, Var
from shohin.core.module import Module
from shohin.core.op import get
from shohin.core.tensor import Tensor
from shohin.core.trace import prune
from shohin.ops import narrow, palette

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Palettize(Tabling):
    """Weights of 2^``bits`` values (1 to 4 bits), by k-means for each ``group`` output channels (None: for the tensor).

    With ``dim`` 2, 4 or 8 an entry is a vector of as many neighbours along the innermost dim (bits up to 8). Training moves the
    values; which weight takes which stays. Sources: Han et al. 2016 (arXiv:1510.00149), section 3; vectors: Stock et al. 2020
    (arXiv:1907.05686), section 3.1, who weigh the error by the layer's inputs, which ``FisherPalettize`` does by the loss.
    """

    def values(self, w: Tensor, stats: Stats, entries: int) -> Array:
        if self.dim > 1:
            return lbg(w.numpy(), entries)
        return kmeans(w.numpy(), entries, line=entries == 2**self.bits)


@dataclass(frozen=True)
class Stored:
    """One form of a weight of integers: the storage op, its attributes, its operands."""

    op: str
    attrs: Mapping[str, Any]
    arrays: tuple[Array, ...]

    @property
    def nbytes(self) -> int:
        return sum(a.nbytes for a in self.arrays)

    @property
    def bits(self) -> int:
        return self.attrs["bits"]


def pack_weights(graph: Graph, net: Module) -> Graph:
    """The integer program of ``net`` with the weights of palettized layers, and those of fewer than 8 bits, packed where that saves
    a quarter: the same values."""
    own = getattr(net, "weight_bits", lambda path: 8)  # a Quantized, which imports this module
    dims: dict[str, Sequence[int]] = {path: (1,) for path in net.modules() if own(path) < 8}
    for path, m in net.modules().items():
        if isinstance(m, Table | Part) and m.bits:
            dims[path.rpartition(".")[0]] = (1, m.dim) if m.dim > 1 else (1,)
    data = dict(graph.consts)
    nodes: list[Node] = []
    consts = list(graph.consts)
    for node in graph.nodes:
        place = node.place.partition("/")[0]
        if node.op.kind == "contraction" and place in dims and node.operands[1] in data:
            found = smallest(data[node.operands[1]], dims[place])
            if found is not None:
                operands = tuple(Var(a.shape, a.dtype) for a in found.arrays)
                consts += zip(operands, found.arrays, strict=True)
                w = Var(node.operands[1].shape, node.operands[1].dtype)
                nodes.append(Node(get(found.op), operands, found.attrs, (w,), node.place))
                node = Node(node.op, (node.operands[0], w), node.attrs, node.results, node.place)
        nodes.append(node)
    return prune(Graph(graph.inputs, graph.names, tuple(consts), tuple(nodes), graph.outputs))


def smallest(w: Array, dims: Sequence[int] = (1,)) -> Stored | None:
    """The smallest of the forms that hold the int8 w (out, ...), if it saves a quarter: integers of few bits, or numbers of values (or of
    vectors of ``dims``) with a codebook for a row, for some, or for all.

    >>> smallest(np.int8([[-3, 3, 0, 1, 2, -2, 1, 1]])).op
    'widen'
    >>> found = smallest(np.tile(np.int8([90, -40, 7, 0]), (8, 2)))
    >>> found.op, found.attrs["group"], found.nbytes
    ('depalettize', 8, 20)
    """
    found = min(_forms(w, dims), key=lambda form: form.nbytes, default=None)
    return found if found is not None and 4 * found.nbytes <= 3 * w.nbytes else None


def _forms(w: Array, dims: Sequence[int]) -> Iterator[Stored]:
    low, high = int(w.min(initial=0)), int(w.max(initial=0))
    bits = max(2, 1 + max(high, -low - 1).bit_length())
    if bits <= 4:
        yield Stored("widen", {"shape": w.shape, "bits": bits}, (narrow.pack_integers(w, bits),))
    for dim in (d for d in dims if w.shape[-1] % d == 0):
        words = np.ascontiguousarray(w).view(f"u{dim}").reshape(len(w), -1)
        entries, codes = np.unique(words, return_inverse=True)
        codes, most = codes.reshape(words.shape), 4 if dim == 1 else 8
        for group in sorted({len(w), *(2**k for k in range(len(w).bit_length()) if 2**k < len(w))}):
            used = [np.unique(codes[k : k + group]) for k in range(0, len(w), group)]
            bits = max(1, (max(map(len, used)) - 1).bit_length())
            if bits > most:
                break  # more rows have no fewer values
            book = np.zeros((len(used), 2**bits), words.dtype)
            numbers = np.empty_like(codes)
            for k, own in enumerate(used):
                book[k, : len(own)] = entries[own]
                rows = slice(k * group, (k + 1) * group)
                numbers[rows] = np.searchsorted(own, codes[rows])
            attrs = {"shape": w.shape, "bits": bits, "group": group, "dim": dim}
            yield Stored("depalettize", attrs, (palette.pack(numbers, bits), book.view(np.int8).reshape(len(used), -1)))


__all__ = ["Palettize", "Stored", "kmeans", "pack_weights", "smallest"]
