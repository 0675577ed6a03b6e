"""The integer reference: the frozen network in NumPy, integers only, straight from the stored constants.

Contractions run in float64 BLAS, which is exact below 2^53 and ten times NumPy's int32; all else is int32 or int64. It
shares no code with the ops: windows are cut here, sums are made here. It is what the C builds are compared with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from shohin.compress import definitions as d
from shohin.compress.definitions import Grid
from shohin.compress.quantized import Quantized
from shohin.compress.steps import Add, Concat, Contract, Entry, Float, Move, Mul, Pool, Program, Step, Table
from shohin.core.errors import QuantizationError
from shohin.core.op import Aval

Array = np.ndarray[Any, Any]


def integers(net: Quantized, *inputs: Any) -> dict[str, Array]:
    """int8 by place from float32 inputs, or from int8 ones that stand on the input's grid already."""
    arrays = [np.asarray(x) for x in inputs]
    program, _ = net.program(*(Aval(a.shape, np.dtype(np.float32)) for a in arrays))
    return Reference(program, net.grids(), stored(net)).run(arrays)


def stored(net: Quantized) -> dict[str, dict[str, Array]]:
    """The frozen constants by place."""
    return {place: {n: v.numpy() for n, v in c.items()} for place, c in net.quantized.constants.items()}


class Reference:
    def __init__(
        self, program: Program, grids: Mapping[str, Grid], constants: Mapping[str, Mapping[str, Array]]
    ) -> None:
        self.program, self.grids, self.constants = program, grids, constants

    def run(self, inputs: Sequence[Array]) -> dict[str, Array]:
        self.now: dict[int, Array] = dict(zip(self.program.inputs, inputs, strict=True))
        found: dict[str, Array] = {}
        for step in self.program.steps:
            if isinstance(step, Float):
                raise QuantizationError(f"{step.place} stays float32; the integer reference has integers only")
            found[step.place] = self.now[step.output] = self.step(step)
        return found

    def grid(self, value: int) -> Grid:
        name = self.program.values[value].grid
        assert name is not None
        return self.grids[name]

    def centred(self, value: int) -> Array:
        return self.now[value].astype(np.int32) - self.grid(value).z

    def close(self, step: Step, acc: Array, M: Array) -> Array:
        c = self.constants[step.place]
        return d.requant(acc, M, self.grid(step.output).z, int(c["lo"]), int(c["hi"])).astype(np.int8)

    def step(self, step: Step) -> Array:
        match step:
            case Entry():
                x = self.now[step.inputs[0]]
                return x if x.dtype == np.int8 else d.quantize(x, self.grid(step.output))
            case Contract():
                c = self.constants[step.place]
                x = self.centred(step.inputs[0]).astype(np.float64)
                acc = self.product(step, x, c["q_w"].astype(np.float64)).astype(np.int64) + c["q_b"]
                return self.close(step, acc, c["M"]).reshape(step.shape)
            case Add():
                c = self.constants[step.place]
                acc = sum(int(c["m"][i]) * self.centred(k) for i, k in enumerate(step.inputs))
                return self.close(step, np.asarray(acc), c["M"])
            case Mul():
                a, b = (self.centred(k) for k in step.inputs)
                return self.close(step, a * b, self.constants[step.place]["M"])
            case Pool():
                acc = self.pooled(step, self.centred(step.inputs[0]))
                return self.close(step, acc, self.constants[step.place]["M"]).reshape(step.shape)
            case Concat():
                M = self.constants[step.place]["M"]
                parts = [self.close(step, self.centred(k), M[i]) for i, k in enumerate(step.inputs)]
                return np.concatenate(parts, step.axis)
            case Table():
                return self.constants[step.place]["table"][self.now[step.inputs[0]].view(np.uint8)]
            case Move():
                return self.moved(step)
            case _:
                raise TypeError(step.kind)

    def product(self, step: Contract, x: Array, w: Array) -> Array:
        if step.op == "scale":
            return x * w
        if step.op == "matmul":
            return x @ w.T
        (sh, sw), (dh, dw), groups = step.attrs["stride"], step.attrs["dilation"], step.attrs["groups"]
        out, kh, kw, i = w.shape
        view = windows(x, ((kh - 1) * dh + 1, (kw - 1) * dw + 1), (sh, sw), step.attrs["padding"], 0)
        view = view[..., ::dh, ::dw]  # n h w c kh kw
        n, h, v = view.shape[:3]
        parts = []
        for g in range(groups):
            rows = view[:, :, :, g * i : (g + 1) * i].transpose(0, 1, 2, 4, 5, 3).reshape(n * h * v, -1)
            size = out // groups
            parts.append(rows @ w[g * size : (g + 1) * size].reshape(size, -1).T)
        return np.concatenate(parts, 1).reshape(n, h, v, out)

    def pooled(self, step: Pool, x: Array) -> Array:
        x = x.astype(np.int64)
        if step.op.name == "sum":
            return x.sum(step.attrs["axis"])
        return windows(x, step.attrs["kernel"], step.attrs["stride"], step.attrs["padding"], 0).sum((-1, -2))

    def moved(self, step: Move) -> Array:
        q, attrs = self.now[step.inputs[0]], dict(step.attrs)
        if step.op.name == "pad":
            value = attrs["value"]
            fill = self.grid(step.output).z if value == 0 else 127 if value > 0 else -128
            return np.pad(q, attrs["padding"], constant_values=np.int8(fill))
        if step.op.name == "max_pool2d":
            return windows(q, attrs["kernel"], attrs["stride"], attrs["padding"], -128).max((-1, -2))
        return np.asarray(step.op.numpy(q, *step.constants, **attrs))


def windows(x: Array, kernel: Any, stride: Any, padding: Any, fill: int) -> Array:
    """n h' w' c kh kw: views of the windows of x (n, h, w, c)."""
    padded = np.pad(x, ((0, 0), *padding, (0, 0)), constant_values=fill)
    view = np.lib.stride_tricks.sliding_window_view(padded, kernel, axis=(1, 2))
    return view[:, :: stride[0], :: stride[1]]
