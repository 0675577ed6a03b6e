"""Plans as TOML: one ``[[rule]]`` a rule, with a place (or a layer type) and a method by name with its fields.

    [[rule]]
    layer = "Conv2d"
    method = "Prune"
    sparsity = 0.5
    ramp = [0, 2000]

Types are found by name among the classes that are loaded, so a plan may name methods and layers of one's own.
"""

from __future__ import annotations

import difflib
import json
import tomllib
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any

from shohin.compress.slots import METHODS, Method
from shohin.core.errors import PlanError
from shohin.core.module import Module

Rule = tuple[Any, Method | None]
NONE = "none"


def spell(pattern: Any) -> str:
    """A pattern as messages show it."""
    return repr(pattern) if isinstance(pattern, str) else pattern.__name__


def write(rules: Sequence[Rule]) -> str:
    """The rules as text; a ``PlanError`` where a field holds what text cannot (a function, an array)."""
    blocks = []
    for pattern, method in rules:
        place = {"place": pattern} if isinstance(pattern, str) else {"layer": _name_of(pattern)}
        entries = {**place, "method": NONE if method is None else type(method).__name__, **_entries(method)}
        blocks.append("\n".join(["[[rule]]", *(f"{k} = {_value(v, f'{method}.{k}')}" for k, v in entries.items())]) + "\n")
    return "\n".join(blocks)


def read(source: str | Path) -> list[Rule]:
    """The rules of a file or a text; what is unknown is a ``PlanError`` with near names."""
    where, text = _text(source)
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise PlanError(f"{where}: no TOML: {error}") from error
    rules = found.pop("rule", None)
    if found:
        raise PlanError(f"{where}: {next(iter(found))!r} is unknown; a plan is [[rule]] blocks with place (or layer) and method")
    if not isinstance(rules, list) or not all(isinstance(r, dict) for r in rules):
        raise PlanError(f"{where}: no [[rule]] is there; write [[rule]], place = \"*\", method = \"Quantize\"")
    return [_rule(f"{where}, rule {k}", dict(r)) for k, r in enumerate(rules, 1)]


def _text(source: str | Path) -> tuple[str, str]:
    if isinstance(source, str) and not {"\n", "=", "["}.isdisjoint(source):
        return "plan", source
    try:
        return str(source), Path(source).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise PlanError(f"the plan {source} cannot be read: {reason}; expected a .toml file, or its text") from error


def _rule(where: str, entries: dict[str, Any]) -> Rule:
    place, layer, name = (entries.pop(k, None) for k in ("place", "layer", "method"))
    if (place is None) == (layer is None) or not isinstance(place if layer is None else layer, str):
        raise PlanError(f"{where}: expected either place = (a pattern) or layer = (a layer type), got {place!r} and {layer!r}")
    pattern = place if layer is None else _layer(where, layer)
    if name == NONE:
        if entries:
            raise PlanError(f"{where}: method = \"none\" clears the place and has no fields, got {', '.join(entries)}")
        return pattern, None
    if name not in METHODS:
        raise PlanError(f"{where}: the method {name!r} is unknown; {_near(str(name), [*METHODS, NONE])}")
    return pattern, _made(where, METHODS[name], entries)


def _made(where: str, kind: Any, entries: Mapping[str, Any]) -> Any:
    """A dataclass from its fields; arrays become tuples, tables the dataclass that the field is annotated with."""
    known = {f.name: f for f in fields(kind) if f.init}
    for key in entries:
        if key not in known:
            raise PlanError(f"{where}: {kind.__name__} has no field {key!r}; {_near(key, list(known))}")
    missing = [k for k, f in known.items() if k not in entries and f.default is MISSING and f.default_factory is MISSING]
    if missing:
        raise PlanError(f"{where}: {kind.__name__} needs {', '.join(missing)}")
    try:
        hints = typing.get_type_hints(kind)
    except NameError:  # an annotation of a name that only type checkers see
        hints = {}
    try:
        return kind(**{k: _field(where, v, hints.get(k)) for k, v in entries.items()})
    except (TypeError, ValueError) as error:
        raise PlanError(f"{where}: {error}") from error


def _field(where: str, value: Any, hint: Any) -> Any:
    if isinstance(value, list):
        return tuple(_field(where, v, None) for v in value)
    if isinstance(value, dict):
        options = typing.get_args(hint) if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union else (hint,)
        kind = next((o for o in options if isinstance(o, type) and is_dataclass(o)), None)
        return value if kind is None else _made(where, kind, value)
    return value


def _entries(value: Any) -> dict[str, Any]:
    """The fields that are written: all but those that are None by default."""
    if value is None:
        return {}
    found = {f.name: (getattr(value, f.name), f.default) for f in fields(value) if f.init}
    for name, (v, default) in found.items():
        if v is None and default is not None:
            raise PlanError(f"{value}.{name} is None, which TOML cannot say; give it a value")
    return {k: v for k, (v, _) in found.items() if v is not None}


def _value(value: Any, where: str) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, tuple | list):
        return f"[{', '.join(_value(v, where) for v in value)}]"
    pairs = value if isinstance(value, dict) else _entries(value) if is_dataclass(value) and not isinstance(value, type) else None
    if pairs is None:
        raise PlanError(f"{where} is {type(value).__name__}, which no text can say; such a plan is Python")
    return f"{{{', '.join(f'{k} = {_value(v, where)}' for k, v in pairs.items())}}}"


def _layers(kind: type[Module] = Module) -> Iterator[type[Module]]:
    for below in kind.__subclasses__():
        if below.__name__ != kind.__name__:  # what reparametrize makes of a class bears its name
            yield below
        yield from _layers(below)


def _named(name: str) -> list[type[Module]]:
    module, _, short = name.rpartition(":")
    return list(dict.fromkeys(t for t in _layers() if t.__name__ == short and module in ("", t.__module__)))


def _name_of(kind: type[Module]) -> str:
    found = _named(kind.__name__)
    return kind.__name__ if found == [kind] else f"{kind.__module__}:{kind.__name__}"


def _layer(where: str, name: str) -> type[Module]:
    found = _named(name)
    if not found:
        raise PlanError(f"{where}: no layer type {name!r} is loaded; {_near(name, sorted({t.__name__ for t in _layers()}))}")
    if len(found) > 1:
        raise PlanError(f"{where}: several layer types are named {name!r}; write one of {', '.join(f'{t.__module__}:{t.__name__}' for t in found)}")
    return found[0]


def _near(name: str, names: Sequence[str]) -> str:
    return f"near: {', '.join(difflib.get_close_matches(name, names, 3, 0.3) or names[:5])}"


__all__ = ["read", "spell", "write"]
