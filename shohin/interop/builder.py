"""The builder: foreign nodes in, one after another; layers, cells and steps of an ``Imported`` network out.

A value is a constant (folded as it is met, by the function that would run it) or the result of a step, with the order in
which its dims are stored. Words (``words/``) ask for the order that suits them; ``to`` moves a value only then, and once.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from shohin.core import dtypes
from shohin.core.cells import Buffer, Cell, Param
from shohin.core.dtypes import DType
from shohin.core.errors import ForeignError, ShohinError
from shohin.core.module import Module
from shohin.core.op import Aval
from shohin.core.tensor import Tensor, as_tensor
from shohin.core.trace import stage
from shohin.interop import layout
from shohin.interop.foreign import Foreign, Node, walk
from shohin.interop.layout import Order, Shape
from shohin.interop.naming import Paths, path_of
from shohin.interop.network import Function, Imported, Literal, Path, Program, Step, leaves
from shohin.ops import move, random

Array = np.ndarray[Any, Any]
MOST_BYTES = 1 << 31
"""Of one value: more is taken for a damaged file."""
MOST_FOLDED = 1 << 28
"""Bytes of a constant that is computed while importing."""


class NeedsConstant(ForeignError):
    """An operand must be known when the network is imported; ``name`` is the origin's name of it."""

    def __init__(self, what: str, name: str) -> None:
        super().__init__(
            f"{what} ({name!r}) depends on the network's inputs, and has to be known when it is imported; "
            f"if an input decides it, give its value: fixed={{'<input>': value}}"
        )
        self.name = name


@dataclass(frozen=True, kw_only=True, eq=False)
class Value:
    """What stands for a foreign value: its shape there, and either data (in the origin's order) or the number of a step's
    result and the order in which that is stored. ``name``: the origin's, of a constant that the file holds; ``grid``: the scales of one
    that it holds as integers around zero, as they broadcast to the data."""

    shape: Shape
    dtype: DType
    order: Order
    key: int = -1
    data: Array | None = None
    name: str = ""
    grid: Array | None = None

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return prod(self.shape)


Table = Mapping[str, Callable[..., Any]]


class Builder:
    """``table`` has a rule for each operator: ``rule(builder, node, *operands)`` gives a value, or a tuple of them.

    ``batch``: how many examples this program is for, and how many the origin has written down (0: it leaves it open).
    ``lead``: the dim of inputs that counts the examples, which stands first here, of outputs too; None: all as the origin has it.
    """

    def __init__(self, foreign: Foreign, table: Table, shapes: Mapping[str, Shape], fixed: Mapping[str, Array], net: Imported,
                 batch: tuple[int, int], lead: Mapping[str, int] | None = None) -> None:  # fmt: skip
        self.lead, self.foreign, self.table, self.net, self.paths = lead, foreign, table, net, Paths()
        self.version, self.batch = foreign.version, batch
        self.values: dict[str, Value] = {}
        self.steps: list[Step] = []
        self.made: dict[int, Step] = {}
        self.stored: dict[int, Shape] = {}
        self.readers = Counter(n for node in walk(foreign) for n in node.inputs) + Counter(foreign.outputs)
        self.problems: list[str] = []
        self.layers: dict[Any, str] = {}
        self.calls: Counter[str] = Counter()
        self.open: dict[str, tuple[Any, tuple[str, ...]]] = {}
        self.reshaped: dict[tuple[int, Shape, Order], Value] = {}
        self._lost: set[str] = set()
        self._stands: dict[str, str] = {}
        self._moved: dict[tuple[int, Order], Value] = {}
        self._cells: dict[Any, Path] = {}
        self._place = ""
        self._count = 0
        given = [i for i in foreign.inputs if i.name not in fixed]
        self._names = tuple(i.name for i in given)
        for i in given:
            shape = shapes[i.name]
            order = layout.led(len(shape), (lead or {}).get(i.name, 0))
            self.values[i.name] = Value(shape=shape, dtype=i.dtype, order=order, key=self._new())
            self.stored[self.values[i.name].key] = layout.stored(shape, order)
        self._inputs = [self.values[n] for n in self._names]
        for name, data in {**foreign.constants, **fixed}.items():
            self.values[name] = constant(data, name)

    # ------------------------------------------------------------------------------------------------ the graph

    def build(self) -> Program:
        """All steps of the graph.

        Raises:
            ForeignError: all that is missing or refused, each with its place.
        """
        self.run(self.foreign.nodes)
        if self.problems:
            raise ForeignError(f"the network cannot be imported; {len(self.problems)} of its operators:\n  " + "\n  ".join(self.problems))
        with self.at("output"):
            found = [self.values[n] for n in self.foreign.outputs]
            leads = [self._lead(v) for v in found]
            outputs = [self._dynamic(self.lay(v, layout.led(v.rank, d))) for v, d in zip(found, leads)]
        program = Program(
            names=self._names, shapes=tuple(self.stored[v.key] for v in self._inputs), dtypes=tuple(v.dtype for v in self._inputs),
            steps=tuple(self.steps), outputs=tuple(v.key for v in outputs),
            leads=(tuple((self.lead or {}).get(n, 0) for n in self._names), tuple(leads)),
        ).live()  # fmt: skip
        return replace(program, steps=tuple(replace(s, place=self._stand(s)) for s in program.steps))

    def _lead(self, v: Value) -> int:
        """The dim of an output that counts the examples, where they shall be first."""
        n = self.batch[0]
        return v.shape.index(n) if self.lead is not None and v.shape[:1] != (n,) and v.shape.count(n) == 1 else 0

    def _stand(self, step: Step) -> str:
        """Where a function stands: at a module's path, so that plans can name it; what has none gets a ``Function``."""
        if isinstance(step.call, Path) or not step.place:
            return step.place
        if step.place not in self._stands:
            path = self.paths.above(step.place)
            if not isinstance(self._there(path), Module):
                path = self.paths.give(path, path)
                self.put(path, Function)
            self._stands[step.place] = path
        path = self._stands[step.place]
        found = self._there(path)
        if isinstance(found, Function):
            found.add(step.call.__name__)
        return path

    def run(self, nodes: Iterable[Node]) -> None:
        for node in nodes:
            if any(n in self._lost for n in node.inputs):
                self._lost.update(node.outputs)
                continue
            try:
                rule = self.table.get(node.op)
                if rule is None:
                    raise ForeignError("there is no such operator here")
                with self.at(node.place or path_of(node.outputs[0] if node.outputs else "")):
                    found = rule(self, node, *(self.values[n] if n else None for n in node.inputs))
                for name, value in zip(node.outputs, found if isinstance(found, tuple) else (found,)):
                    self.values[name] = value
                if isinstance(found, tuple) and any(node.outputs[len(found) :]):
                    raise ForeignError(f"result {len(found)} of it has no counterpart here")
            except (ShohinError, ValueError, TypeError, IndexError, KeyError, OverflowError, ZeroDivisionError) as error:
                self.fail(node, error)

    def fail(self, node: Node, error: Exception) -> None:
        said = str(error) if isinstance(error, ShohinError) else f"{type(error).__name__}: {error}"
        self.problems.append(f"{node}: {said}")
        self._lost.update(node.outputs)

    def inline(self, branch: Foreign) -> tuple[Value, ...]:
        """The nodes of a branch as if they stood here."""
        self.values.update({name: constant(data, name) for name, data in branch.constants.items()})
        self.run(branch.nodes)
        lost = [n for n in branch.outputs if n in self._lost]
        if lost:
            raise ForeignError(f"its branch cannot be imported ({', '.join(lost)})")
        return tuple(self.values[n] for n in branch.outputs)

    @contextmanager
    def at(self, place: str) -> Iterator[None]:
        before, self._place = self._place, place
        try:
            yield
        finally:
            self._place = before

    @property
    def place(self) -> str:
        return self._place

    # ------------------------------------------------------------------------------------------------- values

    def _new(self) -> int:
        self._count += 1
        return self._count - 1

    def number(self, v: Value | None, what: str) -> Any:
        """The one number of a constant."""
        data = self.array(v, what)
        if data.size != 1:
            raise ForeignError(f"{what} has shape {data.shape}, expected one number")
        return data.reshape(()).item()

    def array(self, v: Value | None, what: str) -> Array:
        """The data of a constant.

        Raises:
            NeedsConstant: it depends on the network's inputs.
        """
        if v is None:
            raise ForeignError(f"{what} is left out")
        if v.data is None:
            raise NeedsConstant(what, next((n for n, w in self.values.items() if w is v), what))
        return v.data

    def ints(self, v: Value | None, what: str) -> tuple[int, ...]:
        data = self.array(v, what).reshape(-1)
        if data.size > 1 << 16:
            raise ForeignError(f"{what} has {data.size} numbers, which is taken for a damaged file")
        return tuple(int(n) for n in data)

    def sole(self, name: str) -> bool:
        """Whether a foreign value has one reader."""
        return self.readers[name] == 1

    def to(self, v: Value, order: Order) -> Value:
        """The value stored in ``order``; at most one step for each value and order."""
        if v.data is not None or v.order == order:
            return v
        known = self._moved.get((v.key, order))
        if known is None:
            if layout.same_memory(v.shape, v.order, order):
                known = self.emit(reshape, [v], [order], {"shape": layout.opened(layout.stored(v.shape, order), order.index(v.order[-1]))})
            else:
                axes = tuple(v.order.index(d) for d in order)
                known = self.emit(move.permute_dims, [v], [order], {"axes": axes})
            self._moved[v.key, order] = known
        return known

    def plain(self, v: Value) -> Value:
        """The value in the origin's order."""
        return self.to(v, layout.plain(v.rank))

    # -------------------------------------------------------------------------------------------------- steps

    def emit(self, call: Callable[..., Any], inputs: Sequence[Value | int | float | bool | None], orders: Sequence[Order] | Order,
             attrs: Mapping[str, Any] | None = None, *, fold: bool = True) -> Any:  # fmt: skip
        """A step that runs ``call(*inputs, **attrs)``; constants among the inputs have been put in their stored order by
        ``lay``. ``orders``: of the results, as they are stored. Where all is constant, it runs here and now, if it may (``fold``)."""
        of = _each(orders)
        attrs = dict(attrs or {})
        values = [v for v in inputs if isinstance(v, Value)]
        avals = self._avals(call, inputs, attrs)
        if fold and all(v.data is not None for v in values):
            found = self._fold(call, inputs, attrs, avals, of)
        else:
            found = self._step(call, [self._operand(v) for v in inputs], attrs, avals, of)
        return found[0] if len(found) == 1 else found

    def layer(self, path: str, inputs: Sequence[Value | None], orders: Sequence[Order] | Order, pack: int | None = None) -> Any:
        """A step that calls the layer at ``path``; from ``pack`` on the inputs are one argument, a tuple."""
        of = _each(orders)
        call = Path(path)
        self.calls[path] += 1
        layer = self.net._find(path)
        run = layer if pack is None else lambda *args: layer(*args[:pack], args[pack:])
        found = self._step(call, [self._operand(v) for v in inputs], {}, self._avals(run, inputs, {}), of, pack)
        return found[0] if len(found) == 1 else found

    def _step(self, call: Any, inputs: Sequence[Any], attrs: Mapping[str, Any], avals: Sequence[Aval], orders: Sequence[Order], pack: int | None = None) -> tuple[Value, ...]:
        if len(orders) != len(avals):
            raise ForeignError(f"{len(avals)} results, expected {len(orders)}")
        keys = tuple(self._new() for _ in avals)
        step = Step(call=call, inputs=tuple(inputs), attrs=attrs, outputs=keys, place=self._place, pack=pack)
        self.steps.append(step)
        self.made.update(dict.fromkeys(keys, step))
        self.stored.update(zip(keys, (a.shape for a in avals)))
        return tuple(
            Value(shape=layout.foreign(a.shape, o), dtype=a.dtype, order=o, key=k) for a, o, k in zip(avals, orders, keys)
        )  # fmt: skip

    def _fold(self, call: Any, inputs: Sequence[Any], attrs: Mapping[str, Any], avals: Sequence[Aval], orders: Sequence[Order]) -> tuple[Value, ...]:
        if sum(prod(a.shape) * a.dtype.itemsize for a in avals) > MOST_FOLDED:
            raise ForeignError(f"a constant of {avals[0]} would have to be computed, which is taken for a damaged file")
        found = leaves(call(*(as_tensor(v.data) if isinstance(v, Value) else v for v in inputs), **attrs))
        return tuple(constant(np.transpose(t.numpy(), layout.inverse(o))) for t, o in zip(found, orders))

    def _avals(self, call: Callable[..., Any], inputs: Sequence[Any], attrs: Mapping[str, Any]) -> list[Aval]:
        """What the results will be; nothing is computed."""

        def run(*tensors: Tensor) -> list[Tensor]:
            given = iter(tensors)
            return [as_tensor(t) for t in leaves(call(*(next(given) if isinstance(v, Value) else v for v in inputs), **attrs))]

        stored = [Aval(layout.stored(v.shape, v.order), v.dtype) for v in inputs if isinstance(v, Value)]
        staged = stage(run, stored, capture_tensor=lambda t: None)
        found = [v.aval for v in staged.graph.outputs][: len(staged.graph.outputs) - len(staged.writes)]
        for a in found:
            if prod(a.shape) * a.dtype.itemsize > MOST_BYTES * max(*self.batch, 1):
                raise ForeignError(f"a result is {a}, more than {MOST_BYTES >> 20} MB, which is taken for a damaged file")
        return found

    def lay(self, v: Value, order: Order) -> Value:
        """The value as an operand in ``order``: a constant is turned now."""
        if v.data is None:
            return self.to(v, order)
        data = np.array(np.transpose(v.data, order), order="C")
        return Value(shape=data.shape, dtype=v.dtype, order=layout.plain(v.rank), data=data, name=v.name)

    def _operand(self, v: Any) -> Any:
        if not isinstance(v, Value):
            return v if v is None else Literal(v)
        return v.key if v.data is None else self._held(v)

    def _dynamic(self, v: Value) -> Value:
        """An output that is a constant is a step too."""
        if v.data is None:
            return v
        return self._step(_itself, [self._held(v)], {}, [Aval(v.shape, v.dtype)], [v.order])[0]

    def _held(self, v: Value) -> Path | int:
        """A constant as a cell; one that repeats itself for each example as one example's, stretched when it runs."""
        n, of_origin = self.batch
        assert v.data is not None
        if n != of_origin:
            for axis in [d for d, m in enumerate(v.shape) if m == n]:
                one = v.data.take([0], axis)
                if np.array_equal(v.data, np.broadcast_to(one, v.shape), equal_nan=v.dtype.kind == "f"):
                    operands, shape = [self.cell(constant(one, v.name))], {"shape": v.shape}
                    return self._step(move.broadcast_to, operands, shape, [Aval(v.shape, v.dtype)], [layout.plain(v.rank)])[0].key
        return self.cell(v)

    # ------------------------------------------------------------------------------------------ cells and layers

    def cell(self, v: Value) -> Path:
        """A constant as a cell of the network: a ``Param`` if the file holds it and it is of floats, else a ``Buffer``."""
        assert v.data is not None
        key = identity(v)
        if key not in self._cells:
            named = bool(v.name) and v.dtype in dtypes.FLOATING
            kind = Param if named and v.name not in self.foreign.untrained else Buffer
            self._cells[key] = Path(self.paths.give(path_of(v.name) if named else "", f"constants.c{len(self._cells)}"))
            self.put(self._cells[key].path, lambda: kind(v.data), v.data)
        return self._cells[key]

    def _there(self, path: str) -> Any:
        """The module or cell at a path, or None."""
        at: Any = self.net
        for part in path.split("."):
            at = at.__dict__.get(part) if isinstance(at, Module) else None
        return at

    def put(self, path: str, make: Callable[[], Any], data: Array | None = None) -> Any:
        """What ``make`` gives, at ``path`` of the network, unless it stands there since an earlier run."""
        at: Module = self.net
        *above, name = path.split(".")
        for part in above:
            if part not in at.__dict__:
                setattr(at, part, Module())
            at = at.__dict__[part]
        if name not in at.__dict__:
            setattr(at, name, make())
        found = at.__dict__[name]
        if isinstance(found, Cell) and data is not None and not np.array_equal(found.read().numpy(), data, equal_nan=data.dtype.kind == "f"):
            raise ForeignError(f"the constant {path} depends on the number of examples")
        return found

    def take(self, v: Value, name: str, w: Value) -> bool:
        """Give the layer whose result v is the parameter ``name`` that it was made without: whether it took the constant w.

        It does if it was called once and w has a number for each of its channels.
        """
        step = self.made.get(v.key) if v.data is None else None
        if step is None or not isinstance(step.call, Path) or w.data is None:
            return False
        path, channel, shape = step.call.path, v.order[-1], (*(1,) * (v.rank - w.rank), *w.shape)
        key, names = self.open.get(path, (None, ()))
        if name not in names or self.calls[path] != 1 or len(shape) != v.rank or any(n != (v.shape[d] if d == channel else 1) for d, n in enumerate(shape)):
            return False
        layer, data = self.net._find(path), np.array(w.data.reshape(-1), order="C")
        if getattr(layer, name) is None:
            setattr(layer, name, Param(data))
        elif not np.array_equal(getattr(layer, name).numpy(), data):  # of an earlier run on the same network
            return False
        self.open[path] = key, names[names.index(name) + 1 :]
        self.layers.pop(key, None)  # what shares its weights from now on has not this one
        return True

    def new_layer(self, kind: str, key: Any, make: Callable[[], Module], takes: tuple[str, ...] = ()) -> str:
        """The path of a layer: of the one that was made for ``key`` (its weights and settings) before, else a new one.
        ``takes``: parameters that it is made without, in the order in which they may follow (``take``)."""
        if key not in self.layers:
            path = self.paths.give(self._place, f"{kind}_{len(self.layers)}")
            counter = random.default.counter.read()
            self.put(path, make)
            random.default.counter.write(counter)  # what it drew for its first values was not wanted
            self.layers[key] = path
            self.open[path] = key, takes
        return self.layers[key]


def _each(orders: Any) -> Sequence[Order]:
    """One order a result."""
    return orders if orders and not isinstance(orders[0], int) else (orders,)


def constant(data: Any, name: str = "") -> Value:
    array = np.asarray(data)
    if array.dtype not in dtypes.ANY:
        raise ForeignError(f"a constant {name!r} is of dtype {array.dtype}, which has no counterpart here")
    return Value(shape=array.shape, dtype=array.dtype, order=layout.plain(array.ndim), data=array, name=name)


def identity(v: Value | None) -> Any:
    """What tells a constant from others: its name in the file, and what became of its data since."""
    return None if v is None or v.data is None else (v.name, v.shape, v.dtype, hashlib.sha256(v.data.tobytes()).digest())


def renamed(v: Value, shape: Shape, order: Order) -> Value:
    """The same memory as another foreign value."""
    return replace(v, shape=shape, order=order)


def _itself(x: Any) -> Tensor:
    return x + 0 if x.dtype in dtypes.NUMERIC else x


def reshape(x: Any, shape: Shape) -> Tensor:
    """``move.reshape`` as a step calls it."""
    return move.reshape(x, shape)


__all__ = ["Builder", "NeedsConstant", "Table", "Value", "constant", "identity", "renamed", "reshape"]
