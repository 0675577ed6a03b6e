"""Modules: plain trees of attributes. Cells read as their values; everything else is static.

Only modules, lists, tuples and dicts (``containers``) are walked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from inspect import signature
from typing import Any, ClassVar, TypeVar

import numpy as np

from shohin.core import interp
from shohin.core.cells import Cell, Param, serials
from shohin.core.containers import (
    PATHS,
    PROGRAM,
    CellDict,
    CellList,
    CellTuple,
    Held,
    changed,
    path_epoch,
    refuse_change,
    wrap,
    writes,
)
from shohin.core.errors import StateError
from shohin.core.places import Places, places
from shohin.core.tensor import as_tensor

C = TypeVar("C", bound=Cell)


class Module(Held):
    """Base of layers and networks: assign ``Param``, ``Buffer``, modules, or lists and dicts of them as attributes.

    >>> class Scale(Module):
    ...     def __init__(self): self.by = Param(np.ones(3, np.float32))
    ...     def forward(self, x): return x
    >>> list(Scale().cells())
    ['by']
    """

    unkeyed: ClassVar[frozenset[str]] = frozenset()
    """Private attributes (``_name``) on which no program depends; the others are part of its key, like public ones."""

    _training: bool
    _born: interp.Level
    _serial: int
    _seen: int

    def __new__(cls, *args: Any, **keywords: Any) -> Any:
        self = super().__new__(cls)
        object.__setattr__(self, "_training", True)
        object.__setattr__(self, "_born", interp.current().level)
        object.__setattr__(self, "_cache", {})
        object.__setattr__(self, "_serial", next(serials))
        object.__setattr__(self, "_seen", 0)
        return self

    def forward(self, *args: Any, **keywords: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no forward(...)")

    def __getstate__(self) -> dict[str, Any]:
        """What ``copy.deepcopy`` and ``pickle`` take: a copy is another module, born where it is made."""
        return {"_training": self.training, **dict(self._fields())}

    # -- attributes
    def __getattribute__(self, name: str) -> Any:
        value = object.__getattribute__(self, name)
        return value.read() if isinstance(value, Cell) else value

    def __setattr__(self, name: str, value: Any) -> None:
        fields = object.__getattribute__(self, "__dict__")
        old = fields.get(name)
        if writes(old, value):
            if not old.name:
                old.name = name
            old.write(value)
            return
        if name != "_training":
            self._refuse_static_change(name)
        value = wrap(value, f"{type(self).__name__}.{name}")
        if isinstance(value, Cell) and not value.name:
            value.name = name
        fields[name] = value
        changed(fields["_seen"])

    def __delattr__(self, name: str) -> None:
        self._refuse_static_change(name)
        object.__delattr__(self, name)
        changed(self._seen)

    def _refuse_static_change(self, name: str) -> None:
        refuse_change(f"{type(self).__name__}.{name}", object.__getattribute__(self, "_born"))

    # -- trees
    def _entries(self) -> Iterator[tuple[str, Any]]:
        return ((k, v) for k, v in object.__getattribute__(self, "__dict__").items() if k[0] != "_")

    def _fields(self) -> Iterator[tuple[str, Any]]:
        """All attributes, private ones too."""
        return ((k, v) for k, v in object.__getattribute__(self, "__dict__").items() if k not in _OWN)

    def named(self, kind: type[Any] = object) -> Iterator[tuple[str, Any]]:
        """Every (path, cell or module) below, first paths and aliases alike, in the order of assignment."""
        yield from _named("", self, kind, set())

    def cells(self, kind: type[C] = Cell) -> dict[str, C]:
        """Cells by first path; a cell that is reached twice stands once (``aliases`` has the other names)."""
        found: dict[int, tuple[str, C]] = {}
        for path, cell in self.named(Cell):
            if isinstance(cell, kind):
                found.setdefault(id(cell), (path, cell))
        for path, cell in found.values():
            if "." in path or not cell.name:
                cell.name = path
        return dict(found.values())

    def aliases(self) -> dict[str, str]:
        """Other paths of a cell -> its first path."""
        first: dict[int, str] = {}
        others: dict[str, str] = {}
        for path, cell in self.named(Cell):
            if id(cell) in first:
                others[path] = first[id(cell)]
            first.setdefault(id(cell), path)
        return others

    def modules(self) -> dict[str, Module]:
        """Modules by first path, this one under ``""``."""
        found: dict[int, tuple[str, Module]] = {id(self): ("", self)}
        for path, module in self.named(Module):
            found.setdefault(id(module), (path, module))
        return dict(found.values())

    def parameters(self) -> list[Param]:
        return list(self.cells(Param).values())

    @property
    def training(self) -> bool:
        return object.__getattribute__(self, "_training")

    def train(self, mode: bool = True) -> Any:
        """Training mode for this module and all below; returns it. Inside a transformation only what was made there."""
        frame = interp.current()
        if any(not frame.holds(m._born) for m in self.modules().values()):
            raise StateError("the mode cannot change inside a transformation; write `with sh.mode(net, training=...)`")
        _set_mode(self, mode)
        return self

    def eval(self) -> Any:
        """Evaluation mode."""
        return self.train(False)

    def requires_grad_(self, value: bool = True) -> Any:
        for p in self.parameters():
            p.requires_grad = value
        return self

    # -- calling
    def __call__(self, *args: Any, **keywords: Any) -> Any:
        args = tuple(as_tensor(a) if isinstance(a, np.ndarray) else a for a in args)
        keywords = {k: as_tensor(a) if isinstance(a, np.ndarray) else a for k, a in keywords.items()}
        interp.current().called(self, object.__getattribute__(self, "_born"))
        with self._standing():
            return self.forward(*args, **keywords)

    def places(self, *args: Any, **keywords: Any) -> Places:
        """Where the ops of ``self(*args)`` stand, in the present mode: one ``Place`` an op, with its result's shape.

        Nothing is computed and nothing changes. These are the places of traces, plans, profiles and the generated C.

        >>> class Twice(Module):
        ...     def forward(self, x): return x + x
        >>> net = Module()
        >>> net.first = Twice()
        >>> net.forward = lambda x: -net.first(x)
        >>> print(net.places(np.ones(3, np.float32)))
        place        op        result
        first/add#0  add       f32[3]
        /negative#0  negative  f32[3]
        """
        return places(self, *args, **keywords)

    @contextmanager
    def _standing(self) -> Iterator[None]:
        """Ops inside stand at this module's path within the outermost module called."""
        paths = _paths.get()
        token = None
        if paths is None or id(self) not in paths:
            base = _roots.get().get(id(self), "") or interp.place()
            token = _paths.set({**(paths or {}), **self._path_map(base)})
            paths = _paths.get()
        assert paths is not None
        try:
            with interp.at(paths[id(self)]):
                yield
        finally:
            if token is not None:
                _paths.reset(token)

    def _path_map(self, base: str) -> dict[int, str]:
        cache = object.__getattribute__(self, "_cache")
        key = ("paths", base)
        now, found = cache.get(key, (None, {}))
        if now != path_epoch[0]:
            join = lambda p: f"{base}{'' if base[-1] == ':' else '.'}{p}" if base and p else base or p
            see(self, PATHS)
            found = {id(m): join(p) for p, m in self.modules().items()}
            cache[key] = path_epoch[0], found
        return found

    def __repr__(self) -> str:
        return _describe(self)

    def extra_repr(self) -> str:
        """What ``repr`` says beside the children: override in a layer."""
        plain = {k: v for k, v in self._entries() if isinstance(v, bool | int | float | str)}
        return ", ".join(f"{k}={v!r}" for k, v in plain.items())


_paths: ContextVar[dict[int, str] | None] = ContextVar("shohin_paths", default=None)
_roots: ContextVar[dict[int, str]] = ContextVar("shohin_roots", default={})  # noqa: B039  (never written to)


@contextmanager
def roots(f: Callable[..., Any], args: Sequence[Any], keywords: Mapping[str, Any]) -> Iterator[None]:
    """While ``f(*args, **keywords)`` is traced, places of two networks among the arguments begin with the argument's
    name (``a:head/matmul#0``); a single one needs no name (state.md 15)."""
    found: dict[int, str] = {}
    try:
        named = signature(f).bind(*args, **keywords).arguments.items()
    except (TypeError, ValueError):
        named = {**{f"arg{i}": a for i, a in enumerate(args)}, **keywords}.items()
    for name, value in named:
        if isinstance(value, Module) and type(value).forward is not Module.forward:
            found.setdefault(id(value), f"{name}:")
    token = _roots.set(found if len(found) > 1 else {})
    try:
        yield
    finally:
        _roots.reset(token)


def see(module: Module, who: int) -> None:
    """From now on changes of this module, of all below and of their lists and dicts are reported to ``who``."""
    todo: list[Any] = [module]
    met: set[int] = set()
    while todo:
        value = todo.pop()
        if id(value) in met:
            continue
        met.add(id(value))
        if isinstance(value, Module):
            object.__setattr__(value, "_seen", value._seen | who)
            todo += [v for k, v in value._fields() if k[0] != "_" or not isinstance(v, Module)]
        elif isinstance(value, CellList | CellDict):
            value.seen |= who
            todo += value.raw() if isinstance(value, CellList) else [v for _, v in value.raw()]
        elif isinstance(value, tuple):
            todo += value.raw() if isinstance(value, CellTuple) else value
        elif isinstance(value, Cell) and who & PROGRAM:
            value.seen = True


def _named(path: str, value: Any, kind: type[Any], above: set[int]) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Cell):
        if issubclass(Cell, kind) or issubclass(kind, Cell):
            yield path, value
        return
    if isinstance(value, Module):
        if id(value) in above:
            return
        above = {*above, id(value)}
        if path and (kind is object or kind is Module):
            yield path, value
        entries: Any = value._entries()
    elif isinstance(value, list | tuple):
        entries = enumerate(value.raw() if isinstance(value, CellList | CellTuple) else value)
    elif isinstance(value, dict):
        entries = value.raw() if isinstance(value, CellDict) else value.items()
    else:
        return
    for name, entry in entries:
        if isinstance(entry, Cell | Module | list | tuple | dict):
            yield from _named(f"{path}.{name}" if path else str(name), entry, kind, above)


def _set_mode(module: Module, mode: bool) -> None:
    for m in module.modules().values():
        if m.training != mode:
            _set_own_mode(m, mode)
            for hook in _MODE_HOOKS:
                hook(m, mode)


def _set_own_mode(module: Module, mode: bool) -> None:
    object.__setattr__(module, "_training", mode)
    changed(module._seen & PROGRAM)


_MODE_HOOKS: list[Callable[[Module, bool], None]] = []
"""Called for every module whose mode changes (compression renews frozen constants when training ends)."""


@contextmanager
def mode(module: Module, *, training: bool) -> Iterator[Module]:
    """Training or evaluation mode inside the block, as before afterwards.

    >>> m = Module()
    >>> with mode(m, training=False): print(m.training)
    False
    >>> m.training
    True
    """
    before = [(m, m.training) for m in module.modules().values()]
    _set_mode(module, training)
    try:
        yield module
    finally:
        for m, was in before:
            if m.training != was:
                _set_own_mode(m, was)


def _describe(module: Module, indent: str = "") -> str:
    children: list[tuple[str, Module]] = []
    for path, value in module._entries():
        if isinstance(value, Module):
            children.append((path, value))
        elif isinstance(value, list | tuple | dict):
            items: Any = value.items() if isinstance(value, dict) else enumerate(value)
            children += [(f"{path}.{k}", v) for k, v in items if isinstance(v, Module)]
    own = {n: c for n, c in module._entries() if isinstance(c, Cell)}
    head = ", ".join(filter(None, [module.extra_repr(), ", ".join(f"{n}: {c.aval}" for n, c in own.items())]))
    if not children:
        return f"{type(module).__name__}({head})"
    lines = [f"{indent}  {name}: {_describe(child, indent + '  ')}" for name, child in children]
    return f"{type(module).__name__}({head}\n" + "\n".join(lines) + f"\n{indent})"


def copy(module: Module) -> Any:
    """A module with cells of its own that hold the same values (read through the current frame); ties stay ties.

    Inside ``grad`` the values of a copy carry their gradient (state.md 6).
    """
    return rebuild(module, lambda value: value.like(value.read()) if isinstance(value, Cell) else None)


_OWN = ("_training", "_born", "_cache", "_serial", "_seen")


def rebuild(value: Any, replace: Callable[[Any], Any]) -> Any:
    """The same structure of modules, lists, tuples and dicts anew, with ``replace(part)`` wherever that is not None; what
    is reached twice is made once.

    >>> rebuild((1, (2, 3)), lambda part: "two" if part == 2 else None)
    (1, ('two', 3))
    """
    made: dict[int, Any] = {}

    def visit(value: Any) -> Any:
        if id(value) in made:
            return made[id(value)]
        new = replace(value)
        if new is None and isinstance(value, Module):
            made[id(value)] = new = type(value).__new__(type(value))
            object.__setattr__(new, "_training", value.training)
            fields = object.__getattribute__(new, "__dict__")
            fields.update({k: visit(v) for k, v in value._fields()})
        elif new is None and isinstance(value, CellList):
            new = CellList(map(visit, value.raw()))
        elif new is None and isinstance(value, CellDict):
            new = CellDict()
            for k, v in value.raw():
                dict.__setitem__(new, k, visit(v))
        elif new is None and type(value) in (tuple, CellTuple):
            new = type(value)(map(visit, value.raw() if isinstance(value, CellTuple) else value))
        elif new is None:
            return value
        made[id(value)] = new
        return new

    return visit(value)
