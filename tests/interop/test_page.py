"""The documented table of operators is that of the code."""

import pytest

pytest.importorskip("onnx")

from tests.interop.page import PAGE, page


def test_the_table_is_current():
    text = PAGE.read_text()
    assert text == page(text), "write it anew: python -m tests.interop.page"
