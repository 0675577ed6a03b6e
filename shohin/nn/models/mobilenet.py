"""MobileNetV2: inverted residuals with linear bottlenecks, and a width multiplier."""

from __future__ import annotations

from shohin.core.module import Module
from shohin.core.tensor import Tensor
from shohin.nn.conv import Conv2d
from shohin.nn.functional import dropout
from shohin.nn.linear import Linear
from shohin.nn.norm import BatchNorm2d
from shohin.ops.math import relu6

STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion, channels, blocks, stride of the first: table 2 of the paper."""


def divisible(channels: float, by: int = 8) -> int:
    """``channels`` rounded to a multiple of ``by``, at least ``by`` and never below 90 %, as in the reference code.

    >>> [divisible(c) for c in (5.6, 11.2, 22.4, 448)]
    [8, 16, 24, 448]
    """
    found = max(by, int(channels + by / 2) // by * by)
    return found + by if found < 0.9 * channels else found


class ConvNorm(Module):
    """A convolution without bias and its batch norm: (n, h, w, inputs) -> (n, h', w', outputs), padded by half the kernel."""

    def __init__(self, inputs: int, outputs: int, kernel_size: int, stride: int = 1, groups: int = 1, eps: float = 1e-5,
                 momentum: float = 0.1) -> None:  # fmt: skip
        self.conv = Conv2d(inputs, outputs, kernel_size, stride, kernel_size // 2, groups=groups, bias=False)
        self.norm = BatchNorm2d(outputs, eps=eps, momentum=momentum)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


class InvertedResidual(Module):
    """Expand (1x1, ReLU6), depthwise 3x3 (ReLU6), project (1x1, linear); a shortcut where the shape stays.

    Shapes: x (n, h, w, inputs) -> (n, ceil(h / stride), ceil(w / stride), outputs). Source: Sandler et al. 2018, table 1.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        inner = inputs * expansion
        self.expand = ConvNorm(inputs, inner, 1) if expansion != 1 else None
        self.depthwise = ConvNorm(inner, inner, 3, stride, groups=inner)
        self.project = ConvNorm(inner, outputs, 1)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else relu6(self.expand(x))
        y = self.project(relu6(self.depthwise(y)))
        return x + y if self.residual else y


class MobileNetV2(Module):
    """x (n, h, w, channels) -> (n, classes); 3.5 M parameters at width 1.0 and 1,000 classes. Source: Sandler et al. 2018.

    ``width`` multiplies all channels (the last 1,280 are never fewer); ``p`` is the dropout before the head.

    >>> net = MobileNetV2(width=1.0)
    >>> sum(int(p.read().size) for p in net.parameters())
    3504872
    """

    def __init__(self, channels: int = 3, classes: int = 1000, width: float = 1.0, p: float = 0.2) -> None:
        inputs = divisible(32 * width)
        self.stem = ConvNorm(channels, inputs, 3, 2)
        self.blocks = []
        for expansion, outputs, count, stride in STAGES:
            outputs = divisible(outputs * width)
            for i in range(count):
                self.blocks.append(InvertedResidual(inputs, outputs, stride if i == 0 else 1, expansion))
                inputs = outputs
        last = divisible(1280 * max(1.0, width))
        self.last, self.p = ConvNorm(inputs, last, 1), p
        self.head = Linear(last, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = relu6(self.stem(x))
        for block in self.blocks:
            x = block(x)
        x = relu6(self.last(x)).mean(axis=(1, 2))
        return self.head(dropout(x, self.p, training=self.training))


__all__ = ["ConvNorm", "InvertedResidual", "MobileNetV2", "divisible"]
