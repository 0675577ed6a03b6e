"""From a foreign graph to a network: shapes, programs for several numbers of examples, the report. Shared by all importers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from shohin.core.cells import Param
from shohin.core.errors import ForeignError, ShohinError
from shohin.core.module import Module
from shohin.interop.builder import Builder, Table
from shohin.interop.foreign import Foreign, Input, needed
from shohin.interop.network import FEW, Imported, Program, Report, Step, between, check_same
from shohin.ops import move

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]
MANY = 67
Run = Callable[[Mapping[str, Array]], Sequence[Array]]


def bring_in(foreign: Foreign, table: Table, origin: str, *, check: Any, shape: Any, fixed: Mapping[str, Any] | None, run: Run,
             examples_first: bool = False) -> Imported:  # fmt: skip
    """The network of a foreign graph. ``run`` gives the origin's results, for ``check``."""
    foreign = needed(foreign)
    held = _fixed(foreign, fixed or {})
    inputs = [i for i in foreign.inputs if i.name not in held]
    data = _data(inputs, check)
    known = _shapes(inputs, shape, data)
    written = next((i.shape[0] for i in inputs if i.shape), 0)
    written = written if isinstance(written, int) else 0
    dims = _examples(foreign, known)
    lead = {name: found[0] for name, found in dims.items()} if examples_first else None
    net = _polymorphic(foreign, table, known, held, written, dims, lead)
    if net is None:
        net = Imported()
        net._programs = (Builder(foreign, table, known, held, net, (_first(known), written), lead).build(),)
    net.eval()
    net._about = Report(origin, _facts(net, foreign))
    if data:
        compare(net, run, data, held, written)
    return net


def _polymorphic(foreign: Foreign, table: Table, known: Mapping[str, Shape], held: Mapping[str, Array], written: int,
                 dims: Mapping[str, tuple[int, ...]], lead: Mapping[str, int] | None) -> Imported | None:  # fmt: skip
    """The network for any number of examples; None if it is made for the one at hand.

    What follows from the programs for ``FEW`` numbers of examples is believed if it gives the program for ``MANY``, too: a slice
    of at most twenty examples looks like one of all of them until there are more.
    """
    net, n = Imported(), _first(known)
    if not dims or not n:
        return None
    try:
        first, second, many = (Builder(foreign, table, _with(known, dims, k), held, net, (k, written), lead).build() for k in (*FEW, MANY))
        check_same(between(first, second, MANY), many)
        between(first, second, 1)
    except ShohinError:
        return None
    net._programs = first, second
    return net


def _examples(foreign: Foreign, known: Mapping[str, Shape]) -> dict[str, tuple[int, ...]]:
    """Which dims count the examples: those with the leading dim's symbol, or, where that is a number, all leading dims of that
    extent."""
    inputs = [i for i in foreign.inputs if i.name in known]
    if not inputs or not inputs[0].shape:
        return {}
    lead, n = inputs[0].shape[0], _first(known)
    named = isinstance(lead, str) and lead[:1] != "?"
    found: dict[str, tuple[int, ...]] = {}
    for i in inputs:
        own = known[i.name]
        if named:
            found[i.name] = tuple(d for d, s in enumerate(i.shape) if s == lead)
        elif isinstance(lead, str):
            found[i.name] = tuple(d for d, s in enumerate(i.shape) if isinstance(s, str) and s[:1] == "?" and own[d] == n and d < 2)[:1]
        else:
            found[i.name] = (0,) if own and own[0] == n else ()
    return {k: v for k, v in found.items() if v}


def _with(known: Mapping[str, Shape], dims: Mapping[str, tuple[int, ...]], n: int) -> dict[str, Shape]:
    return {k: tuple(n if d in dims.get(k, ()) else m for d, m in enumerate(s)) for k, s in known.items()}


def _first(known: Mapping[str, Shape]) -> int:
    return next((s[0] for s in known.values() if s), 1)


def _fixed(foreign: Foreign, fixed: Mapping[str, Any]) -> dict[str, Array]:
    by_name = {i.name: i for i in foreign.inputs}
    for name in fixed:
        if name not in by_name:
            raise ForeignError(f"fixed names {name!r}; the network's inputs are {', '.join(by_name) or 'none'}")
    return {name: np.asarray(v).astype(by_name[name].dtype) for name, v in fixed.items()}


def _data(inputs: Sequence[Input], check: Any) -> dict[str, Array]:
    """The check's arrays by input."""
    if check is None:
        return {}
    if hasattr(check, "x") and hasattr(check, "take"):
        check = check.x
    given = dict(check) if isinstance(check, Mapping) else dict(zip([i.name for i in inputs], check if isinstance(check, tuple) else (check,)))
    missing = [i.name for i in inputs if i.name not in given]
    if missing or len(given) > len(inputs):
        raise ForeignError(f"check has {', '.join(given) or 'nothing'}; the network takes {', '.join(i.name for i in inputs)}")
    return {i.name: np.asarray(given[i.name].numpy() if hasattr(given[i.name], "numpy") else given[i.name]).astype(i.dtype) for i in inputs}


def _shapes(inputs: Sequence[Input], shape: Any, data: Mapping[str, Array]) -> dict[str, Shape]:
    """The extents of all inputs: the file's, else ``shape``'s, else the data's; one example where nothing says how many."""
    given: dict[str, Sequence[int]] = dict(shape) if isinstance(shape, Mapping) else {} if shape is None else {inputs[0].name: tuple(shape)} if inputs else {}
    unknown = [n for n in given if n not in {i.name for i in inputs}]
    if unknown or (shape is not None and not isinstance(shape, Mapping) and len(inputs) != 1):
        names = ", ".join(f"{i.name} {i.shape}" for i in inputs)
        raise ForeignError(f"shape is {shape!r}; the network takes {names or 'nothing'}: write shape={{'<input>': (...)}}")
    found: dict[str, Shape] = {}
    open_: list[str] = []
    for k, i in enumerate(inputs):
        wanted = given.get(i.name) or (data[i.name].shape if i.name in data else None)
        if wanted is not None and (len(wanted) != len(i.shape) or any(isinstance(m, int) and m != w for m, w in zip(i.shape[1:], tuple(wanted)[1:]))):
            raise ForeignError(f"the input {i.name} has shape {_spelled(i)} in the file, got {tuple(wanted)}")
        if wanted is None:
            lead = isinstance(i.shape[0], str) if i.shape else False
            wanted = tuple(1 if d == 0 and lead else m for d, m in enumerate(i.shape))
            first = inputs[0].shape[0] if inputs[0].shape else None
            wanted = tuple(found[inputs[0].name][0] if k and isinstance(m, str) and m == first else m for m in wanted)
        if any(isinstance(m, str) for m in wanted):
            open_.append(f"{i.name} {_spelled(i)}")
        else:
            found[i.name] = tuple(int(m) for m in wanted)
    if open_:
        raise ForeignError(
            f"the file leaves extents open: {'; '.join(open_)}. Shapes are static here: give them, "
            f"shape={{{inputs[0].name!r}: (...)}}, or data to check with"
        )
    if any(n < 0 or n > 1 << 24 for s in found.values() for n in s):
        raise ForeignError(f"shapes {found} are out of range")
    return found


def _spelled(i: Input) -> str:
    return f"({', '.join('?' if isinstance(m, str) and m[:1] == '?' else str(m) for m in i.shape)})"


# ------------------------------------------------------------------------------------------------- the report


def turns(program: Program) -> list[Step]:
    """The steps that turn dims in memory."""
    return [s for s in program.steps if s.call is move.permute_dims]


def _facts(net: Imported, foreign: Foreign) -> dict[str, str]:
    program = net._programs[0]
    kinds: dict[str, int] = {}
    for module in net.modules().values():
        if module is not net and type(module).forward is not Module.forward:  # no bare container, no Function
            kinds[type(module).__name__] = kinds.get(type(module).__name__, 0) + 1
    layers = ", ".join(f"{n} {k}" for k, n in sorted(kinds.items()))
    functions = len([s for s in program.steps if callable(s.call)])
    return {
        "inputs": net._takes(),
        "examples": "any number" if len(net._programs) == 2 else f"{program.shapes[0][0] if program.shapes and program.shapes[0] else 1} (shapes of the file depend on it)",
        "operators": f"{len(foreign.nodes)} in the file, {len(program.steps)} steps here",
        "layers": layers or "none",
        "functions": f"{functions}, of which {len(turns(program))} turn dims in memory",
        "parameters": f"{sum(c.read().size for c in net.cells(Param).values()):,}",
    }  # fmt: skip


def compare(net: Imported, run: Run, data: Mapping[str, Array], held: Mapping[str, Array], written: int) -> None:
    """Write the worst difference from the origin's results into the report. An origin that has a number of examples ``written``
    down sees them in such portions."""
    into, out = net._programs[0].leads
    ours = net(*map(_led, data.values(), into))
    n = next(iter(data.values())).shape[:1]
    if written and n and n[0] % written == 0 and n[0] > written:
        of = lambda x, d, k: x.take(range(k, k + written), axis=d) if x.shape[d : d + 1] == n else x
        portion = lambda k: {name: of(x, d, k) for (name, x), d in zip(data.items(), into)}
        parts = [run({**portion(k), **held}) for k in range(0, n[0], written)]
        theirs: Sequence[Array] = [np.concatenate(outputs, axis=d) for outputs, d in zip(zip(*parts), out)]
    else:
        theirs = run({**data, **held})
    worst, size = 0.0, 0.0
    for a, b, d in zip(ours if isinstance(ours, tuple) else (ours,), theirs, out):
        x, y = a.numpy().astype(np.float64), _led(np.asarray(b), d).astype(np.float64)
        if x.shape != y.shape:
            raise ForeignError(f"a result has shape {x.shape}, the origin's has {y.shape}")
        if x.size:
            apart = np.where((x == y) | (np.isnan(x) & np.isnan(y)), 0.0, np.abs(x - y))
            worst = max(worst, float(np.max(np.where(np.isnan(apart), np.inf, apart))))
            size = max(size, float(np.max(np.abs(y))))
    net._about.difference = worst
    name = getattr(run, "name", "the origin")
    net._about.facts["check"] = f"worst difference from {name} {worst:.2g}, results up to {size:.3g}"


def _led(x: Array, first: int) -> Array:
    """The array with a dim in front."""
    return np.ascontiguousarray(np.moveaxis(x, first, 0)) if first else x


__all__ = ["bring_in", "compare", "turns"]
