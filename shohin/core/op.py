"""The op record: everything that any interpreter may ask of an op, in one frozen value, and the registry.

A record is total. A field that does not apply says so (``None``, ``NO_GRADIENT``, ``Quant.refuse(reason)``);
a missing one fails when the record is made. Kinds (``ops/kinds.py``) fill what follows from the kind.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from shohin.core.axes import Relation, Shape, Solved, parse
from shohin.core.dtypes import DType, short
from shohin.core.errors import AttrError, DtypeError, RecordError, ShapeError
from shohin.core.loop import Expr
from shohin.core.nest import COMBINERS, ORDERS


class _Mark:
    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


NO_GRADIENT = _Mark("NO_GRADIENT")
"""This operand has no gradient (an index, a condition, a step function); asking for one gives zero."""
DERIVED = _Mark("DERIVED")
"""The op is linear in this operand: its gradient is the transposed relation, the record ``<op>_d<operand>``."""
NO_REVERSE = _Mark("NO_REVERSE")
"""Reverse mode is refused here with an error (``while_loop``)."""

Rule = Callable[..., Any] | _Mark


@dataclass(frozen=True)
class Aval:
    """What is known of a value without having it: shape and dtype."""

    shape: Shape
    dtype: DType

    def __str__(self) -> str:
        return f"{short(self.dtype)}[{','.join(map(str, self.shape))}]"


@dataclass(frozen=True, kw_only=True)
class Attr:
    """The type of an attribute, which makes batching and pruning mechanical.

    ``type``: ``dim`` (an index), ``dims``, ``permutation``, ``per_dim`` (one entry a dim, with ``neutral``),
    ``shape`` (extents, one a dim), ``extent`` (of axis ``axis``), ``static`` (anything hashable), ``dtype``, ``graph``.
    ``operand`` says whose dims are meant (-1: the result's).
    """

    type: str
    operand: int = 0
    neutral: Any = None
    axis: str = ""


@dataclass(frozen=True, kw_only=True)
class Dtypes:
    """``accepted``: one set for each operand (the last repeats). ``result(dtypes, attrs)`` gives the results' dtypes.

    ``same``: all operands must have one dtype. ``compute``/``accumulator`` map an operand dtype to the one
    in which the body is evaluated or the combiner accumulates.
    """

    accepted: tuple[frozenset[DType], ...]
    same: bool
    result: Callable[[tuple[DType, ...], Mapping[str, Any]], tuple[DType, ...]]
    compute: Callable[[DType], DType]
    accumulator: Callable[[DType], DType]


@dataclass(frozen=True)
class Pad:
    """What a guarded access gives out of range: ``value``; ``mode`` skip (no term at all) or multiply (a term with the value)."""

    value: Any
    mode: str


@dataclass(frozen=True)
class Quant:
    """The op's quantization (docs/quantization.md): ``kind`` is one of ``QUANTS``, the rest are facts that ``compress`` asks for.

    ``rule`` names the definition in ``compress`` (Q2 contraction, Q7 add ...); ``reason`` is printed for refuse;
    ``grid`` is the result's (scale, zero point) where the definition fixes it; ``bounds`` what a clamp does: (a, b), where
    ``"constant"`` is the other operand.

    ``integer`` (Q2): from the op's attributes the name and attributes of the record that sums (q - zero) * w in int32, w with
    its output channels first, or None where there is none. ``signs`` (Q7 add): that of each operand. ``divisor``: the operand
    that divides the others, so that a sum before it is a mean. ``layout``, of an op that only moves: ``order`` keeps the elements
    in row-major order, ``repeat`` repeats them. ``interval``: the range of the result, ``(operands' ranges, attrs) -> (low,
    high)`` on exact integers, of an op that is part of integer programs where its structure does not say it. ``instead``: ``(operands,
    attrs) ->`` the same result from ops that have definitions, or None where there is no such.
    """

    kind: str
    rule: str = ""
    reason: str = ""
    grid: tuple[float, int] | None = None
    bounds: tuple[float | str, float | str] | None = None
    integer: Callable[[Mapping[str, Any]], tuple[str, Mapping[str, Any]] | None] | None = None
    signs: tuple[int, ...] = ()
    divisor: int | None = None
    layout: str = ""
    interval: Callable[[Sequence[tuple[int, int]], Mapping[str, Any]], tuple[int, int]] | None = None
    instead: Callable[[Sequence[Any], Mapping[str, Any]], Any] | None = None

    @staticmethod
    def refuse(reason: str, **facts: Any) -> Quant:
        return Quant("refuse", reason=reason, **facts)


TABLE, SHARE = Quant("table"), Quant("share")


@dataclass(frozen=True)
class Tol:
    """Largest difference between compiled code and the reference: ``ulp``, or exact (0); ``absolute`` near zero.

    ``slope``: the vjp is the slope of the reference; ``False`` for a straight-through gradient, which is not on purpose.
    """

    ulp: float
    absolute: float = 0.0
    slope: bool = True


EXACT, STRAIGHT_THROUGH = Tol(0), Tol(0, slope=False)

NESTS = ("derived", "control", "arg", "moments", "running", "rank", "scatter", "last")
"""``derived``: loops from the relation; ``control``: the op holds graphs; the others are forms of loops in ``compiler.derive``."""
QUANTS = ("table", "share", "rule", "clamp", "inline", "constant", "refuse")
LAYOUTS = ("", "order", "repeat")


@dataclass(frozen=True)
class Sample:
    """One example of use: operand arrays and attributes."""

    operands: tuple[np.ndarray[Any, Any], ...]
    attrs: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Op:
    """See the module's docstring and ``docs/architecture.md``; fields in the order of the design.

    ``vjp`` has one rule an operand: ``rule(*operands, *results, *cotangents, **attrs) -> gradient``, NO_GRADIENT or
    DERIVED; for a variadic op (``operands`` ends in ``*``) one rule that takes ``(operands, results, cotangents,
    **attrs)`` and gives all gradients. ``axes`` is a relation, a function ``(shapes, attrs) -> relation text`` or
    ``None`` for an op with a ``shape`` rule of its own. ``nest`` is a word of ``NESTS``, or an index function ``(coords, load,
    operand avals, result aval, attrs) -> Expr``. In a fold ``body`` makes the term of the loaded operands (for ``fma`` its
    two factors) and ``fin`` the result of the accumulator; both take the attributes that they name.
    """

    name: str
    kind: str
    doc: str
    source: str
    operands: tuple[str, ...]
    results: tuple[str, ...]
    attrs: Mapping[str, Attr]
    dtypes: Dtypes
    axes: str | Callable[[Sequence[Shape], Mapping[str, Any]], str] | Relation | None
    shape: Callable[..., Sequence[Shape]] | None
    body: Callable[..., Any] | None
    combiner: str | None
    identity: Any
    order: str | None
    pad: Pad | None
    fin: Callable[..., Any] | None
    numpy: Callable[..., Any]
    vjp: tuple[Rule, ...] | Callable[..., Any]
    nest: str | Callable[..., Expr]
    batch: Callable[..., Any] | None
    alias: bool
    quant: Quant
    tol: Tol
    samples: Callable[[np.random.Generator], Sequence[Sample]]
    edges: tuple[Any, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "attrs", MappingProxyType(dict(self.attrs)))
        if not self.doc.strip():
            raise RecordError(f"op {self.name!r}: doc is empty")
        if self.axes is None and self.shape is None:
            raise RecordError(f"op {self.name!r}: needs axes, or a shape rule of its own")
        if isinstance(self.vjp, tuple) and not self.variadic and len(self.vjp) != len(self.operands):
            raise RecordError(f"op {self.name!r}: {len(self.operands)} operands but {len(self.vjp)} vjp rules; write NO_GRADIENT where there is none")
        if isinstance(self.axes, str):
            parse(self.axes)
        if not callable(self.nest):
            self._one_of("nest", self.nest, NESTS, " or an index function")
        if self.combiner is not None:
            self._one_of("combiner", self.combiner, COMBINERS, " or None")
        if self.order is not None:
            self._one_of("order", self.order, ORDERS, " or None")
        self._one_of("quant.kind", self.quant.kind, QUANTS)
        self._one_of("quant.layout", self.quant.layout, LAYOUTS)
        if len(self.quant.signs) not in (0, len(self.operands)):
            raise RecordError(f"op {self.name!r}: {len(self.operands)} operands but {len(self.quant.signs)} quant.signs; write 1 or -1 for each")
        if self.fin is not None and (self.nest != "derived" or self.combiner is None):
            raise RecordError(f"op {self.name!r}: fin is read only for nest 'derived' with a combiner; write None")
        if self.body is not None and self.nest in ("control", "rank", "scatter", "last"):
            raise RecordError(f"op {self.name!r}: nest {self.nest!r} does not read a body; write None")

    def _one_of(self, field: str, value: Any, legal: tuple[str, ...], other: str = "") -> None:
        if value not in legal:
            near = difflib.get_close_matches(str(value), legal, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise RecordError(f"op {self.name!r}: {field} is {value!r}, expected one of {', '.join(legal)}{other}{hint}")

    @property
    def variadic(self) -> bool:
        return bool(self.operands) and self.operands[-1].startswith("*")

    def relation(self, shapes: Sequence[Shape], attrs: Mapping[str, Any]) -> Relation:
        """The relation for these operands, as text or function gave it."""
        axes = self.axes(shapes, attrs) if callable(self.axes) else self.axes
        if axes is None:
            raise RecordError(f"op {self.name!r} has no relation of axes")
        return axes if isinstance(axes, Relation) else parse(axes)

    def solve(self, shapes: Sequence[Shape], attrs: Mapping[str, Any]) -> Solved:
        """Extents of all axes and result shapes; a transposed op takes its result's shape from the attribute ``shape``."""
        given = attrs.get("shape") if isinstance(self.axes, Relation) else None
        return self.relation(shapes, attrs).solve(shapes, attrs, self.name, result=given)

    def infer(self, operands: Sequence[Aval], attrs: Mapping[str, Any]) -> tuple[Aval, ...]:
        """Shapes and dtypes of the results, or a clear error. Remembered: a training step asks the same again and again."""
        known: dict[Any, tuple[Aval, ...]] = self.__dict__.setdefault("_inferred", {})
        key = (tuple(operands), tuple(attrs.items()))
        try:
            found = known.get(key)
        except TypeError:  # an attribute that holds a graph or an array
            return self._inferred_anew(operands, attrs)
        if found is None:
            if len(known) > 1024:
                known.clear()
            found = known[key] = self._inferred_anew(operands, attrs)
        return found

    def _inferred_anew(self, operands: Sequence[Aval], attrs: Mapping[str, Any]) -> tuple[Aval, ...]:
        self.check(operands, attrs)
        shapes = tuple(o.shape for o in operands)
        found = self.shape(operands, **attrs) if self.shape is not None else self.solve(shapes, attrs).results
        kinds = self.dtypes.result(tuple(o.dtype for o in operands), attrs)
        return tuple(Aval(tuple(int(n) for n in s), d) for s, d in zip(found, kinds, strict=True))

    def check(self, operands: Sequence[Aval], attrs: Mapping[str, Any]) -> None:
        if not self.variadic and len(operands) != len(self.operands):
            raise ShapeError(f"{self.name}: takes {len(self.operands)} operands ({', '.join(self.operands)}), got {len(operands)}")
        for given in attrs:
            if given not in self.attrs:
                near = difflib.get_close_matches(given, self.attrs, 1)
                raise AttrError(f"{self.name}: no attribute {given!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
        for wanted in self.attrs:
            if wanted not in attrs:
                raise AttrError(f"{self.name}: the attribute {wanted!r} is missing")
        for k, o in enumerate(operands):
            accepted = self.dtypes.accepted[min(k, len(self.dtypes.accepted) - 1)]
            if o.dtype not in accepted:
                names = ", ".join(sorted(d.name for d in accepted))
                label = self.operands[min(k, len(self.operands) - 1)].lstrip("*")
                raise DtypeError(f"{self.name}: operand {label} is {o.dtype.name}, expected one of {names}; write .astype(...)")
        if self.dtypes.same and len({o.dtype for o in operands}) > 1:
            names = ", ".join(o.dtype.name for o in operands)
            raise DtypeError(f"{self.name}: operands have dtypes {names}; write .astype(...) on one of them")

    def __repr__(self) -> str:
        return f"<op {self.name} ({self.kind})>"


REGISTRY: dict[str, Op] = {}
SHIPPED: dict[str, Op] = {}
"""The records that Shohin's own sources make: their names say all about them, until Shohin changes (``compiler.warm``)."""


def register(op: Op) -> Op:
    """Put a record into the registry; a name is taken once."""
    if op.name in REGISTRY:
        raise RecordError(f"op {op.name!r} is registered already; choose another name")
    REGISTRY[op.name] = SHIPPED[op.name] = op
    return op


def get(name: str) -> Op:
    """The record of that name, or an error with near names."""
    if name not in REGISTRY:
        near = difflib.get_close_matches(name, REGISTRY, 3)
        raise AttrError(f"no op {name!r}" + (f"; near: {', '.join(near)}" if near else ""))
    return REGISTRY[name]
