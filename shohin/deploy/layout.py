"""Where an artefact's bytes are: the arena over time, and constants by step, as the compiler planned them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One step of the schedule: bytes of the arena in use while it runs, and of the constants that it is the first to read."""

    place: str
    live: int
    constants: int


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A piece of the arena, made by ``place`` and kept from step ``first`` to step ``last``."""

    place: str
    offset: int
    size: int
    first: int
    last: int


@dataclass(frozen=True, kw_only=True)
class Layout:
    """``steps`` in their order, ``blocks`` by their first step.

    >>> steps = (Stage(place="a/conv2d", live=64, constants=9), Stage(place="b/conv2d", live=96, constants=9))
    >>> found = Layout(steps=steps, blocks=())
    >>> found.peak.place, found.constants_by_layer()
    ('b/conv2d', {'a': 9, 'b': 9})
    """

    steps: tuple[Stage, ...] = ()
    blocks: tuple[Piece, ...] = ()

    @property
    def peak(self) -> Stage:
        """The first step at which most bytes are in use."""
        return max(self.steps, key=lambda s: s.live, default=Stage(place="", live=0, constants=0))

    def constants_by_layer(self) -> dict[str, int]:
        """Bytes of constants by module, in the order of the schedule, modules without any left out."""
        found: dict[str, int] = {}
        for s in self.steps:
            if s.constants:
                found[layer(s.place)] = found.get(layer(s.place), 0) + s.constants
        return found

    def arena_if(self, factor: Callable[[Piece], float]) -> int:
        """The peak of the bytes in use if each block had ``factor`` times its size: an estimate, without placement."""
        sizes = [(b, b.size * factor(b)) for b in self.blocks]
        live = (sum(size for b, size in sizes if b.first <= k <= b.last) for k in range(len(self.steps)))
        return round(max(live, default=0))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Layout:
        return cls(steps=tuple(Stage(**s) for s in found["steps"]), blocks=tuple(Piece(**b) for b in found["blocks"]))


def layer(place: str) -> str:
    """The module of a place: ``stem`` of ``stem/conv2d``; the op where no module is.

    >>> layer("blocks.0.conv/conv2d"), layer("/mean")
    ('blocks.0.conv', 'mean')
    """
    module, _, op = place.partition("/")
    return module or op.partition("#")[0]


__all__ = ["Layout", "Piece", "Stage", "layer"]
