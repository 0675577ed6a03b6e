"""Budgets, as whoever measures artefacts imports them (``targets.budget``)."""

from shohin.targets.budget import Budget, bytes_of

__all__ = ["Budget", "bytes_of"]
