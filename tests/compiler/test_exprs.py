"""Each operation of the loop IR as C, in scalars and in lanes, against ``loop.evaluate``."""

from __future__ import annotations

import numpy as np
import pytest

from shohin.compiler.program import compile_program
from shohin.core import dtypes, loop
from shohin.core.dtypes import DType
from shohin.core.loop import Bin, Cast, Const, Expr, Fma, Load, Name, Requant, Un, Var, const
from shohin.core.nest import Acc, Buffer, Loop, Nest, Out, Program
from tests.compiler import mathcheck

F32, F64, F16, BF16 = dtypes.float32, dtypes.float64, dtypes.float16, dtypes.bfloat16
INTS = (
    dtypes.int8,
    dtypes.uint8,
    dtypes.int16,
    dtypes.uint16,
    dtypes.int32,
    dtypes.uint32,
    dtypes.int64,
    dtypes.uint64,
)
FLOATS = (F32, F64)
N = 83


def lowest(t: DType) -> loop.Number:
    return -np.inf if t in dtypes.FLOATING else False if t == dtypes.bool_ else int(np.iinfo(t).min)


class Bench:
    """Many expressions over shared inputs, compiled as one program: a map, and a fold whose lanes are the points."""

    def __init__(self, n: int = N):
        self.n = n
        self.arrays: dict[str, np.ndarray] = {}
        self.exprs: list[tuple[str, Expr]] = []

    def operand(self, array: np.ndarray) -> Load:
        name = f"x{len(self.arrays)}"
        self.arrays[name] = array
        return Load(name, (Var("i"),), np.dtype(array.dtype))

    def run(self, threads: int = 1) -> list[tuple[str, np.ndarray, np.ndarray]]:
        buffers = [Buffer(n, a.shape, np.dtype(a.dtype), "input") for n, a in self.arrays.items()]
        nests = []
        for k, (_, e) in enumerate(self.exprs):
            for side in "sv":
                buffers.append(Buffer(f"{side}{k}", (self.n,), e.dtype, "output"))
            free = (Loop("i", self.n),)
            acc = Acc(
                ("a",), "or" if e.dtype == dtypes.bool_ else "max", (Const(lowest(e.dtype), e.dtype),), (e,), (e.dtype,)
            )
            nests.append(Nest(free, (), (), (Out(f"s{k}", (Var("i"),), e),), "sequence", f"map {k}"))
            nests.append(
                Nest(free, (), (acc,), (Out(f"v{k}", (Var("i"),), Name("a", e.dtype)),), "sequence", f"lanes {k}")
            )
        outs = compile_program(Program(tuple(buffers), tuple(nests), {}), threads=threads)(*self.arrays.values())
        return [(text, a, b) for (text, _), a, b in zip(self.exprs, outs[::2], outs[1::2])]

    def value(self, e: Expr) -> np.ndarray:
        return np.asarray(loop.evaluate(e, {**self.arrays, "i": np.arange(self.n)}))


def check(bench: Bench) -> None:
    for (text, e), (_, scalar, vector) in zip(bench.exprs, bench.run()):
        want = bench.value(e)
        np.testing.assert_array_equal(scalar, want, err_msg=f"scalar {text}")
        np.testing.assert_array_equal(vector, want, err_msg=f"lanes {text}")
        if want.dtype.kind == "f":
            ok = ~np.isnan(want)
            np.testing.assert_array_equal(np.signbit(scalar)[ok], np.signbit(want)[ok], err_msg=f"scalar {text}")


def test_floats() -> None:
    rng = np.random.default_rng(1)
    bench = Bench()
    special = np.array([0, -0.0, 1, -1, 2.5, -2.5, 3.5, 0.5, -0.5, np.inf, -np.inf, np.nan, 1e30, 1e-40, 7])
    for t in FLOATS:
        a = np.concatenate([special, rng.standard_normal(N - 15) * 10]).astype(t)
        b = np.concatenate([rng.permutation(special), rng.standard_normal(N - 15) * 3]).astype(t)
        x, y = bench.operand(a), bench.operand(b)
        for op in ("add", "sub", "mul", "div", "mod", "floordiv", "max", "min", "eq", "ne", "lt", "le", "gt", "ge"):
            bench.exprs.append((f"{op} {t.name}", Bin(op, x, y)))
        for op in ("neg", "abs", "floor", "ceil", "trunc", "rint", "sqrt", "isnan", "isfinite"):
            bench.exprs.append((f"{op} {t.name}", Un(op, x)))
        bench.exprs.append((f"select {t.name}", loop.select((x > 0) & Un("not", loop.isnan(y)), x, y * 2)))
        bench.exprs.append((f"clip {t.name}", loop.clip(x, -1.5, y)))
    u = bench.operand(rng.standard_normal(N).astype(F32))
    bench.exprs += [("bits", Un("bitcast_u32", u)), ("and back", Un("bitcast_f32", Un("bitcast_u32", u) & 0x7FFFFFFF))]
    v, w = (bench.operand(rng.integers(-1000, 1000, N).astype(F32)) for _ in "ab")
    bench.exprs.append(("fma", Fma(v, w, u)))
    check(bench)


def test_integers() -> None:
    rng = np.random.default_rng(2)
    bench = Bench()
    for t in INTS:
        info = np.iinfo(t)
        edge = np.array([0, 1, info.max, info.min, info.max - 1, 3], dtype=t)
        a = np.concatenate([edge, edge[::-1], rng.integers(info.min, info.max, N - 12, dtype=t, endpoint=True)])
        b = np.concatenate([edge, edge, rng.integers(max(info.min, -9), 9, N - 12).astype(t)])
        x, y = bench.operand(a), bench.operand(b)
        for op in ("add", "sub", "mul", "mod", "floordiv", "max", "min", "and", "or", "xor", "eq", "lt", "ge"):
            bench.exprs.append((f"{op} {t.name}", Bin(op, x, y)))
        for op in ("neg", "abs", "invert"):
            bench.exprs.append((f"{op} {t.name}", Un(op, x)))
        bench.exprs.append((f"shl {t.name}", x << 3))
        bench.exprs.append((f"shr {t.name}", x >> 3))
        count = bench.operand((np.arange(N) % dtypes.bits(t)).astype(t))
        bench.exprs.append((f"shl by array {t.name}", Bin("shl", x, count)))
        bench.exprs.append((f"shr by array {t.name}", Bin("shr", x, count)))
        small = bench.operand((np.arange(N) % 5).astype(t))
        bench.exprs.append((f"pow {t.name}", Bin("pow", x, small)))
    u, v = (bench.operand(rng.integers(0, 2**32, N, dtype=np.uint64).astype(np.uint32)) for _ in "ab")
    bench.exprs.append(("mulhi", Bin("mulhi", u, v)))
    p, q = (bench.operand(rng.integers(0, 2, N).astype(bool)) for _ in "ab")
    for op in ("and", "or", "xor", "eq", "ne"):
        bench.exprs.append((f"{op} bool", Bin(op, p, q)))
    bench.exprs += [("not", Un("not", p)), ("select bool", loop.select(p, q, Un("not", q)))]
    i = Var("i")
    bench.exprs += [
        ("index", loop.cast(i, F32)),
        ("index arithmetic", (i - 40) % 7 + (i - 40) // 7),
        ("index compare", (i % 3) < 2),
    ]
    check(bench)


def test_casts() -> None:
    rng = np.random.default_rng(3)
    bench = Bench()
    floats = np.concatenate(
        [[0.5, 1.5, 2.5, -0.5, -1.5, 126.5, 127.5, -128.5, 0, 300, -300], rng.standard_normal(N - 11) * 60]
    )
    for t in FLOATS:
        x = bench.operand(floats.astype(t))
        for to in INTS:
            bench.exprs.append((f"{t.name} to {to.name} saturating", Cast(x, to, "even", True)))
            if to in dtypes.SIGNED and dtypes.bits(to) >= 16:
                bench.exprs.append((f"{t.name} to {to.name}", Cast(x, to)))
                bench.exprs.append((f"{t.name} to {to.name} even", Cast(x, to, "even")))
        bench.exprs.append((f"{t.name} to bool", Cast(x, dtypes.bool_)))
    bench.exprs.append(("f64 to f32", Cast(bench.operand(floats * 1.1), F32)))
    bench.exprs.append(("f32 to f64", Cast(bench.operand(floats.astype(F32)), F64)))
    for t in INTS:
        info = np.iinfo(t)
        x = bench.operand(
            np.concatenate(
                [np.array([0, info.max, info.min], t), rng.integers(info.min, info.max, N - 3, dtype=t, endpoint=True)]
            ).astype(t)
        )
        for to in (*INTS, F32, F64, dtypes.bool_):
            bench.exprs.append((f"{t.name} to {to.name}", Cast(x, to)))
        for to in (dtypes.int8, dtypes.uint8, dtypes.int32):
            if t not in (dtypes.int64, dtypes.uint64):
                bench.exprs.append((f"{t.name} to {to.name} saturating", Cast(x, to, "trunc", True)))
    p = bench.operand(rng.integers(0, 2, N).astype(bool))
    for to in (*INTS, F32, F64):
        bench.exprs.append((f"bool to {to.name}", Cast(p, to)))
    i32 = dtypes.int32
    acc = bench.operand(rng.integers(-(2**26), 2**26, N).astype(i32))
    scale = bench.operand((10.0 ** rng.uniform(-9, -4, N)).astype(F32))
    for to, z in ((dtypes.int8, -128), (dtypes.int8, 5), (i32, 0)):
        lo, hi = (-128, 127) if to == dtypes.int8 else (-32767, 32767)
        bench.exprs.append(
            (f"requant {to.name} {z}", Requant(acc, scale, const(z, i32), const(lo, i32), const(hi, i32), to))
        )
    check(bench)


def test_out_of_range_casts_are_defined() -> None:
    """NumPy leaves these to the machine; here they saturate, NaN gives the lower bound."""
    bench = Bench(6)
    x = bench.operand(np.array([np.nan, np.inf, -np.inf, 3e9, -3e9, 1e20], F32))
    for t in (dtypes.int8, dtypes.int32, dtypes.uint32, dtypes.int64):
        bench.exprs.append((t.name, Cast(x, t, "even", True)))
    for name, scalar, vector in bench.run():
        info = np.iinfo(name)
        want = [info.min, info.max, info.min, min(3 * 10**9, info.max), max(-3 * 10**9, info.min), info.max]
        np.testing.assert_array_equal(scalar, np.array(want, name))
        np.testing.assert_array_equal(vector, scalar)


def test_half_floats() -> None:
    """Load, store and cast of 16-bit floats: rounded once, half to even, denormals, overflow, NaN."""
    every = np.arange(65536, dtype=np.uint16)
    for t in (F16, BF16):
        halves = every.view(t)
        bench = Bench(65536)
        h = bench.operand(halves)
        rng = np.random.default_rng(4)
        wide = np.concatenate(
            [
                halves.astype(F32)[:32768],
                (halves.astype(np.float32).view(np.uint32) + rng.integers(0, 2**16, 65536, dtype=np.uint32)).view(F32)[
                    :32768
                ],
            ]
        )
        bench.exprs = [("load", Cast(h, F32)), ("round", Cast(bench.operand(wide), t)), ("sum", h + h)]
        results = bench.run()
        with np.errstate(all="ignore"):
            wants = [halves.astype(F32), wide.astype(t), (halves.astype(F32) * 2).astype(t)]
        for (name, scalar, vector), want in zip(results, wants):
            for got in (scalar, vector):
                nan = np.isnan(want.astype(F32))
                np.testing.assert_array_equal(np.isnan(got.astype(F32)), nan, err_msg=name)
                bits = np.uint16 if want.dtype == t else np.uint32
                np.testing.assert_array_equal(got.view(bits)[~nan], want.view(bits)[~nan], err_msg=f"{t.name} {name}")


LIMIT = {"sin": 3, "cos": 3, "tanh": 3, "expm1": 2, "atan2": 2}
UNARY = ("exp", "log", "expm1", "log1p", "sin", "cos", "tanh", "erf")


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_transcendental_functions(dtype: DType) -> None:
    """Within their stated error, edges right; C in scalars and lanes has the bits of the same steps in NumPy."""
    count = 20_000
    samples = {name: mathcheck.samples(name, dtype, count) for name in (*UNARY, "pow", "atan2")}
    n = min(len(s[0]) for s in samples.values())
    bench = Bench(n)
    for name, args in samples.items():
        operands = [bench.operand(a[:n]) for a in args]
        bench.exprs.append((name, Bin(name, *operands) if len(args) == 2 else Un(name, *operands)))
    for (name, scalar, vector), args in zip(bench.run(), samples.values()):
        steps = mathcheck.function(name, *(a[:n] for a in args))
        distance = mathcheck.ulps(name, steps, *(a[:n] for a in args))
        worst = int(np.argmax(distance))
        assert distance[worst] <= LIMIT.get(name, 2), f"{name} {[a[worst] for a in args]}: {steps[worst]}"
        np.testing.assert_array_equal(scalar, steps, err_msg=name)
        np.testing.assert_array_equal(vector, steps, err_msg=name)
