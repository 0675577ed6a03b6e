"""What a device is: its instruction set, memories, instructions, and how something runs on it.

A target is one file in this folder that defines ``TARGET``; it is found by being there. Emitters and kernels read
the facts (vector width, instructions, memories); whoever wants numbers asks the target's strategy to build and run.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from shohin.core.errors import TargetError
from shohin.targets.elf import Sections


@dataclass(frozen=True, kw_only=True)
class Memory:
    """A memory of a device: ``size`` in bytes, ``address`` where it starts, ``kind`` ``flash`` or ``ram``.

    The order in ``Target.memories`` is the order of preference, nearest to the core first.
    """

    name: str
    size: int
    address: int
    kind: str


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """An instruction that emitted C may use: a template and the plain meaning that defines it.

    ``args`` are (name, type) pairs and ``result`` is a type; a type is a dtype and a number of lanes, such as
    ``("int8", 16)``, one lane for a scalar. ``meaning`` takes NumPy arrays of those types, in the order of ``args``,
    and returns the result. ``template`` is a C expression with ``{name}`` for each argument and ``{result}``
    for the C type of the result; it may be used where the macro condition ``guard`` holds, after including ``header``.
    """

    name: str
    args: tuple[tuple[str, tuple[str, int]], ...]
    result: tuple[str, int]
    meaning: Callable[..., np.ndarray]
    template: str
    guard: str
    header: str
    doc: str


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What a run on a target gave.

    ``outputs`` (n, output_size); ``instructions`` per inference, None where none are counted (a host);
    ``instruction_step`` the resolution of that count; ``stack_bytes`` the painted stack's high-water mark, None
    where it was not painted; ``arena_bytes`` the bytes of the arena up to the last one written, ``arena_size`` what
    the network reserves; ``sections`` the network alone; ``emulated`` says that the numbers come from an emulator:
    instructions, never time.
    """

    outputs: np.ndarray
    instructions: tuple[int, ...] | None
    instruction_step: float
    stack_bytes: int | None
    arena_bytes: int
    arena_size: int
    sections: Sections
    emulated: bool

    @property
    def flash_bytes(self) -> int:
        """Bytes of the network's code, constants and initial values."""
        return self.sections.flash

    @property
    def ram_bytes(self) -> int | None:
        """Arena, variables and painted stack in bytes; None where the stack was not painted."""
        return None if self.stack_bytes is None else self.arena_size + self.sections.ram + self.stack_bytes


class Strategy(Protocol):
    """How a target builds and runs an artefact's C; stateless, shared by targets of one family."""

    def sections(self, target: Target, folder: Path) -> Sections:
        """Bytes of the network alone, dead code removed: no start-up code, no helpers, no inputs."""
        ...

    def build(self, target: Target, folder: Path, out: Path) -> Any:
        """Builds the network in ``folder`` into ``out`` and returns what ``run`` takes."""
        ...

    def run(self, program: Any, inputs: np.ndarray, timeout: float) -> RunResult:
        """Runs the network on each row of ``inputs`` (n, input_size); ``timeout`` in seconds."""
        ...


@dataclass(frozen=True, kw_only=True)
class Target:
    """A device.

    ``triple``, ``mcpu`` and ``cflags`` are the compiler's; ``vector_bytes`` the width of a vector register (0: none);
    ``float_unit``: float32 in hardware; ``integer_requant``: requantization is emitted in integer arithmetic (the
    same bits); ``threads`` that a network may use; ``emulated``: runs count instructions, and never claim time;
    ``features`` the resolved CPU features, for keys of caches.
    """

    name: str
    doc: str
    triple: str
    mcpu: str
    cflags: tuple[str, ...]
    vector_bytes: int
    float_unit: bool
    integer_requant: bool
    memories: tuple[Memory, ...]
    instructions: tuple[Instruction, ...] = field(repr=False)
    threads: int
    emulated: bool
    strategy: Strategy = field(repr=False)
    features: tuple[str, ...] = field(repr=False)

    def memory(self, kind: str, bytes_needed: int, what: str) -> Memory:
        """The first memory of ``kind`` into which ``bytes_needed`` fit; ``what`` names the need in the error."""
        fitting = [m for m in self.memories if m.kind == kind]
        for memory in fitting:
            if bytes_needed <= memory.size:
                return memory
        known = ", ".join(f"{m.name} {m.size:,}" for m in fitting) or "none"
        raise TargetError(f"{self.name}: {what} needs {bytes_needed:,} bytes of {kind}; "
                          f"the memories of that kind have (bytes): {known}")

    def instruction(self, name: str) -> Instruction | None:
        """The instruction called ``name``, or None: the emitter then writes the plain loop."""
        return next((i for i in self.instructions if i.name == name), None)


_TARGETS: dict[str, Target] = {}


def register_target(target: Target) -> Target:
    """Makes a target known by its public name: lower case, digits and hyphens."""
    parts = target.name.split("-")
    if not all(part.isalnum() and part.isascii() and part == part.lower() for part in parts):
        raise TargetError(f"target name {target.name!r}: expected lower case letters, digits and hyphens")
    known = _TARGETS.get(target.name)
    if known is not None and known is not target:
        raise TargetError(f"target {target.name!r} is registered twice; give the second one another name")
    _TARGETS[target.name] = target
    return target


def target_names() -> tuple[str, ...]:
    """The names of all known targets, sorted."""
    return tuple(sorted(_TARGETS))


def get_target(name: str) -> Target:
    """The target of that public name, such as ``host`` or ``cortex-m55``."""
    if name in _TARGETS:
        return _TARGETS[name]
    near = difflib.get_close_matches(name.lower().replace("_", "-"), _TARGETS, n=2, cutoff=0.5)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    raise TargetError(f"device={name!r} is not a known target.{hint} Known: {', '.join(target_names())}")
