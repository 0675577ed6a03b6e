"""Networks as torchvision and timm have them, written with PyTorch's layers: same blocks, same names. Needs torch."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F


def conv_norm(i: int, o: int, k: int = 3, stride: int = 1, groups: int = 1, act: type[nn.Module] | None = nn.ReLU6) -> nn.Sequential:
    parts: list[nn.Module] = [nn.Conv2d(i, o, k, stride, k // 2, groups=groups, bias=False), nn.BatchNorm2d(o)]
    return nn.Sequential(*parts, *([act(inplace=True)] if act else []))


class BasicBlock(nn.Module):
    def __init__(self, i: int, o: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o)
        self.conv2, self.bn2 = nn.Conv2d(o, o, 3, 1, 1, bias=False), nn.BatchNorm2d(o)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = conv_norm(i, o, 1, stride, act=None) if stride != 1 or i != o else None

    def forward(self, x: Any) -> Any:
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        y += x if self.downsample is None else self.downsample(x)
        return self.relu(y)


class ResNet18(nn.Module):
    """He et al. 2016, with torchvision's names; ``width`` is 64 there."""

    def __init__(self, width: int = 64, classes: int = 1000) -> None:
        super().__init__()
        w = width
        self.conv1, self.bn1, self.relu = nn.Conv2d(3, w, 7, 2, 3, bias=False), nn.BatchNorm2d(w), nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        stages = [nn.Sequential(BasicBlock(i, o, s), BasicBlock(o, o, 1)) for i, o, s in ((w, w, 1), (w, 2 * w, 2), (2 * w, 4 * w, 2), (4 * w, 8 * w, 2))]
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d((1, 1)), nn.Linear(8 * w, classes)

    def forward(self, x: Any) -> Any:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(torch.flatten(self.avgpool(x), 1))


class InvertedResidual(nn.Module):
    def __init__(self, i: int, o: int, stride: int, expand: int) -> None:
        super().__init__()
        self.residual, hidden = stride == 1 and i == o, i * expand
        first = [conv_norm(i, hidden, 1)] if expand != 1 else []
        self.conv = nn.Sequential(*first, conv_norm(hidden, hidden, 3, stride, hidden), nn.Conv2d(hidden, o, 1, bias=False), nn.BatchNorm2d(o))

    def forward(self, x: Any) -> Any:
        return x + self.conv(x) if self.residual else self.conv(x)


class MobileNetV2(nn.Module):
    """Sandler et al. 2018, with torchvision's names."""

    def __init__(self, width: float = 1.0, classes: int = 1000) -> None:
        super().__init__()
        even = lambda c: max(8, int(c * width + 4) // 8 * 8)
        i, blocks = even(32), [conv_norm(3, even(32), 3, 2)]
        for t, c, n, s in ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)):
            for k in range(n):
                blocks.append(InvertedResidual(i, even(c), s if k == 0 else 1, t))
                i = even(c)
        self.features = nn.Sequential(*blocks, conv_norm(i, 1280, 1))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, classes))

    def forward(self, x: Any) -> Any:
        return self.classifier(F.adaptive_avg_pool2d(self.features(x), (1, 1)).flatten(1))


class SqueezeExcitation(nn.Module):
    def __init__(self, c: int, inner: int) -> None:
        super().__init__()
        self.avgpool, self.fc1, self.fc2 = nn.AdaptiveAvgPool2d(1), nn.Conv2d(c, inner, 1), nn.Conv2d(inner, c, 1)
        self.activation, self.scale_activation = nn.ReLU(), nn.Hardsigmoid()

    def forward(self, x: Any) -> Any:
        return self.scale_activation(self.fc2(self.activation(self.fc1(self.avgpool(x))))) * x


class BlockV3(nn.Module):
    def __init__(self, i: int, k: int, hidden: int, o: int, excite: bool, act: type[nn.Module], stride: int) -> None:
        super().__init__()
        self.residual = stride == 1 and i == o
        parts: list[nn.Module] = [conv_norm(i, hidden, 1, act=act)] if hidden != i else []
        parts.append(conv_norm(hidden, hidden, k, stride, hidden, act))
        parts += [SqueezeExcitation(hidden, max(8, (hidden // 4 + 4) // 8 * 8))] if excite else []
        self.block = nn.Sequential(*parts, conv_norm(hidden, o, 1, act=None))

    def forward(self, x: Any) -> Any:
        y = self.block(x)
        if self.residual:
            y += x
        return y


class MobileNetV3Small(nn.Module):
    """Howard et al. 2019, with torchvision's names."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        r, h = nn.ReLU, nn.Hardswish
        rows = ((16, 3, 16, 16, True, r, 2), (16, 3, 72, 24, False, r, 2), (24, 3, 88, 24, False, r, 1), (24, 5, 96, 40, True, h, 2), (40, 5, 240, 40, True, h, 1),
                (40, 5, 240, 40, True, h, 1), (40, 5, 120, 48, True, h, 1), (48, 5, 144, 48, True, h, 1), (48, 5, 288, 96, True, h, 2), (96, 5, 576, 96, True, h, 1),
                (96, 5, 576, 96, True, h, 1))  # fmt: skip
        self.features = nn.Sequential(conv_norm(3, 16, 3, 2, act=h), *(BlockV3(*row) for row in rows), conv_norm(96, 576, 1, act=h))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Linear(576, 1024), nn.Hardswish(inplace=True), nn.Dropout(0.2, inplace=True), nn.Linear(1024, classes))

    def forward(self, x: Any) -> Any:
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


class ViT(nn.Module):
    """Dosovitskiy et al. 2021: patches, a class token, positions, encoder layers of PyTorch's attention."""

    def __init__(self, size: int = 32, patch: int = 8, dim: int = 32, depth: int = 2, heads: int = 4, classes: int = 10) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, dim, patch, patch)
        self.token = nn.Parameter(torch.randn(1, 1, dim))
        self.positions = nn.Parameter(torch.randn(1, (size // patch) ** 2 + 1, dim))
        self.blocks = nn.ModuleList(Encoder(dim, heads) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(dim, eps=1e-6), nn.Linear(dim, classes)

    def forward(self, x: Any) -> Any:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


class Encoder(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.qkv, self.proj = nn.LayerNorm(dim, eps=1e-6), nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.norm2, self.mlp = nn.LayerNorm(dim, eps=1e-6), nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, x: Any) -> Any:
        n, t, d = x.shape
        q, k, v = self.qkv(self.norm1(x)).reshape(n, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        x = x + self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, t, d))
        return x + self.mlp(self.norm2(x))


class Keywords(nn.Module):
    """Speech features by a convolution, a GRU and an LSTM."""

    def __init__(self, classes: int = 12) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv1d(20, 24, 5, 2, 2), nn.BatchNorm1d(24)
        self.gru, self.lstm = nn.GRU(24, 16, batch_first=True, bidirectional=True), nn.LSTM(32, 16, batch_first=True)
        self.fc = nn.Linear(16, classes)

    def forward(self, x: Any) -> Any:
        x = torch.relu(self.norm(self.conv(x))).transpose(1, 2)
        x, _ = self.gru(x)
        x, _ = self.lstm(x)
        return self.fc(x[:, -1])


class MBConv(nn.Module):
    """A block of EfficientNet-Lite under the names of the package ``efficientnet-lite-pytorch``."""

    def __init__(self, i: int, o: int, k: int, stride: int, expand: int) -> None:
        super().__init__()
        hidden, self.residual = i * expand, stride == 1 and i == o
        norm = lambda c: nn.BatchNorm2d(c, eps=1e-3, momentum=0.01)
        if expand != 1:
            self._expand_conv, self._bn0 = nn.Conv2d(i, hidden, 1, bias=False), norm(hidden)
        self._depthwise_conv, self._bn1 = nn.Conv2d(hidden, hidden, k, stride, k // 2, groups=hidden, bias=False), norm(hidden)
        self._project_conv, self._bn2 = nn.Conv2d(hidden, o, 1, bias=False), norm(o)
        self._expand = expand

    def forward(self, x: Any) -> Any:
        y = F.relu6(self._bn0(self._expand_conv(x))) if self._expand != 1 else x
        y = self._bn2(self._project_conv(F.relu6(self._bn1(self._depthwise_conv(y)))))
        return x + y if self.residual else y


class EfficientNetLite0(nn.Module):
    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        norm = lambda c: nn.BatchNorm2d(c, eps=1e-3, momentum=0.01)
        self._conv_stem, self._bn0 = nn.Conv2d(3, 32, 3, 2, 1, bias=False), norm(32)
        blocks, i = [], 32
        for n, k, s, t, o in ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320)):
            for j in range(n):
                blocks.append(MBConv(i, o, k, s if j == 0 else 1, t))
                i = o
        self._blocks = nn.ModuleList(blocks)
        self._conv_head, self._bn1, self._fc = nn.Conv2d(320, 1280, 1, bias=False), norm(1280), nn.Linear(1280, classes)

    def forward(self, x: Any) -> Any:
        x = F.relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        return self._fc(F.relu6(self._bn1(self._conv_head(x))).mean((2, 3)))


def settled(net: nn.Module, seed: int = 0) -> nn.Module:
    """Weights as after some training: norms and biases away from their ones and zeros."""
    torch.manual_seed(seed)
    for m in net.modules():
        if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(m.weight, 0.5, 1.5)
            nn.init.normal_(m.bias, 0, 0.2)
            nn.init.normal_(m.running_mean, 0, 0.2)
            nn.init.uniform_(m.running_var, 0.5, 1.5)
    return net.eval()


__all__ = ["EfficientNetLite0", "Keywords", "MobileNetV2", "MobileNetV3Small", "ResNet18", "ViT", "settled"]
