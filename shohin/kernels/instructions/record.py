"""Instructions with their meaning, and what the int8 kernels make of them.

An ``InstructionSet`` is all that the int8 kernels know of a processor: when it is there (``guard``), which instructions
it has, and how the dot product and the other vector pieces are written with them. A file in this folder that defines
``SET`` is one; it is found by being there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Operand:
    """``lanes`` values of ``dtype`` (1: a scalar); ``c`` is the C type that holds them."""

    dtype: str
    lanes: int
    c: str


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """An instruction that kernels use: how it is written, and the plain meaning that a test holds it to.

    ``meaning`` takes NumPy arrays of the operands (lanes,), in the order of ``args``, and returns the result's.
    ``template`` is a C expression with ``{name}`` for each argument; it may be used where the macro condition ``guard``
    holds, after including ``header``.
    """

    name: str
    doc: str
    args: tuple[tuple[str, Operand], ...]
    result: Operand
    meaning: Callable[..., Array]
    template: str
    guard: str
    header: str

    def c(self, *values: str) -> str:
        """The C expression on these arguments.

        >>> from shohin.kernels.instructions.avx2 import MADD
        >>> MADD.c("x", "w")
        '_mm256_madd_epi16(x, w)'
        """
        return self.template.format(**{name: value for (name, _), value in zip(self.args, values, strict=True)})


@dataclass(frozen=True, kw_only=True)
class Dot:
    """How sums of products of int8 are made (``qdot`` has the loops around it).

    A *unit* is what one sum variable holds: ``rows`` positions by ``channels`` channels. Weights lie as 16 terms of each
    of four channels, one after another, so a unit of 4 channels is one load of 64 bytes. ``tile`` channels (2, 4 or 16)
    by each of ``positions`` positions, the largest first, are computed together; the sums must fit the registers.

    C text: ``sum`` is the type of a sum, ``start`` its first value; ``x`` and ``w`` are statements that declare
    ``const`` variables ``{to}`` for ``terms`` terms at the addresses ``{at}`` (and ``{next}``, of a unit's second
    position); ``step`` adds ``{x}`` times ``{w}`` to ``{sum}``; ``close`` stores the sums ``{0}``, ``{1}`` ... of one unit's
    positions by a tile's channels, plus those of the pointer ``{bias}``, at ``{at}`` (and ``{next}``). ``start`` may be
    ``{bias}``, the channel's bias itself. ``helpers`` stands before the functions.

    ``staged`` (a C type, and a statement that brings 16 terms from ``{at}`` into 16 of that type at ``{to}``): positions are
    brought into this form once for all channels, and ``x`` reads it. It takes memory for a tile's terms, so only computers
    have it, no devices. ``unsigned``: the instruction takes x unsigned, so ``x`` gives x + 128 (``x ^ 0x80``), and
    128 * sum(w) is taken off the bias, a sum in which ``zero`` (128 everywhere) stands for ``{x}``.
    """

    tile: int
    positions: tuple[int, ...]
    sum: str
    start: str
    x: str
    w: str
    step: str
    close: str
    rows: int = 1
    channels: int = 1
    terms: int = 16
    helpers: str = ""
    staged: tuple[str, str] | None = None
    unsigned: bool = False
    zero: str = ""


@dataclass(frozen=True, kw_only=True)
class Bytes:
    """16 int8 at a time: the C type, a load from ``{at}``, a store of ``{value}`` to it, all lanes ``{value}``, and the larger
    of each lane."""

    type: str
    load: str
    store: str
    fill: str
    larger: Instruction


@dataclass(frozen=True, kw_only=True)
class InstructionSet:
    """What the int8 kernels are written with where ``guard`` holds; of several sets that do, the first by ``rank``.

    ``mcpu`` is a processor that has it, as zig names it; ``features`` are the names that Linux has in ``/proc/cpuinfo`` for
    what it needs, none for a microcontroller; ``level`` makes it an instruction level of the host for which one can build.

    Empty fields are plain C: ``requant`` is the body of ``shohin_q8_requant`` (``qcommon``; where the condition
    ``requant_guard`` holds too), ``taps`` has by number of positions the function ``shohin_q8_taps<n>`` of depthwise sums (``qdepthwise``), 1 among
    them, ``bytes`` serves pools (``qpool``), ``copy`` is an expression that moves 16 bytes from ``{at}`` to ``{to}``,
    ``lookup`` a statement that brings the 16 bytes ``book[own[i]]`` to ``to``, for numbers ``own`` below 16; it may read 16 bytes of the book;
    ``pick`` the same for 16 floats (``numbered``).
    """

    name: str
    doc: str
    rank: int
    guard: str
    header: str
    mcpu: str
    features: frozenset[str]
    instructions: tuple[Instruction, ...]
    dot: Dot | None
    level: str = ""
    requant: str = ""
    requant_guard: str = ""
    taps: Mapping[int, str] = field(default_factory=dict)
    bytes: Bytes | None = None
    copy: str = ""
    lookup: str = ""
    pick: str = ""

    @property
    def macro(self) -> str:
        """The macro that is defined where this set is in force."""
        return f"SHOHIN_Q8_{self.name}"


def dot_products(acc: Array, a: Array, b: Array) -> Array:
    """Each int32 of ``acc`` plus the products of its share of neighbouring lanes of ``a`` and ``b``, wrapping."""
    products = a.astype(np.int64) * b.astype(np.int64)
    return (acc + products.reshape(acc.size, -1).sum(axis=1)).astype(np.int32)
