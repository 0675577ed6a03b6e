"""Patterns of a mask: which weights leave together, and with which they compete for their places.

A pattern sees a weight (out, terms) as a matrix of *rivals* (groups, members): in each group the members with the largest
scores stay. Without a pattern the tensor (or, ``by_row``, an output channel) is one group and a weight a member; ``n:m`` makes
a group of every m neighbours of a row; ``AxB`` makes a member of every block of A output channels by B terms, whose score is
the root of the mean square of its weights' scores.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from shohin.compress.largest import largest_in_rows, most_of_each
from shohin.core import dtypes
from shohin.core.errors import PlanError
from shohin.core.tensor import Tensor, as_tensor
from shohin.ops import math, move, reduce

MOST = 32
"""The longest group of ``n:m``: each of its weights is compared with all others."""


@dataclass(frozen=True, kw_only=True)
class Pattern:
    """``n`` of every ``m`` neighbours (0: no groups), or blocks; ``by_row``: each output channel for itself."""

    n: int = 0
    m: int = 0
    block: tuple[int, int] = (1, 1)
    by_row: bool = False

    @classmethod
    def parse(cls, text: str | None, owner: str, by_row: bool = False) -> Pattern:
        """``None``, ``"2:4"`` or ``"4x1"``; ``owner`` is who says so in an error.

        >>> Pattern.parse("4x1", "Prune").block
        (4, 1)
        """
        found = re.fullmatch(r"(\d+)([:x])(\d+)", text or "")
        if text is None:
            return cls(by_row=by_row)
        if found and found[2] == ":" and 0 < int(found[1]) < int(found[3]) <= MOST:
            return cls(n=int(found[1]), m=int(found[3]))
        if found and found[2] == "x" and int(found[1]) * int(found[3]) > 1:
            return cls(block=(int(found[1]), int(found[3])), by_row=by_row and found[1] == "1")
        raise PlanError(
            f"{owner}: pattern is {text!r}, expected n:m with 0 < n < m <= {MOST}, such as '4:8', blocks of output channels "
            "by terms, such as '4x1', or None"
        )

    def rivals(self, scores: Tensor) -> Tensor:
        """(groups, members) of scores (out, terms), none negative; what only fills a group up is -1."""
        out, terms = scores.shape
        if self.m:
            whole = -(-terms // self.m) * self.m
            return move.reshape(move.pad(scores, ((0, 0), (0, whole - terms)), -1.0), (-1, self.m))
        if self.block != (1, 1):
            (a, b), (p, q) = self.block, self._blocks((out, terms))
            padded = move.pad(scores * scores, ((0, p * a - out), (0, q * b - terms)), 0.0)
            inside = np.pad(np.ones((out, terms), np.float32), ((0, p * a - out), (0, q * b - terms)))
            sums = reduce.sum(move.reshape(padded, (p, a, q, b)), axis=(1, 3))
            scores = math.sqrt(sums / as_tensor(inside.reshape(p, a, q, b).sum((1, 3))))
        return scores if self.by_row else move.reshape(scores, (1, -1))

    def spread(self, members: Tensor, shape: tuple[int, int]) -> Tensor:
        """What belongs to the members (groups, members) at every weight of (out, terms)."""
        out, terms = shape
        if self.m:
            return move.reshape(members, (out, -1))[:, :terms]
        (a, b), (p, q) = self.block, self._blocks(shape)
        if self.block != (1, 1):
            wide = move.broadcast_to(move.reshape(members, (p, 1, q, 1)), (p, a, q, b))
            return move.reshape(wide, (p * a, q * b))[:out, :terms]
        return move.reshape(members, shape)

    def keep(self, scores: Any, sparsity: Any) -> Tensor:
        """Marks of scores (out, terms) the fraction 1 - ``sparsity`` that is largest in each group: at least one member, all
        but ``floor(sparsity * members)``.

        >>> Pattern(block=(1, 2)).keep(np.float32([[3, 0, 1, 1, 2, 2]]), 0.5).tolist()
        [[True, True, False, False, True, True]]
        """
        s = as_tensor(scores)
        rivals = self.rivals(s)
        count = rivals.shape[1] - floor(sparsity, rivals.shape[1])
        marks = most_of_each(rivals, count) if self.m else largest_in_rows(rivals, count)
        return self.spread(marks, (s.shape[0], s.shape[1]))

    def _blocks(self, shape: tuple[int, int]) -> tuple[int, int]:
        return -(-shape[0] // self.block[0]), -(-shape[1] // self.block[1])


def floor(sparsity: Any, size: int) -> Tensor:
    """``sparsity * size`` as int32; a product that is an integer but for its rounding is that integer."""
    return math.astype(math.floor(math.astype(as_tensor(sparsity), dtypes.float64) * float(size) + 1e-6), dtypes.int32)


__all__ = ["MOST", "Pattern", "floor"]
