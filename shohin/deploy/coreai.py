"""Networks as Apple's Core AI ``.aimodel``, and their run by its interpreter, also on Linux: a second referee of the integers.

What is written is the network in evaluation mode on float32. A quantized one is float32 that holds integers, so its rounding is part of the model, and its
file is no smaller: the authoring folds int8 constants that are cast into float32 ones. Elementwise ops are translated from their bodies (loop IR); those that move, sum or
window have a rule each here, as operators have in an importer.

Source: coreai-core 1.0.0b3, ``coreai.authoring`` and ``coreai.runtime`` (BSD-3-Clause, Apple Inc.).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from coreai import authoring
from coreai.authoring import constant as constants
from coreai.runtime import NDArray

from shohin.compress.parameters import inline
from shohin.core import loop
from shohin.core.errors import DeployError
from shohin.core.graph import Graph, Node
from shohin.core.module import Module, mode
from shohin.core.op import Aval
from shohin.core.tensor import Tensor
from shohin.deploy.network import float_graph, one_each

ai: Any = authoring  # whose types know fewer numbers than it takes
constant: Any = constants.constant
SUFFIX = ".aimodel"


class CoreAI:
    """A ``.aimodel`` that is loaded; called, it runs: float32 (n, ...) in and out, the first output, one example at a time."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def __call__(self, x: Any) -> np.ndarray[Any, Any]:
        async def every() -> list[np.ndarray[Any, Any]]:
            async with ai.AIModelAsset.load(self.path).executable() as model:
                main = model.load_function("main")
                return [np.array((await main({"x": NDArray(row[None])}))["y"].numpy()) for row in np.ascontiguousarray(x, np.float32)]

        return np.concatenate(asyncio.run(every()))


def to_coreai(net: Module, example: Any, to: str | Path) -> Path:
    """Writes ``net`` for one example at a time as ``to`` (a folder named ``*.aimodel``), and returns it.

    Raises:
        DeployError: ops that have no rule, all at once with their places; several inputs or outputs; another name.

    >>> from shohin import nn
    >>> path = to_coreai(nn.Linear(3, 2), np.ones((1, 3), np.float32), "linear.aimodel")
    >>> CoreAI(path)(np.ones((4, 3))).shape
    (4, 2)
    """
    path = Path(to)
    if path.suffix != SUFFIX:
        raise DeployError(f"to_coreai: {path} has no name that ends in {SUFFIX}")
    aval = example.aval if isinstance(example, Tensor) else Aval(np.shape(example), np.asarray(example).dtype)
    with mode(net, training=False):
        graph = inline(float_graph(net, one_each([aval])), lambda _: False)
    if len(graph.outputs) != 1:
        raise DeployError(f"to_coreai: the network gives {len(graph.outputs)} outputs, expected one")
    missing = [f"{n.place} ({n.op.name})" for n in graph.nodes if n.op.name not in RULES and not _pointwise(n)]
    if missing:
        raise DeployError(f"to_coreai: no rule for {', '.join(missing)}; write them of others, or export C for the device")
    x, y = graph.inputs[0], graph.outputs[0]
    module = ai.Module.create()
    into, out = ai.TensorType(x.shape, np.float32, name="x"), ai.TensorType(y.shape, np.float32, name="y")

    def main(x: Any) -> Any:
        return _translated(graph, x)

    main.__annotations__ = {"x": Annotated[ai.Value, into], "return": Annotated[ai.Value, out]}
    with module:
        ai.graph(main)
    path.parent.mkdir(parents=True, exist_ok=True)
    ai.AIProgram(module).save_asset(path)
    return path


def _translated(graph: Graph, x: Any) -> Any:
    """Core AI's value of the output. What follows from constants alone is computed here, unstretched; its compiler fails on some of that."""
    values: dict[Any, Any] = {graph.inputs[0]: x, **{v: np.asarray(a) for v, a in graph.consts}}
    for node in graph.nodes:
        operands = [values[v] for v in node.operands]
        known = all(isinstance(a, np.ndarray) for a in operands)
        if known and not _pointwise(node):
            whole = [np.broadcast_to(a, v.shape) for a, v in zip(operands, node.operands, strict=True)]
            made = _thin(node, operands[0]) if node.op.name == "broadcast_to" else node.op.numpy(*whole, **node.attrs)
        elif known:
            made = np.asarray(node.op.numpy(*operands, **node.attrs), node.results[0].dtype)
        elif node.op.name in RULES:
            made = RULES[node.op.name](node, *operands)
        else:
            made = _elementwise(node, [_value(a) for a in operands])
        values[node.results[0]] = made
    return _value(values[graph.outputs[0]])


def _thin(node: Node, a: Any) -> Any:
    """A constant that shall be stretched, with a dim for each of the result's."""
    return a.reshape([1] * (len(node.results[0].shape) - a.ndim) + list(a.shape))


def _value(a: Any) -> Any:
    """A constant as a value of Core AI."""
    if not isinstance(a, np.ndarray):
        return a
    return constant(np.ascontiguousarray(a))


def _sizes(values: Sequence[int]) -> Any:
    return np.asarray(values, np.uint32)


def _turned(a: Any, axes: Sequence[int]) -> Any:
    return np.ascontiguousarray(a.transpose(axes)) if isinstance(a, np.ndarray) else ai.transpose(a, _sizes(axes))


# ---------------------------------------------------------------------------------------------- elementwise


def _pointwise(node: Node) -> bool:
    return node.op.kind == "elementwise" and node.op.body is not None


def _body(node: Node) -> Any:
    assert node.op.body is not None
    return node.op.body(*(loop.Name(str(k), v.dtype) for k, v in enumerate(node.operands)), **node.attrs)


def _number(value: float) -> Any:
    return constant(np.asarray(value, np.float32))


UNARY: dict[str, Callable[[Any], Any]] = {
    "neg": lambda a: ai.broadcasting_mul(a, _number(-1.0)), "abs": ai.abs_, "exp": ai.exp, "log": ai.log, "sqrt": ai.sqrt, "sin": ai.sin, "cos": ai.cos, "tanh": ai.tanh, "erf": ai.erf,
    "rint": ai.round_, "floor": lambda a: ai.floor_divide(a, _number(1.0)), "not": ai.not_,
}  # fmt: skip
BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "add": ai.broadcasting_add, "sub": ai.broadcasting_sub, "mul": ai.broadcasting_mul, "div": ai.broadcasting_divide, "max": ai.broadcasting_maximum, "min": ai.broadcasting_minimum,
    "pow": ai.broadcasting_pow, "gt": ai.broadcasting_greater, "lt": lambda a, b: ai.broadcasting_greater(b, a), "eq": ai.broadcasting_equal, "ne": ai.broadcasting_not_equal,
    "ge": lambda a, b: ai.not_(ai.broadcasting_greater(b, a)), "le": lambda a, b: ai.not_(ai.broadcasting_greater(a, b)), "and": ai.broadcasting_and, "or": ai.broadcasting_or,
}  # fmt: skip


def _elementwise(node: Node, operands: Sequence[Any]) -> Any:
    known: dict[int, Any] = {}

    def of(e: Any) -> Any:
        if id(e) not in known:
            known[id(e)] = made(e)
        return known[id(e)]

    def made(e: Any) -> Any:
        match e:
            case loop.Name():
                return operands[int(e.name)]
            case loop.Const():
                return constant(np.asarray(e.value, e.type))
            case loop.Un() if e.op in UNARY:
                return UNARY[e.op](of(e.a))
            case loop.Bin() if e.op in BINARY:
                return BINARY[e.op](of(e.a), of(e.b))
            case loop.Fma():
                return ai.broadcasting_add(ai.broadcasting_mul(of(e.a), of(e.b)), of(e.c))
            case loop.Select():
                return ai.broadcasting_where(of(e.condition), of(e.a), of(e.b))
            case loop.Cast():
                return ai.cast(of(e.a), np.dtype(e.type).type)
        raise DeployError(f"to_coreai: {node.place} ({node.op.name}) computes {e}, for which Core AI has no operation here")

    return of(_body(node))


# ------------------------------------------------------------------------------------------------ the others


def _padded(x: Any, padding: Any, value: float) -> Any:
    """An image (n, c, h, w) with rows and columns around it."""
    (top, bottom), (left, right) = padding
    return ai.pad(x, _sizes([0, 0, 0, 0, top, bottom, left, right]), np.float32(value)) if any((top, bottom, left, right)) else x


def _convolved(x: Any, w: Any, a: Any, dilation: Sequence[int], groups: int) -> Any:
    x = _padded(_turned(x, [0, 3, 1, 2]), a["padding"], 0.0)
    y = ai.conv2d(x, _value(_turned(w, [0, 3, 1, 2])), _sizes(a["stride"]), _sizes(dilation), np.uint32(groups))
    return _turned(y, [0, 2, 3, 1])


def _conv(node: Node, x: Any, w: Any) -> Any:
    return _convolved(x, w, node.attrs, node.attrs["dilation"], node.attrs["groups"])


def _window_sum(node: Node, x: Any) -> Any:
    c = node.operands[0].shape[-1]
    return _convolved(x, np.ones((c, *node.attrs["kernel"], 1), np.float32), node.attrs, (1, 1), c)


def _max_pool(node: Node, x: Any) -> Any:
    a, (n, h, w, c) = node.attrs, node.results[0].shape
    x = _padded(_turned(x, [0, 3, 1, 2]), a["padding"], -np.inf)
    y = ai.maxpool2d(ai.TensorType((n, c, h, w), np.float32), x, _sizes(a["kernel"]), _sizes(a["stride"]), _sizes([1, 1]), False)
    return _turned(y, [0, 2, 3, 1])


def _matmul(node: Node, a: Any, b: Any) -> Any:
    rank = len(node.operands[0].shape)
    swap = [*range(rank - 2), rank - 1, rank - 2]
    a, b = (_value(_turned(v, swap) if turn else v) for v, turn in ((a, node.attrs["transpose_a"]), (b, node.attrs["transpose_b"])))
    return ai.broadcasting_batch_matmul(a, b)


def _sum(node: Node, x: Any) -> Any:
    return ai.reshape(ai.reduce_sum(x, list(node.attrs["axis"])), list(node.results[0].shape))


def _broadcast(node: Node, x: Any) -> Any:
    shape = list(node.results[0].shape)
    own = node.operands[0].shape
    return ai.broadcast_to(ai.reshape(x, [*[1] * (len(shape) - len(own)), *own]), shape)


def _lookup(node: Node, q: Any, table: Any, *slope: Any) -> Any:
    """``table[(uint8) q]``: q mod 256."""
    count = int(np.prod(node.results[0].shape))
    at = ai.cast(ai.reshape(q, [count]), np.int32)
    at = ai.broadcasting_where(ai.broadcasting_greater(constant(np.int32(0)), at), ai.broadcasting_add(at, constant(np.int32(256))), at)
    return ai.reshape(ai.gather_along_axis(_value(table), at, 0), list(node.results[0].shape))


RULES: dict[str, Callable[..., Any]] = {
    "conv2d": _conv, "max_pool2d": _max_pool, "window_sum2d": _window_sum, "matmul": _matmul, "sum": _sum, "broadcast_to": _broadcast, "lookup_ste": _lookup,
    "reshape": lambda n, x: ai.reshape(x, list(n.results[0].shape)), "transpose": lambda n, x: _turned(x, n.attrs["axes"]),
    "concat": lambda n, *xs: ai.concat(n.attrs["axis"], [_value(x if not isinstance(x, np.ndarray) else np.broadcast_to(x, v.shape)) for x, v in zip(xs, n.operands, strict=True)]),
    "slice": lambda n, x: ai.slice_(x, list(n.attrs["start"]), list(n.attrs["stop"]), list(n.attrs["step"] or [1] * len(n.attrs["start"]))),
    "pad": lambda n, x: ai.pad(x, _sizes([k for both in n.attrs["padding"] for k in both]), np.float32(n.attrs["value"])),
}  # fmt: skip

__all__ = ["CoreAI", "to_coreai"]
