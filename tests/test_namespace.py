"""The public names: every one in the table of ``shohin/__init__.py`` is there, and none is missing from the list."""

import importlib

import pytest

import shohin as sh

NAMES = sorted(sh._TABLE) + sorted(sh._RENAMED)
EXTRAS = {"CoreAI", "as_torch", "from_torch", "onnx_runtime", "to_coreai", "write_report"}
LATER = {"channels", "cost", "export", "compare", "measure", "evaluate", "fit", "Task", "load", "save"}


@pytest.mark.parametrize("name", NAMES)
def test_the_table_is_true(name):
    try:
        value = getattr(sh, name)
    except (ImportError, AttributeError):
        if name in LATER | EXTRAS:
            pytest.skip(f"{name} is not there yet, or needs a package that is not installed")
        raise
    assert value is not None and name in dir(sh)
    if callable(value) and not isinstance(value, type) and name not in ("bool", "primitive"):
        assert value.__doc__ and value.__doc__.strip(), f"{name} has no docstring"


@pytest.mark.parametrize("module", ["math", "move", "reduce", "linear", "index", "extra"])
def test_every_function_of_the_ops_is_public(module):
    there = set(importlib.import_module(f"shohin.ops.{module}").__all__) - {"slice_"}
    assert there <= set(NAMES), f"missing in the table: {sorted(there - set(NAMES))}"


def test_names_of_the_standard():
    standard = """abs acos acosh add all any arange argmax argmin argsort asarray asin asinh astype atan atan2 atanh bitwise_and bitwise_invert
    bitwise_left_shift bitwise_or bitwise_right_shift bitwise_xor broadcast_arrays broadcast_to can_cast ceil clip concat copysign cos cosh count_nonzero
    cumulative_sum diff divide e empty empty_like equal exp expand_dims expm1 eye finfo flip floor floor_divide full full_like greater greater_equal
    hypot iinfo inf isdtype isfinite isinf isnan less less_equal linspace log log10 log1p log2 logaddexp logical_and logical_not logical_or logical_xor
    matmul matrix_transpose max maximum mean meshgrid min minimum moveaxis multiply nan negative newaxis nonzero not_equal ones ones_like
    permute_dims pi positive pow prod reciprocal remainder repeat reshape result_type roll round searchsorted sign signbit sin sinh sort sqrt square
    squeeze stack std subtract sum take take_along_axis tan tanh tensordot tile tril triu trunc unique_all unique_counts unique_inverse unique_values
    unstack var vecdot where zeros zeros_like""".split()
    assert [n for n in standard if not hasattr(sh, n)] == []


def test_what_the_standard_has_and_we_do_not():
    """Said here, so that nobody looks for it: complex arithmetic, and a few that nothing on a device needs."""
    assert not any(hasattr(sh, n) for n in ("conj", "imag", "real", "from_dlpack", "nextafter", "cumulative_prod"))
