"""``Factorize``: the slot ``factors``. A layer becomes a sequence of two or three plain ones of a lower rank.

They stand where the layer stood (``features.3`` holds ``features.3.0``, ``features.3.1``), as ordinary layers, so that what follows
(training, masks, tables, integers, files, artefacts) knows nothing of it; rules for the place hold for them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from shohin import nn
from shohin.compress.factor_forms import FORMS, Cost, Form
from shohin.compress.slots import Demo, Method
from shohin.compress.weights import stack
from shohin.core.errors import PlanError
from shohin.core.module import Module

STEPS = 256
"""How finely two ranks are lowered together to meet a cost."""


@dataclass(frozen=True)
class Factorize(Method):
    """A layer as a product of layers of a lower rank; exactly one of the following says which rank.

    Args:
        form: ``"svd"`` (linear layers, convolutions of one tap), ``"tucker"`` or ``"spatial"`` (convolutions); None takes svd
            where it can be, else tucker.
        rank: the rank; a pair (input, output) for tucker. At most the full rank.
        ratio: a fraction of the full ranks.
        energy: the least ranks that keep this fraction of the squared singular values (of each unfolding for tucker).
        cost: the highest ranks with which the factors need at most this fraction of the layer's products and of its weights.

    A layer whose factors would need as many products or weights as itself stays as it is; ``plan.explain`` says so. A rule for which all
    layers stay is an error. Sources: those of the forms (``factor_forms``).

    >>> Factorize(energy=0.9).scheme
    'factors with 90% of the energy'
    """

    form: str | None = None
    rank: int | tuple[int, int] | None = None
    ratio: float | None = None
    energy: float | None = None
    cost: float | None = None
    slot: ClassVar[str] = "factors"
    demo: ClassVar[Demo] = ({"energy": 0.9}, {"form": "spatial", "cost": 0.6})

    def __post_init__(self) -> None:
        given = [name for name in ("rank", "ratio", "energy", "cost") if getattr(self, name) is not None]
        if len(given) != 1:
            raise PlanError(f"Factorize: {' and '.join(given) or 'nothing'} is given, expected one of rank=, ratio=, energy=, cost=")
        if self.form is not None and self.form not in FORMS:
            raise PlanError(f"Factorize: form is {self.form!r}, expected one of {', '.join(FORMS)}, or None")
        value = getattr(self, given[0])
        if given[0] == "rank":
            ranks = value if isinstance(value, tuple) else (value,)
            if not all(isinstance(r, int) and r > 0 for r in ranks) or len(ranks) > 2:
                raise PlanError(f"Factorize: rank is {value!r}, expected a positive integer, or two for tucker")
        elif not 0 < value < 1:
            raise PlanError(f"Factorize: {given[0]} is {value!r}, expected a fraction between 0 and 1")

    @property
    def scheme(self) -> str:
        form = "" if self.form is None else f"{self.form} "
        if self.rank is not None:
            return f"{form}factors of rank {self.rank}"
        if self.ratio is not None:
            return f"{form}factors of {self.ratio:.0%} of the rank"
        return f"{form}factors with {self.energy:.0%} of the energy" if self.energy is not None else f"{form}factors at {self.cost:.0%} of the cost"

    def of(self, layer: Any) -> Form | str:
        """The layer in its form, or why it has none."""
        conv = isinstance(layer, nn.Conv2d)
        if not conv and not isinstance(layer, nn.Linear):
            return f"{type(layer).__name__} is neither a Linear nor a Conv2d"
        if conv and layer.groups > 1:
            return f"it has {layer.groups} groups of channels, each a small matrix of its own"
        single = not conv or tuple(layer.kernel_size) == (1, 1)
        form = self.form or ("svd" if single else "tucker")
        if form == "svd" and not single:
            return f"svd takes a linear layer or a convolution of one tap, it has {'x'.join(map(str, layer.kernel_size))}; write form='tucker' or 'spatial'"
        if form != "svd" and not conv:
            return f"{form} takes a convolution; leave form out, or write form='svd'"
        return FORMS[form](layer)

    def ranks(self, form: Form) -> tuple[int, ...] | str:
        """The ranks that the method asks for, or why they would not pay."""
        full = form.full
        if self.rank is not None:
            ranks = self.rank if isinstance(self.rank, tuple) else (self.rank,) * len(full)
            if len(ranks) != len(full):
                return f"{form.name} has {len(full)} rank, rank is {self.rank}"
            ranks = tuple(min(r, f) for r, f in zip(ranks, full, strict=True))
        elif self.ratio is not None:
            ranks = tuple(max(1, round(self.ratio * f)) for f in full)
        elif self.energy is not None:
            ranks = tuple(_least(e, self.energy) for e in form.energies)
        else:
            return self._within(form)
        cost = form.cost(ranks)
        if cost.products >= form.now.products or cost.weights >= form.now.weights:
            return f"{form.name} of rank {_say(ranks)} (of {_say(full)}) would need {_times(cost, form.now)}"
        return ranks

    def _within(self, form: Form) -> tuple[int, ...] | str:
        assert self.cost is not None
        steps = max(STEPS, *form.full)
        for k in range(steps, 0, -1):
            ranks = tuple(max(1, f * k // steps) for f in form.full)
            cost = form.cost(ranks)
            if cost.products <= self.cost * form.now.products and cost.weights <= self.cost * form.now.weights:
                return ranks
        return f"even {form.name} of rank {_say((1,) * len(form.full))} would need {_times(form.cost((1,) * len(form.full)), form.now)}"

    @classmethod
    def left(cls, net: Module, chosen: Mapping[str, Method]) -> dict[str, str]:
        """The layers at the chosen places that would stay as they are, and why."""
        found = {path: _of(method, layer) for path, method, layer in _layers(net, chosen)}
        return {path: why for path, why in found.items() if isinstance(why, str)}

    @classmethod
    def apply(cls, net: Module, chosen: Mapping[str, Method], calibration: Any) -> Module:
        tied = net.aliases()
        acted: set[int] = set()
        why: dict[int, list[str]] = {}
        for path, method, layer in _layers(net, chosen):
            place = f"{path}.weight" if path else "weight"
            if place in tied or place in tied.values():
                raise PlanError(f"Factorize: {place} is tied to another place; write ({path!r}, None) after it")
            before = stack(layer, "weight")
            if before:
                raise PlanError(f"{method} at {path!r}: {place} is already {before[-1].done}; factors come before {before[-1].slot}: write both rules in one plan, for the network as it was before")
            made = _of(method, layer)
            if isinstance(made, str):
                why.setdefault(id(method), []).append(f"{path}: {made}")
                continue
            acted.add(id(method))
            net = _put(net, path, nn.Sequential(*made).train(layer.training))
        for method in chosen.values():
            if id(method) not in acted:
                places = [p for p, m in chosen.items() if m is method]
                reasons = why.get(id(method), ["no Linear or Conv2d is there"])
                more = f"; and {len(reasons) - 3} more" if len(reasons) > 3 else ""
                raise PlanError(f"{method} at {', '.join(map(repr, places[:3]))} changed nothing: {'; '.join(reasons[:3])}{more}")
        return net


def _layers(net: Module, chosen: Mapping[str, Method]) -> list[tuple[str, Factorize, Any]]:
    found = net.modules()
    return [(p, m, found[p]) for p, m in chosen.items() if isinstance(m, Factorize) and isinstance(found.get(p), nn.Linear | nn.Conv2d)]


def _of(method: Factorize, layer: Any) -> list[Module] | str:
    form = method.of(layer)
    if isinstance(form, str):
        return form
    ranks = method.ranks(form)
    return ranks if isinstance(ranks, str) else form.build(ranks)


def _least(energy: Any, share: float) -> int:
    """The least rank that keeps this share of the energy."""
    total = np.cumsum(energy)
    return int(np.searchsorted(total, share * total[-1] * (1 - 1e-12))) + 1 if total[-1] > 0 else 1


def _say(ranks: Sequence[int]) -> str:
    return "x".join(map(str, ranks))


def _times(cost: Cost, now: Cost) -> str:
    return f"{cost.products / now.products:.2f}x the products and {cost.weights / now.weights:.2f}x the weights"


def _put(net: Module, path: str, layer: Module) -> Module:
    """The network with another layer at ``path``."""
    if not path:
        return layer
    *above, name = path.split(".")
    held: Any = net
    for part in above:
        held = _at(held, part)
    if isinstance(held, Module):
        setattr(held, name, layer)
    elif isinstance(held, list):
        held[int(name)] = layer
    elif isinstance(held, dict):
        held[name] = layer
    else:
        raise PlanError(f"Factorize: {path} stands in a {type(held).__name__}, whose entries cannot be replaced; hold the layers in a list")
    return net


def _at(held: Any, part: str) -> Any:
    if isinstance(held, Module):
        return getattr(held, part)
    return held[int(part)] if isinstance(held, list | tuple) else held[part]


__all__ = ["Factorize"]
