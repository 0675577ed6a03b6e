"""One small network with everything awkward, and ways to fill it with what breaks quantizers."""

import numpy as np

import shohin as sh
from shohin import nn
from shohin.compress import Plan, Quantize
from shohin.core.tensor import as_tensor
from shohin.ops import linear, move

SIZE = (10, 9, 3)


class Gate(nn.Module):
    """Squeeze and excite, its product broadcast."""

    def __init__(self, c):
        self.down, self.up = nn.Linear(c, 4), nn.Linear(4, c)

    def forward(self, x):
        g = x.mean(axis=(1, 2), keepdims=True)
        return x * nn.hardsigmoid(self.up(nn.relu(self.down(g))))


class Awkward(nn.Module):
    """3x3, depthwise, pointwise, batch norm, a residual of two scales, concat, pools with padding, K = 576."""

    def __init__(self, classes=5):
        self.stem, self.norm = nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.depthwise = nn.Conv2d(16, 16, 3, stride=2, padding=((0, 1), (1, 1)), groups=16, bias=False)
        self.norm2 = nn.BatchNorm2d(16)
        self.point, self.norm3 = nn.Conv2d(16, 16, 1, bias=False), nn.BatchNorm2d(16)
        self.gate = Gate(16)
        self.grouped = nn.Conv2d(16, 32, 3, dilation=2, padding=2, groups=2)
        self.wide, self.norm4 = nn.Conv2d(64, 24, 3, padding=1), nn.BatchNorm2d(24)
        self.alone = nn.BatchNorm2d(24)
        self.head = nn.Linear(24, classes)

    def forward(self, x):
        x = nn.relu6(self.norm(self.stem(x)))
        x = nn.hardswish(self.norm2(self.depthwise(x)))
        y = self.norm3(self.point(x))
        x = nn.relu(x + y + linear.max_pool2d(y, 3, 1, 1))
        x = self.gate(x)
        z = self.grouped(x)
        z = move.concat([z, x, x - nn.sigmoid(x)], axis=3)
        z = move.concat([linear.max_pool2d(z, 3, 2, 1), linear.avg_pool2d(z, 3, 2, 1, count_include_pad=False)], axis=1)
        z = move.pad(z, [(0, 0), (1, 0), (0, 0), (0, 0)])
        z = self.norm4(self.wide(z))
        z = self.alone(linear.avg_pool2d(z, 2, 1, 1))
        z = nn.gelu(z).clip(-0.1, 2.0) * 0.5
        return self.head(z.mean(axis=(1, 2)))


def images(n, seed=0, size=SIZE):
    """Smooth patches, as images have them."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, *size))
    for axis in (1, 2):
        x = (x + np.roll(x, 1, axis) + np.roll(x, 2, axis)) / 2
    return x.astype(np.float32)


def trained(seed=0):
    """A network whose statistics have seen data; all its parameters differ."""
    rng = np.random.default_rng(seed)
    sh.seed(seed)
    net = Awkward()
    for cell in net.parameters():
        cell.write(as_tensor((cell.read().numpy() + rng.normal(size=cell.shape) * 0.05).astype(np.float32)))
    norms = [m for m in net.modules().values() if isinstance(m, nn.BatchNorm2d)]
    for momentum in (1.0, 0.5, 0.3, 0.2, 0.1):
        for norm in norms:
            norm.momentum = momentum
        net(as_tensor(images(32, round(90 * momentum))))
    return net


def quantized(seed=0):
    return Plan([("*", Quantize())]).apply(trained(seed), images(48, 7)).eval()


def write(net, path, array):
    cell = net.cells()[path]
    cell.write(as_tensor(np.broadcast_to(np.asarray(array, cell.dtype), cell.shape).copy()))
