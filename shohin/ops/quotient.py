"""``divide_no_nan``: a quotient that is 0 where the divisor is."""

from __future__ import annotations

from typing import Any

from shohin.core.op import Quant
from shohin.core.tensor import Tensor, as_tensor
from shohin.ops import math
from shohin.ops.composite import composite


@composite("divide_no_nan", quant=Quant("rule", rule="Q12 quotient"), source="tf.math.divide_no_nan")
def _divide_no_nan(a: Any, b: Any) -> Tensor:
    none = math.equal(b, 0.0)
    return math.where(none, 0.0, a / math.where(none, 1.0, b))


def divide_no_nan(a: Any, b: Any, /) -> Tensor:
    """``a / b``, and 0 where b is 0, with a gradient of 0 there; operands broadcast. Source: TensorFlow's function of this name.

    >>> divide_no_nan([1.0, -3.0], [0.0, 2.0]).tolist()
    [0.0, -1.5]
    """
    return _divide_no_nan(as_tensor(a), as_tensor(b))


__all__ = ["divide_no_nan"]
