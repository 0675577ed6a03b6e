"""``Imported``: a network that was brought in. Its layers stand at the origin's places; between them run plain functions.

What runs is a ``Program``: steps as frozen data. Two programs, for ``FEW`` numbers of examples, hold for any number:
whatever whole number differs between them grows with the number of examples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any

from shohin.core import interp
from shohin.core.dtypes import DType
from shohin.core.errors import ForeignError, ShapeError
from shohin.core.module import Module
from shohin.core.tensor import as_tensor

Shape = tuple[int, ...]
FEW = 11, 13
"""Numbers of examples that are seldom the extent of anything else."""


@dataclass(frozen=True)
class Path:
    """A layer or cell of the network, as a step names it."""

    path: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Step:
    """``call(*inputs, **attrs)``: a function, or a layer by its path. An input is the number of a value, a cell's path, a
    Python number in ``Literal``, or None. The results in order (trees flattened) are the values ``outputs``."""

    call: Callable[..., Any] | Path
    inputs: tuple[Any, ...]
    attrs: Mapping[str, Any]
    outputs: tuple[int, ...]
    place: str
    pack: int | None = None
    """From this input on they are one argument, a tuple."""


@dataclass(frozen=True)
class Literal:
    value: Any


@dataclass(frozen=True, kw_only=True, eq=False)
class Program:
    """Inputs by name with shape and dtype; they are the first values. ``outputs``: values. ``leads``: of each input and each
    output the origin's dim that stands first here, 0 but where examples were put first."""

    names: tuple[str, ...]
    shapes: tuple[Shape, ...]
    dtypes: tuple[DType, ...]
    steps: tuple[Step, ...]
    outputs: tuple[int, ...]
    leads: tuple[tuple[int, ...], tuple[int, ...]]

    def live(self) -> Program:
        """Without steps that no output needs."""
        needed, kept = set(self.outputs), []
        for step in reversed(self.steps):
            if needed.intersection(step.outputs):
                kept.append(step)
                needed.update(v for v in step.inputs if type(v) is int)
        return replace(self, steps=tuple(reversed(kept)))


def between(first: Program, second: Program, n: int) -> Program:
    """The program for ``n`` examples from those for ``FEW`` numbers.

    Raises:
        ForeignError: they differ in more than whole numbers, or by what is no whole number an example.
    """

    def whole(a: int, b: int) -> int:
        each, rest = divmod(b - a, FEW[1] - FEW[0])
        if rest:
            raise ForeignError(f"the programs for {FEW[0]} and {FEW[1]} examples have {a} and {b}")
        return a + each * (n - FEW[0])

    return _merged(first, second, whole)


def check_same(a: Program, b: Program) -> None:
    """A ``ForeignError`` unless two programs are the same."""

    def whole(a: int, b: int) -> int:
        if a != b:
            raise ForeignError(f"the programs have {a} and {b}")
        return a

    _merged(a, b, whole)


def _merged(first: Program, second: Program, whole: Callable[[int, int], int]) -> Program:
    """One program of two, by what ``whole`` makes of their whole numbers; all else must be the same."""

    def number(a: Any, b: Any) -> Any:
        if type(a) is int and type(b) is int:
            return whole(a, b)
        if isinstance(a, Literal) and isinstance(b, Literal):
            return Literal(number(a.value, b.value))
        if isinstance(a, tuple | list) and type(a) is type(b) and len(a) == len(b):
            return type(a)(map(number, a, b))
        if isinstance(a, Mapping) and isinstance(b, Mapping) and list(a) == list(b):
            return {k: number(v, b[k]) for k, v in a.items()}
        if a is b or (type(a) is type(b) and a == b):
            return a
        raise ForeignError(f"the programs have {a!r} and {b!r}")

    def step(a: Step, b: Step) -> Step:
        if a.call != b.call or a.outputs != b.outputs or [type(v) for v in a.inputs] != [type(v) for v in b.inputs]:
            raise ForeignError(f"the programs differ at {a.place}")
        inputs = tuple(v if type(v) is int else number(v, w) for v, w in zip(a.inputs, b.inputs))
        if any(type(v) is int and v != w for v, w in zip(a.inputs, b.inputs)):
            raise ForeignError(f"the programs differ at {a.place}")
        return replace(a, inputs=inputs, attrs=number(dict(a.attrs), dict(b.attrs)))

    if len(first.steps) != len(second.steps) or (first.outputs, first.leads) != (second.outputs, second.leads):
        raise ForeignError("the programs have other steps")
    shapes = number(first.shapes, second.shapes)
    return replace(first, shapes=shapes, steps=tuple(map(step, first.steps, second.steps)))


@dataclass(eq=False)
class Report:
    """What ``net.imported`` says: where the network comes from, what it holds, how near it is to its origin."""

    origin: str
    facts: dict[str, str] = field(default_factory=dict)
    difference: float | None = None

    def __str__(self) -> str:
        width = max(map(len, self.facts), default=0)
        return "\n".join([self.origin, *(f"  {k:<{width}}  {v}" for k, v in self.facts.items())])

    __repr__ = __str__


class Function(Module):
    """A place of functions without weights: what plans and reports name. The network calls the functions itself."""

    unkeyed = frozenset({"_calls"})

    def __init__(self) -> None:
        self._calls: tuple[str, ...] = ()

    def add(self, name: str) -> None:
        if name not in self._calls:
            self._calls = (*self._calls, name)

    def extra_repr(self) -> str:
        return ", ".join(n.strip("_") for n in self._calls)


class Imported(Module):
    """A network of another framework: an ordinary module, in evaluation mode until ``train()``.

    Inputs and outputs have the origin's shapes and order of dims; a network with one output returns it, else a tuple.
    ``imported`` reports where it comes from and how near its results are to the origin's.
    """

    unkeyed = frozenset({"_programs", "_about"})

    def __init__(self) -> None:
        self._programs: tuple[Program, ...] = ()
        self._about = Report("")

    @property
    def imported(self) -> Report:
        return self._about

    @property
    def input_shapes(self) -> list[Shape]:
        """Shape of one example, by input."""
        return [s[1:] for s in self._programs[0].shapes]

    def program(self, shapes: Sequence[Shape]) -> Program:
        """The steps for inputs of these shapes.

        Raises:
            ShapeError: the network was not made for them.
        """
        first = self._programs[0]
        if len(shapes) != len(first.shapes):
            raise ShapeError(f"the network takes {len(first.shapes)} inputs ({', '.join(first.names)}), got {len(shapes)}")
        if list(shapes) == list(first.shapes):
            return first
        if len(self._programs) == 2:
            n = _examples(first.shapes, self._programs[1].shapes, shapes)
            if n is not None:
                cache, key = object.__getattribute__(self, "_cache"), ("examples", n)
                made = cache.get(key) or cache.setdefault(key, between(*self._programs, n))
                if list(made.shapes) == list(shapes):
                    return made
        raise ShapeError(
            f"the network takes {self._takes()}, got {', '.join(map(str, shapes))}; other shapes: import it again with shape="
        )

    def _takes(self) -> str:
        first, last = self._programs[0], self._programs[-1]
        dims = lambda a, b: ", ".join(str(m) if m == n else "n" for m, n in zip(a, b))
        return ", ".join(
            f"{name} ({dims(a, b)})" for name, a, b in zip(first.names, first.shapes, last.shapes)
        )  # fmt: skip

    def forward(self, *inputs: Any) -> Any:
        tensors = [as_tensor(x) for x in inputs]
        program = self.program([t.shape for t in tensors])
        for name, t, dtype in zip(program.names, tensors, program.dtypes):
            if t.dtype != dtype:
                raise ShapeError(f"the network's input {name} is {t.aval}, expected {dtype.name}; write x.astype(sh.{dtype.name})")
        base = interp.place()
        values: dict[int, Any] = dict(enumerate(tensors))
        for step in program.steps:
            args = [self._value(values, v) for v in step.inputs]
            if step.pack is not None:
                args = [*args[: step.pack], tuple(args[step.pack :])]
            if isinstance(step.call, Path):
                found = self._find(step.call.path)(*args, **step.attrs)
            else:
                with interp.at(_join(base, step.place)):
                    found = step.call(*args, **step.attrs)
            values.update(zip(step.outputs, leaves(found)))
        results = tuple(values[k] for k in program.outputs)
        return results[0] if len(results) == 1 else results

    def _value(self, values: Mapping[int, Any], v: Any) -> Any:
        if type(v) is int:
            return values[v]
        return self._find(v.path) if isinstance(v, Path) else v.value if isinstance(v, Literal) else v

    def _find(self, path: str) -> Any:
        return reduce(getattr, path.split("."), self)

    def extra_repr(self) -> str:
        return ""


def _join(base: str, path: str) -> str:
    return f"{base}{'' if base[-1] == ':' else '.'}{path}" if base and path else base or path


def leaves(found: Any) -> list[Any]:
    """Tensors of nested tuples and lists, in order."""
    return [leaf for part in found for leaf in leaves(part)] if isinstance(found, tuple | list) else [found]


def _examples(first: Sequence[Shape], second: Sequence[Shape], shapes: Sequence[Shape]) -> int | None:
    """How many examples shapes have: the extent where the programs' inputs differ."""
    return next((k for a, b, s in zip(first, second, shapes) for m, n, k in zip(a, b, s) if n != m and k > 0), None)


__all__ = ["Function", "Imported", "Literal", "Path", "Program", "Report", "Step", "between", "check_same", "leaves"]
