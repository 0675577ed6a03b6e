"""Calls carried out slice by slice give the bits of their inlined bodies; what looks across slices is inlined."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shohin as sh
from shohin import nn
from shohin.compiler import passes
from shohin.compiler.kernel import GENERIC
from shohin.compiler.library import emit_library
from shohin.compiler.lowering import lower
from shohin.compiler.program import compile_program, machine
from shohin.compiler.slices import sliced
from shohin.core.graph import Graph
from shohin.core.nest import KernelCall
from shohin.core.op import Quant
from shohin.core.trace import stage
from shohin.ops import composite, reduce
from shohin.ops.linear import matmul
from tests.compiler.test_library import STRICT, compile_c


def traced(f: Callable[..., Any], *arrays: np.ndarray) -> Graph:
    flat = lambda *xs: list(out) if isinstance(out := f(*xs), tuple) else [out]
    return stage(flat, [sh.asarray(a).aval for a in arrays]).graph


def run(graph: Graph, arrays: tuple[np.ndarray, ...], monkeypatch: pytest.MonkeyPatch | None = None, threads: int = 1, level: str = "native") -> tuple[list[np.ndarray], list[str]]:
    """The outputs, and the kernels; with ``monkeypatch`` all calls are inlined."""
    if monkeypatch is not None:
        with monkeypatch.context() as m:
            m.setattr(passes, "sliced", lambda node: None)
            best = passes.optimize(graph)
    else:
        best = passes.optimize(graph)
    program = lower(best, machine(level, threads))
    return [a.copy() for a in compile_program(program, level=level, threads=threads)(*arrays)], [s.kernel for s in program.steps if isinstance(s, KernelCall)]


def operands(lead: tuple[int, ...], t: int = 19, s: int = 23, d: int = 8) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(3)
    return tuple(rng.standard_normal((*lead, *e)).astype(np.float32) for e in ((t, d), (s, d), (s, d + 3)))


def gradients(causal: bool) -> Callable[..., Any]:
    loss = lambda q, k, v: (nn.functional.attention(q, k, v, causal=causal) ** 2).sum()
    return lambda q, k, v: sh.grad(loss, argnums=(0, 1, 2))(q, k, v)


@pytest.mark.parametrize("level", ["native", "v3"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("threads", [1, 3])
def test_attention_and_its_gradients_are_those_of_the_body(causal: bool, threads: int, level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = operands((2, 5))
    for f, calls in ((lambda q, k, v: nn.functional.attention(q, k, v, causal=causal), 1), (gradients(causal), 2)):
        graph = traced(f, *arrays)
        found, kernels = run(graph, arrays, threads=threads, level=level)
        expected, plain = run(graph, arrays, monkeypatch, threads=threads, level=level)
        assert kernels.count("slices") == calls and "slices" not in plain
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("shape", "by_slices"), [((19, 23), True), ((1, 1, 19, 23), True), ((2, 5, 19, 23), True), ((2, 1, 19, 23), False)])
def test_masks(shape: tuple[int, ...], by_slices: bool) -> None:
    arrays = operands((2, 5))
    mask = np.random.default_rng(1).random(shape) < 0.7
    graph = traced(nn.functional.attention, *arrays, mask)
    found, kernels = run(graph, (*arrays, mask))
    assert ("slices" in kernels) == by_slices
    np.testing.assert_allclose(found[0], np.asarray(nn.functional.attention(*arrays, mask)), rtol=2e-5, atol=2e-6)


def test_one_slice_is_inlined() -> None:
    for lead in ((), (1, 1)):
        assert "slices" not in run(traced(nn.functional.attention, *operands(lead)), operands(lead))[1]


def test_a_shared_key_has_a_gradient_that_crosses() -> None:
    q, k, v = operands((4,))
    found, kernels = run(traced(gradients(False), q, k[0], v[0]), (q, k[0], v[0]))
    assert kernels.count("slices") < 2
    for a, b in zip(found, gradients(False)(q, k[0], v[0]), strict=True):
        np.testing.assert_allclose(a, np.asarray(b), rtol=1e-4, atol=1e-5)


def test_what_looks_across_slices_is_refused() -> None:
    crossing = composite.composite("crossing", quant=Quant.refuse("a test"), source="none", slices=1)(lambda x: x - reduce.sum(x, axis=0, keepdims=True))
    apart = composite.composite("apart", quant=Quant.refuse("a test"), source="none", slices=1)(lambda x: x - reduce.sum(x, axis=1, keepdims=True))
    x = np.ones((4, 3), np.float32)
    try:
        nodes = [next(n for n in traced(f, x).nodes if n.op.kind == "call") for f in (crossing, apart)]
        assert sliced(nodes[0]) is None and sliced(nodes[1]) is not None
    finally:
        for name in ("crossing", "apart"):
            del composite.COMPOSITES[name]


def test_exported_c(tmp_path: Path) -> None:
    """Plain C of a device: the same numbers, and an arena that holds the scores of one head."""
    arrays = operands((2, 3), 64, 64)
    program = lower(passes.optimize(traced(nn.functional.attention, *arrays)), GENERIC)
    text = emit_library(program, "net")
    arena = int(text.split("net_ARENA_BYTES ")[1].split()[0])
    assert 64 * 64 * 4 <= arena < 3 * 64 * 64 * 4
    cc = (sys.executable, "-m", "ziglang", "cc", *STRICT, "-shared", "-fPIC", "-nostdlib", "-fno-sanitize=undefined", "-mcpu=x86_64")
    library = ctypes.CDLL(str(compile_c(text, tmp_path, *cc)))
    out, space = np.zeros((2, 3, 64, 11), np.float32), np.zeros(arena + 64, np.uint8)
    library.net_run(*[ctypes.c_void_p(a.ctypes.data) for a in (*arrays, out)], ctypes.c_void_p(-(-space.ctypes.data // 64) * 64))
    np.testing.assert_allclose(out, np.asarray(nn.functional.attention(*arrays)), rtol=2e-5, atol=2e-6)


def test_a_product_by_itself_is_no_call() -> None:
    assert sliced(traced(lambda a, b: matmul(a, b), np.ones((2, 2, 2), np.float32), np.ones((2, 2, 2), np.float32)).nodes[0]) is None
