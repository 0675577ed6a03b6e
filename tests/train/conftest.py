"""A small task that learns in a second: two classes of 6x6 images, by the brighter half."""

import numpy as np
import pytest

import shohin as sh
from shohin import nn
from shohin.data import Dataset


class Net(nn.Module):
    """A convolution, batch norm and dropout: statistics and random numbers are part of the state."""

    def __init__(self):
        self.conv, self.norm = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.drop, self.head = nn.Dropout(0.2), nn.Linear(4 * 36, 2)

    def forward(self, x):
        return self.head(self.drop(nn.relu(self.norm(self.conv(x)))).flatten(1))


def loss_fn(net, x, y):
    return nn.cross_entropy(net(x), y)


def noisy(x):
    return x + 0.1 * (sh.random.uniform(x.shape) - 0.5)


def make_data():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 100)
    x = rng.normal(0, 1, (100, 6, 6, 1)).astype(np.float32)
    x[:, :3] += np.where(y, 1, -1)[:, None, None, None]
    every = Dataset(x, y, classes=("dark", "bright"))
    return every.take(70), every[70:]


@pytest.fixture(scope="session")
def data():
    return make_data()
