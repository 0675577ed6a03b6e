"""Arm Cortex-M55 with MVE (Helium) integer and float, on the MPS3 AN547 board in QEMU.

Source: Arm DAI 0547, Application Note AN547 (memory map, 32 MHz); Armv8-M Architecture Reference Manual (MVE).
"""

from __future__ import annotations

import numpy as np

from shohin.targets.board import BARE, QemuBoard
from shohin.targets.target import Instruction, Memory, Target, register_target

KIB, MIB = 1024, 1024 * 1024


def dot_accumulate(acc: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """acc + sum_i a_i b_i in int32, wrapping."""
    return (acc.astype(np.int64) + (a.astype(np.int64) * b.astype(np.int64)).sum()).astype(np.int32)


def widening_product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The high half of 2 a_i b_i in int32 lanes, saturating: (2 a_i b_i) >> 32."""
    return np.clip((a.astype(np.int64) * b.astype(np.int64)) >> 31, -2**31, 2**31 - 1).astype(np.int32)


INSTRUCTIONS = (
    Instruction(
        name="dot16", doc="sixteen int8 products added to one int32",
        args=(("acc", ("int32", 1)), ("a", ("int8", 16)), ("b", ("int8", 16))), result=("int32", 1),
        meaning=dot_accumulate, template="vmladavaq_s8({acc}, (int8x16_t){a}, (int8x16_t){b})",
        guard="defined __ARM_FEATURE_MVE", header="arm_mve.h"),
    Instruction(
        name="dot8_i16", doc="eight int16 products added to one int32",
        args=(("acc", ("int32", 1)), ("a", ("int16", 8)), ("b", ("int16", 8))), result=("int32", 1),
        meaning=dot_accumulate, template="vmladavaq_s16({acc}, (int16x8_t){a}, (int16x8_t){b})",
        guard="defined __ARM_FEATURE_MVE", header="arm_mve.h"),
    Instruction(
        name="doubling_high_product", doc="int32 lanes: the high half of the doubled product, saturating",
        args=(("a", ("int32", 4)), ("b", ("int32", 4))), result=("int32", 4),
        meaning=widening_product, template="({result})vqdmulhq_s32((int32x4_t){a}, (int32x4_t){b})",
        guard="defined __ARM_FEATURE_MVE", header="arm_mve.h"),
)

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
    instructions=INSTRUCTIONS,
    strategy=QemuBoard(machine="mps3-an547", clock_hz=32_000_000),
))
