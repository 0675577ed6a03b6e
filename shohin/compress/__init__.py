"""Compression: plans of methods; quantization whose every bit is defined (``docs/quantization.md``)."""

from shohin.compress.integer import integers
from shohin.compress.lowering import Lowered, lower
from shohin.compress.magnitude import Magnitude
from shohin.compress.method import Method, Reweighting, reparametrize, weights
from shohin.compress.palettize import Palettize
from shohin.compress.plan import Plan
from shohin.compress.prune import PruneChannels
from shohin.compress.quantize import Quantize
from shohin.compress.quantized import Quantized
from shohin.compress.report import report

__all__ = [
    "Lowered", "Magnitude", "Method", "Palettize", "Plan", "PruneChannels", "Quantize", "Quantized", "Reweighting",
    "integers", "lower", "reparametrize", "report", "weights",
]  # fmt: skip
