"""Integer contractions of a deployed network: ``qconv2d`` and ``qmatmul``, sums of (q - zero) * w in int32.

Where a tap falls outside the image, q is the zero point, so the term vanishes: ``zero`` is the pad value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from shohin.core import dtypes, interp
from shohin.core.axes import Shape
from shohin.core.op import EXACT, NO_GRADIENT, Attr, Dtypes, Op, Pad, Quant, Sample, register
from shohin.core.tensor import Tensor
from shohin.ops import kinds

_Q, _W = frozenset({dtypes.int8, dtypes.int16}), frozenset({dtypes.int8})
_CONV = kinds.get("conv2d")
PART = Quant.refuse("it is part of a quantized network already")


def _record(name: str, doc: str, axes: str, attrs: Mapping[str, Attr], numpy: Any, samples: Any) -> Op:
    return register(Op(
        name=name, kind="contraction", doc=doc, source="docs/quantization.md Q2", operands=("q", "w"), results=("acc",), attrs={**attrs, "zero": Attr(type="static")},
        dtypes=Dtypes(accepted=(_Q, _W), same=False, result=lambda found, a: (dtypes.int32,), compute=lambda d: dtypes.int32, accumulator=lambda d: dtypes.int32),
        axes=axes, shape=None, body=lambda x, w, zero, **rest: (x - zero, w), combiner="fma", identity=lambda d: 0, order="sequence", pad=Pad("zero", "multiply"), fin=None,
        numpy=numpy, vjp=(NO_GRADIENT, NO_GRADIENT), nest="derived", batch=None, alias=False, quant=PART, tol=EXACT, samples=samples, edges=(),
    ))  # fmt: skip


def _conv_numpy(q: Any, w: Any, zero: int, **attrs: Any) -> Any:
    return _CONV.numpy(q.astype(np.float64) - zero, w.astype(np.float64), **attrs).astype(np.int32)


def _conv_samples(rng: np.random.Generator) -> list[Sample]:
    found = []
    for s in _CONV.samples(rng):
        q, w = (rng.integers(-128, 128, a.shape).astype(np.int8) for a in s.operands)
        found.append(Sample((q, np.maximum(w, -127).astype(np.int8)), {**s.attrs, "zero": int(rng.integers(-128, 128))}))
    return found


_qconv2d = _record("qconv2d", "conv2d of (q - zero) with w, in int32.", str(_CONV.axes), dict(_CONV.attrs), _conv_numpy, _conv_samples)
_qmatmul = _record(
    "qmatmul", "Rows of (q - zero) with rows of w, in int32.", "m k, n k -> m n", {},
    lambda q, w, zero: ((q.astype(np.float64) - zero) @ w.astype(np.float64).T).astype(np.int32),
    lambda rng: [Sample((rng.integers(-128, 128, (m, k)).astype(np.int8), rng.integers(-127, 128, (n, k)).astype(np.int8)), {"zero": z}) for m, k, n, z in ((1, 70, 5, -3), (4, 9, 3, 127))],
)  # fmt: skip


def qconv2d(q: Tensor, w: Tensor, *, zero: int, stride: Shape, padding: Sequence[tuple[int, int]], dilation: Shape = (1, 1), groups: int = 1) -> Tensor:
    """q (n, h, w, groups*i) int8 or int16, w (groups*o, kh, kw, i) int8 -> int32 (n, h', w', groups*o)."""
    attrs = {"stride": tuple(stride), "padding": tuple(map(tuple, padding)), "dilation": tuple(dilation), "groups": int(groups), "zero": int(zero)}
    return interp.bind(_qconv2d, [q, w], attrs)[0]


def qmatmul(q: Tensor, w: Tensor, *, zero: int) -> Tensor:
    """q (m, k) int8 or int16, w (n, k) int8 -> int32 (m, n)."""
    return interp.bind(_qmatmul, [q, w], {"zero": int(zero)})[0]


__all__ = ["qconv2d", "qmatmul"]
