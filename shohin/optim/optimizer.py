"""The optimizer: a module that holds a transform's state in Buffers by path, and no reference to the network."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from shohin.core import dtypes
from shohin.core.cells import Buffer, Param
from shohin.core.errors import StateError
from shohin.core.module import Module
from shohin.core.tensor import Tensor, as_tensor
from shohin.ops import math
from shohin.transforms.arguments import trainable

if TYPE_CHECKING:
    from shohin.optim.transform import Transform

UPDATE_HOOKS: list[Callable[[Module], None]] = []
"""Called with the network at the end of each ``update``, as part of the step: schedules that count updates."""


class Optimizer(Module):
    """State for the trainable parameters of one structure. Make it by ``optim.adamw(3e-3).init(net)``.

    ``count`` is the number of updates so far, ``lr`` the rate of the last one; ``state`` holds what the transform
    remembers, one entry a parameter (a tied parameter has one). ``paths`` are the parameters' paths.
    """

    count: Any
    lr: Any
    state: Any

    def __init__(self, transform: Transform, net: Module) -> None:
        cells = _trainable(net, repr(transform))
        if transform.rate is None:
            raise StateError(
                f"{transform} has no learning rate and would climb; end it with optim.scale_by_rate(lr) or a "
                "rule such as optim.sgd(lr)"
            )
        self.transform = transform
        self.paths = tuple(cells)
        self.count = Buffer(np.zeros((), np.int32))
        self.lr = Buffer(np.asarray(0.0 if callable(transform.rate) else transform.rate, np.float32))
        state = transform.start({path: cell.read() for path, cell in cells.items()})
        self.state = {name: _buffers(entry) for name, entry in state.items()}

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "lr" and isinstance(value, int | float) and not isinstance(value, bool) and "lr" in self.__dict__:
            value = as_tensor(np.asarray(value, np.float32))  # opt.lr = 1e-4 writes the Buffer; nothing is traced anew
        super().__setattr__(name, value)

    def update(self, net: Module, grads: Any, *, lr: Any = None) -> None:
        """Write new parameters to ``net`` and new state here. ``lr``, a number or a function of the count,
        overrides the rate for this update.

        Args:
            net: of the structure that this optimizer was made for.
            grads: gradients by path, as ``sh.grad`` returns them for ``net``.

        Raises:
            StateError: another structure (frozen or new layers), or gradients of other paths or shapes.
        """
        cells = _trainable(net, repr(self.transform))
        self._check(cells, grads)
        params = {path: cell.read() for path, cell in cells.items()}
        rate = self._rate(self.transform.rate if lr is None else lr, fixed=lr is not None)
        state = {name: dict(e.items()) if isinstance(e, dict) else e for name, e in self.state.items()}
        updates, new = self.transform.step({path: grads[path] for path in cells}, params, state, rate)
        self.lr = rate
        self.count = self.count + 1
        for name, entry in new.items():
            if not isinstance(entry, dict):
                self.state[name] = entry
                continue
            own = self.state[name]
            for path, value in entry.items():
                own[path] = value
        for path, cell in cells.items():
            cell.write(math.astype(params[path] + updates[path], cell.dtype))
        for hook in UPDATE_HOOKS:
            hook(net)

    def _rate(self, rate: Any, *, fixed: bool) -> Tensor:
        """float32: of a function its value at the count, of a number itself if ``fixed``, else what ``lr`` holds."""
        if callable(rate):
            rate = rate(math.astype(self.count, dtypes.float32))
        elif not fixed:
            return self.lr
        return math.astype(as_tensor(rate), dtypes.float32)

    def _check(self, cells: dict[str, Param], grads: Any) -> None:
        if tuple(cells) != self.paths:
            gone, new = [p for p in self.paths if p not in cells], [p for p in cells if p not in self.paths]
            said = [f"{', '.join(_few(gone))} no longer there or frozen"] if gone else []
            said += [f"{', '.join(_few(new))} new"] if new else []
            raise StateError(
                f"{self.transform}: the network's trainable parameters differ from those that this optimizer was "
                "made for "
                f"({'; '.join(said) or 'another order'}); make a new one: opt = {self.transform}.init(net)"
            )
        if not isinstance(grads, dict) or set(grads) != set(cells):
            got = _few(list(grads)) if isinstance(grads, dict) else [type(grads).__name__]
            raise StateError(
                f"{self.transform}: gradients are {', '.join(got)}, expected those of sh.grad(loss)(net, ...): "
                f"{', '.join(_few(list(cells)))}"
            )
        for path, cell in cells.items():
            g = grads[path]
            if not isinstance(g, Tensor) or g.shape != cell.shape:
                raise StateError(
                    f"{self.transform}: the gradient of {path} is {getattr(g, 'aval', g)}, the parameter {cell.aval}"
                )
            for name, entry in self.state.items():
                if isinstance(entry, dict) and path in entry and entry[path].shape != cell.shape:
                    raise StateError(
                        f"{self.transform}: {path} is {cell.aval}, but its state {name} is {entry[path].aval}; make a "
                        "new optimizer"
                    )

    def extra_repr(self) -> str:
        return f"{self.transform}, {len(self.paths)} parameters"

    def __repr__(self) -> str:
        try:
            count = f", {int(self.count)} updates" if self.count.ndim == 0 else f", {self.count.shape[0]} lanes"
        except TypeError:  # inside a trace the count has no value
            count = ""
        return f"Optimizer({self.extra_repr()}{count})"


def _trainable(net: Any, what: str) -> dict[str, Param]:
    if not isinstance(net, Module):
        raise StateError(f"{what}: the network is {type(net).__name__}, expected a module")
    cells = trainable(net)
    if not cells:
        raise StateError(f"{what}: {type(net).__name__} has no trainable parameter")
    return cells


def _few(paths: list[str], most: int = 4) -> list[str]:
    return paths if len(paths) <= most else [*paths[:most], f"... ({len(paths)})"]


def _buffers(entry: Any) -> Any:
    return {path: Buffer(value) for path, value in entry.items()} if isinstance(entry, dict) else Buffer(entry)
