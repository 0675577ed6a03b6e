"""Augmentation of small images: a random shift of up to two pixels and a mirror, drawn for each image."""

from __future__ import annotations

import shohin as sh

SHIFT = 2


def crop_and_flip(x: sh.Tensor) -> sh.Tensor:
    """x (n, h, w, c), each image cut at random out of itself padded with the dark background, half of them mirrored."""
    n, h, w, _ = x.shape
    low = float(-0.2860 / 0.3530)  # a black pixel after normalization
    wide = sh.pad(x, [(0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0)], low)
    down, right = (sh.random.randint(0, 2 * SHIFT + 1, (n, 1)) for _ in range(2))
    mirror = sh.random.bernoulli(0.5, (n, 1))
    rows = sh.iota((1, h), axis=1) + down
    across = sh.iota((1, w), axis=1)
    columns = sh.where(mirror, (w - 1) - across, across) + right
    return sh.take(sh.take(wide, rows, axis=1, batch_dims=1), columns, axis=2, batch_dims=1)
