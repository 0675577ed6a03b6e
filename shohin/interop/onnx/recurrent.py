"""LSTM, GRU, RNN."""

from __future__ import annotations

import numpy as np

from shohin.interop.builder import Builder, Value
from shohin.interop.foreign import Node
from shohin.interop.onnx.table import attr, needed, operator, refuse
from shohin.interop.words import arrange
from shohin.interop.words.recurrent import FUNCTIONS, USUAL, Cell, recurrent

GATES = {"lstm": (0, 2, 3, 1), "gru": (1, 0, 2), "rnn": (0,)}
"""Of the origin's (i o f c; z r h) those that stand first, second ... here (i f g o; r z n)."""


@operator("LSTM", becomes="`nn.LSTM`; with peepholes, clipping or other activations a scan")
def lstm(b: Builder, node: Node, x: Value, w: Value, r: Value, bias: Value | None = None, lengths: Value | None = None, h: Value | None = None,
         c: Value | None = None, peephole: Value | None = None) -> tuple[Value, ...]:  # fmt: skip
    return _run(b, node, "lstm", x, w, r, bias, lengths, (h, c), peephole)


@operator("GRU", becomes="`nn.GRU`; with clipping or other activations a scan")
def gru(b: Builder, node: Node, x: Value, w: Value, r: Value, bias: Value | None = None, lengths: Value | None = None, h: Value | None = None) -> tuple[Value, ...]:
    return _run(b, node, "gru", x, w, r, bias, lengths, (h,), None)


@operator("RNN", becomes="a scan")
def rnn(b: Builder, node: Node, x: Value, w: Value, r: Value, bias: Value | None = None, lengths: Value | None = None, h: Value | None = None) -> tuple[Value, ...]:
    return _run(b, node, "rnn", x, w, r, bias, lengths, (h,), None)


def _run(b: Builder, node: Node, kind: str, x: Value, w: Value, r: Value, bias: Value | None, lengths: Value | None, states: tuple[Value | None, ...],
         peephole: Value | None) -> tuple[Value, ...]:  # fmt: skip
    refuse(w.rank != 3 or r.rank != 3 or x.rank != 3, f"X {x.shape}, W {w.shape} and R {r.shape} need 3 dims each")
    first = bool(attr(node, "layout", 0))
    if first:
        x = arrange.transpose(b, x, (1, 0, 2))
        states = tuple(s if s is None else arrange.transpose(b, s, (1, 0, 2)) for s in states)
    if lengths is not None:
        refuse(not np.all(b.array(lengths, "sequence_lens") == x.shape[0]), "sequence_lens are shorter than the series; series of one length are known here")
    activations = tuple(a.lower() for a in attr(node, "activations", ())) or USUAL[kind] * w.shape[0]
    refuse(any(a not in FUNCTIONS for a in activations) or len(activations) != len(USUAL[kind]) * w.shape[0], f"activations are {activations}")
    refuse(bool(attr(node, "activation_alpha", ()) or attr(node, "activation_beta", ())), "activations with parameters are not known here")
    direction = attr(node, "direction", "forward")
    refuse(direction not in ("forward", "reverse", "bidirectional") or (direction == "bidirectional") != (w.shape[0] == 2), f"direction is {direction!r}, W has shape {w.shape}")
    refuse(needed(node, "hidden_size") != r.shape[-1] if "hidden_size" in node.attrs else False, f"hidden_size does not fit R {r.shape}")
    cell = Cell(
        kind=kind, gates=GATES[kind], w=w, r=r, bias=bias, peephole=peephole, direction=direction, activations=activations, clip=float(attr(node, "clip", 0.0)),
        reset_after=kind != "gru" or bool(attr(node, "linear_before_reset", 0)), coupled=bool(attr(node, "input_forget", 0)),
    )  # fmt: skip
    y, *last = recurrent(b, x, cell, states)
    if first:
        y, last = arrange.transpose(b, y, (2, 0, 1, 3)), [arrange.transpose(b, s, (1, 0, 2)) for s in last]
    return (y, *last)
