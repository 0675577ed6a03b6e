"""Float32 kernels contract from numbers of entries of a codebook: the bits of dense weights, nothing read or written beyond a buffer."""

from __future__ import annotations

import shutil
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

import shohin.kernels  # noqa: F401 (registers them)
from shohin.compiler import passes
from shohin.compiler.kernel import GENERIC, KERNELS, Machine
from shohin.compiler.lowering import lower
from shohin.compiler.program import compile_program, machine
from shohin.core import dtypes
from shohin.core.graph import Graph
from shohin.core.nest import KernelCall, Program
from shohin.core.op import Aval
from shohin.core.tensor import as_tensor
from shohin.core.trace import stage
from shohin.ops import linear, math
from shohin.ops.palette import depalettize, pack
from shohin.targets.host import can_run
from tests.kernels.exact import Exact

CONVS = [  # h w i, o, kernel, stride, groups
    ((6, 7, 4), 16, 3, 1, 1), ((9, 5, 8), 40, 3, 2, 1), ((4, 4, 16), 72, 1, 1, 1), ((5, 5, 8), 3, 3, 1, 1), ((6, 6, 32), 64, 3, 1, 2),
    ((7, 7, 24), 24, 3, 1, 24), ((5, 6, 33), 33, 3, 2, 33), ((1, 1, 64), 100, 1, 1, 1), ((3, 3, 16), 17, 2, 1, 1),
]  # fmt: skip
PRODUCTS = [(1, 64, 10), (3, 40, 33), (70, 16, 96), (5, 8, 1)]  # m k n
FORMS = [(2, 1, 0), (4, 1, 0), (3, 1, 1), (1, 1, 5), (4, 2, 0), (6, 4, 7), (8, 8, 0)]  # bits, dim, channels a codebook


def draw(rng: np.random.Generator, w: tuple[int, ...], form: tuple[int, int, int]) -> tuple[object, np.ndarray]:
    bits, dim, group = form
    group = group or w[0]
    codes = pack(rng.integers(0, 2**bits, (w[0], int(np.prod(w[1:])) // dim)), bits)
    book = rng.normal(size=(-(-w[0] // group), 2**bits * dim)).astype(np.float32)
    made = lambda: depalettize(codes, book, shape=w, bits=bits, group=group, dim=dim)
    return made, made().numpy()


def programs(seed: int = 0) -> list[tuple[str, np.ndarray, Graph, Graph]]:
    """Of each layer and form the graph from numbers and the one of the same dense weights."""
    rng, found = np.random.default_rng(seed), []

    def add(name, shape, w, form, layer):  # type: ignore[no-untyped-def]
        made, dense = draw(rng, w, form)
        x = rng.normal(size=shape).astype(np.float32)
        graph = lambda get: passes.optimize(stage(lambda q: [math.maximum(layer(q, get()), 0.0)], [Aval(shape, dtypes.float32)], ["x"]).graph)
        found.append((f"{name} {shape} {w} {form}", x, graph(made), graph(lambda: as_tensor(dense))))

    for k, (size, o, kernel, stride, groups) in enumerate(CONVS):
        w = (o, kernel, kernel, size[-1] // groups)
        attrs = {"stride": stride, "padding": kernel // 2, "groups": groups}
        for form in (f for j, f in enumerate(FORMS) if w[-1] % f[1] == 0 and (j + k) % 3):
            add("conv", (1 + k % 2, *size), w, form, lambda q, v, attrs=attrs: linear.conv2d(q, v, **attrs))
    for k, (m, terms, n) in enumerate(PRODUCTS):
        for form in FORMS[k % 2 :: 2]:
            add("matmul", (m, terms), (n, terms), form, lambda q, v: linear.matmul(q, v, transpose_b=True))
    return found


def kernels(program: Program) -> set[str]:
    return {step.kernel for step in program.steps if isinstance(step, KernelCall)}


@pytest.mark.parametrize("name", ["v3", "vnni"])
def test_the_bits_are_those_of_dense_weights(name: str, tmp_path: Path) -> None:
    if not shutil.which("gcc") or not can_run(name):
        pytest.skip(f"no gcc for {name} here")
    level, flags = {"v3": ("v3", ("-march=x86-64-v3",)), "vnni": ("v4", ("-march=x86-64-v4", "-mavx512vnni"))}[name]
    m, exact, used, cases = machine(level, 1), Exact(), set[str](), programs()
    with mock.patch.dict(KERNELS, clear=True):  # the derived loops
        wanted = [compile_program(lower(dense, machine("v3", 1)), level="v3", threads=1)(x)[0].copy() for _, x, _, dense in cases[::3]]
    for (_, x, packed, _), want in zip(cases[::3], wanted, strict=True):
        program = lower(packed, m)
        used |= kernels(program)
        exact.add(program, m, [x], [want])
    assert used == {"conv2d_direct_f32", "conv2d_pointwise_f32", "conv2d_depthwise_f32", "matmul_f32"}
    assert {cases[3 * k][0]: what for k, what in exact.failures(tmp_path, *flags).items()} == {}


def test_here_they_are_the_bits_of_the_kernels_on_dense_weights() -> None:
    wide = machine("native", 2)
    for name, x, packed, dense in programs(1)[::4]:
        program = lower(packed, wide)
        assert kernels(program), name
        found, want = (compile_program(p, threads=2)(x)[0] for p in (program, lower(dense, wide)))
        np.testing.assert_array_equal(found, want, err_msg=name)


def test_constants_hold_numbers_and_codebooks_only() -> None:
    made, _ = draw(np.random.default_rng(0), (64, 3, 3, 32), (2, 1, 0))
    graph = stage(lambda q: [linear.conv2d(q, made(), padding=1)], [Aval((1, 8, 8, 32), dtypes.float32)], ["x"]).graph  # type: ignore[operator]
    program = lower(passes.optimize(graph), Machine(level="v3", vector_bytes=32, features=frozenset(), threads=1))
    (call,) = program.steps
    assert isinstance(call, KernelCall)
    blob = program.data[call.operands[2]]
    assert blob.dtype == np.uint8 and blob.size == 64 * 9 * 32 // 4 + 64
    assert not any(isinstance(s, KernelCall) for s in lower(passes.optimize(graph), GENERIC).steps)
