"""``DKM``: the slot ``table``, by k-means that is part of the network and trained with it.

    d_ij = |w_i - c_j|^2,   a_ij = softmax_j(-d_ij / (temperature * var(w))),   c_j <- sum_i a_ij w_i / sum_i a_ij

a number of times in every forward pass, from the codebook that the last one led to; then, in training, the weight is
sum_j a_ij c_j, so that the loss moves the weights through their entries and their attention to them. In evaluation (and in what
is exported) each weight takes its nearest entry, and an entry is the mean of the weights that take it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from shohin.compress.palettize import Palettize
from shohin.compress.stats import Stats
from shohin.compress.table import Rule, Table
from shohin.compress.weights import Reweighting, Weight
from shohin.core import dtypes
from shohin.core.cells import Buffer
from shohin.core.errors import PlanError
from shohin.core.tensor import Tensor, as_tensor
from shohin.ops import linear, math, move, palette, reduce
from shohin.ops.activations import stop_gradient

Array = np.ndarray[Any, Any]
FAR = 1e20
"""A squared distance to an entry that a weight may not take."""


@dataclass(frozen=True)
class DKM(Palettize):
    """2^``bits`` values (or vectors of ``dim``) for each ``group`` channels, found by differentiable k-means while training.

    ``temperature`` is relative to the variance of the group's weights: 0.01 is nearly hard. ``rounds``: steps of k-means a
    forward pass. The first codebook is ``Palettize``'s. Weights that a mask holds at 0, now or later, take an entry that is 0.
    Unlike ``Palettize`` the weights stay, float32, until export, and may change entries.

    Under ``Quantize`` training follows evaluation: entries are means of the weights that take them, so the gradient
    of an entry is shared among its weights, without attention.

    Source: Cho et al. 2022 (DKM, arXiv:2108.12659), section 3.2 and figure 2. There distances are not squared, the temperature is absolute, and
    steps are taken until the codebook moves by less than a bound, 5 at most; here their number is fixed.
    """

    temperature: float = 0.02
    rounds: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.temperature > 0:
            raise PlanError(f"DKM: temperature is {self.temperature}, expected a positive fraction of the weights' variance")
        if self.rounds < 1:
            raise PlanError(f"DKM: rounds is {self.rounds}, expected 1 step of k-means a forward pass, or more")

    @property
    def scheme(self) -> str:
        return f"{super().scheme}, differentiable"

    def state(self, w: Weight, stats: Stats) -> Reweighting:
        self.fits(w)
        if self.group is not None and len(w.value) > self.group and len(w.value) % self.group:
            raise PlanError(f"DKM at {w.place}: groups of {self.group} do not divide {len(w.value)} output channels; choose another group")
        if w.masked and self.bits == 1:
            raise PlanError(f"DKM at {w.place}: of 2 entries a mask's zeros take one; write bits=2 or more")
        return Soft(w, self, self.rule(w, stats))


class Soft(Table):
    """The ``codebook`` that the next forward pass starts from; ``forward(w)`` is the weight."""

    def __init__(self, w: Weight, method: DKM, rule: Rule) -> None:
        super().__init__(w.value, method)
        self.temperature, self.rounds, self.masked = method.temperature, method.rounds, w.masked
        self.codebook: Any = Buffer(self.first(w.value, w.value == 0 if w.masked else None, rule)[0])

    def forward(self, w: Any) -> Tensor:
        x = move.reshape(w, (-1, self.group * int(np.prod(self.shape[1:])) // self.dim, self.dim))
        held = reduce.all(math.equal(x, 0.0), axis=2) if self.masked else None
        book: Any = move.reshape(self.codebook, (x.shape[0], -1, self.dim))
        if not self.training:
            codes = reduce.argmin(self.distances(x, book, held), axis=2)
            taken = math.astype(math.equal(move.expand_dims(codes, axis=2), as_tensor(np.arange(book.shape[1]))), dtypes.float32)
            means = move.reshape(self.means(x, taken, book), (x.shape[0], -1))
            numbers = palette.packed_numbers(move.reshape(codes, (self.shape[0], -1)), self.bits)
            return palette.depalettize(numbers, means, shape=self.shape, bits=self.bits, group=self.group, dim=self.dim)
        for _ in range(self.rounds):
            book = self.means(x, self.attention(x, book, held), book)
        self.codebook = stop_gradient(move.reshape(book, self.codebook.shape))
        return move.reshape(linear.matmul(self.attention(x, book, held), book), self.shape)

    def distances(self, x: Tensor, book: Tensor, held: Tensor | None) -> Tensor:
        """(groups, vectors, entries), squared."""
        apart = [math.square(x[:, :, d, None] - book[:, None, :, d]) for d in range(self.dim)]
        total = sum(apart[1:], apart[0])
        if held is None:
            return total
        first = as_tensor(np.arange(book.shape[1]) == 0)  # the held zero's entry, which no others take
        return math.where(math.equal(move.expand_dims(held, axis=2), first), total, FAR)

    def attention(self, x: Tensor, book: Tensor, held: Tensor | None) -> Tensor:
        """How much each vector is of each entry: (groups, vectors, entries), which add up to 1."""
        spread = reduce.mean(math.square(x - reduce.mean(x, axis=1, keepdims=True)), axis=(1, 2), keepdims=True) * self.dim
        d = self.distances(x, book, held) / (self.temperature * stop_gradient(spread) + 1e-12)
        e = math.exp(stop_gradient(reduce.min(d, axis=2, keepdims=True)) - d)
        return e / reduce.sum(e, axis=2, keepdims=True)

    def means(self, x: Tensor, share: Tensor, book: Tensor) -> Tensor:
        """Entries as means of the vectors by their shares; as before where there are none."""
        turned = move.matrix_transpose(share)
        mass = reduce.sum(turned, axis=2, keepdims=True)
        return math.where(mass > 1e-6, linear.matmul(turned, x) / math.maximum(mass, 1e-6), book)


__all__ = ["DKM", "Soft"]
