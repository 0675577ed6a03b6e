"""``mixed``: the plan that fits a budget and loses least, one of several candidates (bits, tables, masks) for each layer."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from glob import escape
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from shohin.compress.calibration import batches, few
from shohin.compress.plan import Plan
from shohin.compress.quantize import Quantize
from shohin.compress.quantized import Quantized
from shohin.compress.sensitivity import LOSSES, Loss, contractions
from shohin.compress.slots import Method
from shohin.compress.steps import Move, made
from shohin.compress.to_budget import Meter
from shohin.compress.walk import module_of
from shohin.core.errors import BudgetError, PlanError
from shohin.core.module import Module
from shohin.core.provided import provided
from shohin.core.version import __version__
from shohin.targets.budget import Budget

Array = np.ndarray[Any, Any]
Candidate = tuple[Method, ...]
Choice = tuple[int, ...]
ROUNDS = 6
"""How often the artefact may correct what was predicted."""
SLOTS = ("mask", "table", "integers")


class Mixed(Plan):
    """What ``mixed`` found: a plan as any other, whose ``str`` is its reasons.

    ``choice``: by place the methods; ``loss``: what the network loses by the measure, ``predicted`` before it was made; ``measured``: what
    its artefact takes, by the budget's names.
    """

    def __init__(self, rules: Sequence[tuple[str, Method | None]], choice: Mapping[str, Candidate], loss: float, predicted: float,
                 measured: Mapping[str, float], reasons: str) -> None:  # fmt: skip
        super().__init__(rules)
        self.choice, self.loss, self.predicted, self.measured, self.reasons = choice, loss, predicted, measured, reasons

    def __str__(self) -> str:
        return self.reasons


def mixed(net: Module, candidates: Sequence[Method | Sequence[Method]], *, calibration: Any, budget: Budget, device: str, by: str = "kl",
          run: str | Path | None = None) -> Mixed:  # fmt: skip
    """One of ``candidates`` for each layer with weights, so that the artefact fits ``budget`` on ``device`` and the network loses least.

    A candidate is a ``Quantize``, or a list of methods of one with others before it (a table, a mask). The first one is the rule of the
    whole network: what has no weights takes it, and each layer's loss is measured with all others on it. The losses of layers are summed,
    and the sum is minimized by an integer program under the budget: flash by the bytes of each layer as they are stored and the code of
    the kernel it needs, once; instructions as an emulator counts them, or by the cost model; ms by the cost model, after each candidate
    was timed; ram by the widths of the values that are alive at each step, and what kernels need to unpack. The artefact of what comes
    out is then made and measured, and the program corrected by the difference, a few times. Of those that fit, each candidate everywhere
    among them, the one with the least loss as measured is the answer.

    Args:
        by: the loss. ``kl``: of the output's distribution, ``noise``: of any output (the reciprocal of its signal to noise), ``fisher``: of
            the weights, by gradients (``compress.sensitivity``).
        run: a folder that keeps what was measured of each layer; what was cut off goes on there.

    Raises:
        BudgetError: nothing fits; what came closest.

    Source: Dong et al. 2020 (HAWQ-V2), Yao et al. 2021 (HAWQ-V3, arXiv:2011.10680), section 3.4: the sum and the program. We differ: the
    loss is measured of the network's output and not of its Hessian, costs are those of artefacts, and the code is among them.

    >>> from shohin import nn
    >>> net, x = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4)), np.eye(16, dtype=np.float32)
    >>> plan = mixed(net, [Quantize(w=8), Quantize(w=4)], calibration=x, budget=Budget(flash="64 kB"), device="cortex-m55")
    >>> [m.w for (m,) in plan.choice.values()], plan.measured["flash"] < 64_000
    ([8, 8], True)
    """
    choices = _candidates(candidates)
    if by not in LOSSES:
        raise PlanError(f"mixed: by={by!r} is none of {', '.join(LOSSES)}")
    if calibration is None:
        raise PlanError("mixed needs calibration= (some hundred examples: a data set or an array)")
    if not budget.limits():
        raise PlanError("mixed: the budget has no limit; write Budget(flash='64 kB'), or ram=, instructions=, ms=")
    if isinstance(net, Quantized):
        raise PlanError("mixed: the network is already quantized; give it as it was before")
    return _Search(net, choices, calibration, budget, provided("meter")(device), LOSSES[by](net, calibration), by, device, run).best()


def _candidates(given: Sequence[Method | Sequence[Method]]) -> list[Candidate]:
    found = [tuple(c) if isinstance(c, Sequence) else (c,) for c in given]
    if len(found) < 2:
        raise PlanError(f"mixed: {len(found)} candidates, expected two or more, the one that loses least first")
    for candidate in found:
        slots = [getattr(m, "slot", type(m).__name__) for m in candidate]
        if "integers" not in slots or len(set(slots)) < len(slots) or not set(slots) <= set(SLOTS):
            raise PlanError(
                f"mixed: a candidate is a Quantize, alone or in a list with methods of the slots mask and table, got {candidate}; channels and "
                "factors change other layers, or what a layer is: apply them to the network before"
            )
    return found


@dataclass(frozen=True)
class _Trial:
    """The network with one place changed: its loss, and what it takes in all."""

    loss: float
    amounts: Mapping[str, float]


@dataclass
class _Search:
    net: Module
    candidates: list[Candidate]
    calibration: Any
    budget: Budget
    meter: Meter
    loss: Loss
    by: str
    device: str
    run: str | Path | None

    def __post_init__(self) -> None:
        self.solver = provided("assignment")
        self.xs = tuple(x[:1] for x in next(batches(self.calibration)))
        self.names = tuple(self.budget.limits())
        self.counted = (*self.names, *(["constants"] if "flash" in self.names else []))
        self.first = self.apply(Plan([("*", m) for m in self.candidates[0]]), few(self.calibration))
        self.places = list(dict.fromkeys(module_of(s.place) for s in contractions(self.first)))
        if not self.places:
            raise PlanError("mixed: the network has no layer whose weights are quantized; there is nothing to choose")

    # -- networks
    def apply(self, plan: Plan, calibration: Any) -> Quantized:
        return plan.apply(self.net, calibration=calibration).eval()

    def plan(self, choice: Choice) -> list[tuple[str, Method | None]]:
        """The rules of a choice; a layer inside of another comes after it, and a slot that a candidate leaves open is cleared."""
        rules: list[tuple[str, Method | None]] = [("*", m) for m in self.candidates[0]]
        slots = [{m.slot for m in candidate} for candidate in self.candidates]
        for place, c in sorted(zip(self.places, choice, strict=True), key=lambda item: item[0].count(".")):
            within = any(place.startswith(f"{other}.") for other in self.places)
            if c or within:
                clear: list[tuple[str, Method | None]] = [] if not within and slots[0] <= slots[c] else [(escape(place), None)]
                rules += [*clear, *((escape(place), m) for m in self.candidates[c])]
        return rules

    # -- what is known of places
    def trials(self) -> tuple[_Trial, dict[tuple[int, int], _Trial]]:
        """Of the first candidate everywhere, and of each other candidate at each place."""
        wanted = [(p, c) for p in range(len(self.places)) for c in range(1, len(self.candidates))]
        kept = _Kept(self.run, self._digest())
        base = kept("", lambda: self._trial(tuple([0] * len(self.places))))
        if "ms" in self.names:  # the table of costs learns their steps
            for candidate in self.candidates:
                self.meter(self.apply(Plan([("*", m) for m in candidate]), few(self.calibration)), self.xs, ("ms",), measured=True)
        found = dict[tuple[int, int], _Trial]()
        for p, c in track(wanted, "losses of layers", transient=True, disable=not sys.stdout.isatty()):
            choice = tuple(c if k == p else 0 for k in range(len(self.places)))
            found[p, c] = kept(f"{self.places[p]}: {self.candidates[c]}", lambda choice=choice: self._trial(choice))
        return base, found

    def _trial(self, choice: Choice) -> _Trial:
        small = self.apply(Plan(self.plan(choice)), self.calibration)
        amounts = {n: self.meter(small, self.xs, (n,), measured=n == "instructions")[n] for n in self.counted}
        return _Trial(self.loss(small), amounts)

    def _digest(self) -> str:
        digest = hashlib.blake2b(repr((__version__, self.by, self.device, self.counted, self.candidates[0])).encode(), digest_size=16)
        for path, cell in self.net.cells().items():
            digest.update(path.encode() + cell.read().numpy().tobytes())
        for xs in batches(self.calibration):
            digest.update(b"".join(np.ascontiguousarray(x).tobytes() for x in xs))
        return digest.hexdigest()

    # -- the program
    def rows(self, base: _Trial, found: Mapping[tuple[int, int], _Trial]) -> list[Any]:
        """What choices take, by the budget's names."""
        shape = len(self.places), len(self.candidates)
        rows: list[Any] = []

        def beyond(counted: str) -> Array:
            amounts = np.zeros(shape)
            for at, trial in found.items():
                amounts[at] = trial.amounts[counted] - base.amounts[counted]
            return amounts

        for name in self.names:
            row = lambda fixed, amounts, shared=None, name=name: rows.append(self.solver.Row(name, fixed, amounts, np.zeros(shape) if shared is None else shared))
            whole, amounts = base.amounts[name], beyond(name)
            if name == "flash":  # what is no constant is the code of a kernel
                row(whole, beyond("constants"), np.maximum(amounts - beyond("constants"), 0.0))
            elif name == "ram":  # a peak: of what is alive at a step, or where a place's kernel works
                for fixed, widths in self._alive():
                    row(whole + fixed, widths)
                for p in np.flatnonzero((amounts > 0).any(1)):
                    row(0.0, np.where((amounts > 0) & (np.arange(len(amounts)) == p)[:, None], whole + amounts, 0.0))
            else:
                row(whole, amounts)
        return rows

    def _alive(self) -> list[tuple[float, Array]]:
        """By step the bytes that are alive beyond the most there are with the first candidate everywhere, and what candidates add."""
        program = self.first._latest()
        widths = np.array([next(m.a for m in c if isinstance(m, Quantize)) for c in self.candidates])
        last = {k: i for i, s in enumerate(program.steps) for k in s.inputs} | dict.fromkeys(program.outputs, len(program.steps))
        first = {k: i for i, s in enumerate(program.steps) for k in made(s)} | dict.fromkeys(program.inputs, 0)
        of = {k: module_of(s.place) for s in program.steps for k in made(s) if not isinstance(s, Move)}  # a move lies where its input does
        size = {k: prod(program.values[k].shape[1:]) for k in of}
        found = dict[bytes, tuple[float, Array]]()
        for i in range(len(program.steps)):
            alive = [k for k in of if first[k] <= i <= last.get(k, -1)]
            amounts = np.zeros((len(self.places), len(widths)))
            for k in alive:
                if of[k] in self.places:
                    amounts[self.places.index(of[k])] += size[k] * (widths - widths[0]) / 8
            found[amounts.tobytes()] = max(found.get(amounts.tobytes(), (0.0, amounts)), (sum(size[k] * program.values[k].bits / 8 for k in alive), amounts), key=lambda v: v[0])
        most = max(bytes_ for bytes_, _ in found.values())
        return [(bytes_ - most, amounts) for bytes_, amounts in found.values()]

    def best(self) -> Mixed:
        """Of the artefacts that fit, those of one candidate everywhere and those that the corrections lead to, the one that loses least, as measured."""
        base, found = self.trials()
        rows = self.rows(base, found)
        loss = np.zeros((len(self.places), len(self.candidates)))
        for at, trial in found.items():
            loss[at] = trial.loss - base.loss
        limits = self.budget.limits()
        predicted = lambda choice: {n: max(row(choice) for row in rows if row.name == n) for n in self.names}
        total = lambda choice: base.loss + float(loss[range(len(choice)), list(choice)].sum())
        correction = dict.fromkeys(self.names, 0.0)
        tried: dict[Choice, Mapping[str, float]] = {}
        fit: dict[Choice, float] = {}
        over = lambda choice: self.budget.excess(**tried[choice])

        def measure(choice: Choice) -> None:
            small = self.apply(Plan(self.plan(choice)), self.calibration)
            tried[choice] = self.meter(small, self.xs, self.names, measured=True)
            if not over(choice):
                fit[choice] = self.loss(small)

        for c in range(len(self.candidates)):
            measure((c,) * len(self.places))
        for _ in range(ROUNDS):
            choice = self.solver.assign(loss, rows, [limits[row.name] - correction[row.name] for row in rows], [c for c in tried if over(c)])
            if choice is None or choice in tried:
                break
            measure(choice)
            correction = {n: tried[choice][n] - predicted(choice)[n] for n in self.names}
        if not fit and (least := self.solver.assign(sum((row.amounts + row.shared) / limits[row.name] for row in rows), [], [])) not in tried:
            measure(least)
        if not fit:
            beyond = lambda choice: sum(max(0.0, tried[choice][n] / limits[n] - 1) for n in self.names)
            closest = min(tried, key=beyond)
            raise BudgetError(self._why_not(closest, tried[closest]))
        choice = min(fit, key=fit.__getitem__)
        by_place = {place: self.candidates[c] for place, c in zip(self.places, choice, strict=True)}
        reasons = self._reasons(choice, loss, rows, fit[choice], total(choice), tried[choice])
        return Mixed(self.plan(choice), by_place, fit[choice], total(choice), tried[choice], reasons)

    # -- words
    def _reasons(self, choice: Choice, loss: Array, rows: Sequence[Any], actual: float, predicted: float, taken: Mapping[str, float]) -> str:
        """A line a place: what it takes, and what each other candidate would have changed."""
        lead = [row for k, row in enumerate(rows) if row.name not in [r.name for r in rows[:k]]]
        table = [("place", "takes", "instead")]
        for p, (place, c) in enumerate(zip(self.places, choice, strict=True)):
            others = [
                f"{_short(self.candidates, k)}: {self.by} {loss[p, k] - loss[p, c]:+.2g}"
                + "".join(f", {row.name} {row.amounts[p, k] - row.amounts[p, c]:+,.{0 if row.name != 'ms' else 4}f}" for row in lead)
                for k in range(len(self.candidates))
                if k != c
            ]
            table.append((place, _short(self.candidates, c), "; ".join(others)))
        wide = [max(len(row[k]) for row in table) for k in (0, 1)]
        lines = [f"{a:<{wide[0]}}  {b:<{wide[1]}}  {c}" for a, b, c in table]
        got = ", ".join(f"{v:.4g} of {limit:.4g} ms" if n == "ms" else f"{n} {int(v):,} of {int(limit):,}" for (n, limit), v in zip(self.budget.limits().items(), (taken[n] for n in self.names), strict=True))
        return "\n".join([*lines, f"{self.device}: {got}; {self.by} {actual:.4g}, {predicted:.4g} by the sum of layers"])

    def _why_not(self, choice: Choice, taken: Mapping[str, float]) -> str:
        counts = {c: choice.count(c) for c in range(len(self.candidates)) if c in choice}
        chosen = ", ".join(f"{_short(self.candidates, c)} at {n} places" for c, n in counts.items())
        return (
            f"mixed: {self.budget} cannot be met with these {len(self.candidates)} candidates. What came closest ({chosen}): "
            f"{', '.join(self.budget.excess(**taken))}. Candidates of fewer bits or with a table (Palettize) would take less flash, fewer "
            "channels (PruneChannels) less of everything"
        )


def _short(candidates: Sequence[Candidate], c: int) -> str:
    """A candidate by the fields in which it differs from others, as ``w=4``."""
    texts = []
    for method in candidates[c]:
        peers = [m for other in candidates for m in other if type(m) is type(method)]
        own = [f.name for f in fields(method) if any(getattr(m, f.name) != getattr(method, f.name) for m in peers)]  # type: ignore[arg-type]
        values = " ".join(f"{n}={getattr(method, n)}" for n in own)
        texts.append(values if isinstance(method, Quantize) and values else f"{type(method).__name__}({values})")
    return " + ".join(texts)


class _Kept:
    """Trials by key, in a file of a line each; a line that was cut off is measured again."""

    def __init__(self, folder: str | Path | None, digest: str) -> None:
        self.path = None if folder is None else Path(folder) / "losses.jsonl"
        self.digest, self.found = digest, dict[str, _Trial]()
        if self.path is not None and self.path.is_file():
            for line in self.path.read_text(encoding="utf-8").splitlines():
                try:
                    row = json.loads(line)
                    if row["of"] == digest:
                        self.found[row["key"]] = _Trial(row["loss"], row["amounts"])
                except (json.JSONDecodeError, KeyError, TypeError):
                    continue

    def __call__(self, key: str, make: Callable[[], _Trial]) -> _Trial:
        if key not in self.found:
            trial = self.found[key] = make()
            if self.path is not None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with self.path.open("a", encoding="utf-8") as file:  # a line of its own, whatever was cut off before
                    file.write("\n" + json.dumps({"of": self.digest, "key": key, "loss": trial.loss, "amounts": trial.amounts}))
        return self.found[key]


__all__ = ["Mixed", "mixed"]
