"""Residual networks for small images: ResNet-8 (MLPerf Tiny) and ResNet-20 (CIFAR)."""

from __future__ import annotations

from collections.abc import Sequence

from shohin.core.module import Module
from shohin.core.tensor import Tensor
from shohin.nn.conv import Conv2d
from shohin.nn.linear import Linear
from shohin.nn.norm import BatchNorm2d
from shohin.ops.math import relu


class ResidualBlock(Module):
    """Two 3x3 convolutions and a shortcut, which is a strided 1x1 convolution where the shape changes.

    Shapes: x (n, h, w, inputs) -> (n, ceil(h / stride), ceil(w / stride), outputs). Source: He et al. 2016, figure 2.
    """

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


class ResNet(Module):
    """Stages of residual blocks; each but the first halves the image and doubles the channels.

    Shapes: x (n, h, w, channels) -> (n, classes). ``depths``: blocks a stage. Source: He et al. 2016, section 4.2, with
    projections (option B) where the shape changes.

    >>> from shohin.ops import move
    >>> ResNet((1, 1), classes=5, width=4).eval()(move.ones((2, 8, 8, 1))).shape
    (2, 5)
    """

    def __init__(self, depths: Sequence[int], channels: int = 1, classes: int = 10, width: int = 16) -> None:
        self.stem = Conv2d(channels, width, 3, padding=1, bias=False)
        self.norm = BatchNorm2d(width)
        self.blocks = []
        inputs = width
        for stage, depth in enumerate(depths):
            for i in range(depth):
                outputs = width << stage
                self.blocks.append(ResidualBlock(inputs, outputs, 2 if stage and i == 0 else 1))
                inputs = outputs
        self.head = Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = relu(self.norm(self.stem(x)))
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(axis=(1, 2)))


class ResNet8(ResNet):
    """x (n, h, w, channels) -> (n, classes); about 78 k parameters. Source: Banbury et al. 2021 (MLPerf Tiny).

    >>> sum(int(c.read().size) for c in ResNet8().cells().values()) // 1000
    78
    """

    def __init__(self, channels: int = 1, classes: int = 10, width: int = 16) -> None:
        super().__init__((1, 1, 1), channels, classes, width)


class ResNet20(ResNet):
    """x (n, h, w, channels) -> (n, classes); about 0.27 M parameters. Source: He et al. 2016, section 4.2.

    >>> sum(int(c.read().size) for c in ResNet20().cells().values()) // 1000
    273
    """

    def __init__(self, channels: int = 3, classes: int = 10, width: int = 16) -> None:
        super().__init__((3, 3, 3), channels, classes, width)


__all__ = ["ResNet", "ResNet20", "ResNet8", "ResidualBlock"]
