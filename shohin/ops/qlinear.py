"""Integer contractions of a deployed network: sums of (q - zero) * w in int32, one record for each contraction (``qconv2d``).

``integer_record`` makes it from the contraction's relation; ``qmatmul`` is written out. The weight's output channels are its
first dim. Where a tap falls outside the image, q is the zero point, so the term vanishes: ``zero`` is the pad value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from shohin.core import dtypes, interp
from shohin.core.axes import Relation, Shape, parse
from shohin.core.op import EXACT, NO_GRADIENT, Attr, Dtypes, Op, Pad, Quant, Sample, get, register
from shohin.core.tensor import Tensor

_Q, _W = frozenset({dtypes.int8, dtypes.int16}), frozenset({dtypes.int8})
PART = Quant.refuse("it is part of a quantized network already")


def channels_dim(relation: Relation) -> int | None:
    """The dim of the second operand that holds the output channels, the result's last dim; None if it has no such dim, or
    another one that is not summed over.

    >>> channels_dim(parse("m k, k n -> m n")), channels_dim(parse("b m k, b k n -> b m n"))
    (1, None)
    """
    weight, out = relation.operands[1], relation.results[0]
    kept = {a for d in out for a in d.axes}
    found = [k for k, d in enumerate(weight) if kept.intersection(d.axes)]
    if len(found) != 1 or not out or out[-1].kind == "window" or weight[found[0]].axes != out[-1].axes:
        return None
    return found[0]


def _record(name: str, doc: str, axes: str, attrs: Mapping[str, Attr], numpy: Any, samples: Any) -> Op:
    return register(Op(
        name=name, kind="contraction", doc=doc, source="docs/quantization.md Q2", operands=("q", "w"), results=("acc",), attrs={**attrs, "zero": Attr(type="static")},
        dtypes=Dtypes(accepted=(_Q, _W), same=False, result=lambda found, a: (dtypes.int32,), compute=lambda d: dtypes.int32, accumulator=lambda d: dtypes.int32),
        axes=axes, shape=None, body=lambda x, w, zero, **rest: (x - zero, w), combiner="fma", identity=lambda d: 0, order="sequence", pad=Pad("zero", "multiply"), fin=None,
        numpy=numpy, vjp=(NO_GRADIENT, NO_GRADIENT), nest="derived", batch=None, alias=False, quant=PART, tol=EXACT, samples=samples, edges=(),
    ))  # fmt: skip


def integer_record(base: Op) -> str | None:
    """Registers ``q<name>``, the contraction ``base`` on integers, and gives its name; None if its weight has no one dim of
    output channels (``channels_dim``)."""
    assert isinstance(base.axes, str)
    relation = parse(base.axes)
    at = channels_dim(relation)
    if at is None:
        return None
    weight = list(relation.operands[1])
    weight.insert(0, weight.pop(at))
    axes = str(replace(relation, operands=(relation.operands[0], tuple(weight))))

    def numpy(q: Any, w: Any, zero: int, **attrs: Any) -> Any:
        return base.numpy(q.astype(np.float64) - zero, np.moveaxis(w, 0, at).astype(np.float64), **attrs).astype(np.int32)

    def samples(rng: np.random.Generator) -> list[Sample]:
        found = []
        for s in base.samples(rng):
            q, w = (rng.integers(-128, 128, a.shape).astype(np.int8) for a in s.operands)
            zero = int(rng.integers(-128, 128))
            found.append(Sample((q, np.maximum(np.moveaxis(w, at, 0), -127).astype(np.int8)), {**s.attrs, "zero": zero}))
        return found

    return _record(f"q{base.name}", f"{base.name} of (q - zero) with w, in int32.", axes, dict(base.attrs), numpy, samples).name


_qmatmul = _record(
    "qmatmul", "Rows of (q - zero) with rows of w, in int32.", "m k, n k -> m n", {},
    lambda q, w, zero: ((q.astype(np.float64) - zero) @ w.astype(np.float64).T).astype(np.int32),
    lambda rng: [Sample((rng.integers(-128, 128, (m, k)).astype(np.int8), rng.integers(-127, 128, (n, k)).astype(np.int8)), {"zero": z}) for m, k, n, z in ((1, 70, 5, -3), (4, 9, 3, 127))],
)  # fmt: skip


def qconv2d(q: Tensor, w: Tensor, *, zero: int, stride: Shape, padding: Sequence[tuple[int, int]], dilation: Shape = (1, 1), groups: int = 1) -> Tensor:
    """q (n, h, w, groups*i) int8 or int16, w (groups*o, kh, kw, i) int8 -> int32 (n, h', w', groups*o)."""
    attrs = {"stride": tuple(stride), "padding": tuple(map(tuple, padding)), "dilation": tuple(dilation), "groups": int(groups), "zero": int(zero)}
    return interp.bind(get("qconv2d"), [q, w], attrs)[0]


def qmatmul(q: Tensor, w: Tensor, *, zero: int) -> Tensor:
    """q (m, k) int8 or int16, w (n, k) int8 -> int32 (m, n)."""
    return interp.bind(_qmatmul, [q, w], {"zero": int(zero)})[0]


__all__ = ["PART", "channels_dim", "integer_record", "qconv2d", "qmatmul"]
