"""What a person should know before believing in a shipment: a network that guesses, and one that fits and answers badly."""

from __future__ import annotations

from math import sqrt

import numpy as np

from shohin.shipping.candidate import Candidate
from shohin.shipping.subject import Subject

LOSS = 0.05
"""Of accuracy, or of agreement, that a candidate may lose before it is said."""


def guesses(whole: Candidate, subject: Subject) -> list[str]:
    """Is the float network no better than one that always gives the most frequent label? Then its inputs are not what it learned on.

    Better is more than two standard errors: ``a > p + 2 sqrt(p (1 - p) / n)``.
    """
    labels = subject.labels
    if labels is None or whole.accuracy is None:
        return []
    n = len(labels)
    p = float(np.unique(labels, return_counts=True)[1].max()) / n
    if whole.accuracy.value > p + 2 * sqrt(p * (1 - p) / n):
        return []
    return [f"the float network answers {whole.accuracy.value:.1%} of {n} examples right, and always the most frequent label would be {p:.1%}. The inputs "
            "are not scaled as in its training (--mean, --std), or the labels are in another order (name the folders after the network's class numbers)"]  # fmt: skip


def losses(whole: Candidate, best: Candidate, *, trainable: bool) -> list[str]:
    """Does the best candidate answer much worse than the float network?"""
    if whole.accuracy is not None and best.accuracy is not None:
        lost, what = whole.accuracy.value - best.accuracy.value, "accuracy"
    elif best.agreement is not None:
        lost, what = 1 - best.agreement.value, "agreement with float32"
    else:
        return []
    remedy = "; train it (--finetune 3)" if trainable else "; more epochs and more examples may win it back" if best.training else "; with labels it can be trained (--finetune)"
    return [f"{best.name} fits, and loses {100 * lost:.1f} points of {what}{remedy}"] if lost > LOSS else []


__all__ = ["LOSS", "guesses", "losses"]
