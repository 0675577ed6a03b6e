"""All rules, so that ``TABLE`` is whole."""

from __future__ import annotations

from shohin.interop.pytorch import elements, extents, layers, recurrent, reductions, shapes  # noqa: F401
from shohin.interop.pytorch.table import BECOMES, TABLE

__all__ = ["BECOMES", "TABLE"]
