"""The walk's rules: which steps an op makes, and what follows it that belongs to it, one function a rule."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np

from shohin.compress import extents
from shohin.compress.steps import Add, Concat, Contract, Move, Mul, Norm, Pool, Table
from shohin.compress.walk import RULES, Walk, module_of, quant_of, rule
from shohin.core import dtypes
from shohin.core.graph import Node, Var
from shohin.core.op import Op, Quant
from shohin.ops.qlinear import channels_dim

# ------------------------------------------------------------------------------------------------ contractions


@rule("Q2 contraction")
def contraction(w: Walk, node: Node) -> None:
    """A contraction of an activation with a parameter that has the output channels in one dim; of two activations: Q12 m."""
    x, weight = node.operands[0], node.operands[-1]
    if all(map(w.active, node.operands)):
        return RULES["Q12 product"](w, node)
    if w.active(weight) or not w.active(x) or len(node.operands) != 2:
        raise w.refuse(node, "the parameter of a product stands second")
    relation, integer = extents.solved(node), quant_of(node).integer
    axis = channels_dim(relation.relation)
    if axis is None or integer is None or integer(node.attrs) is None:
        raise w.refuse(node, "only sums over all dims of the weight but one, the output channels, have an integer definition")
    number, cut = w.parameters.number(weight), extents.cut(relation, axis)
    _region(w, node, x, weight.shape[axis], extents.terms(relation), number, node.op, node.attrs, axis, cut)


@rule("Q6 batch norm")
def standalone_norm(w: Walk, node: Node) -> None:
    """A batch norm that no contraction absorbs: a depthwise 1x1 with w = 1 (Q7)."""
    c = node.operands[0].shape[-1]
    _region(w, node, node.operands[0], c, 1, None, norm=_norm(w, node))


def _scaled(w: Walk, node: Node, weight: Var | None, bias: Var | None) -> None:
    """A product with a vector over the channels, or a sum with one: a depthwise 1x1, too."""
    x = next(v for v in node.operands if w.active(v))
    number = None if weight is None else w.parameters.number(weight)
    _region(w, node, x, x.shape[-1], 1, number, bias=bias)


def _region(w: Walk, node: Node, x: Var, channels: int, terms: int, weight: int | None, op: Op | None = None,
            attrs: Mapping[str, Any] = {}, axis: int = 0, cut: tuple[int, int] | None = None, bias: Var | None = None,
            norm: Norm | None = None) -> None:  # fmt: skip
    """The contraction and what it absorbs: reshapes that keep the channels, bias, batch norm, clamps."""
    source = w.wide(x)
    nodes, var = [node], node.results[0]
    while (follower := w.sole(var)) is not None:
        quant = quant_of(follower)
        if quant.layout == "order" and norm is None and follower.results[0].shape[-1:] == (channels,):
            pass
        elif _adds(quant) and bias is None and norm is None and _vector(w, follower, channels) is not None:
            bias = _vector(w, follower, channels)
        elif quant.rule == "Q6 batch norm" and norm is None and follower.operands[0] is var:
            norm = _norm(w, follower)
        else:
            break
        nodes.append(follower)
        var = follower.results[0]
    var, clamp, nodes = w.clamps(var, nodes)
    number = None if bias is None else w.parameters.number(bias)
    output = w.result(node, var)
    scale = None if op is None else w.scale_of(node.operands[-1])
    bits = 8 if op is None or scale is not None else w.format(module_of(node.place)).w
    w.steps.append(Contract(node.place, (source,), output, w.take(*nodes), op, attrs, axis, cut, weight, number, norm,
                            clamp, channels, terms, bits, var.shape, scale))  # fmt: skip


def _adds(quant: Quant) -> bool:
    """Is it a sum, so that one operand is a bias of the other?"""
    return quant.rule == "Q7 add" and set(quant.signs) == {1}


def _vector(w: Walk, node: Node, channels: int) -> Var | None:
    """The one parameter of a binary op, if it is a vector over the last dim or a single number."""
    found = [v for v in node.operands if not w.active(v)]
    if len(found) != 1 or node.results[0].shape[-1] != channels:
        return None
    source = w.parameters.peel(found[0])
    whole = prod(source.shape) == 1 or (source.shape[-1:] == (channels,) and prod(source.shape) == channels)
    return source if whole and prod(source.shape) in (1, channels) else None


def _norm(w: Walk, node: Node) -> Norm:
    config = dict(node.attrs["config"])
    if config.get("training"):
        raise w.refuse(node, "it uses the batch's statistics in evaluation mode")
    given = dict(zip(config["operands"], node.operands, strict=False))
    if any(w.active(v) for k, v in given.items() if k):
        raise w.refuse(node, "its parameters depend on the input")
    number = lambda k: w.parameters.number(given[k]) if k in given else None
    cells = tuple(w.parameters.cell_of.get(given[k]) for k in (3, 4))
    mean, var = number(3), number(4)
    assert mean is not None and var is not None
    owner = node.place.rpartition("/")[0]
    return Norm(number(1), number(2), mean, var, float(config["eps"]), cells if all(cells) else None, owner)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------- sums, products


def _pair(w: Walk, node: Node | None) -> bool:
    return node is not None and quant_of(node).rule == "Q7 add" and all(map(w.active, node.operands))


def _terms(w: Walk, node: Node) -> tuple[list[tuple[Var, int]], list[Node]]:
    """Operands with signs, and the nodes that add them: a sum that only another one reads is part of it, up to 4."""
    found: list[tuple[Var, int]] = []
    nodes: list[Node] = []
    for k, (v, sign) in enumerate(zip(node.operands, quant_of(node).signs, strict=True)):
        inner = w.parameters.made.get(v)
        terms, more = [(v, 1)], []
        if _pair(w, inner) and w.sole(v) is node and not w.stays_float(module_of(inner.place)):  # type: ignore[union-attr]
            terms, more = _terms(w, inner)  # type: ignore[arg-type]
        if len(found) + len(terms) + (1 - k) > 4:
            terms, more = [(v, 1)], []
        found += [(t, s * sign) for t, s in terms]
        nodes += more
    return found, [*nodes, node]


@rule("Q7 add")
def add(w: Walk, node: Node) -> None:
    after = w.sole(node.results[0])
    if _pair(w, after) and node in _terms(w, after)[1]:  # type: ignore[arg-type]
        return  # that one makes the step
    terms, nodes = _terms(w, node)
    var, clamp, nodes = w.clamps(node.results[0], nodes)
    inputs = tuple(w.operand(node, v) for v, _ in terms)
    w.steps.append(Add(node.place, inputs, w.result(node, var), w.take(*nodes), tuple(s for _, s in terms), clamp))


@rule("Q7 mul")
def mul(w: Walk, node: Node) -> None:
    var, clamp, nodes = w.clamps(node.results[0], [node])
    inputs = tuple(w.operand(node, v) for v in node.operands)
    w.steps.append(Mul(node.place, inputs, w.result(node, var), w.take(*nodes), clamp))


@rule("Q7 concat")
def concat(w: Walk, node: Node) -> None:
    """Parts that all have more than 8 bits (states) are joined on 16."""
    var, clamp, nodes = w.clamps(node.results[0], [node])
    wide = all(w.active(v) and w.values[w.gridded(v)].bits > 8 for v in node.operands)
    inputs = tuple(w.gridded(v) if wide else w.filled(node, v) for v in node.operands)
    output = w.result(node, var, bits=16 if wide else None)
    w.steps.append(Concat(node.place, inputs, output, w.take(*nodes), node.attrs["axis"], clamp))


# ----------------------------------------------------------------------------------------------------------- pools


@rule("Q7 average pool")
def pool(w: Walk, node: Node) -> None:
    """A sum over dims or windows and the division by a constant that follows (a mean); without one, n = 1."""
    x, total = node.operands[0], node.results[0]
    if node.op.combiner != "add" or len(node.operands) != 1:
        raise w.refuse(node, "an average is a sum (combiner 'add') of one tensor")
    terms = extents.terms(extents.solved(node))
    nodes, var, n = [node], total, np.ones((), np.float32)
    path: list[Node] = []
    divisor: Var | None = None
    while (follower := w.sole(var)) is not None and divisor is None:
        quant = quant_of(follower)
        if quant.divisor is not None:
            divisor = follower.operands[quant.divisor]
        elif quant.layout != "order":
            break
        path.append(follower)
        var = follower.results[0]
    if divisor is not None and not w.active(divisor):
        data = w.parameters.constant(w.parameters.peel(divisor))
        if data is not None and (data.size == 1 or len(path) == 1):
            n = data.reshape(()) if data.size == 1 else data
            nodes += path
    var, clamp, nodes = w.clamps(nodes[-1].results[0], nodes)
    source = w.wide(x)
    w.steps.append(Pool(node.place, (source,), w.result(node, var), w.take(*nodes), node.op, node.attrs,
                        n.astype(np.float32), terms, clamp, var.shape))  # fmt: skip


# ------------------------------------------------------------------------------------------------- functions, moves


@rule("one operand")
def one_operand(w: Walk, node: Node) -> None:
    """An elementwise op whose other operands are parameters: a table if they are constant numbers, else by channel."""
    others = [v for v in node.operands if not w.active(v)]
    data = [w.parameters.constant(w.parameters.peel(v)) for v in others]
    if all(d is not None and d.size == 1 for d in data):
        return _table(w, node, tuple(np.asarray(d).reshape(()) for d in data))
    quant, vector = quant_of(node), _vector(w, node, node.results[0].shape[-1])
    if vector is None and quant.rule in ("Q7 add", "Q7 mul"):
        return add(w, node) if quant.signs else mul(w, node)
    if vector is None or not (_adds(quant) or quant.rule == "Q7 mul"):
        raise w.refuse(node, f"{node.op.name} with a parameter has no integer definition")
    return _scaled(w, node, None if _adds(quant) else vector, vector if _adds(quant) else None)


@rule("table")
@rule("clamp")
def unary(w: Walk, node: Node) -> None:
    if len(node.operands) != 1:
        raise w.refuse(node, quant_of(node).reason or "a function of several tensors has no table")
    _table(w, node, ())


def _table(w: Walk, node: Node, constants: tuple[Any, ...]) -> None:
    slot = next(k for k, v in enumerate(node.operands) if w.active(v))
    if node.results[0].dtype != dtypes.float32:
        raise w.refuse(node, f"its result is {node.results[0].dtype.name}, which has no grid")
    source = w.value(node.operands[slot])
    var, nodes = w.marked(node.results[0], [node])
    output = w.result(node, var, 8, quant_of(node).grid)
    w.steps.append(Table(node.place, (source,), output, w.take(*nodes), node.op, node.attrs, slot, constants))


@rule("share")
def move(w: Walk, node: Node) -> None:
    """Elements moved or chosen: the grid stays. Positions (argmax) are integers that only an output may be."""
    if node.operands[0] in w.inputs and node.operands[0].dtype in dtypes.INTEGER and node.results[0].dtype == dtypes.float32:
        return _integer_input(w, node)
    constants: list[Any] = []
    for v in node.operands[1:]:
        if w.active(v) and (v not in w.inputs or w.active(node.operands[0])):
            raise w.refuse(node, "its indices are computed from the input; those that are an input themselves look up a parameter")
        data = None if w.active(v) else w.parameters.constant(v)
        if data is None and not w.active(v):
            raise w.refuse(node, "its indices depend on parameters")
        constants.append(data)
    fill, pad = extents.fill(node.op), node.op.pad
    if fill is not None and node.attrs[fill] not in (0, float("inf"), float("-inf")):
        raise w.refuse(node, f"it pads with {node.attrs[fill]}; 0 and infinities have a definition")
    if pad is not None and pad.value == "identity" and extents.empty_windows(extents.solved(node)):
        raise w.refuse(node, "some windows lie in the padding alone")
    if pad is not None and fill is None and pad.value != "identity":
        raise w.refuse(node, f"its record pads with {pad.value!r}; an attribute for the value has a definition")
    if node.results[0].dtype != dtypes.float32 and w.users.get(node.results[0]):
        raise w.refuse(node, f"its {node.results[0].dtype.name} result is used inside the network")
    x, *indices = node.operands
    if not w.active(x):
        source = w.stored(node, x, x)
    else:
        source = w.gridded(x) if pad is None else w.wide(x)
    output = w.shared(node, source)
    inputs = (source, *(w.ids[v] for v in indices if w.active(v)))
    w.steps.append(Move(node.place, inputs, output, w.take(node), node.op, node.attrs, tuple(c for c in constants if c is not None)))


def _integer_input(w: Walk, node: Node) -> None:
    """An input of integers that becomes float: what is read by a logarithm, above 1 or not (Q12 j)."""
    var, _, nodes = w.clamps(node.results[0], [node]) if w.least(node.results[0]) == 1 else (node.results[0], None, [node])
    last = w.sole(var)
    if last is None or quant_of(last).rule not in RULES:
        raise w.refuse(node, "an input of integers is an index, or is read by a logarithm")
    w.ids[last.operands[0]] = w.ids[node.operands[0]]
    w.take(*nodes)
    RULES[quant_of(last).rule](w, last)


__all__ = ["add", "concat", "contraction", "move", "mul", "pool", "unary"]
