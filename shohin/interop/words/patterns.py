"""Functions that an origin spells out: known by what was made of what, so that plans, tables and kernels see one op.

A pattern is ``X`` (the argument), a number, or ``(function, pattern, ...)``; sums and products match in either order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import pi, sqrt
from typing import Any

from shohin.interop.builder import Builder, Value
from shohin.interop.network import Literal
from shohin.nn import functional as F
from shohin.ops import math

Pattern = Any
X = "x"
_COMMUTE = (math.add, math.multiply)


def _either(*patterns: Pattern) -> tuple[Any, ...]:
    return ("or", *patterns)


def _over(x: Pattern, by: float) -> Pattern:
    return _either((math.divide, x, by), (math.multiply, x, 1 / by))


_CLIPPED = (math.relu6, (math.add, X, 3.0))
_CUBE = _either((math.pow, X, 3.0), (math.multiply, (math.multiply, X, X), X), (math.multiply, (math.square, X), X))
_BENT = _either((math.multiply, _CUBE, 0.044715), (math.multiply, X, (math.multiply, X, (math.multiply, X, 0.044715))))
_ERF = (math.add, (math.erf, _over(X, sqrt(2))), 1.0)
_TANH = (math.add, (math.tanh, (math.multiply, (math.add, X, _BENT), sqrt(2 / pi))), 1.0)


def _halved(gate: Pattern) -> Pattern:
    """``x gate / 2`` in all its spellings."""
    half = lambda p: _over(p, 2.0)
    return _either(half((math.multiply, X, gate)), (math.multiply, half(X), gate), (math.multiply, X, half(gate)))


PATTERNS: tuple[tuple[Pattern, Callable[..., Any], Mapping[str, Any]], ...] = (
    (_over(_CLIPPED, 6.0), F.hardsigmoid, {}),
    (_either((math.multiply, X, (F.hardsigmoid, X)), _over((math.multiply, X, _CLIPPED), 6.0)), F.hardswish, {}),
    ((math.multiply, X, (math.sigmoid, X)), F.silu, {}),
    (_halved(_ERF), F.gelu, {"approximate": "none"}),
    (_halved(_TANH), F.gelu, {"approximate": "tanh"}),
)


def spelled(b: Builder, call: Callable[..., Any], inputs: Sequence[Any]) -> tuple[int, Callable[..., Any], Mapping[str, Any]] | None:
    """What ``call(*inputs)`` is by another name: the argument's number, the function and its attributes."""
    operands = tuple(v.key if isinstance(v, Value) and v.data is None else v if isinstance(v, float) else None for v in inputs)
    for pattern, function, attrs in PATTERNS:
        for x in _matches(b, pattern, (call, *operands), None):
            if x is not None:
                return x, function, attrs
    return None


def _matches(b: Builder, pattern: Pattern, found: Any, x: int | None) -> list[int | None]:
    """The arguments for which ``found`` is the pattern: a number, the number of a value, or a call; ``x``: known already."""
    if pattern == X:
        return [found] if type(found) is int and x in (None, found) else []
    if isinstance(pattern, float):
        return [x] if isinstance(found, float) and abs(found - pattern) <= 1e-6 * abs(pattern) else []
    if pattern[0] == "or":
        return [m for p in pattern[1:] for m in _matches(b, p, found, x)]
    if type(found) is int:
        step = b.made.get(found)
        if step is None or len(step.outputs) != 1:
            return []
        found = (step.call, *(v.value if isinstance(v, Literal) else v for v in step.inputs))
    if not isinstance(found, tuple) or found[0] is not pattern[0] or len(found) != len(pattern):
        return []
    results: list[int | None] = []
    for args in (found[1:], found[:0:-1]) if pattern[0] in _COMMUTE else (found[1:],):
        known: list[int | None] = [x]
        for p, v in zip(pattern[1:], args):
            known = [m for k in known for m in _matches(b, p, v, k)]
        results += known
    return results


__all__ = ["PATTERNS", "spelled"]
