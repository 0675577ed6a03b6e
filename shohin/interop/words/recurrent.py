"""LSTM, GRU and simple recurrent nets: our layers where they are the usual ones, else one scan a direction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from shohin import nn
from shohin.core.cells import Param
from shohin.core.errors import ForeignError
from shohin.interop.builder import Builder, Value, constant, identity
from shohin.interop.words import arrange
from shohin.interop.words.contract import data_of, known
from shohin.ops import math, move
from shohin.ops.linear import matmul
from shohin.transforms.control import scan

Function = Callable[[Any], Any]
SERIES = (1, 0, 2)
"""The order of (steps, batch, features) that is stored batch first, as the layers take it."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A recurrent cell as the origin has it, one operand set a direction.

    ``w`` (directions, gates hidden, in), ``r`` (directions, gates hidden, hidden), ``bias`` (directions, 2 gates hidden),
    ``peephole`` (directions, 3 hidden). ``gates``: for each of our gates which of the origin's it is.
    """

    kind: str
    gates: tuple[int, ...]
    w: Value
    r: Value
    bias: Value | None
    peephole: Value | None
    direction: str
    activations: tuple[str, ...]
    clip: float
    reset_after: bool = True
    coupled: bool = False

    @property
    def hidden(self) -> int:
        return self.r.shape[-1]

    @property
    def directions(self) -> int:
        return self.w.shape[0]

    def gated(self, v: Value | None, k: int, part: int = 0, parts: int = 1) -> Any:
        """Direction k of a constant, its gates in our order."""
        if v is None:
            return None
        rows = data_of(v)[k].reshape(parts, len(self.gates), self.hidden, *v.shape[2:])[part]
        return np.ascontiguousarray(rows[list(self.gates)].reshape(-1, *v.shape[2:]))


USUAL = {"lstm": ("sigmoid", "tanh", "tanh"), "gru": ("sigmoid", "tanh"), "rnn": ("tanh",)}


def recurrent(b: Builder, x: Value, cell: Cell, states: Sequence[Value | None]) -> tuple[Value, ...]:
    """x (steps, batch, in), states (directions, batch, hidden) -> all h (steps, directions, batch, hidden), then the last states."""
    if x.rank != 3 or cell.w.rank != 3 or x.shape[2] != cell.w.shape[2] or cell.w.shape[1] != len(cell.gates) * cell.hidden:
        raise ForeignError(f"x {x.shape}, w {cell.w.shape}, r {cell.r.shape} do not fit")
    if not known(cell.w, cell.r, cell.bias, cell.peephole):
        b.array(next(v for v in (cell.w, cell.r, cell.bias, cell.peephole) if v is not None and v.data is None), "a weight of a recurrent layer")
    usual = cell.activations == USUAL[cell.kind] * cell.directions and not cell.clip and cell.peephole is None and not cell.coupled
    steps, batch, _ = x.shape
    shape, d = (steps, batch, cell.directions, cell.hidden), cell.directions
    if usual and cell.kind != "rnn" and cell.direction != "reverse":
        path = b.new_layer(cell.kind, (cell.kind, *map(identity, (cell.w, cell.r, cell.bias)), cell.direction, cell.reset_after), lambda: _layer(cell))
        given = [None if v is None else b.plain(v) for v in states]
        if any(v is None for v in given) and any(v is not None for v in given):
            zero = constant(np.zeros((d, batch, cell.hidden), x.dtype))
            given = [zero if v is None else v for v in given]
        y, *last = _called(b, path, [b.lay(x, SERIES), *given])
    else:
        y, *last = _scanned(b, x, cell, states)
    split = arrange.shaped(b, y, shape)
    return (arrange.transpose(b, split, (0, 2, 1, 3)), *last)


def stacked(b: Builder, x: Value, kind: str, weights: Sequence[Value], states: Sequence[Value], *, layers: int, bias: bool, both: bool,
            activation: str = "tanh") -> tuple[Value, ...]:  # fmt: skip
    """Layers on one another, as PyTorch has them: x (steps, batch, in), states (layers directions, batch, hidden) -> all h (steps, batch,
    directions hidden), then the last states. ``weights``: w_ih, w_hh and, with ``bias``, b_ih, b_hh of each direction of each layer,
    gates in our order."""
    count, each = 2 if both else 1, 4 if bias else 2
    if x.rank != 3 or len(weights) != layers * count * each:
        raise ForeignError(f"x {x.shape} and {len(weights)} weights do not fit {layers} layers; projections have no counterpart here")
    for w in weights:
        b.array(w, "a weight of a recurrent layer")
    hidden = weights[1].shape[1]
    given = [None if s.data is not None and not s.data.any() else b.plain(s) for s in states]
    if all(s is None for s in given):
        given = [None] * len(states)
    else:
        given = [b.plain(states[k]) if s is None else s for k, s in enumerate(given)]
    if kind != "rnn":
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")[:each]
        own = {f"{n}_l{k // count}{'_reverse' if k % count else ''}": weights[k * each + i] for k in range(layers * count) for i, n in enumerate(names)}

        def make() -> Any:
            layer = (nn.LSTM if kind == "lstm" else nn.GRU)(x.shape[2], hidden, layers, bias=bias, bidirectional=both)
            for name, w in own.items():
                setattr(layer, name, Param(data_of(w)))
            return layer

        return _called(b, b.new_layer(kind, (kind, *map(identity, weights), layers, both), make), [b.lay(x, SERIES), *given])
    last: list[Value] = []
    for k in range(layers):
        part = [weights[(k * count + d) * each : (k * count + d + 1) * each] for d in range(count)]
        joined = [constant(np.stack([data_of(p[i]) for p in part]), part[0][i].name) for i in range(2)]
        biases = constant(np.stack([np.concatenate([data_of(p[2]), data_of(p[3])]) for p in part]), part[0][2].name) if bias else None
        own_cell = Cell(kind="rnn", gates=(0,), w=joined[0], r=joined[1], bias=biases, peephole=None, direction="bidirectional" if both else "forward",
                        activations=(activation,) * count, clip=0.0)  # fmt: skip
        state = [None if s is None else arrange.box(b, s, {0: (k * count, (k + 1) * count, 1)}) for s in given]
        y, new = recurrent(b, x, own_cell, state)
        x = arrange.shaped(b, arrange.transpose(b, y, (0, 2, 1, 3)), (*x.shape[:2], -1))
        last.append(new)
    return x, last[0] if layers == 1 else arrange.concat(b, last, 0)


def _called(b: Builder, path: str, operands: list[Value | None]) -> tuple[Value, ...]:
    """A layer takes its states as one argument; a step is flat, so one that has two is packed."""
    lstm = isinstance(b.net._find(path), nn.LSTM)
    orders = (SERIES, *((0, 1, 2),) * (2 if lstm else 1))
    if operands[1] is None:
        return b.layer(path, operands[:1], orders)
    return b.layer(path, operands, orders, pack=1 if lstm else None)


def _layer(cell: Cell) -> Any:
    kind: Any = nn.LSTM if cell.kind == "lstm" else nn.GRU
    own = {} if cell.kind == "lstm" else {"reset_after": cell.reset_after}
    layer = kind(cell.w.shape[2], cell.hidden, bias=cell.bias is not None, bidirectional=cell.directions == 2, **own)
    for k, end in enumerate(("", "_reverse")[: cell.directions]):
        setattr(layer, f"weight_ih_l0{end}", Param(cell.gated(cell.w, k)))
        setattr(layer, f"weight_hh_l0{end}", Param(cell.gated(cell.r, k)))
        if cell.bias is not None:
            setattr(layer, f"bias_ih_l0{end}", Param(cell.gated(cell.bias, k, 0, 2)))
            setattr(layer, f"bias_hh_l0{end}", Param(cell.gated(cell.bias, k, 1, 2)))
    return layer


# -------------------------------------------------------------------------------------------- the other variants


def _scanned(b: Builder, x: Value, cell: Cell, states: Sequence[Value | None]) -> tuple[Value, ...]:
    """One scan a direction; the outcome as of a layer."""
    count, batch = 2 if cell.kind == "lstm" else 1, x.shape[1]
    ys: list[Value] = []
    last: list[list[Value]] = [[] for _ in range(count)]
    own = len(cell.activations) // cell.directions
    for k in range(cell.directions):
        zero = constant(np.zeros((batch, cell.hidden), x.dtype))
        given = [zero if v is None else arrange.shaped(b, arrange.box(b, v, {0: (k, k + 1, 1)}), (batch, cell.hidden)) for v in states]
        weights = [cell.gated(cell.w, k), cell.gated(cell.r, k), cell.gated(cell.bias, k, 0, 2), cell.gated(cell.bias, k, 1, 2)]
        peephole = None if cell.peephole is None else data_of(cell.peephole)[k]
        cells = [None if a is None else constant(a, f"{b.place}.{n}") for a, n in zip([*weights, peephole], ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "peephole"))]
        attrs = {
            "kind": cell.kind, "reverse": cell.direction == "reverse" or k == 1, "clip": cell.clip, "coupled": cell.coupled,
            "reset_after": cell.reset_after, "activations": cell.activations[k * own : (k + 1) * own], "states": count,
        }  # fmt: skip
        y, *new = b.emit(scanned, [b.lay(x, SERIES), *(b.plain(g) for g in given), *cells], (SERIES, *((0, 1),) * count), attrs)
        ys.append(y)
        for keep, state in zip(last, new):
            keep.append(arrange.unsqueeze(b, state, [0]))
    joined = ys[0] if len(ys) == 1 else arrange.concat(b, ys, 2)
    return (joined, *(s[0] if len(s) == 1 else arrange.concat(b, s, 0) for s in last))


FUNCTIONS: dict[str, Function] = {
    "sigmoid": math.sigmoid, "tanh": math.tanh, "relu": math.relu, "softsign": lambda x: x / (1 + math.abs(x)),
    "softplus": lambda x: math.log1p(math.exp(-math.abs(x))) + math.relu(x), "hardsigmoid": lambda x: math.clip(0.2 * x + 0.5, 0.0, 1.0),
}  # fmt: skip


def scanned(x: Any, *operands: Any, kind: str, reverse: bool, clip: float, coupled: bool, reset_after: bool, activations: tuple[str, ...], states: int) -> Any:
    """One direction: x (batch, steps, in), the states, then weights, biases and peephole -> (batch, steps, hidden), last states."""
    given, (w, r, b_ih, b_hh, peephole) = operands[:states], operands[states:]
    act = [FUNCTIONS[a] for a in activations]
    clipped = (lambda v: math.clip(v, -clip, clip)) if clip else (lambda v: v)
    with_bias = lambda v, bias: v if bias is None else v + bias
    inputs = with_bias(matmul(move.permute_dims(x, SERIES), w, transpose_b=True), b_ih)
    n = r.shape[1]
    part = lambda v, k: v[..., k * n : (k + 1) * n]
    product = lambda h, k: with_bias(matmul(h, r[k * n : (k + 1) * n], transpose_b=True), None if b_hh is None else part(b_hh, k))
    look = (lambda c, k: 0.0) if peephole is None else (lambda c, k: part(peephole, k) * c)

    def rnn(s: tuple[Any, ...], u: Any) -> tuple[Any, ...]:
        return (act[0](clipped(u + product(s[0], 0))),)

    def gru(s: tuple[Any, ...], u: Any) -> tuple[Any, ...]:
        (h,) = s
        reset, z = act[0](clipped(part(u, 0) + product(h, 0))), act[0](clipped(part(u, 1) + product(h, 1)))
        new = act[1](clipped(part(u, 2) + (reset * product(h, 2) if reset_after else product(reset * h, 2))))
        return (new + z * (h - new),)

    def lstm(s: tuple[Any, ...], u: Any) -> tuple[Any, ...]:
        h, c = s
        v = u + with_bias(matmul(h, r, transpose_b=True), b_hh)
        i = act[0](clipped(part(v, 0) + look(c, 0)))
        f = 1 - i if coupled else act[0](clipped(part(v, 1) + look(c, 2)))
        new = f * c + i * act[1](clipped(part(v, 2)))
        o = act[0](clipped(part(v, 3) + look(new, 1)))
        return o * act[2](new), new

    turn = {"rnn": rnn, "gru": gru, "lstm": lstm}[kind]

    def step(s: Any, u: Any) -> Any:
        new = turn(s, u)
        return new, new[0]

    last, ys = scan(step, tuple(given), inputs, reverse=reverse)
    return (move.permute_dims(ys, SERIES), *last)


__all__ = ["Cell", "FUNCTIONS", "recurrent", "stacked"]
