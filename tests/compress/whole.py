"""Networks of one operator, and how to ask whether all ways to run them give the same integers."""

import numpy as np

from shohin import nn
from shohin.compress import Plan, Quantize, integers
from shohin.compress import definitions as d
from shohin.compress.lowering import lower
from shohin.core.op import Aval
from shohin.core.tensor import as_tensor
from shohin.ops.control import run_numpy


class Of(nn.Module):
    """A function of its inputs and of layers."""

    def __init__(self, forward, **layers):
        self._forward = forward
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, *xs):
        return self._forward(self, *xs)


def quantized(net, *xs):
    return Plan([("*", Quantize())]).apply(net, calibration=tuple(xs)).eval()


def differing(net, *xs):
    """Differing integers of all places between module, reference and integer graph; how many there are."""
    mine, reference = net.integers(*xs), integers(net, *xs)
    assert mine.keys() == reference.keys()
    graph = lower(net, *(Aval(x.shape, x.dtype) for x in xs), every=True)
    lowered = dict(zip(graph.places, run_numpy(graph.graph, graph.quantize(*xs)), strict=True))
    wrong = {p: int((mine[p] != q).sum()) for p, q in reference.items() if (mine[p] != q).any()}
    wrong |= {f"{p} lowered": int((q != reference[p]).sum()) for p, q in lowered.items() if (q != reference[p]).any()}
    return wrong, sum(q.size for q in reference.values())


def worst(net, float_net, *xs):
    """The largest distance in steps from the float network at the quantized input, on the same grid of the result."""
    grids, found = net.grids(), integers(net, *xs)
    real = [d.dequantize(found[p], grids[p]) for p in ("input", "input0", "input1", "input2") if p in found]
    y = float_net(*map(as_tensor, real)).numpy()
    place = list(found)[-1]
    grid = grids[net.program(*(Aval(x.shape, x.dtype) for x in xs))[0].values[-1].grid]
    return int(np.abs(d.quantize(y, grid).astype(int) - found[place].astype(int)).max())


def write(net, path, array):
    cell = net.cells()[path]
    cell.write(as_tensor(np.broadcast_to(np.asarray(array, cell.dtype), cell.shape).copy()))
