"""Armv7E-M (Cortex-M4, M7): four terms are two pairs of int16 (``smlad``)."""

from __future__ import annotations

import numpy as np

from shohin.kernels.instructions.record import Array, Dot, Instruction, InstructionSet, Operand

GUARD = "defined(__ARM_FEATURE_DSP) && defined(__ARM_FEATURE_SIMD32)"
_PAIR, _INT = Operand("int16", 2, "int16x2_t"), Operand("int32", 1, "int32_t")


def _add_products(a: Array, b: Array, acc: Array) -> Array:
    return (acc.astype(np.int64) + (a.astype(np.int64) * b.astype(np.int64)).sum()).astype(np.int32)


SMLAD = Instruction(
    name="dot2_i16", doc="two int16 products added to one int32 (smlad)", args=(("a", _PAIR), ("b", _PAIR), ("acc", _INT)), result=_INT,
    meaning=_add_products, template="__smlad({a}, {b}, {acc})", guard=GUARD, header="arm_acle.h",
)  # fmt: skip
_LOAD = "uint32_t {to}t; SHOHIN_Q8_COPY(&{to}t, {at}, 4); const int16x2_t {to}a = __sxtb16({to}t), {to}b = __sxtb16(__ror({to}t, 8));"
SET = InstructionSet(
    name="DSP", doc="Armv7E-M", rank=70, guard=GUARD, header="arm_acle.h", mcpu="cortex_m4+vfp4d16sp", features=frozenset(), instructions=(SMLAD,),
    dot=Dot(
        tile=2, positions=(2, 1), terms=4, sum="int32_t", start="{bias}", x=_LOAD, w=_LOAD,
        step=f"{{sum}} = {SMLAD.c('{x}b', '{w}b', SMLAD.c('{x}a', '{w}a', '{sum}'))};", close="({at})[0] = {0}; ({at})[1] = {1};",
    ),
)  # fmt: skip
