"""``Part``: a layer of a network without its Python, what a path leads to."""

from __future__ import annotations

from typing import Any

from shohin.core.module import Module


class Part(Module):
    """Cells and parts by name. ``bits`` and ``dim``: of the table that its cells are, so that an artefact packs it (``Table``)."""

    bits: int | None = None
    dim: int = 1

    def forward(self, *inputs: Any) -> Any:
        raise TypeError("a part of a network without its Python has cells only; call the network")


__all__ = ["Part"]
