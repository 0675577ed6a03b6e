"""Layers, losses and the functions that they are made of. Channels last; names and defaults as in PyTorch."""

from shohin.core.cells import Buffer, Param
from shohin.core.module import Module
from shohin.nn import functional, init
from shohin.nn.attention import MultiheadAttention, SqueezeExcite
from shohin.nn.bilinear import resize_bilinear
from shohin.nn.conv import Conv1d, Conv2d, ConvTranspose1d, ConvTranspose2d, DepthwiseConv2d
from shohin.nn.functional import (
    attention,
    dropout,
    elu,
    gelu,
    hardsigmoid,
    hardswish,
    leaky_relu,
    log_softmax,
    relu,
    relu6,
    sigmoid,
    silu,
    softmax,
    stop_gradient,
    tanh,
)
from shohin.nn.linear import Embedding, Linear
from shohin.nn.losses import (
    accuracy,
    binary_cross_entropy_with_logits,
    cross_entropy,
    huber_loss,
    l1_loss,
    mse_loss,
)
from shohin.nn.norm import (
    BatchNorm1d,
    BatchNorm2d,
    GroupNorm,
    LayerNorm,
    RMSNorm,
    batch_norm,
    group_norm,
    l2_norm,
    layer_norm,
    rms_norm,
)
from shohin.nn.recurrent import GRU, LSTM
from shohin.nn.resize import resize
from shohin.nn.simple import (
    ELU,
    GELU,
    AdaptiveAvgPool2d,
    AvgPool2d,
    Dropout,
    Flatten,
    GlobalAvgPool,
    Hardsigmoid,
    Hardswish,
    Identity,
    LeakyReLU,
    MaxPool2d,
    ReLU,
    ReLU6,
    Sequential,
    Sigmoid,
    SiLU,
    Softmax,
    Tanh,
)
from shohin.nn.transformer import TransformerEncoderLayer

__all__ = [
    "Buffer", "Module", "Param", "functional", "init",
    "Conv1d", "Conv2d", "ConvTranspose1d", "ConvTranspose2d", "DepthwiseConv2d", "Embedding", "GRU", "LSTM", "Linear", "MultiheadAttention", "SqueezeExcite",
    "TransformerEncoderLayer",
    "BatchNorm1d", "BatchNorm2d", "GroupNorm", "LayerNorm", "RMSNorm",
    "AdaptiveAvgPool2d", "AvgPool2d", "Dropout", "Flatten", "GlobalAvgPool", "Identity", "MaxPool2d", "Sequential",
    "ELU", "GELU", "Hardsigmoid", "Hardswish", "LeakyReLU", "ReLU", "ReLU6", "SiLU", "Sigmoid", "Softmax", "Tanh",
    "attention", "batch_norm", "dropout", "elu", "gelu", "group_norm", "hardsigmoid", "hardswish", "l2_norm", "layer_norm",
    "leaky_relu", "log_softmax", "relu", "relu6", "resize", "resize_bilinear", "rms_norm", "sigmoid",
    "silu", "softmax", "stop_gradient", "tanh",
    "accuracy", "binary_cross_entropy_with_logits", "cross_entropy", "huber_loss", "l1_loss", "mse_loss",
]  # fmt: skip
