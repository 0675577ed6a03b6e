"""The printer that kernels use: scalars, lanes, merged axes, inside C text that this file compiles."""

from __future__ import annotations

import ctypes

import numpy as np

from shohin.compiler import ctext
from shohin.compiler.build import build
from shohin.compiler.cprint import CPrinter, Uniform
from shohin.compiler.program import compile_program
from shohin.core import dtypes, loop
from shohin.core.loop import Load, Name, Var
from shohin.core.nest import Buffer, KernelCall, Port, Program
from tests.kernels.harness import Case, conv_case

F32 = dtypes.float32
N, H, W, C = 2, 3, 5, 24
BUFFERS = {
    b.name: b
    for b in (
        Buffer("x", (N, H, W, C), F32, "input"),
        Buffer("s", (H, C), F32, "input"),
        Buffer("r", (C,), F32, "input"),
        Buffer("q", (N, C, H, W), F32, "input"),
        Buffer("y", (N, H, W, C), F32, "output"),
    )
}
MERGED = {"m": (("n", N), ("h", H), ("w", W))}


def run(body: str, printer: CPrinter, arrays: dict[str, np.ndarray]) -> None:
    text = (
        ctext.HEADER
        + ctext.render(printer.needs)
        + f"\nvoid go(void *const *b) {{ float *y = {printer.pointer('y')};\n{body}\n}}\n"
    )
    names = sorted(printer.slots, key=lambda n: printer.slots[n])
    b = (ctypes.c_void_p * len(names))(*[arrays[n].ctypes.data for n in names])
    ctypes.CDLL(str(build(text))).go(b)


def made() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        n: rng.standard_normal(b.shape).astype(F32) if n != "y" else np.zeros(b.shape, F32) for n, b in BUFFERS.items()
    }


def test_merged_axes_collapse_or_divide() -> None:
    n, h, w, c = (Var(v) for v in "nhwc")
    acc = Name("acc", F32)
    whole = Load("x", (n, h, w, c), F32)
    partly = Load("s", (h, c), F32)
    moved = Load("q", (n, c, h, w), F32)
    expr = loop.maximum(acc + whole * partly, Load("r", (c,), F32)) + moved + loop.exp(acc)
    arrays = made()
    acc_value = np.float32(0.75)
    printer = CPrinter(BUFFERS)
    text = printer.scalar(expr, {"c": "c", "acc": "acc"}, MERGED)
    assert "c + 24 * m" in text and "(m / 5) % 3" in text  # x collapses, s does not
    lanes = printer.lanes(expr, {"c": "c0", "acc": "v", "n": "n"}, "c", 8, MERGED)
    run(
        f"const float acc = 0.75f; for (long m = 0; m < {N * H * W}; ++m) "
        f"for (long c = 0; c < {C}; ++c) y[m * {C} + c] = {text};",
        printer,
        arrays,
    )
    first = arrays["y"].copy()
    arrays["y"][:] = 0
    run(
        f"const f32x8 v = sh_splat_f32x8(0.75f); for (long m = 0; m < {N * H * W}; ++m) "
        f"for (long c0 = 0; c0 < {C}; c0 += 8) *(f32x8_u *)&y[m * {C} + c0] = {lanes};",
        printer,
        arrays,
    )
    x, s, r, q = (arrays[k] for k in "xsrq")
    want = np.maximum(acc_value + x * s[None, :, None, :], r) + q.transpose(0, 2, 3, 1) + np.exp(acc_value)
    np.testing.assert_allclose(first, want, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(arrays["y"], first)


def test_predicated_lanes_read_nothing_outside() -> None:
    c, h = Var("c"), Var("h")
    uniform = Load("s", (h - 1, c), F32, (h - 1 >= 0) & (h - 1 < H), 3.0)
    by_lane = Load("r", (c - 4,), F32, (c - 4 >= 0) & (c - 4 < C), -1.0)
    printer = CPrinter(BUFFERS)
    expr = uniform + by_lane * Name("k", F32)
    lanes = printer.lanes(expr, {"h": "h", "c": "c + 0", "k": Uniform("0.5f")}, "c", 8)
    arrays = made()
    arrays["r"] = np.full(C, 2.0, F32)
    run(
        f"for (long h = 0; h < 5; ++h) for (long c = 0; c < {C}; c += 8) *(f32x8_u *)&y[h * {C} + c] = {lanes};",
        printer,
        arrays,
    )
    got = arrays["y"].reshape(-1, C)[:5]
    padded = np.full((5, C), 3.0, F32)
    padded[1:4] = arrays["s"]
    side = np.where(np.arange(C) - 4 >= 0, 2.0, -1.0).astype(F32)
    np.testing.assert_array_equal(got, padded + side * np.float32(0.5))


def test_vector_names() -> None:
    printer = CPrinter(BUFFERS)
    assert [printer.vector(t, w) for t, w in ((F32, 16), (dtypes.int8, 32), (dtypes.float16, 8))] == [
        "f32x16",
        "i8x32",
        "f32x8",
    ]
    assert "typedef float f32x16" in ctext.render(printer.needs)


def program_of(case: Case) -> Program:
    call = KernelCall(
        case.kernel.name,
        tuple(b.name for b in case.site.operands),
        ("y",),
        case.attrs,
        () if case.port is None else (Port("epilogue", case.port),),
        "kernel",
    )
    return Program(tuple(case.buffers), (call,), {})


def test_kernels_run_in_programs() -> None:
    """A kernel's port, printed by this printer, equals the same expression on the kernel's plain result."""
    shapes = [(3, 9, 7, 13, 37, (1, 1), 1), (2, 8, 8, 8, 24, (3, 3), 1), (2, 8, 8, 24, 24, (3, 3), 24)]
    rng = np.random.default_rng(5)
    for n, h, w, c, o, kernel, groups in shapes:
        padding = tuple(((k - 1) // 2, (k - 1) // 2) for k in kernel)
        args = dict(kernel=kernel, padding=padding, groups=groups)
        plain = conv_case("conv2d", n, h, w, c, o, **args)  # type: ignore[arg-type]
        axis = Var("g" if groups == c else "o")
        acc = Name("acc", F32)
        port = loop.clip(
            (acc + Load("e0", (Var("n"), Var("h"), Var("w"), axis), F32)) * Load("e1", (axis,), F32), 0.0, 6.0
        )
        case = conv_case("conv2d", n, h, w, c, o, port=port, extra=(plain.result, (o,)), **args)  # type: ignore[arg-type]
        arrays = [rng.standard_normal(b.shape).astype(F32) for b in case.buffers if b.role == "input"]
        base = compile_program(program_of(plain), threads=1)(*arrays[:2])[0]
        want = np.clip((base + arrays[2]) * arrays[3], np.float32(0), np.float32(6))
        for threads in (1, 2):
            np.testing.assert_array_equal(compile_program(program_of(case), threads=threads)(*arrays)[0], want)
