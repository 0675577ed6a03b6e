"""What all tests share: hypothesis without deadlines, and data or emulators that are there or missed loudly."""

import os
import warnings

import pytest
from hypothesis import settings

# Deadlines measure the machine's other tenants; in CI the examples are the same in every run.
settings.register_profile("shohin", deadline=None, derandomize=os.environ.get("CI") == "true")
settings.load_profile("shohin")


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left_behind():
    """Tests and doctests write to ``tmp_path``; what a run leaves in the working directory fails it."""
    before = set(os.listdir())
    yield
    left = sorted(name for name in set(os.listdir()) - before if not name.startswith("."))
    assert not left, f"the tests left {', '.join(left)} in {os.getcwd()}; write to tmp_path instead"


@pytest.fixture(scope="session")
def fashion_mnist():
    """``(train, test)``; a test that cannot get the data is skipped with a warning, and fails in CI."""
    from shohin.core.errors import DataError
    from shohin.data import fashion_mnist as load

    try:
        return load()
    except DataError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(f"THE DATA ARE MISSING: {error}", pytrace=False)
        warnings.warn(f"NOT TESTED, THE DATA ARE MISSING: {error}", stacklevel=1)
        pytest.skip(f"NOT TESTED, THE DATA ARE MISSING: {error}")
