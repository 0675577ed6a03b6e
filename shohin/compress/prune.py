"""``PruneChannels``: the slot ``channels``. Whole channels leave a network, which is a smaller plain module afterwards.

Which dims belong together is derived (``transforms.channels``). Layers keep numbers of channels as attributes
(``out_channels``, ``groups``); those are found again from the extents of the layer's own ops, and the smaller network
is traced and compared with what the relations predict, op by op, before it is returned.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from shohin.compress.calibration import batches
from shohin.compress.slots import Method
from shohin.core.cells import Param, touched
from shohin.core.errors import PlanError, ShohinError
from shohin.core.module import Module, copy, mode
from shohin.core.tensor import Tensor
from shohin.transforms.channels import Channels, Extent, Group, Seen, channels, flat
from shohin.transforms.trace import trace

Array = np.ndarray[Any, Any]
Importance = Callable[[Group, Mapping[str, Array]], Array]
TRIES = 200


def magnitude(power: int) -> Importance:
    """The sum of |w|^power over all parameters that go with a channel. Source: Li et al. 2017 (l1, one layer); Fang et
    al. 2023, section 3.3 (the whole group)."""

    def score(group: Group, values: Mapping[str, Array]) -> Array:
        total = np.zeros(group.size)
        for s in group.slices:
            if s.path in values:
                each = np.moveaxis(np.abs(values[s.path].astype(np.float64)) ** power, s.dim, 0)
                here = s.index >= 0
                np.add.at(total, s.index[here], each.reshape(len(each), -1).sum(1)[here])
        return total

    return score


IMPORTANCE: dict[str, Importance] = {"l1": magnitude(1), "l2": magnitude(2)}


@dataclass(frozen=True)
class PruneChannels(Method):
    """``ratio`` of the channels of every group whose makers are all chosen leave; ``importance`` is l1 or l2.

    Channels that a residual, a concatenation or a depthwise layer ties together go together or not at all.
    """

    ratio: float = 0.5
    importance: str = "l1"
    slot: ClassVar[str] = "channels"
    needs_calibration: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 <= self.ratio < 1:
            raise PlanError(f"PruneChannels: ratio is {self.ratio}, expected a fraction in [0, 1)")
        if self.importance not in IMPORTANCE:
            raise PlanError(f"PruneChannels: importance {self.importance!r} is none of {', '.join(IMPORTANCE)}")

    @property
    def scheme(self) -> str:
        return f"{self.ratio:.0%} of the channels by {self.importance}"

    @classmethod
    def apply(cls, net: Module, chosen: Mapping[str, Method], calibration: Any) -> Module:
        if calibration is None:
            raise PlanError("PruneChannels needs calibration= (its first examples give the inputs' shapes)")
        found = channels(net)(*(x[:1] for x in next(batches(calibration))))
        values = {path: p.read().numpy() for path, p in net.cells(Param).items()}
        kept: dict[Group, Array] = {}
        acted: set[int] = set()
        why: dict[int, list[str]] = {}
        for group in found.groups:
            paths = makers(group, values)
            methods = [m for m in map(chosen.get, paths) if isinstance(m, PruneChannels)]
            reason = _stays(group, [p for p in paths if p not in chosen]) if methods else ""
            if methods and not reason:
                mine = min(methods, key=lambda m: m.ratio)
                kept[group] = _largest(IMPORTANCE[mine.importance](group, values), mine.ratio)
                reason = "" if not kept[group].all() else f"{mine.ratio:.0%} of {group.size} channels is none"
            for method in methods:
                if reason:
                    why.setdefault(id(method), []).append(f"{', '.join(paths)}: {reason}")
                else:
                    acted.add(id(method))
        for method in {id(m): m for m in chosen.values()}.values():
            if isinstance(method, PruneChannels) and method.ratio and id(method) not in acted:
                places = [path for path, m in chosen.items() if m is method]
                reasons = list(dict.fromkeys(why.get(id(method), ["no channels of weights are there"])))
                raise PlanError(
                    f"{method} at {', '.join(map(repr, places[:3]))} changed nothing: {'; '.join(reasons[:3])}. Channels leave "
                    "before weights are palettized, so write both rules in one plan; else leave the rule out, or name layers "
                    "whose channels are not tied to inputs or outputs (print(sh.channels(net)(x)) lists the groups)"
                )
        return shrink(net, found, kept)


def makers(group: Group, values: Mapping[str, Array]) -> list[str]:
    """The modules whose parameters make the group's channels: all that hold one and do not only read it."""
    paths = [s.path.rpartition(".")[0] for s in group.slices if not s.reads and s.path in values]
    return list(dict.fromkeys(paths))


def _stays(group: Group, others: Sequence[str]) -> str:
    """Why the channels of a group cannot go, or nothing."""
    if not group.prunable:
        return group.fixed or "it has one channel"
    names = ", ".join(map(repr, others))
    return f"the channels are also made by {names}, which no PruneChannels rule takes" if others else ""


def _largest(score: Array, ratio: float) -> Array:
    """The marks of the channels that stay: at least one, and of equal ones the first."""
    order = np.argsort(-score, kind="stable")
    mask = np.zeros(len(score), bool)
    mask[order[: max(1, len(score) - int(len(score) * ratio))]] = True
    return mask


def prune_channels(net: Module, x: Any, ratio: float, importance: str = "l1") -> Any:
    """A smaller copy of ``net`` without ``ratio`` of the channels of every prunable group; ``x`` is an example input.

    >>> from shohin import nn
    >>> net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 2, 1))
    >>> small = prune_channels(net, np.ones((1, 5, 5, 1), np.float32), 0.5)
    >>> small[0], small[2].weight.shape
    (Conv2d(1, 4, kernel_size=(3, 3), weight: f32[4,3,3,1], bias: f32[4]), (2, 1, 1, 4))
    """
    return PruneChannels.apply(net, dict.fromkeys(net.modules(), PruneChannels(ratio, importance)), x)


def shrink(net: Module, found: Channels, kept: Mapping[Group, Array]) -> Any:
    """A copy of ``net`` in which of each group in ``kept`` only the marked channels are left.

    Raises ``PlanError`` where a number in the network's Python stands for channels that are not there any more.
    """
    small = copy(net)
    cells = small.cells()
    for path, masks in found.masks(kept).items():
        cell, dims = cells[path], [np.flatnonzero(m) for m in masks]
        array = np.ascontiguousarray(cell.read().numpy()[np.ix_(*dims)] if dims else cell.read().numpy())
        if array.shape != cell.shape:
            cell.shape = array.shape
            cell.store(Tensor._make(array, None, None, None))
    touched()
    _Repair(small, found, {g.leaf: m for g, m in kept.items()}).run()
    return small


class _Repair:
    """Finds the new values of integer attributes: guess all, trace, and where the program differs from the prediction
    try the other values of that layer."""

    def __init__(self, net: Module, found: Channels, kept: Mapping[Extent, Array]) -> None:
        self.net, self.found, self.kept = net, found, kept
        self.sizes: dict[Extent, int] = {}
        graph = found.traced.graph
        self.inputs = [np.zeros(v.shape, v.dtype) for v in graph.inputs[: len(graph.inputs) - len(found.traced.cells)]]
        self.consts = _constants(found.traced.graph)
        self.paths = {id(cell): path for path, cell in net.cells().items()}

    def size(self, node: Extent) -> int:
        root = node.root()
        if root not in self.sizes:
            self.sizes[root] = int(root.mask(self.kept).sum())
        return self.sizes[root]

    def run(self) -> None:
        modules = self.net.modules()
        order = list(dict.fromkeys(_module(s.node.place) for s in self.found.seen))
        options = {p: self.options(p, modules[p]) for p in order if p in modules}
        for path, (names, choices) in options.items():
            _assign(modules[path], names, choices[0])
        for path, (names, choices) in options.items():  # layers before this one are right already
            at, why = self.differs()
            if at is None:
                return
            if at != path:
                continue
            for choice in choices[1:]:
                _assign(modules[path], names, choice)
                if self.differs()[0] != path:
                    break
        at, why = self.differs()
        if at is not None:
            raise PlanError(
                f"PruneChannels: {at or 'the network'} keeps a number that stands for channels: {why}. Take it from "
                f"x.shape or a weight's shape in forward, or write ({at!r}, None) after the rule"
            )

    def options(self, path: str, module: Module) -> tuple[list[str], list[tuple[int, ...]]]:
        """The layer's integer attributes that may be extents, and their possible new values, likeliest first."""
        paths = [self.paths[id(entry)] for _, entry in module._entries() if id(entry) in self.paths]
        own = {leaf for p in paths for d in self.found.dims.get(p, ()) for leaf in d.leaves()}
        extents: dict[Extent, int] = {}
        for s in self.found.seen:
            if _module(s.node.place) == path:
                typed = [s.axes[a.axis] for a in s.node.op.attrs.values() if a.type == "extent" and a.axis in s.axes]
                for node in (*typed, *(d for v in (*s.operands, *s.results) for d in v), *s.axes.values()):
                    if node in typed or not own or own.intersection(node.leaves()):
                        extents.setdefault(node.root(), node.size)
        names: list[str] = []
        values: list[list[int]] = []
        used: dict[int, int] = {}
        for name, v in module._entries():
            if type(v) is not int or v < 2:
                continue
            news = [self.size(n) for n, size in extents.items() if size == v]
            if all(n == v for n in news):
                continue
            first = news[used.get(v, 0) % len(news)]
            used[v] = used.get(v, 0) + 1
            names.append(name)
            values.append(list(dict.fromkeys([first, *news, v])))
        return names, list(itertools.islice(itertools.product(*values), TRIES))

    def differs(self) -> tuple[str | None, str]:
        """The module where the smaller network's program first differs from the prediction, and how."""
        try:
            with mode(self.net, training=False):
                graph = trace(self.net)(*self.inputs).graph
        except (ShohinError, ValueError, TypeError, IndexError) as error:
            return self._raised(error), str(error)
        consts = _constants(graph)
        for now, s in itertools.zip_longest(flat(graph), self.found.seen):
            place = (s.node if s is not None else now).place
            if now is not None and s is not None and now.op is s.node.op:
                why = self._change(now, s, consts)
            else:
                why = "the ops are others"
            if why:
                return _module(place), f"{place}: {why}"
        return None, ""

    def _raised(self, error: BaseException) -> str:
        """The path of the innermost module whose code raised."""
        paths, found, at = {id(m): p for p, m in self.net.modules().items()}, "", error.__traceback__
        while at is not None:
            found, at = paths.get(id(at.tb_frame.f_locals.get("self")), found), at.tb_next
        return found

    def _change(self, now: Any, s: Seen, consts: Mapping[Any, Array]) -> str:
        for v, dims in zip((*now.operands, *now.results), (*s.operands, *s.results)):
            wanted = tuple(map(self.size, dims))
            if v.shape != wanted:
                return f"a value has shape {v.shape}, expected {wanted}"
        for name, a in now.op.attrs.items():
            new, old = now.attrs[name], s.node.attrs[name]
            if a.type == "extent":
                old = self.size(s.axes[a.axis])
            elif a.type in ("shape", "per_dim", "graph") or now.op.kind == "call":
                continue
            if new != old:
                return f"{name} is {new}, expected {old}"
        for a, b in zip(now.operands, s.node.operands):
            if (a in consts) != (b in self.consts) or (a in consts and not np.array_equal(consts[a], self.consts[b])):
                return "a constant has another value"
        return ""


def _assign(module: Module, names: Sequence[str], values: Sequence[int]) -> None:
    for name, value in zip(names, values, strict=True):
        setattr(module, name, value)


def _constants(graph: Any) -> dict[Any, Array]:
    """The data of constants, those in bodies included."""
    found = dict(graph.consts)
    for node in flat(graph):
        if node.op.kind == "call":
            found.update(node.attrs["body"].consts)
    return found


def _module(place: str) -> str:
    return place.partition("/")[0]


__all__ = ["IMPORTANCE", "PruneChannels", "magnitude", "prune_channels", "shrink"]
