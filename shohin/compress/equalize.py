"""Cross-layer equalization: channels of two layers with only a ReLU, or nothing, between them are rescaled so that both weights
have the same range, channel by channel; the float function stays what it was, to rounding.

    s_i = sqrt(r_1i r_2i) / r_2i;   layer 1's channel i is divided by s_i, layer 2's weights on it are multiplied

r_1i is the range of what makes channel i with its batch norm folded, |k_i| max|w_1i|, r_2i that of the weights that read it.
Of a depthwise layer between two others the three are evened as in the paper, pair by pair, until nothing moves. With a scale an output
channel the weights of layer 1 gain nothing; the activations between, which share one grid, and layer 2, whose rows are its
inputs' channels, do. Source: Nagel et al. 2019 (arXiv:1906.04721), section 4.1 (equation 11). Where we differ: the batch norm stays, its
gamma and beta are what is divided; ReLU6 is not homogeneous, so pairs around it are left as they are (the paper puts ReLU in its place).

Pairs are found on the steps that quantization makes of the network, so no op is known by name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import inf
from typing import Any

import numpy as np

from shohin.compress.definitions import fold
from shohin.compress.freeze import parts
from shohin.compress.steps import Contract, Move, Pool, Program, Step
from shohin.compress.walk import module_of, walk
from shohin.core.cells import Param
from shohin.core.errors import PlanError
from shohin.core.module import Module
from shohin.core.op import Aval
from shohin.core.tensor import as_tensor
from shohin.core.trace import run

SWEEPS = 40
Array = np.ndarray[Any, Any]


def pairs(program: Program, paths: Sequence[str]) -> list[tuple[Contract, Contract]]:
    """Contractions of these modules, the second the only reader of what the first makes, through pools and pads."""
    readers: dict[int, list[Step]] = {}
    for s in program.steps:
        for k in s.inputs:
            readers.setdefault(k, []).append(s)
    found = []
    for first in program.steps:
        if not isinstance(first, Contract) or not _homogeneous(first) or module_of(first.place) not in paths:
            continue
        value = first.output
        while len(after := readers.get(value, [])) == 1 and value not in program.outputs:
            (step,) = after
            if isinstance(step, Contract):
                if module_of(step.place) in paths and step.weight is not None:
                    found.append((first, step))
                break
            alike = isinstance(step, Pool) or (isinstance(step, Move) and step.op.pad is not None)
            if not alike or not _homogeneous(step) or program.values[step.output].shape[-1:] != (first.channels,):
                break
            value = step.output
    return found


def _homogeneous(step: Step) -> bool:
    """Is a f(x / a) = f(x), for each channel by itself, of what the step takes in?"""
    return getattr(step, "clamp", None) in (None, (0.0, inf))


class Cells:
    """The Params of a program, by the numbers that steps have for them."""

    def __init__(self, program: Program) -> None:
        self.program = program
        by_var = dict(zip(program.params.inputs, program.cells, strict=True))
        self.cells = [by_var.get(v) for v in program.params.outputs]
        contractions = [s for s in program.steps if isinstance(s, Contract)]
        self.uses = Counter(k for s in contractions for k in (s.weight, s.bias, s.norm and s.norm.gamma, s.norm and s.norm.beta) if k is not None)

    def own(self, number: int | None, channels: int | None = None) -> Param | None:
        """The Param, if one step alone has it, and as it is; with ``channels`` it is a vector over them."""
        cell = None if number is None or self.uses[number] != 1 else self.cells[number]
        fits = isinstance(cell, Param) and (channels is None or cell.shape == (channels,))
        return cell if fits else None  # type: ignore[return-value]

    def makers(self, step: Contract) -> list[Param] | None:
        """What is divided by s to divide the step's result; None if something of it is not its own."""
        if step.norm is not None:
            found = [self.own(k, step.channels) for k in (step.norm.gamma, step.norm.beta)]
        else:
            found = [self.own(step.weight), *([self.own(step.bias, step.channels)] if step.bias is not None else [])]
        return None if any(c is None for c in found) else found  # type: ignore[return-value]

    def values(self) -> list[Array]:
        return [p.numpy() for p in run(self.program.params, [c.read() for c in self.program.cells])]


def equalize(net: Module, avals: Sequence[Aval], paths: Sequence[str]) -> int:
    """Rescale ``net`` in place, between the modules in ``paths``; how many pairs there are.

    Raises:
        PlanError: there is none.
    """
    if not paths:
        return 0
    program, _ = walk(net, avals, lambda path: False)
    cells = Cells(program)
    found = [(a, b) for a, b in pairs(program, paths) if cells.makers(a) is not None and cells.own(b.weight) is not None]
    if not found:
        raise PlanError(
            f"equalize=True found no two layers among {', '.join(map(repr, paths[:4]))} with only a ReLU or pool, or nothing, between "
            "them and weights of their own; leave it out"
        )
    for _ in range(SWEEPS):
        if not any([_even(cells, a, b) for a, b in found]):
            break
    return len(found)


def _even(cells: Cells, first: Contract, second: Contract) -> bool:
    """One pair; whether it moved by more than a thousandth."""
    values = cells.values()
    w, b, norm = parts(first, values)
    k, _ = fold(b, norm, first.channels)
    weight, makers = cells.own(second.weight), cells.makers(first)
    assert weight is not None and makers is not None
    reads = _input_channel(second, cells.program.values[second.inputs[0]].shape, weight.shape)
    r1 = np.abs(k) * np.abs(w.reshape(len(w), -1)).max(1)
    r2 = np.zeros(first.channels, np.float32)
    np.maximum.at(r2, reads, np.abs(weight.read().numpy()))
    both = (r1 > 0) & (r2 > 0)
    s = np.where(both, np.sqrt(np.where(both, r1, 1) / np.where(both, r2, 1)), 1).astype(np.float32)
    for cell in makers:
        axis = first.axis if cell is cells.cells[first.weight or 0] and first.norm is None and cell.shape != s.shape else 0
        cell.write(as_tensor((cell.read().numpy() / s.reshape([-1 if d == axis else 1 for d in range(len(cell.shape))])).astype(np.float32)))
    weight.write(as_tensor((weight.read().numpy() * s[reads]).astype(np.float32)))
    return bool(np.abs(s - 1).max() > 1e-3)


def _input_channel(step: Contract, x: tuple[int, ...], w: tuple[int, ...]) -> Array:
    """For each element of a contraction's weight (as the op has it) the channel of x that it is multiplied with."""
    if step.op is None:
        return np.arange(step.channels).reshape(w)
    relation = step.op.solve((x, w), step.attrs)
    channel, axes = relation.relation.operands[0][-1].axes, [a for d in relation.relation.operands[1] for a in d.axes]
    index = np.arange(x[-1]).reshape([relation.extents[a] for a in channel])
    index = index.transpose([channel.index(a) for a in axes if a in channel])
    index = index.reshape([relation.extents[a] if a in channel else 1 for a in axes])
    return np.broadcast_to(index, [relation.extents[a] for a in axes]).reshape(w)


__all__ = ["equalize", "pairs"]
