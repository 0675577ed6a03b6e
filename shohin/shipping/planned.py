"""The course of ``ship`` with plans: a candidate each, and trained ones where that is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shohin.compress import Plan
from shohin.core.errors import ShohinError
from shohin.shipping.run import WHOLE, Run

RATES = {True: 3e-4, False: 1e-3}
"""Learning rates: where only integers are chosen, which are near the network as it was, and elsewhere."""


@dataclass(kw_only=True)
class Planned(Run):
    """Each plan applied to the network; with epochs its candidate is what that training leaves, since the levers that grow
    while they train (ramps) are nothing before it.

    A plan that has changed since is carried out anew, the others are kept. One that fails is left out with its reason; the others
    go on. If all fail, the first one's error is raised.
    """

    given: Mapping[str, Plan]

    def names(self) -> Sequence[str]:
        return tuple(self.given)

    def plans(self) -> Mapping[str, Plan]:
        return self.given

    def intends(self) -> list[str]:
        shown = [f"  {name:12}{', '.join(dict.fromkeys(m.scheme for _, m in plan.rules if m is not None))}" for name, plan in self.given.items()]
        return [*shown, f"  budget      {self.limits()}"]

    def course(self) -> None:
        failed: list[ShohinError] = []
        for name, plan in self.given.items():
            try:
                self._candidate(name, plan)
            except ShohinError as error:
                failed.append(error)
                self.skipped.append(f"{name}: {error}")
                self.told.say(f"{name}: left out, {error}")
        if len(self.found) == 1 and failed:
            raise failed[0]

    def _candidate(self, name: str, plan: Plan) -> None:
        subject, epochs = self.subject, self.training.epochs
        methods = [m for _, m in plan.rules if m is not None]
        about = ", ".join(dict.fromkeys(m.scheme for m in methods)) or WHOLE
        made = lambda: plan.apply(subject.net, subject.calibration)
        if epochs:
            self.add(name, f"{about}; trained for {epochs} epochs", lambda folder: self.trained(made(), subject, folder, rate_of(plan)), subject, str(plan))
        else:
            self.add(name, about, lambda _: (made(), ()), subject, str(plan))


def rate_of(plan: Plan) -> float:
    """The learning rate that a plan is trained with."""
    return RATES[all(m is None or m.slot == "integers" for _, m in plan.rules)]


__all__ = ["Planned", "rate_of"]
