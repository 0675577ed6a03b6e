"""Sums lie within the bound of their order, and docs/numerics.md says what the code finds."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shohin.compiler.kernel import KERNELS
from shohin.core.errors import ShohinError
from shohin.testing import numerics
from shohin.testing.bounds import roundings, summed
from shohin.testing.functions import STATED
from shohin.testing.numerics import CASES, OFFSETS, measured, variance, variance_bound

PAGE = Path(__file__).parents[2] / "docs" / "numerics.md"
FEW = [next(case for case in CASES if case.kernel == name) for name in dict.fromkeys(c.kernel for c in CASES)]


def exceeding(cases: list[numerics.Case]) -> list[str]:
    found = [(case, draw, abs(y - s.true) - s.bound) for case, draw, y, s in measured(cases)]
    assert len(found) == 2 * len(cases)
    return [f"{case} on {draw} values: {excess.max()} beyond its bound" for case, draw, excess in found if not (excess <= 0).all()]


def test_every_kernel_is_measured() -> None:
    ours = {name for name, kernel in KERNELS.items() if kernel.op and name.endswith("_f32")}
    assert {case.kernel for case in CASES} == ours | {"derived loops"}


def test_a_sum_of_each_kernel_lies_within_its_bound() -> None:
    assert exceeding(FEW) == []


@pytest.mark.slow
def test_all_sums_lie_within_their_bounds() -> None:
    assert exceeding(list(CASES)) == []


def test_the_bound_is_met_where_roundings_add_up() -> None:
    """1 + 2^-24 rounds down each time: a sequence of K such terms loses all but the first, as the bound allows and no tighter one."""
    k = 1 << 12
    a, b = np.ones((1, k), np.float32), np.full((k, 1), 2.0**-24, np.float32)
    b[0] = 1
    case = replace(CASES[0], shapes=(a.shape, b.shape))
    s = summed(numerics.kinds.get(case.op), (a, b), case.attrs)
    lost = abs(1.0 - s.true).item()
    assert 0.99 * s.bound.item() < lost <= s.bound.item()


def test_orders_are_counted() -> None:
    assert [roundings((3, 3, 16), "sequence"), roundings((5, 33), "lanes16"), roundings((7,), "chunks8")] == [144, 19, 10]


@pytest.mark.parametrize("offset", OFFSETS)
def test_variances(offset: float) -> None:
    condition, error = variance(offset, (8, 28, 28, 8))
    assert error <= variance_bound(condition)


def table(name: str) -> list[list[str]]:
    """The rows of one table of the page, without its head."""
    found = re.search(rf"<!-- table {name} -->\n(.*?)<!-- end -->", PAGE.read_text(), re.DOTALL)
    assert found, name
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in found[1].splitlines()[2:]]


def number(text: str) -> float:
    return float(text.replace(",", ""))


def test_the_page_s_sums() -> None:
    rows = table("kernels")
    assert len(rows) == len(CASES)
    for row, case in zip(rows, CASES):
        s = case.summed("normal")
        assert row[0] in (case.kernel, f"loops of `{case.op}") and row[3] == s.order
        assert number(row[2]) == np.prod(s.extents) and number(row[6]) == roundings(s.extents, s.order)
        assert 0 < number(row[4]) < number(row[6]) and 0 < number(row[5]) < number(row[6])
    assert all(number(error) < number(most) for _, _, error, most in table("variance"))


def test_the_page_s_functions() -> None:
    rows = {row[0]: row for row in table("functions")}
    assert set(rows) == set(STATED)
    for name, (_, single, at, count, stated, double, _, stated_double) in rows.items():
        assert number(single) <= number(stated) == STATED[name].float32 and number(double) <= number(stated_double) == STATED[name].float64
        assert number(count) == 1 << 32 if "," not in at else number(count) >= 1 << 26


def test_the_page_s_edges() -> None:
    lines = numerics.edges_table()
    assert "\n".join(lines) in PAGE.read_text()


def test_a_page_without_a_place_for_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numerics, "kernels_table", lambda: ["| a |", "|---|", "| 1 |"])
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- table kernels -->\nold\n<!-- end -->\nafter\n")
    with pytest.raises((ValueError, ShohinError), match="0 places for the table variance, expected one"):
        numerics.write(page)
    assert "old" in page.read_text()  # nothing is written by half
