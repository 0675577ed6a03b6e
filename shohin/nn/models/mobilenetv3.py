"""MobileNetV3-small: inverted residuals with squeeze-and-excite and hardswish."""

from __future__ import annotations

from shohin.core.module import Module
from shohin.core.tensor import Tensor
from shohin.nn.attention import SqueezeExcite
from shohin.nn.functional import dropout, hardswish
from shohin.nn.linear import Linear
from shohin.nn.models.mobilenet import ConvNorm, divisible
from shohin.nn.simple import Hardsigmoid
from shohin.ops.math import relu

SMALL = (
    (3, 16, 16, True, False, 2),
    (3, 72, 24, False, False, 2),
    (3, 88, 24, False, False, 1),
    (5, 96, 40, True, True, 2),
    (5, 240, 40, True, True, 1),
    (5, 240, 40, True, True, 1),
    (5, 120, 48, True, True, 1),
    (5, 144, 48, True, True, 1),
    (5, 288, 96, True, True, 2),
    (5, 576, 96, True, True, 1),
    (5, 576, 96, True, True, 1),
)
"""Kernel, expanded channels, channels, squeeze-and-excite, hardswish (else ReLU), stride: table 2 of the paper."""
EPS, MOMENTUM = 1e-3, 0.01


def _conv(inputs: int, outputs: int, kernel_size: int, stride: int = 1, groups: int = 1) -> ConvNorm:
    return ConvNorm(inputs, outputs, kernel_size, stride, groups, EPS, MOMENTUM)


class InvertedResidualV3(Module):
    """Expand, depthwise k x k, squeeze-and-excite, project; a shortcut where the shape stays.

    Shapes: x (n, h, w, inputs) -> (n, ceil(h / stride), ceil(w / stride), outputs). Source: Howard et al. 2019, figure 4.
    """

    def __init__(self, inputs: int, inner: int, outputs: int, kernel_size: int, stride: int, excite: bool, swish: bool) -> None:
        self.expand = _conv(inputs, inner, 1) if inner != inputs else None
        self.depthwise = _conv(inner, inner, kernel_size, stride, groups=inner)
        self.excite = SqueezeExcite(inner, divisible(inner / 4), scale_activation=Hardsigmoid) if excite else None
        self.project = _conv(inner, outputs, 1)
        self.residual, self.swish = stride == 1 and inputs == outputs, swish

    def forward(self, x: Tensor) -> Tensor:
        act = hardswish if self.swish else relu
        y = x if self.expand is None else act(self.expand(x))
        y = act(self.depthwise(y))
        y = y if self.excite is None else self.excite(y)
        y = self.project(y)
        return x + y if self.residual else y


class MobileNetV3Small(Module):
    """x (n, h, w, channels) -> (n, classes); 2.5 M parameters at width 1.0 and 1,000 classes. Source: Howard et al. 2019.

    ``width`` multiplies all channels; ``p`` is the dropout before the head.

    >>> sum(int(p.read().size) for p in MobileNetV3Small().parameters())
    2542856
    """

    def __init__(self, channels: int = 3, classes: int = 1000, width: float = 1.0, p: float = 0.2) -> None:
        inputs = divisible(16 * width)
        self.stem = _conv(channels, inputs, 3, 2)
        self.blocks = []
        for kernel_size, inner, outputs, excite, swish, stride in SMALL:
            inner, outputs = divisible(inner * width), divisible(outputs * width)
            self.blocks.append(InvertedResidualV3(inputs, inner, outputs, kernel_size, stride, excite, swish))
            inputs = outputs
        self.last = _conv(inputs, 6 * inputs, 1)
        hidden = divisible(1024 * max(1.0, width))
        self.fc, self.p = Linear(6 * inputs, hidden), p
        self.head = Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = hardswish(self.stem(x))
        for block in self.blocks:
            x = block(x)
        x = hardswish(self.last(x)).mean(axis=(1, 2))
        return self.head(dropout(hardswish(self.fc(x)), self.p, training=self.training))


__all__ = ["InvertedResidualV3", "MobileNetV3Small"]
