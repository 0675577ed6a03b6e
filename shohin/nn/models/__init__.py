"""Small networks of the field, channels last."""

from __future__ import annotations

from typing import Any

from shohin.nn.models.dscnn import DSCNN, SeparableBlock
from shohin.nn.models.mobilenet import InvertedResidual, MobileNetV2
from shohin.nn.models.mobilenetv3 import InvertedResidualV3, MobileNetV3Small
from shohin.nn.models.resnet import ResidualBlock, ResNet, ResNet8, ResNet20
from shohin.nn.models.transformer import KeywordTransformer

NETWORKS: dict[str, Any] = {"resnet8": ResNet8, "ds-cnn": DSCNN}
"""The demo's networks by name, each to be called without arguments."""

__all__ = [
    "DSCNN", "InvertedResidual", "InvertedResidualV3", "KeywordTransformer", "MobileNetV2", "MobileNetV3Small",
    "NETWORKS", "ResNet", "ResNet20", "ResNet8", "ResidualBlock", "SeparableBlock",
]  # fmt: skip
