"""Networks of one operator, and how to ask whether all ways to run them give the same integers."""

import numpy as np

import shohin as sh
from shohin import nn
from shohin.compress import Plan, Quantize, integers
from shohin.compress import definitions as d
from shohin.compress.lowering import lower
from shohin.compress.steps import places_of
from shohin.core.op import Aval
from shohin.core.tensor import as_tensor
from shohin.ops.control import run_numpy
from shohin.ops.quotient import divide_no_nan


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


def output(net, *xs):
    """The place of the first output, and the name of its grid."""
    program, _ = net.program(*(Aval(x.shape, x.dtype) for x in xs))
    return places_of(program)[program.outputs[0]], program.grid(program.outputs[0])


def worst(net, float_net, *xs):
    """The largest distance in steps from the float network at the quantized input, on the same grid of the result."""
    grids, found = net.grids(), integers(net, *xs)
    real = [d.dequantize(found[p], grids[p]) for p in ("input", "input0", "input1", "input2") if p in found]
    y = float_net(*map(as_tensor, real)).numpy()
    place, name = output(net, *xs)
    grid = grids[name]
    return int(np.abs(d.quantize(y, grid).astype(int) - found[place].astype(int)).max())


def write(net, path, array):
    cell = net.cells()[path]
    cell.write(as_tensor(np.broadcast_to(np.asarray(array, cell.dtype), cell.shape).copy()))


# ---------------------------------------------------------------------------------- one network an operator


def filled(net, rng, scale=1.0):
    """All parameters random."""
    for cell in net.parameters():
        cell.write(as_tensor((rng.normal(size=cell.shape) * scale).astype(np.float32)))
    return net


def _x(rng, *shape):
    return (rng.normal(size=shape) * 2).astype(np.float32)


MASK = np.random.default_rng(5).random((6, 7)) < 0.5
MASK[2] = False
NETS = {
    "softmax": lambda rng: (Of(lambda net, x: nn.softmax(x)), [_x(rng, 6, 5, 12)]),
    "softmax over rows": lambda rng: (Of(lambda net, x: nn.softmax(x, axis=1)), [_x(rng, 6, 9, 3)]),
    "layer norm": lambda rng: (filled(Of(lambda net, x: nn.relu(net.n(x)), n=nn.LayerNorm(12)), rng), [_x(rng, 6, 5, 12)]),
    "layer norm of two dims": lambda rng: (filled(Of(lambda net, x: net.n(x), n=nn.LayerNorm((5, 12), eps=0.0)), rng), [_x(rng, 6, 5, 12)]),
    "group norm": lambda rng: (filled(Of(lambda net, x: net.n(x), n=nn.GroupNorm(3, 12)), rng), [_x(rng, 6, 5, 12)]),
    "instance norm": lambda rng: (Of(lambda net, x: nn.group_norm(x, 4)), [_x(rng, 6, 3, 3, 4)]),
    "rms norm": lambda rng: (filled(Of(lambda net, x: net.n(x), n=nn.RMSNorm(12)), rng), [_x(rng, 6, 5, 12)]),
    "l2 norm": lambda rng: (Of(lambda net, x: nn.l2_norm(x)), [_x(rng, 6, 5, 12)]),
    "attention": lambda rng: (Of(lambda net, *a: nn.attention(*a)), [_x(rng, 4, 2, n, d) for n, d in ((6, 8), (7, 8), (7, 5))]),
    "causal attention": lambda rng: (Of(lambda net, *a: nn.attention(*a, causal=True, max_keys=900)), [_x(rng, 4, 2, n, d) for n, d in ((6, 8), (7, 8), (7, 5))]),
    "masked attention": lambda rng: (Of(lambda net, *a: nn.attention(*a, mask=MASK, causal=True, scale=0.7)), [_x(rng, 4, n, d) for n, d in ((6, 8), (7, 8), (7, 5))]),
    "gelu": lambda rng: (Of(lambda net, x: nn.gelu(x)), [_x(rng, 6, 40)]),
    "gelu tanh": lambda rng: (Of(lambda net, x: nn.gelu(x, approximate="tanh")), [_x(rng, 6, 40)]),
    "silu": lambda rng: (Of(lambda net, x: nn.silu(x)), [_x(rng, 6, 40)]),
    "resize": lambda rng: (Of(lambda net, x: nn.resize_bilinear(x, (9, 4))), [_x(rng, 4, 5, 7, 3)]),
    "resize to corners": lambda rng: (Of(lambda net, x: nn.resize_bilinear(x, (3, 11), align_corners=True)), [_x(rng, 4, 5, 7, 3)]),
    "gru": lambda rng: (filled(Of(lambda net, x: net.g(x)[0], g=nn.GRU(6, 8)), rng, 0.6), [_x(rng, 5, 7, 6)]),
    "gru both ways": lambda rng: (filled(Of(lambda net, x: net.g(x)[0], g=nn.GRU(6, 4, num_layers=2, bidirectional=True)), rng, 0.6), [_x(rng, 5, 4, 6)]),
    "gru with its state": lambda rng: (filled(Of(lambda net, x, h: net.g(x, h), g=nn.GRU(6, 8, bias=False)), rng, 0.6), [_x(rng, 1, 7, 6), rng.uniform(-1, 1, (1, 1, 8)).astype(np.float32)]),
    "gru that resets before": lambda rng: (filled(Of(lambda net, x: net.g(x)[0], g=nn.GRU(6, 8, reset_after=False, bidirectional=True)), rng, 0.6), [_x(rng, 5, 7, 6)]),
    "lstm": lambda rng: (filled(Of(lambda net, x: net.g(x)[0], g=nn.LSTM(6, 8)), rng, 0.6), [_x(rng, 5, 7, 6)]),
    "lstm both ways": lambda rng: (filled(Of(lambda net, x: net.g(x)[0], g=nn.LSTM(6, 4, num_layers=2, bidirectional=True)), rng, 0.6), [_x(rng, 5, 4, 6)]),
    "lstm with its state": lambda rng: (
        filled(Of(lambda net, x, h, c: net.g(x, (h, c)), g=nn.LSTM(6, 8)), rng, 0.6),
        [_x(rng, 1, 7, 6), rng.uniform(-1, 1, (1, 1, 8)).astype(np.float32), _x(rng, 1, 1, 8)],
    ),
    "softmax of a gru": lambda rng: (filled(Of(lambda net, x: nn.softmax(net.g(x)[0]), g=nn.GRU(6, 8)), rng, 0.6), [_x(rng, 5, 7, 6)]),
    "product": lambda rng: (Of(lambda net, a, b: nn.relu(sh.matmul(a, b))), [_x(rng, 4, 2, 6, 8), _x(rng, 4, 2, 8, 5)]),
    "quotient": lambda rng: (Of(lambda net, a, b: a / b), [_x(rng, 6, 5, 8), rng.uniform(0.5, 3, (6, 5, 1)).astype(np.float32)]),
    "quotient or 0": lambda rng: (Of(lambda net, a, b: divide_no_nan(a, b)), [_x(rng, 6, 5, 8), rng.integers(-2, 3, (6, 1, 8)).astype(np.float32)]),
    "transposed convolution": lambda rng: (
        filled(Of(lambda net, x: nn.relu(net.c(x)), c=nn.ConvTranspose2d(4, 6, (3, 2), stride=2, padding=1, output_padding=1, groups=2)), rng, 0.4),
        [_x(rng, 3, 5, 4, 4)],
    ),
    "positions": lambda rng: (filled(Of(lambda net, x: (x + net.p) * net.p - net.p, p=nn.Param(np.ones((5, 12), np.float32))), rng), [_x(rng, 6, 5, 12)]),
}  # fmt: skip


# ---------------------------------------------------------------------------------- and what breaks quantizers


def ordinary(net, rng):
    pass


def extreme_scales(net, rng):
    """Every free grid somewhere between 2^-40 and 2^40, with its zero point at an end."""
    for name in net.quantized.low:
        if net.quantized.bits.get(name, 8) == 8:
            write(net, f"quantized.scale.{name}", 2.0 ** rng.integers(-40, 41) * rng.choice([1, 1 + 2.0**-20]))
            write(net, f"quantized.zero.{name}", rng.choice([-128, 127, 3]))
        else:
            write(net, f"quantized.scale.{name}", 2.0 ** rng.integers(-14, 10))


def ties(net, rng):
    """Scales and weights that are powers of two or small integers: half of all results stand between two integers."""
    for name in net.quantized.low:
        if net.quantized.bits.get(name, 8) == 8:
            write(net, f"quantized.scale.{name}", 2.0 ** rng.integers(-6, -2))
            write(net, f"quantized.zero.{name}", rng.integers(-40, 40))
    for path, cell in net.cells(nn.Param).items():
        w = rng.integers(-9, 10, cell.shape).astype(np.float32)
        w.reshape(-1)[0] = 127
        write(net, path, w * 2.0**-7)


def zero_weights(net, rng):
    for path in net.cells(nn.Param):
        write(net, path, 0)


def huge_weights(net, rng):
    for path, cell in net.cells(nn.Param).items():
        write(net, path, rng.normal(size=cell.shape) * 2.0**30)


CASES = [ordinary, extreme_scales, ties, zero_weights, huge_weights]


def adversarial(net, xs, rng):
    """Inputs on their grids: as given, constant rows, the ends, alternating ends, one peak a row, ties of the first two."""
    grids = net.grids()
    program, _ = net.program(*(Aval(x.shape, x.dtype) for x in xs))
    entered = {s.inputs[0]: program.grid(s.output) for s in program.steps if s.kind == "entry"}
    found = []
    for x, value in zip(xs, program.inputs, strict=True):
        g = grids[entered[value]]
        low, high = g.limits
        q = d.quantize(x, g).astype(np.int64)
        kinds = [q, np.full_like(q, rng.integers(low, high + 1)), np.full_like(q, low), np.full_like(q, high),
                 np.where(np.arange(q.size).reshape(q.shape) % 2, low, high), np.where(np.arange(q.size).reshape(q.shape) % 7, low, high),
                 rng.integers(low, high + 1, q.shape)]  # fmt: skip
        found.append([((k - g.z) * np.float64(g.s)).astype(np.float32) for k in kinds])
    return list(zip(*found, strict=True))
