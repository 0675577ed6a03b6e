"""The steps of a quantized network: what the walk finds and every interpreter carries out.

Values are numbers. ``Program.values`` says which grid each has (``None``: float32, not on a grid). A step stands
at one place and makes one value. ``params`` are numbers of outputs of ``Program.params``, the graph that computes
weights and their like from cells (so that masks, tables or tied weights need nothing here).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from shohin.core.axes import Shape
from shohin.core.cells import Cell
from shohin.core.graph import Graph, Var
from shohin.core.op import Op

Clamp = tuple[float, float] | None


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
class Value:
    """``grid`` is the place whose scale and zero point it has, or None for a float."""

    shape: Shape
    grid: str | None


@dataclass(frozen=True)
class Program:
    """A network as steps. ``observed``: grid -> the value of ``graph`` whose range makes it; ``fixed``: given grids."""

    graph: Graph
    params: Graph
    cells: tuple[Cell, ...]
    values: tuple[Value, ...]
    steps: tuple[Step, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    observed: Mapping[str, Var]
    fixed: Mapping[str, tuple[float, int]]
    cleared: tuple[str, ...]
    refused: tuple[str, ...]
