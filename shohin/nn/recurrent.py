"""GRU and LSTM: one scan a layer and direction, with the input's product taken out of the loop."""

from __future__ import annotations

import math as _math
from typing import Any

from shohin.core.cells import Param
from shohin.core.errors import ShapeError
from shohin.core.module import Module
from shohin.core.op import Quant
from shohin.core.tensor import Tensor, as_tensor
from shohin.nn import init
from shohin.nn.check import channels, floating, place_of
from shohin.nn.functional import dropout
from shohin.ops import math, move
from shohin.ops.composite import composite
from shohin.ops.linear import matmul
from shohin.transforms.control import scan


def _project(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    y = matmul(x, weight, transpose_b=True)
    return y if bias is None else y + bias


def _gates(x: Tensor, count: int) -> list[Tensor]:
    n = x.shape[-1] // count
    return [x[..., i * n : (i + 1) * n] for i in range(count)]


@composite(
    "gru",
    quant=Quant("rule", rule="Q12 gru"),
    source="Cho et al. 2014, the reset before the product; after it as in cuDNN and PyTorch",
)
def _gru(
    x: Any, h: Any, w_ih: Any, w_hh: Any, b_ih: Any = None, b_hh: Any = None, *, reverse: bool, reset_after: bool = True
) -> tuple[Tensor, Tensor]:
    inputs = _project(move.permute_dims(x, (1, 0, 2)), w_ih, b_ih)
    cut = w_hh.shape[0] // 3 * 2
    rows = lambda v, low, high: None if v is None else v[low:high]

    def step(h: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        ur, uz, un = _gates(u, 3)
        if reset_after:
            vr, vz, vn = _gates(_project(h, w_hh, b_hh), 3)
            r, z = math.sigmoid(ur + vr), math.sigmoid(uz + vz)
            n = math.tanh(un + r * vn)
        else:
            vr, vz = _gates(_project(h, w_hh[:cut], rows(b_hh, 0, cut)), 2)
            r, z = math.sigmoid(ur + vr), math.sigmoid(uz + vz)
            n = math.tanh(un + _project(r * h, w_hh[cut:], rows(b_hh, cut, None)))
        new = n + z * (h - n)
        return new, new

    last, ys = scan(step, h, inputs, reverse=reverse)
    return move.permute_dims(ys, (1, 0, 2)), last


@composite("lstm", quant=Quant("rule", rule="Q12 lstm"), source="Hochreiter and Schmidhuber 1997; Gers et al. 2000")
def _lstm(
    x: Any, h: Any, c: Any, w_ih: Any, w_hh: Any, b_ih: Any = None, b_hh: Any = None, *, reverse: bool
) -> tuple[Tensor, Tensor, Tensor]:
    inputs = _project(move.permute_dims(x, (1, 0, 2)), w_ih, b_ih)

    def step(state: tuple[Tensor, Tensor], u: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
        i, f, g, o = _gates(u + _project(state[0], w_hh, b_hh), 4)
        c = math.sigmoid(f) * state[1] + math.sigmoid(i) * math.tanh(g)
        h = math.sigmoid(o) * math.tanh(c)
        return (h, c), h

    (h, c), ys = scan(step, (h, c), inputs, reverse=reverse)
    return move.permute_dims(ys, (1, 0, 2)), h, c


class _Recurrent(Module):
    """Layers and directions around one of the two loops. ``states`` is 1 (h) or 2 (h and c)."""

    _gate_count, _states = 0, 0
    weight_hh_l0: Any

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, dropout: float = 0.0,
                 bidirectional: bool = False) -> None:  # fmt: skip
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.dropout, self.bidirectional = bias, dropout, bidirectional
        rows, bound = self._gate_count * hidden_size, 1 / _math.sqrt(hidden_size)
        for layer, suffix in self._parts():
            inputs = input_size if layer == 0 else hidden_size * (2 if bidirectional else 1)
            setattr(self, f"weight_ih_{suffix}", Param(init.uniform((rows, inputs), bound)))
            setattr(self, f"weight_hh_{suffix}", Param(init.uniform((rows, hidden_size), bound)))
            if bias:
                setattr(self, f"bias_ih_{suffix}", Param(init.uniform((rows,), bound)))
                setattr(self, f"bias_hh_{suffix}", Param(init.uniform((rows,), bound)))

    def _loop(self, *operands: Tensor, reverse: bool) -> tuple[Tensor, ...]:
        raise NotImplementedError(f"{type(self).__name__}._loop")

    def _parts(self) -> list[tuple[int, str]]:
        ends = ("", "_reverse") if self.bidirectional else ("",)
        return [(k, f"l{k}{end}") for k in range(self.num_layers) for end in ends]

    def _weights(self, suffix: str) -> list[Tensor]:
        kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh") if self.bias else ("weight_ih", "weight_hh")
        return [getattr(self, f"{kind}_{suffix}") for kind in kinds]

    def _run(self, x: Any, states: Any) -> tuple[Tensor, list[Tensor]]:
        x = floating(self, x, self.weight_hh_l0)
        channels(self, x, self.input_size, "n l c")
        parts = self._parts()
        shape = (len(parts), x.shape[0], self.hidden_size)
        given = (
            [move.zeros(shape, dtype=x.dtype) for _ in range(self._states)]
            if states is None
            else [as_tensor(s) for s in states]
        )
        for s in given:
            if s.shape != shape:
                raise ShapeError(
                    f"{place_of(self)}: a state has shape {s.shape}, expected {shape} (layers and directions, n, "
                    "hidden)"
                )
        last: list[list[Tensor]] = [[] for _ in range(self._states)]
        for layer in range(self.num_layers):
            outs: list[Tensor] = []
            for k, (at, suffix) in enumerate(parts):
                if at == layer:
                    y, *new = self._loop(x, *(s[k] for s in given), *self._weights(suffix), reverse=suffix.endswith("_reverse"))
                    outs.append(y)
                    for keep, state in zip(last, new, strict=True):
                        keep.append(state)
            x = outs[0] if len(outs) == 1 else move.concat(outs, axis=-1)
            if layer < self.num_layers - 1:
                x = dropout(x, self.dropout, training=self.training)
        return x, [move.stack(s) for s in last]


class GRU(_Recurrent):
    """Gated recurrent unit: ``h' = n + z (h - n)`` with ``n = tanh(W x + r (U h + b))``; ``reset_after=False``: ``tanh(W x + U (r h) + b)``.

    Shapes: x (n, l, input), h (layers * directions, n, hidden), zero by default -> (n, l, directions * hidden) and
    the last h.
    weight_ih_l0 (3 hidden, input) and weight_hh_l0 (3 hidden, hidden) hold the gates r, z, n; all uniform in
    ±1/sqrt(hidden). As in PyTorch, but always batch first. Source: Cho et al. 2014, who reset before the product, as ONNX and Keras can.

    >>> y, h = GRU(3, 4)(move.ones((2, 5, 3)))
    >>> y.shape, h.shape
    ((2, 5, 4), (1, 2, 4))
    """

    _gate_count, _states = 3, 1

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, dropout: float = 0.0,
                 bidirectional: bool = False, reset_after: bool = True) -> None:  # fmt: skip
        super().__init__(input_size, hidden_size, num_layers, bias, dropout, bidirectional)
        self.reset_after = reset_after

    def _loop(self, *operands: Tensor, reverse: bool) -> tuple[Tensor, ...]:
        return _gru(*operands, reverse=reverse, reset_after=self.reset_after)

    def forward(self, x: Any, h: Any = None) -> tuple[Tensor, Tensor]:
        y, (last,) = self._run(x, None if h is None else (h,))
        return y, last


class LSTM(_Recurrent):
    """Long short-term memory: ``c' = f c + i g``, ``h' = o tanh(c')``.

    Shapes: x (n, l, input), state (h, c), each (layers * directions, n, hidden), zero by default -> (n, l, directions *
    hidden) and the last (h, c). weight_ih_l0 (4 hidden, input) holds the gates i, f, g, o. As in PyTorch, but always
    batch first. Source: Hochreiter and Schmidhuber 1997; Gers et al. 2000 (the forget gate).

    >>> y, (h, c) = LSTM(3, 4)(move.ones((2, 5, 3)))
    >>> y.shape, h.shape, c.shape
    ((2, 5, 4), (1, 2, 4), (1, 2, 4))
    """

    _gate_count, _states = 4, 2

    def _loop(self, *operands: Tensor, reverse: bool) -> tuple[Tensor, ...]:
        return _lstm(*operands, reverse=reverse)

    def forward(self, x: Any, state: Any = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        y, (h, c) = self._run(x, state)
        return y, (h, c)


__all__ = ["GRU", "LSTM"]
