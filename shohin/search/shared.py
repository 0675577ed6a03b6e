"""One set of weights for all ways through ``build``: a way's parameters are parts of the largest ones at their place.

A parameter is known by its path, and below a ``t.choice`` by its option too (``body.op@1.weight``). A narrower way has the first channels, a
smaller window the middle of the larger one. No layer knows of it: in a traced step the parts are written to the cells of an ordinary network,
and the gradient goes through them to the whole.
Source: Yu et al. 2018 (slimmable networks), Cai et al. 2020 (once for all, arXiv:1908.09791), section 3, without its transformation of windows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from shohin.core.cells import Param
from shohin.core.errors import StateError
from shohin.core.module import Module, mode
from shohin.core.tensor import as_tensor
from shohin.nn import BatchNorm1d, BatchNorm2d
from shohin.search.space import Trial
from shohin.train import container

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]
EXAMPLES = 1024
"""Examples from which a way's batch norms take their statistics."""


def keys(net: Module, trial: Trial) -> dict[str, str]:
    """What each parameter of a way is called among all ways, by path.

    >>> from shohin import nn
    >>> from shohin.search.space import Space
    >>> t = Trial(Space(0), 0, {"op": 1})
    >>> keys(nn.Sequential(nn.ReLU(), t.choice("op", [nn.ReLU(), nn.Linear(1, 1)])), t)
    {'1.weight': '1@1.weight', '1.bias': '1@1.bias'}
    """
    options = {id(module): k for _, k, module in trial.chosen}
    tags = {path: options[id(m)] for path, m in net.modules().items() if id(m) in options and path}
    found: dict[str, str] = {}
    for path in net.cells(Param):
        steps, parts = path.split("."), []
        for k, step in enumerate(steps):
            tag = tags.get(".".join(steps[: k + 1]))
            parts.append(step if tag is None else f"{step}@{tag}")
        found[path] = ".".join(parts)
    return found


def part(whole: Shape, own: Shape) -> tuple[slice, ...] | None:
    """Where a parameter lies in the whole: first channels, the middle of a window (axes that are not the first or last); None if it does not.

    >>> part((16, 5, 5, 8), (8, 3, 3, 4))
    (slice(0, 8, None), slice(1, 4, None), slice(1, 4, None), slice(0, 4, None))
    """
    if len(whole) != len(own) or any(n > m for n, m in zip(own, whole, strict=True)):
        return None
    at = [(m - n) // 2 if 0 < k < len(own) - 1 else 0 for k, (n, m) in enumerate(zip(own, whole, strict=True))]
    return tuple(slice(a, a + n) for a, n in zip(at, own, strict=True))


class Shared(Module):
    """The weights, by key. ``weights`` are as large as the largest of the ways that they are made of, and begin with their values."""

    weights: Any

    def __init__(self, ways: Iterable[tuple[Module, Trial]]) -> None:
        found: dict[str, list[Array]] = {}
        for net, trial in ways:
            cells = net.cells(Param)
            for path, key in keys(net, trial).items():
                found.setdefault(key, []).append(cells[path].read().numpy())
        whole: dict[str, Array] = {}
        for key, values in found.items():
            if len({v.ndim for v in values}) > 1:
                raise StateError(f"{key} has {' and '.join(str(v.shape) for v in values[:2])} in two ways, which share no weight; make them options of a t.choice")
            array = np.zeros(np.max([v.shape for v in values], 0), values[0].dtype)
            for v in sorted(values, key=lambda v: v.size):
                array[part(array.shape, v.shape)] = v
            whole[key] = array
        self._take(whole)

    @classmethod
    def of(cls, arrays: dict[str, Array]) -> Shared:
        """These arrays by key."""
        made = cls(())
        made._take(arrays)
        return made

    def _take(self, arrays: dict[str, Array]) -> None:
        self.weights = {key.replace(".", "/"): Param(array) for key, array in arrays.items()}

    def holds(self, net: Module, trial: Trial) -> bool:
        """Whether all parameters of a way are parts of these."""
        cells = net.cells(Param)
        return all(
            (mine := self._shape(key)) is not None and part(mine, cells[path].shape) is not None for path, key in keys(net, trial).items()
        )

    def _shape(self, key: str) -> Shape | None:
        name = key.replace(".", "/")
        return self.weights[name].shape if name in self.weights else None

    def arrays(self) -> dict[str, Array]:
        """All values by key."""
        return {name.replace("/", "."): value.numpy() for name, value in self.weights.items()}


@dataclass(frozen=True)
class Lent:
    """The keys of one network's parameters in the order of its cells: what a step needs to lend it weights."""

    names: tuple[str, ...]

    def __call__(self, shared: Shared, net: Module) -> None:
        """Write the parts to the network's cells; under a gradient with respect to ``shared`` they carry it."""
        for name, cell in zip(self.names, net.cells(Param).values(), strict=True):
            whole = shared.weights[name]
            cell.write(whole[part(whole.shape, cell.shape)])


def lent(net: Module, trial: Trial) -> Lent:
    """The keys of a way's network."""
    return Lent(tuple(key.replace(".", "/") for key in keys(net, trial).values()))


@dataclass(frozen=True, eq=False)
class Inherited:
    """Gives a way's network the weights of a file, and statistics of its own for its batch norms from ``examples``.

    Parameters that the file does not hold keep what they begin with.
    """

    file: str
    examples: Array
    batch: int = 128

    def __call__(self, net: Module, trial: Trial) -> None:
        whole = _read(self.file)
        cells = net.cells(Param)
        for path, key in keys(net, trial).items():
            found = whole.get(key)
            at = None if found is None else part(found.shape, cells[path].shape)
            if found is not None and at is not None:
                cells[path].write(as_tensor(np.ascontiguousarray(found[at])))
        recalibrate(net, [self.examples[k : k + self.batch] for k in range(0, len(self.examples) - self.batch + 1, self.batch)] or [self.examples])


def recalibrate(net: Module, examples: Sequence[Any]) -> None:
    """Sets the running statistics of the batch norms to the mean of those of the batches ``examples``, everything else in evaluation mode.

    Source: Yu and Huang 2019 (arXiv:1903.05134), section 3.3.

    >>> from shohin import nn
    >>> net = nn.Sequential(nn.BatchNorm1d(1))
    >>> recalibrate(net, [np.float32([[1], [3]]), np.float32([[5], [7]])])
    >>> float(net[0].running_mean[0]), float(net[0].running_var[0])
    (4.0, 2.0)
    """
    norms = [m for m in net.modules().values() if isinstance(m, BatchNorm1d | BatchNorm2d)]
    before = [m.momentum for m in norms]
    if not norms:
        return
    with mode(net, training=False):
        for m in norms:
            m.train()
        for k, x in enumerate(islice(examples, 32), 1):
            for m in norms:
                m.momentum = 1 / k
            net(x)
    for m, momentum in zip(norms, before, strict=True):
        m.momentum = momentum


@lru_cache(maxsize=4)
def _held(file: str, changed: int) -> dict[str, Array]:
    return dict(container.read(Path(file))[0])


def _read(file: str) -> dict[str, Array]:
    return _held(file, Path(file).stat().st_mtime_ns)


__all__ = ["Inherited", "Lent", "Shared", "keys", "lent", "part", "recalibrate"]
