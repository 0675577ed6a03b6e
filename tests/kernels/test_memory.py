"""No integer kernel reads or writes beyond its buffers, on random odd layers; and the integers are the reference's."""

from __future__ import annotations

import platform
import shutil
from pathlib import Path

import pytest

from shohin.compiler.kernel import GENERIC, Machine
from shohin.targets.host import can_run
from tests.kernels.memory import Batch

COMPUTER = Machine(level="generic", vector_bytes=64, features=frozenset(), threads=2)
BUILDS = {"plain": (GENERIC, ()), "v3": (COMPUTER, ("-march=x86-64-v3",)), "vnni": (COMPUTER, ("-march=x86-64-v4", "-mavx512vnni"))}


@pytest.mark.parametrize("name", BUILDS)
def test_buffers_are_kept_to(name: str, tmp_path: Path) -> None:
    if not shutil.which("gcc") or platform.machine() != "x86_64" or (name != "plain" and not can_run(name)):
        pytest.skip(f"no gcc for {name} here")
    machine, flags = BUILDS[name]
    batch = Batch(3, 100, machine)
    dense = {"qconv2d_dot", "qconv2d_depthwise", "qmatmul_dot", "max_pool2d_int8"}
    packed = {"qconv2d_palette", "qconv2d_depthwise_palette", "qmatmul_palette", "qconv2d_sparse", "qmatmul_sparse"}
    assert batch.kernels == dense | packed | ({"qconv2d_tiles", "qmatmul_tiles"} if machine is GENERIC else set())
    assert batch.failures(tmp_path, *flags) == []
