"""Instruction sets of the int8 kernels. Every file here that defines ``SET`` is one: another is a new file, and no other change."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from typing import cast

from shohin.compiler.kernel import Machine
from shohin.kernels.instructions.record import Bytes, Dot, Instruction, InstructionSet, Operand

_MODULES = [importlib.import_module(f"{__name__}.{m.name}") for m in pkgutil.iter_modules(__path__)]
SETS: tuple[InstructionSet, ...] = tuple(sorted((cast(InstructionSet, m.SET) for m in _MODULES if hasattr(m, "SET")), key=lambda s: s.rank))
"""All of them, those to prefer first."""


def sets(machine: Machine) -> tuple[InstructionSet, ...]:
    """What C for ``machine`` may ask the compiler for: staging takes memory, which only computers have."""
    return tuple(s for s in SETS if machine.vector_bytes or s.dot is None or s.dot.staged is None)


def branches(among: tuple[InstructionSet, ...], text: Callable[[InstructionSet], str], plain: str = "") -> str:
    """C that is ``text(set)`` where that set is in force and ``plain`` elsewhere; sets whose text is empty are plain."""
    parts, word = [], "#if"
    for s in among:
        if text(s):
            parts.append(f"{word} defined({s.macro})\n{text(s)}")
            word = "#elif"
    return "".join([*parts, *(["#else\n", plain] if parts and plain else [plain]), *(["#endif\n"] if parts else [])])


__all__ = ["SETS", "Bytes", "Dot", "Instruction", "InstructionSet", "Operand", "branches", "sets"]
