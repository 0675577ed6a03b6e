"""Layers without parameters: activations, pooling, dropout, shape, and ``Sequential``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from shohin.core.errors import ShapeError
from shohin.core.module import Module
from shohin.core.tensor import Tensor
from shohin.nn import functional as F
from shohin.nn.check import floating, place_of
from shohin.ops import move, reduce

Pair = int | Sequence[int]

# ------------------------------------------------------------------------------------------- activations


class ReLU(Module):
    """``max(x, 0)``. Source: Nair and Hinton 2010.

    >>> ReLU()(move.asarray([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """

    def forward(self, x: Any) -> Tensor:
        return F.relu(floating(self, x))


class ReLU6(Module):
    """``min(max(x, 0), 6)``. Source: Krizhevsky 2010."""

    def forward(self, x: Any) -> Tensor:
        return F.relu6(floating(self, x))


class LeakyReLU(Module):
    """``x``, or ``negative_slope x`` below zero. Source: Maas et al. 2013."""

    def __init__(self, negative_slope: float = 0.01) -> None:
        self.negative_slope = negative_slope

    def forward(self, x: Any) -> Tensor:
        return F.leaky_relu(floating(self, x), self.negative_slope)


class ELU(Module):
    """``x``, or ``alpha (exp(x) - 1)`` below zero. Source: Clevert et al. 2015."""

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = alpha

    def forward(self, x: Any) -> Tensor:
        return F.elu(floating(self, x), self.alpha)


class GELU(Module):
    """``x (1 + erf(x / sqrt 2)) / 2``, or its tanh form with ``approximate="tanh"``.

    Source: Hendrycks and Gimpel 2016.
    """

    def __init__(self, approximate: str = "none") -> None:
        self.approximate = approximate

    def forward(self, x: Any) -> Tensor:
        return F.gelu(floating(self, x), approximate=self.approximate)


class SiLU(Module):
    """``x sigmoid(x)``. Source: Elfwing et al. 2017."""

    def forward(self, x: Any) -> Tensor:
        return F.silu(floating(self, x))


class Hardswish(Module):
    """``x clip(x + 3, 0, 6) / 6``. Source: Howard et al. 2019."""

    def forward(self, x: Any) -> Tensor:
        return F.hardswish(floating(self, x))


class Hardsigmoid(Module):
    """``clip(x + 3, 0, 6) / 6``. Source: Howard et al. 2019."""

    def forward(self, x: Any) -> Tensor:
        return F.hardsigmoid(floating(self, x))


class Sigmoid(Module):
    """``1 / (1 + exp(-x))``."""

    def forward(self, x: Any) -> Tensor:
        return F.sigmoid(floating(self, x))


class Tanh(Module):
    """The hyperbolic tangent."""

    def forward(self, x: Any) -> Tensor:
        return F.tanh(floating(self, x))


class Softmax(Module):
    """``exp(x) / sum(exp(x))`` along ``axis``, the channels by default. Source: Bridle 1990."""

    def __init__(self, axis: int = -1) -> None:
        self.axis = axis

    def forward(self, x: Any) -> Tensor:
        return F.softmax(floating(self, x), axis=self.axis)


class Dropout(Module):
    """In training each element is zero with probability ``p`` and otherwise divided by ``1 - p``.

    Source: Srivastava et al. 2014.

    >>> Dropout(0.5).eval()(move.ones((2,))).tolist()
    [1.0, 1.0]
    """

    def __init__(self, p: float = 0.5) -> None:
        if not 0 <= p <= 1:
            raise ValueError(f"Dropout: p is {p}, expected a probability in [0, 1]")
        self.p = p

    def forward(self, x: Any) -> Tensor:
        return F.dropout(floating(self, x), self.p, training=self.training)


# --------------------------------------------------------------------------------------------- pooling


class _Pool(Module):
    def __init__(self, kernel_size: Pair, stride: Pair | None = None, padding: Any = 0) -> None:
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding

    def _checked(self, x: Any) -> Tensor:
        x = floating(self, x)
        if x.ndim != 4:
            raise ShapeError(f"{place_of(self)}: x has shape {x.shape}, expected 4 dims (n h w c)")
        return x

    def extra_repr(self) -> str:
        return ", ".join(f"{k}={v}" for k, v in self._entries())


class MaxPool2d(_Pool):
    """The largest of each window; padding never wins. Shapes: x (n, h, w, c) -> (n, h', w', c). The stride is the
    kernel's size by default.

    >>> MaxPool2d(2)(move.ones((1, 4, 6, 3))).shape
    (1, 2, 3, 3)
    """

    def forward(self, x: Any) -> Tensor:
        return F.max_pool2d(self._checked(x), self.kernel_size, self.stride, self.padding)


class AvgPool2d(_Pool):
    """The mean of each window. Shapes: x (n, h, w, c) -> (n, h', w', c). Zeros of the padding count unless
    ``count_include_pad`` is False.

    >>> AvgPool2d(2)(move.ones((1, 4, 6, 3))).shape
    (1, 2, 3, 3)
    """

    def __init__(
        self, kernel_size: Pair, stride: Pair | None = None, padding: Any = 0, count_include_pad: bool = True
    ) -> None:
        super().__init__(kernel_size, stride, padding)
        self.count_include_pad = count_include_pad

    def forward(self, x: Any) -> Tensor:
        return F.avg_pool2d(self._checked(x), self.kernel_size, self.stride, self.padding, self.count_include_pad)


class AdaptiveAvgPool2d(Module):
    """The mean of equal windows, as many as ``output_size``. Shapes: x (n, h, w, c) -> (n, oh, ow, c).

    ``output_size`` must divide the image (PyTorch also takes other sizes, with windows of unequal size).

    >>> AdaptiveAvgPool2d(1)(move.ones((2, 5, 7, 3))).shape
    (2, 1, 1, 3)
    """

    def __init__(self, output_size: Pair = 1) -> None:
        self.output_size = (output_size, output_size) if isinstance(output_size, int) else tuple(output_size)

    def forward(self, x: Any) -> Tensor:
        x = floating(self, x)
        if x.ndim != 4 or any(n % o for n, o in zip(x.shape[1:3], self.output_size, strict=True)):
            raise ShapeError(
                f"{place_of(self)}: x has shape {x.shape}, expected (n h w c) with {self.output_size} dividing h and w"
            )
        if self.output_size == (1, 1):
            return reduce.mean(x, axis=(1, 2), keepdims=True)
        return F.avg_pool2d(x, tuple(n // o for n, o in zip(x.shape[1:3], self.output_size, strict=True)))


class GlobalAvgPool(Module):
    """The mean over all positions. Shapes: x (n, ..., c) -> (n, c). Source: Lin et al. 2013.

    >>> GlobalAvgPool()(move.ones((2, 5, 7, 3))).shape
    (2, 3)
    """

    def forward(self, x: Any) -> Tensor:
        x = floating(self, x)
        if x.ndim < 3:
            raise ShapeError(f"{place_of(self)}: x has shape {x.shape}, expected (n, ..., c) with a position dim")
        return reduce.mean(x, axis=range(1, x.ndim - 1))


# ----------------------------------------------------------------------------------------------- shape


class Flatten(Module):
    """Dims from ``start_dim`` on as one, in order (n, h, w, c), channels last: not PyTorch's order.

    >>> Flatten()(move.ones((2, 3, 4, 5))).shape
    (2, 60)
    """

    def __init__(self, start_dim: int = 1) -> None:
        self.start_dim = start_dim

    def forward(self, x: Any) -> Tensor:
        return move.flatten(x, self.start_dim)


class Identity(Module):
    """``x``."""

    def forward(self, x: Any) -> Any:
        return x


class Sequential(Module):
    """Layers one after another; a plain function stands among them too. Paths are "0", "1" ..., as in PyTorch.

    >>> net = Sequential(ReLU(), F.relu6)
    >>> net(move.asarray([8.0, -1.0])).tolist()
    [6.0, 0.0]
    >>> len(net), net[0]
    (2, ReLU())
    """

    def __init__(self, *layers: Callable[..., Any]) -> None:
        for i, layer in enumerate(layers):
            if not callable(layer):
                raise TypeError(f"Sequential: layer {i} is {type(layer).__name__}, expected a module or a function")
            setattr(self, str(i), layer)

    def _layers(self) -> list[Callable[..., Any]]:
        return [v for k, v in self._entries() if k.isdigit()]

    def forward(self, x: Any) -> Any:
        for layer in self._layers():
            x = layer(x)
        return x

    def append(self, layer: Callable[..., Any]) -> Sequential:
        """One more layer at the end; returns this module."""
        setattr(self, str(len(self)), layer)
        return self

    def __len__(self) -> int:
        return len(self._layers())

    def __iter__(self) -> Iterator[Callable[..., Any]]:
        return iter(self._layers())

    def __getitem__(self, index: int | slice) -> Any:
        found = self._layers()[index]
        return Sequential(*found) if isinstance(found, list) else found


__all__ = [
    "AdaptiveAvgPool2d", "AvgPool2d", "Dropout", "ELU", "Flatten", "GELU", "GlobalAvgPool", "Hardsigmoid", "Hardswish",
    "Identity", "LeakyReLU", "MaxPool2d", "ReLU", "ReLU6", "Sequential", "SiLU", "Sigmoid", "Softmax", "Tanh",
]  # fmt: skip
