"""DS-CNN: depthwise separable convolutions for keyword spotting, as in MLPerf Tiny."""

from __future__ import annotations

from shohin.core.module import Module
from shohin.core.tensor import Tensor
from shohin.nn.conv import Conv2d, Pair
from shohin.nn.linear import Linear
from shohin.nn.norm import BatchNorm2d
from shohin.ops.math import relu


class SeparableBlock(Module):
    """A depthwise 3x3 and a pointwise convolution, each with batch norm and ReLU: (n, h, w, channels) -> the same."""

    def __init__(self, channels: int) -> None:
        self.depthwise = Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.norm1 = BatchNorm2d(channels)
        self.pointwise = Conv2d(channels, channels, 1, bias=False)
        self.norm2 = BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = relu(self.norm1(self.depthwise(x)))
        return relu(self.norm2(self.pointwise(x)))


class DSCNN(Module):
    """Depthwise separable CNN: x (n, h, w, channels) -> (n, classes); about 21 k parameters at width 64.

    ``kernel_size`` and ``padding`` are the first convolution's, whose stride is 2. Keyword spotting on 49 x 10 MFCC takes
    ``kernel_size=(10, 4), padding=(5, 1), classes=12``. Sources: Zhang et al. 2017; Banbury et al. 2021 (MLPerf Tiny).

    >>> from shohin.ops import move
    >>> DSCNN(classes=12, width=8, kernel_size=(10, 4), padding=(5, 1)).eval()(move.ones((1, 49, 10, 1))).shape
    (1, 12)
    """

    def __init__(self, channels: int = 1, classes: int = 10, width: int = 64, depth: int = 4, kernel_size: Pair = 3,
                 padding: Pair = 1) -> None:  # fmt: skip
        self.stem = Conv2d(channels, width, kernel_size, stride=2, padding=padding, bias=False)
        self.norm = BatchNorm2d(width)
        self.blocks = [SeparableBlock(width) for _ in range(depth)]
        self.head = Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = relu(self.norm(self.stem(x)))
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(axis=(1, 2)))


__all__ = ["DSCNN", "SeparableBlock"]
