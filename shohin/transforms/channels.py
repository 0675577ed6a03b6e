"""``channels(net)(x)``: which dims of which parameters belong together, derived from the ops' relations of axes.

Every dim of every value is a node, and so is every axis of every op. A node is a leaf, a product or a concatenation of
nodes; the only operation is ``tie``, which splits the larger side. What is a window, a whole axis, an input, an output
or an op without a relation is fixed. A leaf that stays is a group: its channels go together or not at all.

Removing a channel must be the same as zeros in its parameters, so an axis that is summed without a weight (a mean over
channels) is fixed too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from shohin.core.cells import Cell
from shohin.core.errors import ShapeError
from shohin.core.graph import Graph, Node, Var, subgraphs
from shohin.core.module import Module, mode
from shohin.transforms.trace import Traced, trace

Array = np.ndarray[Any, Any]

# --------------------------------------------------------------------------------------------------- nodes


class Extent:
    """A node: ``form`` is leaf, product (outermost first) or concat; ``fixed`` says why it cannot shrink."""

    __slots__ = ("fixed", "form", "parts", "size", "to")

    def __init__(self, size: int, form: str = "leaf", parts: Sequence[Extent] = (), fixed: str = "") -> None:
        self.size, self.form, self.parts, self.fixed = size, form, tuple(parts), fixed
        self.to: Extent | None = None

    def root(self) -> Extent:
        node = self
        while node.to is not None:
            node = node.to
        return node

    def flat(self, form: str) -> list[Extent]:
        """The parts of a node of this form, nested ones taken apart; any other node is its own part."""
        node = self.root()
        return [q for p in node.parts for q in p.flat(form)] if node.form == form else [node]

    def leaves(self) -> list[Extent]:
        node = self.root()
        return [node] if node.form == "leaf" else [q for p in node.parts for q in p.leaves()]

    def mask(self, kept: Mapping[Extent, Array]) -> Array:
        """Which of the elements stay, given that of the leaves (all, where nothing is given)."""
        node = self.root()
        if node.form == "leaf":
            return kept.get(node, np.ones(node.size, bool))
        masks = [p.mask(kept) for p in node.parts]
        if node.form == "concat":
            return np.concatenate(masks)
        out = masks[0]
        for m in masks[1:]:
            out = np.logical_and.outer(out, m).reshape(-1)
        return out

    def index(self, leaf: Extent) -> Array:
        """For each element the number of the leaf's element that it stands for, or -1."""
        node = self.root()
        if node.form == "leaf":
            return np.arange(node.size) if node is leaf else np.full(node.size, -1)
        if node.form == "concat":
            return np.concatenate([p.index(leaf) for p in node.parts])
        grids = np.meshgrid(*(p.index(leaf) for p in node.parts), indexing="ij")
        return np.max(grids, axis=0).reshape(-1)

    def fix(self, why: str) -> None:
        for leaf in self.leaves():
            leaf.fixed = leaf.fixed or why


def joined(form: str, parts: Sequence[Extent]) -> Extent:
    """A product or concatenation; factors of 1 and single parts vanish."""
    kept = [p for p in parts if p.size != 1] if form == "product" else list(parts)
    if len(kept) < 2:
        return kept[0] if kept else Extent(1)
    return Extent(prod(p.size for p in kept) if form == "product" else sum(p.size for p in kept), form, kept)


def tie(a: Extent, b: Extent) -> None:
    """The two are one from now on; where they cannot be brought to one structure, both are fixed."""
    a, b = a.root(), b.root()
    if a is b or a.size == 1:
        return
    if b.form == "leaf":
        a, b = b, a
    if a.form == "leaf":
        a.to = b
        if a.fixed:
            b.fix(a.fixed)
        return
    fits = True
    if a.form != b.form:  # the concatenation becomes a product of concatenations
        product, chain = (a, b) if a.form == "product" else (b, a)
        fits = bool(_cut_product(chain, product.flat("product")[0].size))
    if fits and _pairs(a, b, _cut_product if a.form == "product" else _cut_concat):
        if a.root() is not b.root():
            a.root().to = b.root()
        return
    for node in (a, b):
        node.fix("two shapes that do not nest")


def _pairs(a: Extent, b: Extent, cut: Callable[[Extent, int], Any]) -> bool:
    """Tie part by part from the outside, cutting the larger part."""
    form = "product" if cut is _cut_product else "concat"
    xs, ys = a.flat(form), b.flat(form)
    while xs and ys:
        x, y = xs.pop(0).root(), ys.pop(0).root()
        if x.size == y.size:
            tie(x, y)
            continue
        large, small, rest = (x, y, xs) if x.size > y.size else (y, x, ys)
        pieces = cut(large, small.size)
        if not pieces:
            return False
        tie(pieces[0], small)
        rest[:0] = pieces[1:]
    return not xs and not ys


def _cut_product(node: Extent, outer: int) -> list[Extent]:
    """The node as a product with an outer factor of that size, or nothing."""
    if node.size % outer:
        return []
    inner = Extent(node.size // outer, fixed=node.fixed)
    if node.form == "leaf":
        parts = [Extent(outer, fixed=node.fixed), inner]
    elif node.form == "concat" and all(p.size % inner.size == 0 for p in node.flat("concat")):
        outers = []
        for p in node.flat("concat"):
            outers.append(Extent(p.size // inner.size))
            tie(p, joined("product", [outers[-1], inner]))
        parts = [joined("concat", outers), inner]
    else:
        return []
    node.form, node.parts = "product", tuple(parts)
    return parts


def _cut_concat(node: Extent, first: int) -> list[Extent]:
    """The node as two pieces, the first of that size, or nothing."""
    if node.form == "leaf":
        node.form, node.parts = "concat", (Extent(first, fixed=node.fixed), Extent(node.size - first, fixed=node.fixed))
        return list(node.parts)
    if node.form == "concat":
        return []
    outer, *inner = node.flat("product")
    unit = prod(p.size for p in inner)
    pieces = [] if first % unit or outer.form == "concat" else _cut_concat(outer, first // unit)
    return [joined("product", [p, *inner]) for p in pieces]


# -------------------------------------------------------------------------------------------------- groups


@dataclass(frozen=True, eq=False)
class Slice:
    """A dim of a cell: ``index[j]`` is the group's channel at its position j, or -1. ``reads``: the dim is summed over,
    so the cell reads the channels; the others make or carry them."""

    path: str
    dim: int
    index: Array
    reads: bool


@dataclass(frozen=True, eq=False)
class Group:
    """Channels that go together: ``size`` of them; ``fixed`` says why they cannot go, or is empty."""

    size: int
    slices: tuple[Slice, ...]
    fixed: str
    leaf: Extent = field(repr=False)

    @property
    def prunable(self) -> bool:
        return not self.fixed and self.size > 1

    def __str__(self) -> str:
        where = ", ".join(f"{s.path}[{s.dim}]" for s in self.slices)
        return f"{self.size:>5} {'prunable' if self.prunable else f'fixed ({self.fixed})':<28} {where}"


@dataclass(frozen=True, eq=False)
class Seen:
    """One op of the network, bodies included: its node and the extents of its axes and of its values' dims. ``before``, of a slice: what
    lies before it in each dim."""

    node: Node
    axes: Mapping[str, Extent]
    operands: tuple[tuple[Extent, ...], ...]
    results: tuple[tuple[Extent, ...], ...]
    before: tuple[Extent | None, ...] = ()


@dataclass(frozen=True, eq=False)
class Channels:
    """The groups of a network; ``dims`` are the nodes of each cell's dims by path, ``seen`` its ops."""

    groups: tuple[Group, ...]
    dims: Mapping[str, tuple[Extent, ...]]
    seen: tuple[Seen, ...]
    traced: Traced

    def masks(self, kept: Mapping[Group, Array]) -> dict[str, list[Array]]:
        """For each cell which positions of each dim stay, when of these groups only the marked channels do."""
        leaves = {g.leaf: np.asarray(m, bool) for g, m in kept.items()}
        return {path: [d.mask(leaves) for d in dims] for path, dims in self.dims.items()}

    def sliced(self) -> set[Group]:
        """Groups out of which a slice cuts a part: its numbers must change with them, which only the network's Python can do."""
        cut = {leaf for s in self.seen if s.before for whole, part in zip(s.operands[0], s.results[0], strict=True) if whole.size != part.size for leaf in whole.leaves()}
        return {g for g in self.groups if g.leaf in cut}

    def __str__(self) -> str:
        return "\n".join(map(str, self.groups))


def channels(f: Any) -> Any:
    """A function that derives the channel groups of ``f`` on its arguments; nothing runs. A traced program has its own.

    >>> from shohin.core.cells import Param
    >>> class Net(Module):
    ...     def __init__(self): self.a, self.b = Param(np.ones((4, 3), np.float32)), Param(np.ones((2, 4), np.float32))
    ...     def forward(self, x): return (x @ self.a.T) @ self.b.T
    >>> found = channels(Net())(np.ones((1, 3), np.float32))
    >>> [(g.size, [(s.path, s.dim) for s in g.slices]) for g in found.groups if g.prunable]
    [(4, [('a', 0), ('b', 1)])]
    """
    if isinstance(f, Traced):
        return _derive(f, {id(c): c.name or f"cell{i}" for i, c in enumerate(f.cells)})

    def run(*args: Any, **keywords: Any) -> Channels:
        modules = [m for m in (f, *args) if isinstance(m, Module)]
        names: dict[int, str] = {}
        for m in modules:
            for path, cell in m.cells().items():
                names.setdefault(id(cell), path)
        if isinstance(f, Module):
            with mode(f, training=False):
                return _derive(trace(f)(*args, **keywords), names)
        return _derive(trace(f)(*args, **keywords), names)

    return run


def _derive(traced: Traced, names: Mapping[int, str]) -> Channels:
    graph, cells = traced.graph, traced.cells
    walk = _Walk()
    arguments = len(graph.inputs) - len(cells)
    for v, name in zip(graph.inputs[:arguments], graph.names, strict=False):
        walk.fix(v, f"input {name}")
    of = dict(zip(graph.inputs[arguments:], cells, strict=True))
    walk.parameters.update(of)
    walk.cells.update(of)
    walk.graph(graph)
    users = graph.users()
    for v in of:
        if v not in users:
            walk.fix(v, "no op reads it")
    results = len(graph.outputs) - len(traced.writes)
    for v in graph.outputs[:results]:
        walk.fix(v, "output")
    vars_of = {cell: v for v, cell in of.items()}
    for v, cell in zip(graph.outputs[results:], traced.writes, strict=True):
        if cell in vars_of:
            walk.same(v, vars_of[cell])
    dims = {names.get(id(c), c.name): walk.at(v) for v, c in of.items()}
    found: dict[Extent, list[Slice]] = {}
    for v, cell in of.items():
        path = names.get(id(cell), cell.name)
        for d, node in enumerate(walk.at(v)):
            for leaf in dict.fromkeys(node.leaves()):
                if leaf.size > 1:
                    found.setdefault(leaf, []).append(Slice(path, d, node.index(leaf), (cell, d) in walk.read))
    groups = tuple(Group(leaf.size, tuple(s), leaf.fixed, leaf) for leaf, s in found.items())
    return Channels(groups, dims, tuple(walk.seen), traced)


class _Walk:
    """One walk. ``parameters`` are values that no argument reaches, ``read`` the cells' dims that are summed."""

    def __init__(self) -> None:
        self.dims: dict[Var, tuple[Extent, ...]] = {}
        self.parameters: dict[Var, Any] = {}
        self.cells: dict[Var, Cell] = {}
        self.read: set[tuple[Cell, int]] = set()
        self.seen: list[Seen] = []

    def at(self, v: Var) -> tuple[Extent, ...]:
        if v not in self.dims:
            self.dims[v] = tuple(map(Extent, v.shape))
        return self.dims[v]

    def fix(self, v: Var, why: str) -> None:
        for d in self.at(v):
            d.fix(why)

    def same(self, a: Var, b: Var) -> None:
        for x, y in zip(self.at(a), self.at(b), strict=True):
            tie(x, y)

    def graph(self, graph: Graph) -> None:
        for v, _ in graph.consts:
            self.parameters[v] = None
            self.fix(v, "a constant")
        for node in graph.nodes:
            if all(v in self.parameters for v in node.operands):
                self.parameters.update(dict.fromkeys(node.results))
            self.node(node)

    def node(self, node: Node) -> None:
        axes: dict[str, Extent] = {}
        before: tuple[Extent | None, ...] = ()
        if node.op.kind == "call":
            self.body(node)
        elif node.op.name == "concat":  # the one rule by hand: its relation has no axis for the parts
            for d, whole in enumerate(self.at(node.results[0])):
                parts = [self.at(v)[d] for v in node.operands]
                for p in [joined("concat", parts)] if d == node.attrs["axis"] else parts:
                    tie(whole, p)
        elif set(node.attrs) == {"start", "stop", "step"}:  # a slice, the inverse of a concatenation
            before = self.cut(node)
        elif node.op.axes is None or (solved := _solved(node)) is None:
            for v in (*node.operands, *node.results):
                self.fix(v, f"{node.op.name} at {node.place}")
        else:
            axes = self.related(node, solved)
        self.seen.append(Seen(node, axes, tuple(map(self.at, node.operands)), tuple(map(self.at, node.results)), before))

    def cut(self, node: Node) -> tuple[Extent | None, ...]:
        """Each dim that is sliced is what lies before, the slice, and what lies after it."""
        before: list[Extent | None] = []
        (whole,), (part,) = node.operands, node.results
        for here, there, start, step in zip(self.at(whole), self.at(part), node.attrs["start"], node.attrs["step"], strict=True):
            first = Extent(start) if start else None
            before.append(first)
            if step != 1 and there.size > 1:
                for d in (here, there):
                    d.fix(f"a step of {step} at {node.place}")
            else:
                after = here.size - start - there.size
                tie(here, joined("concat", [*([first] if first else []), there, *([Extent(after)] if after else [])]))
        return tuple(before)

    def body(self, node: Node) -> None:
        body: Graph = node.attrs["body"]
        for v in (*body.inputs, *(r for n in _inside(body) for r in n.results)):
            self.dims.pop(v, None)
        for inner, outer in zip(body.inputs, node.operands, strict=True):
            self.dims[inner] = self.at(outer)
            if outer in self.parameters:
                self.parameters[inner] = None
            if outer in self.cells:
                self.cells[inner] = self.cells[outer]
        self.graph(body)
        for inner, outer in zip(body.outputs, node.results, strict=True):
            self.same(inner, outer)

    def related(self, node: Node, solved: Any) -> dict[str, Extent]:
        axes = {a: Extent(n) for a, n in solved.extents.items()}
        values = (*node.operands, *node.results)
        for v, dims in zip(values, (*solved.relation.operands, *solved.relation.results), strict=True):
            for here, d in zip(self.at(v), dims, strict=True):
                if d.kind in ("axis", "product"):
                    tie(here, joined("product", [axes[a] for a in d.axes]))
                if d.kind in ("window", "index") or d.whole:
                    for e in (here, *(axes[a] for a in d.axes)):
                        e.fix(f"{node.op.name} at {node.place}")
        for a in solved.reduced:
            holds = [k for k, dims in enumerate(solved.relation.operands) if any(a in d.axes for d in dims)]
            weights = [k for k in holds if node.operands[k] in self.parameters]
            if len(holds) < 2 or not weights:
                axes[a].fix(f"{node.op.name} at {node.place} without a weight")
            for k in weights:
                cell = self.cells.get(node.operands[k])
                if cell is not None:
                    self.read |= {(cell, j) for j, d in enumerate(solved.relation.operands[k]) if a in d.axes}
        return axes


def _solved(node: Node) -> Any:
    try:
        return node.op.solve([v.shape for v in node.operands], node.attrs)
    except ShapeError:  # a reshape whose shapes do not nest
        return None


def _inside(graph: Graph) -> Iterator[Node]:
    for node in graph.nodes:
        yield node
        for body in subgraphs(node):
            yield from _inside(body)


def flat(graph: Graph) -> Iterator[Node]:
    """Nodes in the order in which ``Channels.seen`` has them: a call after its body."""
    for node in graph.nodes:
        if node.op.kind == "call":
            yield from flat(node.attrs["body"])
        yield node


__all__ = ["Channels", "Extent", "Group", "Slice", "channels", "flat", "joined", "tie"]
