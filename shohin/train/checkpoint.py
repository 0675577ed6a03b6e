"""Checkpoints: all cells by path, aliases, optimizer, generator and where the run stands, in one safetensors file.

Loading checks every name, shape and dtype before the first cell is written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shohin.core.cells import Cell
from shohin.core.errors import CheckpointError
from shohin.core.module import Module
from shohin.core.tensor import as_tensor
from shohin.ops import random
from shohin.optim import Optimizer
from shohin.train import container

Array = np.ndarray[Any, Any]
FORMAT = "shohin-run-1"


@dataclass(frozen=True, kw_only=True)
class Position:
    """Where a run stands: ``epoch`` epochs and ``step`` updates are done; ``key`` orders the data.

    ``best`` is the highest score so far and ``best_epoch`` its epoch, counted from 1; ``digest`` is that of the
    configuration.
    """

    epoch: int
    step: int
    key: tuple[int, int]
    digest: str
    best: float | None = None
    best_epoch: int = 0


def save_run(path: str | Path, net: Module, opt: Optimizer, position: Position) -> None:
    """Write all that a run needs to go on bit for bit: network, optimizer, generator, position. Whole or not at all."""
    arrays = {
        **_arrays("net", net),
        **_arrays("opt", opt),
        "generator.key": random.default.key.read().numpy(),
        "generator.counter": random.default.counter.read().numpy(),
    }
    metadata = {
        "format": FORMAT,
        "aliases": json.dumps(net.aliases()),
        "optimizer": repr(opt.transform),
        "position": json.dumps(
            {**vars(position), "best": None if position.best is None else float(position.best).hex()}
        ),
    }
    container.write(Path(path), arrays, metadata)


def read_position(path: str | Path) -> Position:
    """Where the run of a checkpoint stands; no cell is written."""
    return _position(Path(path), container.read(Path(path))[1])


def load_run(path: str | Path, net: Module, opt: Optimizer | None = None, *, generator: bool = True) -> Position:
    """Write a checkpoint's values into ``net``, ``opt`` and the default generator; all or nothing.

    Raises:
        CheckpointError: a corrupt file, or one of another network or optimizer; the message names what differs.

    >>> from shohin import nn, optim
    >>> net = nn.Linear(2, 1)
    >>> opt = optim.sgd(0.1).init(net)
    >>> save_run("last.safetensors", net, opt, Position(epoch=3, step=30, key=(1, 2), digest="d"))
    >>> load_run("last.safetensors", net, opt).epoch
    3
    """
    path = Path(path)
    arrays, metadata = container.read(path)
    position = _position(path, metadata)
    pairs = _matched(path, "network", net, _under("net", arrays))
    _same_aliases(path, net, metadata)
    if opt is not None:
        if metadata.get("optimizer") != repr(opt.transform):
            raise CheckpointError(
                f"{path} belongs to the optimizer {metadata.get('optimizer')}, this one is {opt.transform}"
            )
        pairs += _matched(path, "optimizer", opt, _under("opt", arrays))
    if generator:
        pairs += [(random.default.key, arrays["generator.key"]), (random.default.counter, arrays["generator.counter"])]
    for cell, array in pairs:
        cell.write(as_tensor(array))
    return position


def save(module: Module, path: str | Path) -> None:
    """Write a module's cells by path, and its aliases, to one safetensors file.

    >>> from shohin import nn
    >>> save(nn.Linear(2, 1), "linear.safetensors")
    """
    arrays = {name: cell.read().numpy() for name, cell in module.cells().items()}
    container.write(Path(path), arrays, {"format": "shohin-cells-1", "aliases": json.dumps(module.aliases())})


def load(path: str | Path, into: Module | None = None) -> Module:
    """Write the values of a file into the cells of ``into``, by path; returns it. A run's checkpoint will do too.

    >>> from shohin import nn
    >>> save(nn.Linear(2, 1), "linear.safetensors")
    >>> net = load("linear.safetensors", nn.Linear(2, 1))
    """
    path = Path(path)
    if into is None:
        raise CheckpointError(f"{path} holds values, not the network; write load(path, into=net)")
    arrays, metadata = container.read(path)
    own = _under("net", arrays) if metadata.get("format") == FORMAT else arrays
    pairs = _matched(path, "network", into, own)
    _same_aliases(path, into, metadata)
    for cell, array in pairs:
        cell.write(as_tensor(array))
    return into


# --------------------------------------------------------------------------------------------- pieces


def _arrays(prefix: str, module: Module) -> dict[str, Array]:
    return {f"{prefix}.{path}": cell.read().numpy() for path, cell in module.cells().items()}


def _under(prefix: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {name[len(prefix) + 1 :]: a for name, a in arrays.items() if name.startswith(f"{prefix}.")}


def _position(path: Path, metadata: Mapping[str, str]) -> Position:
    if metadata.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} is no checkpoint of a run (format {metadata.get('format')!r}); sh.load(path, into=net) "
            "reads values"
        )
    try:
        fields = json.loads(metadata["position"])
        best = None if fields["best"] is None else float.fromhex(fields["best"])
        return Position(**{**fields, "key": tuple(fields["key"]), "best": best})
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is corrupt: its position is {metadata.get('position')!r}") from error


def _matched(path: Path, what: str, module: Module, arrays: Mapping[str, Array]) -> list[tuple[Cell, Array]]:
    """Cells and the arrays that belong into them, or an error that says all that differs."""
    cells = module.cells()
    said: list[str] = []
    missing, extra = [p for p in cells if p not in arrays], [p for p in arrays if p not in cells]
    if missing:
        said.append(f"it lacks {_list(missing)}")
    if extra:
        said.append(f"it holds {_list(extra)}, which the {what} lacks")
    for p, cell in cells.items():
        if p in arrays and (arrays[p].shape != cell.shape or arrays[p].dtype != cell.dtype):
            said.append(f"{p} is {arrays[p].dtype.name}{list(arrays[p].shape)} there and {cell.aval} here")
    if said:
        raise CheckpointError(
            f"{path} belongs to another {what}: {'; '.join(said[:4])}{' ...' if len(said) > 4 else ''}"
        )
    return [(cell, arrays[p]) for p, cell in cells.items()]


def _same_aliases(path: Path, net: Module, metadata: Mapping[str, str]) -> None:
    there, here = json.loads(metadata.get("aliases", "{}")), net.aliases()
    if there != here:
        tied = lambda a: ", ".join(f"{k} = {v}" for k, v in a.items()) or "none"
        raise CheckpointError(f"{path} belongs to another network: tied there are {tied(there)}; here {tied(here)}")


def _list(names: list[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


__all__ = ["Position", "load", "load_run", "read_position", "save", "save_run"]
