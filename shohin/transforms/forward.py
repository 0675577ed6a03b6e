"""Forward mode, without a rule of its own: a tangent is the transpose of the transpose.

An op's vjp is linear in the cotangent, so pulling a tangent back through the vjp gives the op's tangent. The frame
runs online, in eager and in traces alike; ops that hold graphs push tangents through their bodies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from shohin.core import interp, trees
from shohin.core.cells import Cell
from shohin.core.dtypes import FLOATING
from shohin.core.errors import GradientError, StateError
from shohin.core.graph import Graph
from shohin.core.interp import Frame
from shohin.core.op import DERIVED, NO_GRADIENT, Op
from shohin.core.tensor import Tensor, as_tensor
from shohin.core.trace import run, stage
from shohin.ops import math
from shohin.transforms.arguments import Primal, hand_down
from shohin.transforms.reverse import Reverse, transposed

GRAPH_RULES: dict[str, Callable[..., tuple[list[Tensor], list[Tensor | None]]]] = {}
"""For ops that hold graphs, by name: (op, operands, tangents, attrs) -> results and tangents."""


class Forward(Frame):
    """``payload`` of its tensors: (the parent's value, the parent's tangent)."""

    kind = "jvp"
    online = True

    def __init__(self, parent: Frame, tangents: Mapping[Cell, Tensor]) -> None:
        super().__init__(parent)
        self.tangents = tangents

    def wrap(self, value: Tensor, tangent: Tensor) -> Tensor:
        return interp.make(None, self, (value, tangent), value.aval)  # type: ignore[arg-type]

    def peek(self, tensor: Tensor) -> Tensor:
        return tensor.payload[0]

    def value(self, tensor: Tensor) -> Tensor:
        return tensor.payload[0] if tensor.frame is self else self.admit(tensor)

    def tangent(self, tensor: Tensor) -> Tensor | None:
        return tensor.payload[1] if tensor.frame is self else None

    def bind(self, op: Op, operands: Sequence[Tensor], attrs: Mapping[str, Any]) -> tuple[Tensor, ...]:
        values, tangents = [self.value(t) for t in operands], [self.tangent(t) for t in operands]
        with self.outside():
            if all(t is None for t in tangents):
                return interp.bind(op, values, attrs)
            if op.name in GRAPH_RULES:
                results, moved = GRAPH_RULES[op.name](op, values, tangents, attrs)
            else:
                results = list(interp.bind(op, values, attrs))
                moved = _push(op, values, results, tangents, attrs)
        return tuple(r if t is None else self.wrap(r, t) for r, t in zip(results, moved, strict=True))

    def lift_cell(self, cell: Cell, value: Tensor) -> Tensor:
        return self.wrap(value, self.tangents[cell]) if cell in self.tangents else value

    def check_write(self, cell: Cell, value: Tensor) -> None:
        if cell in self.tangents:
            raise StateError(f"{cell} is being differentiated and cannot be assigned inside jvp; write to a copy: fast = sh.copy(net)")

    def lower(self, cell: Cell, value: Tensor) -> Tensor:
        return self.value(value)


def _push(op: Op, operands: list[Tensor], results: list[Tensor], tangents: list[Tensor | None], attrs: Mapping[str, Any]) -> list[Tensor | None]:
    """Tangents of the results: the op's vjp as a function of its cotangents, pulled back with the tangents."""
    floats = [k for k, r in enumerate(results) if r.dtype in FLOATING]
    if not floats:
        return [None] * len(results)
    frame = Reverse(interp.current(), {})
    with frame.inside():
        dummies = [frame.wrap(math.zeros_like(r)) if k in floats else math.zeros_like(r) for k, r in enumerate(results)]
        grads: list[tuple[Tensor, Tensor]] = []
        rules = op.vjp(operands, results, dummies, **attrs) if callable(op.vjp) else None
        for k, t in enumerate(tangents):
            if t is None:
                continue
            if rules is not None:
                g = rules[k]
            else:
                rule = op.vjp[k]  # type: ignore[index]
                if rule is NO_GRADIENT:
                    continue
                g = transposed(op, k, operands, dummies[0], attrs) if rule is DERIVED else rule(*operands, *results, *dummies, **attrs)  # type: ignore[operator]
            grads.append((g, t))
    found = frame.backward([(frame.number(g), t) for g, t in grads])
    frame.open = False
    return [found.get(frame.number(d)) if k in floats else None for k, d in enumerate(dummies)]  # type: ignore[arg-type]


def jvp_graph(graph: Graph, mask: Sequence[bool]) -> tuple[Graph, tuple[bool, ...]]:
    """A graph of inputs + tangents of the masked inputs -> outputs + tangents of the floating outputs (zeros where none)."""
    moving = [m and v.dtype in FLOATING for m, v in zip(mask, graph.inputs, strict=True)]
    n = len(graph.inputs)
    floats = tuple(v.dtype in FLOATING for v in graph.outputs)

    def joint(*inputs: Tensor) -> list[Tensor]:
        given = iter(inputs[n:])
        frame = Forward(interp.current(), {})
        with frame.inside():
            outputs = run(graph, [frame.wrap(p, next(given)) if m else p for p, m in zip(inputs[:n], moving, strict=True)])
        frame.open = False
        values = [frame.value(o) for o in outputs]
        return values + [math.zeros_like(v) if (t := frame.tangent(o)) is None else t for o, v, f in zip(outputs, values, floats, strict=True) if f]

    avals = [v.aval for v in graph.inputs] + [v.aval for v, m in zip(graph.inputs, moving, strict=True) if m]
    return stage(joint, avals).graph, floats


def _call(op: Op, operands: list[Tensor], tangents: list[Tensor | None], attrs: Mapping[str, Any]) -> tuple[list[Tensor], list[Tensor | None]]:
    mask = [t is not None for t in tangents]
    body, floats = jvp_graph(attrs["body"], mask)
    out = interp.bind(op, [*operands, *(t for t in tangents if t is not None)], {**attrs, "name": f"{attrs['name']}.jvp", "body": body})
    given = iter(out[len(floats) :])
    return list(out[: len(floats)]), [next(given) if f else None for f in floats]


GRAPH_RULES["call"] = _call


def jvp(f: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any], *, aux: bool = False) -> tuple[Any, ...]:
    """``(f(*primals), its derivative along tangents)``. A module's tangent is a dictionary by path (missing paths: zero).

    >>> y, t = jvp(lambda x: x * x, (as_tensor(3.0),), (as_tensor(1.0),))
    >>> float(t)
    6.0
    """
    if len(primals) != len(tangents):
        raise GradientError(f"jvp: {len(primals)} primals but {len(tangents)} tangents")
    chosen = [Primal(p, f"jvp, argument {i}") for i, p in enumerate(primals)]
    cells: dict[Cell, Tensor] = {}
    leaf_tangents: dict[int, list[Tensor]] = {}
    for i, (primal, tangent) in enumerate(zip(chosen, tangents, strict=True)):
        if primal.is_module:
            unknown = set(tangent) - set(primal.cells)
            if unknown:
                raise GradientError(f"jvp: the tangent names {sorted(unknown)[0]!r}, which is no trainable path of the module")
            for path, t in tangent.items():
                cells[primal.cells[path]] = _fit(t, primal.cells[path].aval, path)
        else:
            leaves, spec = trees.flatten(tangent)
            if spec != primal.spec:
                raise GradientError(f"jvp: tangent {i} has another structure than its primal")
            leaf_tangents[i] = [_fit(t, p.aval, f"argument {i}") for t, p in zip(leaves, primal.leaves, strict=True)]
    frame = Forward(interp.current(), cells)
    with frame.inside():
        call = [p.value if p.is_module else p.lifted([frame.wrap(v, t) for v, t in zip(p.leaves, leaf_tangents[i], strict=True)]) for i, p in enumerate(chosen)]
        result = f(*call)
        result, extra = result if aux else (result, None)
        outputs, spec = trees.flatten(result)
        outputs = [as_tensor(o) for o in outputs]
    frame.close()
    hand_down(frame, (result, extra))
    values = [frame.value(o) for o in outputs]
    moved = [math.zeros_like(v) if (t := frame.tangent(o)) is None else t for o, v in zip(outputs, values, strict=True)]
    out = (trees.unflatten(spec, values), trees.unflatten(spec, moved))
    if not aux:
        return out
    leaves, spec = trees.flatten(extra)
    return (*out, trees.unflatten(spec, [frame.value(t) if isinstance(t, Tensor) else t for t in leaves]))


def _fit(tangent: Any, aval: Any, where: str) -> Tensor:
    t = tangent if isinstance(tangent, Tensor) else as_tensor(np.asarray(tangent, aval.dtype))
    if t.shape != aval.shape or t.dtype != aval.dtype:
        raise GradientError(f"jvp: the tangent of {where} is {t.aval}, expected {aval}")
    return t
