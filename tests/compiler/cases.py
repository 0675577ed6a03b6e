"""Nests for the backend's tests: every order and combiner at sizes that leave tails, in one program."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from shohin.core import dtypes, loop
from shohin.core.loop import Expr, Load, Name, Var, cast, const, select
from shohin.core.nest import Acc, Buffer, Loop, Nest, Out, Program, evaluate

F32, F64, I32, I8, BOOL = dtypes.float32, dtypes.float64, dtypes.int32, dtypes.int8, dtypes.bool_


class Cases:
    """Collects nests with buffers of their own; ``check`` runs the oracle."""

    def __init__(self, seed: int = 0):
        self.rng = np.random.default_rng(seed)
        self.buffers: list[Buffer] = []
        self.nests: list[Nest] = []
        self.inputs: list[np.ndarray] = []

    def input(self, *shape: int, dtype: np.dtype = F32, values: np.ndarray | None = None) -> str:
        name = f"x{len(self.inputs)}"
        self.buffers.append(Buffer(name, shape, dtype, "input"))
        if values is None:
            values = {"bool": self.rng.integers(0, 2, shape), "int": self.rng.integers(-100, 100, shape)}.get(
                dtypes.kind(dtype), self.rng.standard_normal(shape)
            )
        self.inputs.append(np.asarray(values).astype(dtype).reshape(shape))
        return name

    def output(self, *shape: int, dtype: np.dtype = F32, alias: str | None = None) -> str:
        name = f"y{len(self.buffers)}"
        self.buffers.append(Buffer(name, shape, dtype, "output", alias))
        return name

    def load(self, buffer: str, *index: Expr | str, pred: Expr | None = None, pad: float | None = None) -> Load:
        dtype = next(b.dtype for b in self.buffers if b.name == buffer)
        return Load(buffer, tuple(Var(i) if isinstance(i, str) else i for i in index), dtype, pred, pad)

    def nest(
        self,
        free: Mapping[str, int],
        red: Mapping[str, int],
        accs: tuple[Acc, ...],
        outs: list[tuple[str, tuple, Expr]],
        order: str = "sequence",
        accumulate: str | None = None,
    ) -> None:
        loops = lambda d: tuple(Loop(n, e) for n, e in d.items())
        stores = tuple(
            Out(b, tuple(Var(i) if isinstance(i, str) else i for i in index), v, accumulate) for b, index, v in outs
        )
        self.nests.append(Nest(loops(free), loops(red), accs, stores, order, f"case {len(self.nests)}"))

    def program(self) -> Program:
        return Program(tuple(self.buffers), tuple(self.nests), {})

    def expected(self) -> list[np.ndarray]:
        env = {b.name: np.zeros(b.shape, b.dtype) for b in self.buffers}
        for b, array in zip((b for b in self.buffers if b.role == "input"), self.inputs):
            env[b.name] = array.copy()
        for nest in self.nests:
            evaluate(nest, env)
        return [env[b.name] for b in self.buffers if b.role == "output"]


IDENTITY = {"add": 0, "mul": 1, "max": -np.inf, "min": np.inf, "fma": 0, "or": 0, "and": 1}


def acc(name: str, combiner: str, dtype: np.dtype, *terms: Expr) -> Acc:
    start = IDENTITY[combiner]
    if dtypes.kind(dtype) == "int" and not np.isfinite(start):
        start = np.iinfo(dtype).min if start < 0 else np.iinfo(dtype).max
    return Acc((name,), combiner, (const(start, dtype),), terms, (dtype,))


LAYOUTS: dict[str, tuple[dict[str, int], dict[str, int], str]] = {
    # name: free, reduced, index order of x
    "rows": ({"n": 3, "m": 5}, {"k": 37}, "nmk"),
    "short rows": ({"n": 7}, {"k": 10}, "nk"),
    "row": ({}, {"k": 67}, "k"),
    "columns": ({"c": 24}, {"n": 3, "h": 5, "w": 7}, "nhwc"),
    "few columns": ({"c": 3}, {"n": 2, "h": 9, "w": 11}, "nhwc"),
    "wide columns": ({"c": 131}, {"n": 5, "h": 3}, "nhc"),
    "many blocks": ({"c": 5}, {"n": 700}, "nc"),
    "all": ({}, {"n": 9, "h": 7, "w": 50}, "nhw"),
    "middle": ({"n": 2, "c": 9}, {"h": 6, "w": 4}, "nhwc"),
    "apart": ({"h": 4, "c": 6}, {"n": 3, "w": 17}, "nhwc"),
    "strided": ({"a": 6}, {"k": 40}, "ka"),
    "one": ({"a": 1, "b": 5}, {"k": 1, "j": 20}, "abkj"),
}


def reductions(orders: tuple[str, ...] = ("sequence", "lanes16", "chunks8")) -> Cases:
    cases = Cases(3)
    kinds = [
        ("add", F32),
        ("fma", F32),
        ("max", F32),
        ("min", F32),
        ("mul", F32),
        ("add", I32),
        ("max", I32),
        ("or", BOOL),
        ("and", BOOL),
        ("add", F64),
    ]
    for li, (_, (free, red, index)) in enumerate(LAYOUTS.items()):
        extents = {**free, **red}
        shape = tuple(extents[i] for i in index)
        for oi, order in enumerate(orders):
            for ki, (combiner, dtype) in enumerate(kinds):
                if ki > 1 and (li + oi + ki) % 3:
                    continue  # every pair somewhere
                x = cases.input(*shape, dtype=dtype, values=_values(cases, shape, combiner, dtype))
                term = cases.load(x, *index)
                terms: tuple[Expr, ...] = (term,)
                if combiner == "fma":
                    w = cases.input(*shape, dtype=dtype)
                    terms = (term, cases.load(w, *index))
                y = cases.output(*free.values(), dtype=dtype)
                value: Expr = Name("s", dtype)
                if dtype == F32 and combiner == "add":
                    value = value * 0.5 + 1.0
                cases.nest(free, red, (acc("s", combiner, dtype, *terms),), [(y, tuple(free), value)], order)
    return cases


def _values(cases: Cases, shape: tuple[int, ...], combiner: str, dtype: np.dtype) -> np.ndarray:
    if dtype == BOOL:
        return cases.rng.random(shape) < (0.05 if combiner == "or" else 0.95)
    if dtype == I32:
        return cases.rng.integers(-(2**31), 2**31, shape)
    values = cases.rng.standard_normal(shape)
    if combiner == "mul":
        values = 1 + 0.1 * values
    if combiner in ("max", "min"):
        values[cases.rng.random(shape) < 0.01] = np.nan
    return values


def several() -> Cases:
    """Two accumulators in one nest, argmax, reductions in other dtypes, with loads in init and in the output."""
    cases = Cases(5)
    x = cases.input(4, 5, 6, 20)
    for order in ("sequence", "chunks8"):
        y, z = cases.output(20), cases.output(20)
        t = cases.load(x, *"nhwc")
        cases.nest(
            {"c": 20},
            {"n": 4, "h": 5, "w": 6},
            (acc("a", "add", F32, t), acc("b", "fma", F32, t, t)),
            [(y, ("c",), Name("a", F32)), (z, ("c",), Name("b", F32) - Name("a", F32))],
            order,
        )
    values = cases.rng.integers(-5, 5, (3, 9, 21)).astype(np.float32)
    values[1, 2, 3] = np.nan
    w = cases.input(3, 9, 21, values=values)
    for over, keep in (("j", "c"), ("c", "j")):
        extents = {"j": 9, "c": 21}
        for order in ("sequence", "lanes16"):
            best, at = cases.output(3, extents[keep]), cases.output(3, extents[keep], dtype=I32)
            pair = Acc(
                ("v", "i"), "max", (const(-np.inf, F32), const(0, I32)), (cases.load(w, *"njc"), Var(over)), (F32, I32)
            )
            cases.nest(
                {"n": 3, keep: extents[keep]},
                {over: extents[over]},
                (pair,),
                [(best, ("n", keep), Name("v", F32)), (at, ("n", keep), Name("i", I32))],
                order,
            )
    a, b = cases.input(7, 33, dtype=I8), cases.input(18, 33, dtype=I8)
    out = cases.output(7, 18, dtype=I8)
    product = acc("s", "fma", I32, cast(cases.load(a, *"mk"), I32), cast(cases.load(b, *"nk"), I32))
    q = loop.Requant(Name("s", I32), const(0.003, F32), const(3, I32), const(-128, I32), const(127, I32), I8)
    cases.nest({"m": 7, "n": 18}, {"k": 33}, (product,), [(out, ("m", "n"), q)])
    f, g, bias = cases.input(9, 35), cases.input(35, 40), cases.input(40)
    dense = cases.output(9, 40)
    start = Acc(("s",), "fma", (cases.load(bias, "n"),), (cases.load(f, *"mk"), cases.load(g, *"kn")), (F32,))
    cases.nest({"m": 9, "n": 40}, {"k": 35}, (start,), [(dense, ("m", "n"), loop.maximum(Name("s", F32), 0.0))])
    rows = cases.output(9, 40)
    transposed = cases.input(40, 35)
    cases.nest(
        {"m": 9, "n": 40},
        {"k": 35},
        (acc("s", "fma", F32, cases.load(f, *"mk"), cases.load(transposed, *"nk")),),
        [(rows, ("m", "n"), Name("s", F32) + cases.load(bias, "n"))],
        "lanes16",
    )
    empty = cases.output(6)
    nothing = cases.input(6, 0)
    cases.nest(
        {"i": 6}, {"k": 0}, (acc("s", "add", F32, cases.load(nothing, *"ik")),), [(empty, ("i",), Name("s", F32))]
    )
    return cases


def moments() -> Cases:
    """Mean and m2 of every layout, in both schedules of ``chunks8``, beside a plain sum, far from zero."""
    cases = Cases(17)
    wide = {"results": ({"c": 2051}, {"n": 75}, "nc"), "short chunks": ({"c": 33}, {"n": 65}, "nc"), "uneven": ({"c": 17}, {"n": 9, "h": 31}, "nhc")}
    for li, (free, red, index) in enumerate((*LAYOUTS.values(), *wide.values())):
        extents = {**free, **red}
        shape = tuple(extents[i] for i in index)
        dtype = F32
        x = cases.input(*shape, values=cases.rng.standard_normal(shape) + 10 * (li % 3))
        term = cases.load(x, *index) * 0.5
        pair = Acc(("mean", "m2"), "moments", (const(0, dtype), const(0, dtype)), (term,), (dtype, dtype))
        outs = [(cases.output(*free.values(), dtype=dtype), tuple(free), Name(n, dtype)) for n in ("mean", "m2")]
        accs: tuple[Acc, ...] = (pair,)
        if li % 2:
            accs = (acc("s", "add", dtype, term), pair)
            outs.append((cases.output(*free.values(), dtype=dtype), tuple(free), Name("s", dtype)))
        cases.nest(free, red, accs, outs, "chunks8")
    return cases


def windows() -> Cases:
    """Predicated loads: padding on uniform and on vector axes, strided windows, inverse windows."""
    cases = Cases(9)
    n, size, channels = 2, 7, 18
    x = cases.input(n, size, size, channels)
    h, w, kh, kw = (Var(v) for v in ("h", "w", "kh", "kw"))
    for stride, kernel, pad in ((1, 3, 1), (2, 3, 1)):
        extent = (size + 2 * pad - kernel) // stride + 1
        at_h, at_w = h * stride + kh - pad, w * stride + kw - pad
        inside = (at_h >= 0) & (at_h < size) & (at_w >= 0) & (at_w < size)
        weights = cases.input(kernel, kernel, channels)
        y = cases.output(n, extent, extent, channels)
        free = {"n": n, "h": extent, "w": extent, "c": channels}
        red = {"kh": kernel, "kw": kernel}
        tap = cases.load(x, "n", at_h, at_w, "c", pred=inside, pad=0.0)
        cases.nest(
            free,
            red,
            (acc("s", "fma", F32, tap, cases.load(weights, "kh", "kw", "c")),),
            [(y, tuple(free), Name("s", F32))],
        )
        z = cases.output(n, extent, extent, channels)
        tap = cases.load(x, "n", at_h, at_w, "c", pred=inside, pad=-np.inf)
        cases.nest(free, red, (acc("s", "max", F32, tap),), [(z, tuple(free), Name("s", F32))])
    i, j = Var("i"), Var("j")
    p = cases.output(9, 25)  # pad on both axes: the predicate is the vector's
    q = cases.input(5, 20)
    inside = (i >= 2) & (i < 7) & (j >= 3) & (j < 23)
    cases.nest({"i": 9, "j": 25}, {}, (), [(p, ("i", "j"), cases.load(q, i - 2, j - 3, pred=inside, pad=7.5))])
    s = cases.output(25)
    cases.nest(
        {"j": 25},
        {"i": 9},
        (acc("s", "add", F32, cases.load(q, i - 2, j - 3, pred=inside, pad=0.25)),),
        [(s, ("j",), Name("s", F32))],
    )
    r = cases.output(9)
    cases.nest(
        {"i": 9},
        {"j": 25},
        (acc("s", "add", F32, cases.load(q, i - 2, j - 3, pred=inside, pad=0.25)),),
        [(r, ("i",), Name("s", F32))],
        "lanes16",
    )
    inverse = cases.output(11)  # the transpose of a stride of 3
    k = Var("k")
    source = cases.input(4, values=np.arange(4))
    taken = (i - k >= 0) & loop.equal((i - k) % 3, 0) & ((i - k) // 3 < 4)
    cases.nest(
        {"i": 11},
        {"k": 2},
        (acc("s", "add", F32, cases.load(source, (i - k) // 3, pred=taken, pad=0.0)),),
        [(inverse, ("i",), Name("s", F32))],
    )
    return cases


def movements() -> Cases:
    """Transposes, broadcasts, gathers, slices, scatters, scalars, several outputs, reversed axes."""
    cases = Cases(11)
    i, j = Var("i"), Var("j")
    x = cases.input(5, 37, 41)
    cases.nest({"a": 5, "c": 41, "b": 37}, {}, (), [(cases.output(5, 41, 37), tuple("acb"), cases.load(x, *"abc"))])
    cases.nest({"c": 41, "b": 37, "a": 5}, {}, (), [(cases.output(41, 37, 5), tuple("cba"), cases.load(x, *"abc"))])
    cases.nest(
        {"b": 37, "a": 5}, {}, (), [(cases.output(5, 37), tuple("ab"), cases.load(x, "a", "b", loop.const(3, I32)))]
    )
    v = cases.input(41)
    cases.nest(
        {"a": 5, "b": 37, "c": 41},
        {},
        (),
        [(cases.output(5, 37, 41), tuple("abc"), cases.load(x, *"abc") * cases.load(v, "c"))],
    )
    cases.nest(
        {"a": 5, "b": 37, "c": 41},
        {},
        (),
        [(cases.output(5, 37, 41), tuple("abc"), cases.load(x, "a", "b", loop.const(40, I32) - Var("c")))],
    )
    index = cases.input(13, dtype=I32, values=cases.rng.integers(0, 41, 13))
    cases.nest(
        {"a": 5, "i": 13},
        {},
        (),
        [(cases.output(5, 13), tuple("ai"), cases.load(x, "a", loop.const(2, I32), cases.load(index, "i")))],
    )
    table = cases.input(41, 6)
    cases.nest(
        {"i": 13, "d": 6}, {}, (), [(cases.output(13, 6), tuple("id"), cases.load(table, cases.load(index, "i"), "d"))]
    )
    scatter = cases.output(41, 6)
    cases.nest({"r": 41, "d": 6}, {}, (), [(scatter, ("r", "d"), const(0, F32))])
    grads = cases.input(13, 6)
    cases.nest(
        {"i": 13, "d": 6},
        {},
        (),
        [(scatter, (cases.load(index, "i"), Var("d")), cases.load(grads, *"id"))],
        accumulate="add",
    )
    cases.nest({}, {}, (), [(cases.output(), (), const(2.5, F32))])
    cases.nest({"i": 40}, {}, (), [(cases.output(20), (i // 2,), cast(i, F32))])
    cases.nest(
        {"i": 7, "j": 11},
        {},
        (),
        [
            (cases.output(7, 11), ("i", "j"), cast(i * 11 + j, F32) / 3.0),
            (cases.output(7, 11), ("i", "j"), cast(j % 4, F32)),
        ],
    )
    flat = cases.output(77)
    cases.nest({"i": 7, "j": 11}, {}, (), [(flat, (i * 11 + j,), select(i < j, cast(i, F32), -1.0))])
    return cases


def larger() -> Cases:
    """Enough work for several pieces; compared between thread counts and levels, and with NumPy."""
    cases = Cases(13)
    shape = (16, 14, 14, 24)
    x, scale = cases.input(*shape), cases.input(24)
    free = dict(zip("nhwc", shape))
    t = cases.load(x, *"nhwc")
    cases.nest(
        free, {}, (), [(cases.output(*shape), tuple("nhwc"), loop.maximum(t * cases.load(scale, "c") + 0.5, 0.0))]
    )
    cases.nest(free, {}, (), [(cases.output(*shape), tuple("nhwc"), loop.exp(t))])
    cases.nest(
        {"c": 24},
        {"n": 16, "h": 14, "w": 14},
        (acc("a", "add", F32, t), acc("b", "fma", F32, t, t)),
        [(cases.output(24), ("c",), Name("a", F32)), (cases.output(24), ("c",), Name("b", F32))],
        "chunks8",
    )
    cases.nest(
        {"n": 16, "h": 14, "w": 14},
        {"c": 24},
        (acc("a", "add", F32, t),),
        [(cases.output(16, 14, 14), tuple("nhw"), Name("a", F32))],
        "lanes16",
    )
    cases.nest(
        {},
        {"n": 16, "h": 14, "w": 14, "c": 24},
        (acc("a", "add", F32, t),),
        [(cases.output(), (), Name("a", F32))],
        "chunks8",
    )
    cases.nest({"n": 16, "c": 24, "h": 14, "w": 14}, {}, (), [(cases.output(16, 24, 14, 14), tuple("nchw"), t)])
    wide = cases.input(20, 3001)
    cases.nest(
        {"c": 3001},
        {"n": 20},
        (acc("a", "add", F32, cases.load(wide, *"nc")),),
        [(cases.output(3001), ("c",), Name("a", F32))],
        "chunks8",
    )
    a, b = cases.input(60, 70), cases.input(70, 90)
    cases.nest(
        {"m": 60, "n": 90},
        {"k": 70},
        (acc("s", "fma", F32, cases.load(a, *"mk"), cases.load(b, *"kn")),),
        [(cases.output(60, 90), tuple("mn"), Name("s", F32))],
    )
    return cases


NAMES = ("reductions", "several", "moments", "windows", "movements")


def build(name: str) -> Cases:
    return {"reductions": reductions, "several": several, "moments": moments, "windows": windows, "movements": movements}[name]()


@lru_cache(maxsize=8)
def small(name: str) -> tuple[Cases, tuple[np.ndarray, ...]]:
    """Cases and what the oracle says of them (slow: once a session)."""
    cases = build(name)
    return cases, tuple(cases.expected())
