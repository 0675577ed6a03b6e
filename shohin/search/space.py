"""Spaces: a function asks a ``Trial`` for its choices, so the space is the Python that it runs. No way comes twice.

``pick`` steers Python; ``choice``, ``width``, ``repeat``, ``kernel`` and ``bits`` say what a choice is about. A strategy fixes each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from shohin.core.errors import NonFiniteError, StateError
from shohin.core.module import Module, copy
from shohin.nn import Sequential


class Stopped(Exception):
    """Ends a trial's training: the strategy gives up on it."""


class Trial:
    """One way through ``build``. ``number`` counts from 0; ``proposed`` has numbers of choices by name, where a strategy says.

    ``ordered`` are the choices whose options grow from the first to the last; ``chosen`` the modules that stand for options of a ``choice``;
    ``folder`` is a place for what this way's training keeps (``sh.fit(run=t.folder / "fit")``), the same in each attempt at it.
    """

    def __init__(self, space: Space, number: int, proposed: Mapping[str, int] | None = None) -> None:
        self.number, self.seed, self._space = number, space.seed * 1_000_003 + number, space
        self._rng = np.random.default_rng([space.seed, number])
        self._proposed = dict(proposed or {})
        self._path: tuple[int, ...] = ()
        self.picks: dict[str, Any] = {}
        self.options: dict[str, list[str]] = {}
        self.ordered: set[str] = set()
        self.chosen: list[tuple[str, int, Any]] = []
        self.folder: Path | None = None
        self.reports: list[tuple[int, float]] = []
        self.goes_on: Callable[[int, float], bool] = lambda epoch, value: True

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
        k = self._space.choose(self._path, len(texts), self._rng, self._proposed.get(name))
        self._path += (k,)
        self.options[name], self.picks[name] = texts, options[k]
        if all(isinstance(o, int | float) and not isinstance(o, bool) for o in options) and all(a < b for a, b in pairwise(options)):
            self.ordered.add(name)
        return options[k]

    def choice(self, name: str, options: Sequence[Callable[..., Any]]) -> Any:
        """One of several modules (or functions on tensors), to stand at one place of the network.

        >>> from shohin import nn
        >>> Trial(Space(0), 0).choice("op", [nn.ReLU(), nn.Identity()]).__class__.__name__ in ("ReLU", "Identity")
        True
        """
        for k, option in enumerate(options):
            if not callable(option):
                raise StateError(f"choice({name!r}): option {k} is {option!r}, expected a module; for values write pick")
        self.pick(name, options)
        k = self.choices[name]
        self.chosen.append((name, k, options[k]))  # asked again, as in each block of a repeat: the same option, a module of its own
        return options[k]

    def width(self, name: str, most: int, *, min: int, step: int = 8) -> int:
        """A number of channels: ``most``, or less by multiples of ``step``, at least ``min``.

        >>> t = Trial(Space(0), 0)
        >>> t.width("w", 64, min=16) in range(16, 65, 8), t.options["w"][0], t.options["w"][-1]
        (True, '16', '64')
        """
        if not 1 <= min <= most or step < 1:
            raise StateError(f"width({name!r}, {most}, min={min}, step={step}): expected 1 <= min <= most and a positive step")
        return self.pick(name, [*range(most, min - 1, -step)][::-1])

    def repeat(self, name: str, block: Callable[[], Any], *, max: int, min: int = 1) -> Sequential:
        """``min`` to ``max`` blocks one after another; ``block()`` makes one, a module is copied.

        >>> from shohin import nn
        >>> 1 <= len(Trial(Space(0), 0).repeat("n", lambda: nn.Linear(4, 4), max=3)) <= 3
        True
        """
        if not 0 <= min <= max:
            raise StateError(f"repeat({name!r}, max={max}, min={min}): expected 0 <= min <= max")
        count = self.pick(name, range(min, max + 1))
        return Sequential(*(copy(block) if isinstance(block, Module) else block() for _ in range(count)))

    def kernel(self, name: str, sizes: Sequence[int]) -> int:
        """The size of a window, for ``Conv2d(..., k, padding=k // 2)``: odd, so that a smaller one is the middle of a larger one.

        >>> Trial(Space(0), 0).kernel("k", (7, 3, 5)) in (3, 5, 7)
        True
        """
        for n in sizes:
            if not isinstance(n, int) or n < 1 or n % 2 == 0:
                raise StateError(f"kernel({name!r}): {n!r} is no odd size")
        return self.pick(name, sorted(sizes))

    def bits(self, name: str, options: Sequence[int]) -> int:
        """A width of integers, for ``Quantize(w=...)`` or ``Palettize(bits=...)``.

        >>> Trial(Space(0), 0).bits("b", (2, 4, 8)) in (2, 4, 8)
        True
        """
        for n in options:
            if not isinstance(n, int) or not 1 <= n <= 32:
                raise StateError(f"bits({name!r}): {n!r} is no number of bits")
        return self.pick(name, options)

    def report(self, epoch: int, value: float) -> None:
        """Say what training has reached after ``epoch`` (from 1); it ends here if the strategy gives up on this way.

        Raises ``NonFiniteError`` for a value that is no number: the trial is rejected with it.

        >>> t = Trial(Space(0), 0)
        >>> t.report(1, 0.5); t.reports
        [(1, 0.5)]
        """
        value = float(value)
        if not math.isfinite(value):
            raise NonFiniteError(f"the score is {value} at epoch {epoch}")
        self.reports.append((epoch, value))
        if not self.goes_on(epoch, value):
            raise Stopped

    @property
    def path(self) -> tuple[int, ...]:
        """The numbers of the choices, in the order in which they were asked."""
        return self._path

    @property
    def choices(self) -> dict[str, int]:
        """The number of each choice by name."""
        return dict(zip(self.options, self._path, strict=True))


class Space:
    """The tree of choices seen so far: which paths are done, and so which branches are empty."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.sizes: dict[tuple[int, ...], int] = {}
        self.empty: set[tuple[int, ...]] = set()

    def choose(self, path: tuple[int, ...], count: int, rng: np.random.Generator, wanted: int | None = None) -> int:
        """One of ``count`` branches below ``path`` that still hold something new: ``wanted`` if it does."""
        if self.sizes.setdefault(path, count) != count:
            raise StateError(
                f"build offers {count} options where it offered {self.sizes[path]} before; it must not depend on chance"
            )
        left = [k for k in range(count) if (*path, k) not in self.empty]
        drawn = int(rng.choice(left))
        return wanted if wanted in left else drawn

    def done(self, path: tuple[int, ...]) -> None:
        """A path has been tried; a branch whose paths have all been tried is empty too."""
        self.empty.add(path)
        while path and all((*path[:-1], k) in self.empty for k in range(self.sizes[path[:-1]])):
            path = path[:-1]
            self.empty.add(path)

    @property
    def exhausted(self) -> bool:
        return () in self.empty


__all__ = ["Space", "Stopped", "Trial"]
