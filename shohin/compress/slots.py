"""What a compression method is to a plan: a frozen config that fills one slot, in one file.

The effective weight is ``integers(table(mask(factors(channels(w)))))``: slots are applied in that order, whatever the
order of the rules. Methods on weights have shells that do everything but the rule: ``mask.Masking`` and ``table.Tabling``;
``magnitude.py`` is the shortest whole method, ``function.method`` makes one of a function.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from shohin.core.module import Module

Demo = tuple[Mapping[str, Any], ...]
SLOTS = ("channels", "factors", "mask", "table", "integers")


class Method:
    """Base of methods: a frozen dataclass with keyword fields. ``apply`` fills the slot of all its places at once.

    A subclass has ``slot``, ``scheme`` and ``apply`` (unless it is ``abstract``); ``needs_calibration`` where ``apply`` cannot do without data;
    ``demo``, keywords of the method's that ``shohin demo --all``, ``shohin bench compress`` and the matrix of pairs and triples try, the
    first ones the most telling;
    ``foresees`` where it takes ``rest=``, a function that fills the slots after its own (calibrated on few examples: right in shapes and
    bytes, not in values), so that it can measure the network as the whole plan leaves it.
    """

    slot: ClassVar[str]
    needs_calibration: ClassVar[bool] = False
    foresees: ClassVar[bool] = False
    demo: ClassVar[Demo] = ({},)

    def __init_subclass__(cls, abstract: bool = False) -> None:
        if abstract:
            return
        slot = getattr(cls, "slot", None)
        if slot not in SLOTS:
            raise TypeError(f"{cls.__name__}.slot is {slot!r}, expected one of {', '.join(SLOTS)}")
        if cls.scheme is Method.scheme:
            raise TypeError(
                f"{cls.__name__} has no scheme: write a property that says what a report prints, as '4 values for a tensor'"
            )
        if getattr(cls.apply, "__func__", cls.apply) is Method.apply.__func__:  # type: ignore[attr-defined]
            raise TypeError(
                f"{cls.__name__} has no apply: write a classmethod apply(cls, net, chosen, calibration) that returns the module"
            )
        METHODS[cls.__name__] = cls

    @property
    def scheme(self) -> str:
        """What a report prints: ``int8 weights, int8 activations``."""
        raise NotImplementedError(f"{type(self).__name__}.scheme")

    @classmethod
    def apply(cls, net: Module, chosen: Mapping[str, Method], calibration: Any) -> Module:
        """``net`` (which may be changed) with the slot filled at the module paths in ``chosen``."""
        raise NotImplementedError(f"{cls.__name__}.apply")

    @classmethod
    def left(cls, net: Module, chosen: Mapping[str, Method]) -> Mapping[str, str]:
        """Places among ``chosen`` that the method would leave as they are in ``net``, and why; ``plan.explain`` prints them."""
        return {}


METHODS: dict[str, type[Method]] = {}
"""All methods by name, those outside the package too: what a plan as text may name. A later definition takes the name over."""

__all__ = ["METHODS", "SLOTS", "Demo", "Method"]
