"""One program bound to the arguments that it was traced for: a call that walks nothing (state.md 11, 13).

Modules are known by identity and held weakly, tensors by shape and dtype. The addresses of cells stand in a table of this
program's own; it watches its cells, and looks before a run only at those that were replaced or handed out since the
last one. A cell that is written is updated in place; if a Python object still holds its value, it moves to a copy first.
No step of a program can fail, so none has to be undone.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from ctypes import addressof, c_char
from typing import Any
from weakref import ref

import numpy as np

from shohin.compiler.captures import Captures
from shohin.compiler.execute import compile_graph
from shohin.compiler.key import Arguments, static
from shohin.compiler.results import Results
from shohin.core import cells as cell_state
from shohin.core import interp, trees
from shohin.core.cells import Cell
from shohin.core.module import Module
from shohin.core.op import Aval
from shohin.core.tensor import Tensor
from shohin.core.trace import Staged

Array = np.ndarray[Any, Any]
Test = Callable[[Any, list[Any]], bool]


class Program:
    """One traced and compiled version. ``graph`` is what was traced, ``compiled`` what runs.

    ``donated``: the numbers of the leaves that are given away; ``gifts``: result number -> the leaf whose memory it takes.
    """

    def __init__(self, staged: Staged, results: Results, call: Arguments, captured: Captures, levels: tuple[str, int | None],
                 donated: frozenset[int], gifts: Mapping[int, int]) -> None:  # fmt: skip
        self.graph, self.results, self.captured, self.gifts = staged.graph, results, captured, gifts
        self.epoch = cell_state.epoch()
        self.marked: set[int] = set()
        self.relied: set[int] = set()
        self.leaves = len(call.leaves)
        self.where = call.where
        self.roots: list[ref[Module]] = []
        self.donated = donated
        self._match(call)
        number = {c: self.leaves + k for k, c in enumerate(staged.cells)}
        count = results.count
        over = {count + k: number[c] for k, c in enumerate(staged.writes) if c in number}
        steady = [k for c, k in number.items() if c not in staged.writes]
        self.compiled = compile_graph(staged.graph, {**over, **gifts}, steady=steady, level=levels[0], count=levels[1])
        self._bind(staged, count)

    # -- the call that is known
    def _match(self, call: Arguments) -> None:
        given, named = call.spec.children
        self._count, self._keywords = len(given.children), named.keys
        leaves = iter([(t.aval, weak, k in self.donated) for k, (t, weak) in enumerate(zip(call.tensors, call.weak, strict=True))])
        self._tests = [_test(s, leaves) for s in (*given.children, *named.children)]

    def match(self, args: tuple[Any, ...], keywords: Mapping[str, Any]) -> list[Any] | None:
        """The leaves of a call with the arguments that this program is for, arrays and donated tensors; or ``None``: look
        closer."""
        if self.epoch != cell_state._epoch[0] or len(args) != self._count:
            return None
        if keywords or self._keywords:
            if tuple(keywords) != self._keywords:
                return None
            args = (*args, *keywords.values())
        leaves: list[Any] = []
        for test, value in zip(self._tests, args, strict=True):
            if not test(value, leaves):
                return None
        return leaves if self.captured.empty or self.captured.unchanged() else None

    # -- memory
    def _bind(self, staged: Staged, count: int) -> None:
        compiled = self.compiled
        self._table = compiled.table()
        self._start, self._keeps = compiled.start(self._table), compiled.keeps
        entries = [compiled.entries(b.name) for b in compiled.inputs]
        self._inputs, self._input_at = entries[: self.leaves], [0] * self.leaves
        self._constant: list[ref[Array] | None] = [None] * self.leaves
        outputs = [compiled.entries(b.name) for b in compiled.results]
        self.avals = [v.aval for v in staged.graph.outputs[:count]]
        fresh = [(k, a) for k, a in enumerate(self.avals) if k not in self.gifts]
        self._outputs = [(k, outputs[k], a) for k, a in fresh]
        self._output_at = [0] * count
        written = dict.fromkeys(staged.writes)
        bound = dict(zip(staged.cells, entries[self.leaves :], strict=True))
        bound.update({c: outputs[count + k] for k, c in enumerate(staged.writes) if c not in bound})
        self._cells = [(ref(c), at, c in written) for c, at in bound.items()]
        self._read = len(staged.cells)
        for k, c in enumerate(bound):
            c.watch(self, k)
        self._cell_at = [0] * len(bound)
        self.marked.update(range(len(bound)))

    @property
    def cells(self) -> list[Cell]:
        """The cells that the program reads, in the order of the graph's inputs after the leaves."""
        return [c for c, _, _ in self._living()[: self._read]]

    @property
    def writes(self) -> list[Cell]:
        return [c for c, _, written in self._living() if written]

    def _living(self) -> list[tuple[Cell, tuple[int, ...], bool]]:
        return [(c, at, written) for found, at, written in self._cells if (c := found()) is not None]

    def _rebind(self) -> None:
        """The addresses of the cells that were marked since the last run."""
        table, marked = self._table, self.marked
        while marked:
            k = marked.pop()
            found, entries, written = self._cells[k]
            cell = found()
            assert cell is not None  # the arguments hold it: another structure is another program
            at = _address(cell.bound(written=written))
            marked.discard(k)
            if at != self._cell_at[k]:
                self._cell_at[k] = at
                for i in entries:
                    table[i] = at
            if self._keeps and not written:
                cell.rely()
        if self._keeps:
            self.compiled.prepare(table)

    def _report(self) -> None:
        """Mark the cells that were written in place and whose value another program has made something of."""
        relied, self.relied = self.relied, set()
        for k in relied:
            found, _, written = self._cells[k]
            cell = found()
            if written and cell is not None:
                cell.changed()

    def run(self, leaves: Sequence[Any]) -> Any:
        """Run on these leaves (what ``match`` gave, or tensors) and the cells' present values; cells are written, results
        come in their tree."""
        table, ats, constant, arrays = self._table, self._input_at, self._constant, leaves
        with self.compiled.lock:
            if self.marked:
                self._rebind()
            if self.donated or (arrays and isinstance(arrays[0], Tensor)):
                arrays = self._arrays(leaves)
            held: list[Array] = []  # alive while the program runs
            for k, array in enumerate(arrays):
                flags = array.flags
                if not flags.c_contiguous:
                    array = np.ascontiguousarray(array)
                held.append(array)
                if flags.writeable:
                    at, constant[k] = _address(array), None
                elif (known := constant[k]) is not None and known() is array:
                    continue
                else:
                    at, constant[k] = array.ctypes.data, ref(array)
                if at != ats[k]:
                    ats[k] = at
                    for i in self._inputs[k]:
                        table[i] = at
            values: list[Tensor] = []
            for k, entries, aval in self._outputs:
                array = np.empty(aval.shape, aval.dtype)
                values.append(_tensor(array, aval))
                at = _address(array)
                if at != self._output_at[k]:
                    self._output_at[k] = at
                    for i in entries:
                        table[i] = at
            self._start()
        if self.relied:
            self._report()
        for k, leaf in self.gifts.items():
            values.insert(k, _tensor(held[leaf], self.avals[k]))
        return self.results.build(values)

    def _arrays(self, leaves: Sequence[Any]) -> list[Array]:
        given = _give(leaves, self.gifts)
        return [given[k] if k in given else v.payload if isinstance(v, Tensor) else v for k, v in enumerate(leaves)]

    def arrays(self, leaves: Sequence[Tensor]) -> list[Array]:
        """What the compiled program takes: the leaves, then the cells' present values."""
        return [*(np.ascontiguousarray(t.payload) for t in leaves), *(c.stored().payload for c in self.cells)]

    def __repr__(self) -> str:
        written = sum(w for _, _, w in self._cells)
        return f"<program of {len(self.graph.nodes)} nodes: {self.leaves} inputs, {self._read} cells, {written} written; {self.compiled!r}>"

    def __str__(self) -> str:
        """The graph as traced, then what was compiled."""
        return f"{self.graph}\n{self.compiled}"


def _tensor(array: Array, aval: Aval) -> Tensor:
    """``Tensor._make`` of an array that is known to fit."""
    tensor = object.__new__(Tensor)
    tensor.aval, tensor.frame, tensor.payload, tensor.cell, tensor.weak = aval, None, array, None, False
    return tensor


def _address(array: Array) -> int:
    """Where an array's data is: ten times quicker than ``array.ctypes.data``, where Python's buffers allow it."""
    try:
        return addressof(c_char.from_buffer(array))  # type: ignore[arg-type]
    except (TypeError, ValueError, BufferError):  # read-only, empty, or of a dtype that buffers do not know
        return array.ctypes.data


# ---------------------------------------------------------------------------------------------- tests of arguments


def _test(spec: trees.Spec, leaves: Any) -> Test:
    """Whether a value is the argument that ``spec`` was; its leaves go to the list."""
    match spec.kind:
        case "leaf":
            return _test_leaf(*next(leaves))
        case "module":
            known = ref(spec.value.value)
            return lambda value, out: value is not None and value is known()
        case "static":
            return _test_static(spec.value)
        case _:
            kind = spec.value or {"paths": trees.Paths}.get(spec.kind) or {"tuple": tuple, "list": list, "dict": dict}[spec.kind]
            return _test_container(kind, spec.keys, [_test(s, leaves) for s in spec.children])


def _test_leaf(aval: Aval, weak: bool, donated: bool) -> Test:
    shape, dtype = aval.shape, aval.dtype
    number = weak and shape == () and dtype == np.float32

    def test(value: Any, out: list[Any]) -> bool:
        kind = type(value)
        if isinstance(value, Tensor):
            found = value.aval
            if value.frame is not None or value.weak is not weak or found.shape != shape or found.dtype != dtype:
                return False
            value = value if donated else value.payload
        elif kind is np.ndarray:
            if weak or value.shape != shape or value.dtype != dtype:
                return False
        elif number and kind is float:
            value = np.array(value, np.float32)
        else:
            return False
        out.append(value)
        return True

    return test


def _test_static(known: Any) -> Test:
    if isinstance(known, bool | int | str | bytes | None):
        kind = type(known)
        return lambda value, out: value is known or (type(value) is kind and value == known)
    key = static(known)  # holds no object that can be held weakly
    return lambda value, out: static(value) == key


def _test_container(kind: type[Any], keys: tuple[Any, ...], tests: Sequence[Test]) -> Test:
    def test(value: Any, out: list[Any]) -> bool:
        if type(value) is not kind or len(value) != len(tests):
            return False
        if keys:
            if tuple(value) != keys:
                return False
            value = value.values()
        return all(t(v, out) for t, v in zip(tests, value, strict=True))

    return test


# ------------------------------------------------------------------------------------------------------- donation


def _give(leaves: Sequence[Any], gifts: Mapping[int, int]) -> dict[int, Array]:
    """By leaf, the array that the program may write over: the tensor's own, or a copy if anybody else refers to it."""
    given: dict[int, Array] = {}
    for k in gifts.values():
        leaf = leaves[k]
        alone = isinstance(leaf, Tensor) and sum(v is leaf for v in leaves) == 1 and _references(leaf) <= _ALONE
        array = leaf.payload if isinstance(leaf, Tensor) else leaf
        flags = array.flags
        given[k] = array if alone and flags.owndata and flags.writeable and flags.c_contiguous else np.array(array, order="C")
    return given


def _references(tensor: Tensor) -> int:
    array = tensor.payload
    return sys.getrefcount(array)


_ALONE = _references(interp.make(np.zeros(1, np.float32)))

__all__ = ["Program"]
