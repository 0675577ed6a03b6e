"""What a device is: its processor, its memories, and how something runs on it.

A target is one file in this folder that defines ``TARGET``; it is found by being there. The exporter reads what the C
is written for and which memories it must fit; whoever wants numbers asks the target's strategy to build and run.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from shohin.compiler.kernel import GENERIC, Machine
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
class RunResult:
    """What a run on a target gave.

    ``outputs`` (n, output_size); ``instructions`` per inference, None where none are counted (a host);
    ``instruction_step`` the resolution of that count; ``stack_bytes`` the painted stack's high-water mark, None
    where it was not painted; ``arena_bytes`` the bytes of the arena up to the last one written, ``arena_size`` what
    the network reserves; ``sections`` the network alone; ``emulated`` says that the numbers come from an emulator:
    instructions, never time; ``steps`` instructions by step of the first inference, where the program was built to count them.
    """

    outputs: np.ndarray
    instructions: tuple[int, ...] | None
    instruction_step: float
    stack_bytes: int | None
    arena_bytes: int
    arena_size: int
    sections: Sections
    emulated: bool
    steps: tuple[int, ...] = ()

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

    ``triple`` (empty: this machine), ``mcpu`` and ``cflags`` (all other flags) are the compiler's; ``float_unit``:
    float32 in hardware, without which nothing is exported. ``browser``: it runs in a page.
    ``machines`` is what the C is written for: preprocessor conditions, and what kernels and loops may assume where they
    hold (the first that does; empty: always); the instructions of the int8 kernels are chosen by the compiler's own macros
    (``kernels/instructions``).
    """

    name: str
    doc: str
    triple: str
    mcpu: str
    cflags: tuple[str, ...]
    float_unit: bool
    memories: tuple[Memory, ...]
    strategy: Strategy = field(repr=False)
    browser: bool = False
    machines: tuple[tuple[str, Machine], ...] = field(default=(("", GENERIC),), repr=False)

    def memory(self, kind: str, bytes_needed: int, what: str) -> Memory:
        """The first memory of ``kind`` into which ``bytes_needed`` fit; ``what`` names the need in the error."""
        fitting = [m for m in self.memories if m.kind == kind]
        for memory in fitting:
            if bytes_needed <= memory.size:
                return memory
        known = ", ".join(f"{m.name} {m.size:,}" for m in fitting) or "none"
        raise TargetError(f"{self.name}: {what} needs {bytes_needed:,} bytes of {kind}; "
                          f"the memories of that kind have (bytes): {known}")


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
