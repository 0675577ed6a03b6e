"""From a network to quantized steps: trace in evaluation mode, then walk the graph, where consumers are known.

A contraction absorbs the bias, batch norm and clamp-like activation that follow as its sole consumers; everything else
closes the region (design, section 6). Which rule an op follows is said by its record (``Op.quant``); ``RULES`` holds
the rules by name, ``regions.py`` what they build.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from shohin.compress.definitions import LEAST, MOST
from shohin.compress.parameters import Parameters, defined, inline
from shohin.compress.steps import (
    Clamp,
    Definition,
    Entry,
    Fixed,
    Float,
    Format,
    Move,
    Probe,
    Program,
    Regrid,
    Step,
    Stored,
    Value,
    Whole,
)
from shohin.core import interp, trees
from shohin.core.cells import Cell
from shohin.core.errors import QuantizationError
from shohin.core.graph import Graph, Node, Var
from shohin.core.module import Module, _paths, mode
from shohin.core.op import Aval, Quant
from shohin.core.tensor import Tensor, as_tensor
from shohin.core.trace import prune, stage
from shohin.ops.composite import COMPOSITES

RULES: dict[str, Callable[[Walk, Node], None]] = {}
"""``Quant.rule`` (or ``Quant.kind``) -> what makes steps of a node; filled by ``regions``."""

GIVEN = "Q1 given grid"
"""The ``Quant.rule`` of a grid that comes with the network."""

STATES: dict[str, Callable[[Walk, Node, int], tuple[str, int] | None]] = {}
"""``Quant.rule`` of an operator with a state -> the grid and bits of its operand k, if that is a state."""


def rule(name: str) -> Callable[[Any], Any]:
    def put(function: Any) -> Any:
        RULES[name] = function
        return function

    return put


@contextmanager
def alone() -> Iterator[None]:
    """As if no module were being called: places start at the network itself."""
    token = _paths.set(None)
    try:
        with interp.at(""):
            yield
    finally:
        _paths.reset(token)


def walk(net: Module, avals: Sequence[Aval], stays_float: Callable[[str], bool],
         format: Callable[[str], Format] = lambda path: Format()) -> tuple[Program, trees.Spec]:  # fmt: skip
    """The steps of ``net`` on inputs of ``avals``, and the structure of what it returns; ``stays_float`` and ``format`` say
    what the plan does with a module's path."""
    whole, cells, spec = traced(net, avals, kept)
    with alone():
        whole = defined(whole)
    n = len(avals)
    return Walk(whole, n, Parameters(whole, whole.inputs[:n], cells), stays_float, format).program(), spec


def traced(net: Module, avals: Sequence[Aval], keep: Callable[[Node], bool]) -> tuple[Graph, dict[Var, Cell], trees.Spec]:
    """The graph of ``net`` in evaluation mode, calls inlined but those that ``keep`` wants; its inputs are the activations,
    then ``cells``; and the structure of what it returns."""
    found: list[trees.Spec] = []

    def flat(*inputs: Tensor) -> list[Tensor]:
        with net._standing():
            leaves, spec = trees.flatten(net.forward(*inputs))
        found.append(spec)
        return [as_tensor(v) for v in leaves]

    with alone(), mode(net, training=False):
        staged = stage(flat, avals, [f"x{i}" for i in range(len(avals))])
    if staged.writes:
        raise QuantizationError(
            f"the network writes {staged.writes[0]} in evaluation mode; a quantized network has no state yet"
        )
    graph, n = staged.graph, len(avals)
    consts = list(graph.consts)
    for tensor, var in zip(staged.tensors, graph.inputs[n:], strict=False):
        consts.append((var, tensor.concrete()))
    cell_vars = graph.inputs[n + len(staged.tensors) :]
    cells = dict(zip(cell_vars, staged.cells, strict=True))
    whole = Graph((*graph.inputs[:n], *cell_vars), ("x",) * (n + len(cells)), tuple(consts), graph.nodes, graph.outputs)
    return prune(inline(whole, keep)), cells, found[0]


class Walk:
    """The state of one walk over a graph whose first ``n`` inputs are activations."""

    def __init__(self, graph: Graph, n: int, parameters: Parameters, stays_float: Callable[[str], bool],
                 format: Callable[[str], Format]) -> None:  # fmt: skip
        self.graph, self.parameters, self.stays_float, self.format = graph, parameters, stays_float, format
        self.users = graph.users()
        self.outputs = list(graph.outputs)
        self.taken: set[int] = set()
        self.values: list[Value] = []
        self.sources: list[Var] = []
        self.steps: list[Step] = []
        self.ids: dict[Var, int] = {}
        self.entered: dict[Var, int] = {}
        self.producer: dict[Var, str] = {}
        self.observed: dict[str, Var] = {}
        self.fixed: dict[str, Fixed] = {}
        self.probes: dict[str, Probe] = {}
        self.regridded: dict[tuple[int, str], int] = {}
        self.cleared: list[str] = []
        self.refused: list[str] = []
        self.inputs = list(graph.inputs[:n])
        for k, v in enumerate(self.inputs):
            self.ids[v] = self.new(v, None)
            self.producer[v] = "input" if n == 1 else f"input{k}"

    # -- what rules ask
    def refuse(self, node: Node, reason: str) -> QuantizationError:
        name = node.attrs.get("name", node.op.name)
        return QuantizationError(
            f"{node.place}: {name} cannot be quantized: {reason}. Write ({node.place.rpartition('/')[0]!r}, None) in "
            "the plan to leave the place in float32, or replace the op"
        )

    def active(self, var: Var) -> bool:
        return var in self.parameters.active

    def sole(self, var: Var) -> Node | None:
        """The one node that reads ``var`` once, if it belongs to a quantized place."""
        users = self.users.get(var, [])
        if len(users) != 1 or var in self.outputs:
            return None
        return None if self.stays_float(module_of(users[0].place)) else users[0]

    def new(self, var: Var, grid: str | None, bits: int = 8) -> int:
        self.values.append(Value(var.shape, grid, bits))
        self.sources.append(var)
        return len(self.values) - 1

    def value(self, var: Var) -> int:
        """The number of a value on an int8 grid; a float, or what has more bits, comes onto one here."""
        k = self.ids[var]
        if self.values[k].grid is None:
            k = self.gridded(var)
        return k if self.values[k].bits == 8 else self.regridded_to(var, f"{self.producer[var]} int8", 8)

    def gridded(self, var: Var) -> int:
        """The number of a value on the grid that it has; a float comes onto one as wide as the whole network's rule says."""
        k = self.ids[var]
        if self.values[k].grid is not None:
            return k
        return self.entry(var, *(self.destined(var) or (self.producer[var], self.format("").a)))

    def wide(self, var: Var) -> int:
        """The number of a value on a grid of 8 or 16 bits (Q13)."""
        k = self.gridded(var)
        return k if self.values[k].bits <= 16 else self.value(var)

    def destined(self, var: Var) -> tuple[str, int] | None:
        """The grid of the state that ``var`` becomes, if it does nothing else first than move; parts that become several have
        16 bits together."""
        found = list(dict.fromkeys(self._destinies(var)))
        return None if not found else found[0] if len(found) == 1 else (self.producer[var], 16)

    def _destinies(self, var: Var) -> Iterator[tuple[str, int]]:
        for node in self.users.get(var, []):
            quant = quant_of(node)
            if quant.rule in STATES and (grid := STATES[quant.rule](self, node, node.operands.index(var))):
                yield grid
            elif quant.kind == "share" and node.op.pad is None:
                yield from self._destinies(node.results[0])

    def state(self, node: Node, k: int, grid: str, bits: int) -> int:
        """The number of a state on its grid; one that does not depend on the input is one row, alike for all examples."""
        var = node.operands[k]
        if not self.active(var):
            data = self.parameters.constant(var)
            if data is None or (data != data[:1]).any():
                raise self.refuse(node, "its first state is a parameter, or differs between examples; make it an input")
            return self.stored(node, var, self.parameters.add(data[:1]), grid, bits)
        number = self.gridded(var)
        mine = self.values[number].grid
        same = mine == grid or (mine in self.fixed and self.fixed[mine] == self.fixed.get(grid))
        return number if same else self.regridded_to(var, grid, bits)

    def entry(self, var: Var, grid: str, bits: int) -> int:
        """A float comes onto ``grid``; one that is not fixed gets its range from here."""
        if var not in self.entered:
            self.entered[var] = self.new(var, grid, bits)
            if grid not in self.fixed and grid not in self.probes:
                self.observed[grid] = var
            self.steps.append(Entry(self.producer[var], (self.ids[var],), self.entered[var], ()))
        return self.entered[var]

    def regridded_to(self, var: Var, grid: str, bits: int) -> int:
        """A value on a grid comes onto another one of ``bits``."""
        k = self.gridded(var)
        if (k, grid) not in self.regridded:
            number = self.regridded[k, grid] = self.new(var, grid, bits)
            if grid not in self.fixed and grid not in self.probes:
                self.observed[grid] = var
            place = grid if bits == 8 else f"state for {grid}"
            self.steps.append(Regrid(place, (k,), number, ()))
        return self.regridded[k, grid]

    def operand(self, node: Node, var: Var) -> int:
        """The number of a value on a grid of 8 or 16 bits, a parameter's too."""
        return self.wide(var) if self.active(var) else self.stored(node, var, self.parameters.peel(var))

    def filled(self, node: Node, var: Var) -> int:
        """As ``operand``, of the shape that ``var`` has: a parameter that was stretched is stored as it was, and stretched again."""
        if self.active(var) or (source := self.parameters.peel(var)) is var:
            return self.operand(node, var)
        path: list[Node] = []
        while (at := path[-1].operands[0] if path else var) is not source:
            path.append(self.parameters.made[at])
        number = self.stored(node, var, source)
        for k, made in enumerate(reversed(path)):
            before, number = number, self.new(made.results[0], self.values[number].grid)
            self.steps.append(Move(f"{node.place} operand {node.operands.index(var)} stretched {k}", (before,), number, (), made.op, made.attrs))
        return number

    def stored(self, node: Node, var: Var, source: Var, grid: str = "", bits: int = 8) -> int:
        """``source``, the parameter that ``node`` reads as its operand ``var``, as a value on ``grid`` or one of its own."""
        place = f"{node.place} operand {node.operands.index(var)}"
        number = self.new(source, grid or place, bits)
        if not grid:
            self.observed[place] = source
        self.steps.append(Stored(place, (), number, (), self.parameters.number(source)))
        return number

    def whole(self, node: Node, definition: Definition, inputs: Mapping[int, int], facts: Mapping[str, Any],
              grids: Sequence[tuple[str, int]] = (), inner: Sequence[str] = ()) -> None:  # fmt: skip
        """A step that a definition gives. ``inputs`` are numbers of operands' values by operand, ``grids`` names and bits of the
        results' grids; without them there is one result on an int8 grid at its place, which takes in the clamps that follow.
        ``inner`` names grids of what lies inside."""
        last, clamp, nodes = (node.results[0], None, [node]) if grids else self.clamps(node.results[0], [node])
        if not grids:
            self.range(node, last)
        results = (last, *node.results[1:])
        for k, (var, (name, bits)) in enumerate(zip(results, grids or [(node.place, 8)], strict=True)):
            self.ids[var] = self.new(var, name, bits)
            self.producer[var] = node.place if k == 0 else f"{node.place} result {k}"
        operands = tuple(("value", inputs[k]) if self.active(v) else ("param", self.parameters.number(v)) for k, v in enumerate(node.operands))
        outputs = tuple(self.ids[v] for v in results)
        self.steps.append(Whole(node.place, tuple(inputs.values()), outputs[0], self.take(*nodes), definition, node.op,
                                node.attrs, operands, outputs, clamp, facts, tuple(inner)))  # fmt: skip

    def result(self, node: Node, last: Var, bits: int | None = None, fixed: tuple[float, int] | None = None) -> int:
        """A new value on a grid of its own, whose range is that of ``last``; as wide as the plan says."""
        if fixed is not None:
            self.fixed[node.place] = (*fixed, 8)
        wanted = self.format(module_of(node.place)).a if bits is None else bits
        bits = 8 if self.range(node, last) else wanted
        self.ids[last], self.producer[last] = self.new(last, node.place, bits), node.place
        return self.ids[last]

    def range(self, node: Node, last: Var) -> bool:
        """The grid at the place of ``node`` is that of ``last``: made for its range, or given with the network (is it?)."""
        self.observed[node.place] = last
        made = self.parameters.made.get(last)
        if made is None or quant_of(made).rule != GIVEN:
            return False
        self.fixed[node.place] = self.given(made)
        return True

    def given(self, node: Node) -> Fixed:
        """The grid that comes with the network, on int8: what is counted from 0 is 128 less."""
        of = dict(node.attrs["config"])
        if len(of["scale"]) != 1 or of["high"] - of["low"] not in (254, 255) or of["low"] not in (0, -127, -128):
            raise self.refuse(
                node, f"its grid has integers from {of['low']} to {of['high']} and {len(of['scale'])} scales; one of 8 bits and one scale has a definition"
            )
        scale = of["scale"][0]
        if not LEAST <= scale <= MOST or not of["low"] <= of["zero"] <= of["high"]:
            raise self.refuse(node, f"its grid has the scale {scale} and zero point {of['zero']}; scales from 2^-40 to 2^40 and zero points among the integers have a definition")
        return scale, of["zero"] - (128 if of["low"] == 0 else 0), 8

    def scale_of(self, weight: Var) -> tuple[float, ...] | None:
        """The scales that come with a weight."""
        made = self.parameters.made.get(weight)
        while made is not None and quant_of(made).layout == "order":
            made = self.parameters.made.get(made.operands[0])
        return dict(made.attrs["config"])["scale"] if made is not None and quant_of(made).rule == GIVEN else None

    def marked(self, var: Var, before: Sequence[Node]) -> tuple[Var, list[Node]]:
        """The given grid that follows as sole consumer, taken in."""
        node = self.sole(var)
        if node is None or quant_of(node).rule != GIVEN:
            return var, list(before)
        return node.results[0], [*before, node]

    def shared(self, node: Node, source: int) -> int:
        """The result of what moves elements. One that keeps their order leaves them where they were made: whether it is there at all
        depends on the number of examples, which names of grids must not."""
        var, x = node.results[0], node.operands[0]
        self.producer[var] = self.producer[x] if quant_of(node).layout == "order" and x in self.producer else node.place
        self.ids[var] = self.new(var, self.values[source].grid, self.values[source].bits)
        return self.ids[var]

    def take(self, *nodes: Node) -> tuple[str, ...]:
        self.taken.update(id(n) for n in nodes)
        return tuple(n.place for n in nodes)

    def clamp_of(self, node: Node) -> Clamp:
        """The bounds of a clamp-like node of one activation, as its record says."""
        bounds = quant_of(node).bounds
        if bounds is None:
            return None
        constant = 0.0
        for v in node.operands:
            if not self.active(v):
                data = self.parameters.constant(self.parameters.peel(v))
                if data is None or data.size != 1:
                    return None
                constant = float(data.reshape(()))
        if sum(map(self.active, node.operands)) != 1:
            return None
        a, b = (constant if isinstance(v, str) else v for v in bounds)
        return a, b

    def least(self, var: Var) -> float | None:
        """The lower bound of the one clamp that reads ``var``."""
        node = self.sole(var)
        clamp = None if node is None else self.clamp_of(node)
        return None if clamp is None else clamp[0]

    def clamps(self, var: Var, before: Sequence[Node]) -> tuple[Var, Clamp, list[Node]]:
        """Clamp-like activations that follow as sole consumers, as one: the last value, bounds, all nodes so far."""
        clamp: Clamp = None
        nodes = list(before)
        while (node := self.sole(var)) is not None and (more := self.clamp_of(node)) is not None:
            a, b = more
            clamp = more if clamp is None else (min(max(clamp[0], a), b), min(max(clamp[1], a), b))
            nodes.append(node)
            var = node.results[0]
        var, nodes = self.marked(var, nodes)
        return var, clamp, nodes

    # -- the walk
    def program(self) -> Program:
        for node in self.graph.nodes:
            if id(node) in self.taken or not any(map(self.active, node.operands)):
                continue
            if self.stays_float(module_of(node.place)):
                self.stay(node)
            else:
                try:
                    self.dispatch(node)
                except QuantizationError as error:  # go on, so that all are named at once
                    self.refused.append(str(error))
                    self.stay(node)
        outputs = tuple(self._output(v) for v in self.outputs)
        params, cells = self.parameters.program()
        return Program(
            self.graph, params, cells, tuple(self.values), tuple(self.sources), tuple(self.steps), tuple(self.ids[v] for v in self.inputs),
            outputs, self.observed, self.fixed, self.probes, tuple(self.cleared), tuple(self.refused),
        )  # fmt: skip

    def _output(self, var: Var) -> int:
        if not self.active(var):
            raise QuantizationError("an output does not depend on the inputs; return it outside the network")
        return self.ids[var]

    def dispatch(self, node: Node) -> None:
        quant = quant_of(node)
        found = RULES.get(_name(node, quant, self))
        if found is None:
            raise self.refuse(node, quant.reason or f"{quant.rule or quant.kind} has no integer definition yet")
        found(self, node)

    def stay(self, node: Node) -> None:
        """A place that the plan leaves in float32."""
        operands = tuple(
            ("value", self.ids[v]) if self.active(v) else ("param", self.parameters.number(v)) for v in node.operands
        )
        for var in node.results:
            self.ids[var] = self.new(var, None)
            self.producer[var] = node.place
        self.cleared.append(node.place)
        inputs = tuple(k for kind, k in operands if kind == "value")
        outputs = tuple(self.ids[v] for v in node.results)
        self.steps.append(Float(node.place, inputs, outputs[0], (node.place,), node.op, node.attrs, operands, outputs))


def _name(node: Node, quant: Quant, w: Walk) -> str:
    """The rule of an op; one of several operands, all but one constant, is a function of one tensor: a table."""
    if node.op.kind == "elementwise" and len(node.operands) > 1 and sum(map(w.active, node.operands)) == 1:
        return "one operand"
    return {"table": "table", "clamp": "clamp", "share": "share"}.get(quant.kind, quant.rule)


def kept(node: Node) -> bool:
    """Composites with a rule of their own are seen before their bodies; other calls are their bodies."""
    known = COMPOSITES.get(node.attrs["name"])
    return known is not None and known.quant.kind != "inline"


def quant_of(node: Node) -> Quant:
    return COMPOSITES[node.attrs["name"]].quant if node.op.kind == "call" else node.op.quant


def module_of(place: str) -> str:
    """The module path of a place: what plans match."""
    return place.partition("/")[0]
