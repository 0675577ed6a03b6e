"""Compression: plans of methods; quantization whose every bit is defined (``docs/quantization.md``)."""

from shohin.compress.integer import integers
from shohin.compress.lowering import Lowered, lower
from shohin.compress.method import Method
from shohin.compress.palettize import Palettize
from shohin.compress.plan import Plan
from shohin.compress.prune import PruneChannels
from shohin.compress.quantize import Quantize
from shohin.compress.quantized import Quantized

__all__ = ["Lowered", "Method", "Palettize", "Plan", "PruneChannels", "Quantize", "Quantized", "integers", "lower"]
