"""Budgets in units that people write: ``Budget(flash="64 kB", ram="32 kB", instructions=20e6)``; 1 kB is 1,000 bytes."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Any

from shohin.core.errors import AttrError

_UNITS = {"": 1, "b": 1, "kb": 1_000, "mb": 1_000_000, "kib": 1_024, "mib": 1_048_576}


def bytes_of(value: Any, what: str = "size") -> int:
    """A number of bytes from a number or text.

    >>> bytes_of("128 kB"), bytes_of(4096)
    (128000, 4096)
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        number, unit = float(value), ""
    else:
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", str(value))
        if not found or found[2].lower() not in _UNITS:
            raise AttrError(f"{what}: {value!r} is no size; write bytes, or a number with kB, MB, KiB or MiB, as 128kB")
        number, unit = float(found[1]), found[2].lower()
    size = number * _UNITS[unit]
    if not size > 0:
        raise AttrError(f"{what}: {value!r} must be positive")
    return int(size)


@dataclass(frozen=True)
class Budget:
    """Upper limits; ``None`` means none. ``flash`` and ``ram`` in bytes or text, ``instructions`` and ``ms`` an inference: ``ms`` are
    milliseconds on this host, one thread."""

    flash: Any = None
    ram: Any = None
    instructions: float | None = None
    ms: float | None = None

    def __post_init__(self) -> None:
        for name in ("flash", "ram"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, bytes_of(getattr(self, name), name))
        for name in ("instructions", "ms"):
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise AttrError(f"{name}: {getattr(self, name)!r} must be positive")

    def limits(self) -> dict[str, float]:
        """The limits that are set, by name.

        >>> Budget(flash="1 kB", ms=0.5).limits()
        {'flash': 1000, 'ms': 0.5}
        """
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}

    def __str__(self) -> str:
        """``flash 64,000 bytes, 0.5 ms``."""
        return ", ".join(f"{v:g} ms" if n == "ms" else f"{n} {int(v):,}{_AFTER[n]}" for n, v in self.limits().items()) or "no limit"

    def excess(self, *, flash: float | None = None, ram: float | None = None, instructions: float | None = None, ms: float | None = None) -> list[str]:
        """What is over the limits, in words; empty when all fits. What is not known is not judged.

        >>> Budget(flash="1 kB").excess(flash=1500)
        ['flash 1,500 of 1,000 bytes']
        """
        found: list[str] = []
        values = {"flash": flash, "ram": ram, "instructions": instructions, "ms": ms}
        for name, limit in self.limits().items():
            value = values[name]
            if value is not None and value > limit:
                found.append(f"{value:.3g} of {limit:.3g} ms" if name == "ms" else f"{name} {int(value):,} of {int(limit):,}{_AFTER[name]}")
        return found


_AFTER = {"flash": " bytes", "ram": " bytes", "instructions": ""}
