"""Masks by a score: the weights whose score is largest stay, anywhere, n of m, or in blocks. A method says the score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from shohin.compress.mask import Masking
from shohin.compress.pattern import Pattern
from shohin.compress.slots import Demo
from shohin.compress.stats import Stats
from shohin.core.errors import PlanError
from shohin.core.tensor import Tensor


@dataclass(frozen=True)
class Scored(Masking, abstract=True):
    """Base of methods that have a ``score``; ``how`` names it in reports, ``by_row``: each output channel has its own zeros.

    ``pattern``: None, ``"n:m"`` (at most n of every m neighbours in a row are not 0) or ``"AxB"`` (blocks of A output channels
    by B terms leave as a whole).
    """

    sparsity: float = 0.5
    pattern: str | None = None
    how: ClassVar[str]
    by_row: ClassVar[bool] = False
    demo: ClassVar[Demo] = ({"sparsity": 0.5}, {"sparsity": 0.5, "pattern": "2:4"})

    def __post_init__(self) -> None:
        super().__post_init__()
        found, name = self.parsed, type(self).__name__
        if found.m and abs(self.sparsity - (1 - found.n / found.m)) > 1e-6:
            raise PlanError(
                f"{name}: pattern {self.pattern} keeps {found.n} of {found.m}, sparsity is {self.sparsity}; write "
                f"{name}({1 - found.n / found.m:g}, pattern={self.pattern!r})"
            )

    @property
    def parsed(self) -> Pattern:
        return Pattern.parse(self.pattern, type(self).__name__, self.by_row)

    @property
    def scheme(self) -> str:
        pattern = "" if self.pattern is None else f", {self.pattern}"
        ramp = "" if self.ramp is None else f", from update {self.ramp[0]} to {self.ramp[1]}"
        return f"{self.sparsity:.0%} zeros by {self.how}{pattern}{ramp}"

    def score(self, w: Tensor, stats: Stats) -> Tensor:
        """How much each weight of w (out, terms) is worth; none negative."""
        raise NotImplementedError(f"{type(self).__name__}.score(w, stats)")

    def keep(self, w: Tensor, stats: Stats, sparsity: Any) -> Tensor:
        return self.parsed.keep(self.score(w, stats), sparsity)


__all__ = ["Scored"]
