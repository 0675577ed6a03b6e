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

from shohin.compress.method import Method
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
        modules, tied = net.modules(), net.aliases()
        for path, method in chosen.items():
            assert isinstance(method, Palettize)
            for name, cell in list(modules[path]._entries()):
                if isinstance(cell, Param) and len(cell.shape) > 1:
                    where = f"{path}.{name}" if path else name
                    if where in tied or where in tied.values():
                        raise PlanError(f"Palettize: {where} is tied to another place; write ({path!r}, None) after it")
                    _share(modules[path], name, Palette(cell.read().numpy(), method.bits, method.group))
        return net


class Palette(Module):
    """The numbers (packed, kept) and the codebook (trained) of one weight; ``dense()`` is the weight."""

    def __init__(self, w: Array, bits: int, group: int | None) -> None:
        self.shape, self.bits, self.group = tuple(w.shape), bits, min(group or len(w), len(w))
        codes, book = [], []
        for start in range(0, len(w), self.group):
            rows = w[start : start + self.group].reshape(len(w[start : start + self.group]), -1)
            values = kmeans(rows.reshape(-1), 2**bits)
            codes.append(nearest(rows, values))
            book.append(values)
        self.numbers = Buffer(palette.pack(np.concatenate(codes), bits))
        self.codebook = Param(np.stack(book))

    def dense(self) -> Tensor:
        return palette.depalettize(self.numbers, self.codebook, shape=self.shape, bits=self.bits, group=self.group)


def kmeans(x: Array, k: int) -> Array:
    """k values, ascending, float32, that Lloyd's steps from a line over the range of x lead to; deterministic.

    >>> kmeans(np.float32([0, 0, 1, 1, 5, 5]), 4).tolist()
    [0.0, 1.0, 5.0, 5.0]
    """
    v = np.sort(x.astype(np.float64))
    sums = np.concatenate([[0.0], np.cumsum(v)])
    centres = v[0] + (v[-1] - v[0]) * np.arange(k) / (k - 1)
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


_CLASSES: dict[tuple[type[Any], str], type[Any]] = {}


def _share(layer: Module, name: str, table: Palette) -> None:
    """From now on ``layer.<name>`` is computed from the palette: the layer's class gets a property of that name."""
    own, key = f"{name}_palette", (type(layer), name)
    if key not in _CLASSES:
        weight = property(lambda self: object.__getattribute__(self, "__dict__")[own].dense())
        _CLASSES[key] = type(type(layer).__name__, (type(layer),), {name: weight, "__module__": type(layer).__module__})
    object.__getattribute__(layer, "__dict__").pop(name)
    object.__setattr__(layer, "__class__", _CLASSES[key])
    setattr(layer, own, table)


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
