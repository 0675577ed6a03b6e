"""Compression: plans of methods; quantization whose every bit is defined (``docs/quantization.md``)."""

from shohin.compress.method import Method
from shohin.compress.plan import Plan
from shohin.compress.quantize import Quantize
from shohin.compress.quantized import Quantized

__all__ = ["Method", "Plan", "Quantize", "Quantized"]
