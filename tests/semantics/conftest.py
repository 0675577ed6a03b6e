"""Each rule runs in eager and compiled."""

import numpy as np
import pytest

import shohin as sh


@pytest.fixture(params=["eager", "jit"])
def runner(request):
    """``runner(f)``: the function as it is, or compiled."""
    if request.param == "eager":
        return lambda f: f
    return sh.jit


@pytest.fixture(autouse=True)
def seeded():
    sh.seed(0)
    np.random.seed(0)
