"""Convolutions, channels last."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shohin.core.cells import Param
from shohin.core.errors import ShapeError
from shohin.core.module import Module
from shohin.core.tensor import Tensor
from shohin.nn import init
from shohin.nn.check import channels, floating
from shohin.ops import move
from shohin.ops.linear import conv2d, conv_transpose2d, pair

Pair = int | Sequence[int]


def _check_groups(kind: str, inputs: int, outputs: int, groups: int) -> None:
    if groups < 1 or inputs % groups or outputs % groups:
        raise ShapeError(f"{kind}: {inputs} input and {outputs} output channels must both divide by groups={groups}")


class Conv2d(Module):
    """2-d convolution: a sum over the taps and the channels of one group.

    Shapes: x (n, h, w, in) -> (n, h', w', out) with h' = floor((h + pad - dilation (kh - 1) - 1) / stride) + 1;
    weight (out, kh, kw, in/groups), bias (out,), both uniform in ±1/sqrt(kh kw in/groups) at the start.
    ``padding``: an integer, a pair (h, w), a pair of pairs (before, after), "valid", "same" (stride 1) or
    "same_tf" (TensorFlow's rule). Source: LeCun et al. 1989; conventions of torch.nn.Conv2d, but channels last.

    >>> Conv2d(3, 8, 3, stride=2, padding=1)(move.zeros((1, 32, 32, 3))).shape
    (1, 16, 16, 8)
    """

    weight: Any
    bias: Any

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Pair, stride: Pair = 1, padding: Any = 0,
                 dilation: Pair = 1, groups: int = 1, bias: bool = True) -> None:  # fmt: skip
        _check_groups("Conv2d", in_channels, out_channels, groups)
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size, self.stride = pair(kernel_size, "Conv2d: kernel_size"), pair(stride, "Conv2d: stride")
        self.padding, self.dilation = padding, pair(dilation, "Conv2d: dilation")
        fan_in = self.kernel_size[0] * self.kernel_size[1] * (in_channels // groups)
        self.weight = Param(init.kaiming_uniform((out_channels, *self.kernel_size, in_channels // groups), fan_in))
        self.bias = Param(init.kaiming_uniform((out_channels,), fan_in)) if bias else None

    def forward(self, x: Any) -> Tensor:
        x = floating(self, x, self.weight)
        channels(self, x, self.in_channels, "n h w c")
        y = conv2d(x, self.weight, stride=self.stride, padding=self.padding, dilation=self.dilation, groups=self.groups)
        return y if self.bias is None else y + self.bias

    def extra_repr(self) -> str:
        return _describe(self, (1, 1))


class DepthwiseConv2d(Conv2d):
    """``Conv2d`` with a filter of its own for each channel: ``groups`` is the number of channels.

    Shapes: x (n, h, w, c) -> (n, h', w', multiplier c). Source: Sifre 2014; Howard et al. 2017.

    >>> DepthwiseConv2d(8, 3, padding=1)(move.zeros((1, 5, 5, 8))).shape
    (1, 5, 5, 8)
    """

    def __init__(self, channels: int, kernel_size: Pair, stride: Pair = 1, padding: Any = 0, dilation: Pair = 1,
                 multiplier: int = 1, bias: bool = True) -> None:  # fmt: skip
        super().__init__(channels, multiplier * channels, kernel_size, stride, padding, dilation, channels, bias)


class Conv1d(Module):
    """1-d convolution, computed as a ``conv2d`` of height 1.

    Shapes: x (n, l, in) -> (n, l', out); weight (out, k, in/groups), bias (out,), started as in ``Conv2d``.
    ``padding``: an integer, a pair (before, after), "valid", "same" (stride 1) or "same_tf".

    >>> Conv1d(4, 6, 3, padding=1)(move.zeros((2, 10, 4))).shape
    (2, 10, 6)
    """

    weight: Any
    bias: Any

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, padding: Any = 0,
                 dilation: int = 1, groups: int = 1, bias: bool = True) -> None:  # fmt: skip
        _check_groups("Conv1d", in_channels, out_channels, groups)
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size, self.stride, self.padding, self.dilation = kernel_size, stride, padding, dilation
        fan_in = kernel_size * (in_channels // groups)
        self.weight = Param(init.kaiming_uniform((out_channels, kernel_size, in_channels // groups), fan_in))
        self.bias = Param(init.kaiming_uniform((out_channels,), fan_in)) if bias else None

    def forward(self, x: Any) -> Tensor:
        x = floating(self, x, self.weight)
        channels(self, x, self.in_channels, "n l c")
        along = self.padding
        if not isinstance(along, str):
            along = ((0, 0), (along, along) if isinstance(along, int) else tuple(along))
        y = conv2d(move.expand_dims(x, axis=1), move.expand_dims(self.weight, axis=1), stride=(1, self.stride),
                   padding=along, dilation=(1, self.dilation), groups=self.groups)  # fmt: skip
        y = move.squeeze(y, 1)
        return y if self.bias is None else y + self.bias

    def extra_repr(self) -> str:
        return _describe(self, 1)


class ConvTranspose2d(Module):
    """The transpose of a 2-d convolution: each input element adds its multiple of the filter to a window of the result.

    Shapes: x (n, h, w, in) -> (n, h', w', out) with h' = (h - 1) stride - pad + dilation (kh - 1) + output_padding + 1;
    weight (in, kh, kw, out/groups), bias (out,), both uniform in ±1/sqrt(kh kw out/groups) at the start (as in PyTorch).
    ``padding``, an integer, a pair (h, w) or a pair of pairs (before, after), is what the convolution pads and this takes
    away. Source: Zeiler et al. 2010; conventions of torch.nn.ConvTranspose2d, but channels last.

    >>> ConvTranspose2d(3, 8, 2, stride=2)(move.zeros((1, 16, 16, 3))).shape
    (1, 32, 32, 8)
    """

    weight: Any
    bias: Any

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Pair, stride: Pair = 1, padding: Any = 0,
                 output_padding: Pair = 0, groups: int = 1, bias: bool = True, dilation: Pair = 1) -> None:  # fmt: skip
        _check_groups("ConvTranspose2d", in_channels, out_channels, groups)
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size, self.stride = pair(kernel_size, "ConvTranspose2d: kernel_size"), pair(stride, "ConvTranspose2d: stride")
        self.padding, self.dilation = padding, pair(dilation, "ConvTranspose2d: dilation")
        self.output_padding = pair(output_padding, "ConvTranspose2d: output_padding")
        fan_in = self.kernel_size[0] * self.kernel_size[1] * (out_channels // groups)
        self.weight = Param(init.kaiming_uniform((in_channels, *self.kernel_size, out_channels // groups), fan_in))
        self.bias = Param(init.kaiming_uniform((out_channels,), fan_in)) if bias else None

    def forward(self, x: Any) -> Tensor:
        x = floating(self, x, self.weight)
        channels(self, x, self.in_channels, "n h w c")
        y = conv_transpose2d(x, self.weight, stride=self.stride, padding=self.padding, dilation=self.dilation,
                             output_padding=self.output_padding, groups=self.groups)  # fmt: skip
        return y if self.bias is None else y + self.bias

    def extra_repr(self) -> str:
        return _describe(self, (1, 1))


class ConvTranspose1d(Module):
    """The transpose of a 1-d convolution, computed as a ``conv_transpose2d`` of height 1.

    Shapes: x (n, l, in) -> (n, l', out); weight (in, k, out/groups), bias (out,), as in ``ConvTranspose2d``.
    ``padding``: an integer or a pair (before, after).

    >>> ConvTranspose1d(4, 6, 4, stride=2, padding=1)(move.zeros((2, 10, 4))).shape
    (2, 20, 6)
    """

    weight: Any
    bias: Any

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, padding: Any = 0,
                 output_padding: int = 0, groups: int = 1, bias: bool = True, dilation: int = 1) -> None:  # fmt: skip
        _check_groups("ConvTranspose1d", in_channels, out_channels, groups)
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size, self.stride, self.padding, self.dilation = kernel_size, stride, padding, dilation
        self.output_padding = output_padding
        fan_in = kernel_size * (out_channels // groups)
        self.weight = Param(init.kaiming_uniform((in_channels, kernel_size, out_channels // groups), fan_in))
        self.bias = Param(init.kaiming_uniform((out_channels,), fan_in)) if bias else None

    def forward(self, x: Any) -> Tensor:
        x = floating(self, x, self.weight)
        channels(self, x, self.in_channels, "n l c")
        along = (self.padding, self.padding) if isinstance(self.padding, int) else tuple(self.padding)
        y = conv_transpose2d(move.expand_dims(x, axis=1), move.expand_dims(self.weight, axis=1), stride=(1, self.stride),
                             padding=((0, 0), along), dilation=(1, self.dilation), output_padding=(0, self.output_padding),
                             groups=self.groups)  # fmt: skip
        y = move.squeeze(y, 1)
        return y if self.bias is None else y + self.bias

    def extra_repr(self) -> str:
        return _describe(self, 1)


def _describe(layer: Any, one: Any) -> str:
    parts = [f"{layer.in_channels}, {layer.out_channels}, kernel_size={layer.kernel_size}"]
    parts += [f"{n}={getattr(layer, n)}" for n in ("stride", "dilation") if getattr(layer, n) != one]
    parts += [f"padding={layer.padding!r}"] if layer.padding != 0 else []
    return ", ".join(parts + ([f"groups={layer.groups}"] if layer.groups != 1 else []))


__all__ = ["Conv1d", "Conv2d", "ConvTranspose1d", "ConvTranspose2d", "DepthwiseConv2d"]
