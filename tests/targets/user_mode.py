"""A network's C on another instruction set, in the user mode of QEMU: ``qemu-aarch64 -cpu max``."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from shohin.targets.board import FIRMWARE
from shohin.targets.source import read_source
from shohin.targets.toolchain import WARNINGS, call, zig

QEMU = "qemu-aarch64"


def require_user_mode() -> None:
    """Skips or fails the running test when the emulator is not installed."""
    if shutil.which(QEMU) is None:
        message = f"{QEMU} is MISSING: NEON kernels are NOT tested. Run `make emulators`"
        if os.environ.get("SHOHIN_REQUIRE_EMULATORS") == "1":
            pytest.fail(message)
        pytest.skip(message)


def run_aarch64(folder: Path, x: np.ndarray, mcpu: str) -> np.ndarray:
    """Outputs (n, output_size) of the int8 network in ``folder`` for ``x`` (n, input_size)."""
    source = read_source(folder)
    text = Path(__file__).with_suffix(".c").read_text()
    (folder / "user_mode.c").write_text(text.replace("NAME", source.name).replace("MACRO", source.macro))
    program = folder / f"{mcpu}.elf"
    call([*zig().command, "-target", "aarch64-freestanding-none", "-ffreestanding", f"-mcpu={mcpu}", "-O2", "-std=c11", *WARNINGS, "-Werror", "-ffp-contract=off",
          "-fno-sanitize=undefined", "-nostdlib", "-static", "-isystem", FIRMWARE / "include", "-I", folder, folder / "user_mode.c", folder / "network.c", "-o", program],
         doing=f"compiling {source.name} for aarch64")  # fmt: skip
    done = subprocess.run([QEMU, "-cpu", "max", program], input=source.inputs(x).tobytes(), capture_output=True, check=True, timeout=300)
    return np.frombuffer(done.stdout, np.int8).reshape(len(x), source.output_size)
