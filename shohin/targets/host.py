"""The machine that this process runs on, with its CPU's features resolved.

``native`` is what the CPU has; the levels ``v3`` (AVX2, FMA) and ``v4`` (AVX-512) are x86-64's; instruction sets of the
int8 kernels add more (``vnni`` is v4 with 8-bit dot products), for builds that are to run elsewhere or to be compared.
Source: x86-64 psABI supplement, table 3.1 (micro-architecture levels).
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

from shohin.compiler.kernel import GENERIC, Machine
from shohin.core.errors import TargetError
from shohin.kernels.instructions import SETS, InstructionSet
from shohin.targets.native import Native
from shohin.targets.target import Target, register_target

# Names of /proc/cpuinfo: pni is SSE3, abm is LZCNT. Each level contains the one before.
_LEVELS: tuple[tuple[str, frozenset[str]], ...] = (
    ("v2", frozenset("cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3".split())),
    ("v3", frozenset("avx avx2 bmi1 bmi2 f16c fma abm movbe xsave".split())),
    ("v4", frozenset("avx512f avx512bw avx512cd avx512dq avx512vl".split())),
)
# What can be built for: zig's names of the levels.
LEVELS = {"native": "native", "v3": "x86_64_v3", "v4": "x86_64_v4"} | {s.level: s.mcpu for s in SETS if s.level}
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}

MACHINES = (
    ("defined(__GNUC__) && defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)", Machine(level="v4", vector_bytes=64, features=frozenset(), threads=1)),
    ("defined(__GNUC__) && defined(__AVX2__) && defined(__FMA__)", Machine(level="v3", vector_bytes=32, features=frozenset(), threads=1)),
    ("", GENERIC),
)
"""An artefact for a computer has vector extensions of two widths where its compiler has them, else plain loops."""


@dataclass(frozen=True, kw_only=True)
class Cpu:
    """A CPU: ``machine`` (``x86_64``, ``aarch64``), its model, all features, and the x86-64 level that they make.

    ``level`` is ``v1`` to ``v4``, empty on other machines; ``vnni``: 8-bit dot products in the vector unit.
    """

    machine: str
    model: str
    features: frozenset[str]
    level: str

    @property
    def vnni(self) -> bool:
        return bool(self.features & {"avx512_vnni", "avx_vnni", "asimddp"})

    @property
    def key(self) -> tuple[str, ...]:
        """What a cache of native code has to be keyed by: objects of another CPU may not run here."""
        return (self.machine, *sorted(self.features))


def resolve(machine: str, cpuinfo: str) -> Cpu:
    """Reads the text of ``/proc/cpuinfo``; the first processor stands for all."""
    fields: dict[str, str] = {}
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    machine = _MACHINES.get(machine.lower(), machine.lower())
    features = frozenset((fields.get("flags") or fields.get("Features") or "").split())
    level = ""
    if machine == "x86_64":
        level = "v1"
        for name, needed in _LEVELS:
            if not needed <= features:
                break
            level = name
    return Cpu(machine=machine, model=fields.get("model name", "unknown"), features=features, level=level)


def _this_cpu() -> Cpu:
    path = Path("/proc/cpuinfo")
    return resolve(platform.machine(), path.read_text(encoding="utf-8", errors="replace") if path.exists() else "")


CPU = _this_cpu()


def _in_force(features: frozenset[str]) -> InstructionSet | None:
    """The set that the int8 kernels are compiled for on a CPU with these features."""
    return next((s for s in SETS if s.features and s.features <= features), None)


def _features(level: str) -> frozenset[str]:
    """Features of the CPUs that a level is for."""
    for s in SETS:
        if level == s.level:
            return s.features
    names = [name for name, _ in _LEVELS]
    return frozenset().union(*(more for _, more in _LEVELS[: names.index(level) + 1])) if level in names else CPU.features


def _base(level: str) -> str:
    """The level of x86-64 that a level stands on."""
    return LEVELS[level].partition("+")[0].removeprefix("x86_64_")


def host(level: str = "native", *, cc: str | None = None) -> Target:
    """The host as a target at an instruction level of ``LEVELS``: ``native``, ``v3``, ``v4``, ``vnni`` ...

    ``cc`` overrides the compiler. Building works everywhere. Raises ``TargetError`` for an unknown level, or an x86-64
    level elsewhere.
    """
    if level not in LEVELS:
        raise TargetError(f"level={level!r} is not an instruction level of a host; known: {', '.join(LEVELS)}")
    if level != "native" and CPU.machine != "x86_64":
        raise TargetError(f"level={level!r} is an x86-64 level, this host is {CPU.machine}; use level='native'")
    reached = CPU.level if level == "native" else _base(level)
    best = _in_force(_features(level))
    return Target(
        name="host", doc=f"this machine: {CPU.model} ({CPU.machine} {reached}{f'; {best.doc}' if best else ''})",
        triple="", mcpu=LEVELS[level],
        cflags=("-O3", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off"),
        float_unit=True, memories=(), strategy=Native(cc=cc), machines=MACHINES)


def can_run(level: str) -> bool:
    """Whether this CPU executes code built for ``level``."""
    if level == "native":
        return True
    return CPU.machine == "x86_64" and CPU.level >= _base(level) and _features(level) <= CPU.features


TARGET = register_target(host())
