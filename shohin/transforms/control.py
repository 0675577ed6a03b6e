"""``scan``, ``cond``, ``while_loop``, ``checkpoint``, ``custom_vjp``: the Python faces of the ops that hold graphs.

Bodies are staged in eager too; the state that they read becomes an input and what they write an output, so every
effect happens once. How the three interpreters treat these ops stands in ``bodies.py``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from shohin.core import dtypes, interp, trees
from shohin.core.cells import Cell
from shohin.core.errors import GradientError, ShapeError, StateError, TraceError
from shohin.core.graph import Graph, Var
from shohin.core.op import Aval
from shohin.core.tensor import Tensor, as_tensor
from shohin.core.trace import Staged, prune, run, stage
from shohin.ops import control, random
from shohin.transforms.arguments import modules_in


def _flat(tree: Any) -> tuple[list[Tensor], trees.Spec]:
    leaves, spec = trees.flatten(tree, leaf=lambda v: trees.is_leaf(v) or type(v) in (int, bool))
    return [as_tensor(v) for v in leaves], spec


def _staged(f: Callable[..., Any], avals: Sequence[Aval], spec: trees.Spec) -> tuple[Staged, trees.Spec]:
    """Stage ``f`` of one tree; the results' structure beside it."""
    found: list[trees.Spec] = []

    def flat(*values: Tensor) -> list[Tensor]:
        leaves, out = _flat(f(*trees.unflatten(spec, values)))
        found.append(out)
        return leaves

    with interp.at(interp.place()):
        staged = stage(flat, avals)
    return staged, found[0]


# ------------------------------------------------------------------------------------------------- scan


def scan(f: Callable[..., Any], init: Any, xs: Any = None, *, length: int | None = None, reverse: bool = False) -> tuple[Any, Any]:
    """``f(carry, x) -> (carry, y)`` over the leading dim of ``xs``; gives the last carry and the stacked ``y``.

    Cells that ``f`` writes are carried too. A module among ``xs`` has stacked cells and is sliced: layers as one loop.

    >>> total, sums = scan(lambda c, x: (c + x, c + x), as_tensor(0.0), as_tensor([1.0, 2.0, 3.0]))
    >>> sums.tolist()
    [1.0, 3.0, 6.0]
    """
    modules = modules_in(xs)
    sliced = {cell: path for m in modules for path, cell in m.cells().items()}
    h, h_spec = _flat(init)
    x, x_spec = _flat(xs)
    cell_values = {c: interp.current().read(c) for c in sliced}
    extents = {t.shape[0] if t.shape else -1 for t in (*x, *cell_values.values())} | ({length} if length is not None else set())
    if len(extents) != 1:
        raise ShapeError(f"scan: leading extents disagree: {sorted(extents)}" if extents else "scan: give xs or length=")
    steps = extents.pop()
    both = trees.Spec("tuple", (), (h_spec, x_spec))
    sliced_cells = list(sliced)
    out_spec: list[trees.Spec] = []

    def body(*values: Tensor) -> list[Tensor]:
        frame = interp.current()
        mine = values[len(values) - len(sliced_cells) :]
        saved = {c: (c.shape, c.dtype) for c in sliced_cells}
        try:
            for c, v in zip(sliced_cells, mine, strict=True):
                frame.now[c] = v
                c.shape = v.shape
            result = f(*trees.unflatten(both, values[: len(values) - len(sliced_cells)]))
            if not isinstance(result, tuple) or len(result) != 2:
                raise ShapeError(f"scan: the body returns (carry, y), got {type(result).__name__}")
            new, new_spec = _flat(result[0])
            if new_spec != h_spec or [t.aval for t in new] != [t.aval for t in h]:
                raise ShapeError(f"scan: the carry is {', '.join(str(t.aval) for t in h)}, the body returns {', '.join(str(t.aval) for t in new)}")
            y, y_spec = _flat(result[1])
            out_spec.append(y_spec)
            return [*new, *y, *(frame.now[c] for c in sliced_cells if c in frame.written)]
        finally:
            stacked.extend(c for c in sliced_cells if c in frame.written)
            for c in sliced_cells:
                c.shape, c.dtype = saved[c]
                frame.written.pop(c, None)

    stacked: list[Cell] = []
    avals = [t.aval for t in h] + [Aval(t.shape[1:], t.dtype) for t in (*x, *cell_values.values())]
    staged = stage(body, avals)
    nh, nx = len(h), len(x) + len(sliced_cells)
    graph, written = staged.graph, staged.writes
    captured = graph.inputs[nh + nx :]
    cells = dict(zip(staged.cells, captured[len(staged.tensors) :], strict=True))
    outer = list(staged.operands())
    consts = [v for v in captured if v not in [cells.get(c) for c in written]]
    const_values = [o for v, o in zip(captured, outer, strict=True) if v in consts]
    carried, inputs = [], []
    for c in written:
        carried.append(interp.current().read(c))
        inputs.append(cells.get(c) or Var(c.shape, c.dtype))
    names = {**dict(zip(graph.inputs, graph.names, strict=True))}
    order = [*consts, *graph.inputs[:nh], *inputs, *graph.inputs[nh : nh + nx]]
    n_out = len(graph.outputs) - len(written)
    outputs = [*graph.outputs[:nh], *graph.outputs[n_out:], *graph.outputs[nh:n_out]]
    arranged = prune(Graph(tuple(order), tuple(names.get(v, "cell") for v in order), graph.consts, graph.nodes, tuple(outputs)))
    attrs = {"body": arranged, "consts": len(consts), "carry": nh + len(written), "length": int(steps), "reverse": reverse}
    results = interp.bind(control.scan, [*const_values, *h, *carried, *x, *cell_values.values()], attrs)
    for c, value in zip(written, results[nh : nh + len(written)], strict=True):
        interp.current().write(c, value)
    ys = results[nh + len(written) :]
    for c, value in zip(stacked, ys[len(ys) - len(stacked) :], strict=True):
        interp.current().write(c, value)
    return trees.unflatten(h_spec, results[:nh]), trees.unflatten(out_spec[0], ys[: len(ys) - len(stacked)])


# ------------------------------------------------------------------------------------------------- cond


def cond(predicate: Any, true: Callable[..., Any], false: Callable[..., Any], *operands: Any) -> Any:
    """``true(*operands)`` or ``false(*operands)`` by a bool without dims. Cells that either branch writes are joined; random
    draws advance the generator by the larger branch.

    >>> float(cond(as_tensor(True), lambda x: x + 1, lambda x: x - 1, as_tensor(1.0)))
    2.0
    """
    p = as_tensor(predicate)
    if p.shape != () or p.dtype != dtypes.bool_:
        raise TraceError(f"cond: the predicate is {p.aval}, expected one bool without dims; compare, or reduce with .any() or .all()")
    leaves, spec = _flat(operands)
    avals = [t.aval for t in leaves]
    parts = [_staged(f, avals, spec) for f in (true, false)]
    (a, a_spec), (b, b_spec) = parts
    if a_spec != b_spec:
        raise ShapeError(f"cond: the branches return different structures: {a_spec.kind} and {b_spec.kind}")
    n = len(leaves)
    tensors = list({id(t): t for s in (a, b) for t in s.tensors}.values())
    cells = list(dict.fromkeys(c for s in (a, b) for c in (*s.cells, *s.writes)))
    writes = list(dict.fromkeys((*a.writes, *b.writes)))
    most = max((_draws(s) for s in (a, b)), default=0)
    branches = [_branch(s, n, tensors, cells, writes, most) for s in (a, b)]
    values = [*leaves, *tensors, *(interp.current().read(c) for c in cells)]
    results = interp.bind(control.cond, [p, *values], {"true": branches[0], "false": branches[1]})
    count = len(results) - len(writes)
    for cell, value in zip(writes, results[count:], strict=True):
        interp.current().write(cell, value)
    return trees.unflatten(a_spec, results[:count])


def _branch(staged: Staged, n: int, tensors: list[Tensor], cells: list[Cell], writes: list[Cell], most: int) -> Graph:
    """The branch over the inputs that both share, with a value for every cell that either writes."""
    g = staged.graph
    given = g.inputs[:n]
    of_tensor = {id(t): v for t, v in zip(staged.tensors, g.inputs[n:], strict=False)}
    of_cell = dict(zip(staged.cells, g.inputs[n + len(staged.tensors) :], strict=True))
    more_t = [of_tensor.get(id(t)) or Var(t.shape, t.dtype) for t in tensors]
    more_c = [of_cell.get(c) or Var(c.shape, c.dtype) for c in cells]
    here = dict(zip(cells, more_c, strict=True))
    count = len(g.outputs) - len(staged.writes)
    final = {**here, **dict(zip(staged.writes, g.outputs[count:], strict=True))}
    outputs = [*g.outputs[:count], *(final[c] for c in writes)]
    inputs = (*given, *more_t, *more_c)
    graph = Graph(inputs, tuple(f"x{i}" for i in range(len(inputs))), g.consts, g.nodes, tuple(outputs))
    counter = random.default.counter
    if counter not in writes:
        return prune(graph)

    def same_advance(*values: Tensor) -> list[Tensor]:
        out = run(graph, values)
        out[count + writes.index(counter)] = random.advance(values[inputs.index(here[counter])], most)
        return out

    return stage(same_advance, [v.aval for v in inputs]).graph


def _draws(staged: Staged) -> int:
    """Blocks that a staged function draws: its counter's output, with every input zero."""
    counter = random.default.counter
    if counter not in staged.writes:
        return 0
    g = staged.graph
    k = len(g.outputs) - len(staged.writes) + staged.writes.index(counter)
    only = prune(Graph(g.inputs, g.names, g.consts, g.nodes, (g.outputs[k],)))
    with np.errstate(all="ignore"):
        lo, hi = control.run_numpy(only, [np.zeros(v.shape, v.dtype) for v in g.inputs])[0].tolist()
    return lo + (hi << 32)


# ------------------------------------------------------------------------------------------- while_loop


def while_loop(test: Callable[..., Any], body: Callable[..., Any], init: Any) -> Any:
    """``body`` run while ``test`` of the state holds. Forward mode only: reverse mode says so.

    >>> int(while_loop(lambda n: n < 10, lambda n: n * 2, as_tensor(np.int32(1))))
    16
    """
    h, spec = _flat(init)
    one = trees.Spec("tuple", (), (spec,))
    t, _ = _staged(test, [v.aval for v in h], one)
    b, out_spec = _staged(body, [v.aval for v in h], one)
    if t.writes:
        raise StateError(f"while_loop: the test writes {t.writes[0]}; a test reads only")
    if out_spec != spec:
        raise ShapeError("while_loop: the body returns another structure than the state")
    n, graph = len(h), b.graph
    cells = dict(zip(b.cells, graph.inputs[n + len(b.tensors) :], strict=True))
    written_in = [cells.get(c) or Var(c.shape, c.dtype) for c in b.writes]
    const = [v for v in graph.inputs[n:] if v not in written_in]
    const_values = [o for v, o in zip(graph.inputs[n:], b.operands(), strict=True) if v not in written_in]
    written_now = [interp.current().read(c) for c in b.writes]
    names = dict(zip(graph.inputs, graph.names, strict=True))
    order = [*const, *graph.inputs[:n], *written_in]
    body_graph = prune(Graph(tuple(order), tuple(names.get(v, "cell") for v in order), graph.consts, graph.nodes, graph.outputs))
    extra = [Var(c.shape, c.dtype) for c in b.writes]
    read_in_test = dict(zip(t.cells, t.graph.inputs[n + len(t.tensors) :], strict=True))
    extra = [read_in_test.get(c, v) for c, v in zip(b.writes, extra, strict=True)]
    t_const = [v for v in t.graph.inputs[n:] if v not in extra]
    t_values = [o for v, o in zip(t.graph.inputs[n:], t.operands(), strict=True) if v in t_const]
    t_order = (*t_const, *t.graph.inputs[:n], *extra)
    test_graph = Graph(t_order, tuple(f"x{i}" for i in range(len(t_order))), t.graph.consts, t.graph.nodes, t.graph.outputs)
    attrs = {"test": test_graph, "body": body_graph, "consts": len(const), "test_consts": len(t_const)}
    results = interp.bind(control.while_loop, [*t_values, *const_values, *h, *written_now], attrs)
    for c, value in zip(b.writes, results[n:], strict=True):
        interp.current().write(c, value)
    return trees.unflatten(spec, results[:n])


# ---------------------------------------------------------------------------------- checkpoint, custom_vjp


def checkpoint(f: Callable[..., Any]) -> Callable[..., Any]:
    """``f`` whose backward pass recomputes its values instead of keeping them: less memory, more time. The replay draws
    the same random numbers, and its writes are discarded."""

    @functools.wraps(f)
    def wrapped(*args: Any, **keywords: Any) -> Any:
        return _as_call(f"checkpoint:{getattr(f, '__name__', 'f')}", f, args, keywords, (("checkpoint", True),))

    return wrapped


def _as_call(name: str, f: Callable[..., Any], args: tuple[Any, ...], keywords: dict[str, Any], config: tuple[Any, ...]) -> Any:
    leaves, spec = trees.flatten((args, keywords))
    tensors = [as_tensor(v) for v in leaves]
    out_spec: list[trees.Spec] = []

    def flat(*values: Tensor) -> list[Tensor]:
        a, k = trees.unflatten(spec, values)
        out, found = _flat(f(*a, **k))
        out_spec.append(found)
        return out

    staged = stage(flat, [t.aval for t in tensors])
    results = interp.bind(control.call, [*tensors, *staged.operands()], {"name": name, "body": staged.graph, "config": config})
    count = len(results) - len(staged.writes)
    for cell, value in zip(staged.writes, results[count:], strict=True):
        interp.current().write(cell, value)
    return trees.unflatten(out_spec[0], results[:count])


CUSTOM: dict[str, Callable[..., Any]] = {}


def custom_vjp(f: Callable[..., Any], backward: Callable[..., Any]) -> Callable[..., Any]:
    """``f`` with a backward rule of its own: ``backward(args, outputs, cotangents)`` gives one gradient an argument.

    ``f`` takes and gives tensors (or a tuple). The rule is pure: it reads and writes no cell and draws nothing.
    """
    key = f"custom:{getattr(f, '__name__', 'f')}:{len(CUSTOM)}"
    CUSTOM[key] = backward

    @functools.wraps(f)
    def wrapped(*args: Any) -> Any:
        tensors = [as_tensor(a) for a in args]
        single: list[bool] = []

        def flat(*values: Tensor) -> list[Tensor]:
            out = f(*values)
            single.append(not isinstance(out, tuple))
            return [as_tensor(out)] if single[-1] else [as_tensor(o) for o in out]

        def refuse(t: Tensor) -> None:
            if t.frame is not None:
                raise GradientError(f"custom_vjp {getattr(f, '__name__', 'f')}: a captured value is being differentiated; pass it as an argument")

        staged = stage(flat, [t.aval for t in tensors], capture_tensor=refuse)
        results = interp.bind(control.call, [*tensors, *staged.operands()], {"name": key, "body": staged.graph, "config": (("custom", key), ("arguments", len(tensors)))})
        count = len(results) - len(staged.writes)
        for cell, value in zip(staged.writes, results[count:], strict=True):
            interp.current().write(cell, value)
        return results[0] if single[0] else tuple(results[:count])

    return wrapped


__all__ = ["checkpoint", "cond", "custom_vjp", "scan", "while_loop"]
