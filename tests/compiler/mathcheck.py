"""The transcendental functions in NumPy, step by step as the C does them, and their distance from the truth."""

from __future__ import annotations

import math

import numpy as np

from shohin.compiler import mathlib
from shohin.compiler.flat import Raw, parts, remake, rewrite
from shohin.compiler.lower import lower
from shohin.core import loop


def function(name: str, *args: np.ndarray) -> np.ndarray:
    """``mathlib``'s function on arrays."""
    dtype = np.dtype(args[0].dtype)
    params, body = mathlib.FUNCTIONS[name](dtype)
    while (new := rewrite(body, lower, {})) is not body:
        body = new
    env = {p.name: a for p, a in zip(params, args)}
    memo: dict[int, np.ndarray] = {}

    def value(e: loop.Expr) -> np.ndarray:
        if id(e) not in memo:
            if isinstance(e, loop.Un) and e.op in mathlib.FUNCTIONS:
                memo[id(e)] = function(e.op, np.asarray(value(e.a)))
            elif isinstance(e, Raw):
                memo[id(e)] = np.asarray(value(e.a)).astype(e.type)
            elif not parts(e):
                memo[id(e)] = np.asarray(loop.evaluate(e, env))
            else:
                names = tuple(loop.Name(f"v{i}", p.dtype) for i, p in enumerate(parts(e)))
                values = {n.name: np.asarray(value(p)) for n, p in zip(names, parts(e))}
                memo[id(e)] = np.asarray(loop.evaluate(remake(e, names), values))
        return memo[id(e)]

    with np.errstate(all="ignore"):
        return np.broadcast_to(value(body), args[0].shape)


_WIDE = {np.dtype(np.float32): np.float64, np.dtype(np.float64): np.longdouble}


def truth(name: str, *args: np.ndarray) -> np.ndarray:
    wide = _WIDE[args[0].dtype]
    xs = [a.astype(wide) for a in args]
    with np.errstate(all="ignore"):
        if name == "erf":
            return np.vectorize(math.erf, otypes=[np.float64])(args[0].astype(np.float64)).astype(wide)
        return getattr(np, {"pow": "power", "atan2": "arctan2"}.get(name, name))(*xs)


def ulps(name: str, got: np.ndarray, *args: np.ndarray) -> np.ndarray:
    """Distance in units of the last place of the truth; infinite where classes (nan, inf, sign of zero) differ."""
    want = truth(name, *args)
    dtype = got.dtype
    info = np.finfo(dtype)
    with np.errstate(all="ignore"):
        rounded = want.astype(dtype)
        size = np.maximum(np.abs(np.spacing(rounded)), info.smallest_subnormal).astype(want.dtype)
        distance = np.abs(got.astype(want.dtype) - want) / size
    same = (got == rounded) | (np.isnan(got) & np.isnan(rounded))
    zero = (rounded == 0) & (got == 0) & (np.signbit(got) != np.signbit(rounded))
    return np.where(
        zero, np.inf, np.where(same, 0, np.where(np.isfinite(got) & np.isfinite(rounded), distance, np.inf))
    )


def samples(name: str, dtype: np.dtype, count: int = 200_000) -> tuple[np.ndarray, ...]:
    """A sweep of each exponent and the interesting ranges, and the edges."""
    rng = np.random.default_rng(7)
    info = np.finfo(dtype)
    edges = np.array(
        [
            0,
            -0.0,
            1,
            -1,
            0.5,
            -0.5,
            2,
            np.inf,
            -np.inf,
            np.nan,
            info.max,
            -info.max,
            info.tiny,
            -info.tiny,
            info.smallest_subnormal,
            -info.smallest_subnormal,
            info.tiny / 4,
            88.72284,
            88.8,
            -87.4,
            -103.9,
            -104.1,
            709.8,
            -745.2,
            1e-8,
            0.84375,
            1.25,
            6,
        ],
        dtype=dtype,
    )
    span = {"sin": 4e4, "cos": 4e4}.get(name)

    def sweep() -> np.ndarray:
        uniform = rng.uniform(-10, 10, count // 2)
        exponents = rng.uniform(np.log2(float(info.tiny)), np.log2(float(info.max)) - 1e-3, count // 2)
        wide = rng.choice([-1, 1], count // 2) * np.exp2(exponents)
        if span:
            wide = rng.uniform(-span, span, count // 2)
        if name in ("exp", "expm1"):
            uniform = rng.uniform(-110, 90, count // 2) if dtype == np.float32 else rng.uniform(-750, 710, count // 2)
        return np.concatenate([uniform, wide]).astype(dtype)

    if name in ("pow", "atan2"):
        grid = np.array(np.meshgrid(edges, edges)).reshape(2, -1)
        xs, ys = sweep(), sweep()
        if name == "pow":
            xs = np.abs(xs)
            ys = np.concatenate(
                [rng.uniform(-20, 20, count - count // 2), np.rint(rng.uniform(-30, 30, count // 2))]
            ).astype(dtype)
        return np.concatenate([grid[0], xs]), np.concatenate([grid[1], ys])
    if span:
        edges = edges[(np.abs(edges) < span) | ~np.isfinite(edges)]
    return (np.concatenate([edges, sweep()]),)
