"""How grad, jvp and vmap go through ops that hold graphs: each transforms the body and binds the op again.

``call`` is in ``reverse`` and ``forward``; here are scan, cond and while_loop, and the batched forms of all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from shohin.core import interp
from shohin.core.dtypes import FLOATING
from shohin.core.errors import GradientError
from shohin.core.graph import Graph, Var
from shohin.core.op import Aval, Op
from shohin.core.tensor import Tensor
from shohin.core.trace import prune, run, stage
from shohin.ops import math, move
from shohin.transforms import batch, forward, reverse
from shohin.transforms.control import CUSTOM
from shohin.transforms.reverse import split_vjp

Attrs = Mapping[str, Any]
Back = Any


def _zeros(values: Sequence[Tensor], given: Sequence[Tensor | None]) -> list[Tensor]:
    return [math.zeros_like(v) if g is None else g for v, g in zip(values, given, strict=True)]


# --------------------------------------------------------------------------------------------- reverse mode


def _reverse(op: Op, operands: list[Tensor], attrs: Attrs, mask: list[bool]) -> tuple[list[Tensor], Back]:
    rule = {"scan": _reverse_scan, "cond": _reverse_cond}.get(op.name)
    if rule is None:
        raise GradientError(f"{op.name} has no reverse mode (the number of steps is not known); use sh.scan, or sh.jvp for forward mode")
    return rule(op, operands, attrs, mask)


def _reverse_call(op: Op, operands: list[Tensor], attrs: Attrs, mask: list[bool]) -> tuple[list[Tensor], Back]:
    config = dict(attrs["config"])
    if "custom" not in config:
        return reverse.call_rule(op, operands, attrs, mask)
    n = config["arguments"]
    if any(mask[n:]):
        raise GradientError(f"custom_vjp {attrs['name'].split(':')[1]}: a captured value is being differentiated; pass it as an argument")
    results = list(interp.bind(op, operands, attrs))
    backward = CUSTOM[config["custom"]]

    def back(given: list[Tensor | None]) -> list[Tensor | None]:
        outs, cts = results, _zeros(results, given)
        single = len(outs) == 1
        with reverse.Pure(interp.current()).inside():
            found = backward(tuple(operands[:n]), outs[0] if single else tuple(outs), cts[0] if single else tuple(cts))
        grads = list(found) if isinstance(found, tuple | list) else [found]
        if len(grads) != n:
            raise GradientError(f"custom_vjp {attrs['name'].split(':')[1]}: the rule gives {len(grads)} gradients for {n} arguments")
        return [*grads, *([None] * (len(operands) - n))]

    return results, back


def _reverse_scan(op: Op, operands: list[Tensor], attrs: Attrs, mask: list[bool]) -> tuple[list[Tensor], Back]:
    """Forward with residuals stacked; backward a scan the other way that adds up the constants' gradients."""
    nc, nh, n = attrs["consts"], attrs["carry"], attrs["length"]
    wrt = [m and o.dtype in FLOATING for m, o in zip(mask, operands, strict=True)]
    body: Graph = attrs["body"]
    floating = [v.dtype in FLOATING for v in body.outputs[:nh]]
    for k in range(nh):  # what the carry may depend on: every floating carry, to be safe and simple
        wrt[nc + k] = floating[k]
    split = split_vjp(body, wrt)
    outs = len(body.outputs)
    const_residuals = [k for k, v in enumerate(split.forward.outputs[outs:]) if v in split.forward.inputs[:nc]]
    kept = [k for k in range(split.residuals) if k not in const_residuals]
    fwd_outputs = (*split.forward.outputs[:outs], *(split.forward.outputs[outs + k] for k in kept))
    fwd = prune(Graph(split.forward.inputs, split.forward.names, split.forward.consts, split.forward.nodes, fwd_outputs))
    out = interp.bind(op, operands, {**attrs, "body": fwd})
    results, stacked = list(out[:outs]), list(out[outs:])
    fixed = {k: operands[split.forward.inputs.index(split.forward.outputs[outs + k])] for k in const_residuals}
    wc = [k for k in range(nc) if wrt[k]]
    wh = [k for k in range(nh) if wrt[nc + k]]
    wx = [k for k in range(len(operands) - nc - nh) if wrt[nc + nh + k]]
    ys = [k for k in range(outs - nh) if split.given[nh + k]]

    def step(*values: Tensor) -> list[Tensor]:
        rest = iter(values)
        const = {k: next(rest) for k in fixed}
        sums = [next(rest) for _ in wc]
        ct_h = [next(rest) for _ in wh]
        residual = {**const, **{k: next(rest) for k in kept}}
        ct_y = [next(rest) for _ in ys]
        grads = iter(run(split.backward, [*(residual[k] for k in range(split.residuals)), *ct_h, *ct_y]))
        new = [s + next(grads) for s in sums]
        return [*new, *(next(grads) for _ in wh), *(next(grads) for _ in wx)]

    def back(given: list[Tensor | None]) -> list[Tensor | None]:
        cts = _zeros(results, given)
        sums = [math.zeros_like(operands[k]) for k in wc]
        carry = [*sums, *(cts[k] for k in wh)]
        lanes = [*stacked, *(cts[nh + k] for k in ys)]
        inputs = [*fixed.values(), *carry, *lanes]
        avals = [t.aval for t in (*fixed.values(), *carry)] + [Aval(t.shape[1:], t.dtype) for t in lanes]
        graph = stage(step, avals).graph
        out = interp.bind(op, inputs, {"body": graph, "consts": len(fixed), "carry": len(carry), "length": n, "reverse": not attrs["reverse"]})
        found: list[Tensor | None] = [None] * len(operands)
        for k, g in zip([*wc, *(nc + k for k in wh), *(nc + nh + k for k in wx)], out, strict=True):
            found[k] = g if mask[k] else None
        return found

    return results, back


def _reverse_cond(op: Op, operands: list[Tensor], attrs: Attrs, mask: list[bool]) -> tuple[list[Tensor], Back]:
    """Each branch's residuals stand beside the other's zeros, so that both give the same results."""
    wrt = [m and o.dtype in FLOATING for m, o in zip(mask[1:], operands[1:], strict=True)]
    splits = [split_vjp(attrs[name], wrt) for name in ("true", "false")]
    outs = len(attrs["true"].outputs)
    avals = [[v.aval for v in s.forward.outputs[outs:]] for s in splits]

    def padded(which: int) -> Graph:
        def f(*values: Tensor) -> list[Tensor]:
            found = run(splits[which].forward, values)
            mine, other = found[outs:], [move.zeros(a.shape, dtype=a.dtype) for a in avals[1 - which]]
            return [*found[:outs], *(mine + other if which == 0 else other + mine)]

        return stage(f, [v.aval for v in attrs["true"].inputs]).graph

    out = interp.bind(op, operands, {"true": padded(0), "false": padded(1)})
    results, residuals = list(out[:outs]), list(out[outs:])
    n = len(avals[0])

    def back(given: list[Tensor | None]) -> list[Tensor | None]:
        cts = [c for c, f in zip(_zeros(results, given), splits[0].given, strict=True) if f]

        def branch(which: int) -> Graph:
            def f(*values: Tensor) -> list[Tensor]:
                mine = values[:n] if which == 0 else values[n : len(residuals)]
                return run(splits[which].backward, [*mine, *values[len(residuals) :]])

            return stage(f, [t.aval for t in (*residuals, *cts)]).graph

        grads = iter(interp.bind(op, [operands[0], *residuals, *cts], {"true": branch(0), "false": branch(1)}))
        return [None, *(next(grads) if w else None for w in splits[0].wrt)]

    return results, back


reverse.GRAPH_RULES["control"] = _reverse
reverse.GRAPH_RULES["call"] = _reverse_call

# --------------------------------------------------------------------------------------------- forward mode


def _forward_scan(op: Op, operands: list[Tensor], tangents: list[Tensor | None], attrs: Attrs) -> tuple[list[Tensor], list[Tensor | None]]:
    nc, nh = attrs["consts"], attrs["carry"]
    body: Graph = attrs["body"]
    moving = [t is not None for t in tangents]
    for k in range(nh):
        moving[nc + k] = operands[nc + k].dtype in FLOATING
    full = [math.zeros_like(o) if m and t is None else t for o, t, m in zip(operands, tangents, moving, strict=True)]
    graph, floats = forward.jvp_graph(body, moving)
    n, outs = len(operands), len(body.outputs)
    tangent_inputs = iter(graph.inputs[n:])
    of = {k: next(tangent_inputs) for k in range(n) if moving[k]}
    groups = [range(nc), range(nc, nc + nh), range(nc + nh, n)]
    order = [v for g in groups for v in (*(graph.inputs[k] for k in g), *(of[k] for k in g if k in of))]
    values = [v for g in groups for v in (*(operands[k] for k in g), *(full[k] for k in g if k in of))]
    tangent_outputs = iter(graph.outputs[outs:])
    t_of = {k: next(tangent_outputs) for k in range(outs) if floats[k]}
    out_order = [*graph.outputs[:nh], *(t_of[k] for k in range(nh) if k in t_of), *graph.outputs[nh:outs], *(t_of[k] for k in range(nh, outs) if k in t_of)]
    names = tuple(f"x{i}" for i in range(len(order)))
    arranged = prune(Graph(tuple(order), names, graph.consts, graph.nodes, tuple(out_order)))
    counts = [len(g) + sum(k in of for k in g) for g in groups]
    out = iter(interp.bind(op, values, {**attrs, "body": arranged, "consts": counts[0], "carry": counts[1]}))  # type: ignore[arg-type]
    results: list[Any] = [None] * outs
    moved: list[Tensor | None] = [None] * outs
    for part in (range(nh), range(nh, outs)):
        for k in part:
            results[k] = next(out)
        for k in part:
            if k in t_of:
                moved[k] = next(out)
    return results, moved


def _forward_cond(op: Op, operands: list[Tensor], tangents: list[Tensor | None], attrs: Attrs) -> tuple[list[Tensor], list[Tensor | None]]:
    mask = [t is not None for t in tangents[1:]]
    (true, floats), (false, _) = (forward.jvp_graph(attrs[name], mask) for name in ("true", "false"))
    out = interp.bind(op, [*operands, *(t for t in tangents[1:] if t is not None)], {"true": true, "false": false})
    given = iter(out[len(floats) :])
    return list(out[: len(floats)]), [next(given) if f else None for f in floats]


def _forward_while(op: Op, operands: list[Tensor], tangents: list[Tensor | None], attrs: Attrs) -> tuple[list[Tensor], list[Tensor | None]]:
    nt, nc = attrs["test_consts"], attrs["consts"]
    state = operands[nt + nc :]
    moving = [t is not None for t in tangents[nt : nt + nc]] + [s.dtype in FLOATING for s in state]
    graph, floats = forward.jvp_graph(attrs["body"], moving)
    n = nc + len(state)
    of = dict(zip([k for k in range(n) if moving[k]], graph.inputs[n:], strict=True))
    order = [*graph.inputs[:nc], *(of[k] for k in range(nc) if k in of), *graph.inputs[nc:n], *(of[k] for k in range(nc, n) if k in of)]
    body = Graph(tuple(order), tuple(f"x{i}" for i in range(len(order))), graph.consts, graph.nodes, graph.outputs)
    test: Graph = attrs["test"]
    extra = [Var(s.shape, s.dtype) for s in state if s.dtype in FLOATING]
    wide = Graph((*test.inputs, *extra), (*test.names, *(f"t{i}" for i in range(len(extra)))), test.consts, test.nodes, test.outputs)
    const_tangents = [t for t in tangents[nt : nt + nc] if t is not None]
    state_tangents = [math.zeros_like(s) if t is None else t for s, t in zip(state, tangents[nt + nc :], strict=True) if s.dtype in FLOATING]
    values = [*operands[:nt], *operands[nt : nt + nc], *const_tangents, *state, *state_tangents]
    out = interp.bind(op, values, {"test": wide, "body": body, "consts": nc + len(const_tangents), "test_consts": nt})
    given = iter(out[len(state) :])
    return list(out[: len(state)]), [next(given) if f else None for f in floats]


forward.GRAPH_RULES.update({"scan": _forward_scan, "cond": _forward_cond, "while_loop": _forward_while})

# --------------------------------------------------------------------------------------------- batching


def batch_graph(graph: Graph, mask: Sequence[bool], size: int, wanted: Sequence[bool] | None = None) -> tuple[Graph, list[bool]]:
    """The graph over lanes: masked inputs have a lane dim. Which outputs have one (``wanted`` ones are made to)."""
    found: list[bool] = []

    def lanes(*values: Tensor) -> list[Tensor]:
        frame = batch.Batch(interp.current(), size, {})
        with frame.inside():
            outputs = run(graph, [frame.wrap(v) if m else v for v, m in zip(values, mask, strict=True)])
        frame.open = False
        found[:] = [o.frame is frame or bool(wanted and wanted[k]) for k, o in enumerate(outputs)]
        return [frame.lanes(o) if b else o for o, b in zip(outputs, found, strict=True)]

    avals = [Aval((size, *v.shape), v.dtype) if m else v.aval for v, m in zip(graph.inputs, mask, strict=True)]
    return stage(lanes, avals).graph, found


def _batch_call(op: Op, operands: list[Tensor], mask: list[bool], size: int, attrs: Attrs) -> tuple[list[Tensor], list[bool]]:
    if "custom" in dict(attrs["config"]):
        return _batch_custom(op, operands, mask, size, attrs)
    body, batched = batch_graph(attrs["body"], mask, size)
    return list(interp.bind(op, operands, {**attrs, "body": body})), batched


def _batch_custom(op: Op, operands: list[Tensor], mask: list[bool], size: int, attrs: Attrs) -> tuple[list[Tensor], list[bool]]:
    """The rule is batched with the body: a custom call over lanes has a batched rule of its own."""
    config = dict(attrs["config"])
    n, rule = config["arguments"], CUSTOM[config["custom"]]
    wide = [o if m else batch.repeat(o, size) for o, m in zip(operands, mask, strict=True)]
    body, batched = batch_graph(attrs["body"], [True] * len(operands), size, [True] * len(attrs["body"].outputs))
    key = f"{config['custom']}@{size}"
    CUSTOM[key] = lambda args, outs, cts: batch.vmap(rule)(args, outs, cts)
    return list(interp.bind(op, wide, {"name": key, "body": body, "config": (("custom", key), ("arguments", n))})), batched


def _batch_scan(op: Op, operands: list[Tensor], mask: list[bool], size: int, attrs: Attrs) -> tuple[list[Tensor], list[bool]]:
    nc, nh = attrs["consts"], attrs["carry"]
    inner = list(mask)
    body: Graph = attrs["body"]
    while True:  # the carry is batched if it starts so or becomes so
        graph, out = batch_graph(body, inner, size, [*inner[nc : nc + nh], *([False] * (len(body.outputs) - nh))])
        if out[:nh] == inner[nc : nc + nh]:
            break
        inner[nc : nc + nh] = out[:nh]
    values: list[Tensor] = []
    for k, (o, m) in enumerate(zip(operands, mask, strict=True)):
        if k >= nc + nh and m:
            o = move.moveaxis(o, 0, 1)
        elif inner[k] and not m:
            o = batch.repeat(o, size)
        values.append(o)
    results = list(interp.bind(op, values, {**attrs, "body": graph}))
    for k in range(nh, len(results)):
        if out[k]:
            results[k] = move.moveaxis(results[k], 1, 0)
    return results, out


def _batch_cond(op: Op, operands: list[Tensor], mask: list[bool], size: int, attrs: Attrs) -> tuple[list[Tensor], list[bool]]:
    """One predicate: batched branches. A predicate per lane: both branches run, the results are chosen."""
    inner = mask[1:]
    outs = len(attrs["true"].outputs)
    if mask[0]:
        everywhere = [True] * outs
        (true, _), (false, _) = (batch_graph(attrs[n], inner, size, everywhere) for n in ("true", "false"))
        a, b = run(true, operands[1:]), run(false, operands[1:])
        p = operands[0]
        chosen = [math.where(move.broadcast_to(move.reshape(p, (size, *(1,) * (x.ndim - 1))), x.shape), x, y) for x, y in zip(a, b, strict=True)]
        return chosen, everywhere
    (_, a), (_, b) = (batch_graph(attrs[n], inner, size) for n in ("true", "false"))
    either = [x or y for x, y in zip(a, b, strict=True)]
    (true, _), (false, _) = (batch_graph(attrs[n], inner, size, either) for n in ("true", "false"))
    return list(interp.bind(op, operands, {"true": true, "false": false})), either


def _batch_while(op: Op, operands: list[Tensor], mask: list[bool], size: int, attrs: Attrs) -> tuple[list[Tensor], list[bool]]:
    """Lanes run until the last one is done; a lane that is done keeps its state."""
    nt, nc = attrs["test_consts"], attrs["consts"]
    wide = [o if m else batch.repeat(o, size) for o, m in zip(operands, mask, strict=True)]
    every = lambda g: [True] * len(g.inputs)
    test, _ = batch_graph(attrs["test"], every(attrs["test"]), size, [True])
    body, _ = batch_graph(attrs["body"], every(attrs["body"]), size, [True] * len(attrs["body"].outputs))
    test_lanes = wide[:nt]

    def any_left(*values: Tensor) -> list[Tensor]:
        return [run(test, values)[0].any()]

    def step(*values: Tensor) -> list[Tensor]:
        t_consts, consts, state = values[:nt], values[nt : nt + nc], values[nt + nc :]
        going = run(test, [*t_consts, *state])[0]
        new = run(body, [*consts, *state])
        return [math.where(move.broadcast_to(move.reshape(going, (size, *(1,) * (s.ndim - 1))), s.shape), n, s) for n, s in zip(new, state, strict=True)]

    state = wide[nt + nc :]
    t = stage(any_left, [v.aval for v in (*test_lanes, *state)]).graph
    b = stage(step, [v.aval for v in wide]).graph
    out = interp.bind(op, [*test_lanes, *test_lanes, *wide[nt : nt + nc], *state], {"test": t, "body": b, "consts": nt + nc, "test_consts": nt})
    return list(out), [True] * len(out)


batch.GRAPH_RULES.update({"call": _batch_call, "scan": _batch_scan, "cond": _batch_cond, "while_loop": _batch_while})
__all__ = ["batch_graph"]
