"""``shrink``: a network without some of its channels, as a smaller plain module.

Layers keep numbers of channels as attributes (``out_channels``, ``groups``); those are found again from the extents of the
layer's own ops, and the smaller network is traced and compared with what the relations predict, op by op, before it is returned.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from shohin.core.cells import touched
from shohin.core.errors import PlanError, ShohinError
from shohin.core.module import Module, copy, mode
from shohin.core.tensor import Tensor
from shohin.transforms.channels import Channels, Extent, Group, Seen, flat
from shohin.transforms.trace import trace

Array = np.ndarray[Any, Any]
TRIES = 200
_LOG = logging.getLogger("shohin")


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


def shrink_what_can(net: Module, found: Channels, kept: Mapping[Group, Array]) -> Any:
    """``shrink``; where that fails and slices cut groups apart, those keep all their channels, which is logged."""
    try:
        return shrink(net, found, kept)
    except PlanError as error:
        sliced = found.sliced() & kept.keys()
        if not sliced:
            raise
        small = shrink(net, found, {g: m for g, m in kept.items() if g not in sliced})
        _LOG.warning("channels that are sliced by fixed numbers stay: %s", error)
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
        if s.before:
            starts = tuple(0 if b is None else self.size(b) for b in s.before)
            if tuple(now.attrs["start"]) != starts:
                return f"the slice starts at {tuple(now.attrs['start'])}, expected {starts}"
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


__all__ = ["shrink", "shrink_what_can"]
