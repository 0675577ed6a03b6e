"""Operators that are quantized whole, one definition of Q12 a file (docs/quantization.md): a rule of the walk, which finds
what it needs in the float operator, and a ``Definition``, which every interpreter asks."""

from shohin.compress.operators import attention, given, logarithm, norm, product, recurrent, resize, softmax

__all__ = ["attention", "given", "logarithm", "norm", "product", "recurrent", "resize", "softmax"]
