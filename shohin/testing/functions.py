"""How far the float functions of compiled programs (``compiler/mathlib``) lie from the truth, over sweeps of their arguments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from math import erf, inf
from typing import Any

import numpy as np

from shohin.compiler.mathlib import FUNCTIONS
from shohin.compiler.program import compile_program
from shohin.core import dtypes
from shohin.core.dtypes import DType
from shohin.core.loop import Bin, Cast, Const, Expr, Load, Un, Var, equal, maximum, minimum, not_equal, select
from shohin.core.nest import Buffer, Loop, Nest, Out, Program

Array = np.ndarray[Any, Any]
CHUNK = 1 << 18
"""Arguments that are looked at together."""
ALL = 1 << 32
"""All float32."""


@dataclass(frozen=True, kw_only=True)
class Stated:
    """The largest error of a function in ulp of the true result rounded, where |x| <= ``limit`` (everywhere)."""

    float32: float
    float64: float
    limit: tuple[float, float] = (inf, inf)


STATED = {
    "exp": Stated(float32=2, float64=2), "expm1": Stated(float32=2, float64=2), "log": Stated(float32=2, float64=2), "log1p": Stated(float32=2, float64=2),
    "sin": Stated(float32=3, float64=3, limit=(1e5, 8e5)), "cos": Stated(float32=3, float64=3, limit=(1e5, 8e5)),
    "tanh": Stated(float32=3, float64=3), "erf": Stated(float32=2, float64=2), "pow": Stated(float32=1, float64=2), "atan2": Stated(float32=3, float64=3),
}  # fmt: skip
"""By name; a test sweeps each."""
EDGES = (0.0, -0.0, 1e-45, -1e-45, inf, -inf, np.nan)


@lru_cache(maxsize=64)
def compiled(name: str, dtype: DType, count: int) -> Callable[..., Array]:
    """``name`` on arrays of ``count`` elements, as vectorized C."""
    operands = [f"x{k}" for k in range(len(FUNCTIONS[name](dtype)[0]))]
    i = Var("i")
    loads = [Load(x, (i,), dtype) for x in operands]
    nest = Nest((Loop("i", count),), (), (), (Out("y", (i,), (Un if len(loads) == 1 else Bin)(name, *loads)),), "sequence", name)  # type: ignore[arg-type]
    buffers = (*(Buffer(x, (count,), dtype, "input") for x in operands), Buffer("y", (count,), dtype, "output"))
    run = compile_program(Program(buffers, (nest,), {}), threads=1)
    return lambda *arrays: run(*arrays)[0]


def truth(name: str, *arguments: Array) -> Array:
    """NumPy's value in the next wider format. It has no ``erf``: of float32 it is ours in float64, of float64 Python's."""
    single = arguments[0].dtype == np.float32
    with np.errstate(all="ignore"):
        wide = [a.astype(np.float64 if single else np.longdouble) for a in arguments]
        if name == "erf":
            return compiled(name, dtypes.float64, wide[0].size)(*wide) if single else np.array([erf(x) for x in arguments[0]], np.longdouble)
        return getattr(np, {"pow": "power", "atan2": "arctan2"}.get(name, name))(*wide)


def distance(found: Array, true: Array) -> Array:
    """In ulp of the true value rounded; infinite where one is NaN, infinite or a zero of the other sign, and the other is not.

    >>> distance(np.float32([1, inf, 0]), np.float64([1 + 2**-24, 1e60, -1e-60])).tolist()
    [0.5, 0.0, inf]
    """
    with np.errstate(all="ignore"):
        rounded = true.astype(found.dtype)
        gap = np.abs((found - true) / np.spacing(rounded).astype(true.dtype))
    odd = np.flatnonzero(~np.isfinite(gap))
    f, r = found[odd], rounded[odd]
    gap[odd] = np.where((f == r) | (np.isnan(f) & np.isnan(r)), 0, inf)
    zero = np.flatnonzero((found == 0) & (rounded == 0))
    gap[zero[np.signbit(found[zero]) != np.signbit(rounded[zero])]] = inf
    return gap


def gap(name: str, x: Expr) -> Expr:
    """``distance`` of a float32 function from the same in float64, as an expression, so that all arguments are looked at in a minute."""
    f64, u32, u64 = dtypes.float64, dtypes.uint32, dtypes.uint64
    found, true = Un(name, x), Un(name, Cast(x, f64))
    rounded = Cast(true, dtypes.float32)
    bits = lambda v: Un("bitcast_u32", v)
    exponent = maximum((bits(rounded) >> Const(23, u32)) & Const(255, u32), Const(1, u32))
    size = Un("bitcast_f64", (Cast(exponent, u64) + Const(1023 - 150, u64)) << Const(52, u64))
    value = Cast(abs(Cast(found, f64) - true) / size, dtypes.float32)
    value = select(equal(value, value), value, inf)
    value = select(equal(bits(found), bits(rounded)), minimum(value, 0.5), value)  # both infinite
    value = select(equal(found, 0) & equal(rounded, 0) & not_equal(bits(found), bits(rounded)), inf, value)
    value = select(not_equal(found, found) & not_equal(rounded, rounded), 0, value)
    return select((abs(x) <= STATED[name].limit[0]) | equal(abs(x), inf), value, 0)


def pairs(dtype: DType, count: int = CHUNK, seed: int = 0) -> tuple[Array, Array]:
    """Arguments of a function of two: of all sizes and signs, some of like size, whole and half exponents, all pairs of edges."""
    rng, info = np.random.default_rng(seed), np.finfo(dtype)
    low, high = np.log2(float(info.smallest_subnormal)), np.log2(float(info.max))

    def wide(n: int) -> Array:
        return rng.choice([-1.0, 1.0], n) * np.exp2(rng.uniform(low, high - 1e-3, n))

    half = count // 2
    edges = np.array([*EDGES, 1, -1, 2, -2, 0.5, 3, info.max, -info.max, info.tiny])
    grid = np.array(np.meshgrid(edges, edges)).reshape(2, -1)
    x = np.concatenate([wide(half), rng.uniform(0.0, 4.0, count - half)])
    with np.errstate(over="ignore"):
        y = np.concatenate([wide(half // 2), x[half // 2 : half] * rng.uniform(0.5, 2, half - half // 2), np.rint(rng.uniform(-60, 60, count - half)) / rng.choice([1.0, 2.0, 1.7], count - half)])
        x, y = x.astype(dtype), y.astype(dtype)
    x[: grid.shape[1]], y[: grid.shape[1]] = grid.astype(dtype)
    return x, y


def spread(dtype: DType, count: int = CHUNK, seed: int = 0) -> Array:
    """Arguments of a function of one: a third of all sizes, a third in [-10, 10], a third in [-110, 90], and the edges."""
    x, _ = pairs(dtype, count, seed)
    rng, third = np.random.default_rng(seed + 1), count // 3
    x[third : 2 * third], x[2 * third :] = rng.uniform(-10, 10, third), rng.uniform(-110, 90, count - 2 * third)
    return x


@dataclass(frozen=True)
class Worst:
    """The largest distance in ulp, where it is, and how many arguments were looked at."""

    ulp: float
    at: tuple[float, ...]
    arguments: int

    def __or__(self, other: Worst) -> Worst:
        """Of both sweeps."""
        worse = other if other.ulp > self.ulp else self
        return Worst(worse.ulp, worse.at, self.arguments + other.arguments)


def worst(name: str, *arguments: Array, limit: float = inf) -> Worst:
    """The largest error of ``name`` on these arguments, those beyond ``limit`` left out (infinities are not).

    >>> worst("exp", np.linspace(-3, 3, 1 << 12).astype(np.float32)).ulp < 1.5
    True
    """
    found = compiled(name, np.dtype(arguments[0].dtype), arguments[0].size)(*arguments)
    gap = distance(found, truth(name, *arguments))
    if np.isfinite(limit):
        gap[(np.abs(arguments[0]) > limit) & np.isfinite(arguments[0])] = 0
    k = int(np.argmax(gap))
    return Worst(float(gap[k]), tuple(float(a[k]) for a in arguments), arguments[0].size)


def sweep(name: str, step: int = 1) -> Worst:
    """The largest float32 error over the arguments with bits 0, ``step``, 2 ``step`` ...; 1: over all that there are.

    The truth is the function in float64, whose own error is 2^-28 of an ulp of float32 (``STATED``).
    """
    i, found = Var("i"), Worst(0.0, (), 0)
    error = gap(name, Un("bitcast_f32", Load("x", (i,), dtypes.uint32)))
    buffers = (Buffer("x", (CHUNK,), dtypes.uint32, "input"), Buffer("y", (CHUNK,), dtypes.float32, "output"))
    nest = Nest((Loop("i", CHUNK),), (), (), (Out("y", (i,), error),), "sequence", name)
    program = compile_program(Program(buffers, (nest,), {}), threads=1)
    ticks = np.arange(CHUNK, dtype=np.uint64) * np.uint64(step)
    for first in range(0, ALL, CHUNK * step):
        x = (ticks + np.uint64(first)).astype(np.uint32)
        program.bind([x])
        (y,) = program.run()
        k = int(np.argmax(y))
        found |= Worst(float(y[k]), (float(x[k : k + 1].view(np.float32)[0]),), CHUNK)
    return found


__all__ = ["STATED", "Stated", "Worst", "compiled", "distance", "pairs", "spread", "sweep", "truth", "worst"]
