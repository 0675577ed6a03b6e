"""State dicts of PyTorch into a network whose layers have the same names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from shohin import nn
from shohin.core import dtypes
from shohin.core.cells import Cell
from shohin.core.errors import CheckpointError
from shohin.core.module import Module
from shohin.core.tensor import as_tensor
from shohin.interop import layout
from shohin.interop.naming import path_of

Array = np.ndarray[Any, Any]
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d, nn.ConvTranspose2d)
_COUNTS = "num_batches_tracked"


def load_state_dict(net: Module, state: Any, *, partial: bool = False) -> Module:
    """Write a state dict of PyTorch into the cells of ``net``, by name; returns the network. All or nothing.

    Weights of convolutions are turned, (out, in / groups, kh, kw) -> (out, kh, kw, in / groups), floats become the cells' type;
    ``num_batches_tracked`` has no counterpart and is passed over, and so is an underscore before a name (``_fc`` is ``fc`` here: what begins
    with one is not walked). ``net`` is one's own, of layers with PyTorch's names, or one that
    ``from_torch`` brought in.

    Args:
        state: a mapping from names to tensors or arrays (``module.state_dict()``, ``torch.load(path, weights_only=True)``,
            ``safetensors.torch.load_file(path)``), or the path of a ``.safetensors`` file.
        partial: names that only one side has are passed over; shapes must still fit.

    Raises:
        CheckpointError: all names that are missing, that the network lacks, and whose shape is another.

    >>> net = nn.Conv2d(1, 1, (1, 2), bias=False)
    >>> load_state_dict(net, {"weight": np.array([[[[3.0, 4.0]]]])}).weight.tolist()
    [[[[3.0], [4.0]]]]
    """
    given = {_plain(k): (k, v) for k, v in _arrays(state).items() if not k.endswith(_COUNTS)}
    cells = {_plain(k): (k, c) for k, c in net.cells().items()}
    others = {_plain(k) for k in net.aliases()}
    said: list[str] = []
    if not partial:
        missing = [k for p, (k, _) in cells.items() if p not in given]
        unexpected = [k for p, (k, _) in given.items() if p not in cells and p not in others]
        said += [f"it lacks {_list(missing)}"] if missing else []
        said += [f"it has {_list(unexpected)}, which the network lacks"] if unexpected else []
    ready: list[tuple[Cell, Array]] = []
    for path, (name, cell) in cells.items():
        if path not in given:
            continue
        array = given[path][1]
        turned = np.transpose(array, layout.channels_last(array.ndim)) if _is_convolution(net, name) and array.ndim > 2 else array
        alike = turned.dtype == cell.dtype or (turned.dtype in dtypes.FLOATING and cell.dtype in dtypes.FLOATING)
        if turned.shape != cell.shape or not alike:
            wanted = _turned_back(cell.shape) if turned is not array else cell.shape
            said.append(f"{given[path][0]} is {array.dtype.name}{list(array.shape)}, expected {cell.dtype.name}{list(wanted)}")
        else:
            ready.append((cell, np.ascontiguousarray(turned, cell.dtype)))
    if said:
        raise CheckpointError(f"the state dict does not fit {type(net).__name__}: {'; '.join(said)}. With partial=True names of one side are passed over")
    for cell, array in ready:
        cell.write(as_tensor(array))
    return net


def _arrays(state: Any) -> dict[str, Array]:
    if isinstance(state, str | Path):
        if Path(state).suffix != ".safetensors":
            raise CheckpointError(f"{state} is no .safetensors file; read it with torch and give what comes: torch.load(path, weights_only=True)")
        try:
            return load_file(state)
        except Exception as error:
            raise CheckpointError(f"{state} cannot be read: {error}") from error
    if not isinstance(state, Mapping):
        raise CheckpointError(f"a state dict is a mapping from names to tensors or the path of a .safetensors file, got {type(state).__name__}")
    return {str(k): np.asarray(v.detach().cpu().float().numpy() if hasattr(v, "detach") and v.is_floating_point() else v) for k, v in state.items()}


def _list(names: list[str], most: int = 12) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _plain(name: str) -> str:
    """A name as both sides have it: ``att.in_proj_weight`` of PyTorch is the weight of a layer, in what was imported."""
    return re.sub(r"_(weight|bias)$", r".\1", path_of(name))


def _is_convolution(net: Module, path: str) -> bool:
    owner = net.modules().get(path.rpartition(".")[0])
    return isinstance(owner, CONVOLUTIONS)


def _turned_back(shape: tuple[int, ...]) -> tuple[int, ...]:
    return layout.foreign(shape, layout.channels_last(len(shape)))


__all__ = ["load_state_dict"]
