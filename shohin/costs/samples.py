"""Random networks of the kinds that live on devices: what cost models are fitted to, and judged on."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from shohin import nn
from shohin.core.module import Module
from shohin.core.tensor import Tensor
from shohin.nn import functional
from shohin.ops import move
from shohin.ops.random import seed as reseed

Array = np.ndarray[Any, Any]
ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.Hardswish)


def sample(seed: int) -> tuple[Module, Array]:
    """A network and eight inputs for it, made from ``seed`` alone.

    Stages of separable, inverted-residual, plain residual, grouped, pooled or concatenated blocks on images of 12 to 40 pixels,
    a head over a mean or all positions; every sixth one is a network of linear layers.

    >>> net, x = sample(3)
    >>> net(x).shape
    (8, 10)
    """
    rng = np.random.default_rng(seed)
    reseed(seed)
    net = _Mlp(rng) if seed % 6 == 5 else _Images(rng)
    for cell in net.cells(nn.Buffer).values():
        cell.write(rng.uniform(0.5, 1.5, cell.shape).astype(np.float32))
    return net.eval(), rng.standard_normal((8, *net.shape)).astype(np.float32)


class _Mlp(nn.Module):
    def __init__(self, rng: np.random.Generator) -> None:
        sizes = [int(n) for n in rng.integers(16, 400, int(rng.integers(2, 5)))]
        self.shape = (sizes[0],)
        self.body = [nn.Sequential(nn.Linear(a, b), ACTIVATIONS[int(rng.integers(3))]()) for a, b in pairwise(sizes)]
        self.head = nn.Linear(sizes[-1], 10)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.body:
            x = layer(x)
        return self.head(x)


class _Images(nn.Module):
    def __init__(self, rng: np.random.Generator) -> None:
        size, c = int(rng.integers(12, 41)), int(rng.choice([1, 3]))
        self.shape = (size, size, c)
        act = ACTIVATIONS[int(rng.integers(3))]
        width = int(rng.integers(4, 33))
        k, stride = int(rng.choice([3, 5])), int(rng.integers(1, 3))
        self.stem = nn.Sequential(nn.Conv2d(c, width, k, stride=stride, padding=k // 2), nn.BatchNorm2d(width), act())
        size = (size - 1) // stride + 1
        self.blocks = []
        for _ in range(int(rng.integers(2, 6))):
            out = int(rng.integers(4, 97)) if rng.random() < 0.6 else width
            stride = int(rng.integers(1, 3)) if size > 4 else 1
            kind = _BLOCKS[int(rng.integers(len(_BLOCKS)))]
            block = kind(rng, width, out, stride, act)
            self.blocks.append(block)
            width, size = block.width, (size - 1) // stride + 1
        self.flat = size * size * width < 2000 and rng.random() < 0.4
        self.head = nn.Linear(size * size * width if self.flat else width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(move.flatten(x, 1) if self.flat else x.mean(axis=(1, 2)))


class _Separable(nn.Module):
    def __init__(self, rng: np.random.Generator, c: int, out: int, stride: int, act: Any) -> None:
        k, self.width = int(rng.choice([3, 3, 5])), out
        self.deep = nn.Sequential(nn.DepthwiseConv2d(c, k, stride=stride, padding=k // 2), nn.BatchNorm2d(c), act())
        self.wide = nn.Sequential(nn.Conv2d(c, out, 1), nn.BatchNorm2d(out), act())

    def forward(self, x: Tensor) -> Tensor:
        return self.wide(self.deep(x))


class _Inverted(nn.Module):
    def __init__(self, rng: np.random.Generator, c: int, out: int, stride: int, act: Any) -> None:
        k, mid, self.width = int(rng.choice([3, 3, 5])), c * int(rng.integers(2, 5)), out
        self.residual = stride == 1 and out == c
        self.up = nn.Sequential(nn.Conv2d(c, mid, 1), nn.BatchNorm2d(mid), act())
        self.deep = nn.Sequential(nn.DepthwiseConv2d(mid, k, stride=stride, padding=k // 2), nn.BatchNorm2d(mid), act())
        self.down = nn.Sequential(nn.Conv2d(mid, out, 1), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        y = self.down(self.deep(self.up(x)))
        return x + y if self.residual else y


class _Residual(nn.Module):
    def __init__(self, rng: np.random.Generator, c: int, out: int, stride: int, act: Any) -> None:
        self.width, self.act = out, act()
        self.first = nn.Sequential(nn.Conv2d(c, out, 3, stride=stride, padding=1), nn.BatchNorm2d(out), act())
        self.second = nn.Sequential(nn.Conv2d(out, out, 3, padding=1), nn.BatchNorm2d(out))
        self.side = nn.Identity() if stride == 1 and c == out else nn.Conv2d(c, out, 1, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.side(x) + self.second(self.first(x)))


class _Grouped(nn.Module):
    def __init__(self, rng: np.random.Generator, c: int, out: int, stride: int, act: Any) -> None:
        groups = int(rng.choice([g for g in (2, 3, 4, 1) if c % g == 0]))
        self.width = max(1, out // groups) * groups
        self.conv = nn.Sequential(nn.Conv2d(c, self.width, 3, stride=stride, padding=1, groups=groups), nn.BatchNorm2d(self.width), act())

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class _Pooled(nn.Module):
    """A pool of 2, or of nothing, and two branches side by side."""

    def __init__(self, rng: np.random.Generator, c: int, out: int, stride: int, act: Any) -> None:
        self.stride, self.most, self.width = stride, bool(rng.integers(2)), out + 8
        self.wide = nn.Sequential(nn.Conv2d(c, out, 1), nn.BatchNorm2d(out), act())
        self.far = nn.Sequential(nn.Conv2d(c, 8, 3, padding=1), nn.BatchNorm2d(8), act())

    def forward(self, x: Tensor) -> Tensor:
        if self.stride == 2:
            pool = functional.max_pool2d if self.most else functional.avg_pool2d
            x = pool(x, 1 if x.shape[1] < 2 else 2, stride=2, padding=0 if x.shape[1] % 2 == 0 else 1 if x.shape[1] > 1 else 0)
        return move.concat([self.wide(x), self.far(x)], axis=-1)


_BLOCKS = (_Separable, _Separable, _Inverted, _Inverted, _Residual, _Grouped, _Pooled)

__all__ = ["sample"]
