"""Index arithmetic is rewritten to the same numbers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from shohin.compiler.flat import rewrite, simplify
from shohin.core import dtypes
from shohin.core.loop import Bin, Const, Expr, Var

I, C = Var("i"), Var("c")
RANGES = {"i": (0, 15), "c": (0, 3)}


def value(e: Expr, at: dict[str, int]) -> int:
    match e:
        case Var(name):
            return at[name]
        case Const(number, _):
            return int(number)
        case Bin(op, a, b):
            x, y = value(a, at), value(b, at)
            return {"add": x + y, "sub": x - y, "mul": x * y, "floordiv": x // y if y else 0, "mod": x % y if y else 0}[op]
    raise AssertionError(e)


def random(rng: np.random.Generator, depth: int) -> Expr:
    """Sums and quotients in which the same quotient comes again."""
    if depth == 0:
        return [I, C, I // 2, I // 4, I // 2 * 2][rng.integers(5)]
    a, n = random(rng, depth - 1), Const(int(rng.choice([2, 4, 8])), dtypes.int32)
    match rng.integers(5):
        case 0:
            return a + random(rng, depth - 1)
        case 1:
            return a - random(rng, depth - 1)
        case 2:
            return a * n
        case 3:
            return a // n
        case _:
            return a % n


CASES = [(C * 2 + (I - I // 2 * 2)) // 2, (C * 8 + I % 8 - I // 2) // 4, ((I // 2) * 3 + I) // 2 % 4]


@pytest.mark.parametrize("e", CASES, ids=str)
def test_a_quotient_that_is_a_term_already_is_counted_once_more(e: Expr) -> None:
    same(e)


def test_random_index_arithmetic_keeps_its_numbers() -> None:
    rng = np.random.default_rng(0)
    for _ in range(400):
        same(random(rng, 4))


def same(e: Expr) -> None:
    found = rewrite(e, lambda x: simplify(x, RANGES))
    for i, c in itertools.product(range(16), range(4)):
        at = {"i": i, "c": c}
        assert value(found, at) == value(e, at), f"{e} became {found} at {at}"
