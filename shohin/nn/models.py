"""Two small networks of the field, channels last: ResNet-8 and DS-CNN as in MLPerf Tiny (Banbury et al. 2021)."""

from __future__ import annotations

from typing import Any

from shohin.core.module import Module
from shohin.core.tensor import Tensor
from shohin.nn.conv import Conv2d
from shohin.nn.linear import Linear
from shohin.nn.norm import BatchNorm2d
from shohin.ops.math import relu


class ResidualBlock(Module):
    """Two 3x3 convolutions and a shortcut, which is a strided 1x1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        self.conv1 = Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.norm1 = BatchNorm2d(outputs)
        self.conv2 = Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = BatchNorm2d(outputs)
        self.shortcut = Conv2d(inputs, outputs, 1, stride=stride) if stride != 1 or inputs != outputs else None

    def forward(self, x: Tensor) -> Tensor:
        y = relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        return relu(y + (x if self.shortcut is None else self.shortcut(x)))


class ResNet8(Module):
    """x (n, h, w, channels) -> (n, classes); about 78 k parameters.

    >>> sum(int(c.read().size) for c in ResNet8().cells().values()) // 1000
    78
    """

    def __init__(self, channels: int = 1, classes: int = 10, width: int = 16) -> None:
        self.stem = Conv2d(channels, width, 3, padding=1, bias=False)
        self.norm = BatchNorm2d(width)
        self.blocks = [
            ResidualBlock(width, width, 1),
            ResidualBlock(width, 2 * width, 2),
            ResidualBlock(2 * width, 4 * width, 2),
        ]
        self.head = Linear(4 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = relu(self.norm(self.stem(x)))
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(axis=(1, 2)))


class SeparableBlock(Module):
    """A depthwise 3x3 and a pointwise convolution, each with batch norm and ReLU."""

    def __init__(self, channels: int) -> None:
        self.depthwise = Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.norm1 = BatchNorm2d(channels)
        self.pointwise = Conv2d(channels, channels, 1, bias=False)
        self.norm2 = BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = relu(self.norm1(self.depthwise(x)))
        return relu(self.norm2(self.pointwise(x)))


class DSCNN(Module):
    """Depthwise separable CNN: x (n, h, w, channels) -> (n, classes); about 21 k parameters at width 64."""

    def __init__(self, channels: int = 1, classes: int = 10, width: int = 64, depth: int = 4) -> None:
        self.stem = Conv2d(channels, width, 3, stride=2, padding=1, bias=False)
        self.norm = BatchNorm2d(width)
        self.blocks = [SeparableBlock(width) for _ in range(depth)]
        self.head = Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = relu(self.norm(self.stem(x)))
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(axis=(1, 2)))


NETWORKS: dict[str, Any] = {"resnet8": ResNet8, "ds-cnn": DSCNN}
