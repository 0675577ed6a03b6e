"""Modules: plain trees of attributes. Cells read as their values; everything else is static.

Only modules, lists, tuples and dicts are walked. A list or dict in a module reports its changes, so that a
compiled program notices a new structure without walking it at each call (state.md 13).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from inspect import signature
from types import FunctionType, MethodType, ModuleType
from typing import Any, SupportsIndex, TypeGuard, TypeVar, overload

import numpy as np

from shohin.core import interp
from shohin.core.cells import Buffer, Cell, Param, epoch, touched
from shohin.core.errors import StateError
from shohin.core.tensor import Constant, Tensor, as_tensor

C = TypeVar("C", bound=Cell)


class _List(list[Any]):
    """A module's list: an entry that is a cell reads as its value; changes are reported."""

    @overload
    def __getitem__(self, index: SupportsIndex) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: Any) -> Any:
        value = list.__getitem__(self, index)
        return [_value(v) for v in value] if isinstance(index, slice) else _value(value)

    def __iter__(self) -> Iterator[Any]:
        return (_value(v) for v in list.__iter__(self))

    def raw(self) -> Iterator[Any]:
        return list.__iter__(self)

    def __reversed__(self) -> Iterator[Any]:
        return reversed(list(self))

    def __add__(self, other: Any) -> list[Any]:
        return list(self) + list(other)

    def __radd__(self, other: Any) -> list[Any]:
        return list(other) + list(self)

    def copy(self) -> list[Any]:
        return list(self)

    def __setitem__(self, index: Any, value: Any) -> None:
        if isinstance(index, int):
            old = list.__getitem__(self, index)
            if _writes(old, value):
                old.write(value)
                return
        list.__setitem__(self, index, _wrap(value, f"[{index}]"))
        touched()


class _Tuple(tuple[Any, ...]):
    """A module's tuple that holds cells, likewise; it never changes."""

    def __getitem__(self, index: Any) -> Any:
        value = tuple.__getitem__(self, index)
        return tuple(map(_value, value)) if isinstance(index, slice) else _value(value)

    def __iter__(self) -> Iterator[Any]:
        return (_value(v) for v in tuple.__iter__(self))

    def __add__(self, other: Any) -> tuple[Any, ...]:
        return (*self, *other)

    def raw(self) -> Iterator[Any]:
        return tuple.__iter__(self)


class _Dict(dict[Any, Any]):
    """A module's dict, likewise."""

    def __iter__(self) -> Iterator[Any]:  # dict(d) and {**d} then go through __getitem__
        return dict.__iter__(self)

    def copy(self) -> dict[Any, Any]:
        return dict(self.items())

    def setdefault(self, key: Any, default: Any = None) -> Any:
        if key not in self:
            self[key] = default
        return self[key]

    def __getitem__(self, key: Any) -> Any:
        return _value(dict.__getitem__(self, key))

    def get(self, key: Any, default: Any = None) -> Any:
        return self[key] if key in self else default

    def values(self) -> Any:
        return [_value(v) for v in dict.values(self)]

    def items(self) -> Any:
        return [(k, _value(v)) for k, v in dict.items(self)]

    def raw(self) -> Any:
        return dict.items(self)

    def __setitem__(self, key: Any, value: Any) -> None:
        old = dict.get(self, key)
        if _writes(old, value):
            old.write(value)
            return
        dict.__setitem__(self, key, _wrap(value, f"[{key!r}]"))
        touched()


def _reporting(cls: type[Any], names: str) -> None:
    for name in names.split():
        original = getattr(cls.__mro__[1], name)

        def method(self: Any, *args: Any, _original: Any = original, _name: str = name, **keywords: Any) -> Any:
            if _name in ("append", "insert"):
                args = (*args[:-1], _wrap(args[-1], f".{_name}"))
            elif _name in ("extend", "__iadd__"):
                args = ([_wrap(v, f".{_name}") for v in args[0]],)
            elif _name in ("update", "__ior__"):
                args = ({k: _wrap(v, f"[{k!r}]") for k, v in dict(*args, **keywords).items()},)
                keywords = {}
            touched()
            result = _original(self, *args, **keywords)
            return self if _name in ("__iadd__", "__ior__") else _value(result)

        setattr(cls, name, method)


_reporting(_List, "append extend insert pop remove clear __delitem__ __iadd__ reverse sort")
_reporting(_Dict, "pop popitem clear update __ior__ __delitem__")


def _value(entry: Any) -> Any:
    return entry.read() if isinstance(entry, Cell) else entry


def _writes(old: Any, value: Any) -> TypeGuard[Cell]:
    """Is this assignment a write? Tensors, arrays and numbers are written to a cell; what was just read from another
    Param ties."""
    if not isinstance(old, Cell):
        return False
    if isinstance(value, Tensor):
        return not (isinstance(value.cell, Param) and isinstance(old, Param) and value.cell is not old)
    return isinstance(value, np.ndarray | np.generic | bool | int | float)


def _wrap(value: Any, where: str) -> Any:
    """Containers become reporting ones, arrays read-only copies; a bare tensor is an error."""
    if isinstance(value, Cell | Module | Constant):
        return value
    if isinstance(value, Tensor):
        if isinstance(value.cell, Param):
            return value.cell
        raise StateError(f"{where} is a bare tensor; write nn.Param(x) if it is trained, nn.Buffer(x) if it is kept, sh.const(x) if it never changes")
    if isinstance(value, list):
        raw = value.raw() if isinstance(value, _List) else value
        return _List(_wrap(v, f"{where}[{i}]") for i, v in enumerate(raw))
    if isinstance(value, dict):
        raw = value.raw() if isinstance(value, _Dict) else value.items()
        new = _Dict()
        for k, v in raw:
            dict.__setitem__(new, k, _wrap(v, f"{where}[{k!r}]"))
        return new
    if isinstance(value, tuple):
        raw = value.raw() if isinstance(value, _Tuple) else value
        items = tuple(_wrap(v, f"{where}[{i}]") for i, v in enumerate(raw))
        if type(value) not in (tuple, _Tuple):
            _refuse_hidden(items, where)
            return value
        return _Tuple(items) if any(isinstance(v, Cell) for v in items) else items
    if isinstance(value, np.ndarray):
        copy = value.copy()
        copy.flags.writeable = False
        return copy
    if isinstance(value, set | frozenset | deque):
        _refuse_hidden(value, where)
    elif not isinstance(value, type | FunctionType | MethodType | ModuleType):
        _refuse_hidden(getattr(value, "__dict__", {}).values(), where)
    return value


def _refuse_hidden(items: Iterable[Any], where: str) -> None:
    for v in items:
        if isinstance(v, Cell | Module):
            raise StateError(f"{where} holds a {type(v).__name__} where nothing would find it; use a module, list, tuple or dict")


class Module:
    """Base of layers and networks: assign ``Param``, ``Buffer``, modules, or lists and dicts of them as attributes.

    >>> class Scale(Module):
    ...     def __init__(self): self.by = Param(np.ones(3, np.float32))
    ...     def forward(self, x): return x
    >>> list(Scale().cells())
    ['by']
    """

    _training: bool

    def __new__(cls, *args: Any, **keywords: Any) -> Any:
        self = super().__new__(cls)
        object.__setattr__(self, "_training", True)
        object.__setattr__(self, "_born", interp.current())
        object.__setattr__(self, "_cache", {})
        return self

    def forward(self, *args: Any, **keywords: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no forward(...)")

    # -- attributes
    def __getattribute__(self, name: str) -> Any:
        value = object.__getattribute__(self, name)
        return value.read() if isinstance(value, Cell) else value

    def __setattr__(self, name: str, value: Any) -> None:
        fields = object.__getattribute__(self, "__dict__")
        old = fields.get(name)
        if _writes(old, value):
            if not old.name:
                old.name = name
            old.write(value)
            return
        if name != "_training":
            self._refuse_static_change(name)
        value = _wrap(value, f"{type(self).__name__}.{name}")
        if isinstance(value, Cell) and not value.name:
            value.name = name
        structural = _is_structure(value) or _is_structure(old) or name in fields
        fields[name] = value
        if structural:
            touched()

    def __delattr__(self, name: str) -> None:
        self._refuse_static_change(name)
        object.__delattr__(self, name)
        touched()

    def _refuse_static_change(self, name: str) -> None:
        frame, born = interp.current(), object.__getattribute__(self, "_born")
        if not frame.allows_static_change(lambda f: f is born):
            raise StateError(
                f"{type(self).__name__}.{name} is static and cannot change inside {frame.kind}; "
                "hold it in nn.Buffer, or change it outside"
            )

    # -- trees
    def _entries(self) -> Iterator[tuple[str, Any]]:
        return ((k, v) for k, v in object.__getattribute__(self, "__dict__").items() if k[0] != "_")

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
        """Training mode for this module and all below; returns it."""
        if interp.current() is not interp.BASE:
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
        if cache.get("epoch") != epoch() or key not in cache:
            join = lambda p: f"{base}{'' if base[-1] == ':' else '.'}{p}" if base and p else base or p
            cache.update({"epoch": epoch(), key: {id(m): join(p) for p, m in self.modules().items()}})
        return cache[key]

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


def _is_structure(value: Any) -> bool:
    return isinstance(value, Cell | Module | list | tuple | dict)


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
        entries = enumerate(value.raw() if isinstance(value, _List | _Tuple) else value)
    elif isinstance(value, dict):
        entries = value.raw() if isinstance(value, _Dict) else value.items()
    else:
        return
    for name, entry in entries:
        if isinstance(entry, Cell | Module | list | tuple | dict):
            yield from _named(f"{path}.{name}" if path else str(name), entry, kind, above)


def _set_mode(module: Module, mode: bool) -> None:
    changed = False
    for m in module.modules().values():
        if object.__getattribute__(m, "_training") != mode:
            object.__setattr__(m, "_training", mode)
            changed = True
            for hook in _MODE_HOOKS:
                hook(m, mode)
    if changed:
        touched()


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
                object.__setattr__(m, "_training", was)
        touched()


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
    memo: dict[int, Any] = {}

    def duplicate(value: Any) -> Any:
        if id(value) in memo:
            return memo[id(value)]
        if isinstance(value, Cell):
            tensor = value.read()
            new: Any = Param(tensor, requires_grad=value._requires_grad) if isinstance(value, Param) else Buffer(tensor, join=value.join)
            new.name = value.name
        elif isinstance(value, Module):
            new = type(value).__new__(type(value))
            memo[id(value)] = new
            object.__setattr__(new, "_training", value.training)
            for name, entry in object.__getattribute__(value, "__dict__").items():
                if name not in ("_training", "_born", "_cache"):
                    object.__getattribute__(new, "__dict__")[name] = duplicate(entry)
            return new
        elif isinstance(value, _List):
            new = _List(duplicate(v) for v in value.raw())
        elif isinstance(value, _Dict):
            new = _Dict()
            for k, v in value.raw():
                dict.__setitem__(new, k, duplicate(v))
        elif type(value) is _Tuple:
            new = _Tuple(duplicate(v) for v in value.raw())
        elif type(value) is tuple:
            new = tuple(duplicate(v) for v in value)
        else:
            return value
        memo[id(value)] = new
        return new

    return duplicate(module)
