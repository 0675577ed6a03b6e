"""Ops that hold graphs: call, scan, cond, while_loop. Their meaning is to run the body.

A body is a pure graph; state that the Python function reads or writes is among its inputs and outputs
(``core.trace.stage``), so these ops know nothing of cells. The Python faces are in ``transforms/control.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from shohin.core import dtypes
from shohin.core.axes import Shape
from shohin.core.errors import ShapeError
from shohin.core.graph import Graph, Var
from shohin.core.op import DERIVED, EXACT, NO_REVERSE, Attr, Aval, Dtypes, Op, Quant, Tol, register

Array = np.ndarray[Any, Any]
_ALL = dtypes.ANY | dtypes.COMPLEX


def run_numpy(graph: Graph, arrays: Sequence[Array]) -> list[Array]:
    """A graph's outputs by the NumPy references of its ops."""
    values: dict[Var, Array] = dict(zip(graph.inputs, arrays, strict=True))
    values.update(graph.consts)
    for node in graph.nodes:
        found = node.op.numpy(*(values[v] for v in node.operands), **node.attrs)
        for v, a in zip(node.results, found if isinstance(found, tuple) else (found,), strict=True):
            values[v] = np.asarray(a, v.dtype)
    return [values[v] for v in graph.outputs]


def _dtypes(of: Any) -> Dtypes:
    return Dtypes(accepted=(_ALL,), same=False, result=of, compute=lambda d: d, accumulator=lambda d: d)


def _match(where: str, graph: Graph, operands: Sequence[Aval]) -> None:
    expected = [v.aval for v in graph.inputs]
    if list(operands) != expected:
        raise ShapeError(f"{where}: operands are {', '.join(map(str, operands))}, the body takes {', '.join(map(str, expected))}")


def _op(name: str, doc: str, source: str, attrs: Mapping[str, Attr], shape: Any, of: Any, numpy: Any, vjp: Any, tol: Tol = EXACT) -> Op:
    return register(Op(
        name=name, kind="call" if name == "call" else "control", doc=doc, source=source, operands=("*xs",), results=("*ys",), attrs=attrs, dtypes=_dtypes(of), axes=None, shape=shape,
        body=None, combiner=None, identity=None, order=None, pad=None, fin=None, numpy=numpy, vjp=vjp, nest="control", batch=None, alias=False,
        quant=Quant("inline"), tol=tol, samples=lambda rng: [], edges=(),
    ))  # fmt: skip


# ------------------------------------------------------------------------------------------------- call


def _call_shape(operands: Sequence[Aval], name: str, body: Graph, config: Any) -> Sequence[Shape]:
    _match(f"call {name}", body, operands)
    return [v.shape for v in body.outputs]


call = _op("call", "A named composite: its body is its meaning; a target's kernel may claim it by name.", "design, composites",
           {"name": Attr(type="static"), "body": Attr(type="graph"), "config": Attr(type="static")}, _call_shape,
           lambda found, a: tuple(v.dtype for v in a["body"].outputs), lambda *xs, name, body, config: tuple(run_numpy(body, xs)), (DERIVED,))  # fmt: skip


# ------------------------------------------------------------------------------------------------- scan


def _scan_parts(operands: Sequence[Any], consts: int, carry: int) -> tuple[Sequence[Any], Sequence[Any], Sequence[Any]]:
    return operands[:consts], operands[consts : consts + carry], operands[consts + carry :]


def _scan_shape(operands: Sequence[Aval], body: Graph, consts: int, carry: int, length: int, reverse: bool) -> Sequence[Shape]:
    c, h, xs = _scan_parts(operands, consts, carry)
    for x in xs:
        if not x.shape or x.shape[0] != length:
            raise ShapeError(f"scan: an input has shape {x.shape}, expected a leading extent of {length}")
    _match("scan", body, [*c, *h, *(Aval(x.shape[1:], x.dtype) for x in xs)])
    if [v.aval for v in body.outputs[:carry]] != list(h):
        raise ShapeError(f"scan: the carry is {', '.join(map(str, h))}, the body returns {', '.join(str(v.aval) for v in body.outputs[:carry])}")
    return [v.shape for v in body.outputs[:carry]] + [(length, *v.shape) for v in body.outputs[carry:]]


def _scan_numpy(*operands: Array, body: Graph, consts: int, carry: int, length: int, reverse: bool) -> tuple[Array, ...]:
    c, h, xs = _scan_parts(operands, consts, carry)
    state = list(h)
    ys = [np.zeros((length, *v.shape), v.dtype) for v in body.outputs[carry:]]
    for i in reversed(range(length)) if reverse else range(length):
        out = run_numpy(body, [*c, *state, *(x[i] for x in xs)])
        state = out[:carry]
        for y, value in zip(ys, out[carry:], strict=True):
            y[i] = value
    return (*state, *ys)


scan = _op("scan", "A body run ``length`` times over slices of its inputs, carrying values from one to the next.", "jax.lax.scan's semantics",
           {"body": Attr(type="graph"), "consts": Attr(type="static"), "carry": Attr(type="static"), "length": Attr(type="static"), "reverse": Attr(type="static")},
           _scan_shape, lambda found, a: tuple(v.dtype for v in a["body"].outputs), _scan_numpy, (DERIVED,))  # fmt: skip

# ------------------------------------------------------------------------------------------------- cond


def _cond_shape(operands: Sequence[Aval], true: Graph, false: Graph) -> Sequence[Shape]:
    if operands[0] != Aval((), dtypes.bool_):
        raise ShapeError(f"cond: the predicate is {operands[0]}, expected one bool without dims")
    _match("cond", true, operands[1:])
    _match("cond", false, operands[1:])
    if [v.aval for v in true.outputs] != [v.aval for v in false.outputs]:
        raise ShapeError(f"cond: one branch gives {', '.join(str(v.aval) for v in true.outputs)}, the other {', '.join(str(v.aval) for v in false.outputs)}")
    return [v.shape for v in true.outputs]


cond = _op("cond", "One of two bodies, by a bool.", "jax.lax.cond's semantics", {"true": Attr(type="graph"), "false": Attr(type="graph")}, _cond_shape,
           lambda found, a: tuple(v.dtype for v in a["true"].outputs), lambda p, *xs, true, false: tuple(run_numpy(true if p else false, xs)), (DERIVED,))  # fmt: skip

# ------------------------------------------------------------------------------------------------ while


def _while_shape(operands: Sequence[Aval], test: Graph, body: Graph, consts: int, test_consts: int) -> Sequence[Shape]:
    a, b, h = operands[:test_consts], operands[test_consts : test_consts + consts], operands[test_consts + consts :]
    _match("while_loop test", test, [*a, *h])
    _match("while_loop", body, [*b, *h])
    if [v.aval for v in test.outputs] != [Aval((), dtypes.bool_)]:
        raise ShapeError(f"while_loop: the test gives {', '.join(str(v.aval) for v in test.outputs)}, expected one bool without dims")
    if [v.aval for v in body.outputs] != list(h):
        raise ShapeError(f"while_loop: the state is {', '.join(map(str, h))}, the body returns {', '.join(str(v.aval) for v in body.outputs)}")
    return [o.shape for o in h]


def _while_numpy(*operands: Array, test: Graph, body: Graph, consts: int, test_consts: int) -> tuple[Array, ...]:
    a, b, state = operands[:test_consts], operands[test_consts : test_consts + consts], list(operands[test_consts + consts :])
    while run_numpy(test, [*a, *state])[0]:
        state = run_numpy(body, [*b, *state])
    return tuple(state)


while_loop = _op("while_loop", "A body run while a test of its state holds.", "jax.lax.while_loop's semantics",
                 {"test": Attr(type="graph"), "body": Attr(type="graph"), "consts": Attr(type="static"), "test_consts": Attr(type="static")}, _while_shape,
                 lambda found, a: tuple(v.dtype for v in a["body"].outputs), _while_numpy, (NO_REVERSE,))  # fmt: skip
