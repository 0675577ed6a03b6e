"""Every operator that is claimed, on the ONNX project's own tests of it: all operands as inputs where they may be, then all but the
first as constants of the file."""

import re

import pytest

pytest.importorskip("onnx")

import onnx

from shohin.interop.onnx.table import TABLE
from tests.interop.nodes import cases, claimed, operators, run

pytestmark = pytest.mark.slow

OUT = {
    r"FLOAT8|FLOAT4|e4m3|e5m2|float4|FLOAT4E2M1|e2m1|E8M0|_(u)?int2$|(U)?INT2": "types of fewer than 8 bits but int4, and floats of 8 bits",
    r"(pool|convtranspose|affine_grid).*_3d": "three spatial dims",
    r"training": "training mode",
    r"with_argmax": "positions of maxima",
    r"empty_set": "reductions of nothing that have no neutral element",
    r"string|_opt$|sequence$": "text, optional values, lists",
    r"diagonal": "diagonals of einsum",
    r"^test_not_": "opset 1",
    r"attention.*(causal|padded).*_bf16_": "bfloat16: other orders of rounding",
}


def why_not(name: str) -> str:
    return next((why for pattern, why in OUT.items() if re.search(pattern, name)), "")


@pytest.fixture(scope="module")
def ours():
    return {name: case for name, case in cases().items() if claimed(case.model)}


def test_all_pass(ours):
    passed, failed = 0, {}
    for name, case in ours.items():
        if why_not(name):
            continue
        for all_fixed in (False, True):
            try:
                run(case, all_fixed)
                passed += 1
            except Exception as error:
                failed[f"{name} ({'constants' if all_fixed else 'inputs'})"] = f"{type(error).__name__}: {str(error)[:300]}"
    left = sum(bool(why_not(name)) for name in ours)
    print(f"\nONNX {onnx.__version__}: {len(ours) - left} tests of operators in {passed} runs pass; {left} are outside of what is claimed")
    assert not failed, "\n".join(f"{k}: {v}" for k, v in failed.items())
    assert passed >= 2 * 1100


def test_every_operator_has_a_test(ours):
    """But for those that the project has none for: versions that have gone, and what its tests only use beside others."""
    tested = set().union(*(operators(case.model) for name, case in ours.items() if not why_not(name)))
    assert set(TABLE) - tested == set()


def test_no_reason_is_idle(ours):
    for pattern in OUT:
        assert any(re.search(pattern, name) for name in ours), pattern
