"""What every op record must satisfy, each check apart: an op's samples and edges are the test data.

``shape``       inferred shapes and dtypes are NumPy's, for every accepted dtype; the relation of axes agrees
``gradient``    the vjp is the slope of the reference, by central differences in float64
``forward``     so is the jvp
``second``      the derivative of the vjp is the slope of the vjp
``batching``    vmap is a loop, for every subset of batched operands
``body``        the scalar expression is the reference, on samples and edge values, within ``tol``
``nest``        an index function reads the elements that the reference reads

Each gives problems as sentences, or says that it does not apply; none knows the name of an op.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from shohin.core import dtypes, interp, loop
from shohin.core.dtypes import DType
from shohin.core.errors import BatchError
from shohin.core.op import NO_GRADIENT, Aval, Op, Sample, Tol
from shohin.core.tensor import Tensor, as_tensor
from shohin.testing.numeric import Array, differences, dot, near, slope
from shohin.transforms.batch import vmap
from shohin.transforms.forward import jvp
from shohin.transforms.grad import grad, vjp

Attrs = Mapping[str, Any]

@dataclass(frozen=True)
class NotApplicable:
    """A check that had nothing to run on, and why."""

    reason: str


Finding = tuple[str, str] | NotApplicable


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a record."""

    op: str
    check: str
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.op}: {self.check}, {self.where}: {self.what}"


def check_op(op: Op, checks: Sequence[str] | None = None, seed: int = 0) -> list[Problem]:
    """All problems of a record, by all checks or those named."""
    results = [run_check(op, name, seed) for name in checks or CHECKS]
    return [p for found in results if not isinstance(found, str) for p in found]


def run_check(op: Op, name: str, seed: int = 0) -> list[Problem] | str:
    """The problems that one check finds, or why it does not apply."""
    found = list(_run(op, name, seed))
    problems = [Problem(op.name, name, *f) for f in found if not isinstance(f, NotApplicable)]
    reasons = [f.reason for f in found if isinstance(f, NotApplicable)]
    return reasons[0] if reasons and not problems else problems


def _run(op: Op, name: str, seed: int) -> Iterator[Finding]:
    if not samples_of(op, seed) and op.kind not in ("call", "control"):
        yield "samples", "the record has none"
    try:
        yield from CHECKS[name](op, seed)
    except Exception as error:  # a check that cannot even run is a finding
        yield "the check itself", f"{type(error).__name__}: {error}"


def samples_of(op: Op, seed: int = 0) -> list[Sample]:
    """The samples of a record, drawn from ``seed``."""
    return list(op.samples(np.random.default_rng(seed)))


def reference(op: Op, operands: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
    """The record's NumPy function, its results as a tuple of arrays."""
    with np.errstate(all="ignore"):
        out = op.numpy(*operands, **attrs)
    return tuple(np.asarray(o) for o in (out if isinstance(out, tuple) else (out,)))


def _call(op: Op, operands: Sequence[Tensor], attrs: Attrs) -> tuple[Tensor, ...]:
    return interp.bind(op, operands, attrs)


def _where(k: int, attrs: Attrs) -> str:
    return f"sample {k}" + (f" {dict(attrs)}" if attrs else "")


# ------------------------------------------------------------------------------------------------- shape


def shape_is_numpys(op: Op, seed: int) -> Iterator[Finding]:
    """``infer`` gives what NumPy gives, for each accepted dtype; the relation of axes says the same."""
    for k, s in enumerate(samples_of(op, seed)):
        for arrays in _in_every_dtype(op, s):
            avals = [Aval(a.shape, a.dtype) for a in arrays]
            inferred = op.infer(avals, s.attrs)
            got = reference(op, arrays, s.attrs)
            label = f"{_where(k, s.attrs)}, {', '.join(map(str, avals))}"
            if [(a.shape, _byte(a.dtype)) for a in inferred] != [(r.shape, _byte(r.dtype)) for r in got]:
                numpys = ", ".join(f"{r.dtype}{list(r.shape)}" for r in got)
                yield label, f"inferred {', '.join(map(str, inferred))}, NumPy gives {numpys}"
            if (op.axes is not None and op.shape is None) or op.kind == "contraction":
                solved = op.solve([a.shape for a in arrays], s.attrs).results
                if solved != tuple(a.shape for a in inferred):
                    yield label, f"the relation gives {solved}, infer {[a.shape for a in inferred]}"


def _in_every_dtype(op: Op, s: Sample) -> Iterator[tuple[Array, ...]]:
    yield s.operands
    if not op.dtypes.same or not s.operands:
        return
    accepted = frozenset.intersection(*op.dtypes.accepted)
    for dtype in sorted(accepted - {s.operands[0].dtype}, key=str):
        yield tuple(_cast(a, dtype) for a in s.operands)


def _cast(a: Array, dtype: DType) -> Array:
    """The values in another dtype, clipped into what a narrow integer holds."""
    if dtype in dtypes.INTEGER and a.dtype != np.bool_:
        info = ml_dtypes.iinfo(dtype)
        a = np.clip(a, info.min, info.max)
    return a.astype(dtype)


def _byte(dtype: DType) -> DType:
    """NumPy computes integers below a byte in one; the record's dtype is what the result is cast to."""
    return dtypes.int8 if dtype in dtypes.INTEGER and dtypes.bits(dtype) < 8 else dtype


# ---------------------------------------------------------------------------------------------- gradients


@dataclass(frozen=True)
class Smooth:
    """A sample in float64 as a function of its differentiable operands."""

    op: Op
    attrs: Attrs
    operands: tuple[Array, ...]
    moving: tuple[int, ...]
    results: tuple[int, ...]

    def tensors(self, values: Sequence[Any]) -> list[Tensor]:
        full: list[Any] = list(self.operands)
        for k, v in zip(self.moving, values, strict=True):
            full[k] = v
        return [as_tensor(v) for v in full]

    def __call__(self, *values: Any) -> tuple[Tensor, ...]:
        out = _call(self.op, self.tensors(values), self.attrs)
        return tuple(out[k] for k in self.results)

    def numpy(self, values: Sequence[Array]) -> list[Array]:
        full = list(self.operands)
        for k, v in zip(self.moving, values, strict=True):
            full[k] = v
        out = reference(self.op, full, self.attrs)
        return [out[k].astype(np.float64) for k in self.results]

    @property
    def start(self) -> list[Array]:
        return [self.operands[k] for k in self.moving]


STRAIGHT = NotApplicable("a straight-through gradient is not the derivative")
CONSTANT = NotApplicable("no sample has a floating operand with a gradient and a floating result")


def _smooth(op: Op, seed: int) -> list[tuple[str, Smooth]]:
    found: list[tuple[str, Smooth]] = []
    rules = op.vjp if isinstance(op.vjp, tuple) else None
    steps = rules is not None and len(rules) > 0 and all(r is NO_GRADIENT for r in rules)
    for k, s in enumerate(samples_of(op, seed)):
        wide = tuple(a.astype(np.float64) if a.dtype in dtypes.FLOATING else a for a in s.operands)
        accepted = [op.dtypes.accepted[min(i, len(op.dtypes.accepted) - 1)] for i in range(len(wide))]
        if any(a.dtype not in ok for a, ok in zip(wide, accepted, strict=True)):
            continue
        moving = tuple(
            i
            for i, a in enumerate(wide)
            if a.dtype == np.float64 and (rules is None or steps or rules[min(i, len(rules) - 1)] is not NO_GRADIENT)
        )
        out = op.infer([Aval(a.shape, a.dtype) for a in wide], s.attrs)
        results = tuple(i for i, a in enumerate(out) if a.dtype in dtypes.FLOATING)
        if moving and results:
            found.append((_where(k, s.attrs), Smooth(op, s.attrs, wide, moving, results)))
    return found


def _directions(rng: np.random.Generator, arrays: Sequence[Array]) -> list[Array]:
    return [np.asarray(rng.uniform(0.5, 1.5, a.shape) * rng.choice([-1.0, 1.0], a.shape)) for a in arrays]


def _along(values: Sequence[Array], directions: Sequence[Array], t: float) -> list[Array]:
    return [np.asarray(v + t * d) for v, d in zip(values, directions, strict=True)]


def vjp_is_the_slope(op: Op, seed: int) -> Iterator[Finding]:
    """<vjp(u), v> = d/dt <u, f(x + t v)>, for each operand apart and for three pairs of directions."""
    rng = np.random.default_rng(seed + 1)
    smooth = _smooth(op, seed)
    if not op.tol.slope or not smooth:
        yield STRAIGHT if smooth else CONSTANT
        return
    for where, f in smooth:
        for _ in range(3):
            u = _directions(rng, f.numpy(f.start))
            _, back = vjp(lambda *v, f=f: f(*v), *map(as_tensor, f.start))
            grads = [np.asarray(g) for g in back(tuple(map(as_tensor, u)))]
            for j, g in enumerate(grads):
                name = op.operands[min(f.moving[j], len(op.operands) - 1)].lstrip("*")
                if g.shape != f.start[j].shape or g.dtype != np.float64:
                    yield f"{where}, operand {name}", f"the gradient is {g.dtype}{list(g.shape)}"
                    continue
                v = [d if i == j else np.zeros_like(d) for i, d in enumerate(_directions(rng, f.start))]
                expected = slope(lambda t, f=f, u=u, v=v: np.float64(dot(u, f.numpy(_along(f.start, v, t)))))
                if not near(dot([g], [v[j]]), expected):
                    yield f"{where}, operand {name}", f"<vjp, v> = {dot([g], [v[j]]):.9g}, the slope is {expected:.9g}"


def jvp_is_the_slope(op: Op, seed: int) -> Iterator[Finding]:
    """The tangent is d/dt f(x + t v)."""
    rng = np.random.default_rng(seed + 2)
    smooth = _smooth(op, seed)
    if not op.tol.slope or not smooth:
        yield STRAIGHT if smooth else CONSTANT
        return
    for where, f in smooth:
        v = _directions(rng, f.start)
        _, tangents = jvp(lambda *x, f=f: f(*x), tuple(map(as_tensor, f.start)), tuple(map(as_tensor, v)))
        for j, t in enumerate(tangents):
            expected = slope(lambda h, f=f, v=v, j=j: f.numpy(_along(f.start, v, h))[j])
            if not near(np.asarray(t), expected):
                worst = float(np.max(np.abs(np.asarray(t) - expected))) if t.shape == expected.shape else np.nan
                yield f"{where}, result {op.results[f.results[j]]}", f"the tangent is off by {worst:.3g}"


def second_derivative(op: Op, seed: int) -> Iterator[Finding]:
    """The gradient of <vjp(x; u), w> by x and by u is its slope."""
    rng = np.random.default_rng(seed + 3)
    smooth = _smooth(op, seed)
    if not smooth:
        yield CONSTANT
    for where, f in smooth:
        u = _directions(rng, f.numpy(f.start))
        w = _directions(rng, f.start)
        n = len(f.start)

        def inner(*values: Any, f: Smooth = f, w: Sequence[Array] = w, n: int = n) -> Tensor:
            _, back = vjp(lambda *x: f(*x), *map(as_tensor, values[:n]))
            total = as_tensor(np.float64(0))
            for g, direction in zip(back(tuple(map(as_tensor, values[n:]))), w, strict=True):
                total = total + (g * as_tensor(direction)).sum()
            return total

        start = [*f.start, *u]
        v = _directions(rng, start)
        grads = grad(inner, argnums=tuple(range(len(start))))(*map(as_tensor, start))
        found = dot([np.asarray(g) for g in grads], v)
        expected = slope(lambda t, inner=inner, start=start, v=v: np.float64(float(inner(*_along(start, v, t)))))
        if not near(found, expected, 1e-5):
            yield where, f"the second derivative along a line is {found:.9g}, the slope {expected:.9g}"


# ------------------------------------------------------------------------------------------------ batching


def vmap_is_a_loop(op: Op, seed: int) -> Iterator[Finding]:
    """For every subset of batched operands and three lanes: lanes together are lanes one by one."""
    size, ran, refused = 3, 0, "the op has no operands"
    tol = Tol(0) if op.tol.ulp == 0 else Tol(max(op.tol.ulp, 64), max(op.tol.absolute, 1e-6))
    for k, s in enumerate(samples_of(op, seed)):
        draws = [samples_of(op, seed + 10 + i)[k].operands for i in range(size)]
        for mask in itertools.product((False, True), repeat=len(s.operands)):
            if not any(mask):
                continue
            wide = [np.stack([d[i] for d in draws]) if m else s.operands[i] for i, m in enumerate(mask)]
            in_axes = tuple(0 if m else None for m in mask)
            try:
                found = vmap(lambda *x, s=s: _call(op, x, s.attrs), in_axes=in_axes)(*map(as_tensor, wide))
            except BatchError as error:  # said so, with the remedy
                refused = str(error)
                continue
            ran += 1
            lanes = [
                reference(op, [w[i] if m else w for w, m in zip(wide, mask, strict=True)], s.attrs) for i in range(size)
            ]
            for j, r in enumerate(found):
                problem = differences(np.asarray(r), np.stack([lane[j] for lane in lanes]), tol)
                if problem:
                    yield f"{_where(k, s.attrs)}, batched {mask}", problem
    if not ran:
        yield NotApplicable(refused)


# ------------------------------------------------------------------------------------------- bodies and nests


def body_is_numpy(op: Op, seed: int) -> Iterator[Finding]:
    """An elementwise body on samples in each accepted dtype, and on all combinations of edge values."""
    if op.kind != "elementwise" or op.body is None:
        yield NotApplicable("the loops that hold it are checked by compiled" if op.body is not None else "the record has no body")
        return
    for k, s in enumerate(samples_of(op, seed)):
        for arrays in _in_every_dtype(op, s):
            if not arrays or arrays[0].dtype == _byte(arrays[0].dtype):
                yield from _body(op, arrays, s.attrs, f"{_where(k, s.attrs)} {arrays[0].dtype.name if arrays else ''}")
        for dtype in _edge_dtypes(op, s):
            if dtype not in dtypes.FLOATING or k:
                continue
            for start in range(0, len(op.edges) ** len(s.operands), 4096):
                points = itertools.islice(itertools.product(op.edges, repeat=len(s.operands)), start, start + 4096)
                with np.errstate(all="ignore"):
                    columns = [np.asarray(c, np.float64).astype(dtype) for c in zip(*points, strict=True)]
                yield from _body(op, columns, s.attrs, f"edges in {dtype.name}")


def _edge_dtypes(op: Op, s: Sample) -> list[DType]:
    if not s.operands or not op.edges or len({a.dtype for a in s.operands}) > 1:
        return []
    return sorted({s.operands[0].dtype} | (op.dtypes.accepted[0] & {dtypes.float32, dtypes.float64}), key=str)


def _body(op: Op, arrays: Sequence[Array], attrs: Attrs, where: str) -> Iterator[tuple[str, str]]:
    assert op.body is not None
    names = [loop.Name(f"x{i}", op.dtypes.compute(a.dtype)) for i, a in enumerate(arrays)]
    expr = op.body(*names, **attrs)
    result = op.infer([Aval(a.shape, a.dtype) for a in arrays], attrs)[0]
    env = {n.name: a.astype(n.type) for n, a in zip(names, arrays, strict=True)}
    found = np.asarray(loop.evaluate(expr, env))
    expected = reference(op, arrays, attrs)[0]
    if expr.dtype not in (result.dtype, op.dtypes.compute(result.dtype)):
        yield where, f"the body gives {expr.dtype.name}, the record {result.dtype.name}"
        return
    problem = differences(np.broadcast_to(found.astype(result.dtype), expected.shape), expected, op.tol)
    if problem:
        yield where, f"the body: {problem}"


def nest_is_numpy(op: Op, seed: int) -> Iterator[Finding]:
    """An index function ``(coords, load, avals, result, attrs) -> Expr``, evaluated at all points at once."""
    if not callable(op.nest):
        yield NotApplicable(f"the loops are {op.nest}, not an index function")
        return
    for k, s in enumerate(samples_of(op, seed)):
        avals = [Aval(a.shape, a.dtype) for a in s.operands]
        result = op.infer(avals, s.attrs)[0]

        def load(i: int, index: Sequence[Any], pred: Any = None, pad: Any = None, avals: Any = avals) -> loop.Expr:
            exprs = tuple(e if isinstance(e, loop.Expr) else loop.const(e, dtypes.int32) for e in index)
            return loop.Load(f"b{i}", exprs, avals[i].dtype, pred, pad)

        coords = tuple(loop.Var(f"c{i}") for i in range(len(result.shape)))
        expr = op.nest(coords, load, avals, result, s.attrs)
        grids = np.indices(result.shape, np.int32) if result.shape else ()
        env = {f"b{i}": a for i, a in enumerate(s.operands)} | {f"c{i}": g for i, g in enumerate(grids)}
        found = np.broadcast_to(np.asarray(_points(expr, env, result)), result.shape)
        problem = differences(found.astype(result.dtype), reference(op, s.operands, s.attrs)[0], op.tol)
        if problem:
            yield _where(k, s.attrs), problem
        if expr.dtype != result.dtype:
            yield _where(k, s.attrs), f"the expression is {expr.dtype.name}, the result {result.dtype.name}"


def _points(expr: loop.Expr, env: Mapping[str, Any], result: Aval) -> Array:
    """At all points at once, or one by one where an intrinsic takes scalars only."""
    if not any(isinstance(e, loop.Intrinsic) for e in loop.walk(expr)):
        return np.asarray(loop.evaluate(expr, env))
    out = np.zeros(result.shape, result.dtype)
    for point in np.ndindex(result.shape):
        out[point] = loop.evaluate(expr, {**env, **{f"c{i}": np.int32(p) for i, p in enumerate(point)}})
    return out


CHECKS: dict[str, Callable[[Op, int], Iterator[Finding]]] = {
    "shape": shape_is_numpys,
    "gradient": vjp_is_the_slope,
    "forward": jvp_is_the_slope,
    "second": second_derivative,
    "batching": vmap_is_a_loop,
    "body": body_is_numpy,
    "nest": nest_is_numpy,
}
