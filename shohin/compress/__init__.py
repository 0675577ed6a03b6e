"""Compression: plans of methods; quantization whose every bit is defined (``docs/quantization.md``)."""

from shohin.compress.distill import distill, with_logits
from shohin.compress.dkm import DKM
from shohin.compress.factorize import Factorize
from shohin.compress.function import method
from shohin.compress.integer import integers
from shohin.compress.lowering import Lowered, lower
from shohin.compress.magnitude import Prune
from shohin.compress.mixed import mixed
from shohin.compress.palettize import Palettize
from shohin.compress.pdp import PDP
from shohin.compress.plan import Plan
from shohin.compress.prune import PruneChannels
from shohin.compress.quantize import Quantize
from shohin.compress.quantized import Quantized
from shohin.compress.report import report
from shohin.compress.sensitive import FisherPalettize
from shohin.compress.slots import Method
from shohin.compress.wanda import Wanda
from shohin.compress.weights import Reweighting, reparametrize, weights

__all__ = [
    "DKM", "PDP", "Factorize", "FisherPalettize", "Lowered", "Method", "Palettize", "Plan", "Prune", "PruneChannels", "Quantize", "Quantized",
    "Reweighting", "Wanda", "distill", "integers", "lower", "method", "mixed", "reparametrize", "report", "weights", "with_logits",
]  # fmt: skip
