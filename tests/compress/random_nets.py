"""Random networks in which channels are tied in every way: sums, concatenations, splits, groups, depthwise layers, heads."""

from __future__ import annotations

import shohin as sh
from shohin import nn


class Split(nn.Module):
    """Both parts of the channels, cut at a number that is an attribute, side by side the other way round."""

    def __init__(self, c, rng):
        self.first = int(rng.integers(1, c))

    def forward(self, x):
        return sh.concat([x[..., self.first :], x[..., : self.first]], axis=-1)


class Halves(nn.Module):
    """The first half times the sigmoid of the second, as gated linear units do: halves shrink together."""

    def forward(self, x):
        x = sh.reshape(x, (*x.shape[:-1], 2, -1))
        return x[..., 0, :] * nn.sigmoid(x[..., 1, :])


class Tied(nn.Module):
    """Six to eleven blocks at random over images of 6 pixels, each made of one of the last two values and, for some, any other, and a head over all positions or their mean."""

    def __init__(self, rng):
        self.plan, self.layers, widths = [], [], [3]
        for _ in range(int(rng.integers(6, 12))):
            kind = str(rng.choice(["conv", "depthwise", "grouped", "norm", "add", "concat", "split", "halves", "heads", "squeeze"]))
            a, b = max(0, len(widths) - 1 - int(rng.integers(2))), int(rng.integers(len(widths)))
            c, layer, new = widths[a], nn.Identity(), widths[a]
            if kind == "conv":
                new = int(rng.integers(2, 9))
                layer = nn.Sequential(nn.Conv2d(c, new, 3, padding=1), nn.BatchNorm2d(new), (nn.ReLU, nn.Hardswish, nn.Sigmoid)[int(rng.integers(3))]())
            elif kind == "depthwise":
                new = c * int(rng.integers(1, 3))
                layer = nn.DepthwiseConv2d(c, 3, padding=1, multiplier=new // c)
            elif kind == "grouped":
                groups = int(rng.choice([g for g in range(1, c + 1) if c % g == 0]))
                new = groups * int(rng.integers(1, 4))
                layer = nn.Conv2d(c, new, 1, groups=groups)
            elif kind == "norm":
                layer = nn.BatchNorm2d(c)
            elif kind == "add":
                layer = nn.Conv2d(widths[b], c, 1)
            elif kind == "concat":
                new = c + widths[b]
            elif kind == "split" and c > 1:
                layer = Split(c, rng)
            elif kind == "halves" and c % 2 == 0:
                layer, new = Halves(), c // 2
            elif kind == "heads":
                heads = int(rng.integers(2, 5))
                layer, new = nn.Sequential(nn.Linear(c, 2 * heads), nn.MultiheadAttention(2 * heads, heads)), 2 * heads
            elif kind == "squeeze":
                layer = nn.SqueezeExcite(c)
            self.layers.append(layer)
            self.plan.append((kind, a, b))
            widths.append(new)
        self.flat = bool(rng.integers(2))
        self.head = nn.Linear(widths[-1] * (36 if self.flat else 1), 4)
        self.live = {len(self.plan)}
        for k in reversed(range(len(self.plan))):
            if k + 1 in self.live:
                kind, a, b = self.plan[k]
                self.live = {*self.live, a, *((b,) if kind in ("add", "concat") else ())}

    def forward(self, x):
        values = [x]
        for k, ((kind, a, b), layer) in enumerate(zip(self.plan, self.layers)):
            y = values[a]
            if k + 1 not in self.live:
                y = x
            elif kind == "add":
                y = y + layer(values[b])
            elif kind == "concat":
                y = sh.concat([y, values[b]], axis=-1)
            elif kind == "heads":
                y = sh.reshape(layer(sh.reshape(y, (y.shape[0], 36, y.shape[-1]))), (y.shape[0], 6, 6, -1))
            else:
                y = layer(y)
            values.append(y)
        y = values[-1]
        return self.head(sh.flatten(y, 1) if self.flat else y.mean(axis=(1, 2)))
