"""The networks of ``networks`` in PyTorch, by the same names of attributes, so that weights move by name. Run by the peers'
interpreter; imports nothing of ours. ``build(name)`` gives the module and the shape of one example (channels first)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class ResidualBlock(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride) if stride != 1 or inputs != outputs else None

    def forward(self, x):
        y = F.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        return F.relu(y + (x if self.shortcut is None else self.shortcut(x)))


class ResNet(nn.Module):
    def __init__(self, depths, channels=3, classes=10, width=16):
        super().__init__()
        self.stem = nn.Conv2d(channels, width, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.blocks = nn.ModuleList()
        inputs = width
        for stage, depth in enumerate(depths):
            for i in range(depth):
                outputs = width << stage
                self.blocks.append(ResidualBlock(inputs, outputs, 2 if stage and i == 0 else 1))
                inputs = outputs
        self.head = nn.Linear(inputs, classes)

    def forward(self, x):
        x = F.relu(self.norm(self.stem(x)))
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((2, 3)))


class SeparableBlock(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, 1, 1, groups=channels, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.pointwise = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, x):
        return F.relu(self.norm2(self.pointwise(F.relu(self.norm1(self.depthwise(x))))))


class DSCNN(nn.Module):
    def __init__(self, channels=1, classes=12, width=64, depth=4, kernel_size=(10, 4), padding=(5, 1)):
        super().__init__()
        self.stem = nn.Conv2d(channels, width, kernel_size, 2, padding, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.blocks = nn.ModuleList(SeparableBlock(width) for _ in range(depth))
        self.head = nn.Linear(width, classes)

    def forward(self, x):
        x = F.relu(self.norm(self.stem(x)))
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((2, 3)))


def divisible(channels, by=8):
    found = max(by, int(channels + by / 2) // by * by)
    return found + by if found < 0.9 * channels else found


class ConvNorm(nn.Module):
    def __init__(self, inputs, outputs, kernel_size, stride=1, groups=1, eps=1e-5, momentum=0.1):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel_size, stride, kernel_size // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs, eps, momentum)

    def forward(self, x):
        return self.norm(self.conv(x))


class InvertedResidual(nn.Module):
    def __init__(self, inputs, outputs, stride, expansion):
        super().__init__()
        inner = inputs * expansion
        self.expand = ConvNorm(inputs, inner, 1) if expansion != 1 else None
        self.depthwise = ConvNorm(inner, inner, 3, stride, inner)
        self.project = ConvNorm(inner, outputs, 1)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x):
        y = x if self.expand is None else F.relu6(self.expand(x))
        y = self.project(F.relu6(self.depthwise(y)))
        return x + y if self.residual else y


class MobileNetV2(nn.Module):
    STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))

    def __init__(self, channels=3, classes=1000, width=1.0):
        super().__init__()
        inputs = divisible(32 * width)
        self.stem = ConvNorm(channels, inputs, 3, 2)
        self.blocks = nn.ModuleList()
        for expansion, outputs, count, stride in self.STAGES:
            outputs = divisible(outputs * width)
            for i in range(count):
                self.blocks.append(InvertedResidual(inputs, outputs, stride if i == 0 else 1, expansion))
                inputs = outputs
        last = divisible(1280 * max(1.0, width))
        self.last = ConvNorm(inputs, last, 1)
        self.head = nn.Linear(last, classes)

    def forward(self, x):
        x = F.relu6(self.stem(x))
        for block in self.blocks:
            x = block(x)
        return self.head(F.relu6(self.last(x)).mean((2, 3)))


class SqueezeExcite(nn.Module):
    def __init__(self, channels, inner):
        super().__init__()
        self.fc1, self.fc2 = nn.Conv2d(channels, inner, 1), nn.Conv2d(inner, channels, 1)

    def forward(self, x):
        return x * F.hardsigmoid(self.fc2(F.relu(self.fc1(x.mean((2, 3), keepdim=True)))))


class InvertedResidualV3(nn.Module):
    def __init__(self, inputs, inner, outputs, kernel_size, stride, excite, swish):
        super().__init__()
        conv = lambda i, o, k, s=1, g=1: ConvNorm(i, o, k, s, g, 1e-3, 0.01)
        self.expand = conv(inputs, inner, 1) if inner != inputs else None
        self.depthwise = conv(inner, inner, kernel_size, stride, inner)
        self.excite = SqueezeExcite(inner, divisible(inner / 4)) if excite else None
        self.project = conv(inner, outputs, 1)
        self.residual, self.act = stride == 1 and inputs == outputs, F.hardswish if swish else F.relu

    def forward(self, x):
        y = x if self.expand is None else self.act(self.expand(x))
        y = self.act(self.depthwise(y))
        y = y if self.excite is None else self.excite(y)
        y = self.project(y)
        return x + y if self.residual else y


class MobileNetV3Small(nn.Module):
    ROWS = ((3, 16, 16, 1, 0, 2), (3, 72, 24, 0, 0, 2), (3, 88, 24, 0, 0, 1), (5, 96, 40, 1, 1, 2), (5, 240, 40, 1, 1, 1),
            (5, 240, 40, 1, 1, 1), (5, 120, 48, 1, 1, 1), (5, 144, 48, 1, 1, 1), (5, 288, 96, 1, 1, 2), (5, 576, 96, 1, 1, 1),
            (5, 576, 96, 1, 1, 1))  # fmt: skip

    def __init__(self, channels=3, classes=1000, width=1.0):
        super().__init__()
        inputs = divisible(16 * width)
        self.stem = ConvNorm(channels, inputs, 3, 2, 1, 1e-3, 0.01)
        self.blocks = nn.ModuleList()
        for k, inner, outputs, excite, swish, stride in self.ROWS:
            inner, outputs = divisible(inner * width), divisible(outputs * width)
            self.blocks.append(InvertedResidualV3(inputs, inner, outputs, k, stride, excite, swish))
            inputs = outputs
        self.last = ConvNorm(inputs, 6 * inputs, 1, 1, 1, 1e-3, 0.01)
        hidden = divisible(1024 * max(1.0, width))
        self.fc, self.head = nn.Linear(6 * inputs, hidden), nn.Linear(hidden, classes)

    def forward(self, x):
        x = F.hardswish(self.stem(x))
        for block in self.blocks:
            x = block(x)
        x = F.hardswish(self.last(x)).mean((2, 3))
        return self.head(F.hardswish(self.fc(x)))


class Attention(nn.Module):
    """The parameters of nn.MultiheadAttention, carried out by scaled_dot_product_attention: the fastest that PyTorch has."""

    def __init__(self, d, heads):
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(3 * d, d)))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * d))
        self.out_proj = nn.Linear(d, d)

    def forward(self, x):
        n, t, d = x.shape
        parts = F.linear(x, self.in_proj_weight, self.in_proj_bias).view(n, t, 3, self.heads, d // self.heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4)
        return self.out_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, t, d))


class EncoderLayer(nn.Module):
    def __init__(self, d, heads):
        super().__init__()
        self.self_attn = Attention(d, heads)
        self.linear1, self.linear2 = nn.Linear(d, 4 * d), nn.Linear(4 * d, d)
        self.norm1, self.norm2 = nn.LayerNorm(d), nn.LayerNorm(d)

    def forward(self, x):
        x = x + self.self_attn(self.norm1(x))
        return x + self.linear2(F.gelu(self.linear1(self.norm2(x))))


class KeywordTransformer(nn.Module):
    def __init__(self, frames=128, features=40, classes=35, depth=6, d_model=192, heads=3):
        super().__init__()
        self.project = nn.Linear(features, d_model)
        self.positions = nn.Parameter(0.02 * torch.randn(frames, d_model))
        self.layers = nn.ModuleList(EncoderLayer(d_model, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(d_model)
        self.head = nn.Linear(d_model, classes)

    def forward(self, x):
        x = self.project(x) + self.positions
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x).mean(1))


NETWORKS = {
    "ds-cnn": (DSCNN, (1, 49, 10), 12),
    "resnet8": (lambda: ResNet((1, 1, 1)), (3, 32, 32), 10),
    "resnet20": (lambda: ResNet((3, 3, 3)), (3, 32, 32), 10),
    "mobilenetv2-0.35": (lambda: MobileNetV2(3, 10, 0.35), (3, 96, 96), 10),
    "mobilenetv2-1.0": (MobileNetV2, (3, 224, 224), 1000),
    "mobilenetv3-small": (MobileNetV3Small, (3, 224, 224), 1000),
    "transformer": (KeywordTransformer, (128, 40), 35),
}


def build(name):
    """The module, the shape of one example, the number of classes."""
    make, shape, classes = NETWORKS[name]
    return make(), shape, classes


def load(net, arrays):
    """Take weights by our names (convolutions: out kh kw in -> out in kh kw)."""
    state = net.state_dict()
    extra = [k for k in arrays if k not in state]
    missing = [k for k in state if k not in arrays and not k.endswith("num_batches_tracked")]
    if extra or missing:
        raise KeyError(f"weights without a place: {extra}; places without weights: {missing}")
    for k, a in arrays.items():
        t = torch.from_numpy(a)
        state[k].copy_(t.permute(0, 3, 1, 2) if t.ndim == 4 else t)
    return net
