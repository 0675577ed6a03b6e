"""Diff: float, quantized, reference, C here and on the board; where they part first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import shohin as sh
from shohin.core.errors import DataError, DeployError
from shohin.core.tensor import as_tensor
from shohin.deploy.values import float_values, integer_values, snr
from shohin.shipping.diff import OUTPUT, artefact_way, board_way, diff, module_way, outputs_way, reference_way
from tests.compress.nets import images, quantized, trained
from tests.targets.emulator import require_emulator

X = images(6, 11)


@pytest.fixture(scope="module")
def net() -> sh.compress.Quantized:
    return quantized(0)


def test_float_and_quantized_share_every_place_that_has_a_grid(net: sh.compress.Quantized) -> None:
    found = diff(module_way(trained(0)), module_way(net), X)
    places = [r.place for r in found.rows]
    assert places[0] == "input" and places[-1] == OUTPUT
    assert set(integer_values(net, X)) <= set(places)
    assert found.first is not None and found.first.place == "input"  # rounding onto the first grid
    assert all(r.differing is None and r.snr > 5 for r in found.rows)
    assert found.steepest is not None and "the signal to noise falls most at" in str(found)


def test_integers_agree_everywhere(net: sh.compress.Quantized) -> None:
    found = diff(module_way(net), reference_way(net), X)
    assert found.first is None and len(found.rows) > 20 and all(r.differing == 0 for r in found.rows)
    assert f"agree at all {len(found.rows)} places" in str(found)


def test_the_first_place_that_parts_is_the_one_that_was_changed(net: sh.compress.Quantized) -> None:
    other = sh.copy(net)
    cell = other.cells()["quantized.constants.grouped/conv2d#0.q_b"]
    cell.write(as_tensor(cell.read().numpy() + 4000))
    found = diff(reference_way(net), reference_way(other), X)
    assert found.first is not None and found.first.place.startswith("grouped") and found.first.differing
    assert not any(r.parts for r in found.rows[: found.rows.index(found.first)])


def test_artefacts_and_the_board(net: sh.compress.Quantized, tmp_path: Path) -> None:
    require_emulator()
    board, host = (sh.export(net, X[:1], device=d, to=tmp_path / d) for d in ("cortex-m55", "host"))
    for way in (artefact_way(board), artefact_way(host), board_way(board)):
        found = diff(module_way(net), way, X)
        assert [r.place for r in found.rows] == [OUTPUT] and found.first is None and found.rows[0].compared == 6 * 5
    with pytest.raises(DeployError, match="is for the host, which is no board"):
        board_way(host)


def test_two_float_ways(tmp_path: Path) -> None:
    """An origin is compared to rounding; a weight that differs shows where."""
    net = trained(0)
    with sh.mode(net, training=False):
        same = diff(module_way(net), outputs_way(lambda x: net(as_tensor(x)).numpy() * np.float32(1.000001), "origin"), X)
    assert same.first is None and [r.place for r in same.rows] == [OUTPUT]
    other = sh.copy(net)
    other.point.weight = as_tensor(other.point.weight.numpy() * 1.5)
    found = diff(module_way(net), module_way(other), X)
    assert found.first is not None and found.first.place.startswith("point/")
    assert next(iter(float_values(net, X))) == "input"
    art = sh.export(net, X[:1], device="host", to=tmp_path)
    assert diff(module_way(net), artefact_way(art), X).first is None


def test_bad_inputs(net: sh.compress.Quantized) -> None:
    with pytest.raises(DataError, match=r"x is float64\[6, 10, 9, 3\]"):
        diff(module_way(net), module_way(net), X.astype(np.float64))
    wrong = X.copy()
    wrong[3, 0, 0, 0] = np.nan
    with pytest.raises(DataError, match="row 3 holds NaN"):
        diff(module_way(net), module_way(net), wrong)
    with pytest.raises(DeployError, match="no place in common"):
        diff(outputs_way(lambda x: x[:, :1], "a"), outputs_way(lambda x: x[:, :2], "b"), X)


def test_signal_to_noise() -> None:
    a = np.array([3.0, 4.0], np.float32)
    assert snr(a, a) == float("inf") and snr(np.zeros(2, np.float32), a) == float("-inf")
    assert snr(a, a + np.array([0.05, 0.0], np.float32)) == pytest.approx(40.0, abs=1e-4)
