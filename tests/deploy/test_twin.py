"""The awkward network as shipped: module = Python reference = host C (zig and gcc, AVX2 and native) = emulated Cortex-M55."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import shohin as sh
from shohin.core.module import mode
from tests.compress import test_twin
from tests.compress.nets import images, quantized
from tests.targets.emulator import require_emulator

CASES = test_twin.CASES


@pytest.mark.parametrize("case", CASES, ids=[c.__name__ for c in CASES])
def test_no_integer_differs_in_what_is_shipped(case, tmp_path: Path) -> None:
    require_emulator()
    net, rng = quantized(0), np.random.default_rng(0)
    case(net, rng)
    net.train().eval()
    with mode(net, training=False):
        x = images(40, seed=3)
        art = sh.export(net, x[:1], device="cortex-m55", to=tmp_path / "board")
        host = sh.export(net, x[:1], device="host", to=tmp_path / "host")
        ccs = (None, "gcc") if shutil.which("gcc") else (None,)
        same = sh.compare(net, art, x, board=4, ccs=ccs, levels=("native", "v3"), host=host)
    assert same.differing == 0, str(same)
    assert "cortex-m55" in same.ways and len(same.ways) >= 7
