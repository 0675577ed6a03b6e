"""A network that takes a second to ship, and data that it can learn."""

from __future__ import annotations

import numpy as np

import shohin as sh
from shohin import nn
from shohin.data import Dataset

CLASSES = 4


class Net(nn.Module):
    def __init__(self, width: int = 12) -> None:
        self.stem, self.norm = nn.Conv2d(1, width, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(width)
        self.body = nn.Conv2d(width, width, 3, padding=1)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x):
        x = nn.relu(self.norm(self.stem(x)))
        return self.head(nn.relu(self.body(x)).mean(axis=(1, 2)))


def data(n: int = 96, seed: int = 0) -> Dataset:
    """Stripes of four directions."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, CLASSES, n)
    i, j = np.mgrid[:12, :12]
    waves = np.stack([np.sin(i), np.sin(j), np.sin((i + j) / 1.4), np.sin((i - j) / 1.4)])
    x = waves[y] + rng.normal(size=(n, 12, 12)) * 0.3
    return Dataset(x[..., None].astype(np.float32), y, classes=tuple("abcd"))


def trained(width: int = 12) -> Net:
    sh.seed(0)
    net = Net(width)
    train = data(256, 1)
    sh.fit(net, lambda net, x, y: nn.cross_entropy(net(x), y), train, sh.optim.adamw(1e-2).init(net), 4, 32, progress=False, seed=0)
    return net.eval()
