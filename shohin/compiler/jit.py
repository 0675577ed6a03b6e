"""``sh.jit``: a function as one compiled program; forward, backward, optimizer, state and random numbers alike.

The key of a program is what is static: the arguments' structure, shapes and dtypes, mode and ``requires_grad``, plain
attributes and captured constants. Cells that the arguments reach are inputs; those that change are written in place
unless somebody holds their old value, and then move (state.md 11). A call with the same objects in an unchanged
structure takes a fast path that walks nothing (state.md 13).
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from shohin.compiler import captures
from shohin.compiler.execute import compile_graph
from shohin.core import cells as cell_state
from shohin.core import interp, trees
from shohin.core.cells import Cell, Param
from shohin.core.errors import CaptureError, StateError, TraceError
from shohin.core.module import Module, _Dict, _List, _Tuple, roots
from shohin.core.tensor import Tensor, as_tensor
from shohin.core.trace import Staged, run, stage
from shohin.ops import random

Array = np.ndarray[Any, Any]


class Program:
    """One traced and compiled version: which cells it binds, which it writes, how results are built."""

    def __init__(self, staged: Staged, outputs: list[Any], spec: trees.Spec, levels: tuple[str, int | None]) -> None:
        self.graph, self.spec, self.outputs = staged.graph, spec, outputs
        self.cells, self.writes = staged.cells, staged.writes
        n = len(staged.graph.inputs) - len(staged.cells)
        self.leaves = n
        results = len(staged.graph.outputs) - len(staged.writes)
        donated = {results + k: n + self.cells.index(c) for k, c in enumerate(self.writes) if c in self.cells}
        self.compiled = compile_graph(staged.graph, donated, level=levels[0], count=levels[1])
        self.results = results
        self.fresh = [k for k, c in enumerate(self.writes) if c not in self.cells]
        self.shapes = [v.shape for v in staged.graph.outputs[:results]]

    def __call__(self, leaves: Sequence[Array]) -> Any:
        """Run on arrays and the cells' present values; results as tensors, cells written."""
        held = [self._own(c) if c in self._written else c.stored().payload for c in self.cells]
        out = self.compiled.call([*leaves, *held])
        for k in self.fresh:
            self.writes[k].store(interp.make(out[self.results + k]))  # type: ignore[arg-type]
        return [interp.make(a) for a in out[: self.results]]  # type: ignore[arg-type]

    def __repr__(self) -> str:
        return f"<program of {len(self.graph.nodes)} nodes: {self.leaves} inputs, {len(self.cells)} cells, {len(self.writes)} written; {self.compiled!r}>"

    def __str__(self) -> str:
        """The graph as traced, then what was compiled."""
        return f"{self.graph}\n{self.compiled}"

    @functools.cached_property
    def _written(self) -> frozenset[Cell]:
        return frozenset(self.writes)

    def _own(self, cell: Cell) -> Array:
        """The cell's array, to be written in place; a copy if any Python object still refers to the present one."""
        tensor, array = _references(cell)
        payload: Array = cell.stored().payload
        if tensor > _ALONE[0] or array > _ALONE[1] or not payload.flags.owndata or not payload.flags.c_contiguous:
            payload = payload.copy()
            cell._stored = interp.make(payload)
        return payload


def _references(cell: Cell) -> tuple[int, int]:
    """How many references there are to a cell's tensor and to its array, counted from here."""
    tensor = cell.stored()
    array = tensor.payload
    return sys.getrefcount(tensor), sys.getrefcount(array)


_ALONE = _references(Cell(np.zeros(1, np.float32)))
"""The counts for a cell whose value nobody holds; how many they are differs between versions of Python."""


class Jit:
    """What ``jit`` returns. ``traces`` says for each program why it was made; ``lower(*args)`` shows one."""

    def __init__(self, f: Callable[..., Any], donate: Sequence[int] = (), level: str = "native", threads: int | None = None) -> None:
        self.f, self.donate, self.levels = f, tuple(donate), (level, threads)
        self.programs: dict[Any, Program] = {}
        self.traces: list[str] = []
        self._names: list[captures.Lookup] | None = None
        self._last_key: Any = None
        functools.update_wrapper(self, f, updated=())

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        if instance is None:
            return self
        if not isinstance(instance, Module):
            raise StateError(f"jit on a method: {type(instance).__name__} is no nn.Module, so its state cannot be found; jit a function of it")
        return functools.partial(self.__call__, instance)

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        leaves, spec = trees.flatten((args, keywords))
        modules = _modules(spec)
        if interp.current() is not interp.BASE:
            return self._inside(leaves, spec, modules)
        for t in leaves:
            if isinstance(t, Tensor):
                interp.BASE.admit(t)
        tensors = [as_tensor(v) for v in leaves]
        key = self._key(tensors, leaves, spec, modules)
        program = self.programs.get(key)
        if program is None:
            program = self._trace(key, tensors, leaves, spec, modules)
        values = program([_contiguous(t.payload) for t in tensors])
        return trees.unflatten(program.spec, values)

    # -- keys
    def _key(self, tensors: Sequence[Tensor], leaves: Sequence[Any], spec: trees.Spec, modules: Sequence[Module]) -> Any:
        if self._names is None:
            self._names = captures.lookups(self.f)
        weak = tuple(type(v) is float or (isinstance(v, Tensor) and v.weak) for v in leaves)
        return (_shape_of(spec), tuple(t.aval for t in tensors), weak, tuple(signature(m) for m in modules), captures.snapshot(self._names))

    # -- tracing
    def _staged(self, tensors: Sequence[Tensor], leaves: Sequence[Any], spec: trees.Spec, modules: Sequence[Module]) -> tuple[Staged, trees.Spec]:
        name = getattr(self.f, "__name__", "f")
        known: set[Cell] = {random.default.key, random.default.counter}
        for m in modules:
            known.update(m.cells().values())
        out_spec: list[trees.Spec] = []

        def flat(*values: Tensor) -> list[Tensor]:
            for v, leaf in zip(values, leaves, strict=True):
                v.weak = type(leaf) is float or (isinstance(leaf, Tensor) and leaf.weak)
            a, k = trees.unflatten(spec, values)
            with roots(self.f, a, k):
                out, found = trees.flatten(self.f(*a, **k))
            out_spec.append(found)
            return [as_tensor(o) for o in out]

        def capture_cell(cell: Cell) -> None:
            if cell not in known:
                raise CaptureError(f"{name} reads {cell}, which none of its arguments reaches; pass the module or cell that holds it as an argument")

        def capture_tensor(t: Tensor) -> None:
            raise CaptureError(f"{name} uses a tensor {t.aval} from outside that is no argument; pass it, hold it in a module, or mark it as a constant with a NumPy array")

        reached = {id(m) for root in modules for m in root.modules().values()}

        def capture_module(module: Module) -> None:
            if id(module) not in reached:
                raise CaptureError(f"{name} calls a {type(module).__name__} that none of its arguments reaches; pass it, or the module that holds it, as an argument")

        captures_of = {"capture_tensor": capture_tensor, "capture_cell": capture_cell, "capture_module": capture_module}
        staged = stage(flat, [t.aval for t in tensors], **captures_of)
        return staged, out_spec[0]

    def _trace(self, key: Any, tensors: Sequence[Tensor], leaves: Sequence[Any], spec: trees.Spec, modules: Sequence[Module]) -> Program:
        staged, out_spec = self._staged(tensors, leaves, spec, modules)
        program = Program(staged, [], out_spec, self.levels)
        self.traces.append(_difference(self._last_key, key))
        self._last_key = key
        self.programs[key] = program
        return program

    def _inside(self, leaves: Sequence[Any], spec: trees.Spec, modules: Sequence[Module]) -> Any:
        """Within another transformation: staged for the rules of capture, then carried out node by node there."""
        tensors = [as_tensor(v) for v in leaves]
        staged, out_spec = self._staged(tensors, leaves, spec, modules)
        results = run(staged.graph, [*tensors, *staged.operands()])
        count = len(results) - len(staged.writes)
        staged.land(results[count:])
        return trees.unflatten(out_spec, results[:count])

    def lower(self, *args: Any, **keywords: Any) -> Program:
        """The program for these arguments, compiled and not run: ``.graph``, ``.compiled.source``, ``.compiled.plan``."""
        leaves, spec = trees.flatten((args, keywords))
        tensors = [as_tensor(v) for v in leaves]
        modules = _modules(spec)
        key = self._key(tensors, leaves, spec, modules)
        return self.programs.get(key) or self._trace(key, tensors, leaves, spec, modules)

    def profile(self, *args: Any, repeats: int = 10, **keywords: Any) -> list[tuple[str, float]]:
        """(place, median seconds) of every step of the program for these arguments; nothing is written."""
        program = self.lower(*args, **keywords)
        tensors = [as_tensor(v) for v in trees.flatten((args, keywords))[0]]
        return program.compiled.profile([*(_contiguous(t.payload) for t in tensors), *(c.stored().payload for c in program.cells)], repeats)

    def __repr__(self) -> str:
        return f"<jit {getattr(self.f, '__name__', 'f')}: {len(self.programs)} programs>"


def _contiguous(array: Array) -> Array:
    return array if array.flags.c_contiguous else np.ascontiguousarray(array)


def _shape_of(spec: trees.Spec) -> trees.Spec:
    """The structure without its modules: a key keeps no argument alive (their signatures stand beside it)."""
    if spec.kind == "module":
        return replace(spec, value=None)
    return replace(spec, children=tuple(map(_shape_of, spec.children))) if spec.children else spec


def _modules(spec: trees.Spec) -> list[Module]:
    if spec.kind == "module":
        return [spec.value.value]
    found = [m for c in spec.children for m in _modules(c)]
    if spec.kind == "static" and isinstance(spec.value, Cell):
        raise TraceError("a cell was passed to a compiled function; pass its value or the module that holds it")
    return found


def signature(module: Module) -> Any:
    """What is static in a module: classes, modes, plain attributes, which cells, their avals and flags. Kept until the epoch moves."""
    cache = object.__getattribute__(module, "_cache")
    now = cell_state.epoch()
    if cache.get("signature epoch") != now:
        numbers: dict[int, int] = {}
        parts: list[Any] = []
        for path, value in module.named():
            if isinstance(value, Cell):
                flags = value.requires_grad if isinstance(value, Param) else None
                parts.append((path, numbers.setdefault(id(value), len(numbers)), id(value), value.aval, flags))
        for path, m in module.modules().items():
            parts.append((path, type(m), m.training, tuple((k, _plain(v)) for k, v in m._entries())))
        cache["signature"] = hash(tuple(parts)), tuple(parts)
        cache["signature epoch"] = now
    return cache["signature"]


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return (value.dtype.str, value.shape, value.tobytes())
    if isinstance(value, Cell | Module):
        return type(value).__name__
    if isinstance(value, list | tuple):
        raw = value.raw() if isinstance(value, _List | _Tuple) else value
        return tuple(_plain(v) for v in raw)
    if isinstance(value, dict):
        raw = value.raw() if isinstance(value, _Dict) else value.items()
        return tuple((k, _plain(v)) for k, v in raw)
    try:
        hash(value)
    except TypeError:
        return id(value)
    return value


def _difference(old: Any, new: Any) -> str:
    if old is None:
        return "first call"
    labels = ("the arguments' structure", "shapes or dtypes", "weak numbers", "a module's structure, mode or plain attributes", "a captured constant")
    changed = [label for label, a, b in zip(labels, old, new, strict=True) if a != b]
    return "differs in " + ", ".join(changed) if changed else "another version"


def jit(f: Callable[..., Any] | None = None, *, donate: Sequence[int] = (), level: str = "native", threads: int | None = None) -> Any:
    """``f`` as one compiled program for each shape and structure of its arguments.

    Tensors, arrays and floats are inputs; bools, ints and strings are part of the key; modules and optimizers pass
    their cells, and what ``f`` changes in them is written back. ``level`` is native, v3 or v4.

    >>> double = jit(lambda x: x * 2)
    >>> double(as_tensor([1.0, 2.0])).tolist()
    [2.0, 4.0]
    """
    if f is None:
        return functools.partial(jit, donate=donate, level=level, threads=threads)
    return Jit(f, donate, level, threads)


__all__ = ["Jit", "Program", "jit", "signature"]
