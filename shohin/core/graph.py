"""The graph IR: a pure program over tensors, frozen, in topological order, with a verifier, a printer and a parser.

    graph(%0 x: f32[8,3], %1 w: f32[4,3]) {
      %2: f32[8,4] = matmul(%0, %1) {transpose_a=False, transpose_b=True}  @ head/matmul#0
      return %2
    }

Every value is assigned once. Constants are values with data. A node's attribute may be a graph (the body of
``call``, ``scan``, ``cond``); it closes over nothing. ``place`` is where the node came from (state.md 15).
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from shohin.core import dtypes
from shohin.core.axes import Shape
from shohin.core.dtypes import DType
from shohin.core.errors import IRError
from shohin.core.op import Aval, Op, get

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Var:
    """One value of a graph; identity is the value."""

    shape: Shape
    dtype: DType

    @property
    def aval(self) -> Aval:
        return Aval(self.shape, self.dtype)


@dataclass(frozen=True, eq=False)
class Node:
    op: Op
    operands: tuple[Var, ...]
    attrs: Mapping[str, Any]
    results: tuple[Var, ...]
    place: str


@dataclass(frozen=True, eq=False)
class Graph:
    """``inputs`` have ``names``; ``consts`` hold data; ``outputs`` may repeat a value or be an input."""

    inputs: tuple[Var, ...]
    names: tuple[str, ...]
    consts: tuple[tuple[Var, Array], ...]
    nodes: tuple[Node, ...]
    outputs: tuple[Var, ...]
    _digest: list[str] = field(default_factory=list, repr=False)

    def __str__(self) -> str:
        return to_text(self, full=False)

    def __repr__(self) -> str:
        return f"<graph of {len(self.nodes)} nodes, {len(self.inputs)} inputs, {len(self.outputs)} outputs>"

    @property
    def digest(self) -> str:
        """sha256 of the program without places: the key under which compiled code is kept."""
        if not self._digest:
            text = re.sub(r"  @ .*", "", to_text(self, full=True))
            self._digest.append(hashlib.sha256(text.encode()).hexdigest())
        return self._digest[0]

    def users(self) -> dict[Var, list[Node]]:
        """Nodes that read each value, in order."""
        users: dict[Var, list[Node]] = {}
        for node in self.nodes:
            for v in node.operands:
                users.setdefault(v, []).append(node)
        return users


def subgraphs(node: Node) -> list[Graph]:
    """The graphs among a node's attributes."""
    return [v for v in node.attrs.values() if isinstance(v, Graph)]


def walk(graph: Graph) -> Iterator[Node]:
    """All nodes, those inside bodies before the node that holds them."""
    for node in graph.nodes:
        for body in subgraphs(node):
            yield from walk(body)
        yield node


def verify(graph: Graph) -> Graph:
    """Every value defined before use and once, every node's results what its record infers; returns the graph."""
    defined: set[Var] = set()

    def define(v: Var, where: str) -> None:
        if v in defined:
            raise IRError(f"{where}: a value is defined twice")
        defined.add(v)

    if len(graph.inputs) != len(graph.names):
        raise IRError(f"{len(graph.inputs)} inputs but {len(graph.names)} names")
    for v in graph.inputs:
        define(v, "input")
    for v, data in graph.consts:
        define(v, "constant")
        if data.shape != v.shape or data.dtype != v.dtype:
            raise IRError(f"a constant is {v.aval}, its data {data.dtype}{list(data.shape)}")
    for node in graph.nodes:
        where = f"{node.op.name} @ {node.place}"
        for v in node.operands:
            if v not in defined:
                raise IRError(f"{where}: an operand is used before it is defined")
        for body in subgraphs(node):
            verify(body)
        expected = node.op.infer([v.aval for v in node.operands], node.attrs)
        found = tuple(v.aval for v in node.results)
        if expected != found:
            raise IRError(f"{where}: results are {', '.join(map(str, found))}, its record says {', '.join(map(str, expected))}")
        for v in node.results:
            define(v, where)
    for v in graph.outputs:
        if v not in defined:
            raise IRError("an output is not defined")
    return graph


# ---------------------------------------------------------------------------------------------- printing


def to_text(graph: Graph, full: bool = True, indent: str = "") -> str:
    """The graph as text; ``full`` writes every constant's data, so that ``parse`` gives the same program."""
    numbers: dict[Var, int] = {}

    def ref(v: Var) -> str:
        return f"%{numbers.setdefault(v, len(numbers))}"

    inputs = ", ".join(f"{ref(v)} {n}: {v.aval}" for v, n in zip(graph.inputs, graph.names, strict=True))
    lines = [f"graph({inputs}) {{"]
    lines += [f"  {ref(v)}: {v.aval} = const {_data(a, full)}" for v, a in graph.consts]
    for node in graph.nodes:
        operands = ", ".join(map(ref, node.operands))
        results = ", ".join(f"{ref(v)}: {v.aval}" for v in node.results)
        attrs = ", ".join(f"{k}={_attr(v, full, indent + '  ')}" for k, v in node.attrs.items())
        tail = f" {{{attrs}}}" if attrs else ""
        lines.append(f"  {results} = {node.op.name}({operands}){tail}  @ {node.place}")
    lines += [f"  return {', '.join(map(ref, graph.outputs))}", "}"]
    return f"\n{indent}".join(lines)


def _data(a: Array, full: bool) -> str:
    if not full and a.size > 8:
        return f"<{a.size} values, min {a.min()}, max {a.max()}>" if a.dtype != np.bool_ else f"<{a.size} values>"
    return f"0x{np.ascontiguousarray(a).tobytes().hex()}" if full else repr(a.tolist()).replace(" ", "")


def _attr(value: Any, full: bool, indent: str) -> str:
    if isinstance(value, Graph):
        return to_text(value, full, indent)
    if isinstance(value, np.dtype):
        return dtypes.short(value)
    if isinstance(value, np.ndarray):
        return f"array({dtypes.short(value.dtype)}, {list(value.shape)}, {_data(value, full)})"
    if isinstance(value, tuple):
        inner = ", ".join(_attr(v, full, indent) for v in value)
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    if isinstance(value, float):
        return repr(float(value))
    if isinstance(value, bool | int | str | None.__class__):
        return repr(value)
    raise IRError(f"an attribute of type {type(value).__name__} cannot be printed; attributes are frozen plain data")


# ----------------------------------------------------------------------------------------------- parsing


def parse(text: str) -> Graph:
    """The graph that ``to_text(graph)`` wrote; anything else is an ``IRError`` with the place in the text."""
    return _Parser(text).graph(end=True)


class _Parser:
    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    def fail(self, wanted: str) -> IRError:
        line = self.text.count("\n", 0, self.at) + 1
        return IRError(f"line {line}: expected {wanted}, found {self.text[self.at : self.at + 30]!r}")

    def peek(self, pattern: str) -> str | None:
        match = re.compile(r"\s*(" + pattern + ")").match(self.text, self.at)
        return match[1] if match else None

    def take(self, pattern: str, wanted: str = "") -> str:
        match = re.compile(r"\s*(" + pattern + ")").match(self.text, self.at)
        if not match:
            raise self.fail(wanted or pattern)
        self.at = match.end()
        return match[1]

    def aval(self) -> Aval:
        name = self.take(r"[a-z]+\d+", "a dtype")
        if name not in dtypes.BY_SHORT:
            raise self.fail("a dtype")
        dims = self.take(r"\[[\d,]*\]", "a shape")[1:-1]
        return Aval(tuple(int(d) for d in dims.split(",") if d), dtypes.BY_SHORT[name])

    def graph(self, end: bool = False) -> Graph:
        values: dict[str, Var] = {}

        def new() -> Var:
            ref = self.take(r"%\d+", "a value")
            name = "" if self.peek(":") else self.take(r"[^\s:]+", "a name")
            self.take(":")
            aval = self.aval()
            if ref in values:
                raise self.fail(f"a fresh value instead of {ref}")
            values[ref] = Var(aval.shape, aval.dtype)
            names.append(name)
            return values[ref]

        def old() -> Var:
            ref = self.take(r"%\d+", "a value")
            if ref not in values:
                raise self.fail(f"a defined value instead of {ref}")
            return values[ref]

        names: list[str] = []
        self.take(r"graph\(", "graph(")
        inputs: list[Var] = []
        while self.peek("%"):
            inputs.append(new())
            if self.peek(","):
                self.take(",")
        self.take(r"\)")
        self.take(r"\{")
        input_names = tuple(names)
        consts: list[tuple[Var, Array]] = []
        nodes: list[Node] = []
        while not self.peek("return"):
            results = [new()]
            while self.peek(","):
                self.take(",")
                results.append(new())
            self.take("=")
            name = self.take(r"[\w.]+", "an op")
            if name == "const":
                consts.append((results[0], self.data(results[0].aval)))
                continue
            self.take(r"\(")
            operands: list[Var] = []
            while self.peek("%"):
                operands.append(old())
                if self.peek(","):
                    self.take(",")
            self.take(r"\)")
            attrs = self.attrs()
            self.take("@", "@ place")
            match = re.compile(r" ?([^\n]*)").match(self.text, self.at)
            assert match
            self.at = match.end()
            nodes.append(Node(get(name), tuple(operands), attrs, tuple(results), match[1]))
        self.take("return")
        outputs: list[Var] = []
        while self.peek("%"):
            outputs.append(old())
            if self.peek(","):
                self.take(",")
        self.take(r"\}")
        if end and self.text[self.at :].strip():
            raise self.fail("the end")
        return Graph(tuple(inputs), input_names, tuple(consts), tuple(nodes), tuple(outputs))

    def data(self, aval: Aval) -> Array:
        raw = bytes.fromhex(self.take(r"0x[0-9a-f]*", "data in full")[2:])
        try:
            return np.frombuffer(raw, aval.dtype).reshape(aval.shape).copy()
        except ValueError as error:
            raise self.fail(f"data for {aval}") from error

    def attrs(self) -> dict[str, Any]:
        attrs: dict[str, Any] = {}
        if not self.peek(r"\{"):
            return attrs
        self.take(r"\{")
        while not self.peek(r"\}"):
            key = self.take(r"\w+", "an attribute")
            self.take("=")
            attrs[key] = self.value()
            if self.peek(","):
                self.take(",")
        self.take(r"\}")
        return attrs

    def value(self) -> Any:
        if self.peek(r"graph\("):
            return self.graph()
        if self.peek(r"array\("):
            self.take(r"array\(")
            name = self.take(r"\w+")
            self.take(",")
            shape = ast.literal_eval(self.take(r"\[[\d, ]*\]"))
            self.take(",")
            data = self.data(Aval(tuple(shape), dtypes.BY_SHORT[name]))
            self.take(r"\)")
            return data
        if self.peek(r"\("):
            self.take(r"\(")
            items: list[Any] = []
            while not self.peek(r"\)"):
                items.append(self.value())
                if self.peek(","):
                    self.take(",")
            self.take(r"\)")
            return tuple(items)
        token = self.take(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|-?inf|nan|[-+.\w]+", "a value")
        if token in dtypes.BY_SHORT:
            return dtypes.BY_SHORT[token]
        if token in ("inf", "-inf", "nan"):
            return float(token)
        try:
            return ast.literal_eval(token)
        except (ValueError, SyntaxError) as error:
            raise self.fail("a value") from error


def rename(graph: Graph, names: Sequence[str]) -> Graph:
    """The same graph with other input names."""
    return Graph(graph.inputs, tuple(names), graph.consts, graph.nodes, graph.outputs)
