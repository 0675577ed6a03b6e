"""The relation of named axes that an op's record states, and what follows from it.

    relation := tensor {',' tensor} '->' tensor {',' tensor} ['|' {axis '=' value}]
    tensor   := {dim}
    dim      := axis | axis '!' | '1' | '...' | product | window | '@' k
    product  := '(' axis axis {axis} ')'
    window   := '(' axis ['*' value] {'+' axis ['*' value]} ['~' value] ')'
    value    := integer | attr | attr '.' k

``parse`` gives the frozen form, ``Relation.solve`` the extents of all axes and the result shapes (a clear
``ShapeError`` where they do not fit), ``transpose`` the relation of a linear op's derivative. A window over
axes ``a, b`` with strides and padding means: index = a*stride_a + b*stride_b - pad_lo. An axis marked ``!``
is whole or ordered: it is never pruned and never absorbs a batch. ``@k``: the index is operand k's value.

>>> r = parse("n (h*2+k~pad.0) c, o k c -> n h o")
>>> s = r.solve([(8, 9, 3), (4, 3, 3)], {"pad": ((1, 1),)})
>>> s.results, s.extents["h"]
(((8, 5, 4),), 5)
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import prod
from typing import Any

from shohin.core.errors import RecordError, ShapeError

Shape = tuple[int, ...]
Value = int | str


@dataclass(frozen=True)
class Dim:
    """One dim of one tensor. ``kind``: axis, one, product, window, index."""

    kind: str
    axes: tuple[str, ...] = ()
    strides: tuple[Value, ...] = ()
    pad: Value | tuple[int, int] | None = None
    whole: bool = False
    operand: int = -1

    @property
    def padding(self) -> tuple[int, int]:
        """``pad`` of a window in a solved relation."""
        assert isinstance(self.pad, tuple)
        return self.pad

    def __str__(self) -> str:
        match self.kind:
            case "axis":
                return self.axes[0] + ("!" if self.whole else "")
            case "one":
                return "1"
            case "ellipsis":
                return "..."
            case "product":
                return f"({' '.join(self.axes)})"
            case "index":
                return f"@{self.operand}"
            case _:
                terms = [a if s == 1 else f"{a}*{s}" for a, s in zip(self.axes, self.strides, strict=True)]
                pad = "" if self.pad is None else f"~{self.pad if not isinstance(self.pad, tuple) else list(self.pad)}"
                return f"({'+'.join(terms)}{pad})"


Dims = tuple[Dim, ...]
_ELLIPSIS = Dim("ellipsis")


@dataclass(frozen=True)
class Solved:
    """A relation with every value and extent known. ``operands`` and ``results`` are shapes."""

    relation: Relation
    extents: Mapping[str, int]
    operands: tuple[Shape, ...]
    results: tuple[Shape, ...]

    @property
    def reduced(self) -> tuple[str, ...]:
        """Axes that occur in operands and in no result, in the order of summation: the taps of windows first, then
        as they occur in the operands, last operand first. For a convolution that is ``kh kw i``, for its input
        gradient ``kh kw o``, for its weight gradient ``n h w``.
        """
        result_leads = {d.axes[0] for dims in self.relation.results for d in dims if d.kind == "window"}
        kept = {a for dims in self.relation.results for d in dims if d.kind != "window" for a in d.axes} | result_leads
        tensors = (*self.relation.operands, *self.relation.results)
        taps = {a for dims in tensors for d in dims if d.kind == "window" for a in d.axes[1:]}
        seen: dict[str, None] = {}
        for dims in reversed(self.relation.operands):
            for d in dims:
                for a in d.axes:
                    if a not in kept:
                        seen.setdefault(a)
        return tuple(a for a in seen if a in taps) + tuple(a for a in seen if a not in taps)


@dataclass(frozen=True)
class Relation:
    operands: tuple[Dims, ...]
    results: tuple[Dims, ...]
    fixed: tuple[tuple[str, Value], ...] = ()

    def __str__(self) -> str:
        side = lambda tensors: ", ".join(" ".join(map(str, dims)) for dims in tensors)
        tail = " | " + " ".join(f"{a}={v}" for a, v in self.fixed) if self.fixed else ""
        return f"{side(self.operands)} -> {side(self.results)}{tail}"

    def solve(self, shapes: Sequence[Shape], attrs: Mapping[str, Any] | None = None, name: str = "op",
              result: Shape | None = None) -> Solved:  # fmt: skip
        """Extents and result shapes for operand ``shapes``; ``result`` gives the first result's shape where a
        transposed relation cannot derive it."""
        rel = self._expand(shapes, name)._values(attrs or {})
        if len(shapes) != len(rel.operands):
            raise ShapeError(f"{name}: takes {len(rel.operands)} operands, got {len(shapes)}")
        known: dict[str, int] = {a: int(v) for a, v in rel.fixed}
        facts: list[tuple[str, int, Dim, int]] = []
        for k, (dims, shape) in enumerate(zip(rel.operands, shapes, strict=True)):
            if len(dims) != len(shape):
                raise ShapeError(f"{name}: operand {k} has {len(shape)} dims {shape}, expected {len(dims)} ({' '.join(map(str, dims))})")
            facts.extend((f"operand {k} dim {i}", k, d, n) for i, (d, n) in enumerate(zip(dims, shape, strict=True)))
        if result is not None:
            dims = rel.results[0]
            if len(dims) != len(result):
                raise ShapeError(f"{name}: the result has {len(result)} dims {result}, expected {len(dims)}")
            facts.extend((f"result dim {i}", -1, d, n) for i, (d, n) in enumerate(zip(dims, result, strict=True)))
        _solve(facts, known, name)
        results = tuple(tuple(_size(d, known, name) for d in dims) for dims in rel.results)
        if result is not None:
            results = (result, *results[1:])
        return Solved(rel, known, tuple(map(tuple, shapes)), results)

    def transpose(self, operand: int) -> Relation:
        """The relation of the derivative with respect to ``operand`` of an op that is linear in it: the operand
        and the (first) result change places. Its result's shape must be given to ``solve``."""
        operands = list(self.operands)
        operands[operand], out = self.results[0], self.operands[operand]
        return replace(self, operands=tuple(operands), results=(out,))

    def _expand(self, shapes: Sequence[Shape], name: str) -> Relation:
        """``...`` becomes right-aligned axes ``_0, _1 ...`` (``_0`` the innermost); a size-1 dim of an operand becomes ``1``."""
        if not any(d.kind == "ellipsis" for dims in (*self.operands, *self.results) for d in dims):
            return self
        rank = 0
        for dims, shape in zip(self.operands, shapes, strict=False):
            if _ELLIPSIS in dims:
                rank = max(rank, len(shape) - len(dims) + 1)
        if rank < 0:
            raise ShapeError(f"{name}: an operand has too few dims: {tuple(shapes)}")
        extents = [1] * rank
        for dims, shape in zip(self.operands, shapes, strict=False):
            if _ELLIPSIS in dims:
                at, count = dims.index(_ELLIPSIS), len(shape) - len(dims) + 1
                for j in range(count):
                    n = shape[at + count - 1 - j]
                    if n != 1 and extents[j] not in (1, n):
                        raise ShapeError(f"{name}: shapes {tuple(shapes)} do not broadcast: {extents[j]} against {n}")
                    extents[j] = n if n != 1 else extents[j]

        def expand(dims: Dims, shape: Shape | None) -> Dims:
            if _ELLIPSIS not in dims:
                return dims
            at = dims.index(_ELLIPSIS)
            count = rank if shape is None else len(shape) - len(dims) + 1
            middle = []
            for j in reversed(range(count)):
                one = shape is not None and shape[at + count - 1 - j] == 1 and extents[j] != 1
                middle.append(Dim("one") if one else Dim("axis", (f"_{j}",)))
            return (*dims[:at], *middle, *dims[at + 1 :])

        operands = tuple(expand(d, s) for d, s in zip(self.operands, shapes, strict=False))
        fixed = tuple((f"_{j}", n) for j, n in enumerate(extents))
        return Relation(operands, tuple(expand(d, None) for d in self.results), (*self.fixed, *fixed))

    def _values(self, attrs: Mapping[str, Any]) -> Relation:
        def value(v: Any) -> Any:
            if not isinstance(v, str):
                return v
            attr, _, at = v.partition(".")
            if attr not in attrs:
                raise RecordError(f"the relation names the attribute {attr!r}, which the op does not have")
            return attrs[attr][int(at)] if at else attrs[attr]

        def dim(d: Dim) -> Dim:
            if d.kind != "window":
                return d
            pad = value(d.pad)
            pad = (pad, pad) if isinstance(pad, int) else (0, 0) if pad is None else (int(pad[0]), int(pad[1]))
            return replace(d, strides=tuple(int(value(s)) for s in d.strides), pad=pad)

        side = lambda tensors: tuple(tuple(map(dim, dims)) for dims in tensors)
        return Relation(side(self.operands), side(self.results), tuple((a, int(value(v))) for a, v in self.fixed))


def _solve(facts: list[tuple[str, int, Dim, int]], known: dict[str, int], name: str) -> None:
    """Fixed point over dims: each fact either fixes an axis or is checked."""
    waiting = list(facts)
    while waiting:
        later = []
        for fact in waiting:
            where, _, d, n = fact
            unknown = [a for a in d.axes if a not in known]
            if d.kind == "index":
                continue
            if d.kind == "one":
                if n != 1:
                    raise ShapeError(f"{name}: {where} is {n}, expected 1")
            elif d.kind == "axis":
                a = d.axes[0]
                if known.setdefault(a, n) != n:
                    raise ShapeError(f"{name}: {where} is {n}, expected {known[a]} ({a})")
            elif d.kind == "product":
                rest = prod(known[a] for a in d.axes if a in known)
                if (not unknown and rest != n) or (rest and n % rest):
                    raise ShapeError(f"{name}: {where} is {n}, expected a multiple of {rest} {d}" if unknown else f"{name}: {where} is {n}, expected {rest} {d}")
                if len(unknown) == 1:
                    known[unknown[0]] = n // rest if rest else 0
                elif unknown:
                    later.append(fact)
            elif not unknown:
                continue  # a window whose axes are all known: several sizes fit
            elif len(unknown) == 1:
                known[unknown[0]] = _window_extent(d, n, unknown[0], known, name, where)
            else:
                later.append(fact)
        if len(later) == len(waiting):
            where, _, d, n = later[0]
            raise ShapeError(f"{name}: {where} is {n}: the extents of {d} cannot be told apart")
        waiting = later


def _window_extent(d: Dim, n: int, axis: str, known: Mapping[str, int], name: str, where: str) -> int:
    lo, hi = d.padding
    span, step = 0, 1
    for a, s in zip(d.axes, d.strides, strict=True):
        if a == axis:
            step = int(s)
        else:
            span += (known[a] - 1) * int(s)
    room = n + lo + hi - span - 1
    if room < 0:
        raise ShapeError(f"{name}: {where} is {n}, with padding {lo}+{hi} too small for a window of {span + 1}")
    return room // step + 1


def _size(d: Dim, known: Mapping[str, int], name: str) -> int:
    for a in d.axes:
        if a not in known:
            raise ShapeError(f"{name}: the extent of {a} is not known")
    match d.kind:
        case "one":
            return 1
        case "axis":
            return known[d.axes[0]]
        case "product":
            return prod(known[a] for a in d.axes)
        case "window":
            lo, hi = d.padding
            return sum((known[a] - 1) * int(s) for a, s in zip(d.axes, d.strides, strict=True)) + 1 - lo - hi
        case _:
            raise ShapeError(f"{name}: a result dim {d} has no size of its own")


# ----------------------------------------------------------------------------------------------- parsing

_TOKEN = re.compile(r"\s*(\.\.\.|->|[A-Za-z_][A-Za-z_0-9]*(?:\.\d+)?|\d+|\[-?\d+,\s*-?\d+\]|[(),*+~!|=@])")


@lru_cache(maxsize=4096)
def parse(text: str) -> Relation:
    """The frozen form of a relation's text; what it cannot read is a ``RecordError``."""
    tokens, at = [], 0
    stripped = text.rstrip()
    while at < len(stripped):
        match = _TOKEN.match(stripped, at)
        if not match:
            raise RecordError(f"relation {text!r}: cannot read {stripped[at:]!r}")
        tokens.append(match[1])
        at = match.end()
    if "->" not in tokens:
        raise RecordError(f"relation {text!r} has no '->'")
    arrow = tokens.index("->")
    bar = tokens.index("|") if "|" in tokens else len(tokens)
    fixed = []
    tail = tokens[bar + 1 :]
    if bar < len(tokens) and (not tail or len(tail) % 3):
        raise RecordError(f"relation {text!r}: expected axis=value after '|'")
    for i in range(0, len(tail), 3):
        axis, equals, val = tail[i : i + 3]
        if equals != "=":
            raise RecordError(f"relation {text!r}: expected axis=value after '|'")
        fixed.append((axis, _value(val)))
    return Relation(_tensors(tokens[:arrow], text), _tensors(tokens[arrow + 1 : bar], text), tuple(fixed))


def _value(token: str) -> Any:
    if token.startswith("["):
        lo, hi = token[1:-1].split(",")
        return (int(lo), int(hi))
    return int(token) if token.isdigit() else token


def _tensors(tokens: list[str], text: str) -> tuple[Dims, ...]:
    tensors: list[list[Dim]] = [[]]
    i = 0
    while i < len(tokens):
        token = tokens[i]
        if token == ",":
            tensors.append([])
        elif token == "(":
            close = tokens.index(")", i)
            tensors[-1].append(_group(tokens[i + 1 : close], text))
            i = close
        elif token == "...":
            tensors[-1].append(_ELLIPSIS)
        elif token == "@":
            i += 1
            tensors[-1].append(Dim("index", operand=int(tokens[i])))
        elif token == "1":
            tensors[-1].append(Dim("one"))
        else:
            whole = i + 1 < len(tokens) and tokens[i + 1] == "!"
            tensors[-1].append(Dim("axis", (token,), whole=whole))
            i += whole
        i += 1
    return tuple(map(tuple, tensors))


def _group(tokens: list[str], text: str) -> Dim:
    if "(" in tokens:
        raise RecordError(f"relation {text!r}: groups do not nest")
    if not any(t in "*+~" for t in tokens):
        if len(tokens) < 2:
            raise RecordError(f"relation {text!r}: a product needs at least two axes")
        return Dim("product", tuple(tokens))
    pad: Any = None
    if "~" in tokens:
        cut = tokens.index("~")
        pad, tokens = _value(tokens[cut + 1]), tokens[:cut]
    axes, strides = [], []
    for term in " ".join(tokens).split("+"):
        parts = term.split()
        axes.append(parts[0])
        strides.append(_value(parts[2]) if len(parts) == 3 else 1)
    return Dim("window", tuple(axes), tuple(strides), pad)
