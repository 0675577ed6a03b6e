"""What a compression method is to a plan: a frozen config that fills one slot, in one file.

The effective weight is ``integers(table(mask(factors(channels(w)))))``: slots are applied in that order, whatever the
order of the rules (design, section 6).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from shohin.core.module import Module

SLOTS = ("channels", "factors", "mask", "table", "integers")


class Method:
    """Base of methods: a frozen dataclass with keyword fields. ``apply`` fills the slot of all its places at once."""

    slot: ClassVar[str]

    def __init_subclass__(cls) -> None:
        slot = cls.__dict__.get("slot")
        if slot not in SLOTS:
            raise TypeError(f"{cls.__name__}.slot is {slot!r}, expected one of {', '.join(SLOTS)}")

    @property
    def scheme(self) -> str:
        """What a report prints: ``int8 weights, int8 activations``."""
        raise NotImplementedError

    @classmethod
    def apply(cls, net: Module, chosen: Mapping[str, Method], calibration: Any) -> Module:
        """``net`` (which may be changed) with the slot filled at the module paths in ``chosen``."""
        raise NotImplementedError
