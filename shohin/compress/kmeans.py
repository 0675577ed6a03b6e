"""``kmeans`` and ``lbg``: the few values, or vectors, that stand for many with the least squared error; deterministic."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
ROUNDS = 100
_ROWS = 1 << 14


def nearest(x: Array, values: Array) -> Array:
    """For each x the number of the nearest of the ascending ``values``; for vectors (n, d) that of the nearest of (k, d)."""
    if x.ndim == 1:
        return np.searchsorted((values[1:].astype(np.float64) + values[:-1]) / 2, x.astype(np.float64))
    return np.concatenate([np.argmin(_apart(x[k : k + _ROWS], values), axis=1) for k in range(0, len(x), _ROWS)])


def _apart(x: Array, values: Array) -> Array:
    """Squared distances (n, k), term by term: the same on every machine."""
    total = np.zeros((len(x), len(values)))
    for d in range(x.shape[1]):
        total += np.square(x[:, d, None].astype(np.float64) - values[:, d].astype(np.float64))
    return total


def kmeans(x: Array, k: int, line: bool = True, weight: Array | None = None) -> Array:
    """k values, ascending, float32, that Lloyd's steps lead to, for ``sum weight (x - value)^2``.

    They start from a line over the range of x (Han et al. 2016, section 3.2), or else (weights around a gap) from quantiles. With
    ``weight`` they start from both and from quantiles of the weight, and the least error is taken.

    >>> kmeans(np.float32([0, 0, 1, 1, 5, 5]), 4).tolist()
    [0.0, 1.0, 5.0, 5.0]
    >>> kmeans(np.float32([0, 1, 5, 9]), 2, weight=np.float32([1, 3, 1, 1])).tolist()
    [0.75, 7.0]
    """
    order = np.argsort(x, kind="stable")
    v = x[order].astype(np.float64)
    g = np.ones(len(v)) if weight is None else weight[order].astype(np.float64)
    mass, sums = (np.concatenate([[0.0], np.cumsum(a)]) for a in (g, g * v))
    at = (np.arange(k) + 0.5) / k
    lines, quantiles = v[0] + (v[-1] - v[0]) * np.arange(k) / max(k - 1, 1), np.quantile(v, at)
    starts = [lines if line else quantiles]
    if weight is not None:
        starts = [lines, quantiles, v[np.minimum(np.searchsorted(mass[1:], at * mass[-1]), len(v) - 1)]]
    found = [_settled(v, mass, sums, start) for start in starts]
    values = min(found, key=lambda c: float((g * np.square(v - c[nearest(v, c)])).sum())).astype(np.float32)
    used = np.unique(nearest(x, values))
    spare = np.setdiff1d(np.arange(k), used)  # an entry that no weight takes repeats its neighbour
    values[spare] = values[used[np.minimum(np.searchsorted(used, spare), len(used) - 1)]]
    return np.sort(values)


def _settled(v: Array, mass: Array, sums: Array, centres: Array) -> Array:
    """Where Lloyd's steps on ascending v lead; ``mass`` and ``sums`` are running sums of the weights, and of weights times v."""
    for _ in range(ROUNDS):
        cut = np.concatenate([[0], np.searchsorted(v, (centres[1:] + centres[:-1]) / 2), [len(v)]])
        count = np.diff(mass[cut])
        new = np.where(count > 0, np.diff(sums[cut]) / np.where(count > 0, count, 1), centres)
        if np.array_equal(new, centres):
            break
        centres = np.sort(new)
    return centres


def lbg(x: Array, k: int, weight: Array | None = None) -> Array:
    """k vectors, float32 (k, d), for x (n, d): entries are parted along their spread, those with the largest error first, and Lloyd's
    steps follow, until there are k (or none has an error).

    Source: Linde, Buzo, Gray 1980 (An algorithm for vector quantizer design), section III, who part every entry by a fixed vector.

    >>> lbg(np.float32([[0, 0], [0, 1], [8, 8], [8, 9]]), 2).tolist()
    [[0.0, 0.5], [8.0, 8.5]]
    """
    v, g = x.astype(np.float64), np.ones(len(x)) if weight is None else weight.astype(np.float64)
    centres = np.zeros((1, v.shape[1]))
    while True:
        for _ in range(ROUNDS // 4):
            before, codes = centres, nearest(v, centres)
            centres = _by_number(g[:, None] * v, codes, len(before)) / np.maximum(mass := _by_number(g[:, None], codes, len(before)), 1e-300)
            centres = np.where(mass > 0, centres, before)
            if np.array_equal(centres, before):
                break
        codes = nearest(v, centres)
        squares = _by_number(g[:, None] * np.square(v - centres[codes]), codes, len(centres))
        worst = np.argsort(-squares.sum(1), kind="stable")[: k - len(centres)]
        worst = worst[squares[worst].sum(1) > 0]
        if not len(worst):
            return np.concatenate([centres, np.repeat(centres[:1], k - len(centres), 0)]).astype(np.float32)
        spread = np.sqrt(squares / np.maximum(_by_number(g[:, None], codes, len(centres)), 1e-300))[worst]
        centres = np.concatenate([centres, centres[worst] + spread / 2])


def _by_number(values: Array, codes: Array, count: int) -> Array:
    """Sums (count, d) of the rows of ``values`` that have each number."""
    return np.stack([np.bincount(codes, column, minlength=count) for column in values.T], 1)


__all__ = ["ROUNDS", "kmeans", "lbg", "nearest"]
