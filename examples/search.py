"""A search over widths, depths and palettes for a board of 24 kB of flash; bytes are checked before anything trains."""

import tempfile

import numpy as np

import shohin as sh
from shohin import nn, optim
from shohin.compress import Palettize, Plan, Quantize
from shohin.search import Budget, search

rng = np.random.default_rng(0)
y = rng.integers(0, 4, 512)
x = rng.standard_normal((512, 12, 12, 1)).astype(np.float32)
for k, (rows, columns) in enumerate([((0, 6), (0, 6)), ((0, 6), (6, 12)), ((6, 12), (0, 6)), ((6, 12), (6, 12))]):
    x[y == k, rows[0] : rows[1], columns[0] : columns[1]] += 0.7  # the bright corner is the class
train, valid = sh.data.Dataset(x, y, classes=("nw", "ne", "sw", "se")).split(0.8)


class Net(nn.Module):
    def __init__(self, width, depth):
        self.stem = nn.Conv2d(1, width, 3, stride=2, padding=1)
        self.body = [nn.Conv2d(width, width, 3, padding=1) for _ in range(depth)]
        self.head = nn.Linear(width * 9, 4)

    def forward(self, x):
        x = nn.relu(self.stem(x))
        for layer in self.body:
            x = x + nn.relu(layer(x))
        return self.head(sh.flatten(nn.functional.max_pool2d(x, 2), 1))


def build(t):
    net = Net(width=t.pick("width", [8, 16, 32]), depth=t.pick("depth", [1, 2]))
    palette = t.pick("palette", [None, 2, 4])
    rules = [("body.*", Palettize(bits=palette, group=8))] if palette else []
    return net, Plan([*rules, ("*", Quantize(w=8, a=8))])


def loss_fn(net, x, y):
    return nn.cross_entropy(net(x), y)


def score(net):
    sh.fit(net, loss_fn, train, optim.adamw(3e-3).init(net), epochs=3, progress=False)
    return sh.evaluate(net, valid, nn.accuracy)


study = search(
    build, score, calibration=train.take(64), device="cortex-m55",
    budget=Budget(flash="24 kB", ram="24 kB", instructions=20e6), trials=4, run=tempfile.mkdtemp(),
)  # fmt: skip
print(study)
print("best:", study.best)
