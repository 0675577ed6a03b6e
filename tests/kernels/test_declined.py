"""What a kernel declines is left to the derived loops, which give the right result; and it says why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

import shohin as sh
from shohin.compiler.kernel import GENERIC, KERNELS, Declined, Machine, Site, claim
from shohin.compiler.lowering import lower
from shohin.compiler.program import compile_program
from shohin.core import dtypes
from shohin.core.nest import Buffer, KernelCall, Program
from shohin.core.tensor import Tensor, as_tensor
from shohin.core.trace import stage
from shohin.deploy.profile import profile
from shohin.ops import linear, qlinear

WIDE = Machine(level="v3", vector_bytes=32, features=frozenset(), threads=1)


def program(f: Callable[..., Tensor], *arrays: np.ndarray, machine: Machine = WIDE) -> Program:
    return lower(stage(lambda *v: [f(*v)], [as_tensor(a).aval for a in arrays]).graph, machine)


def ones(*shape: int, dtype: str = "float32") -> np.ndarray:
    return np.random.default_rng(0).integers(-3, 4, shape).astype(dtype)


def conv(**attrs: object) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda x, w: linear.conv2d(x, w, **attrs)  # type: ignore[arg-type]


def matmul(**attrs: bool) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda a, b: linear.matmul(a, b, **attrs)


def integer(x: Tensor, w: Tensor) -> Tensor:
    return qlinear.qconv2d(x, w, zero=0, stride=(1, 1), padding=((0, 0), (0, 0)))


CASES = [
    (matmul(), (ones(3, 4, dtype="float64"), ones(4, 5, dtype="float64")), "matmul_vector_f32, matmul_f32: float64, it takes float32"),
    (matmul(), (ones(0, 4), ones(4, 5)), "matmul_vector_f32, matmul_f32: an operand or the result is empty"),
    (conv(groups=3), (ones(1, 5, 5, 6), ones(6, 3, 3, 2)), "conv2d_depthwise_f32: 3 groups, it takes one a channel of input and result; "
     "conv2d_direct_f32: 3 groups of 2 channels, it takes 4 or more in each; "
     "conv2d_vector_f32, conv2d_pointwise_f32: it takes one tap, stride 1, no padding, one group"),
    (integer, (ones(1, 4, 4, 3, dtype="int8"), ones(2, 3, 3, 3, dtype="int8")), "qconv2d_palette, qconv2d_depthwise_palette: the weights are computed, it takes packed (depalettize) ones; "
     "qconv2d_sparse: the weights are computed, it takes packed (densify) ones; qconv2d_tiles: the weights are computed, it takes packed (densify_tiles) ones; "
     "qconv2d_panels, qconv2d_columns, qconv2d_depthwise, qconv2d_dot: the weights are computed, it takes constant ones"),
    (lambda x: linear.max_pool2d(x, 2), (ones(1, 4, 4, 3),), "max_pool2d_int8: float32, it takes int8"),
]  # fmt: skip


@pytest.mark.parametrize(("f", "arrays", "why"), CASES, ids=["dtype", "empty", "groups", "weights", "pool"])
def test_the_loops_do_it_and_say_why(f: Callable[..., Tensor], arrays: tuple[np.ndarray, ...], why: str) -> None:
    made = program(f, *arrays)
    assert not [s for s in made.steps if isinstance(s, KernelCall)]
    assert sorted(one for said in made.declined.values() for one in said.split("; ")) == sorted(why.split("; "))
    (got,) = compile_program(made, threads=1)(*arrays)
    np.testing.assert_array_equal(got, f(*map(as_tensor, arrays)).numpy())


def test_a_target_without_vectors() -> None:
    made = program(matmul(transpose_b=True), ones(2, 32), ones(32, 32), machine=GENERIC)
    assert list(made.declined.values()) == ["matmul_vector_f32, matmul_f32: the target has no vectors"]
    assert not program(matmul(transpose_b=True), ones(2, 32), ones(32, 32)).declined  # the second that is asked takes it


def site(op: str, dtype: dtypes.DType, n: int) -> Site:
    """Some use of an op; windows are square, channels 8."""
    shapes = {"max_pool2d": [(n, 4, 4, 8)], "matmul": [(n, 8), (8, 8)], "qmatmul": [(n, 8), (8, 8)]}.get(op, [(n, 4, 4, 8), (8, 3, 3, 8)])
    result = (n, 8) if "matmul" in op else (n, 2, 2, 8)
    if op == "conv2d_dw":
        shapes, result = [(n, 4, 4, 8), (n, 2, 2, 8)], (8, 3, 3, 8)
    attrs = {"stride": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 1, "kernel": (3, 3), "transpose_a": False, "transpose_b": True, "zero": 0}
    call = KernelCall("", ("x", "w")[: len(shapes)], ("y",), attrs, (), op)
    operands = tuple(Buffer(name, s, dtype, "temp") for name, s in zip("xw", shapes))
    return Site(call=call, operands=operands, results=(Buffer("y", result, dtype, "temp"),), machine=WIDE)


@pytest.mark.parametrize("name", KERNELS)
def test_every_kernel_has_a_reason(name: str) -> None:
    kernel = KERNELS[name]
    home = dtypes.int8 if "float32" not in str(kernel.predicate(site(kernel.op, dtypes.int8, 2))) else dtypes.float32
    for declined in (site(kernel.op, dtypes.float64, 2), site(kernel.op, home, 0), site(kernel.op, dtypes.int32, 2)):
        verdict = kernel.predicate(declined)
        assert isinstance(verdict, Declined) and len(verdict.why) > 10
    assert kernel.name in str(claim(kernel.op, site(kernel.op, dtypes.float64, 2)))


def test_a_profile_shows_it() -> None:
    def f(x: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        y = sh.sin(x)
        return sh.maximum(linear.conv2d(y, w, groups=3), 0.0), y

    found = profile(sh.jit(f, threads=1), ones(1, 5, 5, 6), ones(6, 3, 3, 2), repeats=1)
    row = next(r for r in found.rows if "conv2d" in r.place)
    assert row.kernel == "" and "conv2d_direct_f32: 3 groups of 2 channels, it takes 4 or more in each" in row.why
    assert f"[{row.why}]" in str(found) and [r.why for r in found.rows if "sin" in r.place] == [""]
    assert found.by_kernel()["loops: conv2d"].why == row.why


def test_what_a_program_declined_survives_the_cache_and_the_copies() -> None:
    made = program(matmul(), ones(3, 4, dtype="float64"), ones(4, 5, dtype="float64"))
    assert compile_program(replace(made), threads=1).program.declined == made.declined
