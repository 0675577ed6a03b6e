"""The relaxed network of a space: one network in which the options of each choice are weighed.

Options of a ``choice`` stand side by side and their results are added; blocks of a ``repeat`` are passed by in part; and where options
change nothing but sizes (widths, windows), channels and taps are weighed by the options that have them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from shohin.core.cells import Buffer, Param
from shohin.core.module import Module, copy
from shohin.core.tensor import Tensor, as_tensor
from shohin.nn import Sequential
from shohin.ops import reduce
from shohin.search.shared import Shared, part
from shohin.search.space import Trial
from shohin.search.strategies import Build
from shohin.search.ways import Way, way

Array = np.ndarray[Any, Any]


class Mixed(Sequential):
    """sum_k gates[k] option_k(x)."""

    gates: Any

    def __init__(self, name: str, options: Sequence[Callable[..., Any]]) -> None:
        super().__init__(*options)
        self.name, self.gates = name, Buffer(np.eye(1, len(options), dtype=np.float32)[0])

    def forward(self, x: Any) -> Any:
        results = [option(x) * self.gates[k] for k, option in enumerate(self)]
        return sum(results[1:], results[0])


class Passed(Sequential):
    """Blocks one after another, the i-th with the share p_i of the counts beyond i: x + p_i (block_i(x) - x); ``gates`` are the counts' weights."""

    gates: Any

    def __init__(self, name: str, blocks: Sequence[Callable[..., Any]], counts: Sequence[int]) -> None:
        super().__init__(*blocks)
        self.name, self.counts = name, tuple(counts)
        self.gates = Buffer(np.eye(len(counts), dtype=np.float32)[-1])

    def forward(self, x: Any) -> Any:
        for i, block in enumerate(self):
            has = np.array([count > i for count in self.counts], np.float32)
            y = block(x)
            x = y if has.all() else x + reduce.sum(self.gates * as_tensor(has)) * (y - x)
        return x


class Relaxed(Trial):
    """A trial whose choices and repeats are all their options."""

    def choice(self, name: str, options: Sequence[Callable[..., Any]]) -> Any:
        super().choice(name, options)
        self.chosen.clear()
        return Mixed(name, options)

    def repeat(self, name: str, block: Callable[[], Any], *, max: int, min: int = 1) -> Sequential:
        super().repeat(name, block, max=max, min=min)
        blocks = [copy(block) if isinstance(block, Module) else block() for _ in range(max)]
        return Passed(name, blocks, range(min, max + 1))


def keys(net: Module) -> dict[str, str]:
    """What each parameter is called among all ways (``shared.keys``), by its path in a relaxed network.

    >>> from shohin import nn
    >>> keys(Sequential(nn.ReLU(), Mixed("op", [nn.ReLU(), nn.Linear(1, 1)])))
    {'1.1.weight': '1@1.weight', '1.1.bias': '1@1.bias'}
    """
    mixed = [path for path, m in net.modules().items() if isinstance(m, Mixed)]
    found: dict[str, str] = {}
    for path in net.cells(Param):
        parts: list[str] = []
        steps = path.split(".")
        for k, step in enumerate(steps):
            if ".".join(steps[:k]) in mixed and k:
                parts[-1] += f"@{step}"
            else:
                parts.append(step)
        found[path] = ".".join(parts)
    return found


Masks = Mapping[str, tuple[tuple[str, int, Array], ...]]
"""By key: (choice, axis, weights of its options by position (options, extent))."""


@dataclass(frozen=True)
class Space:
    """A relaxed network, its weights, how many options each choice has that is weighed, and what they weigh."""

    net: Module
    shared: Shared
    counts: Mapping[str, int]
    names: tuple[str, ...]
    masks: Masks

    def set(self, shared: Shared, net: Module, gates: Mapping[str, Any]) -> None:
        """Write weights and gates to the network's cells; under a gradient they carry it."""
        for m in net.modules().values():
            if isinstance(m, Mixed | Passed):
                m.gates = gates[m.name] if m.name in gates else m.gates
        for name, cell in zip(self.names, net.cells(Param).values(), strict=True):
            value: Tensor = shared.weights[name]
            for choice, axis, mask in self.masks.get(name, ()):
                lanes = reduce.sum(gates[choice].reshape((-1, 1)) * as_tensor(mask), axis=0)
                value = value * lanes.reshape(tuple(n if k == axis else 1 for k, n in enumerate(cell.shape)))
            cell.write(value)


def relaxed(build: Build, seed: int) -> Space:
    """The relaxed network of a space. Choices that it cannot weigh are left out: all that changes more than options, counts and sizes."""
    top = way(build, seed, {}, kind=Relaxed)
    own = keys(top.net)
    cells = top.net.cells(Param)
    whole = {own[path]: cell.shape for path, cell in cells.items()}
    modules = top.net.modules().values()
    counts = {m.name: len(top.trial.options[m.name]) for m in modules if isinstance(m, Mixed | Passed)}
    masks: dict[str, list[tuple[str, int, Array]]] = {}
    for name, options in top.trial.options.items():
        if name in counts or name not in top.trial.ordered or len(options) < 2:
            continue
        found = [_shapes(way(build, seed, {**top.trial.choices, name: k}, kind=Relaxed)) for k in range(len(options))]
        fits = all(shapes.keys() == whole.keys() and all(part(whole[k], s) is not None for k, s in shapes.items()) for shapes in found)
        if not fits or all(shapes == whole for shapes in found):
            continue
        counts[name] = len(options)
        for key, shape in whole.items():
            at = [part(shape, shapes[key]) or () for shapes in found]
            for axis, n in enumerate(shape):
                mask = np.array([[a[axis].start <= i < a[axis].stop for i in range(n)] for a in at], np.float32)
                if not mask.all():
                    masks.setdefault(key.replace(".", "/"), []).append((name, axis, mask))
    shared = Shared.of({key: cells[path].read().numpy() for path, key in own.items()})
    order = tuple(key.replace(".", "/") for key in own.values())
    return Space(top.net, shared, {n: m for n, m in counts.items() if m > 1}, order, {k: tuple(v) for k, v in masks.items()})


def _shapes(one: Way) -> dict[str, tuple[int, ...]]:
    own, cells = keys(one.net), one.net.cells(Param)
    return {own[path]: cell.shape for path, cell in cells.items()}


__all__ = ["Mixed", "Passed", "Relaxed", "Space", "keys", "relaxed"]
