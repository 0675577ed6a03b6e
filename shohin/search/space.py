"""Spaces: a function asks a ``Trial`` for its choices, so the space is the Python that it runs. No way comes twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from shohin.core.errors import StateError


class Trial:
    """One way through ``build``. ``number`` counts from 0."""

    def __init__(self, space: Space, number: int) -> None:
        self.number, self.seed, self._space = number, space.seed * 1_000_003 + number, space
        self._rng = np.random.default_rng([space.seed, number])
        self._path: tuple[int, ...] = ()
        self.picks: dict[str, Any] = {}
        self.options: dict[str, list[str]] = {}

    def pick(self, name: str, options: Sequence[Any]) -> Any:
        """One of ``options``; asked again for the same name, the same one.

        >>> t = Trial(Space(0), 0)
        >>> t.pick("width", [8, 16]) == t.pick("width", [8, 16]) == t.picks["width"]
        True
        """
        texts = [repr(o) for o in options]
        if name in self.options:
            if self.options[name] != texts:
                raise StateError(f"pick({name!r}) is asked twice with different options; give the second another name")
            return self.picks[name]
        if not texts:
            raise StateError(f"pick({name!r}): there are no options")
        k = self._space.choose(self._path, len(texts), self._rng)
        self._path += (k,)
        self.options[name], self.picks[name] = texts, options[k]
        return options[k]

    @property
    def path(self) -> tuple[int, ...]:
        """The numbers of the choices, in the order in which they were asked."""
        return self._path


class Space:
    """The tree of choices seen so far: which paths are done, and so which branches are empty."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.sizes: dict[tuple[int, ...], int] = {}
        self.empty: set[tuple[int, ...]] = set()

    def choose(self, path: tuple[int, ...], count: int, rng: np.random.Generator) -> int:
        """One of ``count`` branches below ``path`` that still hold something new."""
        if self.sizes.setdefault(path, count) != count:
            raise StateError(
                f"build offers {count} options where it offered {self.sizes[path]} before; it must not depend on chance"
            )
        left = [k for k in range(count) if (*path, k) not in self.empty]
        return int(rng.choice(left))

    def done(self, path: tuple[int, ...]) -> None:
        """A path has been tried; a branch whose paths have all been tried is empty too."""
        self.empty.add(path)
        while path and all((*path[:-1], k) in self.empty for k in range(self.sizes[path[:-1]])):
            path = path[:-1]
            self.empty.add(path)

    @property
    def exhausted(self) -> bool:
        return () in self.empty


__all__ = ["Space", "Trial"]
