"""``grad``, ``value_and_grad``, ``vjp`` and what follows from them: ``hessian``, ``jacobian``."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from shohin.core import dtypes, interp, trees
from shohin.core.cells import Cell
from shohin.core.errors import GradientError
from shohin.core.tensor import Tensor, as_tensor
from shohin.ops import math, move
from shohin.transforms.arguments import Primal, cell_list, hand_down
from shohin.transforms.reverse import Reverse


def vjp(f: Callable[..., Any], *primals: Any, aux: bool = False) -> tuple[Any, ...]:
    """``(f(*primals), pullback)``; ``pullback(cotangent)`` gives one gradient an argument.

    Modules are differentiated with respect to their trainable cells; their gradient is a ``Paths``. With ``aux``
    ``f`` returns ``(output, extra)`` and the result is ``(output, pullback, extra)``.

    >>> y, back = vjp(lambda x: x * x, as_tensor(3.0))
    >>> float(back(1.0)[0])
    6.0
    """
    out, back, extra = _vjp(f, primals, range(len(primals)), None, {}, aux)
    return (out, back, extra) if aux else (out, back)


def _vjp(f: Callable[..., Any], args: Sequence[Any], argnums: Any, wrt: dict[Cell, str] | None, keywords: dict[str, Any], aux: bool) -> tuple[Any, Any, Any]:
    name = getattr(f, "__name__", "f")
    chosen = {i: Primal(args[i], f"grad of {name}, argument {i}") for i in argnums} if wrt is None else {}
    cells: dict[Cell, str] = dict(wrt or {})
    for primal in chosen.values():
        cells.update({c: p for p, c in primal.cells.items()})
    frame = Reverse(interp.current(), cells)
    lifted: dict[int, list[Tensor]] = {}
    with frame.inside():
        call = list(args)
        for i, primal in chosen.items():
            if not primal.is_module:
                lifted[i] = [frame.wrap(t) for t in primal.leaves]
                call[i] = primal.lifted(lifted[i])
        result = f(*call, **keywords)
        if aux:
            if not isinstance(result, tuple) or len(result) != 2:
                raise GradientError(f"{name}: with aux=True it returns (output, extra), got {type(result).__name__}")
            result, extra = result
        else:
            extra = None
        outputs, spec = trees.flatten(result)
        outputs = [as_tensor(t) for t in outputs]
    frame.close()
    plain = trees.unflatten(spec, [frame.value(t) for t in outputs])
    hand_down(frame, (result, extra))
    extra_leaves, extra_spec = trees.flatten(extra)
    extra = trees.unflatten(extra_spec, [frame.value(t) if isinstance(t, Tensor) else t for t in extra_leaves])
    numbers = [frame.number(t) for t in outputs]
    avals = [t.aval for t in outputs]

    def pullback(cotangent: Any) -> tuple[Any, ...]:
        given, got = trees.flatten(cotangent)
        if got != spec and not (len(given) == len(numbers) == 1):
            raise GradientError(f"{name}: the cotangent's structure differs from the output's")
        cts: list[Tensor] = []
        for g, aval in zip(given, avals, strict=True):
            ct = as_tensor(np.asarray(g, aval.dtype)) if not isinstance(g, Tensor) else g
            if ct.shape != aval.shape:
                raise GradientError(f"{name}: the cotangent is {ct.aval}, the output {aval}")
            cts.append(ct)
        found = frame.backward(list(zip(numbers, cts, strict=True)))
        grads: list[Any] = []
        for i, primal in chosen.items():
            if primal.is_module:
                values = [_cell_gradient(frame, found, c) for c in primal.cells.values()]
            else:
                values = [found.get(frame.number(t), None) for t in lifted[i]]  # type: ignore[arg-type]
                values = [math.zeros_like(p) if g is None else g for g, p in zip(values, primal.leaves, strict=True)]
            grads.append(primal.tree(values))
        if wrt is not None:
            grads = [_cell_gradient(frame, found, c) for c in wrt]
        return tuple(grads)

    return plain, pullback, extra


def _cell_gradient(frame: Reverse, found: dict[int, Tensor], cell: Cell) -> Tensor:
    number = frame.variables.get(cell)
    g = found.get(number) if number is not None else None
    return g if g is not None else move.zeros(cell.shape, dtype=cell.dtype)


def value_and_grad(f: Callable[..., Any], argnums: int | Sequence[int] = 0, *, wrt: Any = None, aux: bool = False) -> Callable[..., Any]:
    """A function that gives ``(f(...), gradient)``; ``f`` returns one floating scalar (with ``aux``: and an extra).

    Effects of ``f`` (batch-norm statistics, random counters) happen once. ``argnums`` chooses the arguments, ``wrt``
    cells instead. The gradient of a module is a ``Paths`` with one entry a trainable cell.
    """
    single = isinstance(argnums, int)

    @functools.wraps(f)
    def run(*args: Any, **keywords: Any) -> Any:
        numbers: Sequence[int] = (argnums,) if isinstance(argnums, int) else tuple(argnums)
        if wrt is None and any(not -len(args) <= i < len(args) for i in numbers):
            raise GradientError(f"grad of {getattr(f, '__name__', 'f')}: argnums {argnums} with {len(args)} positional arguments")
        numbers = [i % len(args) for i in numbers] if wrt is None else []
        value, back, extra = _vjp(f, args, numbers, cell_list(wrt) if wrt is not None else None, keywords, aux)
        if not isinstance(value, Tensor) or value.shape != () or value.dtype not in dtypes.FLOATING:
            what = str(value.aval) if isinstance(value, Tensor) else type(value).__name__
            raise GradientError(f"grad of {getattr(f, '__name__', 'f')}: it returns {what}, expected one floating-point scalar; take .mean() or .sum(), or use sh.vjp")
        grads = back(math.ones_like(value))
        grad = grads[0] if (single and wrt is None) or (wrt is not None and not isinstance(wrt, list | tuple)) else grads
        return ((value, extra), grad) if aux else (value, grad)

    return run


def grad(f: Callable[..., Any], argnums: int | Sequence[int] = 0, *, wrt: Any = None, aux: bool = False) -> Callable[..., Any]:
    """``value_and_grad`` without the value (with ``aux``: ``(gradient, extra)``).

    >>> float(grad(lambda x: x * x * x)(as_tensor(2.0)))
    12.0
    """
    both = value_and_grad(f, argnums, wrt=wrt, aux=aux)

    @functools.wraps(f)
    def run(*args: Any, **keywords: Any) -> Any:
        value, g = both(*args, **keywords)
        return (g, value[1]) if aux else g

    return run
