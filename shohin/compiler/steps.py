"""scan, cond and while_loop as steps with jumps between them: loops of whole programs, no language of their own.

The turn of a loop is a counter in memory, which the body's loads of its slices read; so the nests know nothing of it.
"""

from __future__ import annotations

from shohin.compiler.lowering import CONTROL, Lowering, Read
from shohin.core import dtypes, loop
from shohin.core.graph import Graph, Node
from shohin.core.loop import Expr
from shohin.core.nest import Jump, Nest, Out


def _scalar(low: Lowering, name: str, value: Expr, place: str) -> None:
    low.steps.append(Nest((), (), (), (Out(name, (), value),), "sequence", place))


def _slice(low: Lowering, read: Read, turn: Expr) -> Read:
    return lambda index, pred, pad: read((turn, *index), pred, pad)


def _scan(low: Lowering, node: Node, outs: list[str]) -> None:
    body: Graph = node.attrs["body"]
    nc, nh, length, reverse = (node.attrs[k] for k in ("consts", "carry", "length", "reverse"))
    reads = [low.operand(v) for v in node.operands]
    for out, read in zip(outs[:nh], reads[nc : nc + nh], strict=True):
        low.store(out, read, node.place)
    if length == 0:
        return
    counter, more = low.temp((), dtypes.int32), low.temp((), dtypes.bool_)
    turn = loop.Load(counter, (), dtypes.int32)
    _scalar(low, counter, loop.const(length - 1 if reverse else 0, dtypes.int32), node.place)
    start = len(low.steps)
    inputs = [*reads[:nc], *(low.reader(o) for o in outs[:nh]), *(_slice(low, r, turn) for r in reads[nc + nh :])]
    results = low.body(body, inputs)
    for out, read in zip(outs[nh:], results[nh:], strict=True):
        low.store(out, read, node.place, (turn,))
    for out, read in zip(outs[:nh], results[:nh], strict=True):
        low.store(out, read, node.place)
    _scalar(low, counter, turn - 1 if reverse else turn + 1, node.place)
    _scalar(low, more, turn >= 0 if reverse else turn < length, node.place)
    low.steps.append(Jump(start, more, True, node.place))


def _cond(low: Lowering, node: Node, outs: list[str]) -> None:
    flag = low.temp((), dtypes.bool_)
    low.store(flag, low.operand(node.operands[0]), node.place)
    reads = [low.operand(v) for v in node.operands[1:]]
    skip = len(low.steps)
    low.steps.append(Jump(-1, flag, False, node.place))
    for out, read in zip(outs, low.body(node.attrs["true"], reads), strict=True):
        low.store(out, read, node.place)
    leave = len(low.steps)
    low.steps.append(Jump(-1, None, True, node.place))
    low.steps[skip] = Jump(len(low.steps), flag, False, node.place)
    for out, read in zip(outs, low.body(node.attrs["false"], reads), strict=True):
        low.store(out, read, node.place)
    low.steps[leave] = Jump(len(low.steps), None, True, node.place)


def _while(low: Lowering, node: Node, outs: list[str]) -> None:
    nt, nc = node.attrs["test_consts"], node.attrs["consts"]
    reads = [low.operand(v) for v in node.operands]
    for out, read in zip(outs, reads[nt + nc :], strict=True):
        low.store(out, read, node.place)
    state = [low.reader(o) for o in outs]
    flag = low.temp((), dtypes.bool_)
    start = len(low.steps)
    low.store(flag, low.body(node.attrs["test"], [*reads[:nt], *state])[0], node.place)
    leave = len(low.steps)
    low.steps.append(Jump(-1, flag, False, node.place))
    for out, read in zip(outs, low.body(node.attrs["body"], [*reads[nt : nt + nc], *state]), strict=True):
        low.store(out, read, node.place)
    low.steps.append(Jump(start, None, True, node.place))
    low.steps[leave] = Jump(len(low.steps), flag, False, node.place)


CONTROL.update({"scan": _scan, "cond": _cond, "while_loop": _while})
