"""The ops, by family. Importing this package fills the registry and the tensor's methods."""

import sys

from shohin.core import tensor as _tensor
from shohin.ops import (
    activations,
    composite,
    control,
    extra,
    index,
    kinds,
    linear,
    math,
    move,
    narrow,
    palette,
    qlinear,
    quant,
    random,
    reduce,
    sparse,
)

_METHODS = {
    math: "add subtract multiply divide floor_divide remainder pow bitwise_and bitwise_or bitwise_xor bitwise_left_shift "
    "bitwise_right_shift bitwise_invert equal not_equal less less_equal greater greater_equal negative abs exp log sqrt tanh round clip astype",
    move: "reshape permute_dims transpose matrix_transpose squeeze flatten expand_dims broadcast_to",
    reduce: "sum mean max min prod any all argmax argmin var std cumulative_sum",
    linear: "matmul",
    index: "sort argsort getitem setitem",
}
for _module, _names in _METHODS.items():
    for _name in _names.split():
        _tensor.METHODS[_name] = getattr(_module, _name)
_tensor.METHODS["positive"] = lambda x: x
_tensor.METHODS["__namespace__"] = lambda: sys.modules["shohin"]

__all__ = ["activations", "composite", "control", "extra", "index", "kinds", "linear", "math", "move", "narrow", "palette", "qlinear", "quant", "random", "reduce", "sparse"]
