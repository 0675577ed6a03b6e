"""Channels that leave: derived groups, a smaller plain module, then palettes and integers, each with its exact cost."""

import numpy as np

import shohin as sh
from shohin import nn
from shohin.compress import Palettize, Plan, PruneChannels, Quantize


class Net(nn.Module):
    """A residual, a depthwise layer, a concatenation, a flatten: what channel pruning usually trips over."""

    def __init__(self, width=16):
        self.stem = nn.Conv2d(1, width, 3, stride=2, padding=1)
        self.depthwise, self.norm = nn.DepthwiseConv2d(width, 3, padding=1), nn.BatchNorm2d(width)
        self.side = nn.Conv2d(width, width, 1)
        self.head = nn.Linear(2 * width * 14 * 14, 10)

    def forward(self, x):
        x = nn.relu(self.stem(x))
        x = x + nn.relu(self.norm(self.depthwise(x)))
        x = sh.concat([x, nn.relu(self.side(x))], axis=-1)
        return self.head(sh.flatten(x, 1))


sh.seed(0)
net = Net()
x = np.random.default_rng(0).standard_normal((32, 28, 28, 1)).astype(np.float32)
print(*(g for g in sh.channels(net)(x[:1]).groups if g.prunable), sep="\n")

rules = [("*", PruneChannels(0.5)), ("head", Palettize(bits=2)), ("*", Quantize())]
for k in range(len(rules) + 1):
    small = Plan(rules[:k]).apply(net, calibration=x)
    print(f"\n{Plan(rules[:k])}")
    print(sh.cost(small, device="cortex-m55")(x[:1]))
