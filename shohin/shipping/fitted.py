"""The course of ``ship`` without plans: int8, and over budget what would make it fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shohin.compress import Plan
from shohin.core.errors import ShohinError
from shohin.core.module import Module, copy
from shohin.shipping.candidate import Candidate
from shohin.shipping.options import Option, options
from shohin.shipping.run import INT8, Run
from shohin.shipping.subject import Subject

MOST = 7
"""Candidates that a network over its budget may bring, untrained: three tables, channels, two resolutions, channels with tables."""


@dataclass(kw_only=True)
class Fitted(Run):
    """int8 after calibration, int8 trained, and then tables, fewer channels, a smaller input, until something fits."""

    def names(self) -> Sequence[str]:
        return ("int8", "int8, trained") if self.training.epochs else ("int8",)

    def plans(self) -> Mapping[str, Plan]:
        return {"int8": INT8}

    def intends(self) -> list[str]:
        return [
            f"  int8        grids from {len(self.subject.calibration)} other examples; every integer is compared between module, reference, C here and on the device",
            f"  then        if the budget ({self.limits()}) is exceeded: 4-, 3-, 2-bit tables, fewer channels, a smaller input",
        ]

    def course(self) -> None:
        subject = self.subject
        made = lambda: INT8.apply(subject.net, subject.calibration)
        self.add("int8", "weights and activations of 8 bits, by calibration", lambda _: (made(), ()), subject)
        if self.training.epochs:
            about = f"the same, trained for {self.training.epochs} epochs with its rounding (QAT)"
            self.add("int8, trained", about, lambda folder: self.trained(made(), subject, folder, 1e-4), subject)
        integers = self.found[1:]
        if all(c.over(self.budget) for c in integers):
            self.told.say(f"over the budget ({', '.join(integers[-1].over(self.budget))}): up to {MOST} more candidates, about {integers[0].seconds:.0f} s each (as int8 took)")
            self._reduce(integers[0])

    def _reduce(self, base: Candidate) -> None:
        fits = lambda: not self.found[-1].over(self.budget)
        for option in options(self.subject, base, self.budget, self.device, self.kept, fits):
            if option.skip:
                self.skipped.append(f"{option.name}: {option.skip}")
                self.told.say(f"{option.name}: not tried, {option.skip}")
                continue
            subject = option.subject or self.subject
            try:
                self.add(option.name, option.about, lambda _, o=option, s=subject: (o.plan.apply(s.net, s.calibration), ()), subject)
            except ShohinError as error:
                self.skipped.append(f"{option.name}: {error}")
                self.told.say(f"{option.name}: left out, {error}")
                continue
            if self.training.epochs and option.family != "tables" and fits():
                name, about = f"{option.name}, trained", f"{option.about}; the float network then trained for {self.training.epochs} epochs, and quantized"
                self.add(name, about, lambda folder, o=option, s=subject: self._retrained(o, s, folder), subject)

    def _retrained(self, option: Option, subject: Subject, folder: Path) -> tuple[Module, list[dict[str, Any]]]:
        rules = option.rules
        small = Plan(list(rules)).apply(subject.net, subject.calibration) if rules else copy(subject.net)
        small, history = self.trained(small, subject, folder, 1e-3)
        return INT8.apply(small, subject.calibration), history


__all__ = ["Fitted"]
