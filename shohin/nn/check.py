"""What every layer asks of its input: a floating dtype that fits its weights, a rank, a number of channels."""

from __future__ import annotations

from typing import Any

from shohin.core import dtypes, interp
from shohin.core.errors import DtypeError, ShapeError
from shohin.core.module import Module
from shohin.core.tensor import Tensor, as_tensor


def place_of(layer: Module) -> str:
    """The layer's kind and path, for messages: ``Conv2d at body.0.conv``.

    >>> place_of(Module())
    'Module'
    """
    at, kind = interp.place(), type(layer).__name__
    return f"{kind} at {at}" if at and not at.startswith("=") else kind


def floating(layer: Module, x: Any, weight: Tensor | None = None) -> Tensor:
    """``x`` as a tensor of a floating dtype; a layer with weights takes float64 only if they are float64 too.

    Raises:
        DtypeError: integers, booleans, or float64 where the weights are narrower; the message has the ``astype``.
    """
    tensor, dtype = as_tensor(x), dtypes.float32 if weight is None else weight.dtype
    if tensor.dtype not in dtypes.FLOATING or (
        weight is not None and tensor.dtype == dtypes.float64 and dtype != dtypes.float64
    ):
        raise DtypeError(
            f"{place_of(layer)}: x is {tensor.aval}, expected {dtype.name}; write x.astype(sh.{dtype.name})"
        )
    return tensor


def channels(layer: Module, x: Tensor, wanted: int, layout: str) -> None:
    """A ``ShapeError`` unless ``x`` has the dims of ``layout`` and ``wanted`` channels in the last one."""
    names = layout.split()
    if "..." in names:
        if x.ndim < len(names) - 1:
            raise ShapeError(
                f"{place_of(layer)}: x has shape {x.shape}, expected ({layout}) with at least {len(names) - 1} dims"
            )
    elif x.ndim != len(names):
        hint = "; add the batch dim: x[None]" if x.ndim == len(names) - 1 else ""
        raise ShapeError(f"{place_of(layer)}: x has shape {x.shape}, expected {len(names)} dims ({layout}){hint}")
    if x.shape[-1] != wanted:
        last = wanted in x.shape[1:-1]
        hint = "; channels are the last dim here: x = sh.moveaxis(x, 1, -1)" if last else ""
        raise ShapeError(f"{place_of(layer)}: x has {x.shape[-1]} channels (shape {x.shape}), expected {wanted}{hint}")
