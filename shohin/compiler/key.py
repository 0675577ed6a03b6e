"""The key of a program: all that is static in a call, each part under its name, so that a retrace can say what differed.

Arguments are named by the function's parameters (``net.body.0.scale``, ``batch['x']``), captured constants as
``captured k``. A key holds no module: objects stand in it by a serial number, weakly, or by value.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from shohin.compiler.captures import Same, form
from shohin.core import cells as cell_state
from shohin.core import trees
from shohin.core.cells import Cell, Param
from shohin.core.containers import PROGRAM, CellDict, CellList, CellTuple
from shohin.core.errors import StateError, TraceError
from shohin.core.module import Module, see
from shohin.core.op import Aval
from shohin.core.tensor import Tensor, as_tensor

Part = tuple[str, Any]
MOST = 4
"""Differences that a line of ``traces`` lists; the others are counted."""


class Id(NamedTuple):
    """A module or cell: what it looks like, and which one it is."""

    text: str
    serial: int

    def __repr__(self) -> str:
        return self.text


class Mode(NamedTuple):
    training: bool

    def __repr__(self) -> str:
        return "training mode" if self.training else "evaluation mode"


class FloatAttribute(NamedTuple):
    """A float that a module holds: static, and most often meant to change."""

    text: str

    def __repr__(self) -> str:
        return self.text


class Structure(NamedTuple):
    text: str

    def __repr__(self) -> str:
        return self.text


class Weak(NamedTuple):
    """A tensor that came from a Python number and takes the dtype of what it meets."""

    text: str

    def __repr__(self) -> str:
        return f"weak {self.text}"


class Signature:
    """The static parts of a module by path, hashed once."""

    __slots__ = ("_hash", "epoch", "parts")

    def __init__(self, parts: tuple[Part, ...], epoch: int) -> None:
        self.parts, self.epoch, self._hash = parts, epoch, hash(parts)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Signature) and self._hash == other._hash and self.parts == other.parts)


def signature(module: Module) -> Signature:
    """What is static in a module: classes, modes, plain attributes, which cells, their shapes and flags. Kept until the epoch
    moves, which a change of any module below does from now on."""
    cache = object.__getattribute__(module, "_cache")
    known = cache.get("signature")
    if known is None or known.epoch != cell_state.epoch():
        see(module, PROGRAM)
        known = cache["signature"] = Signature(tuple(_parts("", module, set())), cell_state.epoch())
    return known


def _parts(path: str, value: Any, met: set[int], private: bool = False) -> Iterator[Part]:
    """Of a private attribute only plain values: what it holds of cells and modules is not the module's own."""
    if private and isinstance(value, Cell | Module):
        return
    below = f"{path}." if path else ""
    if isinstance(value, Cell):
        flag = f" {type(value).__name__}" if not isinstance(value, Param) or value.requires_grad else " frozen Param"
        yield path, Id(f"{Aval(value._shape, value.dtype)}{flag}", value.serial)
    elif isinstance(value, Module):
        yield path, Id(type(value).__name__, value._serial)
        if id(value) not in met:
            met.add(id(value))
            yield path, Mode(value.training)
            for name, entry in value._fields():
                if name not in value.unkeyed:
                    yield from _parts(f"{below}{name}", entry, met, name[0] == "_")
    elif isinstance(value, list | tuple):
        yield path, Structure(f"{'tuple' if isinstance(value, tuple) else 'list'} of {len(value)}")
        for k, entry in enumerate(value.raw() if isinstance(value, CellList | CellTuple) else value):
            yield from _parts(f"{below}{k}", entry, met, private)
    elif isinstance(value, dict):
        raw = list(value.raw() if isinstance(value, CellDict) else value.items())
        yield path, Structure(f"dict of {', '.join(str(k) for k, _ in raw)}")
        for k, entry in raw:
            yield from _parts(f"{below}{k}", entry, met, private)
    elif isinstance(value, float):
        yield path, FloatAttribute(repr(value))
    else:
        yield path, static(value)


def static(value: Any) -> Any:
    """A static object: by value if its class says how, else by identity."""
    found = form(value)
    if isinstance(found, Same) and type(value).__eq__ is not object.__eq__ and not isinstance(value, np.ndarray):
        try:
            hash(value)
        except TypeError:
            return found
        return value
    return found


class Arguments:
    """One call: ``leaves`` (tensors, arrays, floats) and where they stand, ``modules``, and the rest as ``parts`` of the key.

    A position is a number, or the name of an argument given by name. Without ``keyed`` modules have no part of it: inside
    a transformation there is no key, and shapes are other ones.
    """

    def __init__(self, parameters: inspect.Signature | None, args: tuple[Any, ...], keywords: Mapping[str, Any], *, keyed: bool) -> None:
        self._keyed = keyed
        self.leaves, self.spec = trees.flatten((args, keywords))
        self.tensors = [as_tensor(v) for v in self.leaves]
        self.weak = [type(v) is float or (isinstance(v, Tensor) and v.weak) for v in self.leaves]
        self.where: list[str] = []
        self.positions: list[int | str] = []
        self.modules: dict[str, Module] = {}
        self.module_positions: list[int | str] = []
        self.parts: list[Part] = []
        names = _named(parameters, args, keywords)
        given, named = self.spec.children
        for k, (name, spec) in enumerate(zip(names, (*given.children, *named.children), strict=True)):
            self._visit(name, spec, k if k < len(args) else named.keys[k - len(args)])

    def _visit(self, where: str, spec: trees.Spec, position: int | str) -> None:
        if spec.kind == "leaf":
            k = len(self.where)
            self.where.append(where)
            self.positions.append(position)
            text = str(self.tensors[k].aval)
            self.parts.append((where, Weak(text) if self.weak[k] else Structure(text)))
        elif spec.kind == "module":
            self.modules[where] = spec.value.value
            self.module_positions.append(position)
            if self._keyed:
                self.parts.append((where, signature(spec.value.value)))
        elif spec.kind == "static":
            self.parts.append((where, _argument(where, spec.value)))
        else:
            keys = spec.keys or range(len(spec.children))
            kind = spec.value.__name__ if isinstance(spec.value, type) else spec.kind
            self.parts.append((where, Structure(f"{kind} of {', '.join(map(str, spec.keys)) if spec.keys else len(spec.children)}")))
            for key, child in zip(keys, spec.children, strict=True):
                self._visit(f"{where}[{key!r}]", child, position)


def _argument(where: str, value: Any) -> Any:
    if isinstance(value, Cell):
        raise TraceError(f"argument {where}: a cell was passed to a compiled function; pass its value or the module that holds it")
    found = static(value)
    if type(value).__hash__ is None:
        raise StateError(
            f"argument {where} is a {type(value).__name__}, which can change unseen; pass its tensors and numbers, or make it "
            "hashable (a frozen dataclass, a frozenset)"
        )
    return found


def _named(parameters: inspect.Signature | None, args: tuple[Any, ...], keywords: Mapping[str, Any]) -> list[str]:
    """The parameters' names of positional arguments, then the keywords."""
    names: list[str] = []
    for p in parameters.parameters.values() if parameters else ():
        if p.kind is p.VAR_POSITIONAL:
            names += [f"{p.name}[{k}]" for k in range(len(args) - len(names))]
        elif p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD):
            names.append(p.name)
    names = names[: len(args)]
    return [*names, *(f"argument {k}" for k in range(len(names), len(args))), *keywords]


def parameters(f: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(f)
    except (TypeError, ValueError):
        return None


def flat(key: Sequence[Part]) -> list[Part]:
    """A key's parts with modules taken apart."""
    found: list[Part] = []
    for where, part in key:
        if isinstance(part, Signature):
            found += [(f"{where}.{path}" if path else where, p) for path, p in part.parts]
        else:
            found.append((where, part))
    return found


def difference(old: Sequence[Part], new: Sequence[Part]) -> list[str]:
    """What differs between two keys, a line each: ``net.scale: 2.0 -> 3.0``. What is below a module that is new or gone is
    not listed, nor that another module's parts are other ones.

    >>> difference([("x", Structure("f32[8,3]")), ("k", form(1))], [("x", Structure("f32[2,3]")), ("k", form(2))])
    ['x: f32[8,3] -> f32[2,3]', 'k: 1 -> 2']
    """
    was, now = _by_name(old), _by_name(new)
    lines: list[str] = []
    others: list[str] = []
    whole: list[str] = []
    for name in [*now, *(n for n in was if n not in now)]:
        a, b = was.get(name), now.get(name)
        where = name[0]
        if a == b or _below(where, whole):
            continue
        if a is None or b is None:
            whole.append(where)
            lines.append(f"{where}: new, {b!r}" if a is None else f"{where}: no longer there, was {a!r}")
        elif repr(a) != repr(b):
            lines.append(f"{where}: {a!r} -> {b!r}{HINT if isinstance(b, FloatAttribute) else ''}")
        elif not _below(where, others):
            others.append(where)
            lines.append(f"{where}: {ANOTHER} {b!r}")
    return lines


ANOTHER = "another"


def _below(where: str, roots: Sequence[str]) -> bool:
    return any(where == r or where.startswith((f"{r}.", f"{r}[")) for r in roots)


HINT = " (a float attribute is part of the key: hold a schedule in an nn.Buffer, or make it a function of the count)"


def _by_name(key: Sequence[Part]) -> dict[tuple[str, str], Any]:
    """Parts by name; a module has two, itself and its mode."""
    return {(where, "mode" if isinstance(part, Mode) else ""): part for where, part in flat(key)}


def explain(known: Sequence[Sequence[Part]], new: Sequence[Part]) -> str:
    """Why a program was made: what differs from the one that is nearest, of equally near ones from the first."""
    if not known:
        return "first call"
    found = [difference(old, new) for old in known]
    lines = min(found, key=lambda lines: (sum(f": {ANOTHER} " in line for line in lines), len(lines)))
    more = f"; and {len(lines) - MOST} more" if len(lines) > MOST else ""
    return "; ".join(lines[:MOST]) + more


__all__ = ["Arguments", "Signature", "explain", "parameters", "signature", "static"]
