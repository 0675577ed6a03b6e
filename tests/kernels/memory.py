"""Random integer layers, and many of them in one C program with exact memory (``exact``)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import shohin.kernels  # noqa: F401 (registers them)
from shohin.compiler import passes
from shohin.compiler.kernel import Machine
from shohin.compiler.lowering import lower
from shohin.core import dtypes, interp
from shohin.core.nest import KernelCall
from shohin.core.op import Aval
from shohin.core.tensor import Tensor, as_tensor
from shohin.core.trace import stage
from shohin.ops import kinds, math, qlinear, quant
from shohin.ops.narrow import pack_integers, widen
from shohin.ops.palette import depalettize, pack
from shohin.ops.sparse import TILE, extent
from shohin.ops.sparse import pack as pack_sparse
from tests.kernels.exact import Exact

Op = Callable[[Tensor], Tensor]
Layer = tuple[tuple[int, ...], Op, str]


def layer(rng: np.random.Generator) -> Layer:
    """A random layer, now and then of what a table gives."""
    shape, body, what = drawn(rng)
    if rng.random() < 0.8:
        return shape, body, what
    table = rng.integers(-128, 128, 256).astype(np.int8)
    return shape, lambda q: body(quant.lookup(q, as_tensor(table))), f"table, {what}"


def drawn(rng: np.random.Generator) -> Layer:
    """A convolution (plain, in groups, depthwise; palettized or not), a product, with the usual epilogue or another; or a pool."""
    pick = lambda *values: int(rng.choice(values))
    if rng.random() < 0.25:
        m, k, n = pick(1, 2, 5, 40), pick(1, 3, 16, 17, 70), pick(1, 3, 4, 5, 17, 66)
        w, what = weights(rng, (n, k))
        zero, close = pick(-128, 127, -3), epilogue(rng, (m, n), k)
        return (m, k), lambda q: close(qlinear.qmatmul(q, w(), zero=zero)), f"matmul {m} {k} {n} {what}"
    if rng.random() < 0.15:
        return pool(rng)
    groups, kh, kw = pick(1, 1, 1, 2, 3, 5), pick(1, 1, 2, 3, 5), pick(1, 1, 2, 3, 4)
    inside, each = pick(1, 1, 2, 3, 4, 7, 16, 17), pick(1, 1, 2, 3, 4, 5, 16, 23)
    if rng.random() < 0.3:
        groups, inside, each = pick(1, 2, 3, 15, 16, 17, 33, 64, 70), 1, 1
    stride, dilation = (pick(1, 1, 2, 3), pick(1, 1, 2, 3)), (pick(1, 1, 1, 2, 3), pick(1, 1, 1, 2))
    padding = tuple((pick(0, 0, 1, 2, 5), pick(0, 0, 1, 2, 5)) for _ in range(2))
    size = lambda k, d, pad, free: max(1, (k - 1) * d + free - (sum(pad) if rng.random() < 0.5 else 0))
    h, wide = (size(k, d, p, pick(1, 1, 2, 5, 9)) for k, d, p in zip((kh, kw), dilation, padding))
    shape = (pick(1, 1, 2), h, wide, groups * inside)
    out = tuple((n + sum(p) - (k - 1) * d - 1) // s + 1 for n, p, k, d, s in zip((h, wide), padding, (kh, kw), dilation, stride))
    if min(out) < 1:
        return drawn(rng)
    w, what = weights(rng, (groups * each, kh, kw, inside))
    zero, close = pick(-128, 127, 0, 3), epilogue(rng, (shape[0], *out, groups * each), kh * kw * inside)
    attrs: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return shape, lambda q: close(qlinear.qconv2d(q, w(), zero=zero, **attrs)), f"conv {shape} -> {groups * each} {kh}x{kw} {attrs} {what}"


def pool(rng: np.random.Generator) -> Layer:
    """A max pool, some windows of which may lie in the padding altogether."""
    pick = lambda *values: int(rng.choice(values))
    kernel, stride = (pick(1, 2, 3, 5), pick(1, 2, 3)), (pick(1, 2, 3), pick(1, 2, 3))
    padding = tuple((pick(0, 0, 1, 2, 6), pick(0, 0, 1, 2, 6)) for _ in range(2))
    shape = (pick(1, 2), *(max(1, k - sum(p) + pick(0, 1, 4)) for k, p in zip(kernel, padding)), pick(1, 3, 15, 16, 17, 40, 64))
    return shape, lambda q: interp.bind(kinds.get("max_pool2d"), [q], {"kernel": kernel, "stride": stride, "padding": padding})[0], f"max pool {shape} {kernel} {stride} {padding}"


def weights(rng: np.random.Generator, shape: tuple[int, ...]) -> tuple[Callable[[], Tensor], str]:
    bits = int(rng.integers(1, 7))
    if rng.random() < 0.4:
        group, dim = int(rng.choice([1, 2, shape[0]])), int(rng.choice([d for d in (1, 2, 4, 8) if shape[-1] % d == 0]))
        codes = pack(rng.integers(0, 2**bits, (shape[0], int(np.prod(shape[1:])) // dim)), bits)
        book = rng.integers(-127, 128, (-(-shape[0] // group), 2**bits * dim)).astype(np.int8)
        return lambda: depalettize(codes, book, shape=shape, bits=bits, group=group, dim=dim), f"palette {bits}x{dim}/{group}"
    if 1 < bits < 5 and rng.random() < 0.5:
        packed = pack_integers(rng.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), shape), bits)
        return lambda: widen(packed, shape=shape, bits=bits), f"narrow {bits}"
    w = rng.integers(-127, 128, shape).astype(np.int8)
    kind = int(rng.integers(0, 4))
    if kind < 2:  # without its zeros: single weights, or tiles
        block = ((1, 1), TILE)[kind]
        down, along = extent(shape, block)
        kept = rng.random((down, along)) < rng.uniform(0, 0.6)
        w = (w.reshape(len(w), -1) * np.kron(kept, np.ones(block, np.int8))[: len(w), : w[0].size]).reshape(shape).astype(np.int8)
        stored = pack_sparse(w, block)
        op = kinds.get(("densify", "densify_tiles")[kind])
        return lambda: interp.bind(op, [as_tensor(a) for a in stored], {"shape": shape, "block": block})[0], f"{op.name} {kept.mean():.2f}"
    return lambda: as_tensor(w), "dense"


def epilogue(rng: np.random.Generator, shape: tuple[int, ...], terms: int) -> Op:
    o = shape[-1]
    kind, z = rng.integers(0, 8), int(rng.choice([-128, 127, 0, 5]))
    q_b, M = rng.integers(-5000, 5000, o).astype(np.int32), (rng.uniform(-1, 1, o) / np.sqrt(terms) / 35).astype(np.float32)
    wide = rng.integers(-99, 99, shape).astype(np.int32)
    if kind == 0:
        return lambda acc: acc
    if kind == 1:
        return lambda acc: math.astype(math.minimum(math.maximum(acc + as_tensor(wide), -90), 100), dtypes.int8)
    return lambda acc: quant.requant(acc + as_tensor(q_b), as_tensor(M), z=z, lo=max(-128, min(z, 100)), hi=127)


class Batch:
    """``count`` layers of ``make`` in one C program; ``failures`` runs it and says which layers gave wrong bytes."""

    def __init__(self, seed: int, count: int, machine: Machine, make: Callable[[np.random.Generator], Layer] = layer) -> None:
        rng = np.random.default_rng(seed)
        self.layers = [make(rng) for _ in range(count)]
        self.kernels, self.exact = set[str](), Exact()
        for shape, body, _ in self.layers:
            graph = stage(lambda q, body=body: [body(q)], [Aval(shape, dtypes.int8)], ["q"]).graph
            program = lower(passes.optimize(graph), machine)
            self.kernels |= {s.kernel for s in program.steps if isinstance(s, KernelCall)}
            q = rng.integers(-128, 128, shape).astype(np.int8)
            self.exact.add(program, machine, [q], [body(as_tensor(q)).numpy()])

    def failures(self, folder: Path, *flags: str) -> list[str]:
        return [f"{self.layers[k][2]}: {what}" for k, what in self.exact.failures(folder, *flags).items()]
