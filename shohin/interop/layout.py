"""Orders of dims: how a value lies in memory against how its origin counts its dims.

An *order* is a permutation: dim i of the stored tensor is dim ``order[i]`` of the foreign one. A value of a convolution
(n, c, h, w) is stored as (n, h, w, c): order (0, 2, 3, 1). A foreign transpose then moves nothing, it changes the order.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

Order = tuple[int, ...]
Shape = tuple[int, ...]


def plain(rank: int) -> Order:
    """The origin's own order."""
    return tuple(range(rank))


def channels_last(rank: int) -> Order:
    """
    >>> channels_last(4)
    (0, 2, 3, 1)
    """
    return (0, *range(2, rank), 1) if rank > 2 else plain(rank)


def led(rank: int, first: int) -> Order:
    """The origin's order, but with one dim in front.

    >>> led(3, 1)
    (1, 0, 2)
    """
    return (first, *(d for d in range(rank) if d != first)) if rank else ()


def inverse(order: Sequence[int]) -> Order:
    """
    >>> inverse((0, 2, 3, 1))
    (0, 3, 1, 2)
    """
    return tuple(sorted(range(len(order)), key=lambda i: order[i]))


def stored(shape: Sequence[int], order: Order) -> Shape:
    """The stored shape of a foreign one."""
    return tuple(shape[d] for d in order)


def foreign(shape: Sequence[int], order: Order) -> Shape:
    """The foreign shape of a stored one."""
    return tuple(shape[i] for i in inverse(order))


def same_memory(shape: Shape, a: Order, b: Order) -> bool:
    """Whether two orders of a foreign shape differ by dims of one element only, so that a reshape leads from one to the other.

    >>> same_memory((8, 3, 1, 1), (0, 1, 2, 3), (0, 2, 3, 1)), same_memory((8, 3, 1, 2), (0, 1, 2, 3), (0, 2, 3, 1))
    (True, False)
    """
    return [d for d in a if shape[d] != 1] == [d for d in b if shape[d] != 1]


def drop(order: Order, dims: Sequence[int]) -> Order:
    """The order without some foreign dims.

    >>> drop((0, 2, 3, 1), (2, 3))
    (0, 1)
    """
    kept = [d for d in order if d not in dims]
    rank = {d: k for k, d in enumerate(sorted(kept))}
    return tuple(rank[d] for d in kept)


def factors(a: Shape, b: Shape) -> tuple[list[list[int]], list[list[int]], list[int]] | None:
    """The common factors of two shapes of equal size: which make up each dim of either, and their extents; None if they do
    not nest. Dims of one element have none.

    >>> factors((2, 12), (2, 3, 4))
    ([[0], [1, 2]], [[0], [1], [2]], [2, 3, 4])
    """
    if prod(a) != prod(b) or 0 in a:
        return None
    sizes: list[int] = []
    left: list[list[int]] = [[] for _ in a]
    right: list[list[int]] = [[] for _ in b]
    i = j = 0
    rest_a = rest_b = 1
    while True:
        while rest_a == 1 and i < len(a):
            rest_a, i = a[i], i + 1
        while rest_b == 1 and j < len(b):
            rest_b, j = b[j], j + 1
        if rest_a == rest_b == 1:
            return left, right, sizes
        small = min(rest_a, rest_b)
        if rest_a % small or rest_b % small:
            return None
        left[i - 1].append(len(sizes))
        right[j - 1].append(len(sizes))
        sizes.append(small)
        rest_a, rest_b = rest_a // small, rest_b // small


def opened(shape: Shape, at: int) -> Shape:
    """A stored shape whose extent ``at`` follows from the others, so that channels there may become fewer.

    >>> opened((2, 4, 8), -1)
    (2, 4, -1)
    """
    at = at % len(shape) if shape else 0
    return tuple(-1 if i == at else n for i, n in enumerate(shape)) if 0 not in shape else shape


def through_reshape(shape: Shape, order: Order, wanted: Shape) -> tuple[Shape, Order, Order, int] | None:
    """How a stored tensor goes through a foreign reshape with as little movement as can be: as ``split`` (its shape by common
    factors), ``moved`` (an order of these, often none), the order of the result, and which of its stored dims has the factor
    that was stored last, the channels; None if the shapes do not nest.

    >>> through_reshape((2, 8, 3, 5), (0, 2, 3, 1), (2, 8, 15))         # (n, c, h, w) -> (n, c, h w): nothing moves
    ((2, 3, 5, 8), (0, 1, 2, 3), (0, 2, 1), 2)
    >>> through_reshape((2, 8, 3, 5), (0, 2, 3, 1), (2, 120))           # flattened: the channels come first again
    ((2, 3, 5, 8), (0, 3, 1, 2), (0, 1), 1)
    """
    found = factors(shape, wanted)
    if found is None:
        return None
    left, right, sizes = found
    lies = [f for d in order for f in left[d]]
    at = {f: i for i, f in enumerate(lies)}
    owner = {f: d for d, own in enumerate(right) for f in own}
    seen: list[int] = []
    for f in reversed(lies):  # where factors must move, they go to where their dim's last one is: channels stay last
        if owner[f] not in seen:
            seen.insert(0, owner[f])
    for d in range(len(wanted)):  # dims of one element stand where the origin has them, else before the next one
        if d not in seen:
            seen.insert(seen.index(d - 1) + 1 if d - 1 in seen else 0, d)
    result = tuple(seen)
    moved = tuple(at[f] for d in result for f in right[d])
    return tuple(sizes[f] for f in lies), moved, result, result.index(owner[lies[-1]]) if lies else -1


__all__ = ["Order", "channels_last", "drop", "factors", "foreign", "inverse", "opened", "plain", "same_memory", "stored", "through_reshape"]
