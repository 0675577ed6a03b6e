"""The NumPy meaning of a relation: contractions and windows without a formula of their own.

The small axes of windows (taps) are walked; for each tap the windowed tensors are strided views and the rest is
one ``einsum``. Taps that fall outside contribute nothing (``skip``).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from shohin.core.axes import Dim, Solved

Array = np.ndarray[Any, Any]


def contract(solved: Solved, operands: Sequence[Array], dtype: np.dtype[Any]) -> Array:
    """Sum of products over the axes that no result has, accumulated in ``dtype`` (integers exactly)."""
    rel = solved.relation
    tensors = (*rel.operands, rel.results[0])
    windows = [d for dims in tensors for d in dims if d.kind == "window"]
    lead = [d.axes[0] for d in windows]
    taps = list(dict.fromkeys(a for d in windows for a in d.axes[1:]))
    if dtype.kind in "iu":
        operands = [a.astype(np.float64) for a in operands]  # exact below 2^53, and runs in BLAS
    out = np.zeros(solved.results[0], np.float64 if dtype.kind in "iu" else dtype)
    extents = solved.extents
    letters: dict[str, str] = {}
    for point in itertools.product(*(range(extents[t]) for t in taps)):
        at = dict(zip(taps, point, strict=True))
        ranges = _ranges(tensors, (*(a.shape for a in operands), out.shape), lead, at, extents)
        if ranges is None:
            continue
        views = [_view(a, dims, at, ranges) for a, dims in zip(operands, rel.operands, strict=True)]
        target = _view(out, rel.results[0], at, ranges)
        shapes = [_expand(v, dims, extents, ranges, taps) for v, dims in zip((*views, target), tensors, strict=True)]
        axes = [_axes(dims, taps) for dims in tensors]
        spell = lambda names: "".join(letters.setdefault(n, chr(97 + len(letters))) for n in names)
        term = np.einsum(f"{','.join(spell(a) for a in axes[:-1])}->{spell(axes[-1])}", *shapes[:-1], optimize=True)
        target += term.reshape(target.shape)
    return out.astype(dtype)


def _ranges(tensors: Sequence[Sequence[Dim]], shapes: Sequence[tuple[int, ...]], lead: Sequence[str], at: dict[str, int],
            extents: Any) -> dict[str, tuple[int, int]] | None:  # fmt: skip
    """For each windowed axis the half-open range whose index is inside its tensor, at these taps."""
    ranges = {a: (0, extents[a]) for a in lead}
    for dims, shape in zip(tensors, shapes, strict=True):
        for d, n in zip(dims, shape, strict=True):
            if d.kind != "window":
                continue
            step, offset = int(d.strides[0]), _offset(d, at)
            lo, hi = ranges[d.axes[0]]
            lo = max(lo, -(offset // step) if offset < 0 else 0)
            hi = min(hi, (n - 1 - offset) // step + 1)
            if hi <= lo:
                return None
            ranges[d.axes[0]] = (lo, hi)
    return ranges


def _offset(d: Dim, at: dict[str, int]) -> int:
    return sum(at[a] * int(s) for a, s in zip(d.axes[1:], d.strides[1:], strict=True)) - d.padding[0]


def _view(array: Array, dims: Sequence[Dim], at: dict[str, int], ranges: dict[str, tuple[int, int]]) -> Array:
    index: list[Any] = []
    for d in dims:
        if d.kind == "window":
            step, offset = int(d.strides[0]), _offset(d, at)
            lo, hi = ranges[d.axes[0]]
            index.append(slice(lo * step + offset, (hi - 1) * step + offset + 1, step))
        elif d.kind == "axis" and d.axes[0] in at:
            index.append(slice(at[d.axes[0]], at[d.axes[0]] + 1))
        elif d.kind == "axis" and d.axes[0] in ranges:
            index.append(slice(*ranges[d.axes[0]]))
        else:
            index.append(slice(None))
    return array[(*index, ...)]  # a view, without dims too


def _expand(view: Array, dims: Sequence[Dim], extents: Any, ranges: dict[str, tuple[int, int]], taps: Sequence[str]) -> Array:
    shape: list[int] = []
    for d, n in zip(dims, view.shape, strict=True):
        if d.kind == "product":
            shape += [extents[a] for a in d.axes]
        elif d.kind == "one" or (d.kind == "axis" and d.axes[0] in taps):
            continue
        else:
            shape.append(n)
    return view.reshape(shape)


def _axes(dims: Sequence[Dim], taps: Sequence[str]) -> list[str]:
    found: list[str] = []
    for d in dims:
        if d.kind == "window":
            found.append(d.axes[0])
        elif d.kind in ("axis", "product"):
            found += [a for a in d.axes if a not in taps]
    return found
