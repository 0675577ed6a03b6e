"""The shapes that the kernels are tested on: odd ones, and borders of every kind."""

from __future__ import annotations

import itertools

import numpy as np

from shohin.core import dtypes, loop
from tests.kernels.harness import MACHINES, Case, conv_case

ACC = loop.Name("acc", dtypes.float32)


def port(index: tuple[loop.Expr, ...]) -> loop.Expr:
    """``clip((acc + e0[index]) * e1[channel], -0.25, 6)``: a residual and a scale."""
    residual = loop.Load("e0", index, dtypes.float32)
    return loop.clip((ACC + residual) * loop.Load("e1", index[-1:], dtypes.float32), -0.25, 6.0)


OPS = ("conv2d", "conv2d_dx", "conv2d_dw")
# n, h, w, c, o, kernel, stride, padding, dilation, groups
CONVS = [
    (1, 1, 1, 1, 1, (1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
    (2, 9, 7, 13, 37, (1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
    (3, 14, 14, 16, 32, (1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
    (3, 13, 11, 16, 33, (1, 1), (2, 2), ((0, 0), (0, 0)), (1, 1), 1),
    (2, 7, 9, 8, 16, (1, 1), (3, 2), ((1, 0), (0, 2)), (1, 1), 1),
    (1, 28, 28, 1, 16, (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
    (3, 28, 28, 16, 16, (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
    (2, 14, 14, 32, 64, (3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1), 1),
    (7, 7, 7, 13, 37, (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
    (16, 5, 3, 4, 8, (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
    (40, 4, 4, 3, 20, (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
    (2, 49, 10, 1, 64, (10, 4), (2, 2), ((4, 5), (1, 2)), (1, 1), 1),
    (1, 97, 61, 3, 13, (5, 3), (2, 1), ((2, 0), (0, 3)), (1, 1), 1),
    (2, 15, 17, 5, 9, (7, 7), (1, 1), ((3, 3), (3, 3)), (1, 1), 1),
    (1, 15, 17, 5, 9, (7, 6), (3, 2), ((5, 1), (0, 4)), (1, 1), 1),
    (2, 19, 16, 6, 24, (3, 3), (1, 1), ((2, 2), (2, 2)), (2, 2), 1),
    (2, 19, 16, 6, 24, (3, 2), (2, 3), ((4, 0), (1, 2)), (2, 4), 1),
    (1, 20, 20, 9, 17, (2, 4), (4, 4), ((3, 1), (2, 0)), (2, 3), 1),
    (2, 9, 9, 12, 24, (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 3),
    (2, 9, 9, 32, 16, (3, 2), (2, 1), ((1, 1), (0, 1)), (1, 1), 4),
    (1, 1, 1, 40, 24, (1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
    (2, 1, 2, 16, 37, (1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
    (1, 6, 5, 3, 4, (2, 2), (3, 3), ((0, 0), (0, 0)), (1, 1), 1),
    (1, 6, 5, 3, 4, (6, 5), (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
    (2, 2, 2, 8, 16, (5, 5), (1, 1), ((2, 2), (2, 2)), (1, 1), 1),
    (1, 14, 14, 64, 64, (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 64),
    (3, 14, 14, 64, 64, (3, 3), (2, 2), ((0, 1), (0, 1)), (1, 1), 64),
    (2, 9, 11, 37, 37, (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 37),
    (7, 5, 6, 13, 13, (5, 5), (2, 2), ((2, 2), (2, 2)), (1, 1), 13),
    (2, 13, 9, 24, 24, (3, 2), (1, 2), ((2, 0), (1, 1)), (2, 3), 24),
    (1, 97, 61, 5, 5, (7, 1), (3, 1), ((3, 2), (0, 0)), (1, 1), 5),
    (40, 3, 4, 100, 100, (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 100),
]


def convs(level: str, ops: tuple[str, ...] = OPS) -> list[Case]:
    made = []
    for i, (shape, op) in enumerate(itertools.product(CONVS, ops)):
        n, h, w, c, o, kernel, stride, padding, dilation, groups = shape
        plain = conv_case(op, n, h, w, c, o, kernel, stride, padding, dilation, groups, machine=MACHINES[level])
        if op == "conv2d_dw" or i % 2:
            made.append(plain)
            continue
        channel = (loop.Var("g"),) if groups == c > 1 else (loop.Var("o"),)
        if 1 < groups < c:
            made.append(plain)
            continue
        made.append(
            conv_case(
                op,
                n,
                h,
                w,
                c,
                o,
                kernel,
                stride,
                padding,
                dilation,
                groups,
                machine=MACHINES[level],
                port=port((loop.Var("n"), loop.Var("h"), loop.Var("w"), *channel)),
                extra=(plain.result, (plain.result[-1],)),
            )
        )
    return made


def matmuls(level: str) -> list[Case]:
    made, m = [], MACHINES[level]
    for i, ((rows, n, k), ta, tb) in enumerate(
        itertools.product(
            [(1, 1, 1), (3, 5, 7), (14, 32, 16), (29, 37, 13), (100, 64, 300), (16, 16, 33), (200, 130, 70), (1, 100, 37), (3, 33, 64), (4, 16, 16), (33, 141, 50)],
            (False, True),
            (False, True),
        )
    ):
        shapes = ((k, rows) if ta else (rows, k), (n, k) if tb else (k, n))
        attrs = {"transpose_a": ta, "transpose_b": tb}
        epilogue = port((loop.Var("m"), loop.Var("n"))) if i % 2 else None
        made.append(Case("matmul", shapes, (rows, n), attrs, epilogue, ((rows, n), (n,)) if i % 2 else (), m))
    for sa, sb in [
        ((2, 3, 9, 8), (2, 3, 8, 17)),
        ((2, 3, 9, 8), (8, 17)),
        ((9, 8), (4, 8, 32)),
        ((2, 1, 9, 8), (1, 5, 8, 16)),
        ((3, 9, 8), (2, 1, 8, 5)),
        ((2, 70, 8, 3), (3, 64)),
    ]:
        result = (*np.broadcast_shapes(sa[:-2], sb[:-2]), sa[-2], sb[-1])
        index = tuple(loop.Var(f"_{j}") for j in range(len(result) - 3, -1, -1))
        made.append(
            Case(
                "matmul",
                (sa, sb),
                result,
                {"transpose_a": False, "transpose_b": False},
                port((*index, loop.Var("m"), loop.Var("n"))),
                (result, (result[-1],)),
                m,
            )
        )
    return made
