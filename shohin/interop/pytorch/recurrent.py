"""LSTM, GRU and simple recurrent nets, which stay layers."""

from __future__ import annotations

from collections.abc import Sequence

from shohin.interop.builder import Builder, Value
from shohin.interop.foreign import Node
from shohin.interop.pytorch.table import operator, refuse
from shohin.interop.words import arrange, recurrent


@operator("lstm.input", becomes="`nn.LSTM`")
def lstm(b: Builder, node: Node, x: Value, hx: Sequence[Value], params: Sequence[Value], has_biases: bool, num_layers: int, dropout: float, train: bool, bidirectional: bool,
         batch_first: bool) -> tuple[Value, ...]:  # fmt: skip
    return _run(b, "lstm", x, hx, params, has_biases, num_layers, dropout, train, bidirectional, batch_first)


@operator("gru.input", becomes="`nn.GRU`")
def gru(b: Builder, node: Node, x: Value, hx: Value, params: Sequence[Value], has_biases: bool, num_layers: int, dropout: float, train: bool, bidirectional: bool,
        batch_first: bool) -> tuple[Value, ...]:  # fmt: skip
    return _run(b, "gru", x, (hx,), params, has_biases, num_layers, dropout, train, bidirectional, batch_first)


@operator("rnn_tanh.input", "rnn_relu.input", becomes="a scan")
def rnn(b: Builder, node: Node, x: Value, hx: Value, params: Sequence[Value], has_biases: bool, num_layers: int, dropout: float, train: bool, bidirectional: bool,
        batch_first: bool) -> tuple[Value, ...]:  # fmt: skip
    return _run(b, "rnn", x, (hx,), params, has_biases, num_layers, dropout, train, bidirectional, batch_first, "tanh" if "tanh" in node.op else "relu")


def _run(b: Builder, kind: str, x: Value, states: Sequence[Value], params: Sequence[Value], bias: bool, layers: int, dropout: float, train: bool, both: bool, batch_first: bool,
         activation: str = "tanh") -> tuple[Value, ...]:  # fmt: skip
    refuse(train and dropout > 0, "it drops out; call eval() before it is exported")
    single = x.rank == 2  # one series without a batch
    x = arrange.unsqueeze(b, x, [0 if batch_first else 1]) if single else x
    states = [arrange.unsqueeze(b, s, [1]) if single else s for s in states]
    y, *last = recurrent.stacked(b, arrange.transpose(b, x, (1, 0, 2)) if batch_first else x, kind, params, states, layers=layers, bias=bias, both=both, activation=activation)
    y = arrange.transpose(b, y, (1, 0, 2)) if batch_first else y
    if single:
        y, last = arrange.squeeze(b, y, [0 if batch_first else 1]), [arrange.squeeze(b, s, [1]) for s in last]
    return (y, *last)
