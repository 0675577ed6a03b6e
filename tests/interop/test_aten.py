"""Every operator of PyTorch that is claimed, on recorded programs and PyTorch's results; no torch is needed (``aten_record`` writes them)."""

import numpy as np
import pytest

from shohin.interop.importing import bring_in
from shohin.interop.pytorch.rules import TABLE
from tests.interop.recorded import load

PROGRAMS = load()


@pytest.mark.parametrize("name", PROGRAMS)
def test_equal_to_pytorch(name):
    foreign, inputs, results = PROGRAMS[name]
    net = bring_in(foreign, TABLE, "a record", check=inputs, shape=None, fixed=None, run=lambda given: results)
    got = net(*inputs.values())
    got = got if isinstance(got, tuple) else (got,)
    assert len(got) == len(results)
    for a, b in zip(got, results):
        mine = a.numpy()
        assert (mine.dtype, mine.shape) == (b.dtype, b.shape)
        if b.dtype.kind == "f":
            np.testing.assert_allclose(mine, b, rtol=2e-5, atol=2e-6 * max(1.0, float(np.abs(b).max(initial=0))))
        else:
            assert np.array_equal(mine, b)


def test_every_operator_has_a_program():
    assert set(TABLE) - {node.op for foreign, _, _ in PROGRAMS.values() for node in foreign.nodes} == set()
