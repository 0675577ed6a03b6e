"""The stated errors of the float functions: on samples against NumPy, on all float32 in the slow tests."""

from __future__ import annotations

import math

import numpy as np
import pytest

from shohin.compiler.mathlib import FUNCTIONS
from shohin.core import dtypes
from shohin.core.dtypes import DType
from shohin.testing import functions
from shohin.testing.functions import STATED, compiled, distance, pairs, spread, sweep, truth, worst

TWO = ("pow", "atan2")
ONE = [name for name in STATED if name not in TWO]
COUNT = 1 << 15


def arguments(name: str, dtype: DType) -> tuple[np.ndarray, ...]:
    return pairs(dtype, COUNT) if name in TWO else (spread(dtype, COUNT),)


@pytest.mark.parametrize("name", STATED)
def test_stated_errors_hold_on_samples(name: str) -> None:
    stated = STATED[name]
    for dtype, most, limit in ((dtypes.float32, stated.float32, stated.limit[0]), (dtypes.float64, stated.float64, stated.limit[1])):
        found = worst(name, *arguments(name, dtype), limit=limit)
        assert 0.3 < found.ulp <= most, (dtype, found)


def test_all_functions_are_stated() -> None:
    assert {name for name in FUNCTIONS if "_" not in name} == set(STATED)


@pytest.mark.parametrize("name", ONE)
def test_a_sweep_finds_what_numpy_finds(name: str) -> None:
    """The compiled distance from float64 is NumPy's, and worse errors than the samples' have their place in all float32."""
    found = sweep(name, 1 << 13)
    assert found.arguments == 1 << 19 and found.ulp <= STATED[name].float32
    x = (np.arange(1 << 19, dtype=np.uint64) << np.uint64(13)).astype(np.uint32).view(np.float32)
    again = worst(name, x, limit=STATED[name].limit[0])
    assert again.at == found.at and again.ulp == pytest.approx(found.ulp, rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ONE)
def test_stated_errors_hold_everywhere(name: str) -> None:
    found = sweep(name)
    assert found.arguments == 1 << 32 and found.ulp <= STATED[name].float32, found


def test_a_worse_function_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """One ulp more, one wrong NaN, one lost sign of zero: each has its place in the distance."""
    x = spread(dtypes.float32, 1 << 12)
    y = compiled("exp", dtypes.float32, x.size)(x)
    assert distance(np.nextafter(y, np.float32(np.inf)), truth("exp", x)).max() > STATED["exp"].float32 - 1
    true = np.array([np.nan, 1.0, -1e-60, 1e60, np.inf])
    assert distance(np.float32([1, np.nan, 0, 1, -np.inf]), true).tolist() == [np.inf] * 5
    assert distance(np.float32([np.nan, 1, -0.0, np.inf, np.inf]), true).tolist() == pytest.approx([0] * 5, abs=1e-12)
    monkeypatch.setitem(STATED, "exp", functions.Stated(float32=0.1, float64=0.1))
    assert sweep("exp", 1 << 13).ulp > STATED["exp"].float32


def test_erf_of_float64_is_python_s() -> None:
    """The truth for float32's, far beyond what float32 can see."""
    x = np.concatenate([np.linspace(-6.5, 6.5, 20_001), 10.0 ** np.arange(-300, 2, 0.5)])
    want = np.array([math.erf(v) for v in x])
    np.testing.assert_allclose(truth("erf", x.astype(np.float32)), [math.erf(v) for v in x.astype(np.float32)], rtol=1e-15, atol=0)
    np.testing.assert_allclose(compiled("erf", dtypes.float64, x.size)(x), want, rtol=1e-15, atol=0)


def test_special_values() -> None:
    nan, inf = np.nan, np.inf
    x, y = (np.float32(v) for v in zip((1, nan), (nan, 0), (-0.0, -1), (0, -3), (-0.0, -3), (-8, 1 / 3), (inf, -1), (-inf, 3), (-1, inf)))
    np.testing.assert_array_equal(compiled("pow", dtypes.float32, x.size)(x, y), np.float32([1, 1, -inf, inf, -inf, nan, 0, -inf, 1]))
    y, x = (np.float32(v) for v in zip((0, 1), (-0.0, 1), (0, -1), (-0.0, -1), (inf, inf), (-inf, -inf), (1, inf), (nan, 1)))
    got = compiled("atan2", dtypes.float32, x.size)(y, x)
    np.testing.assert_array_equal(got, np.float32([0, -0.0, np.pi, -np.pi, np.pi / 4, -3 * np.pi / 4, 0, nan]))
    np.testing.assert_array_equal(np.signbit(got[:4]), [False, True, False, True])


@pytest.mark.parametrize("name", ["sin", "cos"])
def test_arguments_near_multiples_of_half_pi_and_far_away(name: str) -> None:
    """The worst of all float32 for four parts of pi/2 (24 and 132 ulp); and numbers at which sine was once 10^12."""
    near = np.float32([4476.76953, -48039.6641, 1806.38452, 34609.3867])
    assert worst(name, near).ulp <= STATED[name].float32
    far = np.exp2(np.random.default_rng(0).uniform(17, 22, 4096)).astype(np.float32)
    got = compiled(name, dtypes.float32, far.size)(far)
    assert abs(got - truth(name, far)).max() < 1e-5
    beyond = np.float32([2.0**22, 1e9, -3e38])
    np.testing.assert_array_equal(compiled(name, dtypes.float32, 3)(beyond), [float(name == "cos")] * 3)
