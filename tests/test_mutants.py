"""The faults of ``tests.mutants``: each is noticed, and the records are whole afterwards."""

import pytest

from shohin.core.op import REGISTRY
from shohin.testing.conformance import check_op
from tests.mutants import MUTANTS, caught_by


@pytest.mark.parametrize("name", MUTANTS)
def test_caught(name):
    before = dict(REGISTRY)
    assert caught_by(MUTANTS[name]) is not None
    assert before == dict(REGISTRY)
    op = REGISTRY[name.split(":")[0]]
    assert check_op(op, ["shape", "body"]) == []
