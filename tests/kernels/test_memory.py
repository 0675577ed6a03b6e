"""No integer kernel reads or writes beyond its buffers, on random odd layers; and the integers are the reference's."""

from __future__ import annotations

import platform
import shutil
from pathlib import Path

import pytest

from shohin.compiler.kernel import GENERIC, Machine
from shohin.targets.host import can_run
from tests.kernels.memory import Batch

V3, V4 = (Machine(level=level, vector_bytes=n, features=frozenset(), threads=2) for level, n in (("v3", 32), ("v4", 64)))
BUILDS = {"plain": (GENERIC, ()), "v3": (V3, ("-march=x86-64-v3",)), "v4": (V4, ("-march=x86-64-v4",)), "vnni": (V4, ("-march=x86-64-v4", "-mavx512vnni"))}


@pytest.mark.parametrize("name", BUILDS)
def test_buffers_are_kept_to(name: str, tmp_path: Path) -> None:
    if not shutil.which("gcc") or platform.machine() != "x86_64" or (name != "plain" and not can_run(name)):
        pytest.skip(f"no gcc for {name} here")
    machine, flags = BUILDS[name]
    batch = Batch(3, 100, machine)
    dense = {"qconv2d_dot", "qconv2d_depthwise", "qmatmul_dot"} if name == "plain" else {"qconv2d_panels", "qconv2d_columns", "qmatmul_panels"}
    packed = {"qconv2d_palette", "qconv2d_depthwise_palette", "qmatmul_palette", "qconv2d_sparse", "qmatmul_sparse"}
    assert batch.kernels == {*dense, "max_pool2d_int8"} | packed | ({"qconv2d_tiles", "qmatmul_tiles"} if machine is GENERIC else set())
    assert batch.failures(tmp_path, *flags) == []
