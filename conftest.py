"""Examples in docstrings run in a folder of their own, also by ``pytest --doctest-modules shohin``: some write files."""

import pytest


@pytest.fixture(autouse=True)
def examples_elsewhere(request, monkeypatch):
    if isinstance(request.node, pytest.DoctestItem):
        monkeypatch.chdir(request.getfixturevalue("tmp_path"))
