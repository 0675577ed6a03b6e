"""What falls short, where, and the first thing that would help: estimates on the planned arena and the stored constants."""

from __future__ import annotations

from collections.abc import Sequence

from shohin.deploy.budget import Budget
from shohin.deploy.layout import Layout, layer
from shohin.shipping.candidate import Candidate


def kilo(size: float) -> str:
    """Bytes as people write them.

    >>> kilo(112_000), kilo(940)
    ('112.0 kB', '940 bytes')
    """
    return f"{size / 1000:,.1f} kB" if size >= 1000 else f"{size:,.0f} bytes"


def short(candidate: Candidate, budget: Budget, others: Sequence[Candidate] = ()) -> list[str]:
    """A line for each limit that ``candidate`` does not meet: the layer, what it needs, what there is, and the remedy.

    A remedy that was tried (one of ``others`` fits) comes first, with its numbers; else the first that the layout says
    would be enough, with an estimate.
    """
    found: list[str] = []
    fitting = [c for c in others if not c.over(budget)]
    if budget.ram is not None and candidate.ram.value > budget.ram:
        found.append(_ram(candidate, int(budget.ram), fitting))
    if budget.flash is not None and candidate.flash.value > budget.flash:
        found.append(_flash(candidate, int(budget.flash), fitting))
    if budget.instructions is not None and candidate.instructions and candidate.instructions.value > budget.instructions:
        found.append(f"{candidate.instructions.value:,} instructions of {int(budget.instructions):,}: fewer channels, or a smaller input")
    return found


def _tried(fitting: Sequence[Candidate], what: str) -> str:
    best = max(fitting, key=lambda c: (c.score, -c.flash.value))
    size = best.ram.value if what == "RAM" else best.flash.value
    return f"{best.name} fits ({kilo(size)})"


def _ram(c: Candidate, limit: int, fitting: Sequence[Candidate]) -> str:
    layout = c.artefact.layout
    room = limit - (c.ram.value - c.arena.value)  # what variables and stack leave
    if room <= 0 or not layout.blocks:
        return f"variables and stack alone take {kilo(c.ram.value - c.arena.value)} of RAM, {kilo(limit)} are there"
    said = f"{layer(layout.peak.place)} needs {kilo(layout.peak.live)} of RAM for activations, {kilo(room)} are there"
    return f"{said}: {_tried(fitting, 'RAM') if fitting else _activations(layout, room, c.integer)}"


def _activations(layout: Layout, room: int, integer: bool) -> str:
    """The first change of the network after which the arena's estimate is below ``room``."""
    if not integer and layout.arena_if(lambda b: 0.25) <= room:
        return f"8-bit activations would fit (about {kilo(layout.arena_if(lambda b: 0.25))})"
    at = max(range(len(layout.steps)), key=lambda k: layout.steps[k].live)
    largest = max((b for b in layout.blocks if b.first <= at <= b.last), key=lambda b: b.size)
    place = layer(largest.place)
    for text, factor in (
        (f"half the channels of {place}", lambda b: 0.5 if layer(b.place) == place else 1.0),
        (f"stride 2 at {place}", lambda b: 0.25 if b.first >= largest.first else 1.0),
        ("half the input's height and width", lambda b: 0.25),
    ):
        size = layout.arena_if(factor)
        if size <= room:
            return f"{text} would fit (about {kilo(size)}, modelled)"
    return f"all activations would have to shrink to {room / layout.peak.live:.0%}: a smaller input, and fewer channels"


def _flash(c: Candidate, limit: int, fitting: Sequence[Candidate]) -> str:
    constants = c.artefact.layout.constants_by_layer()
    name, size = max(constants.items(), key=lambda item: item[1], default=("the code", 0))
    said = f"{kilo(c.flash.value)} of {kilo(limit)} of flash, {kilo(size)} of them are {name}'s weights"
    if fitting:
        return f"{said}: {_tried(fitting, 'flash')}"
    total, code = sum(constants.values()), c.sections["text"]
    if code >= limit:
        return f"{said}: the code alone takes {kilo(code)}; fewer different layers"
    if not c.integer and code + total / 4 <= limit:
        return f"{said}: 8-bit weights would fit (about {kilo(code + total / 4)}, modelled)"
    if c.integer:
        for bits in (4, 3, 2):
            if code + total * bits / 8 <= limit:
                return f"{said}: {bits}-bit tables would fit at best (about {kilo(code + total * bits / 8)}, modelled, without their values)"
    return f"{said}: {max(limit - code, 0) / total:.0%} of the weights would fit; fewer channels"


__all__ = ["kilo", "short"]
