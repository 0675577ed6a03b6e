"""Methods on weights: what becomes of a weight stands between it and its layer, as a ``Reweighting``, and stacks.

``WeightMethod`` finds the weights that a rule takes and collects what the method wants to know of their inputs; a method
says what state one weight gets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from shohin.compress.slots import SLOTS, Method
from shohin.compress.stats import Stats, collect
from shohin.core.cells import Cell, Param
from shohin.core.errors import PlanError
from shohin.core.module import Module
from shohin.core.tensor import Tensor, as_tensor


class WeightMethod(Method, abstract=True):
    """Base of methods on weights: ``state(w, stats)`` gives the cells for one weight; ``stats`` names what is collected of its
    inputs on the calibration set (``compress.stats``)."""

    stats: ClassVar[tuple[str, ...]] = ()

    @property
    def scheme(self) -> str:
        return repr(self)

    def state(self, w: Weight, stats: Stats) -> Reweighting:
        raise NotImplementedError(f"{type(self).__name__}.state(w, stats)")

    @classmethod
    def apply(cls, net: Module, chosen: Mapping[str, Method], calibration: Any) -> Module:
        found = list(weights(net, chosen))
        stats = collect(net, [(w.place, w.layer, w.name) for w in found], cls.stats, calibration, cls.__name__)
        for w in found:
            reparametrize(w.layer, w.name, w.method.state(w, stats[w.place]))
        return net


class Reweighting(Module):
    """The cells that one method adds to one weight; ``forward(w)`` is the weight from what it was before.

    ``kind`` names the attribute (``weight_mask``), ``done`` what errors say. With ``replaces`` the weight so far is
    dropped (a codebook stands for it), and ``forward`` gets None.
    """

    slot: ClassVar[str]
    kind: ClassVar[str]
    done: ClassVar[str]
    replaces: ClassVar[bool] = False

    def forward(self, w: Any) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__}.forward(w)")


@dataclass(frozen=True)
class Weight:
    """A weight that a method takes: where it is, the effective value now, and whether its zeros are a mask's."""

    place: str
    layer: Module
    name: str
    method: Any
    value: np.ndarray[Any, Any]
    masked: bool

    @property
    def rows(self) -> Tensor:
        """The weight as a matrix (out, terms): a row an output channel, what it sums innermost last."""
        return as_tensor(self.value.reshape(len(self.value), -1))


def stack(layer: Module, name: str) -> list[Reweighting]:
    """What stands between a layer and its weight, innermost first."""
    return [m for k, m in layer._entries() if isinstance(m, Reweighting) and k == f"{name}_{m.kind}"]


def names(layer: Module) -> list[str]:
    """The layer's weights: its Params of two or more dims, and what ``reparametrize`` made of such."""
    if isinstance(layer, Reweighting):
        return []
    found = [k for k, v in layer._entries() if isinstance(v, Param) and len(v.shape) > 1]
    made = [k.removesuffix(f"_{m.kind}") for k, m in layer._entries() if isinstance(m, Reweighting)]
    return list(dict.fromkeys([*found, *made]))


def weights(net: Module, chosen: Mapping[str, Method]) -> Iterator[Weight]:
    """The weights of the chosen modules; a ``PlanError`` where the method's slot, or a later one, is filled already."""
    modules, tied = net.modules(), net.aliases()
    for path, method in chosen.items():
        if path not in modules:
            continue
        layer = modules[path]
        for name in names(layer):
            place = f"{path}.{name}" if path else name
            if place in tied or place in tied.values():
                raise PlanError(
                    f"{type(method).__name__}: {place} is tied to another place; write ({path!r}, None) after it"
                )
            before = stack(layer, name)
            for state in before:
                if SLOTS.index(state.slot) >= SLOTS.index(method.slot):
                    raise PlanError(f"{method} at {path!r}: {place} is already {state.done}; {_remedy(state, method)}")
            yield Weight(
                place, layer, name, method, getattr(layer, name).numpy(), any(s.slot == "mask" for s in before)
            )


def _remedy(state: Reweighting, method: Method) -> str:
    if state.slot == method.slot:
        return "apply the plan to the network as it was before, or leave the place out of the rule"
    return f"{method.slot} comes before {state.slot}: write both rules in one plan, for the network as it was before"


def reparametrize(layer: Module, name: str, state: Reweighting) -> None:
    """From now on ``layer.<name>`` is ``state.forward`` of what it was; computed wherever the layer reads it.

    The Param stays at its path (unless ``state.replaces``) and is trained through ``state``; the cells of ``state``, which is in
    the layer's mode from now on, are found under ``<name>_<kind>``. The layer's class gets a property of that name.
    """
    own, key = f"{name}_{state.kind}", (type(layer), name)
    fields = object.__getattribute__(layer, "__dict__")
    if own in fields:
        raise PlanError(f"{type(layer).__name__} has an attribute {own} already; it cannot be {state.done} again")
    if state.replaces:
        for former in stack(layer, name):
            delattr(layer, f"{name}_{former.kind}")
        fields.pop(name, None)
    if key not in _CLASSES and not isinstance(getattr(type(layer), name, None), _Effective):
        body = {name: _Effective(name), "__module__": type(layer).__module__, "__doc__": type(layer).__doc__}
        _CLASSES[key] = type(type(layer).__name__, (type(layer),), body)
    if key in _CLASSES:
        object.__setattr__(layer, "__class__", _CLASSES[key])
    setattr(layer, own, state.train(layer.training))


class _Effective(property):
    """A weight that is computed: the Param, if it is still there, through the layer's stack."""

    def __init__(self, name: str) -> None:
        def read(layer: Module) -> Any:
            w = object.__getattribute__(layer, "__dict__").get(name)
            w = w.read() if isinstance(w, Cell) else w
            for state in stack(layer, name):
                w = state.forward(w)
            return w

        super().__init__(read)


_CLASSES: dict[tuple[type[Any], str], type[Any]] = {}

__all__ = ["Reweighting", "Weight", "WeightMethod", "names", "reparametrize", "stack", "weights"]
