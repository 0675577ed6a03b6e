"""Layers of other sizes share the C of their kernels: what differs is passed, and a file holds each function once."""

from __future__ import annotations

import re

import numpy as np
import pytest

import shohin as sh
from shohin import nn
from shohin.compiler import ctext


def source(f, *shapes):
    return sh.jit(f, threads=1).lower(*(np.zeros(s, np.float32) for s in shapes)).compiled.source


def guards(text, kind):
    return re.findall(rf"^#define (SHOHIN_{kind}_\w+)$", text, re.MULTILINE)


@pytest.mark.parametrize("window, padding", [(1, 0), (3, 1)])
def test_layers_of_other_sizes_share_their_functions(window, padding):
    def two(x, a, b, y):
        x = nn.relu(sh.conv2d(x, a, padding=padding) + y)  # an operand that lies like the result
        return nn.relu(sh.conv2d(x, b, padding=padding) + sh.conv2d(y, b, padding=padding))

    text = source(two, (2, 9, 9, 64), (64, window, window, 64), (32, window, window, 64), (2, 9, 9, 64))
    wide = source(lambda x, a, y: nn.relu(sh.conv2d(x, a, padding=padding) + y), (2, 13, 13, 128), (64, window, window, 128), (2, 13, 13, 64))
    assert guards(text, "FAMILY") and set(guards(text, "FAMILY")) >= set(guards(wide, "FAMILY"))
    assert set(guards(wide, "CLOSE")) <= set(guards(text, "CLOSE")), "an epilogue's text must not hold its layer's extents"
    assert len(guards(wide, "CLOSE")) == 1


def test_a_file_holds_a_helper_once():
    one, two = ctext.once("sh_one", "int one;\n"), ctext.once("sh_two", "#ifdef X\n#endif\n")
    seen: set[str] = set()
    assert ctext.without(one + two + one + "int x;\n", seen) == one + two + "int x;\n"
    assert ctext.without(two + "int y;\n", seen) == "int y;\n" and seen == {"SH_ONE", "SH_TWO"}
