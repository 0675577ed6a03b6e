"""What options cost, as shares of a budget's limits, around the most likely way: the table that a search by gradient expects over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from shohin.compress.calibration import batches
from shohin.core.errors import ShohinError, StateError
from shohin.costs.meter import meter
from shohin.search.strategies import Setting
from shohin.search.ways import seeded, way

Array = np.ndarray[Any, Any]
EXAMPLES = 8
"""Grids do not change a cost, so that few examples calibrate."""


class Prices:
    """Prices of ways, each asked once. Bytes of flash are constants, counted in the graph, and the code of the first way that is asked;
    RAM is the exported artefact's, instructions the cost model's."""

    def __init__(self, setting: Setting) -> None:
        self._setting, self._limits = setting, setting.budget.limits()
        self._names = {n: "constants" if n == "flash" else n for n in self._limits}
        self._meter = meter(setting.device)
        self._x = next(batches(setting.calibration))[0][:EXAMPLES]
        self._known: dict[tuple[tuple[str, int], ...], Array] = {}
        self._code: float | None = None

    def __call__(self, wanted: Mapping[str, int]) -> Array:
        """(limits,): what the way takes of each limit, 1 is all of it."""
        key = tuple(sorted(wanted.items()))
        if key not in self._known:
            with seeded(self._setting.seed):
                self._known[key] = self._asked(wanted)
        return self._known[key]

    def _option(self, wanted: Mapping[str, int]) -> Array:
        """The same; an option that fails takes three times each limit."""
        try:
            return self(wanted)
        except StateError:
            raise
        except ShohinError:
            return np.full(len(self._limits), 3.0, np.float32)

    def _asked(self, wanted: Mapping[str, int]) -> Array:
        one = way(self._setting.build, self._setting.seed, wanted)
        small, xs = one.plan.apply(one.net, calibration=self._x), (self._x[:1],)
        found = self._meter(small, xs, tuple(self._names.values()), measured=False)
        if "flash" in self._limits:
            if self._code is None:
                self._code = self._meter(small, xs, ("flash",), measured=False)["flash"] - found["constants"]
            found = {**found, "constants": found["constants"] + self._code}
        return np.array([found[self._names[n]] / limit for n, limit in self._limits.items()], np.float32)

    def around(self, counts: Mapping[str, int], likely: Mapping[str, int]) -> tuple[Array, dict[str, Array]]:
        """The price of the most likely way (limits,), and by choice what each option adds to it where the others are the most likely (options, limits).

        Raises what that way raises: a device without a table of costs is no property of an option.
        """
        base = self(likely)
        return base, {name: np.stack([self._option({**likely, name: k}) - base for k in range(m)]) for name, m in counts.items()}


__all__ = ["Prices"]
