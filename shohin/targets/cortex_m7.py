"""Arm Cortex-M7 with a double-precision FPU, on the MPS2 AN500 board in QEMU.

Source: Arm DAI 0500, Application Note AN500 (memory map, 25 MHz); its PSRAM is not used.
"""

from __future__ import annotations

from shohin.targets.board import BARE, QemuBoard
from shohin.targets.target import Memory, Target, register_target

MIB = 1024 * 1024

TARGET = register_target(Target(
    name="cortex-m7",
    doc="Arm Cortex-M7 with FPU; MPS2 AN500 in QEMU",
    triple="thumb-freestanding-eabihf",
    # The FPU has to be named: cortex_m7 alone means soft float.
    mcpu="cortex_m7+fp_armv8d16",
    cflags=BARE,
    float_unit=True,
    memories=(
        Memory(name="ssram1", size=4 * MIB, address=0x00000000, kind="flash"),
        Memory(name="ssram23", size=4 * MIB, address=0x20000000, kind="ram"),
    ),
    strategy=QemuBoard(machine="mps2-an500", clock_hz=25_000_000),
))
