"""``Palettize``: the slot ``table``. Weights are few values: packed numbers of entries of small codebooks.

A layer's weight becomes ``depalettize(numbers, codebook)``, computed wherever the layer reads it, so that training
moves the codebook and everything else (quantization, export) needs nothing new. With ``Quantize`` above it, each row
of integers takes few values too, and ``pack_weights`` stores them as numbers and a codebook of int8.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from shohin.compress.method import Method, Reweighting, reparametrize, weights
from shohin.core.cells import Buffer, Param
from shohin.core.errors import PlanError
from shohin.core.graph import Graph, Node, Var
from shohin.core.module import Module
from shohin.core.op import get
from shohin.core.tensor import Tensor
from shohin.core.trace import prune
from shohin.ops import palette

Array = np.ndarray[Any, Any]
ROUNDS = 100


@dataclass(frozen=True)
class Palettize(Method):
    """Weights of 2^``bits`` values (1 to 4 bits), by k-means for each ``group`` output channels (None: for the tensor).

    Training moves the values; which weight takes which stays. Source: Han et al. 2016 (arXiv:1510.00149), section 3.
    """

    bits: int = 2
    group: int | None = None
    slot: ClassVar[str] = "table"

    def __post_init__(self) -> None:
        if self.bits not in (1, 2, 3, 4):
            raise PlanError(f"Palettize: bits is {self.bits!r}, expected 1 to 4; for 8 write Quantize(w=8)")
        if self.group is not None and self.group < 1:
            raise PlanError(f"Palettize: group is {self.group}, expected a positive number of output channels")

    @property
    def scheme(self) -> str:
        return f"{2**self.bits} values for {'a tensor' if self.group is None else f'{self.group} channels'}"

    @classmethod
    def apply(cls, net: Module, chosen: Mapping[str, Method], calibration: Any) -> Module:
        for w in list(weights(net, chosen)):
            table = Palette(w.value, w.method.bits, w.method.group, w.value == 0 if w.masked else None)
            reparametrize(w.layer, w.name, table)
        return net


class Palette(Reweighting):
    """The numbers (packed, kept) and the codebook (trained) of one weight; ``forward`` is the weight.

    Weights marked in ``zeros`` (a mask's) take an entry that is 0 and stays 0, and no others take it.
    """

    slot, kind, done, replaces = "table", "palette", "palettized", True

    def __init__(self, w: Array, bits: int, group: int | None, zeros: Array | None = None) -> None:
        self.shape, self.bits, self.group = tuple(w.shape), bits, min(group or len(w), len(w))
        flat = w.reshape(len(w), -1)
        held = np.zeros(flat.shape, bool) if zeros is None else zeros.reshape(flat.shape)
        codes, book = np.zeros(flat.shape, np.int64), np.zeros((-(-len(w) // self.group), 2**bits), np.float32)
        for g, start in enumerate(range(0, len(w), self.group)):
            rows = slice(start, start + self.group)
            free, spare = ~held[rows], int(held[rows].any())  # entry 0 is the held zero
            if free.any():
                book[g, spare:] = kmeans(flat[rows][free], 2**bits - spare, line=not spare)
                codes[rows][free] = spare + nearest(flat[rows][free], book[g, spare:])
        self.numbers = Buffer(palette.pack(codes, bits))
        self.codebook = Param(book)
        if held.any():
            moves = np.ones(book.shape, np.float32)
            moves[[held[k : k + self.group].any() for k in range(0, len(w), self.group)], 0] = 0
            self.moves = Buffer(moves)

    def forward(self, w: Any = None) -> Tensor:
        book: Any = self.codebook
        if hasattr(self, "moves"):
            book = book * self.moves
        return palette.depalettize(self.numbers, book, shape=self.shape, bits=self.bits, group=self.group)


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


def nearest(x: Array, values: Array) -> Array:
    """For each x the number of the nearest of the ascending ``values``."""
    return np.searchsorted((values[1:].astype(np.float64) + values[:-1]) / 2, x.astype(np.float64))


def pack_weights(graph: Graph, net: Module) -> Graph:
    """The integer program of ``net`` with palettized layers' weights packed where that is smaller: the same values."""
    bits = {p.rpartition(".")[0]: m.bits for p, m in net.modules().items() if isinstance(m, Palette)}
    data = dict(graph.consts)
    nodes: list[Node] = []
    consts = list(graph.consts)
    for node in graph.nodes:
        place = node.place.partition("/")[0]
        if node.op.kind == "contraction" and place in bits and node.operands[1] in data:
            packed = _packed(data[node.operands[1]], bits[place])
            if packed is not None:
                numbers, book = (Var(a.shape, a.dtype) for a in packed)
                consts += [(numbers, packed[0]), (book, packed[1])]
                w = Var(node.operands[1].shape, node.operands[1].dtype)
                attrs = {"shape": w.shape, "bits": bits[place], "group": 1}
                nodes.append(Node(get("depalettize"), (numbers, book), attrs, (w,), node.place))
                node = Node(node.op, (node.operands[0], w), node.attrs, node.results, node.place)
        nodes.append(node)
    return prune(Graph(graph.inputs, graph.names, tuple(consts), tuple(nodes), graph.outputs))


def _packed(w: Array, bits: int) -> tuple[Array, Array] | None:
    """Numbers and a codebook a row, or None where the rows have more values or nothing is saved."""
    rows = w.reshape(len(w), -1)
    book = np.zeros((len(w), 2**bits), w.dtype)
    codes = np.zeros(rows.shape, np.int64)
    for r, row in enumerate(rows):
        values, codes[r] = np.unique(row, return_inverse=True)
        if len(values) > 2**bits:
            return None
        book[r, : len(values)] = values
    numbers = palette.pack(codes, bits)
    return (numbers, book) if numbers.nbytes + book.nbytes < w.nbytes else None


__all__ = ["Palette", "Palettize", "kmeans", "nearest", "pack_weights"]
