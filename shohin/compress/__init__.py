"""Compression: plans of methods; quantization whose every bit is defined (``docs/quantization.md``)."""

from shohin.compress.method import Method
from shohin.compress.palettize import Palettize
from shohin.compress.plan import Plan
from shohin.compress.prune import PruneChannels
from shohin.compress.quantize import Quantize
from shohin.compress.quantized import Quantized

__all__ = ["Method", "Palettize", "Plan", "PruneChannels", "Quantize", "Quantized"]
