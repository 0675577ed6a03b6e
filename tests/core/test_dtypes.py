"""dtypes: promotion against the array API's tables, weak Python numbers, names."""

import itertools

import ml_dtypes
import numpy as np
import pytest

import shohin as sh
from shohin.core import dtypes
from shohin.core.errors import DtypeError

SIGNED = ["int8", "int16", "int32", "int64"]
UNSIGNED = ["uint8", "uint16", "uint32", "uint64"]
FLOATS = ["float32", "float64"]


def promote(a, b):
    return dtypes.promote((dtypes.as_dtype(a), False), (dtypes.as_dtype(b), False)).name


@pytest.mark.parametrize("a, b", list(itertools.product(SIGNED + UNSIGNED, repeat=2)))
def test_integers_promote_as_the_standard_says(a, b):
    """The table of the standard; NumPy agrees except for uint64 with a signed integer, which is undefined there."""
    if "uint64" in (a, b) and a != b and "u" not in min(a, b, key=lambda n: n[0] == "u")[:1]:
        with pytest.raises(DtypeError, match="no common integer type.*astype"):
            promote(a, b)
        return
    assert promote(a, b) == np.promote_types(a, b).name == promote(b, a)


@pytest.mark.parametrize("a, b", itertools.product(FLOATS, repeat=2))
def test_floats_promote_as_the_standard_says(a, b):
    assert promote(a, b) == np.promote_types(a, b).name


def test_complex_promotes():
    assert promote("float32", "complex64") == "complex64" and promote("float64", "complex64") == "complex128"
    assert promote("complex64", "complex128") == "complex128"


@pytest.mark.parametrize("a, b", [("int32", "float32"), ("bool", "int8"), ("bool", "float32"), ("uint8", "float16")])
def test_kinds_do_not_mix(a, b):
    with pytest.raises(DtypeError, match=f"{a} and {b} do not promote; write astype"):
        promote(a, b)


def test_the_narrow_ones():
    assert dtypes.promote((sh.int4, False), (sh.int8, False)) == sh.int8
    assert dtypes.promote((sh.int4, False), (sh.uint4, False)) == sh.int8
    assert dtypes.promote((sh.int2, False), (sh.int4, False)) == sh.int4
    assert dtypes.promote((sh.float16, False), (sh.bfloat16, False)) == sh.float32
    assert dtypes.promote((sh.bfloat16, False), (sh.float32, False)) == sh.float32


@pytest.mark.parametrize("dtype", [d for d in sorted(dtypes.ANY, key=str) if d != sh.bool], ids=str)
def test_python_numbers_take_the_arrays_dtype(dtype):
    x = sh.zeros(2, dtype=dtype)
    assert (x + 1).dtype == dtype and (1 + x).dtype == dtype
    if dtype in dtypes.FLOATING:
        assert (x + 1.5).dtype == dtype and (1.5 * x).dtype == dtype
    else:
        with pytest.raises(DtypeError, match=f"Python float does not promote with an array of {dtype.name}"):
            x + 1.5


def test_a_number_that_does_not_fit_is_an_error():
    for dtype, n in ((sh.int8, 300), (sh.uint8, -1), (sh.int4, 9)):
        with pytest.raises(DtypeError, match=rf"{n} does not fit {dtype.name}"):
            sh.zeros(2, dtype=dtype) + n


@pytest.mark.parametrize("dtype", dtypes.SHORT, ids=str)
def test_names(dtype):
    short = dtypes.short(dtype)
    assert dtypes.as_dtype(short) == dtypes.as_dtype(dtype.name) == dtype == dtypes.BY_SHORT[short]
    if dtype in dtypes.INTEGER:
        assert dtypes.bits(dtype) == ml_dtypes.iinfo(dtype).bits


def test_what_is_no_dtype():
    with pytest.raises(DtypeError, match="'float33' is not a dtype"):
        sh.zeros(2, dtype="float33")


@pytest.mark.parametrize("seed", range(20))
def test_promotion_is_associative_and_commutative_within_a_kind(seed):
    rng = np.random.default_rng(seed)
    for group in (SIGNED[:3] + UNSIGNED[:2], ["float16", "bfloat16", "float32", "float64"]):
        a, b, c = (str(n) for n in rng.choice(group, 3))
        assert promote(promote(a, b), c) == promote(a, promote(b, c))
        assert promote(a, b) == promote(b, a)


@pytest.mark.parametrize("dtype", [sh.float16, sh.bfloat16, sh.float64, sh.int4], ids=str)
def test_defaults_and_data(dtype):
    assert (
        sh.asarray([1.0]).dtype == sh.float32
        and sh.asarray([1]).dtype == sh.int64
        and sh.asarray([True]).dtype == sh.bool
    )
    assert sh.asarray(np.float64([1])).dtype == sh.float64
    assert sh.asarray([1, 2], dtype=dtype).dtype == dtype
