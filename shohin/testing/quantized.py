"""Quantization by table (docs/quantization.md Q8): for an op of one tensor, 256 integers in and out.

The table is ``q' = clip(rint(f(s (q - z)) / s') + z')``; what is checked is that the record supplies what the table
needs: finite values on a grid, one operand, and no state.
"""

from __future__ import annotations

import numpy as np

from shohin.core import dtypes
from shohin.core.op import Op
from shohin.testing.conformance import Problem, reference, samples_of


def table_is_reference(op: Op, seed: int = 0) -> list[Problem] | str:
    """The table over an int8 grid that covers the samples reproduces the reference to half a step."""
    if op.quant.kind != "table":
        reason = op.quant.reason or op.quant.rule or op.quant.kind
        return f"not by table ({reason})"
    s = samples_of(op, seed)[0]
    x = s.operands[0]
    if x.dtype not in dtypes.FLOATING:
        return "the samples are not floating"
    low, high = float(min(x.min(), 0)), float(max(x.max(), 0))
    step = (high - low) / 255 or 1.0
    grid = (np.arange(256) * step + low).astype(np.float32)
    y = reference(op, [grid], s.attrs)[0].astype(np.float64)
    inside = np.isfinite(y)
    if not inside.any():
        return [Problem(op.name, "quantization", "table", "the function is finite nowhere on the grid of its samples")]
    if y.shape != grid.shape:
        return [
            Problem(
                op.name, "quantization", "table", "the function is not element by element; write Quant.refuse(reason)"
            )
        ]
    out_low, out_high = float(min(y[inside].min(), 0)), float(max(y[inside].max(), 0))
    out_step = (out_high - out_low) / 255 or 1.0
    table = np.clip(np.rint((y - out_low) / out_step), 0, 255)
    worst = float(np.max(np.abs(table[inside] * out_step + out_low - y[inside])))
    if worst > 0.5001 * out_step:
        return [Problem(op.name, "quantization", "table", f"the table is off by {worst / out_step:.3g} steps")]
    return []
