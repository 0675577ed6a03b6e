"""Arm Cortex-M4 with a single-precision FPU, on the MPS2 AN386 board in QEMU.

Source: Arm DAI 0386, Application Note AN386 (memory map, 25 MHz).
"""

from __future__ import annotations

from shohin.targets.board import BARE, QemuBoard
from shohin.targets.target import Memory, Target, register_target

MIB = 1024 * 1024

TARGET = register_target(Target(
    name="cortex-m4",
    doc="Arm Cortex-M4 with FPU; MPS2 AN386 in QEMU",
    triple="thumb-freestanding-eabihf",
    # The FPU has to be named: cortex_m4 alone means soft float.
    mcpu="cortex_m4+vfp4d16sp",
    cflags=BARE,
    float_unit=True,
    memories=(
        Memory(name="ssram1", size=4 * MIB, address=0x00000000, kind="flash"),
        Memory(name="ssram23", size=4 * MIB, address=0x20000000, kind="ram"),
        Memory(name="psram", size=16 * MIB, address=0x21000000, kind="ram"),
    ),
    strategy=QemuBoard(machine="mps2-an386", clock_hz=25_000_000),
))
