"""The builder of one C function: loops, accumulators, stores. No names of the program in its text: equal ones merge.

    static void NAME(void *const *restrict b, char *shared, char *scratch, long chunk, long chunks)

``b`` holds the buffers of this step, in ``Function.slots``. Piece ``chunk`` of ``chunks`` may run on any thread, in
any order; pieces write different places.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from shohin.compiler import ctext, half
from shohin.compiler.ctext import Need, ctype, kind_of, stored
from shohin.compiler.flat import Flat, coefficient
from shohin.compiler.names import Bound, Code
from shohin.compiler.schedule import Schedule
from shohin.compiler.scope import Scope
from shohin.compiler.shape import Fold, Shaped, Store
from shohin.core import dtypes
from shohin.core.dtypes import DType
from shohin.core.loop import Bin, Expr, Fma, Name, Select, cast
from shohin.core.nest import Buffer, Jump, Loop

PLACEHOLDER = "@name@"
Lines = list[str]


@dataclass(frozen=True)
class Function:
    """C text with ``PLACEHOLDER`` for its name, the helpers that it needs, and the buffers that ``b`` holds."""

    text: str
    needs: tuple[Need, ...]
    slots: tuple[str, ...]


@dataclass(frozen=True)
class Piece:
    """A function and into how many pieces it is cut."""

    function: Function
    chunks: int


@dataclass(frozen=True)
class Emitted:
    """A step: phases with a barrier between, bytes of scratch (a thread) and of shared memory, its work."""

    place: str
    phases: tuple[Piece, ...]
    scratch: int
    shared: int
    work: float
    jump: Jump | None = None


def indent(lines: Iterable[str]) -> Lines:
    return ["    " + line for line in lines]


class Builder:
    """One C function in the making."""

    def __init__(self, s: Shaped, plan: Schedule, buffers: Mapping[str, Buffer]):
        self.s, self.plan, self.buffers = s, plan, buffers
        self.slots: dict[str, int] = {}
        self.code = Code(pointer=self.pointer, ranges=s.ranges)
        self.root = Scope(self.code, None, {})
        self.stores: list[tuple[Store, Flat, Expr]] = []
        self.folds: list[tuple[Fold, list[Expr], list[Expr], list[Expr]]] = []
        self.second: list[tuple[Fold, Expr]] = []

    def pointer(self, buffer: str) -> str:
        return f"p{self.slots.setdefault(buffer, len(self.slots))}"

    def function(self, lines: Lines) -> Function:
        written = {s.target.buffer for s in self.s.stores}
        head = [
            f"static void {PLACEHOLDER}(void *const *restrict b, char *shared, char *scratch, long chunk, "
            "long chunks) {"
        ]
        body = ["(void)b; (void)shared; (void)scratch; (void)chunk; (void)chunks;"]
        for name, slot in self.slots.items():
            const = "" if name in written else "const "
            c = stored(self.buffers[name].dtype)
            body.append(f"{const}{c} *const p{slot} = ({const}{c} *)b[{slot}];")
        text = "\n".join([*head, *indent([*body, *self.root.lines, *lines]), "}"])
        return Function(text, tuple(self.code.needs), tuple(self.slots))

    # -------------------------------------------------------------------------------------- loops

    def block(
        self,
        parent: Scope,
        head: str,
        names: Mapping[str, Bound],
        body: Callable[[Scope], Lines],
        pre: Lines | None = None,
        width: int = 0,
        active: int = 0,
    ) -> Lines:
        scope = parent.child(names, width, active, loop=True)
        inner = body(scope)
        return [head + " {", *indent([*(pre or []), *scope.lines, *inner]), "}"]

    def loop(
        self, parent: Scope, v: Loop, body: Callable[[Scope], Lines], lo: str = "0", hi: str = "", pragma: bool = False
    ) -> Lines:
        head = f"for (long {v.name} = {lo}; {v.name} < {hi or self.code.size(v.extent)}; ++{v.name})"
        lines = self.block(parent, head, {v.name: Bound(v.name, "index")}, body)
        return ["SH_INDEPENDENT", *lines] if pragma else lines

    def spread(
        self, scope: Scope, items: list[tuple[str, int]], prefix: int, chunked: bool, body: Callable[[Scope], Lines]
    ) -> Lines:
        """Loops over all ``items``; the first ``prefix`` are one flat range, of which this piece does a part."""
        if not chunked or not items:
            return self.inside(scope, items, body)
        total = 1
        for _, n in items[:prefix]:
            total *= n
        head = [f"const long lo = {total} * chunk / chunks, hi = {total} * (chunk + 1) / chunks;"]
        if prefix == 1:
            name = items[0][0]
            return head + self.block(
                scope,
                f"for (long {name} = lo; {name} < hi; ++{name})",
                {name: Bound(name, "index")},
                lambda inner: self.inside(inner, items[1:], body),
            )
        pre, step = [], total
        for i, (name, n) in enumerate(items[:prefix]):
            step //= n
            text = "p" if step == 1 else f"p / {step}"
            pre.append(f"const long {name} = {text if i == 0 else f'{text} % {n}'};")
        names = {name: Bound(name, "index") for name, _ in items[:prefix]}
        return head + self.block(
            scope, "for (long p = lo; p < hi; ++p)", names, lambda inner: self.inside(inner, items[prefix:], body), pre
        )

    def inside(self, scope: Scope, items: list[tuple[str, int]], body: Callable[[Scope], Lines]) -> Lines:
        if not items:
            return body(scope)
        (name, n), rest = items[0], items[1:]
        return self.loop(scope, Loop(name, n), lambda inner: self.inside(inner, rest, body))

    def reduction(self, scope: Scope, loops: tuple[Loop, ...], body: Callable[[Scope], Lines]) -> Lines:
        return self.inside(scope, [(v.name, v.extent) for v in loops], body)

    # -------------------------------------------------------------------------------------- statements

    def prepare(self) -> None:
        """Tell the printer of every expression, so that shared parts are named once."""
        for f in self.s.folds:
            steps = step_of(f, state(f), list(f.terms))
            merge = merge_of(f)
            if f.combiner == "moments":
                mean, m2 = state(f)
                away = f.terms[0] - mean
                self.second.append((f, self.root.prepare([Fma(away, away, m2)])[0]))
            self.folds.append((f, self.root.prepare(f.init), self.root.prepare(steps), self.root.prepare(merge)))
        for s in self.s.stores:
            value = s.value
            if s.accumulate:
                old = Flat(s.target.buffer, s.target.const, s.target.terms, s.target.type, None, None)
                value = combine(s.accumulate, old, value, s.target.type)
            target, value = self.root.prepare([s.target, value])
            assert isinstance(target, Flat)
            self.stores.append((s, target, value))

    def acc_type(self, scope: Scope, t: DType, vec: bool) -> str:
        if not vec:
            return "int" if t == dtypes.bool_ else ctype(t)
        return scope.vec("i8" if t == dtypes.bool_ else ctext.lane(t))

    def text(self, scope: Scope, e: Expr, vec: bool) -> str:
        """The value as an accumulator holds it (a bool vector is a mask)."""
        v = scope.value(e)
        if not vec:
            return v.text
        return scope.mask(v, 8) if e.dtype == dtypes.bool_ else scope.wide(v, e.dtype)

    def declare(self, scope: Scope, tag: str, vec: bool, names: Mapping[str, Bound]) -> Lines:
        """Accumulators ``a0<tag>`` with their initial values."""
        inner = scope.child(names)
        lines: Lines = []
        for f, init, _, _ in self.folds:
            for n, t, e in zip(f.names, f.dtypes, init):
                lines.append(f"{self.acc_type(inner, t, vec)} {n}{tag} = {self.text(inner, e, vec)};")
        return [*inner.lines, *lines]

    def state_names(self, tag: str, vec: bool) -> dict[str, Bound]:
        kind = "vector" if vec else "scalar"
        return {n: Bound(n + tag, kind) for f, *_ in self.folds for n in f.names}

    def step(self, scope: Scope, tag: str, vec: bool, names: Mapping[str, Bound]) -> Lines:
        """One term into each accumulator."""
        inner = scope.child({**names, **self.state_names(tag, vec)})
        updates: Lines = []
        for f, _, steps, _ in self.folds:
            texts = [self.text(inner, e, vec) for e in steps]
            if len(texts) > 1:  # several names change together
                new = [self.code.fresh("n_") for _ in texts]
                updates += [f"const {self.acc_type(inner, t, vec)} {n} = {x};" for n, t, x in zip(new, f.dtypes, texts)]
                texts = new
            updates += [f"{n}{tag} = {x};" for n, x in zip(f.names, texts)]
        return [*inner.lines, *updates]

    def merge(
        self, scope: Scope, left: str, right: Mapping[str, str], vec: bool, only: str = "", counts: tuple[str, str] = ("", "")
    ) -> Lines:
        """``left = combiner(left, right)`` of two accumulators (of all of them, or of one); ``counts``: C text of how many
        terms are in each, which moments ask for."""
        kind = "vector" if vec else "scalar"
        names = self.state_names(left, vec) | {f"{n}_": Bound(x, kind) for n, x in right.items()}
        head: Lines = []
        for t in {f.dtypes[0] for f in self.s.folds if f.combiner == "moments"}:
            share, n = self.code.fresh("share_"), f"({ctype(t)})({counts[0]})"
            head.append(f"const {ctype(t)} {share} = ({ctype(t)})({counts[1]}) / ({ctype(t)})(({counts[0]}) + ({counts[1]}));")
            names |= {f"share {t.name}": Bound(share, "scalar"), f"weight {t.name}": Bound(f"({n} * {share})", "scalar")}
        inner = scope.child(names)
        updates: Lines = []
        for f, _, _, merge in self.folds:
            if only not in ("", f.names[0]):
                continue
            new = [self.code.fresh("n_") for _ in merge]
            for t, n, e in zip(f.dtypes, new, merge):
                updates.append(f"const {self.acc_type(inner, t, vec)} {n} = {self.text(inner, e, vec)};")
            updates += [f"{a}{left} = {n};" for a, n in zip(f.names, new)]
        return ["{", *indent([*head, *inner.lines, *updates]), "}"] if head else [*inner.lines, *updates]

    def centre(self, tag: str, count: str) -> Lines:
        """The means of a block from its sums."""
        return [f"{f.names[0]}{tag} /= ({ctype(f.dtypes[0])})({count});" for f in self.s.folds if f.combiner == "moments"]

    def squares(self, scope: Scope, tag: str, vec: bool, names: Mapping[str, Bound]) -> Lines:
        """One term's squared distance from the mean into each m2."""
        inner = scope.child({**names, **self.state_names(tag, vec)})
        updates = [f"{f.names[1]}{tag} = {self.text(inner, e, vec)};" for f, e in self.second]
        return [*inner.lines, *updates]

    def store(self, scope: Scope, names: Mapping[str, Bound], vec: bool) -> Lines:
        """All outputs at a point: every value before any store, since an output may lie over an input."""
        inner = scope.child(names)
        lines: Lines = []
        texts = []
        for _, _, value in self.stores:
            text = inner.vector(value) if vec else inner.scalar(value)
            if value.dtype in ctext.HALF:
                name = f"{dtypes.short(value.dtype)}_bits"
                width = inner.width if vec else 1
                self.code.need("math", name, "f32", str(width))
                text = f"sh_{name}_{inner.vec('f32') if vec else 'f32'}({text})"
                text = f"__builtin_convertvector({text}, {inner.vec('u16')})" if vec else f"(uint16_t){text}"
            elif value.dtype == dtypes.bool_ and not vec:
                text = f"(uint8_t)({text})"
            if len(self.stores) > 1:
                name = self.code.fresh("v_")
                t = stored(value.dtype)
                lines.append(f"const {inner.vec(kind_of(t)) if vec else t} {name} = {text};")
                text = name
            texts.append(text)
        for (_, target, _), text in zip(self.stores, texts):
            lines += self.put(inner, target, text) if vec else [self.put_one(inner, target, text)]
        return [*inner.lines, *lines]

    def put_one(self, scope: Scope, target: Flat, text: str) -> str:
        where, _ = scope.address(target.const, target.terms)
        return f"{self.pointer(target.buffer)}[{where}] = {text};"

    def put(self, scope: Scope, target: Flat, text: str) -> Lines:
        lane, _ = scope.lane_name()
        c = stored(target.type)
        vt = scope.vec(kind_of(c))
        pointer = self.pointer(target.buffer)
        if coefficient(target, lane) == 1 and scope.active == scope.width:
            where, _ = scope.address(target.const, target.terms)
            return [f"*({vt}_u *)&{pointer}[{where}] = {text};"]
        v = self.code.fresh("s_")
        lines = [f"const {vt} {v} = {text};"]
        if coefficient(target, lane) == 1:
            where, _ = scope.address(target.const, target.terms)
            return [*lines, f"memcpy(&{pointer}[{where}], &{v}, {scope.active} * sizeof({c}));"]
        l = self.code.fresh("l_")
        start = scope.bound(lane)[0].text
        inner = scope.child({lane: Bound(f"({start} + {l})", "index")})
        where, _ = inner.address(target.const, target.terms)
        return [
            *lines,
            f"SH_UNROLL for (int {l} = 0; {l} < {scope.active}; ++{l}) "
            f"{{ {' '.join(inner.lines)} {pointer}[{where}] = {v}[{l}]; }}",
        ]


def combine(combiner: str, a: Expr, b: Expr, t: DType) -> Expr:
    """One step of a reduction, as ``core.nest`` defines it: NaN wins once and stays."""
    b = cast(b, t)
    match combiner:
        case "add" | "mul" | "or" | "and":
            result: Expr = Bin(combiner, a, b)
        case "max" | "min":
            wins: Expr = Bin("gt" if combiner == "max" else "lt", b, a)
            if t in dtypes.FLOATING:
                wins = Bin("or", wins, Bin("ne", b, b))
            result = Select(wins, b, a)
        case _:
            raise AssertionError(combiner)
    return _held(result, t)


def _held(e: Expr, t: DType) -> Expr:
    """16-bit accumulators round at every step."""
    return half.hold(e, t) if t in ctext.HALF else e


def state(f: Fold) -> list[Expr]:
    return [Name(n, t) for n, t in zip(f.names, f.dtypes)]


def step_of(f: Fold, now: list[Expr], terms: list[Expr]) -> list[Expr]:
    if f.combiner == "fma":
        return [_held(Fma(terms[0], terms[1], now[0]), f.dtypes[0])]
    if f.combiner == "moments":
        return [combine("add", now[0], terms[0], f.dtypes[0])]
    if len(f.names) == 1:
        return [combine(f.combiner, now[0], terms[0], f.dtypes[0])]
    a, b = now[0], terms[0]
    wins: Expr = Bin("gt" if f.combiner == "max" else "lt", b, a)
    if a.dtype in dtypes.FLOATING:
        wins = Bin("or", wins, Bin("and", Bin("ne", b, b), Bin("eq", a, a)))
    return [Select(wins, t, n) for t, n in zip(terms, now)]


def merge_of(f: Fold) -> list[Expr]:
    """Two partial results of one accumulator (``a0`` and ``a0_``)."""
    if f.combiner == "moments":
        (mean, m2), t = state(f), f.dtypes[0]
        other, more = (Name(n + "_", t) for n in f.names)
        d = other - mean
        return [mean + d * Name(f"share {t.name}", t), (m2 + more) + (d * d) * Name(f"weight {t.name}", t)]
    if len(f.names) != 1:
        return []
    name, t = f.names[0], f.dtypes[0]
    return [combine("add" if f.combiner == "fma" else f.combiner, Name(name, t), Name(name + "_", t), t)]
