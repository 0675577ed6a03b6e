"""Kernels inside compiled programs: the same bits at every vector width and on any number of threads."""

from __future__ import annotations

import numpy as np

from shohin.compiler.program import compile_program
from shohin.core import dtypes, loop
from shohin.core.nest import Buffer, KernelCall, Port, Program
from shohin.targets.host import CPU
from tests.kernels.test_kernels import LEVELS, pytestmark  # noqa: F401 (skips this file too)

ACC = loop.Name("acc", dtypes.float32)
X, W, D, P, Y = (8, 15, 15, 16), (32, 3, 3, 16), (32, 3, 3, 1), (32, 1, 1, 32), (8, 8, 8, 32)


def program() -> Program:
    """A strided, a depthwise and a pointwise convolution with a residual, and two weight gradients."""
    pad, none = ((1, 1), (1, 1)), ((0, 0), (0, 0))
    relu = (Port("epilogue", loop.maximum(ACC, 0.0)),)
    residual = loop.Load("y1", tuple(loop.Var(a) for a in "nhwo"), dtypes.float32)

    def call(kernel: str, operands: str, result: str, stride: int, padding: object, groups: int, *ports: Port, **more):
        attrs = {"stride": (stride, stride), "padding": padding, "dilation": (1, 1), "groups": groups, **more}
        return KernelCall(kernel, tuple(operands.split()), (result,), attrs, ports, result)

    shapes = {"x": X, "w": W, "d": D, "p": P, "y1": Y, "y2": Y, "y3": Y, "gw": W, "gd": D}
    role = lambda n: "input" if n in "xwdp" else "temp" if n in ("y1", "y2") else "output"
    return Program(
        tuple(Buffer(n, s, dtypes.float32, role(n)) for n, s in shapes.items()),
        (
            call("conv2d_direct_f32", "x w", "y1", 2, pad, 1, *relu),
            call("conv2d_depthwise_f32", "y1 d", "y2", 1, pad, 32, *relu),
            call("conv2d_pointwise_f32", "y2 p", "y3", 1, none, 1, Port("epilogue", ACC + residual)),
            call("conv2d_dw_f32", "x y1", "gw", 2, pad, 1, shape=W),
            call("conv2d_dw_depthwise_f32", "y1 y2", "gd", 1, pad, 32, shape=D),
        ),
        {},
    )


def test_same_bits_on_all_levels_and_threads() -> None:
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal(s).astype(np.float32) for s in (X, W, D, P)]
    first: list[bytes] = []
    for level in [*LEVELS, "native"]:
        for threads in (1, 2):
            out = [np.asarray(a).tobytes() for a in compile_program(program(), level=level, threads=threads)(*inputs)]
            first = first or out
            assert out == first, f"{level}, {threads} threads, {CPU.model}"
