"""A space that other processes can import, and scores for it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from shohin import nn
from shohin.compress import Plan, Quantize

X = np.random.default_rng(0).standard_normal((16, 6, 6, 1)).astype(np.float32)


def build(t):
    net = nn.Sequential(nn.Conv2d(1, t.width("w", 8, min=2, step=2), 3), nn.GlobalAvgPool())
    net.append(nn.Linear(net[0].weight.shape[0], t.pick("out", [2, 3])))
    return net


def quantized(t):
    return build(t), Plan([("*", Quantize())])


def size(net):
    return float(sum(c.read().size for c in net.cells(nn.Param).values()))


def growing(net):
    """Yields a share of its size after each of 4 epochs."""
    for epoch in range(1, 5):
        yield size(net) * epoch / 4


def dying(net, t):
    """Ends its process the first time; for the widest network each time."""
    t.folder.mkdir(parents=True, exist_ok=True)
    mark = Path(t.folder) / "died"
    if t.picks["w"] == 8 or not mark.exists():
        mark.write_text("")
        os._exit(9)
    return size(net)


def wrong(net):
    raise ZeroDivisionError("a mistake in score")
