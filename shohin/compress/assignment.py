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
    """What a choice takes of ``name``: ``fixed``, ``amounts`` (places, candidates) of what is chosen, and ``charges`` (candidates,) once
    for each candidate that is used at all."""

    name: str
    fixed: float
    amounts: Array
    charges: Array

    def __call__(self, choice: Choice) -> float:
        """The whole.

        >>> Row("flash", 10.0, np.array([[4.0, 2.0], [8.0, 4.0]]), np.array([0.0, 1.0]))((0, 1))
        19.0
        """
        return self.fixed + float(self.amounts[range(len(choice)), list(choice)].sum() + self.charges[sorted(set(choice))].sum())


def assign(loss: Array, rows: Sequence[Row], limits: Sequence[float], without: Collection[Choice] = ()) -> Choice | None:
    """The choice of least ``loss`` (places, candidates), summed, whose rows keep their limits and which is none of ``without``; None if
    there is none.

    min sum_pc loss_pc x_pc  with  sum_c x_pc = 1,  sum_pc amount_pc x_pc + sum_c charge_c u_c <= limit - fixed,  x_pc <= u_c,  x in {0, 1}

    >>> bytes_ = Row("flash", 0.0, np.array([[8.0, 4.0], [8.0, 4.0]]), np.zeros(2))
    >>> assign(np.array([[0.0, 3.0], [0.0, 1.0]]), [bytes_], [12.0])
    (0, 1)
    """
    places, candidates = loss.shape
    n = places * candidates
    pick = lambda choice: np.eye(candidates)[list(choice)].reshape(-1)
    wide = lambda x, u=None: np.concatenate([x, np.zeros(candidates) if u is None else u])
    one = [wide(np.repeat(np.eye(places)[p], candidates)) for p in range(places)]
    used = [wide(np.eye(n)[p * candidates + c], -np.eye(candidates)[c]) for p in range(places) for c in range(candidates)]
    # amounts in units of the limit: the solver's tolerance is absolute
    held = [wide(r.amounts.reshape(-1), r.charges) / max(abs(limit), 1.0) for r, limit in zip(rows, limits, strict=True)]
    room = [(limit - r.fixed) / max(abs(limit), 1.0) for r, limit in zip(rows, limits, strict=True)]
    barred = [wide(pick(choice)) for choice in without]
    upper = np.array([*[1.0] * places, *[0.0] * n, *room, *[places - 1.0] * len(barred)])
    lower = np.array([*[1.0] * places, *[-np.inf] * (n + len(room) + len(barred))])
    scale = 1e3 / max(float(np.abs(loss).max()), 1e-30)
    found = milp(wide(loss.reshape(-1) * scale), integrality=wide(np.ones(n)), bounds=Bounds(0, 1), options={"mip_rel_gap": 0.0},
                 constraints=LinearConstraint(np.array([*one, *used, *held, *barred]), lower, upper))  # type: ignore[arg-type]  # fmt: skip
    if found.status == 2:
        return None
    if found.x is None:
        raise RuntimeError(f"the integer program was not solved: {found.message}")
    return tuple(int(k) for k in found.x[:n].reshape(places, candidates).argmax(1))


__all__ = ["Choice", "Row", "assign"]
