"""Reverse mode: the frame that records a tape, and its pullback.

``Reverse`` runs every op in its parent and keeps what touched a variable. Values stay concrete in eager: a Python
``if`` and ``print`` work. The pullback is pure and may be called again; its ops are recorded by outer frames, so
derivatives nest. Ops that hold graphs are differentiated by ``split_vjp``: the body's backward pass as a graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shohin.core import interp
from shohin.core.cells import Cell
from shohin.core.dtypes import FLOATING
from shohin.core.errors import GradientError, StateError
from shohin.core.graph import Graph, Var
from shohin.core.interp import Frame
from shohin.core.op import DERIVED, NO_GRADIENT, NO_REVERSE, Op
from shohin.core.tensor import Tensor
from shohin.core.trace import prune, run, stage
from shohin.ops import kinds, math

GRAPH_RULES: dict[str, Callable[..., tuple[list[Tensor], Callable[[list[Tensor | None]], list[Tensor | None]]]]] = {}
"""For the kinds of op that hold graphs (``op.kind``): (op, operands, attrs, mask) -> results and their pullback."""


@dataclass(frozen=True)
class Entry:
    """One op on the tape: numbers of its operands and results among the frame's variables, and how cotangents go back."""

    operands: tuple[int | None, ...]
    results: tuple[int | None, ...]
    back: Callable[[list[Tensor | None]], Sequence[Tensor | None]]
    place: str
    avals: tuple[Any, ...]


class Reverse(Frame):
    """``payload`` of its tensors: (the parent's tensor, variable number)."""

    kind = "grad"
    online = differentiates = True

    def __init__(self, parent: Frame, cells: Mapping[Cell, str]) -> None:
        super().__init__(parent)
        self.tape: list[Entry] = []
        self.count = 0
        self.wrt = cells
        self.variables: dict[Cell, int] = {}

    def wrap(self, value: Tensor) -> Tensor:
        """A variable of this frame that holds the parent's ``value``."""
        self.count += 1
        return interp.make(None, self, (value, self.count - 1), value.aval)  # type: ignore[arg-type]

    def peek(self, tensor: Tensor) -> Tensor:
        return tensor.payload[0]

    def value(self, tensor: Tensor) -> Tensor:
        """The parent's tensor behind one of this frame (or of an outer one)."""
        return tensor.payload[0] if tensor.frame is self else self.admit(tensor)

    def number(self, tensor: Tensor) -> int | None:
        return tensor.payload[1] if tensor.frame is self else None

    def bind(self, op: Op, operands: Sequence[Tensor], attrs: Mapping[str, Any]) -> tuple[Tensor, ...]:
        values = [self.value(t) for t in operands]
        numbers = tuple(self.number(t) for t in operands)
        where = interp.place()
        with self.outside():
            mask = [n is not None for n in numbers]
            if op.kind in GRAPH_RULES and any(mask):
                results, back = GRAPH_RULES[op.kind](op, values, attrs, mask)
            else:
                results = list(interp.bind(op, values, attrs))
                if not any(mask) or not differentiable(op, numbers):
                    return tuple(results)
                back = _rule(op, values, results, attrs, mask)
        out = [self.wrap(r) if r.dtype in FLOATING else r for r in results]
        self.tape.append(Entry(numbers, tuple(self.number(t) for t in out), back, where, tuple(r.aval for r in results)))
        return tuple(out)

    def lift_cell(self, cell: Cell, value: Tensor) -> Tensor:
        if cell in self.wrt:
            lifted = self.wrap(value)
            self.variables[cell] = lifted.payload[1]
            return lifted
        return value

    def check_write(self, cell: Cell, value: Tensor) -> None:
        if cell in self.wrt:
            raise StateError(f"{cell} is being differentiated and cannot be assigned inside grad; write to a copy: fast = sh.copy(net)")

    def lower(self, cell: Cell, value: Tensor) -> Tensor:
        return self.value(value)

    def backward(self, outputs: Sequence[tuple[int | None, Tensor | None]]) -> dict[int, Tensor]:
        """Cotangents of all variables from those of ``outputs`` (number, cotangent); runs in the parent."""
        found: dict[int, Tensor] = {}

        def give(number: int | None, g: Tensor | None) -> None:
            if number is not None and g is not None:
                found[number] = found[number] + g if number in found else g

        for number, g in outputs:
            give(number, g)
        for entry in reversed(self.tape):
            cotangents = [found.get(n) if n is not None else None for n in entry.results]
            if all(g is None for g in cotangents):
                continue
            with _backward_place(entry.place):
                for number, g in zip(entry.operands, entry.back(cotangents), strict=True):
                    give(number, g)
        return found


class Pure(Frame):
    """Around a backward rule that a user wrote: ops pass to the parent, cells and random numbers are refused."""

    kind = "a backward rule"
    online = True

    def bind(self, op: Op, operands: Sequence[Tensor], attrs: Mapping[str, Any]) -> tuple[Tensor, ...]:
        with self.outside():
            return interp.bind(op, operands, attrs)

    def read(self, cell: Cell) -> Tensor:
        if cell in self.new:
            return self.now[cell]
        raise GradientError(f"a backward rule reads {cell}; it is pure: no cell and no random number; pass the value as an argument of the function")

    def check_write(self, cell: Cell, value: Tensor) -> None:
        if cell not in self.new:
            raise GradientError(f"a backward rule writes {cell}; it is pure: effects happen once, in the forward pass")


def _backward_place(place: str) -> Any:
    return interp.at(place + "'" if place.startswith("=") else place if place.endswith("'") else place + "'")


def differentiable(op: Op, numbers: Sequence[int | None]) -> bool:
    """Does a gradient reach any of the numbered operands?"""
    if not isinstance(op.vjp, tuple):
        return True
    rules = [op.vjp[min(k, len(op.vjp) - 1)] for k in range(len(numbers))]
    if NO_REVERSE in rules and any(n is not None for n in numbers):
        raise GradientError(f"{op.name} has no reverse mode (the number of steps is not known); use sh.scan, or sh.jvp for forward mode")
    return any(n is not None and rule is not NO_GRADIENT for n, rule in zip(numbers, rules, strict=True))


def _rule(op: Op, operands: list[Tensor], results: list[Tensor], attrs: Mapping[str, Any], mask: list[bool]) -> Callable[[list[Tensor | None]], Sequence[Tensor | None]]:
    def back(given: list[Tensor | None]) -> Sequence[Tensor | None]:
        cotangents = [math.zeros_like(r) if g is None else g for r, g in zip(results, given, strict=True)]
        if callable(op.vjp):
            grads = op.vjp(operands, results, cotangents, **attrs)
            return [g if wanted else None for g, wanted in zip(grads, mask, strict=True)]
        found: list[Tensor | None] = []
        for k, wanted in enumerate(mask):
            rule = op.vjp[k]
            if not wanted or rule is NO_GRADIENT or operands[k].dtype not in FLOATING:
                found.append(None)
            elif rule is DERIVED:
                found.append(transposed(op, k, operands, cotangents[0], attrs))
            else:
                found.append(rule(*operands, *results, *cotangents, **attrs))  # type: ignore[operator]
        return found

    return back


def transposed(op: Op, k: int, operands: Sequence[Tensor], g: Tensor, attrs: Mapping[str, Any]) -> Tensor:
    """The gradient of a linear op with respect to operand k: the member of its family with that result."""
    base, names = kinds.FAMILIES[op.name]
    roles = {name: operands[i] for i, name in enumerate(names)}  # role -> value; a slot whose role is the result holds y
    own = op.name[len(base) + 2 :] if op.name != base else "y"
    if own != "y":
        roles["y"] = roles.pop(own)
    wanted = names[k] if names[k] != own else "y"
    shape = operands[k].shape
    roles.pop(wanted)
    roles[own] = g
    plain = {a: v for a, v in attrs.items() if a != "shape"}
    if wanted == "y":
        return interp.bind(kinds.get(base), [roles[n] for n in names], plain)[0]
    slots = [roles["y"] if n == wanted else roles[n] for n in names]
    return interp.bind(kinds.get(f"{base}_d{wanted}"), slots, {**plain, "shape": shape})[0]


# ----------------------------------------------------------------------------------------- bodies as graphs


@dataclass(frozen=True)
class SplitVjp:
    """A graph's forward pass with residuals as extra outputs, and its backward pass.

    ``forward``: inputs -> outputs + residuals. ``backward``: residuals + cotangents of the floating outputs (all
    outputs, in order; ``given`` says which) -> cotangents of the inputs in ``wrt``.
    """

    forward: Graph
    backward: Graph
    residuals: int
    given: tuple[bool, ...]
    wrt: tuple[bool, ...]


def split_vjp(graph: Graph, wrt: Sequence[bool], recompute: bool = False) -> SplitVjp:
    """Differentiate a graph once and cut it where the cotangents enter. ``recompute`` saves nothing but the inputs."""
    given = tuple(v.dtype in FLOATING for v in graph.outputs)
    mask = tuple(w and v.dtype in FLOATING for w, v in zip(wrt, graph.inputs, strict=True))
    cotangents = [v.aval for v, g in zip(graph.outputs, given, strict=True) if g]
    n = len(graph.inputs)

    def joint(*inputs: Tensor) -> list[Tensor]:
        primals, cts = inputs[:n], iter(inputs[n:])
        frame = Reverse(interp.current(), {})
        with frame.inside():
            lifted = [frame.wrap(p) if m else p for p, m in zip(primals, mask, strict=True)]
            outputs = run(graph, lifted)
        numbered = [(frame.number(o), next(cts) if g else None) for o, g in zip(outputs, given, strict=True)]
        found = frame.backward(numbered)
        frame.open = False
        grads = [found.get(frame.number(t), None) if m else None for t, m in zip(lifted, mask, strict=True)]  # type: ignore[arg-type]
        return [frame.value(o) for o in outputs] + [math.zeros_like(p) if g is None else g for g, p, m in zip(grads, primals, mask, strict=True) if m]

    staged = stage(joint, [*(v.aval for v in graph.inputs), *cotangents], [*graph.names, *(f"ct{i}" for i in range(len(cotangents)))])
    if staged.tensors or staged.cells:
        raise GradientError("a backward rule reads a tensor or cell from outside; pass it as an argument")
    whole = staged.graph
    outs = len(graph.outputs)
    primal_inputs, ct_inputs = whole.inputs[:n], whole.inputs[n:]
    late: set[Var] = set(ct_inputs)
    for node in whole.nodes:
        if any(v in late for v in node.operands):
            late.update(node.results)
    early_nodes = [node for node in whole.nodes if not any(v in late for v in node.results)]
    late_nodes = [node for node in whole.nodes if any(v in late for v in node.results)]
    consts = {v for v, _ in whole.consts}
    if recompute:
        residual, backward_nodes = list(primal_inputs), list(whole.nodes)
    else:
        needed = [v for node in late_nodes for v in node.operands] + list(whole.outputs[outs:])
        residual = [v for v in dict.fromkeys(needed) if v not in late and v not in consts]
        backward_nodes = late_nodes
    forward = prune(Graph(primal_inputs, whole.names[:n], whole.consts, tuple(early_nodes), (*whole.outputs[:outs], *residual)))
    if recompute:
        backward = prune(Graph(whole.inputs, whole.names, whole.consts, tuple(backward_nodes), whole.outputs[outs:]))
    else:
        names = tuple(f"r{i}" for i in range(len(residual))) + whole.names[n:]
        backward = prune(Graph((*residual, *ct_inputs), names, whole.consts, tuple(backward_nodes), whole.outputs[outs:]))
    return SplitVjp(forward, backward, len(residual), given, mask)


def call_rule(op: Op, operands: list[Tensor], attrs: Mapping[str, Any], mask: list[bool]) -> Any:
    """``name`` becomes ``name.fwd`` (with extra results) and ``name.bwd``: boundaries survive backward."""
    recompute = bool(dict(attrs["config"]).get("checkpoint"))
    split = split_vjp(attrs["body"], mask, recompute)
    name = attrs["name"]
    forward = interp.bind(op, operands, {**attrs, "name": f"{name}.fwd", "body": split.forward})
    outputs = list(forward[: len(split.given)])
    residuals = forward[len(split.given) :]

    def back(given: list[Tensor | None]) -> list[Tensor | None]:
        cts = [math.zeros_like(o) if g is None else g for o, g, f in zip(outputs, given, split.given, strict=True) if f]
        grads = iter(interp.bind(op, [*residuals, *cts], {**attrs, "name": f"{name}.bwd", "body": split.backward}))
        return [next(grads) if m else None for m in split.wrt]

    return outputs, back





__all__ = ["GRAPH_RULES", "Pure", "Reverse", "SplitVjp", "differentiable", "split_vjp", "transposed"]
