"""``resize_bilinear``: an image at another size, each pixel from the four that lie around it; one operator to a quantizer."""

from __future__ import annotations

from typing import Any

import numpy as np

from shohin.core.errors import ShapeError
from shohin.core.op import Quant
from shohin.core.tensor import Tensor, as_tensor
from shohin.ops import index, move
from shohin.ops.composite import composite


def positions(n: int, size: int, align_corners: bool) -> np.ndarray[Any, Any]:
    """The source coordinates, float64 in [0, n - 1], of ``size`` pixels of an axis of n.

    >>> positions(2, 4, False).tolist(), positions(2, 3, True).tolist()
    ([0.0, 0.25, 0.75, 1.0], [0.0, 0.5, 1.0])
    """
    at = np.arange(size, dtype=np.float64)
    source = at * ((n - 1) / max(size - 1, 1)) if align_corners else (at + 0.5) * (n / size) - 0.5
    return np.clip(source, 0, n - 1)


@composite("resize_bilinear", quant=Quant("rule", rule="Q12 bilinear resize"), source="bilinear interpolation; half-pixel centres as in PyTorch, TensorFlow 2 and ONNX")
def _resize_bilinear(x: Any, *, size: tuple[int, int], align_corners: bool) -> Tensor:
    for axis, wanted in ((2, size[1]), (1, size[0])):
        n = x.shape[axis]
        source = positions(n, wanted, align_corners)
        first = np.floor(source).astype(np.int32)
        share = move.asarray((source - first).astype(np.float32).reshape(-1, *(1,) * (3 - axis)))
        a, b = (index.take(x, move.asarray(i), axis=axis) for i in (first, np.minimum(first + 1, n - 1)))
        x = a * (1 - share) + b * share
    return x


def resize_bilinear(x: Any, size: tuple[int, int], *, align_corners: bool = False) -> Tensor:
    """Each pixel is the weighted mean of its four neighbours in the source; edges repeat.

    Shapes: x (n, h, w, c), ``size`` (h', w') -> (n, h', w', c). ``align_corners``: the corners' centres stay where they are,
    else pixels are areas and centres lie at halves.

    >>> resize_bilinear(move.asarray([[[[0.0], [4.0]]]]), (1, 4)).reshape(-1).tolist()
    [0.0, 1.0, 3.0, 4.0]
    """
    tensor = as_tensor(x)
    if tensor.ndim != 4 or min(*tensor.shape[1:3], *size) < 1:
        raise ShapeError(f"resize_bilinear: x is {tensor.aval} and size {size}; expected (n, h, w, c) and two positive extents")
    return _resize_bilinear(tensor, size=tuple(map(int, size)), align_corners=align_corners)


__all__ = ["positions", "resize_bilinear"]
