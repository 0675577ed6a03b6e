"""The steps of a quantized network: what the walk finds and every interpreter carries out.

Values are numbers. ``Program.values`` says which grid each has (``None``: float32, not on a grid). A step stands
at one place and makes one value. ``params`` are numbers of outputs of ``Program.params``, the graph that computes
weights and their like from cells (so that masks, tables or tied weights need nothing here).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from shohin.core.axes import Shape
from shohin.core.cells import Cell
from shohin.core.graph import Graph, Var
from shohin.core.op import Op
from shohin.core.tensor import Tensor

Array = np.ndarray[Any, Any]
Clamp = tuple[float, float] | None


@dataclass(frozen=True)
class Format:
    """What a plan says about a module's integers: bits of its weights and of the values that it makes, and whether their steps
    are trained."""

    w: int = 8
    a: int = 8
    learn: bool = False


@dataclass(frozen=True)
class Norm:
    """An absorbed batch norm: numbers of its parameters, and the cells of its running statistics."""

    gamma: int | None
    beta: int | None
    mean: int
    var: int
    eps: float
    cells: tuple[Cell, Cell] | None
    module: str


@dataclass(frozen=True)
class Step:
    """``inputs`` and ``output`` are values; ``nodes`` the names of the ops that it stands for."""

    place: str
    inputs: tuple[int, ...]
    output: int
    nodes: tuple[str, ...]

    @property
    def kind(self) -> str:
        return type(self).__name__.lower()


@dataclass(frozen=True)
class Entry(Step):
    """A float value comes onto its grid: the network's input, or what a place that stays float gives (Q1)."""


@dataclass(frozen=True)
class Contract(Step):
    """A contraction ``op``, or a product with w (c,) where it is None (a depthwise 1x1); then shape, bias, norm, clamp.

    ``axis`` is the weight's dim of output channels, the first of every w here; ``cut`` the dims of x and w along which a
    long sum may be cut, ``bits`` the width of its weights."""

    op: Op | None
    attrs: Mapping[str, Any]
    axis: int
    cut: tuple[int, int] | None
    weight: int | None
    bias: int | None
    norm: Norm | None
    clamp: Clamp
    channels: int
    terms: int
    bits: int
    shape: Shape
    given: tuple[float, ...] | None
    """The weights' steps where they come with the network, one or one an output channel."""


@dataclass(frozen=True)
class Add(Step):
    signs: tuple[int, ...]
    clamp: Clamp


@dataclass(frozen=True)
class Mul(Step):
    clamp: Clamp


@dataclass(frozen=True)
class Pool(Step):
    """A sum ``op`` of ``terms`` elements over the divisors ``n``."""

    op: Op
    attrs: Mapping[str, Any]
    n: np.ndarray[Any, Any]
    terms: int
    clamp: Clamp
    shape: Shape


@dataclass(frozen=True)
class Concat(Step):
    axis: int
    clamp: Clamp


@dataclass(frozen=True)
class Table(Step):
    """A function of one value: an elementwise op; its other operands are constants, ``slot`` says where x stands."""

    op: Op
    attrs: Mapping[str, Any]
    slot: int
    constants: tuple[np.ndarray[Any, Any], ...]


@dataclass(frozen=True)
class Move(Step):
    """An op that moves or chooses elements: its result shares the grid of its input."""

    op: Op
    attrs: Mapping[str, Any]
    constants: tuple[np.ndarray[Any, Any], ...] = ()


@dataclass(frozen=True)
class Float(Step):
    """A place that the plan leaves in float32; operands are ``("value", number)`` or ``("param", number)``."""

    op: Op
    attrs: Mapping[str, Any]
    operands: tuple[tuple[str, int], ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class Regrid(Step):
    """A value of 16 or 32 bits comes onto an int8 grid of its own, or an int8 one onto 16 bits (Q12 a)."""


@dataclass(frozen=True)
class Stored(Step):
    """A parameter that stands where an activation may, on a grid of its own (Q12 l)."""

    param: int


@dataclass(frozen=True)
class Whole(Step):
    """A float operator that is quantized whole, as ``definition`` says (Q12). ``op``, ``attrs``, ``operands``, ``outputs``
    are those of the float operator, whose vjp is the step's; ``facts`` what the definition found out, ``inner`` grids of
    what lies inside."""

    definition: Definition
    op: Op
    attrs: Mapping[str, Any]
    operands: tuple[tuple[str, int], ...]
    outputs: tuple[int, ...]
    clamp: Clamp
    facts: Mapping[str, Any]
    inner: tuple[str, ...]


class Site(ABC):
    """Where a definition's integers are computed: in training on integers in float32, in the deployed graph as they are."""

    c: Mapping[str, Tensor]
    """The step's constants."""

    @abstractmethod
    def q(self, k: int) -> Tensor:
        """Input k of the step: int32, or as it is stored."""

    @abstractmethod
    def centred(self, k: int) -> Tensor:
        """Input k of the step, less its zero point: int32."""

    @abstractmethod
    def product(self, k: int, w: Tensor) -> Tensor:
        """Rows of input k, less its zero point, with rows of w (int8): int32."""

    @abstractmethod
    def close(self, acc: Tensor, M: Any) -> Tensor:
        """The step's result on its own grid, by Q3."""


class Definition(ABC):
    """One definition of Q12, for every interpreter. Grids are given as they stand, ``s`` an array or a tensor; those of
    the outputs are followed by the step's inner ones."""

    smooth = True
    """Has the float operator a gradient?"""

    def tables(self, step: Whole, x: Sequence[Any], y: Sequence[Any]) -> dict[str, Array]:
        """Constants that follow from the grids ``x`` of the inputs and ``y`` of the outputs alone (NumPy)."""
        return {}

    def fold(self, step: Whole, params: Mapping[int, Tensor], x: Sequence[Any], y: Sequence[Any]) -> dict[str, Tensor]:
        """Constants that follow from parameters (by operand) too; float32 in the order written, each rounded."""
        return {}

    def prove(self, step: Whole, c: Mapping[str, Array]) -> None:
        """An error with the place where a bound of the definition does not hold for these constants."""
        return None

    @abstractmethod
    def integers(self, step: Whole, site: Site) -> Sequence[Tensor]:
        """The results' integers, from ops on int8, int16 and int32."""

    @abstractmethod
    def reference(self, step: Whole, q: Sequence[Array], c: Mapping[str, Array], x: Sequence[Any], y: Sequence[Any]) -> Sequence[Array]:
        """The same in NumPy, from the definition's text."""


Fixed = tuple[float, int, int]
"""(scale, zero point, bits) of a grid that a definition fixes."""


@dataclass(frozen=True)
class Probe:
    """A value inside a float operator whose range makes a grid of ``bits`` whose scale is a power of two: ``see`` computes it
    from the operator's ``operands`` and ``results``."""

    see: Callable[[Sequence[Tensor], Sequence[Tensor]], Tensor]
    operands: tuple[Var, ...]
    results: tuple[Var, ...]
    bits: int


@dataclass(frozen=True)
class Value:
    """``grid`` is the place whose scale and zero point it has, or None for a float; ``bits`` the width of its integers."""

    shape: Shape
    grid: str | None
    bits: int = 8


def places_of(program: Program) -> dict[int, str]:
    """The place of every value that a step makes; results of one step but the first are numbered."""
    return {v: s.place if k == 0 else f"{s.place} result {k}" for s in program.steps for k, v in enumerate(made(s))}


def made(step: Step) -> tuple[int, ...]:
    """The values that a step makes."""
    return step.outputs if isinstance(step, Float | Whole) else (step.output,)


@dataclass(frozen=True)
class Program:
    """A network as steps. ``sources``: by value what it stands for in ``graph``;
    ``observed``: grid -> the value of ``graph`` whose range makes it; ``fixed``: given grids; ``probes``: grids of what is
    computed inside an operator."""

    graph: Graph
    params: Graph
    cells: tuple[Cell, ...]
    values: tuple[Value, ...]
    sources: tuple[Var, ...]
    steps: tuple[Step, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    observed: Mapping[str, Var]
    fixed: Mapping[str, Fixed]
    probes: Mapping[str, Probe]
    cleared: tuple[str, ...]
    refused: tuple[str, ...]

    def grid(self, value: int) -> str | None:
        """The name of a value's grid."""
        return self.values[value].grid
