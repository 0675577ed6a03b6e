"""The loop IR, programs: pure nests over named buffers, and the kernels that may claim them.

A ``Program`` is what stands between the graph and a target's language: buffers, and steps in order. A step is a
``Nest`` (derived loops; all fusion happens on these) or a ``KernelCall`` (a hand-written kernel with its ports
filled). Meaning of a nest, for every point of ``free``: fold each ``Acc`` over ``red`` in ``order``, then store
each ``Out``. Nothing here knows C, threads or vectors; ``evaluate`` is the meaning in NumPy.

Orders of a reduction (design §5; they belong to the op, tuning never changes them):
``sequence``  the red loops as nested, one term after another (a contraction: one fma a term);
``lanes16``   the innermost red loop in 16 virtual lanes (term i to lane i % 16), then the fixed tree
              8, 4, 2, 1 (lane j takes lane j + 8, ...); outer red loops run inside each lane, in sequence;
``chunks8``   the *outermost* red loops, flattened to rows 0..n-1, in 8 chunks of ceil(n/8) rows, each in blocks of
              32 rows in sequence from the identity, blocks added in order from the identity, then chunks in order.
              A shorter or empty chunk stays in its place.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from shohin.core import loop
from shohin.core.axes import Shape
from shohin.core.dtypes import DType, short
from shohin.core.errors import IRError
from shohin.core.loop import Expr

ORDERS = ("sequence", "lanes16", "chunks8")
COMBINERS = ("add", "mul", "max", "min", "or", "and", "fma", "moments")


@dataclass(frozen=True)
class Loop:
    name: str
    extent: int


@dataclass(frozen=True)
class Buffer:
    """``role``: input, output, const, temp, kept (``Program.once``). ``alias``: this output is written over that input (donated) in the end."""

    name: str
    shape: Shape
    dtype: DType
    role: str
    alias: str | None = None

    @property
    def size(self) -> int:
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize


@dataclass(frozen=True)
class Acc:
    """``name = combiner(name, terms)`` from ``init``; several names fold together (argmax: value and index).

    ``fma``: terms are (a, b), the step is ``fma(a, b, acc)``. Otherwise one term a name; with several names the
    first decides: when its term wins strictly, all names take their terms (``max``/``min`` only).

    ``moments``: names are (mean, m2) of one term, m2 the sum of its squared distances from the mean; ``chunks8`` only. A
    block's mean is its sum over its length, its m2 a second walk of fmas; blocks, then chunks, join as in Chan et al. 1979:
    with n and m terms, share = m / (n + m), d = mean' - mean: mean + d share, (m2 + m2') + (d d) (n share).
    """

    names: tuple[str, ...]
    combiner: str
    init: tuple[Expr, ...]
    terms: tuple[Expr, ...]
    dtypes: tuple[DType, ...]


@dataclass(frozen=True)
class Out:
    """``buffer[index] = value`` (``accumulate``: the combiner with what is there, in loop order)."""

    buffer: str
    index: tuple[Expr, ...]
    value: Expr
    accumulate: str | None = None


@dataclass(frozen=True)
class Nest:
    free: tuple[Loop, ...]
    red: tuple[Loop, ...]
    accs: tuple[Acc, ...]
    outs: tuple[Out, ...]
    order: str
    place: str

    def __str__(self) -> str:
        lines = [f"nest {self.place}  order={self.order}"]
        pad = "  "
        if self.free:
            lines.append(pad + "for " + ", ".join(f"{v.name}<{v.extent}" for v in self.free))
        for acc in self.accs:
            over = ", ".join(f"{v.name}<{v.extent}" for v in self.red)
            for name, dtype, init in zip(acc.names, acc.dtypes, acc.init, strict=True):
                lines.append(f"{pad}  {name}: {short(dtype)} = {init}")
            terms = ", ".join(map(str, acc.terms))
            lines.append(f"{pad}  {', '.join(acc.names)} {acc.combiner}= {terms}  over {over}")
        for out in self.outs:
            mode = f" {out.accumulate}=" if out.accumulate else " ="
            lines.append(f"{pad}  {out.buffer}[{', '.join(map(str, out.index))}]{mode} {out.value}")
        return "\n".join(lines)


@dataclass(frozen=True)
class Port:
    """Where fusion enters a kernel (ir.md): a loop-IR expression over ``params`` (loop.Var, loop.Name) that may load
    any buffer. Which params exist, and how often the port is evaluated, is said by the kernel's record. ``index``, of an
    epilogue: the result's coordinates, where its value is stored; what is read only there may be written over."""

    name: str
    expr: Expr
    index: tuple[Expr, ...] = ()


@dataclass(frozen=True)
class KernelCall:
    """A kernel (``kernels/``) at work: ``operands`` and ``results`` are buffer names in the op's order.

    Nests that it does on the way, row by row (a row: all dims but the last): ``staged`` ones make an operand that lies
    nowhere in memory, in scratch, just before it is read; ``folds`` are reductions over its result's rows in ``chunks8``,
    done while those rows are in cache. The meaning is that of the nests before and after the kernel, and so are the bits.
    ``storage``: the attributes of the storage op that unpacks its weights from constants, so that a kernel can store them as it does.
    """

    kernel: str
    operands: tuple[str, ...]
    results: tuple[str, ...]
    attrs: Mapping[str, Any]
    ports: tuple[Port, ...]
    place: str
    staged: tuple[Nest, ...] = ()
    folds: tuple[Nest, ...] = ()
    storage: Mapping[str, Any] | None = None

    def __str__(self) -> str:
        ports = "".join(f"\n    {p.name}: {p.expr}" for p in self.ports)
        nests = "".join(f"\n    {word} {n}".replace("\n", "\n    ") for word, group in (("load", self.staged), ("statistic", self.folds)) for n in group)
        return f"kernel {self.kernel} {self.place}\n    {', '.join(self.results)} = ({', '.join(self.operands)}) {dict(self.attrs)}{ports}{nests}"


@dataclass(frozen=True)
class Jump:
    """Go on at step ``to`` if the bool in buffer ``flag`` is ``when`` (always without a flag): loops and branches of whole
    steps. A jump backwards closes a loop; values that live around it keep their memory through the loop."""

    to: int
    flag: str | None
    when: bool
    place: str

    def __str__(self) -> str:
        return f"jump to {self.to}" + ("" if self.flag is None else f" if {'' if self.when else 'not '}{self.flag}")


Step = Nest | KernelCall | Jump


@dataclass(frozen=True)
class Program:
    """``data`` holds the constants' arrays by buffer name. The first ``once`` steps read only what stays between runs (constants, and
    inputs that are said to), and what they write (role ``kept``) stays too: they are run again only when such an input changes.
    ``declined``: which kernels left a place to derived loops, and why."""

    buffers: tuple[Buffer, ...]
    steps: tuple[Step, ...]
    data: Mapping[str, np.ndarray[Any, Any]]
    declined: Mapping[str, str] = field(default_factory=dict[str, str])
    once: int = 0

    def buffer(self, name: str) -> Buffer:
        return self._table()[name]

    def _table(self) -> dict[str, Buffer]:
        return {b.name: b for b in self.buffers}

    def __str__(self) -> str:
        head = [f"{b.role} {b.name}: {short(b.dtype)}[{','.join(map(str, b.shape))}]" + (f" over {b.alias}" if b.alias else "") for b in self.buffers]
        return "\n".join([*head, *map(str, self.steps)])


def verify_nest(nest: Nest, buffers: Mapping[str, Buffer]) -> Nest:
    """Indices fit ranks, every name is bound, dtypes of stores match; returns the nest."""
    where = f"nest {nest.place}"
    if nest.order not in ORDERS:
        raise IRError(f"{where}: order {nest.order!r} is none of {', '.join(ORDERS)}")
    bound = {v.name for v in (*nest.free, *nest.red)}
    if len(bound) != len(nest.free) + len(nest.red):
        raise IRError(f"{where}: two loops have one name")
    accs = {n for acc in nest.accs for n in acc.names}

    def check(expr: Expr, names: set[str]) -> None:
        for e in loop.walk(expr):
            if isinstance(e, loop.Var) and e.name not in bound:
                raise IRError(f"{where}: index {e.name} is not a loop of this nest")
            if isinstance(e, loop.Name) and e.name not in names:
                raise IRError(f"{where}: name {e.name} is not bound")
            if isinstance(e, loop.Load):
                if e.buffer not in buffers:
                    raise IRError(f"{where}: buffer {e.buffer} is not known")
                if len(e.index) != len(buffers[e.buffer].shape):
                    raise IRError(f"{where}: {e.buffer} has {len(buffers[e.buffer].shape)} dims, {len(e.index)} indices")

    for acc in nest.accs:
        if acc.combiner not in COMBINERS:
            raise IRError(f"{where}: combiner {acc.combiner!r} is none of {', '.join(COMBINERS)}")
        if acc.combiner == "moments" and (len(acc.names) != 2 or nest.order != "chunks8"):
            raise IRError(f"{where}: moments fold one term into (mean, m2), in the order chunks8")
        for e in (*acc.init, *acc.terms):
            check(e, set())
    for out in nest.outs:
        for e in (*out.index, out.value):
            check(e, accs)
        if out.buffer not in buffers or len(out.index) != len(buffers[out.buffer].shape):
            raise IRError(f"{where}: store to {out.buffer} does not fit it")
        if out.value.dtype != buffers[out.buffer].dtype:
            raise IRError(f"{where}: {out.value.dtype.name} is stored to {out.buffer}, which is {buffers[out.buffer].dtype.name}")
    return nest


def evaluate(nest: Nest, arrays: dict[str, np.ndarray[Any, Any]]) -> None:
    """Run a nest point by point (small sizes only): the oracle of every emitter."""
    for point in itertools.product(*(range(v.extent) for v in nest.free)):
        env: dict[str, Any] = {**arrays, **{v.name: np.int32(i) for v, i in zip(nest.free, point, strict=True)}}
        for acc in nest.accs:
            env.update(_fold(acc, nest, env))
        for out in nest.outs:
            where = tuple(int(loop.evaluate(i, env)) for i in out.index)
            value = loop.evaluate(out.value, env)
            if out.accumulate:
                value = _combine(out.accumulate, arrays[out.buffer][where], value)
            arrays[out.buffer][where] = value


def _combine(combiner: str, a: Any, b: Any) -> Any:
    with np.errstate(all="ignore"):
        match combiner:
            case "add":
                return a + b
            case "mul":
                return a * b
            case "max":
                return b if b > a or b != b else a
            case "min":
                return b if b < a or b != b else a
            case "or":
                return a | b
            case "and":
                return a & b
            case _:
                raise IRError(f"combiner {combiner} takes other terms")


def _fold(acc: Acc, nest: Nest, env: Mapping[str, Any]) -> dict[str, Any]:
    def step(state: list[Any], point: tuple[int, ...]) -> list[Any]:
        local = {**env, **_at(nest.red, point)}
        terms = [loop.evaluate(t, local) for t in acc.terms]
        if acc.combiner == "fma":
            x, y = (np.float64(t) for t in terms)
            return [np.asarray(x * y + np.float64(state[0])).astype(acc.dtypes[0])]
        if len(acc.names) == 1:
            return [np.asarray(_combine(acc.combiner, state[0], terms[0])).astype(acc.dtypes[0])]
        wins = terms[0] > state[0] if acc.combiner == "max" else terms[0] < state[0]
        return terms if wins or (terms[0] != terms[0] and state[0] == state[0]) else state

    def init() -> list[Any]:
        return [loop.evaluate(e, env) for e in acc.init]

    ranges = [range(v.extent) for v in nest.red]
    if acc.combiner == "moments":
        points = list(itertools.product(*ranges))
        return dict(zip(acc.names, _moments([loop.evaluate(acc.terms[0], {**env, **_at(nest.red, p)}) for p in points], acc.dtypes[0]), strict=True))
    if nest.order == "sequence" or len(acc.names) > 1:
        state = init()
        for point in itertools.product(*ranges):
            state = step(state, point)
    elif nest.order == "lanes16":
        lanes = [init() for _ in range(16)]
        for point in itertools.product(*ranges):
            lanes[point[-1] % 16] = step(lanes[point[-1] % 16], point)
        width = 8
        while width:
            for j in range(width):
                lanes[j] = [np.asarray(_combine("add" if acc.combiner == "fma" else acc.combiner, lanes[j][0], lanes[j + width][0])).astype(acc.dtypes[0])]
            width //= 2
        state = lanes[0]
    else:
        points = list(itertools.product(*ranges))
        size = -(-len(points) // 8)
        state = init()
        for c in range(8):
            chunk = points[c * size : (c + 1) * size]
            total = init()
            for b in range(0, len(chunk), 32):
                part = init()
                for point in chunk[b : b + 32]:
                    part = step(part, point)
                total = [np.asarray(_combine("add" if acc.combiner == "fma" else acc.combiner, total[0], part[0])).astype(acc.dtypes[0])]
            state = [np.asarray(_combine("add" if acc.combiner == "fma" else acc.combiner, state[0], total[0])).astype(acc.dtypes[0])]
    return dict(zip(acc.names, state, strict=True))


def _at(loops: tuple[Loop, ...], point: tuple[int, ...]) -> dict[str, Any]:
    return {v.name: np.int32(i) for v, i in zip(loops, point, strict=True)}


def _moments(terms: list[Any], dtype: DType) -> tuple[Any, Any]:
    """Mean and m2 of all terms, joined as ``Acc`` says."""
    kind = np.dtype(dtype)
    terms = [kind.type(t) for t in terms]

    def block(part: list[Any]) -> tuple[int, Any, Any]:
        total = kind.type(0)
        for t in part:
            total = total + t
        mean, m2 = total / kind.type(len(part)), kind.type(0)
        for t in part:
            d = np.float64(t - mean)
            m2 = np.asarray(d * d + np.float64(m2)).astype(kind)[()]
        return len(part), mean, m2

    def join(a: tuple[int, Any, Any], b: tuple[int, Any, Any]) -> tuple[int, Any, Any]:
        (n, mean, m2), (m, other, more) = a, b
        share, d = kind.type(m) / kind.type(n + m), other - mean
        return n + m, mean + d * share, (m2 + more) + (d * d) * (kind.type(n) * share)

    zero, size = (0, kind.type(0), kind.type(0)), -(-len(terms) // 8)
    state = zero
    with np.errstate(all="ignore"):
        for c in range(8):
            chunk, part = terms[c * size : (c + 1) * size], zero
            for b in range(0, len(chunk), 32):
                part = join(part, block(chunk[b : b + 32]))
            state = join(state, part) if terms else state
    return state[1], state[2]
