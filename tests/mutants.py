"""Faults put into op records on purpose; the conformance checks must notice every one.

``python -m tests.mutants`` prints which check caught what and ends with an error if any fault survives.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

import shohin as sh
import shohin.transforms
from shohin.core import loop
from shohin.core.op import NO_GRADIENT, REGISTRY, Attr, Dtypes, Op, Pad, Tol
from shohin.testing.compiled import compiled_is_reference
from shohin.testing.conformance import CHECKS, check_op


def changed(name: str, **fields: Any) -> Op:
    return replace(REGISTRY[name], **fields)


def flipped(name: str, operand: int = 0) -> Op:
    """The sign of one vjp rule."""
    rules = list(REGISTRY[name].vjp)  # type: ignore[arg-type]
    rule = rules[operand]
    rules[operand] = lambda *a, **k: -rule(*a, **k)
    return changed(name, vjp=tuple(rules))


def typed(name: str, attr: str, kind: str) -> Op:
    """One attribute under another type."""
    return changed(name, attrs={**REGISTRY[name].attrs, attr: Attr(type=kind)})


def frozen(x: Any) -> Any:
    """A value cut off from what it was made of."""
    return sh.ops.activations.stop_gradient(x)


def float_result(name: str) -> Op:
    d = REGISTRY[name].dtypes
    return changed(name, dtypes=Dtypes(accepted=d.accepted, same=d.same, result=lambda found, a: (sh.float32,),
                                       compute=d.compute, accumulator=d.accumulator))  # fmt: skip


MUTANTS: dict[str, Callable[[], Op]] = {
    "sin: the sign of the vjp": lambda: flipped("sin"),
    "subtract: the sign of the second vjp": lambda: flipped("subtract", 1),
    "divide: a factor is missing in the vjp": lambda: changed(
        "divide", vjp=(lambda a, b, y, g: g / b, lambda a, b, y, g: -g * y)),
    "tanh: no gradient where there is one": lambda: changed("tanh", vjp=(NO_GRADIENT,)),
    "sqrt: a vjp that cannot be differentiated again": lambda: changed(
        "sqrt", vjp=(lambda x, y, g: g * frozen(0.5 / y),)),
    "prod: identity 0": lambda: changed("prod", identity=lambda d: 0),
    "max: identity 0": lambda: changed("max", identity=lambda d: 0),
    "sum: combined by max": lambda: changed("sum", combiner="max", identity=lambda d: -np.inf),
    "sum: of magnitudes": lambda: changed("sum", body=lambda x: abs(x)),
    "max: twice as large": lambda: changed("max", fin=lambda m: m * 2),
    "leaky_relu: half the slope": lambda: changed("leaky_relu", body=lambda x, slope: loop.select(x < 0, x * (slope / 2), x)),
    "transpose: the inverse permutation": lambda: changed(
        "transpose", numpy=lambda x, axes: np.transpose(x, np.argsort(axes))),
    "transpose: a vjp with the axes as they were": lambda: changed(
        "transpose", vjp=(lambda x, y, g, axes: sh.permute_dims(g, axes),)),
    "pad: one element too far": lambda: changed(
        "pad", numpy=lambda x, padding, value: np.pad(
            x, [(lo + 1, hi - 1) if hi else (lo, hi) for lo, hi in padding], constant_values=np.asarray(value, x.dtype))),
    "pad: the wrong padding in the relation": lambda: changed("pad", pad=Pad(0.0, "multiply")),
    "slice: the nest starts one further": lambda: changed(
        "slice", nest=lambda coords, load, avals, result, a: load(
            0, tuple(c * s + (n + 1) for c, s, n in zip(coords, a["step"], a["start"], strict=True)))),
    "cumsum: from the other end": lambda: changed(
        "cumsum", numpy=lambda x, axis: np.flip(np.cumsum(np.flip(x, axis), axis, dtype=x.dtype), axis)),
    "argsort: not stable": lambda: changed(
        "argsort", numpy=lambda x, axis, descending: np.flip(
            np.argsort(-x if not descending else x, axis, kind="stable"), axis).astype(np.int64)),
    "exp: a tolerance that is not kept": lambda: changed("exp", tol=Tol(0)),
    "expm1: exp(x) - 1": lambda: changed("expm1", body=lambda x: loop.exp(x) - 1),
    "relu6: clipped at 5": lambda: changed("relu6", body=lambda x: loop.clip(x, 0, 5)),
    "maximum: NaN is lost": lambda: changed("maximum", body=lambda a, b: loop.select(a > b, a, b)),
    "equal: a float result": lambda: float_result("equal"),
    "concat: shape of the wrong dim": lambda: changed(
        "concat", shape=lambda operands, axis: [
            tuple(sum(o.shape[i] for o in operands) if i != axis else n for i, n in enumerate(operands[0].shape))]),
    "flip: axis typed as static": lambda: typed("flip", "axis", "static"),
    "argmax: axis typed as static": lambda: typed("argmax", "axis", "static"),
    "max_pool2d: padding counts as 0": lambda: changed("max_pool2d", pad=Pad(0, "multiply"), identity=lambda d: 0),
    "take: the lanes backwards": lambda: changed("take", batch=lambda *a, real=REGISTRY["take"].batch: [
        sh.flip(real(*a)[0], axis=0)]),
    "matmul: a vjp that forgets transpose_b": lambda: changed(
        "matmul", vjp=(lambda a, b, y, g, transpose_a, transpose_b, real=REGISTRY["matmul"].vjp[0]: real(
            a, sh.matrix_transpose(b) if transpose_b else b, y, g, transpose_a, False) * (1 + transpose_b),
            REGISTRY["matmul"].vjp[1])),
    "random_bits: the counter is not used": lambda: changed(
        "random_bits", numpy=lambda key, counter, shape, real=REGISTRY["random_bits"].numpy: real(
            key, counter * 0, shape=shape)),
}  # fmt: skip


def caught_by(make: Callable[[], Op]) -> str | None:
    """The first check that finds the fault."""
    mutant = make()
    original = REGISTRY[mutant.name]
    REGISTRY[mutant.name] = mutant
    try:
        for name in CHECKS:
            if check_op(mutant, [name]):
                return name
        if compiled_is_reference(mutant):
            return "compiled"
    finally:
        REGISTRY[mutant.name] = original
    return None


def main() -> int:
    """Runs all mutants; the number that survive."""
    survivors = 0
    for name, make in MUTANTS.items():
        found = caught_by(make)
        survivors += found is None
        print(f"{'caught by ' + found if found else 'SURVIVES':20} {name}")
    print(f"{len(MUTANTS) - survivors} of {len(MUTANTS)} caught")
    return survivors


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
