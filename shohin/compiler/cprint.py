"""The ``Printer`` of ``kernel.py`` for C: loop-IR expressions inside the text of a hand-written kernel.

Names are bound to C text: loop variables (``loop.Var``) to integers of type ``long``, names (``loop.Name``) to
scalars, in lanes to vectors unless the text is ``Uniform``. A merged variable stands for several axes: where a load's
strides collapse it is used as it is, else the axes are recovered by / and %. Its key is its C text, or a name that
``names`` binds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from math import prod

from shohin.compiler.ctext import Need, lane, stored, vector
from shohin.compiler.flat import Flat, coefficient, flatten, nodes, opaque, rewrite, simplify
from shohin.compiler.names import Bound, Code, paren
from shohin.compiler.rows import Rows, fold_function, stage_function
from shohin.compiler.scope import Scope
from shohin.core import dtypes
from shohin.core.dtypes import DType
from shohin.core.loop import Const, Expr, Name, Var
from shohin.core.nest import Buffer

Merged = Mapping[str, tuple[tuple[str, int], ...]]


class Uniform(str):
    """C text of a scalar in the place of a vector: the same value in all lanes."""


class CPrinter:
    """Prints into one C function: ``slots`` are the buffers that its ``b`` must hold, ``needs`` its helpers."""

    def __init__(self, buffers: Mapping[str, Buffer], staged: Sequence[Rows] = (), folds: Sequence[tuple[Rows, int]] = ()):
        self.buffers, self.staged, self.folds = buffers, staged, folds
        self.slots: dict[str, int] = {}
        self.needs: dict[Need, None] = {}
        self._counter = 0

    def pointer(self, buffer: str) -> str:
        slot = self.slots.setdefault(buffer, len(self.slots))
        return f"(({stored(self.buffers[buffer].dtype)} *)b[{slot}])"

    def vector(self, dtype: DType, width: int) -> str:
        """The vector type's name; with ``_u`` behind it the type of an unaligned access."""
        self.needs.setdefault(("vec", lane(dtype), str(width)), None)
        return vector(lane(dtype), width)

    def helper(self, text: str) -> None:
        """C that stands before the functions, once a file."""
        self.needs.setdefault(("text", text), None)

    def require(self, needs: Iterable[Need]) -> None:
        """What functions need that were printed apart and stand in this text."""
        self.needs.update(dict.fromkeys(needs))

    def load(self, buffer: str, name: str) -> str:
        for rows in self.staged:
            if rows.shaped.stores[0].target.buffer == buffer:
                text, build = stage_function(rows, self.buffers, self.slots, name)
                self.needs.update(build.code.needs)
                return text
        return ""

    def statistic(self, name: str) -> str:
        if not self.folds:
            return ""
        texts, lines = [], []
        for k, (rows, offset) in enumerate(self.folds):
            f = fold_function(rows, self.buffers)
            self.require(f.needs)
            texts.append(f.text)
            held = ", ".join(f"b[{self.slots.setdefault(n, len(self.slots))}]" for n in f.buffers)
            lines += [f"    void *const b{k}[] = {{{held}}};", f"    static const long g{k}[] = {{{', '.join(map(str, f.sizes))}}};",
                      f"    {f.name}(b{k}, g{k}, shared + {offset}, chunk, from, upto);"]  # fmt: skip
        head = f"static void {name}(void *const *restrict b, char *shared, long chunk, long from, long upto)"
        return "\n".join([*texts, f"{head} {{", *lines, "}", ""])

    def scalar(self, expr: Expr, names: Mapping[str, str], merged: Merged | None = None, like: Merged | None = None) -> str:
        scope, e = self._scope(
            expr, names, merged, like, lambda name, text, var: Bound(text, "index" if var else "scalar"), 0
        )
        return self._wrap(scope, scope.scalar(e))

    def lanes(self, expr: Expr, names: Mapping[str, str], lane: str, width: int, merged: Merged | None = None, like: Merged | None = None) -> str:
        def bound(name: str, text: str, var: bool) -> Bound:
            if var:
                return Bound(text, "lane" if name == lane else "index")
            return Bound(text, "scalar" if isinstance(text, Uniform) else "vector")

        scope, e = self._scope(expr, names, merged, like, bound, width)
        return self._wrap(scope, scope.vector(e))

    def _scope(
        self,
        expr: Expr,
        names: Mapping[str, str],
        merged: Merged | None,
        like: Merged | None,
        bind: Callable[[str, str, bool], Bound],
        width: int,
    ) -> tuple[Scope, Expr]:
        expr = flatten(expr, self.buffers)
        ranges: dict[str, tuple[int, int]] = {}
        texts = {n: t if isinstance(t, Uniform) else paren(t) for n, t in names.items()}
        for variable, axes in (like or {}).items():
            expr = lie_like(expr, variable, axes)
            texts.setdefault(variable, paren(variable))
        for variable, axes in (merged or {}).items():
            expr = merge_axes(expr, variable, axes)
            ranges[variable] = (0, prod(n for _, n in axes) - 1)
            texts.setdefault(variable, paren(variable))
        expr = rewrite(expr, lambda e: simplify(e, ranges))
        code = Code(pointer=self.pointer, needs=self.needs, ranges=ranges, counter=self._counter, prefix="e")
        used = {e.name: isinstance(e, Var) for e in nodes([expr]) if isinstance(e, Var | Name)}
        scope = Scope(code, None, {n: bind(n, t, used.get(n, True)) for n, t in texts.items()}, width)
        (e,) = scope.prepare([expr])
        return scope, e

    def _wrap(self, scope: Scope, text: str) -> str:
        self._counter = scope.code.counter
        return f"({{ {' '.join(scope.lines)} {text}; }})" if scope.lines else text


def lie_like(expr: Expr, variable: str, axes: tuple[tuple[str, int], ...]) -> Expr:
    """``expr`` with ``variable``, and the last axis, as the index of every load that lies like a dense tensor of these axes."""
    strides = {a: prod(n for _, n in axes[i + 1 :]) for i, (a, n) in enumerate(axes) if n > 1}
    unit = {a for a, n in axes if n == 1}
    place = tuple((Var(a), 1) for a in (variable, axes[-1][0]) if a not in unit)

    def rule(e: Expr) -> Expr | None:
        if not isinstance(e, Flat) or e.pred is not None or e.const:
            return None
        terms = {t.name if isinstance(t, Var) else "": c for t, c in e.terms if not (isinstance(t, Var) and t.name in unit)}
        return replace(e, terms=place) if strides and terms == strides else None

    return rewrite(expr, rule)


def merge_axes(expr: Expr, variable: str, axes: tuple[tuple[str, int], ...]) -> Expr:
    """``expr`` with ``variable`` in the place of several axes, outermost first."""
    real = [(a, n) for a, n in axes if n > 1]
    unit = {a for a, n in axes if n == 1}
    m = Var(variable)
    values: dict[str, Expr] = {a: Const(0, dtypes.int32) for a in unit}
    step = 1
    for i, (axis, extent) in reversed(list(enumerate(real))):
        value: Expr = m if step == 1 else m // step
        values[axis] = value if i == 0 else value % extent
        step *= extent

    def rule(e: Expr) -> Expr | None:
        if isinstance(e, Flat):
            return _merge_flat(e, variable, real, unit, values)
        return None

    # loads first, as wholes; then the variables that are left
    collapsed = rewrite(expr, rule)
    return rewrite(collapsed, lambda e: values.get(e.name) if isinstance(e, Var) else None)


def _merge_flat(
    e: Flat, variable: str, real: list[tuple[str, int]], unit: set[str], values: Mapping[str, Expr]
) -> Flat:
    terms = tuple((t, c) for t, c in e.terms if not (isinstance(t, Var) and t.name in unit))
    if not real:
        return replace(e, terms=terms)
    steps = [coefficient(e, a) for a, _ in real]
    fits = all(steps[i] == steps[i + 1] * real[i + 1][1] for i in range(len(real) - 1))
    names = {a for a, _ in real}
    rest = tuple((t, c) for t, c in terms if not (isinstance(t, Var) and t.name in names))
    if fits and not names & opaque(replace(e, pred=None)):
        more = ((Var(variable), steps[-1]),) if steps[-1] else ()
        return replace(e, terms=(*rest, *more))
    return replace(e, terms=tuple((values.get(t.name, t) if isinstance(t, Var) else t, c) for t, c in terms))
