"""One pass over the layers of a quantized network, in order: what each reads in float and what it reads now.

Methods after training (AdaRound, bias correction) look at one contraction at a time, with all before it in their final
state, and change its constants before what follows is computed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from shohin.compress import freeze
from shohin.compress.calibration import batches
from shohin.compress.definitions import OWN, Constants, fold
from shohin.compress.fake import Fake
from shohin.compress.integer import axes_of
from shohin.compress.quantized import Quantized
from shohin.compress.steps import Contract
from shohin.core.cells import Cell, Param
from shohin.core.errors import QuantizationError
from shohin.core.graph import Graph, Var
from shohin.core.module import mode
from shohin.core.tensor import as_tensor
from shohin.core.trace import prune, run

Array = np.ndarray[Any, Any]


@dataclass
class Batch:
    fake: Fake
    floats: dict[Var, Array]


@dataclass(frozen=True)
class Layer:
    """One contraction: its weight (out, ...) and gain k in float, and its (float, quantized) input of every batch, real values."""

    step: Contract
    weight: Array
    k: Array
    inputs: tuple[tuple[Array, Array], ...]

    def patches(self, x: Array) -> Array:
        """What each output's sum reads, (groups, rows, terms), by the op's relation."""
        if self.step.op is None:
            return np.moveaxis(x, -1, 0).reshape(self.step.channels, -1, 1)
        return self._matrix(0, x, x.shape)

    def matrix(self, w: Array) -> Array:
        """w (out, ...) as the matrices that patches are multiplied with, (groups, out of the group, terms)."""
        if self.step.op is None:
            return w.reshape(-1, 1, 1)
        return self._matrix(1, np.moveaxis(w, 0, self.step.axis), self.inputs[0][0].shape)

    def rows(self, matrix: Array) -> Array:
        """The weight (out, ...) of its ``matrix``."""
        where = self.matrix(np.arange(self.weight.size).reshape(self.weight.shape))
        w = np.empty(self.weight.size, matrix.dtype)
        w[where.reshape(-1)] = matrix.reshape(-1)
        return w.reshape(self.weight.shape)

    def _matrix(self, k: int, v: Array, x: tuple[int, ...]) -> Array:
        assert self.step.op is not None
        relation = self.step.op.solve((x, np.moveaxis(self.weight, 0, self.step.axis).shape), self.step.attrs)
        (xs, left), (ws, right) = (axes_of(v if i == k else np.zeros(shape, np.int8), dims, relation.extents, 0)
                                   for i, (shape, dims) in enumerate(zip(relation.operands, relation.relation.operands, strict=True)))  # fmt: skip
        summed, names, view = relation.reduced, (xs, ws)[k], (left, right)[k]
        both = [a for a in xs if a in ws and a not in summed]
        rest = [a for a in names if a not in both and a not in summed]
        size = lambda axes: prod(relation.extents[a] for a in axes)
        return view.transpose([names.index(a) for a in (*both, *rest, *summed)]).reshape(size(both), size(rest), size(summed))


def layers(net: Quantized, calibration: Any) -> Iterator[Layer]:
    """Every contraction; after each its constants are renewed from what the caller has changed."""
    with mode(net, training=False):
        found = [_batch(net, xs) for xs in batches(calibration)]
        program = found[0].fake.program
        last = {k: i for i, s in enumerate(program.steps) for k in s.inputs}
        for i, step in enumerate(program.steps):
            if isinstance(step, Contract):
                yield _layer(net, step, found)
                _renew(net, step, [b.fake for b in found])
            for b in found:
                b.fake.advance(b.fake.program.steps[i])  # its shapes are the batch's
                for k in step.inputs:
                    if last[k] == i and k not in program.outputs:
                        del b.fake.now[k]


def _batch(net: Quantized, xs: tuple[Array, ...]) -> Batch:
    fake, _ = net._fake(xs)
    program = fake.program
    tensors = [as_tensor(x) for x in xs]
    fake.begin(tensors)
    wanted = tuple(dict.fromkeys(program.sources[s.inputs[0]] for s in program.steps if isinstance(s, Contract)))
    whole = program.graph
    graph = prune(Graph(whole.inputs, whole.names, whole.consts, whole.nodes, wanted))
    made = run(graph, [*tensors, *(c.read() for c in program.cells)])
    return Batch(fake, {v: t.numpy() for v, t in zip(wanted, made, strict=True)})


def _layer(net: Quantized, step: Contract, found: list[Batch]) -> Layer:
    w, b, norm = freeze.parts(step, parameters(net))
    k, _ = fold(b, norm, step.channels)
    sources = [b.fake.program.sources[step.inputs[0]] for b in found]
    inputs = tuple((b.floats[v], b.fake.real(step.inputs[0]).numpy()) for b, v in zip(found, sources, strict=True))
    return Layer(step, w, k, inputs)


def _grids(net: Quantized, step: Contract) -> tuple[Any, Any]:
    program, grids = net._latest(), net.grids()
    x, y = (program.grid(k) for k in (step.inputs[0], step.output))
    assert x is not None and y is not None
    return grids[x], grids[y]


def constants(net: Quantized, step: Contract) -> Constants:
    """Q2 of a contraction, as it stands."""
    return freeze.contraction(step, parameters(net), *_grids(net, step), net.own().get(step.place, OWN))


def _renew(net: Quantized, step: Contract, fakes: list[Fake]) -> None:
    x, y = _grids(net, step)
    made = freeze.constants(step, parameters(net), [x], y, net.own().get(step.place, OWN))
    tensors = {n: as_tensor(a) for n, a in made.items()}
    for fake in fakes:
        fake.constants = {**fake.constants, step.place: tensors}


def parameters(net: Quantized) -> list[Array]:
    """What the program computes from cells, as it stands."""
    program = net._latest()
    return [p.numpy() for p in run(program.params, [c.read() for c in program.cells])]


def write(net: Quantized, step: Contract, w: Array, method: str) -> None:
    """Make w (out, ...) the weight of a contraction; values behind a mask stay as they are.

    Raises:
        QuantizationError: the weight is computed (a table), or another layer has the same.
    """
    program, number = net._latest(), step.weight
    assert number is not None
    at = program.params.outputs[number]
    cells = dict(zip(program.params.inputs, program.cells, strict=True))
    made = {v: n for n in program.params.nodes for v in n.results}
    found, open_ = list[Cell](), [at]
    while open_:
        v = open_.pop()
        found += [cells[v]] if v in cells and isinstance(cells[v], Param) else []
        open_ += made[v].operands if v in made else ()
    shared = sum(isinstance(s, Contract) and s.weight == number for s in program.steps) > 1
    before = np.asarray(parameters(net)[number])
    if len(found) == 1 and found[0].shape == before.shape and not shared:
        old = found[0].read().numpy()
        after = np.moveaxis(w, 0, step.axis).astype(np.float32)
        found[0].write(as_tensor(np.where(before != 0, after, old)))
        if np.array_equal(parameters(net)[number], after):
            return
        found[0].write(as_tensor(old))
    why = "two layers have it" if shared else "it is computed from other values, as a table's"
    raise QuantizationError(f"{step.place}: {method} sets a layer's weight, but {why}; leave {method} out there")


__all__ = ["Layer", "constants", "layers", "parameters", "write"]
