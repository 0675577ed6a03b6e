"""One candidate for each place, of the least total loss within limits: an integer program, solved by SciPy (HiGHS). Needs the extra ``mixed``."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

try:
    from scipy.optimize import Bounds, LinearConstraint, milp
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("compress.mixed needs the package scipy: pip install 'shohin[mixed]'", name="scipy") from error

Array = np.ndarray[Any, Any]
Choice = tuple[int, ...]
"""The number of the candidate, by place."""


@dataclass(frozen=True, eq=False)
class Row:
    """What a choice takes of ``name``: ``fixed``, ``amounts`` (places, candidates) of what is chosen, and what is ``shared`` (places,
    candidates): equal numbers of one candidate stand for one thing, as a kernel, that is paid once."""

    name: str
    fixed: float
    amounts: Array
    shared: Array

    def things(self) -> list[tuple[int, float]]:
        """What can be shared: (candidate, amount)."""
        return sorted({(c, float(v)) for row in self.shared for c, v in enumerate(row) if v})

    def __call__(self, choice: Choice) -> float:
        """The whole.

        >>> Row("flash", 10.0, np.array([[4.0, 2.0], [8.0, 4.0]]), np.array([[0.0, 1.0], [0.0, 1.0]]))((1, 1))
        17.0
        """
        at = (range(len(choice)), list(choice))
        paid = {(c, float(v)) for c, v in zip(choice, self.shared[at], strict=True)}
        return self.fixed + float(self.amounts[at].sum()) + sum(v for _, v in paid)


def assign(loss: Array, rows: Sequence[Row], limits: Sequence[float], without: Collection[Choice] = ()) -> Choice | None:
    """The choice of least ``loss`` (places, candidates), summed, whose rows keep their limits and which is none of ``without``; None if
    there is none.

    min sum_pc loss_pc x_pc  with  sum_c x_pc = 1,  sum_pc amount_pc x_pc + sum_k shared_k u_k <= limit - fixed,  x_pc <= u_k where p and c share k

    >>> amounts = np.array([[8.0, 4.0], [8.0, 4.0]])
    >>> assign(np.array([[0.0, 3.0], [0.0, 1.0]]), [Row("flash", 0.0, amounts, np.zeros((2, 2)))], [12.0])
    (0, 1)
    """
    places, candidates = loss.shape
    n = places * candidates
    things = [(row, *thing) for row in rows for thing in row.things()]
    wide = lambda x, u=None: np.concatenate([np.reshape(x, -1), np.zeros(len(things)) if u is None else u])
    pick = lambda choice: np.eye(candidates)[list(choice)]
    one = [wide(np.arange(places)[:, None] == np.full((1, candidates), p)) for p in range(places)]
    used = [
        wide(np.eye(n)[p * candidates + c], -np.eye(len(things))[k])
        for k, (row, c, v) in enumerate(things)
        for p in range(places)
        if row.shared[p, c] == v
    ]
    # amounts in units of the limit: the solver's tolerance is absolute
    unit = [max(abs(limit), 1.0) for limit in limits]
    held = [wide(r.amounts, np.array([v * (row is r) for row, _, v in things])) / u for r, u in zip(rows, unit, strict=True)]
    room = [(limit - r.fixed) / u for r, limit, u in zip(rows, limits, unit, strict=True)]
    barred = [wide(pick(choice)) for choice in without]
    upper = np.array([*[1.0] * places, *[0.0] * len(used), *room, *[places - 1.0] * len(barred)])
    lower = np.array([*[1.0] * places, *[-np.inf] * (len(upper) - places)])
    scale = 1e3 / max(float(np.abs(loss).max()), 1e-30)
    found = milp(wide(loss * scale), integrality=wide(np.ones(n)), bounds=Bounds(0, 1), options={"mip_rel_gap": 0.0},
                 constraints=LinearConstraint(np.array([*one, *used, *held, *barred]), lower, upper))  # type: ignore[arg-type]  # fmt: skip
    if found.status == 2:
        return None
    if found.x is None:
        raise RuntimeError(f"the integer program was not solved: {found.message}")
    return tuple(int(k) for k in found.x[:n].reshape(places, candidates).argmax(1))


__all__ = ["Choice", "Row", "assign"]
