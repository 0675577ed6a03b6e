"""``sh.jit``: a function as one compiled program; forward, backward, optimizer, state and random numbers alike.

A call with arguments that a program knows runs it at once (``binding``). Otherwise the key of what is static is made
(``key``, ``captures``) and compared; a new one is traced and compiled, and ``traces`` says what differed.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any
from weakref import ref

from shohin.compiler import captures
from shohin.compiler.binding import Program
from shohin.compiler.captures import Captures
from shohin.compiler.key import Arguments, explain, parameters
from shohin.compiler.results import Results
from shohin.core import cells as cell_state
from shohin.core import interp, trees
from shohin.core.errors import StateError
from shohin.core.interp import BASE, Donated, _current
from shohin.core.module import Module, roots
from shohin.core.tensor import Tensor
from shohin.core.trace import Staged, run, stage
from shohin.ops import random

RECENT = 4
"""Programs that a call is compared with before its key is made: a train and an evaluation step, a smaller last batch."""


class Jit:
    """What ``jit`` returns. ``traces`` says for each program why it was made; ``lower(*args)`` shows one."""

    def __init__(self, f: Callable[..., Any], donate: Sequence[int] = (), level: str = "native", threads: int | None = None) -> None:
        self.f, self.donate, self.levels = f, tuple(donate), (level, threads)
        self.name = getattr(f, "__name__", "f")
        self.programs: dict[Any, Program] = {}
        self.traces: list[str] = []
        self._recent: list[Program] = []
        self._parameters = parameters(f)
        self._last: list[Any] = []
        self._given = _donated(self.donate, self._parameters, self.name)
        functools.update_wrapper(self, f, updated=())

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        if instance is None:
            return self
        if not isinstance(instance, Module):
            raise StateError(f"jit on a method: {type(instance).__name__} is no nn.Module, so its state cannot be found; jit a function of it")
        return functools.partial(self.__call__, instance)

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        if _current.get() is not BASE:
            return self._inside(Arguments(self._parameters, args, keywords, keyed=False))
        for program in self._recent:
            leaves = program.match(args, keywords)
            if leaves is not None:
                if program is not self._recent[0]:
                    self._front(program)
                break
        else:
            program, leaves = self._find(args, keywords)
        result = program.run(leaves)
        if self._given:
            self._spend(program, leaves)
        return result

    def _find(self, args: tuple[Any, ...], keywords: dict[str, Any]) -> tuple[Program, list[Tensor]]:
        """The program of a call by its key, traced if there is none."""
        call = Arguments(self._parameters, args, keywords, keyed=True)
        for t in call.tensors:
            BASE.admit(t)
        captured = Captures(captures.lookups(self.f))
        key = (*call.parts, *((f"captured {name}", part) for name, part in captured.forms))
        program = self.programs.get(key)
        if program is None:
            program = self._trace(key, call, captured)
        program.epoch, program.captured = cell_state.epoch(), captured
        self._front(program)
        return program, call.tensors

    def _front(self, program: Program) -> None:
        self._recent = [program, *(p for p in self._recent if p is not program)][:RECENT]

    # -- tracing
    def _staged(self, call: Arguments) -> tuple[Staged, Results]:
        found: list[Results] = []

        def flat(*values: Tensor) -> list[Tensor]:
            for v, weak in zip(values, call.weak, strict=True):
                v.weak = weak
            a, k = trees.unflatten(call.spec, values)
            with roots(self.f, a, k):
                found.append(Results(self.f(*a, **k), interp.current()))
            return found[0].tensors

        generator = (random.default.key, random.default.counter)
        refused = captures.refusals(self.name, call.modules.values(), also=generator)
        staged = stage(flat, [t.aval for t in call.tensors], **refused)
        found[0].release()
        return staged, found[0]

    def _trace(self, key: Any, call: Arguments, captured: Captures) -> Program:
        staged, results = self._staged(call)
        donated = [k for k, at in enumerate(call.positions) if at in self._given]
        gifts = self._gifts(staged, results, call, donated) if self._given else {}
        program = Program(staged, results, call, captured, self.levels, frozenset(donated), gifts)
        self.traces.append(explain([*self._last, *list(reversed(self.programs))[:RECENT]], key))
        self._last = [key]
        self.programs[key] = program
        self._forget_with(call.modules.values(), key)
        return program

    def _forget_with(self, modules: Any, key: Any) -> None:
        """A program is dropped with any module that it is for: no other call can have its key."""
        mine = ref(self)

        def forget(_: Any) -> None:
            jit = mine()
            if jit is not None:
                program = jit.programs.pop(key, None)
                jit._recent = [p for p in jit._recent if p is not program]

        self.programs[key].roots = [ref(m, forget) for m in modules]

    def _inside(self, call: Arguments) -> Any:
        """Within another transformation: staged for the rules of capture, then carried out node by node there."""
        staged, results = self._staged(call)
        values = run(staged.graph, [*call.tensors, *staged.operands()])
        staged.land(values[results.count :])
        return results.build(values[: results.count])

    # -- donation
    def _gifts(self, staged: Staged, results: Results, call: Arguments, donated: Sequence[int]) -> dict[int, int]:
        """Result -> the donated leaf whose memory it takes: the first of the same shape and dtype."""
        free = list(donated)
        used: dict[int, int] = {}
        for o, v in enumerate(staged.graph.outputs[: results.count]):
            fit = next((k for k in free if call.tensors[k].aval == v.aval), None)
            if fit is not None:
                used[o] = fit
                free.remove(fit)
        taken = {call.positions[k] for k in used.values()}
        for at in dict.fromkeys(self._given.values()):
            names = {n for n, p in self._given.items() if p == at}
            if names & set(call.module_positions):
                raise StateError(f"{self.name}: argument {at} holds a module, whose cells are updated in place anyway; leave it out of donate")
            if not taken & names:
                raise StateError(
                    f"{self.name}: no result has the shape and dtype of argument {at}, so nothing is gained by donating it; leave it out of donate"
                )
        return used

    def _spend(self, program: Program, leaves: Sequence[Any]) -> None:
        """The donated tensors may not be used any more."""
        for k in program.donated:
            leaf, where = leaves[k], program.where[k]
            if isinstance(leaf, Tensor):
                leaf.frame = Donated(f"it was argument {where} of {self.name}, which donates it: its memory holds a result now. Use the result, or leave {where} out of donate")
                leaf.payload = None

    # -- looking
    def lower(self, *args: Any, **keywords: Any) -> Program:
        """The program for these arguments, compiled and not run: ``.graph``, ``.compiled.source``, ``.compiled.plan``."""
        return self._find(args, keywords)[0]

    def profile(self, *args: Any, repeats: int = 10, **keywords: Any) -> list[tuple[str, float]]:
        """(place, median seconds) of every step of the program for these arguments; nothing is written."""
        program, leaves = self._find(args, keywords)
        return program.compiled.profile(program.arrays(leaves), repeats)

    def __repr__(self) -> str:
        return f"<jit {self.name}: {len(self.programs)} programs>"


def _donated(positions: Sequence[int], known: inspect.Signature | None, name: str) -> dict[int | str, str]:
    """By position and by name, what donated arguments are called."""
    names = list(known.parameters) if known else []
    found: dict[int | str, str] = {}
    for p in positions:
        if isinstance(p, bool) or not isinstance(p, int) or p < 0 or (known is not None and p >= len(names)):
            raise StateError(f"{name}: donate={positions} names no argument; it takes the positions of arguments, from 0 to {len(names) - 1}")
        found[p] = names[p] if names else str(p)
        found[found[p]] = found[p]
    return found


def jit(f: Callable[..., Any] | None = None, *, donate: int | Sequence[int] = (), level: str = "native", threads: int | None = None) -> Any:
    """``f`` as one compiled program for each shape and structure of its arguments.

    Tensors, arrays and floats are inputs; bools, ints and strings are part of the key; modules and optimizers pass
    their cells, and what ``f`` changes in them is written back. A module that ``f`` makes and returns is a new one at each
    call. ``level`` is native, v3 or v4.

    What ``f``, or a function that it calls by name, finds outside (numbers, strings, arrays, functions, ``sh.const``) is
    compared at each call. Contents of a captured list, dict, object or array of more than 1 MiB are not: bind the name
    anew, or pass it.

    ``donate`` names positions of arguments whose tensors are given away: results are written over their memory, which
    saves that of large states, and using such a tensor afterwards is a ``LeakError``. Modules need none of it (their cells
    are updated in place), NumPy arrays are never written over, and inside another transformation nothing is donated.

    Raises:
        CaptureError: ``f`` uses a tensor, cell or module that no argument reaches.
        StateError: ``donate`` names no argument, one that holds a module, or one that no result can take the place of.

    >>> import numpy as np
    >>> double = jit(lambda x: x * 2)
    >>> double(np.float32([1, 2])).tolist()
    [2.0, 4.0]
    """
    donate = (donate,) if isinstance(donate, int) else donate
    if f is None:
        return functools.partial(jit, donate=donate, level=level, threads=threads)
    return Jit(f, donate, level, threads)


__all__ = ["Jit", "Program", "jit"]
