"""Arm Cortex-M55 with MVE (Helium) integer and float, on the MPS3 AN547 board in QEMU.

Source: Arm DAI 0547, Application Note AN547 (memory map, 32 MHz); Armv8-M Architecture Reference Manual (MVE).
"""

from __future__ import annotations

from shohin.targets.board import BARE, QemuBoard
from shohin.targets.target import Memory, Target, register_target

KIB, MIB = 1024, 1024 * 1024

TARGET = register_target(Target(
    name="cortex-m55",
    doc="Arm Cortex-M55, MVE with float; MPS3 AN547 in QEMU",
    triple="thumb-freestanding-eabihf",
    mcpu="cortex_m55+mve_fp",
    cflags=BARE,
    float_unit=True,
    memories=(
        Memory(name="itcm", size=512 * KIB, address=0x10000000, kind="flash"),
        Memory(name="sram", size=2 * MIB, address=0x11000000, kind="flash"),
        Memory(name="qspi", size=8 * MIB, address=0x38000000, kind="flash"),
        Memory(name="dtcm", size=512 * KIB, address=0x30000000, kind="ram"),
        Memory(name="isram", size=4 * MIB, address=0x31000000, kind="ram"),
    ),
    strategy=QemuBoard(machine="mps3-an547", clock_hz=32_000_000),
))
