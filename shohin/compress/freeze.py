"""``freeze``: the constants of every step, computed once, in NumPy, by ``definitions`` (Q4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from shohin.compress import definitions as d
from shohin.compress.definitions import Grid
from shohin.compress.extents import fill
from shohin.compress.steps import Add, Concat, Contract, Move, Mul, Pool, Program, Regrid, Step, Stored, Table, Whole
from shohin.core import interp
from shohin.core.errors import QuantizationError
from shohin.core.tensor import Tensor, as_tensor
from shohin.ops import move
from shohin.transforms.grad import vjp

Array = np.ndarray[Any, Any]
Constants = dict[str, Array]


def freeze(program: Program, params: Sequence[Array], grids: Mapping[str, Grid], own: Mapping[str, d.Own]) -> dict[str, Constants]:
    """Constants by place; ``own`` is what contractions have of their own; a ``QuantizationError`` where a definition does not hold or a range cannot be proved."""
    found: dict[str, Constants] = {}
    reached: dict[int, tuple[int, int]] = {}
    for step in program.steps:
        x = [_grid(program, k, grids) for k in step.inputs]
        y = _grid(program, step.output, grids)
        if isinstance(step, Whole):
            made = _whole(step, params, x, [*(_grid(program, k, grids) for k in step.outputs), *(grids[g] for g in step.inner)])
        else:
            made = constants(step, params, x, y, own.get(step.place, d.OWN))
        if made:
            found[step.place] = made
        if isinstance(step, Contract):
            lo, hi = reached[step.inputs[0]]
            d.prove(made["q_w"], made["q_b"], lo - x[0].z, hi - x[0].z, step.place)
        reached[step.output] = _reached(step, made, reached, y)
        if isinstance(step, Whole):
            reached.update({k: g.limits for k in step.outputs[1:] if (g := _grid(program, k, grids))})
    return found


def _reached(step: Step, made: Constants, before: Mapping[int, tuple[int, int]], y: Grid | None) -> tuple[int, int]:
    """The integers that a value can be."""
    if "lo" in made:
        return int(made["lo"]), int(made["hi"])
    if "table" in made:
        return int(made["table"].min()), int(made["table"].max())
    if isinstance(step, Move) and fill(step.op) is None:
        return before[step.inputs[0]]
    return (-128, 127) if y is None else y.limits


def _grid(program: Program, value: int, grids: Mapping[str, Grid]) -> Any:
    name = program.values[value].grid
    return None if name is None else grids[name]


def constants(step: Step, params: Sequence[Array], x: Sequence[Grid], y: Grid, own: d.Own = d.OWN) -> Constants:
    """What a step keeps."""
    match step:
        case Contract():
            c = contraction(step, params, x[0], y, own)
            return {"q_w": c.q_w, "q_b": c.q_b, "M": c.M, **_bounds(step.clamp, y)}
        case Add():
            m, M = d.add_constants([g.s for g in x], step.signs, y.s, y.bits)
            return {"m": m, "M": M, **_bounds(step.clamp, y)}
        case Mul():
            return {"M": d.mul_multiplier(x[0].s, x[1].s, y.s, y.bits), **_bounds(step.clamp, y)}
        case Pool():
            return {"M": d.pool_multiplier(x[0].s, y.s, step.n, y.bits), **_bounds(step.clamp, y)}
        case Regrid():
            return {"M": d.regrid_multiplier(x[0].s, y.s), **_bounds(None, y)}
        case Stored():
            return {"q": d.quantize(params[step.param], y)}
        case Concat():
            return {"M": np.stack([d.concat_multiplier(g.s, y.s, y.bits) for g in x]), **_bounds(step.clamp, y)}
        case Table():
            return {"table": d.by_code(d.table(function(step), x[0], y)), "slope": d.by_code(slope(step, x[0], y))}
        case _:
            return {}


def _whole(step: Whole, params: Sequence[Array], x: Sequence[Grid], y: Sequence[Grid]) -> Constants:
    """The constants of a definition, whose tensors are NumPy's here."""
    for k, v in given(step, params).items():
        if not np.isfinite(v.numpy()).all():
            raise QuantizationError(f"{step.place}: its operand {k} is not finite; look for NaN or inf in the weights")
    made = step.definition.tables(step, x, y)
    with np.errstate(all="ignore"):
        made |= {k: v.numpy() for k, v in step.definition.fold(step, given(step, params), x, y).items()}
    step.definition.prove(step, made)
    return {**made, **_bounds(step.clamp, y[0])}


def given(step: Whole, params: Sequence[Any]) -> dict[int, Tensor]:
    """The parameters among a whole step's operands, by operand."""
    return {k: as_tensor(params[n]) for k, (kind, n) in enumerate(step.operands) if kind == "param"}


def _bounds(clamp: Any, y: Grid) -> Constants:
    lo, hi = d.bounds(clamp, y)
    return {"lo": np.asarray(lo, np.int32), "hi": np.asarray(hi, np.int32)}


def weight_of(step: Contract, params: Sequence[Any]) -> Any:
    """w as (out, ...); works on arrays and tensors."""
    if step.weight is None:
        return np.ones(step.channels, np.float32)
    w = params[step.weight]
    if not step.axis:
        return w
    order = (step.axis, *(k for k in range(len(w.shape)) if k != step.axis))
    return move.permute_dims(w, order) if isinstance(w, Tensor) else np.transpose(w, order)


def norm_of(step: Contract, params: Sequence[Any]) -> tuple[Any, ...] | None:
    """(gamma, beta, mean, var, eps) of an absorbed batch norm."""
    n = step.norm
    if n is None:
        return None
    of = lambda k, default: np.float32(default) if k is None else params[k]
    return of(n.gamma, 1), of(n.beta, 0), params[n.mean], params[n.var], np.float32(n.eps)


def parts(step: Contract, params: Sequence[Array]) -> tuple[Array, Array | None, tuple[Any, ...] | None]:
    """(w (out, ...), b (out,), norm) of one step."""
    w = weight_of(step, params)
    if step.op is None:
        w = np.broadcast_to(w.reshape(-1), (step.channels,))
    b = None if step.bias is None else np.broadcast_to(params[step.bias].reshape(-1), (step.channels,))
    return w, b, norm_of(step, params)


def contraction(step: Contract, params: Sequence[Array], x: Grid, y: Grid, own: d.Own) -> d.Constants:
    """Q2 of one step."""
    w, b, norm = parts(step, params)
    return d.contraction(w, b, norm, x.s, y.s, step.place, step.bits, own, (x.bits, y.bits))


# ------------------------------------------------------------------------------------------------- functions, Q8


def function(step: Table) -> Any:
    """The step's function of float64."""

    def run(v: Array) -> Array:
        rest = [np.asarray(c, np.float64) for c in step.constants]
        rest.insert(step.slot, v)
        return step.op.numpy(*np.broadcast_arrays(*rest), **step.attrs)

    return run


def slope(step: Table, x: Grid, y: Grid) -> Array:
    """d q' / d q for q = -128 ... 127: f' where the clip does not act, in float32, for training only."""
    q = np.arange(-128, 128)
    values = (q - x.z).astype(np.float32) * x.s

    def f(v: Tensor) -> Tensor:
        operands = [as_tensor(np.full(256, c, np.float32)) for c in step.constants]
        operands.insert(step.slot, v)
        return interp.bind(step.op, operands, step.attrs)[0]

    out, back = vjp(f, as_tensor(values))
    with np.errstate(all="ignore"):
        gradient = back(np.ones(256, np.float32))[0].numpy() * (x.s / y.s)
        scaled = out.numpy() / y.s
    inside = (scaled >= -128 - y.z) & (scaled <= 127 - y.z) & np.isfinite(gradient)
    return np.where(inside, gradient, 0).astype(np.float32)
