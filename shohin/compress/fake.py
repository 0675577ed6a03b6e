"""The network on float32 tensors that hold integers: training (fake quantization) and evaluation, one function a step.

    q = clamp(round_ste(x / s) + z),   acc = contract(q - z, q_w) + q_b,   q' = requant(acc, M, z', lo, hi)

Evaluation reads the stored constants; training makes those of contractions from the current weights (Q2) and, with a
batch norm, from the batch's statistics (Q6). Sums are exact: up to ``TERMS`` products in float32, beyond by chunks that
are added in float64 and rounded once, so that the accumulator is float32(acc) in every order.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from shohin.compress import definitions, learned
from shohin.compress.extents import fill
from shohin.compress.freeze import given, norm_of, weight_of
from shohin.compress.steps import (
    Add,
    Concat,
    Contract,
    Entry,
    Float,
    Move,
    Mul,
    Pool,
    Program,
    Regrid,
    Site,
    Step,
    Stored,
    Table,
    Whole,
)
from shohin.core import dtypes, interp
from shohin.core.tensor import Tensor, as_tensor
from shohin.ops import fixed, linear, math, move, quant, reduce
from shohin.ops.activations import stop_gradient

TERMS = 2**24 // (255 * 127)  # 518: sums of so many products are below 2^24
POOLED = 2**24 // 255


@dataclass(frozen=True)
class Scale:
    """A grid as tensors: s, and z in float32."""

    s: Tensor
    z: Tensor
    bits: int = 8

    @property
    def limits(self) -> tuple[float, float]:
        lo, hi = definitions.LIMITS[self.bits]
        return float(lo), float(hi)


@dataclass
class Fake:
    """One pass. ``owner(norm)`` gives (uses the batch's statistics, momentum) of an absorbed batch norm, ``own`` what contractions
    have of their own, ``moving`` the grids whose steps are trained."""

    program: Program
    grids: Mapping[str, Scale]
    constants: Mapping[str, Mapping[str, Tensor]]
    params: Sequence[Tensor]
    training: bool
    owner: Callable[[Any], tuple[bool, float]]
    own: Mapping[str, definitions.Own]
    moving: Collection[str]
    base: str = ""

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Every value of the program; those on a grid as integers in float32."""
        self.begin(inputs)
        for step in self.program.steps:
            self.advance(step)
        return [self.now[k] for k in range(len(self.program.values))]

    def begin(self, inputs: Sequence[Tensor]) -> None:
        self.now: dict[int, Tensor] = dict(zip(self.program.inputs, inputs, strict=True))

    def advance(self, step: Step) -> None:
        path = step.place.partition("/")[0]
        with interp.at(f"{self.base}.{path}" if self.base and path else self.base or path):
            if isinstance(step, Float):
                self.now.update(zip(step.outputs, self.floating(step), strict=True))
            elif isinstance(step, Whole):
                self.now.update(zip(step.outputs, self.whole(step), strict=True))
            else:
                self.now[step.output] = self.step(step)

    def scale(self, value: int) -> Scale:
        v = self.program.values[value]
        assert v.grid is not None
        return replace(self.grids[v.grid], bits=v.bits)

    def real(self, value: int) -> Tensor:
        """A value as float32 (Q7, float output)."""
        q = self.now[value]
        if self.program.values[value].grid is None or q.dtype not in dtypes.FLOATING:
            return q
        g = self.scale(value)
        return (q - g.z) * g.s

    def centred(self, value: int) -> Tensor:
        return self.now[value] - self.scale(value).z

    def kept(self, step: Step) -> Mapping[str, Any]:
        """The constants of a step, made anew where they follow from steps that are trained."""
        numbers = (*step.inputs, step.output)
        if not any(self.program.grid(k) in self.moving for k in numbers):
            return self.constants[step.place]
        *x, y = (self.program.grid(k) and self.scale(k) for k in numbers)
        return {**self.constants.get(step.place, {}), **learned.constants(step, x, y)}

    def close(self, step: Step, acc: Tensor, M: Tensor) -> Tensor:
        """Q3."""
        z, c = self.scale(step.output).z, self.kept(step)
        lo, hi = (math.astype(as_tensor(c[k]), dtypes.float32) for k in ("lo", "hi"))
        acc = math.astype(acc, dtypes.float32)
        return quant.requantize(acc, M, lo - z, hi - z) + z

    def step(self, step: Step) -> Tensor:
        match step:
            case Entry():
                return self.entered(self.real(step.inputs[0]), self.scale(step.output))
            case Stored():
                if self.training:
                    return self.entered(self.params[step.param], self.scale(step.output))
                return math.astype(self.constants[step.place]["q"], dtypes.float32)
            case Regrid():
                return self.close(step, self.centred(step.inputs[0]), self.kept(step)["M"])
            case Contract():
                return self.contract(step)
            case Add():
                c = self.kept(step)
                x = [self.summed(step, k) for k in step.inputs]
                parts = [v * math.astype(c["m"][i], v.dtype) for i, v in enumerate(x)]
                acc = parts[0]
                for part in parts[1:]:
                    acc = acc + part
                return self.close(step, acc, c["M"])
            case Mul():
                a, b = (self.summed(step, k) for k in step.inputs)
                return self.close(step, a * b, self.kept(step)["M"])
            case Pool():
                x = self.summed(step, step.inputs[0])
                acc = interp.bind(step.op, [math.astype(x, dtypes.float64) if step.terms > POOLED else x], step.attrs)[0]
                return move.reshape(self.close(step, acc, self.kept(step)["M"]), step.shape)
            case Concat():
                M = self.kept(step)["M"]
                parts = [self.close(step, self.centred(k), M[i]) for i, k in enumerate(step.inputs)]
                return move.concat(parts, axis=step.axis)
            case Table():
                c = self.constants[step.place]
                return quant.lookup_ste(self.now[step.inputs[0]], math.astype(c["table"], dtypes.float32), c["slope"])
            case Move():
                return self.moved(step)
            case _:
                raise TypeError(step.kind)

    def summed(self, step: Step, value: int) -> Tensor:
        """``centred`` in a float that holds the step's sums: float64 where one of its operands has 16 bits."""
        x, wide = self.centred(value), any(self.program.values[k].bits == 16 for k in step.inputs)
        return math.astype(x, dtypes.float64) if wide else x

    def entered(self, x: Tensor, g: Scale) -> Tensor:
        """Q1."""
        lo, hi = g.limits
        return quant.quantize(x, g.s, lo - g.z, hi - g.z) + g.z

    def whole(self, step: Whole) -> list[Tensor]:
        """Integers as in the deployed graph, with the gradient of the float operator where the last clip did not act (Q12 k)."""
        c = dict(self.constants[step.place])
        if self.training:
            x, y = ([self.program.grid(k) and self.scale(k) for k in numbers] for numbers in (step.inputs, step.outputs))
            y += [self.grids[g] for g in step.inner]
            folded = step.definition.fold(step, given(step, self.params), x, y)
            c |= {k: stop_gradient(v) if v.dtype in dtypes.NUMERIC else v for k, v in folded.items()}
        found = step.definition.integers(step, _Floats(self, step, c))
        if not step.definition.smooth:
            return [math.astype(q, dtypes.float32) for q in found]
        real = self.floating(step)
        return [self.through(step, k, q, y) for k, q, y in zip(step.outputs, found, real, strict=True)]

    def through(self, step: Whole, value: int, q: Tensor, y: Tensor) -> Tensor:
        g, c = self.scale(value), self.constants[step.place]
        lo, hi = (math.astype(c[n], dtypes.float32) for n in ("lo", "hi")) if value == step.output else g.limits
        return fixed.straight_through(math.astype(q, dtypes.float32), y / g.s + g.z, lo, hi)

    def floating(self, step: Float | Whole) -> Sequence[Tensor]:
        operands = [self.real(k) if kind == "value" else self.params[k] for kind, k in step.operands]
        return interp.bind(step.op, operands, step.attrs)

    def moved(self, step: Move) -> Tensor:
        q, name = self.now[step.inputs[0]], fill(step.op)
        if name is not None:
            value, z = step.attrs[name], self.scale(step.output).z
            if value == 0:
                return interp.bind(step.op, [q - z], step.attrs)[0] + z
            return interp.bind(step.op, [q], {**step.attrs, name: self.scale(step.output).limits[value > 0]})[0]
        rest = (*(self.now[k] for k in step.inputs[1:]), *map(as_tensor, step.constants))
        return interp.bind(step.op, [q, *rest], step.attrs)[0]

    # -- contractions
    def contract(self, step: Contract) -> Tensor:
        x, into, out = self.centred(step.inputs[0]), self.scale(step.inputs[0]), self.scale(step.output)
        if not self.training:
            c = self.constants[step.place]
            total = exact(step, x, math.astype(c["q_w"], dtypes.float32), into.bits)
            return self.finish(step, total, c["q_b"], c["M"])
        own = self.own.get(step.place, definitions.OWN)
        w, k, b, b_eff = self.folded(step)
        shifted = lambda v: v if own.shift is None else v + own.shift
        top = float(definitions.most(step.bits))
        s_w = widened(w, k, shifted(b_eff), into, top, own)
        q_w = quant.quantize(w, move.reshape(s_w, (-1, *(1,) * (w.ndim - 1))), -top, top)
        total = exact(step, x, q_w, into.bits)
        if step.norm is not None and self.owner(step.norm)[0]:
            k, b_eff = self.batch(step, total, b, into.s * s_w)
        t = (into.s * s_w) * k
        most = 2 * definitions.BIAS[into.bits]
        q_b = quant.quantize(shifted(b_eff), t, -most, most)
        return self.finish(step, total, q_b, learned.bound(t / out.s, out.bits))

    def finish(self, step: Contract, total: Tensor, q_b: Tensor, M: Tensor) -> Tensor:
        acc = math.astype(total + math.astype(q_b, total.dtype), dtypes.float32)
        return move.reshape(self.close(step, acc, M), step.shape)

    def folded(self, step: Contract) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(w, k, b, b_eff) of Q2, with the running statistics."""
        w = as_tensor(weight_of(step, self.params))
        c = step.channels
        if step.op is None:
            w = move.broadcast_to(move.reshape(w, (-1,)), (c,))
        zero = move.zeros((c,))
        b = zero if step.bias is None else move.broadcast_to(move.reshape(self.params[step.bias], (-1,)), (c,))
        norm = norm_of(step, self.params)
        if norm is None:
            return w, move.ones((c,)), b, b
        gamma, beta, mean, var, eps = norm
        k = move.broadcast_to(quant.bound_gain(gamma / math.sqrt(var + eps)), (c,))
        return w, k, b, (b - mean) * k + beta

    def batch(self, step: Contract, total: Tensor, b: Tensor, unit: Tensor) -> tuple[Tensor, Tensor]:
        """(k, b_eff) from the batch's own statistics, which move the running ones (Q6)."""
        norm, values = step.norm, norm_of(step, self.params)
        assert norm is not None and values is not None
        gamma, beta, _, _, eps = values
        y = math.astype(total, dtypes.float32) * unit + b
        mean, var = moments(y)
        n = y.size // y.shape[-1]
        if norm.cells is not None:
            m = self.owner(norm)[1]
            unbiased = var * (n / max(n - 1, 1))
            for cell, new in zip(norm.cells, (mean, unbiased), strict=True):
                cell.write(cell.read() * (1 - m) + stop_gradient(new) * m)
        k = quant.bound_gain(gamma / math.sqrt(var + eps))
        return k, (b - mean) * k + beta


class _Floats(Site):
    """A step's integers that float32 holds."""

    def __init__(self, fake: Fake, step: Whole, c: Mapping[str, Tensor]) -> None:
        self.fake, self.step, self.c = fake, step, c

    def q(self, k: int) -> Tensor:
        return math.astype(stop_gradient(self.fake.now[self.step.inputs[k]]), dtypes.int32)

    def centred(self, k: int) -> Tensor:
        return math.astype(stop_gradient(self.fake.centred(self.step.inputs[k])), dtypes.int32)

    def product(self, k: int, w: Tensor) -> Tensor:
        return linear.matmul(self.centred(k), math.astype(w, dtypes.int32), transpose_b=True)

    def close(self, acc: Tensor, M: Any) -> Tensor:
        return stop_gradient(self.fake.close(self.step, math.astype(acc, dtypes.float32), M))


def moments(y: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance a channel, in two passes."""
    axes = tuple(range(y.ndim - 1))
    mean = reduce.mean(y, axis=axes)
    centred = y - mean
    return mean, reduce.mean(centred * centred, axis=axes)


def widened(w: Tensor, k: Tensor, b_eff: Tensor, x: Scale, most: float, own: definitions.Own) -> Tensor:
    """s_w of Q2 and Q13, for integers up to ``most``."""
    w, k, b_eff, s_x = stop_gradient(w), stop_gradient(k), stop_gradient(b_eff), stop_gradient(x.s)
    size, axes = math.abs(w), tuple(range(1, w.ndim))
    largest = reduce.max(size, axis=axes) if axes else size
    need = math.abs(b_eff) / ((s_x * math.abs(k)) * definitions.BIAS[x.bits])
    if x.bits == 16:
        parts = quant.quantize(size, move.reshape(largest / 256.0, (-1, *(1,) * len(axes))), 0.0, 256.0)
        total = reduce.sum(parts, axis=axes) if axes else parts
        need = math.maximum(need, definitions.room(total, largest, w.size // w.shape[0]))
    return math.maximum(math.maximum(together(largest, own.share) / most if own.step is None else own.step, need), 2.0**-40)


def together(largest: Tensor, share: int) -> Tensor:
    """``definitions.together``, as ops."""
    n, rest = largest.size, -largest.size % share
    if share == 1 or not n:
        return largest
    rows = move.reshape(move.pad(largest, ((0, rest),)), (-1, share))
    return move.reshape(move.broadcast_to(reduce.max(rows, axis=1, keepdims=True), rows.shape), (-1,))[:n]


def exact(step: Contract, x: Tensor, w: Tensor, bits: int = 8) -> Tensor:
    """The sum of products of integers, exact: float32 up to ``TERMS`` terms, else float64. x of 16 ``bits`` is cut into two bytes,
    whose sums are joined in float64."""
    if bits == 16:
        high = stop_gradient(math.floor(x * 2.0**-8))
        parts = (math.astype(exact(step, v, w), dtypes.float64) for v in (high, x - high * 256.0))
        return next(parts) * 256.0 + next(parts)
    if step.op is None:
        return x * w
    if step.terms <= TERMS:
        return product(step, x, w)
    dims = step.cut
    size = 0 if dims is None else TERMS // (step.terms // w.shape[dims[1]])
    if dims is None or size == 0:
        return product(step, math.astype(x, dtypes.float64), math.astype(w, dtypes.float64))
    total: Tensor | None = None
    for start in range(0, w.shape[dims[1]], size):
        stop = min(start + size, w.shape[dims[1]])
        parts = [_cut(v, dim, start, stop) for v, dim in zip((x, w), dims, strict=True)]
        part = math.astype(product(step, *parts), dtypes.float64)
        total = part if total is None else total + part
    assert total is not None
    return total


def _cut(x: Tensor, axis: int, start: int, stop: int) -> Tensor:
    return move.slice_(x, [start if i == axis else 0 for i in range(x.ndim)],
                       [stop if i == axis else n for i, n in enumerate(x.shape)])  # fmt: skip


def product(step: Contract, x: Tensor, w: Tensor) -> Tensor:
    assert step.op is not None
    return interp.bind(step.op, [x, move.moveaxis(w, 0, step.axis)], step.attrs)[0]


__all__ = ["Fake", "Scale", "exact", "moments", "widened"]
